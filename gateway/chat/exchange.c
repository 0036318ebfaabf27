/*
 * exchange.c -- libcurl's side of a question to a model.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "awskey.h"
#include "exchange.h"
#include "gateway.h"

#define MAX_ERROR_BODY 65536
#define SETTLE_MS 1000 /* an answer has ended, but not its connection: who says nothing for so long says no more */
#define CONNECT_MS 10000L
#define BUFFER 4096L /* libcurl has one a transfer; pieces of an answer are smaller */
#define UPLOAD_BUFFER 16384L

long exchange_silence_s = 300;

void
exchange_stop(Exchange *x)
{
	if (x->easy != NULL)
	{
		curl_multi_remove_handle(x->multi, x->easy);
		curl_easy_cleanup(x->easy);
		x->easy = NULL;
	}
	curl_slist_free_all(x->headers);
	x->headers = NULL;
	provider_request_free(&x->request);
	free(x->error_body);
	x->error_body = NULL;
	x->error_len = 0;
	x->error_room = 0;
}

void
exchange_free(Exchange *x)
{
	exchange_stop(x);
	free(x->why);
	x->why = NULL;
	if (!x->stream_open)
		return;
	sse_free(&x->sse);
	eventstream_free(&x->frames);
	stream_free(&x->stream);
	x->stream_open = false;
}

/* The answer ------------------------------------------------------------------ */

static int64_t
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool
feed(Exchange *x, const char *data, size_t len)
{
	return x->format->is_eventstream ? eventstream_feed(&x->frames, data, len) : sse_feed(&x->sse, data, len);
}

/* What was asked is not needed while the answer comes: libcurl has sent it, and sends nothing again once there is an answer. */
static void
drop_question(Exchange *x)
{
	curl_off_t sent = 0;

	if (x->request.body == NULL || curl_easy_getinfo(x->easy, CURLINFO_SIZE_UPLOAD_T, &sent) != CURLE_OK ||
		sent < (curl_off_t) strlen(x->request.body))
		return;
	free(x->request.body);
	x->request.body = NULL;
}

/* Keeps what is no stream, up to most bytes. */
static bool
gather(Exchange *x, const char *data, size_t len, size_t most)
{
	if (x->error_len + len > most)
		return true;
	if (x->error_len + len + 1 > x->error_room)
	{
		size_t room = 2 * (x->error_len + len + 1);
		char *grown = realloc(x->error_body, room);

		if (grown == NULL)
			return false;
		x->error_body = grown;
		x->error_room = room;
	}
	memcpy(x->error_body + x->error_len, data, len);
	x->error_len += len;
	x->error_body[x->error_len] = '\0';
	return true;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	Exchange *x = arg;
	long status = 0;
	size_t len = size * n;

	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	x->last_came = monotonic_ms();
	drop_question(x);
	if (status == 200 && !x->is_whole)
		return feed(x, data, len) && !x->stream.too_long ? len : 0;
	return gather(x, data, len, status == 200 ? STREAM_MAX_TEXT : MAX_ERROR_BODY) ? len : 0;
}

/* Called once a second: an answer that has ended is not waited with for its connection to end. */
static int
on_progress(void *arg, curl_off_t to_come, curl_off_t came, curl_off_t to_go, curl_off_t went)
{
	const Exchange *x = arg;

	(void) to_come;
	(void) came;
	(void) to_go;
	(void) went;
	return x->stream.end != STREAM_OPEN && monotonic_ms() - x->last_came > SETTLE_MS;
}

static bool
has_type(const char *line, const char *type)
{
	line += strspn(line, " \t");
	return strncasecmp(line, type, strlen(type)) == 0;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	Exchange *x = arg;
	char line[128];
	int64_t wait;

	snprintf(line, sizeof(line), "%.*s", size * n < sizeof(line) ? (int) (size * n) : (int) sizeof(line) - 1, data);
	if (strncasecmp(line, "content-type:", 13) == 0)
		x->is_whole = has_type(line + 13, "application/json") || has_type(line + 13, "text/html");
	wait = failure_retry_after_ms(line, time(NULL));
	/* The one in milliseconds is more exact. */
	if (wait > 0 && (x->retry_after_ms == 0 || strncasecmp(line, "retry-after-ms", 14) == 0))
		x->retry_after_ms = wait;
	return size * n;
}

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	Exchange *x = arg;
	json_t *root;

	/* The last event may be cut off, which says nothing against what came before it. */
	if (x->is_over && strncmp(data, "[DONE]", 6) != 0)
	{
		root = json_loadb(data, len, 0, NULL);
		json_decref(root);
		if (root == NULL)
			return;
	}
	x->format->event(&x->stream, name, data, len);
}

