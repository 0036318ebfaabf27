/*
 * mcpremote.c -- lines of standard input -> POST -> answers as lines of standard output.
 *
 * Each request has a thread and a connection of its own: they may take long.  What is no request (notifications, answers) and
 * the handshake are sent in the order in which they come.  A server that has forgotten the session gets a new handshake.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/mcpremote.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <jansson.h>

#include "net/net.h"
#include "version.h"
#include "wire/sse.h"

#define CONNECT_MS 10000
#define CALL_MS 60000		  /* without a byte */
#define STREAM_MS 86400000
#define AGAIN_S 3			  /* until a stream that has ended is opened again */
#define MAX_ANSWER ((size_t) 8 << 20)
#define MAX_HEADERS 7000
#define MAX_VALUE 2048

/* A request under way. */
typedef struct Post
{
	json_t *id; /* of the message; NULL: no answer is due */
	char *text;
	bool is_hello;
	bool answered;
	bool is_events;
	bool is_stream; /* the server's own, which carries anything */
	char session[MAX_VALUE];
	char *body;
	size_t size;
	Sse sse;
} Post;

static struct
{
	NetUrl url;
	bool sse;
	json_t *headers;
	pthread_mutex_t lock; /* of what follows, and of standard output */
	pthread_cond_t changed;
	NetUrl endpoint; /* of the older transport: where messages go */
	bool has_endpoint;
	char session[MAX_VALUE];
	char version[32];
	char *hello;	/* the handshake, to be said again */
	char *greeting; /* what follows it */
	int handshakes;
} remote = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int send_post(Post *post);

/* What goes out ------------------------------------------------------------------ */

static void
say(const json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);

	pthread_mutex_lock(&remote.lock);
	if (text != NULL)
	{
		fputs(text, stdout);
		fputc('\n', stdout);
		fflush(stdout);
	}
	pthread_mutex_unlock(&remote.lock);
	free(text);
}

static void
say_failure(const json_t *id, const char *why)
{
	json_t *message = json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error", "code", -32000, "message", why);

	say(message);
	json_decref(message);
}

/* What comes ------------------------------------------------------------------------- */

/* The version that both speak is told with each request from now on. */
static void
take_hello(const json_t *message)
{
	const char *version = json_string_value(json_object_get(json_object_get(message, "result"), "protocolVersion"));

	pthread_mutex_lock(&remote.lock);
	if (version != NULL && strlen(version) < sizeof(remote.version) && strspn(version, "0123456789-") == strlen(version))
		strcpy(remote.version, version);
	pthread_mutex_unlock(&remote.lock);
}

static void
take_message(Post *post, const json_t *message)
{
	bool is_answer = post->id != NULL && json_object_get(message, "method") == NULL && json_equal(json_object_get(message, "id"), post->id);

	if (is_answer && post->answered)
		return;
	post->answered = post->answered || is_answer;
	if (is_answer && post->is_hello)
		take_hello(message);
	/* The answer of a handshake that was said again is nobody's. */
	if (json_is_object(message) && !(is_answer && post->is_hello && remote.handshakes > 1))
		say(message);
}

static void
take_text(Post *post, const char *text, size_t len)
{
	json_t *message = json_loadb(text, len, 0, NULL);
	size_t i;
	json_t *one;

	if (json_is_array(message))
	{
		json_array_foreach(message, i, one)
		{
			take_message(post, one);
		}
	}
	else
		take_message(post, message);
	json_decref(message);
}

/* Messages go to the same server, whatever it says. */
static void
take_endpoint(const char *text)
{
	NetUrl to = remote.url;
	bool ok;

	if (strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0)
		ok = net_url_parse(&to, text) && to.tls == remote.url.tls && to.port == remote.url.port && strcasecmp(to.host, remote.url.host) == 0;
	else
		ok = text[0] == '/' && text[1] != '/' && strlen(text) < sizeof(to.path) && text[strcspn(text, " \r\n")] == '\0' &&
			 strcpy(to.path, text) != NULL;
	if (!ok)
		_exit(1);
	pthread_mutex_lock(&remote.lock);
	remote.endpoint = to;
	remote.has_endpoint = true;
	pthread_cond_broadcast(&remote.changed);
	pthread_mutex_unlock(&remote.lock);
}

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	Post *post = arg;

	if (remote.sse && post->is_stream && strcmp(name, "endpoint") == 0)
		take_endpoint(data);
	else if (*name == '\0' || strcmp(name, "message") == 0)
		take_text(post, data, len);
}

static void
on_header(void *arg, const char *name, const char *value)
{
	Post *post = arg;

	if (strcasecmp(name, "content-type") == 0)
		post->is_events = strncasecmp(value, "text/event-stream", 17) == 0;
	else if (strcasecmp(name, "mcp-session-id") == 0 && post->is_hello && strlen(value) < sizeof(post->session) - 1)
		strcpy(post->session, value);
}

