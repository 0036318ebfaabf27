/*
 * test_chat_mcplist.c -- how long lists of workspaces' tools are used, and what ends that.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/mcplist.c"

static void
assert_list(const char *agent, int64_t now, int n)
{
	json_t *tools = mcplist_get(agent, now);

	if (n < 0)
		assert_null(tools);
	else
	{
		assert_non_null(tools);
		assert_int_equal(json_array_size(tools), n);
	}
	json_decref(tools);
}

static void
put(const char *agent, int n, uint64_t mark, int64_t now)
{
	json_t *tools = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(tools, json_integer(i));
	mcplist_put(agent, tools, mark, now);
	json_decref(tools);
}

static void
test_times(void **state)
{
	(void) state;
	assert_list("a", 0, -1);
	put("a", 2, mcplist_mark(), 1000);
	put("b", 0, mcplist_mark(), 2000);
	assert_list("a", 1000, 2);
	assert_list("a", 1000 + MCPLIST_MS - 1, 2);
	assert_list("a", 1000 + MCPLIST_MS, -1);
	assert_list("b", 1000 + MCPLIST_MS, 0);
	mcplist_free();
	assert_list("b", 2000, -1);
}

static void
test_changes(void **state)
{
	uint64_t mark = mcplist_mark();

	(void) state;
	put("a", 1, mark, 0);
	put("b", 1, mark, 0);
	mcplist_drop("a");
	assert_list("a", 1, -1);
	assert_list("b", 1, 1);
	/* what was asked before is not kept */
	put("a", 1, mark, 1);
	assert_list("a", 1, -1);
	put("a", 3, mcplist_mark(), 1);
	assert_list("a", 1, 3);
	mcplist_free();
	mcplist_drop("a");
}

static void
test_room(void **state)
{
	char agent[16];

	(void) state;
	for (int i = 0; i < 3 * MCPLIST_MAX; i++)
	{
		snprintf(agent, sizeof(agent), "%d", i);
		put(agent, 1, mcplist_mark(), i);
		assert_list(agent, i, 1);
		assert_true(json_object_size(lists) <= MCPLIST_MAX);
	}
	mcplist_free();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
