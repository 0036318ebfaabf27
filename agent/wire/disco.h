/*
 * disco.h -- path probes between two endpoints: the envelope and what is in it.
 * Sealing is the caller's (crypto_box with a precomputed key).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_DISCO_H
#define WIRE_DISCO_H

#include "wire/wire.h"

#define WIRE_DISCO_MAGIC_LEN 6
#define WIRE_DISCO_NONCE_LEN 24
#define WIRE_DISCO_MAC_LEN 16
#define WIRE_DISCO_HEADER_LEN (WIRE_DISCO_MAGIC_LEN + WIRE_KEY_LEN + WIRE_DISCO_NONCE_LEN) /* 62 */
#define WIRE_DISCO_TXID_LEN 12
#define WIRE_DISCO_PROBE_LEN 1232 /* ping and pong, padded so that a small MTU never becomes direct */
#define WIRE_DISCO_MAX_ENDPOINTS 100

typedef enum WireDiscoType
{
	WIRE_DISCO_PING = 1,
	WIRE_DISCO_PONG = 2,
	WIRE_DISCO_CALL_ME_MAYBE = 3
} WireDiscoType;

typedef struct WireDiscoEndpoint
{
	uint8_t ip[16]; /* IPv6, or v4-mapped */
	uint16_t port;
} WireDiscoEndpoint;

typedef struct WireDiscoMessage
{
	WireDiscoType type;
	uint8_t txid[WIRE_DISCO_TXID_LEN]; /* ping, pong */
	bool has_node; /* ping */
	uint8_t node[WIRE_KEY_LEN];
	WireDiscoEndpoint source; /* pong: where the ping was seen to come from */
	size_t nendpoints; /* call-me-maybe */
	WireDiscoEndpoint endpoints[WIRE_DISCO_MAX_ENDPOINTS];
} WireDiscoMessage;

/* Is it disco at all?  What relays and receivers ask first. */
bool wire_disco_looks_like(const uint8_t *in, size_t n);

/* The envelope: sender's disco key, nonce, and the box (tag and ciphertext). */
WireResult wire_disco_get_envelope(const uint8_t **sender, const uint8_t **nonce,
								   const uint8_t **box, size_t *nbox, const uint8_t *in, size_t n);

/* Writes magic, sender and nonce: WIRE_DISCO_HEADER_LEN bytes; the box follows. */
size_t wire_disco_put_envelope(uint8_t *dst, size_t cap, const uint8_t sender[static WIRE_KEY_LEN],
							   const uint8_t nonce[static WIRE_DISCO_NONCE_LEN]);

/* The opened message.  Endpoints beyond WIRE_DISCO_MAX_ENDPOINTS are left out. */
WireResult wire_disco_get(WireDiscoMessage *message, const uint8_t *in, size_t n);
size_t wire_disco_put(uint8_t *dst, size_t cap, const WireDiscoMessage *message);

#endif
