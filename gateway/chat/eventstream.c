/*
 * eventstream.c -- AWS event streams as they arrive in pieces.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "eventstream.h"

#define PRELUDE 12
#define CHECKSUM 4
#define MAX_NAME 64

typedef struct Header
{
	const unsigned char *name;
	size_t name_len;
	const unsigned char *value; /* of bytes and text */
	size_t value_len;
} Header;

/* What of a message's headers counts; "" where it is missing. */
typedef struct Kind
{
	char message[MAX_NAME];
	char event[MAX_NAME];
	char exception[MAX_NAME];
	char code[MAX_NAME];
} Kind;

void
eventstream_init(EventStream *stream, SseEvent event, void *arg)
{
	memset(stream, 0, sizeof(*stream));
	stream->event = event;
	stream->arg = arg;
}

void
eventstream_free(EventStream *stream)
{
	free(stream->bytes);
	stream->bytes = NULL;
	stream->len = 0;
	stream->room = 0;
}

static uint32_t
number(const unsigned char *at)
{
	return (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
}

static uint32_t
checksum(const unsigned char *bytes, size_t len)
{
	return (uint32_t) crc32(crc32(0, NULL, 0), bytes, (uInt) len);
}

/* The header at *at, which is moved behind it; false: it does not end before end, or has a type that is unknown. */
static bool
take_header(const unsigned char **at, const unsigned char *end, Header *header)
{
	static const size_t sizes[] = {0, 0, 1, 2, 4, 8, 0, 0, 8, 16};
	const unsigned char *p = *at;
	unsigned type;

	memset(header, 0, sizeof(*header));
	header->name_len = *p++;
	if (header->name_len == 0 || (size_t) (end - p) < header->name_len + 1)
		return false;
	header->name = p;
	p += header->name_len;
	type = *p++;
	if (type == 6 || type == 7)
	{
		if (end - p < 2)
			return false;
		header->value_len = (size_t) p[0] << 8 | p[1];
		p += 2;
		header->value = p;
	}
	else if (type >= sizeof(sizes) / sizeof(sizes[0]))
		return false;
	else
		header->value_len = sizes[type];
	if ((size_t) (end - p) < header->value_len)
		return false;
	*at = p + header->value_len;
	return true;
}

static bool
is_called(const Header *header, const char *name)
{
	return header->name_len == strlen(name) && memcmp(header->name, name, header->name_len) == 0 && header->value != NULL;
}

static void
copy(char to[MAX_NAME], const Header *header)
{
	snprintf(to, MAX_NAME, "%.*s", (int) header->value_len, (const char *) header->value);
}

static bool
take_headers(const unsigned char *at, size_t len, Kind *kind)
{
	const unsigned char *end = at + len;
	Header header;

	memset(kind, 0, sizeof(*kind));
	while (at < end)
	{
		if (!take_header(&at, end, &header))
			return false;
		if (is_called(&header, ":message-type"))
			copy(kind->message, &header);
		else if (is_called(&header, ":event-type"))
			copy(kind->event, &header);
		else if (is_called(&header, ":exception-type"))
			copy(kind->exception, &header);
		else if (is_called(&header, ":error-code"))
			copy(kind->code, &header);
	}
	return true;
}

/* A message that is whole, of this size. */
static bool
take_message(EventStream *stream, const unsigned char *message, size_t total)
{
	size_t headers = number(message + 4);
	size_t len = total - PRELUDE - headers - CHECKSUM;
	const unsigned char *payload = message + PRELUDE + headers;
	Kind kind;
	char name[MAX_NAME + 1];
	char *data;

	if (number(message + total - CHECKSUM) != checksum(message, total - CHECKSUM) || !take_headers(message + PRELUDE, headers, &kind))
		return false;
	data = malloc(len + 1);
	if (data == NULL)
		return false;
	memcpy(data, payload, len);
	data[len] = '\0';
	if (strcmp(kind.message, "exception") == 0)
		snprintf(name, sizeof(name), "!%s", kind.exception);
	else if (strcmp(kind.message, "error") == 0)
		snprintf(name, sizeof(name), "!%s", kind.code);
	else
		snprintf(name, sizeof(name), "%s", kind.event);
	stream->event(stream->arg, name, data, len);
	free(data);
	return true;
}

static bool
keep(EventStream *stream, const char *bytes, size_t len)
{
	if (len > stream->room - stream->len)
	{
		size_t room = stream->len + len > 4096 ? 2 * (stream->len + len) : 4096;
		unsigned char *grown = realloc(stream->bytes, room);

		if (grown == NULL)
			return false;
		stream->bytes = grown;
		stream->room = room;
	}
	memcpy(stream->bytes + stream->len, bytes, len);
	stream->len += len;
	return true;
}

/* All messages of what is kept that are whole; false: it is no event stream. */
static bool
take_all(EventStream *stream)
{
	size_t at = 0;
	size_t left;

	while ((left = stream->len - at) >= PRELUDE)
	{
		const unsigned char *message = stream->bytes + at;
		size_t total = number(message);
		size_t headers = number(message + 4);

		if (number(message + 8) != checksum(message, 8) || total > EVENTSTREAM_MAX_MESSAGE || headers > EVENTSTREAM_MAX_HEADERS ||
			total < PRELUDE + headers + CHECKSUM)
			return false;
		if (left < total)
			break;
		if (!take_message(stream, message, total))
			return false;
		at += total;
	}
	if (at > 0)
		memmove(stream->bytes, stream->bytes + at, stream->len - at);
	stream->len -= at;
	return true;
}

bool
eventstream_feed(EventStream *stream, const char *bytes, size_t len)
{
	if (len > 0 && !stream->broken)
		stream->broken = !keep(stream, bytes, len) || !take_all(stream);
	return !stream->broken;
}
