/*
 * ping.c -- pings and their answers: disco, TSMP, ICMPv6.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel_int.h"

#include "wire/disco.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PING_FIRST_MS 50
#define PING_LAST_MS 30000
#define PING_SENDS 64

struct TunnelPing
{
	TunnelPing *prev, *next;
	Tunnel *tunnel;
	uint8_t address[TUNNEL_ADDR_LEN];
	TunnelPingKind kind;
	uint8_t token[WIRE_DISCO_TXID_LEN]; /* disco: txid; else 6 bytes, before the number of the try */
	unsigned int tries;
	int64_t sent[PING_SENDS];
	int64_t pause_ms;
	LoopTimer timer; /* the next try */
	LoopTimer limit;
	TunnelPingFn fn;
	void *arg;
	TunnelPong pong;
};

/* IPv6 header of a packet of n bytes of payload. */
static void
put_ip6(uint8_t *packet, uint8_t proto, size_t n, const uint8_t *from, const uint8_t *to)
{
	uint8_t *p = wire_put32be(packet, 0x60000000);

	p = wire_put16be(p, (uint16_t) n);
	p = wire_put8(wire_put8(p, proto), 64);
	wire_put_bytes(wire_put_bytes(p, from, 16), to, 16);
}

static void
ping_free(TunnelPing *ping)
{
	if (ping->prev != NULL)
		ping->prev->next = ping->next;
	else
		ping->tunnel->pings = ping->next;
	if (ping->next != NULL)
		ping->next->prev = ping->prev;
	loop_timer_stop(&ping->timer);
	loop_timer_stop(&ping->limit);
	free(ping);
}

static void
on_ping_limit(void *arg)
{
	TunnelPing *ping = arg;
	TunnelPingFn fn = ping->fn;
	void *fn_arg = ping->arg;
	TunnelPong pong = ping->pong;

	ping_free(ping);
	fn(fn_arg, &pong);
}

/* The try number i was answered over region; the caller is told from the loop. */
static void
ping_answered(TunnelPing *ping, unsigned int i, int region)
{
	if (ping->pong.error == 0)
		return;
	ping->pong.error = 0;
	ping->pong.latency_ns = loop_clock() - ping->sent[i % PING_SENDS];
	ping->pong.derp_region = region;
	loop_timer_stop(&ping->timer);
	loop_timer_start(&ping->limit, 0);
}

/* Seals a disco message for peer and sends it. */
static void
send_disco(Tunnel *t, const Peer *peer, const WireDiscoMessage *message)
{
	uint8_t plain[WIRE_DISCO_PROBE_LEN];
	uint8_t out[WIRE_DISCO_HEADER_LEN + WIRE_DISCO_MAC_LEN + sizeof(plain)];
	uint8_t nonce[WIRE_DISCO_NONCE_LEN];
	size_t n = wire_disco_put(plain, sizeof(plain), message);

	if (n == 0 || !peer->has_disco)
		return;
	randombytes_buf(nonce, sizeof(nonce));
	wire_disco_put_envelope(out, sizeof(out), t->disco_public, nonce);
	if (crypto_box_easy_afternm(
			out + WIRE_DISCO_HEADER_LEN, plain, n, nonce, peer->disco_shared) == 0)
		tunnel_send_to_peer(t, peer, out, WIRE_DISCO_HEADER_LEN + WIRE_DISCO_MAC_LEN + n);
}

static void
ping_disco(Tunnel *t, TunnelPing *ping)
{
	const Peer *peer = tunnel_peer_by_address(t, ping->address);
	WireDiscoMessage message = {.type = WIRE_DISCO_PING, .has_node = true};

	if (peer == NULL)
		return;
	memcpy(message.txid, ping->token, sizeof(message.txid));
	memcpy(message.node, wg_device_identity(t->wg)->public_key, WIRE_KEY_LEN);
	send_disco(t, peer, &message);
}

static uint16_t
icmp6_checksum(const uint8_t *packet, size_t n)
{
	uint32_t sum = PROTO_ICMP6 + (uint32_t) n - IP6_HEADER;

	for (size_t i = 8; i + 1 < n; i += 2)
		sum += wire_get16be(packet + i);
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~sum;
}

/* TSMP "70 token"; ICMPv6 echo with the token as its data.  The token: 6 bytes and the try. */
static void
ping_inner(Tunnel *t, TunnelPing *ping)
{
	uint8_t packet[IP6_HEADER + 16];
	uint8_t *p = packet + IP6_HEADER;
	bool tsmp = ping->kind == TUNNEL_PING_TSMP;
	size_t n = tsmp ? 9 : 16;

	put_ip6(packet, tsmp ? PROTO_TSMP : PROTO_ICMP6, n, t->config.addresses[0], ping->address);
	if (tsmp)
		p = wire_put8(p, 0x70);
	else
		p = wire_put64be(p, UINT64_C(0x8000) << 48 | (uint64_t) (ping->tries & 0xffff));
	wire_put16be(wire_put_bytes(p, ping->token, 6), (uint16_t) ping->tries);
	if (!tsmp)
		wire_put16be(packet + IP6_HEADER + 2, icmp6_checksum(packet, sizeof(packet)));
	tunnel_send_packet(t, packet, IP6_HEADER + n);
}

/* Peer and home are known, so that a ping and its answer find their way. */
static bool
may_ping_disco(const TunnelPing *ping)
{
	const Peer *peer = tunnel_peer_by_address(ping->tunnel, ping->address);

	return ping->tunnel->home != 0 && peer != NULL && peer->has_disco && (ping->tunnel->config.destination || peer->ready || peer->waited);
}

