/*
 * tunnel_int.h -- what the files behind tunnel.h share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_TUNNEL_INT_H
#define CODER_TUNNEL_INT_H

#include "tunnel/tunnel.h"

#include "tunnel/netstack.h"
#include "tunnel/peer.h"
#include "tunnel/relay.h"

#include <sodium.h>

#define MAX_REGIONS TUNNEL_LATENCIES
#define PROTO_TSMP 99
#define PROTO_ICMP6 58
#define IP6_HEADER 40

typedef struct Region
{
	int id;
	char *host, *ip, *cert_name;
	int port;
	bool force_http, insecure;
	Relay *relay; /* NULL: not needed now */
	int64_t latency; /* ns; -1: not measured */
	bool failed;
	char websocket_reason[64]; /* kept when the relay goes; empty: none needed */
} Region;

typedef struct Peer
{
	struct Peer *prev, *next;
	Tunnel *tunnel;
	uint8_t id[TUNNEL_ID_LEN];
	bool has_node, ready, lost, waited;
	uint8_t key[TUNNEL_KEY_LEN];
	uint8_t disco[TUNNEL_KEY_LEN];
	uint8_t disco_shared[crypto_box_BEFORENMBYTES];
	bool has_disco;
	int region;
	size_t naddresses;
	uint8_t addresses[TUNNEL_ADDRESSES][TUNNEL_ADDR_LEN];
	WgPeer *wg;
	LoopTimer ready_timer;
	LoopTimer lost_timer;
} Peer;

struct Tunnel
{
	Loop *loop;
	TunnelConfig config;
	WgDevice *wg;
	Netstack *netstack;
	uint8_t disco_public[TUNNEL_KEY_LEN];
	Region regions[MAX_REGIONS];
	size_t nregions;
	int home; /* region id, 0: none */
	Peer *peers;
	Peer *last_hit; /* of an address: packets come in rows */
	TunnelTraffic gone; /* of peers that are no more */
	TunnelPing *pings;
	TunnelDial *dials; /* those that wait for their peer */
	LoopTimer wg_timer, choose_timer, idle_timer, node_timer;
};

/* tunnel.c */

bool tunnel_peer_has_address(const Peer *peer, const uint8_t *address);
Peer *tunnel_peer_by_address(Tunnel *t, const uint8_t *address);

/* A packet into the tunnel, to whom its destination belongs. */
void tunnel_send_packet(Tunnel *t, const uint8_t *packet, size_t n);

/* What a relay brought from source. */
void tunnel_on_relay_packet(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN],
					 const uint8_t *packet, size_t n);

/* region.c */

void tunnel_regions_init(Tunnel *t);
void tunnel_regions_free(Tunnel *t);
Region *tunnel_region(Tunnel *t, int id);

/* The relay of a region, connected to if it is not yet.  NULL: no such region. */
Relay *tunnel_region_relay(Tunnel *t, Region *region);

/* A datagram over the relay of the peer's home region. */
void tunnel_send_to_peer(Tunnel *t, const Peer *peer, const uint8_t *datagram, size_t n);

/* ping.c */

/* A disco message that peer sent over the relay of region. */
void tunnel_on_disco(Tunnel *t, Peer *peer, int region, const uint8_t *packet, size_t n);

/* TSMP out of the tunnel: answers a ping, or is the answer to one. */
void tunnel_on_tsmp(Tunnel *t, const Peer *peer, const uint8_t *packet, size_t n);

/* An answer of kind from peer with this token: 6 bytes and the try. */
void tunnel_on_pong(Tunnel *t, const Peer *peer, TunnelPingKind kind, const uint8_t *token);

void tunnel_pings_end(Tunnel *t);

/* dial.c */

/* Connects the dials whose peer has become one. */
void tunnel_dials_start(Tunnel *t);
void tunnel_dials_end(Tunnel *t);

#endif
