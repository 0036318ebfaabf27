/*
 * websocket.c -- the server's side of WebSocket over h2o_http1_upgrade.
 *
 * Messages are queued as frames in one buffer; while a write is under way a
 * second one fills, so small messages leave together.  The connection ends in
 * one place, finish(), and on_close always runs from the loop, never from
 * within a call of the owner.
 *
 * SPDX-License-Identifier: MIT
 */
#include <h2o.h>
#include <h2o/http1.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "reply.h"
#include "request.h"
#include "websocket.h"
#include "wsframe.h"

#define DEFAULT_MESSAGE (1024 * 1024)
#define DEFAULT_QUEUE (4 * 1024 * 1024)
#define DEFAULT_PING_MS 15000
#define CLOSE_MS 5000	 /* for the peer's half of the closing handshake */
#define STALL_MS 45000	 /* for a write to end */
#define KEEP_BUFFER 16384

typedef struct Buffer
{
	uint8_t *base;
	size_t len;
	size_t cap;
} Buffer;

struct GwWs
{
	GwStream stream;
	GwLoop *loop;
	int route; /* for the metrics */
	uint64_t began;
	h2o_socket_t *sock; /* NULL before the 101 and after the end */
	GwWsHandlers handlers;
	void *arg;
	WsReader reader;
	Buffer queue;	 /* filled by senders */
	Buffer inflight; /* in the kernel's hands */
	size_t max_queue;
	unsigned ping_ms;
	int unanswered; /* pings */
	uint64_t write_since;
	bool writing;
	bool paused;
	bool in_input;
	bool close_sent;
	bool close_seen;
	bool finished;
	int code; /* what on_close is told */
	char reason[WS_MAX_CONTROL - 2];
	size_t reason_len;
	GwTimer ping;
	GwTimer end; /* closing handshake, then the deferred end */
};

static void flush(GwWs *ws);
static void on_read(h2o_socket_t *sock, const char *err);

/* End ------------------------------------------------------------------------ */

static void
on_end(void *arg)
{
	GwWs *ws = arg;

	gw_stream_remove(&ws->stream);
	gw_metrics_ws_end(ws->loop, ws->route, gw_micros() - ws->began);
	if (ws->handlers.on_close != NULL)
		ws->handlers.on_close(ws, ws->arg, ws->code != 0 ? ws->code : 1006, ws->reason, ws->reason_len);
	ws_reader_free(&ws->reader);
	free(ws->queue.base);
	free(ws->inflight.base);
	free(ws);
}

static void
finish(GwWs *ws)
{
	if (ws->finished)
		return;
	ws->finished = true;
	gw_timer_stop(&ws->ping);
	if (ws->sock != NULL)
		h2o_socket_close(ws->sock);
	ws->sock = NULL;
	gw_timer_start(&ws->end, ws->loop, 0, on_end, ws);
}

/*
 * The close frame may wait behind what a slow reader has not taken: it is given
 * the time of any write, so that the reader can learn why it is cut off.
 */
static void
on_close_timeout(void *arg)
{
	GwWs *ws = arg;

	if (ws->writing && !ws->loop->stopping && h2o_now(ws->loop->ctx.loop) - ws->write_since <= STALL_MS)
		gw_timer_start(&ws->end, ws->loop, CLOSE_MS, on_close_timeout, ws);
	else
		finish(ws);
}

static void
set_reason(GwWs *ws, int code, const char *reason, size_t len)
{
	if (ws->code != 0)
		return;
	ws->code = code;
	ws->reason_len = len < sizeof(ws->reason) ? len : sizeof(ws->reason);
	memcpy(ws->reason, reason, ws->reason_len);
}

/* Sending -------------------------------------------------------------------- */

static void
buffer_add(Buffer *buffer, const void *data, size_t len)
{
	if (buffer->len + len > buffer->cap)
	{
		size_t cap = buffer->cap < 1024 ? 1024 : buffer->cap;

		while (cap < buffer->len + len)
			cap *= 2;
		buffer->base = realloc(buffer->base, cap);
		if (buffer->base == NULL)
			h2o_fatal("out of memory");
		buffer->cap = cap;
	}
	memcpy(buffer->base + buffer->len, data, len);
	buffer->len += len;
}

