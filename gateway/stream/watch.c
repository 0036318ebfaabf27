/*
 * watch.c -- streams that repeat a route's function: SSE and one-way WebSocket.
 *
 * A watch holds the arguments of its request.  An event of one of its channels
 * makes it call the function again with its last cursor, one call at a time:
 * events during a call lead to one more call.  A forwarding watch sends the
 * events' payloads instead, and calls only to see that its user may still watch.
 * One with a tail sends pieces that come with their events while nothing is
 * missing between (tail.h), and calls in any other case.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../api.h"
#include "../event.h"
#include "../reply.h"
#include "../websocket.h"
#include "tail.h"

#define MAX_CHANNELS 64
#define MAX_QUEUE (4 * 1024 * 1024)
#define PING_MS 15000
#define RECHECK_MS 30000 /* of a forwarding watch's rights */
#define TAIL_RECHECK_MS 10000 /* of the rights of one that gets its pieces without a call */
#define RETRY_MS 1000	 /* after the database was away */

typedef enum WatchFormat
{
	WATCH_SSE,
	WATCH_WS,
	WATCH_WSJSON,
	WATCH_WSBINARY
} WatchFormat;

typedef struct Watch
{
	GwLoop *loop;
	WatchFormat format;
	GwHandleArgs args; /* copies, in one block */
	char *block;
	char *cursor;
	char *sent_cursor; /* with the tail */
	GwSubscription *subs[MAX_CHANNELS];
	char *channels[MAX_CHANNELS];
	int n_subs;
	bool forward;
	Tail tail;
	bool due;	  /* a call will be made, for something that has happened */
	bool recheck; /* one will be made in any case */
	bool dirty;	  /* an event came during a call */
	bool closing; /* after what is queued */
	bool refused; /* by the function, and not for what it does not read */
	GwQuery *query;
	GwTimer again;
	GwWs *ws;

	/* SSE */
	h2o_generator_t generator;
	h2o_req_t *req;
	GwStream stream;
	GwTimer ping;
	char *out; /* being written */
	char *next;
	size_t next_len;
	size_t next_cap;
	bool sending;
	bool ended;
} Watch;

static void call_again(void *arg);

/* Ending --------------------------------------------------------------------- */

static void
watch_free(Watch *watch)
{
	gw_timer_stop(&watch->again);
	gw_timer_stop(&watch->ping);
	gw_stream_remove(&watch->stream);
	if (watch->query != NULL)
		gw_db_detach(watch->query);
	for (int i = 0; i < watch->n_subs; i++)
	{
		gw_event_unsubscribe(watch->subs[i]);
		free(watch->channels[i]);
	}
	tail_drop_kept(&watch->tail);
	free(watch->block);
	free(watch->cursor);
	free(watch->sent_cursor);
	free(watch->out);
	free(watch->next);
	free(watch);
}

static void sse_flush(Watch *watch);

/* No more calls and events; ends when what is queued is out. */
static void
watch_close(Watch *watch, int code, const char *reason)
{
	if (watch->closing)
		return;
	watch->closing = true;
	gw_timer_stop(&watch->again);
	if (watch->query != NULL)
		gw_db_detach(watch->query);
	watch->query = NULL;
	if (watch->ws != NULL)
		gw_ws_close(watch->ws, code, reason);
	else
		sse_flush(watch);
}

/* SSE ------------------------------------------------------------------------ */

