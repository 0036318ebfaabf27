/*
 * rfb.c -- the client's end of RFB 3.8.
 *
 * Each state wants a number of bytes in head, but for pixels and what is skipped, which are taken as they come.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/rfb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

#define SECURITY_NONE 1
#define ENCODING_RAW 0
#define ENCODING_DESKTOP_SIZE (-223)
#define ENCODING_POINTER 0x574d5666 /* the server has moved the pointer */
#define MAX_SKIP ((uint64_t) 64 << 20)
#define PIXEL 4

static void
expect(Rfb *rfb, RfbState state, size_t want)
{
	if (rfb->state == RFB_FAILED)
		return;
	rfb->state = state;
	rfb->have = 0;
	rfb->want = want;
}

static void
fail(Rfb *rfb, const char *why)
{
	rfb->state = RFB_FAILED;
	if (rfb->error[0] == '\0')
		snprintf(rfb->error, sizeof(rfb->error), "%s", why);
}

static void
skip(Rfb *rfb, uint64_t n)
{
	if (n > MAX_SKIP)
		fail(rfb, "a message of the VNC server is too long");
	else if (n == 0)
		expect(rfb, RFB_MESSAGE, 1);
	else if (rfb->state != RFB_FAILED)
	{
		rfb->state = RFB_SKIP;
		rfb->skip = n;
	}
}

void
rfb_init(Rfb *rfb)
{
	memset(rfb, 0, sizeof(*rfb));
	expect(rfb, RFB_VERSION, 12);
}

void
rfb_free(Rfb *rfb)
{
	free(rfb->pixels);
	free(rfb->out);
	memset(rfb, 0, sizeof(*rfb));
}

bool
rfb_ready(const Rfb *rfb)
{
	return rfb->state >= RFB_MESSAGE && rfb->state < RFB_FAILED;
}

/* What is said ------------------------------------------------------------------ */

static void
put(Rfb *rfb, const uint8_t *bytes, size_t len)
{
	if (rfb->state == RFB_FAILED || len > RFB_MAX_OUT - rfb->out_len)
	{
		fail(rfb, "the VNC server takes nothing any more");
		return;
	}
	if (rfb->out_len + len > rfb->out_room)
	{
		size_t room = 2 * (rfb->out_len + len) + 256;
		uint8_t *grown = realloc(rfb->out, room);

		if (grown == NULL)
		{
			fail(rfb, "out of memory");
			return;
		}
		rfb->out = grown;
		rfb->out_room = room;
	}
	memcpy(rfb->out + rfb->out_len, bytes, len);
	rfb->out_len += len;
}

void
rfb_key(Rfb *rfb, uint32_t keysym, bool down)
{
	uint8_t message[8] = {4, down};

	wire_put32be(message + 4, keysym);
	put(rfb, message, sizeof(message));
}

void
rfb_pointer(Rfb *rfb, int x, int y, unsigned buttons)
{
	uint8_t message[6] = {5, (uint8_t) buttons};

	rfb->pointer_x = x;
	rfb->pointer_y = y;
	wire_put16be(message + 2, (uint16_t) x);
	wire_put16be(message + 4, (uint16_t) y);
	put(rfb, message, sizeof(message));
}

static void
ask(Rfb *rfb, int w, int h)
{
	uint8_t message[10] = {3, 0};

	wire_put16be(message + 6, (uint16_t) w);
	wire_put16be(message + 8, (uint16_t) h);
	rfb->pending = true;
	rfb->seen = 0;
	rfb->wanted = (uint64_t) w * (uint64_t) h;
	put(rfb, message, sizeof(message));
}

bool
rfb_ask(Rfb *rfb, bool keep)
{
	free(rfb->pixels);
	rfb->pixels = keep ? calloc((size_t) rfb->width * (size_t) rfb->height, PIXEL) : NULL;
	if (keep && rfb->pixels == NULL)
		return false;
	ask(rfb, keep ? rfb->width : 1, keep ? rfb->height : 1);
	return true;
}

/* The handshake ------------------------------------------------------------------- */

