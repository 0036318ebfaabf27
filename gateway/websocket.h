/*
 * websocket.h -- the server's side of WebSocket (RFC 6455) over h2o_http1_upgrade.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_WEBSOCKET_H
#define GATEWAY_WEBSOCKET_H

#include "gateway.h"

#define GW_WS_TEXT 1
#define GW_WS_BINARY 2

typedef struct GwWs GwWs;

typedef struct GwWsHandlers
{
	/* 101 is on its way; sending is allowed earlier too.  May be NULL. */
	void (*on_open)(GwWs *ws, void *arg);
	/* A whole message (fragments joined).  May be NULL: any message is refused with 1002. */
	void (*on_message)(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len);
	/* All that was queued has been handed to the kernel.  May be NULL. */
	void (*on_drain)(GwWs *ws, void *arg);
	/* Once, whoever closed; ws is gone afterwards.  Also when the client left before the 101. */
	void (*on_close)(GwWs *ws, void *arg, int code, const char *reason, size_t len);
} GwWsHandlers;

typedef struct GwWsOptions
{
	size_t max_message;	  /* from the client; 0: 1 MiB; more closes with 1009 */
	size_t max_queue;	  /* bytes not yet written; 0: 4 MiB; more closes with 1008 "slow consumer" */
	unsigned ping_ms;	  /* 0: 15 s; two unanswered pings close with 1001 */
	const char *protocol; /* Sec-WebSocket-Protocol of the answer, or NULL */
} GwWsOptions;

/* A browser sends Origin: a page of another site must not use this one's cookie. */
bool gw_ws_origin_ok(h2o_req_t *req);

/*
 * Upgrades the request, or answers it (400, 426) and returns NULL: then nothing
 * will be called back.  After success req must not be touched any more.
 * Callbacks never run inside this call.
 */
GwWs *gw_ws_upgrade(h2o_req_t *req, const GwWsOptions *options, const GwWsHandlers *handlers, void *arg);

/* Queues a message (copied).  False: the connection is closing or over its cap. */
bool gw_ws_send(GwWs *ws, int opcode, const void *data, size_t len);

/* Queued bytes, for back-pressure towards the source; on_drain tells when it is 0 again. */
size_t gw_ws_queued(const GwWs *ws);

/* Stops or resumes reading from the client. */
void gw_ws_pause(GwWs *ws, bool pause);

/* Sends what is queued and a close frame; on_close follows within 5 s. */
void gw_ws_close(GwWs *ws, int code, const char *reason);

/* The loop this connection lives on. */
GwLoop *gw_ws_loop(const GwWs *ws);

#endif