static void
buffer_clear(Buffer *buffer)
{
	buffer->len = 0;
	if (buffer->cap > KEEP_BUFFER)
	{
		free(buffer->base);
		*buffer = (Buffer){NULL, 0, 0};
	}
}

static void
add_frame(GwWs *ws, int opcode, const void *data, size_t len)
{
	uint8_t header[WS_MAX_HEADER];

	buffer_add(&ws->queue, header, ws_put_header(header, opcode, len));
	if (len > 0)
		buffer_add(&ws->queue, data, len);
}

static void
on_written(h2o_socket_t *sock, const char *err)
{
	GwWs *ws = sock->data;

	ws->writing = false;
	buffer_clear(&ws->inflight);
	if (err != NULL)
	{
		finish(ws);
		return;
	}
	if (ws->queue.len > 0)
		flush(ws);
	else if (ws->close_sent && ws->close_seen)
		finish(ws);
	else if (!ws->close_sent && ws->handlers.on_drain != NULL)
		ws->handlers.on_drain(ws, ws->arg);
}

static void
flush(GwWs *ws)
{
	Buffer swap = ws->inflight;
	h2o_iovec_t vec;

	if (ws->sock == NULL || ws->writing || ws->queue.len == 0)
		return;
	ws->inflight = ws->queue;
	ws->queue = swap;
	ws->writing = true;
	ws->write_since = h2o_now(ws->loop->ctx.loop);
	vec = h2o_iovec_init(ws->inflight.base, ws->inflight.len);
	h2o_socket_write(ws->sock, &vec, 1, on_written);
}

static void
start_close(GwWs *ws, int code, const char *reason, size_t len)
{
	uint8_t payload[WS_MAX_CONTROL];

	if (ws->finished || ws->close_sent)
		return;
	if (len > sizeof(payload) - 2)
		len = sizeof(payload) - 2;
	set_reason(ws, code, reason, len);
	payload[0] = (uint8_t) (code >> 8);
	payload[1] = (uint8_t) code;
	memcpy(payload + 2, reason, len);
	/* 1005 means that there was no code, and is never sent. */
	add_frame(ws, WS_CLOSE, payload, code == 1005 ? 0 : len + 2);
	ws->close_sent = true;
	gw_timer_start(&ws->end, ws->loop, CLOSE_MS, on_close_timeout, ws);
	flush(ws);
}

bool
gw_ws_send(GwWs *ws, int opcode, const void *data, size_t len)
{
	static const char slow[] = "slow consumer: too much is waiting to be read";

	if (ws->finished || ws->close_sent)
		return false;
	if (ws->queue.len + ws->inflight.len + len > ws->max_queue)
	{
		/* What waits would not be read in time either; the close frame is next. */
		ws->queue.len = 0;
		start_close(ws, 1008, slow, sizeof(slow) - 1);
		return false;
	}
	add_frame(ws, opcode, data, len);
	flush(ws);
	return true;
}

size_t
gw_ws_queued(const GwWs *ws)
{
	return ws->queue.len + ws->inflight.len;
}

void
gw_ws_close(GwWs *ws, int code, const char *reason)
{
	start_close(ws, code, reason != NULL ? reason : "", reason != NULL ? strlen(reason) : 0);
}

GwLoop *
gw_ws_loop(const GwWs *ws)
{
	return ws->loop;
}

static void
on_stop(GwStream *stream)
{
	start_close(H2O_STRUCT_FROM_MEMBER(GwWs, stream, stream), 1001, H2O_STRLIT("the server is stopping"));
}

static void
on_ping(void *arg)
{
	GwWs *ws = arg;

	if (ws->writing && h2o_now(ws->loop->ctx.loop) - ws->write_since > STALL_MS)
	{
		set_reason(ws, 1008, H2O_STRLIT("slow consumer: nothing is read"));
		finish(ws);
		return;
	}
	if (ws->unanswered >= 2 && !ws->paused)
	{
		set_reason(ws, 1001, H2O_STRLIT("no answer to pings"));
		finish(ws);
		return;
	}
	ws->unanswered++;
	if (!ws->close_sent)
	{
		add_frame(ws, WS_PING, NULL, 0);
		flush(ws);
	}
	gw_timer_start(&ws->ping, ws->loop, ws->ping_ms, on_ping, ws);
}

