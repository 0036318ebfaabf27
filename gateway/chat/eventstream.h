/*
 * eventstream.h -- AWS event streams (application/vnd.amazon.eventstream) as they arrive in pieces.
 *
 * All numbers are big endian; the checksums are CRC-32 as in gzip.
 *
 *	 0            4              8             12          12 + headers     total - 4
 *	+------------+--------------+-------------+-----------+----------------+-------------+
 *	| total size | size of the  | checksum of | headers   | payload        | checksum of |
 *	| of message | headers      | bytes 0..7  |           |                | all before  |
 *	+------------+--------------+-------------+-----------+----------------+-------------+
 *
 *	a header:
 *	+-----------+------+------+---------------------------------------------------------+
 *	| size of n | name | type | 0, 1: nothing; 2: 1 byte; 3: 2; 4: 4; 5, 8: 8; 9: 16;    |
 *	| (1 byte)  | n    | (1)  | 6, 7: size (2 bytes), then bytes or text                |
 *	+-----------+------+------+---------------------------------------------------------+
 *
 * Of the headers these count: ":message-type" ("event", "exception", "error"), ":event-type", ":exception-type",
 * ":error-code" and ":error-message".  No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_EVENTSTREAM_H
#define GATEWAY_CHAT_EVENTSTREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "wire/sse.h"

#define EVENTSTREAM_MAX_HEADERS ((size_t) 128 << 10)
#define EVENTSTREAM_MAX_MESSAGE ((size_t) 16 << 20)

typedef struct EventStream
{
	SseEvent event; /* name: the event's type, or "!" and the type of an exception or code of an error; data: the payload */
	void *arg;
	unsigned char *bytes;
	size_t len;
	size_t room;
	bool broken;
} EventStream;

void eventstream_init(EventStream *stream, SseEvent event, void *arg);
void eventstream_free(EventStream *stream);

/* False: what came is no such stream, a checksum is wrong, a message is too long, or no memory; nothing more is read then. */
bool eventstream_feed(EventStream *stream, const char *bytes, size_t len);

#endif
