/* SPDX-License-Identifier: MIT */
/*
 * workspaceagent.h
 *	  Connection status and health of workspace agents (workspaceagent.c).
 */
#ifndef CODER_WORKSPACEAGENT_H
#define CODER_WORKSPACEAGENT_H

#include "datatype/timestamp.h"

typedef enum CoderAgentStatus
{
	AGENT_CONNECTING,
	AGENT_TIMEOUT,
	AGENT_CONNECTED,
	AGENT_DISCONNECTED,
} CoderAgentStatus;

/* What the status follows from; a time of 0 with its flag false is NULL. */
typedef struct CoderAgentTimes
{
	TimestampTz created_at;
	TimestampTz first_connected_at;
	TimestampTz last_connected_at;
	TimestampTz disconnected_at;
	bool		has_first;
	bool		has_last;
	bool		has_disconnected;
	int32		connection_timeout_seconds;
} CoderAgentTimes;

/* An agent sends every 15 s; after two missed beats it is gone. */
#define CODER_AGENT_INACTIVE_SECONDS 30

extern CoderAgentStatus coder_agent_connection(const CoderAgentTimes *times, TimestampTz now, int inactive_seconds);
extern TimestampTz coder_agent_connection_until(const CoderAgentTimes *times, TimestampTz now, int inactive_seconds);
extern const char *coder_agent_status_name(CoderAgentStatus status);
extern const char *coder_agent_ill(CoderAgentStatus status, const char *lifecycle);

#endif							/* CODER_WORKSPACEAGENT_H */
