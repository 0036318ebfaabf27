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
#include "outbound/outbound.h"
#include "reply.h"
#include "stream/coordinator.h"
#include "request.h"
#include "route.h"

#define MAX_ROUTES 2048
#define N_BUCKETS 11
#define N_CODES ((int) (sizeof(codes) / sizeof(codes[0])))

static const double bounds[N_BUCKETS] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30};

/* What this server answers; anything else counts as the last. */
static const int codes[] = {101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410,
							412, 413, 415, 422, 424, 425, 429, 431, 500, 501, 502, 503, 504, 0};

typedef struct RouteCount
{
	atomic_ullong code[sizeof(codes) / sizeof(codes[0])];
	atomic_ullong bucket[N_BUCKETS + 1];
	atomic_ullong micros;
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

void
gw_metrics_count(GwLoop *loop, int route, int status, uint64_t us)
{
	RouteCount *count;
	int b = 0;
	int c = 0;

	if (route < 0 || route >= MAX_ROUTES)
		route = 0;
	count = atomic_load_explicit(&loop->metrics->routes[route], memory_order_relaxed);
	if (count == NULL)
	{
		count = calloc(1, sizeof(*count));
		if (count == NULL)
			return;
		atomic_store(&loop->metrics->routes[route], count);
	}
	while (b < N_BUCKETS && (double) us > bounds[b] * 1e6)
		b++;
	while (c < N_CODES - 1 && codes[c] != status)
		c++;
	atomic_store_explicit(&count->code[c], atomic_load_explicit(&count->code[c], memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store_explicit(&count->bucket[b], atomic_load_explicit(&count->bucket[b], memory_order_relaxed) + 1,
						  memory_order_relaxed);
	atomic_store_explicit(&count->micros, atomic_load_explicit(&count->micros, memory_order_relaxed) + us,
						  memory_order_relaxed);
}

static unsigned long
resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*u %lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (unsigned long) sysconf(_SC_PAGESIZE);
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

/* The labels of a route; those that matched none are one. */
static void
print_labels(FILE *out, const GwRoute *route)
{
	fprintf(out, "method=\"%s\",path=\"%s\"", route != NULL ? route->method : "", route != NULL ? route->pattern : "STATIC");
}

static void
print_requests(FILE *out, const GwRoute *route, int id)
{
	for (size_t c = 0; c < (size_t) N_CODES; c++)
	{
		unsigned long long n = sum(id, offsetof(RouteCount, code) + c * sizeof(atomic_ullong));

		if (n == 0)
			continue;
		fprintf(out, "coderd_api_requests_processed_total{code=\"%d\",", codes[c]);
		print_labels(out, route);
		fprintf(out, "} %llu\n", n);
	}
}

static void
print_latencies(FILE *out, const GwRoute *route, int id)
{
	static const char name[] = "coderd_api_request_latencies_seconds";
	unsigned long long n[N_BUCKETS + 1];
	unsigned long long seen = 0;

	for (size_t b = 0; b <= N_BUCKETS; b++)
	{
		seen += sum(id, offsetof(RouteCount, bucket) + b * sizeof(atomic_ullong));
		n[b] = seen;
	}
	for (size_t b = 0; b <= N_BUCKETS && seen > 0; b++)
	{
		fprintf(out, "%s_bucket{", name);
		print_labels(out, route);
		if (b < N_BUCKETS)
			fprintf(out, ",le=\"%g\"} %llu\n", bounds[b], n[b]);
		else
			fprintf(out, ",le=\"+Inf\"} %llu\n", n[b]);
	}
	if (seen == 0)
		return;
	fprintf(out, "%s_sum{", name);
	print_labels(out, route);
	fprintf(out, "} %.6f\n%s_count{", (double) sum(id, offsetof(RouteCount, micros)) / 1e6, name);
	print_labels(out, route);
	fprintf(out, "} %llu\n", seen);
}

/* A route that was deleted since has no name to count under. */
static void
print_routes(FILE *out, const GwRouteTable *table, void (*print)(FILE *out, const GwRoute *route, int id))
{
	print(out, NULL, 0);
	for (int id = 1; id < MAX_ROUTES; id++)
	{
		const GwRoute *route = NULL;

		for (int i = 0; i < gw_server.n_loops && route == NULL; i++)
			if (atomic_load(&gw_server.loops[i]->metrics->routes[id]) != NULL)
				route = gw_routes_by_id(table, id);
		if (route != NULL)
			print(out, route, id);
	}
}

static void
head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A figure of each loop's. */
static void
print_loops(FILE *out, const char *name, const char *type, const char *help, const GwDbStats *stats,
			unsigned long long (*figure)(int loop, const GwDbStats *stats))
{
	head(out, name, type, help);
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
	head(out, "coder_gateway_db_connections", "gauge", "Open connections to the database.");
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

	head(out, "process_resident_memory_bytes", "gauge", "Memory of the gateway's process.");
	fprintf(out, "process_resident_memory_bytes %lu\n", resident_bytes());
	head(out, "process_start_time_seconds", "gauge", "When the gateway's process started.");
	fprintf(out, "process_start_time_seconds %lld\n", (long long) started);
	print_pools(out);
	gw_outbound_stats(&outbound);
	head(out, "coder_gateway_outbound_running", "gauge", "Requests to other servers that are under way.");
	fprintf(out, "coder_gateway_outbound_running %d\n", outbound.running);
	head(out, "coder_gateway_outbound_total", "counter", "Requests to other servers.");
	fprintf(out, "coder_gateway_outbound_total{result=\"answered\"} %llu\ncoder_gateway_outbound_total{result=\"failed\"} %llu\n",
			(unsigned long long) outbound.answered, (unsigned long long) outbound.failed);
	coord_stats(&coordinator);
	head(out, "coder_gateway_tailnet_peers", "gauge", "Peers of the coordinator.");
	fprintf(out, "coder_gateway_tailnet_peers %zu\n", coordinator.peers);
	head(out, "coder_gateway_tailnet_tunnels", "gauge", "Tunnels of the coordinator.");
	fprintf(out, "coder_gateway_tailnet_tunnels %zu\n", coordinator.tunnels);
	head(out, "coderd_api_requests_processed_total", "counter", "Requests that were answered, by code, method and route.");
	print_routes(out, loop->routes, print_requests);
	head(out, "coderd_api_request_latencies_seconds", "histogram", "How long requests took, by method and route.");
	print_routes(out, loop->routes, print_latencies);
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
