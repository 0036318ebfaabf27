/*
 * sshforward.c -- what listens in the workspace for an SSH client.
 *
 * A connection that is accepted here becomes a channel to the client, which
 * connects it to its own port, key agent or display.  libssh knows no sockets
 * with paths as a server does ("streamlocal"), so those are not forwarded.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/sshforward.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <libssh/server.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 32
#define FIRST_DISPLAY 10 /* as others do: lower ones may be real */
#define LAST_DISPLAY 200
#define DISPLAY_PORT 6000

typedef enum Kind
{
	PORT,
	KEY_AGENT,
	DISPLAY
} Kind;

struct SshListener
{
	SshListener *next;
	Kind kind;
	int fd;
	const void *owner; /* of a display; NULL: the connection's */
	bool single; /* for one connection only */
	int port;
	char name[256]; /* the address as the client says it, the socket's path, the display's name */
};

static SshListener *
listener_new(SshListeners *listeners, Kind kind, int fd)
{
	SshListener *listener = listeners->n < SSH_LISTENERS ? calloc(1, sizeof(*listener)) : NULL;

	if (listener == NULL)
	{
		close(fd);
		return NULL;
	}
	listener->kind = kind;
	listener->fd = fd;
	listener->next = listeners->first;
	listeners->first = listener;
	listeners->n++;
	return listener;
}

static void
listener_free(SshListeners *listeners, SshListener *listener)
{
	SshListener **link = &listeners->first;

	while (*link != listener)
		link = &(*link)->next;
	*link = listener->next;
	listeners->n--;
	close(listener->fd);
	if (listener->kind == KEY_AGENT)
	{
		unlink(listener->name);
		*strrchr(listener->name, '/') = '\0';
		rmdir(listener->name);
	}
	free(listener);
}

/* A socket that listens there, or -1. */
static int
listen_at(const struct sockaddr *address, socklen_t size)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int yes = 1;
	int no = 0;

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)); /* "" is every address of both kinds */
	if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	close(fd);
	return -1;
}

static int
listen_by_name(const char *name, int port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	bool any = *name == '\0' || strcmp(name, "*") == 0;
	const char *tries[] = {any ? "::" : strcmp(name, "localhost") == 0 ? "127.0.0.1" : name, any ? "0.0.0.0" : NULL};
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%d", port);
	for (size_t i = 0; i < 2 && tries[i] != NULL && fd < 0; i++)
	{
		struct addrinfo *found = NULL;

		if (getaddrinfo(tries[i], service, &hints, &found) != 0)
			continue;
		fd = listen_at(found->ai_addr, found->ai_addrlen);
		freeaddrinfo(found);
	}
	return fd;
}

static int
port_of(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
		return 0;
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port : ((struct sockaddr_in *) &address)->sin_port);
}

int
ssh_listen_port(SshListeners *listeners, const char *address, int port)
{
	SshListener *listener;
	int fd;

	if (port < 0 || port > 65535 || strlen(address) >= sizeof(listener->name))
		return -1;
	fd = listen_by_name(address, port);
	if (fd < 0)
		return -1;
	listener = listener_new(listeners, PORT, fd);
	if (listener == NULL)
		return -1;
	snprintf(listener->name, sizeof(listener->name), "%s", address);
	listener->port = port_of(fd);
	return listener->port;
}

bool
ssh_unlisten_port(SshListeners *listeners, const char *address, int port)
{
	for (SshListener *l = listeners->first; l != NULL; l = l->next)
		if (l->kind == PORT && l->port == port && strcmp(l->name, address) == 0)
		{
			listener_free(listeners, l);
			return true;
		}
	return false;
}

const char *
ssh_listen_agent(SshListeners *listeners)
{
	const char *tmp = getenv("TMPDIR");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char folder[sizeof(address.sun_path) - 16];
	SshListener *listener;
	int fd;

	for (SshListener *l = listeners->first; l != NULL; l = l->next)
		if (l->kind == KEY_AGENT)
			return l->name;
	/* The folder is the user's alone, so the socket is too. */
	if (snprintf(folder, sizeof(folder), "%s/auth-agentXXXXXX", tmp != NULL && *tmp == '/' ? tmp : "/tmp") >= (int) sizeof(folder) || mkdtemp(folder) == NULL)
		return NULL;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/listener.sock", folder);
	fd = listen_at((struct sockaddr *) &address, sizeof(address));
	listener = fd >= 0 ? listener_new(listeners, KEY_AGENT, fd) : NULL;
	if (listener == NULL)
	{
		unlink(address.sun_path);
		rmdir(folder);
		return NULL;
	}
	snprintf(listener->name, sizeof(listener->name), "%s", address.sun_path);
	return listener->name;
}

