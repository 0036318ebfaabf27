/*
 * tunnel.c -- an endpoint of the tailnet.
 *
 * Outwards: netstack or ping -> address -> peer -> WireGuard (peer.c) -> the
 * relay of the peer's home region (relay.c).  Inwards the same way back; disco
 * is told apart by its magic, TSMP and answers to own echoes are taken before
 * the netstack.  Paths are DERP only: own endpoints stay empty, and
 * call-me-maybe is read and forgotten.  Regions and their relays: region.c; pings
 * and disco: ping.c; connections to peers: dial.c; ids, keys and addresses as
 * text: address.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel_int.h"

#include "wire/disco.h"

#include <stdio.h>
#include <stdlib.h>

#define READY_WAIT_MS 5000
#define KEEPALIVE_S 25
#define LOST_AFTER (15 * 60 * WG_SECOND)

/* Finding things. */

bool
tunnel_peer_has_address(const Peer *peer, const uint8_t *address)
{
	for (size_t i = 0; i < peer->naddresses; i++)
		if (memcmp(peer->addresses[i], address, TUNNEL_ADDR_LEN) == 0)
			return true;
	return false;
}

Peer *
tunnel_peer_by_address(Tunnel *t, const uint8_t *address)
{
	if (t->last_hit != NULL && tunnel_peer_has_address(t->last_hit, address))
		return t->last_hit;
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		if (tunnel_peer_has_address(peer, address))
			return t->last_hit = peer;
	return NULL;
}

static Peer *
peer_by_node_key(const Tunnel *t, const uint8_t *key)
{
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		if (peer->has_node && memcmp(peer->key, key, TUNNEL_KEY_LEN) == 0)
			return peer;
	return NULL;
}

static Peer *
peer_by_id(const Tunnel *t, const uint8_t *id)
{
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		if (memcmp(peer->id, id, TUNNEL_ID_LEN) == 0)
			return peer;
	return NULL;
}

/*
 * Who this node is to us under another id: a peer that connected to the
 * coordinator anew, which gave it a new one.  Its key proves who it is, and its
 * session and its streams go on.
 */
static Peer *
peer_adopt(Tunnel *t, const uint8_t *id, const TunnelNode *node)
{
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		if (peer->has_node && memcmp(peer->key, node->key, TUNNEL_KEY_LEN) == 0)
		{
			memcpy(peer->id, id, TUNNEL_ID_LEN);
			return peer;
		}
	return NULL;
}

static bool
own_address(const Tunnel *t, const uint8_t *address)
{
	for (size_t i = 0; i < t->config.naddresses; i++)
		if (memcmp(t->config.addresses[i], address, TUNNEL_ADDR_LEN) == 0)
			return true;
	return false;
}

bool
tunnel_self(const Tunnel *t, TunnelNode *self)
{
	const Region *home = tunnel_region((Tunnel *) (uintptr_t) t, t->home);

	memset(self, 0, sizeof(*self));
	self->id = t->config.node_id;
	if (home != NULL && home->websocket_reason[0] != '\0')
	{
		self->forced_websocket_region = home->id;
		self->forced_websocket_reason = home->websocket_reason;
	}
	memcpy(self->key, wg_device_identity(t->wg)->public_key, TUNNEL_KEY_LEN);
	memcpy(self->disco, t->disco_public, TUNNEL_KEY_LEN);
	self->preferred_derp = t->home;
	self->naddresses = self->nallowed = t->config.naddresses;
	memcpy(self->addresses, t->config.addresses, sizeof(self->addresses));
	memcpy(self->allowed_ips, t->config.addresses, sizeof(self->allowed_ips));
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].latency >= 0)
		{
			snprintf(self->latencies[self->nlatencies].name,
					 sizeof(self->latencies[0].name),
					 "%d-v4",
					 t->regions[i].id);
			self->latencies[self->nlatencies++].seconds = (double) t->regions[i].latency / 1e9;
		}
	return t->home != 0;
}

