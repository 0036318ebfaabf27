/*
 * test_noise.c -- WireGuard sessions between two devices with an injected clock
 * (handshake in both roles, rekey, retransmission, keepalive, replay, cookies),
 * and against wireguard-go where it can run.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tunnel/peer.c"

#define MAX_SENT 512

typedef struct Side
{
	WgDevice *device;
	WgPeer *peer;
	uint8_t sent[MAX_SENT][1600]; /* datagrams on their way to the other */
	size_t sizes[MAX_SENT];
	int nsent;
	int received, ups;
	uint8_t last[1600];
	size_t last_n;
} Side;

static Side sides[2];
static int64_t now;

static void
on_send(void *arg, WgPeer *peer, const uint8_t *datagram, size_t n)
{
	Side *side = arg;

	(void) peer;
	assert_true(side->nsent < MAX_SENT);
	memcpy(side->sent[side->nsent], datagram, n);
	side->sizes[side->nsent++] = n;
}

static void
on_receive(void *arg, WgPeer *peer, const uint8_t *packet, size_t n)
{
	Side *side = arg;

	(void) peer;
	memcpy(side->last, packet, n);
	side->last_n = n;
	side->received++;
}

static void
on_up(void *arg, WgPeer *peer)
{
	(void) peer;
	((Side *) arg)->ups++;
}

static int64_t
fake_clock(void)
{
	return now;
}

static int
setup(void **state)
{
	(void) state;
	memset(sides, 0, sizeof(sides));
	now = 1000 * WG_SECOND;
	for (int i = 0; i < 2; i++)
	{
		WgConfig config = {
			.arg = &sides[i], .send = on_send, .receive = on_receive, .up = on_up, .unix_ns = fake_clock};

		randombytes_buf(config.private_key, 32);
		sides[i].device = wg_device_create(&config, now);
	}
	for (int i = 0; i < 2; i++)
		sides[i].peer = wg_peer_add(
			sides[i].device, wg_device_identity(sides[1 - i].device)->public_key, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++)
		wg_device_destroy(sides[i].device);
	return 0;
}

/* Delivers what is on its way until nothing is. */
static void
deliver(void)
{
	while (sides[0].nsent + sides[1].nsent > 0)
		for (int i = 0; i < 2; i++)
			while (sides[i].nsent > 0)
			{
				Side *to = &sides[1 - i];
				uint8_t datagram[1600];
				size_t n = sides[i].sizes[0];

				memcpy(datagram, sides[i].sent[0], n);
				sides[i].nsent--;
				memmove(sides[i].sent[0], sides[i].sent[1], sizeof(sides[i].sent[0]) * MAX_SENT -
																 sizeof(sides[i].sent[0]));
				memmove(sides[i].sizes, sides[i].sizes + 1, sizeof(sides[i].sizes) - sizeof(size_t));
				wg_device_receive(to->device, to->peer, datagram, n, now);
			}
}

static void
pass(int64_t ns)
{
	now += ns;
	for (int i = 0; i < 2; i++)
		if (wg_device_deadline(sides[i].device) <= now)
			wg_device_tick(sides[i].device, now);
}

/* An IPv6 packet of n bytes of payload. */
static void
send_from(int i, uint16_t n)
{
	uint8_t packet[1280] = {0x60};

	wire_put16be(packet + 4, n);
	wg_peer_send(sides[i].peer, packet, 40 + (size_t) n, now);
}

static void
test_both_roles(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++)
	{
		send_from(i, 11);
		deliver();
		assert_int_equal(sides[1 - i].received, 1);
		assert_int_equal(sides[1 - i].last_n, 51); /* the padding is gone */
	}
	assert_true(sides[0].ups == 1 && sides[1].ups == 1);
}

static void
test_sizes(void **state)
{
	(void) state;
	send_from(0, 11);
	assert_int_equal(sides[0].sizes[0], 148);
	wg_device_receive(sides[1].device, sides[1].peer, sides[0].sent[0], 148, now);
	sides[0].nsent = 0;
	assert_int_equal(sides[1].sizes[0], 92);
	wg_device_receive(sides[0].device, sides[0].peer, sides[1].sent[0], 92, now);
	sides[1].nsent = 0;
	assert_int_equal(sides[0].sizes[0], 96); /* 51 bytes, padded to 64 */
}

