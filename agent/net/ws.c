/*
 * ws.c -- a WebSocket client (RFC 6455) on an event loop.
 *
 *	 0       1       2
 *	+-------+-------+------------------+-----------+------------- - -
 *	| F op  | M len | 0, 2 or 8 bytes  | mask [4]  | payload
 *	+-------+-------+------------------+-----------+------------- - -
 *
 * What a client sends is masked, what it gets is not.  The connection is made
 * on a thread of its own, since names and TLS block; the loop takes it over.
 *
 * SPDX-License-Identifier: MIT
 */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire/wire.h"
#include "wire/wsframe.h"

#define MAX_OUT ((size_t) 16 << 20)
#define CONNECT_TIMEOUT_MS 15000
#define PING_INTERVAL_MS 15000
#define CLOSE_TIMEOUT_MS 2000
#define READ_SIZE 65536

typedef struct Bytes
{
	uint8_t *data;
	size_t begin;
	size_t end;
	size_t room;
} Bytes;

/* The thread's half: freed by the loop's. */
typedef struct Connector
{
	Loop *loop;
	NetWs *ws; /* touched on the loop only; NULL when nobody waits any more */
	NetUrl url;
	char *headers;
	NetConn conn;
	int status;
	char error[256];
	Bytes early; /* bytes behind the headers of the answer */
} Connector;

struct NetWs
{
	Loop *loop;
	const NetWsHandlers *handlers;
	void *arg;
	Connector *connector; /* NULL once connected */
	NetConn conn;
	LoopFd *watch;
	LoopTimer timer; /* ping, then the end of a close */
	Bytes in;
	Bytes out;
	Bytes message; /* fragments */
	int message_op;
	bool closing; /* our close frame is queued */
	bool pong_due;
	bool freed;
	int busy;
};

static bool
reserve(Bytes *b, size_t n)
{
	if (b->begin > 0 && b->begin == b->end)
		b->begin = b->end = 0;
	if (b->room - b->end >= n)
		return true;
	if (b->begin > 0)
	{
		memmove(b->data, b->data + b->begin, b->end - b->begin);
		b->end -= b->begin;
		b->begin = 0;
	}
	if (b->room - b->end < n)
	{
		size_t room = (b->end + n) * 2;
		uint8_t *bigger = realloc(b->data, room);

		if (bigger == NULL)
			return false;
		b->data = bigger;
		b->room = room;
	}
	return true;
}

static bool
append(Bytes *b, const void *data, size_t n)
{
	if (!reserve(b, n))
		return false;
	wire_put_bytes(b->data + b->end, data, n);
	b->end += n;
	return true;
}

static size_t
length(const Bytes *b)
{
	return b->end - b->begin;
}

static void
release(NetWs *ws)
{
	loop_timer_stop(&ws->timer);
	if (ws->watch != NULL)
		loop_fd_del(ws->watch);
	net_close(&ws->conn);
	free(ws->in.data);
	free(ws->out.data);
	free(ws->message.data);
	free(ws);
}

/* Tells the owner, once; the memory goes when no function of ours is on the stack. */
static void
end(NetWs *ws, int status, int code, const char *reason)
{
	if (ws->freed)
		return;
	ws->freed = true;
	ws->busy++;
	if (ws->connector != NULL)
		ws->connector->ws = NULL;
	ws->handlers->on_close(ws->arg, ws, status, code, reason);
	ws->busy--;
	if (ws->busy == 0)
		release(ws);
}

static void
watch_for(NetWs *ws)
{
	if (ws->watch != NULL)
		loop_fd_set(ws->watch, EPOLLIN | (length(&ws->out) > 0 ? EPOLLOUT : 0));
}

static void
flush(NetWs *ws)
{
	bool written = false;

	while (ws->connector == NULL && length(&ws->out) > 0)
	{
		ssize_t n = net_write(&ws->conn, ws->out.data + ws->out.begin, length(&ws->out));

		if (n == -2)
			break;
		if (n <= 0)
		{
			end(ws, 0, 1006, "the connection broke");
			return;
		}
		ws->out.begin += (size_t) n;
		written = true;
	}
	if (written && length(&ws->out) == 0 && ws->handlers->on_drain != NULL)
	{
		ws->busy++;
		ws->handlers->on_drain(ws->arg, ws);
		ws->busy--;
	}
	if (ws->freed && ws->busy == 0)
		release(ws);
	else if (!ws->freed)
		watch_for(ws);
}