static bool
on_body(void *arg, int status, const char *data, size_t size)
{
	Post *post = arg;
	char *grown;

	if (post->is_events && status == 200)
		return sse_feed(&post->sse, data, size) && (post->is_stream || !post->answered);
	if (size > MAX_ANSWER - post->size)
		return false;
	grown = realloc(post->body, post->size + size + 1);
	if (grown == NULL)
		return false;
	memcpy(grown + post->size, data, size);
	post->body = grown;
	post->size += size;
	return true;
}

/* Requests --------------------------------------------------------------------------- */

static void __attribute__((format(printf, 3, 4)))
add(char headers[MAX_HEADERS], size_t *len, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(headers + *len, MAX_HEADERS - *len, format, args);
	va_end(args);
	if (n > 0 && (size_t) n < MAX_HEADERS - *len)
		*len += (size_t) n;
	headers[*len] = '\0';
}

static void
make_headers(char headers[MAX_HEADERS], const Post *post)
{
	size_t len = 0;
	const char *name;
	json_t *value;

	headers[0] = '\0';
	json_object_foreach(remote.headers, name, value)
	{
		if (strcasecmp(name, "content-length") != 0 && strcasecmp(name, "transfer-encoding") != 0 && strcasecmp(name, "host") != 0)
			add(headers, &len, "%s: %s\r\n", name, json_string_value(value));
	}
	add(headers, &len, "User-Agent: coder/" CODER_VERSION "\r\nAccept: %s\r\n",
		post->is_stream ? "text/event-stream" : "application/json, text/event-stream");
	if (post->text != NULL)
		add(headers, &len, "Content-Type: application/json\r\n");
	pthread_mutex_lock(&remote.lock);
	if (remote.session[0] != '\0' && !post->is_hello)
		add(headers, &len, "Mcp-Session-Id: %s\r\n", remote.session);
	if (remote.version[0] != '\0' && !post->is_hello)
		add(headers, &len, "MCP-Protocol-Version: %s\r\n", remote.version);
	pthread_mutex_unlock(&remote.lock);
}

/* One request; its status, -1 with why it failed.  What came was told; post's buffers are for the next one. */
static int
exchange(Post *post, const NetUrl *url, const char *method, int silence_ms, char *error, size_t error_size)
{
	char headers[MAX_HEADERS];
	NetSink sink = {on_header, on_body, post};
	int status;

	make_headers(headers, post);
	sse_init(&post->sse, on_event, post);
	post->is_events = false;
	status = net_stream(url, method, headers, post->text, post->text != NULL ? strlen(post->text) : 0, CONNECT_MS, silence_ms, &sink, error, error_size);
	if (status == 200 && !post->is_events && post->body != NULL)
		take_text(post, post->body, post->size);
	sse_free(&post->sse);
	free(post->body);
	post->body = NULL;
	post->size = 0;
	return status;
}

/* The handshake, and what follows it; both are kept.  0, -1: it failed. */
static int
shake_hands(Post *post)
{
	char error[256];
	int status;

	pthread_mutex_lock(&remote.lock);
	remote.session[0] = '\0';
	remote.version[0] = '\0';
	remote.handshakes++;
	pthread_mutex_unlock(&remote.lock);
	status = exchange(post, &remote.url, "POST", CONNECT_MS, error, sizeof(error));
	pthread_mutex_lock(&remote.lock);
	strcpy(remote.session, post->session);
	pthread_mutex_unlock(&remote.lock);
	if (post->answered)
		return 0;
	if (status > 0)
		snprintf(error, sizeof(error), "The MCP server answered with HTTP %d.", status);
	if (remote.handshakes == 1)
		say_failure(post->id, error);
	return -1;
}

/* The server has forgotten the session. */
static bool
renew_session(const char *old)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
	Post hello = {.is_hello = true};
	Post greeting = {0};
	char error[256];
	json_t *message = NULL;
	bool ok;

	pthread_mutex_lock(&one);
	ok = remote.hello != NULL && remote.greeting != NULL;
	/* Somebody else may have been faster. */
	if (ok && strcmp(remote.session, old) == 0)
	{
		message = json_loads(remote.hello, 0, NULL);
		hello.text = remote.hello;
		hello.id = json_object_get(message, "id");
		greeting.text = remote.greeting;
		ok = shake_hands(&hello) == 0 && exchange(&greeting, &remote.url, "POST", CONNECT_MS, error, sizeof(error)) / 100 == 2;
		json_decref(message);
	}
	pthread_mutex_unlock(&one);
	return ok;
}

static bool
wait_endpoint(NetUrl *url)
{
	struct timespec until;
	bool ok;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CONNECT_MS / 1000;
	pthread_mutex_lock(&remote.lock);
	while (!remote.has_endpoint && pthread_cond_timedwait(&remote.changed, &remote.lock, &until) == 0)
		;
	ok = remote.has_endpoint;
	*url = remote.endpoint;
	pthread_mutex_unlock(&remote.lock);
	return ok;
}

