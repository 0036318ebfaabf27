/*
 * report.c -- what the agent tells regularly: metadata, health of apps, use,
 * and connections as they come and go.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boundary/frame.h"
#include "run/agent.h"
#include "run/metrics.h"

#define TICK_MS 1000
#define MAX_VALUE 10240
#define DEFAULT_TIMEOUT 3 /* seconds */
#define STATS_MS 30000
#define MAX_PEERS 64
#define PING_MS 2000
#define PEER_SEEN_NS (INT64_C(180) * 1000000000) /* WireGuard's own time until a peer is gone */
#define NS ((int64_t) 1000000000)

typedef Coder__Agent__V2__WorkspaceAgentMetadata__Description Description;

typedef struct MetadataItem
{
	Agent *agent;
	char *key;
	char *script;
	int64_t interval; /* seconds; 0: once */
	int64_t timeout;
	int64_t started; /* ns; 0: never */
	bool running;
	bool ready; /* a value waits to be sent */
	bool retired; /* the manifest changed while it ran */
	bool timed_out;
	Process process;
	LoopFd *watch;
	LoopTimer timer;
	char value[MAX_VALUE + 1];
	size_t len;
	size_t total;
	char error[256];
} MetadataItem;

typedef struct AppProbe
{
	uint8_t id[16];
	char *url;
	int64_t interval;
	int threshold;
	int failures;
	int64_t started;
	bool running;
	Coder__Agent__V2__AppHealth health;
} AppProbe;

static bool apps_changed;
static unsigned int generation; /* of the manifest: answers to older probes are dropped */

static void
item_free(MetadataItem *item)
{
	free(item->key);
	free(item->script);
	free(item);
}

static void
item_end(MetadataItem *item)
{
	int status = 0;

	loop_timer_stop(&item->timer);
	loop_fd_del(item->watch);
	close(item->process.out);
	if (item->process.pidfd >= 0)
		close(item->process.pidfd);
	/* Its output has ended: what is left of the group has no more to say. */
	if (waitpid(item->process.pid, &status, WNOHANG) == 0)
	{
		usleep(2000);
		if (waitpid(item->process.pid, &status, WNOHANG) == 0)
		{
			command_kill(&item->process, SIGKILL);
			waitpid(item->process.pid, &status, 0);
		}
	}
	item->running = false;
	item->ready = true;
	item->value[item->len] = '\0';
	boundary_make_text(item->value);
	item->error[0] = '\0';
	if (item->timed_out)
		snprintf(item->error, sizeof(item->error), "run cmd: deadline exceeded after %lld s", (long long) item->timeout);
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		snprintf(item->error, sizeof(item->error), "run cmd: exit status %d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	else if (item->total > item->len)
		snprintf(item->error, sizeof(item->error), "run cmd: output truncated: %zu bytes", item->total);
	if (item->retired)
		item_free(item);
}

static void
on_item_output(void *arg, uint32_t events)
{
	MetadataItem *item = arg;
	char buffer[4096];
	ssize_t n = read(item->process.out, buffer, sizeof(buffer));
	size_t room = MAX_VALUE - item->len;

	(void) events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		item_end(item);
		return;
	}
	item->total += (size_t) n;
	if ((size_t) n < room)
		room = (size_t) n;
	memcpy(item->value + item->len, buffer, room);
	item->len += room;
}

static void
on_item_time(void *arg)
{
	MetadataItem *item = arg;

	item->timed_out = true;
	command_kill(&item->process, SIGKILL);
	item_end(item);
}

static void
item_start(MetadataItem *item)
{
	Agent *agent = item->agent;
	Command command = {.text = item->script, .merge_output = true};

	item->started = loop_now(agent->loop);
	item->len = item->total = 0;
	item->timed_out = false;
	if (command_start(agent, &command, &item->process, item->error, sizeof(item->error)) != 0)
	{
		item->value[0] = '\0';
		item->ready = true;
		return;
	}
	close(item->process.in);
	fcntl(item->process.out, F_SETFL, fcntl(item->process.out, F_GETFL) | O_NONBLOCK);
	item->running = true;
	item->watch = loop_fd_add(agent->loop, item->process.out, EPOLLIN, on_item_output, item);
	loop_timer_start(&item->timer, item->timeout * 1000);
}

