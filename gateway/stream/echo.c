/*
 * echo.c -- GET /debug/ws: sends back what it is told, so that a client can see
 * whether WebSockets pass whatever stands between it and this server.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../websocket.h"
#include "stream.h"

#define MAX_MESSAGE 65536

static void
on_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	(void) arg;
	gw_ws_send(ws, opcode, data, len);
}

static void
on_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	(void) ws;
	(void) arg;
	(void) code;
	(void) reason;
	(void) len;
}

void
gw_stream_echo(h2o_req_t *req, json_t *plan)
{
	static const GwWsHandlers handlers = {.on_message = on_message, .on_close = on_close};
	static const GwWsOptions options = {.max_message = MAX_MESSAGE};

	(void) plan;
	gw_ws_upgrade(req, &options, &handlers, NULL);
}
