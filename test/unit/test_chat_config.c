/*
 * test_chat_config.c -- what turns are configured by: read once, shared, never old.
 *
 * The reads are counted and answered by the test; so is the clock.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/config.c"

#define KINDS 5
#define MAX_LOADS 64

typedef struct Caller
{
	int answers;
	char value[64]; /* as compact JSON */
	char error[64];
	ConfigKind again; /* asked for once more from the callback */
	bool ask_again;
	struct Caller *next;
} Caller;

static struct
{
	ConfigCache *cache;
	int64_t now;
	ConfigFill *fills[MAX_LOADS]; /* begun and not answered */
	char keys[MAX_LOADS][64];
	int n_loads;
	bool down; /* nothing can be read */
	bool also; /* a load brings the providers */
	ConfigFill *brought;
	bool at_once; /* told as soon as config_get has returned */
	const char *store[KINDS]; /* what a read answers; NULL: an error */
} t;

static const char *const keys[KINDS] = {"", "m1", "", "u1", "s1"};

static bool
on_load(void *arg, ConfigFill *fill, ConfigKind kind, const char *key)
{
	(void) arg;
	(void) kind;
	assert_true(t.n_loads < MAX_LOADS);
	snprintf(t.keys[t.n_loads], sizeof(t.keys[0]), "%s", key);
	t.fills[t.n_loads++] = fill;
	if (t.also)
		t.brought = config_also(fill, CONFIG_PROVIDERS, "", t.now);
	return !t.down;
}

static void
answer(int load, const char *value)
{
	ConfigFill *fill = t.fills[load];

	assert_non_null(fill);
	t.fills[load] = NULL;
	config_filled(fill, value != NULL ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL, value != NULL ? NULL : "down", t.now);
}

static void
on_done(void *arg, const json_t *value, const char *error)
{
	Caller *caller = arg;
	char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	caller->answers++;
	snprintf(caller->value, sizeof(caller->value), "%s", text != NULL ? text : "");
	snprintf(caller->error, sizeof(caller->error), "%s", error != NULL ? error : "");
	free(text);
	if (caller->ask_again)
	{
		caller->ask_again = false;
		config_get(t.cache, caller->again, keys[caller->again], t.now, on_done, caller->next);
	}
}

/* Asks, and answers the read that began, if any, with the stored value. */
static const char *
get(ConfigKind kind, const char *key)
{
	static Caller caller;
	int before = t.n_loads;

	memset(&caller, 0, sizeof(caller));
	config_get(t.cache, kind, key, t.now, on_done, &caller);
	if (t.n_loads > before)
		answer(before, t.store[kind]);
	assert_int_equal(caller.answers, 1);
	return *caller.error != '\0' ? caller.error : caller.value;
}

static void
assert_get(ConfigKind kind, const char *value, int loads)
{
	assert_string_equal(get(kind, keys[kind]), value);
	assert_int_equal(t.n_loads, loads);
}

static int
begin(void **state)
{
	(void) state;
	memset(&t, 0, sizeof(t));
	t.now = 1000;
	t.cache = config_new(on_load, NULL);
	t.store[CONFIG_PROVIDERS] = "[1]";
	t.store[CONFIG_MODEL] = "{\"m\":1}";
	t.store[CONFIG_DEFAULT_MODEL] = "{\"d\":1}";
	t.store[CONFIG_PROMPT] = "\"p\"";
	t.store[CONFIG_MCP_SERVER] = "{\"s\":1}";
	return 0;
}

static int
end(void **state)
{
	(void) state;
	config_free(t.cache);
	return 0;
}

static void
invalidate(ConfigKind kind)
{
	if (kind == CONFIG_PROVIDERS)
		config_invalidate_providers(t.cache);
	else if (kind == CONFIG_PROMPT)
		config_invalidate_prompt(t.cache, keys[kind]);
	else if (kind == CONFIG_MCP_SERVER)
		config_invalidate_mcp_server(t.cache, keys[kind]);
	else
		config_invalidate_model(t.cache, "m1");
}

/* 1, 4: within its time an entry is read once. */
static void
test_read_once(void **state)
{
	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
	{
		assert_get(kind, t.store[kind], kind + 1);
		assert_get(kind, t.store[kind], kind + 1);
	}
	assert_string_equal(get(CONFIG_MODEL, "m2"), "{\"m\":1}");
	assert_int_equal(t.n_loads, KINDS + 1);
}

