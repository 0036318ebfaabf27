/*
 * gauges.c -- metrics of the process itself: memory, statements, events, relay, tunnels.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "db.h"
#include "event.h"
#include "metrics.h"
#include "outbound/count.h"
#include "request.h"
#include "stream/derp.h"
#include "stream/mesh.h"
#include "stream/tunnel.h"

#define N_COLLECTED 11
#define MAX_NAMES 64

static const double collected_bounds[N_COLLECTED] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 10, 30};
static atomic_ullong collected[N_COLLECTED + 1];
static atomic_ullong collected_us;
static atomic_ullong scraped[2]; /* 503 and 200 */

void
gw_metrics_collected(uint64_t us)
{
	size_t b = 0;

	while (b < N_COLLECTED && (double) us > collected_bounds[b] * 1e6)
		b++;
	atomic_fetch_add(&collected[b], 1);
	atomic_fetch_add(&collected_us, us);
}

void
gw_metrics_scraped(int code)
{
	atomic_fetch_add(&scraped[code == 200], 1);
}

static void
gauge(FILE *out, const char *name, const char *help, double value)
{
	gw_metrics_head(out, name, "gauge", help);
	fprintf(out, "%s %.17g\n", name, value);
}

static void
counter(FILE *out, const char *name, const char *help, uint64_t value)
{
	gw_metrics_head(out, name, "counter", help);
	fprintf(out, "%s %llu\n", name, (unsigned long long) value);
}

/* The process ---------------------------------------------------------------- */

static unsigned
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the folder itself */
}

/* Pages of address space and of memory. */
static void
read_pages(unsigned long pages[2])
{
	FILE *file = fopen("/proc/self/statm", "r");

	pages[0] = pages[1] = 0;
	if (file == NULL)
		return;
	if (fscanf(file, "%lu %lu", &pages[0], &pages[1]) != 2)
		pages[0] = pages[1] = 0;
	fclose(file);
}

unsigned long
gw_metrics_resident(void)
{
	unsigned long pages[2];

	read_pages(pages);
	return pages[1] * (unsigned long) sysconf(_SC_PAGESIZE);
}

