/*
 * test_wire.c -- codecs of DERP, disco, STUN and WireGuard: golden bytes, round
 * trips, every truncation (in a block of that size, for the sanitizer).
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sodium.h>

#include "wire/derp.c"
#include "wire/disco.c"
#define put_header stun_put_header /* derp.c has one as well */
#include "wire/stun.c"
#undef put_header
#include "wire/wg.c"
#include "wire/wsframe.c"

#define NODE_A "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"
#define DERP_KEY "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
#define DISCO_A "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a"
#define DISCO_AB "541f02ad30774030052f1d5b8c61f93a2b846520da466770e9db2aa885bfbb91"

static size_t
unhex(uint8_t *to, size_t cap, const char *hex)
{
	size_t n;

	assert_int_equal(sodium_hex2bin(to, cap, hex, strlen(hex), " ", &n, NULL), 0);
	return n;
}

static void
assert_hex(const uint8_t *got, size_t n, const char *hex)
{
	uint8_t want[2048];

	assert_int_equal(n, unhex(want, sizeof(want), hex));
	assert_memory_equal(got, want, n);
}

/* A private key of section "worked examples": 32 bytes in a row from first, clamped. */
static void
example_key(uint8_t key[32], uint8_t first)
{
	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t) (first + i);
	key[0] &= 0xf8;
	key[31] = (uint8_t) ((key[31] & 0x7f) | 0x40);
}

static uint8_t *
copy_of(const uint8_t *in, size_t n)
{
	uint8_t *block = malloc(n == 0 ? 1 : n);

	memcpy(block, in, n);
	return block;
}

static void
test_derp_frames(void **state)
{
	uint8_t out[512], key[32], packet[148] = {1};
	size_t n;

	(void) state;
	unhex(key, 32, DERP_KEY);
	n = wire_derp_put_server_key(out, sizeof(out), key);
	assert_hex(out, n, "01 00000028 44455250f09f9491" DERP_KEY);
	assert_hex(out, wire_derp_put_note_preferred(out, sizeof(out), true), "070000000101");
	assert_hex(out, wire_derp_put(out, sizeof(out), WIRE_DERP_KEEP_ALIVE, NULL, 0), "0600000000");
	unhex(key, 32, NODE_A);
	n = wire_derp_put_peer_gone(out, sizeof(out), key, 1);
	assert_hex(out, n, "0800000021" NODE_A "01");
	n = wire_derp_put_send(out, sizeof(out), key, packet, sizeof(packet));
	assert_int_equal(n, 5 + 180);
	assert_hex(out, 38, "04000000b4" NODE_A "01");
	assert_int_equal(wire_derp_put_send(out, n - 1, key, packet, sizeof(packet)), 0);
	assert_int_equal(
		wire_derp_put_send(out, sizeof(out), key, packet, WIRE_DERP_MAX_PACKET + 1), 0);
}

static void
test_derp_client_info(void **state)
{
	static const char json[] = "{\"version\":2,\"CanAckPings\":true}";
	uint8_t out[512], node[32], server[32], public_key[32], nonce[24], box[48];
	const uint8_t *k, *no, *b;
	WireDerpFrame frame;
	size_t n, nb, need;

	(void) state;
	example_key(node, 0);
	example_key(server, 0x20);
	crypto_scalarmult_base(public_key, node);
	assert_hex(public_key, 32, NODE_A);
	for (int i = 0; i < 24; i++)
		nonce[i] = (uint8_t) (0x80 + i);
	unhex(out, 32, DERP_KEY);
	assert_int_equal(
		crypto_box_easy(box, (const uint8_t *) json, sizeof(json) - 1, nonce, out, node), 0);
	n = wire_derp_put_client_info(out, sizeof(out), public_key, nonce, box, sizeof(box));
	assert_hex(out,
			   n,
			   "02 00000068" NODE_A "808182838485868788898a8b8c8d8e8f9091929394959697"
			   "b01c1545d10c85737f21cac2f863a6bf"
			   "38a15b673d7b2bf55da90ef8f0d0d23f3a576b73a1f4fbea8919834d882e8df6");
	assert_int_equal(wire_derp_get(&frame, &need, out, n), WIRE_OK);
	assert_int_equal(wire_derp_get_client_info(&k, &no, &b, &nb, &frame), WIRE_OK);
	assert_int_equal(crypto_box_open_easy(box, b, nb, no, k, server), 0);
	assert_memory_equal(box, json, sizeof(json) - 1);
}

