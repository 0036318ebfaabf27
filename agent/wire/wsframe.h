/*
 * wsframe.h -- frames of a WebSocket (RFC 6455), of either end; no I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_WSFRAME_H
#define WIRE_WSFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_WS_CONTINUATION 0
#define WIRE_WS_TEXT 1
#define WIRE_WS_BINARY 2
#define WIRE_WS_CLOSE 8
#define WIRE_WS_PING 9
#define WIRE_WS_PONG 10
#define WIRE_WS_HEADER_MAX 14

typedef struct WireWsFrame
{
	int op;
	bool final;
	const uint8_t *data; /* into the input */
	size_t size;
} WireWsFrame;

/* Bytes that the frame at the front takes; 0: more must come, or *problem says what is wrong with it. */
size_t wire_ws_get(WireWsFrame *frame, const uint8_t *input, size_t n, size_t max, const char **problem);

/*
 * Puts a whole frame, masked, into dst, which has room for size and
 * WIRE_WS_HEADER_MAX.  The mask must be random.  Bytes of the frame.
 */
size_t wire_ws_put(uint8_t *dst, int op, const uint8_t mask[static 4], const void *data, size_t size);

/* The same two of a server: what it gets is masked, and unmasked in place; what it sends is not. */
size_t wire_ws_get_masked(WireWsFrame *frame, uint8_t *input, size_t n, size_t max, const char **problem);
size_t wire_ws_put_plain(uint8_t *dst, int op, const void *data, size_t size);

#endif
