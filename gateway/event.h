/*
 * event.h -- coder.events to whoever waits in this process.
 *
 * One connection of the process long-polls coder.events_after() and gives each
 * event to the subscribers of its channel, on their own loops, in one order.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_EVENT_H
#define GATEWAY_EVENT_H

#include "gateway.h"

typedef struct GwSubscription GwSubscription;

/*
 * An event of the channel; number is its place in this process.  payload is valid during the call (NUL-terminated).
 * payload NULL: events may have been missed (the database was restored or
 * promoted): read the state again.
 */
typedef void (*GwEventCallback)(void *arg, int64_t number, const char *payload, size_t len);

/* The subscription holds from now on.  The callback may unsubscribe. */
GwSubscription *gw_event_subscribe(GwLoop *loop, const char *channel, GwEventCallback cb, void *arg);
/*
 * Where the stream of events stands, to be asked before a statement is sent;
 * what follows it is delivered by gw_event_subscribe_from() even if it came
 * before the subscription.  position -1: from now on.
 */
int64_t gw_event_position(const GwLoop *loop);
GwSubscription *gw_event_subscribe_from(GwLoop *loop, const char *channel, int64_t position,
										GwEventCallback cb, void *arg);
void gw_event_unsubscribe(GwSubscription *subscription);

void gw_event_init(GwLoop *loop);		 /* per loop, before any subscription */
void gw_event_start(GwLoop *loop);		 /* the polling connection, on one loop */
void gw_event_stop(void);
int gw_event_count(const GwLoop *loop);	 /* subscriptions */

typedef struct GwEventStats
{
	int connected;
	int channels;
	uint64_t subscribes;
	uint64_t messages[2]; /* normal, and those above 7600 bytes */
	uint64_t bytes;
	uint64_t disconnections;
} GwEventStats;

void gw_event_stats(GwEventStats *stats);

#endif