/* How pixels shall come, and which encodings. */
static void
set_up(Rfb *rfb)
{
	static const uint8_t format[20] = {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0};
	static const int32_t encodings[] = {ENCODING_RAW, ENCODING_DESKTOP_SIZE, ENCODING_POINTER};
	uint8_t message[4 + sizeof(encodings)] = {2, 0, 0, sizeof(encodings) / sizeof(encodings[0])};

	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
		wire_put32be(message + 4 + 4 * i, (uint32_t) encodings[i]);
	put(rfb, format, sizeof(format));
	put(rfb, message, sizeof(message));
}

static bool
take_size(Rfb *rfb, int w, int h)
{
	if (w < 1 || h < 1 || w > RFB_MAX_SIDE || h > RFB_MAX_SIDE)
	{
		fail(rfb, "the VNC server's screen has no size");
		return false;
	}
	rfb->width = w;
	rfb->height = h;
	return true;
}

static void
take_version(Rfb *rfb)
{
	if (memcmp(rfb->head, "RFB 003.", 8) != 0 || memcmp(rfb->head + 8, "008", 3) < 0 || rfb->head[11] != '\n')
	{
		fail(rfb, "the VNC server speaks no RFB 3.8");
		return;
	}
	put(rfb, (const uint8_t *) "RFB 003.008\n", 12);
	expect(rfb, RFB_SECURITY_COUNT, 1);
}

static void
take_types(Rfb *rfb)
{
	static const uint8_t none = SECURITY_NONE;

	if (memchr(rfb->head, SECURITY_NONE, rfb->want) == NULL)
	{
		fail(rfb, "the VNC server wants a password");
		return;
	}
	put(rfb, &none, 1);
	expect(rfb, RFB_SECURITY_RESULT, 4);
}

static void
take_init(Rfb *rfb)
{
	uint32_t name = wire_get32be(rfb->head + 20);

	if (!take_size(rfb, wire_get16be(rfb->head), wire_get16be(rfb->head + 2)))
		return;
	set_up(rfb);
	rfb->pointer_x = rfb->width / 2;
	rfb->pointer_y = rfb->height / 2;
	skip(rfb, name);
}

/* Messages ------------------------------------------------------------------------ */

static void
update_done(Rfb *rfb)
{
	expect(rfb, RFB_MESSAGE, 1);
	if (!rfb->pending)
		return;
	if (rfb->resized && rfb->pixels != NULL)
	{
		/* Another screen than was asked about. */
		rfb->resized = false;
		if (!rfb_ask(rfb, true))
			fail(rfb, "out of memory");
	}
	else if (rfb->resized || rfb->seen >= rfb->wanted)
		rfb->pending = rfb->resized = false;
}

static void
next_rectangle(Rfb *rfb)
{
	if (rfb->rectangles == 0)
		update_done(rfb);
	else
	{
		rfb->rectangles--;
		expect(rfb, RFB_RECTANGLE, 12);
	}
}

static void
take_resize(Rfb *rfb)
{
	if (!take_size(rfb, rfb->w, rfb->h))
		return;
	if (rfb->pixels != NULL)
	{
		uint8_t *pixels = calloc((size_t) rfb->w * (size_t) rfb->h, PIXEL);

		if (pixels == NULL)
		{
			fail(rfb, "out of memory");
			return;
		}
		free(rfb->pixels);
		rfb->pixels = pixels;
	}
	rfb->resized = true;
	next_rectangle(rfb);
}

static void
take_rectangle(Rfb *rfb)
{
	int32_t encoding = (int32_t) wire_get32be(rfb->head + 8);

	rfb->x = wire_get16be(rfb->head);
	rfb->y = wire_get16be(rfb->head + 2);
	rfb->w = wire_get16be(rfb->head + 4);
	rfb->h = wire_get16be(rfb->head + 6);
	rfb->at = 0;
	if (encoding == ENCODING_DESKTOP_SIZE)
		take_resize(rfb);
	else if (encoding == ENCODING_POINTER)
	{
		rfb->pointer_x = rfb->x;
		rfb->pointer_y = rfb->y;
		next_rectangle(rfb);
	}
	else if (encoding != ENCODING_RAW)
		fail(rfb, "the VNC server sends what was not asked for");
	else if (rfb->x + rfb->w > rfb->width || rfb->y + rfb->h > rfb->height)
		fail(rfb, "the VNC server paints beyond its screen");
	else if (rfb->w == 0 || rfb->h == 0)
		next_rectangle(rfb);
	else
		rfb->state = RFB_PIXELS;
}