/* 2, 9: it is read anew when its time is over, and not a millisecond before. */
static void
test_time_is_over(void **state)
{
	static const int64_t lives[KINDS] = {10000, 10000, 10000, 5000, 10000};

	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
	{
		int loads = t.n_loads;

		assert_get(kind, t.store[kind], loads + 1);
		t.now += lives[kind] - 1;
		assert_get(kind, t.store[kind], loads + 1);
		t.now += 1;
		t.store[kind] = "\"new\"";
		assert_get(kind, "\"new\"", loads + 2);
	}
}

/* 3, 7, 10, 15, 16: what a change drops, and what it leaves. */
static void
test_invalidation(void **state)
{
	static const bool dropped[4][KINDS] = {
		{true, true, true, false, false}, {false, true, true, false, false}, {false, false, false, true, false}, {false, false, false, false, true}};
	static const ConfigKind changes[4] = {CONFIG_PROVIDERS, CONFIG_MODEL, CONFIG_PROMPT, CONFIG_MCP_SERVER};

	(void) state;
	for (int i = 0; i < 4; i++)
	{
		for (int kind = 0; kind < KINDS; kind++)
			get(kind, keys[kind]);
		invalidate(changes[i]);
		for (int kind = 0; kind < KINDS; kind++)
		{
			int loads = t.n_loads;

			t.store[kind] = kind == CONFIG_PROVIDERS ? "[2]" : "2";
			get(kind, keys[kind]);
			assert_int_equal(t.n_loads, loads + (dropped[i][kind] ? 1 : 0));
		}
	}
}

/* A change of one model or user leaves the others. */
static void
test_others_stay(void **state)
{
	(void) state;
	get(CONFIG_MODEL, "m1");
	get(CONFIG_MODEL, "m2");
	get(CONFIG_PROMPT, "u1");
	get(CONFIG_PROMPT, "u2");
	config_invalidate_model(t.cache, "m1");
	config_invalidate_prompt(t.cache, "u1");
	get(CONFIG_MODEL, "m2");
	get(CONFIG_PROMPT, "u2");
	assert_int_equal(t.n_loads, 4);
}

/* 5: nobody who reads can change what the next one gets: the value is const, and the entry's own reference outlives the caller's. */
static void
on_keep(void *arg, const json_t *value, const char *error)
{
	(void) error;
	*(json_t **) arg = json_deep_copy(value);
}

static void
test_own_copy(void **state)
{
	json_t *copy = NULL;

	(void) state;
	get(CONFIG_MODEL, "m1");
	assert_null(config_get(t.cache, CONFIG_MODEL, "m1", t.now, on_keep, &copy));
	json_object_set_new(copy, "m", json_string("spoilt"));
	json_decref(copy);
	assert_get(CONFIG_MODEL, "{\"m\":1}", 1);
}

/* 6, 8: a model that is not there is asked for each time; a user without a prompt once.  Errors are never kept. */
static void
test_nothing_there(void **state)
{
	(void) state;
	t.store[CONFIG_MODEL] = "null";
	assert_get(CONFIG_MODEL, "null", 1);
	assert_get(CONFIG_MODEL, "null", 2);
	t.store[CONFIG_PROMPT] = "\"\"";
	assert_get(CONFIG_PROMPT, "\"\"", 3);
	assert_get(CONFIG_PROMPT, "\"\"", 3);
	t.store[CONFIG_PROVIDERS] = NULL;
	assert_get(CONFIG_PROVIDERS, "down", 4);
	t.store[CONFIG_PROVIDERS] = "[]";
	assert_get(CONFIG_PROVIDERS, "[]", 5);
	assert_get(CONFIG_PROVIDERS, "[]", 5);
}