/* Receiving ------------------------------------------------------------------ */

static void
take_control(GwWs *ws)
{
	const uint8_t *data = ws->reader.data;
	size_t len = ws->reader.len;
	int code = 1005;

	if (ws->reader.opcode == WS_PING)
	{
		if (!ws->close_sent && gw_ws_queued(ws) < ws->max_queue)
			add_frame(ws, WS_PONG, data, len);
		return;
	}
	if (ws->reader.opcode != WS_CLOSE)
		return;
	ws->close_seen = true;
	if (len >= 2)
		code = data[0] << 8 | data[1];
	if (len == 1 || (len >= 2 && (!ws_close_code_ok(code) || !ws_is_utf8(data + 2, len - 2))))
	{
		start_close(ws, 1002, H2O_STRLIT("malformed close frame"));
		return;
	}
	if (ws->close_sent)
	{
		if (!ws->writing)
			finish(ws);
		return;
	}
	start_close(ws, code, (const char *) data + (len >= 2 ? 2 : 0), len >= 2 ? len - 2 : 0);
}

/* Whatever has arrived. */
static void
take_input(GwWs *ws)
{
	static const char *const words[] = {"malformed frame", "text is not UTF-8", "message too big"};

	if (ws->in_input)
		return;
	ws->in_input = true;
	while (ws->sock != NULL && !ws->close_seen && !ws->paused && ws->sock->input->size > 0)
	{
		size_t used;
		WsEvent event =
			ws_read(&ws->reader, (uint8_t *) ws->sock->input->bytes, ws->sock->input->size, &used);

		if (event == WS_MESSAGE && !ws->close_sent)
		{
			if (ws->handlers.on_message == NULL)
				start_close(ws, 1002, H2O_STRLIT("this connection takes no messages"));
			else
				ws->handlers.on_message(ws, ws->arg, ws->reader.opcode, ws->reader.data, ws->reader.len);
		}
		else if (event == WS_CONTROL)
			take_control(ws);
		else if (event == WS_ERROR)
		{
			const char *word = words[ws->reader.code == 1007 ? 1 : ws->reader.code == 1009 ? 2 : 0];

			start_close(ws, ws->reader.code, word, strlen(word));
			/* Nothing after this can be understood. */
			ws->close_seen = true;
			used = ws->sock != NULL ? ws->sock->input->size : 0;
			if (ws->sock != NULL && !ws->writing && ws->queue.len == 0)
				finish(ws);
		}
		if (ws->sock != NULL && used > 0)
			h2o_buffer_consume(&ws->sock->input, used);
		if (event == WS_NEED_MORE)
			break;
	}
	ws->in_input = false;
	flush(ws);
}

static void
on_read(h2o_socket_t *sock, const char *err)
{
	GwWs *ws = sock->data;

	if (err != NULL)
	{
		finish(ws);
		return;
	}
	ws->unanswered = 0;
	if (ws->close_seen)
		h2o_buffer_consume(&sock->input, sock->input->size);
	else
		take_input(ws);
}

static void
on_resume(void *arg)
{
	GwWs *ws = arg;

	if (!ws->finished && !ws->close_sent)
		take_input(ws);
}

void
gw_ws_pause(GwWs *ws, bool pause)
{
	if (ws->paused == pause || ws->finished)
		return;
	ws->paused = pause;
	if (ws->sock == NULL)
		return;
	if (pause)
		h2o_socket_read_stop(ws->sock);
	else
	{
		h2o_socket_read_start(ws->sock, on_read);
		if (!ws->in_input && !ws->close_sent && ws->sock->input->size > 0)
			gw_timer_start(&ws->end, ws->loop, 0, on_resume, ws);
	}
}

/* Upgrade -------------------------------------------------------------------- */