/* WireGuard's time. */

static void
arm_wg(Tunnel *t)
{
	int64_t when = wg_device_deadline(t->wg);

	if (when == WG_NEVER)
		return;
	if (!loop_timer_running(&t->wg_timer) || t->wg_timer.when > when)
		loop_timer_start_at(&t->wg_timer, when);
}

static void
on_wg_timer(void *arg)
{
	Tunnel *t = arg;

	wg_device_tick(t->wg, loop_now(t->loop));
	arm_wg(t);
}

static void
on_wg_send(void *arg, WgPeer *wg, const uint8_t *datagram, size_t n)
{
	tunnel_send_to_peer(arg, wg_peer_owner(wg), datagram, n);
}

static void
tell_state(const Peer *peer, TunnelPeerState state)
{
	const TunnelConfig *config = &peer->tunnel->config;

	if (config->peer_state != NULL)
		config->peer_state(config->arg, peer->id, state);
}

static void
on_wg_up(void *arg, WgPeer *wg)
{
	(void) arg;
	tell_state(wg_peer_owner(wg), TUNNEL_PEER_UP);
}

/* A packet into the tunnel, to whom its destination belongs. */
void
tunnel_send_packet(Tunnel *t, const uint8_t *packet, size_t n)
{
	const Peer *peer = tunnel_peer_by_address(t, packet + 24);

	if (peer == NULL || peer->wg == NULL)
		return;
	wg_peer_send(peer->wg, packet, n, loop_now(t->loop));
	arm_wg(t);
}

static void
on_netstack_output(void *arg, const uint8_t *packet, size_t n)
{
	if (n >= IP6_HEADER)
		tunnel_send_packet(arg, packet, n);
}

/* What came out of WireGuard: it must be from that peer, and for us. */
static void
on_wg_receive(void *arg, WgPeer *wg, const uint8_t *packet, size_t n)
{
	Tunnel *t = arg;
	const Peer *peer = wg_peer_owner(wg);

	if (n < IP6_HEADER || packet[0] >> 4 != 6 || !tunnel_peer_has_address(peer, packet + 8) ||
		!own_address(t, packet + 24))
		return;
	if (packet[6] == PROTO_TSMP)
		tunnel_on_tsmp(t, peer, packet, n);
	else if (packet[6] == PROTO_ICMP6 && n == IP6_HEADER + 16 && packet[IP6_HEADER] == 129)
		tunnel_on_pong(t, peer, TUNNEL_PING_ICMP, packet + IP6_HEADER + 8);
	else
		netstack_input(t->netstack, packet, n);
}

void
tunnel_on_relay_packet(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN],
				const uint8_t *packet, size_t n)
{
	Tunnel *t = arg;
	Peer *peer = t->last_hit;

	if (peer == NULL || memcmp(peer->key, source, WIRE_KEY_LEN) != 0)
		peer = peer_by_node_key(t, source);
	if (peer == NULL)
		return;
	if (wire_disco_looks_like(packet, n))
		tunnel_on_disco(t, peer, relay_region(relay), packet, n);
	else if (peer->wg != NULL)
	{
		wg_device_receive(t->wg, peer->wg, packet, n, loop_now(t->loop));
		arm_wg(t);
	}
}

/* Peers. */

static void
add_traffic(TunnelTraffic *traffic, const Peer *peer)
{
	const WgStats *wg = peer->wg != NULL ? wg_peer_stats(peer->wg) : NULL;

	if (wg == NULL)
		return;
	traffic->rx_bytes += wg->rx_bytes;
	traffic->tx_bytes += wg->tx_bytes;
	traffic->rx_packets += wg->rx_packets;
	traffic->tx_packets += wg->tx_packets;
}

static void
peer_drop_session(Tunnel *t, Peer *peer)
{
	add_traffic(&t->gone, peer);
	wg_peer_remove(peer->wg);
	peer->wg = NULL;
}

