/*
 * replica.c -- this gateway among those of its database.
 *
 * Every five seconds it says that it lives, and is told who else does.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../db.h"
#include "../gateway.h"
#include "mesh.h"
#include "rpc.h"

#define BEAT_MS 5000

static struct
{
	char id[37];
	char hostname[256];
	GwTimer timer;
	uint64_t sent_at;
	char latency[16]; /* ms, of the last answer */
} self = {.latency = "0"};

static void beat(void *arg);

const char *
gw_replica_id(void)
{
	return self.id;
}

static void
on_answer(void *arg, GwDbStatus status, PGresult *result)
{
	GwLoop *loop = arg;

	if (status == GW_DB_OK && PQntuples(result) == 1)
	{
		snprintf(self.latency, sizeof(self.latency), "%u", (unsigned) (h2o_now(loop->ctx.loop) - self.sent_at));
		gw_mesh_neighbours(json_loads(PQgetvalue(result, 0, 0), 0, NULL));
	}
	else if (status == GW_DB_FAILED)
		gw_log(GW_WARN, "the database does not take this gateway's heartbeat: %s", PQresultErrorMessage(result));
	PQclear(result);
	if (!loop->stopping)
		gw_timer_start(&self.timer, loop, BEAT_MS, beat, loop);
}

static void
beat(void *arg)
{
	static const GwStatement statement = {"replica_heartbeat", "SELECT coder.replica_heartbeat($1, $2, $3, $4, $5)", 5, NULL};
	GwLoop *loop = arg;
	const char *url = gw_server.options.derp_server_relay_url;
	const char *values[] = {self.id, self.hostname, url != NULL ? url : "", GW_VERSION, self.latency};

	self.sent_at = h2o_now(loop->ctx.loop);
	gw_db_send_copy(loop->db, GW_DB_SLOW, &statement, 5, values, false, on_answer, loop);
}

static void
first_beat(GwLoop *loop, void *arg)
{
	(void) arg;
	beat(loop);
}

void
gw_replica_start(void)
{
	uint8_t id[16];

	randombytes_buf(id, sizeof(id));
	id[6] = (id[6] & 0x0f) | 0x40; /* RFC 9562: version 4 */
	id[8] = (id[8] & 0x3f) | 0x80;
	stream_format_uuid(self.id, id);
	if (gethostname(self.hostname, sizeof(self.hostname) - 1) != 0)
		strcpy(self.hostname, "unknown");
	gw_loop_post(gw_server.loops[0], first_beat, NULL);
}