static void
on_metadata_told(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Agent *agent = arg;

	(void) data;
	(void) size;
	agent->metadata_busy = false;
	if (error != NULL)
		agent_drop_connection(agent, error);
}

/* metadata is an array of pointers: a running item outlives its manifest. */
static MetadataItem **
items(const Agent *agent)
{
	return (MetadataItem **) (void *) agent->metadata;
}

static void
send_metadata(Agent *agent)
{
	Coder__Agent__V2__BatchUpdateMetadataRequest request = CODER__AGENT__V2__BATCH_UPDATE_METADATA_REQUEST__INIT;
	size_t max = agent->nmetadata;
	Coder__Agent__V2__Metadata *list = calloc(max + 1, sizeof(*list));
	Coder__Agent__V2__Metadata **pointers = calloc(max + 1, sizeof(*pointers));
	Coder__Agent__V2__WorkspaceAgentMetadata__Result *results = calloc(max + 1, sizeof(*results));
	Google__Protobuf__Timestamp now = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	size_t n = 0;

	now.seconds = time(NULL);
	for (size_t i = 0; list != NULL && pointers != NULL && results != NULL && i < max; i++)
	{
		MetadataItem *item = items(agent)[i];

		if (!item->ready)
			continue;
		coder__agent__v2__metadata__init(&list[n]);
		coder__agent__v2__workspace_agent_metadata__result__init(&results[n]);
		results[n].collected_at = &now;
		results[n].value = item->value;
		results[n].error = item->error;
		list[n].key = item->key;
		list[n].result = &results[n];
		pointers[n] = &list[n];
		n++;
	}
	request.n_metadata = n;
	request.metadata = pointers;
	if (n > 0)
		agent->metadata_busy = agent_call(agent, "BatchUpdateMetadata", &request.base, on_metadata_told, agent);
	for (size_t i = 0; n > 0 && agent->metadata_busy && i < max; i++)
		if (!items(agent)[i]->running)
			items(agent)[i]->ready = false;
	free(list);
	free(pointers);
	free(results);
}

/* A probe runs on a thread, since names and connections block. */
typedef struct Probe
{
	Agent *agent;
	unsigned int generation;
	size_t index;
	char *url;
	int timeout_ms;
	bool healthy;
} Probe;

static void
on_probed(void *arg)
{
	Probe *probe = arg;

	if (probe->generation == generation)
	{
		AppProbe *app = &probe->agent->apps[probe->index];
		Coder__Agent__V2__AppHealth before = app->health;

		app->running = false;
		app->failures = probe->healthy ? 0 : app->failures + 1;
		if (probe->healthy)
			app->health = CODER__AGENT__V2__APP_HEALTH__HEALTHY;
		else if (app->failures > app->threshold)
			app->health = CODER__AGENT__V2__APP_HEALTH__UNHEALTHY;
		apps_changed = apps_changed || app->health != before;
	}
	free(probe->url);
	free(probe);
}

static void *
probe_main(void *arg)
{
	Probe *probe = arg;
	NetConn conn = {.fd = -1};
	NetResponse response;
	NetUrl url;
	char error[256];

	if (net_url_parse(&url, probe->url) &&
		net_request(&conn, &url, "GET", "Connection: close\r\n", NULL, 0, probe->timeout_ms, &response, error, sizeof(error)) == 0)
	{
		probe->healthy = response.status < 500;
		net_response_free(&response);
		net_close(&conn);
	}
	if (!loop_post(probe->agent->loop, on_probed, probe))
		free(probe);
	return NULL;
}

