/*
 * proxy.c -- a boundary's proxy.
 *
 * A connection has a thread.  Its first byte tells TLS (which is ended here, by
 * a certificate of the boundary's own authority) from HTTP; anything else is
 * refused.  Each request is judged by what it says of itself, and goes to the
 * host that it names: the address that the program had called means nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/proxy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boundary/audit.h"
#include "boundary/dns.h"
#include "boundary/http.h"
#include "net/net.h"

#define MAX_CONNECTIONS 512
#define STACK ((size_t) 512 << 10)
#define FIRST_BYTE_MS 10000
#define HEAD_MS 60000
#define IDLE_MS 900000 /* models think for a while */
#define CONNECT_MS 30000
#define READ_SIZE 16384
#define QUEUED ((size_t) 256 << 10)
#define LINGER_MS 1000
#define FULL_POLL_MS 20

/* One side of an exchange, non-blocking. */
typedef struct Peer
{
	NetConn conn;
	HttpBuffer in;
	HttpBuffer out;
	bool eof;
} Peer;

typedef struct Connection
{
	const ProxyConfig *config;
	Peer client;
	Peer server; /* fd -1: none */
	HttpTarget connected; /* where server leads */
	char called[HTTP_HOST_MAX]; /* whom the program wanted to reach: a name or an address */
	int port;
	bool tls;
} Connection;

static atomic_int connections;