static void
test_derp_truncated(void **state)
{
	uint8_t out[512] = {0}, key[32] = {9};
	size_t n = wire_derp_put_recv(out, sizeof(out), key, (const uint8_t[100]){1}, 100);
	WireDerpFrame frame;
	size_t need;

	(void) state;
	for (size_t i = 0; i < n; i++)
	{
		uint8_t *part = copy_of(out, i);

		assert_int_equal(wire_derp_get(&frame, &need, part, i), WIRE_SHORT);
		assert_int_equal(need, i < 5 ? 5 : n);
		free(part);
	}
	/* Every payload length of every type: no read beyond it. */
	for (unsigned int type = 0; type < 256; type++)
		for (uint32_t i = 0; i < 100; i++)
		{
			uint8_t *part = copy_of(out, 5 + i);
			const uint8_t *a, *b, *c;
			uint8_t reason;

			part[0] = (uint8_t) type;
			wire_put32be(part + 1, i);
			assert_int_equal(wire_derp_get(&frame, &need, part, 5 + i), WIRE_OK);
			if (wire_derp_get_server_key(&a, &frame) == WIRE_OK)
				assert_true(i >= 40);
			if (wire_derp_get_client_info(&a, &b, &c, &need, &frame) == WIRE_OK)
				assert_true(i >= 72 && c + need == part + 5 + i);
			if (wire_derp_get_server_info(&a, &b, &need, &frame) == WIRE_OK)
				assert_true(i >= 40 && b + need == part + 5 + i);
			if (wire_derp_get_packet(&a, &b, &need, &frame) == WIRE_OK)
				assert_true(i >= 32 && b + need == part + 5 + i);
			if (wire_derp_get_peer_gone(&a, &reason, &frame) == WIRE_OK)
				assert_true(i >= 32);
			free(part);
		}
	wire_put32be(out + 1, WIRE_DERP_MAX_FRAME + 1);
	assert_int_equal(wire_derp_get(&frame, &need, out, 5), WIRE_BAD);
}

static void
test_disco_ping(void **state)
{
	WireDiscoMessage m = {.type = WIRE_DISCO_PING}, back;
	uint8_t plain[WIRE_DISCO_PROBE_LEN], out[1310], digest[32], key[32], nonce[24], sender[32];
	const uint8_t *s, *no, *box;
	size_t nbox;

	(void) state;
	for (int i = 0; i < 12; i++)
		m.txid[i] = (uint8_t) (0xa0 + i);
	for (int i = 0; i < 24; i++)
		nonce[i] = (uint8_t) (0xc0 + i);
	unhex(m.node, 32, NODE_A);
	unhex(key, 32, DISCO_AB);
	unhex(sender, 32, DISCO_A);
	assert_int_equal(wire_disco_put(plain, sizeof(plain), &m), 1232);
	assert_hex(plain, 46, "0101a0a1a2a3a4a5a6a7a8a9aaab" NODE_A);
	wire_disco_put_envelope(out, sizeof(out), sender, nonce);
	crypto_box_easy_afternm(out + 62, plain, sizeof(plain), nonce, key);
	crypto_hash_sha256(digest, out, sizeof(out));
	assert_hex(digest, 32, "c8d41b120b8c140aa52dc9f37f5416b58e1975d6a0f5b72f47f6dad093fa36f2");
	assert_int_equal(wire_disco_get_envelope(&s, &no, &box, &nbox, out, sizeof(out)), WIRE_OK);
	assert_int_equal(nbox, 1248);
	assert_int_equal(wire_disco_get(&back, plain, sizeof(plain)), WIRE_OK);
	assert_true(back.has_node);
	assert_memory_equal(back.node, m.node, 32);
	for (size_t i = 0; i < 78; i++)
		assert_int_equal(wire_disco_get_envelope(&s, &no, &box, &nbox, out, i), WIRE_BAD);
}

