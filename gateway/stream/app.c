/*
 * app.c -- a web app of a workspace, through the tunnel to its agent.
 *
 * One request goes to the app on one connection: its head is written anew, its
 * body follows, and the answer is passed on as it comes.  An answer 101 joins
 * the two connections, and bytes go both ways as they are (WebSockets).  Where
 * the app cannot be reached, the browser gets a page that says why.
 *
 * SPDX-License-Identifier: MIT
 */
#include <h2o.h>
#include <h2o/http1.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "../reply.h"
#include "../request.h"
#include "proxy.h"
#include "rpc.h"
#include "stream.h"
#include "tunnel.h"

#define PREFIX_SEGMENTS 4 /* /@user/workspace/apps/slug; none on a host of its own */
#define MAX_UNSENT (256u << 10) /* to the browser; then the app waits */
#define TICK_MS 2000
#define MIN_USED_MS 500
#define ANSWER_MS 120000 /* until the head of the answer */

typedef struct App
{
	GwLoop *loop;
	GwStream stream;
	h2o_req_t *req;	   /* NULL once it is over, or upgraded */
	h2o_socket_t *up;  /* the app */
	h2o_socket_t *down; /* the browser, once upgraded */
	GwDial *dial;
	GwTimer tick;
	uint64_t since;
	h2o_generator_t generator;
	ProxyResponse response;
	h2o_iovec_t head; /* of the request; from the request's pool */
	const char *name; /* of the app, for pages; likewise */
	const char *origin; /* whose pages may read the answer, whatever the app says; NULL: the app says it; likewise */
	bool tls;
	bool upgrade; /* asked for */
	bool answered; /* there is a status */
	bool sending;
	bool failed;
	bool last; /* the end has been sent */
	bool paused; /* the app is not read */
	char *used; /* JSON that the database knows the use by; NULL: none */
	int used_ms; /* how often it is told, while the two are joined */
	char *out; /* being sent */
	char *next;
	size_t next_len;
	size_t next_room;
} App;

/* Pages ---------------------------------------------------------------------- */

static void
reply_page(h2o_req_t *req, int status, const char *title, const char *text)
{
	static const char style[] = "body{font:16px/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;"
								"color:#18181b;background:#fafafa}h1{font-size:1.4rem}p.s{color:#71717a}"
								"@media(prefers-color-scheme:dark){body{color:#fafafa;background:#18181b}a{color:#93c5fd}}";
	h2o_iovec_t safe_title = h2o_htmlescape(&req->pool, title, strlen(title));
	h2o_iovec_t safe_text = h2o_htmlescape(&req->pool, text, strlen(text));
	char number[16];
	h2o_iovec_t body;

	snprintf(number, sizeof(number), "%d", status);
	body = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>")),
					  safe_title, h2o_iovec_init(H2O_STRLIT("</title><meta name=\"viewport\" content=\"width=device-width\"><style>")),
					  h2o_iovec_init(style, sizeof(style) - 1), h2o_iovec_init(H2O_STRLIT("</style><p class=\"s\">")),
					  h2o_iovec_init(number, strlen(number)), h2o_iovec_init(H2O_STRLIT("</p><h1>")), safe_title,
					  h2o_iovec_init(H2O_STRLIT("</h1><p>")), safe_text,
					  h2o_iovec_init(H2O_STRLIT("</p><p><a href=\"\">Try again</a> · <a href=\"/workspaces\">Workspaces</a></p></html>\n")));
	gw_add_header(req, "cache-control", H2O_STRLIT("no-store"));
	gw_reply_body(req, status, "text/html; charset=utf-8", body.base, body.len);
}

/* A path is never another site's: own_path() has seen to that.  A plan's location is the database's. */
static void
redirect(h2o_req_t *req, int status, h2o_iovec_t location)
{
	gw_add_header(req, "location", location.base, location.len);
	gw_reply_empty(req, status);
}