static void
probe_start(Agent *agent, size_t index)
{
	Probe *probe = calloc(1, sizeof(*probe));
	AppProbe *app = &agent->apps[index];
	pthread_attr_t attributes;
	pthread_t thread;

	if (probe == NULL)
		return;
	probe->agent = agent;
	probe->generation = generation;
	probe->index = index;
	probe->url = strdup(app->url);
	probe->timeout_ms = (int) (app->interval < 60 ? app->interval : 60) * 1000 - 1;
	app->started = loop_now(agent->loop);
	app->running = true;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, (size_t) 256 << 10);
	if (probe->url == NULL || pthread_create(&thread, &attributes, probe_main, probe) != 0)
	{
		free(probe->url);
		free(probe);
		app->running = false;
	}
	pthread_attr_destroy(&attributes);
}

/* For calls whose failure is only logged. */
static void
on_told(void *arg, const uint8_t *data, size_t size, const char *error)
{
	(void) data;
	(void) size;
	if (error != NULL)
		agent_log(arg, "a report was not taken: %s", error);
}

static void
send_health(Agent *agent)
{
	Coder__Agent__V2__BatchUpdateAppHealthRequest request = CODER__AGENT__V2__BATCH_UPDATE_APP_HEALTH_REQUEST__INIT;
	Coder__Agent__V2__BatchUpdateAppHealthRequest__HealthUpdate *list = calloc(agent->napps + 1, sizeof(*list));
	Coder__Agent__V2__BatchUpdateAppHealthRequest__HealthUpdate **pointers = calloc(agent->napps + 1, sizeof(*pointers));

	for (size_t i = 0; list != NULL && pointers != NULL && i < agent->napps; i++)
	{
		coder__agent__v2__batch_update_app_health_request__health_update__init(&list[i]);
		list[i].id.data = agent->apps[i].id;
		list[i].id.len = 16;
		list[i].health = agent->apps[i].health;
		pointers[i] = &list[i];
	}
	request.n_updates = agent->napps;
	request.updates = pointers;
	if (list != NULL && pointers != NULL && agent_call(agent, "BatchUpdateAppHealths", &request.base, on_told, agent))
		apps_changed = false;
	free(list);
	free(pointers);
}

static void
on_tick(void *arg)
{
	Agent *agent = arg;
	int64_t now = loop_now(agent->loop);

	if (agent->stopping)
		return;
	loop_timer_start(&agent->tick, TICK_MS);
	if (agent->rpc == NULL)
		return;
	if (!agent->metadata_busy)
		send_metadata(agent);
	for (size_t i = 0; i < agent->nmetadata; i++)
	{
		MetadataItem *item = items(agent)[i];

		if (!item->running && (item->started == 0 || (item->interval != 0 && item->started + item->interval * NS <= now)))
			item_start(item);
	}
	for (size_t i = 0; i < agent->napps; i++)
		if (!agent->apps[i].running && (agent->apps[i].started == 0 || agent->apps[i].started + agent->apps[i].interval * NS <= now))
			probe_start(agent, i);
	if (apps_changed)
		send_health(agent);
}

/* The wire's nanoseconds are seconds here: a trap of the protocol. */
static int64_t
odd_seconds(const Google__Protobuf__Duration *duration)
{
	return duration == NULL ? 0 : duration->seconds * NS + duration->nanos;
}

static MetadataItem *
item_new(Agent *agent, const Description *description)
{
	MetadataItem *item = calloc(1, sizeof(*item));

	if (item == NULL)
		return NULL;
	item->agent = agent;
	item->key = strdup(description->key);
	item->script = strdup(description->script);
	item->interval = odd_seconds(description->interval);
	item->timeout = odd_seconds(description->timeout);
	if (item->timeout <= 0)
		item->timeout = item->interval > 0 ? item->interval : DEFAULT_TIMEOUT;
	loop_timer_init(&item->timer, agent->loop, on_item_time, item);
	if (item->key != NULL && item->script != NULL)
		return item;
	item_free(item);
	return NULL;
}

static void
forget(Agent *agent)
{
	for (size_t i = 0; i < agent->nmetadata; i++)
	{
		MetadataItem *item = items(agent)[i];

		item->retired = true;
		if (!item->running)
			item_free(item);
	}
	free(agent->metadata);
	for (size_t i = 0; i < agent->napps; i++)
		free(agent->apps[i].url);
	free(agent->apps);
	agent->metadata = NULL;
	agent->apps = NULL;
	agent->nmetadata = agent->napps = 0;
	generation++;
}

