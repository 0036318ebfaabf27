/*
 * test_proxy.c -- answers of apps in every division, and what is kept from apps.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/stream/proxy.c"

typedef struct Body
{
	char text[256];
	size_t len;
} Body;

static void
on_test_body(void *arg, const char *data, size_t len)
{
	Body *body = arg;

	assert_true(body->len + len < sizeof(body->text));
	memcpy(body->text + body->len, data, len);
	body->len += len;
	body->text[body->len] = '\0';
}

/* Feeds a copy without a byte behind it, so that a read too far is seen. */
static size_t
feed(ProxyResponse *response, const char *text, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);
	size_t used;

	memcpy(copy, text, len);
	used = proxy_response_feed(response, copy, len);
	free(copy);
	return used;
}

static void
assert_field(const ProxyResponse *response, const char *name, const char *value)
{
	ProxyText found = proxy_find(response, name);

	assert_non_null(found.base);
	assert_int_equal(found.len, strlen(value));
	assert_memory_equal(found.base, value, found.len);
}

static const char chunked[] = "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\nHTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n"
							  "X-One:  some value \r\nX-Empty:\r\nX-Two: 2\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n";

static void
test_divisions(void **state)
{
	size_t len = sizeof(chunked) - 1;

	(void) state;
	for (size_t a = 0; a <= len; a++)
		for (size_t b = a; b <= len; b += 7)
		{
			ProxyResponse r;
			Body body = {.len = 0};

			proxy_response_init(&r, false, on_test_body, &body);
			assert_int_equal(feed(&r, chunked, a) + feed(&r, chunked + a, b - a) + feed(&r, chunked + b, len - b), len);
			assert_int_equal(r.state, PROXY_DONE);
			assert_int_equal(r.status, 201);
			assert_int_equal(r.content_length, -1);
			assert_int_equal(r.nfields, 4);
			assert_field(&r, "x-one", "some value ");
			assert_field(&r, "x-empty", "");
			assert_field(&r, "x-two", "2");
			assert_null(proxy_find(&r, "x-trailer").base);
			assert_null(proxy_find(&r, "x-early").base);
			assert_string_equal(body.text, "hello world");
			proxy_response_free(&r);
		}
}

static void
test_truncations(void **state)
{
	(void) state;
	for (size_t n = 0; n < sizeof(chunked) - 1; n++)
	{
		ProxyResponse r;
		Body body = {.len = 0};

		proxy_response_init(&r, false, on_test_body, &body);
		feed(&r, chunked, n);
		assert_int_equal(r.state, PROXY_MORE);
		proxy_response_end(&r);
		assert_int_equal(r.state, PROXY_BAD);
		proxy_response_free(&r);
	}
}

/* The end of text, as an answer; to_head: to a HEAD. */
static ProxyState
state_of(const char *text, bool to_head, bool end, char *body_text)
{
	ProxyResponse r;
	Body body = {.len = 0};
	ProxyState state;

	proxy_response_init(&r, to_head, on_test_body, &body);
	feed(&r, text, strlen(text));
	if (end)
		proxy_response_end(&r);
	state = r.state;
	strcpy(body_text, body.text);
	proxy_response_free(&r);
	return state;
}

static void
test_ends(void **state)
{
	char body[256];

	(void) state;
	assert_int_equal(state_of("HTTP/1.0 200 OK\r\n\r\nall of it", false, false, body), PROXY_MORE);
	assert_int_equal(state_of("HTTP/1.0 200 OK\r\n\r\nall of it", false, true, body), PROXY_DONE);
	assert_string_equal(body, "all of it");
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfourmore", false, false, body), PROXY_DONE);
	assert_string_equal(body, "four");
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", false, true, body), PROXY_BAD);
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", true, false, body), PROXY_DONE);
	assert_int_equal(state_of("HTTP/1.1 204 No\r\n\r\n", false, false, body), PROXY_DONE);
	assert_int_equal(state_of("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", false, false, body), PROXY_DONE);
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfour", false, false, body), PROXY_BAD);
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", false, false, body), PROXY_BAD);
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nX y: 1\r\n\r\n", false, false, body), PROXY_BAD);
	assert_int_equal(state_of("no HTTP at all\r\n\r\n", false, false, body), PROXY_BAD);
	assert_int_equal(state_of("", false, true, body), PROXY_BAD);
	assert_int_equal(state_of("GET / HTTP/1.1\r\n\r\n", false, false, body), PROXY_BAD);
}

static void
test_upgrade(void **state)
{
	static const char text[] = "HTTP/1.1 101 Other\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello";
	ProxyResponse r;
	Body body = {.len = 0};
	char ignored[256];

	(void) state;
	proxy_response_init(&r, false, on_test_body, &body);
	assert_int_equal(feed(&r, text, sizeof(text) - 1), sizeof(text) - 1 - 7);
	assert_int_equal(r.state, PROXY_UPGRADED);
	assert_int_equal(r.status, 101);
	assert_int_equal(feed(&r, "x", 1), 0);
	proxy_response_free(&r);
	assert_int_equal(state_of("HTTP/1.1 101 Other\r\n\r\n", false, false, ignored), PROXY_BAD);
	/* An offer is no upgrade. */
	assert_int_equal(state_of("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n", false, false, ignored),
					 PROXY_DONE);
}

