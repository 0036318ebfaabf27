/* SPDX-License-Identifier: MIT */
/*
 * workspaceagent.c
 *	  Connection status and health of workspace agents: one function of (row,
 *	  now, timeout) for the API, the search filter, the metrics and psql.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "workspaceagent.h"

PG_FUNCTION_INFO_V1(coder_agent_status);

/* The shortest time after which an agent counts as gone. */
#define MIN_INACTIVE_SECONDS 2

static const char *const status_names[] = {
	[AGENT_CONNECTING] = "connecting",
	[AGENT_TIMEOUT] = "timeout",
	[AGENT_CONNECTED] = "connected",
	[AGENT_DISCONNECTED] = "disconnected",
};

/* What each state of the connection says about health; NULL: nothing. */
static const char *const status_ills[] = {
	[AGENT_CONNECTING] = "agent has not yet connected",
	[AGENT_TIMEOUT] = "agent is taking too long to connect",
	[AGENT_CONNECTED] = NULL,
	[AGENT_DISCONNECTED] = "agent has lost connection",
};

static const struct
{
	const char *lifecycle;
	const char *ill;
}			lifecycle_ills[] = {
	{"start_error", "agent startup script exited with an error"},
	{"shutting_down", "agent is shutting down"},
	{"shutdown_timeout", "agent is shutting down"},
	{"shutdown_error", "agent is shutting down"},
	{"off", "agent is shutting down"},
};

/* Microseconds from a to b, without overflow for infinite times. */
static bool
longer_than(TimestampTz a, TimestampTz b, int seconds)
{
	return b > a && (b - a) / USECS_PER_SEC >= seconds && b - a > (int64) seconds * USECS_PER_SEC;
}

/* Has the agent said good-bye, and not come back? */
static bool
has_left(const CoderAgentTimes *times)
{
	return times->has_disconnected && (!times->has_last || times->disconnected_at >= times->last_connected_at);
}

CoderAgentStatus
coder_agent_connection(const CoderAgentTimes *times, TimestampTz now, int inactive_seconds)
{
	if (!times->has_first)
	{
		if (times->connection_timeout_seconds > 0 &&
			longer_than(times->created_at, now, times->connection_timeout_seconds))
			return AGENT_TIMEOUT;
		return AGENT_CONNECTING;
	}
	if (has_left(times))
		return AGENT_DISCONNECTED;
	if (times->has_last && longer_than(times->last_connected_at, now, Max(inactive_seconds, MIN_INACTIVE_SECONDS)))
		return AGENT_DISCONNECTED;
	return times->has_last ? AGENT_CONNECTED : AGENT_CONNECTING;
}

/* The last instant at which longer_than(since, it, seconds) is what it is now. */
static TimestampTz
same_until(TimestampTz since, TimestampTz now, int seconds)
{
	if (TIMESTAMP_NOT_FINITE(since) || longer_than(since, now, seconds))
		return DT_NOEND;
	return since + (int64) seconds * USECS_PER_SEC;
}

/* The last instant for which coder_agent_connection says what it says now. */
TimestampTz
coder_agent_connection_until(const CoderAgentTimes *times, TimestampTz now, int inactive_seconds)
{
	if (!times->has_first)
		return times->connection_timeout_seconds > 0
				   ? same_until(times->created_at, now, times->connection_timeout_seconds)
				   : DT_NOEND;
	if (has_left(times) || !times->has_last)
		return DT_NOEND;
	return same_until(times->last_connected_at, now, Max(inactive_seconds, MIN_INACTIVE_SECONDS));
}

const char *
coder_agent_status_name(CoderAgentStatus status)
{
	return status_names[status];
}

/* Why an agent is not healthy; NULL if it is.  The first match counts. */
const char *
coder_agent_ill(CoderAgentStatus status, const char *lifecycle)
{
	if (strcmp(lifecycle, "off") == 0 && status != AGENT_CONNECTED)
		return "agent is not running";
	if (status_ills[status] != NULL)
		return status_ills[status];
	for (size_t i = 0; i < lengthof(lifecycle_ills); i++)
		if (strcmp(lifecycle, lifecycle_ills[i].lifecycle) == 0)
			return lifecycle_ills[i].ill;
	return NULL;
}

/*
 * coder.agent_status(created_at, first_connected_at, last_connected_at,
 * disconnected_at, connection_timeout_seconds, at, inactive_seconds)
 * returns text
 */
Datum
coder_agent_status(PG_FUNCTION_ARGS)
{
	CoderAgentTimes times = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(5))
		PG_RETURN_NULL();
	times.created_at = PG_GETARG_TIMESTAMPTZ(0);
	times.has_first = !PG_ARGISNULL(1);
	times.has_last = !PG_ARGISNULL(2);
	times.has_disconnected = !PG_ARGISNULL(3);
	if (times.has_first)
		times.first_connected_at = PG_GETARG_TIMESTAMPTZ(1);
	if (times.has_last)
		times.last_connected_at = PG_GETARG_TIMESTAMPTZ(2);
	if (times.has_disconnected)
		times.disconnected_at = PG_GETARG_TIMESTAMPTZ(3);
	times.connection_timeout_seconds = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
	PG_RETURN_TEXT_P(cstring_to_text(status_names[coder_agent_connection(&times, PG_GETARG_TIMESTAMPTZ(5),
																		 PG_ARGISNULL(6) ? CODER_AGENT_INACTIVE_SECONDS : PG_GETARG_INT32(6))]));
}
