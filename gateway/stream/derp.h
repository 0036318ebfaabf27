/*
 * derp.h -- the relay's start and numbers; gw_derp_open() is in stream.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_DERP_H
#define STREAM_DERP_H

#include <stdint.h>

/* Reads the server's key from the config folder, or makes one. */
void gw_derp_start(void);

typedef struct GwDerpStats
{
	int clients;
	uint64_t accepts;
	uint64_t received;
	uint64_t relayed;
	uint64_t dropped;
	uint64_t unknown; /* of those: nobody has the key */
	uint64_t bytes_received;
	uint64_t bytes_sent;
} GwDerpStats;

void gw_derp_stats(GwDerpStats *stats);

#endif
