/*
 * tool.h -- what a model can do besides talking.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_TOOL_H
#define GATEWAY_CHAT_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "mcp.h"

typedef struct ToolCall ToolCall;

#define TOOL_FAILED 1u /* the result is {"error": text} */
#define TOOL_MEDIA 2u  /* the result is {"data", "mime_type", "text"} */

/* result: taken over. */
typedef void (*ToolDone)(void *arg, json_t *result, unsigned flags);

/* Where a chat's tools are from, besides the server itself; borrowed by calls until they end. */
typedef struct ToolKit
{
	const json_t *chat;
	McpSet *mcp;		/* NULL: none */
	json_t *workspace;	/* tools of MCP servers in its workspace, of tool_of_workspace(); NULL: none */
} ToolKit;

/* What models are told of the tools that a workspace's agent lists: [{name, description, input_schema}, ...]; a new reference. */
json_t *tool_of_workspace(const json_t *listed);

/* What a chat's model is offered: [{name, description, input_schema}, ...], with those of MCP servers and its dynamic tools. */
json_t *tool_list(const ToolKit *kit);

/* Is it a tool of the chat's client, which runs it itself? */
bool tool_is_dynamic(const ToolKit *kit, const char *name);

/* Runs a tool as the chat's owner; done is called later, once, unless it is cancelled.  NULL: there is no such tool. */
ToolCall *tool_start(const ToolKit *kit, const char *name, const json_t *args, ToolDone done, void *arg);

void tool_cancel(ToolCall *call);

/* Goes on with what waits; ms until the next such time, at most most. */
int64_t tool_tick(int64_t most);

/* At the end of the process. */
void tool_free_types(void);

#endif
