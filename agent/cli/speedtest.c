/*
 * speedtest.c -- coder speedtest: how fast bytes go between here and an agent.
 *
 * The agent's side and the protocol: serve/speedtest.c.  Blocks are whole, so
 * that a receiver's last interval ends with the last of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/tunnel.h"

#define PORT 3
#define VERSION 2
#define BLOCK ((size_t) 2 << 20)
#define CHUNK 65536
#define DIAL_TIMEOUT_MS 20000
#define SILENCE_MS 20000
#define MAX_SECONDS 60 /* more needs a file transfer, not a test */
#define DEFAULT_SECONDS 5

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* One row: bytes between two moments, in seconds since the start. */
static json_t *
interval(double from, double until, size_t bytes)
{
	return json_pack("{s:f, s:f, s:f}", "start_time_seconds", from, "end_time_seconds", until, "throughput_mbits",
					 until > from ? (double) bytes * 8 / 1e6 / (until - from) : 0.0);
}

static void
wait_for(int fd, short events)
{
	struct pollfd p = {fd, events, 0};

	if (poll(&p, 1, SILENCE_MS) == 0)
		cli_fail("nothing moves any more");
}

/* Says what is wanted, and takes the agent's answer: a line of JSON. */
static void
greet(int fd, double seconds, bool up)
{
	char line[1024];
	size_t n = 0;
	json_t *answer;

	dprintf(fd, "{\"version\":%d,\"time\":%lld,\"direction\":%d}\n", VERSION, (long long) (seconds * 1e9), up ? 1 : 0);
	while (n < sizeof(line) - 1)
	{
		wait_for(fd, POLLIN);
		if (read(fd, line + n, 1) != 1)
			cli_fail("the agent has ended the test");
		if (line[n] == '\n')
			break;
		n++;
	}
	answer = json_loadb(line, n, 0, NULL);
	if (answer == NULL || js_text(answer, "error")[0] != '\0')
		cli_fail("the agent refuses the test: %s", answer != NULL ? js_text(answer, "error") : "it says nothing that is known");
}

/* Moves one piece; 0: the other side has ended. */
static ssize_t
move_some(int fd, bool up, char *chunk, size_t block)
{
	for (;;)
	{
		ssize_t n;

		wait_for(fd, up ? POLLOUT : POLLIN);
		n = up ? send(fd, chunk, BLOCK - block < CHUNK ? BLOCK - block : CHUNK, MSG_NOSIGNAL) : read(fd, chunk, CHUNK);
		if (n >= 0)
			return n;
		if (errno != EAGAIN && errno != EINTR)
			cli_fail("the test has ended early: %s", strerror(errno));
	}
}

static json_t *
measure(int fd, double seconds, bool up)
{
	static char chunk[CHUNK];
	json_t *intervals = json_array();
	size_t total = 0;
	size_t since = 0; /* bytes of this interval, */
	size_t block = 0; /* and of this block */
	double start = now();
	double from = 0;
	double at = 0;

	randombytes_buf(chunk, sizeof(chunk));
	for (;;)
	{
		ssize_t n = up && block == 0 && at >= seconds ? 0 : move_some(fd, up, chunk, block);

		at = now() - start;
		total += (size_t) n;
		since += (size_t) n;
		block = (block + (size_t) n) % BLOCK;
		if (n == 0 || at - from >= 1)
		{
			if (since > 0)
				json_array_append_new(intervals, interval(from, at, since));
			from = at;
			since = 0;
		}
		if (n == 0)
			return json_pack("{s:o, s:o}", "overall", interval(0, at, total), "intervals", intervals);
	}
}

static const char *
cell_interval(const json_t *row)
{
	static char text[64];

	snprintf(text, sizeof(text), "%.2f-%.2f sec", json_number_value(js_at(row, "start_time_seconds")), json_number_value(js_at(row, "end_time_seconds")));
	return text;
}

static const char *
cell_throughput(const json_t *row)
{
	static char text[64];

	snprintf(text, sizeof(text), "%.4f Mbits/sec", json_number_value(js_at(row, "throughput_mbits")));
	return text;
}

static const CliColumn columns[] = {
	{"INTERVAL", .cell = cell_interval},
	{"THROUGHPUT", .cell = cell_throughput},
	{.title = NULL},
};

static int
run_speedtest(Cli *cli)
{
	const char *direction = cli_flag(cli, "direction");
	const char *time_text = cli_flag(cli, "time");
	const char *format = cli_flag(cli, "output");
	double seconds = time_text != NULL ? (double) cli_span(time_text) / 1000 : DEFAULT_SECONDS;
	bool up = direction != NULL && strcmp(direction, "up") == 0;
	CliTunnel *tunnel;
	json_t *result;
	int fd;

	cli_need_login(cli);
	if (direction != NULL && !up && strcmp(direction, "down") != 0)
		cli_fail("unknown direction \"%s\": up or down", direction);
	if (seconds <= 0 || seconds > MAX_SECONDS)
		cli_fail("--time %s: a span such as 5s expected, of at most %d s", time_text, MAX_SECONDS);
	tunnel = cli_tunnel_open(cli, cli_ready_agent(cli, cli_arg(cli, 0), false, false));
	fd = cli_tunnel_dial(tunnel, PORT, DIAL_TIMEOUT_MS);
	if (fd < 0)
		cli_fail("could not reach the agent: %s", strerror(-fd));
	cli_note("Measuring for %g s, %s the workspace ...", seconds, up ? "to" : "from");
	greet(fd, seconds, up);
	result = measure(fd, seconds, up);
	close(fd);
	cli_tunnel_close(tunnel);
	if (format != NULL && strcmp(format, "json") == 0)
	{
		cli_print_list(cli, result, columns);
		return 0;
	}
	json_array_append(json_object_get(result, "intervals"), json_object_get(result, "overall"));
	cli_print_list(cli, json_object_get(result, "intervals"), columns);
	return 0;
}

static const CliFlag flags[] = {
	{"time", 't', "span", NULL, "How long to measure (default: 5s)."},
	{"direction", 0, "down|up", NULL, "Which way bytes go, as seen from here (default: down)."},
	CLI_OUTPUT_FLAG,
	{NULL, 0, NULL, NULL, NULL},
};

const CliCommand cli_speedtest_commands[] = {
	{"speedtest", "<workspace>", "Measure how fast bytes go between here and a workspace", flags, 1, 1, run_speedtest, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
