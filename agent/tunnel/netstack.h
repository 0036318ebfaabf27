/*
 * netstack.h -- TCP inside the tunnel, over lwIP.
 *
 * Packets go in and out as raw IPv6; connections are stream descriptors: the
 * near end of a socket pair whose far end the netstack moves to and from TCP.
 * Half-close is carried both ways (shutdown(fd, SHUT_WR) sends FIN; the peer's
 * FIN reads as end of file), and so is back-pressure: what the owner of the
 * descriptor does not read closes the peer's window.  A reset ends the stream.
 *
 * lwIP has one state for the process: all netstacks live on one thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_NETSTACK_H
#define TUNNEL_NETSTACK_H

#include "loop.h"

#define NETSTACK_ADDRESSES 4
#define NETSTACK_MTU 1280

typedef struct Netstack Netstack;
typedef struct NetstackDial NetstackDial;

/* fd is the connected, non-blocking stream, now the callee's; or -errno. */
typedef void (*NetstackDialFn)(void *arg, int fd);

typedef struct NetstackConfig
{
	uint8_t addresses[NETSTACK_ADDRESSES][16];
	size_t naddresses;
	size_t max_streams; /* 0: 1024 */
	void *arg;

	/* A packet for the tunnel; must not call back into the netstack. */
	void (*output)(void *arg, const uint8_t *packet, size_t n);

	/* A SYN from peer to port: take the connection, or refuse with RST.  NULL: refuse all. */
	bool (*may_accept)(void *arg, const uint8_t peer[16], uint16_t port);

	/* An accepted connection; fd is now the callee's. */
	void (*accepted)(void *arg, int fd, const uint8_t peer[16], uint16_t peer_port, uint16_t port);
} NetstackConfig;

Netstack *netstack_create(Loop *loop, const NetstackConfig *config);

/* Resets all connections; dials that wait end with -ECANCELED. */
void netstack_destroy(Netstack *ns);

/* One IPv6 packet out of the tunnel (not TSMP: those the tunnel answers). */
void netstack_input(Netstack *ns, const uint8_t *packet, size_t n);

/* fn is called later, exactly once, unless cancelled.  NULL when out of memory. */
NetstackDial *netstack_dial(Netstack *ns, const uint8_t address[16], uint16_t port, int timeout_ms,
							NetstackDialFn fn, void *arg);
void netstack_dial_cancel(NetstackDial *dial);

/* The peer is gone: its streams end, and what lwIP still wants to send it is forgotten. */
void netstack_abort_peer(Netstack *ns, const uint8_t address[16]);

/* All that was written before a close of its stream has arrived; streams still open do not count. */
bool netstack_flushed(const Netstack *ns);

size_t netstack_streams(const Netstack *ns);

/* Those with one peer that their owner has not closed. */
size_t netstack_streams_with(const Netstack *ns, const uint8_t address[16]);

#endif
