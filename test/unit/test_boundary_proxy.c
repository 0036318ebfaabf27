/*
 * test_boundary_proxy.c -- what a boundary reads: rules, its file, requests, questions for names.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../agent/boundary/rules.c"
#include "../../agent/boundary/config.c"
#include "../../agent/boundary/dns.c"
#include "../../agent/boundary/http.c"

static bool
allows(const char *rule, const char *method, const char *host, const char *target)
{
	BoundaryRules rules = {0};
	char error[600];
	bool allowed;

	assert_true(boundary_rules_add(&rules, rule, error, sizeof(error)));
	allowed = boundary_rules_match(&rules, method, host, target) != NULL;
	boundary_rules_free(&rules);
	return allowed;
}

static void
rules_of_methods(void **state)
{
	(void) state;
	assert_true(allows("method=GET,HEAD domain=a.io", "HEAD", "a.io", "/"));
	assert_false(allows("method=GET,HEAD domain=a.io", "POST", "a.io", "/"));
	assert_false(allows("method=GET domain=a.io", "GETX", "a.io", "/"));
	assert_false(allows("method=GETX", "GET", "a.io", "/"));
	assert_false(allows("method=get", "GET", "a.io", "/"));
	assert_true(allows("method=*", "M-SEARCH", "a.io", "/"));
	assert_true(allows("method=GET method=POST", "POST", "a.io", "/"));
}

static void
rules_of_domains(void **state)
{
	(void) state;
	assert_true(allows("domain=github.com", "GET", "github.com", "/x?y"));
	assert_true(allows("domain=GitHub.com", "GET", "github.com", "/"));
	assert_false(allows("domain=github.com", "GET", "api.github.com", "/"));
	assert_false(allows("domain=github.com", "GET", "github.com.evil.io", "/"));
	assert_false(allows("domain=github.com", "GET", "evilgithub.com", "/"));
	assert_true(allows("domain=*.github.com", "GET", "api.github.com", "/"));
	assert_true(allows("domain=*.github.com", "GET", "a.b.github.com", "/"));
	assert_false(allows("domain=*.github.com", "GET", "github.com", "/"));
	assert_false(allows("domain=*.github.com", "GET", ".github.com", "/"));
	assert_true(allows("domain=api.*.com", "GET", "api.x.com", "/"));
	assert_false(allows("domain=api.*.com", "GET", "api.x.y.com", "/"));
	assert_true(allows("domain=*", "GET", "2001:db8::1", "/"));
	assert_true(allows("domain=10.0.0.1", "GET", "10.0.0.1", "/"));
	assert_true(allows("path=/x", "GET", "anything.io", "/x"));
}

static void
rules_of_paths(void **state)
{
	(void) state;
	assert_true(allows("path=/x/*", "GET", "a.io", "/x/1/2?q=/y"));
	assert_true(allows("path=/x/*", "GET", "a.io", "/x/"));
	assert_false(allows("path=/x/*", "GET", "a.io", "/x"));
	assert_false(allows("path=/x/*", "GET", "a.io", "/y/x/1"));
	assert_true(allows("path=/a/*/c", "GET", "a.io", "/a/b/c"));
	assert_false(allows("path=/a/*/c", "GET", "a.io", "/a/b/b/c"));
	assert_false(allows("path=/a/*/c", "GET", "a.io", "/a/b/c/d"));
	assert_true(allows("path=/a,/b/*", "GET", "a.io", "/b/c"));
	assert_true(allows("path=/a path=/b", "GET", "a.io", "/b"));
	assert_false(allows("path=/a", "GET", "a.io", "/a/"));
	assert_true(allows("path=/", "GET", "a.io", "/anything"));
	assert_true(allows("path=*", "GET", "a.io", "/any/thing"));
	assert_true(allows("path=/a%20b", "GET", "a.io", "/a%20b"));
	assert_true(allows("path=/ab", "GET", "a.io", "/%61b"));
	assert_false(allows("path=/ab", "GET", "a.io", "/AB"));
	assert_true(allows("path=/*", "GET", "a.io", "/@scope%2fname"));
}

