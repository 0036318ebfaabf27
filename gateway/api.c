/*
 * api.c -- a request to coder.handle() and its answer back, without looking inside.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "apphost.h"
#include "event.h"
#include "outbound/outbound.h"
#include "rate.h"
#include "reply.h"
#include "route.h"
#include "stream/stream.h"

#define PACKED_MAX 65536
#define MAX_FETCHES 8		 /* of one request, one after another */
#define MAX_FETCHING_MS 90000 /* of one request, altogether */
#define ARRAY_HEADER 20 /* of a text[] in binary that has elements */

static const Oid handle_types[GW_HANDLE_ARGS] = {GW_INT4,
												 GW_TEXT,
												 GW_TEXT,
												 GW_TEXTARRAY,
												 GW_TEXT,
												 GW_TEXT,
												 GW_BYTEA,
												 GW_TEXT,
												 GW_TEXT,
												 GW_UUID,
												 GW_TEXT};
static const GwStatement handle_statement = {
	"handle",
	"SELECT coder.handle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	GW_HANDLE_ARGS,
	handle_types};

static const Oid packed_types[] = {GW_BYTEA};
static const GwStatement packed_statement = {
	"handle_packed", "SELECT coder.handle($1)", 1, packed_types};

static const GwStatement refused_statement = {
	"audit_refused", "SELECT coder.audit_refused($1)", 1, packed_types};

/*
 * A request that waits for the database, or for what its function wants fetched.
 * It is in the request's pool, so it goes with the client; the query is then
 * detached, the fetch cancelled.
 */
typedef struct ApiCall
{
	h2o_linklist_t link; /* loop->calls */
	GwRequest *request;
	GwQuery *query; /* NULL once answered */
	GwFetch *fetch; /* NULL: none under way */
	GwTimer wait;	/* instead of a fetch */
	OutboundPlan waiting;
	int fetches;
	GwHandleArgs args;
	uint64_t since;
	int64_t position;
} ApiCall;

static char *
put32(char *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
	return p + 4;
}

/*
 * The arguments in one value (extension/packed.h), in memory for the query to
 * keep, behind a status unless it is 0.  The elements of the array of parameters
 * are in the same form there.
 */
static char *
pack(const GwHandleArgs *args, int status, size_t size, size_t *len)
{
	char *base = h2o_mem_alloc(size + 4);
	char *p = put32(status != 0 ? put32(base, (uint32_t) status) : base, (uint32_t) args->route);

	for (int i = 1; i < GW_HANDLE_ARGS; i++)
	{
		const char *value = args->values[i];
		size_t n = (size_t) args->lengths[i];

		if (i == GW_ARG_PARAMS)
		{
			size_t skip = n > ARRAY_HEADER ? ARRAY_HEADER : n;

			value += skip;
			n -= skip;
		}
		if (value == NULL)
		{
			p = put32(p, UINT32_MAX);
			continue;
		}
		p = put32(p, (uint32_t) n);
		memcpy(p, value, n);
		p += n;
	}
	*len = (size_t) (p - base);
	return base;
}

static size_t
packed_size(const GwHandleArgs *args)
{
	size_t size = 4 * GW_HANDLE_ARGS;

	for (int i = 1; i < GW_HANDLE_ARGS; i++)
		size += args->values[i] != NULL ? (size_t) args->lengths[i] : 0;
	return size;
}

GwQuery *
gw_handle_send(GwLoop *loop, const GwHandleArgs *args, GwDbCallback cb, void *arg)
{
	GwParams params = {args->values, args->lengths, NULL};
	GwDbPool pool = args->slow ? GW_DB_SLOW : GW_DB_FAST;
	size_t size = packed_size(args);
	size_t len;
	char *packed;

	if (size > PACKED_MAX) /* not worth another copy */
		return gw_db_send(loop->db, pool, &handle_statement, &params, args->read_only, cb, arg);
	packed = pack(args, 0, size, &len);
	return gw_db_send_owned(
		loop->db, pool, &packed_statement, packed, len, args->read_only, cb, arg);
}

bool
gw_answer_parse(GwAnswer *answer, const char *bytes, size_t len)
{
	uint16_t status;
	uint32_t headers;

	if (len < 8)
		return false;
	memcpy(&status, bytes, 2);
	memcpy(&headers, bytes + 4, 4);
	status = ntohs(status);
	headers = ntohl(headers);
	if (headers > len - 8 || status < 100 || status > 599)
		return false;
	*answer = (GwAnswer){status, bytes + 8, headers, bytes + 8 + headers, len - 8 - headers};
	return true;
}

