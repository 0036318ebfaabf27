/*
 * agenttool.h -- tools that work in a chat's workspace, by its agent's HTTP API.
 *
 * A gateway passes the requests on through the workspace's tunnel (/api/experimental/chat-agents/); which one, and a ticket
 * for it, the database tells.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_AGENTTOOL_H
#define GATEWAY_CHAT_AGENTTOOL_H

#include <stdbool.h>

#include <jansson.h>

typedef struct AgentTool AgentTool;

/* result: taken over. */
typedef void (*AgentToolDone)(void *arg, json_t *result, bool is_error);

/* done is called later, once, unless it is cancelled.  NULL: there is no such tool, or no connection to the database. */
AgentTool *agenttool_start(const json_t *chat, const char *name, const json_t *args, AgentToolDone done, void *arg);

void agenttool_cancel(AgentTool *tool);

/* "90s", "1m30s", "500ms" in ms; def where it is none. */
long agenttool_duration(const char *text, long def);

#endif
