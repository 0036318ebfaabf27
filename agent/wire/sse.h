/*
 * sse.h -- server-sent events as they arrive in pieces (WHATWG HTML section 9.2.6).
 *
 * No I/O.  Lines may end in LF, CR LF or CR; a field is at most SSE_MAX_EVENT bytes.  A byte order mark is none of the first line.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_SSE_H
#define WIRE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#define SSE_MAX_EVENT ((size_t) 8 << 20)

/* An event that is complete: its name ("" where it has none) and its data, NUL-terminated. */
typedef void (*SseEvent)(void *arg, const char *name, const char *data, size_t len);

typedef struct Sse
{
	SseEvent event;
	void *arg;
	char *line;
	size_t line_len;
	size_t line_room;
	char *data;
	size_t data_len;
	size_t data_room;
	char name[64];
	bool has_data;
	bool begun;	   /* the first line was read */
	bool after_cr; /* a CR has ended a line: a LF behind it is none */
	bool broken;
} Sse;

void sse_init(Sse *sse, SseEvent event, void *arg);
void sse_free(Sse *sse);

/* False: an event is too long, or no memory; nothing more is read then. */
bool sse_feed(Sse *sse, const char *bytes, size_t len);

/* The stream has ended: what has come of the last event is an event, though its empty line is missing.  It may be cut off. */
void sse_end(Sse *sse);

#endif
