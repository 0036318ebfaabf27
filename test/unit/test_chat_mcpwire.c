/*
 * test_chat_mcpwire.c -- messages of the Model Context Protocol: what is one, tools as models see them, results as chats keep them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/mcpwire.c"

static json_t *
read_json(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	return value;
}

static void
assert_json(json_t *value, const char *text)
{
	char *got = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	assert_string_equal(got, text);
	free(got);
	json_decref(value);
}

static void
assert_message(const char *text, bool ok, McpKind kind, int64_t number)
{
	json_t *value = read_json(text);
	McpMessage message;

	assert_int_equal(mcp_message(&message, value), ok);
	if (ok)
	{
		assert_int_equal(message.kind, kind);
		assert_int_equal(mcp_message_for(&message), number);
	}
	json_decref(value);
}

static void
test_messages(void **state)
{
	(void) state;
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": 3, \"result\": {}}", true, MCP_RESPONSE, 3);
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": \"3\", \"result\": {}}", true, MCP_RESPONSE, -1);
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": -3, \"error\": {\"code\": 1}}", true, MCP_RESPONSE, -1);
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": 3}", false, MCP_RESPONSE, 0);
	assert_message("{\"jsonrpc\": \"2.0\", \"result\": {}}", false, MCP_RESPONSE, 0);
	assert_message("{\"jsonrpc\": \"1.0\", \"id\": 3, \"result\": {}}", false, MCP_RESPONSE, 0);
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": [], \"method\": \"ping\"}", true, MCP_NOTIFICATION, -1);
	assert_message("{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"ping\"}", true, MCP_REQUEST, -1);
	assert_message("{\"jsonrpc\": \"2.0\", \"method\": \"notifications/progress\", \"params\": {\"progressToken\": 7}}", true, MCP_NOTIFICATION, 7);
	assert_message("[]", false, MCP_RESPONSE, 0);
	assert_message("null", false, MCP_RESPONSE, 0);
}

static void
test_writing(void **state)
{
	json_t *asked = read_json("{\"jsonrpc\": \"2.0\", \"id\": \"a\", \"method\": \"sampling/createMessage\"}");
	McpMessage message;
	char *text;

	(void) state;
	text = mcp_request(1, "tools/list", NULL);
	assert_string_equal(text, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}");
	free(text);
	assert_true(mcp_message(&message, asked));
	text = mcp_reply(&message);
	assert_string_equal(text, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"error\":{\"code\":-32601,\"message\":\"Method not found\"}}");
	free(text);
	json_decref(asked);
}

static void
assert_endpoint(const char *given, const char *url)
{
	char *got = mcp_endpoint("https://mcp.example/a/sse?x=1", given);

	if (url == NULL)
		assert_null(got);
	else
		assert_string_equal(got, url);
	free(got);
}

static void
test_endpoint(void **state)
{
	(void) state;
	assert_endpoint("/message?s=1", "https://mcp.example/message?s=1");
	assert_endpoint("message", "https://mcp.example/a/message");
	assert_endpoint("https://mcp.example:443/m", "https://mcp.example:443/m");
	assert_endpoint("https://MCP.example/m", "https://MCP.example/m");
	assert_endpoint("https://other.example/m", NULL);
	assert_endpoint("//other.example/m", NULL);
	assert_endpoint("http://mcp.example/m", NULL);
	assert_endpoint("https://mcp.example:8443/m", NULL);
	assert_endpoint("https://u:p@mcp.example/m", NULL);
	assert_endpoint("file:///etc/passwd", NULL);
}

static json_t *
tools_of(const char *server, const char *page, const char **cursor)
{
	static json_t *result;
	json_t *config = read_json(server);
	json_t *tools = json_array();

	json_decref(result);
	result = read_json(page);
	*cursor = mcp_take_tools(tools, config, result);
	json_decref(config);
	return tools;
}

static void
test_tools(void **state)
{
	const char *cursor;
	json_t *tools;

	(void) state;
	tools = tools_of("{\"slug\": \"a b\", \"allow\": [], \"deny\": [\"no\"]}",
					 "{\"nextCursor\": \"n\", \"tools\": [{\"name\": \"x.y\", \"inputSchema\": {\"type\": \"array\", \"required\": 1}}, {\"name\": \"no\"},"
					 " {\"name\": 1}, {\"name\": \"\"}, 5, {\"name\": \"x/y\", \"description\": \"of the same name\"}, {\"name\": \"\\u00fcber\", "
					 "\"description\": \"d\", \"inputSchema\": 3}]}",
					 &cursor);
	assert_string_equal(cursor, "n");
	assert_json(tools, "[{\"description\":\"\",\"input_schema\":{\"properties\":{},\"type\":\"object\"},\"name\":\"a_b__x_y\",\"tool\":\"x.y\"},"
					   "{\"description\":\"d\",\"input_schema\":{\"properties\":{},\"type\":\"object\"},\"name\":\"a_b___ber\",\"tool\":\"\xc3\xbc"
					   "ber\"}]");
	tools = tools_of("{\"slug\": \"s\", \"allow\": [\"b\"], \"deny\": [\"b\"]}", "{\"tools\": [{\"name\": \"a\"}, {\"name\": \"b\"}], \"nextCursor\": \"\"}", &cursor);
	assert_null(cursor);
	assert_int_equal(json_array_size(tools), 1);
	json_decref(tools);
	tools = tools_of("{\"slug\": \"s\"}", "{\"tools\": {}}", &cursor);
	assert_json(tools, "[]");
	/* 64 characters are the most that providers take */
	tools = tools_of("{\"slug\": \"s\"}", "{\"tools\": [{\"name\": \"0123456789012345678901234567890123456789012345678901234567890123456789\"}]}", &cursor);
	assert_int_equal(strlen(json_string_value(json_object_get(json_array_get(tools, 0), "name"))), 64);
	json_decref(tools);
}