/* Answer --------------------------------------------------------------------- */

/* "Name: value\r\n" ... to response headers; true if there is a Content-Type. */
static bool
add_headers(h2o_req_t *req, const char *p, size_t len)
{
	const char *end = p + len;
	bool typed = false;

	while (p < end)
	{
		const char *eol = memmem(p, (size_t) (end - p), "\r\n", 2);
		const char *colon = memchr(p, ':', (size_t) ((eol != NULL ? eol : end) - p));
		const char *value;
		char *name;
		size_t n;

		if (eol == NULL)
			eol = end;
		if (colon != NULL && colon > p)
		{
			n = (size_t) (colon - p);
			name = h2o_mem_alloc_pool(&req->pool, n);
			for (size_t i = 0; i < n; i++)
				name[i] = (char) (p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
			for (value = colon + 1; value < eol && *value == ' '; value++)
				;
			typed |= n == 12 && memcmp(name, "content-type", 12) == 0;
			h2o_add_header_by_str(
				&req->pool, &req->res.headers, name, n, 1, p, value, (size_t) (eol - value));
		}
		p = eol + 2;
	}
	return typed;
}

static void
clear_result(void *arg)
{
	PQclear(*(PGresult **) arg);
}

static void
open_stream(ApiCall *call, const GwAnswer *answer)
{
	h2o_req_t *req = call->request->req;
	json_error_t error;
	json_t *plan = json_loadb(answer->body, answer->body_len, 0, &error);
	const char *format = json_string_value(json_object_get(plan, "format"));
	void (*open)(h2o_req_t *, json_t *) = NULL;

	if (format == NULL)
	{
		gw_log(GW_ERROR,
			   "a stream's plan is not understood: %.*s",
			   (int) answer->body_len,
			   answer->body);
		gw_reply_error(req, 500, "An internal server error occurred.", NULL);
		json_decref(plan);
		return;
	}
	/* These answer like any request. */
	call->request->upgraded = strcmp(format, "app") != 0 && strcmp(format, "ports") != 0 &&
							  strcmp(format, "coordinator") != 0 && json_object_get(plan, "request") == NULL;
	call->request->loop->ws_route = call->request->route;
	if (strcmp(format, "sse") == 0 || strcmp(format, "ws") == 0 || strcmp(format, "wsjson") == 0 ||
		strcmp(format, "wsbinary") == 0)
		gw_watch_open(call->request, &call->args, plan, call->position);
	else
	{
		if (strcmp(format, "rpc") == 0)
			open = gw_stream_rpc;
		else if (strcmp(format, "pty") == 0)
			open = gw_stream_pty;
		else if (strcmp(format, "app") == 0)
			open = gw_stream_app;
		else if (strcmp(format, "ports") == 0)
			open = gw_stream_ports;
		else if (strcmp(format, "parameters") == 0)
			open = gw_stream_parameters;
		else if (strcmp(format, "echo") == 0)
			open = gw_stream_echo;
		else if (strcmp(format, "coordinator") == 0)
			open = gw_stream_coordinator;
		else if (strcmp(format, "mesh") == 0)
			open = gw_stream_mesh;
		if (open != NULL)
			open(req, plan);
		else
			gw_reply_error(
				req, 501, "This server cannot open this kind of connection yet.", format);
	}
	json_decref(plan);
}

static void
set_arg(GwHandleArgs *args, int i, const char *value, size_t len)
{
	args->values[i] = value;
	args->lengths[i] = (int) len;
}

static void
on_told(void *arg, GwDbStatus status, PGresult *result)
{
	(void) arg;
	if (status == GW_DB_FAILED)
		gw_log(GW_WARN, "a refused request is not in the audit log: %s", PQresultErrorMessage(result));
	PQclear(result);
}

/*
 * The audit log hears of a change that was refused in a transaction of its own,
 * as the request's is undone.  Who is not signed in is not told of.
 */
static void
tell_refused(GwLoop *loop, const GwHandleArgs *args, int status)
{
	GwHandleArgs bare = *args;
	size_t len;
	char *packed;

	if (args->read_only || status < 400 || status > 499 || status == 401)
		return;
	bare.values[GW_ARG_BODY] = NULL;
	packed = pack(&bare, status, packed_size(&bare), &len);
	gw_db_send_owned(loop->db, GW_DB_FAST, &refused_statement, packed, len, false, on_told, NULL);
}

/* The status of what the database raised. */
static int
failed_status(const PGresult *result)
{
	GwError error;

	gw_error_of_sqlstate(&error, PQresultErrorField(result, PG_DIAG_SQLSTATE), NULL, NULL, NULL);
	return error.status;
}

static void on_answer(void *arg, GwDbStatus status, PGresult *result);

/* The function's next part is called with what was fetched. */
static void
on_fetched(void *arg, OutboundPlan *plan)
{
	ApiCall *call = arg;
	h2o_req_t *req = call->request->req;
	char *cursor = outbound_cursor(plan);
	h2o_iovec_t copy;

	call->fetch = NULL;
	if (cursor == NULL)
	{
		h2o_linklist_unlink(&call->link);
		gw_reply_error(req, 500, "An internal server error occurred.", "The fetched answer is too large.");
		return;
	}
	copy = h2o_strdup(&req->pool, cursor, SIZE_MAX);
	free(cursor);
	set_arg(&call->args, GW_ARG_CURSOR, copy.base, copy.len);
	call->args.read_only = false;
	call->query = gw_handle_send(call->request->loop, &call->args, on_answer, call);
}

static void
on_waited(void *arg)
{
	ApiCall *call = arg;
	OutboundPlan plan = call->waiting;

	memset(&call->waiting, 0, sizeof(call->waiting)); /* the call may be gone behind this */
	on_fetched(call, &plan);
	outbound_plan_free(&plan);
}

/* What the answer asks for is fetched, then the function's next part is called. */
static void
start_fetch(ApiCall *call, const GwAnswer *answer)
{
	h2o_req_t *req = call->request->req;
	GwLoop *loop = call->request->loop;
	OutboundPlan plan;
	const char *wrong = outbound_plan_parse(&plan, answer->body, answer->body_len);

	if (wrong == NULL && plan.wait_ms == 0)
		call->fetches++;
	if (wrong != NULL || call->fetches > MAX_FETCHES || h2o_now(loop->ctx.loop) - call->since > MAX_FETCHING_MS)
	{
		gw_log(GW_ERROR, "%.*s: outbound requests refused: %s", (int) call->request->path.len, call->request->path.base,
			   wrong != NULL ? wrong : "there are too many, or they take too long");
		if (wrong == NULL)
			outbound_plan_free(&plan);
		gw_reply_error(req, 500, "An internal server error occurred.", NULL);
		return;
	}
	h2o_linklist_insert(&loop->calls, &call->link);
	if (plan.wait_ms > 0)
	{
		call->waiting = plan;
		gw_timer_start(&call->wait, loop, (uint64_t) plan.wait_ms, on_waited, call);
	}
	else
		call->fetch = gw_outbound_fetch(loop, &plan, on_fetched, call);
}

/* Whoever gets past authentication has a token that is somebody's. */
static bool
is_signed_in(GwDbStatus status, const PGresult *result)
{
	const char *state = status == GW_DB_FAILED && result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return status == GW_DB_OK || (state != NULL && strncmp(state, "ZC", 2) == 0 && strcmp(state, "ZC401") != 0);
}

static void
on_answer(void *arg, GwDbStatus status, PGresult *result)
{
	ApiCall *call = arg;
	h2o_req_t *req = call->request->req;
	PGresult **slot;
	GwAnswer answer;

	call->query = NULL;
	h2o_linklist_unlink(&call->link);
	if (call->request->unknown_token != 0 && is_signed_in(status, result))
		gw_rate_known(call->request->unknown_token);
	if (result != NULL)
	{
		/* The body is sent from the result itself, which goes with the request. */
		slot = h2o_mem_alloc_shared(&req->pool, sizeof(*slot), clear_result);
		*slot = result;
	}
	if (status == GW_DB_UNSENT)
		gw_reply_error(req,
					   503,
					   "The database is not available.",
					   "The request was not carried out. Try again.");
	else if (status == GW_DB_LOST)
		gw_reply_error(
			req,
			503,
			"The connection to the database was lost.",
			call->args.read_only
				? "Try again."
				: "The outcome is unknown: the change may or may not have been made. Look before trying again.");
	else if (status == GW_DB_FAILED)
	{
		tell_refused(call->request->loop, &call->args, failed_status(result));
		gw_reply_pg_error(req, result);
	}
	else if (PQntuples(result) != 1 || PQgetisnull(result, 0, 0) ||
			 !gw_answer_parse(
				 &answer, PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0)))
		gw_reply_error(req,
					   500,
					   "An internal server error occurred.",
					   "The database's answer is not understood.");
	else if (answer.status == 101)
		open_stream(call, &answer);
	else if (answer.status == 102)
		start_fetch(call, &answer);
	else
	{
		bool typed = add_headers(req, answer.headers, answer.headers_len);
		bool empty = answer.body_len == 0 || answer.status == 204 || answer.status == 304;

		tell_refused(call->request->loop, &call->args, answer.status);
		gw_reply_body(req,
					  answer.status,
					  typed || empty ? NULL : "application/json; charset=utf-8",
					  answer.body,
					  empty ? 0 : answer.body_len);
	}
}