void
report_manifest(Agent *agent)
{
	const Manifest *manifest = agent->manifest;
	MetadataItem **list;

	forget(agent);
	list = calloc(manifest->n_metadata + 1, sizeof(MetadataItem *));
	agent->metadata = (struct MetadataItem *) (void *) list;
	for (size_t i = 0; list != NULL && i < manifest->n_metadata; i++)
		if ((list[agent->nmetadata] = item_new(agent, manifest->metadata[i])) != NULL)
			agent->nmetadata++;
	agent->apps = calloc(manifest->n_apps + 1, sizeof(AppProbe));
	for (size_t i = 0; agent->apps != NULL && i < manifest->n_apps; i++)
	{
		const Coder__Agent__V2__WorkspaceApp *app = manifest->apps[i];
		AppProbe *probe = &agent->apps[agent->napps];

		if (app->health == CODER__AGENT__V2__WORKSPACE_APP__HEALTH__DISABLED || app->healthcheck == NULL || app->id.len != 16 ||
			app->healthcheck->url[0] == '\0' || app->healthcheck->interval == NULL || app->healthcheck->interval->seconds <= 0 ||
			app->healthcheck->threshold <= 0 || (probe->url = strdup(app->healthcheck->url)) == NULL)
			continue;
		memcpy(probe->id, app->id.data, 16);
		probe->interval = app->healthcheck->interval->seconds;
		probe->threshold = app->healthcheck->threshold;
		probe->health = (Coder__Agent__V2__AppHealth) app->health;
		agent->napps++;
	}
	if (!loop_timer_running(&agent->tick))
	{
		loop_timer_init(&agent->tick, agent->loop, on_tick, agent);
		loop_timer_start(&agent->tick, 1);
	}
}

static void
on_stats_told(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Agent *agent = arg;
	Coder__Agent__V2__UpdateStatsResponse *response = error == NULL ? coder__agent__v2__update_stats_response__unpack(NULL, size, data) : NULL;

	if (response == NULL)
	{
		agent_drop_connection(agent, error ? error : "an answer could not be read");
		return;
	}
	if (response->report_interval != NULL && response->report_interval->seconds > 0)
		agent->stats_interval_ms = response->report_interval->seconds * 1000;
	coder__agent__v2__update_stats_response__free_unpacked(response, NULL);
	if (!loop_timer_running(&agent->stats_timer) && agent->rpc != NULL)
		loop_timer_start(&agent->stats_timer, agent->stats_interval_ms);
}

/* What became of the logs of boundaries. */
void
report_count_boundary(const Agent *agent)
{
	BoundaryCounts counts = boundary_counts(agent);
	const struct
	{
		MetricFamily family;
		const char *reason;
		uint64_t n;
	} told[] = {{METRIC_BOUNDARY_BATCHES_FORWARDED, NULL, counts.forwarded},
				{METRIC_BOUNDARY_BATCHES_DROPPED, "buffer_full", counts.batches_full},
				{METRIC_BOUNDARY_BATCHES_DROPPED, "forward_failed", counts.batches_failed},
				{METRIC_BOUNDARY_LOGS_DROPPED, "buffer_full", counts.logs_full},
				{METRIC_BOUNDARY_LOGS_DROPPED, "forward_failed", counts.logs_failed},
				{METRIC_BOUNDARY_LOGS_DROPPED, "boundary_channel_full", counts.channel_full},
				{METRIC_BOUNDARY_LOGS_DROPPED, "boundary_batch_full", counts.batch_full}};

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
		if (told[i].n > 0)
			metric_set(told[i].family, (double) told[i].n, told[i].reason);
}

typedef struct SentMetrics
{
	MetricSeries series[METRIC_MAX_SERIES];
	Coder__Agent__V2__Stats__Metric metrics[METRIC_MAX_SERIES];
	Coder__Agent__V2__Stats__Metric *pointers[METRIC_MAX_SERIES];
	Coder__Agent__V2__Stats__Metric__Label labels[METRIC_MAX_SERIES][METRIC_LABELS];
	Coder__Agent__V2__Stats__Metric__Label *label_pointers[METRIC_MAX_SERIES][METRIC_LABELS];
} SentMetrics;

