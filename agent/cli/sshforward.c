/*
 * sshforward.c -- what the workspace reaches here through coder ssh.
 *
 * Data of the workspace stays in its channel while nobody here takes it, so that
 * its window closes; data from here is read only while that of the workspace is open.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/sshforward.h"

static bool
parse_port(const char *text, size_t len, int *port)
{
	long n = 0;

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (text[i] - '0');
	}
	*port = (int) n;
	return n >= 1 && n <= 65535;
}

bool
cli_remote_port_parse(const char *text, CliRemotePort *port)
{
	const char *first = strchr(text, ':');
	const char *last = strrchr(text, ':');

	if (first == NULL || last == first || !parse_port(text, (size_t) (first - text), &port->port) || !parse_port(last + 1, strlen(last + 1), &port->host_port))
		return false;
	first++;
	if (*first == '[' && last[-1] == ']' && last - first > 2) /* an IPv6 address */
		port->host = cli_format("%.*s", (int) (last - first - 2), first + 1);
	else if (last > first)
		port->host = cli_format("%.*s", (int) (last - first), first);
	else
		return false;
	return true;
}

static int
connect_port(const CliRemotePort *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%d", port->host_port);
	if (getaddrinfo(port->host, service, &hints, &list) != 0)
		return -1;
	for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next)
	{
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0)
		{
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

static int
connect_key_agent(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >= (int) sizeof(address.sun_path) ||
		connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

/* The next free place is the channel's from now on, and the socket's. */
static bool
add(CliForwards *forwards, ssh_channel channel, int fd)
{
	CliForward *forward = forwards->n < CLI_FORWARDS ? calloc(1, sizeof(*forward)) : NULL;

	if (forward == NULL)
		return false;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	forward->channel = channel;
	forward->fd = fd;
	forward->callbacks.userdata = forwards->fresh;
	forward->callbacks.channel_data_function = cli_ssh_on_data;
	ssh_callbacks_init(&forward->callbacks);
	ssh_set_channel_callbacks(channel, &forward->callbacks);
	forward->next = forwards->first;
	forwards->first = forward;
	forwards->n++;
	return true;
}

static void
end(CliForwards *forwards, CliForward *forward)
{
	CliForward **link = &forwards->first;

	while (*link != forward)
		link = &(*link)->next;
	*link = forward->next;
	forwards->n--;
	ssh_remove_channel_callbacks(forward->channel, &forward->callbacks);
	ssh_channel_close(forward->channel);
	ssh_channel_free(forward->channel);
	close(forward->fd);
	free(forward);
}

static ssh_channel
on_key_agent(ssh_session session, void *arg)
{
	CliForwards *forwards = arg;
	int fd = connect_key_agent(forwards->key_agent);
	ssh_channel channel = fd >= 0 ? ssh_channel_new(session) : NULL;

	if (channel != NULL && add(forwards, channel, fd))
		return channel;
	if (channel != NULL)
		ssh_channel_free(channel);
	if (fd >= 0)
		close(fd);
	return NULL;
}

void
cli_forwards_begin(CliForwards *forwards, ssh_session session, bool *fresh)
{
	forwards->session = session;
	forwards->fresh = fresh;
	if (forwards->key_agent != NULL)
	{
		forwards->callbacks.userdata = forwards;
		forwards->callbacks.channel_open_request_auth_agent_function = on_key_agent;
		ssh_callbacks_init(&forwards->callbacks);
		ssh_set_callbacks(session, &forwards->callbacks);
	}
	for (int i = 0; i < forwards->nports; i++)
		if (ssh_channel_listen_forward(session, "localhost", forwards->ports[i].port, NULL) != SSH_OK)
			cli_fail("port %d of the workspace cannot be forwarded: %s", forwards->ports[i].port, ssh_get_error(session));
}

int
cli_forwards_poll(const CliForwards *forwards, struct pollfd *fds)
{
	int n = 0;

	for (const CliForward *f = forwards->first; f != NULL; f = f->next)
	{
		bool open = !f->ended && ssh_channel_window_size(f->channel) > 0;
		bool waits = f->from < f->to;

		fds[n++] = (struct pollfd){open || waits ? f->fd : -1, (short) ((open ? POLLIN : 0) | (waits ? POLLOUT : 0)), 0};
	}
	return n;
}

/* A connection to a port of the workspace goes on to what that port is here. */
static void
take_connections(CliForwards *forwards)
{
	ssh_channel channel;
	int port;

	while (forwards->nports > 0 && (channel = ssh_channel_open_forward_port(forwards->session, 0, &port, NULL, NULL)) != NULL)
	{
		int fd = -1;

		for (int i = 0; i < forwards->nports && fd < 0; i++)
			if (forwards->ports[i].port == port)
				fd = connect_port(&forwards->ports[i]);
		if (fd >= 0 && add(forwards, channel, fd))
			continue;
		cli_note("a connection to port %d of the workspace has nowhere to go", port);
		if (fd >= 0)
			close(fd);
		ssh_channel_close(channel);
		ssh_channel_free(channel);
	}
}

/* From the workspace; false when no more comes and all is written. */
static bool
move_in(CliForward *f)
{
	for (;;)
	{
		int n;

		while (f->from < f->to)
		{
			ssize_t put = send(f->fd, f->pending + f->from, f->to - f->from, MSG_NOSIGNAL);

			if (put < 0 && (errno == EAGAIN || errno == EINTR))
				return true;
			if (put < 0)
				return false;
			f->from += (size_t) put;
		}
		n = ssh_channel_read_nonblocking(f->channel, f->pending, sizeof(f->pending), 0);
		if (n <= 0)
			return n == 0 && !ssh_channel_is_eof(f->channel) && !ssh_channel_is_closed(f->channel);
		f->from = 0;
		f->to = (size_t) n;
	}
}

/* To the workspace; false when no more comes. */
static bool
move_out(CliForward *f)
{
	char piece[CLI_FORWARD_PIECE];
	uint32_t window;

	while ((window = ssh_channel_window_size(f->channel)) > 0)
	{
		ssize_t n = read(f->fd, piece, window < sizeof(piece) ? window : sizeof(piece));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0 || ssh_channel_write(f->channel, piece, (uint32_t) n) < 0)
			return false;
	}
	return true;
}

void
cli_forwards_round(CliForwards *forwards)
{
	take_connections(forwards);
	for (CliForward *f = forwards->first, *next; f != NULL; f = next)
	{
		next = f->next;
		if (!f->shut && !move_in(f))
		{
			shutdown(f->fd, SHUT_WR);
			f->shut = true;
		}
		if (!f->ended && !move_out(f))
		{
			ssh_channel_send_eof(f->channel);
			f->ended = true;
		}
		if ((f->ended && f->shut) || ssh_channel_is_closed(f->channel))
			end(forwards, f);
	}
}