static void
sse_flush(Watch *watch)
{
	h2o_iovec_t buf;

	if (watch->sending || watch->ended || watch->req == NULL)
		return;
	if (watch->next_len == 0 && !watch->closing)
		return;
	free(watch->out);
	watch->out = watch->next;
	buf = h2o_iovec_init(watch->out, watch->next_len);
	watch->next = NULL;
	watch->next_len = watch->next_cap = 0;
	watch->sending = true;
	watch->ended = watch->closing;
	h2o_send(watch->req, &buf, buf.len > 0, watch->closing ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void
sse_add(Watch *watch, const char *text, size_t len)
{
	if (watch->next_len + len > watch->next_cap)
	{
		watch->next_cap = (watch->next_len + len) * 2;
		watch->next = realloc(watch->next, watch->next_cap);
		if (watch->next == NULL)
			h2o_fatal("out of memory");
	}
	memcpy(watch->next + watch->next_len, text, len);
	watch->next_len += len;
}

static void
sse_event(Watch *watch, const char *type, const char *data, size_t len)
{
	if (watch->closing)
		return;
	if (watch->next_len + len > MAX_QUEUE)
	{
		/* It does not read, so the reason can only be logged; h2o sees the end of the socket. */
		gw_log(GW_INFO, "a watcher is cut off: it does not read its events");
		shutdown(h2o_socket_get_fd(watch->req->conn->callbacks->get_socket(watch->req->conn)), SHUT_RDWR);
		watch->closing = true;
		return;
	}
	sse_add(watch, "event: ", 7);
	sse_add(watch, type, strlen(type));
	if (len > 0)
	{
		sse_add(watch, "\ndata: ", 7);
		sse_add(watch, data, len);
	}
	sse_add(watch, "\n\n", 2);
}

static void
on_sse_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
	Watch *watch = H2O_STRUCT_FROM_MEMBER(Watch, generator, generator);

	(void) req;
	watch->sending = false;
	sse_flush(watch);
}

static void
on_sse_ping(void *arg)
{
	Watch *watch = arg;

	sse_event(watch, "ping", NULL, 0);
	sse_flush(watch);
	gw_timer_start(&watch->ping, watch->loop, PING_MS, on_sse_ping, watch);
}

static void
on_sse_stop(GwStream *stream)
{
	watch_close(H2O_STRUCT_FROM_MEMBER(Watch, stream, stream), 1001, "the server is stopping");
}

/* The request is over, however it came about. */
static void
on_sse_dispose(void *arg)
{
	watch_free(*(Watch **) arg);
}

static void
sse_start(Watch *watch, h2o_req_t *req)
{
	Watch **slot = h2o_mem_alloc_shared(&req->pool, sizeof(*slot), on_sse_dispose);

	*slot = watch;
	watch->req = req;
	watch->generator.proceed = on_sse_proceed;
	req->res.status = 200;
	req->res.reason = "OK";
	req->http1_is_persistent = 0;
	gw_add_header(req, "content-type", H2O_STRLIT("text/event-stream"));
	gw_add_header(req, "cache-control", H2O_STRLIT("no-cache"));
	gw_add_header(req, "x-accel-buffering", H2O_STRLIT("no"));
	gw_stream_add(watch->loop, &watch->stream, on_sse_stop);
	h2o_start_response(req, &watch->generator);
	gw_timer_start(&watch->ping, watch->loop, PING_MS, on_sse_ping, watch);
}

/* Frames --------------------------------------------------------------------- */

static void
send_frame(Watch *watch, const char *json, size_t len)
{
	bool taken = true;
	char *text;

	if (watch->closing)
		return;
	switch (watch->format)
	{
		case WATCH_SSE:
			sse_event(watch, "data", json, len);
			break;
		case WATCH_WS:
			text = malloc(len + 32);
			if (text == NULL)
				h2o_fatal("out of memory");
			memcpy(text, "{\"type\":\"data\",\"data\":", 22);
			memcpy(text + 22, json, len);
			text[22 + len] = '}';
			taken = gw_ws_send(watch->ws, GW_WS_TEXT, text, len + 23);
			free(text);
			break;
		case WATCH_WSJSON:
			taken = gw_ws_send(watch->ws, GW_WS_TEXT, json, len);
			break;
		case WATCH_WSBINARY:
			taken = gw_ws_send(watch->ws, GW_WS_BINARY, json, len);
			break;
	}
	/* The connection is closing, slowly if need be: nothing is asked for it any more. */
	if (!taken)
		watch_close(watch, 1008, "");
}

/* The function is called again, for something that has happened. */
static void
call_in(Watch *watch, uint64_t ms)
{
	watch->due = true;
	gw_timer_start(&watch->again, watch->loop, ms, call_again, watch);
}

/* Sends a piece where it is what follows.  False: the function must be called, which knows more. */
static bool
follow(Watch *watch, const TailPiece *piece)
{
	TailStep step = tail_step(&watch->tail, piece);

	if (step != TAIL_NEXT)
		return step == TAIL_HAD;
	watch->tail.at = piece->last;
	send_frame(watch, piece->frame, piece->len);
	if (!watch->recheck && !watch->closing)
		gw_timer_start(&watch->again, watch->loop, TAIL_RECHECK_MS, call_again, watch);
	watch->recheck = true;
	return true;
}

/* What came during a call, behind what it answered. */
static void
follow_kept(Watch *watch)
{
	TailPiece piece;

	for (int i = 0; i < watch->tail.n_kept && !watch->closing; i++)
		if (!tail_parse(watch->tail.kept[i], watch->tail.kept_len[i], &piece) || !follow(watch, &piece))
			watch->dirty = true;
	tail_drop_kept(&watch->tail);
}

static void
forward(Watch *watch, const char *payload, size_t len)
{
	if (payload == NULL)
		watch_close(watch, 1012, "events may have been missed: connect again");
	else
		send_frame(watch, payload, len);
	if (watch->format == WATCH_SSE)
		sse_flush(watch);
}

/* A call that will be made, or made once more, finds what this event tells: it is committed. */
static void
on_event(void *arg, int64_t number, const char *payload, size_t len)
{
	Watch *watch = arg;
	TailPiece piece;
	bool is_piece = payload != NULL && watch->tail.at >= 0 && tail_parse(payload, len, &piece);

	(void) number;
	if (watch->closing)
		return;
	if (watch->forward)
		forward(watch, payload, len);
	else if (watch->due || watch->dirty)
		return;
	else if (watch->query != NULL)
		watch->dirty = !is_piece || !tail_keep(&watch->tail, payload, len);
	else if (!is_piece || !follow(watch, &piece))
		call_in(watch, 0);
	else if (watch->format == WATCH_SSE)
		sse_flush(watch);
}

static void
subscribe(Watch *watch, json_t *channels, int64_t position)
{
	size_t i;
	json_t *channel;

	json_array_foreach(channels, i, channel)
	{
		const char *name = json_string_value(channel);
		bool known = name == NULL;

		for (int k = 0; k < watch->n_subs && !known; k++)
			known = strcmp(watch->channels[k], name) == 0;
		if (known || watch->n_subs == MAX_CHANNELS)
			continue;
		watch->channels[watch->n_subs] = strdup(name);
		watch->subs[watch->n_subs++] = gw_event_subscribe_from(watch->loop, name, position, on_event, watch);
	}
}

/* What a call has answered.  first: a forwarding watch sends frames only then. */
static void
take_plan(Watch *watch, json_t *plan, int64_t position, bool first)
{
	const char *cursor = json_string_value(json_object_get(plan, "cursor"));
	json_int_t retry = json_integer_value(json_object_get(plan, "retry_ms"));
	size_t i;
	json_t *frame;

	json_array_foreach(json_object_get(plan, "frames"), i, frame)
	{
		char *text = first || !watch->forward ? json_dumps(frame, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

		if (text != NULL)
			send_frame(watch, text, strlen(text));
		free(text);
	}
	if (cursor != NULL)
	{
		free(watch->cursor);
		watch->cursor = strdup(cursor);
	}
	if (json_is_integer(json_object_get(plan, "tail")))
		watch->tail.at = json_integer_value(json_object_get(plan, "tail"));
	if (json_is_true(json_object_get(plan, "close")))
	{
		watch_close(watch, 1000, "");
		return;
	}
	subscribe(watch, json_object_get(plan, "channels"), position);
	follow_kept(watch);
	if (watch->dirty)
		call_in(watch, 0);
	else if (retry > 0)
	{
		watch->recheck = true;
		gw_timer_start(&watch->again, watch->loop, (uint64_t) retry, call_again, watch);
	}
	else if (watch->forward)
		gw_timer_start(&watch->again, watch->loop, RECHECK_MS, call_again, watch);
	if (watch->format == WATCH_SSE)
		sse_flush(watch);
}

/* The function refuses now: tell why, and end. */
static void
refuse(Watch *watch, int status, const char *message)
{
	json_t *error = json_pack("{s:s}", "message", message);
	char *text = json_dumps(error, JSON_COMPACT);
	char reason[123];

	watch->refused = true;
	snprintf(reason, sizeof(reason), "%d: %s", status, message);
	if (watch->format == WATCH_SSE && text != NULL)
		sse_event(watch, "error", text, strlen(text));
	else if (watch->format == WATCH_WS && text != NULL)
	{
		json_t *frame = json_pack("{s:s,s:O}", "type", "error", "data", error);
		char *line = json_dumps(frame, JSON_COMPACT);

		gw_ws_send(watch->ws, GW_WS_TEXT, line, strlen(line));
		free(line);
		json_decref(frame);
	}
	free(text);
	json_decref(error);
	watch_close(watch, 1008, reason);
}

static void
on_answer(void *arg, GwDbStatus status, PGresult *result)
{
	Watch *watch = arg;
	json_error_t json_error;
	json_t *plan = NULL;
	GwAnswer answer;
	GwError error;

	watch->query = NULL;
	if (status == GW_DB_LOST || status == GW_DB_UNSENT)
		call_in(watch, RETRY_MS);
	else if (status == GW_DB_FAILED)
	{
		gw_error_of_sqlstate(&error, PQresultErrorField(result, PG_DIAG_SQLSTATE),
							 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY), NULL, NULL);
		if (error.status == 503 || error.status == 504)
			call_in(watch, RETRY_MS);
		else
			refuse(watch, error.status, error.message);
	}
	else if (PQntuples(result) != 1 ||
			 !gw_answer_parse(&answer, PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0)))
		refuse(watch, 500, "An internal server error occurred.");
	else if (answer.status != 101)
	{
		json_t *body = json_loadb(answer.body, answer.body_len, 0, &json_error);
		const char *message = json_string_value(json_object_get(body, "message"));

		refuse(watch, answer.status, message != NULL ? message : gw_reason(answer.status));
		json_decref(body);
	}
	else if ((plan = json_loadb(answer.body, answer.body_len, 0, &json_error)) != NULL)
		take_plan(watch, plan, gw_event_position(watch->loop), false);
	json_decref(plan);
	PQclear(result);
}

