/*
 * accept.c -- listening sockets, connections per address, slow clients.
 *
 * h2o has one timer from the end of a response to the last byte of the next
 * request, so it is set out of the way, and a sweep looks at each connection
 * once a second: what it is doing, since when, and whether bytes have moved.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept.h"

#define HEADER_MS 10000	 /* for all headers of a request */
#define IDLE_MS 120000
#define STALL_MS 30000	 /* a body or an answer that does not move */
#define MIN_BODY_RATE 1024 /* bytes a second, after the first STALL_MS */
#define ADDRESS_SLOTS 16384

typedef struct GwAccept GwAccept;

struct GwAccept
{
	GwAccept *next;
	GwLoop *loop;
	h2o_socket_t *sock;
	h2o_accept_ctx_t *ctx;
	bool paused;
};

/* What the sweep remembers of a connection. */
typedef struct Tracked
{
	GwLoop *loop;
	uint32_t address; /* hash of the client's */
	size_t bytes_read;
	size_t bytes_written;
	uint64_t moved_at;
	uint64_t headers_since;
} Tracked;

/* Connections by hash of the address; two addresses may share a slot, which is only stricter. */
static atomic_int per_address[ADDRESS_SLOTS];
static atomic_int total;

int
gw_accept_bind(const char *address)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *res = NULL;
	const char *port = strrchr(address, ':');
	char host[256];
	size_t len = port != NULL ? (size_t) (port - address) : 0;
	int fd = -1;
	int one = 1;
	int rc;

	if (port == NULL || len >= sizeof(host))
	{
		gw_log(GW_ERROR, "the address \"%s\" is not host:port", address);
		return -1;
	}
	memcpy(host, address, len);
	host[len] = '\0';
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']')
	{
		memmove(host, host + 1, len - 2);
		host[len - 2] = '\0';
	}
	rc = getaddrinfo(*host != '\0' ? host : NULL, port + 1, &hints, &res);
	if (rc != 0)
	{
		gw_log(GW_ERROR, "the address \"%s\" is not understood: %s", address, gai_strerror(rc));
		return -1;
	}
	fd = socket(res->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, res->ai_addr, res->ai_addrlen) != 0)
	{
		if (errno == EADDRINUSE)
			gw_log(GW_ERROR, "%s is in use by another program; choose another --http-address or stop that program", address);
		else
			gw_log(GW_ERROR, "could not bind to %s: %s", address, strerror(errno));
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(res);
	return fd;
}

bool
gw_accept_listen(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (listen(fd, 1024) == 0)
		return true;
	if (errno == EADDRINUSE)
		gw_log(GW_ERROR, "the address is in use by another program; choose another --http-address");
	else
		gw_log(GW_ERROR, "could not listen: %s", strerror(errno));
	return false;
}

static uint32_t
hash_address(h2o_socket_t *sock)
{
	struct sockaddr_storage sa;
	socklen_t len = h2o_socket_getpeername(sock, (struct sockaddr *) &sa);
	const uint8_t *p = NULL;
	size_t n = 0;
	uint32_t hash = 2166136261u;

	if (len != 0 && sa.ss_family == AF_INET)
	{
		p = (const uint8_t *) &((struct sockaddr_in *) &sa)->sin_addr;
		n = 4;
	}
	else if (len != 0 && sa.ss_family == AF_INET6)
	{
		p = (const uint8_t *) &((struct sockaddr_in6 *) &sa)->sin6_addr;
		n = 8; /* a client has a whole /64 */
	}
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ p[i]) * 16777619u;
	return hash % ADDRESS_SLOTS;
}

static void
on_conn_close(void *data)
{
	Tracked *tracked = data;

	atomic_fetch_sub(&per_address[tracked->address], 1);
	atomic_fetch_sub(&total, 1);
	atomic_fetch_sub(&tracked->loop->connections, 1);
	free(tracked);
}

static void on_accept(h2o_socket_t *listener, const char *err);

