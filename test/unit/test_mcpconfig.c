/*
 * test_mcpconfig.c -- .mcp.json of a workspace: which programs it names, how they are started, what their tools are called.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../agent/serve/mcpconfig.c"

static void
assert_json(json_t *value, const char *text)
{
	char *got = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	assert_string_equal(got, text);
	free(got);
	json_decref(value);
}

static void
assert_servers(const char *file, const char *text)
{
	json_t *servers = mcpconfig_servers(file, strlen(file));

	if (text == NULL)
		assert_null(servers);
	else
		assert_json(servers, text);
}

static void
test_servers(void **state)
{
	(void) state;
	assert_servers("", NULL);
	assert_servers("[]", NULL);
	assert_servers("{\"mcpServers\": []}", NULL);
	assert_servers("{\"mcpServers\": {}}", "[]");
	assert_servers("{\"mcpServers\": {\"a\": {\"command\": \"run it\", \"args\": [\"it's\", \"$HOME; rm\", \"\"], \"env\": {\"X\": \"1\"}}}}",
				   "[{\"command\":\"exec 'run it' 'it'\\\\''s' '$HOME; rm' '' 2>/dev/null\",\"env\":{\"X\":\"1\"},\"name\":\"a\"}]");
	/* At an address: with and without a type, with headers. */
	assert_servers("{\"mcpServers\": {\"a\": {\"url\": \"http://x\"}, \"b\": {\"type\": \"sse\", \"url\": \"https://x/sse\", \"headers\": {\"X-A\": \"${T}\"}}, "
				   "\"c\": {\"type\": \"http\", \"url\": \"https://x\", \"headers\": {\"X-A\": \"a\\r\\nb: c\", \"a: b\": \"c\", \"\": \"d\", \"X-B\": 1}}}}",
				   "[{\"headers\":{},\"name\":\"a\",\"sse\":false,\"url\":\"http://x\"},"
				   "{\"headers\":{\"X-A\":\"${T}\"},\"name\":\"b\",\"sse\":true,\"url\":\"https://x/sse\"},"
				   "{\"headers\":{},\"name\":\"c\",\"sse\":false,\"url\":\"https://x\"}]");
	assert_servers("{\"mcpServers\": {\"a\": {\"url\": \"ftp://x\"}, \"b\": {\"type\": \"ws\", \"url\": \"http://x\"}, \"c\": {\"type\": \"http\", \"command\": \"x\"}, "
				   "\"d\": {\"type\": \"stdio\", \"url\": \"http://x\"}}}",
				   "[]");
	/* No program; a name that tools could not be told apart by; arguments that are none. */
	assert_servers("{\"mcpServers\": {\"a__b\": {\"command\": \"x\"}, \"a_\": {\"command\": \"x\"}, \"a b\": {\"command\": \"x\"}, "
				   "\"c\": {\"command\": \"\"}, \"d\": {\"command\": \"x\", \"args\": [1]}, \"e\": 5}}",
				   "[]");
}

static void
test_many_servers(void **state)
{
	json_t *all = json_object();
	json_t *file = json_pack("{s:o}", "mcpServers", all);
	char *text;
	json_t *servers;

	(void) state;
	for (int i = 0; i < 100; i++)
	{
		char name[16];

		snprintf(name, sizeof(name), "s%d", i);
		json_object_set_new(all, name, json_pack("{s:s}", "command", "x"));
	}
	text = json_dumps(file, 0);
	servers = mcpconfig_servers(text, strlen(text));
	assert_int_equal(json_array_size(servers), MCPCONFIG_MAX_SERVERS);
	json_decref(servers);
	json_decref(file);
	free(text);
}

static void
test_tools(void **state)
{
	json_t *tools = json_array();
	json_t *page = json_loads("{\"tools\": [{\"name\": \"echo\", \"description\": \"d\", \"inputSchema\": {\"properties\": {\"x\": {}}, \"required\": [\"x\"]}},"
							  " {\"name\": \"bad name\"}, {\"name\": 1}, {}, {\"name\": \"0123456789012345678901234567890123456789012345678901234567890123\"}]}",
							  0, NULL);

	(void) state;
	mcpconfig_add_tools(tools, "s", page);
	mcpconfig_add_tools(tools, "s", NULL);
	assert_json(tools, "[{\"description\":\"d\",\"name\":\"s__echo\",\"required\":[\"x\"],\"schema\":{\"x\":{}},\"server_name\":\"s\"}]");
	json_decref(page);
}

static void
test_answers(void **state)
{
	json_t *result = json_loads("{\"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"image\", \"data\": \"aGk=\", \"mimeType\": \"image/png\"}, {}, 3,"
								" {\"type\": \"resource\", \"resource\": {\"text\": \"b\"}}, {\"type\": \"odd\"}], \"isError\": true}",
								0, NULL);
	json_t *structured = json_loads("{\"structuredContent\": {\"x\": 1}}", 0, NULL);

	(void) state;
	assert_json(mcpconfig_answer(result), "{\"content\":[{\"text\":\"a\",\"type\":\"text\"},{\"data\":\"aGk=\",\"media_type\":\"image/png\",\"type\":\"image\"},"
										  "{\"text\":\"b\",\"type\":\"text\"},{\"text\":\"[odd]\",\"type\":\"text\"}],\"is_error\":true}");
	assert_json(mcpconfig_answer(structured), "{\"content\":[{\"text\":\"{\\\"x\\\":1}\",\"type\":\"text\"}],\"is_error\":false}");
	assert_json(mcpconfig_answer(NULL), "{\"content\":[],\"is_error\":false}");
	json_decref(result);
	json_decref(structured);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_servers),
		cmocka_unit_test(test_many_servers),
		cmocka_unit_test(test_tools),
		cmocka_unit_test(test_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
