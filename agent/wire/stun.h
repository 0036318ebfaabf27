/*
 * stun.h -- STUN binding requests and responses (RFC 5389), as tailnet uses them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_STUN_H
#define WIRE_STUN_H

#include "wire/wire.h"

#define WIRE_STUN_TXID_LEN 12
#define WIRE_STUN_HEADER_LEN 20
#define WIRE_STUN_REQUEST_LEN 40

bool wire_stun_looks_like(const uint8_t *in, size_t n);

/* Binding request with SOFTWARE "tailnode" and FINGERPRINT: 40 bytes. */
size_t wire_stun_put_request(uint8_t *dst, size_t cap, const uint8_t txid[static WIRE_STUN_TXID_LEN]);

/* Any RFC 5389 binding request. */
WireResult wire_stun_get_request(const uint8_t **txid, const uint8_t *in, size_t n);

/* Success response with XOR-MAPPED-ADDRESS; ip is IPv6 or v4-mapped, here and below. */
size_t wire_stun_put_response(uint8_t *dst, size_t cap, const uint8_t txid[static WIRE_STUN_TXID_LEN],
							  const uint8_t ip[static 16], uint16_t port);
WireResult wire_stun_get_response(const uint8_t **txid, uint8_t ip[static 16], uint16_t *port,
								  const uint8_t *in, size_t n);

#endif
