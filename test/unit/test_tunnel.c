/*
 * test_tunnel.c -- two endpoints over a relay: handshake, pings, streams with
 * half-close and back-pressure, refused ports, lost packets.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "derp_double.h"
#include "tunnel/tunnel.h"

#define LIMIT_NS INT64_C(60000000000)

typedef struct End
{
	Tunnel *tunnel;
	struct End *other;
	uint8_t id[16], address[16];
	int accepted; /* fd, -1: none yet */
	int accepts;
	int ups;
	TunnelPong pong;
	bool ponged;
	int dialled; /* INT32_MIN: not yet */
} End;

static Loop *loop;
static DerpDouble relay;
static End ends[2];

/* Runs the loop until *flag-like condition holds. */
#define WAIT_FOR(condition)                                                                        \
	do                                                                                             \
	{                                                                                              \
		int64_t until = loop_clock() + LIMIT_NS;                                                   \
		while (!(condition) && loop_clock() < until)                                               \
			loop_once(loop, 100);                                                                  \
		assert_true(condition);                                                                    \
	} while (0)

/* The coordinator of this test: hands each node to the other end. */
static void
on_node(void *arg, const TunnelNode *self)
{
	End *end = arg;

	tunnel_peer_update(end->other->tunnel, end->id, TUNNEL_PEER_NODE, self);
	if (end == &ends[1])
		tunnel_peer_update(end->other->tunnel, end->id, TUNNEL_PEER_READY_FOR_HANDSHAKE, NULL);
}

static void
on_state(void *arg, const uint8_t *peer, TunnelPeerState state)
{
	(void) peer;
	if (state == TUNNEL_PEER_UP)
		((End *) arg)->ups++;
}

static bool
may_accept(void *arg, const uint8_t *address, uint16_t port)
{
	End *end = arg;

	assert_memory_equal(address, end->other->address, 16);
	return port != 99;
}

static void
on_accepted(void *arg, int fd, const uint8_t *address, uint16_t peer_port, uint16_t port)
{
	End *end = arg;

	(void) peer_port;
	assert_memory_equal(address, end->other->address, 16);
	assert_int_equal(port, 4242);
	end->accepted = fd;
	end->accepts++;
}

static int
setup(void **state)
{
	(void) state;
	loop = loop_create();
	double_start(&relay, loop);
	TunnelDerpNode node = {.host = "127.0.0.1", .port = relay.port, .force_http = true};
	TunnelDerpRegion region = {.id = 999, .nodes = &node, .nnodes = 1};
	TunnelDerpMap map = {.regions = &region, .nregions = 1};

	memset(ends, 0, sizeof(ends));
	for (int i = 0; i < 2; i++)
	{
		End *end = &ends[i];
		TunnelConfig config = {.destination = i == 1,
							   .naddresses = 1,
							   .arg = end,
							   .node_changed = on_node,
							   .peer_state = on_state,
							   .may_accept = may_accept,
							   .accepted = on_accepted};

		end->other = &ends[1 - i];
		end->accepted = -1;
		end->dialled = INT32_MIN;
		tunnel_random_id(end->id);
		tunnel_address(end->address, end->id, false);
		memcpy(config.addresses[0], end->address, 16);
		end->tunnel = tunnel_create(loop, &config);
		assert_non_null(end->tunnel);
	}
	for (int i = 0; i < 2; i++)
		tunnel_set_derp_map(ends[i].tunnel, &map);
	WAIT_FOR(ends[0].ups > 0 && ends[1].ups > 0);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++)
	{
		if (ends[i].accepted >= 0)
			close(ends[i].accepted);
		tunnel_close(ends[i].tunnel);
	}
	double_stop(&relay);
	loop_once(loop, 0);
	loop_destroy(loop);
	return 0;
}

static void
on_pong(void *arg, const TunnelPong *pong)
{
	End *end = arg;

	end->pong = *pong;
	end->ponged = true;
}

static void
test_pings(void **state)
{
	(void) state;
	for (int kind = TUNNEL_PING_DISCO; kind <= TUNNEL_PING_ICMP; kind++)
		for (int i = 0; i < 2; i++)
		{
			ends[i].ponged = false;
			assert_non_null(tunnel_ping(ends[i].tunnel,
										ends[1 - i].address,
										(TunnelPingKind) kind,
										5000,
										on_pong,
										&ends[i]));
			WAIT_FOR(ends[i].ponged);
			assert_int_equal(ends[i].pong.error, 0);
			assert_int_equal(ends[i].pong.derp_region, 999);
			assert_true(ends[i].pong.latency_ns > 0);
		}
}