/* Nobody is left who knows of its streams. */
static void
peer_abort_streams(const Peer *peer)
{
	for (size_t i = 0; i < peer->naddresses; i++)
		if (peer->tunnel->netstack != NULL)
			netstack_abort_peer(peer->tunnel->netstack, peer->addresses[i]);
}

static void
peer_remove(Peer *peer)
{
	Tunnel *t = peer->tunnel;

	tell_state(peer, TUNNEL_PEER_GONE);
	peer_abort_streams(peer);
	if (t->last_hit == peer)
		t->last_hit = NULL;
	if (peer->prev != NULL)
		peer->prev->next = peer->next;
	else
		t->peers = peer->next;
	if (peer->next != NULL)
		peer->next->prev = peer->prev;
	loop_timer_stop(&peer->ready_timer);
	loop_timer_stop(&peer->lost_timer);
	peer_drop_session(t, peer);
	sodium_memzero(peer, sizeof(*peer));
	free(peer);
}

/* Makes it a WireGuard peer when all that this needs is there. */
static void
peer_program(Peer *peer)
{
	Tunnel *t = peer->tunnel;

	if (!peer->has_node || !(t->config.destination || peer->ready || peer->waited))
		return;
	if (peer->wg == NULL)
	{
		peer->wg = wg_peer_add(t->wg, peer->key, peer);
		if (peer->wg == NULL)
			return;
		tunnel_region_relay(t, tunnel_region(t, peer->region));
		tell_state(peer, TUNNEL_PEER_ADDED);
		tunnel_dials_start(t);
	}
	if (!t->config.destination && peer->ready)
		wg_peer_keepalive(peer->wg, KEEPALIVE_S, loop_now(t->loop));
	arm_wg(t);
}

static void
on_ready_timer(void *arg)
{
	Peer *peer = arg;

	peer->waited = true;
	peer_program(peer);
}

/* How long a lost peer may still come back. */
static int64_t
lost_left(const Peer *peer)
{
	int64_t last = peer->wg == NULL ? 0 : wg_peer_stats(peer->wg)->last_handshake;
	int64_t left = last == 0 ? 0 : last + LOST_AFTER - loop_now(peer->tunnel->loop);

	return left < 0 ? 0 : left;
}

static void
on_lost_timer(void *arg)
{
	Peer *peer = arg;
	int64_t left = lost_left(peer);

	if (left > 0)
		loop_timer_start(&peer->lost_timer, left / 1000000 + 1);
	else
		peer_remove(peer);
}

static void
peer_lost(Peer *peer)
{
	if (peer->lost)
		return;
	peer->lost = true;
	loop_timer_stop(&peer->ready_timer);
	loop_timer_start(&peer->lost_timer, lost_left(peer) / 1000000 + 1);
}

static Peer *
peer_new(Tunnel *t, const uint8_t *id)
{
	Peer *peer = calloc(1, sizeof(*peer));

	if (peer == NULL)
		return NULL;
	peer->tunnel = t;
	memcpy(peer->id, id, TUNNEL_ID_LEN);
	loop_timer_init(&peer->ready_timer, t->loop, on_ready_timer, peer);
	loop_timer_init(&peer->lost_timer, t->loop, on_lost_timer, peer);
	peer->next = t->peers;
	if (peer->next != NULL)
		peer->next->prev = peer;
	t->peers = peer;
	return peer;
}

/* Own addresses of the node that are also allowed; nobody else's. */
static void
peer_set_addresses(Peer *peer, const TunnelNode *node)
{
	peer->naddresses = 0;
	for (size_t i = 0; i < node->nallowed && i < TUNNEL_ADDRESSES; i++)
		for (size_t j = 0; j < node->naddresses && j < TUNNEL_ADDRESSES; j++)
			if (memcmp(node->allowed_ips[i], node->addresses[j], TUNNEL_ADDR_LEN) == 0)
			{
				memcpy(peer->addresses[peer->naddresses++], node->addresses[j], TUNNEL_ADDR_LEN);
				break;
			}
}

