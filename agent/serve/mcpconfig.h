/*
 * mcpconfig.h -- the file that names a workspace's MCP servers (.mcp.json), and what their tools are to chats.
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_MCPCONFIG_H
#define AGENT_SERVE_MCPCONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define MCPCONFIG_MAX_SERVERS 16
#define MCPCONFIG_MAX_TOOLS 64 /* a server */
#define MCPCONFIG_MAX_NAME 64
#define MCPCONFIG_MAX_URL 4000

/*
 * The servers of a file: programs to be started, {"name", "command": for a shell, "env": {name: value}}, and those at an
 * address, {"name", "url", "sse": by the older transport, "headers": {name: value}}.  What is malformed is left out.  NULL
 * where it is no such file.
 */
json_t *mcpconfig_servers(const char *text, size_t len);

/* Adds {"server_name", "name": "server__tool", "description", "schema", "required"} of a page of tools/list. */
void mcpconfig_add_tools(json_t *tools, const char *server, const json_t *result);

/* The answer of a call as the agent gives it: {"content": [{type, text, data, media_type}, ...], "is_error"}. */
json_t *mcpconfig_answer(const json_t *result);

#endif