static void
print_process(FILE *out)
{
	double page = (double) sysconf(_SC_PAGESIZE);
	unsigned long pages[2];
	struct rusage usage;
	struct rlimit limit;

	read_pages(pages);
	gauge(out, "process_virtual_memory_bytes", "Address space of the gateway's process.", (double) pages[0] * page);
	gauge(out, "process_resident_memory_bytes", "Memory of the gateway's process.", (double) pages[1] * page);
	if (getrusage(RUSAGE_SELF, &usage) == 0)
	{
		gw_metrics_head(out, "process_cpu_seconds_total", "counter", "Processor time of the gateway's process.");
		fprintf(out, "process_cpu_seconds_total %.6f\n",
				(double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	}
	gauge(out, "process_open_fds", "Open files of the gateway's process.", open_files());
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		gauge(out, "process_max_fds", "How many it may have.", limit.rlim_cur == RLIM_INFINITY ? 1e18 : (double) limit.rlim_cur);
	gw_metrics_head(out, "promhttp_metric_handler_requests_total", "counter", "Scrapes that were answered.");
	fprintf(out, "promhttp_metric_handler_requests_total{code=\"200\"} %llu\n", (unsigned long long) atomic_load(&scraped[1]));
}

static void
print_collected(FILE *out)
{
	unsigned long long n[N_COLLECTED + 1];

	for (size_t b = 0; b <= N_COLLECTED; b++)
		n[b] = atomic_load(&collected[b]);
	gw_metrics_head(out, "coderd_prometheusmetrics_agents_execution_seconds", "histogram",
					"How long the database took to collect its metrics, those of agents among them.");
	gw_metrics_histogram(out, "coderd_prometheusmetrics_agents_execution_seconds", "", collected_bounds, N_COLLECTED, n,
						 (double) atomic_load(&collected_us) / 1e6);
}

/* Statements ----------------------------------------------------------------- */

typedef struct Sum
{
	const char *name;
	GwDbTimes times;
} Sum;

static Sum *
sum_of(Sum *sums, int *n, const char *name)
{
	for (int i = 0; i < *n; i++)
		if (strcmp(sums[i].name, name) == 0)
			return &sums[i];
	if (*n == MAX_NAMES)
		return NULL;
	sums[*n].name = name;
	return &sums[(*n)++];
}

/* The pools of other loops are read without their threads' consent, as in metrics.c. */
static int
add_up(Sum *sums)
{
	int n = 0;

	for (int l = 0; l < gw_server.n_loops; l++)
	{
		const GwDbTimes *times;
		const char *name;

		for (int i = 0; (times = gw_db_times(gw_server.loops[l]->db, i, &name)) != NULL; i++)
		{
			Sum *sum = sum_of(sums, &n, name);

			for (int ok = 0; ok < 2 && sum != NULL; ok++)
			{
				for (int b = 0; b <= GW_DB_BUCKETS; b++)
					sum->times.buckets[ok][b] += times->buckets[ok][b];
				sum->times.micros[ok] += times->micros[ok];
				sum->times.retried[ok] += times->retried[ok];
			}
		}
	}
	return n;
}

static unsigned long long
total(const GwDbTimes *times, int ok)
{
	unsigned long long n = 0;

	for (int b = 0; b <= GW_DB_BUCKETS; b++)
		n += times->buckets[ok][b];
	return n;
}

/* By the statement alone, whatever became of it. */
static void
print_queries(FILE *out, const Sum *sums, int n)
{
	static const char name[] = "coderd_db_query_latencies_seconds";

	gw_metrics_head(out, name, "histogram", "Statements of this gateway by name, from their sending to their answer.");
	for (int i = 0; i < n; i++)
	{
		const GwDbTimes *times = &sums[i].times;
		unsigned long long buckets[GW_DB_BUCKETS + 1];
		char labels[128];

		if (total(times, 0) + total(times, 1) == 0)
			continue;
		for (int b = 0; b <= GW_DB_BUCKETS; b++)
			buckets[b] = times->buckets[0][b] + times->buckets[1][b];
		snprintf(labels, sizeof(labels), "query=\"%s\"", sums[i].name);
		gw_metrics_histogram(out, name, labels, gw_db_bounds, GW_DB_BUCKETS, buckets, (double) (times->micros[0] + times->micros[1]) / 1e6);
	}
}

static void
print_statements(FILE *out)
{
	static const char seconds[] = "coderd_db_tx_duration_seconds";
	static const char count[] = "coderd_db_tx_executions_count";
	Sum *sums = calloc(MAX_NAMES, sizeof(*sums));
	int n = sums != NULL ? add_up(sums) : 0;

	gw_metrics_head(out, seconds, "histogram", "Statements of this gateway, each a transaction, from their sending to their answer.");
	for (int i = 0; i < n; i++)
		for (int ok = 0; ok < 2; ok++)
		{
			unsigned long long buckets[GW_DB_BUCKETS + 1];
			char labels[128];

			if (total(&sums[i].times, ok) == 0)
				continue;
			for (int b = 0; b <= GW_DB_BUCKETS; b++)
				buckets[b] = sums[i].times.buckets[ok][b];
			snprintf(labels, sizeof(labels), "success=\"%s\",tx_id=\"%s\"", ok ? "true" : "false", sums[i].name);
			gw_metrics_histogram(out, seconds, labels, gw_db_bounds, GW_DB_BUCKETS, buckets, (double) sums[i].times.micros[ok] / 1e6);
		}
	gw_metrics_head(out, count, "counter", "Statements of this gateway, by whether they were sent again after a connection was lost.");
	for (int i = 0; i < n; i++)
		for (int ok = 0; ok < 2; ok++)
		{
			unsigned long long all = total(&sums[i].times, ok);
			unsigned long long again = sums[i].times.retried[ok];

			if (all > again)
				fprintf(out, "%s{success=\"%s\",retries=\"0\",tx_id=\"%s\"} %llu\n", count, ok ? "true" : "false", sums[i].name, all - again);
			if (again > 0)
				fprintf(out, "%s{success=\"%s\",retries=\"1\",tx_id=\"%s\"} %llu\n", count, ok ? "true" : "false", sums[i].name, again);
		}
	if (gw_server.options.prometheus_collect_db_metrics)
		print_queries(out, sums, n);
	free(sums);
}

/* Events --------------------------------------------------------------------- */

static void
print_events(FILE *out)
{
	GwEventStats events;
	GwLatencyStats probe;
	int subscribers = 0;

	gw_event_stats(&events);
	gw_latency_stats(&probe);
	for (int i = 0; i < gw_server.n_loops; i++)
		subscribers += gw_event_count(gw_server.loops[i]);
	gauge(out, "coder_pubsub_connected", "Is the connection up that brings events?", events.connected);
	gauge(out, "coder_pubsub_current_subscribers", "Watchers of events.", subscribers);
	gauge(out, "coder_pubsub_current_events", "Channels that have watchers, counted on each thread.", events.channels);
	gw_metrics_head(out, "coder_pubsub_subscribes_total", "counter", "Subscriptions that were made.");
	fprintf(out, "coder_pubsub_subscribes_total{success=\"true\"} %llu\n", (unsigned long long) events.subscribes);
	gw_metrics_head(out, "coder_pubsub_messages_total", "counter", "Events that came, by size: colossal is above 7600 bytes.");
	fprintf(out, "coder_pubsub_messages_total{size=\"normal\"} %llu\ncoder_pubsub_messages_total{size=\"colossal\"} %llu\n",
			(unsigned long long) events.messages[0], (unsigned long long) events.messages[1]);
	counter(out, "coder_pubsub_received_bytes_total", "Bytes of events that came.", events.bytes);
	counter(out, "coder_pubsub_disconnections_total", "How often that connection was lost.", events.disconnections);
	gauge(out, "coder_pubsub_send_latency_seconds", "From the sending of an event of our own to the database's word that it is there, at the scrape before.",
		  probe.send_seconds);
	gauge(out, "coder_pubsub_receive_latency_seconds", "From the sending of that event to its arrival.", probe.receive_seconds);
	counter(out, "coder_pubsub_latency_measures_total", "How often that was measured.", probe.measures);
	counter(out, "coder_pubsub_latency_measure_errs_total", "How often the event was lost or took more than ten seconds.", probe.errors);
}

/* Relay and tunnels ---------------------------------------------------------- */

/* A counter of two parts that a label tells apart. */
static void
two_parts(FILE *out, const char *name, const char *help, const char *label, const char *const words[2], uint64_t first, uint64_t second)
{
	gw_metrics_head(out, name, "counter", help);
	fprintf(out, "%s{%s=\"%s\"} %llu\n%s{%s=\"%s\"} %llu\n", name, label, words[0], (unsigned long long) first, name, label, words[1],
			(unsigned long long) second);
}

static void
print_relay_peers(FILE *out, const GwDerpStats *derp)
{
	int keys, relays;

	gw_mesh_stats(&keys, &relays);
	counter(out, "coder_derp_server_accepts_total", "Connections to the relay.", derp->accepts);
	gauge(out, "coder_derp_server_connections", "Open connections to the relay.", derp->clients);
	gauge(out, "coder_derp_server_clients", "Peers of this relay and of others that tell it of theirs.", derp->clients + keys);
	gauge(out, "coder_derp_server_clients_local", "Peers that are connected to this relay.", derp->clients);
	gauge(out, "coder_derp_server_clients_remote", "Peers that are connected to others.", keys);
	gauge(out, "coder_derp_server_watchers", "Other relays that tell this one of their peers.", relays);
	gauge(out, "coder_derp_server_home_connections", "Peers that call this relay their home.", derp->home);
	counter(out, "coder_derp_server_home_moves_in_total", "Peers that made it so, later than at their start.", derp->home_in);
	counter(out, "coder_derp_server_home_moves_out_total", "Peers that left it.", derp->home_out);
	counter(out, "coder_derp_server_got_ping_total", "Pings of peers.", derp->pings);
	counter(out, "coder_derp_server_sent_pong_total", "Answers to them.", derp->pongs);
	counter(out, "coder_derp_server_unknown_frames_total", "Frames of a kind that the relay does not know.", derp->unknown_frames);
	counter(out, "coder_derp_server_peer_gone_disconnected_total", "Words to peers that another has gone.", derp->gone_disconnected);
	counter(out, "coder_derp_server_peer_gone_not_here_total", "Words to peers that another is not here.", derp->gone_not_here);
}

static void
print_relay(FILE *out)
{
	static const char *const kinds[2] = {"disco", "other"};
	static const char *const reasons[2] = {"unknown_dest", "queue_head"};
	GwDerpStats derp;

	gw_derp_stats(&derp);
	print_relay_peers(out, &derp);
	counter(out, "coder_derp_server_packets_received_total", "Packets that peers sent to the relay.", derp.received);
	two_parts(out, "coder_derp_server_packets_received_kind_total", "The same, by kind.", "kind", kinds, derp.received_disco,
			  derp.received - derp.received_disco);
	counter(out, "coder_derp_server_packets_sent_total", "Packets that the relay gave on.", derp.relayed);
	counter(out, "coder_derp_server_packets_forwarded_in_total", "Packets that other relays gave to this one.", derp.forwarded_in);
	counter(out, "coder_derp_server_packets_forwarded_out_total", "Packets that it gave to other relays.", derp.forwarded_out);
	counter(out, "coder_derp_server_packets_dropped_total", "Packets that it did not give on.", derp.dropped);
	two_parts(out, "coder_derp_server_packets_dropped_reason_total", "The same, by why.", "reason", reasons, derp.unknown,
			  derp.dropped - derp.unknown);
	two_parts(out, "coder_derp_server_packets_dropped_type_total", "The same, by kind.", "type", kinds, derp.dropped_disco,
			  derp.dropped - derp.dropped_disco);
	counter(out, "coder_derp_server_bytes_received_total", "Bytes of packets that peers sent.", derp.bytes_received);
	counter(out, "coder_derp_server_bytes_sent_total", "Bytes of packets that the relay gave on.", derp.bytes_sent);
	gauge(out, "coder_derp_server_average_queue_duration_ms", "How long packets waited in the relay, a mean of late.", derp.queue_ms);
}

static void
print_network(FILE *out)
{
	GwTunnelStats tunnel;

	gw_tunnel_stats(&tunnel);
	print_relay(out);
	gw_metrics_head(out, "coder_servertailnet_open_connections", "gauge",
					"Connections of this gateway to agents, as of the scrape before.");
	fprintf(out, "coder_servertailnet_open_connections{network=\"tcp\"} %d\n", tunnel.open);
	gw_metrics_head(out, "coder_servertailnet_connections_total", "counter", "Connections of this gateway to agents.");
	fprintf(out, "coder_servertailnet_connections_total{network=\"tcp\"} %llu\n", (unsigned long long) tunnel.total);
}

void
gw_metrics_gauges(FILE *out)
{
	print_process(out);
	print_collected(out);
	print_statements(out);
	print_events(out);
	print_network(out);
	outbound_count_print(out, (int64_t) time(NULL));
}
