/*
 * mcphttp.c -- the requests of HTTP that carry messages of MCP.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway.h"
#include "mcpset.h"

#define CONNECT_MS 10000L
#define MAX_ANSWER ((size_t) 8 << 20)
#define MAX_STREAM ((size_t) 64 << 20)
#define MAX_INBOX 1000

static McpPost *loose; /* posts that nobody waits for */

static void
post_unlink(McpPost *post)
{
	*post->link = post->next;
	if (post->next != NULL)
		post->next->link = post->link;
}

static void
post_link(McpPost *post, McpPost **list)
{
	post->next = *list;
	post->link = list;
	if (*list != NULL)
		(*list)->link = &post->next;
	*list = post;
}

/* Not while libcurl calls back. */
void
mcp_post_free(McpPost *post)
{
	post_unlink(post);
	if (post->call != NULL)
		post->call->post = NULL;
	if (post->server != NULL && post->server->stream == post)
		post->server->stream = NULL;
	if (post->easy != NULL)
	{
		curl_multi_remove_handle(turn_env.multi, post->easy);
		curl_easy_cleanup(post->easy);
	}
	curl_slist_free_all(post->headers);
	sse_free(&post->sse);
	free(post->body);
	free(post->answer);
	free(post);
}

void
mcp_take_text(McpServer *server, const char *text, size_t len)
{
	json_t *value = server != NULL && json_array_size(server->inbox) < MAX_INBOX ? json_loadb(text, len, 0, NULL) : NULL;

	if (value != NULL)
		json_array_append_new(server->inbox, value);
}

/* Is it the answer of what this post carries? */
static bool
answers(const McpPost *post, const json_t *value)
{
	McpMessage message;

	return post->call != NULL && mcp_message(&message, value) && message.kind == MCP_RESPONSE && mcp_message_for(&message) == post->call->id;
}

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	McpPost *post = arg;
	McpServer *server = post->server;

	if (server == NULL || post->answered)
		return;
	if (post->is_stream && strcmp(name, "endpoint") == 0)
	{
		if (server->endpoint == NULL)
			server->endpoint = mcp_endpoint(server->url, data);
		if (server->endpoint == NULL)
			snprintf(server->why, sizeof(server->why), "it names an address elsewhere");
		return;
	}
	if (*name != '\0' && strcmp(name, "message") != 0)
		return;
	mcp_take_text(server, data, len);
	post->answered = answers(post, json_array_get(server->inbox, json_array_size(server->inbox) - 1));
}

static bool
keep_answer(McpPost *post, const char *data, size_t len)
{
	char *grown = len <= MAX_ANSWER - post->len ? realloc(post->answer, post->len + len + 1) : NULL;

	if (grown == NULL)
		return false;
	post->answer = grown;
	memcpy(grown + post->len, data, len);
	post->len += len;
	grown[post->len] = '\0';
	return true;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	McpPost *post = arg;
	size_t len = size * n;
	long status = 0;
	char *type = NULL;

	if (!post->typed)
	{
		curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(post->easy, CURLINFO_CONTENT_TYPE, &type);
		post->is_events = status == 200 && type != NULL && strncasecmp(type, "text/event-stream", 17) == 0;
		post->typed = true;
	}
	post->all += len;
	if (!post->is_events)
		return keep_answer(post, data, len) ? len : 0;
	if (post->all > MAX_STREAM || !sse_feed(&post->sse, data, len))
		return 0;
	/* Nothing more is wanted of a stream that has said what it was opened for. */
	return post->answered && !post->is_stream ? 0 : len;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	static const char name[] = "mcp-session-id:";
	McpPost *post = arg;
	size_t len = size * n;
	const char *value = data + sizeof(name) - 1;

	if (post->server == NULL || post->call == NULL || post->call->step != MCP_STEP_INITIALIZE || len < sizeof(name) + 2 || len > 1024 ||
		strncasecmp(data, name, sizeof(name) - 1) != 0)
		return len;
	len -= sizeof(name) - 1;
	while (len > 0 && (unsigned char) value[len - 1] <= ' ')
		len--;
	while (len > 0 && *value == ' ')
	{
		value++;
		len--;
	}
	free(post->server->session);
	post->server->session = len > 0 ? strndup(value, len) : NULL;
	return size * n;
}

static void
add_header(McpPost *post, const char *name, const char *value)
{
	char *line = NULL;
	struct curl_slist *grown;

	/* Nothing of a configuration or an answer begins another header. */
	if (value == NULL || strpbrk(name, "\r\n:") != NULL || strpbrk(value, "\r\n") != NULL || asprintf(&line, "%s: %s", name, value) < 0)
		return;
	grown = curl_slist_append(post->headers, line);
	if (grown != NULL)
		post->headers = grown;
	free(line);
}

static void
add_headers(McpPost *post, const McpServer *server)
{
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(server->config, "headers"), name, value)
	{
		if (strcasecmp(name, "content-length") != 0 && strcasecmp(name, "transfer-encoding") != 0)
			add_header(post, name, json_string_value(value));
	}
	add_header(post, "Authorization", server->authorization);
	add_header(post, "Accept", post->is_stream ? "text/event-stream" : "application/json, text/event-stream");
	add_header(post, "Mcp-Session-Id", server->session);
	add_header(post, "MCP-Protocol-Version", server->version[0] != '\0' ? server->version : NULL);
	add_header(post, "Expect", "");
	if (post->body != NULL)
		add_header(post, "Content-Type", "application/json");
}

/* body: taken over; NULL for a GET.  method: NULL for those two.  NULL: out of memory. */
McpPost *
mcp_post_begin(McpServer *server, const char *url, const char *method, char *body, bool is_stream, long limit_ms)
{
	McpPost *post = calloc(1, sizeof(*post));
	CURL *easy = post != NULL ? curl_easy_init() : NULL;

	if (easy == NULL)
	{
		free(body);
		free(post);
		return NULL;
	}
	post->transfer.done = mcp_post_done;
	post->server = server;
	post->easy = easy;
	post->body = body;
	post->is_stream = is_stream;
	sse_init(&post->sse, on_event, post);
	post_link(post, &server->set->posts);
	add_headers(post, server);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	if (body != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(body));
	}
	if (method != NULL)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "coder-agents/" GW_VERSION " (linux/amd64)");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, limit_ms);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, post);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, &post->transfer);
	if (turn_env.ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, turn_env.ca_file);
	curl_multi_add_handle(turn_env.multi, easy);
	return post;
}

/* Goes on by itself, whatever becomes of its server. */
void
mcp_post_let_go(McpPost *post)
{
	post_unlink(post);
	post->server = NULL;
	post->call = NULL;
	post_link(post, &loose);
}

void
mcp_send_note(McpServer *server, char *text)
{
	McpPost *post = text != NULL ? mcp_post_begin(server, server->endpoint, NULL, text, false, MCP_NOTE_MS) : NULL;

	if (post != NULL)
		mcp_post_let_go(post);
}

void
mcp_post_drop_all(void)
{
	while (loose != NULL)
		mcp_post_free(loose);
}