/* What servers read differently matches no rule that names a path. */
static void
paths_that_lie(void **state)
{
	static const char *const paths[] = {"/x/../y", "/x/%2e%2e/y", "/x/.%2E/y", "/x/./y", "/x/..", "/x/..;a/y", "/x/..%2fy", "/x/%2e%2e%2fy", "/x\\..\\y",
										"/x/%5c../y", "/x/\x01", "/x/%00", "/x/%", "/x/%4", "/x/%zz", "x/y", "*"};

	(void) state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		assert_false(allows("path=/x/*", "GET", "a.io", paths[i]));
		assert_true(allows("domain=a.io", "GET", "a.io", paths[i]));
	}
	assert_false(allows("path=/a/b", "GET", "a.io", "/a%2fb"));
	assert_true(allows("path=/x/*", "GET", "a.io", "/x/...")); /* a name like others */
}

static void
rules_that_are_none(void **state)
{
	static const char *const bad[] = {"", "   ", "github.com", "domain", "domain=", "domain=a..b", "domain=-a.io", "domain=a-.io", "domain=a.*", "domain=a*.io",
									  "domain=a.io domain=b.io", "domain=a.io,b.io", "method=", "method=GET,", "method=G T", "path=/a*", "path=/*a", "path=/%zz",
									  "path=/a?b", "host=a.io", "Domain=a.io", "domain=a.io/x", "domain=http://a.io", "domain=a_b.io"};
	BoundaryRules rules = {0};
	char error[600], *longest = malloc(BOUNDARY_RULE_MAX + 20);

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		error[0] = '\0';
		assert_false(boundary_rules_add(&rules, bad[i], error, sizeof(error)));
		assert_string_not_equal(error, "");
	}
	memset(longest, 'a', BOUNDARY_RULE_MAX + 19);
	memcpy(longest, "path=/", 6);
	longest[BOUNDARY_RULE_MAX + 19] = '\0';
	assert_false(boundary_rules_add(&rules, longest, error, sizeof(error)));
	assert_int_equal(rules.n, 0);
	assert_null(boundary_rules_match(&rules, "GET", "a.io", "/"));
	boundary_rules_free(&rules);
	free(longest);
}

static bool
config(const char *text, BoundaryConfig *c, BoundaryRules *rules, char *error)
{
	*rules = (BoundaryRules) {0};
	return boundary_config_read(c, rules, text, strlen(text), error, 600);
}

static void
files(void **state)
{
	static const char *const good[] = {"", "# nothing\n", "allowlist:\n", "allowlist: []\n", "---\nlog_level: debug\n", "pprof_enabled: true\n"};
	static const char *const bad[] = {"allowlist: domain=a.io\n", "allowlist:\n  - [a]\n", "allowlist:\n  - nonsense\n", "unknown: 1\n", "log_level: [x]\n", "- a\n",
									  "a: b: c\n", "\tx", "just a text\n", "log_level: &a [*a]\n", "\xff\xfe\x01"};
	BoundaryConfig c;
	BoundaryRules rules;
	char error[600];

	(void) state;
	assert_true(config("allowlist:\n  - domain=a.io # comment\n  - \"method=GET,HEAD path=/x,/y\"\nlog_level: info\nproxy_port: 9090\nuse_real_dns: true\n", &c, &rules, error));
	assert_int_equal(rules.n, 2);
	assert_string_equal(rules.list[0].text, "domain=a.io");
	assert_string_equal(c.log_level, "info");
	assert_string_equal(c.proxy_port, "9090");
	assert_string_equal(c.use_real_dns, "true");
	assert_null(c.jail_type);
	boundary_config_free(&c);
	boundary_rules_free(&rules);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		assert_true(config(good[i], &c, &rules, error));
		assert_int_equal(rules.n, 0);
		boundary_config_free(&c);
		boundary_rules_free(&rules);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		assert_false(config(bad[i], &c, &rules, error));
		assert_non_null(strstr(error, "line "));
		boundary_rules_free(&rules);
	}
	assert_false(config("allowlist:\n  - domain=a.io\n  - domain=a..io\n", &c, &rules, error));
	assert_non_null(strstr(error, "line 3: rule \"domain=a..io\""));
	boundary_rules_free(&rules);
}