static void
set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void
peer_ready(Peer *peer)
{
	set_blocking(peer->conn.fd, false);
	if (peer->conn.ssl != NULL)
		SSL_set_mode(peer->conn.ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void
peer_close(Peer *peer)
{
	if (peer->conn.fd >= 0)
		net_close(&peer->conn);
	http_buffer_free(&peer->in);
	http_buffer_free(&peer->out);
	peer->eof = false;
}

/* Reads what there is. */
static void
peer_fill(Peer *peer)
{
	char data[READ_SIZE];
	ssize_t n = net_read(&peer->conn, data, sizeof(data));

	if (n > 0)
		http_buffer_add(&peer->in, data, (size_t) n);
	else if (n != -2)
		peer->eof = true;
}

/* Writes what can be written; false: nobody takes it any more. */
static bool
peer_flush(Peer *peer)
{
	while (peer->out.size > 0)
	{
		ssize_t n = net_write(&peer->conn, peer->out.data, peer->out.size);

		if (n == -2)
			return true;
		if (n <= 0)
			return false;
		http_buffer_take(&peer->out, (size_t) n);
	}
	return true;
}

/* Waits until one of them has something to read (where it is wanted) or can take more. False: nothing for too long. */
static bool
wait_for(Peer *const *peers, const bool *wanted, int n, int timeout_ms)
{
	struct pollfd fds[2];
	bool pending = false;
	int got;

	for (int i = 0; i < n; i++)
	{
		bool reads = wanted[i] && !peers[i]->eof;

		pending = pending || (reads && peers[i]->conn.ssl != NULL && SSL_has_pending(peers[i]->conn.ssl));
		fds[i] = (struct pollfd) {peers[i]->conn.fd, (short) ((reads ? POLLIN : 0) | (peers[i]->out.size > 0 ? POLLOUT : 0)), 0};
		if (fds[i].events == 0)
			fds[i].fd = -1;
	}
	got = poll(fds, (nfds_t) n, pending ? 0 : timeout_ms);
	if (got < 0 && errno == EINTR)
		return true;
	for (int i = 0; i < n; i++)
	{
		if (wanted[i] && !peers[i]->eof && (pending || (fds[i].revents & (POLLIN | POLLHUP | POLLERR))))
			peer_fill(peers[i]);
		if ((fds[i].revents & (POLLOUT | POLLERR)) && !peer_flush(peers[i]))
			return false;
	}
	return got > 0 || pending;
}

/* An answer of our own; the connection ends behind it. */
static void
answer(Peer *client, int status, const char *text)
{
	char head[256];
	Peer *const peers[] = {client};
	const bool wanted[] = {true};
	int n = snprintf(head,
					 sizeof(head),
					 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
					 status,
					 http_status_str((enum http_status) status),
					 strlen(text));

	http_buffer_add(&client->out, head, (size_t) n);
	http_buffer_add(&client->out, text, strlen(text));
	if (!peer_flush(client))
		return;
	while (client->out.size > 0)
		if (!wait_for(peers, wanted, 1, LINGER_MS))
			return;
	/* What the client still sends is read for a moment: a reset would take the answer along. */
	if (client->conn.ssl != NULL)
		SSL_shutdown(client->conn.ssl);
	shutdown(client->conn.fd, SHUT_WR);
	while (!client->eof && client->in.size < QUEUED && wait_for(peers, wanted, 1, LINGER_MS))
		;
}

/* Both ways, whatever it is, until one side ends. */
static void
tunnel(Connection *c)
{
	Peer *const peers[] = {&c->client, &c->server};
	bool wanted[2];

	for (;;)
	{
		for (int i = 0; i < 2; i++)
		{
			Peer *from = peers[i], *to = peers[1 - i];

			if (from->in.size > 0)
				http_buffer_add(&to->out, from->in.data, from->in.size);
			from->in.size = 0;
			if (!peer_flush(to) || to->out.failed)
				return;
			wanted[i] = to->out.size < QUEUED;
		}
		if ((c->client.eof && c->server.out.size == 0) || (c->server.eof && c->client.out.size == 0))
			return;
		if (!wait_for(peers, wanted, 2, IDLE_MS))
			return;
	}
}

static void
move(HttpBuffer *from, HttpBuffer *to)
{
	if (from->size > 0)
		http_buffer_add(to, from->data, from->size);
	to->failed = to->failed || from->failed;
	from->size = 0;
}

/* More of the request goes on to the server. */
static bool
pass_request(Connection *c, HttpMessage *request)
{
	size_t used = 1;

	while (!request->done && c->client.in.size > 0 && used > 0 && c->server.out.size < QUEUED)
	{
		if (!http_message_input(request, c->client.in.data, c->client.in.size, &used))
			return false;
		http_buffer_take(&c->client.in, used);
		move(&request->out, &c->server.out);
	}
	return true;
}

/* More of the answer goes on to the client. */
static bool
pass_answer(Connection *c, HttpMessage *request, HttpMessage *reply, bool *keep)
{
	size_t used = 1;

	while (!reply->done && (c->server.in.size > 0 || c->server.eof) && c->client.out.size < QUEUED)
	{
		bool before = reply->head_done;
		unsigned int status;

		if (c->server.in.size == 0 && used == 0)
			break;
		if (!http_message_input(reply, c->server.in.size > 0 ? c->server.in.data : "", c->server.in.size, &used))
			return false;
		if (c->server.in.size == 0 && !reply->done)
			return false; /* cut off */
		http_buffer_take(&c->server.in, used);
		status = reply->parser.status_code;
		if (!before && reply->head_done)
		{
			if (reply->upgrade && !request->wants_upgrade)
				return false;
			*keep = !request->close && !reply->close && !reply->upgrade;
			http_answer_head(reply, *keep);
		}
		move(&reply->out, &c->client.out);
		if (reply->done && status >= 100 && status < 200 && status != 101)
		{
			/* More is to come: this one was only on the way. */
			http_message_free(reply);
			http_message_init(reply, true, request->parser.method == HTTP_HEAD);
		}
	}
	return !c->client.out.failed;
}

/* One request that is allowed; true: the connection can carry another. */
static bool
exchange(Connection *c, HttpMessage *request, const HttpTarget *target)
{
	Peer *const peers[] = {&c->client, &c->server};
	HttpMessage reply;
	bool keep = false, ok = true, began = false;

	http_message_init(&reply, true, request->parser.method == HTTP_HEAD);
	http_request_head(request, target->path, target->authority);
	move(&request->out, &c->server.out);
	while (ok)
	{
		bool wanted[2];

		ok = pass_request(c, request) && pass_answer(c, request, &reply, &keep);
		began = began || c->client.out.size > 0 || reply.head_done;
		if (!ok || (reply.done && c->client.out.size == 0) || (c->client.eof && !request->done))
			break;
		wanted[0] = !request->done && c->server.out.size < QUEUED;
		wanted[1] = !reply.done && c->client.out.size < QUEUED;
		ok = wait_for(peers, wanted, 2, IDLE_MS) && peer_flush(&c->client);
		/* A server that takes no more of the request may have answered it. */
		if (ok && !peer_flush(&c->server))
			c->server.out.size = 0;
	}
	keep = keep && ok && reply.done && request->done && !c->client.eof;
	if (ok && reply.done && reply.upgrade)
		tunnel(c);
	else if (!began && !c->client.eof)
		answer(&c->client, 502, reply.problem != NULL && !c->server.eof ? "The server's answer cannot be read.\n" : "The server closed the connection without an answer.\n");
	if (!keep || c->server.eof)
		peer_close(&c->server);
	http_message_free(&reply);
	return keep;
}

static bool
same_place(const HttpTarget *a, const HttpTarget *b)
{
	return a->tls == b->tls && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* A connection that the server has meanwhile closed is of no use. */
static bool
still_open(Peer *peer)
{
	struct pollfd fd = {peer->conn.fd, POLLIN, 0};

	return peer->in.size == 0 && poll(&fd, 1, 0) == 0;
}

static bool
reach(Connection *c, const HttpTarget *target, char *error, size_t error_size)
{
	NetUrl url = {.tls = target->tls, .port = target->port, .path = "/"};

	if (c->server.conn.fd >= 0 && same_place(&c->connected, target) && still_open(&c->server))
		return true;
	peer_close(&c->server);
	snprintf(url.host, sizeof(url.host), "%s", target->host);
	snprintf(url.authority, sizeof(url.authority), "%s", target->authority);
	if (net_connect(&c->server.conn, &url, CONNECT_MS, error, error_size) != 0)
		return false;
	peer_ready(&c->server);
	c->connected = *target;
	return true;
}

/* "https://host:port/path", as it is told. */
static char *
full_url(const HttpTarget *target)
{
	char *url;

	if (asprintf(&url, "%s://%s%s", target->tls ? "https" : "http", target->authority, strcmp(target->path, "*") == 0 ? "/*" : target->path) < 0)
		return NULL;
	return url;
}

/* The request's path within the limits of a rule, for the page that says what is missing. */
static void
deny(Connection *c, const char *method, const char *url, const HttpTarget *target)
{
	char *page;

	audit_request(method, url, NULL, NULL);
	if (asprintf(&page,
				 "Request denied by the boundary of this workspace.\n\n%s %s\n\nNo rule allows it. To allow it, add a rule such as\n"
				 "  --allow \"method=%s domain=%s path=%.*s\"\n",
				 method,
				 url,
				 method,
				 target->host,
				 (int) strcspn(target->path, "?#"),
				 target->path) < 0)
		return;
	answer(&c->client, 403, page);
	free(page);
}

static bool serve_stream(Connection *c, bool connected);

/* CONNECT: what is inside is judged, request by request. */
static void
serve_connect(Connection *c, const HttpTarget *target)
{
	static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";
	Peer *const peers[] = {&c->client};
	const bool wanted[] = {false};

	snprintf(c->called, sizeof(c->called), "%s", target->host);
	c->port = target->port;
	http_buffer_add(&c->client.out, established, sizeof(established) - 1);
	while (peer_flush(&c->client) && c->client.out.size > 0)
		if (!wait_for(peers, wanted, 1, HEAD_MS))
			return;
	if (c->client.in.size > 0)
		audit_request("CONNECT", target->authority, NULL, "data before the connection was there");
	else
		serve_stream(c, true);
}

/* The head of the next request; false: there is none. */
static bool
read_head(Connection *c, HttpMessage *request)
{
	Peer *const peers[] = {&c->client};
	const bool wanted[] = {true};
	size_t used;

	while (!request->head_done)
	{
		if (c->client.in.size > 0)
		{
			if (!http_message_input(request, c->client.in.data, c->client.in.size, &used))
				return false;
			http_buffer_take(&c->client.in, used);
		}
		else if (c->client.eof || !wait_for(peers, wanted, 1, HEAD_MS))
			return false;
	}
	/* A request without a body ends with the next look at it. */
	while (request->upgrade && !request->done && c->client.in.size > 0 && http_message_input(request, c->client.in.data, c->client.in.size, &used))
		http_buffer_take(&c->client.in, used);
	return true;
}

/* One request; true: there may be more. */
static bool
serve_request(Connection *c)
{
	HttpMessage request;
	HttpTarget target;
	const BoundaryRule *rule;
	const char *method;
	char error[512];
	char *url = NULL;
	bool more = false;

	http_message_init(&request, false, false);
	if (!read_head(c, &request))
	{
		if (request.problem != NULL)
		{
			char where[HTTP_HOST_MAX + 24];

			snprintf(where, sizeof(where), "%s://%s:%d", c->tls ? "https" : "http", c->called, c->port);
			audit_request("HTTP", where, NULL, request.problem);
			answer(&c->client, 400, "The boundary cannot read this request.\n");
		}
		http_message_free(&request);
		return false;
	}
	method = http_method_str((enum http_method) request.parser.method);
	if (!http_target(&target, &request, c->tls, c->port) || (url = full_url(&target)) == NULL)
	{
		audit_request(method, c->called, NULL, "it does not say which host it is for");
		answer(&c->client, 400, "The request does not say which host it is for.\n");
	}
	else if (request.upgrade)
		serve_connect(c, &target);
	else if ((rule = boundary_rules_match(c->config->rules, method, target.host, target.path)) == NULL)
		deny(c, method, url, &target);
	else
	{
		audit_request(method, url, rule->text, NULL);
		if (reach(c, &target, error, sizeof(error)))
			more = exchange(c, &request, &target);
		else
		{
			audit_log(AUDIT_WARN, "%s %s is allowed, but %s", method, url, error);
			strncat(error, "\n", sizeof(error) - strlen(error) - 1);
			answer(&c->client, 502, error);
		}
	}
	free(url);
	http_message_free(&request);
	return more;
}

/* TLS with the client.  A program that trusts its own authorities only ends here, and the log says so. */
static bool
begin_tls(Connection *c)
{
	struct timeval patience = {FIRST_BYTE_MS / 1000, 0};
	unsigned long error;
	char where[HTTP_HOST_MAX + 24];
	const char *name;

	c->client.conn.ssl = ca_server(c->config->ca, c->called);
	if (c->client.conn.ssl == NULL)
		return false;
	set_blocking(c->client.conn.fd, true);
	setsockopt(c->client.conn.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(c->client.conn.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	SSL_set_fd(c->client.conn.ssl, c->client.conn.fd);
	ERR_clear_error();
	if (SSL_accept(c->client.conn.ssl) == 1)
	{
		c->tls = true;
		peer_ready(&c->client);
		return true;
	}
	error = ERR_peek_error();
	name = SSL_get_servername(c->client.conn.ssl, TLSEXT_NAMETYPE_host_name);
	snprintf(where, sizeof(where), "https://%s:%d", name != NULL ? name : c->called, c->port);
	audit_request("CONNECT", where, NULL, ERR_reason_error_string(error) != NULL ? ERR_reason_error_string(error) : "the program ended the handshake");
	if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) > SSL_AD_REASON_OFFSET)
		audit_log(AUDIT_WARN, "%s: the program does not take the boundary's certificate (it may trust its own authorities only): it cannot connect from inside", where);
	return false;
}

/* What the first byte begins. */
static bool
serve_stream(Connection *c, bool connected)
{
	struct pollfd in = {c->client.conn.fd, POLLIN, 0};
	uint8_t first = 0;
	char where[HTTP_HOST_MAX + 24];

	if (poll(&in, 1, FIRST_BYTE_MS) > 0 && recv(c->client.conn.fd, &first, 1, MSG_PEEK) == 0)
		return false;
	if (c->client.conn.ssl == NULL && first >= 0x14 && first <= 0x17)
	{
		if (!begin_tls(c))
			return false;
	}
	else if (!isupper(first))
	{
		snprintf(where, sizeof(where), strchr(c->called, ':') != NULL ? "tcp://[%s]:%d" : "tcp://%s:%d", c->called, c->port);
		audit_request(connected ? "CONNECT" : "TCP", where, NULL, first != 0 ? "neither HTTP nor TLS" : "the program sends nothing");
		return false;
	}
	while (serve_request(c))
		;
	return true;
}

static void *
connection_main(void *arg)
{
	Connection *c = arg;

	serve_stream(c, false);
	if (c->client.conn.ssl != NULL && !c->client.eof)
		SSL_shutdown(c->client.conn.ssl);
	peer_close(&c->client);
	peer_close(&c->server);
	free(c);
	ERR_clear_error();
	connections--;
	return NULL;
}

static bool
start_thread(void *(*function)(void *), void *arg)
{
	pthread_attr_t attributes;
	pthread_t thread;
	bool ok;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK);
	connections++;
	ok = pthread_create(&thread, &attributes, function, arg) == 0;
	pthread_attr_destroy(&attributes);
	if (!ok)
		connections--;
	return ok;
}

static void
accept_one(const ProxyConfig *config, int listener)
{
	Connection *c = calloc(1, sizeof(*c));
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct sockaddr_storage address;

	if (c == NULL || fd < 0 || !jail_destination(fd, &address))
	{
		if (fd >= 0)
			close(fd);
		free(c);
		return;
	}
	c->config = config;
	c->client.conn = (NetConn) {.fd = fd};
	c->server.conn = (NetConn) {.fd = -1};
	names_of(&address, c->called, sizeof(c->called));
	c->port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *) &address)->sin_port : ((struct sockaddr_in6 *) &address)->sin6_port);
	peer_ready(&c->client);
	if (!start_thread(connection_main, c))
	{
		close(fd);
		free(c);
	}
}

