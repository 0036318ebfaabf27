/*
 * coordinator.h -- who is on the tailnet, and who is told of whom.
 *
 * A peer is one open Coordinate stream.  Peers of all event loops share one
 * coordinator; every function may be called on any thread.  What a peer is to
 * be told waits in its queue: wake() says so, coord_take() fetches it.
 *
 * The coordinator checks nothing: who calls it has authorized the request.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_COORDINATOR_H
#define STREAM_COORDINATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/proto/tailnet.pb-c.h"

#define COORD_ID_LEN 16
#define COORD_QUEUE 512		/* answers that may wait for one peer */
#define COORD_MAX_NODE 65536 /* bytes of a Node */

typedef struct CoordPeer CoordPeer;

/*
 * A stream opens.  wake(arg) is called whenever there is something to take
 * after there was nothing; it runs on any thread under the coordinator's lock,
 * so it may do no more than post a message.  NULL when out of memory.
 *
 * A stream that has the id already is told so and is over.
 */
CoordPeer *coord_join(const uint8_t id[static COORD_ID_LEN], void (*wake)(void *arg), void *arg);

/*
 * One message of the peer, in the protocol's order.  False: the stream is over
 * (its last words may still wait in the queue).
 */
bool coord_request(CoordPeer *peer, const Coder__Tailnet__V2__CoordinateRequest *request);

/*
 * The next CoordinateResponse as bytes (free it), or NULL.  *over: the stream
 * has ended and nothing is left; close it.
 */
uint8_t *coord_take(CoordPeer *peer, size_t *size, bool *over);

/* An error as the last word of a stream; its peers learn that it is lost. */
void coord_refuse(CoordPeer *peer, const char *error);

/* The stream is closed; peer and wake's arg are not used again. */
void coord_leave(CoordPeer *peer);

typedef struct CoordStats
{
	size_t peers;
	size_t tunnels;
} CoordStats;

void coord_stats(CoordStats *stats);

/* All peers and tunnels as a page of HTML (free it); NULL when out of memory. */
char *coord_page(size_t *size);

#endif
