/*
 * screen.c -- pictures of a screen.
 *
 * A pixel of the smaller picture is the mean of the area that it covers, so that thin lines and letters stay.  PNG is deflate
 * with a head and sums, all of which zlib has; libpng would make the agent larger than its limit.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/screen.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "wire/wire.h"

#define ONE 256 /* the width of a pixel */
#define LEVEL 4
#define FILTER_UP 2

/* How much of each pixel from first on one of the smaller picture covers, in 1/256. */
typedef struct Span
{
	int first;
	int n;
	int begin; /* what of the first is covered is ONE - begin */
	int end;
} Span;

/* As which part of size pixels is pixel i of to seen? */
static Span
span_of(int i, int size, int to)
{
	int64_t from = (int64_t) i * size * ONE / to;
	int64_t until = (int64_t) (i + 1) * size * ONE / to;
	Span span;

	if (until <= from)
		until = from + 1;
	span.first = (int) (from / ONE);
	span.n = (int) ((until + ONE - 1) / ONE) - span.first;
	span.begin = (int) (from % ONE);
	span.end = (int) ((int64_t) (span.first + span.n) * ONE - until);
	return span;
}

static int
weight(const Span *span, int i)
{
	return ONE - (i == 0 ? span->begin : 0) - (i == span->n - 1 ? span->end : 0);
}

/* The mean of an area. */
static void
mean(const uint8_t *pixels, int w, const Span *column, const Span *row, uint8_t rgb[static 3])
{
	uint64_t sum[3] = {0};
	uint64_t all = 0;

	for (int y = 0; y < row->n; y++)
		for (int x = 0; x < column->n; x++)
		{
			const uint8_t *p = pixels + ((size_t) (row->first + y) * (size_t) w + (size_t) (column->first + x)) * 4;
			uint64_t part = (uint64_t) weight(row, y) * (uint64_t) weight(column, x);

			sum[0] += part * p[2];
			sum[1] += part * p[1];
			sum[2] += part * p[0];
			all += part;
		}
	for (int i = 0; i < 3; i++)
		rgb[i] = (uint8_t) ((sum[i] + all / 2) / all);
}

uint8_t *
screen_scale(const uint8_t *pixels, int w, int h, int to_w, int to_h)
{
	uint8_t *rgb = malloc((size_t) to_w * (size_t) to_h * 3);
	Span *columns = calloc((size_t) to_w, sizeof(*columns));

	if (rgb == NULL || columns == NULL)
	{
		free(rgb);
		free(columns);
		return NULL;
	}
	for (int x = 0; x < to_w; x++)
		columns[x] = span_of(x, w, to_w);
	for (int y = 0; y < to_h; y++)
	{
		Span row = span_of(y, h, to_h);

		for (int x = 0; x < to_w; x++)
			mean(pixels, w, &columns[x], &row, rgb + ((size_t) y * (size_t) to_w + (size_t) x) * 3);
	}
	free(columns);
	return rgb;
}

/* PNG ----------------------------------------------------------------------------- */

/* A chunk whose data is at p + 8 already. */
static uint8_t *
chunk(uint8_t *p, const char *type, size_t len)
{
	wire_put32be(p, (uint32_t) len);
	memcpy(p + 4, type, 4);
	return wire_put32be(p + 8 + len, (uint32_t) crc32(0, p + 4, (uInt) len + 4));
}

/* Each line as its difference from the one above: of a screen most are nothing. */
static uint8_t *
filtered(const uint8_t *rgb, size_t line, int h)
{
	uint8_t *lines = malloc((line + 1) * (size_t) h);

	for (int y = 0; lines != NULL && y < h; y++)
	{
		const uint8_t *from = rgb + (size_t) y * line;
		uint8_t *to = lines + (size_t) y * (line + 1);

		*to++ = y > 0 ? FILTER_UP : 0;
		for (size_t i = 0; i < line; i++)
			to[i] = (uint8_t) (from[i] - (y > 0 ? from[i - line] : 0));
	}
	return lines;
}

uint8_t *
screen_png(const uint8_t *rgb, int w, int h, size_t *len)
{
	static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	size_t line = 3 * (size_t) w;
	uint8_t *lines = filtered(rgb, line, h);
	uLongf packed = compressBound((uLong) ((line + 1) * (size_t) h));
	uint8_t *png = malloc(packed + 100);
	uint8_t *p = png;

	if (lines == NULL || png == NULL || compress2(png + 41, &packed, lines, (uLong) ((line + 1) * (size_t) h), LEVEL) != Z_OK)
	{
		free(lines);
		free(png);
		return NULL;
	}
	memcpy(p, magic, sizeof(magic));
	p += sizeof(magic);
	wire_put32be(p + 8, (uint32_t) w);
	wire_put32be(p + 12, (uint32_t) h);
	memcpy(p + 16, (const uint8_t[]){8, 2, 0, 0, 0}, 5); /* eight bits; red, green and blue */
	p = chunk(p, "IHDR", 13);
	p = chunk(p, "IDAT", packed);
	p = chunk(p, "IEND", 0);
	free(lines);
	*len = (size_t) (p - png);
	return png;
}

char *
screen_base64(const uint8_t *data, size_t len)
{
	char *text = malloc((len + 2) / 3 * 4 + 1);

	if (text != NULL)
		EVP_EncodeBlock((unsigned char *) text, data, (int) len);
	return text;
}