static void
test_limits(void **state)
{
	ProxyResponse r;
	Body body = {.len = 0};
	char line[64];

	(void) state;
	proxy_response_init(&r, false, on_test_body, &body);
	feed(&r, "HTTP/1.1 200 OK\r\n", 17);
	for (int i = 0; i < PROXY_MAX_FIELDS; i++)
		feed(&r, line, (size_t) snprintf(line, sizeof(line), "x-%d: 1\r\n", i));
	assert_int_equal(r.state, PROXY_MORE);
	feed(&r, "x: 1\r\n", 6);
	assert_int_equal(r.state, PROXY_BAD);
	proxy_response_free(&r);

	proxy_response_init(&r, false, on_test_body, &body);
	feed(&r, "HTTP/1.1 200 OK\r\nx: ", 20);
	for (int i = 0; i < PROXY_MAX_HEAD / 64 && r.state == PROXY_MORE; i++)
		feed(&r, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 64);
	assert_int_equal(r.state, PROXY_BAD);
	proxy_response_free(&r);
}

static void
assert_cookies(const char *given, const char *kept)
{
	size_t len = strlen(given);
	char *copy = malloc(len + 1);
	char *out = malloc(2 * len + 1);
	size_t n;

	memcpy(copy, given, len);
	n = proxy_strip_cookies(out, copy, len);
	out[n] = '\0';
	assert_string_equal(out, kept);
	free(copy);
	free(out);
}

static void
test_cookies(void **state)
{
	(void) state;
	assert_cookies("", "");
	assert_cookies("a=1", "a=1");
	assert_cookies("a;b;c;d=", "a; b; c; d=");
	assert_cookies("coder_session_token=x", "");
	assert_cookies("a=1; coder_session_token=x-y;b=\"2\"", "a=1; b=\"2\"");
	assert_cookies(" ;; coder_session_token = x;__Host-coder_session_token=1; CODER_SESSION_TOKEN=1 ;z", "z");
	assert_cookies("coder_subdomain_app_session_token_0a=1; coder_signed_app_token=2; coder_path_app_session_token=3; coder=4",
				   "coder=4");
	assert_cookies("my_coder_session_token=1; coder_session_token2=2", "my_coder_session_token=1; coder_session_token2=2");
	assert_true(proxy_is_own_cookie((ProxyText){"coder_session_token=; Path=/", 28}));
	assert_false(proxy_is_own_cookie((ProxyText){"sid=coder_session_token", 23}));
}

static void
assert_query(const char *given, const char *kept)
{
	char out[200];
	size_t n = proxy_strip_query(out, given, strlen(given));

	out[n] = '\0';
	assert_string_equal(out, kept);
}

static void
test_queries(void **state)
{
	(void) state;
	assert_query("", "");
	assert_query("a=1&&b", "a=1&&b");
	assert_query("coder_session_token=x", "");
	assert_query("a=1&coder_session_token=x&b=2", "a=1&b=2");
	assert_query("access_token=of-the-app&access_token=0123456789-0123456789abcdefABCDEF", "access_token=of-the-app");
	assert_false(proxy_is_token("0123456789-0123456789abcdefABCDE_", 33));
	assert_false(proxy_is_token("0123456789-0123456789abcdefABCDE", 32));
}

static void
assert_behind(const char *path, const char *rest)
{
	ProxyText found = proxy_behind(path, strlen(path), 4);

	assert_int_equal(found.len, strlen(rest));
	assert_memory_equal(found.base, rest, found.len);
}

static void
test_fields_and_paths(void **state)
{
	ProxyText connection = {"close , X-Own\t,", 15};

	(void) state;
	assert_true(proxy_is_hop((ProxyText){"x-own", 5}, connection));
	assert_true(proxy_is_hop((ProxyText){"Transfer-Encoding", 17}, (ProxyText){NULL, 0}));
	assert_false(proxy_is_hop((ProxyText){"x-ow", 4}, connection));
	assert_behind("/@u/w/apps/s/a/b?q=/", "/a/b?q=/");
	assert_behind("/@u/w/apps/s/", "/");
	assert_behind("/@u/w/apps/s", "/");
	assert_behind("/@u/w/apps/s?x=/y", "/");
	assert_behind("//@u//w/apps//s//a", "//a");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_divisions), cmocka_unit_test(test_truncations), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_upgrade),	  cmocka_unit_test(test_limits),	  cmocka_unit_test(test_cookies),
		cmocka_unit_test(test_queries),	  cmocka_unit_test(test_fields_and_paths)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
