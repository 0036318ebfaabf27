/*
 * disco.c -- path probes between two endpoints.
 *
 *	0                   6             38           62         78
 *	+-------------------+-------------+------------+----------+-------------- - -
 *	| 54 53 f0 9f 92 ac | sender [32] | nonce [24] | tag [16] | ciphertext
 *	+-------------------+-------------+------------+----------+-------------- - -
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/disco.h"

#define ENDPOINT_LEN 18

static const uint8_t magic[WIRE_DISCO_MAGIC_LEN] = {0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac};

bool
wire_disco_looks_like(const uint8_t *in, size_t n)
{
	return n >= WIRE_DISCO_HEADER_LEN && memcmp(in, magic, sizeof(magic)) == 0;
}

WireResult
wire_disco_get_envelope(const uint8_t **sender, const uint8_t **nonce, const uint8_t **box,
						size_t *nbox, const uint8_t *in, size_t n)
{
	if (!wire_disco_looks_like(in, n) || n < WIRE_DISCO_HEADER_LEN + WIRE_DISCO_MAC_LEN)
		return WIRE_BAD;
	*sender = in + WIRE_DISCO_MAGIC_LEN;
	*nonce = *sender + WIRE_KEY_LEN;
	*box = in + WIRE_DISCO_HEADER_LEN;
	*nbox = n - WIRE_DISCO_HEADER_LEN;
	return WIRE_OK;
}

size_t
wire_disco_put_envelope(uint8_t *dst, size_t cap, const uint8_t sender[static WIRE_KEY_LEN],
						const uint8_t nonce[static WIRE_DISCO_NONCE_LEN])
{
	if (cap < WIRE_DISCO_HEADER_LEN)
		return 0;
	dst = wire_put_bytes(dst, magic, sizeof(magic));
	dst = wire_put_bytes(dst, sender, WIRE_KEY_LEN);
	wire_put_bytes(dst, nonce, WIRE_DISCO_NONCE_LEN);
	return WIRE_DISCO_HEADER_LEN;
}

static WireDiscoEndpoint
get_endpoint(const uint8_t *in)
{
	WireDiscoEndpoint endpoint;

	memcpy(endpoint.ip, in, 16);
	endpoint.port = wire_get16be(in + 16);
	return endpoint;
}

static uint8_t *
put_endpoint(uint8_t *p, const WireDiscoEndpoint *endpoint)
{
	return wire_put16be(wire_put_bytes(p, endpoint->ip, 16), endpoint->port);
}

/* Version 0 and whole entries, else it reads as an empty list: "forget my addresses". */
static void
get_call_me_maybe(WireDiscoMessage *message, const uint8_t *in, size_t n)
{
	if (in[1] != 0 || (n - 2) % ENDPOINT_LEN != 0)
		return;
	for (size_t at = 2; at < n && message->nendpoints < WIRE_DISCO_MAX_ENDPOINTS; at += ENDPOINT_LEN)
		message->endpoints[message->nendpoints++] = get_endpoint(in + at);
}

/*
 *	ping           01 01 txid [12] node key [32]           zeros up to 1232
 *	pong           02 01 txid [12] address [16] port BE    zeros up to 1232
 *	call-me-maybe  03 00 (address [16] port BE) ...
 */
WireResult
wire_disco_get(WireDiscoMessage *message, const uint8_t *in, size_t n)
{
	if (n < 2)
		return WIRE_BAD;
	switch (in[0])
	{
		case WIRE_DISCO_PING:
			if (n < 2 + WIRE_DISCO_TXID_LEN)
				return WIRE_BAD;
			memset(message, 0, sizeof(*message));
			message->has_node = n >= 2 + WIRE_DISCO_TXID_LEN + WIRE_KEY_LEN;
			if (message->has_node)
				memcpy(message->node, in + 2 + WIRE_DISCO_TXID_LEN, WIRE_KEY_LEN);
			break;
		case WIRE_DISCO_PONG:
			if (n < 2 + WIRE_DISCO_TXID_LEN + ENDPOINT_LEN)
				return WIRE_BAD;
			memset(message, 0, sizeof(*message));
			message->source = get_endpoint(in + 2 + WIRE_DISCO_TXID_LEN);
			break;
		case WIRE_DISCO_CALL_ME_MAYBE:
			memset(message, 0, sizeof(*message));
			get_call_me_maybe(message, in, n);
			message->type = WIRE_DISCO_CALL_ME_MAYBE;
			return WIRE_OK;
		default:
			return WIRE_BAD;
	}
	message->type = (WireDiscoType) in[0];
	memcpy(message->txid, in + 2, WIRE_DISCO_TXID_LEN);
	return WIRE_OK;
}

size_t
wire_disco_put(uint8_t *dst, size_t cap, const WireDiscoMessage *message)
{
	bool probe = message->type != WIRE_DISCO_CALL_ME_MAYBE;
	size_t n = probe ? WIRE_DISCO_PROBE_LEN : 2 + ENDPOINT_LEN * message->nendpoints;
	uint8_t *p = dst;

	if (cap < n || message->nendpoints > WIRE_DISCO_MAX_ENDPOINTS)
		return 0;
	memset(dst, 0, n);
	p = wire_put8(p, (uint8_t) message->type);
	p = wire_put8(p, probe ? 1 : 0);
	if (probe)
		p = wire_put_bytes(p, message->txid, WIRE_DISCO_TXID_LEN);
	if (message->type == WIRE_DISCO_PING)
		wire_put_bytes(p, message->node, WIRE_KEY_LEN);
	else if (message->type == WIRE_DISCO_PONG)
		put_endpoint(p, &message->source);
	else
		for (size_t i = 0; i < message->nendpoints; i++)
			p = put_endpoint(p, &message->endpoints[i]);
	return n;
}
