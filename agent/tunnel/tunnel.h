/*
 * tunnel.h -- an endpoint of the tailnet: WireGuard over DERP, disco, and TCP
 * inside, as streams on descriptors.  Used by agent, client and gateway.
 *
 * One tunnel lives on one loop; all functions are called on its thread, and all
 * callbacks come on it.  peer_state, may_accept and accepted may come from
 * within a call, or from the middle of a packet's way: they must not call
 * tunnel_close, tunnel_set_derp_map or tunnel_peer_update (use loop_defer).
 * All tunnels of a process must live on the same thread (netstack.h).
 *
 * Order of use: tunnel_create, tunnel_set_derp_map, then for every answer of
 * the coordinator tunnel_peer_update.  node_changed hands out the own Node to
 * send as update_self (never while there is no home region).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_TUNNEL_H
#define TUNNEL_TUNNEL_H

#include "loop.h"

#define TUNNEL_KEY_LEN 32
#define TUNNEL_ID_LEN 16
#define TUNNEL_ADDR_LEN 16
#define TUNNEL_ADDRESSES 4
#define TUNNEL_LATENCIES 32
#define TUNNEL_DISCO_TEXT 74 /* "discokey:" and 64 hex digits, with the final NUL */
#define TUNNEL_NODE_KEY_LEN 34 /* Node.key on the wire: "np" and the key */

typedef struct Tunnel Tunnel;

/* What the tunnel says of itself and needs of a peer: fields of tailnet.v2.Node. */
typedef struct TunnelNode
{
	int64_t id;
	uint8_t key[TUNNEL_KEY_LEN];
	uint8_t disco[TUNNEL_KEY_LEN];
	int preferred_derp; /* 0: none; such a peer update is ignored */
	size_t nlatencies; /* own node only */
	struct
	{
		char name[24]; /* "999-v4" */
		double seconds;
	} latencies[TUNNEL_LATENCIES];
	size_t naddresses; /* all /128 */
	uint8_t addresses[TUNNEL_ADDRESSES][TUNNEL_ADDR_LEN];
	size_t nallowed; /* a peer's: those that are also in addresses count */
	uint8_t allowed_ips[TUNNEL_ADDRESSES][TUNNEL_ADDR_LEN];
	const char *const *endpoints; /* "ip:port"; empty as long as paths are DERP only */
	size_t nendpoints;
	int forced_websocket_region; /* 0, or the region whose DERP needed a WebSocket … */
	const char *forced_websocket_reason; /* … and why */
} TunnelNode;

typedef enum TunnelPeerKind
{
	TUNNEL_PEER_NODE = 1, /* values of PeerUpdate.Kind */
	TUNNEL_PEER_DISCONNECTED = 2,
	TUNNEL_PEER_LOST = 3,
	TUNNEL_PEER_READY_FOR_HANDSHAKE = 4
} TunnelPeerKind;

typedef enum TunnelPeerState
{
	TUNNEL_PEER_ADDED, /* is a WireGuard peer now */
	TUNNEL_PEER_UP, /* a handshake completed (each time) */
	TUNNEL_PEER_GONE /* removed: disconnected, or lost for 15 minutes; its streams end */
} TunnelPeerState;

typedef struct TunnelConfig
{
	/* Keys, private, clamped or not; all zero: a fresh one.  Go peers make fresh ones at each start. */
	uint8_t node_private[TUNNEL_KEY_LEN];
	uint8_t disco_private[TUNNEL_KEY_LEN];
	int64_t node_id; /* tunnel_node_id(agent), or 0: random */
	uint8_t addresses[TUNNEL_ADDRESSES][TUNNEL_ADDR_LEN];
	size_t naddresses;

	/*
	 * true for the agent: a peer is used as soon as its node is known.  false
	 * for clients: it waits for READY_FOR_HANDSHAKE, or 5 s, then starts the
	 * handshake itself.
	 */
	bool destination;
	bool force_websockets; /* of the connection info */
	const char *tls_ca_file; /* NULL: the system's roots */
	const char *derp_headers; /* more header lines for DERP requests, each ending with CRLF; NULL: none */

	void *arg;

	/* The own node (valid during the call) changed and has a home region: send update_self. */
	void (*node_changed)(void *arg, const TunnelNode *self);

	/* Optional. */
	void (*peer_state)(void *arg, const uint8_t peer[TUNNEL_ID_LEN], TunnelPeerState state);

	/* A peer wants port: true to accept, false to refuse with RST.  NULL: refuse everything.  Called from within. */
	bool (*may_accept)(void *arg, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t port);

	/* An accepted connection: a non-blocking stream, now the callee's. */
	void (*accepted)(void *arg, int fd, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t peer_port,
					 uint16_t port);

	/* Optional: one line for the log. */
	void (*log)(void *arg, const char *line);
} TunnelConfig;

typedef struct TunnelDerpNode
{
	const char *host;
	const char *ip; /* literal to use instead of DNS, or NULL or "" */
	const char *cert_name; /* to verify instead of host, or NULL or "" */
	int port; /* 0: 443 (also with plain HTTP, as the reference does) */
	bool stun_only;
	bool force_http;
	bool insecure; /* no verification: tests only */
} TunnelDerpNode;

typedef struct TunnelDerpRegion
{
	int id;
	bool embedded; /* the caller has already put the server's own URL into its nodes */
	bool avoid;
	const TunnelDerpNode *nodes;
	size_t nnodes;
} TunnelDerpRegion;

