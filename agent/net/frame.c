/*
 * frame.c -- frames of a WebSocket as a client gets them (RFC 6455).
 *
 * SPDX-License-Identifier: MIT
 */
#include "net/frame.h"

#include "wire/wire.h"

size_t
net_frame_get(NetFrame *frame, const uint8_t *input, size_t n, size_t max, const char **problem)
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
	*frame = (NetFrame){input[0] & 0x0f, (input[0] & 0x80) != 0, input + header, (size_t) size};
	return header + (size_t) size;
}
