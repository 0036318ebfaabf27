/*
 * agents.c -- reports of boundaries, or samples, from many agents, each with a connection of its own, through a gateway.
 *
 *	agents URL TOKENS SECONDS RATE ...
 *
 * TOKENS: a file with a token a line.  Every agent connects; then, for each RATE,
 * so many reports a second come from them in turn, whether earlier ones are
 * answered or not; of a RATE that ends in s, samples (UpdateStats).  A line each: agents, reports sent, acknowledged, failed, a
 * second, p50 and p99 in ms.
 *
 * SPDX-License-Identifier: MIT
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "agent.pb-c.h"
#include "loop.h"
#include "net/net.h"
#include "wire/rpc.h"

#define CONNECTING 8 /* at once */
#define TICK_MS 2
#define NS 1000000000ll

typedef struct BenchAgent
{
	char token[64];
	NetWs *ws;
	RpcSession *rpc;
	bool open;
} BenchAgent;

typedef struct Sent
{
	int64_t at;
	bool answered;
} Sent;

static Loop *loop;
static const char *url;
static BenchAgent *agents;
static size_t nagents, next_connect, connecting, opened, closed, next_report;
static char **rates;
static double seconds;
static bool bad;
static int64_t began;
static size_t sent, acknowledged, failed, measured;
static double *latencies;
static size_t room;
static uint8_t report[512], sample[512];
static size_t report_size, sample_size;
static LoopTimer tick;

static void connect_more(void);

static void
on_send(void *arg, const uint8_t *data, size_t size)
{
	BenchAgent *agent = arg;

	if (agent->ws != NULL)
		net_ws_send(agent->ws, false, data, size);
}

static const RpcCallbacks callbacks = {on_send, NULL, NULL};

static void
on_open(void *arg, NetWs *ws)
{
	BenchAgent *agent = arg;

	(void) ws;
	agent->rpc = rpc_new(true, &callbacks, agent);
	agent->open = agent->rpc != NULL;
	opened++;
	connecting--;
	connect_more();
}

static void
on_message(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size)
{
	BenchAgent *agent = arg;

	(void) ws;
	(void) text;
	if (agent->rpc != NULL)
		rpc_input(agent->rpc, data, size);
}

static void
on_close(void *arg, NetWs *ws, int status, int code, const char *reason)
{
	BenchAgent *agent = arg;

	(void) ws;
	if (closed++ < 5)
		fprintf(stderr, "closed: %d %d %s\n", status, code, reason != NULL ? reason : "");
	if (!agent->open)
	{
		connecting--;
		connect_more();
	}
	agent->open = false;
	agent->ws = NULL;
}

static const NetWsHandlers handlers = {.on_open = on_open, .on_message = on_message, .on_close = on_close};

static void
connect_more(void)
{
	char address[512], headers[128];

	while (connecting < CONNECTING && next_connect < nagents)
	{
		BenchAgent *agent = &agents[next_connect++];

		snprintf(address, sizeof(address), "%s/api/v2/workspaceagents/me/rpc?role=agent&version=2.8", url);
		snprintf(headers, sizeof(headers), "Coder-Session-Token: %s\r\n", agent->token);
		agent->ws = net_ws_connect(loop, address, headers, &handlers, agent);
		connecting += agent->ws != NULL;
	}
}

static void
on_answer(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Sent *one = user;

	(void) call;
	(void) data;
	(void) size;
	one->answered = true;
}

static void
on_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Sent *one = user;

	(void) call;
	(void) code;
	if (!one->answered)
	{
		if (failed++ < 5)
			fprintf(stderr, "failed: %s\n", error != NULL ? error : "no answer");
	}
	else
	{
		acknowledged++;
		if (measured < room)
			latencies[measured++] = (double) (loop_clock() - one->at) / 1e6;
	}
	free(one);
}

static const RpcHandlers call_handlers = {on_answer, on_end, NULL};