bool
ssh_display_words_valid(const char *protocol, const char *cookie)
{
	size_t n = strlen(protocol);

	for (const char *p = protocol; *p != '\0'; p++)
		if (!isalnum((unsigned char) *p) && *p != '-' && *p != '_')
			return false;
	for (const char *p = cookie; *p != '\0'; p++)
		if (!isxdigit((unsigned char) *p))
			return false;
	return n > 0 && n <= 64 && *cookie != '\0' && strlen(cookie) <= 512 && strlen(cookie) % 2 == 0;
}

/* Tells the user's X clients the cookie of a display; false where that cannot be. */
static bool
tell_cookie(int number, unsigned screen, const char *protocol, const char *cookie)
{
	FILE *xauth = popen("exec xauth -q - > /dev/null 2>&1", "we");

	if (xauth == NULL)
		return false;
	fprintf(xauth, "remove unix:%d.%u\nadd unix:%d.%u %s %s\n", number, screen, number, screen, protocol, cookie);
	return pclose(xauth) == 0;
}

const char *
ssh_listen_display(SshListeners *listeners, const void *owner, bool single, const char *protocol, const char *cookie, unsigned screen)
{
	SshListener *listener;
	int number;
	int fd = -1;

	if (screen > 99 || !ssh_display_words_valid(protocol, cookie))
		return NULL;
	for (number = FIRST_DISPLAY; number <= LAST_DISPLAY && fd < 0; number++)
		fd = listen_by_name("localhost", DISPLAY_PORT + number);
	number--;
	if (fd < 0)
		return NULL;
	listener = listener_new(listeners, DISPLAY, fd);
	if (listener == NULL)
		return NULL;
	listener->owner = owner;
	listener->single = single;
	listener->port = DISPLAY_PORT + number;
	snprintf(listener->name, sizeof(listener->name), "localhost:%d.%u", number, screen);
	if (!tell_cookie(number, screen, protocol, cookie))
	{
		listener_free(listeners, listener);
		return NULL;
	}
	return listener->name;
}

void
ssh_unlisten(SshListeners *listeners, const void *owner)
{
	for (SshListener *l = listeners->first, *next; l != NULL; l = next)
	{
		next = l->next;
		if (owner == NULL || l->owner == owner)
			listener_free(listeners, l);
	}
}

int
ssh_listeners_poll(const SshListeners *listeners, struct pollfd *fds)
{
	int n = 0;

	for (const SshListener *l = listeners->first; l != NULL; l = l->next)
		fds[n++] = (struct pollfd){l->fd, POLLIN, 0};
	return n;
}

/* Who has connected, for the client to know. */
static void
name_peer(const struct sockaddr_storage *peer, char *host, size_t size, int *port)
{
	bool six = peer->ss_family == AF_INET6;
	const void *address = six ? (const void *) &((const struct sockaddr_in6 *) peer)->sin6_addr : &((const struct sockaddr_in *) peer)->sin_addr;

	*port = 0;
	snprintf(host, size, "127.0.0.1");
	if (peer->ss_family != AF_INET && !six)
		return;
	inet_ntop(peer->ss_family, address, host, (socklen_t) size);
	*port = ntohs(six ? ((const struct sockaddr_in6 *) peer)->sin6_port : ((const struct sockaddr_in *) peer)->sin_port);
}

static bool
open_channel(const SshListener *listener, ssh_channel channel, const struct sockaddr_storage *peer)
{
	char host[INET6_ADDRSTRLEN];
	int port;

	name_peer(peer, host, sizeof(host), &port);
	if (listener->kind == KEY_AGENT)
		return ssh_channel_open_auth_agent(channel) == SSH_OK;
	if (listener->kind == DISPLAY)
		return ssh_channel_open_x11(channel, host, port) == SSH_OK;
	return ssh_channel_open_reverse_forward(channel, listener->name, listener->port, host, port) == SSH_OK;
}

int
ssh_listeners_accept(SshListeners *listeners, ssh_session session, ssh_channel *channel)
{
	for (SshListener *l = listeners->first, *next; l != NULL; l = next)
	{
		struct sockaddr_storage peer = {0};
		socklen_t size = sizeof(peer);
		const void *spent = l->single ? l->owner : NULL;
		bool open;
		int fd = accept4(l->fd, (struct sockaddr *) &peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

		next = l->next;
		if (fd < 0)
			continue;
		*channel = ssh_channel_new(session);
		/* While the client is asked it may end this very listener: nothing of it is looked at afterwards. */
		open = *channel != NULL && open_channel(l, *channel, &peer);
		if (open && spent != NULL)
			ssh_unlisten(listeners, spent);
		if (open)
			return fd;
		if (*channel != NULL)
			ssh_channel_free(*channel);
		close(fd);
		return -1;
	}
	return -1;
}
