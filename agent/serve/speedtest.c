/*
 * speedtest.c -- port 3: bytes as fast as they go, one way.
 *
 *	client	{"version":2,"time":<nanoseconds>,"direction":0|1}\n	0: the client downloads
 *	agent	{}\n  or  {"error":"..."}\n, then blocks of 2 MiB from whoever sends
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/serve.h"

#define VERSION 2
#define BLOCK ((size_t) 2 << 20)
#define CHUNK 65536 /* a random piece that a block repeats */
#define MAX_LINE 1024
#define MAX_SECONDS 120
#define GREETING_MS 20000

typedef struct Speedtest
{
	Agent *agent;
	int fd;
	LoopFd *watch;
	LoopTimer timer; /* limit of the whole */
	char line[MAX_LINE];
	size_t line_len;
	bool sending;
	bool running;
	int64_t until;
	size_t sent; /* of the current block */
	uint8_t chunk[CHUNK];
} Speedtest;

static void
speedtest_free(Speedtest *test)
{
	loop_timer_stop(&test->timer);
	if (test->watch != NULL)
		loop_fd_del(test->watch);
	close(test->fd);
	free(test);
}

static void
on_limit(void *arg)
{
	speedtest_free(arg);
}

/* A short answer fits the empty buffer of a new connection. */
static bool
say(const Speedtest *test, const char *text)
{
	return send(test->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t) strlen(text);
}

/* True: the test begins. */
static bool
begin(Speedtest *test)
{
	json_t *config = json_loads(test->line, 0, NULL);
	json_int_t ns = json_integer_value(json_object_get(config, "time"));
	json_int_t direction = json_integer_value(json_object_get(config, "direction"));
	json_int_t version = json_integer_value(json_object_get(config, "version"));
	bool valid = json_is_object(config);

	json_decref(config);
	if (!valid || ns < 0 || ns > (json_int_t) MAX_SECONDS * 1000000000 || (direction != 0 && direction != 1))
	{
		say(test, "{\"error\":\"invalid request\"}\n");
		return false;
	}
	if (version != VERSION)
	{
		say(test, "{\"error\":\"version mismatch: this agent speaks version 2\"}\n");
		return false;
	}
	if (!say(test, "{}\n"))
		return false;
	test->running = true;
	test->sending = direction == 0;
	test->until = loop_clock() + ns;
	loop_timer_start(&test->timer, ns * 4 / 1000000 + 1000);
	loop_fd_set(test->watch, test->sending ? EPOLLOUT : EPOLLIN);
	return true;
}

/* Reads the line byte by byte, as data may follow it. */
static bool
read_line(Speedtest *test)
{
	while (test->line_len < MAX_LINE - 1)
	{
		ssize_t n = read(test->fd, test->line + test->line_len, 1);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			return false;
		if (test->line[test->line_len] == '\n')
		{
			test->line[test->line_len] = '\0';
			return begin(test);
		}
		test->line_len++;
	}
	return false;
}

static bool
send_some(Speedtest *test)
{
	for (int i = 0; i < 32; i++)
	{
		size_t left = BLOCK - test->sent;
		ssize_t n = send(test->fd, test->chunk, left < CHUNK ? left : CHUNK, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		test->sent += (size_t) n;
		if (test->sent == BLOCK)
		{
			/* The receiver counts whole blocks, so only between them may it end. */
			if (loop_clock() >= test->until)
				return false;
			test->sent = 0;
		}
	}
	return true;
}

static bool
receive_some(Speedtest *test)
{
	for (int i = 0; i < 32; i++)
	{
		ssize_t n = read(test->fd, test->chunk, CHUNK);

		if (n == 0)
			return false;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
	}
	return true;
}

static void
on_speedtest(void *arg, uint32_t events)
{
	Speedtest *test = arg;
	bool go_on;

	(void) events;
	go_on = !test->running ? read_line(test) : test->sending ? send_some(test) : receive_some(test);
	if (!go_on)
		speedtest_free(test);
}

void
serve_speedtest(Agent *agent, int fd)
{
	Speedtest *test = calloc(1, sizeof(*test));

	if (test == NULL)
	{
		close(fd);
		return;
	}
	test->agent = agent;
	test->fd = fd;
	randombytes_buf(test->chunk, sizeof(test->chunk));
	loop_timer_init(&test->timer, agent->loop, on_limit, test);
	loop_timer_start(&test->timer, GREETING_MS);
	test->watch = loop_fd_add(agent->loop, fd, EPOLLIN, on_speedtest, test);
	if (test->watch == NULL)
		speedtest_free(test);
}
