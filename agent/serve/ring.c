/*
 * ring.c -- the last bytes of a stream.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/ring.h"

#include <string.h>

void
ring_put(Ring *ring, const void *data, size_t size)
{
	const uint8_t *p = data;

	if (size > RING_SIZE)
	{
		p += size - RING_SIZE;
		size = RING_SIZE;
	}
	while (size > 0)
	{
		size_t n = RING_SIZE - ring->next;

		if (n > size)
			n = size;
		memcpy(ring->data + ring->next, p, n);
		ring->next = (ring->next + n) % RING_SIZE;
		ring->filled = ring->filled + n > RING_SIZE ? RING_SIZE : ring->filled + n;
		p += n;
		size -= n;
	}
}

size_t
ring_get(const Ring *ring, uint8_t *out)
{
	size_t first = ring->filled < RING_SIZE ? 0 : ring->next;

	memcpy(out, ring->data + first, ring->filled - (ring->filled < RING_SIZE ? 0 : first));
	if (ring->filled == RING_SIZE)
		memcpy(out + RING_SIZE - first, ring->data, first);
	return ring->filled;
}