static bool
queue_frame(NetWs *ws, int op, const void *data, size_t size)
{
	uint8_t mask[4];

	if (length(&ws->out) + size > MAX_OUT || !reserve(&ws->out, size + WIRE_WS_HEADER_MAX))
		return false;
	randombytes_buf(mask, sizeof(mask));
	ws->out.end += wire_ws_put(ws->out.data + ws->out.end, op, mask, data, size);
	return true;
}

static void
flush_later(void *arg)
{
	NetWs *ws = arg;

	ws->busy--;
	if (ws->freed)
	{
		if (ws->busy == 0)
			release(ws);
		return;
	}
	flush(ws);
}

bool
net_ws_send(NetWs *ws, bool text, const void *data, size_t size)
{
	bool idle = length(&ws->out) == 0;

	if (ws->closing || ws->freed || !queue_frame(ws, text ? WIRE_WS_TEXT : WIRE_WS_BINARY, data, size))
		return false;
	/* Sent at the end of the round: many small messages leave in one write. */
	if (idle && ws->connector == NULL && loop_defer(ws->loop, flush_later, ws))
		ws->busy++;
	return true;
}

static void
on_close_timeout(void *arg)
{
	end(arg, 0, 1006, "the server did not answer the close");
}

size_t
net_ws_queued(const NetWs *ws)
{
	return length(&ws->out);
}

void
net_ws_close(NetWs *ws, int code, const char *reason)
{
	uint8_t payload[125];
	size_t n = strlen(reason) < 120 ? strlen(reason) : 120;

	if (ws->freed || ws->closing)
		return;
	ws->closing = true;
	if (ws->connector == NULL)
	{
		wire_put_bytes(wire_put16be(payload, (uint16_t) code), reason, n);
		queue_frame(ws, WIRE_WS_CLOSE, payload, n + 2);
		ws->busy++;
		flush(ws);
		ws->busy--;
		if (ws->freed)
		{
			if (ws->busy == 0)
				release(ws);
			return;
		}
	}
	loop_timer_become(&ws->timer, on_close_timeout);
	loop_timer_start(&ws->timer, CLOSE_TIMEOUT_MS);
}

static void
on_ping_time(void *arg)
{
	NetWs *ws = arg;

	if (ws->pong_due)
	{
		end(ws, 0, 1006, "the server does not answer pings");
		return;
	}
	ws->pong_due = true;
	queue_frame(ws, WIRE_WS_PING, NULL, 0);
	loop_timer_start(&ws->timer, PING_INTERVAL_MS);
	flush(ws);
}

static void
on_close_frame(NetWs *ws, const uint8_t *data, size_t size)
{
	char reason[124];
	int code = size >= 2 ? wire_get16be(data) : 1005;
	size_t n = size >= 2 ? size - 2 : 0;

	wire_put_bytes((uint8_t *) reason, data + 2, n);
	reason[n] = '\0';
	if (!ws->closing)
	{
		ws->closing = true;
		queue_frame(ws, WIRE_WS_CLOSE, data, size >= 2 ? 2 : 0);
		while (length(&ws->out) > 0 && net_write(&ws->conn, ws->out.data + ws->out.begin, length(&ws->out)) > 0)
			break;
	}
	end(ws, 0, code, reason);
}

/* One whole frame; NULL, or what is wrong with it. */
static const char *
on_frame(NetWs *ws, int op, bool final, const uint8_t *data, size_t size)
{
	if (op >= WIRE_WS_CLOSE)
	{
		if (op == WIRE_WS_PING)
			queue_frame(ws, WIRE_WS_PONG, data, size);
		else if (op == WIRE_WS_PONG)
			ws->pong_due = false;
		else if (op == WIRE_WS_CLOSE)
			on_close_frame(ws, data, size);
		else
			return "unknown frame type";
		return NULL;
	}
	if ((op == WIRE_WS_CONTINUATION) != (ws->message_op != 0))
		return "a fragment is out of place";
	if (op > WIRE_WS_BINARY)
		return "unknown frame type";
	if (op != WIRE_WS_CONTINUATION)
		ws->message_op = op;
	if (final && length(&ws->message) == 0)
		ws->handlers->on_message(ws->arg, ws, ws->message_op == WIRE_WS_TEXT, data, size);
	else
	{
		if (length(&ws->message) + size > NET_MAX_MESSAGE || !append(&ws->message, data, size))
			return "a message is too long";
		if (final)
			ws->handlers->on_message(ws->arg, ws, ws->message_op == WIRE_WS_TEXT, ws->message.data, length(&ws->message));
	}
	if (final)
	{
		ws->message.begin = ws->message.end = 0;
		ws->message_op = 0;
	}
	return NULL;
}

