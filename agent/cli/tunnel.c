/*
 * tunnel.c -- the command line's end of the tunnel to one agent.
 *
 * The loop's thread owns all of it; commands wait on a condition for what they
 * asked of it.  A lost connection to the coordinator is made anew with growing
 * pauses; what runs through the tunnel goes on meanwhile.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/tunnel.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loop.h"
#include "net/coord.h"
#include "net/net.h"
#include "tunnel/tunnel.h"
#include "wire/rpc.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 10000
#define FLUSH_MS 1000 /* at the end, for what was written to reach the agent */
#define FLUSH_CHECK_MS 2
#define GOODBYE_MS 1000
#define RESUME_REFRESH_MS (30 * 60 * 1000) /* where the server does not say */

struct CliTunnel
{
	Cli *cli;
	Loop *loop;
	pthread_t thread;
	Tunnel *tunnel;
	uint8_t agent[TUNNEL_ID_LEN];
	uint8_t address[TUNNEL_ADDR_LEN];
	char *coordinate_url;
	char *headers;
	NetWs *ws;
	RpcSession *rpc;
	Coord *coord;
	LoopTimer timer; /* next attempt to connect, or the end of a goodbye */
	LoopTimer flush_timer;
	int64_t flush_until; /* ns */
	int64_t backoff_ms;
	bool opened; /* once */
	bool closing;
	char *resume_token;		/* or NULL: the server gives this connection a new peer id */
	int64_t resume_expires; /* seconds since 1970 */
	bool resuming;			/* the attempt under way carries it */
	LoopTimer resume_timer;
	char *refused; /* why the first attempt cannot succeed */
};

/* What a command waits for; on its stack. */
typedef struct Wish
{
	CliTunnel *t;
	int port;
	int timeout_ms;
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	bool done;
	int result;
	TunnelPong pong;
} Wish;

static void connect_coordinator(void *arg);
static void after_close(void *arg);
static void flush_streams(void *arg);

static void
wish_done(Wish *wish, int result)
{
	pthread_mutex_lock(&wish->lock);
	wish->result = result;
	wish->done = true;
	pthread_cond_signal(&wish->done_cond);
	pthread_mutex_unlock(&wish->lock);
}

/* Runs fn(wish) on the loop and waits for wish_done(). */
static int
wish_run(CliTunnel *t, Wish *wish, LoopFn fn)
{
	wish->t = t;
	wish->done = false;
	pthread_mutex_init(&wish->lock, NULL);
	pthread_cond_init(&wish->done_cond, NULL);
	if (!loop_post(t->loop, fn, wish))
		return -ENOMEM;
	pthread_mutex_lock(&wish->lock);
	while (!wish->done)
		pthread_cond_wait(&wish->done_cond, &wish->lock);
	pthread_mutex_unlock(&wish->lock);
	return wish->result;
}

static void
drop_session(CliTunnel *t)
{
	if (t->coord != NULL)
		coord_free(t->coord);
	t->coord = NULL;
	if (t->rpc != NULL)
		rpc_free(t->rpc);
	t->rpc = NULL;
}

static void
on_session_end(void *arg, const char *reason)
{
	CliTunnel *t = arg;

	if (t->ws != NULL)
		net_ws_close(t->ws, 1000, reason);
}

static void
rpc_out(void *arg, const uint8_t *data, size_t size)
{
	CliTunnel *t = arg;

	if (t->ws != NULL)
		net_ws_send(t->ws, false, data, size);
}

static void
rpc_unexpected(void *arg, RpcCall *call, const char *name)
{
	(void) arg;
	(void) name;
	rpc_fail(call, 0, "the client serves no calls");
}

static void
ask_resume(void *arg)
{
	CliTunnel *t = arg;

	if (t->coord != NULL)
		coord_ask_resume(t->coord);
}

static void
on_resume_token(void *arg, const char *token, int64_t expires_at, int64_t refresh_ms)
{
	CliTunnel *t = arg;

	free(t->resume_token);
	t->resume_token = strdup(token);
	t->resume_expires = expires_at;
	loop_timer_start(&t->resume_timer, refresh_ms > 0 ? refresh_ms : RESUME_REFRESH_MS);
}

static void
drop_resume_token(CliTunnel *t)
{
	free(t->resume_token);
	t->resume_token = NULL;
}

static const RpcCallbacks rpc_callbacks = {rpc_out, rpc_unexpected, NULL};

static void
on_open(void *arg, NetWs *ws)
{
	CliTunnel *t = arg;
	CoordConfig config = {
		.tunnel = t->tunnel,
		.server_url = t->cli->url,
		.destination = t->agent,
		.arg = t,
		.on_end = on_session_end,
		.on_resume_token = on_resume_token,
	};

	t->ws = ws;
	t->backoff_ms = BACKOFF_MIN_MS;
	t->opened = true;
	t->rpc = rpc_new(true, &rpc_callbacks, t);
	t->coord = t->rpc ? coord_start(t->rpc, &config) : NULL;
	if (t->coord == NULL)
		net_ws_close(ws, 1011, "out of memory");
	else
		coord_ask_resume(t->coord);
}

