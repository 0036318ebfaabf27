/*
 * ws.c -- the server's end of a WebSocket (RFC 6455), on the agent's loop.
 *
 * Messages that come are small, those that go may be large.  A ping goes every fifteen seconds; who has not answered by the
 * next is gone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/ws.h"
#include "wire/wire.h"
#include "wire/wsframe.h"

#define MAX_MESSAGE ((size_t) 65536)
#define MAX_UNSENT ((size_t) 16 << 20)
#define PING_MS 15000

struct ServeWs
{
	Loop *loop;
	const ServeWsHandlers *handlers;
	void *arg;
	int fd;
	LoopFd *watch;
	LoopTimer timer;
	bool pong_due;
	bool ended; /* the rest is done at the end of the round */
	bool closing; /* as soon as all is sent */
	uint8_t in[MAX_MESSAGE + WIRE_WS_HEADER_MAX];
	size_t in_len;
	uint8_t message[MAX_MESSAGE]; /* fragments */
	size_t message_len;
	bool in_message;
	uint8_t *out;
	size_t out_len, out_done, out_room;
};

/* Ending ------------------------------------------------------------------------ */

static void
release(void *arg)
{
	ServeWs *ws = arg;

	ws->handlers->closed(ws->arg);
	loop_timer_stop(&ws->timer);
	loop_fd_del(ws->watch);
	close(ws->fd);
	free(ws->out);
	free(ws);
}

/* May be called in the middle of anything. */
static void
end(ServeWs *ws)
{
	if (ws->ended)
		return;
	ws->ended = true;
	loop_fd_set(ws->watch, 0);
	loop_defer(ws->loop, release, ws);
}

/* Sending ----------------------------------------------------------------------- */