/* The cursor of the call: the plan's, and how far the tail is. */
static void
set_cursor(Watch *watch)
{
	const char *cursor = watch->cursor != NULL ? watch->cursor : "";

	if (watch->tail.at >= 0)
	{
		free(watch->sent_cursor);
		if (asprintf(&watch->sent_cursor, "%s|%lld", cursor, (long long) watch->tail.at) < 0)
			h2o_fatal("out of memory");
		cursor = watch->sent_cursor;
	}
	watch->args.values[GW_ARG_CURSOR] = cursor;
	watch->args.lengths[GW_ARG_CURSOR] = (int) strlen(cursor);
}

static void
call_again(void *arg)
{
	Watch *watch = arg;

	if (watch->closing || watch->query != NULL)
		return;
	watch->dirty = watch->due = watch->recheck = false;
	tail_drop_kept(&watch->tail);
	set_cursor(watch);
	watch->query = gw_handle_send(watch->loop, &watch->args, on_answer, watch);
}

/* Opening -------------------------------------------------------------------- */

static void
on_ws_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	Watch *watch = arg;

	(void) ws;
	(void) reason;
	(void) len;
	if (code == 1008 && !watch->refused)
		gw_log(GW_INFO, "a watcher is cut off: it does not read its events");
	watch_free(watch);
}

