/*
 * derp.c -- frames between a DERP relay and its clients.
 *
 *	 0      1                5
 *	+------+----------------+-------------------- - -
 *	| type | n       u32 BE | payload, n bytes
 *	+------+----------------+-------------------- - -
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/derp.h"

WireResult
wire_derp_get(WireDerpFrame *frame, size_t *need, const uint8_t *in, size_t n)
{
	uint32_t length;

	if (n < WIRE_DERP_HEADER_LEN)
	{
		*need = WIRE_DERP_HEADER_LEN;
		return WIRE_SHORT;
	}
	length = wire_get32be(in + 1);
	if (length > WIRE_DERP_MAX_FRAME)
		return WIRE_BAD;
	if (n - WIRE_DERP_HEADER_LEN < length)
	{
		*need = WIRE_DERP_HEADER_LEN + (size_t) length;
		return WIRE_SHORT;
	}
	*frame = (WireDerpFrame){.type = in[0], .payload = in + WIRE_DERP_HEADER_LEN, .n = length};
	return WIRE_OK;
}

/*
 * ServerKey:
 *	 0                          8                40
 *	+--------------------------+----------------+---- - -
 *	| 44 45 52 50 f0 9f 94 91  | key [32]       | ignored, payload <= 1024
 *	+--------------------------+----------------+---- - -
 */
WireResult
wire_derp_get_server_key(const uint8_t **key, const WireDerpFrame *frame)
{
	if (frame->type != WIRE_DERP_SERVER_KEY || frame->n < WIRE_DERP_MAGIC_LEN + WIRE_KEY_LEN ||
		frame->n > 1024 || memcmp(frame->payload, WIRE_DERP_MAGIC, WIRE_DERP_MAGIC_LEN) != 0)
		return WIRE_BAD;
	*key = frame->payload + WIRE_DERP_MAGIC_LEN;
	return WIRE_OK;
}

/*
 * ClientInfo:
 *	 0               32              56
 *	+---------------+---------------+------------------------ - -
 *	| client [32]   | nonce [24]    | tag [16], sealed JSON
 *	+---------------+---------------+------------------------ - -
 */
WireResult
wire_derp_get_client_info(const uint8_t **key, const uint8_t **nonce, const uint8_t **box,
						  size_t *nbox, const WireDerpFrame *frame)
{
	size_t head = WIRE_KEY_LEN + WIRE_DERP_NONCE_LEN;

	if (frame->type != WIRE_DERP_CLIENT_INFO || frame->n < head + WIRE_DERP_BOX_MAC ||
		frame->n > WIRE_DERP_MAX_INFO)
		return WIRE_BAD;
	*key = frame->payload;
	*nonce = frame->payload + WIRE_KEY_LEN;
	*box = frame->payload + head;
	*nbox = frame->n - head;
	return WIRE_OK;
}

/* ServerInfo: as ClientInfo, without the key. */
WireResult
wire_derp_get_server_info(const uint8_t **nonce, const uint8_t **box, size_t *nbox,
						  const WireDerpFrame *frame)
{
	if (frame->type != WIRE_DERP_SERVER_INFO ||
		frame->n < WIRE_DERP_NONCE_LEN + WIRE_DERP_BOX_MAC || frame->n > WIRE_DERP_MAX_INFO)
		return WIRE_BAD;
	*nonce = frame->payload;
	*box = frame->payload + WIRE_DERP_NONCE_LEN;
	*nbox = frame->n - WIRE_DERP_NONCE_LEN;
	return WIRE_OK;
}

WireResult
wire_derp_get_packet(const uint8_t **key, const uint8_t **packet, size_t *n,
					 const WireDerpFrame *frame)
{
	if ((frame->type != WIRE_DERP_SEND_PACKET && frame->type != WIRE_DERP_RECV_PACKET) ||
		frame->n < WIRE_KEY_LEN || frame->n > WIRE_KEY_LEN + WIRE_DERP_MAX_PACKET)
		return WIRE_BAD;
	*key = frame->payload;
	*packet = frame->payload + WIRE_KEY_LEN;
	*n = frame->n - WIRE_KEY_LEN;
	return WIRE_OK;
}