static void
test_arguments(void **state)
{
	json_t *plain = read_json("{}");
	json_t *intent = read_json("{\"model_intent\": true}");
	json_t *args = read_json("{\"model_intent\": \"x\", \"properties\": {\"a\": 1}}");
	json_t *bare = read_json("{\"model_intent\": \"x\", \"a\": 1}");

	(void) state;
	assert_json(mcp_arguments(plain, args), "{\"model_intent\":\"x\",\"properties\":{\"a\":1}}");
	assert_json(mcp_arguments(intent, args), "{\"a\":1}");
	assert_json(mcp_arguments(intent, bare), "{\"a\":1}");
	json_decref(plain);
	json_decref(intent);
	json_decref(args);
	json_decref(bare);
}

static void
assert_result(const char *text, const char *kept, unsigned flags)
{
	json_t *value = read_json(text);
	unsigned got;

	assert_json(mcp_result(value, &got), kept);
	assert_int_equal(got, flags);
	json_decref(value);
}

static void
test_results(void **state)
{
	(void) state;
	assert_result("{}", "{\"output\":\"\"}", 0);
	assert_result("{\"content\": 7}", "{\"output\":\"\"}", 0);
	assert_result("{\"content\": [{\"type\": \"text\", \"text\": \"a\"}, 5, {\"type\": \"text\", \"text\": \"b\"}]}", "{\"output\":\"a\\nb\"}", 0);
	assert_result("{\"content\": [{\"type\": \"text\", \"text\": \"{\\\"x\\\": 1}\"}], \"structuredContent\": {\"x\": 1}}", "{\"x\":1}", 0);
	assert_result("{\"content\": [{\"type\": \"text\", \"text\": \"one\"}], \"structuredContent\": {\"x\": 1}}", "{\"output\":\"one\\n{\\\"x\\\":1}\"}", 0);
	assert_result("{\"content\": [{\"type\": \"text\", \"text\": \"no\"}], \"isError\": true}", "{\"error\":\"no\"}", MCP_FAILED);
	assert_result("{\"content\": [{\"type\": \"image\", \"data\": \"aGk=\", \"mimeType\": \"image/png\"}, {\"type\": \"text\", \"text\": \"t\"}]}",
				  "{\"data\":\"aGk=\",\"mime_type\":\"image/png\",\"text\":\"t\"}", MCP_MEDIA);
	assert_result("{\"content\": [{\"type\": \"image\", \"data\": \"no base64!\", \"mimeType\": \"image/png\"}]}",
				  "{\"output\":\"[media that cannot be read]\"}", 0);
	assert_result("{\"content\": [{\"type\": \"resource\", \"resource\": {\"blob\": \"aGk=\", \"mimeType\": \"a/b\"}}]}",
				  "{\"data\":\"aGk=\",\"mime_type\":\"a/b\",\"text\":\"\"}", MCP_MEDIA);
	assert_result("{\"content\": [{\"type\": \"hologram\"}]}", "{\"output\":\"[content of an unknown kind]\"}", 0);
}

/* A text that is cut is cut between characters. */
static void
test_long_result(void **state)
{
	size_t n = MCP_MAX_TEXT / 2 + 10;
	char *text = malloc(2 * n + 2);
	json_t *value;
	json_t *kept;
	unsigned flags;

	(void) state;
	text[0] = 'x';
	for (size_t i = 0; i < n; i++)
		memcpy(text + 1 + 2 * i, "\xc3\xa4", 2);
	text[2 * n + 1] = '\0';
	value = json_pack("{s:[{s:s, s:s}]}", "content", "type", "text", "text", text);
	kept = mcp_result(value, &flags);
	assert_int_equal(json_string_length(json_object_get(kept, "output")), MCP_MAX_TEXT - 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(kept, "truncated"), "original_bytes")), (json_int_t) (2 * n + 1));
	json_decref(kept);
	json_decref(value);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),  cmocka_unit_test(test_writing), cmocka_unit_test(test_endpoint),	  cmocka_unit_test(test_tools),
		cmocka_unit_test(test_arguments), cmocka_unit_test(test_results), cmocka_unit_test(test_long_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