static void
copy_args(Watch *watch, const GwHandleArgs *args)
{
	size_t total = 1;
	char *p;

	for (int i = 0; i < GW_HANDLE_ARGS; i++)
		total += args->values[i] != NULL ? (size_t) args->lengths[i] + 1 : 0;
	watch->args = *args;
	watch->args.read_only = true;
	p = watch->block = h2o_mem_alloc(total);
	for (int i = 0; i < GW_HANDLE_ARGS; i++)
	{
		if (args->values[i] == NULL)
			continue;
		memcpy(p, args->values[i], (size_t) args->lengths[i]);
		watch->args.values[i] = p;
		p += args->lengths[i];
		*p++ = '\0';
	}
}

void
gw_watch_open(GwRequest *request, const GwHandleArgs *args, json_t *plan, int64_t position)
{
	static const char *const names[] = {"sse", "ws", "wsjson", "wsbinary"};
	static const GwWsHandlers handlers = {NULL, NULL, NULL, on_ws_close};
	static const GwWsOptions options = {.max_message = 4096, .max_queue = MAX_QUEUE, .ping_ms = PING_MS};
	const char *format = json_string_value(json_object_get(plan, "format"));
	Watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		h2o_fatal("out of memory");
	for (int i = 0; i < 4; i++)
		if (strcmp(format, names[i]) == 0)
			watch->format = (WatchFormat) i;
	watch->loop = request->loop;
	watch->tail.at = -1;
	watch->forward = json_is_true(json_object_get(plan, "forward"));
	copy_args(watch, args);
	if (watch->format == WATCH_SSE)
		sse_start(watch, request->req);
	else
	{
		watch->ws = gw_ws_upgrade(request->req, &options, &handlers, watch);
		if (watch->ws == NULL)
		{
			watch_free(watch);
			return;
		}
	}
	take_plan(watch, plan, position, true);
}