/* 11, 13, 14, 17: a change while a read is under way, for each kind. */
static void
test_change_under_way(void **state)
{
	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
	{
		Caller first = {0};
		Caller second = {0};
		int load = t.n_loads;
		int64_t dropped = config_stats(t.cache)->dropped;

		config_get(t.cache, kind, keys[kind], t.now, on_done, &first);
		invalidate(kind);
		config_get(t.cache, kind, keys[kind], t.now, on_done, &second);
		assert_int_equal(t.n_loads, load + 2);
		answer(load, "\"old\"");
		assert_string_equal(first.value, "\"old\"");
		assert_int_equal(second.answers, 0);
		answer(load + 1, "\"new\"");
		assert_string_equal(second.value, "\"new\"");
		assert_int_equal(first.answers, 1);
		assert_get(kind, "\"new\"", load + 2);
		assert_int_equal(config_stats(t.cache)->dropped, dropped + 1);
		invalidate(kind);
	}
}

/* The same where the younger read is answered first: the old value must not come over the new one. */
static void
test_old_answer_comes_last(void **state)
{
	Caller first = {0};
	Caller second = {0};

	(void) state;
	config_get(t.cache, CONFIG_PROMPT, "u1", t.now, on_done, &first);
	config_notified(t.cache, "{\"kind\":\"user_prompt\",\"entity_id\":\"u1\"}");
	config_get(t.cache, CONFIG_PROMPT, "u1", t.now, on_done, &second);
	answer(1, "\"new\"");
	answer(0, "\"old\"");
	assert_string_equal(first.value, "\"old\"");
	assert_get(CONFIG_PROMPT, "\"new\"", 2);
}

/* 12: many who ask at once wait for one read. */
static void
test_shared(void **state)
{
	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
	{
		Caller callers[8] = {{0}};
		int load = t.n_loads;

		for (int i = 0; i < 8; i++)
			assert_non_null(config_get(t.cache, kind, keys[kind], t.now, on_done, &callers[i]));
		assert_int_equal(t.n_loads, load + 1);
		answer(load, "7");
		for (int i = 0; i < 8; i++)
		{
			assert_int_equal(callers[i].answers, 1);
			assert_string_equal(callers[i].value, "7");
		}
	}
}

/* 18, 19: who goes away takes nothing with him. */
static void
test_cancelled(void **state)
{
	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
	{
		Caller gone = {0};
		Caller stays = {0};
		int load = t.n_loads;

		config_cancel(config_get(t.cache, kind, keys[kind], t.now, on_done, &gone));
		config_get(t.cache, kind, keys[kind], t.now, on_done, &stays);
		answer(load, "\"v\"");
		assert_int_equal(gone.answers, 0);
		assert_string_equal(stays.value, "\"v\"");
		assert_get(kind, "\"v\"", load + 1);
		invalidate(kind);
		config_cancel(config_get(t.cache, kind, keys[kind], t.now, on_done, &gone));
		answer(load + 1, "\"w\"");
		assert_int_equal(gone.answers, 0);
		assert_get(kind, "\"w\"", load + 2);
	}
}

/* 20: the process ends while reads are under way. */
static void
test_process_ends(void **state)
{
	Caller callers[KINDS] = {{0}};

	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
		config_get(t.cache, kind, keys[kind], t.now, on_done, &callers[kind]);
	config_free(t.cache);
	t.cache = NULL;
	for (int kind = 0; kind < KINDS; kind++)
	{
		assert_int_equal(callers[kind].answers, 1);
		assert_string_equal(callers[kind].error, "canceled");
	}
}

/* The prompts of the users who asked longest ago go first. */
static void
test_oldest_prompts_go(void **state)
{
	char user[16];

	(void) state;
	for (int i = 0; i <= CONFIG_MAX_PROMPTS; i++)
	{
		snprintf(user, sizeof(user), "user%d", i);
		t.n_loads = 0;
		get(CONFIG_PROMPT, user);
		/* user0 is asked for again and again. */
		assert_string_equal(get(CONFIG_PROMPT, "user0"), "\"p\"");
		assert_int_equal(t.n_loads, 1);
	}
	assert_int_equal(t.cache->n_prompts, CONFIG_MAX_PROMPTS);
	t.n_loads = 0;
	get(CONFIG_PROMPT, "user0");
	get(CONFIG_PROMPT, "user2");
	assert_int_equal(t.n_loads, 0);
	get(CONFIG_PROMPT, "user1");
	assert_int_equal(t.n_loads, 1);
}

