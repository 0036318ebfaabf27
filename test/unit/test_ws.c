/*
 * test_ws.c -- the WebSocket client's life: each end leaves nothing in the loop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "loop.c"
#include "net/conn.c"
#include "wire/wsframe.c"
#include "net/ws.c"

typedef struct Test
{
	Loop *loop;
	int listener;
	int server; /* the accepted connection, -1: none yet */
	char url[64];
	bool close_on_open;
	int opened;
	int closed;
	int messages;
	int code;
} Test;

static Test test;

static void
on_test_open(void *arg, NetWs *ws)
{
	(void) arg;
	test.opened++;
	if (test.close_on_open)
		net_ws_close(ws, 1000, "bye");
}

static void
on_test_message(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size)
{
	(void) arg;
	(void) text;
	(void) data;
	(void) size;
	test.messages++;
	net_ws_close(ws, 1000, "enough");
}

static void
on_test_close(void *arg, NetWs *ws, int status, int code, const char *reason)
{
	(void) arg;
	(void) ws;
	(void) status;
	(void) reason;
	test.closed++;
	test.code = code;
}

static const NetWsHandlers handlers = {on_test_open, on_test_message, on_test_close, NULL};

static int
setup(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	(void) state;
	memset(&test, 0, sizeof(test));
	test.server = -1;
	test.loop = loop_create();
	test.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (test.loop == NULL || bind(test.listener, (struct sockaddr *) &address, len) != 0 ||
		listen(test.listener, 4) != 0 || getsockname(test.listener, (struct sockaddr *) &address, &len) != 0)
		return -1;
	snprintf(test.url, sizeof(test.url), "http://127.0.0.1:%d/x", ntohs(address.sin_port));
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	loop_destroy(test.loop);
	close(test.listener);
	if (test.server >= 0)
		close(test.server);
	return 0;
}

/* The server takes the connection and reads the request; more: bytes sent with the answer. */
static void
serve_upgrade(const char *more, size_t n)
{
	static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
	char request[4096];

	test.server = accept(test.listener, NULL, NULL);
	assert_true(test.server >= 0);
	assert_true(recv(test.server, request, sizeof(request), 0) > 0);
	assert_int_equal(send(test.server, answer, sizeof(answer) - 1, 0), sizeof(answer) - 1);
	assert_int_equal(send(test.server, more, n, 0), (ssize_t) n);
}

/* Rounds of the loop until the count is reached, 5 s at most. */
static void
run_until(const int *count)
{
	int64_t limit = loop_clock() + INT64_C(5000000000);

	while (*count == 0 && loop_clock() < limit)
		loop_once(test.loop, 20);
	assert_int_equal(*count, 1);
}

static void
nothing_is_left(void)
{
	loop_once(test.loop, 0);
	assert_int_equal(test.closed, 1);
	assert_int_equal(test.loop->timers, 0);
	assert_null(test.loop->watches);
}

/* Our close is answered. */
static void
a_close_that_is_answered(void **state)
{
	(void) state;
	test.close_on_open = true;
	assert_non_null(net_ws_connect(test.loop, test.url, NULL, &handlers, NULL));
	serve_upgrade("", 0);
	run_until(&test.opened);
	assert_int_equal(send(test.server, "\x88\x02\x03\xe8", 4, 0), 4);
	run_until(&test.closed);
	assert_int_equal(test.code, 1000);
	nothing_is_left();
}

/* The connection breaks instead. */
static void
a_close_that_meets_a_reset(void **state)
{
	static const struct linger reset = {1, 0};

	(void) state;
	test.close_on_open = true;
	assert_non_null(net_ws_connect(test.loop, test.url, NULL, &handlers, NULL));
	serve_upgrade("", 0);
	run_until(&test.opened);
	setsockopt(test.server, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(test.server);
	test.server = -1;
	run_until(&test.closed);
	assert_int_equal(test.code, 1006);
	nothing_is_left();
}

/* Nobody answers: 2 s later it is over. */
static void
a_close_that_nobody_answers(void **state)
{
	int64_t began = loop_clock();

	(void) state;
	test.close_on_open = true;
	assert_non_null(net_ws_connect(test.loop, test.url, NULL, &handlers, NULL));
	serve_upgrade("", 0);
	run_until(&test.closed);
	assert_true(loop_clock() - began > INT64_C(1900000000));
	nothing_is_left();
}

/* A message that came with the answer makes its owner close. */
static void
a_close_by_a_message(void **state)
{
	(void) state;
	assert_non_null(net_ws_connect(test.loop, test.url, NULL, &handlers, NULL));
	serve_upgrade("\x82\x01x\x88\x02\x03\xe9", 7);
	run_until(&test.closed);
	assert_int_equal(test.messages, 1);
	assert_int_equal(test.code, 1001);
	nothing_is_left();
}

/* The owner has closed before the server answers: it is never opened. */
static void
a_close_before_the_answer(void **state)
{
	NetWs *ws = net_ws_connect(test.loop, test.url, NULL, &handlers, NULL);

	(void) state;
	assert_non_null(ws);
	net_ws_close(ws, 1000, "");
	serve_upgrade("", 0);
	run_until(&test.closed);
	assert_int_equal(test.opened, 0);
	nothing_is_left();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_close_that_is_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(a_close_that_meets_a_reset, setup, teardown),
		cmocka_unit_test_setup_teardown(a_close_that_nobody_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(a_close_by_a_message, setup, teardown),
		cmocka_unit_test_setup_teardown(a_close_before_the_answer, setup, teardown),
	};

	return cmocka_run_group_tests_name("ws", tests, NULL, NULL);
}