/* Call ----------------------------------------------------------------------- */

/* text[] in binary: dimensions, flags, element type; size and lower bound; the elements. */
static bool
encode_params(h2o_mem_pool_t *pool, const GwMatch *match, GwHandleArgs *args)
{
	size_t total = 20;
	char *base;
	char *p;

	for (int i = 0; i < match->n_params; i++)
		total += 4 + match->params[i].len;
	base = p = h2o_mem_alloc_pool(pool, total);
	p = put32(p, match->n_params > 0);
	p = put32(p, 0);
	p = put32(p, GW_TEXT);
	if (match->n_params > 0)
	{
		p = put32(p, (uint32_t) match->n_params);
		p = put32(p, 1);
	}
	for (int i = 0; i < match->n_params; i++)
	{
		size_t n;

		if (!gw_percent_decode(p + 4, &n, match->params[i].base, match->params[i].len, false))
			return false;
		put32(p, (uint32_t) n);
		p += 4 + n;
	}
	args->values[GW_ARG_PARAMS] = base;
	args->lengths[GW_ARG_PARAMS] = (int) (p - base);
	return true;
}

/* The OAuth2 provider reads credentials of clients, SCIM its own key, which are no session tokens. */
static bool
wants_authorization(const GwRequest *request)
{
	return gw_starts_with(request->path, "/oauth2/") || gw_starts_with(request->path, "/scim/");
}

