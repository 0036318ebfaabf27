/*
 * test_probe.c -- what is found out about STUN servers and relays that do not behave; those that do are in test/t/007_health.pl.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/probe.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct Server
{
	int fd;
	uint16_t port;
	int silent;	 /* questions not answered */
	bool wrong;	 /* another's transaction */
	pthread_t thread;
} Server;

static void
server_open(Server *server, int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	server->fd = socket(AF_INET, type, 0);
	assert_int_equal(bind(server->fd, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(getsockname(server->fd, (struct sockaddr *) &address, &len), 0);
	server->port = ntohs(address.sin_port);
}

static void *
stun_main(void *arg)
{
	Server *server = arg;
	uint8_t in[1500], out[128], ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7};
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	ssize_t n;

	while ((n = recvfrom(server->fd, in, sizeof(in), 0, (struct sockaddr *) &from, &len)) > 1)
	{
		const uint8_t *txid;
		uint8_t id[WIRE_STUN_TXID_LEN];
		size_t size;

		assert_int_equal(wire_stun_get_request(&txid, in, (size_t) n), WIRE_OK);
		if (server->silent-- > 0)
			continue;
		memcpy(id, txid, sizeof(id));
		id[0] ^= server->wrong ? 1 : 0;
		size = wire_stun_put_response(out, sizeof(out), id, ip, 4711);
		sendto(server->fd, out, size, 0, (struct sockaddr *) &from, len);
	}
	return NULL;
}

static void
server_close(Server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	sendto(server->fd, "x", 1, 0, (struct sockaddr *) &address, sizeof(address));
	pthread_join(server->thread, NULL);
	close(server->fd);
}

static json_t *
ask_stun(int silent, bool wrong, int timeout_ms, const atomic_bool *stop)
{
	Server server = {.silent = silent, .wrong = wrong};
	ProbeTarget target = {.host = "127.0.0.1"};
	json_t *result;

	server_open(&server, SOCK_DGRAM);
	target.port = server.port;
	pthread_create(&server.thread, NULL, stun_main, &server);
	result = probe_stun(&target, timeout_ms, stop);
	server_close(&server);
	return result;
}

static void
test_stun(void **state)
{
	json_t *result = ask_stun(0, false, 5000, NULL);

	(void) state;
	assert_true(json_is_true(json_object_get(result, "can_stun")));
	assert_string_equal(json_string_value(json_object_get(result, "address")), "192.0.2.7:4711");
	assert_true(json_is_false(json_object_get(result, "ipv6")));
	assert_true(json_integer_value(json_object_get(result, "latency_ns")) > 0);
	json_decref(result);
	result = ask_stun(2, false, 5000, NULL);
	assert_true(json_is_true(json_object_get(result, "can_stun")));
	json_decref(result);
}

static void
test_stun_bad(void **state)
{
	atomic_bool stop = true;
	ProbeTarget unknown = {.host = "no.such.name.invalid", .port = 3478};
	json_t *result = ask_stun(100, false, 600, NULL);

	(void) state;
	assert_true(json_is_false(json_object_get(result, "can_stun")));
	assert_string_equal(json_string_value(json_object_get(result, "error")), "no answer");
	json_decref(result);
	result = ask_stun(0, true, 300, NULL);
	assert_true(json_is_false(json_object_get(result, "can_stun")));
	json_decref(result);
	result = ask_stun(0, false, 60000, &stop);
	assert_true(json_is_false(json_object_get(result, "can_stun")));
	json_decref(result);
	result = probe_stun(&unknown, 300, NULL);
	assert_true(json_is_false(json_object_get(result, "can_stun")));
	json_decref(result);
}

/* Fails within the time, with a reason. */
static void
expect_dead_relay(const ProbeTarget *target, int timeout_ms, const atomic_bool *stop)
{
	int64_t began = loop_clock();
	json_t *result = probe_relay(target, timeout_ms, stop);

	assert_true(json_is_false(json_object_get(result, "can_exchange_messages")));
	assert_true(json_string_length(json_object_get(result, "error")) > 0);
	assert_int_equal(json_array_size(json_object_get(result, "client_logs")), 2);
	assert_true(loop_clock() - began < (timeout_ms + 2000) * INT64_C(1000000));
	json_decref(result);
}

static void
test_dead_relay(void **state)
{
	Server server = {.silent = 0};
	ProbeTarget target = {.host = "127.0.0.1"};
	ProbeTarget unknown = {.host = "no.such.name.invalid", .port = 443, .tls = true};
	atomic_bool stop = true;

	(void) state;
	server_open(&server, SOCK_STREAM);
	target.port = server.port;
	expect_dead_relay(&target, 3000, NULL); /* refused */
	listen(server.fd, 5);
	expect_dead_relay(&target, 300, NULL); /* silent */
	expect_dead_relay(&target, 60000, &stop);
	target.tls = true;
	expect_dead_relay(&target, 300, NULL);
	close(server.fd);
	expect_dead_relay(&unknown, 300, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stun),
		cmocka_unit_test(test_stun_bad),
		cmocka_unit_test(test_dead_relay),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