static void
questions(void **state)
{
	static const uint8_t query[] = {0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'W', 'w', 'w', 1, 'a', 2, 'i', 'o', 0, 0, 1, 0, 1};
	static const uint8_t address[] = {198, 18, 0, 1};
	uint8_t out[DNS_MAX], data[sizeof(query)];
	DnsQuestion question;
	size_t n;

	(void) state;
	assert_true(dns_question(&question, query, sizeof(query)));
	assert_string_equal(question.name, "www.a.io");
	assert_int_equal(question.type, DNS_TYPE_A);
	n = dns_answer(out, query, &question, address);
	assert_int_equal(n, sizeof(query) + 16);
	assert_memory_equal(out, "\xab\xcd\x81\x80\0\1\0\1\0\0\0\0", 12);
	assert_memory_equal(out + n - 4, address, 4);
	assert_int_equal(dns_answer(out, query, &question, NULL), sizeof(query));
	assert_int_equal(out[7], 0);
	for (size_t i = 0; i < sizeof(query); i++)
		assert_false(dns_question(&question, query, i));
	memcpy(data, query, sizeof(data));
	data[2] = 0x81; /* an answer */
	assert_false(dns_question(&question, data, sizeof(data)));
	data[2] = 1;
	data[5] = 2; /* two questions */
	assert_false(dns_question(&question, data, sizeof(data)));
	data[5] = 1;
	data[12] = 0xc0; /* a pointer */
	assert_false(dns_question(&question, data, sizeof(data)));
	data[12] = 3;
	data[14] = '.';
	data[15] = 0;
	assert_true(dns_question(&question, data, sizeof(data)));
	assert_string_equal(question.name, "w??.a.io");
	data[25] = 3; /* chaos */
	assert_false(dns_question(&question, data, sizeof(data)));
}

/* Feeds a message in pieces of some size; what goes on to the server, or NULL. */
static char *
pass(const char *text, size_t piece, HttpTarget *target)
{
	HttpMessage message;
	HttpBuffer in = {0}, all = {0};
	size_t used, at = 0;
	bool ok = true, headed = false;

	http_message_init(&message, false, false);
	while (ok && !message.done && (at < strlen(text) || in.size > 0))
	{
		size_t n = strlen(text) - at < piece ? strlen(text) - at : piece;

		http_buffer_add(&in, text + at, n);
		at += n;
		for (size_t rounds = 0; ok && in.size > 0 && !message.done && rounds < 3; rounds++)
		{
			ok = http_message_input(&message, in.data, in.size, &used);
			http_buffer_take(&in, used);
			if (ok && message.head_done && !headed)
			{
				headed = true;
				ok = http_target(target, &message, false, 80);
				if (ok)
					http_request_head(&message, target->path, target->authority);
			}
		}
	}
	if (ok && message.done)
		http_buffer_add(&all, message.out.data, message.out.size);
	else
		http_buffer_free(&all);
	http_buffer_free(&in);
	http_message_free(&message);
	return all.data;
}

static void
passes(const char *text, const char *want, const char *host, int port)
{
	for (size_t piece = 1; piece < 80; piece += 13)
	{
		HttpTarget target;
		char *got = pass(text, piece, &target);

		assert_non_null(got);
		/* A body in pieces has other chunks. */
		if (piece > 60 || strstr(want, "chunked") == NULL)
			assert_string_equal(got, want);
		assert_string_equal(target.host, host);
		assert_int_equal(target.port, port);
		free(got);
	}
}

