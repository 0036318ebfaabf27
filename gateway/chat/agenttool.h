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

#define AGENTTOOL_FAILED 1u
#define AGENTTOOL_MEDIA 2u

/* result: taken over. */
typedef void (*AgentToolDone)(void *arg, json_t *result, unsigned flags);

/*
 * Besides the tools that models are told of: "context"; "mcp_tools", whose result is the array of tools of the workspace's MCP servers,
 * empty where its agent has none; "mcp_call" {tool_name, arguments}, which calls one; and of the desktop "recording_start" {recording_id}
 * and "recording_stop", whose result is {recording_file_id, thumbnail_file_id?}.
 *
 * done is called later, once, unless it is cancelled.  NULL: there is no such tool, or no connection to the database.
 */
AgentTool *agenttool_start(const json_t *chat, const char *name, const json_t *args, AgentToolDone done, void *arg);

void agenttool_cancel(AgentTool *tool);

/* "90s", "1m30s", "500ms" in ms; def where it is none. */
long agenttool_duration(const char *text, long def);

#endif
