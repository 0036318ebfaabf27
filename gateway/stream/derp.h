/*
 * derp.h -- the relay's start, numbers, and neighbours; gw_derp_open() is in stream.h.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_DERP_H
#define STREAM_DERP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

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
	uint64_t received_disco; /* of the received */
	uint64_t dropped_disco;	 /* of the dropped */
	uint64_t forwarded_in;	 /* from other relays */
	uint64_t forwarded_out;	 /* to them */
	uint64_t gone_disconnected;
	uint64_t gone_not_here; /* answers "peer gone", by why */
	uint64_t pings;
	uint64_t pongs;
	uint64_t unknown_frames;
	int home; /* clients that call this relay their home */
	uint64_t home_in;
	uint64_t home_out;
	double queue_ms; /* how long packets waited, a mean of late */
} GwDerpStats;

void gw_derp_stats(GwDerpStats *stats);

/*
 * Keys that come (here) and go; called under the relay's lock on any thread, so
 * it may do no more than queue.
 */
typedef struct GwDerpWatch
{
	struct GwDerpWatch *next; /* the relay's */
	void (*key)(void *arg, const uint8_t key[static WIRE_KEY_LEN], bool here);
	void *arg;
} GwDerpWatch;

/* Says first which keys are here.  The watch is the caller's, and stays until gw_derp_unwatch(). */
void gw_derp_watch(GwDerpWatch *watch);
void gw_derp_unwatch(GwDerpWatch *watch);

/* A packet that another relay has for a key here; dropped where it is gone.  On any thread. */
void gw_derp_deliver(const uint8_t source[static WIRE_KEY_LEN], const uint8_t key[static WIRE_KEY_LEN],
					 const uint8_t *data, size_t size);

#endif
