/*
 * mcpwire.h -- messages of the Model Context Protocol (JSON-RPC 2.0), and what servers offer and answer as chats use it.
 *
 * No I/O.  Everything a server says is limited here: the number of its tools, their schemas, and results.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_MCPWIRE_H
#define GATEWAY_CHAT_MCPWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define MCP_VERSION "2025-06-18"
#define MCP_MAX_TOOLS 128 /* a server */
#define MCP_MAX_PAGES 20
#define MCP_MAX_NAME 64
#define MCP_MAX_DESCRIPTION 8192
#define MCP_MAX_SCHEMA 65536
#define MCP_MAX_TEXT ((size_t) 256 << 10)
#define MCP_MAX_MEDIA ((size_t) 6 << 20) /* in base64 */

typedef enum McpKind
{
	MCP_RESPONSE,
	MCP_REQUEST,
	MCP_NOTIFICATION
} McpKind;

/* Borrows from the value it was read of. */
typedef struct McpMessage
{
	McpKind kind;
	const json_t *id;
	const char *method;
	const json_t *params;
	const json_t *result; /* NULL where it is an error */
	const char *error;
	json_int_t code;
} McpMessage;

/* False: it is no message. */
bool mcp_message(McpMessage *message, const json_t *value);

/* The number of one of our requests that a message answers, or is the progress of; -1 where it is neither. */
int64_t mcp_message_for(const McpMessage *message);

/* params: taken over, NULL for none.  malloc'ed. */
char *mcp_request(int64_t id, const char *method, json_t *params);
char *mcp_notification(const char *method, json_t *params);

/* What a server is answered that asks us: we have nothing but ping. */
char *mcp_reply(const McpMessage *request);

json_t *mcp_initialize_params(const char *version);

/* The URL that messages are posted to, as the older transport names it: of the same origin as base.  malloc'ed; NULL where it is none. */
char *mcp_endpoint(const char *base, const char *given);

/*
 * Adds the tools of a page to tools, an array of {"tool": its own name, "name", "description", "input_schema"}; server: its
 * configuration {slug, allow, deny, model_intent}.  The cursor of the next page, or NULL; borrowed of the result.
 */
const char *mcp_take_tools(json_t *tools, const json_t *server, const json_t *result);

/* The arguments as the tool takes them, of those that the model gave; a new reference. */
json_t *mcp_arguments(const json_t *server, const json_t *args);

#define MCP_FAILED 1u
#define MCP_MEDIA 2u

/* What a chat keeps of a tool's result: a new reference. */
json_t *mcp_result(const json_t *result, unsigned *flags);

#endif
