/*
 * metrics.c -- what the gateway counts, in Prometheus' text format.
 *
 * Each loop counts for itself; /metrics adds the loops up.  A reader may see a
 * counter that is a moment old, never a torn one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "db.h"
#include "event.h"
#include "metrics.h"
#include "outbound/outbound.h"
#include "reply.h"
#include "stream/coordinator.h"
#include "request.h"
#include "route.h"

#define MAX_ROUTES 2048
#define N_BUCKETS 11
#define N_WS_BUCKETS 6
#define N_CODES ((int) (sizeof(codes) / sizeof(codes[0])))

static const double bounds[N_BUCKETS] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30};

static const double ws_bounds[N_WS_BUCKETS] = {0.001, 1, 60, 3600, 54000, 108000};

/* What this server answers; anything else counts as the last. */
static const int codes[] = {101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410,
							412, 413, 415, 422, 424, 425, 429, 431, 500, 501, 502, 503, 504, 0};

typedef struct RouteCount
{
	atomic_ullong code[sizeof(codes) / sizeof(codes[0])];
	atomic_ullong bucket[N_BUCKETS + 1];
	atomic_ullong micros;
	atomic_llong running;
	atomic_llong ws_open;
	atomic_ullong ws_bucket[N_WS_BUCKETS + 1];
	atomic_ullong ws_micros;
} RouteCount;

struct GwMetrics
{
	RouteCount *_Atomic routes[MAX_ROUTES];
};

static time_t started;

void
gw_metrics_init(GwLoop *loop)
{
	loop->metrics = calloc(1, sizeof(*loop->metrics));
	if (loop->metrics == NULL)
		h2o_fatal("out of memory");
	started = time(NULL);
}

/* The counters of a route in a loop, made when first needed; NULL: no memory. */
static RouteCount *
count_of(GwLoop *loop, int route)
{
	RouteCount *count;

	if (route < 0 || route >= MAX_ROUTES)
		route = 0;
	count = atomic_load_explicit(&loop->metrics->routes[route], memory_order_relaxed);
	if (count == NULL)
	{
		count = calloc(1, sizeof(*count));
		if (count != NULL)
			atomic_store(&loop->metrics->routes[route], count);
	}
	return count;
}

/* Only the loop's own thread writes. */
#define ADD(counter, n) \
	atomic_store_explicit(&(counter), atomic_load_explicit(&(counter), memory_order_relaxed) + (n), memory_order_relaxed)

static size_t
bucket_of(const double *limits, size_t n, uint64_t us)
{
	size_t b = 0;

	while (b < n && (double) us > limits[b] * 1e6)
		b++;
	return b;
}

static void
count_code(RouteCount *count, int status)
{
	int c = 0;

	while (c < N_CODES - 1 && codes[c] != status)
		c++;
	ADD(count->code[c], 1);
}

void
gw_metrics_begin(GwRequest *request)
{
	RouteCount *count = count_of(request->loop, request->route);

	if (count == NULL || request->counted)
		return;
	request->counted = true;
	ADD(count->running, 1);
}

void
gw_metrics_end(GwRequest *request)
{
	RouteCount *count = count_of(request->loop, request->route);
	uint64_t us = gw_micros() - request->started;

	if (count == NULL)
		return;
	if (request->counted)
		ADD(count->running, -1);
	if (request->upgraded)
		return;
	count_code(count, request->req->res.status);
	ADD(count->bucket[bucket_of(bounds, N_BUCKETS, us)], 1);
	ADD(count->micros, us);
}

void
gw_metrics_ws_begin(GwLoop *loop, int route)
{
	RouteCount *count = count_of(loop, route);

	if (count == NULL)
		return;
	count_code(count, 101);
	ADD(count->ws_open, 1);
}

void
gw_metrics_ws_end(GwLoop *loop, int route, uint64_t us)
{
	RouteCount *count = count_of(loop, route);

	if (count == NULL)
		return;
	ADD(count->ws_open, -1);
	ADD(count->ws_bucket[bucket_of(ws_bounds, N_WS_BUCKETS, us)], 1);
	ADD(count->ws_micros, us);
}