/* What the agent counts of itself goes with its statistics. */
static void
add_metrics(SentMetrics *sent, Coder__Agent__V2__Stats *stats)
{
	stats->n_metrics = metric_series(sent->series, METRIC_MAX_SERIES);
	stats->metrics = sent->pointers;
	for (size_t i = 0; i < stats->n_metrics; i++)
	{
		const MetricSeries *series = &sent->series[i];
		Coder__Agent__V2__Stats__Metric *metric = &sent->metrics[i];

		coder__agent__v2__stats__metric__init(metric);
		metric->name = (char *) (uintptr_t) metric_name(series->family);
		metric->type = metric_is_gauge(series->family) ? CODER__AGENT__V2__STATS__METRIC__TYPE__GAUGE : CODER__AGENT__V2__STATS__METRIC__TYPE__COUNTER;
		metric->value = series->value;
		metric->labels = sent->label_pointers[i];
		for (size_t j = 0; metric_label(series->family, j) != NULL; j++)
		{
			Coder__Agent__V2__Stats__Metric__Label *label = &sent->labels[i][j];

			coder__agent__v2__stats__metric__label__init(label);
			label->name = (char *) (uintptr_t) metric_label(series->family, j);
			label->value = (char *) (uintptr_t) series->labels[j];
			sent->label_pointers[i][metric->n_labels++] = label;
		}
		sent->pointers[i] = metric;
	}
}

/* How long a message to a peer takes. */
struct PeerSample
{
	Agent *agent;
	int64_t latency_ns; /* 0: not measured */
	bool direct;
	TunnelPing *ping; /* NULL: none is on its way */
};