static void
on_upgraded(void *arg, h2o_socket_t *sock, size_t reqsize)
{
	GwWs *ws = arg;

	if (sock == NULL)
	{
		finish(ws);
		return;
	}
	ws->sock = sock;
	sock->data = ws;
	h2o_buffer_consume(&sock->input, reqsize);
	if (ws->handlers.on_open != NULL)
		ws->handlers.on_open(ws, ws->arg);
	if (ws->sock == NULL)
		return;
	if (!ws->paused)
		h2o_socket_read_start(sock, on_read);
	gw_timer_start(&ws->ping, ws->loop, ws->ping_ms, on_ping, ws);
	take_input(ws);
}

bool
gw_ws_origin_ok(h2o_req_t *req)
{
	h2o_iovec_t origin = gw_header(req, "origin");
	const char *url = gw_server.options.access_url;
	const char *host;

	if (origin.base == NULL || gw_header(req, "cookie").base == NULL)
		return true;
	if (origin.len == strlen(url) && strncasecmp(origin.base, url, origin.len) == 0)
		return true;
	host = memmem(origin.base, origin.len, "://", 3);
	return host != NULL && (size_t) (origin.base + origin.len - host - 3) == req->authority.len &&
		   strncasecmp(host + 3, req->authority.base, req->authority.len) == 0;
}

static void
add_accept_header(h2o_req_t *req, h2o_iovec_t key)
{
	char text[64 + 36];
	unsigned char digest[SHA_DIGEST_LENGTH];
	char *value = h2o_mem_alloc_pool(&req->pool, 32);

	memcpy(text, key.base, key.len);
	memcpy(text + key.len, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
	SHA1((unsigned char *) text, key.len + 36, digest);
	EVP_EncodeBlock((unsigned char *) value, digest, sizeof(digest));
	gw_add_header(req, "sec-websocket-accept", value, 28);
}

GwWs *
gw_ws_upgrade(h2o_req_t *req, const GwWsOptions *options, const GwWsHandlers *handlers, void *arg)
{
	h2o_iovec_t key = gw_header(req, "sec-websocket-key");
	h2o_iovec_t version = gw_header(req, "sec-websocket-version");
	GwWs *ws;

	if (req->version != 0x101 || req->upgrade.base == NULL || req->upgrade.len != 9 ||
		strncasecmp(req->upgrade.base, "websocket", 9) != 0)
	{
		gw_add_header(req, "upgrade", H2O_STRLIT("websocket"));
		gw_reply_body(req, 426, "text/plain; charset=utf-8", H2O_STRLIT("This endpoint takes WebSocket connections only.\n"));
		return NULL;
	}
	if (key.len != 24 || !gw_iovec_is(version, "13"))
	{
		gw_add_header(req, "sec-websocket-version", H2O_STRLIT("13"));
		gw_reply_error(req, 400, "The WebSocket handshake is malformed.", "Sec-WebSocket-Key must have 24 characters and Sec-WebSocket-Version must be 13.");
		return NULL;
	}
	if (!gw_ws_origin_ok(req))
	{
		gw_reply_error(req, 403, "WebSocket connections of other origins are not accepted.", NULL);
		return NULL;
	}
	ws = calloc(1, sizeof(*ws));
	if (ws == NULL)
		h2o_fatal("out of memory");
	ws->loop = gw_loop_of(req);
	ws->route = ws->loop->ws_route;
	ws->loop->ws_route = 0;
	ws->began = gw_micros();
	gw_metrics_ws_begin(ws->loop, ws->route);
	ws->handlers = *handlers;
	ws->arg = arg;
	ws->reader.max_message = options->max_message != 0 ? options->max_message : DEFAULT_MESSAGE;
	ws->max_queue = options->max_queue != 0 ? options->max_queue : DEFAULT_QUEUE;
	ws->ping_ms = options->ping_ms != 0 ? options->ping_ms : DEFAULT_PING_MS;
	gw_stream_add(ws->loop, &ws->stream, on_stop);

	req->res.status = 101;
	req->res.reason = "Switching Protocols";
	gw_add_header(req, "upgrade", H2O_STRLIT("websocket"));
	add_accept_header(req, key);
	if (options->protocol != NULL)
	{
		h2o_iovec_t name = h2o_strdup(&req->pool, options->protocol, SIZE_MAX);

		gw_add_header(req, "sec-websocket-protocol", name.base, name.len);
	}
	h2o_http1_upgrade(req, NULL, 0, on_upgraded, ws);
	return ws;
}
