/*
 * wsframe.c -- frames of a WebSocket as a client gets and sends them (RFC 6455).
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/wsframe.h"

#include "wire/wire.h"

size_t
wire_ws_get(WireWsFrame *frame, const uint8_t *input, size_t n, size_t max, const char **problem)
{
	size_t header = 2;
	uint64_t size;

	*problem = NULL;
	if (n < 2)
		return 0;
	size = input[1] & 0x7f;
	header += size == 126 ? 2 : size == 127 ? 8 : 0;
	if ((input[0] & 0x70) != 0 || (input[1] & 0x80) != 0)
		*problem = "reserved bits or a mask";
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
wire_ws_put(uint8_t *dst, int op, const uint8_t mask[static 4], const void *data, size_t size)
{
	const uint8_t *from = data;
	uint8_t *p = wire_put8(dst, (uint8_t) (0x80 | op));

	if (size < 126)
		p = wire_put8(p, (uint8_t) (0x80 | size));
	else if (size < 65536)
		p = wire_put16be(wire_put8(p, 0x80 | 126), (uint16_t) size);
	else
		p = wire_put64be(wire_put8(p, 0x80 | 127), size);
	p = wire_put_bytes(p, mask, 4);
	for (size_t i = 0; i < size; i++)
		p[i] = from[i] ^ mask[i & 3];
	return (size_t) (p - dst) + size;
}
