/*
 * tunnel.c -- an endpoint of the tailnet.
 *
 * Outwards: netstack or ping -> address -> peer -> WireGuard (peer.c) -> the
 * relay of the peer's home region (relay.c).  Inwards the same way back; disco
 * is told apart by its magic, TSMP and answers to own echoes are taken before
 * the netstack.  Paths are DERP only: own endpoints stay empty, and
 * call-me-maybe is read and forgotten.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel.h"

#include "tunnel/netstack.h"
#include "tunnel/peer.h"
#include "tunnel/relay.h"
#include "wire/disco.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define READY_WAIT_MS 5000
#define KEEPALIVE_S 25
#define LOST_AFTER (15 * 60 * WG_SECOND)
#define IDLE_RELAY (60 * WG_SECOND)
#define IDLE_CHECK_MS 15000
#define CHOOSE_MS 1000 /* after the first relay is up, others may still prove nearer */
#define DIAL_MS 30000
#define PING_FIRST_MS 50
#define PING_LAST_MS 30000
#define PING_SENDS 64
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

struct TunnelPing
{
	TunnelPing *prev, *next;
	Tunnel *tunnel;
	uint8_t address[TUNNEL_ADDR_LEN];
	TunnelPingKind kind;
	uint8_t token[WIRE_DISCO_TXID_LEN]; /* disco: txid; else 6 bytes, before the number of the try */
	unsigned int tries;
	int64_t sent[PING_SENDS];
	int64_t pause_ms;
	LoopTimer timer; /* the next try */
	LoopTimer limit;
	TunnelPingFn fn;
	void *arg;
	TunnelPong pong;
};

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
	TunnelPing *pings;
	TunnelDial *dials; /* those that wait for their peer */
	LoopTimer wg_timer, choose_timer, idle_timer, node_timer;
};

/* Helpers without a tunnel. */

void
tunnel_address(uint8_t address[TUNNEL_ADDR_LEN], const uint8_t id[TUNNEL_ID_LEN], bool coder)
{
	static const uint8_t prefixes[2][6] = {{0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0},
										   {0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b}};

	memcpy(address, id, TUNNEL_ADDR_LEN);
	memcpy(address, prefixes[coder ? 1 : 0], 6);
}

int64_t
tunnel_node_id(const uint8_t agent[TUNNEL_ID_LEN])
{
	uint64_t id = wire_get64be(agent + 8);

	/* The absolute value of it as a signed number; the smallest stays as it is. */
	return (int64_t) (id >> 63 != 0 ? 0 - id : id);
}

void
tunnel_random_id(uint8_t id[TUNNEL_ID_LEN])
{
	randombytes_buf(id, TUNNEL_ID_LEN);
	id[6] = (uint8_t) ((id[6] & 0x0f) | 0x40);
	id[8] = (uint8_t) ((id[8] & 0x3f) | 0x80);
}

#define DISCO_PREFIX "discokey:"

void
tunnel_disco_text(char text[TUNNEL_DISCO_TEXT], const uint8_t disco[TUNNEL_KEY_LEN])
{
	memcpy(text, DISCO_PREFIX, sizeof(DISCO_PREFIX) - 1);
	sodium_bin2hex(text + sizeof(DISCO_PREFIX) - 1, 65, disco, TUNNEL_KEY_LEN);
}

bool
tunnel_disco_parse(uint8_t disco[TUNNEL_KEY_LEN], const char *text)
{
	uint8_t key[TUNNEL_KEY_LEN];
	size_t n;
	const char *hex = text + sizeof(DISCO_PREFIX) - 1;

	if (strncmp(text, DISCO_PREFIX, sizeof(DISCO_PREFIX) - 1) != 0 || strlen(hex) != 64 ||
		sodium_hex2bin(key, sizeof(key), hex, 64, NULL, &n, NULL) != 0 || n != sizeof(key))
		return false;
	memcpy(disco, key, sizeof(key));
	return true;
}