static void
test_damaged(void **state)
{
	(void) state;
	/* Any bit of an initiation changed: no answer. */
	send_from(0, 0);
	for (size_t at = 0; at < 132; at++)
	{
		uint8_t bad[148];

		memcpy(bad, sides[0].sent[0], 148);
		bad[at] ^= 1;
		wg_device_receive(sides[1].device, sides[1].peer, bad, 148, now);
		assert_int_equal(sides[1].nsent, 0);
	}
	deliver();
	send_from(0, 100);
	for (size_t at = 0; at < sides[0].sizes[0]; at++)
	{
		uint8_t bad[1600];

		memcpy(bad, sides[0].sent[0], sides[0].sizes[0]);
		bad[at] ^= 0x80;
		wg_device_receive(sides[1].device, sides[1].peer, bad, sides[0].sizes[0], now);
	}
	assert_int_equal(sides[1].received, 1);
}

static void
test_replay(void **state)
{
	WgWindow window = {0};

	(void) state;
	send_from(0, 0);
	deliver();
	send_from(0, 100);
	for (int i = 0; i < 3; i++)
		wg_device_receive(
			sides[1].device, sides[1].peer, sides[0].sent[0], sides[0].sizes[0], now);
	assert_int_equal(sides[1].received, 2);
	assert_true(wg_window_accept(&window, 0));
	assert_false(wg_window_accept(&window, 0));
	assert_true(wg_window_accept(&window, 5));
	assert_true(wg_window_accept(&window, 3));
	assert_false(wg_window_accept(&window, 3));
	assert_true(wg_window_accept(&window, 9000));
	assert_false(wg_window_accept(&window, 5)); /* fell out */
	assert_true(wg_window_accept(&window, 9000 - 8128));
	assert_false(wg_window_accept(&window, 9000 - 8129));
	assert_false(wg_window_accept(&window, UINT64_MAX));
	/* Against a plain array, in an order that goes back and forth. */
	static bool seen[20000];
	uint64_t high = 9000;

	memset(&window, 0, sizeof(window));
	high = 0;
	for (uint64_t i = 0; i < 60000; i++)
	{
		uint64_t c = (i * 7919 + (i >> 3) * 31) % 200 + i / 4;
		bool fresh = c + 8128 >= high && !seen[c];

		assert_int_equal(wg_window_accept(&window, c), fresh);
		seen[c] |= fresh;
		high = c > high ? c : high;
	}
}

static void
test_retransmit(void **state)
{
	int initiations = 0;

	(void) state;
	send_from(0, 10);
	for (int s = 0; s < 200; s++)
	{
		initiations += sides[0].nsent;
		sides[0].nsent = 0;
		pass(WG_SECOND);
	}
	/* One every 5 s to 6 s for 90 s; then it gives up, and what waited is dropped. */
	assert_in_range(initiations, 15, 18);
	assert_int_equal(sides[0].peer->nqueue, 0);
	send_from(0, 10);
	deliver();
	assert_int_equal(sides[1].received, 1);
}

static void
test_rekey_and_reject(void **state)
{
	(void) state;
	send_from(0, 1);
	deliver();
	for (int s = 0; s < 119; s++)
	{
		pass(WG_SECOND);
		deliver();
	}
	assert_int_equal(sides[0].ups, 1);
	pass(2 * WG_SECOND);
	send_from(0, 1);
	deliver();
	assert_int_equal(sides[0].ups, 2); /* after 120 s, by the initiator */
	send_from(0, 1); /* under the new keys; this makes them the responder's too */
	deliver();
	assert_int_equal(sides[1].ups, 2);
	now += 181 * WG_SECOND;
	send_from(1, 1);
	assert_int_equal(sides[1].sizes[0], 148); /* too old to send under: a handshake */
}

static void
test_keepalives(void **state)
{
	(void) state;
	send_from(0, 1);
	deliver();
	pass(9 * WG_SECOND);
	assert_int_equal(sides[1].nsent, 0);
	pass(2 * WG_SECOND);
	assert_int_equal(sides[1].nsent, 1); /* heard data, had none to send for 10 s */
	assert_int_equal(sides[1].sizes[0], 32);
	deliver();
	wg_peer_keepalive(sides[0].peer, 25, now);
	assert_int_equal(sides[0].nsent, 1); /* at once */
	deliver();
	pass(26 * WG_SECOND);
	assert_int_equal(sides[0].nsent, 1);
	deliver();
	/* Sent, and nothing heard for 15 s: a new handshake. */
	send_from(0, 1);
	sides[0].nsent = 0;
	pass(16 * WG_SECOND);
	assert_int_equal(sides[0].sizes[sides[0].nsent - 1], 148);
}

static void
test_cookie(void **state)
{
	uint8_t first[148];

	(void) state;
	sides[1].device->load_since = now;
	sides[1].device->load_count = LOAD_HANDSHAKES;
	send_from(0, 1);
	memcpy(first, sides[0].sent[0], sizeof(first));
	wg_device_receive(sides[1].device, sides[1].peer, first, sizeof(first), now);
	sides[0].nsent = 0;
	assert_int_equal(sides[1].sizes[0], 64);
	deliver();
	assert_int_equal(sides[1].ups + sides[0].ups, 0);
	/* The next initiation carries the cookie and is heard even under load. */
	pass(6 * WG_SECOND);
	sides[1].device->load_since = now;
	sides[1].device->load_count = LOAD_HANDSHAKES;
	deliver();
	assert_int_equal(sides[0].ups, 1);
}