static unsigned long long
sum(int route, size_t offset)
{
	unsigned long long total = 0;

	for (int i = 0; i < gw_server.n_loops; i++)
	{
		RouteCount *count = atomic_load(&gw_server.loops[i]->metrics->routes[route]);

		if (count != NULL)
			total += atomic_load((atomic_ullong *) ((char *) count + offset));
	}
	return total;
}

/* What matched no route is one, of the API and of the rest. */
static const char *
route_path(const GwRoute *route, int id)
{
	if (route != NULL)
		return route->pattern;
	return id == GW_ROUTE_UNKNOWN ? "UNKNOWN" : "STATIC";
}

static void
route_labels(char *out, size_t size, const GwRoute *route, int id)
{
	snprintf(out, size, "method=\"%s\",path=\"%s\"", route != NULL ? route->method : "", route_path(route, id));
}

static void
print_requests(FILE *out, const GwRoute *route, int id)
{
	char labels[512];

	route_labels(labels, sizeof(labels), route, id);
	for (size_t c = 0; c < (size_t) N_CODES; c++)
	{
		unsigned long long n = sum(id, offsetof(RouteCount, code) + c * sizeof(atomic_ullong));

		if (n == 0)
			continue;
		fprintf(out, "coderd_api_requests_processed_total{code=\"%d\",%s} %llu\n", codes[c], labels, n);
	}
}

void
gw_metrics_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void
gw_metrics_histogram(FILE *out, const char *name, const char *labels, const double *limits, size_t n_limits,
					 const unsigned long long *n, double sum_of)
{
	const char *comma = labels[0] != '\0' ? "," : "";
	unsigned long long seen = 0;

	for (size_t b = 0; b < n_limits; b++)
	{
		seen += n[b];
		fprintf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, labels, comma, limits[b], seen);
	}
	seen += n[n_limits];
	fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma, seen);
	if (labels[0] != '\0')
		fprintf(out, "%s_sum{%s} %.6f\n%s_count{%s} %llu\n", name, labels, sum_of, name, labels, seen);
	else
		fprintf(out, "%s_sum %.6f\n%s_count %llu\n", name, sum_of, name, seen);
}

/* Each request is one statement, but for those that were refused before. */
static void
print_queries(FILE *out, const GwRoute *route, int id)
{
	unsigned long long n = 0;

	for (size_t c = 0; c < (size_t) N_CODES && route != NULL; c++)
		n += sum(id, offsetof(RouteCount, code) + c * sizeof(atomic_ullong));
	if (n > 0)
		fprintf(out, "coderd_db_query_counts_total{route=\"%s\",method=\"%s\",query=\"call\"} %llu\n", route->pattern, route->method, n);
}

static void
print_latencies(FILE *out, const GwRoute *route, int id)
{
	unsigned long long n[N_BUCKETS + 1];
	unsigned long long seen = 0;
	char labels[512];

	for (size_t b = 0; b <= N_BUCKETS; b++)
		seen += n[b] = sum(id, offsetof(RouteCount, bucket) + b * sizeof(atomic_ullong));
	if (seen == 0)
		return;
	route_labels(labels, sizeof(labels), route, id);
	gw_metrics_histogram(out, "coderd_api_request_latencies_seconds", labels, bounds, N_BUCKETS, n,
					(double) sum(id, offsetof(RouteCount, micros)) / 1e6);
}

static void
print_running(FILE *out, const GwRoute *route, int id)
{
	char labels[512];
	long long n = (long long) sum(id, offsetof(RouteCount, running));

	/* What is seen of two loops at two times may not add up. */
	route_labels(labels, sizeof(labels), route, id);
	if (id != 0)
		fprintf(out, "coderd_api_concurrent_requests{%s} %lld\n", labels, n > 0 ? n : 0);
}

/* Has the route ever had a WebSocket? */
static bool
had_websockets(int id, unsigned long long *n, long long *open)
{
	unsigned long long ended = 0;

	*open = (long long) sum(id, offsetof(RouteCount, ws_open));
	for (size_t b = 0; b <= N_WS_BUCKETS; b++)
		ended += n[b] = sum(id, offsetof(RouteCount, ws_bucket) + b * sizeof(atomic_ullong));
	return *open > 0 || ended > 0;
}