/* The consent page puts the browser's CSRF token into its form. */
static bool
wants_csrf(const GwRequest *request)
{
	return gw_starts_with(request->path, "/oauth2/authorize") && gw_iovec_is(request->req->method, "GET");
}

/* Headers no function needs: those of the connection, those the gateway has dealt with. */
static bool
is_wanted_header(const GwRequest *request, const h2o_iovec_t *name)
{
	static const char *const unwanted[] = {"accept-encoding",
										   "accept-language",
										   "cache-control",
										   "coder-session-token",
										   "connection",
										   "content-length",
										   "cookie",
										   "dnt",
										   "pragma",
										   "transfer-encoding",
										   "upgrade",
										   "x-csrf-token"};

	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		if (gw_iovec_is(*name, unwanted[i]))
			return false;
	return !gw_iovec_is(*name, "authorization") || wants_authorization(request);
}

/* Cookies without the session's; only OAuth's are of interest to functions. */
static bool
wants_cookies(const GwRequest *request)
{
	return request->cookies.base != NULL &&
		   memmem(request->cookies.base, request->cookies.len, "oauth", 5) != NULL;
}

static void
encode_headers(GwRequest *request, GwHandleArgs *args)
{
	h2o_req_t *req = request->req;
	char *csrf = wants_csrf(request) ? gw_csrf_masked(request) : NULL;
	size_t total = req->authority.len + 8 + (wants_cookies(request) ? request->cookies.len + 10 : 0) +
				   (csrf != NULL ? strlen(csrf) + 16 : 0) + 64;
	char *base;
	char *p;

	for (size_t i = 0; i < req->headers.size; i++)
		total += req->headers.entries[i].name->len + req->headers.entries[i].value.len + 3;
	base = p = h2o_mem_alloc_pool(&req->pool, total);
	memcpy(p, "host: ", 6);
	memcpy(p + 6, req->authority.base, req->authority.len);
	p += 6 + req->authority.len;
	*p++ = '\n';
	for (size_t i = 0; i < req->headers.size; i++)
	{
		const h2o_header_t *header = &req->headers.entries[i];

		if (!is_wanted_header(request, header->name))
			continue;
		memcpy(p, header->name->base, header->name->len);
		p += header->name->len;
		*p++ = ':';
		*p++ = ' ';
		memcpy(p, header->value.base, header->value.len);
		p += header->value.len;
		*p++ = '\n';
	}
	if (wants_cookies(request))
		p += sprintf(p, "cookie: %.*s\n", (int) request->cookies.len, request->cookies.base);
	if (csrf != NULL)
		p += sprintf(p, "x-csrf-token: %s\n", csrf);
	/* Headers may hold any byte; SQL text may not. */
	for (char *c = base; c < p; c++)
		if ((unsigned char) *c >= 0x80 || *c == '\0')
			*c = '?';
	args->values[GW_ARG_HEADERS] = base;
	args->lengths[GW_ARG_HEADERS] = (int) (p - base);
}

