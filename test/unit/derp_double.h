/*
 * derp_double.h -- a DERP relay small enough for a test: one loop, no limits,
 * no mesh; it forwards packets between the clients that have logged in.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TEST_DERP_DOUBLE_H
#define TEST_DERP_DOUBLE_H

#include "loop.h"
#include "wire/derp.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define DOUBLE_CLIENTS 16
#define DOUBLE_BUFFER (16 * 1024 * 1024)

typedef struct DoubleClient
{
	struct DerpDouble *relay;
	int fd;
	LoopFd *watch;
	uint8_t key[32];
	bool upgraded, known;
	uint8_t *in, *out;
	size_t nin, nout, sent;
} DoubleClient;

typedef struct DerpDouble
{
	Loop *loop;
	int fd;
	uint16_t port;
	LoopFd *watch;
	uint8_t public_key[32], private_key[32];
	DoubleClient clients[DOUBLE_CLIENTS];
	int drop_every; /* lose every n-th packet; 0: none */
	int packets;
} DerpDouble;

static void
double_close(DoubleClient *c)
{
	loop_fd_del(c->watch);
	close(c->fd);
	free(c->in);
	free(c->out);
	*c = (DoubleClient){.fd = -1};
}

static void
double_flush(DoubleClient *c)
{
	while (c->sent < c->nout)
	{
		ssize_t n = send(c->fd, c->out + c->sent, c->nout - c->sent, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		c->sent += (size_t) n;
	}
	if (c->sent == c->nout)
		c->sent = c->nout = 0;
	loop_fd_set(c->watch, c->nout > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
double_frame(DoubleClient *c, const WireDerpFrame *frame)
{
	DerpDouble *relay = c->relay;
	const uint8_t *key, *nonce, *box, *packet;
	size_t n;

	if (frame->type == WIRE_DERP_CLIENT_INFO &&
		wire_derp_get_client_info(&key, &nonce, &box, &n, frame) == WIRE_OK)
	{
		uint8_t plain[256];

		if (n > sizeof(plain) ||
			crypto_box_open_easy(plain, box, n, nonce, key, relay->private_key) != 0)
			abort();
		memcpy(c->key, key, 32);
		c->known = true;
	}
	if (frame->type != WIRE_DERP_SEND_PACKET ||
		wire_derp_get_packet(&key, &packet, &n, frame) != WIRE_OK || !c->known)
		return;
	if (relay->drop_every > 0 && ++relay->packets % relay->drop_every == 0)
		return;
	for (int i = 0; i < DOUBLE_CLIENTS; i++)
	{
		DoubleClient *to = &relay->clients[i];

		if (to->fd >= 0 && to->known && memcmp(to->key, key, 32) == 0)
			to->nout += wire_derp_put_recv(
				to->out + to->nout, DOUBLE_BUFFER - to->nout, c->key, packet, n);
	}
}

static void
double_on_client(void *arg, uint32_t events)
{
	DoubleClient *c = arg;
	size_t at = 0, need;
	WireDerpFrame frame;
	ssize_t n;

	if ((events & EPOLLOUT) != 0)
		double_flush(c);
	n = recv(c->fd, c->in + c->nin, DOUBLE_BUFFER - c->nin, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
	{
		double_close(c);
		return;
	}
	if (n < 0)
		return;
	c->nin += (size_t) n;
	if (!c->upgraded)
	{
		const uint8_t *end = memmem(c->in, c->nin, "\r\n\r\n", 4);

		if (end == NULL)
			return;
		at = (size_t) (end + 4 - c->in);
		c->nout = (size_t) sprintf((char *) c->out,
								   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
								   "Connection: Upgrade\r\nDerp-Version: 2\r\n\r\n");
		c->nout += wire_derp_put_server_key(c->out + c->nout, 64, c->relay->public_key);
		c->upgraded = true;
	}
	while (wire_derp_get(&frame, &need, c->in + at, c->nin - at) == WIRE_OK)
	{
		double_frame(c, &frame);
		at += wire_derp_size(&frame);
	}
	memmove(c->in, c->in + at, c->nin - at);
	c->nin -= at;
	for (int i = 0; i < DOUBLE_CLIENTS; i++)
		if (c->relay->clients[i].fd >= 0 && c->relay->clients[i].nout > 0)
			double_flush(&c->relay->clients[i]);
}

static void
double_on_accept(void *arg, uint32_t events)
{
	DerpDouble *relay = arg;
	static const int on = 1;
	int fd = accept4(relay->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void) events;
	for (int i = 0; fd >= 0 && i < DOUBLE_CLIENTS; i++)
	{
		DoubleClient *c = &relay->clients[i];

		if (c->fd >= 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		*c = (DoubleClient){.relay = relay, .fd = fd};
		c->in = malloc(DOUBLE_BUFFER);
		c->out = malloc(DOUBLE_BUFFER);
		c->watch = loop_fd_add(relay->loop, fd, EPOLLIN, double_on_client, c);
		return;
	}
}

static void
double_start(DerpDouble *relay, Loop *loop)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
								  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(address);

	*relay = (DerpDouble){.loop = loop};
	crypto_box_keypair(relay->public_key, relay->private_key);
	for (int i = 0; i < DOUBLE_CLIENTS; i++)
		relay->clients[i].fd = -1;
	relay->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(relay->fd, (struct sockaddr *) &address, n) < 0 || listen(relay->fd, 16) < 0)
		abort();
	getsockname(relay->fd, (struct sockaddr *) &address, &n);
	relay->port = ntohs(address.sin_port);
	relay->watch = loop_fd_add(loop, relay->fd, EPOLLIN, double_on_accept, relay);
}

static inline void
double_stop(DerpDouble *relay)
{
	for (int i = 0; i < DOUBLE_CLIENTS; i++)
		if (relay->clients[i].fd >= 0)
			double_close(&relay->clients[i]);
	loop_fd_del(relay->watch);
	close(relay->fd);
}

#endif
