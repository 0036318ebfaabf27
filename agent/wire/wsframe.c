/*
 * wsframe.c -- frames of a WebSocket (RFC 6455), of either end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/wsframe.h"

#include "wire/wire.h"

/* masked: from a client.  The frame's data is as it came. */
static size_t
ws_get(WireWsFrame *frame, const uint8_t *input, size_t n, size_t max, bool masked, const char **problem)
{
	size_t header = masked ? 6 : 2;
	uint64_t size;

	*problem = NULL;
	if (n < 2)
		return 0;
	size = input[1] & 0x7f;
	header += size == 126 ? 2 : size == 127 ? 8 : 0;
	if ((input[0] & 0x70) != 0 || ((input[1] & 0x80) != 0) != masked)
		*problem = masked ? "reserved bits or no mask" : "reserved bits or a mask";
	else if ((input[0] & 0x08) != 0 && ((input[0] & 0x80) == 0 || size > 125))
		*problem = "a control frame is fragmented or too long";
	if (*problem != NULL || n < header)
		return 0;
	if (size == 126)
		size = wire_get16be(input + 2);
	else if (size == 127)
		size = wire_get64be(input + 2);
	if (size > max)
		*problem = "a frame is too long";
	if (*problem != NULL || n - header < size)
		return 0;
	*frame = (WireWsFrame){input[0] & 0x0f, (input[0] & 0x80) != 0, input + header, (size_t) size};
	return header + (size_t) size;
}

size_t
wire_ws_get(WireWsFrame *frame, const uint8_t *input, size_t n, size_t max, const char **problem)
{
	return ws_get(frame, input, n, max, false, problem);
}

size_t
wire_ws_get_masked(WireWsFrame *frame, uint8_t *input, size_t n, size_t max, const char **problem)
{
	size_t taken = ws_get(frame, input, n, max, true, problem);
	uint8_t *data = input + taken - (taken > 0 ? frame->size : 0);

	for (size_t i = 0; taken > 0 && i < frame->size; i++)
		data[i] ^= data[(ptrdiff_t) (i & 3) - 4];
	return taken;
}

/* Everything in front of the payload but the mask. */
static uint8_t *
ws_header(uint8_t *dst, int op, uint8_t mask_bit, size_t size)
{
	uint8_t *p = wire_put8(dst, (uint8_t) (0x80 | op));

	if (size < 126)
		return wire_put8(p, (uint8_t) (mask_bit | size));
	if (size < 65536)
		return wire_put16be(wire_put8(p, mask_bit | 126), (uint16_t) size);
	return wire_put64be(wire_put8(p, mask_bit | 127), size);
}

size_t
wire_ws_put(uint8_t *dst, int op, const uint8_t mask[static 4], const void *data, size_t size)
{
	const uint8_t *from = data;
	uint8_t *p = wire_put_bytes(ws_header(dst, op, 0x80, size), mask, 4);

	for (size_t i = 0; i < size; i++)
		p[i] = from[i] ^ mask[i & 3];
	return (size_t) (p - dst) + size;
}

size_t
wire_ws_put_plain(uint8_t *dst, int op, const void *data, size_t size)
{
	return (size_t) (wire_put_bytes(ws_header(dst, op, 0, size), data, size) - dst);
}
