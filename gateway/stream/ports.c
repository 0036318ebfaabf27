/*
 * ports.c -- what listens in a workspace, from the agent's own HTTP API (its port 4).
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "../reply.h"
#include "proxy.h"
#include "rpc.h"
#include "stream.h"
#include "tunnel.h"

#define HTTP_PORT 4
#define LIMIT_MS 30000
#define MAX_BODY (1u << 20)

/* Goes with the request; the socket and the dial end with it. */
typedef struct Ports
{
	h2o_req_t *req;
	GwDial *dial;
	h2o_socket_t *sock;
	GwTimer limit;
	ProxyResponse response;
	json_t *hidden;
	char *body;
	size_t body_len;
	size_t body_room;
	bool too_long;
} Ports;

static void
end_ports(Ports *ports)
{
	gw_timer_stop(&ports->limit);
	if (ports->dial != NULL)
		gw_tunnel_dial_cancel(ports->dial);
	ports->dial = NULL;
	if (ports->sock != NULL)
		h2o_socket_close(ports->sock);
	ports->sock = NULL;
}

static void
on_dispose(void *arg)
{
	Ports *ports = arg;

	end_ports(ports);
	proxy_response_free(&ports->response);
	json_decref(ports->hidden);
	free(ports->body);
}

static void
fail(Ports *ports, const char *message, const char *detail)
{
	end_ports(ports);
	gw_reply_error(ports->req, 500, message, detail);
}

static void
on_limit(void *arg)
{
	fail(arg, "Internal error fetching listening ports.", "The workspace agent did not answer within 30 seconds.");
}

static void
on_body(void *arg, const char *data, size_t len)
{
	Ports *ports = arg;

	if (len > MAX_BODY - ports->body_len)
	{
		ports->too_long = true;
		return;
	}
	if (ports->body_len + len > ports->body_room)
	{
		ports->body_room = 2 * (ports->body_len + len);
		ports->body = h2o_mem_realloc(ports->body, ports->body_room);
	}
	memcpy(ports->body + ports->body_len, data, len);
	ports->body_len += len;
}

/* Ports below 9 are the agent's own. */
static bool
is_hidden(const Ports *ports, json_int_t port)
{
	size_t i;
	json_t *hidden;

	json_array_foreach(ports->hidden, i, hidden)
		if (json_integer_value(hidden) == port)
			return true;
	return port < 9;
}

/* The agent's list without what is hidden; NULL where it is no list. */
static char *
filtered(const Ports *ports)
{
	json_t *all = json_loadb(ports->body != NULL ? ports->body : "", ports->body_len, 0, NULL);
	json_t *list = json_object_get(all, "ports");
	json_t *kept = json_array();
	char *text = NULL;
	size_t i;
	json_t *port;

	json_array_foreach(list, i, port)
		if (!is_hidden(ports, json_integer_value(json_object_get(port, "port"))))
			json_array_append(kept, port);
	if (json_is_array(list))
	{
		json_t *answer = json_pack("{s:O}", "ports", kept);

		text = json_dumps(answer, JSON_COMPACT);
		json_decref(answer);
	}
	json_decref(kept);
	json_decref(all);
	return text;
}

static void
answer(Ports *ports)
{
	static const char message[] = "Internal error fetching listening ports.";
	char *text = NULL;

	if (ports->response.state == PROXY_DONE && ports->response.status == 200 && !ports->too_long)
		text = filtered(ports);
	if (text == NULL)
		fail(ports, message, "The workspace agent's answer is not understood.");
	else
	{
		h2o_iovec_t body = h2o_strdup(&ports->req->pool, text, SIZE_MAX);

		end_ports(ports);
		gw_reply_body(ports->req, 200, "application/json; charset=utf-8", body.base, body.len);
	}
	free(text);
}

static void
on_read(h2o_socket_t *sock, const char *err)
{
	Ports *ports = sock->data;

	proxy_response_feed(&ports->response, sock->input->bytes, sock->input->size);
	h2o_buffer_consume(&sock->input, sock->input->size);
	if (err != NULL)
		proxy_response_end(&ports->response);
	if (ports->response.state != PROXY_MORE || ports->too_long)
		answer(ports);
}

static void
on_written(h2o_socket_t *sock, const char *err)
{
	if (err != NULL)
		fail(sock->data, "Internal error dialing workspace agent.", err);
}

static void
on_dialled(void *arg, int fd)
{
	static const char request[] = "GET /api/v0/listening-ports HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n";
	Ports *ports = arg;
	h2o_iovec_t vec = h2o_iovec_init(request, sizeof(request) - 1);

	ports->dial = NULL;
	if (fd < 0)
	{
		fail(ports, "Internal error dialing workspace agent.", strerror(-fd));
		return;
	}
	ports->sock = h2o_evloop_socket_create(gw_loop_of(ports->req)->ctx.loop, fd, 0);
	ports->sock->data = ports;
	h2o_socket_read_start(ports->sock, on_read);
	h2o_socket_write(ports->sock, &vec, 1, on_written);
}

void
gw_stream_ports(h2o_req_t *req, json_t *plan)
{
	Ports *ports = h2o_mem_alloc_shared(&req->pool, sizeof(*ports), on_dispose);
	const char *id = json_string_value(json_object_get(plan, "agent_id"));
	uint8_t agent[16];

	memset(ports, 0, sizeof(*ports));
	ports->req = req;
	ports->hidden = json_incref(json_object_get(plan, "hidden"));
	proxy_response_init(&ports->response, false, on_body, ports);
	if (id == NULL || !stream_parse_uuid(agent, id))
	{
		fail(ports, "An internal server error occurred.", NULL);
		return;
	}
	gw_timer_start(&ports->limit, gw_loop_of(req), LIMIT_MS, on_limit, ports);
	ports->dial = gw_tunnel_dial(gw_loop_of(req), agent, HTTP_PORT, on_dialled, ports);
}