/* Is it text for the database: UTF-8 without NUL? */
static bool
is_text(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) p[i] >= 0x80 || p[i] == '\0')
			return false;
	return true;
}

static bool
encode_args(GwRequest *request, const GwMatch *match, GwHandleArgs *args)
{
	h2o_req_t *req = request->req;
	const GwRoute *route = match->route;
	uint8_t *id = h2o_mem_alloc_pool(&req->pool, 20);

	put32((char *) id + 16, (uint32_t) route->id);
	for (int i = 0, n = 0; i < 36; i++)
		if (request->id[i] != '-')
		{
			uint8_t digit = (uint8_t) (request->id[i] <= '9' ? request->id[i] - '0'
															 : request->id[i] - 'a' + 10);

			id[n / 2] = (uint8_t) (n % 2 == 0 ? digit << 4 : id[n / 2] | digit);
			n++;
		}
	set_arg(args, 0, (char *) id + 16, 4);
	if (gw_iovec_is(req->method, "HEAD"))
		set_arg(args, 1, "GET", 3);
	else
		set_arg(args, 1, req->method.base, req->method.len);
	set_arg(args, 2, request->path.base, request->path.len);
	set_arg(args, 4, request->query.base != NULL ? request->query.base : "", request->query.len);
	/* A route without a limit of its own does not hand the body to its function. */
	if (route->max_body > 0)
		set_arg(args, GW_ARG_BODY, req->entity.base, req->entity.len);
	else
		set_arg(args, GW_ARG_BODY, NULL, 0);
	set_arg(args, 7, request->token.base, request->token.len);
	set_arg(args, 8, request->remote, strlen(request->remote));
	set_arg(args, 9, (char *) id, 16);
	set_arg(args, GW_ARG_CURSOR, NULL, 0);
	args->route = route->id;
	args->slow = route->slow;
	args->read_only =
		route->read_only || gw_iovec_is(req->method, "GET") || gw_iovec_is(req->method, "HEAD");
	encode_headers(request, args);
	return is_text(request->path.base, request->path.len) &&
		   is_text(request->query.base, request->query.len) &&
		   encode_params(&req->pool, match, args);
}

/* Nobody waits for the answer any more. */
static void
abandon(ApiCall *call)
{
	if (h2o_linklist_is_linked(&call->link))
		h2o_linklist_unlink(&call->link);
	if (call->query != NULL)
		gw_db_detach(call->query);
	if (call->fetch != NULL)
		gw_outbound_cancel(call->fetch);
	gw_timer_stop(&call->wait);
	outbound_plan_free(&call->waiting);
	call->query = NULL;
	call->fetch = NULL;
}

static void
on_dispose(void *arg)
{
	abandon(arg);
}

static void
start_call(GwRequest *request, const GwMatch *match)
{
	h2o_req_t *req = request->req;
	ApiCall *call = h2o_mem_alloc_shared(&req->pool, sizeof(*call), on_dispose);

	memset(call, 0, sizeof(*call));
	call->request = request;
	if (!encode_args(request, match, &call->args))
	{
		gw_reply_error(
			req,
			400,
			"The URL is malformed.",
			"A percent sign must be followed by two hex digits, and %00 is not allowed.");
		return;
	}
	call->since = h2o_now(request->loop->ctx.loop);
	call->position = gw_event_position(request->loop);
	h2o_linklist_insert(&request->loop->calls, &call->link);
	call->query = gw_handle_send(request->loop, &call->args, on_answer, call);
}

static bool
is_api(const GwRequest *request)
{
	return gw_starts_with(request->path, "/api/") || gw_iovec_is(request->path, "/api");
}

/* The scheme and host of the access URL are not the request's: send the client there. */
static bool
redirect(GwRequest *request)
{
	const char *url = gw_server.options.access_url;
	const char *host = strstr(url, "://");
	h2o_req_t *req = request->req;
	h2o_iovec_t location;

	if (!gw_server.options.redirect_to_access_url || host == NULL ||
		gw_starts_with(request->path, "/healthz") || gw_starts_with(request->path, "/derp"))
		return false;
	if (gw_iovec_is(req->authority, host + 3))
		return false;
	location = h2o_concat(&req->pool, h2o_iovec_init(url, strlen(url)), req->path);
	gw_add_header(req, "location", location.base, location.len);
	gw_reply_empty(req, 307);
	return true;
}

