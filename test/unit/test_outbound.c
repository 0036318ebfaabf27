/*
 * test_outbound.c -- plans of outbound requests that are good and bad, and their results.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/outbound/plan.c"

static const char *
parse(OutboundPlan *plan, const char *json)
{
	return outbound_plan_parse(plan, json, strlen(json));
}

static void
test_plan(void **state)
{
	OutboundPlan plan;

	(void) state;
	assert_null(parse(&plan,
					  "{\"continue\":\"next_part\",\"state\":{\"n\":1},\"requests\":["
					  "{\"url\":\"https://a.example/x\"},"
					  "{\"method\":\"POST\",\"url\":\"http://b.example/\",\"headers\":{\"X-A\":\"1\",\"X-B\":\"\"},"
					  "\"body\":\"k=v\",\"timeout_ms\":500,\"max_size\":10},"
					  "{\"url\":\"http://c.example/\",\"body_base64\":\"AAE=\"}]}"));
	assert_int_equal(plan.n, 3);
	assert_string_equal(plan.function, "next_part");
	assert_string_equal(plan.requests[0].method, "GET");
	assert_int_equal(plan.requests[0].timeout_ms, OUTBOUND_TIMEOUT_MS);
	assert_int_equal(plan.requests[0].max_size, OUTBOUND_SIZE);
	assert_null(plan.requests[0].body);
	assert_string_equal(plan.requests[1].headers[0], "X-A: 1");
	assert_string_equal(plan.requests[1].headers[1], "X-B;");
	assert_int_equal(plan.requests[1].timeout_ms, 500);
	assert_int_equal(plan.requests[1].body_len, 3);
	assert_memory_equal(plan.requests[2].body, "\0\1", 2);
	assert_int_equal(plan.requests[2].body_len, 2);
	outbound_plan_free(&plan);
}

static void
test_counted(void **state)
{
	OutboundPlan plan;

	(void) state;
	assert_null(parse(&plan, "{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"counted\":{\"name\":\"lab\",\"source\":\"Revoke\"}},"
							 "{\"url\":\"http://a/\"}]}"));
	assert_string_equal(plan.requests[0].name, "lab");
	assert_string_equal(plan.requests[0].source, "Revoke");
	assert_string_equal(plan.requests[1].name, "");
	outbound_plan_free(&plan);
	assert_string_equal(parse(&plan, "{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"counted\":{\"name\":1}}]}"), "counted is malformed");
}

static void
test_wait(void **state)
{
	OutboundPlan plan;
	char *cursor;

	(void) state;
	assert_null(parse(&plan, "{\"continue\":\"f\",\"state\":[1],\"wait_ms\":1000}"));
	assert_int_equal(plan.n, 0);
	assert_int_equal(plan.wait_ms, 1000);
	cursor = outbound_cursor(&plan);
	assert_string_equal(cursor, "fetched:f\n{\"state\":[1],\"results\":[]}");
	free(cursor);
	outbound_plan_free(&plan);
}

static void
test_bad_plans(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"continue\":\"f\",\"requests\":[]}",
		"{\"continue\":\"f\",\"requests\":{}}",
		"{\"requests\":[{\"url\":\"http://a/\"}]}",
		"{\"continue\":\"f(\",\"requests\":[{\"url\":\"http://a/\"}]}",
		"{\"continue\":\"f\",\"wait_ms\":0}",
		"{\"continue\":\"f\",\"wait_ms\":10001}",
		"{\"continue\":\"f\",\"wait_ms\":1,\"requests\":[{\"url\":\"http://a/\"}]}",
		"{\"continue\":\"f\",\"requests\":[1]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"derp://a/\"}]}", /* only who says so tries a relay */
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"stun://a:1\",\"probe\":false}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"probe\":true}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"file:///etc/passwd\"}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/ b\"}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\\r\\nX: 1\"}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"method\":\"GET / HTTP/1.1\"}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"headers\":{\"A\":\"1\\r\\nB: 2\"}}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"headers\":{\"A:\":\"1\"}}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"headers\":{\"A\":1}}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"headers\":[]}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"body\":1}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"body_base64\":\"%\"}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"timeout_ms\":0}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"timeout_ms\":60001}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"max_size\":1e9}]}",
		"{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\"},{}]}",
		"{\"continue\":\"f\",\"requests\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}",
	};
	OutboundPlan plan;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (parse(&plan, bad[i]) == NULL)
			fail_msg("taken: %s", bad[i]);
		assert_int_equal(plan.n, 0);
		assert_null(plan.requests);
	}
}

