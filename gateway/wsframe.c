/*
 * wsframe.c -- WebSocket frames as bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "wsframe.h"

typedef struct Frame
{
	bool fin;
	int opcode;
	size_t header;
	uint64_t len;
	uint8_t mask[4];
} Frame;

static WsEvent
refuse_frame(WsReader *reader, int code)
{
	reader->code = code;
	return WS_ERROR;
}

/* A client's header: 0 on success, 1 if more is needed, else a close code. */
static int
parse_header(const uint8_t *p, size_t n, Frame *frame)
{
	size_t size = 2;

	if (n < 2)
		return 1;
	frame->fin = (p[0] & 0x80) != 0;
	frame->opcode = p[0] & 0x0f;
	frame->len = p[1] & 0x7f;
	if ((p[0] & 0x70) != 0 || (p[1] & 0x80) == 0 || (frame->opcode > WS_BINARY && frame->opcode < WS_CLOSE) ||
		frame->opcode > WS_PONG)
		return 1002;
	if (frame->opcode >= WS_CLOSE && (!frame->fin || frame->len > WS_MAX_CONTROL))
		return 1002;
	size += frame->len == 126 ? 2 : frame->len == 127 ? 8 : 0;
	if (n < size + 4)
		return 1;
	if (size > 2)
	{
		frame->len = 0;
		for (size_t i = 2; i < size; i++)
			frame->len = frame->len << 8 | p[i];
	}
	if (frame->len >> 63 != 0)
		return 1002;
	memcpy(frame->mask, p + size, 4);
	frame->header = size + 4;
	return 0;
}

static void
unmask(uint8_t *p, size_t len, const uint8_t mask[4])
{
	uint32_t word;
	size_t i = 0;

	memcpy(&word, mask, 4);
	for (; i + 4 <= len; i += 4)
	{
		uint32_t v;

		memcpy(&v, p + i, 4);
		v ^= word;
		memcpy(p + i, &v, 4);
	}
	for (; i < len; i++)
		p[i] ^= mask[i & 3];
}

/* A data frame's payload becomes part of, or all of, a message. */
static WsEvent
take_data(WsReader *reader, const Frame *frame, uint8_t *payload)
{
	uint8_t *grown;

	if ((frame->opcode == WS_CONTINUATION) != (reader->partial_opcode != 0))
		return refuse_frame(reader, 1002);
	reader->data = payload;
	reader->len = (size_t) frame->len;
	reader->opcode = frame->opcode;
	if (frame->opcode == WS_CONTINUATION || !frame->fin)
	{
		if (frame->opcode != WS_CONTINUATION)
			reader->partial_opcode = frame->opcode;
		grown = realloc(reader->partial, reader->partial_len + reader->len + 1);
		if (grown == NULL)
			return refuse_frame(reader, 1011);
		memcpy(grown + reader->partial_len, payload, reader->len);
		reader->partial = grown;
		reader->partial_len += reader->len;
		if (!frame->fin)
			return WS_NEED_MORE;
		reader->data = reader->partial;
		reader->len = reader->partial_len;
		reader->opcode = reader->partial_opcode;
		reader->partial_len = 0;
		reader->partial_opcode = 0;
	}
	if (reader->opcode == WS_TEXT && !ws_is_utf8(reader->data, reader->len))
		return refuse_frame(reader, 1007);
	return WS_MESSAGE;
}

WsEvent
ws_read(WsReader *reader, uint8_t *input, size_t len, size_t *consumed)
{
	*consumed = 0;
	for (;;)
	{
		uint8_t *p = input + *consumed;
		size_t left = len - *consumed;
		Frame frame;
		int rc = parse_header(p, left, &frame);
		WsEvent event;

		if (rc > 1)
			return refuse_frame(reader, rc);
		if (rc == 0 && frame.opcode < WS_CLOSE && frame.len + reader->partial_len > reader->max_message)
			return refuse_frame(reader, 1009);
		if (rc == 1 || left - frame.header < frame.len)
			return WS_NEED_MORE;
		p += frame.header;
		*consumed += frame.header + (size_t) frame.len;
		unmask(p, (size_t) frame.len, frame.mask);
		if (frame.opcode >= WS_CLOSE)
		{
			reader->opcode = frame.opcode;
			reader->data = p;
			reader->len = (size_t) frame.len;
			return WS_CONTROL;
		}
		event = take_data(reader, &frame, p);
		if (event != WS_NEED_MORE)
			return event;
	}
}

void
ws_reader_free(WsReader *reader)
{
	free(reader->partial);
	reader->partial = NULL;
	reader->partial_len = 0;
	reader->partial_opcode = 0;
}

size_t
ws_put_header(uint8_t dst[WS_MAX_HEADER], int opcode, size_t len)
{
	dst[0] = (uint8_t) (0x80 | opcode);
	if (len < 126)
	{
		dst[1] = (uint8_t) len;
		return 2;
	}
	if (len <= 0xffff)
	{
		dst[1] = 126;
		dst[2] = (uint8_t) (len >> 8);
		dst[3] = (uint8_t) len;
		return 4;
	}
	dst[1] = 127;
	for (int i = 0; i < 8; i++)
		dst[2 + i] = (uint8_t) ((uint64_t) len >> (56 - 8 * i));
	return 10;
}

bool
ws_is_utf8(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		uint8_t c = p[i];
		size_t n = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : (c & 0xf0) == 0xe0 ? 2 : c >= 0xf0 && c <= 0xf4 ? 3 : 9;

		if (n == 9 || n > len - i - 1)
			return false;
		for (size_t k = 1; k <= n; k++)
			if ((p[i + k] & 0xc0) != 0x80)
				return false;
		/* overlong forms, surrogates, beyond U+10FFFF */
		if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) || (c == 0xf0 && p[i + 1] < 0x90) ||
			(c == 0xf4 && p[i + 1] > 0x8f))
			return false;
		i += n + 1;
	}
	return true;
}

bool
ws_close_code_ok(int code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}