/* Who asks again from his answer finds the entry, also for another kind; after an error he begins a read. */
static void
test_asks_again(void **state)
{
	Caller second = {0};
	Caller first = {.again = CONFIG_PROVIDERS, .ask_again = true, .next = &second};

	(void) state;
	config_get(t.cache, CONFIG_PROVIDERS, "", t.now, on_done, &first);
	answer(0, "[1]");
	assert_string_equal(second.value, "[1]");
	assert_int_equal(t.n_loads, 1);
	first = (Caller){.again = CONFIG_MODEL, .ask_again = true, .next = &second};
	second = (Caller){0};
	config_get(t.cache, CONFIG_MODEL, "m1", t.now, on_done, &first);
	answer(1, NULL);
	assert_string_equal(first.error, "down");
	assert_int_equal(second.answers, 0);
	answer(2, "5");
	assert_string_equal(second.value, "5");
}

/* A read that cannot begin is answered at once, and is none that others join. */
static void
test_cannot_begin(void **state)
{
	Caller caller = {0};

	(void) state;
	for (int i = 0; i < KINDS; i++)
	{
		int before = t.n_loads;

		memset(&caller, 0, sizeof(caller));
		t.down = true;
		assert_null(config_get(t.cache, (ConfigKind) i, keys[i], t.now, on_done, &caller));
		assert_int_equal(caller.answers, 1);
		assert_true(*caller.error != '\0');
		assert_int_equal(t.n_loads, before + 1);
		t.fills[before] = NULL;
		t.down = false;
		assert_string_equal(get((ConfigKind) i, keys[i]), t.store[i]);
		assert_int_equal(t.n_loads, before + 2);
	}
}

/* A model's read brings the providers, unless they are at hand or being read; what overtakes them is heeded as ever. */
static void
test_brings_providers(void **state)
{
	Caller model = {0};
	Caller providers = {0};

	(void) state;
	t.also = true;
	config_get(t.cache, CONFIG_MODEL, "m1", t.now, on_done, &model);
	assert_non_null(t.brought);
	config_get(t.cache, CONFIG_PROVIDERS, "", t.now, on_done, &providers);
	assert_int_equal(t.n_loads, 1);
	config_filled(t.brought, json_loads("[7]", 0, NULL), NULL, t.now);
	assert_string_equal(providers.value, "[7]");
	answer(0, "{}");
	assert_string_equal(model.value, "{}");
	assert_get(CONFIG_PROVIDERS, "[7]", 1);
	config_invalidate_model(t.cache, "m1");
	config_get(t.cache, CONFIG_MODEL, "m1", t.now, on_done, &model);
	assert_null(t.brought);
	answer(1, "{}");
	config_invalidate_providers(t.cache);
	config_get(t.cache, CONFIG_MODEL, "m1", t.now, on_done, &model);
	assert_non_null(t.brought);
	config_invalidate_providers(t.cache);
	config_filled(t.brought, json_loads("[8]", 0, NULL), NULL, t.now);
	answer(2, "{}");
	t.also = false;
	assert_get(CONFIG_PROVIDERS, "[1]", 4);
}

/* A change as the database tells it when it is asked. */
static void
changed(const char *text)
{
	json_t *change = json_loads(text, 0, NULL);

	config_changed(t.cache, change);
	json_decref(change);
}

/* Changes as the database tells them: by NOTIFY and when it is asked, and in any order. */
static void
test_told_of_changes(void **state)
{
	static const char *const none[] = {"", "x", "[]", "{}", "{\"kind\":1}", "{\"kind\":\"model_config\"}", "{\"kind\":\"other\",\"entity_id\":\"m1\"}"};

	(void) state;
	get(CONFIG_PROVIDERS, "");
	get(CONFIG_PROMPT, "u1");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		config_notified(t.cache, none[i]);
	assert_get(CONFIG_PROVIDERS, "[1]", 2);
	changed("{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":7}");
	assert_get(CONFIG_PROVIDERS, "[1]", 3);
	config_notified(t.cache, "{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":7}");
	changed("{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":7}");
	assert_get(CONFIG_PROVIDERS, "[1]", 3);
	/* A lower number that has not come yet is news. */
	changed("{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":6}");
	assert_get(CONFIG_PROVIDERS, "[1]", 4);
	assert_get(CONFIG_PROMPT, "\"p\"", 4);
	config_notified(t.cache, "{\"kind\":\"user_prompts\",\"entity_id\":\"0\",\"change\":8}");
	assert_get(CONFIG_PROMPT, "\"p\"", 5);
	/* Who forges a notification with the number of a change to come hides it from nobody. */
	config_notified(t.cache, "{\"kind\":\"other\",\"entity_id\":\"0\",\"change\":9}");
	config_notified(t.cache, "{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":9}");
	assert_get(CONFIG_PROVIDERS, "[1]", 6);
	changed("{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":9}");
	assert_get(CONFIG_PROVIDERS, "[1]", 7);
	/* Each number is remembered for a while, then taken for news: an entry too many is read, none is old. */
	for (int i = 0; i < 3 * CONFIG_SEEN_CHANGES; i++)
	{
		char change[96];

		snprintf(change, sizeof(change), "{\"kind\":\"providers\",\"entity_id\":\"0\",\"change\":%d}", 100 + i);
		t.n_loads = 0;
		changed(change);
		get(CONFIG_PROVIDERS, "");
		assert_int_equal(t.n_loads, 1);
		config_notified(t.cache, change);
		get(CONFIG_PROVIDERS, "");
		assert_int_equal(t.n_loads, 1);
	}
}