static void
feed_header(OutboundRequest *request, const char *line)
{
	char *copy = malloc(strlen(line) + 1);

	memcpy(copy, line, strlen(line));
	outbound_take_header(request, copy, strlen(line));
	free(copy);
}

static void
test_results(void **state)
{
	OutboundPlan plan;
	char *cursor;

	(void) state;
	assert_null(parse(&plan,
					  "{\"continue\":\"f\",\"state\":\"s\",\"requests\":[{\"url\":\"http://a/\"},"
					  "{\"url\":\"http://a/\",\"max_size\":4},{\"url\":\"http://a/\"}]}"));
	plan.requests[0].status = 201;
	feed_header(&plan.requests[0], "HTTP/1.1 103 Early\r\n");
	feed_header(&plan.requests[0], "X-Early: 1\r\n");
	feed_header(&plan.requests[0], "HTTP/1.1 201 Made\r\n");
	feed_header(&plan.requests[0], "X-One:  1 \r\n");
	feed_header(&plan.requests[0], "x-one: 2\r\n");
	feed_header(&plan.requests[0], "X-None:\r\n");
	feed_header(&plan.requests[0], "no colon\r\n");
	feed_header(&plan.requests[0], ": 1\r\n");
	feed_header(&plan.requests[0], "X-Bad: \xff\r\n");
	feed_header(&plan.requests[0], "\r\n");
	assert_true(outbound_take(&plan.requests[0], "he", 2));
	assert_true(outbound_take(&plan.requests[0], "\"o", 2));
	plan.requests[1].status = 200;
	assert_true(outbound_take(&plan.requests[1], "\0\1\2", 3));
	assert_false(outbound_take(&plan.requests[1], "34", 2));
	assert_true(outbound_take(&plan.requests[1], "3", 1));
	plan.requests[2].status = 200;
	plan.requests[2].error = "timeout";
	snprintf(plan.requests[2].error_text, sizeof(plan.requests[2].error_text), "too late");
	cursor = outbound_cursor(&plan);
	assert_string_equal(cursor,
						"fetched:f\n{\"state\":\"s\",\"results\":["
						"{\"status\":201,\"headers\":{\"x-one\":\"1, 2\",\"x-none\":\"\"},\"body\":\"he\\\"o\"},"
						"{\"status\":200,\"headers\":{},\"body_base64\":\"AAECMw==\"},"
						"{\"status\":0,\"error\":\"timeout\",\"error_text\":\"too late\"}]}");
	free(cursor);
	outbound_plan_free(&plan);
}

static bool
is_public(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return outbound_is_public((struct sockaddr *) &v4);
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return outbound_is_public((struct sockaddr *) &v6);
}

static void
test_public_addresses(void **state)
{
	static const char *const open[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
									   "126.255.255.255", "128.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
									   "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
									   "2606:4700:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"};
	static const char *const closed[] = {"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
										 "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
										 "192.0.0.1", "192.0.2.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
										 "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
										 "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
										 "64:ff9b::7f00:1", "fc00::1", "fd12::1", "fe80::1", "ff02::1", "2001:db8::1",
										 "2002:7f00:1::1", "2001::1"};
	struct sockaddr other = {.sa_family = AF_UNIX};

	(void) state;
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		if (!is_public(open[i]))
			fail_msg("%s is public", open[i]);
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		if (is_public(closed[i]))
			fail_msg("%s is not public", closed[i]);
	assert_false(outbound_is_public(&other));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_counted),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_bad_plans),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_public_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