static int
compare_latency(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* In milliseconds; below zero where no peer answered. */
static double
median_latency(const Agent *agent)
{
	int64_t measured[MAX_PEERS];
	size_t n = 0;

	for (size_t i = 0; i < agent->n_samples; i++)
		if (agent->samples[i].latency_ns > 0)
			measured[n++] = agent->samples[i].latency_ns;
	if (n == 0)
		return -1;
	qsort(measured, n, sizeof(measured[0]), compare_latency);
	return (double) (measured[n / 2] + measured[(n - 1) / 2]) / 2e6;
}

/* Peers that answered. */
static void
count_peers(const Agent *agent)
{
	int n[2] = {0, 0};

	for (size_t i = 0; i < agent->n_samples; i++)
		if (agent->samples[i].latency_ns > 0)
			n[agent->samples[i].direct]++;
	metric_set(METRIC_PEERS, n[0], "derp");
	metric_set(METRIC_PEERS, n[1], "p2p");
}

static void
send_stats(Agent *agent)
{
	Coder__Agent__V2__UpdateStatsRequest request = CODER__AGENT__V2__UPDATE_STATS_REQUEST__INIT;
	Coder__Agent__V2__Stats stats = CODER__AGENT__V2__STATS__INIT;
	TunnelTraffic traffic = agent->tunnel != NULL ? tunnel_traffic(agent->tunnel) : agent->reported;
	static SentMetrics metrics; /* of the loop's thread */

	stats.connection_median_latency_ms = median_latency(agent);
	stats.rx_bytes = (int64_t) (traffic.rx_bytes - agent->reported.rx_bytes);
	stats.tx_bytes = (int64_t) (traffic.tx_bytes - agent->reported.tx_bytes);
	stats.rx_packets = (int64_t) (traffic.rx_packets - agent->reported.rx_packets);
	stats.tx_packets = (int64_t) (traffic.tx_packets - agent->reported.tx_packets);
	stats.session_count_ssh = agent->ssh_sessions;
	stats.session_count_vscode = agent->vscode_sessions;
	stats.session_count_jetbrains = agent->jetbrains_sessions;
	stats.session_count_reconnecting_pty = agent->pty_sessions;
	stats.connection_count = stats.session_count_ssh + stats.session_count_vscode + stats.session_count_jetbrains + stats.session_count_reconnecting_pty;
	report_count_boundary(agent);
	count_peers(agent);
	add_metrics(&metrics, &stats);
	request.stats = &stats;
	if (agent_call(agent, "UpdateStats", &request.base, on_stats_told, agent))
		agent->reported = traffic;
}

static void
on_pong(void *arg, const TunnelPong *pong)
{
	struct PeerSample *sample = arg;

	sample->ping = NULL;
	sample->latency_ns = pong->error == 0 ? pong->latency_ns : 0;
	sample->direct = pong->derp_region == 0;
	if (--sample->agent->pings == 0)
		send_stats(sample->agent);
}

/* Peers that were heard of lately are pinged; when all have answered, or their time is over, the report goes. */
static void
on_stats_time(void *arg)
{
	Agent *agent = arg;
	TunnelPeerStats peers[MAX_PEERS];
	size_t n = agent->tunnel != NULL ? tunnel_stats(agent->tunnel, peers, MAX_PEERS) : 0;

	if (agent->samples == NULL)
		agent->samples = calloc(MAX_PEERS, sizeof(*agent->samples));
	agent->n_samples = 0;
	for (size_t i = 0; i < n && i < MAX_PEERS && agent->samples != NULL; i++)
	{
		struct PeerSample *sample = &agent->samples[agent->n_samples];

		if (peers[i].lost || peers[i].last_handshake_ns < 0 || peers[i].last_handshake_ns > PEER_SEEN_NS)
			continue;
		*sample = (struct PeerSample){.agent = agent};
		sample->ping = tunnel_ping(agent->tunnel, peers[i].address, TUNNEL_PING_DISCO, PING_MS, on_pong, sample);
		agent->n_samples += sample->ping != NULL;
	}
	agent->pings = agent->n_samples;
	if (agent->pings == 0)
		send_stats(agent);
}

static void
cancel_pings(Agent *agent)
{
	for (size_t i = 0; i < agent->n_samples; i++)
		if (agent->samples[i].ping != NULL)
		{
			tunnel_ping_cancel(agent->samples[i].ping);
			agent->samples[i].ping = NULL;
		}
	agent->pings = 0;
}

void
report_connected(Agent *agent)
{
	Coder__Agent__V2__UpdateStatsRequest request = CODER__AGENT__V2__UPDATE_STATS_REQUEST__INIT;

	agent->stats_interval_ms = STATS_MS;
	loop_timer_init(&agent->stats_timer, agent->loop, on_stats_time, agent);
	agent_call(agent, "UpdateStats", &request.base, on_stats_told, agent);
}

void
report_disconnected(Agent *agent)
{
	loop_timer_stop(&agent->stats_timer);
	cancel_pings(agent);
}

void
report_connection(Agent *agent,
				  const uint8_t id[16],
				  bool connect,
				  Coder__Agent__V2__Connection__Type type,
				  int code,
				  const char *reason)
{
	Coder__Agent__V2__ReportConnectionRequest request = CODER__AGENT__V2__REPORT_CONNECTION_REQUEST__INIT;
	Coder__Agent__V2__Connection connection = CODER__AGENT__V2__CONNECTION__INIT;
	Google__Protobuf__Timestamp at = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	at.seconds = time(NULL);
	connection.id.data = (uint8_t *) (uintptr_t) id;
	connection.id.len = 16;
	connection.action = connect ? CODER__AGENT__V2__CONNECTION__ACTION__CONNECT : CODER__AGENT__V2__CONNECTION__ACTION__DISCONNECT;
	connection.type = type;
	connection.timestamp = &at;
	connection.ip = (char *) (uintptr_t) "";
	connection.status_code = code;
	if (reason != NULL)
	{
		connection._reason_case = CODER__AGENT__V2__CONNECTION___REASON_REASON;
		connection.reason = (char *) (uintptr_t) reason;
	}
	request.connection = &connection;
	agent_call(agent, "ReportConnection", &request.base, on_told, agent);
}
