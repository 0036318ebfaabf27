/*
 * tunnel.h -- the gateway as a peer of the tailnet: connections to agents.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_TUNNEL_H
#define STREAM_TUNNEL_H

#include "../gateway.h"

typedef struct GwDial GwDial;

/* fd: a non-blocking stream, the callee's; or -errno. */
typedef void (*GwDialFn)(void *arg, int fd);

/*
 * A TCP connection to a port of an agent.  fn comes once, on loop, unless
 * cancelled.  The caller has checked that its user may reach the agent.
 */
GwDial *gw_tunnel_dial(GwLoop *loop, const uint8_t agent[static 16], uint16_t port, GwDialFn fn, void *arg);
void gw_tunnel_dial_cancel(GwDial *dial);

void gw_tunnel_stop(void);

typedef struct GwTunnelStats
{
	int open; /* as of the call before */
	unsigned long long total;
} GwTunnelStats;

void gw_tunnel_stats(GwTunnelStats *stats);

#endif