/* Path and query; a browser takes two slashes in front for another host. */
static h2o_iovec_t
own_path(h2o_req_t *req)
{
	h2o_iovec_t path = req->path;

	while (path.len > 1 && path.base[0] == '/' && path.base[1] == '/')
	{
		path.base++;
		path.len--;
	}
	return path;
}

/* As the value of a query's parameter. */
static h2o_iovec_t
escape(h2o_mem_pool_t *pool, const char *text, size_t len)
{
	static const char hex[] = "0123456789ABCDEF";
	h2o_iovec_t out = {h2o_mem_alloc_pool(pool, 3 * len + 1), 0};

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("-._~", c) != NULL)
			out.base[out.len++] = (char) c;
		else
		{
			out.base[out.len++] = '%';
			out.base[out.len++] = hex[c >> 4];
			out.base[out.len++] = hex[c & 15];
		}
	}
	return out;
}

/* To the page for signing in, and back here. */
static void
to_login(h2o_req_t *req, const char *message)
{
	h2o_iovec_t text = escape(&req->pool, message, strlen(message));
	h2o_iovec_t path = own_path(req);
	h2o_iovec_t back = escape(&req->pool, path.base, path.len);

	redirect(req, 303, h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("/login?message=")), text,
								  h2o_iovec_init(H2O_STRLIT("&redirect=")), back));
}

/* Ending --------------------------------------------------------------------- */

static void
close_app(App *app)
{
	gw_timer_stop(&app->tick);
	if (app->dial != NULL)
		gw_tunnel_dial_cancel(app->dial);
	app->dial = NULL;
	if (app->up != NULL)
		h2o_socket_close(app->up);
	app->up = NULL;
}

static void
free_app(App *app)
{
	close_app(app);
	gw_stream_remove(&app->stream);
	if (app->down != NULL)
		h2o_socket_close(app->down);
	proxy_response_free(&app->response);
	free(app->used);
	free(app->out);
	free(app->next);
	free(app);
}

static void
on_dispose(void *arg)
{
	App *app = *(App **) arg;

	/* An upgraded one outlives its request. */
	if (app->req != NULL)
		free_app(app);
}

static void send_more(App *app);

/* The app gave no answer, or no whole one. */
static void
fail(App *app, const char *why)
{
	char text[512];

	close_app(app);
	app->failed = true;
	if (app->answered)
	{
		send_more(app);
		return;
	}
	app->answered = app->last = true;
	snprintf(text, sizeof(text), "The app \"%s\" %s", app->name, why);
	reply_page(app->req, 502, "Bad Gateway", text);
}

