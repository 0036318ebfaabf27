/*
 * test_gateway_reply.c -- a server's error as an HTTP answer; JSON strings; the parts of an answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../gateway/reply.c"

GwServer gw_server;

void
gw_log(GwLogLevel level, const char *fmt, ...)
{
	(void) level;
	(void) fmt;
}

static void
test_sqlstate(void **state)
{
	GwError e;

	(void) state;
	gw_error_of_sqlstate(&e, "ZC404", "Resource not found.", "why", "[{}]");
	assert_int_equal(e.status, 404);
	assert_string_equal(e.message, "Resource not found.");
	assert_string_equal(e.detail, "why");
	assert_string_equal(e.validations, "[{}]");
	gw_error_of_sqlstate(&e, "ZC400", "m", NULL, "a hint in words");
	assert_null(e.validations);
	gw_error_of_sqlstate(&e, "ZCxyz", "m", NULL, NULL);
	assert_int_equal(e.status, 500);
	gw_error_of_sqlstate(&e, "ZC999", "m", NULL, NULL);
	assert_int_equal(e.status, 500);
	gw_error_of_sqlstate(&e, "57014", "canceling statement", NULL, NULL);
	assert_int_equal(e.status, 504);
	gw_error_of_sqlstate(&e, "53100", "could not extend file", NULL, NULL);
	assert_int_equal(e.status, 503);
	gw_error_of_sqlstate(&e, "57P03", "starting", NULL, NULL);
	assert_int_equal(e.status, 503);
}

/* What the server says about its tables is not for clients. */
static void
test_no_leak(void **state)
{
	static const char *const codes[] = {"23505", "42P01", "22P02", "XX000", "53100", NULL};
	GwError e;

	(void) state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
	{
		gw_error_of_sqlstate(&e, codes[i], "secret", "secret", "[secret]");
		assert_string_not_equal(e.message, "secret");
		assert_true(e.detail == NULL || strcmp(e.detail, "secret") != 0);
		assert_null(e.validations);
	}
}

static void
test_json(void **state)
{
	h2o_mem_pool_t pool;
	h2o_iovec_t s;

	(void) state;
	h2o_mem_init_pool(&pool);
	s = gw_json_string(&pool, "a\"\\\n<\x01", 6);
	assert_string_equal(s.base, "\"a\\\"\\\\\\n\\u003c\\u0001\"");
	assert_int_equal(s.len, strlen(s.base));
	s = gw_json_string(&pool, "", 0);
	assert_string_equal(s.base, "\"\"");
	h2o_mem_clear_pool(&pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sqlstate),
		cmocka_unit_test(test_no_leak),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests_name("gateway reply", tests, NULL, NULL);
}
