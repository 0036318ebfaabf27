/*
 * request.c -- what the gateway notes about a request: id, tokens, time.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "apphost.h"
#include "header.h"
#include "reply.h"
#include "request.h"
#include "route.h"



uint64_t
gw_micros(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

h2o_iovec_t
gw_header(h2o_req_t *req, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < req->headers.size; i++)
	{
		const h2o_header_t *header = &req->headers.entries[i];

		if (header->name->len == len && memcmp(header->name->base, name, len) == 0)
			return header->value;
	}
	return (h2o_iovec_t){NULL, 0};
}

h2o_iovec_t
gw_query_value(h2o_mem_pool_t *pool, h2o_iovec_t query, const char *name)
{
	const char *p = query.base;
	const char *end = p != NULL ? p + query.len : NULL;
	size_t len = strlen(name);

	while (p != NULL && p < end)
	{
		const char *stop = memchr(p, '&', (size_t) (end - p));

		if (stop == NULL)
			stop = end;
		if ((size_t) (stop - p) > len && memcmp(p, name, len) == 0 && p[len] == '=')
		{
			size_t n = (size_t) (stop - p) - len - 1;
			h2o_iovec_t value = {h2o_mem_alloc_pool(pool, n + 1), 0};

			return gw_percent_decode(value.base, &value.len, p + len + 1, n, true) ? value : (h2o_iovec_t){NULL, 0};
		}
		p = stop + 1;
	}
	return (h2o_iovec_t){NULL, 0};
}

static h2o_iovec_t
none_if_empty(h2o_iovec_t v)
{
	return v.len > 0 ? v : (h2o_iovec_t){NULL, 0};
}

/* Where cookies have the prefix, one without it is not ours: the browser is told to drop it. */
static void
drop_cookie(GwRequest *request, const char *name)
{
	h2o_req_t *req = request->req;
	h2o_iovec_t line;

	if (gw_cookie(request->cookies, name).base == NULL)
		return;
	line = h2o_concat(&req->pool, h2o_iovec_init(name, strlen(name)), h2o_iovec_init(H2O_STRLIT("=; Path=/; Max-Age=0; HttpOnly")));
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_SET_COOKIE, NULL, line.base, line.len);
}

static h2o_iovec_t
session_cookie(GwRequest *request)
{
	h2o_iovec_t value;

	if (request->cookies.base == NULL)
		return (h2o_iovec_t){NULL, 0};
	if (gw_server.options.host_prefix_cookie)
	{
		drop_cookie(request, "coder_session_token");
		drop_cookie(request, "csrf_token");
		return none_if_empty(gw_cookie(request->cookies, "__Host-coder_session_token"));
	}
	value = none_if_empty(gw_cookie(request->cookies, "coder_session_token"));
	return value.base != NULL ? value : none_if_empty(gw_cookie(request->cookies, "__Host-coder_session_token"));
}

/* Hosts of apps have a session of their own: what an app's page may set is no session here. */
static void
find_app_token(GwRequest *request)
{
	h2o_iovec_t value = none_if_empty(gw_cookie(request->cookies, gw_apphost_cookie()));

	request->token = value.base != NULL ? value : none_if_empty(gw_header(request->req, "coder-session-token"));
}

static void
find_app_host(GwRequest *request)
{
	h2o_req_t *req = request->req;
	char label[GW_APPHOST_LABEL_MAX + 1];
	size_t n = gw_apphost_label(label, req->authority.base, req->authority.len);

	if (n > 0)
		request->app_host = h2o_strdup(&req->pool, label, n);
}

/* In the order of the API: cookie, query, header, bearer, access_token. */
static void
find_token(GwRequest *request)
{
	h2o_req_t *req = request->req;
	h2o_iovec_t value = session_cookie(request);

	request->token_cookie = value;
	if (value.base == NULL && request->query.len > 0)
		value = none_if_empty(gw_query_value(&req->pool, request->query, "coder_session_token"));
	if (value.base == NULL)
		value = none_if_empty(gw_header(req, "coder-session-token"));
	if (value.base == NULL)
	{
		h2o_iovec_t bearer = gw_header(req, "authorization");

		if (bearer.len > 7 && strncasecmp(bearer.base, "bearer ", 7) == 0)
			value = h2o_iovec_init(bearer.base + 7, bearer.len - 7);
	}
	if (value.base == NULL && request->query.len > 0)
		value = none_if_empty(gw_query_value(&req->pool, request->query, "access_token"));
	request->token = value;
}

