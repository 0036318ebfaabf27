/*
 * test_chat_chain.c -- which answer a turn may go on from.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/chain.c"

static const char *const messages[] = {
	"{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"be brief\"}]}",
	"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}",
	"{\"role\":\"assistant\",\"model_config_id\":\"m\",\"provider_response_id\":\"r1\",\"content\":[{\"type\":\"text\",\"text\":\"b\","
	"\"provider_metadata\":{\"google\":{\"x\":1}}}]}",
	"{\"role\":\"tool\",\"content\":[]}",
	"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"c\"}]}",
};

#define N 5

static json_t *
history_of(const char *answer_to)
{
	json_t *history = json_array();

	for (int i = 0; i < N; i++)
		json_array_append_new(history, json_loads(messages[i], 0, NULL));
	if (answer_to != NULL)
		chain_mark(json_object_get(json_array_get(history, 2), "content"), answer_to);
	return history;
}

static void
assert_chain(json_t *history, const char *model, const char *id)
{
	char context[CHAIN_CONTEXT];
	size_t from = 0;
	const char *found;

	chain_context(history, context);
	found = chain_find(history, model, context, &from);
	if (id == NULL)
		assert_null(found);
	else
	{
		assert_string_equal(found, id);
		assert_int_equal(from, 3);
	}
	json_decref(history);
}

static void
test_find(void **state)
{
	char context[CHAIN_CONTEXT];
	json_t *history = history_of(NULL);

	(void) state;
	chain_context(history, context);
	assert_int_equal(strlen(context), 32);
	/* an answer that is not marked was not whole, or to other instructions */
	assert_chain(history, "m", NULL);
	assert_chain(history_of(context), "m", "r1");
	assert_chain(history_of("0123456789abcdef0123456789abcdef"), "m", NULL);
	assert_chain(history_of(context), "other", NULL);
	assert_chain(history_of(context), NULL, NULL);
	history = history_of(context);
	json_object_del(json_array_get(history, 2), "provider_response_id");
	assert_chain(history, "m", NULL);
	/* nothing behind it, or another answer */
	history = history_of(context);
	json_array_remove(history, 4);
	json_array_remove(history, 3);
	assert_chain(history, "m", NULL);
	history = history_of(context);
	json_array_insert_new(history, 4, json_loads("{\"role\":\"assistant\",\"content\":[]}", 0, NULL));
	assert_chain(history, "m", NULL);
	/* other instructions */
	history = history_of(context);
	json_array_append_new(history, json_loads(messages[0], 0, NULL));
	assert_chain(history, "m", NULL);
	history = json_array();
	assert_chain(history, "m", NULL);
}

static void
test_mark(void **state)
{
	json_t *history = history_of("x");
	json_t *part = json_array_get(json_object_get(json_array_get(history, 2), "content"), 0);
	char *text = json_dumps(json_object_get(part, "provider_metadata"), JSON_COMPACT);
	json_t *empty = json_array();

	(void) state;
	assert_string_equal(text, "{\"google\":{\"x\":1},\"openai\":{\"context\":\"x\"}}");
	chain_mark(empty, "x");
	assert_int_equal(json_array_size(empty), 0);
	json_decref(empty);
	json_decref(history);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_mark),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
