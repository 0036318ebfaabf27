/*
 * tunnel.c -- the gateway as a peer of the tailnet: connections to agents.
 *
 * One thread runs one endpoint, made when it is first needed.  It reaches the
 * coordinator by function calls and the relay by this server's own address.
 * Dials come to the thread, and their sockets go back, as messages; whoever
 * dialled reads and writes its end on its own loop.
 *
 * A tunnel to an agent stays once it is made: it costs a few hundred bytes here
 * and a Node at the agent.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator.h"
#include "tunnel/tunnel.h"

#define DIAL_MS 20000
#define RELAY_REGION 999

typedef Coder__Tailnet__V2__CoordinateRequest Request;
typedef Coder__Tailnet__V2__CoordinateResponse Response;

struct GwDial
{
	GwLoop *loop;
	uint8_t agent[16];
	uint8_t address[TUNNEL_ADDR_LEN];
	uint16_t port;
	int fd; /* or -errno */
	GwDialFn fn; /* NULL: cancelled; touched on loop only */
	void *arg;
};

static struct
{
	pthread_mutex_t lock;
	bool running;
	pthread_t thread;
	Loop *loop;
	Tunnel *tunnel;
	CoordPeer *peer;
	char host[256];
	int port;
	bool tls;
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The coordinator ------------------------------------------------------------ */

static void
on_node_changed(void *arg, const TunnelNode *own)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__UpdateSelf update = CODER__TAILNET__V2__COORDINATE_REQUEST__UPDATE_SELF__INIT;
	Coder__Tailnet__V2__Node node = CODER__TAILNET__V2__NODE__INIT;
	uint8_t key[TUNNEL_NODE_KEY_LEN];
	char disco[TUNNEL_DISCO_TEXT];
	char text[TUNNEL_ADDRESSES][64];
	char *addresses[TUNNEL_ADDRESSES];

	(void) arg;
	tunnel_node_key_put(key, own->key);
	tunnel_disco_text(disco, own->disco);
	for (size_t i = 0; i < own->naddresses; i++)
	{
		tunnel_cidr_text(text[i], own->addresses[i]);
		addresses[i] = text[i];
	}
	node.id = own->id;
	node.key = (ProtobufCBinaryData){sizeof(key), key};
	node.disco = disco;
	node.preferred_derp = own->preferred_derp;
	node.n_addresses = node.n_allowed_ips = own->naddresses;
	node.addresses = node.allowed_ips = addresses;
	update.node = &node;
	request.update_self = &update;
	coord_request(self.peer, &request);
}

static void
add_tunnel(const uint8_t agent[static 16])
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Tunnel tunnel = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

	tunnel.id = (ProtobufCBinaryData){16, (uint8_t *) agent};
	request.add_tunnel = &tunnel;
	coord_request(self.peer, &request);
}

static bool
read_node(TunnelNode *out, const Coder__Tailnet__V2__Node *node)
{
	memset(out, 0, sizeof(*out));
	if (!tunnel_node_key_parse(out->key, node->key.data, node->key.len) || !tunnel_disco_parse(out->disco, node->disco))
		return false;
	out->id = node->id;
	out->preferred_derp = node->preferred_derp;
	for (size_t i = 0; i < node->n_addresses && out->naddresses < TUNNEL_ADDRESSES; i++)
		out->naddresses += tunnel_cidr_parse(out->addresses[out->naddresses], node->addresses[i]);
	for (size_t i = 0; i < node->n_allowed_ips && out->nallowed < TUNNEL_ADDRESSES; i++)
		out->nallowed += tunnel_cidr_parse(out->allowed_ips[out->nallowed], node->allowed_ips[i]);
	return true;
}

static void
take_update(const Coder__Tailnet__V2__CoordinateResponse__PeerUpdate *update)
{
	TunnelNode node;
	int kind = (int) update->kind;

	if (update->id.len != TUNNEL_ID_LEN)
		return;
	if (kind == TUNNEL_PEER_NODE)
	{
		if (update->node != NULL && read_node(&node, update->node))
			tunnel_peer_update(self.tunnel, update->id.data, TUNNEL_PEER_NODE, &node);
	}
	else if (kind >= TUNNEL_PEER_DISCONNECTED && kind <= TUNNEL_PEER_READY_FOR_HANDSHAKE)
		tunnel_peer_update(self.tunnel, update->id.data, (TunnelPeerKind) kind, NULL);
}

static void
on_news(void *arg)
{
	uint8_t *data;
	size_t size;
	bool over;

	(void) arg;
	while (self.peer != NULL && (data = coord_take(self.peer, &size, &over)) != NULL)
	{
		Response *response = coder__tailnet__v2__coordinate_response__unpack(NULL, size, data);

		for (size_t i = 0; response != NULL && i < response->n_peer_updates; i++)
			take_update(response->peer_updates[i]);
		if (response != NULL)
			coder__tailnet__v2__coordinate_response__free_unpacked(response, NULL);
		free(data);
	}
}

static void
wake(void *arg)
{
	(void) arg;
	loop_post(self.loop, on_news, NULL);
}

/* The thread ----------------------------------------------------------------- */