/* wireguard-go as the peer: its kernel must answer our echo through the tunnel. */

typedef struct Outside
{
	int fd;
	struct sockaddr_in to;
	bool answered;
} Outside;

static int64_t
clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * WG_SECOND + ts.tv_nsec;
}

static void
outside_send(void *arg, WgPeer *peer, const uint8_t *datagram, size_t n)
{
	Outside *o = arg;

	(void) peer;
	sendto(o->fd, datagram, n, 0, (struct sockaddr *) &o->to, sizeof(o->to));
}

static void
outside_receive(void *arg, WgPeer *peer, const uint8_t *packet, size_t n)
{
	(void) peer;
	if (n >= 48 && packet[6] == 58 && packet[40] == 129)
		((Outside *) arg)->answered = true;
}

static void
put_echo(uint8_t packet[48])
{
	uint32_t sum = 58 + 8;

	memset(packet, 0, 48);
	wire_put32be(packet, 0x60000000);
	packet[5] = 8;
	packet[6] = 58;
	packet[7] = 64;
	packet[8] = packet[24] = 0xfd;
	packet[23] = 2;
	packet[39] = 1;
	packet[40] = 128;
	for (int i = 8; i < 48; i += 2)
		sum += wire_get16be(packet + i);
	wire_put16be(packet + 42, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
}

static void
test_wireguard_go(void **state)
{
	Outside o = {.fd = -1};
	WgConfig config = {.arg = &o, .send = outside_send, .receive = outside_receive};
	char command[1024], key[128], text[64];
	uint8_t go_private[32], go_public[32], packet[48], in[2048];
	struct timeval limit = {.tv_usec = 100000};
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t nown = sizeof(own);
	WgDevice *device;
	WgPeer *peer;

	(void) state;
	if (system("command -v wireguard-go wg ip >/dev/null 2>&1 && test -c /dev/net/tun") != 0 ||
		unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0)
	{
		print_message("skipped: needs wireguard-go, wg, ip, /dev/net/tun and a network namespace\n");
		skip();
	}
	randombytes_buf(config.private_key, 32);
	randombytes_buf(go_private, 32);
	crypto_scalarmult_base(go_public, go_private);
	device = wg_device_create(&config, clock_ns());
	peer = wg_peer_add(device, go_public, NULL);
	o.fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(o.fd, (struct sockaddr *) &own, sizeof(own)), 0);
	getsockname(o.fd, (struct sockaddr *) &own, &nown);
	setsockopt(o.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	sodium_bin2base64(key, sizeof(key), go_private, 32, sodium_base64_VARIANT_ORIGINAL);
	sodium_bin2base64(text,
					  sizeof(text),
					  wg_device_identity(device)->public_key,
					  32,
					  sodium_base64_VARIANT_ORIGINAL);
	snprintf(command,
			 sizeof(command),
			 "wireguard-go -f wgtest >/dev/null 2>&1 & "
			 "for i in $(seq 50); do ip link show wgtest >/dev/null 2>&1 && "
			 "wg show wgtest >/dev/null 2>&1 && break; sleep 0.1; done; "
			 "d=$(mktemp -d) && echo %s >$d/key && "
			 "wg set wgtest private-key $d/key listen-port 51999 peer %s allowed-ips fd00::2/128 && "
			 "ip addr add fd00::1/64 dev wgtest nodad && ip link set wgtest up; rm -r $d",
			 key,
			 text);
	assert_int_equal(system(command), 0);
	o.to = own;
	o.to.sin_port = htons(51999);
	put_echo(packet);
	for (int i = 0; i < 100 && !o.answered; i++)
	{
		ssize_t n;

		if (i % 10 == 0)
			wg_peer_send(peer, packet, sizeof(packet), clock_ns());
		n = recv(o.fd, in, sizeof(in), 0);
		if (n > 0)
			wg_device_receive(device, peer, in, (size_t) n, clock_ns());
		wg_device_tick(device, clock_ns());
	}
	assert_true(o.answered);
	/* Deleting the interface ends wireguard-go. */
	assert_int_equal(system("ip link del wgtest"), 0);
	close(o.fd);
	wg_device_destroy(device);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_roles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retransmit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rekey_and_reject, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keepalives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cookie, setup, teardown),
		cmocka_unit_test(test_wireguard_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