static void
peer_set_node(Peer *peer, const TunnelNode *node)
{
	Tunnel *t = peer->tunnel;
	uint8_t disco_private[TUNNEL_KEY_LEN];

	if (peer->has_node && (memcmp(peer->key, node->key, TUNNEL_KEY_LEN) != 0 ||
						   memcmp(peer->disco, node->disco, TUNNEL_KEY_LEN) != 0))
	{
		peer_drop_session(t, peer); /* it has started anew */
		if (memcmp(peer->key, node->key, TUNNEL_KEY_LEN) != 0)
			peer_abort_streams(peer);
	}
	memcpy(peer->key, node->key, TUNNEL_KEY_LEN);
	memcpy(peer->disco, node->disco, TUNNEL_KEY_LEN);
	memcpy(disco_private, t->config.disco_private, TUNNEL_KEY_LEN);
	peer->has_disco = crypto_box_beforenm(peer->disco_shared, node->disco, disco_private) == 0;
	sodium_memzero(disco_private, sizeof(disco_private));
	peer->region = node->preferred_derp;
	peer_set_addresses(peer, node);
	peer->has_node = true;
	peer->lost = false;
	loop_timer_stop(&peer->lost_timer);
	if (!t->config.destination && !peer->ready)
		loop_timer_start(&peer->ready_timer, READY_WAIT_MS);
}

void
tunnel_peer_update(Tunnel *t, const uint8_t id[TUNNEL_ID_LEN], TunnelPeerKind kind,
				   const TunnelNode *node)
{
	Peer *peer = peer_by_id(t, id);
	bool bring = kind == TUNNEL_PEER_NODE || kind == TUNNEL_PEER_READY_FOR_HANDSHAKE;

	if (kind == TUNNEL_PEER_NODE && (node == NULL || node->preferred_derp == 0))
		return;
	if (peer == NULL && kind == TUNNEL_PEER_NODE)
		peer = peer_adopt(t, id, node);
	if (peer == NULL && (!bring || (peer = peer_new(t, id)) == NULL))
		return;
	switch (kind)
	{
		case TUNNEL_PEER_NODE:
			peer_set_node(peer, node);
			peer_program(peer);
			break;
		case TUNNEL_PEER_READY_FOR_HANDSHAKE:
			peer->ready = true;
			loop_timer_stop(&peer->ready_timer);
			peer_program(peer);
			break;
		case TUNNEL_PEER_LOST:
			peer_lost(peer);
			break;
		case TUNNEL_PEER_DISCONNECTED:
			peer_remove(peer);
			break;
	}
}

void
tunnel_peers_lost(Tunnel *t)
{
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		peer_lost(peer);
}

/* Streams. */

size_t
tunnel_streams_with(const Tunnel *t, const uint8_t address[TUNNEL_ADDR_LEN])
{
	return t->netstack == NULL ? 0 : netstack_streams_with(t->netstack, address);
}

bool
tunnel_flushed(const Tunnel *t)
{
	return netstack_flushed(t->netstack);
}

static bool
on_may_accept(void *arg, const uint8_t peer[16], uint16_t port)
{
	const TunnelConfig *config = &((Tunnel *) arg)->config;

	return config->may_accept != NULL && config->may_accept(config->arg, peer, port);
}

static void
on_accepted(void *arg, int fd, const uint8_t peer[16], uint16_t peer_port, uint16_t port)
{
	const TunnelConfig *config = &((Tunnel *) arg)->config;

	config->accepted(config->arg, fd, peer, peer_port, port);
}

TunnelTraffic
tunnel_traffic(const Tunnel *t)
{
	TunnelTraffic traffic = t->gone;

	for (const Peer *peer = t->peers; peer != NULL; peer = peer->next)
		add_traffic(&traffic, peer);
	return traffic;
}

