/*
 * mcp.c -- configuration -> token -> initialize -> initialized -> tools/list ... -> tools/call ...
 *
 * A message may come while libcurl calls back, where no transfer may begin or end: it is put into its server's inbox, and
 * read when the transfer is over or at the next tick.  What a message leads to may close the set: it is freed when nobody
 * is at work in it any more.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "db.h"
#include "errand.h"
#include "exchange.h"
#include "gateway.h"
#include "mcp.h"
#include "mcpwire.h"
#include "turn.h"

#define CONNECT_MS 10000L
#define NOTE_MS 10000L /* for what nobody waits for */
#define WAIT_MS 150	   /* until it is asked again whether somebody else has refreshed a token */
#define MAX_SERVERS 32
#define MAX_TOOLS 256 /* of all servers */
#define MAX_ANSWER ((size_t) 8 << 20)
#define MAX_STREAM ((size_t) 64 << 20)
#define MAX_INBOX 1000
#define MAX_WHY 200

typedef struct Server Server;

/* A request of HTTP: the post of a message, or the stream that the older transport answers on. */
typedef struct Post
{
	Transfer transfer; /* first */
	struct Post *next;
	struct Post **link;
	Server *server; /* NULL: nobody waits for it */
	McpCall *call;	/* that it carries */
	CURL *easy;
	struct curl_slist *headers;
	char *body;
	char *answer;
	size_t len;
	size_t all;
	Sse sse;
	bool is_events;
	bool is_stream;
	bool typed;	   /* the head of the answer was looked at */
	bool answered; /* what it was sent for has come */
	void (*then)(Server *server, long status);
} Post;

typedef enum ServerState
{
	SERVER_WAITING, /* for its configuration, or its user's token */
	SERVER_CONNECTING,
	SERVER_READY,
	SERVER_OUT
} ServerState;

typedef enum CallStep
{
	CALL_INITIALIZE,
	CALL_LIST,
	CALL_TOOL
} CallStep;

struct McpCall
{
	McpCall *next;
	McpCall **link;
	Server *server;
	CallStep step;
	int64_t id;
	char *text; /* as it is sent, to be sent again */
	Post *post;
	bool parked; /* until there is a session again */
	bool again;	 /* it was sent again */
	int64_t until;
	int64_t last; /* not after this, whatever it says */
	McpDone done;
	void *arg;
};

struct Server
{
	McpSet *set;
	ServerState state;
	char id[40];
	ConfigWait *wait;
	json_t *config;
	const char *slug; /* of the configuration */
	const char *url;
	bool is_sse;
	char *authorization;
	char *session;
	char version[32];
	char *endpoint; /* that messages are posted to */
	Post *stream;
	json_t *inbox;
	json_t *tools;
	int pages;
	char why[MAX_WHY];
};

struct McpSet
{
	McpSet *next;
	McpSet **link;
	char owner[40];
	Server servers[MAX_SERVERS];
	int n;
	int64_t connect_by;
	McpCall *calls;
	Post *posts;
	int64_t next_id;
	DbCall *call;
	Errand *errand;
	json_t *links; /* tokens that are being refreshed */
	int64_t ask_at; /* for tokens; 0: not */
	bool refreshed; /* once is enough */
	int depth;	   /* who is at work in it */
	bool closed;
	bool told;
	McpReady ready;
	void *arg;
};

static McpSet *sets;
static Post *loose; /* posts that nobody waits for */

static void connect_server(Server *server);
static void begin_call(McpCall *call);
static void ask_tokens(McpSet *set);

/* Requests of HTTP ------------------------------------------------------------------ */

static void
post_unlink(Post *post)
{
	*post->link = post->next;
	if (post->next != NULL)
		post->next->link = post->link;
}

static void
post_link(Post *post, Post **list)
{
	post->next = *list;
	post->link = list;
	if (*list != NULL)
		(*list)->link = &post->next;
	*list = post;
}

/* Not while libcurl calls back. */
static void
post_free(Post *post)
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

static void
take_text(Server *server, const char *text, size_t len)
{
	json_t *value = server != NULL && json_array_size(server->inbox) < MAX_INBOX ? json_loadb(text, len, 0, NULL) : NULL;

	if (value != NULL)
		json_array_append_new(server->inbox, value);
}

