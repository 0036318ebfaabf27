/*
 * outbound.h -- HTTP requests of the server to others, for functions that ask for them.
 *
 * One thread runs them all with libcurl; the loops never wait.  Limits: the time
 * and the size of each answer, the number under way; no redirect is followed,
 * and TLS certificates are verified.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OUTBOUND_H
#define GATEWAY_OUTBOUND_H

#include "../gateway.h"
#include "plan.h"

typedef struct GwFetch GwFetch;

/* Runs on the loop, once unless cancelled, when every request of the plan has ended. */
typedef void (*GwFetchDone)(void *arg, OutboundPlan *plan);

/* Takes over what is in the plan (and frees it behind done).  Never calls back before it returns. */
GwFetch *gw_outbound_fetch(GwLoop *loop, OutboundPlan *plan, GwFetchDone done, void *arg);

/* Nobody waits any more: no callback.  On the loop's thread. */
void gw_outbound_cancel(GwFetch *fetch);

/* Requests under way, and since the start: answered (whatever the status), failed. */
typedef struct GwOutboundStats
{
	int running;
	uint64_t answered;
	uint64_t failed;
} GwOutboundStats;

void gw_outbound_stats(GwOutboundStats *stats);

/* Once per process before the loops run, and after. */
bool gw_outbound_start(void);
void gw_outbound_stop(void);

#endif
