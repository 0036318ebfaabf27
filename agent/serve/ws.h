/*
 * ws.h -- a request of the agent's HTTP API that becomes a WebSocket (RFC 6455).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_WS_H
#define AGENT_SERVE_WS_H

#include "serve/http.h"

typedef struct ServeWs ServeWs;

typedef struct ServeWsHandlers
{
	/* A whole message; the handler may close, but not otherwise end, the connection. */
	void (*message)(void *arg, const uint8_t *data, size_t size);
	/* It is over, and is freed after this. */
	void (*closed)(void *arg);
	/* What had to wait is sent; NULL: nobody asks. */
	void (*drained)(void *arg);
} ServeWsHandlers;

/* Answers 101, or says why not: then NULL.  The request is gone when its handler returns. */
ServeWs *serve_ws_upgrade(Request *request, const ServeWsHandlers *handlers, void *arg);

/* A text; dropped where the other end takes nothing any more: then the connection ends. */
void serve_ws_send(ServeWs *ws, const char *text, size_t size);

/* The same of bytes. */
void serve_ws_send_bytes(ServeWs *ws, const uint8_t *data, size_t size);

/* Bytes that wait to be sent. */
size_t serve_ws_unsent(const ServeWs *ws);

/* Ends it, with a reason, when all is sent. */
void serve_ws_close(ServeWs *ws, int code, const char *reason);

#endif