/* Without its key SCIM is not there: a browser gets the pages, as on any path that is no route. */
static bool
is_scim_page(const GwRequest *request)
{
	return gw_starts_with(request->path, "/scim/") && gw_iovec_is(request->req->method, "GET") &&
		   !json_is_string(json_object_get(gw_server.options.settings, "scim_auth_hash"));
}

/* To clients a JSON body above its limit is one that cannot be read. */
static void
reply_too_large(h2o_req_t *req, const GwRoute *route)
{
	char detail[80];

	snprintf(detail, sizeof(detail), "The body is too large: the limit is %zu bytes.", route->max_body);
	if (route->raw_body)
		gw_reply_error(req, 413, "The request body is too large.", detail);
	else
		gw_reply_error(req, 400, "Request body must be valid JSON.", detail);
}

/* match: none is answered too. */
static void
serve_route(GwRequest *request, const GwMatch *match)
{
	h2o_req_t *req = request->req;

	if (match->route == NULL)
	{
		if (match->path_known)
			gw_reply_empty(req, 405);
		else if (is_api(request) || request->app_host.base != NULL)
		{
			request->route = GW_ROUTE_UNKNOWN;
			gw_reply_error(req, 404, "Route not found.", NULL);
		}
		else
			gw_site_serve(request);
		return;
	}
	request->route = match->route->id;
	gw_metrics_begin(request);
	if (match->route->max_body > 0 && req->entity.len > match->route->max_body)
	{
		reply_too_large(req, match->route);
		return;
	}
	if (!gw_limit_rate(request, (int) match->route->rate))
		return;
	if (!match->route->needs_token)
		request->unknown_token = 0;
	start_call(request, match);
}

/* A host of an app has nothing else: every path of it is the app's. */
static void
find_app_route(GwRequest *request, GwMatch *match)
{
	h2o_req_t *req = request->req;
	h2o_iovec_t path = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT(GW_APPHOST_PREFIX)), request->app_host);

	gw_routes_find(request->loop->routes, req->method.base, req->method.len, path.base, path.len, match);
}

void
gw_api_serve(GwRequest *request)
{
	h2o_req_t *req = request->req;
	GwMatch match;

	if (request->app_host.base != NULL)
	{
		find_app_route(request, &match);
		serve_route(request, &match);
		return;
	}
	if (redirect(request) || !gw_limit_cors(request) || !gw_limit_csrf(request))
		return;
	if (gw_starts_with(request->path, "/derp") && gw_derp_open != NULL &&
		gw_server.options.derp_enable &&
		(gw_iovec_is(request->path, "/derp") || gw_iovec_is(request->path, "/derp/")))
	{
		request->upgraded = true;
		request->loop->ws_route = 0;
		gw_derp_open(req);
		return;
	}
	if (gw_site_serve_own(request))
		return;
	if (is_scim_page(request))
	{
		gw_site_serve(request);
		return;
	}
	gw_routes_find(request->loop->routes,
				   req->method.base,
				   req->method.len,
				   request->path.base,
				   request->path.len,
				   &match);
	if (match.route != NULL && strncmp(match.route->pattern, GW_APPHOST_PREFIX, sizeof(GW_APPHOST_PREFIX) - 1) == 0)
		match = (GwMatch){NULL};
	serve_route(request, &match);
}

/* HTTP/1 does not tell of a client that leaves while its request is worked on. */
void
gw_api_sweep(GwLoop *loop)
{
	uint64_t now = h2o_now(loop->ctx.loop);
	h2o_linklist_t *next;

	for (h2o_linklist_t *node = loop->calls.next; node != &loop->calls; node = next)
	{
		ApiCall *call = H2O_STRUCT_FROM_MEMBER(ApiCall, link, node);
		h2o_req_t *req = call->request->req;
		h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
		struct pollfd p = {.fd = h2o_socket_get_fd(sock), .events = POLLRDHUP};

		next = node->next;
		if (now - call->since < 1000 || poll(&p, 1, 0) <= 0 ||
			(p.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
			continue;
		abandon(call);
		req->http1_is_persistent = 0;
		gw_reply_error(req, 503, "The client has left.", NULL);
	}
}