static void
flush(ServeWs *ws)
{
	while (ws->out_done < ws->out_len)
	{
		ssize_t n = send(ws->fd, ws->out + ws->out_done, ws->out_len - ws->out_done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
		{
			end(ws);
			return;
		}
		ws->out_done += (size_t) n;
	}
	if (ws->out_done == ws->out_len)
	{
		ws->out_done = ws->out_len = 0;
		if (ws->closing)
		{
			end(ws);
			return;
		}
	}
	loop_fd_set(ws->watch, EPOLLIN | (ws->out_len > 0 ? EPOLLOUT : 0));
}

static bool
reserve(ServeWs *ws, size_t more)
{
	size_t room = ws->out_room > 0 ? ws->out_room : 4096;
	uint8_t *grown;

	if (ws->out_len - ws->out_done + more > MAX_UNSENT)
		return false;
	if (ws->out_done > 0)
		memmove(ws->out, ws->out + ws->out_done, ws->out_len - ws->out_done);
	ws->out_len -= ws->out_done;
	ws->out_done = 0;
	while (room < ws->out_len + more)
		room *= 2;
	if (room == ws->out_room)
		return true;
	grown = realloc(ws->out, room);
	if (grown == NULL)
		return false;
	ws->out = grown;
	ws->out_room = room;
	return true;
}

static void
put(ServeWs *ws, int op, const void *data, size_t size)
{
	if (ws->ended || ws->closing)
		return;
	if (!reserve(ws, size + WIRE_WS_HEADER_MAX))
	{
		end(ws);
		return;
	}
	ws->out_len += wire_ws_put_plain(ws->out + ws->out_len, op, data, size);
	flush(ws);
}

void
serve_ws_send(ServeWs *ws, const char *text, size_t size)
{
	put(ws, WIRE_WS_TEXT, text, size);
}

void
serve_ws_send_bytes(ServeWs *ws, const uint8_t *data, size_t size)
{
	put(ws, WIRE_WS_BINARY, data, size);
}

size_t
serve_ws_unsent(const ServeWs *ws)
{
	return ws->out_len - ws->out_done;
}

void
serve_ws_close(ServeWs *ws, int code, const char *reason)
{
	uint8_t payload[125];
	size_t n = strlen(reason) < 120 ? strlen(reason) : 120;

	wire_put_bytes(wire_put16be(payload, (uint16_t) code), reason, n);
	if (ws->ended || ws->closing)
		return;
	put(ws, WIRE_WS_CLOSE, payload, n + 2);
	ws->closing = true;
	if (ws->out_len == 0)
		end(ws);
}

static void
on_ping_time(void *arg)
{
	ServeWs *ws = arg;

	if (ws->pong_due)
	{
		end(ws);
		return;
	}
	ws->pong_due = true;
	loop_timer_start(&ws->timer, PING_MS);
	put(ws, WIRE_WS_PING, NULL, 0);
}

/* Receiving --------------------------------------------------------------------- */

/* NULL, or what is wrong with the frame. */
static const char *
take_frame(ServeWs *ws, const WireWsFrame *frame)
{
	if (frame->op == WIRE_WS_PING)
		put(ws, WIRE_WS_PONG, frame->data, frame->size);
	else if (frame->op == WIRE_WS_PONG)
		ws->pong_due = false;
	else if (frame->op == WIRE_WS_CLOSE)
	{
		put(ws, WIRE_WS_CLOSE, frame->data, frame->size >= 2 ? 2 : 0);
		ws->closing = true;
		if (ws->out_len == 0)
			end(ws);
	}
	else if (frame->op > WIRE_WS_CLOSE || frame->op > WIRE_WS_BINARY || (frame->op == WIRE_WS_CONTINUATION) != ws->in_message)
		return "a frame is out of place";
	else if (frame->size > MAX_MESSAGE - ws->message_len)
		return "a message is too long";
	else
	{
		wire_put_bytes(ws->message + ws->message_len, frame->data, frame->size);
		ws->message_len += frame->size;
		ws->in_message = !frame->final;
		if (frame->final)
		{
			size_t len = ws->message_len;

			ws->message_len = 0;
			ws->handlers->message(ws->arg, ws->message, len);
		}
	}
	return NULL;
}

static void
take_frames(ServeWs *ws)
{
	const char *problem = NULL;
	size_t at = 0;

	while (!ws->ended && !ws->closing && problem == NULL)
	{
		WireWsFrame frame;
		size_t n = wire_ws_get_masked(&frame, ws->in + at, ws->in_len - at, MAX_MESSAGE, &problem);

		if (n == 0)
			break;
		problem = take_frame(ws, &frame);
		at += n;
	}
	memmove(ws->in, ws->in + at, ws->in_len - at);
	ws->in_len -= at;
	if (problem != NULL)
		serve_ws_close(ws, 1002, problem);
}

static void
on_ready(void *arg, uint32_t events)
{
	ServeWs *ws = arg;

	if (ws->ended)
		return;
	if ((events & EPOLLOUT) != 0)
	{
		flush(ws);
		if (!ws->ended && ws->out_len == 0 && ws->handlers->drained != NULL)
			ws->handlers->drained(ws->arg);
	}
	if (!ws->ended && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
	{
		ssize_t n = read(ws->fd, ws->in + ws->in_len, sizeof(ws->in) - ws->in_len);

		if (n > 0)
		{
			ws->in_len += (size_t) n;
			take_frames(ws);
		}
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			end(ws);
	}
}

/* Beginning --------------------------------------------------------------------- */

/* Proves to the client that its handshake was understood. */
static bool
make_accept(const char *key, char accept[static 32])
{
	char text[128];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len;

	if (snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key) >= (int) sizeof(text) ||
		!EVP_Digest(text, strlen(text), digest, &len, EVP_sha1(), NULL) || len != 20)
		return false;
	EVP_EncodeBlock((unsigned char *) accept, digest, (int) len);
	return true;
}

static void
take_early(void *arg)
{
	take_frames(arg);
}

static ServeWs *
new_ws(Request *request, const ServeWsHandlers *handlers, void *arg)
{
	ServeWs *ws = calloc(1, sizeof(*ws));
	const char *early;
	size_t early_len;

	if (ws == NULL)
		return NULL;
	ws->loop = http_agent(request)->loop;
	ws->handlers = handlers;
	ws->arg = arg;
	ws->fd = http_take(request, &early, &early_len);
	if (early_len <= sizeof(ws->in))
	{
		memcpy(ws->in, early, early_len);
		ws->in_len = early_len;
	}
	ws->watch = loop_fd_add(ws->loop, ws->fd, EPOLLIN, on_ready, ws);
	if (ws->watch == NULL)
	{
		close(ws->fd);
		free(ws);
		return NULL;
	}
	loop_timer_init(&ws->timer, ws->loop, on_ping_time, ws);
	loop_timer_start(&ws->timer, PING_MS);
	return ws;
}

ServeWs *
serve_ws_upgrade(Request *request, const ServeWsHandlers *handlers, void *arg)
{
	char accept[32];
	char head[256];
	int n;
	ServeWs *ws;

	if (*http_ws_key(request) == '\0' || !make_accept(http_ws_key(request), accept))
	{
		http_reply_message(request, 400, "This is a WebSocket.");
		return NULL;
	}
	ws = new_ws(request, handlers, arg);
	if (ws == NULL)
		return NULL;
	n = snprintf(head, sizeof(head),
				 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
	if (reserve(ws, (size_t) n))
	{
		memcpy(ws->out, head, (size_t) n);
		ws->out_len = (size_t) n;
		flush(ws);
	}
	/* The caller does not know the connection yet. */
	if (ws->in_len > 0 && !ws->ended)
		loop_defer(ws->loop, take_early, ws);
	return ws;
}
