/*
 * debug.c -- the agent's HTTP addresses outside the tunnel: its metrics, and
 * what /debug tells.  Nothing else of its API is there (http.c).
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/debug.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 16
#define MAX_CLIENTS 32 /* at once, of each */

typedef struct Listener
{
	Agent *agent;
	HttpScope scope;
	int fd;
	int clients;
	uint16_t port;
} Listener;

static Listener listeners[2];

bool
debug_parse_address(const char *text, struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) address;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t len = colon != NULL ? (size_t) (colon - text) : 0;
	char *end;
	unsigned long port;

	if (colon == NULL || len >= sizeof(host) || colon[1] < '0' || colon[1] > '9')
		return false;
	port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port > UINT16_MAX)
		return false;
	if (len >= 2 && text[0] == '[' && colon[-1] == ']')
	{
		text++;
		len -= 2;
	}
	memcpy(host, text, len);
	host[len] = '\0';
	if (strcmp(host, "localhost") == 0)
		strcpy(host, "127.0.0.1");
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t) port);
		*size = sizeof(*v4);
		return true;
	}
	if (len > 0 && inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
		return false;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t) port);
	*size = sizeof(*v6);
	return true;
}

static void
on_client_gone(void *arg)
{
	((Listener *) arg)->clients--;
}

static void
on_listener(void *arg, uint32_t events)
{
	Listener *listener = arg;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void) events;
	if (fd < 0)
		return;
	if (listener->clients == MAX_CLIENTS || !http_serve_scope(listener->agent, fd, listener->scope, on_client_gone, listener))
	{
		close(fd);
		return;
	}
	listener->clients++;
}

static void
listen_at(Listener *listener, Agent *agent, const char *text, HttpScope scope, const char *what)
{
	struct sockaddr_storage address;
	socklen_t size;
	int yes = 1, no = 0;

	listener->fd = -1;
	if (text == NULL || *text == '\0')
		return;
	if (!debug_parse_address(text, &address, &size))
	{
		agent_log(agent, "no %s: \"%s\" is no address", what, text);
		return;
	}
	listener->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd >= 0)
	{
		setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
		if (address.ss_family == AF_INET6)
			setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	}
	listener->agent = agent;
	listener->scope = scope;
	if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *) &address, size) != 0 || listen(listener->fd, BACKLOG) != 0 ||
		getsockname(listener->fd, (struct sockaddr *) &address, &size) != 0 || loop_fd_add(agent->loop, listener->fd, EPOLLIN, on_listener, listener) == NULL)
	{
		agent_log(agent, "no %s: could not listen at %s: %s", what, text, strerror(errno));
		if (listener->fd >= 0)
			close(listener->fd);
		listener->fd = -1;
		return;
	}
	/* Both kinds have the port in the same place. */
	listener->port = ntohs(((struct sockaddr_in *) &address)->sin_port);
	agent_log(agent, "%s at port %d", what, (int) listener->port);
}

void
debug_start(Agent *agent)
{
	listen_at(&listeners[0], agent, agent->options.prometheus_address, HTTP_METRICS, "metrics");
	listen_at(&listeners[1], agent, agent->options.debug_address, HTTP_DEBUG, "debug routes");
}

bool
debug_has_port(uint16_t port)
{
	for (size_t i = 0; i < sizeof(listeners) / sizeof(listeners[0]); i++)
		if (listeners[i].port != 0 && listeners[i].port == port)
			return true;
	return false;
}
