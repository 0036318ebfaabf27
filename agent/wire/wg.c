/*
 * wg.c -- WireGuard messages; all integers little-endian.
 *
 *	initiation  01000000 sender ephemeral[32] static[48] timestamp[28] mac1[16] mac2[16]       148
 *	response    02000000 sender receiver ephemeral[32] nothing[16] mac1[16] mac2[16]           92
 *	cookie      03000000 receiver nonce[24] cookie[32]                                         64
 *	data        04000000 receiver counter[8] sealed packet, padded to 16                       32 + n
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/wg.h"

static size_t
size_of(WireWgType type, size_t nsealed)
{
	switch (type)
	{
		case WIRE_WG_INITIATION:
			return WIRE_WG_INITIATION_LEN;
		case WIRE_WG_RESPONSE:
			return WIRE_WG_RESPONSE_LEN;
		case WIRE_WG_COOKIE:
			return WIRE_WG_COOKIE_LEN;
		case WIRE_WG_DATA:
			return WIRE_WG_DATA_HEADER_LEN + nsealed;
	}
	return 0;
}

WireResult
wire_wg_get(WireWgMessage *message, const uint8_t *in, size_t n)
{
	WireWgMessage m = {0};

	if (n < 4 || in[0] < WIRE_WG_INITIATION || in[0] > WIRE_WG_DATA || in[1] != 0 || in[2] != 0 ||
		in[3] != 0)
		return WIRE_BAD;
	m.type = (WireWgType) in[0];
	if (m.type == WIRE_WG_DATA ? n < WIRE_WG_DATA_HEADER_LEN + WIRE_WG_TAG_LEN
							   : n != size_of(m.type, 0))
		return WIRE_BAD;
	switch (m.type)
	{
		case WIRE_WG_INITIATION:
			m.sender = wire_get32le(in + 4);
			m.ephemeral = in + 8;
			m.sealed_static = in + 40;
			m.sealed_timestamp = in + 88;
			break;
		case WIRE_WG_RESPONSE:
			m.sender = wire_get32le(in + 4);
			m.receiver = wire_get32le(in + 8);
			m.ephemeral = in + 12;
			m.sealed_nothing = in + 44;
			break;
		case WIRE_WG_COOKIE:
			m.receiver = wire_get32le(in + 4);
			m.nonce = in + 8;
			m.sealed_cookie = in + 32;
			break;
		case WIRE_WG_DATA:
			m.receiver = wire_get32le(in + 4);
			m.counter = wire_get64le(in + 8);
			m.sealed = in + WIRE_WG_DATA_HEADER_LEN;
			m.nsealed = n - WIRE_WG_DATA_HEADER_LEN;
			break;
	}
	if (m.type == WIRE_WG_INITIATION || m.type == WIRE_WG_RESPONSE)
	{
		m.mac1 = in + n - 2 * WIRE_WG_MAC_LEN;
		m.mac2 = in + n - WIRE_WG_MAC_LEN;
	}
	*message = m;
	return WIRE_OK;
}

size_t
wire_wg_put(uint8_t *dst, size_t cap, const WireWgMessage *message)
{
	size_t n = size_of(message->type, message->nsealed);
	uint8_t *p = dst;

	if (n == 0 || cap < n || message->nsealed > cap)
		return 0;
	if (message->type != WIRE_WG_DATA)
		memset(dst, 0, n);
	p = wire_put32le(p, (uint32_t) message->type);
	if (message->type == WIRE_WG_INITIATION || message->type == WIRE_WG_RESPONSE)
		p = wire_put32le(p, message->sender);
	if (message->type != WIRE_WG_INITIATION)
		p = wire_put32le(p, message->receiver);
	if (message->ephemeral != NULL && message->type <= WIRE_WG_RESPONSE)
		wire_put_bytes(p, message->ephemeral, WIRE_KEY_LEN);
	else if (message->type == WIRE_WG_COOKIE && message->nonce != NULL)
		wire_put_bytes(p, message->nonce, WIRE_WG_COOKIE_NONCE_LEN);
	else if (message->type == WIRE_WG_DATA)
		wire_put64le(p, message->counter);
	return n;
}
