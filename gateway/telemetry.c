/*
 * telemetry.c -- sends what coder.telemetry_next() says is due.
 *
 * Runs on the first loop, and only where CODER_TELEMETRY_ENABLE and a URL are set.
 * The database decides what, when, and which gateway; this carries.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "outbound/outbound.h"
#include "request.h"

#define EVERY_MS 5000

static const GwStatement next_statement = {"telemetry_next", "SELECT coder.telemetry_next()::pg_catalog.text", 0, NULL};
static const GwStatement taken_statement = {"telemetry_taken", "SELECT coder.telemetry_taken($1)::pg_catalog.text", 1, (const Oid[]){GW_TEXT}};

static struct
{
	GwLoop *loop;
	GwTimer timer;
	OutboundPlan plan;
} telemetry;

static void ask(void *arg);

static void
later(void)
{
	if (!telemetry.loop->stopping)
		gw_timer_start(&telemetry.timer, telemetry.loop, EVERY_MS, ask, NULL);
}

static void on_plan(void *arg, GwDbStatus status, PGresult *result);

static void
on_fetched(void *arg, OutboundPlan *plan)
{
	char *cursor = outbound_cursor(plan);
	const char *values[] = {cursor};

	(void) arg;
	if (cursor == NULL || gw_db_send_copy(telemetry.loop->db, GW_DB_SLOW, &taken_statement, 1, values, false, on_plan, NULL) == NULL)
		later();
	free(cursor);
}

/* A request to make, or NULL: nothing for now. */
static void
on_plan(void *arg, GwDbStatus status, PGresult *result)
{
	const char *wrong = NULL;
	bool fetching = false;

	(void) arg;
	if (status == GW_DB_FAILED)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* A standby sends nothing. */
		gw_log(state != NULL && strcmp(state, "25006") == 0 ? GW_DEBUG : GW_WARN, "telemetry: %s", PQresultErrorMessage(result));
	}
	else if (status == GW_DB_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
	{
		wrong = outbound_plan_parse(&telemetry.plan, PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0));
		if (wrong != NULL)
			gw_log(GW_WARN, "telemetry: %s", wrong);
		else
			fetching = gw_outbound_fetch(telemetry.loop, &telemetry.plan, on_fetched, NULL) != NULL;
	}
	PQclear(result);
	if (!fetching)
		later();
}

static void
ask(void *arg)
{
	(void) arg;
	if (gw_db_send_copy(telemetry.loop->db, GW_DB_SLOW, &next_statement, 0, NULL, false, on_plan, NULL) == NULL)
		later();
}

static void
begin(GwLoop *loop, void *arg)
{
	(void) arg;
	telemetry.loop = loop;
	gw_timer_start(&telemetry.timer, loop, 1000, ask, NULL);
}

void
gw_telemetry_start(void)
{
	if (gw_server.options.telemetry_enable && gw_server.options.telemetry_url != NULL && gw_server.options.telemetry_url[0] != '\0')
		gw_loop_post(gw_server.loops[0], begin, NULL);
}