/* The word that nothing has changed lets entries live on; a lost connection ends that, and everything. */
static void
test_confirmed(void **state)
{
	(void) state;
	for (int kind = 0; kind < KINDS; kind++)
		get(kind, keys[kind]);
	for (int i = 0; i < 100; i++)
	{
		t.now += 4000;
		config_confirmed(t.cache, t.now);
		for (int kind = 0; kind < KINDS; kind++)
			assert_get(kind, t.store[kind], KINDS);
	}
	t.now += 5000;
	assert_get(CONFIG_PROMPT, "\"p\"", KINDS + 1);
	assert_get(CONFIG_PROVIDERS, "[1]", KINDS + 1);
	config_invalidate_all(t.cache);
	for (int kind = 0; kind < KINDS; kind++)
		assert_get(kind, t.store[kind], KINDS + 2 + kind);
	t.now += 10000;
	for (int kind = 0; kind < KINDS; kind++)
		assert_get(kind, t.store[kind], 2 * KINDS + 2 + kind);
}

/* An MCP server that changes, and all of them. */
static void
test_mcp_servers(void **state)
{
	(void) state;
	get(CONFIG_MCP_SERVER, "s1");
	get(CONFIG_MCP_SERVER, "s2");
	config_notified(t.cache, "{\"kind\": \"mcp_server\", \"entity_id\": \"s1\"}");
	get(CONFIG_MCP_SERVER, "s2");
	assert_int_equal(t.n_loads, 2);
	get(CONFIG_MCP_SERVER, "s1");
	assert_int_equal(t.n_loads, 3);
	config_notified(t.cache, "{\"kind\": \"mcp_servers\", \"entity_id\": \"s1\"}");
	get(CONFIG_MCP_SERVER, "s1");
	get(CONFIG_MCP_SERVER, "s2");
	assert_int_equal(t.n_loads, 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read_once, begin, end),
		cmocka_unit_test_setup_teardown(test_time_is_over, begin, end),
		cmocka_unit_test_setup_teardown(test_invalidation, begin, end),
		cmocka_unit_test_setup_teardown(test_others_stay, begin, end),
		cmocka_unit_test_setup_teardown(test_own_copy, begin, end),
		cmocka_unit_test_setup_teardown(test_nothing_there, begin, end),
		cmocka_unit_test_setup_teardown(test_change_under_way, begin, end),
		cmocka_unit_test_setup_teardown(test_old_answer_comes_last, begin, end),
		cmocka_unit_test_setup_teardown(test_shared, begin, end),
		cmocka_unit_test_setup_teardown(test_cancelled, begin, end),
		cmocka_unit_test_setup_teardown(test_process_ends, begin, end),
		cmocka_unit_test_setup_teardown(test_oldest_prompts_go, begin, end),
		cmocka_unit_test_setup_teardown(test_asks_again, begin, end),
		cmocka_unit_test_setup_teardown(test_cannot_begin, begin, end),
		cmocka_unit_test_setup_teardown(test_brings_providers, begin, end),
		cmocka_unit_test_setup_teardown(test_told_of_changes, begin, end),
		cmocka_unit_test_setup_teardown(test_confirmed, begin, end),
		cmocka_unit_test_setup_teardown(test_mcp_servers, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