static void
test_disco_others(void **state)
{
	WireDiscoMessage m = {.type = WIRE_DISCO_PONG}, back;
	uint8_t plain[WIRE_DISCO_PROBE_LEN];
	size_t n;

	(void) state;
	for (int i = 0; i < 12; i++)
		m.txid[i] = (uint8_t) (0xa0 + i);
	unhex(m.source.ip, 16, "00000000000000000000ffff7f030328");
	m.source.port = 999;
	assert_int_equal(wire_disco_put(plain, sizeof(plain), &m), 1232);
	assert_hex(plain, 32, "0201a0a1a2a3a4a5a6a7a8a9aaab00000000000000000000ffff7f03032803e7");
	for (size_t i = 0; i < 32; i++)
	{
		uint8_t *part = copy_of(plain, i);

		assert_int_equal(wire_disco_get(&back, part, i), WIRE_BAD);
		free(part);
	}
	m = (WireDiscoMessage){.type = WIRE_DISCO_CALL_ME_MAYBE, .nendpoints = 2};
	unhex(m.endpoints[0].ip, 16, "00000000000000000000ffffc6336409");
	m.endpoints[0].port = 0xc350;
	unhex(m.endpoints[1].ip, 16, "20010db8000000000000000000000005");
	m.endpoints[1].port = 0xc351;
	n = wire_disco_put(plain, sizeof(plain), &m);
	assert_hex(plain,
			   n,
			   "0300 00000000000000000000ffffc6336409c350 20010db8000000000000000000000005c351");
	for (size_t i = 2; i <= n; i++)
	{
		uint8_t *part = copy_of(plain, i);

		assert_int_equal(wire_disco_get(&back, part, i), WIRE_OK);
		assert_int_equal(back.nendpoints, (i - 2) % 18 == 0 ? (i - 2) / 18 : 0);
		free(part);
	}
}

static void
test_stun(void **state)
{
	uint8_t out[64], ip[16], got[16], txid[12];
	const uint8_t *t;
	uint16_t port;
	size_t n;

	(void) state;
	for (int i = 0; i < 12; i++)
		txid[i] = (uint8_t) (i + 1);
	n = wire_stun_put_request(out, sizeof(out), txid);
	assert_hex(out,
			   n,
			   "000100142112a4420102030405060708090a0b0c"
			   "802200087461696c6e6f6465 80280004b32c370f");
	assert_int_equal(wire_stun_get_request(&t, out, n), WIRE_OK);
	unhex(ip, 16, "00000000000000000000ffffc0000207");
	n = wire_stun_put_response(out, sizeof(out), txid, ip, 41641);
	assert_hex(
		out, n, "0101000c2112a4420102030405060708090a0b0c 00200008000183bbe112a645");
	assert_int_equal(wire_stun_get_response(&t, got, &port, out, n), WIRE_OK);
	assert_memory_equal(got, ip, 16);
	assert_int_equal(port, 41641);
	unhex(ip, 16, "20010db8000000000000000000000005");
	n = wire_stun_put_response(out, sizeof(out), txid, ip, 41641);
	assert_hex(out,
			   n,
			   "010100182112a4420102030405060708090a0b0c"
			   "00200014000283bb 0113a9fa0102030405060708090a0b09");
	assert_int_equal(wire_stun_get_response(&t, got, &port, out, n), WIRE_OK);
	assert_memory_equal(got, ip, 16);
	for (size_t i = 0; i < n; i++)
	{
		uint8_t *part = copy_of(out, i);

		assert_int_equal(wire_stun_get_response(&t, got, &port, part, i), WIRE_BAD);
		/* The same with a length that fits, so that the attribute is what is cut. */
		if (i >= 20)
		{
			wire_put16be(part + 2, (uint16_t) (i - 20));
			assert_int_equal(wire_stun_get_response(&t, got, &port, part, i), WIRE_BAD);
		}
		free(part);
	}
}

