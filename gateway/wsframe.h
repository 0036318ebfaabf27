/*
 * wsframe.h -- WebSocket frames (RFC 6455, section 5.2) as bytes; no I/O.
 *
 *	 0         1                     2 | 4 | 10     + 4 if masked
 *	+---------+---------------------+--------------+------+----------- - -
 *	| F000 op | M len7              | len16, len64 | mask | payload
 *	+---------+---------------------+--------------+------+----------- - -
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_WSFRAME_H
#define GATEWAY_WSFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_MAX_HEADER 10
#define WS_MAX_CONTROL 125

enum
{
	WS_CONTINUATION = 0,
	WS_TEXT = 1,
	WS_BINARY = 2,
	WS_CLOSE = 8,
	WS_PING = 9,
	WS_PONG = 10
};

typedef enum WsEvent
{
	WS_NEED_MORE, /* nothing consumed or only a part of a message; feed more */
	WS_MESSAGE,	  /* data, len, opcode; valid until the next call */
	WS_CONTROL,	  /* data, len, opcode */
	WS_ERROR	  /* code: close with it */
} WsEvent;

/* A client's frames to messages. */
typedef struct WsReader
{
	size_t max_message;
	uint8_t *partial; /* of a fragmented message */
	size_t partial_len;
	int partial_opcode; /* 0: none */

	int opcode; /* of the event */
	const uint8_t *data;
	size_t len;
	int code;
} WsReader;

/* One event from input, which is unmasked in place; consumed: how much of it is done with. */
WsEvent ws_read(WsReader *reader, uint8_t *input, size_t len, size_t *consumed);
void ws_reader_free(WsReader *reader);

/* The header of a server's frame; returns its size. */
size_t ws_put_header(uint8_t dst[WS_MAX_HEADER], int opcode, size_t len);

bool ws_is_utf8(const uint8_t *p, size_t len);

/* May this code stand in a close frame? */
bool ws_close_code_ok(int code);

#endif
