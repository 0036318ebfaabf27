/*
 * derp.h -- frames between a DERP relay and its clients.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_DERP_H
#define WIRE_DERP_H

#include "wire/wire.h"

#define WIRE_DERP_HEADER_LEN 5
#define WIRE_DERP_MAX_PACKET 65536
#define WIRE_DERP_MAX_FRAME (1024 * 1024) /* payload; a larger frame ends the connection */
#define WIRE_DERP_MAX_INFO 262144
#define WIRE_DERP_NONCE_LEN 24
#define WIRE_DERP_BOX_MAC 16
#define WIRE_DERP_MAGIC "DERP\xf0\x9f\x94\x91"
#define WIRE_DERP_MAGIC_LEN 8

typedef enum WireDerpType
{
	WIRE_DERP_SERVER_KEY = 0x01, /* S>C magic [8], server key [32] */
	WIRE_DERP_CLIENT_INFO = 0x02, /* C>S client key [32], nonce [24], box of JSON */
	WIRE_DERP_SERVER_INFO = 0x03, /* S>C nonce [24], box of JSON */
	WIRE_DERP_SEND_PACKET = 0x04, /* C>S destination [32], packet */
	WIRE_DERP_RECV_PACKET = 0x05, /* S>C source [32], packet */
	WIRE_DERP_KEEP_ALIVE = 0x06, /* S>C empty */
	WIRE_DERP_NOTE_PREFERRED = 0x07, /* C>S 1 byte: 01 home, 00 not */
	WIRE_DERP_PEER_GONE = 0x08, /* S>C key [32], reason [1] (may be missing: 00) */
	WIRE_DERP_PEER_PRESENT = 0x09, /* S>C key [32] */
	WIRE_DERP_FORWARD_PACKET = 0x0a, /* C>S source [32], destination [32], packet */
	WIRE_DERP_WATCH_CONNS = 0x10, /* C>S empty */
	WIRE_DERP_CLOSE_PEER = 0x11, /* C>S key [32] */
	WIRE_DERP_PING = 0x12, /* both 8 bytes */
	WIRE_DERP_PONG = 0x13, /* both 8 bytes */
	WIRE_DERP_HEALTH = 0x14, /* S>C text */
	WIRE_DERP_RESTARTING = 0x15 /* S>C reconnect in ms u32, try for ms u32 */
} WireDerpType;

#define WIRE_DERP_GONE_DISCONNECTED 0x00
#define WIRE_DERP_GONE_NOT_HERE 0x01

/* One frame; payload points into the input. */
typedef struct WireDerpFrame
{
	uint8_t type;
	const uint8_t *payload;
	size_t n;
} WireDerpFrame;

/*
 * The frame at the start of in[0..n).  WIRE_SHORT: *need is the size the whole
 * frame takes (or 5, while the header is not there).  WIRE_BAD: longer than
 * WIRE_DERP_MAX_FRAME.  A frame of unknown type is WIRE_OK: skip it.
 */
WireResult wire_derp_get(WireDerpFrame *frame, size_t *need, const uint8_t *in, size_t n);

/* Size of the whole frame. */
static inline size_t
wire_derp_size(const WireDerpFrame *frame)
{
	return WIRE_DERP_HEADER_LEN + frame->n;
}

/* Payloads.  Each checks that the frame is of its type. */
WireResult wire_derp_get_server_key(const uint8_t **key, const WireDerpFrame *frame);
WireResult wire_derp_get_client_info(const uint8_t **key, const uint8_t **nonce, const uint8_t **box,
									 size_t *nbox, const WireDerpFrame *frame);
WireResult wire_derp_get_server_info(const uint8_t **nonce, const uint8_t **box, size_t *nbox,
									 const WireDerpFrame *frame);

/* SendPacket, RecvPacket: the key and what follows. */
WireResult wire_derp_get_packet(const uint8_t **key, const uint8_t **packet, size_t *n,
								const WireDerpFrame *frame);
WireResult wire_derp_get_peer_gone(const uint8_t **key, uint8_t *reason, const WireDerpFrame *frame);

/* Encoders: the size, or 0 if it does not fit in cap. */
size_t wire_derp_put(uint8_t *dst, size_t cap, uint8_t type, const void *payload, size_t n);
size_t wire_derp_put_server_key(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN]);
size_t wire_derp_put_client_info(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN],
								 const uint8_t nonce[static WIRE_DERP_NONCE_LEN], const uint8_t *box,
								 size_t nbox);
size_t wire_derp_put_server_info(uint8_t *dst, size_t cap,
								 const uint8_t nonce[static WIRE_DERP_NONCE_LEN], const uint8_t *box,
								 size_t nbox);
size_t wire_derp_put_send(uint8_t *dst, size_t cap, const uint8_t to[static WIRE_KEY_LEN],
						  const uint8_t *packet, size_t n);
size_t wire_derp_put_recv(uint8_t *dst, size_t cap, const uint8_t from[static WIRE_KEY_LEN],
						  const uint8_t *packet, size_t n);
size_t wire_derp_put_peer_gone(uint8_t *dst, size_t cap, const uint8_t key[static WIRE_KEY_LEN],
							   uint8_t reason);
size_t wire_derp_put_note_preferred(uint8_t *dst, size_t cap, bool preferred);

#endif
