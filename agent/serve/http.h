/*
 * http.h -- what the handlers of the agent's HTTP API share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_HTTP_H
#define AGENT_SERVE_HTTP_H

#include <jansson.h>

#include "run/agent.h"

typedef struct Request Request;

/* What a connection may ask for. */
typedef enum HttpScope
{
	HTTP_ALL,		/* through the tunnel, which knows who asks */
	HTTP_METRICS,	/* any path */
	HTTP_DEBUG		/* GET /debug/ */
} HttpScope;

/* Serves one request; gone is called at the end of the connection.  False when out of memory: the descriptor is still the caller's. */
bool http_serve_scope(Agent *agent, int fd, HttpScope scope, void (*gone)(void *arg), void *arg);

Agent *http_agent(const Request *request);

/* A parameter of the query, decoded; malloc'ed, NULL where there is none. */
char *http_query(const Request *request, const char *name);

/* The body, NUL-terminated. */
const char *http_body(const Request *request, size_t *len);

/* A header that processes are told apart by: Coder-Chat-Id, "" where there is none. */
const char *http_chat(const Request *request);

/* What came in Coder-Ancestor-Chat-Ids, a JSON array; "" where there is none. */
#define HTTP_MAX_ANCESTORS 512
const char *http_ancestors(const Request *request);

/* The key of a WebSocket's handshake; "" where the request is none. */
const char *http_ws_key(const Request *request);

/* Takes the connection over; early: what came behind the request, good until the handler returns.  See ws.h. */
int http_take(Request *request, const char **early, size_t *early_len);

/* Takes the reference. */
void http_reply_json(Request *request, int status, json_t *value);
void http_reply_message(Request *request, int status, const char *message);
void http_reply_error(Request *request, int status, const char *message, const char *detail);
/* Copies the bytes. */
void http_reply_bytes(Request *request, int status, const char *type, const char *data, size_t len);

/* The answer comes later, within ms: then http_resume sends it.  gone is called where it is not wanted any more. */
void http_wait(Request *request, int64_t ms, void (*gone)(void *arg), void *arg);
void http_resume(Request *request);

/* contextfiles.c */
void context_get(Request *request);

/* mcp.c */
void mcp_tools(Request *request);
void mcp_call_tool(Request *request);
/* The agent ends: so do the servers. */
void mcp_stop(void);

/* git.c */
void git_watch(Request *request);
/* A chat's tool has done something at this path: the repository that it is in is watched for that chat. */
void git_touched(Request *request, const char *path);
/* A command of a chat that began there has ended: the repositories may have changed. */
void git_changed(const char *chat, const char *path);

/* files.c */
void files_read(Request *request);
void files_list(Request *request);
void files_read_lines(Request *request);
void files_write(Request *request);
void files_edit(Request *request);

/* desktop.c, recording.c */
void desktop_vnc(Request *request);
void desktop_action(Request *request);
void recording_start(Request *request);
void recording_stop(Request *request);

/* processes.c: what is behind /api/v0/processes/ */
void processes_start(Request *request);
void processes_list(Request *request);
/* rest: "{id}/output" and the like; false where it is none of them. */
bool processes_one(Request *request, const char *method, const char *rest);
/* The agent ends: so do they. */
void processes_stop(void);

#endif