static void
on_message(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size)
{
	CliTunnel *t = arg;
	const char *problem = text ? "a text message" : t->rpc ? rpc_input(t->rpc, data, size) : NULL;

	if (problem != NULL)
		net_ws_close(ws, 1002, problem);
}

static void
on_close(void *arg, NetWs *ws, int status, int code, const char *reason)
{
	CliTunnel *t = arg;

	(void) ws;
	(void) code;
	t->ws = NULL;
	if (status == 401 && t->resuming)
		drop_resume_token(t);
	/* What the server refuses at first it will refuse again. */
	if (!t->opened && status >= 400 && status < 500 && t->refused == NULL)
		t->refused = cli_format("%s", reason);
	if (!loop_defer(t->loop, after_close, t))
		cli_fail("out of memory");
}

/* Deferred, so that no function of the session is on the stack. */
static void
after_close(void *arg)
{
	CliTunnel *t = arg;

	loop_timer_stop(&t->resume_timer);
	drop_session(t);
	tunnel_peers_lost(t->tunnel);
	if (t->closing)
	{
		loop_stop(t->loop);
		return;
	}
	loop_timer_start(&t->timer, t->backoff_ms);
	t->backoff_ms = t->backoff_ms * 13 / 8 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : t->backoff_ms * 13 / 8;
}

static const NetWsHandlers ws_handlers = {on_open, on_message, on_close, NULL};

static void
connect_coordinator(void *arg)
{
	CliTunnel *t = arg;
	char *url;

	if (t->refused != NULL)
		cli_fail("%s", t->refused);
	if (t->resume_token != NULL && time(NULL) >= t->resume_expires)
		drop_resume_token(t);
	t->resuming = t->resume_token != NULL;
	url = t->resuming ? cli_format("%s&resume_token=%s", t->coordinate_url, t->resume_token) : t->coordinate_url;
	t->ws = net_ws_connect(t->loop, url, t->headers, &ws_handlers, t);
	if (t->ws == NULL)
		cli_fail("could not connect to %s", t->cli->url);
}

static void
on_node_changed(void *arg, const TunnelNode *self)
{
	CliTunnel *t = arg;

	if (t->coord != NULL)
		coord_node_changed(t->coord, self);
}

static void
on_log(void *arg, const char *line)
{
	(void) arg;
	if (getenv("CODER_TUNNEL_LOG") != NULL)
		fprintf(stderr, "tunnel: %s\n", line);
}

/* The relay map of the connection info, which has the names of Go's types. */
static void
apply_connection_info(CliTunnel *t, const json_t *info)
{
	TunnelDerpRegion regions[64];
	static TunnelDerpNode nodes[64][8];
	TunnelDerpMap map = {regions, 0};
	NetUrl server;
	const char *key;
	json_t *region;

	net_url_parse(&server, t->cli->url);
	json_object_foreach(js_at(info, "derp_map.Regions"), key, region)
	{
		TunnelDerpRegion *to = &regions[map.nregions];
		json_t *node;
		size_t i;

		if (map.nregions == 64)
			break;
		memset(to, 0, sizeof(*to));
		to->id = (int) js_int(region, "RegionID");
		to->embedded = js_bool(region, "EmbeddedRelay");
		to->avoid = js_bool(region, "Avoid");
		to->nodes = nodes[map.nregions];
		json_array_foreach(json_object_get(region, "Nodes"), i, node)
		{
			TunnelDerpNode *n = &nodes[map.nregions][to->nnodes];
			bool own;

			if (to->nnodes == 8)
				break;
			n->stun_only = js_bool(node, "STUNOnly");
			own = to->embedded && !n->stun_only;
			n->host = own ? strdup(server.host) : js_text(node, "HostName");
			n->ip = own ? NULL : js_text(node, "IPv4");
			n->cert_name = js_text(node, "CertName");
			n->port = own ? server.port : (int) js_int(node, "DERPPort");
			n->force_http = own ? !server.tls : js_bool(node, "ForceHTTP");
			to->nnodes++;
		}
		map.nregions++;
	}
	tunnel_set_derp_map(t->tunnel, &map);
}

static void
parse_id(uint8_t id[TUNNEL_ID_LEN], const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n < 2 * TUNNEL_ID_LEN; text++)
	{
		const char *digits = "0123456789abcdef";
		const char *d = strchr(digits, *text | 0x20);

		if (*text == '-' || d == NULL)
			continue;
		id[n / 2] = (uint8_t) (n % 2 == 0 ? (d - digits) << 4 : id[n / 2] | (d - digits));
		n++;
	}
}

static void *
run_loop(void *arg)
{
	CliTunnel *t = arg;

	loop_run(t->loop);
	return NULL;
}

/* The one tunnel of this process, until it is closed. */
static CliTunnel *open_tunnel;