void
tunnel_node_key_put(uint8_t wire[TUNNEL_NODE_KEY_LEN], const uint8_t key[TUNNEL_KEY_LEN])
{
	wire_put_bytes(wire_put_bytes(wire, "np", 2), key, TUNNEL_KEY_LEN);
}

bool
tunnel_node_key_parse(uint8_t key[TUNNEL_KEY_LEN], const uint8_t *wire, size_t n)
{
	if (n != TUNNEL_NODE_KEY_LEN || memcmp(wire, "np", 2) != 0)
		return false;
	memcpy(key, wire + 2, TUNNEL_KEY_LEN);
	return true;
}

bool
tunnel_cidr_parse(uint8_t address[TUNNEL_ADDR_LEN], const char *text)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t n = slash == NULL ? 0 : (size_t) (slash - text);

	if (n == 0 || n >= sizeof(host) || strcmp(slash, "/128") != 0)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	return inet_pton(AF_INET6, host, address) == 1;
}

void
tunnel_cidr_text(char text[64], const uint8_t address[TUNNEL_ADDR_LEN])
{
	char host[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, address, host, sizeof(host));
	snprintf(text, 64, "%s/128", host);
}

/* Finding things. */

static Region *
region_by_id(Tunnel *t, int id)
{
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].id == id)
			return &t->regions[i];
	return NULL;
}

static bool
has_address(const Peer *peer, const uint8_t *address)
{
	for (size_t i = 0; i < peer->naddresses; i++)
		if (memcmp(peer->addresses[i], address, TUNNEL_ADDR_LEN) == 0)
			return true;
	return false;
}

static Peer *
peer_by_address(Tunnel *t, const uint8_t *address)
{
	if (t->last_hit != NULL && has_address(t->last_hit, address))
		return t->last_hit;
	for (Peer *peer = t->peers; peer != NULL; peer = peer->next)
		if (has_address(peer, address))
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

/* The relays. */

static void on_relay_up(void *arg, Relay *relay, int64_t latency_ns);
static void on_relay_down(void *arg, Relay *relay, const char *reason);
static void on_relay_packet(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN],
							const uint8_t *packet, size_t n);

/* The relay of a region, connected to if it is not yet.  NULL: no such region. */
static Relay *
region_relay(Tunnel *t, Region *region)
{
	const NoiseIdentity *self = wg_device_identity(t->wg);
	RelayConfig config = {.up = on_relay_up, .down = on_relay_down, .packet = on_relay_packet};

	if (region == NULL || region->relay != NULL)
		return region == NULL ? NULL : region->relay;
	config.region = region->id;
	config.host = region->host;
	config.ip = region->ip;
	config.cert_name = region->cert_name;
	config.ca_file = t->config.tls_ca_file;
	config.headers = t->config.derp_headers;
	config.port = (uint16_t) region->port;
	config.tls = !region->force_http;
	config.insecure = region->insecure;
	config.websocket = t->config.force_websockets || region->websocket_reason[0] != '\0';
	config.arg = t;
	memcpy(config.private_key, self->private_key, WIRE_KEY_LEN);
	memcpy(config.public_key, self->public_key, WIRE_KEY_LEN);
	region->relay = relay_create(t->loop, &config);
	sodium_memzero(config.private_key, sizeof(config.private_key));
	return region->relay;
}

static void
send_to_peer(Tunnel *t, const Peer *peer, const uint8_t *datagram, size_t n)
{
	Relay *relay = region_relay(t, region_by_id(t, peer->region));

	if (relay != NULL)
		relay_send(relay, peer->key, datagram, n);
}

static void
log_line(const Tunnel *t, const char *what, int region, const char *detail)
{
	char line[256];

	if (t->config.log == NULL)
		return;
	snprintf(line, sizeof(line), "DERP region %d: %s%s", region, what, detail);
	t->config.log(t->config.arg, line);
}