static void
requests(void **state)
{
	(void) state;
	passes("GET /a?b HTTP/1.1\r\nHost: A.io\r\nAccept: x\r\nConnection: keep-alive, X-Y\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: a.io\r\nAccept: x\r\n\r\n", "a.io", 80);
	passes("GET / HTTP/1.1\r\nhost: a.io:8080\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.io:8080\r\n\r\n", "a.io", 8080);
	passes("GET http://b.io:81/x HTTP/1.1\r\nHost: a.io\r\nProxy-Connection: close\r\nProxy-Authorization: z\r\n\r\n", "GET /x HTTP/1.1\r\nHost: b.io:81\r\n\r\n", "b.io", 81);
	passes("GET http://b.io HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: b.io\r\n\r\n", "b.io", 80);
	passes("GET / HTTP/1.1\r\nHost: [2001:DB8::1]:90\r\n\r\n", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:90\r\n\r\n", "2001:db8::1", 90);
	passes("GET / HTTP/1.1\r\nHost: a.io.\r\nEmpty:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.io\r\nEmpty: \r\n\r\n", "a.io", 80);
	passes("POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 3\r\n\r\nabcGET /next HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 3\r\n\r\nabc", "a.io", 80);
	passes("POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\nrest",
		   "POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "a.io", 80);
	passes("GET /ws HTTP/1.1\r\nHost: a.io\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		   "GET /ws HTTP/1.1\r\nHost: a.io\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "a.io", 80);
	passes("GET / HTTP/1.1\r\nHost: a.io\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.io\r\n\r\n", "a.io", 80);
	passes("CONNECT a.io:443 HTTP/1.1\r\nHost: a.io:443\r\n\r\n", "CONNECT a.io:443 HTTP/1.1\r\nHost: a.io:443\r\n\r\n", "a.io", 443);
}

static void
requests_that_are_none(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io\r\nHost: b.io\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io, b.io\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: user@a.io\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io/x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io:99999\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"GET http://a.io@b.io/ HTTP/1.1\r\nHost: a.io\r\n\r\n",
		"GET http://a.io?x HTTP/1.1\r\nHost: a.io\r\n\r\n",
		"GET ftp://a.io/ HTTP/1.1\r\nHost: a.io\r\n\r\n",
		"CONNECT / HTTP/1.1\r\nHost: a.io\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io\r\nA b: c\r\n\r\n",
		"GET / HTTP/1.1\r\nHost : a.io\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.io\r\nX: a\x01" "b\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"FOO / HTTP/1.1\r\nHost: a.io\r\n\r\n",
		"\x16\x03\x01",
	};
	HttpTarget target;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char *got = pass(bad[i], 4096, &target);

		if (got != NULL)
			print_error("passed: %s", bad[i]);
		assert_null(got);
		assert_null(pass(bad[i], 1, &target));
	}
}

static void
a_long_head(void **state)
{
	size_t size = HTTP_HEAD_MAX * 2;
	char *text = malloc(size + 1);
	HttpTarget target;

	(void) state;
	memset(text, 'a', size);
	memcpy(text, "GET / HTTP/1.1\r\nHost: a.io\r\nX: ", 32);
	text[size] = '\0';
	assert_null(pass(text, 4096, &target));
	memcpy(text, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaa", 32);
	assert_null(pass(text, 4096, &target));
	free(text);
}

/* An answer as the client gets it. */
static void
answers(const char *text, bool no_body, bool ends, const char *want)
{
	HttpMessage message;
	HttpBuffer in = {0};
	size_t used;
	bool headed = false;

	http_message_init(&message, true, no_body);
	http_buffer_add(&in, text, strlen(text));
	for (int round = 0; round < 6 && !message.done && (in.size > 0 || ends); round++)
	{
		assert_true(http_message_input(&message, in.size > 0 ? in.data : "", in.size, &used));
		http_buffer_take(&in, used);
		if (message.head_done && !headed)
			http_answer_head(&message, !message.close);
		headed = message.head_done;
	}
	assert_true(message.done);
	assert_string_equal(message.out.data, want);
	http_buffer_free(&in);
	http_message_free(&message);
}

static void
replies(void **state)
{
	(void) state;
	answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nab", false, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\nConnection: keep-alive\r\n\r\nab");
	answers("HTTP/1.0 200 Fine\r\n\r\nab", false, true, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab");
	answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", false, false,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nab\r\n0\r\n\r\n");
	answers("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", true, false, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: keep-alive\r\n\r\n");
	answers("HTTP/1.1 204 No Content\r\n\r\n", false, false, "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n");
	answers("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
	answers("HTTP/1.1 100 Continue\r\n\r\n", false, false, "HTTP/1.1 100 Continue\r\n\r\n");
	answers("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false, false,
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	answers("HTTP/1.1 200 OK\r\nUpgrade: h2\r\nContent-Length: 0\r\n\r\n", false, false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rules_of_methods), cmocka_unit_test(rules_of_domains), cmocka_unit_test(rules_of_paths), cmocka_unit_test(paths_that_lie),
		cmocka_unit_test(rules_that_are_none), cmocka_unit_test(files), cmocka_unit_test(questions), cmocka_unit_test(requests),
		cmocka_unit_test(requests_that_are_none), cmocka_unit_test(a_long_head), cmocka_unit_test(replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
