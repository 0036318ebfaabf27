/*
 * gateway.h -- what the parts of coder-server share: settings, event loops, timers, log.
 *
 * One GwLoop a thread; everything that hangs on a loop (requests, database
 * connections, sockets, timers) is touched by its own thread only.  To reach
 * another loop, gw_loop_post() a function to it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <h2o.h>
#include <jansson.h>
#include <libpq-fe.h>

#include "origin.h"

#ifndef GW_VERSION
#define GW_VERSION "v2.32.0"
#endif

#define GW_MAX_LOOPS 64

/* Settings: option.c fills them from the environment, then from the flags. */
typedef struct GwOptions
{
	char *http_address;	 /* host:port */
	char *access_url;	 /* without a trailing slash */
	char *wildcard_access_url;
	char *pg_connection_url; /* NULL: embedded cluster */
	char *pg_bindir;
	char *config_dir;
	char *cache_dir;
	char *experiments;
	char *site_dir;	   /* gateway/web/dist */
	char *agent_path;  /* the binary behind /bin/coder-linux-<arch> */
	bool tls_enable;
	char *tls_address;
	char *tls_cert_file;
	char *tls_key_file;
	char *proxy_trusted_headers; /* that name the client's address, … */
	char *proxy_trusted_origins; /* … sent by these networks */
	GwOrigins origins;			 /* the same, parsed */
	char *outbound_ca_file; /* NULL: the system's certificates */
	bool redirect_to_access_url;
	bool secure_auth_cookie;
	bool host_prefix_cookie; /* cookies are called __Host-… */
	char *samesite_auth_cookie; /* lax or none */
	char *strict_transport_security_options;
	char *additional_csp_policy;
	bool derp_enable;
	char *derp_server_relay_url; /* where other gateways reach this one; NULL: it is alone */
	bool block_direct;
	bool disable_rate_limits;
	bool allow_all_cors;
	bool verbose;
	bool prometheus_enable;
	bool prometheus_collect_agent_stats;
	bool prometheus_collect_db_metrics;
	bool telemetry_enable;
	char *prometheus_address;
	char *prometheus_aggregate_by;
	char *telemetry_url;
	int api_rate_limit;		 /* per minute; 0 = no limit */
	int provisioner_daemons; /* workers of the provisioner child; 0 = none */
	int loops;				 /* event-loop threads; 0 = cores - 1, at least 1 */
	int max_connections;
	int max_connections_per_ip;
	int strict_transport_security; /* max-age; 0 = no header */
	int tunnel_idle_seconds;	   /* of this server's own tunnels to agents */
	json_t *settings;			   /* every setting by its name, for coder.configure() */
} GwOptions;

struct GwDb;
struct GwEvents;
struct GwMetrics;
struct GwRouteTable;
struct GwWs;

typedef struct GwLoop
{
	h2o_context_t ctx; /* first: a request's loop is gw_loop_of(req) */
	int index;
	h2o_accept_ctx_t accept;
	h2o_accept_ctx_t accept_tls;
	h2o_accept_ctx_t accept_metrics; /* serves nothing but metrics */
	struct GwDb *db;
	struct GwEvents *events;
	struct GwMetrics *metrics;	 /* counters of this loop, summed by /metrics */
	int ws_route;				 /* of the stream that is being opened, for its metrics */
	struct GwRouteTable *routes; /* replaced as a whole, see route.h */
	h2o_multithread_receiver_t receiver;
	h2o_timeout_t buckets[4]; /* behind GwTimer */
	h2o_linklist_t streams;	  /* GwStream: told when the server stops */
	h2o_linklist_t calls;	  /* api.c: requests that wait for the database */
	bool stopping;
	atomic_int connections;
	uint8_t random[4096];
	size_t random_left;
	struct GwAccept *listeners; /* accept.c */
	pthread_t thread;
	atomic_bool done;
} GwLoop;

typedef struct GwServer
{
	GwOptions options;
	h2o_globalconf_t config;
	int n_loops;
	GwLoop *loops[GW_MAX_LOOPS];
	char *conninfo;		/* of the database, for libpq */
	atomic_bool stopping;
	SSL_CTX *ssl_ctx;
} GwServer;

extern GwServer gw_server;

static inline GwLoop *
gw_loop_of(h2o_req_t *req)
{
	return (GwLoop *) req->conn->ctx;
}

/* loop.c, used by main.c */
void gw_loop_init(GwLoop *loop, int index);
void gw_loop_stop_streams(GwLoop *loop);

/* Runs fn(loop, arg) on loop's thread, soon.  Callable from any thread. */
void gw_loop_post(GwLoop *loop, void (*fn)(GwLoop *loop, void *arg), void *arg);

/* n random bytes, from a buffer of the loop that the kernel fills. */
void gw_random(GwLoop *loop, void *dst, size_t n);
/* carrier.c */
void gw_carriers_start(void);

void gw_uuid(GwLoop *loop, char dst[static 37]);

/*
 * One-shot timers of any duration, 10 ms coarse.  A zeroed GwTimer is idle.
 * gw_timer_start() on a running timer moves it.  The callback may free it.
 */
typedef struct GwTimer
{
	h2o_timeout_entry_t entry;
	GwLoop *loop;
	uint64_t deadline;
	void (*cb)(void *arg);
	void *arg;
} GwTimer;

void gw_timer_start(GwTimer *timer, GwLoop *loop, uint64_t ms, void (*cb)(void *arg), void *arg);
void gw_timer_stop(GwTimer *timer);

/*
 * A long-lived connection.  on_stop runs once when the server begins to stop:
 * say good-bye and close within a few seconds.  gw_stream_remove() before the
 * memory goes.
 */
typedef struct GwStream
{
	h2o_linklist_t link;
	void (*on_stop)(struct GwStream *stream);
} GwStream;

void gw_stream_add(GwLoop *loop, GwStream *stream, void (*on_stop)(GwStream *stream));
void gw_stream_remove(GwStream *stream);

typedef enum GwLogLevel
{
	GW_DEBUG,
	GW_INFO,
	GW_WARN,
	GW_ERROR
} GwLogLevel;

/* One line to standard error: time, level, text.  GW_DEBUG only with --verbose. */
void gw_log(GwLogLevel level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
