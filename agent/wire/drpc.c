/*
 * drpc.c -- DRPC frames.
 *
 *	 0            1                                                    end
 *	+------------+----------------+----------------+--------------+---------- - -
 *	| control u8 | stream varint  | message varint | size varint  | data
 *	+------------+----------------+----------------+--------------+---------- - -
 *
 * control: bit 7 = may be ignored, bits 6..1 = kind, bit 0 = last frame of its
 * packet.  A varint has 7 bits a byte, the lowest first, 0x80 = more follows.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/drpc.h"

#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

#define CONTROL_MAY_IGNORE 0x80
#define CONTROL_DONE 0x01
#define MAX_VARINT 10

typedef struct Frame
{
	uint8_t control;
	uint64_t stream;
	uint64_t message;
	uint64_t size;
	size_t header_size;
} Frame;

/* WIRE_OK with *used, WIRE_SHORT, or WIRE_BAD. */
static WireResult
get_varint(const uint8_t *data, size_t size, uint64_t *value, size_t *used)
{
	uint64_t v = 0;

	for (size_t i = 0; i < MAX_VARINT; i++)
	{
		if (i == size)
			return WIRE_SHORT;
		if (i == MAX_VARINT - 1 && data[i] > 1)
			return WIRE_BAD;
		v |= (uint64_t) (data[i] & 0x7f) << (7 * i);
		if ((data[i] & 0x80) == 0)
		{
			*value = v;
			*used += i + 1;
			return WIRE_OK;
		}
	}
	return WIRE_BAD;
}

static size_t
varint_size(uint64_t v)
{
	size_t n = 1;

	while (v >= 0x80)
	{
		v >>= 7;
		n++;
	}
	return n;
}

static uint8_t *
put_varint(uint8_t *dst, uint64_t v)
{
	while (v >= 0x80)
	{
		*dst++ = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	*dst++ = (uint8_t) v;
	return dst;
}

static WireResult
get_frame_header(const uint8_t *data, size_t size, Frame *frame)
{
	size_t used = 1;
	uint64_t *const fields[] = {&frame->stream, &frame->message, &frame->size};

	if (size == 0)
		return WIRE_SHORT;
	frame->control = data[0];
	for (size_t i = 0; i < 3; i++)
	{
		WireResult result = get_varint(data + used, size - used, fields[i], &used);

		if (result != WIRE_OK)
			return result;
	}
	frame->header_size = used;
	return WIRE_OK;
}

/* Grows *buffer to hold need bytes; false where there is no memory. */
static bool
reserve(uint8_t **buffer, size_t *room, size_t need)
{
	uint8_t *bigger;

	if (need <= *room)
		return true;
	bigger = realloc(*buffer, need * 2);
	if (bigger == NULL)
		return false;
	*buffer = bigger;
	*room = need * 2;
	return true;
}

/* Adds a frame to the packet in the making; *done where it is the last. */
static const char *
add_frame(DrpcReader *reader, const Frame *frame, const uint8_t *data, bool *done)
{
	uint8_t kind = (frame->control >> 1) & 0x3f;
	bool continues = reader->kind != 0 && frame->stream == reader->stream && frame->message == reader->message;

	*done = false;
	if (frame->stream == 0 || frame->message == 0)
		return "an id of zero";
	if (frame->stream < reader->stream || (frame->stream == reader->stream && frame->message < reader->message))
		return "ids went backwards";
	if (continues && kind != reader->kind)
		return "the kind changed within a packet";
	if (kind < DRPC_INVOKE || kind > DRPC_METADATA)
		return frame->control & CONTROL_MAY_IGNORE ? NULL : "unknown kind";
	if (!continues)
		reader->packet_used = 0; /* what was incomplete is dropped, as the protocol has it */
	if (frame->size > DRPC_MAX_PACKET - reader->packet_used)
		return "a packet is larger than 4 MiB";
	if (!reserve(&reader->packet, &reader->packet_room, reader->packet_used + frame->size + 1))
		return "out of memory";
	memcpy(reader->packet + reader->packet_used, data, frame->size);
	reader->packet_used += frame->size;
	reader->stream = frame->stream;
	reader->message = frame->message;
	*done = (frame->control & CONTROL_DONE) != 0;
	reader->kind = *done ? 0 : kind;
	return NULL;
}

const char *
drpc_read(DrpcReader *reader,
		  const uint8_t *data,
		  size_t size,
		  bool (*on_packet)(void *arg, const DrpcPacket *packet),
		  void *arg)
{
	size_t at = 0;

	if (!reserve(&reader->buffer, &reader->room, reader->used + size + 1))
		return "out of memory";
	memcpy(reader->buffer + reader->used, data, size);
	reader->used += size;
	for (;;)
	{
		Frame frame;
		WireResult result = get_frame_header(reader->buffer + at, reader->used - at, &frame);
		const char *problem;
		bool done;

		if (result == WIRE_BAD)
			return "a number is too long";
		if (result == WIRE_OK && frame.size > DRPC_MAX_PACKET)
			return "a packet is larger than 4 MiB";
		if (result == WIRE_SHORT || frame.size > reader->used - at - frame.header_size)
			break;
		problem = add_frame(reader, &frame, reader->buffer + at + frame.header_size, &done);
		if (problem != NULL)
			return problem;
		at += frame.header_size + frame.size;
		if (done)
		{
			DrpcPacket packet = {(frame.control >> 1) & 0x3f, frame.stream, frame.message, reader->packet, reader->packet_used};

			if (!on_packet(arg, &packet))
				return NULL;
		}
	}
	reader->used -= at;
	memmove(reader->buffer, reader->buffer + at, reader->used);
	return NULL;
}

void
drpc_reader_init(DrpcReader *reader)
{
	memset(reader, 0, sizeof(*reader));
}

void
drpc_reader_free(DrpcReader *reader)
{
	free(reader->buffer);
	free(reader->packet);
	memset(reader, 0, sizeof(*reader));
}

static size_t
frame_size(uint64_t stream, uint64_t message, size_t size)
{
	return 1 + varint_size(stream) + varint_size(message) + varint_size(size) + size;
}

size_t
drpc_packet_size(uint64_t stream, uint64_t message, size_t size)
{
	size_t total = 0;

	for (; size > DRPC_SPLIT; size -= DRPC_SPLIT)
		total += frame_size(stream, message, DRPC_SPLIT);
	return total + frame_size(stream, message, size);
}

size_t
drpc_put_packet(uint8_t *dst, DrpcKind kind, uint64_t stream, uint64_t message, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t *p = dst;

	for (;;)
	{
		size_t n = size > DRPC_SPLIT ? DRPC_SPLIT : size;
		uint8_t control = (uint8_t) (kind << 1);

		if (n == size)
			control |= CONTROL_DONE;
		if (kind == DRPC_CANCEL)
			control |= CONTROL_MAY_IGNORE;
		p = wire_put8(p, control);
		p = put_varint(p, stream);
		p = put_varint(p, message);
		p = put_varint(p, n);
		p = wire_put_bytes(p, bytes, n);
		size -= n;
		if (size > 0)
			bytes += n;
		else
			return (size_t) (p - dst);
	}
}