/* A command that fails says goodbye too: the agent would keep what it has of it for minutes. */
static void
close_at_exit(void)
{
	if (open_tunnel != NULL && !pthread_equal(pthread_self(), open_tunnel->thread))
		cli_tunnel_close(open_tunnel);
}

CliTunnel *
cli_tunnel_open(Cli *cli, const json_t *agent)
{
	CliTunnel *t = calloc(1, sizeof(*t));
	const char *id = js_text(agent, "id");
	json_t *info = cli_get(cli, cli_format("/api/v2/workspaceagents/%s/connection", id));
	TunnelConfig config = {0};
	uint8_t self[TUNNEL_ID_LEN];
	sigset_t all;
	sigset_t before;

	if (t == NULL || (t->loop = loop_create()) == NULL)
		cli_fail("out of memory");
	signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
	t->cli = cli;
	t->backoff_ms = BACKOFF_MIN_MS;
	loop_timer_init(&t->resume_timer, t->loop, ask_resume, t);
	parse_id(t->agent, id);
	tunnel_address(t->address, t->agent, false);
	tunnel_random_id(self);
	tunnel_address(config.addresses[0], self, false);
	config.naddresses = 1;
	config.force_websockets = js_bool(info, "derp_force_websockets");
	config.arg = t;
	config.node_changed = on_node_changed;
	config.log = on_log;
	loop_timer_init(&t->timer, t->loop, connect_coordinator, t);
	loop_timer_init(&t->flush_timer, t->loop, flush_streams, t);
	t->tunnel = tunnel_create(t->loop, &config);
	if (t->tunnel == NULL)
		cli_fail("could not make the tunnel: out of memory");
	apply_connection_info(t, info);
	t->coordinate_url = cli_format("%s/api/v2/workspaceagents/%s/coordinate?version=2.0", cli->url, id);
	t->headers = cli_format("Coder-Session-Token: %s\r\n", cli->token);
	connect_coordinator(t);
	/* Signals are the command's: they interrupt what it waits for. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&t->thread, NULL, run_loop, t) != 0)
		cli_fail("could not start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	open_tunnel = t;
	atexit(close_at_exit);
	return t;
}

static void
on_dialed(void *arg, int fd)
{
	wish_done(arg, fd);
}

static void
start_dial(void *arg)
{
	Wish *wish = arg;

	if (tunnel_dial(wish->t->tunnel, wish->t->address, (uint16_t) wish->port, wish->timeout_ms, on_dialed, wish) == NULL)
		wish_done(wish, -ENOMEM);
}

int
cli_tunnel_dial(CliTunnel *t, int port, int timeout_ms)
{
	Wish wish = {.port = port, .timeout_ms = timeout_ms};

	return wish_run(t, &wish, start_dial);
}

static void
on_pong(void *arg, const TunnelPong *pong)
{
	Wish *wish = arg;

	wish->pong = *pong;
	wish_done(wish, pong->error);
}

static void
start_ping(void *arg)
{
	Wish *wish = arg;

	if (tunnel_ping(wish->t->tunnel, wish->t->address, TUNNEL_PING_DISCO, wish->timeout_ms, on_pong, wish) == NULL)
		wish_done(wish, -ENOMEM);
}

int
cli_tunnel_ping(CliTunnel *t, int timeout_ms, CliPing *result)
{
	Wish wish = {.timeout_ms = timeout_ms};
	int error = wish_run(t, &wish, start_ping);

	if (error != 0)
		return error;
	result->milliseconds = (double) wish.pong.latency_ns / 1e6;
	result->direct = wish.pong.derp_region == 0;
	if (result->direct)
		snprintf(result->path, sizeof(result->path), "%s", wish.pong.endpoint);
	else
		snprintf(result->path, sizeof(result->path), "region %d", wish.pong.derp_region);
	return 0;
}

static void
on_goodbye_timeout(void *arg)
{
	CliTunnel *t = arg;

	loop_stop(t->loop);
}

static void
say_goodbye(CliTunnel *t)
{
	t->closing = true;
	if (t->coord == NULL || t->ws == NULL)
	{
		loop_stop(t->loop);
		return;
	}
	coord_disconnect(t->coord);
	net_ws_close(t->ws, 1000, "bye");
	loop_timer_become(&t->timer, on_goodbye_timeout);
	loop_timer_start(&t->timer, GOODBYE_MS);
}

/* The agent ends the streams of a peer that said goodbye: their last bytes go before that. */
static void
flush_streams(void *arg)
{
	CliTunnel *t = arg;

	if (tunnel_flushed(t->tunnel) || loop_now(t->loop) >= t->flush_until)
		say_goodbye(t);
	else
		loop_timer_start(&t->flush_timer, FLUSH_CHECK_MS);
}

static void
start_goodbye(void *arg)
{
	CliTunnel *t = arg;

	t->flush_until = loop_now(t->loop) + FLUSH_MS * INT64_C(1000000);
	flush_streams(t);
}

void
cli_tunnel_close(CliTunnel *t)
{
	open_tunnel = NULL;
	if (loop_post(t->loop, start_goodbye, t))
		pthread_join(t->thread, NULL);
}