/* Bytes that one frame at the front takes, or 0 where more must come; *problem where it is bad. */
static size_t
take_frame(NetWs *ws, const char **problem)
{
	WireWsFrame frame;
	size_t n = wire_ws_get(&frame, ws->in.data + ws->in.begin, length(&ws->in), NET_MAX_MESSAGE, problem);

	if (n > 0)
		*problem = on_frame(ws, frame.op, frame.final, frame.data, frame.size);
	return n;
}

static void
take_frames(NetWs *ws)
{
	const char *problem = NULL;
	size_t n;

	ws->busy++;
	while (!ws->freed && (n = take_frame(ws, &problem)) > 0 && problem == NULL)
		ws->in.begin += n;
	if (problem != NULL && !ws->freed)
		end(ws, 0, 1002, problem);
	ws->busy--;
	if (ws->freed)
	{
		if (ws->busy == 0)
			release(ws);
		return;
	}
	if (length(&ws->out) > 0)
		flush(ws);
}

static void
on_ready(void *arg, uint32_t events)
{
	NetWs *ws = arg;
	ssize_t n;

	if (events & EPOLLOUT)
	{
		ws->busy++;
		flush(ws);
		ws->busy--;
		if (ws->freed)
		{
			if (ws->busy == 0)
				release(ws);
			return;
		}
	}
	/* TLS may hold more than the socket shows, so read until it says "again". */
	for (int rounds = 0; rounds < 16; rounds++)
	{
		if (!reserve(&ws->in, READ_SIZE))
		{
			end(ws, 0, 1006, "out of memory");
			return;
		}
		n = net_read(&ws->conn, ws->in.data + ws->in.end, READ_SIZE);
		if (n == -2)
			break;
		if (n <= 0)
		{
			end(ws, 0, 1006, "the connection ended");
			return;
		}
		ws->in.end += (size_t) n;
		ws->busy++;
		take_frames(ws);
		ws->busy--;
		if (ws->freed)
		{
			if (ws->busy == 0)
				release(ws);
			return;
		}
		if (ws->conn.ssl == NULL && n < READ_SIZE)
			break;
	}
}

/* The loop takes the connection over. */
static void
on_connected(void *arg)
{
	Connector *connector = arg;
	NetWs *ws = connector->ws;

	if (ws == NULL)
		net_close(&connector->conn);
	else if (connector->conn.fd < 0)
	{
		ws->connector = NULL;
		end(ws, connector->status, 1006, connector->error);
	}
	else if (ws->closing)
	{
		ws->connector = NULL;
		ws->conn = connector->conn;
		end(ws, 0, 1006, "closed before it was open");
	}
	else
	{
		ws->connector = NULL;
		ws->conn = connector->conn;
		ws->in = connector->early;
		connector->early.data = NULL;
		fcntl(ws->conn.fd, F_SETFL, fcntl(ws->conn.fd, F_GETFL) | O_NONBLOCK);
		ws->watch = loop_fd_add(ws->loop, ws->conn.fd, EPOLLIN, on_ready, ws);
		if (ws->watch == NULL)
			end(ws, 0, 1006, "out of descriptors");
		else
		{
			loop_timer_become(&ws->timer, on_ping_time);
			loop_timer_start(&ws->timer, PING_INTERVAL_MS);
			ws->busy++;
			ws->handlers->on_open(ws->arg, ws);
			if (!ws->freed)
				take_frames(ws);
			if (!ws->freed)
				flush(ws);
			ws->busy--;
			if (ws->freed && ws->busy == 0)
				release(ws);
		}
	}
	free(connector->early.data);
	free(connector->headers);
	free(connector);
}

