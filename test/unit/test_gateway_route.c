/*
 * test_gateway_route.c -- routes: which row a path finds; paths and escapes.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../gateway/route.c"

static GwRouteTable *
table_of(const char *const *rows, size_t n)
{
	GwRouteTable *table = gw_routes_new();

	for (size_t i = 0; i < n; i++)
	{
		char method[16];
		const char *space = strchr(rows[i], ' ');
		GwRoute route = {.id = (int) i + 1, .method = method, .pattern = (char *) space + 1};

		memcpy(method, rows[i], (size_t) (space - rows[i]));
		method[space - rows[i]] = '\0';
		assert_true(gw_routes_add(table, &route));
	}
	return table;
}

/* The id found (0: none, -1: the path is known), from a block of exactly the path's size. */
static int
find(GwRouteTable *table, const char *method, const char *path, GwMatch *match)
{
	size_t len = strlen(path);
	char *exact = malloc(len > 0 ? len : 1);

	memcpy(exact, path, len);
	gw_routes_find(table, method, strlen(method), exact, len, match);
	/* params point into the block: make them point into the argument. */
	for (int i = 0; i < match->n_params && match->route != NULL; i++)
		match->params[i].base = path + (match->params[i].base - exact);
	free(exact);
	return match->route != NULL ? match->route->id : match->path_known ? -1 : 0;
}

static const char *const rows[] = {
	"GET /api/v2/users",					 /* 1 */
	"POST /api/v2/users",					 /* 2 */
	"GET /api/v2/users/{user}",				 /* 3 */
	"GET /api/v2/users/first",				 /* 4 */
	"GET /api/v2/users/{user}/keys/{id}",	 /* 5 */
	"GET /api/v2/users/first/{x}",			 /* 6 */
	"* /@{user}/{ws}/apps/{app}/{path...}",	 /* 7 */
	"GET /files/{path...}",					 /* 8 */
	"GET /",								 /* 9 */
	"HEAD /api/v2/users/first",				 /* 10 */
};

static void
test_find(void **state)
{
	GwRouteTable *table = table_of(rows, sizeof(rows) / sizeof(rows[0]));
	GwMatch match;

	(void) state;
	assert_int_equal(gw_routes_count(table), 10);
	assert_int_equal(find(table, "GET", "/api/v2/users", &match), 1);
	assert_int_equal(find(table, "GET", "/api/v2/users/", &match), 1);
	assert_int_equal(find(table, "POST", "/api/v2/users", &match), 2);
	assert_int_equal(find(table, "DELETE", "/api/v2/users", &match), -1);
	assert_int_equal(find(table, "GET", "/api/v2", &match), 0);
	assert_int_equal(find(table, "GET", "/api/v2/users/first", &match), 4);
	assert_int_equal(find(table, "HEAD", "/api/v2/users/first", &match), 10);
	assert_int_equal(find(table, "HEAD", "/api/v2/users/x", &match), 3);
	assert_int_equal(find(table, "GET", "/api/v2/users/firs", &match), 3);
	assert_int_equal(match.params[0].len, 4);
	assert_int_equal(find(table, "GET", "/", &match), 9);
	assert_int_equal(find(table, "GET", "", &match), 0);
	assert_int_equal(find(table, "GET", "x", &match), 0);
	gw_routes_unref(table);
}

/* A literal that leads nowhere gives way to a pattern. */
static void
test_backtrack(void **state)
{
	GwRouteTable *table = table_of(rows, sizeof(rows) / sizeof(rows[0]));
	GwMatch match;

	(void) state;
	assert_int_equal(find(table, "GET", "/api/v2/users/first/keys/k1", &match), 5);
	assert_int_equal(match.n_params, 2);
	assert_memory_equal(match.params[0].base, "first", 5);
	assert_memory_equal(match.params[1].base, "k1", 2);
	assert_int_equal(find(table, "GET", "/api/v2/users/first/keys", &match), 6);
	gw_routes_unref(table);
}

static void
test_rest(void **state)
{
	GwRouteTable *table = table_of(rows, sizeof(rows) / sizeof(rows[0]));
	GwMatch match;

	(void) state;
	assert_int_equal(find(table, "PATCH", "/@me/dev/apps/code/a/b%2fc/", &match), 7);
	assert_int_equal(match.n_params, 4);
	assert_int_equal(match.params[0].len, 2);
	assert_int_equal(match.params[3].len, 8);
	assert_memory_equal(match.params[3].base, "a/b%2fc/", 8);
	assert_int_equal(find(table, "GET", "/@/dev/apps/code/x", &match), 0);
	assert_int_equal(find(table, "GET", "/files/x", &match), 8);
	assert_int_equal(find(table, "GET", "/files/", &match), 0);
	gw_routes_unref(table);
}

static void
test_bad_patterns(void **state)
{
	static const char *const bad[] = {"", "x", "/{}", "/{a}b", "/a}b", "/{a...}/b", "/a//b",
									  "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"};
	GwRouteTable *table = gw_routes_new();
	GwRoute deep = {.id = 1, .method = (char *) "GET"};
	char pattern[256] = "";

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		GwRoute route = {.id = 1, .method = (char *) "GET", .pattern = (char *) bad[i]};

		assert_false(gw_routes_add(table, &route));
	}
	for (int i = 0; i <= GW_MAX_SEGMENTS; i++)
		strcat(pattern, "/a");
	deep.pattern = pattern;
	assert_false(gw_routes_add(table, &deep));
	gw_routes_unref(table);
}

static void
test_paths(void **state)
{
	char out[64];
	size_t n;

	(void) state;
	n = gw_path_collapse(out, "//a///b/", 8);
	assert_int_equal(n, 5);
	assert_memory_equal(out, "/a/b/", 5);
	assert_true(gw_percent_decode(out, &n, "a%20b%2Fc+", 10, false));
	assert_int_equal(n, 6);
	assert_memory_equal(out, "a b/c+", 6);
	assert_true(gw_percent_decode(out, &n, "a+b", 3, true));
	assert_memory_equal(out, "a b", 3);
	assert_false(gw_percent_decode(out, &n, "%", 1, false));
	assert_false(gw_percent_decode(out, &n, "%2", 2, false));
	assert_false(gw_percent_decode(out, &n, "%zz", 3, false));
	assert_false(gw_percent_decode(out, &n, "%00", 3, false));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),		 cmocka_unit_test(test_backtrack), cmocka_unit_test(test_rest),
		cmocka_unit_test(test_bad_patterns), cmocka_unit_test(test_paths),
	};

	return cmocka_run_group_tests_name("gateway route", tests, NULL, NULL);
}