WireResult
wire_derp_get_peer_gone(const uint8_t **key, uint8_t *reason, const WireDerpFrame *frame)
{
	if (frame->type != WIRE_DERP_PEER_GONE || frame->n < WIRE_KEY_LEN)
		return WIRE_BAD;
	*key = frame->payload;
	*reason = frame->n > WIRE_KEY_LEN ? frame->payload[WIRE_KEY_LEN] : WIRE_DERP_GONE_DISCONNECTED;
	return WIRE_OK;
}

/* Header and room for n bytes of payload; NULL if they do not fit. */
static uint8_t *
put_header(uint8_t *dst, size_t cap, uint8_t type, size_t n)
{
	if (n > WIRE_DERP_MAX_FRAME || cap < WIRE_DERP_HEADER_LEN + n)
		return NULL;
	return wire_put32be(wire_put8(dst, type), (uint32_t) n);
}

/* A frame whose payload is two pieces. */
static size_t
put_two(uint8_t *dst, size_t cap, uint8_t type, const void *a, size_t na, const void *b, size_t nb)
{
	uint8_t *p = nb > WIRE_DERP_MAX_FRAME ? NULL : put_header(dst, cap, type, na + nb);

	if (p == NULL)
		return 0;
	p = wire_put_bytes(p, a, na);
	p = wire_put_bytes(p, b, nb);
	return (size_t) (p - dst);
}

size_t
wire_derp_put(uint8_t *dst, size_t cap, uint8_t type, const void *payload, size_t n)
{
	return put_two(dst, cap, type, payload, n, NULL, 0);
}

size_t
wire_derp_put_server_key(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN])
{
	return put_two(
		dst, cap, WIRE_DERP_SERVER_KEY, WIRE_DERP_MAGIC, WIRE_DERP_MAGIC_LEN, key, WIRE_KEY_LEN);
}

size_t
wire_derp_put_client_info(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN],
						  const uint8_t nonce[static WIRE_DERP_NONCE_LEN], const uint8_t *box,
						  size_t nbox)
{
	uint8_t head[WIRE_KEY_LEN + WIRE_DERP_NONCE_LEN];

	if (nbox > WIRE_DERP_MAX_INFO - sizeof(head))
		return 0;
	wire_put_bytes(wire_put_bytes(head, key, WIRE_KEY_LEN), nonce, WIRE_DERP_NONCE_LEN);
	return put_two(dst, cap, WIRE_DERP_CLIENT_INFO, head, sizeof(head), box, nbox);
}

size_t
wire_derp_put_server_info(uint8_t *dst, size_t cap, const uint8_t nonce[static WIRE_DERP_NONCE_LEN],
						  const uint8_t *box, size_t nbox)
{
	return put_two(dst, cap, WIRE_DERP_SERVER_INFO, nonce, WIRE_DERP_NONCE_LEN, box, nbox);
}

/*
 * SendPacket (04, key is the destination) and RecvPacket (05, the source):
 *
 *	 0      1                5                  37
 *	+------+----------------+------------------+----------------------- - -
 *	| type | 32 + n  u32 BE | key [32]         | packet [n], n <= 65536
 *	+------+----------------+------------------+----------------------- - -
 */
static size_t
put_packet(uint8_t *dst, size_t cap, uint8_t type, const uint8_t *key, const uint8_t *packet,
		   size_t n)
{
	if (n > WIRE_DERP_MAX_PACKET)
		return 0;
	return put_two(dst, cap, type, key, WIRE_KEY_LEN, packet, n);
}

size_t
wire_derp_put_send(uint8_t *dst, size_t cap, const uint8_t to[static WIRE_KEY_LEN],
				   const uint8_t *packet, size_t n)
{
	return put_packet(dst, cap, WIRE_DERP_SEND_PACKET, to, packet, n);
}

size_t
wire_derp_put_recv(uint8_t *dst, size_t cap, const uint8_t from[static WIRE_KEY_LEN],
				   const uint8_t *packet, size_t n)
{
	return put_packet(dst, cap, WIRE_DERP_RECV_PACKET, from, packet, n);
}

size_t
wire_derp_put_peer_gone(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN],
						uint8_t reason)
{
	return put_two(dst, cap, WIRE_DERP_PEER_GONE, key, WIRE_KEY_LEN, &reason, 1);
}

size_t
wire_derp_put_note_preferred(uint8_t *dst, size_t cap, bool preferred)
{
	uint8_t byte = preferred ? 1 : 0;

	return put_two(dst, cap, WIRE_DERP_NOTE_PREFERRED, &byte, 1, NULL, 0);
}
