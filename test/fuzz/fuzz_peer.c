/*
 * fuzz_peer.c -- two WireGuard endpoints, with an adversary between them who
 * delivers, drops, repeats, changes and invents datagrams, and lets time pass.
 *
 * Each byte of the input is an act, followed by what it needs.  Whatever comes
 * out of the tunnel must have gone in at the other end.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "tunnel/noise.c"
#include "tunnel/peer.c"
#include "wire/wg.c"

#define MAX_FLYING 64
#define MAX_DATAGRAM 2048
#define INNER 60
#define FUZZ_MAX_INPUT 200 /* a handshake takes its time */

typedef struct Datagram
{
	int to;
	size_t size;
	uint8_t bytes[MAX_DATAGRAM];
} Datagram;

typedef struct Side
{
	int index;
	WgDevice *device;
	WgPeer *peer;
} Side;

static Side sides[2];
static Datagram flying[MAX_FLYING];
static size_t nflying;
static int64_t now;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_send(void *arg, WgPeer *peer, const uint8_t *datagram, size_t n)
{
	const Side *side = arg;

	(void) peer;
	if (n > MAX_DATAGRAM)
		abort();
	if (nflying == MAX_FLYING)
		return;
	flying[nflying].to = 1 - side->index;
	flying[nflying].size = n;
	memcpy(flying[nflying++].bytes, datagram, n);
}

/* A packet of INNER bytes: what IPv6 has for its size, who sends, and the same byte again and again. */
static void
fill(uint8_t packet[static INNER], int from, uint8_t mark)
{
	memset(packet, mark, INNER);
	wire_put16be(packet + 4, INNER - 40);
	packet[0] = 0x60;
	packet[1] = (uint8_t) from;
}

static void
on_receive(void *arg, WgPeer *peer, const uint8_t *packet, size_t n)
{
	const Side *side = arg;
	uint8_t sent[INNER];

	(void) peer;
	if (n != INNER)
		abort();
	fill(sent, 1 - side->index, packet[2]);
	if (memcmp(packet, sent, INNER) != 0)
		abort();
}

static int64_t
wall(void)
{
	return INT64_C(1776297600) * WG_SECOND + now;
}

static void
setup(void)
{
	nflying = 0;
	now = WG_SECOND;
	for (int i = 0; i < 2; i++)
	{
		WgConfig config = {.arg = &sides[i], .send = on_send, .receive = on_receive, .unix_ns = wall};

		memset(config.private_key, i + 1, sizeof(config.private_key));
		sides[i].index = i;
		sides[i].device = wg_device_create(&config, now);
	}
	for (int i = 0; i < 2; i++)
		sides[i].peer = wg_peer_add(sides[i].device, wg_device_identity(sides[1 - i].device)->public_key, NULL);
}

static void
say(int from, uint8_t mark)
{
	uint8_t packet[INNER];

	fill(packet, from, mark);
	wg_peer_send(sides[from].peer, packet, sizeof(packet), now);
}

/* In memory of exactly its size. */
static void
deliver(int to, const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	memcpy(copy, bytes, size);
	wg_device_receive(sides[to].device, sides[to].peer, copy, size, now);
	free(copy);
}

static void
drop(size_t i)
{
	memmove(&flying[i], &flying[i + 1], (nflying - i - 1) * sizeof(flying[0]));
	nflying--;
}

/* One act; how much of the input it took. */
static size_t
act(const uint8_t *data, size_t size)
{
	uint8_t a = size > 1 ? data[1] : 0;
	uint8_t b = size > 2 ? data[2] : 0;
	size_t i = nflying > 0 ? a % nflying : 0;

	switch (data[0] % 8)
	{
		case 0:
			say(a & 1, b);
			return 3;
		case 1: /* arrives */
			if (nflying > 0)
			{
				Datagram one = flying[i];

				drop(i);
				deliver(one.to, one.bytes, one.size);
			}
			return 2;
		case 2: /* arrives, and will again */
			if (nflying > 0)
			{
				Datagram one = flying[i];

				deliver(one.to, one.bytes, one.size);
			}
			return 2;
		case 3: /* is changed */
			if (nflying > 0 && flying[i].size > 0)
				flying[i].bytes[b % flying[i].size] ^= size > 3 && data[3] != 0 ? data[3] : 1;
			return 4;
		case 4: /* is cut */
			if (nflying > 0)
				flying[i].size = b < flying[i].size ? b : flying[i].size;
			return 3;
		case 5: /* is invented */
			deliver(a & 1, data + (size > 3 ? 3 : size), size > 3 ? (b < size - 3 ? b : size - 3) : 0);
			return 3 + (size_t) b;
		case 6: /* time */
			now += (int64_t) (a + 1) * (b & 1 ? WG_SECOND : WG_SECOND / 1000);
			for (int k = 0; k < 2; k++)
				wg_device_tick(sides[k].device, now);
			return 3;
		default: /* one forgets the other */
			if (a % 16 == 0)
			{
				wg_peer_remove(sides[b & 1].peer);
				sides[b & 1].peer = wg_peer_add(sides[b & 1].device, wg_device_identity(sides[1 - (b & 1)].device)->public_key, NULL);
			}
			else
				wg_peer_keepalive(sides[a & 1].peer, b & 31, now);
			return 3;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (sodium_init() < 0 || size > FUZZ_MAX_INPUT)
		return 0;
	setup();
	for (size_t at = 0; at < size;)
		at += act(data + at, size - at);
	for (int i = 0; i < 2; i++)
		wg_device_destroy(sides[i].device);
	return 0;
}