static void
on_ping_timer(void *arg)
{
	TunnelPing *ping = arg;

	if (ping->kind == TUNNEL_PING_DISCO && !may_ping_disco(ping))
	{
		loop_timer_start(&ping->timer, PING_FIRST_MS);
		return;
	}
	ping->sent[ping->tries % PING_SENDS] = loop_clock();
	if (ping->kind == TUNNEL_PING_DISCO)
		ping_disco(ping->tunnel, ping);
	else
		ping_inner(ping->tunnel, ping);
	ping->tries++;
	if (ping->kind != TUNNEL_PING_TSMP)
		return;
	loop_timer_start(&ping->timer, ping->pause_ms);
	ping->pause_ms = ping->pause_ms * 3 / 2;
	if (ping->pause_ms > PING_LAST_MS)
		ping->pause_ms = PING_LAST_MS;
}

TunnelPing *
tunnel_ping(Tunnel *t, const uint8_t address[TUNNEL_ADDR_LEN], TunnelPingKind kind, int timeout_ms,
			TunnelPingFn fn, void *arg)
{
	TunnelPing *ping = calloc(1, sizeof(*ping));

	if (ping == NULL)
		return NULL;
	ping->tunnel = t;
	memcpy(ping->address, address, TUNNEL_ADDR_LEN);
	ping->kind = kind;
	randombytes_buf(ping->token, sizeof(ping->token));
	ping->pause_ms = PING_FIRST_MS;
	ping->fn = fn;
	ping->arg = arg;
	ping->pong.error = -ETIMEDOUT;
	ping->next = t->pings;
	if (ping->next != NULL)
		ping->next->prev = ping;
	t->pings = ping;
	loop_timer_init(&ping->timer, t->loop, on_ping_timer, ping);
	loop_timer_init(&ping->limit, t->loop, on_ping_limit, ping);
	loop_timer_start(&ping->timer, 0);
	loop_timer_start(&ping->limit, timeout_ms);
	return ping;
}

void
tunnel_ping_cancel(TunnelPing *ping)
{
	ping_free(ping);
}

/* An answer of kind from peer with this token: 6 bytes and the try. */
void
tunnel_on_pong(Tunnel *t, const Peer *peer, TunnelPingKind kind, const uint8_t *token)
{
	for (TunnelPing *ping = t->pings; ping != NULL; ping = ping->next)
		if (ping->kind == kind && memcmp(ping->token, token, 6) == 0)
		{
			ping_answered(ping, wire_get16be(token + 6), peer->region);
			return;
		}
}

/* TSMP: 70 and 8 bytes are answered with 6f, the same 8 bytes, and a port that is 0. */
void
tunnel_on_tsmp(Tunnel *t, const Peer *peer, const uint8_t *packet, size_t n)
{
	uint8_t pong[IP6_HEADER + 11];

	if (n < IP6_HEADER + 9)
		return;
	if (packet[IP6_HEADER] == 0x6f)
		tunnel_on_pong(t, peer, TUNNEL_PING_TSMP, packet + IP6_HEADER + 1);
	if (packet[IP6_HEADER] != 0x70)
		return;
	put_ip6(pong, PROTO_TSMP, 11, packet + 24, packet + 8);
	pong[IP6_HEADER] = 0x6f;
	memcpy(pong + IP6_HEADER + 1, packet + IP6_HEADER + 1, 8);
	wire_put16be(pong + IP6_HEADER + 9, 0);
	tunnel_send_packet(t, pong, sizeof(pong));
}

/* A disco message that peer sent over the relay of region. */
void
tunnel_on_disco(Tunnel *t, Peer *peer, int region, const uint8_t *packet, size_t n)
{
	static const uint8_t derp_address[16] = {[10] = 0xff, 0xff, 127, 3, 3, 40};
	const uint8_t *sender, *nonce, *box;
	uint8_t plain[4096];
	WireDiscoMessage message;
	size_t nbox;

	if (wire_disco_get_envelope(&sender, &nonce, &box, &nbox, packet, n) != WIRE_OK ||
		!peer->has_disco || memcmp(sender, peer->disco, WIRE_KEY_LEN) != 0 ||
		nbox > sizeof(plain) ||
		crypto_box_open_easy_afternm(plain, box, nbox, nonce, peer->disco_shared) != 0 ||
		wire_disco_get(&message, plain, nbox - WIRE_DISCO_MAC_LEN) != WIRE_OK)
		return;
	if (message.type == WIRE_DISCO_PING)
	{
		message.type = WIRE_DISCO_PONG;
		memcpy(message.source.ip, derp_address, 16);
		message.source.port = (uint16_t) region;
		send_disco(t, peer, &message);
	}
	else if (message.type == WIRE_DISCO_PONG)
		for (TunnelPing *ping = t->pings; ping != NULL; ping = ping->next)
			if (ping->kind == TUNNEL_PING_DISCO &&
				memcmp(ping->token, message.txid, sizeof(message.txid)) == 0)
			{
				ping_answered(ping, 0, region);
				return;
			}
}

void
tunnel_pings_end(Tunnel *t)
{
	while (t->pings != NULL)
	{
		if (t->pings->pong.error != 0)
			t->pings->pong.error = -ECANCELED;
		on_ping_limit(t->pings);
	}
}
