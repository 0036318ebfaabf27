/*
 * api.h -- coder.handle(): its arguments and its answer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_API_H
#define GATEWAY_API_H

#include "db.h"
#include "request.h"

#define GW_HANDLE_ARGS 11
#define GW_ARG_CURSOR 10
#define GW_ARG_PARAMS 3
#define GW_ARG_HEADERS 5
#define GW_ARG_BODY 6

/* The statement's arguments, binary; what they point to is somebody else's. */
typedef struct GwHandleArgs
{
	const char *values[GW_HANDLE_ARGS];
	int lengths[GW_HANDLE_ARGS];
	int route;
	bool slow;
	bool read_only;
} GwHandleArgs;

/* The parts of an answer, in the answer's memory. */
typedef struct GwAnswer
{
	int status;
	const char *headers;
	size_t headers_len;
	const char *body;
	size_t body_len;
} GwAnswer;

GwQuery *gw_handle_send(GwLoop *loop, const GwHandleArgs *args, GwDbCallback cb, void *arg);

/* False: not what coder.handle() answers. */
bool gw_answer_parse(GwAnswer *answer, const char *bytes, size_t len);

/* Once a second: calls whose client has left end. */
void gw_api_sweep(GwLoop *loop);

/* stream/watch.c: formats sse, ws, wsjson, wsbinary.  position: of the events before the call. */
void gw_watch_open(GwRequest *request, const GwHandleArgs *args, json_t *plan, int64_t position);

#endif