/* HTTP/1 does not tell of a client that leaves while it waits. */
static bool
client_left(App *app)
{
	h2o_socket_t *sock = app->req->conn->callbacks->get_socket(app->req->conn);
	struct pollfd p = {.fd = h2o_socket_get_fd(sock), .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void
on_tick(void *arg)
{
	App *app = arg;

	if (client_left(app))
	{
		app->req->http1_is_persistent = 0;
		fail(app, "was not waited for.");
	}
	else if (!app->answered && h2o_now(app->loop->ctx.loop) - app->since > ANSWER_MS)
		fail(app, "did not answer in time.");
	else
		gw_timer_start(&app->tick, app->loop, TICK_MS, on_tick, app);
}

static void
on_stop(GwStream *stream)
{
	App *app = H2O_STRUCT_FROM_MEMBER(App, stream, stream);

	if (app->down != NULL)
		free_app(app);
	else if (!app->last && app->req != NULL)
		fail(app, "was cut off: the server stops.");
}

/* Joined connections --------------------------------------------------------- */

static void on_raw(h2o_socket_t *from, const char *err);

static void
on_raw_written(h2o_socket_t *to, const char *err)
{
	App *app = to->data;
	h2o_socket_t *from = to == app->up ? app->down : app->up;

	if (err != NULL)
	{
		free_app(app);
		return;
	}
	h2o_buffer_consume(&from->input, from->input->size);
	h2o_socket_read_start(from, on_raw);
}

/* The other side takes all of it before more is read. */
static void
pass_on(App *app, h2o_socket_t *from)
{
	h2o_iovec_t vec = h2o_iovec_init(from->input->bytes, from->input->size);

	h2o_socket_read_stop(from);
	h2o_socket_write(from == app->up ? app->down : app->up, &vec, 1, on_raw_written);
}

static void
on_raw(h2o_socket_t *from, const char *err)
{
	App *app = from->data;

	if (err != NULL)
		free_app(app);
	else if (from->input->size > 0)
		pass_on(app, from);
}

/* A browser that is gone says nothing, and neither may the app. */
static void
keep_alive(int fd)
{
	int on = 1;
	int seconds = 60;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
}

static void
on_use_told(void *arg, GwDbStatus status, PGresult *result)
{
	(void) arg;
	(void) status;
	PQclear(result);
}

/* Who keeps an app open uses it. */
static void
on_use(void *arg)
{
	static const GwStatement statement = {"app_used_on", "SELECT coder.app_used_on($1::jsonb)", 1, NULL};
	App *app = arg;
	const char *values[] = {app->used};

	gw_db_send_copy(app->loop->db, GW_DB_FAST, &statement, 1, values, false, on_use_told, NULL);
	gw_timer_start(&app->tick, app->loop, app->used_ms, on_use, app);
}

static void
on_upgraded(void *arg, h2o_socket_t *sock, size_t reqsize)
{
	App *app = arg;

	if (sock == NULL || app->up == NULL)
	{
		if (sock != NULL)
			h2o_socket_close(sock);
		free_app(app);
		return;
	}
	app->down = sock;
	sock->data = app;
	keep_alive(h2o_socket_get_fd(sock));
	h2o_buffer_consume(&sock->input, reqsize);
	if (app->used != NULL)
		gw_timer_start(&app->tick, app->loop, app->used_ms, on_use, app);
	for (int i = 0; i < 2; i++)
	{
		h2o_socket_t *from = i == 0 ? app->up : app->down;

		if (from->input->size > 0)
			pass_on(app, from);
		else
			h2o_socket_read_start(from, on_raw);
	}
}

/* The answer ----------------------------------------------------------------- */

static void
on_body(void *arg, const char *data, size_t len)
{
	App *app = arg;

	if (app->next_len + len > app->next_room)
	{
		app->next_room = 2 * (app->next_len + len);
		app->next = h2o_mem_realloc(app->next, app->next_room);
	}
	memcpy(app->next + app->next_len, data, len);
	app->next_len += len;
}

static void
send_more(App *app)
{
	bool over = app->failed || app->response.state == PROXY_DONE;
	h2o_iovec_t vec = h2o_iovec_init(app->next, app->next_len);

	if (app->sending || app->last || (app->next_len == 0 && !over))
		return;
	free(app->out);
	app->out = app->next;
	app->next = NULL;
	app->next_len = app->next_room = 0;
	app->sending = true;
	app->last = over;
	if (app->failed)
		app->req->http1_is_persistent = 0;
	h2o_send(app->req, &vec, vec.len > 0,
			 app->failed ? H2O_SEND_STATE_ERROR : over ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void on_answer(h2o_socket_t *sock, const char *err);

static void
on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
	App *app = H2O_STRUCT_FROM_MEMBER(App, generator, generator);

	(void) req;
	app->sending = false;
	if (app->paused && app->up != NULL)
	{
		app->paused = false;
		h2o_socket_read_start(app->up, on_answer);
	}
	send_more(app);
}

static void
on_client_gone(h2o_generator_t *generator, h2o_req_t *req)
{
	App *app = H2O_STRUCT_FROM_MEMBER(App, generator, generator);

	(void) req;
	app->last = true;
	close_app(app);
}

/* What the server says of every answer of its own is the app's to say here. */
static void
drop_header(h2o_req_t *req, const char *name)
{
	for (size_t i = req->res.headers.size; i > 0; i--)
		if (gw_iovec_is(*req->res.headers.entries[i - 1].name, name))
			h2o_delete_header(&req->res.headers, (ssize_t) i - 1);
}

/* The server's word on who may read the answer. */
static void
add_cors(App *app)
{
	gw_add_header(app->req, "access-control-allow-origin", app->origin, strlen(app->origin));
	gw_add_header(app->req, "access-control-allow-credentials", H2O_STRLIT("true"));
	gw_add_header(app->req, "vary", H2O_STRLIT("Origin"));
}

static bool
is_cors(ProxyText name)
{
	static const char prefix[] = "access-control-";

	return name.len >= sizeof(prefix) - 1 && strncasecmp(name.base, prefix, sizeof(prefix) - 1) == 0;
}

static void
add_headers(App *app)
{
	h2o_req_t *req = app->req;
	ProxyText connection = proxy_find(&app->response, "connection");

	drop_header(req, "x-content-type-options");
	for (size_t i = 0; i < app->response.nfields; i++)
	{
		ProxyText name = proxy_name(&app->response, i);
		ProxyText value = proxy_value(&app->response, i);
		h2o_iovec_t lower = h2o_strdup(&req->pool, name.base, name.len);
		h2o_iovec_t orig = h2o_strdup(&req->pool, name.base, name.len);
		h2o_iovec_t copy = h2o_strdup(&req->pool, value.base != NULL ? value.base : "", value.len);

		/* Its length, date and server are written by this server. */
		if (proxy_is_hop(name, connection) || proxy_is(name, "content-length") || proxy_is(name, "date") ||
			proxy_is(name, "server") || (proxy_is(name, "set-cookie") && proxy_is_own_cookie(value)) ||
			(app->origin != NULL && is_cors(name)))
			continue;
		h2o_strtolower(lower.base, lower.len);
		h2o_add_header_by_str(&req->pool, &req->res.headers, lower.base, lower.len, 1, orig.base, copy.base, copy.len);
	}
	if (app->origin != NULL)
		add_cors(app);
}

static void
start_answer(App *app)
{
	h2o_req_t *req = app->req;
	ProxyResponse *response = &app->response;

	app->answered = true;
	add_headers(app);
	req->res.status = response->status;
	req->res.reason = gw_reason(response->status);
	req->res.content_length = response->content_length >= 0 ? (size_t) response->content_length : SIZE_MAX;
	if (response->content_length < 0 && req->version < 0x101)
		req->http1_is_persistent = 0;
	app->generator = (h2o_generator_t){on_proceed, on_client_gone};
	h2o_start_response(req, &app->generator);
}

/* The app has agreed to another protocol. */
static void
join(App *app)
{
	h2o_req_t *req = app->req;
	ProxyText protocol = proxy_find(&app->response, "upgrade");
	h2o_iovec_t name = h2o_strdup(&req->pool, protocol.base, protocol.len);

	gw_timer_stop(&app->tick);
	h2o_socket_read_stop(app->up);
	add_headers(app);
	gw_add_header(req, "upgrade", name.base, name.len);
	req->res.status = 101;
	req->res.reason = gw_reason(101);
	app->answered = true;
	app->req = NULL;
	h2o_http1_upgrade(req, NULL, 0, on_upgraded, app);
}

static void
on_answer(h2o_socket_t *sock, const char *err)
{
	App *app = sock->data;
	ProxyResponse *response = &app->response;

	h2o_buffer_consume(&sock->input, proxy_response_feed(response, sock->input->bytes, sock->input->size));
	if (err != NULL)
		proxy_response_end(response);
	if (response->state == PROXY_UPGRADED && app->upgrade && err == NULL)
	{
		join(app);
		return;
	}
	if (response->state == PROXY_BAD || response->state == PROXY_UPGRADED)
	{
		if (response->head_done && response->state == PROXY_BAD && !app->answered && response->status != 101)
			start_answer(app);
		fail(app, err != NULL ? "closed the connection without an answer." : "gave an answer that is not HTTP.");
		return;
	}
	if (response->state == PROXY_DONE)
		close_app(app);
	if (response->head_done && !app->answered)
		start_answer(app);
	if (app->up != NULL && app->next_len > MAX_UNSENT)
	{
		h2o_socket_read_stop(app->up);
		app->paused = true;
	}
	if (app->answered)
		send_more(app);
}

/* The request ---------------------------------------------------------------- */

static void
on_written(h2o_socket_t *sock, const char *err)
{
	/* It may have answered, and closed, without reading all: its answer counts. */
	(void) sock;
	(void) err;
}

static void
send_request(App *app)
{
	h2o_iovec_t vecs[2] = {app->head, app->req->entity};

	h2o_socket_read_start(app->up, on_answer);
	h2o_socket_write(app->up, vecs, app->req->entity.len > 0 ? 2 : 1, on_written);
}

static void
on_handshake(h2o_socket_t *sock, const char *err)
{
	App *app = sock->data;

	/* Who the app says it is does not matter: the tunnel leads to it. */
	if (err != NULL && err != h2o_socket_error_ssl_cert_name_mismatch)
		fail(app, "does not speak HTTPS, though its URL says so.");
	else
		send_request(app);
}

static SSL_CTX *
client_context(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static SSL_CTX *context;

	pthread_mutex_lock(&lock);
	if (context == NULL)
		context = SSL_CTX_new(TLS_client_method());
	if (context != NULL)
		SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
	pthread_mutex_unlock(&lock);
	return context;
}

static void
on_dialled(void *arg, int fd)
{
	App *app = arg;
	char why[200];

	app->dial = NULL;
	if (fd < 0)
	{
		snprintf(why, sizeof(why), "cannot be reached in the workspace (%s). Is it running?", strerror(-fd));
		fail(app, why);
		return;
	}
	app->up = h2o_evloop_socket_create(app->loop->ctx.loop, fd, 0);
	app->up->data = app;
	if (app->tls && client_context() != NULL)
		h2o_socket_ssl_handshake(app->up, client_context(), "localhost", on_handshake);
	else
		send_request(app);
}

typedef struct Text
{
	char *base;
	size_t len;
} Text;

static void
put(Text *text, const char *base, size_t len)
{
	memcpy(text->base + text->len, base, len);
	text->len += len;
}

static void
put_field(Text *text, const char *name, const char *value, size_t len)
{
	put(text, name, strlen(name));
	put(text, ": ", 2);
	put(text, value, len);
	put(text, "\r\n", 2);
}

/* The browser's scheme: a proxy in front may have ended TLS. */
static bool
is_https(h2o_req_t *req)
{
	const char *url = gw_server.options.access_url;
	const char *host = strstr(url, "://");

	return req->scheme == &H2O_URL_SCHEME_HTTPS ||
		   (strncmp(url, "https:", 6) == 0 && host != NULL && gw_iovec_is(req->authority, host + 3));
}

/* Is the field the browser's to the app?  A session token is not, in any form. */
static bool
is_passed(const h2o_header_t *header, ProxyText connection)
{
	static const char *const own[] = {"host", "content-length", "expect", "cookie", "coder-session-token", "coder-chat-ticket",
									  "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"};
	ProxyText name = {header->name->base, header->name->len};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (proxy_is(name, own[i]))
			return false;
	if (proxy_is(name, "authorization") && header->value.len > 7 && strncasecmp(header->value.base, "bearer ", 7) == 0)
		return !proxy_is_token(header->value.base + 7, header->value.len - 7);
	return !proxy_is_hop(name, connection);
}

static void
put_fields(Text *text, h2o_req_t *req)
{
	h2o_iovec_t raw = gw_header(req, "connection");
	ProxyText connection = {raw.base, raw.len};

	for (size_t i = 0; i < req->headers.size; i++)
	{
		const h2o_header_t *header = &req->headers.entries[i];

		if (proxy_is((ProxyText){header->name->base, header->name->len}, "cookie"))
		{
			char *cookies = h2o_mem_alloc_pool(&req->pool, 2 * header->value.len + 1);
			size_t len = proxy_strip_cookies(cookies, header->value.base, header->value.len);

			if (len > 0)
				put_field(text, "Cookie", cookies, len);
		}
		else if (is_passed(header, connection))
		{
			/* Names as the browser wrote them: not every app takes them in any case. */
			put(text, header->orig_name != NULL ? header->orig_name : header->name->base, header->name->len);
			put(text, ": ", 2);
			put(text, header->value.base, header->value.len);
			put(text, "\r\n", 2);
		}
	}
}

static void
put_forwarded(Text *text, h2o_req_t *req, const char *remote)
{
	h2o_iovec_t before = gw_header(req, "x-forwarded-for");
	h2o_iovec_t all = h2o_concat(&req->pool, before, h2o_iovec_init(", ", before.len > 0 ? 2 : 0),
								 h2o_iovec_init(remote, strlen(remote)));

	put_field(text, "X-Forwarded-For", all.base, all.len);
	put_field(text, "X-Forwarded-Host", req->authority.base, req->authority.len);
	put_field(text, "X-Forwarded-Proto", is_https(req) ? "https" : "http", is_https(req) ? 5 : 4);
}

/* path: of the app's URL; rest: what is behind the prefix, with the query. */
static void
make_head(App *app, const char *path, ProxyText rest, const char *remote)
{
	h2o_req_t *req = app->req;
	size_t room = 1024 + req->method.len + strlen(path) + rest.len + 2 * req->authority.len + strlen(remote);
	const char *query = memchr(rest.base, '?', rest.len);
	size_t path_len = query != NULL ? (size_t) (query - rest.base) : rest.len;
	size_t base_len = strlen(path);
	char length[32];
	Text text;

	/* Cookies may become longer by a blank each, the addresses are written once more. */
	for (size_t i = 0; i < req->headers.size; i++)
		room += 2 * (req->headers.entries[i].name->len + req->headers.entries[i].value.len) + 8;
	text = (Text){h2o_mem_alloc_pool(&req->pool, room), 0};
	while (base_len > 0 && path[base_len - 1] == '/')
		base_len--;
	put(&text, req->method.base, req->method.len);
	put(&text, " ", 1);
	put(&text, path, base_len);
	put(&text, rest.base, path_len);
	if (query != NULL)
	{
		size_t n = rest.len - path_len - 1;
		char *kept = h2o_mem_alloc_pool(&req->pool, n + 1);

		n = proxy_strip_query(kept, query + 1, n);
		put(&text, "?", n > 0);
		put(&text, kept, n);
	}
	put(&text, " HTTP/1.1\r\n", 11);
	put_field(&text, "Host", req->authority.base, req->authority.len);
	put_fields(&text, req);
	put_forwarded(&text, req, remote);
	if (req->entity.base != NULL)
		put_field(&text, "Content-Length", length, (size_t) snprintf(length, sizeof(length), "%zu", req->entity.len));
	if (app->upgrade)
	{
		put_field(&text, "Upgrade", req->upgrade.base, req->upgrade.len);
		put_field(&text, "Connection", "Upgrade", 7);
	}
	else
		put_field(&text, "Connection", "close", 5);
	put(&text, "\r\n", 2);
	app->head = h2o_iovec_init(text.base, text.len);
}

/* Opening -------------------------------------------------------------------- */

static const char *
text_of(json_t *plan, const char *key)
{
	const char *text = json_string_value(json_object_get(plan, key));

	return text != NULL ? text : "";
}

/* May it be in the first line of a request? */
static bool
is_path(const char *path)
{
	for (const char *p = path; *p != '\0'; p++)
		if ((unsigned char) *p <= ' ' || *p == 0x7f || *p == '#')
			return false;
	return true;
}

/* Segments of the path that are not the app's. */
static int
prefix_of(json_t *plan)
{
	return json_is_true(json_object_get(plan, "host")) ? 0 : PREFIX_SEGMENTS;
}

/* The path as it must be for links of the app to work; true where the browser goes there first. */
static bool
correct_path(h2o_req_t *req, json_t *plan)
{
	const char *app_query = text_of(plan, "query");
	h2o_iovec_t path = own_path(req);
	const char *mark = memchr(path.base, '?', path.len);
	h2o_iovec_t query = {NULL, 0};
	ProxyText behind;
	bool inside;

	if (mark != NULL)
	{
		query = h2o_iovec_init(mark, path.len - (size_t) (mark - path.base));
		path.len -= query.len;
	}
	behind = proxy_behind(path.base, path.len, prefix_of(plan));
	inside = behind.base >= path.base && behind.base < path.base + path.len;
	if (!inside)
		redirect(req, 307, h2o_concat(&req->pool, path, h2o_iovec_init("/", 1), query));
	else if (behind.len == 1 && query.len <= 1 && *app_query != '\0' && is_path(app_query))
		redirect(req, 307, h2o_concat(&req->pool, path, h2o_iovec_init("?", 1), h2o_iovec_init(app_query, strlen(app_query))));
	else
		return false;
	return true;
}

static void
open_app(h2o_req_t *req, json_t *plan, const uint8_t agent[static 16], uint16_t port)
{
	App **slot = h2o_mem_alloc_shared(&req->pool, sizeof(*slot), on_dispose);
	App *app = calloc(1, sizeof(*app));
	const char *target = text_of(plan, "target"); /* the whole path, where it is none of the browser's */
	ProxyText rest = *target != '\0' ? (ProxyText){target, strlen(target)} : proxy_behind(req->path.base, req->path.len, prefix_of(plan));

	if (app == NULL)
		h2o_fatal("out of memory");
	*slot = app;
	app->loop = gw_loop_of(req);
	app->req = req;
	app->tls = json_is_true(json_object_get(plan, "tls"));
	app->upgrade = req->upgrade.base != NULL && req->version == 0x101;
	app->name = h2o_strdup(&req->pool, text_of(plan, "name"), SIZE_MAX).base;
	if (*text_of(plan, "origin") != '\0')
		app->origin = h2o_strdup(&req->pool, text_of(plan, "origin"), SIZE_MAX).base;
	if (json_is_object(json_object_get(plan, "used")))
		app->used = json_dumps(json_object_get(plan, "used"), JSON_COMPACT);
	app->used_ms = (int) json_integer_value(json_object_get(plan, "used_ms"));
	if (app->used_ms < MIN_USED_MS)
		app->used_ms = MIN_USED_MS;
	app->since = h2o_now(app->loop->ctx.loop);
	proxy_response_init(&app->response, gw_iovec_is(req->method, "HEAD"), on_body, app);
	make_head(app, text_of(plan, "path"), rest, text_of(plan, "remote"));
	gw_stream_add(app->loop, &app->stream, on_stop);
	gw_timer_start(&app->tick, app->loop, TICK_MS, on_tick, app);
	app->dial = gw_tunnel_dial(app->loop, agent, port, on_dialled, app);
}

void
gw_stream_app(h2o_req_t *req, json_t *plan)
{
	const char *id = text_of(plan, "agent_id");
	json_int_t port = json_integer_value(json_object_get(plan, "port"));
	json_int_t status = json_integer_value(json_object_get(plan, "status"));
	uint8_t agent[16];

	if (*text_of(plan, "login") != '\0')
		to_login(req, text_of(plan, "login"));
	else if (*text_of(plan, "location") != '\0')
		redirect(req, 303, h2o_strdup(&req->pool, text_of(plan, "location"), SIZE_MAX));
	else if (status != 0)
		reply_page(req, (int) status, text_of(plan, "title"), text_of(plan, "text"));
	else if (!stream_parse_uuid(agent, id) || port < 1 || port > 65535 || !is_path(text_of(plan, "path")) ||
			 !is_path(text_of(plan, "target")))
		reply_page(req, 400, "Invalid Application URL", "The app's URL is not one that this server can open.");
	else if (*text_of(plan, "target") != '\0' && req->upgrade.base != NULL && !gw_ws_origin_ok(req))
		gw_reply_error(req, 403, "WebSocket connections of other origins are not accepted.", NULL);
	else if (*text_of(plan, "target") != '\0' || !correct_path(req, plan))
		open_app(req, plan, agent, (uint16_t) port);
}