/* Sends a message, and tells why where no answer comes. */
static int
send_post(Post *post)
{
	char error[256] = "The MCP server gave no answer that can be read.";
	char session[MAX_VALUE];
	NetUrl url = remote.url;
	int status;

	if (remote.sse && !wait_endpoint(&url))
	{
		if (post->id != NULL)
			say_failure(post->id, "The MCP server did not say where messages go.");
		return -1;
	}
	pthread_mutex_lock(&remote.lock);
	strcpy(session, remote.session);
	pthread_mutex_unlock(&remote.lock);
	status = exchange(post, &url, "POST", CALL_MS, error, sizeof(error));
	if (status == 404 && session[0] != '\0' && renew_session(session))
		status = exchange(post, &url, "POST", CALL_MS, error, sizeof(error));
	/* The older transport answers on its stream. */
	if (post->id == NULL || post->answered || (remote.sse && status >= 200 && status <= 299))
		return 0;
	if (status >= 300)
		snprintf(error, sizeof(error), "The MCP server answered with HTTP %d.", status);
	say_failure(post->id, error);
	return -1;
}

static void
post_free(Post *post)
{
	json_decref(post->id);
	free(post->text);
	free(post);
}

static void *
post_thread(void *arg)
{
	send_post(arg);
	post_free(arg);
	return NULL;
}

static void
in_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg) != 0)
		_exit(1);
	pthread_detach(thread);
}

/* What the server says by itself.  The older transport is over where it ends; the newer one need not have it. */
static void *
stream_thread(void *arg)
{
	Post *post = arg;
	char error[256];
	int status;

	for (;;)
	{
		status = exchange(post, &remote.url, "GET", remote.sse ? STREAM_MS : CALL_MS, error, sizeof(error));
		if (remote.sse)
			_exit(1);
		if (status != 200 && status != -1)
			break;
		sleep(AGAIN_S);
	}
	post_free(post);
	return NULL;
}

static void
open_stream(void)
{
	Post *post = calloc(1, sizeof(*post));

	if (post == NULL)
		_exit(1);
	post->is_stream = true;
	in_thread(stream_thread, post);
}

/* Lines ---------------------------------------------------------------------------------- */

static void
keep(char **slot, const char *text)
{
	if (*slot == NULL)
		*slot = strdup(text);
}

static void
take_line(const char *line)
{
	json_t *message = json_loads(line, 0, NULL);
	const char *method = json_string_value(json_object_get(message, "method"));
	Post *post = json_is_object(message) ? calloc(1, sizeof(*post)) : NULL;

	if (post == NULL)
	{
		json_decref(message);
		return;
	}
	post->text = strdup(line);
	post->id = method != NULL ? json_incref(json_object_get(message, "id")) : NULL;
	post->is_hello = method != NULL && strcmp(method, "initialize") == 0 && !remote.sse;
	if (post->is_hello)
		keep(&remote.hello, line);
	if (method != NULL && strcmp(method, "notifications/initialized") == 0)
		keep(&remote.greeting, line);
	json_decref(message);
	if (post->id != NULL && !post->is_hello)
	{
		in_thread(post_thread, post);
		return;
	}
	if (!post->is_hello)
		send_post(post);
	else if (shake_hands(post) != 0)
		_exit(1);
	if (!post->is_hello && method != NULL && !remote.sse && post->text != NULL && remote.greeting != NULL && strcmp(post->text, remote.greeting) == 0)
		open_stream();
	post_free(post);
}

static bool
read_config(void)
{
	const char *text = getenv(MCPREMOTE_ENV);
	json_t *config = text != NULL ? json_loads(text, 0, NULL) : NULL;
	const char *url = json_string_value(json_object_get(config, "url"));
	bool ok = url != NULL && net_url_parse(&remote.url, url);

	remote.sse = json_is_true(json_object_get(config, "sse"));
	remote.headers = json_incref(json_object_get(config, "headers"));
	json_decref(config);
	unsetenv(MCPREMOTE_ENV);
	return ok;
}

/* The server may forget the session at once. */
static void
say_goodbye(void)
{
	Post post = {0};
	char error[256];

	if (remote.session[0] != '\0')
		exchange(&post, &remote.url, "DELETE", 1000, error, sizeof(error));
}

int
mcpremote_main(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	signal(SIGPIPE, SIG_IGN);
	if (!read_config())
		return 2;
	if (remote.sse)
		open_stream();
	while ((n = getline(&line, &room, stdin)) > 0)
	{
		line[strcspn(line, "\n")] = '\0';
		take_line(line);
	}
	free(line);
	say_goodbye();
	_exit(0);
}