static void
test_ping_nobody(void **state)
{
	uint8_t nobody[16] = {0xfd};

	(void) state;
	assert_non_null(
		tunnel_ping(ends[0].tunnel, nobody, TUNNEL_PING_TSMP, 100, on_pong, &ends[0]));
	WAIT_FOR(ends[0].ponged);
	assert_int_equal(ends[0].pong.error, -ETIMEDOUT);
}

static void
on_dialled(void *arg, int fd)
{
	((End *) arg)->dialled = fd;
}

static int
dial(uint16_t port)
{
	assert_non_null(
		tunnel_dial(ends[0].tunnel, ends[1].address, port, 10000, on_dialled, &ends[0]));
	WAIT_FOR(ends[0].dialled != INT32_MIN);
	return ends[0].dialled;
}

static void
test_refused(void **state)
{
	(void) state;
	assert_int_equal(dial(99), -ECONNREFUSED);
}

/* Moves n bytes from a to b through the tunnel, checking each, then b must read end of file. */
static void
move(int a, int b, size_t n, bool shut)
{
	static uint8_t block[32768];
	size_t sent = 0, got = 0;
	bool eof = false;
	int64_t until = loop_clock() + LIMIT_NS;

	while ((got < n || (shut && !eof)) && loop_clock() < until)
	{
		ssize_t r;

		if (sent < n)
		{
			size_t part = n - sent < sizeof(block) ? n - sent : sizeof(block);

			for (size_t i = 0; i < part; i++)
				block[i] = (uint8_t) ((sent + i) * 7 >> 3);
			r = send(a, block, part, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (r > 0)
				sent += (size_t) r;
			if (sent == n && shut)
				shutdown(a, SHUT_WR);
		}
		loop_once(loop, 1);
		while ((r = recv(b, block, sizeof(block), MSG_DONTWAIT)) > 0)
			for (ssize_t i = 0; i < r; i++, got++)
				if (block[i] != (uint8_t) (got * 7 >> 3))
					fail_msg("byte %zu is wrong", got);
		eof = r == 0;
	}
	assert_int_equal(got, n);
	assert_true(!shut || eof);
}

static void
test_streams(void **state)
{
	int fd = dial(4242);

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	move(fd, ends[1].accepted, 3000000, true);
	/* The other direction lives on after the half-close. */
	move(ends[1].accepted, fd, 3000000, true);
	close(fd);
	WAIT_FOR(true);
}

static void
test_loss(void **state)
{
	int fd = dial(4242);

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	relay.drop_every = 50;
	move(fd, ends[1].accepted, 300000, true);
}

/* What is written before close arrives, then end of file. */
static void
test_close_after_write(void **state)
{
	int fd = dial(4242);
	char text[8] = "";
	size_t n = 0;

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	assert_int_equal(write(fd, "goodbye", 7), 7);
	close(fd);
	for (ssize_t r = -1; r != 0;)
	{
		loop_once(loop, 100);
		r = recv(ends[1].accepted, text + n, 7 - n + 1, MSG_DONTWAIT);
		if (r > 0)
			n += (size_t) r;
	}
	assert_string_equal(text, "goodbye");
}

/* A reader that does not read stops the writer; then all of it arrives. */
static void
test_back_pressure(void **state)
{
	static uint8_t block[65536];
	size_t sent = 0, got = 0;
	int fd = dial(4242);

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	for (int idle = 0; idle < 50;)
	{
		ssize_t r = send(fd, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);

		idle = r > 0 ? 0 : idle + 1;
		sent += r > 0 ? (size_t) r : 0;
		loop_once(loop, 1);
	}
	assert_true(sent < 8 * 1024 * 1024);
	for (int64_t until = loop_clock() + LIMIT_NS; got < sent && loop_clock() < until;)
	{
		ssize_t r = recv(ends[1].accepted, block, sizeof(block), MSG_DONTWAIT);

		got += r > 0 ? (size_t) r : 0;
		loop_once(loop, 1);
	}
	assert_int_equal(got, sent);
	close(fd);
}

static void
test_stats_and_leave(void **state)
{
	TunnelPeerStats stats;

	(void) state;
	test_pings(state);
	assert_int_equal(tunnel_stats(ends[0].tunnel, &stats, 1), 1);
	assert_true(stats.rx_packets >= 2 && stats.last_handshake_ns >= 0);
	tunnel_peer_update(ends[0].tunnel, ends[1].id, TUNNEL_PEER_LOST, NULL);
	loop_once(loop, 0);
	assert_int_equal(tunnel_stats(ends[0].tunnel, &stats, 1), 1);
	assert_true(stats.lost);
	tunnel_peer_update(ends[0].tunnel, ends[1].id, TUNNEL_PEER_DISCONNECTED, NULL);
	assert_int_equal(tunnel_stats(ends[0].tunnel, &stats, 1), 0);
}

/* A peer that is said to be gone takes its streams along; the other side hears of it. */
static void
test_gone_peer_ends_streams(void **state)
{
	int fd = dial(4242);
	char byte;

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	assert_int_equal(recv(ends[1].accepted, &byte, 1, MSG_DONTWAIT), -1);
	tunnel_peer_update(ends[1].tunnel, ends[0].id, TUNNEL_PEER_DISCONNECTED, NULL);
	assert_int_equal(recv(ends[1].accepted, &byte, 1, MSG_DONTWAIT), 0);
	WAIT_FOR(recv(fd, &byte, 1, MSG_DONTWAIT) == 0);
	close(fd);
}

/* A peer that comes back under another id is the same: its stream outlives the old id. */
static void
test_another_id(void **state)
{
	int fd = dial(4242);
	uint8_t old[TUNNEL_ID_LEN];
	TunnelNode self;
	TunnelPeerStats stats[2];
	char byte;

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	assert_true(tunnel_self(ends[0].tunnel, &self));
	for (int i = 0; i < 3; i++)
	{
		memcpy(old, ends[0].id, sizeof(old));
		tunnel_peer_update(ends[1].tunnel, old, TUNNEL_PEER_LOST, NULL);
		tunnel_random_id(ends[0].id);
		tunnel_peer_update(ends[1].tunnel, ends[0].id, TUNNEL_PEER_NODE, &self);
		assert_int_equal(tunnel_stats(ends[1].tunnel, stats, 2), 1);
		assert_false(stats[0].lost);
		tunnel_peer_update(ends[1].tunnel, old, TUNNEL_PEER_DISCONNECTED, NULL);
		assert_int_equal(send(fd, "x", 1, MSG_DONTWAIT), 1);
		WAIT_FOR(recv(ends[1].accepted, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1);
		assert_int_equal(recv(ends[1].accepted, &byte, 1, MSG_DONTWAIT), 1);
		assert_int_equal(send(ends[1].accepted, "y", 1, MSG_DONTWAIT), 1);
		WAIT_FOR(recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1);
		assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
	}
	close(fd);
}

/* A stream that is open does not keep a tunnel from ending, one that was closed does until all has arrived. */
static void
test_flushed(void **state)
{
	static const char text[100000];
	int fd = dial(4242);
	size_t got = 0;
	char block[4096];

	(void) state;
	assert_true(fd >= 0);
	WAIT_FOR(ends[1].accepted >= 0);
	WAIT_FOR(tunnel_flushed(ends[0].tunnel));
	assert_int_equal(send(fd, text, sizeof(text), MSG_DONTWAIT), 100000);
	close(fd);
	assert_false(tunnel_flushed(ends[0].tunnel));
	WAIT_FOR(tunnel_flushed(ends[0].tunnel));
	for (ssize_t n; (n = recv(ends[1].accepted, block, sizeof(block), MSG_DONTWAIT)) > 0;)
		got += (size_t) n;
	assert_true(got > 0);
	tunnel_peer_update(ends[1].tunnel, ends[0].id, TUNNEL_PEER_DISCONNECTED, NULL);
	for (ssize_t n; (n = recv(ends[1].accepted, block, sizeof(block), MSG_DONTWAIT)) != 0;)
		got += n > 0 ? (size_t) n : 0;
	assert_int_equal(got, 100000);
}

static void
test_texts(void **state)
{
	uint8_t id[16], address[16];
	char text[64];
	static const uint8_t uuid[16] = {
		0x3f, 0x1b, 0x2c, 0x4d, 0x5e, 0x6f, 0x4a, 0x1b, 0x8c, 0x2d, 1, 0x23, 0x45, 0x67, 0x89, 0xab};

	(void) state;
	tunnel_address(address, uuid, false);
	tunnel_cidr_text(text, address);
	assert_string_equal(text, "fd7a:115c:a1e0:4a1b:8c2d:123:4567:89ab/128");
	assert_true(tunnel_cidr_parse(id, text));
	assert_memory_equal(id, address, 16);
	assert_false(tunnel_cidr_parse(id, "fd7a::/48"));
	assert_true(tunnel_node_id(uuid) == INT64_C(8346013283447764565));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test_setup_teardown(test_pings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ping_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss, setup, teardown),
		cmocka_unit_test_setup_teardown(test_close_after_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_back_pressure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stats_and_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_peer_ends_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_id, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flushed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