typedef struct TunnelDerpMap
{
	const TunnelDerpRegion *regions;
	size_t nregions;
} TunnelDerpMap;

/* NULL when out of memory or descriptors. */
Tunnel *tunnel_create(Loop *loop, const TunnelConfig *config);

/* Ends all: waiting dials and pings are told -ECANCELED, from within. */
void tunnel_close(Tunnel *tunnel);

/* Copies the map.  Regions that changed are connected to anew; the home region is chosen again. */
void tunnel_set_derp_map(Tunnel *tunnel, const TunnelDerpMap *map);

/* The own node as node_changed would tell it; false while there is no home region. */
bool tunnel_self(const Tunnel *tunnel, TunnelNode *self);

/*
 * What the coordinator said about peer.  node is needed for TUNNEL_PEER_NODE
 * and not used otherwise.  An agent sends ready_for_handshake for each NODE
 * after this call (the caller's part).
 */
void tunnel_peer_update(Tunnel *tunnel, const uint8_t peer[TUNNEL_ID_LEN], TunnelPeerKind kind,
						const TunnelNode *node);

/* The coordinate stream ended: every peer counts as lost (15 min) until it is told again. */
void tunnel_peers_lost(Tunnel *tunnel);

/* A TCP connection: fd is a non-blocking stream, the callee's, or -errno (-ETIMEDOUT, -ECONNREFUSED, …). */
typedef void (*TunnelDialFn)(void *arg, int fd);
typedef struct TunnelDial TunnelDial;

/* timeout_ms 0: 30 s.  fn comes once, later, unless cancelled.  NULL when out of memory. */
TunnelDial *tunnel_dial(Tunnel *tunnel, const uint8_t address[TUNNEL_ADDR_LEN], uint16_t port,
						int timeout_ms, TunnelDialFn fn, void *arg);
void tunnel_dial_cancel(TunnelDial *dial);

/* Streams with the peer at an address that are open. */
size_t tunnel_streams_with(const Tunnel *tunnel, const uint8_t address[TUNNEL_ADDR_LEN]);

/* Nothing of streams that were closed is on its way any more: a good moment for tunnel_close. */
bool tunnel_flushed(const Tunnel *tunnel);

typedef enum TunnelPingKind
{
	TUNNEL_PING_DISCO, /* path layer */
	TUNNEL_PING_TSMP, /* through WireGuard: "is it reachable" */
	TUNNEL_PING_ICMP /* through WireGuard and the peer's IP stack */
} TunnelPingKind;

typedef struct TunnelPong
{
	int error; /* 0 or -errno */
	int64_t latency_ns;
	int derp_region; /* of the path that answered; 0: direct */
	char endpoint[64]; /* "ip:port" when direct */
} TunnelPong;

typedef void (*TunnelPingFn)(void *arg, const TunnelPong *pong);
typedef struct TunnelPing TunnelPing;

/*
 * One ping (TSMP repeats itself, 50 ms growing by 1.5, until timeout; DISCO waits for its peer).  fn comes
 * once, later, unless cancelled.  NULL when out of memory.
 */
TunnelPing *tunnel_ping(Tunnel *tunnel, const uint8_t address[TUNNEL_ADDR_LEN], TunnelPingKind kind,
						int timeout_ms, TunnelPingFn fn, void *arg);
void tunnel_ping_cancel(TunnelPing *ping);

typedef struct TunnelPeerStats
{
	uint8_t id[TUNNEL_ID_LEN];
	uint8_t address[TUNNEL_ADDR_LEN];
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets; /* inner packets */
	int64_t last_handshake_ns; /* ago; -1: never */
	int derp_region; /* its home */
	bool lost;
} TunnelPeerStats;

typedef struct TunnelTraffic
{
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets; /* inner packets */
} TunnelTraffic;

/* Of all peers that there are and were: it never falls. */
TunnelTraffic tunnel_traffic(const Tunnel *tunnel);

/* Fills at most cap entries; returns how many peers there are. */
size_t tunnel_stats(const Tunnel *tunnel, TunnelPeerStats *stats, size_t cap);

/* Helpers; no tunnel needed. */

/* fd7a:115c:a1e0::/48 (coder false) or fd60:627a:a42b::/48 with the rest of id. */
void tunnel_address(uint8_t address[TUNNEL_ADDR_LEN], const uint8_t id[TUNNEL_ID_LEN], bool coder);
int64_t tunnel_node_id(const uint8_t agent[TUNNEL_ID_LEN]);

/* A random version 4 UUID: a client's address is made of one. */
void tunnel_random_id(uint8_t id[TUNNEL_ID_LEN]);

void tunnel_disco_text(char text[TUNNEL_DISCO_TEXT], const uint8_t disco[TUNNEL_KEY_LEN]);
bool tunnel_disco_parse(uint8_t disco[TUNNEL_KEY_LEN], const char *text);
void tunnel_node_key_put(uint8_t wire[TUNNEL_NODE_KEY_LEN], const uint8_t key[TUNNEL_KEY_LEN]);
bool tunnel_node_key_parse(uint8_t key[TUNNEL_KEY_LEN], const uint8_t *wire, size_t n);

/* "fd7a:…/128" (other lengths are refused) and back; text has room for 64. */
bool tunnel_cidr_parse(uint8_t address[TUNNEL_ADDR_LEN], const char *text);
void tunnel_cidr_text(char text[64], const uint8_t address[TUNNEL_ADDR_LEN]);

#endif
