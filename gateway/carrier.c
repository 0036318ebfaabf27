/*
 * carrier.c -- requests to other servers that nobody waits for: the database plans them, one gateway sends them.
 *
 * A carrier asks its function for a plan (docs/ARCHITECTURE.md section 2.2) now and then, or when an event tells that there is
 * one; what came of it is told to another function, which may answer with the next plan.  Both decide what, when, and which
 * gateway; this carries.  All on the first loop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "event.h"
#include "outbound/outbound.h"
#include "request.h"

typedef struct Carrier
{
	const char *what; /* in the log */
	GwStatement next;
	GwStatement taken;
	int64_t every_ms;
	const char *channel; /* of the event that says that there is a plan; NULL: none does */
	GwLoop *loop;
	GwTimer timer;
	OutboundPlan plan;
	bool busy;
	bool again; /* an event came meanwhile */
} Carrier;

static Carrier telemetry = {
	.what = "telemetry",
	.next = {"telemetry_next", "SELECT coder.telemetry_next()::pg_catalog.text", 0, NULL},
	.taken = {"telemetry_taken", "SELECT coder.telemetry_taken($1)::pg_catalog.text", 1, (const Oid[]){GW_TEXT}},
	.every_ms = 5000,
};

/* Expired tokens of those whose builds nobody asked for. */
static Carrier links = {
	.what = "expired tokens",
	.next = {"links_next", "SELECT coder.links_next()::pg_catalog.text", 0, NULL},
	.taken = {"links_carried", "SELECT coder.links_carried($1)::pg_catalog.text", 1, (const Oid[]){GW_TEXT}},
	.every_ms = 60000,
	.channel = "links:stale",
};

static void ask(void *arg);

static void
later(Carrier *c)
{
	c->busy = false;
	if (!c->loop->stopping)
		gw_timer_start(&c->timer, c->loop, c->again ? 1 : c->every_ms, ask, c);
}

static void on_plan(void *arg, GwDbStatus status, PGresult *result);

static void
on_fetched(void *arg, OutboundPlan *plan)
{
	Carrier *c = arg;
	char *cursor = outbound_cursor(plan);
	const char *values[] = {cursor};

	if (cursor == NULL || gw_db_send_copy(c->loop->db, GW_DB_SLOW, &c->taken, 1, values, false, on_plan, c) == NULL)
		later(c);
	free(cursor);
}

/* A request to make, or NULL: nothing for now. */
static void
on_plan(void *arg, GwDbStatus status, PGresult *result)
{
	Carrier *c = arg;
	const char *wrong = NULL;
	bool fetching = false;

	if (status == GW_DB_FAILED)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* A standby sends nothing. */
		gw_log(state != NULL && strcmp(state, "25006") == 0 ? GW_DEBUG : GW_WARN, "%s: %s", c->what, PQresultErrorMessage(result));
	}
	else if (status == GW_DB_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
	{
		wrong = outbound_plan_parse(&c->plan, PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0));
		if (wrong != NULL)
			gw_log(GW_WARN, "%s: %s", c->what, wrong);
		else
			fetching = gw_outbound_fetch(c->loop, &c->plan, on_fetched, c) != NULL;
	}
	PQclear(result);
	if (!fetching)
		later(c);
}

static void
ask(void *arg)
{
	Carrier *c = arg;

	c->busy = true;
	c->again = false;
	if (gw_db_send_copy(c->loop->db, GW_DB_SLOW, &c->next, 0, NULL, false, on_plan, c) == NULL)
		later(c);
}

static void
on_event(void *arg, int64_t number, const char *payload, size_t len)
{
	Carrier *c = arg;

	(void) number;
	(void) payload;
	(void) len;
	c->again = true;
	if (!c->busy)
		later(c);
}

static void
begin(GwLoop *loop, void *arg)
{
	Carrier *c = arg;

	c->loop = loop;
	if (c->channel != NULL)
		gw_event_subscribe(loop, c->channel, on_event, c);
	gw_timer_start(&c->timer, loop, 1000, ask, c);
}

void
gw_carriers_start(void)
{
	if (gw_server.options.telemetry_enable && gw_server.options.telemetry_url != NULL && gw_server.options.telemetry_url[0] != '\0')
		gw_loop_post(gw_server.loops[0], begin, &telemetry);
	gw_loop_post(gw_server.loops[0], begin, &links);
}
