/*
 * meshframe.c -- frames between gateways: see meshframe.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "meshframe.h"

#include <stdbool.h>

#include "wire/wire.h"

static bool
size_fits(unsigned type, size_t size)
{
	switch (type)
	{
		case MESH_JOIN:
			return size == MESH_ID;
		case MESH_REQUEST:
			return size >= MESH_ID;
		case MESH_LEAVE:
			return size == MESH_ID + 1;
		case MESH_KEY:
		case MESH_NO_KEY:
			return size == MESH_KEY_SIZE;
		case MESH_PACKET:
			return size > 2 * MESH_KEY_SIZE;
		default:
			return true;
	}
}

size_t
mesh_get(MeshFrame *frame, const uint8_t *in, size_t n)
{
	size_t first;
	size_t size;
	unsigned type;

	if (n < MESH_HEADER)
		return 0;
	type = in[0];
	size = wire_get32be(in + 1);
	if (size > MESH_MAX_FRAME || n - MESH_HEADER < size || !size_fits(type, size))
		return 0;
	if (type < MESH_JOIN || type > MESH_PACKET)
	{
		*frame = (MeshFrame){0};
		return MESH_HEADER + size;
	}
	first = type >= MESH_KEY ? MESH_KEY_SIZE : MESH_ID;
	frame->type = (MeshType) type;
	frame->id = in + MESH_HEADER;
	frame->data = frame->id + first;
	frame->size = size - first;
	return MESH_HEADER + size;
}

size_t
mesh_put(uint8_t *out, MeshType type, const uint8_t *first, size_t first_size, const uint8_t *second,
		 size_t second_size, const void *data, size_t size)
{
	uint8_t *p = out;

	*p++ = (uint8_t) type;
	p = wire_put32be(p, (uint32_t) (first_size + second_size + size));
	p = wire_put_bytes(p, first, first_size);
	p = wire_put_bytes(p, second, second_size);
	p = wire_put_bytes(p, data, size);
	return (size_t) (p - out);
}
