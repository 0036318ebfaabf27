/*
 * wg.h -- WireGuard messages: where the fields are.  The cryptography is in
 * tunnel/noise.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_WG_H
#define WIRE_WG_H

#include "wire/wire.h"

#define WIRE_WG_INITIATION_LEN 148
#define WIRE_WG_RESPONSE_LEN 92
#define WIRE_WG_COOKIE_LEN 64
#define WIRE_WG_DATA_HEADER_LEN 16
#define WIRE_WG_TAG_LEN 16
#define WIRE_WG_MAC_LEN 16
#define WIRE_WG_TIMESTAMP_LEN 12
#define WIRE_WG_COOKIE_NONCE_LEN 24

typedef enum WireWgType
{
	WIRE_WG_INITIATION = 1,
	WIRE_WG_RESPONSE = 2,
	WIRE_WG_COOKIE = 3,
	WIRE_WG_DATA = 4
} WireWgType;

/* Fields that a type does not have are NULL or 0. */
typedef struct WireWgMessage
{
	WireWgType type;
	uint32_t sender; /* initiation, response */
	uint32_t receiver; /* response, cookie, data */
	const uint8_t *ephemeral; /* initiation, response [32] */
	const uint8_t *sealed_static; /* initiation [32 + 16] */
	const uint8_t *sealed_timestamp; /* initiation [12 + 16] */
	const uint8_t *sealed_nothing; /* response [16] */
	const uint8_t *mac1, *mac2; /* initiation, response [16] */
	const uint8_t *nonce; /* cookie [24] */
	const uint8_t *sealed_cookie; /* cookie [16 + 16] */
	uint64_t counter; /* data */
	const uint8_t *sealed; /* data: ciphertext and tag */
	size_t nsealed;
} WireWgMessage;

/* A whole datagram.  Handshake messages must be of exactly their size. */
WireResult wire_wg_get(WireWgMessage *message, const uint8_t *in, size_t n);

/*
 * Writes type, indices, ephemeral, nonce, counter: what is not sealed.  Room
 * for the rest is left and zeroed; answers the message's size, 0 if it does not
 * fit.  For data, nsealed is taken from message.
 */
size_t wire_wg_put(uint8_t *dst, size_t cap, const WireWgMessage *message);

#endif