size_t
tunnel_stats(const Tunnel *t, TunnelPeerStats *stats, size_t cap)
{
	size_t n = 0;

	for (const Peer *peer = t->peers; peer != NULL; peer = peer->next, n++)
	{
		TunnelPeerStats *s = &stats[n];

		if (n >= cap)
			continue;
		*s = (TunnelPeerStats){
			.derp_region = peer->region, .lost = peer->lost, .last_handshake_ns = -1};
		memcpy(s->id, peer->id, TUNNEL_ID_LEN);
		memcpy(s->address, peer->addresses[0], TUNNEL_ADDR_LEN);
		if (peer->wg != NULL)
		{
			const WgStats *wg = wg_peer_stats(peer->wg);

			s->rx_bytes = wg->rx_bytes;
			s->tx_bytes = wg->tx_bytes;
			s->rx_packets = wg->rx_packets;
			s->tx_packets = wg->tx_packets;
			if (wg->last_handshake != 0)
				s->last_handshake_ns = loop_now(t->loop) - wg->last_handshake;
		}
	}
	return n;
}

/* Life and death. */

static void
on_node_timer(void *arg)
{
	Tunnel *t = arg;
	TunnelNode self;

	if (t->config.node_changed != NULL && tunnel_self(t, &self))
		t->config.node_changed(t->config.arg, &self);
}

static void
fill_key(uint8_t key[TUNNEL_KEY_LEN])
{
	if (sodium_is_zero(key, TUNNEL_KEY_LEN))
		randombytes_buf(key, TUNNEL_KEY_LEN);
	key[0] &= 0xf8;
	key[31] = (uint8_t) ((key[31] & 0x7f) | 0x40);
}

static bool
make_parts(Tunnel *t)
{
	WgConfig wg = {.arg = t, .send = on_wg_send, .receive = on_wg_receive, .up = on_wg_up};
	NetstackConfig netstack = {.arg = t,
							   .output = on_netstack_output,
							   .may_accept = on_may_accept,
							   .accepted = on_accepted,
							   .naddresses = t->config.naddresses};

	memcpy(netstack.addresses, t->config.addresses, sizeof(netstack.addresses));
	memcpy(wg.private_key, t->config.node_private, sizeof(wg.private_key));
	t->wg = wg_device_create(&wg, loop_now(t->loop));
	t->netstack = netstack_create(t->loop, &netstack);
	sodium_memzero(wg.private_key, sizeof(wg.private_key));
	return t->wg != NULL && t->netstack != NULL;
}

Tunnel *
tunnel_create(Loop *loop, const TunnelConfig *config)
{
	Tunnel *t;

	if (sodium_init() < 0 || config->naddresses == 0 || config->naddresses > TUNNEL_ADDRESSES ||
		(t = calloc(1, sizeof(*t))) == NULL)
		return NULL;
	t->loop = loop;
	t->config = *config;
	fill_key(t->config.node_private);
	fill_key(t->config.disco_private);
	crypto_scalarmult_base(t->disco_public, t->config.disco_private);
	if (t->config.node_id == 0)
		randombytes_buf(&t->config.node_id, sizeof(t->config.node_id));
	t->config.node_id &= INT64_MAX;
	loop_timer_init(&t->wg_timer, loop, on_wg_timer, t);
	tunnel_regions_init(t);
	loop_timer_init(&t->node_timer, loop, on_node_timer, t);
	if (!make_parts(t))
	{
		tunnel_close(t);
		return NULL;
	}
	return t;
}

void
tunnel_close(Tunnel *t)
{
	if (t == NULL)
		return;
	t->config.peer_state = NULL;
	tunnel_dials_end(t);
	tunnel_pings_end(t);
	netstack_destroy(t->netstack); /* its resets still go out */
	t->netstack = NULL;
	while (t->peers != NULL)
		peer_remove(t->peers);
	wg_device_destroy(t->wg);
	tunnel_regions_free(t);
	loop_timer_stop(&t->wg_timer);
	loop_timer_stop(&t->node_timer);
	sodium_memzero(t, sizeof(*t));
	free(t);
}