static void
send_one(void)
{
	Sent *one = calloc(1, sizeof(*one));
	BenchAgent *agent;
	bool is_sample = (*rates)[strcspn(*rates, "s")] != '\0';

	do
		agent = &agents[next_report++ % nagents];
	while (!agent->open);
	one->at = loop_clock();
	sent++;
	if (rpc_call_unary(agent->rpc, is_sample ? "/coder.agent.v2.Agent/UpdateStats" : "/coder.agent.v2.Agent/ReportBoundaryLogs",
					   is_sample ? sample : report, is_sample ? sample_size : report_size, &call_handlers, one) == NULL)
	{
		failed++;
		free(one);
	}
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* The line of a rate; then the next. */
static void
end_rate(void)
{
	qsort(latencies, measured, sizeof(double), compare);
	printf("%zu agents, %zu sent, %zu acknowledged, %zu failed, %.0f/s, p50 %.1f ms, p99 %.1f ms\n",
		   opened - closed, sent, acknowledged, failed, (double) acknowledged / seconds,
		   measured > 0 ? latencies[measured / 2] : 0, measured > 0 ? latencies[measured * 99 / 100] : 0);
	fflush(stdout);
	bad = bad || failed > 0 || acknowledged != sent;
	sent = acknowledged = failed = measured = 0;
	began = 0;
	if (*++rates == NULL)
		loop_stop(loop);
}

static void
on_tick(void *arg)
{
	double since, rate;

	(void) arg;
	loop_timer_start(&tick, opened + closed < nagents ? 20 : TICK_MS);
	if (opened + closed < nagents)
		return;
	if (began == 0)
		began = loop_clock();
	rate = *rates != NULL ? atof(*rates) : 0;
	since = (double) (loop_clock() - began) / NS;
	if (opened <= closed)
		loop_stop(loop);
	else if (since > seconds + 5 || (since > seconds && acknowledged + failed == sent))
		end_rate();
	else
		while (since < seconds && (double) sent < since * rate)
			send_one();
}

static void
make_report(void)
{
	Coder__Agent__V2__ReportBoundaryLogsRequest request = CODER__AGENT__V2__REPORT_BOUNDARY_LOGS_REQUEST__INIT;
	Coder__Agent__V2__BoundaryLog log = CODER__AGENT__V2__BOUNDARY_LOG__INIT;
	Coder__Agent__V2__BoundaryLog *logs[] = {&log};
	Coder__Agent__V2__BoundaryLog__HttpRequest http = CODER__AGENT__V2__BOUNDARY_LOG__HTTP_REQUEST__INIT;
	Google__Protobuf__Timestamp now = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	now.seconds = time(NULL);
	http.method = (char *) (uintptr_t) "GET";
	http.url = (char *) (uintptr_t) "https://example.com/a/path";
	http.matched_rule = (char *) (uintptr_t) "domain=example.com";
	log.allowed = true;
	log.time = &now;
	log.resource_case = CODER__AGENT__V2__BOUNDARY_LOG__RESOURCE_HTTP_REQUEST;
	log.http_request = &http;
	request.logs = logs;
	request.n_logs = 1;
	report_size = coder__agent__v2__report_boundary_logs_request__pack(&request, report);
}

static void
make_sample(void)
{
	Coder__Agent__V2__UpdateStatsRequest request = CODER__AGENT__V2__UPDATE_STATS_REQUEST__INIT;
	Coder__Agent__V2__Stats stats = CODER__AGENT__V2__STATS__INIT;

	stats.connection_count = stats.session_count_ssh = 1;
	stats.connection_median_latency_ms = 12.5;
	stats.rx_packets = stats.tx_packets = 100;
	stats.rx_bytes = stats.tx_bytes = 10000;
	request.stats = &stats;
	sample_size = coder__agent__v2__update_stats_request__pack(&request, sample);
}

int
main(int argc, char **argv)
{
	struct rlimit limit;
	char line[128];
	FILE *file;

	if (argc < 5 || (file = fopen(argv[2], "r")) == NULL)
		return 2;
	url = argv[1];
	seconds = atof(argv[3]);
	rates = argv + 4;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	agents = calloc(100000, sizeof(*agents));
	while (nagents < 100000 && fgets(line, sizeof(line), file) != NULL)
		snprintf(agents[nagents++].token, sizeof(agents->token), "%.*s", (int) strcspn(line, "\n"), line);
	fclose(file);
	room = (size_t) (seconds * 100000);
	latencies = calloc(room, sizeof(double));
	make_report();
	make_sample();
	loop = loop_create();
	loop_timer_init(&tick, loop, on_tick, NULL);
	loop_timer_start(&tick, TICK_MS);
	connect_more();
	loop_run(loop);
	return bad || *rates != NULL;
}
