/*
 * serve.c -- which port of the tunnel is what, and forwarding to all others.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/desktop.h"
#include "serve/http.h"
#include "serve/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/ssh.h"

#define PORT_SSH 1
#define PORT_SSH_USUAL 22
#define PORT_PTY 2
#define PORT_SPEEDTEST 3
#define PORT_HTTP 4
#define PORT_RESERVED 8

#define MAX_DIALED 64
#define DIALED_NS ((int64_t) 10 * 1000000000)
#define DIAL_MS 250
#define BUFFER 65536

/* Connections to local ports that were made before the peer's was accepted. */
static struct
{
	int fd;
	uint16_t port;
	int64_t at;
} dialed[MAX_DIALED];
static size_t ndialed;

static int
dial_local(const struct sockaddr *address, socklen_t size)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd out = {fd, POLLOUT, 0};
	int error = 0;
	socklen_t len = sizeof(error);
	int yes = 1;

	if (fd < 0)
		return -1;
	/* The kernel answers for loopback at once; a full backlog may not. */
	if (connect(fd, address, size) != 0 &&
		(errno != EINPROGRESS || poll(&out, 1, DIAL_MS) <= 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0))
	{
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static int
dial_port(uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = dial_local((struct sockaddr *) &v4, sizeof(v4));

	return fd >= 0 ? fd : dial_local((struct sockaddr *) &v6, sizeof(v6));
}

/* Removes entry i; its descriptor is the caller's. */
static int
take_dialed(size_t i)
{
	int fd = dialed[i].fd;

	dialed[i] = dialed[--ndialed];
	return fd;
}

bool
serve_may_accept(Agent *agent, uint16_t port)
{
	int fd;

	if (agent->stopping && port != PORT_HTTP)
		return false;
	if (port == PORT_SSH_USUAL || (port >= PORT_SSH && port <= PORT_HTTP))
		return true;
	if (port <= PORT_RESERVED)
		return false;
	for (size_t i = ndialed; i-- > 0;)
		if (loop_now(agent->loop) - dialed[i].at > DIALED_NS)
			close(take_dialed(i));
	if (ndialed == MAX_DIALED || (fd = dial_port(port)) < 0)
		return false;
	dialed[ndialed].fd = fd;
	dialed[ndialed].port = port;
	dialed[ndialed].at = loop_now(agent->loop);
	ndialed++;
	return true;
}

/* One direction of a pair of sockets. */
typedef struct Flow
{
	int from, to;
	size_t begin, end;
	bool ended;
	uint8_t data[BUFFER];
} Flow;

typedef struct Pair
{
	Agent *agent;
	LoopFd *watch[2];
	Flow flow[2]; /* flow[i] reads fd i */
} Pair;

static void
pair_free(Pair *pair)
{
	for (int i = 0; i < 2; i++)
	{
		loop_fd_del(pair->watch[i]);
		close(pair->flow[i].from);
	}
	free(pair);
}

/* False: an error. */
static bool
flow_move(Flow *flow)
{
	for (;;)
	{
		ssize_t n;

		while (flow->begin < flow->end)
		{
			n = send(flow->to, flow->data + flow->begin, flow->end - flow->begin, MSG_NOSIGNAL);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return errno == EAGAIN;
			flow->begin += (size_t) n;
		}
		flow->begin = flow->end = 0;
		if (flow->ended)
			return true;
		n = read(flow->from, flow->data, sizeof(flow->data));
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		flow->end = (size_t) n;
		if (n == 0)
		{
			flow->ended = true;
			shutdown(flow->to, SHUT_WR);
			return true;
		}
	}
}

static void
on_pair(void *arg, uint32_t events)
{
	Pair *pair = arg;

	(void) events;
	if (!flow_move(&pair->flow[0]) || !flow_move(&pair->flow[1]) || (pair->flow[0].ended && pair->flow[1].ended))
	{
		pair_free(pair);
		return;
	}
	for (int i = 0; i < 2; i++)
	{
		const Flow *in = &pair->flow[i];
		const Flow *out = &pair->flow[1 - i];

		loop_fd_set(pair->watch[i],
					(!in->ended && in->begin == in->end ? EPOLLIN : 0u) | (out->begin < out->end ? EPOLLOUT : 0u));
	}
}

void
serve_forward(Agent *agent, int fd, uint16_t port)
{
	Pair *pair = calloc(1, sizeof(*pair));
	int local = -1;

	for (size_t i = 0; i < ndialed && local < 0; i++)
		if (dialed[i].port == port)
			local = take_dialed(i);
	if (pair == NULL || local < 0)
	{
		free(pair);
		if (local >= 0)
			close(local);
		close(fd);
		return;
	}
	pair->agent = agent;
	pair->flow[0].from = pair->flow[1].to = fd;
	pair->flow[1].from = pair->flow[0].to = local;
	pair->watch[0] = loop_fd_add(agent->loop, fd, EPOLLIN, on_pair, pair);
	pair->watch[1] = loop_fd_add(agent->loop, local, EPOLLIN, on_pair, pair);
	if (pair->watch[0] == NULL || pair->watch[1] == NULL)
	{
		for (int i = 0; i < 2; i++)
			if (pair->watch[i] != NULL)
				loop_fd_del(pair->watch[i]);
		close(fd);
		close(local);
		free(pair);
	}
}

void
serve_accept(Agent *agent, int fd, const uint8_t address[16], uint16_t peer_port, uint16_t port)
{
	(void) address;
	(void) peer_port;
	switch (port)
	{
		case PORT_SSH:
		case PORT_SSH_USUAL:
			serve_ssh(agent, fd);
			break;
		case PORT_PTY:
			serve_pty(agent, fd);
			break;
		case PORT_SPEEDTEST:
			serve_speedtest(agent, fd);
			break;
		case PORT_HTTP:
			serve_http(agent, fd);
			break;
		default:
			serve_forward(agent, fd, port);
			break;
	}
}

void
serve_stop(Agent *agent)
{
	(void) agent;
	serve_ssh_stop();
	serve_pty_stop();
	processes_stop();
	mcp_stop();
	desktop_stop();
	while (ndialed > 0)
		close(take_dialed(0));
}