static void
print_websockets(FILE *out, const GwRoute *route, int id)
{
	unsigned long long n[N_WS_BUCKETS + 1];
	long long open;

	if (had_websockets(id, n, &open))
		fprintf(out, "coderd_api_concurrent_websockets{path=\"%s\"} %lld\n", route_path(route, id), open > 0 ? open : 0);
}

static void
print_websocket_times(FILE *out, const GwRoute *route, int id)
{
	unsigned long long n[N_WS_BUCKETS + 1];
	long long open;
	char labels[512];

	if (!had_websockets(id, n, &open))
		return;
	snprintf(labels, sizeof(labels), "path=\"%s\"", route_path(route, id));
	gw_metrics_histogram(out, "coderd_api_websocket_durations_seconds", labels, ws_bounds, N_WS_BUCKETS, n,
					(double) sum(id, offsetof(RouteCount, ws_micros)) / 1e6);
}

void
gw_metrics_totals(GwMetricsTotals *totals)
{
	memset(totals, 0, sizeof(*totals));
	for (int id = 0; id < MAX_ROUTES; id++)
	{
		for (size_t c = 0; c < (size_t) N_CODES; c++)
		{
			unsigned long long n = sum(id, offsetof(RouteCount, code) + c * sizeof(atomic_ullong));

			totals->requests += n;
			totals->errors += codes[c] >= 500 ? n : 0;
		}
		totals->websockets += (long long) sum(id, offsetof(RouteCount, ws_open));
	}
}

/* A route that was deleted since has no name to count under. */
static void
print_routes(FILE *out, const GwRouteTable *table, void (*print)(FILE *out, const GwRoute *route, int id))
{
	print(out, NULL, 0);
	print(out, NULL, GW_ROUTE_UNKNOWN);
	for (int id = 1; id < GW_ROUTE_UNKNOWN; id++)
	{
		const GwRoute *route = NULL;

		for (int i = 0; i < gw_server.n_loops && route == NULL; i++)
			if (atomic_load(&gw_server.loops[i]->metrics->routes[id]) != NULL)
				route = gw_routes_by_id(table, id);
		if (route != NULL)
			print(out, route, id);
	}
}

/* A figure of each loop's. */
static void
print_loops(FILE *out, const char *name, const char *type, const char *help, const GwDbStats *stats,
			unsigned long long (*figure)(int loop, const GwDbStats *stats))
{
	gw_metrics_head(out, name, type, help);
	for (int i = 0; i < gw_server.n_loops; i++)
		fprintf(out, "%s{loop=\"%d\"} %llu\n", name, i, figure(i, &stats[i]));
}

static unsigned long long
connections_of(int loop, const GwDbStats *stats)
{
	(void) stats;
	return (unsigned long long) atomic_load(&gw_server.loops[loop]->connections);
}

static unsigned long long
subscriptions_of(int loop, const GwDbStats *stats)
{
	(void) stats;
	return (unsigned long long) gw_event_count(gw_server.loops[loop]);
}

#define FIGURE(name, field) \
	static unsigned long long name(int loop, const GwDbStats *stats) { (void) loop; return (unsigned long long) stats->field; }

FIGURE(queued_of, queued)
FIGURE(running_of, running)
FIGURE(sent_of, sent)
FIGURE(failed_of, failed)
FIGURE(lost_of, lost)
FIGURE(connects_of, reconnects)

/*
 * The pools of other loops are read without their threads' consent: plain
 * numbers, good enough for a gauge.
 */
