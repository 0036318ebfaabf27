/*
 * ring.h -- the last bytes of a stream: what a terminal shows who attaches to it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_RING_H
#define AGENT_SERVE_RING_H

#include <stddef.h>
#include <stdint.h>

#define RING_SIZE 65536u

typedef struct Ring
{
	uint8_t data[RING_SIZE];
	size_t next;   /* where the next byte goes */
	size_t filled; /* at most RING_SIZE */
} Ring;

void ring_put(Ring *ring, const void *data, size_t size);

/* Copies what is kept, oldest first, to out (of RING_SIZE bytes); its size. */
size_t ring_get(const Ring *ring, uint8_t *out);

#endif
