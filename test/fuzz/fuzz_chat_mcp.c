/*
 * fuzz_chat_mcp.c -- what an MCP server sends: a stream of events, cut in two, whose messages are tools, results, addresses.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../gateway/chat/mcpwire.h"
#include "../../agent/wire/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_tools(const json_t *server, const json_t *result)
{
	json_t *tools = json_array();
	size_t i;
	json_t *tool;

	mcp_take_tools(tools, server, result);
	if (json_array_size(tools) > MCP_MAX_TOOLS)
		abort();
	json_array_foreach(tools, i, tool)
	{
		const char *name = json_string_value(json_object_get(tool, "name"));

		if (name == NULL || strlen(name) > MCP_MAX_NAME || !json_is_object(json_object_get(tool, "input_schema")))
			abort();
	}
	json_decref(tools);
}

static void
check_result(const json_t *result)
{
	unsigned flags;
	json_t *kept = mcp_result(result, &flags);

	if (kept == NULL || ((flags & MCP_FAILED) != 0 && !json_is_string(json_object_get(kept, "error"))) ||
		((flags & MCP_MEDIA) != 0 && !json_is_string(json_object_get(kept, "data"))))
		abort();
	json_decref(kept);
}

static void
check_value(const json_t *value)
{
	json_t *server = json_pack("{s:s, s:[s], s:b}", "slug", "s", "deny", "x", "model_intent", 1);
	McpMessage message;

	if (mcp_message(&message, value))
	{
		if (message.kind == MCP_REQUEST)
			free(mcp_reply(&message));
		mcp_message_for(&message);
		check_tools(server, message.result);
		check_result(message.result);
		json_decref(mcp_arguments(server, message.params != NULL ? message.params : value));
	}
	json_decref(server);
}

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	json_t *value = json_loadb(data, len, 0, NULL);

	(void) arg;
	if (strcmp(name, "endpoint") == 0)
		free(mcp_endpoint("http://127.0.0.1:1/sse", data));
	if (value != NULL)
		check_value(value);
	json_decref(value);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *value = json_loadb((const char *) data, size, 0, NULL);
	Sse sse;

	if (value != NULL)
		check_value(value);
	json_decref(value);
	sse_init(&sse, on_event, NULL);
	if (sse_feed(&sse, (const char *) data, size / 2))
		sse_feed(&sse, (const char *) data + size / 2, size - size / 2);
	sse_free(&sse);
	return 0;
}