/* Where this process listens, as seen from itself. */
static void
find_own_address(void)
{
	const char *address = gw_server.options.http_address;
	const char *colon;
	size_t n;

	self.tls = address == NULL || *address == '\0';
	if (self.tls)
		address = gw_server.options.tls_address;
	colon = strrchr(address, ':');
	n = colon != NULL ? (size_t) (colon - address) : 0;
	self.port = colon != NULL ? atoi(colon + 1) : 80;
	if (n > 2 && address[0] == '[')
	{
		address++;
		n -= 2;
	}
	if (n == 0 || n >= sizeof(self.host) || strncmp(address, "0.0.0.0", n) == 0)
		strcpy(self.host, "127.0.0.1");
	else if (n == 2 && memcmp(address, "::", 2) == 0)
		strcpy(self.host, "::1");
	else
		snprintf(self.host, sizeof(self.host), "%.*s", (int) n, address);
}

static void
set_relay(void)
{
	/* Its own certificate need not name the address; what the relay carries is encrypted anyway. */
	TunnelDerpNode node = {.host = self.host, .port = self.port, .force_http = !self.tls, .insecure = true};
	TunnelDerpRegion region = {.id = RELAY_REGION, .embedded = true, .nodes = &node, .nnodes = 1};
	TunnelDerpMap map = {&region, 1};

	tunnel_set_derp_map(self.tunnel, &map);
}

static void
on_log(void *arg, const char *line)
{
	(void) arg;
	gw_log(GW_DEBUG, "tunnel: %s", line);
}

static bool
make_endpoint(void)
{
	TunnelConfig config = {.node_changed = on_node_changed, .log = on_log, .naddresses = 1};
	uint8_t id[TUNNEL_ID_LEN];

	tunnel_random_id(id);
	tunnel_address(config.addresses[0], id, false);
	self.loop = loop_create();
	if (self.loop == NULL)
		return false;
	self.peer = coord_join(id, wake, NULL);
	self.tunnel = self.peer != NULL ? tunnel_create(self.loop, &config) : NULL;
	if (self.tunnel != NULL)
		return true;
	if (self.peer != NULL)
		coord_leave(self.peer);
	loop_destroy(self.loop);
	return false;
}

static void *
thread_main(void *arg)
{
	(void) arg;
	set_relay();
	loop_run(self.loop);
	tunnel_close(self.tunnel);
	coord_leave(self.peer);
	self.peer = NULL;
	return NULL;
}

/* Makes the endpoint when it is first needed. */
static bool
start_endpoint(void)
{
	bool ok;

	pthread_mutex_lock(&self.lock);
	if (!self.running)
	{
		find_own_address();
		self.running = make_endpoint() && pthread_create(&self.thread, NULL, thread_main, NULL) == 0;
	}
	ok = self.running;
	pthread_mutex_unlock(&self.lock);
	return ok;
}

void
gw_tunnel_stop(void)
{
	pthread_mutex_lock(&self.lock);
	if (self.running)
	{
		loop_stop(self.loop);
		pthread_join(self.thread, NULL);
		self.running = false;
	}
	pthread_mutex_unlock(&self.lock);
}

/* Dials ---------------------------------------------------------------------- */

static void
on_result(GwLoop *loop, void *arg)
{
	GwDial *dial = arg;

	(void) loop;
	if (dial->fn != NULL)
		dial->fn(dial->arg, dial->fd);
	else if (dial->fd >= 0)
		close(dial->fd);
	free(dial);
}

static void
finish(GwDial *dial, int fd)
{
	dial->fd = fd;
	gw_loop_post(dial->loop, on_result, dial);
}

static void
on_dialled(void *arg, int fd)
{
	finish(arg, fd);
}

/* The peer answers inside the tunnel: now TCP will not wait for its timers. */
static void
on_pong(void *arg, const TunnelPong *pong)
{
	GwDial *dial = arg;

	if (pong->error != 0)
		finish(dial, pong->error);
	else if (tunnel_dial(self.tunnel, dial->address, dial->port, DIAL_MS, on_dialled, dial) == NULL)
		finish(dial, -ENOMEM);
}

static void
start_dial(void *arg)
{
	GwDial *dial = arg;

	add_tunnel(dial->agent);
	tunnel_address(dial->address, dial->agent, false);
	if (tunnel_ping(self.tunnel, dial->address, TUNNEL_PING_TSMP, DIAL_MS, on_pong, dial) == NULL)
		finish(dial, -ENOMEM);
}

GwDial *
gw_tunnel_dial(GwLoop *loop, const uint8_t agent[static 16], uint16_t port, GwDialFn fn, void *arg)
{
	GwDial *dial = h2o_mem_alloc(sizeof(*dial));

	*dial = (GwDial){.loop = loop, .port = port, .fn = fn, .arg = arg};
	memcpy(dial->agent, agent, sizeof(dial->agent));
	if (!start_endpoint() || !loop_post(self.loop, start_dial, dial))
		finish(dial, -ENOMEM);
	return dial;
}

void
gw_tunnel_dial_cancel(GwDial *dial)
{
	dial->fn = NULL;
}
