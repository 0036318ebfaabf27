/*
 * dial.c -- connections to peers; one waits until its peer is there.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIAL_MS 30000

struct TunnelDial
{
	TunnelDial *prev, *next; /* while it waits for its peer */
	Tunnel *tunnel;
	TunnelDialFn fn;
	void *arg;
	NetstackDial *dial; /* NULL while it waits */
	LoopTimer timer;
	uint8_t address[TUNNEL_ADDR_LEN];
	uint16_t port;
	int64_t deadline; /* ns */
};

static void
on_dialled(void *arg, int fd)
{
	TunnelDial *dial = arg;
	TunnelDialFn fn = dial->fn;
	void *fn_arg = dial->arg;

	free(dial);
	fn(fn_arg, fd);
}

static void
dial_unlink(TunnelDial *dial)
{
	if (dial->prev != NULL)
		dial->prev->next = dial->next;
	else
		dial->tunnel->dials = dial->next;
	if (dial->next != NULL)
		dial->next->prev = dial->prev;
	loop_timer_stop(&dial->timer);
}

static void
dial_fail(TunnelDial *dial, int error)
{
	dial_unlink(dial);
	on_dialled(dial, error);
}

static void
on_dial_timeout(void *arg)
{
	dial_fail(arg, -ETIMEDOUT);
}

/*
 * Connects the dials whose peer has become one.  Before that a SYN would be
 * lost, and TCP would try again only after seconds.
 */
void
tunnel_dials_start(Tunnel *t)
{
	TunnelDial *next;

	for (TunnelDial *dial = t->dials; dial != NULL; dial = next)
	{
		const Peer *peer = tunnel_peer_by_address(t, dial->address);
		int64_t left = (dial->deadline - loop_now(t->loop)) / 1000000;

		next = dial->next;
		if (peer == NULL || peer->wg == NULL)
			continue;
		dial->dial = netstack_dial(t->netstack, dial->address, dial->port, left > 1 ? (int) left : 1, on_dialled, dial);
		if (dial->dial != NULL)
			dial_unlink(dial);
	}
}

TunnelDial *
tunnel_dial(Tunnel *t, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t port, int timeout_ms,
			TunnelDialFn fn, void *arg)
{
	TunnelDial *dial = calloc(1, sizeof(*dial));
	int64_t ms = timeout_ms == 0 ? DIAL_MS : timeout_ms;

	if (dial == NULL)
		return NULL;
	dial->tunnel = t;
	dial->fn = fn;
	dial->arg = arg;
	memcpy(dial->address, address, TUNNEL_ADDR_LEN);
	dial->port = port;
	dial->deadline = loop_now(t->loop) + ms * 1000000;
	dial->next = t->dials;
	if (dial->next != NULL)
		dial->next->prev = dial;
	t->dials = dial;
	loop_timer_init(&dial->timer, t->loop, on_dial_timeout, dial);
	loop_timer_start(&dial->timer, ms);
	tunnel_dials_start(t);
	return dial;
}

void
tunnel_dial_cancel(TunnelDial *dial)
{
	if (dial->dial != NULL)
		netstack_dial_cancel(dial->dial);
	else
		dial_unlink(dial);
	free(dial);
}

void
tunnel_dials_end(Tunnel *t)
{
	while (t->dials != NULL)
		dial_fail(t->dials, -ECANCELED);
}
