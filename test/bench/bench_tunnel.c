/*
 * bench_tunnel.c -- one stream between two endpoints through a relay, each a
 * process of its own: throughput, and what an idle endpoint takes of memory.
 * Prints figures; asserts nothing.
 *
 *	bench_tunnel [seconds]
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../unit/derp_double.h"
#include "tunnel/tunnel.h"

typedef struct End
{
	Loop *loop;
	Tunnel *tunnel;
	uint8_t id[16], node_private[32], disco_private[32];
	TunnelNode node;
	int seconds;
	size_t moved;
	int64_t begin;
	int fd;
	LoopFd *watch;
} End;

static long
resident_kb(void)
{
	long pages = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f != NULL && fscanf(f, "%ld %ld", &pages, &resident) != 2)
		resident = 0;
	if (f != NULL)
		fclose(f);
	return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void
on_sink(void *arg, uint32_t events)
{
	static uint8_t block[262144];
	End *end = arg;
	ssize_t n = read(end->fd, block, sizeof(block));

	(void) events;
	if (n > 0)
	{
		if (end->moved == 0)
			end->begin = loop_clock();
		end->moved += (size_t) n;
	}
	if (n != 0)
		return;
	double s = (double) (loop_clock() - end->begin) / 1e9;

	printf("tunnel, one stream through a relay: %.0f Mbit/s (%.1f MiB in %.2f s), "
		   "receiver %ld KiB resident\n",
		   (double) end->moved * 8 / s / 1e6,
		   (double) end->moved / 1048576,
		   s,
		   resident_kb());
	loop_stop(end->loop);
}

static void
on_accepted(void *arg, int fd, const uint8_t *address, uint16_t peer_port, uint16_t port)
{
	End *end = arg;

	(void) address;
	(void) peer_port;
	(void) port;
	printf("tunnel, idle endpoint: %ld KiB resident\n", resident_kb());
	end->fd = fd;
	end->watch = loop_fd_add(end->loop, fd, EPOLLIN, on_sink, end);
}

static bool
may_accept(void *arg, const uint8_t *address, uint16_t port)
{
	(void) arg;
	(void) address;
	return port == 3;
}

static void
on_source(void *arg, uint32_t events)
{
	static uint8_t block[262144];
	End *end = arg;

	(void) events;
	if (loop_now(end->loop) - end->begin < end->seconds * INT64_C(1000000000))
	{
		ssize_t n = write(end->fd, block, sizeof(block));

		(void) n;
		return;
	}
	shutdown(end->fd, SHUT_WR);
	loop_fd_set(end->watch, 0);
}

static void
on_dialled(void *arg, int fd)
{
	End *end = arg;

	if (fd < 0)
	{
		fprintf(stderr, "could not dial: %s\n", strerror(-fd));
		_exit(1);
	}
	end->fd = fd;
	end->begin = loop_now(end->loop);
	end->watch = loop_fd_add(end->loop, fd, EPOLLOUT, on_source, end);
}

static void
prepare(End *end)
{
	tunnel_random_id(end->id);
	randombytes_buf(end->node_private, 32);
	randombytes_buf(end->disco_private, 32);
	crypto_scalarmult_base(end->node.key, end->node_private);
	crypto_scalarmult_base(end->node.disco, end->disco_private);
	end->node.preferred_derp = 999;
	end->node.naddresses = end->node.nallowed = 1;
	tunnel_address(end->node.addresses[0], end->id, false);
	memcpy(end->node.allowed_ips[0], end->node.addresses[0], 16);
}

static void
run(End *end, const End *other, uint16_t port, bool source)
{
	TunnelDerpNode node = {.host = "127.0.0.1", .port = port, .force_http = true};
	TunnelDerpRegion region = {.id = 999, .nodes = &node, .nnodes = 1};
	TunnelDerpMap map = {.regions = &region, .nregions = 1};
	TunnelConfig config = {.destination = !source,
						   .naddresses = 1,
						   .arg = end,
						   .may_accept = may_accept,
						   .accepted = on_accepted};

	end->loop = loop_create();
	memcpy(config.addresses[0], end->node.addresses[0], 16);
	memcpy(config.node_private, end->node_private, 32);
	memcpy(config.disco_private, end->disco_private, 32);
	end->tunnel = tunnel_create(end->loop, &config);
	tunnel_set_derp_map(end->tunnel, &map);
	tunnel_peer_update(end->tunnel, other->id, TUNNEL_PEER_NODE, &other->node);
	if (source)
	{
		TunnelNode self;

		while (!tunnel_self(end->tunnel, &self))
			loop_once(end->loop, 100);
		for (int64_t until = loop_clock() + 500000000; loop_clock() < until;)
			loop_once(end->loop, 50); /* the other end logs in as well */
		tunnel_peer_update(end->tunnel, other->id, TUNNEL_PEER_READY_FOR_HANDSHAKE, NULL);
		tunnel_dial(end->tunnel, other->node.addresses[0], 3, 0, on_dialled, end);
	}
	loop_run(end->loop);
}

int
main(int argc, char **argv)
{
	End ends[2] = {{.fd = -1}, {.fd = -1}};
	Loop *loop = loop_create();
	DerpDouble relay;
	pid_t pids[2];

	if (sodium_init() < 0)
		return 1;
	ends[0].seconds = argc > 1 ? atoi(argv[1]) : 5;
	prepare(&ends[0]);
	prepare(&ends[1]);
	double_start(&relay, loop);
	for (int i = 0; i < 2; i++)
		if ((pids[i] = fork()) == 0)
		{
			run(&ends[i], &ends[1 - i], relay.port, i == 0);
			fflush(stdout);
			_exit(0);
		}
	while (waitpid(pids[1], NULL, WNOHANG) == 0)
		loop_once(loop, 100);
	kill(pids[0], SIGTERM);
	waitpid(pids[0], NULL, 0);
	return 0;
}