/* Is it the answer of what this post carries? */
static bool
answers(const Post *post, const json_t *value)
{
	McpMessage message;

	return post->call != NULL && mcp_message(&message, value) && message.kind == MCP_RESPONSE && mcp_message_for(&message) == post->call->id;
}

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	Post *post = arg;
	Server *server = post->server;

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
	take_text(server, data, len);
	post->answered = answers(post, json_array_get(server->inbox, json_array_size(server->inbox) - 1));
}

static bool
keep_answer(Post *post, const char *data, size_t len)
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
	Post *post = arg;
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
	Post *post = arg;
	size_t len = size * n;
	const char *value = data + sizeof(name) - 1;

	if (post->server == NULL || post->call == NULL || post->call->step != CALL_INITIALIZE || len < sizeof(name) + 2 || len > 1024 ||
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
add_header(Post *post, const char *name, const char *value)
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
add_headers(Post *post, const Server *server)
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

static void on_done(Transfer *transfer, CURL *easy, CURLcode code);

/* body: taken over; NULL for a GET.  method: NULL for those two.  NULL: out of memory. */
static Post *
post_begin(Server *server, const char *url, const char *method, char *body, bool is_stream, long limit_ms)
{
	Post *post = calloc(1, sizeof(*post));
	CURL *easy = post != NULL ? curl_easy_init() : NULL;

	if (easy == NULL)
	{
		free(body);
		free(post);
		return NULL;
	}
	post->transfer.done = on_done;
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
static void
post_let_go(Post *post)
{
	post_unlink(post);
	post->server = NULL;
	post->call = NULL;
	post_link(post, &loose);
}

static void
send_note(Server *server, char *text)
{
	Post *post = text != NULL ? post_begin(server, server->endpoint, NULL, text, false, NOTE_MS) : NULL;

	if (post != NULL)
		post_let_go(post);
}

/* Sets and servers --------------------------------------------------------------------- */

static void
server_free(Server *server)
{
	config_cancel(server->wait);
	json_decref(server->config);
	json_decref(server->inbox);
	json_decref(server->tools);
	free(server->authorization);
	free(server->session);
	free(server->endpoint);
}

static void
set_free(McpSet *set)
{
	*set->link = set->next;
	if (set->next != NULL)
		set->next->link = set->link;
	for (int i = 0; i < set->n; i++)
		server_free(&set->servers[i]);
	json_decref(set->links);
	free(set);
}

static void
set_enter(McpSet *set)
{
	set->depth++;
}

static void
set_leave(McpSet *set)
{
	if (--set->depth == 0 && set->closed)
		set_free(set);
}

static void
call_free(McpCall *call)
{
	*call->link = call->next;
	if (call->next != NULL)
		call->next->link = call->link;
	if (call->post != NULL)
		post_free(call->post);
	free(call->text);
	free(call);
}

/* The server is told, if it was there, and everything of it ends. */
static void
end_session(Server *server)
{
	Post *post;

	if (server->session == NULL || server->is_sse || server->endpoint == NULL)
		return;
	post = post_begin(server, server->endpoint, "DELETE", NULL, false, NOTE_MS);
	if (post != NULL)
		post_let_go(post);
}

void
mcp_close(McpSet *set)
{
	if (set == NULL || set->closed)
		return;
	set->closed = true;
	while (set->calls != NULL)
		mcp_cancel(set->calls);
	for (int i = 0; i < set->n; i++)
		end_session(&set->servers[i]);
	while (set->posts != NULL)
		post_free(set->posts);
	db_forget(set->call);
	errand_cancel(set->errand);
	set->call = NULL;
	set->errand = NULL;
	if (set->depth == 0)
		set_free(set);
}

/* A call has ended; the set may be closed by what that leads to. */
static void
call_end(McpCall *call, json_t *result, unsigned flags)
{
	McpDone done = call->done;
	void *arg = call->arg;

	call_free(call);
	if (done != NULL)
		done(arg, result, flags);
	else
		json_decref(result);
}

static void
call_fail(McpCall *call, const char *why)
{
	Server *server = call->server;

	call_end(call, json_pack("{s:o}", "error", json_sprintf("The MCP server %s %s.", server->slug, why)), MCP_FAILED);
}

/* The server cannot be used in this turn. */
static void
server_out(Server *server, const char *why)
{
	McpSet *set = server->set;
	McpCall *next;

	if (server->state == SERVER_OUT || set->closed)
		return;
	server->state = SERVER_OUT;
	if (server->why[0] == '\0')
		snprintf(server->why, sizeof(server->why), "%s", why);
	gw_log(GW_INFO, "MCP server %s: %s", server->slug != NULL ? server->slug : server->id, server->why);
	set_enter(set);
	for (McpCall *call = set->calls; call != NULL && !set->closed; call = next)
	{
		next = call->next;
		if (call->server != server)
			continue;
		call_fail(call, server->why);
		next = set->calls; /* anything may have ended */
	}
	if (server->stream != NULL && !set->closed)
		post_free(server->stream);
	set_leave(set);
}

/* What comes -------------------------------------------------------------------------------- */

static McpCall *
new_call(Server *server, CallStep step, const char *method, json_t *params)
{
	McpCall *call = calloc(1, sizeof(*call));
	McpSet *set = server->set;
	int64_t now = turn_env.now_ms();

	if (call == NULL)
	{
		json_decref(params);
		return NULL;
	}
	call->server = server;
	call->step = step;
	call->id = set->next_id++;
	if (step == CALL_TOOL)
		json_object_set_new(params, "_meta", json_pack("{s:I}", "progressToken", (json_int_t) call->id));
	call->text = mcp_request(call->id, method, params);
	call->until = step == CALL_TOOL ? now + MCP_CALL_MS : set->connect_by;
	call->last = step == CALL_TOOL ? now + MCP_LONGEST_CALL_MS : set->connect_by;
	if (step != CALL_TOOL && call->until < now + 1000)
		call->until = call->last = now + MCP_CONNECT_MS; /* a session that was lost later */
	call->next = set->calls;
	call->link = &set->calls;
	if (set->calls != NULL)
		set->calls->link = &call->next;
	set->calls = call;
	return call;
}

static void
list_tools(Server *server, const char *cursor)
{
	json_t *params = cursor != NULL ? json_pack("{s:s}", "cursor", cursor) : NULL;
	McpCall *call = new_call(server, CALL_LIST, "tools/list", params);

	if (call == NULL)
		server_out(server, "could not be asked for its tools");
	else
		begin_call(call);
}

/* The server knows that we know its version: now it may be asked. */
static void
after_initialized(Server *server, long status)
{
	McpSet *set = server->set;

	if (status < 200 || status > 299)
		server_out(server, "did not end its handshake");
	else if (server->tools == NULL)
	{
		server->tools = json_array();
		list_tools(server, NULL);
	}
	else
	{
		server->state = SERVER_READY;
		for (McpCall *call = set->calls; call != NULL; call = call->next)
			if (call->server == server && call->parked)
			{
				call->parked = false;
				begin_call(call);
			}
	}
}

static void
initialized(Server *server, const json_t *result)
{
	const char *version = json_string_value(json_object_get(result, "protocolVersion"));
	Post *post;

	if (version == NULL || strlen(version) >= sizeof(server->version) || strspn(version, "0123456789-") != strlen(version))
	{
		server_out(server, "speaks an unknown version of the protocol");
		return;
	}
	strcpy(server->version, version);
	post = post_begin(server, server->endpoint, NULL, mcp_notification("notifications/initialized", NULL), false, NOTE_MS);
	if (post == NULL)
		server_out(server, "could not be reached");
	else
		post->then = after_initialized;
}

static void
listed(Server *server, const json_t *result)
{
	const char *cursor = mcp_take_tools(server->tools, server->config, result);

	if (cursor != NULL && ++server->pages < MCP_MAX_PAGES && json_array_size(server->tools) < MCP_MAX_TOOLS)
		list_tools(server, cursor);
	else
		server->state = SERVER_READY;
}

static void
call_answered(McpCall *call, const McpMessage *message)
{
	Server *server = call->server;
	CallStep step = call->step;
	unsigned flags = 0;
	char why[MAX_WHY];

	if (message->error != NULL)
	{
		snprintf(why, sizeof(why), "answered with an error: %.150s", message->error);
		if (step == CALL_TOOL)
			call_fail(call, why);
		else
		{
			call_free(call);
			server_out(server, why);
		}
		return;
	}
	if (step == CALL_TOOL)
	{
		json_t *result = mcp_result(message->result, &flags);

		call_end(call, result, flags);
		return;
	}
	call_free(call);
	if (step == CALL_INITIALIZE)
		initialized(server, message->result);
	else
		listed(server, message->result);
}

static McpCall *
find_call(const Server *server, int64_t id)
{
	for (McpCall *call = server->set->calls; call != NULL; call = call->next)
		if (call->id == id && call->server == server)
			return call;
	return NULL;
}

static void
deliver(Server *server, const json_t *value)
{
	McpMessage message;
	McpCall *call;
	int64_t now = turn_env.now_ms();
	size_t i;
	json_t *one;

	/* Earlier versions of the protocol knew batches. */
	json_array_foreach(value, i, one)
	{
		if (!json_is_array(one) && !server->set->closed)
			deliver(server, one);
	}
	if (!mcp_message(&message, value))
		return;
	if (message.kind == MCP_REQUEST)
	{
		send_note(server, mcp_reply(&message));
		return;
	}
	call = find_call(server, mcp_message_for(&message));
	if (call != NULL && message.kind == MCP_RESPONSE)
		call_answered(call, &message);
	else if (call != NULL)
		call->until = now + MCP_CALL_MS < call->last ? now + MCP_CALL_MS : call->last;
}

/* Reads the inbox; the set may be closed behind it. */
static void
read_inbox(Server *server)
{
	McpSet *set = server->set;

	set_enter(set);
	while (json_array_size(server->inbox) > 0 && !set->closed)
	{
		json_t *value = json_incref(json_array_get(server->inbox, 0));

		json_array_remove(server->inbox, 0);
		deliver(server, value);
		json_decref(value);
	}
	set_leave(set);
}

/* Why a request failed, for people. */
static void
say_why(char why[MAX_WHY], const Server *server, CURLcode code, long status)
{
	if (code == CURLE_OPERATION_TIMEDOUT)
		snprintf(why, MAX_WHY, "did not answer in time");
	else if (status == 401 && strcmp(json_string_value(json_object_get(server->config, "auth_type")), "oauth2") == 0)
		snprintf(why, MAX_WHY, "wants the owner of this chat to sign in: it can be connected in the settings of the chat");
	else if (status == 401 || status == 403)
		snprintf(why, MAX_WHY, "does not let this chat in (HTTP %ld)", status);
	else if (status >= 300)
		snprintf(why, MAX_WHY, "answered with HTTP %ld", status);
	else if (code == CURLE_WRITE_ERROR)
		snprintf(why, MAX_WHY, "gave an answer that is too long");
	else if (code != CURLE_OK)
		snprintf(why, MAX_WHY, "cannot be reached: %s", curl_easy_strerror(code));
	else
		snprintf(why, MAX_WHY, "gave no answer that can be read");
}

/* The server has forgotten the session: a new one, in which the call is sent again, once. */
static bool
renew_session(McpCall *call, long status)
{
	Server *server = call->server;
	McpCall *first;

	if (status != 404 || call->step != CALL_TOOL || call->again || server->is_sse || server->session == NULL)
		return false;
	call->again = true;
	call->parked = true;
	if (server->state == SERVER_CONNECTING)
		return true;
	server->state = SERVER_CONNECTING;
	free(server->session);
	server->session = NULL;
	server->version[0] = '\0';
	first = new_call(server, CALL_INITIALIZE, "initialize", mcp_initialize_params(GW_VERSION));
	if (first == NULL)
		return false;
	begin_call(first);
	return true;
}

/* The post of a call is over, and its answer has not come. */
static void
call_unanswered(McpCall *call, CURLcode code, long status)
{
	Server *server = call->server;
	char why[MAX_WHY];

	/* The older transport answers on its stream. */
	if (server->is_sse && code == CURLE_OK && status >= 200 && status <= 299)
		return;
	if (renew_session(call, status))
		return;
	say_why(why, server, code, status);
	if (call->step == CALL_TOOL)
		call_fail(call, why);
	else
	{
		call_free(call);
		server_out(server, why);
	}
}

static void
on_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	Post *post = (Post *) transfer;
	Server *server = post->server;
	McpCall *call = post->call;
	int64_t id = call != NULL ? call->id : -1;
	bool was_stream = post->is_stream;
	void (*then)(Server *, long) = post->then;
	char why[MAX_WHY];
	long status = 0;
	McpSet *set;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (server == NULL)
	{
		post_free(post);
		return;
	}
	set = server->set;
	if (!post->is_events && code == CURLE_OK && status == 200 && post->answer != NULL)
		take_text(server, post->answer, post->len);
	set_enter(set);
	post_free(post);
	read_inbox(server);
	if (!set->closed && call != NULL && find_call(server, id) == call && call->post == NULL && !call->parked)
		call_unanswered(call, code, status);
	if (!set->closed && then != NULL && server->state != SERVER_OUT)
		then(server, code == CURLE_OK ? status : 0);
	if (!set->closed && was_stream)
	{
		say_why(why, server, code, status);
		server_out(server, server->state == SERVER_READY ? "has closed the connection" : why);
	}
	set_leave(set);
}

/* Calls --------------------------------------------------------------------------------------- */

static void
begin_call(McpCall *call)
{
	Server *server = call->server;
	int64_t left = call->last - turn_env.now_ms();

	call->post = call->text != NULL ? post_begin(server, server->endpoint, NULL, strdup(call->text), false, left > 1 ? (long) left : 1) : NULL;
	if (call->post != NULL)
		call->post->call = call;
	else
		call->until = 0; /* the next tick tells of it */
}

/* Where messages go is known: the handshake begins. */
static void
shake_hands(Server *server)
{
	McpCall *call = new_call(server, CALL_INITIALIZE, "initialize", mcp_initialize_params(GW_VERSION));

	if (call != NULL)
		begin_call(call);
	else
		server_out(server, "could not be reached");
}

static void
connect_server(Server *server)
{
	server->state = SERVER_CONNECTING;
	if (!server->is_sse)
	{
		server->endpoint = strdup(server->url);
		shake_hands(server);
		return;
	}
	server->stream = post_begin(server, server->url, NULL, NULL, true, 0);
	if (server->stream == NULL)
		server_out(server, "could not be reached");
}

static const json_t *
find_tool(const McpSet *set, const char *name, bool usable, Server **server)
{
	size_t j;
	json_t *tool;

	for (int i = 0; set != NULL && i < set->n; i++)
	{
		if (usable && set->servers[i].state == SERVER_OUT)
			continue;
		json_array_foreach(set->servers[i].tools, j, tool)
		{
			if (strcmp(json_string_value(json_object_get(tool, "name")), name) != 0)
				continue;
			if (server != NULL)
				*server = (Server *) &set->servers[i];
			return tool;
		}
	}
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(json_string_value(json_object_get(*(json_t *const *) a, "name")), json_string_value(json_object_get(*(json_t *const *) b, "name")));
}

void
mcp_add_tools(const McpSet *set, json_t *tools)
{
	json_t *all[MAX_TOOLS];
	size_t n = 0;
	size_t j;
	json_t *tool;

	for (int i = 0; set != NULL && i < set->n; i++)
	{
		if (set->servers[i].state == SERVER_OUT)
			continue;
		json_array_foreach(set->servers[i].tools, j, tool)
		{
			/* Of two tools that have one name in the end the first server's is there. */
			if (n < MAX_TOOLS && find_tool(set, json_string_value(json_object_get(tool, "name")), true, NULL) == tool)
				all[n++] = tool;
		}
	}
	qsort(all, n, sizeof(all[0]), by_name);
	for (size_t i = 0; i < n; i++)
	{
		json_t *shown = json_copy(all[i]);

		json_object_del(shown, "tool");
		json_array_append_new(tools, shown);
	}
}

const char *
mcp_server_of(const McpSet *set, const char *tool)
{
	Server *server = NULL;

	return find_tool(set, tool, false, &server) != NULL ? server->id : NULL;
}

const char *
mcp_why_not(const McpSet *set, const char *tool)
{
	for (int i = 0; set != NULL && i < set->n; i++)
	{
		const Server *server = &set->servers[i];
		size_t len = server->slug != NULL ? strlen(server->slug) : 0;

		if (server->state == SERVER_OUT && len > 0 && strncmp(tool, server->slug, len) == 0 && strncmp(tool + len, "__", 2) == 0)
			return server->why;
	}
	return NULL;
}

McpCall *
mcp_call(McpSet *set, const char *tool, const json_t *args, McpDone done, void *arg)
{
	Server *server = NULL;
	const json_t *found = find_tool(set, tool, true, &server);
	McpCall *call;

	if (found == NULL)
		return NULL;
	call = new_call(server, CALL_TOOL, "tools/call",
					json_pack("{s:O, s:o}", "name", json_object_get(found, "tool"), "arguments", mcp_arguments(server->config, args)));
	if (call == NULL)
		return NULL;
	call->done = done;
	call->arg = arg;
	if (server->state == SERVER_CONNECTING)
		call->parked = true;
	else
		begin_call(call);
	return call;
}

/* Nobody waits any more; the server is told so that it stops. */
void
mcp_cancel(McpCall *call)
{
	Server *server = call->server;

	if (call->step == CALL_TOOL && !call->parked && server->state == SERVER_READY)
		send_note(server, mcp_notification("notifications/cancelled", json_pack("{s:I, s:s}", "requestId", (json_int_t) call->id, "reason",
																			   "the user has stopped it")));
	call_free(call);
}

/* Tokens ---------------------------------------------------------------------------------------- */

static void
on_refresh_stored(void *arg, PGresult *result)
{
	McpSet *set = arg;

	(void) result;
	set->call = NULL;
	ask_tokens(set);
}

static void
on_refreshed(void *arg, json_t *results)
{
	McpSet *set = arg;
	char *links = json_dumps(set->links, JSON_COMPACT);
	char *text = json_dumps(results, JSON_COMPACT);
	const char *const params[] = {set->owner, links, text};

	set->errand = NULL;
	set->call = db_call("SELECT coder.mcp_refresh_done($1, $2::jsonb, $3::jsonb)", 3, params, on_refresh_stored, set);
	json_decref(results);
	free(links);
	free(text);
}

/* Those that have a token, or will have none, are connected to. */
static void
take_tokens(McpSet *set, const json_t *tokens)
{
	for (int i = 0; i < set->n && !set->closed; i++)
	{
		Server *server = &set->servers[i];
		const json_t *token = json_object_get(tokens, server->id);

		if (server->state != SERVER_WAITING || server->config == NULL)
			continue;
		if (!json_is_string(token))
			server_out(server, "wants the owner of this chat to sign in: it can be connected in the settings of the chat");
		else
		{
			server->authorization = strdup(json_string_value(token));
			connect_server(server);
		}
	}
}

static void
on_tokens(void *arg, PGresult *result)
{
	McpSet *set = arg;
	json_t *answer = NULL;
	const json_t *requests;

	set->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	requests = json_object_get(answer, "requests");
	set_enter(set);
	if (json_array_size(requests) > 0)
	{
		json_decref(set->links);
		set->links = json_incref(json_object_get(answer, "links"));
		set->refreshed = true;
		set->errand = errand_begin(requests, on_refreshed, set);
	}
	if (set->errand != NULL)
		;
	else if (json_is_true(json_object_get(answer, "busy")) && turn_env.now_ms() + WAIT_MS < set->connect_by)
		set->ask_at = turn_env.now_ms() + WAIT_MS;
	else
		take_tokens(set, json_object_get(answer, "tokens"));
	set_leave(set);
	json_decref(answer);
}

/* Of the servers that wait for one. */
static void
ask_tokens(McpSet *set)
{
	char ids[MAX_SERVERS * 40 + 3] = "{";
	size_t len = 1;
	const char *const params[] = {set->owner, ids, set->refreshed ? "false" : "true"};

	set->ask_at = 0;
	for (int i = 0; i < set->n; i++)
		if (set->servers[i].state == SERVER_WAITING && set->servers[i].config != NULL)
			len += (size_t) snprintf(ids + len, sizeof(ids) - len, "%s%s", len > 1 ? "," : "", set->servers[i].id);
	snprintf(ids + len, sizeof(ids) - len, "}");
	if (len > 1)
		set->call = db_call("SELECT coder.chat_mcp_tokens($1, $2, $3)", 3, params, on_tokens, set);
}

/* Beginning ---------------------------------------------------------------------------------------- */

static void
on_config(void *arg, const json_t *value, const char *error)
{
	Server *server = arg;
	const char *transport = json_string_value(json_object_get(value, "transport"));
	const char *auth = json_string_value(json_object_get(value, "auth_type"));
	McpSet *set = server->set;

	server->wait = NULL;
	if (error != NULL || transport == NULL || auth == NULL)
	{
		/* Gone or turned off: no news. */
		server->state = SERVER_OUT;
		snprintf(server->why, sizeof(server->why), "is not there");
		return;
	}
	server->config = json_incref((json_t *) value);
	server->slug = json_string_value(json_object_get(value, "slug"));
	server->url = json_string_value(json_object_get(value, "url"));
	server->is_sse = strcmp(transport, "sse") == 0;
	if (strcmp(auth, "oauth2") != 0)
		connect_server(server);
	else
		set->ask_at = 1; /* at the next tick, for all of them */
}

McpSet *
mcp_open(const json_t *chat, McpReady ready, void *arg)
{
	const json_t *ids = json_object_get(chat, "mcp_server_ids");
	const char *owner = json_string_value(json_object_get(chat, "owner_id"));
	McpSet *set = json_array_size(ids) > 0 && owner != NULL ? calloc(1, sizeof(*set)) : NULL;
	size_t i;
	json_t *id;

	if (set == NULL)
		return NULL;
	snprintf(set->owner, sizeof(set->owner), "%s", owner);
	set->ready = ready;
	set->arg = arg;
	set->connect_by = turn_env.now_ms() + MCP_CONNECT_MS;
	set->next = sets;
	set->link = &sets;
	if (sets != NULL)
		sets->link = &set->next;
	sets = set;
	json_array_foreach(ids, i, id)
	{
		Server *server = &set->servers[set->n];
		ConfigWait *wait;

		if (set->n == MAX_SERVERS || !json_is_string(id))
			break;
		set->n++;
		server->set = set;
		server->inbox = json_array();
		snprintf(server->id, sizeof(server->id), "%s", json_string_value(id));
		wait = config_get(turn_env.config, CONFIG_MCP_SERVER, server->id, turn_env.now_ms(), on_config, server);
		if (wait != NULL)
			server->wait = wait;
	}
	return set;
}

/* Time ------------------------------------------------------------------------------------------------ */

static bool
is_settled(const McpSet *set)
{
	for (int i = 0; i < set->n; i++)
		if (set->servers[i].state == SERVER_WAITING || set->servers[i].state == SERVER_CONNECTING)
			return false;
	return true;
}

/* What a server has come to by itself.  True: anything may have changed. */
static bool
work_server(Server *server, int64_t now)
{
	if (json_array_size(server->inbox) > 0)
	{
		read_inbox(server);
		return true;
	}
	if (server->state == SERVER_CONNECTING && server->is_sse && server->why[0] != '\0')
	{
		server_out(server, server->why);
		return true;
	}
	if (server->state == SERVER_CONNECTING && server->is_sse && server->endpoint != NULL && server->tools == NULL && server->pages == 0)
	{
		server->pages = 1; /* once */
		shake_hands(server);
		return true;
	}
	if (!server->set->told && server->set->connect_by <= now && (server->state == SERVER_WAITING || server->state == SERVER_CONNECTING))
	{
		server_out(server, "did not answer in time");
		return true;
	}
	return false;
}

static bool
work_calls(McpSet *set, int64_t now)
{
	for (McpCall *call = set->calls; call != NULL; call = call->next)
	{
		Server *server = call->server;

		if (call->until > now)
			continue;
		if (call->step == CALL_TOOL)
		{
			if (server->state == SERVER_READY && call->post != NULL)
				send_note(server, mcp_notification("notifications/cancelled", json_pack("{s:I, s:s}", "requestId", (json_int_t) call->id,
																					   "reason", "it takes too long")));
			call_fail(call, "did not answer in time");
		}
		else
		{
			call_free(call);
			server_out(server, "did not answer in time");
		}
		return true;
	}
	return false;
}

/* One thing; true: the set may be gone, and another one too. */
static bool
work(McpSet *set, int64_t now)
{
	for (int i = 0; i < set->n; i++)
		if (work_server(&set->servers[i], now))
			return true;
	if (work_calls(set, now))
		return true;
	if (set->ask_at != 0 && set->ask_at <= now)
	{
		ask_tokens(set);
		return true;
	}
	if (!set->told && is_settled(set))
	{
		set->told = true;
		set->ready(set->arg);
		return true;
	}
	return false;
}

int64_t
mcp_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();
	McpSet *set = sets;

	while (set != NULL)
		set = !set->closed && work(set, now) ? sets : set->next;
	for (set = sets; set != NULL; set = set->next)
	{
		if (set->ask_at != 0 && set->ask_at - now < most)
			most = set->ask_at - now;
		for (McpCall *call = set->calls; call != NULL; call = call->next)
			if (call->until - now < most)
				most = call->until - now;
	}
	return most > 0 ? most : 0;
}

void
mcp_drop_all(void)
{
	while (sets != NULL)
		mcp_close(sets);
	while (loose != NULL)
		post_free(loose);
}
