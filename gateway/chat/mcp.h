/*
 * mcp.h -- the MCP servers of a chat while its turn runs: their tools, and calls of them.
 *
 * Each server of the chat that is on is connected to when the turn begins (streamable HTTP, or the older HTTP with
 * server-sent events), as the chat's owner, and left when it ends.  One that cannot be used is left out.  One thread;
 * nothing blocks.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_MCP_H
#define GATEWAY_CHAT_MCP_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "mcpwire.h"

#define MCP_CONNECT_MS 10000	/* until a server has told its tools */
#define MCP_CALL_MS 60000		/* without a word of the server */
#define MCP_LONGEST_CALL_MS 600000 /* however often it tells of its progress */

typedef struct McpSet McpSet;
typedef struct McpCall McpCall;

typedef void (*McpReady)(void *arg);

/* result: taken over; flags: MCP_FAILED, MCP_MEDIA. */
typedef void (*McpDone)(void *arg, json_t *result, unsigned flags);

/* Connects to the servers of a chat (a row of coder.chats); ready is called later, once, unless it is closed.  NULL: it has none. */
McpSet *mcp_open(const json_t *chat, McpReady ready, void *arg);

/* Ends all calls without a word, and the sessions.  NULL is none. */
void mcp_close(McpSet *set);

/* Adds {"name", "description", "input_schema"} of each tool, by name. */
void mcp_add_tools(const McpSet *set, json_t *tools);

/* The id of the server whose tool this is; NULL where it is none's. */
const char *mcp_server_of(const McpSet *set, const char *tool);

/* Why a tool of this name is not there, where its server could not be used; NULL otherwise. */
const char *mcp_why_not(const McpSet *set, const char *tool);

/* done is called later, once, unless it is cancelled.  NULL: there is no such tool. */
McpCall *mcp_call(McpSet *set, const char *tool, const json_t *args, McpDone done, void *arg);

void mcp_cancel(McpCall *call);

/* Goes on with what has come or is due; ms until the next such time, at most most. */
int64_t mcp_tick(int64_t most);

/* The process ends. */
void mcp_drop_all(void);

#endif
