/*
 * tunnel.c -- the gateway as a peer of the tailnet: connections to agents.
 *
 * One thread runs one endpoint, made when it is first needed.  It reaches the
 * coordinator by function calls and the relay by this server's own address.
 * Dials come to the thread, and their sockets go back, as messages; whoever
 * dialled reads and writes its end on its own loop.
 *
 * A tunnel to an agent stays while there is a connection through it, and for a
 * time after the last one (tunnel_idle_seconds), as the next often comes soon.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coordinator.h"
#include "tunnel/message.h"
#include "tunnel/tunnel.h"

#define DIAL_MS 20000
#define RELAY_REGION 999

typedef Coder__Tailnet__V2__CoordinateRequest Request;
typedef Coder__Tailnet__V2__CoordinateResponse Response;

/* An agent with a tunnel. */
typedef struct Used
{
	struct Used *next;
	uint8_t agent[16];
	uint8_t address[TUNNEL_ADDR_LEN];
	int dials;	  /* on their way */
	int64_t last; /* ns: when it was last seen in use */
} Used;

struct GwDial
{
	GwLoop *loop;
	uint8_t agent[16];
	Used *used; /* the thread's */
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
	Used *used;
	LoopTimer idle;
	char host[256];
	int port;
	bool tls;
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

static atomic_int connections_open;
static atomic_ullong connections_total;

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
change_tunnel(uint8_t agent[static 16], bool add)
{
	Request request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Tunnel tunnel = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

	tunnel.id = (ProtobufCBinaryData){16, agent};
	if (add)
		request.add_tunnel = &tunnel;
	else
		request.remove_tunnel = &tunnel;
	coord_request(self.peer, &request);
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
		if (update->node != NULL && tunnel_node_of_message(&node, update->node))
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

/* How often is looked for agents that are not used: every 5 minutes of the default's 30. */
static int64_t
idle_check_ms(void)
{
	int64_t ms = gw_server.options.tunnel_idle_seconds * INT64_C(1000) / 6;

	return ms > 100 ? ms : 100;
}

static void
on_idle_timer(void *arg)
{
	int64_t now = loop_now(self.loop);
	Used **link = &self.used;
	Used *used;

	(void) arg;
	while ((used = *link) != NULL)
	{
		if (used->dials > 0 || tunnel_streams_with(self.tunnel, used->address) > 0)
			used->last = now;
		if (now - used->last < gw_server.options.tunnel_idle_seconds * INT64_C(1000000000))
		{
			link = &used->next;
			continue;
		}
		change_tunnel(used->agent, false);
		tunnel_peer_update(self.tunnel, used->agent, TUNNEL_PEER_DISCONNECTED, NULL);
		gw_log(GW_DEBUG, "tunnel: the one to agent %02x%02x%02x%02x… was not used and is removed",
			   used->agent[0], used->agent[1], used->agent[2], used->agent[3]);
		*link = used->next;
		free(used);
	}
	if (self.used != NULL)
		loop_timer_start(&self.idle, idle_check_ms());
}

/* The agent's entry, with a tunnel; NULL when out of memory. */
static Used *
use_agent(const uint8_t agent[static 16])
{
	Used *used = self.used;

	while (used != NULL && memcmp(used->agent, agent, sizeof(used->agent)) != 0)
		used = used->next;
	if (used == NULL && (used = calloc(1, sizeof(*used))) != NULL)
	{
		memcpy(used->agent, agent, sizeof(used->agent));
		tunnel_address(used->address, agent, false);
		used->next = self.used;
		self.used = used;
		if (!loop_timer_running(&self.idle))
			loop_timer_start(&self.idle, idle_check_ms());
	}
	if (used != NULL)
	{
		change_tunnel(used->agent, true);
		used->last = loop_now(self.loop);
	}
	return used;
}

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
	loop_timer_init(&self.idle, self.loop, on_idle_timer, NULL);
	set_relay();
	loop_run(self.loop);
	tunnel_close(self.tunnel);
	coord_leave(self.peer);
	self.peer = NULL;
	for (Used *used; (used = self.used) != NULL;)
	{
		self.used = used->next;
		free(used);
	}
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
	if (dial->used != NULL)
		dial->used->dials--;
	if (fd >= 0)
		atomic_fetch_add(&connections_total, 1);
	dial->used = NULL;
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
	else if (tunnel_dial(self.tunnel, dial->used->address, dial->port, DIAL_MS, on_dialled, dial) == NULL)
		finish(dial, -ENOMEM);
}

static void
start_dial(void *arg)
{
	GwDial *dial = arg;

	dial->used = use_agent(dial->agent);
	if (dial->used != NULL)
		dial->used->dials++;
	if (dial->used == NULL ||
		tunnel_ping(self.tunnel, dial->used->address, TUNNEL_PING_TSMP, DIAL_MS, on_pong, dial) == NULL)
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

static void
count_open(void *arg)
{
	size_t n = 0;

	(void) arg;
	for (Used *used = self.used; used != NULL; used = used->next)
		n += tunnel_streams_with(self.tunnel, used->address);
	atomic_store(&connections_open, (int) n);
}

void
gw_tunnel_stats(GwTunnelStats *stats)
{
	stats->open = atomic_load(&connections_open);
	stats->total = atomic_load(&connections_total);
	pthread_mutex_lock(&self.lock);
	if (self.running)
		loop_post(self.loop, count_open, NULL);
	pthread_mutex_unlock(&self.lock);
}
