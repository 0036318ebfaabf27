/*
 * coordinator.h -- who is on the tailnet, and who is told of whom.
 *
 * A peer is one open Coordinate stream.  Peers of all event loops share one
 * coordinator; every function may be called on any thread.  What a peer is to
 * be told waits in its queue: wake() says so, coord_take() fetches it.
 *
 * The coordinator checks nothing: who calls it has authorized the request.
 *
 * Several gateways make one tailnet: each watches what its own streams do and
 * tells the others, where remote peers stand for them and do the same again.
 * A remote peer has tunnels and a node as any other, but is told nothing here.
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

/*
 * What the streams of this process do, as it happens; called under the
 * coordinator's lock on any thread, so it may do no more than queue.
 */
typedef struct CoordWatch
{
	struct CoordWatch *next; /* the coordinator's */
	void (*joined)(void *arg, const uint8_t id[static COORD_ID_LEN]);
	/* request: a packed CoordinateRequest. */
	void (*requested)(void *arg, const uint8_t id[static COORD_ID_LEN], const uint8_t *request, size_t size);
	void (*left)(void *arg, const uint8_t id[static COORD_ID_LEN], bool lost);
	void *arg;
} CoordWatch;

/* Says first what led to what is there now.  The watch is the caller's, and stays until coord_unwatch(). */
void coord_watch(CoordWatch *watch);
void coord_unwatch(CoordWatch *watch);

/* The peers of one other gateway.  NULL when out of memory. */
typedef struct CoordRemote CoordRemote;

CoordRemote *coord_remote_open(void);

/* A stream has opened there: one of the id here, or elsewhere, is over.  False: out of memory. */
bool coord_remote_join(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN]);

/* As coord_request() and the stream's end; nothing where the id is not (or no longer) of that gateway. */
void coord_remote_request(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN],
						  const Coder__Tailnet__V2__CoordinateRequest *request);
void coord_remote_leave(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN], bool lost);

/* All its peers are lost. */
void coord_remote_close(CoordRemote *remote);

typedef struct CoordStats
{
	size_t peers; /* of this process */
	size_t remote_peers;
	size_t tunnels;
} CoordStats;

void coord_stats(CoordStats *stats);

/* All peers and tunnels as a page of HTML (free it); NULL when out of memory. */
char *coord_page(size_t *size);

#endif
