/*
 * replica.c -- this gateway among those of its database.
 *
 * Every five seconds it says that it lives, every other time also what it does
 * (../report.c), and is told who else lives.  Who stops in order says so.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../db.h"
#include "../gateway.h"
#include "../metrics.h"
#include "mesh.h"
#include "rpc.h"

#define BEAT_MS 5000

static struct
{
	char id[37];
	char hostname[256];
	GwTimer timer;
	GwStream stream; /* is told of the stop */
	bool waits;		 /* for the answer to a heartbeat */
	uint64_t sent_at;
	char latency[16]; /* ms, of the last answer */
	char started[32]; /* s */
	unsigned beats;
} self = {.latency = "0"};

static void beat(void *arg);

const char *
gw_replica_id(void)
{
	return self.id;
}

static void
on_stop_noted(void *arg, GwDbStatus status, PGresult *result)
{
	(void) arg;
	if (status == GW_DB_FAILED)
		gw_log(GW_WARN, "the database does not note this gateway's stop: %s", PQresultErrorMessage(result));
	PQclear(result);
}

/* After the last heartbeat, which may be what makes its row.  Without a database the others see soon enough. */
static void
tell_stop(GwLoop *loop)
{
	static const GwStatement statement = {"gateway_stop", "SELECT coder.gateway_stop($1)", 1, NULL};
	const char *values[] = {self.id};

	if (gw_db_ready(loop->db))
		gw_db_send_copy(loop->db, GW_DB_SLOW, &statement, 1, values, false, on_stop_noted, NULL);
}

static void
on_stop(GwStream *stream)
{
	(void) stream;
	gw_timer_stop(&self.timer);
	if (!self.waits)
		tell_stop(gw_server.loops[0]);
}

static void
on_answer(void *arg, GwDbStatus status, PGresult *result)
{
	GwLoop *loop = arg;

	self.waits = false;
	if (status == GW_DB_OK && PQntuples(result) == 1)
	{
		snprintf(self.latency, sizeof(self.latency), "%u", (unsigned) (h2o_now(loop->ctx.loop) - self.sent_at));
		gw_mesh_neighbours(json_loads(PQgetvalue(result, 0, 0), 0, NULL));
	}
	else if (status == GW_DB_FAILED)
		gw_log(GW_WARN, "the database does not take this gateway's heartbeat: %s", PQresultErrorMessage(result));
	PQclear(result);
	if (loop->stopping)
		tell_stop(loop);
	else
		gw_timer_start(&self.timer, loop, BEAT_MS, beat, loop);
}

static void
beat(void *arg)
{
	static const GwStatement statement = {"gateway_beat", "SELECT coder.gateway_beat($1, $2, $3, $4, $5, pg_catalog.to_timestamp($6), $7)", 7, NULL};
	GwLoop *loop = arg;
	const char *url = gw_server.options.derp_server_relay_url;
	char *stats = self.beats++ % 2 == 0 ? gw_report_stats() : NULL;
	const char *values[] = {self.id, self.hostname, url != NULL ? url : "", GW_VERSION, self.latency, self.started, stats};

	self.sent_at = h2o_now(loop->ctx.loop);
	self.waits = true;
	gw_db_send_copy(loop->db, GW_DB_SLOW, &statement, 7, values, false, on_answer, loop);
	free(stats);
}

static void
first_beat(GwLoop *loop, void *arg)
{
	(void) arg;
	gw_stream_add(loop, &self.stream, on_stop);
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
	snprintf(self.started, sizeof(self.started), "%lld", (long long) time(NULL));
	if (gethostname(self.hostname, sizeof(self.hostname) - 1) != 0)
		strcpy(self.hostname, "unknown");
	gw_loop_post(gw_server.loops[0], first_beat, NULL);
}