static void
accept_one(GwAccept *accept, h2o_socket_t *sock)
{
	GwLoop *loop = accept->loop;
	uint32_t address = hash_address(sock);
	Tracked *tracked;

	if (!gw_server.options.disable_rate_limits && atomic_load(&per_address[address]) >= gw_server.options.max_connections_per_ip)
	{
		h2o_socket_close(sock);
		return;
	}
	tracked = h2o_mem_alloc(sizeof(*tracked));
	memset(tracked, 0, sizeof(*tracked));
	tracked->loop = loop;
	tracked->address = address;
	tracked->moved_at = h2o_now(loop->ctx.loop);
	atomic_fetch_add(&per_address[address], 1);
	atomic_fetch_add(&total, 1);
	atomic_fetch_add(&loop->connections, 1);
	sock->on_close.cb = on_conn_close;
	sock->on_close.data = tracked;
	h2o_accept(accept->ctx, sock);
}

static void
on_accept(h2o_socket_t *listener, const char *err)
{
	GwAccept *accept = listener->data;

	if (err != NULL)
		return;
	for (int i = 0; i < 16; i++)
	{
		h2o_socket_t *sock;

		if (atomic_load(&total) >= gw_server.options.max_connections)
		{
			/* A level-triggered listener that nobody reads would keep the loop busy. */
			h2o_socket_read_stop(listener);
			accept->paused = true;
			return;
		}
		sock = h2o_evloop_socket_accept(listener);
		if (sock == NULL)
			return;
		accept_one(accept, sock);
	}
}

void
gw_accept_start(GwLoop *loop, int fd, h2o_accept_ctx_t *ctx)
{
	GwAccept *accept = calloc(1, sizeof(*accept));

	accept->loop = loop;
	accept->ctx = ctx;
	accept->next = loop->listeners;
	loop->listeners = accept;
	accept->sock = h2o_evloop_socket_create(loop->ctx.loop, fcntl(fd, F_DUPFD_CLOEXEC, 0), H2O_SOCKET_FLAG_DONT_READ);
	accept->sock->data = accept;
	h2o_socket_read_start(accept->sock, on_accept);
}

void
gw_accept_stop(GwLoop *loop)
{
	for (GwAccept *accept = loop->listeners; accept != NULL; accept = accept->next)
	{
		if (accept->sock == NULL)
			continue;
		h2o_socket_read_stop(accept->sock);
		h2o_socket_close(accept->sock);
		accept->sock = NULL;
	}
}

/* Sweep ---------------------------------------------------------------------- */

static int
sweep_one(h2o_req_t *req, void *arg)
{
	GwLoop *loop = arg;
	uint64_t now = h2o_now(loop->ctx.loop);
	h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
	Tracked *tracked = sock != NULL ? sock->on_close.data : NULL;
	bool begun = req->version != 0;
	bool dead = false;

	if (tracked == NULL)
		return 0;
	if (sock->bytes_read != tracked->bytes_read || sock->bytes_written != tracked->bytes_written)
	{
		tracked->bytes_read = sock->bytes_read;
		tracked->bytes_written = sock->bytes_written;
		tracked->moved_at = now;
	}
	if (!begun && sock->input->size == 0)
	{
		tracked->headers_since = 0;
		dead = now - tracked->moved_at > (loop->stopping ? 0 : IDLE_MS);
	}
	else if (!begun)
	{
		if (tracked->headers_since == 0)
			tracked->headers_since = now;
		dead = now - tracked->headers_since > HEADER_MS;
	}
	else
	{
		struct timeval tv = req->timestamps.request_begin_at;
		uint64_t begin = (uint64_t) tv.tv_sec * 1000 + (uint64_t) tv.tv_usec / 1000;
		uint64_t age = tv.tv_sec != 0 && now > begin ? now - begin : 0;

		tracked->headers_since = 0;
		if (req->pathconf == NULL) /* the body is still coming */
			dead = now - tracked->moved_at > STALL_MS ||
				   (age > STALL_MS && sock->input->size < age / 1000 * MIN_BODY_RATE);
		else if (h2o_socket_is_writing(sock))
			dead = now - tracked->moved_at > STALL_MS;
	}
	if (dead)
		shutdown(h2o_socket_get_fd(sock), SHUT_RDWR);
	return 0;
}

void
gw_accept_sweep(GwLoop *loop)
{
	gw_server.config.http1.callbacks.foreach_request(&loop->ctx, sweep_one, loop);
	for (GwAccept *accept = loop->listeners; accept != NULL; accept = accept->next)
		if (accept->paused && accept->sock != NULL && atomic_load(&total) < gw_server.options.max_connections)
		{
			accept->paused = false;
			h2o_socket_read_start(accept->sock, on_accept);
		}
}