/* An answer that is one text, though a stream was asked for: what a stream would say at once, events in an array, or an error. */
static void
take_whole(Exchange *x)
{
	json_t *root = json_loadb(x->error_body != NULL ? x->error_body : "", x->error_len, 0, NULL);
	size_t n = json_is_array(root) ? json_array_size(root) : 1;

	for (size_t i = 0; root != NULL && i < n; i++)
	{
		json_t *event = json_is_array(root) ? json_array_get(root, i) : root;
		char *text = json_dumps(event, JSON_COMPACT);

		if (text != NULL)
			x->format->event(&x->stream, "", text, strlen(text));
		free(text);
	}
	if (x->stream.end == STREAM_OPEN && x->stream.error == NULL)
		provider_fail(&x->stream, root);
	json_decref(root);
}

/* No more of an answer that was accepted comes: what there is, is taken. */
static void
take_rest(Exchange *x, CURLcode code)
{
	x->is_over = true;
	if (x->is_whole && code == CURLE_OK)
		take_whole(x);
	else if (code == CURLE_OK && !x->format->is_eventstream)
		sse_end(&x->sse);
}

/* Did the answer break off, or not begin, for what may go well another time? */
static bool
is_cut(CURLcode code)
{
	static const CURLcode codes[] = {CURLE_OK, CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING, CURLE_HTTP2,
									 CURLE_HTTP2_STREAM, CURLE_SSL_CONNECT_ERROR, CURLE_BAD_CONTENT_ENCODING};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (code == codes[i])
			return true;
	return false;
}

static Failure
transfer_failure(Exchange *x, CURLcode code, long status)
{
	char *text;
	Failure failure;

	if (status != 0 && status != 200)
	{
		text = provider_error_text(x->error_body != NULL ? x->error_body : "", x->error_len);
		failure = failure_of((int) status, text);
		free(x->why);
		x->why = text;
		return failure;
	}
	if (x->stream.error != NULL)
	{
		free(x->why);
		x->why = strdup(x->stream.error);
		return failure_of(x->stream.error_status, x->stream.error);
	}
	if (x->stream.too_long || x->sse.broken || x->frames.broken)
		return (Failure){FAILURE_GENERIC, false, 0};
	/* Whatever it is that speaks there, it is no model. */
	if (x->is_whole && code == CURLE_OK)
	{
		free(x->why);
		x->why = strndup(x->error_body != NULL ? x->error_body : "", 512);
		return (Failure){FAILURE_CONFIG, false, 0};
	}
	if (code == CURLE_OPERATION_TIMEDOUT)
		return failure_of(0, "timeout");
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return failure_of(0, "connection refused");
	if (is_cut(code))
		return failure_of(0, "eof");
	return failure_of(0, curl_easy_strerror(code));
}

static void
on_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	Exchange *x = (Exchange *) transfer;
	long status = 0;
	Failure failure;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200)
		take_rest(x, code);
	/* How the connection ends behind an answer that has ended does not matter. */
	if (status != 200 || x->stream.error != NULL || x->stream.end == STREAM_OPEN || x->stream.too_long || x->sse.broken || x->frames.broken)
	{
		failure = transfer_failure(x, code, status);
		exchange_stop(x);
		x->done(x->arg, &failure);
		return;
	}
	exchange_stop(x);
	x->done(x->arg, NULL);
}

/* The request ----------------------------------------------------------------- */

/* Calls without a result would be refused: each gets one that says so. */
static json_t *
complete_history(const json_t *history)
{
	json_t *out = json_array();
	json_t *open = json_object();
	size_t i;
	size_t j;
	json_t *m;
	json_t *part;
	const char *id;
	json_t *name;

	for (i = 0; i <= json_array_size(history); i++)
	{
		const char *role;

		m = json_array_get(history, i);
		role = json_string_value(json_object_get(m, "role"));
		if (role == NULL || strcmp(role, "tool") != 0)
		{
			json_object_foreach(open, id, name)
			{
				json_array_append_new(out, json_pack("{s:s, s:[{s:s, s:s, s:O, s:{s:s}}]}", "role", "tool", "content", "type", "tool-result",
													 "tool_call_id", id, "tool_name", name, "result", "error",
													 "tool call was interrupted before it produced a result"));
			}
			json_object_clear(open);
		}
		if (m == NULL)
			break;
		json_array_append(out, m);
		json_array_foreach(json_object_get(m, "content"), j, part)
		{
			const char *type = json_string_value(json_object_get(part, "type"));
			const char *call = json_string_value(json_object_get(part, "tool_call_id"));

			if (type == NULL || call == NULL || json_is_true(json_object_get(part, "provider_executed")))
				continue;
			if (strcmp(type, "tool-call") == 0)
				json_object_set(open, call, json_object_get(part, "tool_name"));
			else if (strcmp(type, "tool-result") == 0)
				json_object_del(open, call);
		}
	}
	json_decref(open);
	return out;
}