/* RFC 6455, section 5.7, and the three forms of the length. */
static void
test_ws(void **state)
{
	static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
	static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
	static const size_t sizes[] = {0, 125, 126, 65535, 65536};
	static uint8_t data[65536], frame[65536 + WIRE_WS_HEADER_MAX];
	WireWsFrame back;
	const char *problem;

	(void) state;
	assert_int_equal(wire_ws_put(frame, WIRE_WS_TEXT, mask, "Hello", 5), sizeof(hello));
	assert_memory_equal(frame, hello, sizeof(hello));
	assert_int_equal(wire_ws_get(&back, frame, sizeof(hello), 100, &problem), 0);
	assert_string_equal(problem, "reserved bits or a mask");
	assert_int_equal(wire_ws_get_masked(&back, frame, sizeof(hello) - 1, 100, &problem), 0);
	assert_int_equal(wire_ws_get_masked(&back, frame, sizeof(hello), 100, &problem), sizeof(hello));
	assert_memory_equal(back.data, "Hello", 5);
	assert_int_equal(wire_ws_put_plain(frame, WIRE_WS_TEXT, "Hello", 5), 7);
	assert_memory_equal(frame, "\x81\x05Hello", 7);
	assert_int_equal(wire_ws_get_masked(&back, frame, 7, 100, &problem), 0);
	assert_string_equal(problem, "reserved bits or no mask");
	memset(data, 7, sizeof(data));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		size_t n = wire_ws_put(frame, WIRE_WS_BINARY, (const uint8_t[4]){0}, data, sizes[i]);
		size_t header = n - 4 - sizes[i];

		/* As a server's: without the mask. */
		frame[1] &= 0x7f;
		memmove(frame + header, frame + header + 4, sizes[i]);
		assert_int_equal(wire_ws_get(&back, frame, n - 4, 65536, &problem), n - 4);
		assert_true(back.final && back.op == WIRE_WS_BINARY && back.size == sizes[i]);
		assert_memory_equal(back.data, data, sizes[i]);
		assert_int_equal(wire_ws_get(&back, frame, n - 5, 65536, &problem), 0);
	}
	assert_int_equal(wire_ws_get(&back, frame, sizeof(frame), 65535, &problem), 0);
	assert_string_equal(problem, "a frame is too long");
}

static void
test_wg(void **state)
{
	static const size_t sizes[] = {0, 148, 92, 64, 32};
	uint8_t out[256] = {0};
	WireWgMessage m, back;

	(void) state;
	for (int type = WIRE_WG_INITIATION; type <= WIRE_WG_DATA; type++)
	{
		m = (WireWgMessage){.type = (WireWgType) type,
							.sender = 0x11223344,
							.receiver = 0x55667788,
							.counter = 0x0102030405060708,
							.nsealed = type == WIRE_WG_DATA ? 16 : 0};
		assert_int_equal(wire_wg_put(out, sizeof(out), &m), sizes[type]);
		assert_int_equal(wire_wg_put(out, sizes[type] - 1, &m), 0);
		for (size_t i = 0; i <= sizes[type]; i++)
		{
			uint8_t *part = copy_of(out, i);

			assert_int_equal(wire_wg_get(&back, part, i), i == sizes[type] ? WIRE_OK : WIRE_BAD);
			free(part);
		}
		if (type <= WIRE_WG_RESPONSE)
			assert_int_equal(back.sender, m.sender);
		if (type >= WIRE_WG_RESPONSE)
			assert_int_equal(back.receiver, m.receiver);
	}
	assert_hex(out, 16, "04000000 88776655 0807060504030201");
	out[1] = 1;
	assert_int_equal(wire_wg_get(&back, out, 32), WIRE_BAD);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_derp_frames),
		cmocka_unit_test(test_derp_client_info),
		cmocka_unit_test(test_derp_truncated),
		cmocka_unit_test(test_disco_ping),
		cmocka_unit_test(test_disco_others),
		cmocka_unit_test(test_stun),
		cmocka_unit_test(test_ws),
		cmocka_unit_test(test_wg),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
