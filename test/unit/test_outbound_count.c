/*
 * test_outbound_count.c -- requests to providers, counted: by name, purpose and answer; limits of those whom GitHub does not know.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/outbound/count.c"

static char *
printed(int64_t now)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	outbound_count_print(out, now);
	fclose(out);
	return text;
}

static void
has(const char *line, bool there)
{
	char *text = printed(1000);

	if ((strstr(text, line) != NULL) != there)
		print_error("%s\n", text);
	assert_int_equal(strstr(text, line) != NULL, there);
	free(text);
}

static void
answer(const char *name, const char *source, long status, json_t *headers)
{
	OutboundRequest request = {.status = status, .answer_headers = headers};

	snprintf(request.name, sizeof(request.name), "%s", name);
	snprintf(request.source, sizeof(request.source), "%s", source);
	outbound_count(&request);
	json_decref(headers);
}

static void
test_counts(void **state)
{
	(void) state;
	answer("", "", 200, NULL); /* nobody's */
	answer("lab", "Exchange", 200, NULL);
	answer("lab", "Exchange", 200, NULL);
	answer("lab", "Exchange", 0, NULL);
	answer("lab", "ValidateToken", 200, NULL);
	answer("a\"}\\\n\xff", "x", 500, NULL);
	has("coderd_oauth2_external_requests_total{name=\"lab\",source=\"Exchange\",status_code=\"200\"} 2\n", true);
	has("coderd_oauth2_external_requests_total{name=\"lab\",source=\"Exchange\",status_code=\"0\"} 1\n", true);
	has("coderd_oauth2_external_requests_total{name=\"lab\",source=\"ValidateToken\",status_code=\"200\"} 1\n", true);
	has("coderd_oauth2_external_requests_total{name=\"a\\\"}\\\\\\n\",source=\"x\",status_code=\"500\"} 1\n", true);
	has("name=\"\"", false);
}

static json_t *
limits(const char *limit, const char *reset)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:s}", "X-RateLimit-Limit", limit, "x-ratelimit-remaining", "58", "x-ratelimit-used", "2",
					 "x-ratelimit-reset", reset, "x-ratelimit-resource", "core");
}

static void
test_limits(void **state)
{
	(void) state;
	answer("hub", "GitAPIAuthUser", 200, limits("5000", "1600")); /* a user's own */
	answer("hub", "GitAPIAuthUser", 401, limits("sixty", "1600"));
	answer("hub", "GitAPIAuthUser", 401, limits("-60", "1600"));
	answer("hub", "GitAPIAuthUser", 401, json_pack("{s:s}", "x-ratelimit-limit", "60"));
	has("rate_limit{", false);
	answer("hub", "GitAPIAuthUser", 401, limits("60", "1600"));
	has("coderd_oauth2_external_requests_rate_limit{name=\"hub\",resource=\"core-unauthorized\"} 60\n", true);
	has("coderd_oauth2_external_requests_rate_limit_remaining{name=\"hub\",resource=\"core-unauthorized\"} 58\n", true);
	has("coderd_oauth2_external_requests_rate_limit_used{name=\"hub\",resource=\"core-unauthorized\"} 2\n", true);
	has("coderd_oauth2_external_requests_rate_limit_next_reset_unix{name=\"hub\",resource=\"core-unauthorized\"} 1600\n", true);
	has("coderd_oauth2_external_requests_rate_limit_reset_in_seconds{name=\"hub\",resource=\"core-unauthorized\"} 600\n", true);
	answer("hub", "GitAPIAuthUser", 401, limits("60", "0"));
	has("reset_in_seconds{", false);
}

/* More names than there is room for are not counted, and break nothing. */
static void
test_full(void **state)
{
	char name[32];

	(void) state;
	for (int i = 0; i < MAX_COUNTS + 10; i++)
	{
		snprintf(name, sizeof(name), "n%d", i);
		answer(name, "x", 401, limits("60", "1"));
	}
	assert_int_equal(table.n_counts, MAX_COUNTS);
	assert_int_equal(table.n_limits, MAX_LIMITS);
	has("name=\"n1\"", true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