/* Leaves out of history, which was completed, what the provider still knows; its id of the answer that it knows it by. */
static const char *
go_on(Exchange *x, const ExchangeAsk *ask, json_t **history)
{
	const json_t *model = ask->grant->model;
	const char *previous;
	json_t *rest;
	size_t from;

	x->chained = false;
	x->context[0] = '\0';
	if (!provider_keeps_answers(json_string_value(json_object_get(model, "provider")), grant_model_name(ask->grant), json_object_get(model, "options")))
		return NULL;
	chain_context(*history, x->context);
	previous = ask->chain ? chain_find(*history, json_string_value(json_object_get(model, "id")), x->context, &from) : NULL;
	if (previous == NULL)
		return NULL;
	rest = json_array();
	for (; from < json_array_size(*history); from++)
		json_array_append(rest, json_array_get(*history, from));
	json_decref(*history);
	*history = rest;
	x->chained = true;
	return previous;
}

json_t *
exchange_content(const Exchange *x)
{
	json_t *content = stream_content(&x->stream);

	if (exchange_answer_id(x) != NULL && x->context[0] != '\0')
		chain_mark(content, x->context);
	return content;
}

const char *
exchange_answer_id(const Exchange *x)
{
	return x->stream.end != STREAM_OPEN ? x->stream.response_id : NULL;
}

static void
add_line(Exchange *x, const char *line)
{
	struct curl_slist *grown = curl_slist_append(x->headers, line);

	if (grown != NULL)
		x->headers = grown;
}

static void
add_header(Exchange *x, const char *name, const char *value)
{
	char line[512];

	if (value == NULL)
		return;
	snprintf(line, sizeof(line), "%s: %s", name, value);
	add_line(x, line);
}

static void
add_headers(Exchange *x, const json_t *chat)
{
	const char *id = json_string_value(json_object_get(chat, "id"));
	const char *parent = json_string_value(json_object_get(chat, "parent_chat_id"));

	for (int i = 0; i < x->request.n_headers; i++)
		add_line(x, x->request.headers[i]);
	add_header(x, "Content-Type", "application/json");
	add_header(x, "Accept", x->format->is_eventstream ? "application/vnd.amazon.eventstream" : "text/event-stream");
	add_header(x, "Expect", "");
	add_header(x, "X-Coder-Owner-Id", json_string_value(json_object_get(chat, "owner_id")));
	add_header(x, "X-Coder-Chat-Id", parent != NULL ? parent : id);
	add_header(x, "X-Coder-Subchat-Id", parent != NULL ? id : NULL);
	add_header(x, "X-Coder-Workspace-Id", json_string_value(json_object_get(chat, "workspace_id")));
}

static bool
open_transfer(Exchange *x, CURLM *multi, const char *ca_file, const ExchangeAsk *ask)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		return false;
	x->easy = easy;
	add_headers(x, ask->chat);
	curl_easy_setopt(easy, CURLOPT_URL, x->request.url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, x->request.body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(x->request.body));
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "coder-agents/" GW_VERSION " (linux/amd64)");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ask->limit_ms);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, x);
	/* Compressed words would come late; who compresses all the same is understood. */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "identity");
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, exchange_silence_s);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, &x->transfer);
	if (ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	return curl_multi_add_handle(multi, easy) == CURLM_OK;
}

bool
exchange_begin(Exchange *x, CURLM *multi, const char *ca_file, const ExchangeAsk *ask, StreamPart part, ExchangeDone done, void *arg,
			   const char **error)
{
	const Grant *grant = ask->grant;
	ProviderAsk wanted = {0};
	json_t *history;
	bool ok;

	wanted.provider = json_string_value(json_object_get(grant->provider, "provider"));
	wanted.model = grant_model_name(grant);
	wanted.base_url = json_string_value(json_object_get(grant->provider, "base_url"));
	wanted.api_key = grant->api_key;
	wanted.options = json_object_get(grant->model, "options");
	wanted.tools = ask->tools;
	wanted.tool_choice = ask->tool_choice;
	wanted.as_json = ask->as_json;
	wanted.no_calls = ask->no_calls;
	wanted.max_output = ask->max_output;
	if (grant->ambient && awskey_now() != NULL)
		wanted.api_key = awskey_now();
	if (strcmp(wanted.provider, "bedrock") == 0)
	{
		wanted.region = awskey_region();
		if (*wanted.base_url == '\0' && getenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME") != NULL)
			wanted.base_url = getenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME");
	}
	wanted.now = time(NULL);
	x->format = provider_format(wanted.provider, wanted.model);
	x->transfer.done = on_done;
	x->multi = multi;
	x->done = done;
	x->arg = arg;
	x->retry_after_ms = 0;
	x->is_whole = false;
	x->is_over = false;
	x->last_came = 0;
	*error = "This provider cannot be used yet.";
	if (x->format == NULL)
		return false;
	history = complete_history(ask->history);
	wanted.previous = go_on(x, ask, &history);
	wanted.history = history;
	ok = x->format->request(&wanted, &x->request, error);
	json_decref(history);
	if (!ok)
		return false;
	*error = "The request cannot be sent.";
	sse_init(&x->sse, on_event, x);
	eventstream_init(&x->frames, on_event, x);
	stream_init(&x->stream, part, arg);
	x->stream_open = true;
	return open_transfer(x, multi, ca_file, ask);
}