static void
print_pools(FILE *out)
{
	GwDbStats stats[GW_MAX_LOOPS];

	for (int i = 0; i < gw_server.n_loops; i++)
		gw_db_stats(gw_server.loops[i]->db, &stats[i]);
	print_loops(out, "coder_gateway_connections", "gauge", "Open connections of clients.", stats, connections_of);
	gw_metrics_head(out, "coder_gateway_db_connections", "gauge", "Open connections to the database.");
	for (int i = 0; i < gw_server.n_loops; i++)
		fprintf(out,
				"coder_gateway_db_connections{loop=\"%d\",pool=\"fast\"} %d\ncoder_gateway_db_connections{loop=\"%d\",pool=\"slow\"} %d\n",
				i, stats[i].fast_up, i, stats[i].slow_up);
	print_loops(out, "coder_gateway_db_queued", "gauge", "Statements that wait to be sent.", stats, queued_of);
	print_loops(out, "coder_gateway_db_running", "gauge", "Statements that were sent and not answered.", stats, running_of);
	print_loops(out, "coder_gateway_db_statements_total", "counter", "Statements that were sent.", stats, sent_of);
	print_loops(out, "coder_gateway_db_failed_total", "counter", "Statements that the database refused.", stats, failed_of);
	print_loops(out, "coder_gateway_db_lost_total", "counter", "Statements whose connection was lost.", stats, lost_of);
	print_loops(out, "coder_gateway_db_connects_total", "counter", "Connections that were made to the database.", stats, connects_of);
	print_loops(out, "coder_gateway_subscriptions", "gauge", "Watchers of events.", stats, subscriptions_of);
}

char *
gw_metrics_text(const GwLoop *loop, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);
	CoordStats coordinator;
	GwOutboundStats outbound;

	gw_metrics_head(out, "process_start_time_seconds", "gauge", "When the gateway's process started.");
	fprintf(out, "process_start_time_seconds %lld\n", (long long) started);
	print_pools(out);
	gw_outbound_stats(&outbound);
	gw_metrics_head(out, "coder_gateway_outbound_running", "gauge", "Requests to other servers that are under way.");
	fprintf(out, "coder_gateway_outbound_running %d\n", outbound.running);
	gw_metrics_head(out, "coder_gateway_outbound_total", "counter", "Requests to other servers.");
	fprintf(out, "coder_gateway_outbound_total{result=\"answered\"} %llu\ncoder_gateway_outbound_total{result=\"failed\"} %llu\n",
			(unsigned long long) outbound.answered, (unsigned long long) outbound.failed);
	coord_stats(&coordinator);
	gw_metrics_head(out, "coder_gateway_tailnet_peers", "gauge", "Peers of the coordinator.");
	fprintf(out, "coder_gateway_tailnet_peers %zu\n", coordinator.peers);
	gw_metrics_head(out, "coder_gateway_tailnet_tunnels", "gauge", "Tunnels of the coordinator.");
	fprintf(out, "coder_gateway_tailnet_tunnels %zu\n", coordinator.tunnels);
	gw_metrics_head(out, "coderd_api_requests_processed_total", "counter", "Requests that were answered, by code, method and route.");
	print_routes(out, loop->routes, print_requests);
	gw_metrics_head(out, "coderd_api_request_latencies_seconds", "histogram", "How long requests took, by method and route.");
	print_routes(out, loop->routes, print_latencies);
	gw_metrics_head(out, "coderd_api_concurrent_requests", "gauge", "Requests that are being answered, by method and route.");
	print_routes(out, loop->routes, print_running);
	gw_metrics_head(out, "coderd_api_concurrent_websockets", "gauge", "Open WebSockets, by route.");
	print_routes(out, loop->routes, print_websockets);
	gw_metrics_head(out, "coderd_api_websocket_durations_seconds", "histogram", "How long WebSockets were open, by route.");
	print_routes(out, loop->routes, print_websocket_times);
	if (gw_server.options.prometheus_collect_db_metrics)
	{
		gw_metrics_head(out, "coderd_db_query_counts_total", "counter", "Requests to routes that ask the database, each one statement.");
		print_routes(out, loop->routes, print_queries);
	}
	gw_metrics_gauges(out);
	fclose(out);
	return text;
}

void
gw_metrics_serve(GwRequest *request)
{
	size_t len = 0;
	char *text = gw_metrics_text(request->loop, &len);
	h2o_iovec_t body = h2o_strdup(&request->req->pool, text, len);

	free(text);
	gw_reply_body(request->req, 200, "text/plain; version=0.0.4; charset=utf-8", body.base, body.len);
}
