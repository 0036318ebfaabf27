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

#define MAX_ROUTES 2048
#define N_BUCKETS 9

static const double bounds[N_BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 10};

typedef struct RouteCount
{
	atomic_ullong status[6]; /* by hundreds */
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
	status = status / 100 < 1 || status / 100 > 5 ? 0 : status / 100;
	atomic_store_explicit(&count->status[status], atomic_load_explicit(&count->status[status], memory_order_relaxed) + 1,
						  memory_order_relaxed);
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

static void
print_route(FILE *out, int route)
{
	unsigned long long seen = 0;

	for (size_t s = 0; s < 6; s++)
	{
		unsigned long long n = sum(route, offsetof(RouteCount, status) + s * sizeof(atomic_ullong));

		seen += n;
		if (n > 0)
			fprintf(out, "coder_gateway_requests_total{route=\"%d\",status=\"%zuxx\"} %llu\n", route, s, n);
	}
	if (seen == 0)
		return;
	seen = 0;
	for (size_t b = 0; b <= N_BUCKETS; b++)
	{
		seen += sum(route, offsetof(RouteCount, bucket) + b * sizeof(atomic_ullong));
		if (b < N_BUCKETS)
			fprintf(out, "coder_gateway_request_seconds_bucket{route=\"%d\",le=\"%g\"} %llu\n", route, bounds[b], seen);
	}
	fprintf(out, "coder_gateway_request_seconds_bucket{route=\"%d\",le=\"+Inf\"} %llu\n", route, seen);
	fprintf(out, "coder_gateway_request_seconds_sum{route=\"%d\"} %.6f\n", route,
			(double) sum(route, offsetof(RouteCount, micros)) / 1e6);
	fprintf(out, "coder_gateway_request_seconds_count{route=\"%d\"} %llu\n", route, seen);
}

/*
 * The pools of other loops are read without their threads' consent: plain
 * numbers, good enough for a gauge.
 */
void
gw_metrics_serve(GwRequest *request)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	CoordStats coordinator;
	GwOutboundStats outbound;
	h2o_iovec_t body;

	fprintf(out, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %lu\n"
				 "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %lld\n",
			resident_bytes(), (long long) started);
	fprintf(out, "# TYPE coder_gateway_connections gauge\n");
	for (int i = 0; i < gw_server.n_loops; i++)
		fprintf(out, "coder_gateway_connections{loop=\"%d\"} %d\n", i, atomic_load(&gw_server.loops[i]->connections));
	for (int i = 0; i < gw_server.n_loops; i++)
	{
		GwDbStats stats;

		gw_db_stats(gw_server.loops[i]->db, &stats);
		fprintf(out,
				"coder_gateway_db_connections{loop=\"%d\",pool=\"fast\"} %d\n"
				"coder_gateway_db_connections{loop=\"%d\",pool=\"slow\"} %d\n"
				"coder_gateway_db_queued{loop=\"%d\"} %d\ncoder_gateway_db_running{loop=\"%d\"} %d\n"
				"coder_gateway_db_statements_total{loop=\"%d\"} %llu\n"
				"coder_gateway_db_failed_total{loop=\"%d\"} %llu\ncoder_gateway_db_lost_total{loop=\"%d\"} %llu\n"
				"coder_gateway_db_connects_total{loop=\"%d\"} %llu\n"
				"coder_gateway_subscriptions{loop=\"%d\"} %d\n",
				i, stats.fast_up, i, stats.slow_up, i, stats.queued, i, stats.running, i,
				(unsigned long long) stats.sent, i, (unsigned long long) stats.failed, i,
				(unsigned long long) stats.lost, i, (unsigned long long) stats.reconnects, i,
				gw_event_count(gw_server.loops[i]));
	}
	gw_outbound_stats(&outbound);
	fprintf(out,
			"# TYPE coder_gateway_outbound_running gauge\ncoder_gateway_outbound_running %d\n"
			"# TYPE coder_gateway_outbound_total counter\n"
			"coder_gateway_outbound_total{result=\"answered\"} %llu\ncoder_gateway_outbound_total{result=\"failed\"} %llu\n",
			outbound.running, (unsigned long long) outbound.answered, (unsigned long long) outbound.failed);
	coord_stats(&coordinator);
	fprintf(out, "# TYPE coder_gateway_tailnet_peers gauge\ncoder_gateway_tailnet_peers %zu\n"
				 "# TYPE coder_gateway_tailnet_tunnels gauge\ncoder_gateway_tailnet_tunnels %zu\n",
			coordinator.peers, coordinator.tunnels);
	fprintf(out, "# HELP coder_gateway_requests_total By coder.routes.id; 0 is everything else.\n"
				 "# TYPE coder_gateway_requests_total counter\n# TYPE coder_gateway_request_seconds histogram\n");
	for (int i = 0; i < MAX_ROUTES; i++)
		print_route(out, i);
	fclose(out);
	body = h2o_strdup(&request->req->pool, text, len);
	free(text);
	gw_reply_body(request->req, 200, "text/plain; version=0.0.4; charset=utf-8", body.base, body.len);
}