static bool
resolve(const char *name, uint8_t address[static 4])
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;

	if (getaddrinfo(name, NULL, &hints, &list) != 0)
		return false;
	memcpy(address, &((struct sockaddr_in *) (void *) list->ai_addr)->sin_addr, 4);
	freeaddrinfo(list);
	return true;
}

/* A question for a name, and what its answer needs to come from the address that it was sent to. */
typedef struct Asked
{
	int fd;
	uint8_t data[DNS_MAX];
	DnsQuestion question;
	struct sockaddr_storage from;
	socklen_t from_size;
	union
	{
		char data[CMSG_SPACE(sizeof(struct in6_pktinfo))];
		struct cmsghdr align;
	} control;
	size_t control_size;
} Asked;

static void
send_answer(Asked *asked, const uint8_t *address)
{
	uint8_t out[DNS_MAX];
	struct iovec iov = {out, dns_answer(out, asked->data, &asked->question, address)};
	struct msghdr message = {.msg_name = &asked->from,
							 .msg_namelen = asked->from_size,
							 .msg_iov = &iov,
							 .msg_iovlen = 1,
							 .msg_control = asked->control.data,
							 .msg_controllen = asked->control_size};

	sendmsg(asked->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(asked);
}

static void *
resolver_main(void *arg)
{
	Asked *asked = arg;
	uint8_t address[4];

	send_answer(asked, resolve(asked->question.name, address) ? address : NULL);
	connections--;
	return NULL;
}

static void
answer_question(const ProxyConfig *config, int fd)
{
	Asked *asked = calloc(1, sizeof(*asked));
	struct iovec iov;
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	uint8_t address[4];
	ssize_t n = -1;

	if (asked != NULL)
	{
		iov = (struct iovec) {asked->data, sizeof(asked->data)};
		message.msg_name = &asked->from;
		message.msg_namelen = sizeof(asked->from);
		message.msg_control = asked->control.data;
		message.msg_controllen = sizeof(asked->control.data);
		n = recvmsg(fd, &message, MSG_DONTWAIT);
	}
	if (n <= 0 || !dns_question(&asked->question, asked->data, (size_t) n))
	{
		free(asked);
		return;
	}
	asked->fd = fd;
	asked->from_size = message.msg_namelen;
	asked->control_size = message.msg_controllen;
	audit_log(AUDIT_DEBUG, "name %s, type %u", asked->question.name, asked->question.type);
	if (asked->question.type != DNS_TYPE_A)
		send_answer(asked, NULL);
	else if (!config->real_dns)
	{
		names_address(asked->question.name, address);
		send_answer(asked, address);
	}
	else if (!start_thread(resolver_main, asked))
		free(asked);
}

/* Signals go on to the command, but those of the terminal, which it has got itself. True: it has ended. */
static bool
take_signal(const ProxyConfig *config, int *status)
{
	struct signalfd_siginfo info;

	if (read(config->signals, &info, sizeof(info)) != (ssize_t) sizeof(info))
		return false;
	if (info.ssi_signo == SIGCHLD)
		return waitpid(config->jail->pid, status, WNOHANG) == config->jail->pid;
	if (info.ssi_code <= 0)
		kill(config->jail->pid, (int) info.ssi_signo);
	return false;
}

int
proxy_run(const ProxyConfig *config)
{
	const Jail *jail = config->jail;
	struct pollfd fds[1 + 2 + JAIL_LISTENERS];
	int status = 0;

	for (;;)
	{
		bool full = connections >= MAX_CONNECTIONS;
		nfds_t n = 3;

		fds[0] = (struct pollfd) {config->signals, POLLIN, 0};
		for (int i = 0; i < 2; i++)
			fds[1 + i] = (struct pollfd) {jail->dns[i], POLLIN, 0};
		for (int i = 0; i < jail->nlisteners && !full; i++)
			fds[n++] = (struct pollfd) {jail->listeners[i], POLLIN, 0};
		if (poll(fds, n, full ? FULL_POLL_MS : -1) < 0)
			continue;
		if (fds[0].revents && take_signal(config, &status))
			return status;
		for (int i = 0; i < 2; i++)
			if (fds[1 + i].revents)
				answer_question(config, jail->dns[i]);
		for (nfds_t i = 3; i < n; i++)
			if (fds[i].revents)
				accept_one(config, fds[i].fd);
	}
}
