/*
 * pump.c -- copying between two descriptors, both ways, with half-close.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/tunnel.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PUMP_BUFFER 65536

typedef struct Direction
{
	int from;
	int to;
	bool ended; /* from has ended and all of it is written */
	bool eof;
	size_t begin;
	size_t end;
	char buffer[PUMP_BUFFER];
} Direction;

static bool
again(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Tells the other side that no more comes; a pipe is closed for that by its owner. */
static void
finish(Direction *d)
{
	d->ended = true;
	if (shutdown(d->to, SHUT_WR) != 0 && errno == ENOTSOCK)
		close(d->to);
}

static void
fill(Direction *d)
{
	ssize_t n = read(d->from, d->buffer, sizeof(d->buffer));

	if (n > 0)
	{
		d->begin = 0;
		d->end = (size_t) n;
	}
	else if (n == 0 || !again())
		d->eof = true;
}

static void
drain(Direction *d)
{
	ssize_t n = write(d->to, d->buffer + d->begin, d->end - d->begin);

	if (n > 0)
		d->begin += (size_t) n;
	else if (n < 0 && !again())
	{
		d->begin = d->end;
		d->eof = true;
	}
}

static void
step(Direction *d, short read_events, short write_events)
{
	if (d->begin == d->end && !d->eof && read_events != 0)
		fill(d);
	if (d->begin < d->end && (write_events != 0 || read_events != 0))
		drain(d);
	if (d->eof && d->begin == d->end && !d->ended)
		finish(d);
}

void
cli_pump(int a_in, int a_out, int b)
{
	Direction *pair = calloc(2, sizeof(*pair));
	Direction *up = pair;
	Direction *down = pair + 1;

	if (pair == NULL)
		cli_fail("out of memory");
	up->from = a_in;
	up->to = b;
	down->from = b;
	down->to = a_out;

	/* The far end's end is the end: what we could still send, nobody reads. */
	while (!down->ended)
	{
		struct pollfd fds[4] = {
			{up->ended || up->eof || up->begin < up->end ? -1 : up->from, POLLIN, 0},
			{up->begin < up->end ? up->to : -1, POLLOUT, 0},
			{down->eof || down->begin < down->end ? -1 : down->from, POLLIN, 0},
			{down->begin < down->end ? down->to : -1, POLLOUT, 0},
		};

		if (poll(fds, 4, -1) < 0 && errno != EINTR)
			break;
		if (!up->ended)
			step(up, fds[0].revents, fds[1].revents);
		step(down, fds[2].revents, fds[3].revents);
	}
	free(pair);
}