static size_t
take_pixels(Rfb *rfb, const uint8_t *data, size_t len)
{
	uint64_t line = (uint64_t) rfb->w * PIXEL;
	uint64_t all = line * (uint64_t) rfb->h;
	size_t taken = 0;

	while (taken < len && rfb->at < all)
	{
		uint64_t row = rfb->at / line;
		uint64_t column = rfb->at % line;
		size_t n = line - column < len - taken ? (size_t) (line - column) : len - taken;

		if (rfb->pixels != NULL)
			memcpy(rfb->pixels + ((uint64_t) rfb->y + row) * (uint64_t) rfb->width * PIXEL + (uint64_t) rfb->x * PIXEL + column, data + taken, n);
		taken += n;
		rfb->at += n;
	}
	if (rfb->at == all)
	{
		rfb->seen += (uint64_t) rfb->w * (uint64_t) rfb->h;
		next_rectangle(rfb);
	}
	return taken;
}

static void
take_message(Rfb *rfb)
{
	switch (rfb->head[0])
	{
		case 0:
			expect(rfb, RFB_UPDATE, 3);
			break;
		case 1:
			expect(rfb, RFB_COLOURS, 5);
			break;
		case 2: /* a bell */
			expect(rfb, RFB_MESSAGE, 1);
			break;
		case 3:
			expect(rfb, RFB_CUT_TEXT, 7);
			break;
		default:
			fail(rfb, "the VNC server sends what was not asked for");
	}
}

/* What was wanted is in head. */
static void
take_head(Rfb *rfb)
{
	switch (rfb->state)
	{
		case RFB_VERSION:
			take_version(rfb);
			break;
		case RFB_SECURITY_COUNT:
			if (rfb->head[0] == 0)
				expect(rfb, RFB_REASON_LENGTH, 4);
			else
				expect(rfb, RFB_SECURITY_TYPES, rfb->head[0]);
			break;
		case RFB_SECURITY_TYPES:
			take_types(rfb);
			break;
		case RFB_SECURITY_RESULT:
			if (wire_get32be(rfb->head) != 0)
				expect(rfb, RFB_REASON_LENGTH, 4);
			else
			{
				static const uint8_t shared = 1;

				put(rfb, &shared, 1);
				expect(rfb, RFB_INIT, 24);
			}
			break;
		case RFB_REASON_LENGTH:
			{
				uint32_t n = wire_get32be(rfb->head);

				if (n == 0)
					fail(rfb, "the VNC server refuses");
				else
					expect(rfb, RFB_REASON, n < 100 ? n : 100);
				break;
			}
		case RFB_REASON:
			snprintf(rfb->error, sizeof(rfb->error), "the VNC server refuses: %.*s", (int) rfb->want, (const char *) rfb->head);
			rfb->state = RFB_FAILED;
			break;
		case RFB_INIT:
			take_init(rfb);
			break;
		case RFB_MESSAGE:
			take_message(rfb);
			break;
		case RFB_UPDATE:
			rfb->rectangles = wire_get16be(rfb->head + 1);
			next_rectangle(rfb);
			break;
		case RFB_RECTANGLE:
			take_rectangle(rfb);
			break;
		case RFB_COLOURS:
			skip(rfb, 6 * (uint64_t) wire_get16be(rfb->head + 3));
			break;
		case RFB_CUT_TEXT:
			skip(rfb, wire_get32be(rfb->head + 3));
			break;
		default:
			break;
	}
}

bool
rfb_feed(Rfb *rfb, const uint8_t *data, size_t len)
{
	while (len > 0 && rfb->state != RFB_FAILED)
	{
		size_t n;

		if (rfb->state == RFB_PIXELS)
			n = take_pixels(rfb, data, len);
		else if (rfb->state == RFB_SKIP)
		{
			n = rfb->skip < len ? (size_t) rfb->skip : len;
			rfb->skip -= n;
			if (rfb->skip == 0)
				expect(rfb, RFB_MESSAGE, 1);
		}
		else
		{
			n = rfb->want - rfb->have < len ? rfb->want - rfb->have : len;
			memcpy(rfb->head + rfb->have, data, n);
			rfb->have += n;
			if (rfb->have == rfb->want)
				take_head(rfb);
		}
		data += n;
		len -= n;
	}
	return rfb->state != RFB_FAILED;
}
