/*
 * test_net.c -- addresses of servers, and their answers, as the client reads them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>

#include "net/conn.c"
#include "net/http.c"

static void
urls_that_are_good(void **state)
{
	static const struct
	{
		const char *text;
		bool tls;
		const char *host;
		int port;
		const char *path;
	} good[] = {
		{"http://127.0.0.1:7080", false, "127.0.0.1", 7080, "/"},
		{"https://coder.example.com", true, "coder.example.com", 443, "/"},
		{"HTTP://example.com/api?x=1#part", false, "example.com", 80, "/api?x=1"},
		{"https://example.com?x=1", true, "example.com", 443, "/?x=1"},
		{"http://[::1]:8080/a", false, "::1", 8080, "/a"},
		{"wss://[fd7a:115c::1]/", true, "fd7a:115c::1", 443, "/"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		NetUrl url;

		assert_true(net_url_parse(&url, good[i].text));
		assert_int_equal(url.tls, good[i].tls);
		assert_string_equal(url.host, good[i].host);
		assert_int_equal(url.port, good[i].port);
		assert_string_equal(url.path, good[i].path);
	}
}

static void
urls_that_are_not(void **state)
{
	static const char *const bad[] = {
		"", "example.com", "ftp://example.com", "http://", "http:///path", "http://:80", "http://host:0",
		"http://host:65536", "http://host:80x", "http://host:", "http://[::1", "http://[]", "http://user@host",
		"http://[::1]:x/",
	};
	char longest[5000];
	NetUrl url;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(net_url_parse(&url, bad[i]));
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memcpy(longest, "http://", 7);
	assert_false(net_url_parse(&url, longest)); /* a host without end */
	memcpy(longest, "http://h/", 9);
	assert_false(net_url_parse(&url, longest)); /* a path without end */
}

/* What read_response() makes of a server that says text and closes; its result. */
static int
answer(const char *method, const char *text, size_t size, NetResponse *response, char *error)
{
	NetConn conn = {-1, NULL};
	int fds[2];
	int result;

	memset(response, 0, sizeof(*response));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn.fd = fds[0];
	assert_int_equal(send(fds[1], text, size, 0), (ssize_t) size);
	shutdown(fds[1], SHUT_WR);
	result = read_response(&conn, method, response, NULL, error, 256);
	net_close(&conn);
	close(fds[1]);
	return result;
}

static const char chunked[] = "HTTP/1.1 404 Not Found\r\nX-Coder-Build-Version: v2.32.0\r\nLocation: /there\r\n"
							  "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

static void
answers_are_read(void **state)
{
	static const char plain[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n";
	NetResponse r;
	char error[256];

	(void) state;
	assert_int_equal(answer("GET", chunked, sizeof(chunked) - 1, &r, error), 0);
	assert_int_equal(r.status, 404);
	assert_string_equal(r.body, "abcde");
	assert_string_equal(r.build_version, "v2.32.0");
	assert_string_equal(r.location, "/there");
	assert_true(r.keep);
	net_response_free(&r);
	assert_int_equal(answer("GET", plain, sizeof(plain) - 1, &r, error), 0);
	assert_string_equal(r.body, "{}");
	net_response_free(&r);
	assert_int_equal(answer("HEAD", head, sizeof(head) - 1, &r, error), 0);
	assert_int_equal(r.size, 0);
	net_response_free(&r);
}

static void
every_truncation_is_an_error(void **state)
{
	NetResponse r;
	char error[256];

	(void) state;
	assert_int_equal(answer("GET", chunked, 0, &r, error), 1); /* nothing came: may be asked again */
	net_response_free(&r);
	for (size_t n = 1; n < sizeof(chunked) - 1; n++)
	{
		assert_int_equal(answer("GET", chunked, n, &r, error), -1);
		net_response_free(&r);
	}
}

static void
noise_is_an_error(void **state)
{
	static const char *const noise[] = {"SSH-2.0-Go\r\n", "HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"};
	NetResponse r;
	char error[256];

	(void) state;
	for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
	{
		assert_int_equal(answer("GET", noise[i], strlen(noise[i]), &r, error), -1);
		net_response_free(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_that_are_good),
		cmocka_unit_test(urls_that_are_not),
		cmocka_unit_test(answers_are_read),
		cmocka_unit_test(every_truncation_is_an_error),
		cmocka_unit_test(noise_is_an_error),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
