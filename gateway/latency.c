/*
 * latency.c -- how long an event takes through the database: one is sent to a channel of our own.
 *
 * Runs on the first loop.  A scrape starts a probe and shows the last one's
 * figures, so that no scrape waits for the database's events.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "db.h"
#include "event.h"
#include "metrics.h"
#include "request.h"

#define LIMIT_MS 10000

static const GwStatement emit_statement = {"probe", "SELECT coder.emit($1)", 1, (const Oid[]){GW_TEXT}};

static atomic_ullong measures;
static atomic_ullong errors;
static atomic_ullong send_us;
static atomic_ullong receive_us;
static atomic_bool running;

/* The first loop's. */
static struct
{
	char channel[64];
	GwSubscription *subscription;
	GwTimer limit;
	uint64_t began;
} probe;

static void
finish(bool arrived)
{
	gw_timer_stop(&probe.limit);
	if (probe.began == 0)
		return;
	if (arrived)
		atomic_store(&receive_us, gw_micros() - probe.began);
	else
		atomic_fetch_add(&errors, 1);
	probe.began = 0;
	atomic_store(&running, false);
}

static void
on_limit(void *arg)
{
	(void) arg;
	finish(false);
}

static void
on_event(void *arg, int64_t number, const char *payload, size_t len)
{
	(void) arg;
	(void) number;
	(void) len;
	if (payload != NULL)
		finish(true);
}

static void
on_sent(void *arg, GwDbStatus status, PGresult *result)
{
	(void) arg;
	PQclear(result);
	if (status != GW_DB_OK)
		finish(false);
	else if (probe.began != 0)
		atomic_store(&send_us, gw_micros() - probe.began);
}

static void
start(GwLoop *loop, void *arg)
{
	const char *values[] = {probe.channel};

	(void) arg;
	if (probe.channel[0] == '\0')
	{
		char host[32] = "";

		gethostname(host, sizeof(host) - 1);
		snprintf(probe.channel, sizeof(probe.channel), "gateway_probe:%s:%d", host, (int) getpid());
		probe.subscription = gw_event_subscribe(loop, probe.channel, on_event, NULL);
	}
	probe.began = gw_micros();
	atomic_fetch_add(&measures, 1);
	gw_timer_start(&probe.limit, loop, LIMIT_MS, on_limit, NULL);
	if (gw_db_send_copy(loop->db, GW_DB_FAST, &emit_statement, 1, values, false, on_sent, NULL) == NULL)
		finish(false);
}

void
gw_latency_start(void)
{
	if (!gw_server.stopping && !atomic_exchange(&running, true))
		gw_loop_post(gw_server.loops[0], start, NULL);
}

void
gw_latency_stats(GwLatencyStats *stats)
{
	stats->measures = atomic_load(&measures);
	stats->errors = atomic_load(&errors);
	stats->send_seconds = (double) atomic_load(&send_us) / 1e6;
	stats->receive_seconds = (double) atomic_load(&receive_us) / 1e6;
}