static void
on_node_timer(void *arg)
{
	Tunnel *t = arg;
	TunnelNode self;

	if (t->config.node_changed != NULL && tunnel_self(t, &self))
		t->config.node_changed(t->config.arg, &self);
}

/* The nearest region that is up becomes the home, unless the old one is nearly as near. */
static void
choose_home(Tunnel *t)
{
	Region *best = NULL;
	const Region *old = region_by_id(t, t->home);

	for (size_t i = 0; i < t->nregions; i++)
	{
		Region *r = &t->regions[i];

		if (r->relay != NULL && relay_is_up(r->relay) &&
			(best == NULL || r->latency < best->latency))
			best = r;
	}
	if (best == NULL ||
		(old != NULL && old->relay != NULL && relay_is_up(old->relay) &&
		 (old->latency - best->latency < 10000000 || best->latency > old->latency / 3 * 2)))
		return;
	t->home = best->id;
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].relay != NULL)
			relay_set_home(t->regions[i].relay, &t->regions[i] == best);
	loop_timer_start(&t->node_timer, 0);
}

static void
on_choose_timer(void *arg)
{
	choose_home(arg);
}

static bool
all_answered(const Tunnel *t)
{
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].latency < 0 && !t->regions[i].failed)
			return false;
	return true;
}

static void
on_relay_up(void *arg, Relay *relay, int64_t latency_ns)
{
	Tunnel *t = arg;
	Region *region = region_by_id(t, relay_region(relay));

	if (region == NULL)
		return;
	region->latency = latency_ns;
	region->failed = false;
	log_line(t, "connected", region->id, "");
	if (t->home == 0 && all_answered(t))
		choose_home(t);
	else if (t->home == 0 && !loop_timer_running(&t->choose_timer))
		loop_timer_start(&t->choose_timer, CHOOSE_MS);
}

static void
on_relay_down(void *arg, Relay *relay, const char *reason)
{
	Tunnel *t = arg;
	Region *region = region_by_id(t, relay_region(relay));

	if (region == NULL)
		return;
	region->failed = true;
	log_line(t, "", region->id, reason);
	if (relay_websocket_reason(relay) != NULL && region->websocket_reason[0] == '\0')
	{
		snprintf(region->websocket_reason, sizeof(region->websocket_reason), "%s", relay_websocket_reason(relay));
		loop_timer_start(&t->node_timer, 0);
	}
	if (t->home == 0 && all_answered(t))
		choose_home(t);
}

/* Connections to regions where only peers live end when unused. */
static void
on_idle_timer(void *arg)
{
	Tunnel *t = arg;

	for (size_t i = 0; i < t->nregions; i++)
	{
		Region *r = &t->regions[i];

		if (r->relay != NULL && t->home != 0 && r->id != t->home &&
			loop_now(t->loop) - relay_last_used(r->relay) > IDLE_RELAY)
		{
			relay_destroy(r->relay);
			r->relay = NULL;
		}
	}
	if (t->home == 0)
		choose_home(t);
	if (t->nregions > 1 || t->home == 0)
		loop_timer_start(&t->idle_timer, IDLE_CHECK_MS);
}