/* No token is that long, and none has a NUL or other bytes that text refuses. */
static void
check_token(GwRequest *request)
{
	h2o_iovec_t value = request->token;

	if (value.len > 512)
		value = h2o_iovec_init("invalid", 7);
	for (size_t i = 0; i < value.len; i++)
		if (value.base[i] < 0x20 || value.base[i] > 0x7e)
			value = h2o_iovec_init("invalid", 7);
	request->token = value;
}

/* The last line of a header: what was there before a proxy's own is the client's word. */
static h2o_iovec_t
last_header(h2o_req_t *req, const char *name, size_t len)
{
	for (size_t i = req->headers.size; i-- > 0;)
	{
		const h2o_header_t *header = &req->headers.entries[i];

		if (header->name->len == len && strncasecmp(header->name->base, name, len) == 0)
			return header->value;
	}
	return (h2o_iovec_t){NULL, 0};
}

/* A trusted proxy says who the client is, by the first of its headers that is an address. */
static void
take_proxys_word(GwRequest *request)
{
	const GwOrigins *origins = &gw_server.options.origins;
	char client[GW_ADDRESS_MAX];

	if (gw_server.options.proxy_trusted_headers == NULL || !gw_origins_contain(origins, request->remote))
		return;
	for (const char *p = gw_server.options.proxy_trusted_headers; *(p += strspn(p, ", ")) != '\0';)
	{
		size_t len = strcspn(p, ", ");
		h2o_iovec_t value = last_header(request->req, p, len);

		if (value.base != NULL && gw_origins_client(origins, value.base, value.len, client))
		{
			strcpy(request->remote, client);
			return;
		}
		p += len;
	}
}

static void
find_remote(GwRequest *request)
{
	struct sockaddr_storage sa;
	socklen_t len = request->req->conn->callbacks->get_peername(request->req->conn, (struct sockaddr *) &sa);
	const void *address = NULL;

	strcpy(request->remote, "127.0.0.1");
	if (len == 0)
		return;
	if (sa.ss_family == AF_INET)
		address = &((struct sockaddr_in *) &sa)->sin_addr;
	else if (sa.ss_family == AF_INET6)
		address = &((struct sockaddr_in6 *) &sa)->sin6_addr;
	if (address != NULL)
		inet_ntop(sa.ss_family, address, request->remote, sizeof(request->remote));
	if (strncmp(request->remote, "::ffff:", 7) == 0 && strchr(request->remote, '.') != NULL)
		memmove(request->remote, request->remote + 7, strlen(request->remote + 7) + 1);
	if (gw_server.options.origins.n > 0)
		take_proxys_word(request);
}

static void
on_dispose(void *arg)
{
	GwRequest *request = arg;

	gw_metrics_end(request);
}

GwRequest *
gw_request_begin(h2o_req_t *req)
{
	GwRequest *request = h2o_mem_alloc_shared(&req->pool, sizeof(*request), on_dispose);
	size_t len = req->query_at == SIZE_MAX ? req->path.len : req->query_at;

	memset(request, 0, sizeof(*request));
	request->req = req;
	request->loop = gw_loop_of(req);
	request->started = gw_micros();
	request->path = h2o_iovec_init(req->path.base, len);
	if (memmem(req->path.base, len, "//", 2) != NULL)
	{
		char *copy = h2o_mem_alloc_pool(&req->pool, len);

		request->path = h2o_iovec_init(copy, gw_path_collapse(copy, req->path.base, len));
	}
	if (req->query_at != SIZE_MAX)
		request->query = h2o_iovec_init(req->path.base + len + 1, req->path.len - len - 1);
	request->cookies = gw_header(req, "cookie");
	gw_uuid(request->loop, request->id);
	find_remote(request);
	find_app_host(request);
	if (request->app_host.base != NULL)
		find_app_token(request);
	else
		find_token(request);
	check_token(request);

	gw_add_header(req, "x-coder-build-version", H2O_STRLIT(GW_VERSION));
	gw_add_header(req, "x-coder-request-id", request->id, 36);
	gw_add_header(req, "x-content-type-options", H2O_STRLIT("nosniff"));
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_VARY, NULL, H2O_STRLIT("Cookie"));
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_VARY, NULL, H2O_STRLIT("Origin"));
	gw_csrf_begin(request);
	return request;
}
