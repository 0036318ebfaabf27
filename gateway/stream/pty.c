/*
 * pty.c -- terminals in the browser: a WebSocket joined to port 2 of an agent.
 *
 * To the agent goes one init message (its size in two bytes, low one first, and
 * JSON), then what the browser sends, as it is; back come bytes of the terminal.
 * Either end that closes closes the other.  Neither side may run ahead: the
 * browser is not read while the agent takes nothing, and the other way round.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "../reply.h"
#include "../websocket.h"
#include "rpc.h"
#include "stream.h"
#include "tunnel.h"

#define PTY_PORT 2
#define MAX_UNSENT (256u << 10) /* to the browser; then the agent waits */
#define MAX_WAITING (256u << 10) /* to the agent; then the browser waits */
#define MAX_INIT 65535

typedef struct Pty
{
	GwLoop *loop;
	GwWs *ws;
	GwDial *dial;
	h2o_socket_t *sock;
	uint8_t agent[16];
	char *out; /* waits for the agent */
	size_t out_size;
	size_t out_room;
	char *inflight;
	bool reading; /* from the agent */
} Pty;

static void write_agent(Pty *pty);

static void
close_agent(Pty *pty)
{
	if (pty->dial != NULL)
		gw_tunnel_dial_cancel(pty->dial);
	pty->dial = NULL;
	if (pty->sock != NULL)
		h2o_socket_close(pty->sock);
	pty->sock = NULL;
	free(pty->inflight);
	pty->inflight = NULL;
}

static void
end_pty(Pty *pty, int code, const char *reason)
{
	close_agent(pty);
	gw_ws_close(pty->ws, code, reason);
}

/* To the agent --------------------------------------------------------------- */

static void
add_out(Pty *pty, const void *data, size_t n)
{
	if (pty->out_size + n > pty->out_room)
	{
		pty->out_room = 2 * pty->out_room > pty->out_size + n ? 2 * pty->out_room : pty->out_size + n;
		pty->out = h2o_mem_realloc(pty->out, pty->out_room);
	}
	memcpy(pty->out + pty->out_size, data, n);
	pty->out_size += n;
	gw_ws_pause(pty->ws, pty->out_size > MAX_WAITING);
}

static void
on_agent_written(h2o_socket_t *sock, const char *err)
{
	Pty *pty = sock->data;

	free(pty->inflight);
	pty->inflight = NULL;
	if (err != NULL)
		end_pty(pty, 1000, "");
	else
		write_agent(pty);
}

static void
write_agent(Pty *pty)
{
	h2o_iovec_t vec = h2o_iovec_init(pty->out, pty->out_size);

	if (pty->sock == NULL || pty->inflight != NULL || pty->out_size == 0)
		return;
	pty->inflight = pty->out;
	pty->out = NULL;
	pty->out_size = pty->out_room = 0;
	gw_ws_pause(pty->ws, false);
	h2o_socket_write(pty->sock, &vec, 1, on_agent_written);
}

/* From the agent ------------------------------------------------------------- */

static void
on_agent_read(h2o_socket_t *sock, const char *err)
{
	Pty *pty = sock->data;

	if (sock->input->size > 0)
	{
		gw_ws_send(pty->ws, GW_WS_BINARY, sock->input->bytes, sock->input->size);
		h2o_buffer_consume(&sock->input, sock->input->size);
	}
	if (err != NULL)
		end_pty(pty, 1000, "");
	else if (gw_ws_queued(pty->ws) > MAX_UNSENT)
	{
		h2o_socket_read_stop(sock);
		pty->reading = false;
	}
}

static void
on_dialled(void *arg, int fd)
{
	Pty *pty = arg;
	char reason[100];

	pty->dial = NULL;
	if (fd < 0)
	{
		snprintf(reason, sizeof(reason), "dial workspace agent: %s", strerror(-fd));
		end_pty(pty, 1011, reason);
		return;
	}
	pty->sock = h2o_evloop_socket_create(pty->loop->ctx.loop, fd, 0);
	pty->sock->data = pty;
	pty->reading = true;
	h2o_socket_read_start(pty->sock, on_agent_read);
	write_agent(pty);
}

/* The browser ---------------------------------------------------------------- */

static void
on_open(GwWs *ws, void *arg)
{
	Pty *pty = arg;

	(void) ws;
	pty->dial = gw_tunnel_dial(pty->loop, pty->agent, PTY_PORT, on_dialled, pty);
}

static void
on_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	Pty *pty = arg;

	(void) ws;
	if (opcode != GW_WS_BINARY)
	{
		end_pty(pty, 1003, "binary messages only");
		return;
	}
	add_out(pty, data, len);
	write_agent(pty);
}

static void
on_drain(GwWs *ws, void *arg)
{
	Pty *pty = arg;

	(void) ws;
	if (pty->sock != NULL && !pty->reading)
	{
		pty->reading = true;
		h2o_socket_read_start(pty->sock, on_agent_read);
	}
}

static void
on_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	Pty *pty = arg;

	(void) ws;
	(void) code;
	(void) reason;
	(void) len;
	close_agent(pty);
	free(pty->out);
	free(pty);
}

static const char *
text_of(json_t *plan, const char *key)
{
	const char *text = json_string_value(json_object_get(plan, key));

	return text != NULL ? text : "";
}

/* The first bytes to the agent; false where they would not fit. */
static bool
make_init(Pty *pty, json_t *plan)
{
	json_t *init = json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s}", "ID", text_of(plan, "reconnect"), "Height",
							 json_integer_value(json_object_get(plan, "height")), "Width",
							 json_integer_value(json_object_get(plan, "width")), "Command", text_of(plan, "command"),
							 "Container", text_of(plan, "container"), "ContainerUser", text_of(plan, "container_user"),
							 "BackendType", text_of(plan, "backend_type"));
	char *text = init != NULL ? json_dumps(init, JSON_COMPACT) : NULL;
	size_t n = text != NULL ? strlen(text) : 0;
	bool ok = n > 0 && n <= MAX_INIT;

	if (ok)
	{
		pty->out_size = pty->out_room = n + 2;
		pty->out = h2o_mem_alloc(n + 2);
		pty->out[0] = (char) (n & 0xff);
		pty->out[1] = (char) (n >> 8);
		memcpy(pty->out + 2, text, n);
	}
	free(text);
	json_decref(init);
	return ok;
}

void
gw_stream_pty(h2o_req_t *req, json_t *plan)
{
	static const GwWsHandlers handlers = {on_open, on_message, on_drain, on_close};
	static const GwWsOptions options = {.max_message = 1u << 20};
	Pty *pty = h2o_mem_alloc(sizeof(*pty));

	memset(pty, 0, sizeof(*pty));
	pty->loop = gw_loop_of(req);
	if (!stream_parse_uuid(pty->agent, text_of(plan, "agent_id")) || !make_init(pty, plan))
		gw_reply_error(req, 400, "The terminal's parameters are too long.", NULL);
	else
		pty->ws = gw_ws_upgrade(req, &options, &handlers, pty);
	if (pty->ws == NULL)
	{
		free(pty->out);
		free(pty);
	}
}