static void
region_free(Region *region)
{
	relay_destroy(region->relay);
	free(region->host);
	free(region->ip);
	free(region->cert_name);
	*region = (Region){0};
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

/* Fills region from the first node of a region that relays; false if there is none. */
static bool
region_init(Region *region, const TunnelDerpRegion *from)
{
	for (size_t i = 0; i < from->nnodes; i++)
	{
		const TunnelDerpNode *node = &from->nodes[i];

		if (node->stun_only || node->host == NULL)
			continue;
		*region = (Region){.id = from->id,
						   .port = node->port == 0 ? 443 : node->port,
						   .force_http = node->force_http,
						   .insecure = node->insecure,
						   .latency = -1};
		region->host = strdup(node->host);
		region->ip = node->ip == NULL ? NULL : strdup(node->ip);
		region->cert_name = node->cert_name == NULL ? NULL : strdup(node->cert_name);
		return region->host != NULL;
	}
	return false;
}

static bool
region_same(const Region *a, const Region *b)
{
	return a->port == b->port && a->force_http == b->force_http && a->insecure == b->insecure &&
		   same_text(a->host, b->host) && same_text(a->ip, b->ip) &&
		   same_text(a->cert_name, b->cert_name);
}

void
tunnel_set_derp_map(Tunnel *t, const TunnelDerpMap *map)
{
	Region old[MAX_REGIONS];
	size_t nold = t->nregions;

	memcpy(old, t->regions, sizeof(old));
	memset(t->regions, 0, sizeof(t->regions));
	t->nregions = 0;
	for (size_t i = 0; i < map->nregions && t->nregions < MAX_REGIONS; i++)
	{
		Region *region = &t->regions[t->nregions];

		if (!region_init(region, &map->regions[i]))
			continue;
		t->nregions++;
		for (size_t j = 0; j < nold; j++)
			if (old[j].id == region->id && region_same(&old[j], region))
			{
				region->relay = old[j].relay;
				region->latency = old[j].latency;
				memcpy(region->websocket_reason, old[j].websocket_reason, sizeof(region->websocket_reason));
				old[j].relay = NULL;
			}
	}
	for (size_t j = 0; j < nold; j++)
		region_free(&old[j]);
	if (region_by_id(t, t->home) == NULL)
		t->home = 0;
	for (size_t i = 0; i < t->nregions; i++)
		if (t->home == 0 || t->regions[i].id == t->home)
			region_relay(t, &t->regions[i]);
	loop_timer_start(&t->idle_timer, IDLE_CHECK_MS);
}

bool
tunnel_self(const Tunnel *t, TunnelNode *self)
{
	const Region *home = region_by_id((Tunnel *) (uintptr_t) t, t->home);

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
	send_to_peer(arg, wg_peer_owner(wg), datagram, n);
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
static void
send_packet(Tunnel *t, const uint8_t *packet, size_t n)
{
	const Peer *peer = peer_by_address(t, packet + 24);

	if (peer == NULL || peer->wg == NULL)
		return;
	wg_peer_send(peer->wg, packet, n, loop_now(t->loop));
	arm_wg(t);
}

static void
on_netstack_output(void *arg, const uint8_t *packet, size_t n)
{
	if (n >= IP6_HEADER)
		send_packet(arg, packet, n);
}

/* IPv6 header of a packet of n bytes of payload. */
static void
put_ip6(uint8_t *packet, uint8_t proto, size_t n, const uint8_t *from, const uint8_t *to)
{
	uint8_t *p = wire_put32be(packet, 0x60000000);

	p = wire_put16be(p, (uint16_t) n);
	p = wire_put8(wire_put8(p, proto), 64);
	wire_put_bytes(wire_put_bytes(p, from, 16), to, 16);
}

/* Pings. */

static void
ping_free(TunnelPing *ping)
{
	if (ping->prev != NULL)
		ping->prev->next = ping->next;
	else
		ping->tunnel->pings = ping->next;
	if (ping->next != NULL)
		ping->next->prev = ping->prev;
	loop_timer_stop(&ping->timer);
	loop_timer_stop(&ping->limit);
	free(ping);
}

static void
on_ping_limit(void *arg)
{
	TunnelPing *ping = arg;
	TunnelPingFn fn = ping->fn;
	void *fn_arg = ping->arg;
	TunnelPong pong = ping->pong;

	ping_free(ping);
	fn(fn_arg, &pong);
}

/* The try number i was answered over region; the caller is told from the loop. */
static void
ping_answered(TunnelPing *ping, unsigned int i, int region)
{
	if (ping->pong.error == 0)
		return;
	ping->pong.error = 0;
	ping->pong.latency_ns = loop_clock() - ping->sent[i % PING_SENDS];
	ping->pong.derp_region = region;
	loop_timer_stop(&ping->timer);
	loop_timer_start(&ping->limit, 0);
}

/* Seals a disco message for peer and sends it. */
static void
send_disco(Tunnel *t, const Peer *peer, const WireDiscoMessage *message)
{
	uint8_t plain[WIRE_DISCO_PROBE_LEN];
	uint8_t out[WIRE_DISCO_HEADER_LEN + WIRE_DISCO_MAC_LEN + sizeof(plain)];
	uint8_t nonce[WIRE_DISCO_NONCE_LEN];
	size_t n = wire_disco_put(plain, sizeof(plain), message);

	if (n == 0 || !peer->has_disco)
		return;
	randombytes_buf(nonce, sizeof(nonce));
	wire_disco_put_envelope(out, sizeof(out), t->disco_public, nonce);
	if (crypto_box_easy_afternm(
			out + WIRE_DISCO_HEADER_LEN, plain, n, nonce, peer->disco_shared) == 0)
		send_to_peer(t, peer, out, WIRE_DISCO_HEADER_LEN + WIRE_DISCO_MAC_LEN + n);
}

static void
ping_disco(Tunnel *t, TunnelPing *ping)
{
	const Peer *peer = peer_by_address(t, ping->address);
	WireDiscoMessage message = {.type = WIRE_DISCO_PING, .has_node = true};

	if (peer == NULL)
		return;
	memcpy(message.txid, ping->token, sizeof(message.txid));
	memcpy(message.node, wg_device_identity(t->wg)->public_key, WIRE_KEY_LEN);
	send_disco(t, peer, &message);
}

static uint16_t
icmp6_checksum(const uint8_t *packet, size_t n)
{
	uint32_t sum = PROTO_ICMP6 + (uint32_t) n - IP6_HEADER;

	for (size_t i = 8; i + 1 < n; i += 2)
		sum += wire_get16be(packet + i);
	while (sum > 0xffff)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~sum;
}

/* TSMP "70 token"; ICMPv6 echo with the token as its data.  The token: 6 bytes and the try. */
static void
ping_inner(Tunnel *t, TunnelPing *ping)
{
	uint8_t packet[IP6_HEADER + 16];
	uint8_t *p = packet + IP6_HEADER;
	bool tsmp = ping->kind == TUNNEL_PING_TSMP;
	size_t n = tsmp ? 9 : 16;

	put_ip6(packet, tsmp ? PROTO_TSMP : PROTO_ICMP6, n, t->config.addresses[0], ping->address);
	if (tsmp)
		p = wire_put8(p, 0x70);
	else
		p = wire_put64be(p, UINT64_C(0x8000) << 48 | (uint64_t) (ping->tries & 0xffff));
	wire_put16be(wire_put_bytes(p, ping->token, 6), (uint16_t) ping->tries);
	if (!tsmp)
		wire_put16be(packet + IP6_HEADER + 2, icmp6_checksum(packet, sizeof(packet)));
	send_packet(t, packet, IP6_HEADER + n);
}

/* Peer and home are known, so that a ping and its answer find their way. */
static bool
may_ping_disco(const TunnelPing *ping)
{
	const Peer *peer = peer_by_address(ping->tunnel, ping->address);

	return ping->tunnel->home != 0 && peer != NULL && peer->has_disco && (ping->tunnel->config.destination || peer->ready || peer->waited);
}

static void
on_ping_timer(void *arg)
{
	TunnelPing *ping = arg;

	if (ping->kind == TUNNEL_PING_DISCO && !may_ping_disco(ping))
	{
		loop_timer_start(&ping->timer, PING_FIRST_MS);
		return;
	}
	ping->sent[ping->tries % PING_SENDS] = loop_clock();
	if (ping->kind == TUNNEL_PING_DISCO)
		ping_disco(ping->tunnel, ping);
	else
		ping_inner(ping->tunnel, ping);
	ping->tries++;
	if (ping->kind != TUNNEL_PING_TSMP)
		return;
	loop_timer_start(&ping->timer, ping->pause_ms);
	ping->pause_ms = ping->pause_ms * 3 / 2;
	if (ping->pause_ms > PING_LAST_MS)
		ping->pause_ms = PING_LAST_MS;
}

TunnelPing *
tunnel_ping(Tunnel *t, const uint8_t address[TUNNEL_ADDR_LEN], TunnelPingKind kind, int timeout_ms,
			TunnelPingFn fn, void *arg)
{
	TunnelPing *ping = calloc(1, sizeof(*ping));

	if (ping == NULL)
		return NULL;
	ping->tunnel = t;
	memcpy(ping->address, address, TUNNEL_ADDR_LEN);
	ping->kind = kind;
	randombytes_buf(ping->token, sizeof(ping->token));
	ping->pause_ms = PING_FIRST_MS;
	ping->fn = fn;
	ping->arg = arg;
	ping->pong.error = -ETIMEDOUT;
	ping->next = t->pings;
	if (ping->next != NULL)
		ping->next->prev = ping;
	t->pings = ping;
	loop_timer_init(&ping->timer, t->loop, on_ping_timer, ping);
	loop_timer_init(&ping->limit, t->loop, on_ping_limit, ping);
	loop_timer_start(&ping->timer, 0);
	loop_timer_start(&ping->limit, timeout_ms);
	return ping;
}

void
tunnel_ping_cancel(TunnelPing *ping)
{
	ping_free(ping);
}

/* An answer of kind from peer with this token: 6 bytes and the try. */
static void
match_inner(Tunnel *t, const Peer *peer, TunnelPingKind kind, const uint8_t *token)
{
	for (TunnelPing *ping = t->pings; ping != NULL; ping = ping->next)
		if (ping->kind == kind && memcmp(ping->token, token, 6) == 0)
		{
			ping_answered(ping, wire_get16be(token + 6), peer->region);
			return;
		}
}

/* TSMP: 70 and 8 bytes are answered with 6f, the same 8 bytes, and a port that is 0. */
static void
on_tsmp(Tunnel *t, const Peer *peer, const uint8_t *packet, size_t n)
{
	uint8_t pong[IP6_HEADER + 11];

	if (n < IP6_HEADER + 9)
		return;
	if (packet[IP6_HEADER] == 0x6f)
		match_inner(t, peer, TUNNEL_PING_TSMP, packet + IP6_HEADER + 1);
	if (packet[IP6_HEADER] != 0x70)
		return;
	put_ip6(pong, PROTO_TSMP, 11, packet + 24, packet + 8);
	pong[IP6_HEADER] = 0x6f;
	memcpy(pong + IP6_HEADER + 1, packet + IP6_HEADER + 1, 8);
	wire_put16be(pong + IP6_HEADER + 9, 0);
	send_packet(t, pong, sizeof(pong));
}

/* What came out of WireGuard: it must be from that peer, and for us. */
static void
on_wg_receive(void *arg, WgPeer *wg, const uint8_t *packet, size_t n)
{
	Tunnel *t = arg;
	const Peer *peer = wg_peer_owner(wg);

	if (n < IP6_HEADER || packet[0] >> 4 != 6 || !has_address(peer, packet + 8) ||
		!own_address(t, packet + 24))
		return;
	if (packet[6] == PROTO_TSMP)
		on_tsmp(t, peer, packet, n);
	else if (packet[6] == PROTO_ICMP6 && n == IP6_HEADER + 16 && packet[IP6_HEADER] == 129)
		match_inner(t, peer, TUNNEL_PING_ICMP, packet + IP6_HEADER + 8);
	else
		netstack_input(t->netstack, packet, n);
}

/* A disco message that peer sent over the relay of region. */
static void
on_disco(Tunnel *t, Peer *peer, int region, const uint8_t *packet, size_t n)
{
	static const uint8_t derp_address[16] = {[10] = 0xff, 0xff, 127, 3, 3, 40};
	const uint8_t *sender, *nonce, *box;
	uint8_t plain[4096];
	WireDiscoMessage message;
	size_t nbox;

	if (wire_disco_get_envelope(&sender, &nonce, &box, &nbox, packet, n) != WIRE_OK ||
		!peer->has_disco || memcmp(sender, peer->disco, WIRE_KEY_LEN) != 0 ||
		nbox > sizeof(plain) ||
		crypto_box_open_easy_afternm(plain, box, nbox, nonce, peer->disco_shared) != 0 ||
		wire_disco_get(&message, plain, nbox - WIRE_DISCO_MAC_LEN) != WIRE_OK)
		return;
	if (message.type == WIRE_DISCO_PING)
	{
		message.type = WIRE_DISCO_PONG;
		memcpy(message.source.ip, derp_address, 16);
		message.source.port = (uint16_t) region;
		send_disco(t, peer, &message);
	}
	else if (message.type == WIRE_DISCO_PONG)
		for (TunnelPing *ping = t->pings; ping != NULL; ping = ping->next)
			if (ping->kind == TUNNEL_PING_DISCO &&
				memcmp(ping->token, message.txid, sizeof(message.txid)) == 0)
			{
				ping_answered(ping, 0, region);
				return;
			}
}

static void
on_relay_packet(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN],
				const uint8_t *packet, size_t n)
{
	Tunnel *t = arg;
	Peer *peer = t->last_hit;

	if (peer == NULL || memcmp(peer->key, source, WIRE_KEY_LEN) != 0)
		peer = peer_by_node_key(t, source);
	if (peer == NULL)
		return;
	if (wire_disco_looks_like(packet, n))
		on_disco(t, peer, relay_region(relay), packet, n);
	else if (peer->wg != NULL)
	{
		wg_device_receive(t->wg, peer->wg, packet, n, loop_now(t->loop));
		arm_wg(t);
	}
}

/* Peers. */

static void
peer_drop_session(Peer *peer)
{
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
	peer_drop_session(peer);
	sodium_memzero(peer, sizeof(*peer));
	free(peer);
}

static void dials_start(Tunnel *t);

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
		region_relay(t, region_by_id(t, peer->region));
		tell_state(peer, TUNNEL_PEER_ADDED);
		dials_start(t);
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
		peer_drop_session(peer); /* it has started anew */
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
static void
dials_start(Tunnel *t)
{
	TunnelDial *next;

	for (TunnelDial *dial = t->dials; dial != NULL; dial = next)
	{
		const Peer *peer = peer_by_address(t, dial->address);
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
	dials_start(t);
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
	loop_timer_init(&t->choose_timer, loop, on_choose_timer, t);
	loop_timer_init(&t->idle_timer, loop, on_idle_timer, t);
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
	while (t->dials != NULL)
		dial_fail(t->dials, -ECANCELED);
	while (t->pings != NULL)
	{
		if (t->pings->pong.error != 0)
			t->pings->pong.error = -ECANCELED;
		on_ping_limit(t->pings);
	}
	netstack_destroy(t->netstack); /* its resets still go out */
	t->netstack = NULL;
	while (t->peers != NULL)
		peer_remove(t->peers);
	wg_device_destroy(t->wg);
	for (size_t i = 0; i < t->nregions; i++)
		region_free(&t->regions[i]);
	loop_timer_stop(&t->wg_timer);
	loop_timer_stop(&t->choose_timer);
	loop_timer_stop(&t->idle_timer);
	loop_timer_stop(&t->node_timer);
	sodium_memzero(t, sizeof(*t));
	free(t);
}