typedef struct Upgrade
{
	bool complete;
	char body[200];
	size_t body_size;
} Upgrade;

static int
on_upgrade_headers(http_parser *parser)
{
	Upgrade *u = parser->data;

	u->complete = parser->status_code == 101;
	return 0;
}

static int
on_upgrade_body(http_parser *parser, const char *at, size_t n)
{
	Upgrade *u = parser->data;

	if (n > sizeof(u->body) - 1 - u->body_size)
		n = sizeof(u->body) - 1 - u->body_size;
	memcpy(u->body + u->body_size, at, n);
	u->body_size += n;
	return 0;
}

static int
on_upgrade_done(http_parser *parser)
{
	((Upgrade *) parser->data)->complete = true;
	return 0;
}

/* Reads the server's answer; 0 where it is 101. */
static int
read_upgrade(Connector *c)
{
	static const http_parser_settings settings = {
		.on_headers_complete = on_upgrade_headers,
		.on_body = on_upgrade_body,
		.on_message_complete = on_upgrade_done,
	};
	Upgrade upgrade = {0};
	http_parser parser;
	char buffer[8192];

	http_parser_init(&parser, HTTP_RESPONSE);
	parser.data = &upgrade;
	while (!upgrade.complete)
	{
		ssize_t n = net_read(&c->conn, buffer, sizeof(buffer));
		size_t used;

		if (n <= 0)
			break;
		used = http_parser_execute(&parser, &settings, buffer, (size_t) n);
		if (parser.upgrade && parser.status_code == 101)
		{
			append(&c->early, buffer + used, (size_t) n - used);
			return 0;
		}
		if (HTTP_PARSER_ERRNO(&parser) != HPE_OK)
			break;
	}
	c->status = (int) parser.status_code;
	if (c->status != 0)
		snprintf(c->error, sizeof(c->error), "the server answered %d: %s", c->status, upgrade.body);
	else
		snprintf(c->error, sizeof(c->error), "the server did not answer the upgrade");
	return -1;
}

static int
send_upgrade(Connector *c)
{
	char request[8192];
	uint8_t nonce[16];
	char key[25];
	int n;

	randombytes_buf(nonce, sizeof(nonce));
	EVP_EncodeBlock((unsigned char *) key, nonce, sizeof(nonce));
	n = snprintf(request,
				 sizeof(request),
				 "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
				 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
				 c->url.path,
				 c->url.authority,
				 key,
				 c->headers);
	if (n < 0 || (size_t) n >= sizeof(request) || net_write(&c->conn, request, (size_t) n) != n)
	{
		snprintf(c->error, sizeof(c->error), "could not send the request");
		return -1;
	}
	return 0;
}

static void *
connect_thread(void *arg)
{
	Connector *c = arg;

	if (net_connect(&c->conn, &c->url, CONNECT_TIMEOUT_MS, c->error, sizeof(c->error)) == 0 &&
		(send_upgrade(c) != 0 || read_upgrade(c) != 0))
		net_close(&c->conn);
	loop_post(c->loop, on_connected, c);
	return NULL;
}

NetWs *
net_ws_connect(Loop *loop, const char *url, const char *headers, const NetWsHandlers *handlers, void *arg)
{
	NetWs *ws = calloc(1, sizeof(*ws));
	Connector *connector = calloc(1, sizeof(*connector));
	pthread_attr_t attributes;
	pthread_t thread;
	int failed;

	if (ws == NULL || connector == NULL || !net_url_parse(&connector->url, url))
	{
		free(ws);
		free(connector);
		return NULL;
	}
	ws->loop = loop;
	ws->handlers = handlers;
	ws->arg = arg;
	ws->conn.fd = -1;
	ws->connector = connector;
	loop_timer_init(&ws->timer, loop, on_close_timeout, ws);
	connector->loop = loop;
	connector->ws = ws;
	connector->conn.fd = -1;
	connector->headers = strdup(headers ? headers : "");
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	failed = connector->headers == NULL || pthread_create(&thread, &attributes, connect_thread, connector) != 0;
	pthread_attr_destroy(&attributes);
	if (failed)
	{
		free(connector->headers);
		free(connector);
		free(ws);
		return NULL;
	}
	return ws;
}
