/*
 * limit.c -- CSRF, CORS.
 *
 * SPDX-License-Identifier: MIT
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "header.h"
#include "reply.h"
#include "request.h"

/* CSRF ----------------------------------------------------------------------- */

static bool
decode_base64(uint8_t *dst, size_t len, h2o_iovec_t text)
{
	size_t n;

	return text.base != NULL && text.len == sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL) - 1 &&
		   sodium_base642bin(dst, len, text.base, text.len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
		   n == len;
}

void
gw_csrf_begin(GwRequest *request)
{
	const GwOptions *options = &gw_server.options;
	const char *name = options->host_prefix_cookie ? "__Host-csrf_token" : "csrf_token";
	const bool none = strcmp(options->samesite_auth_cookie, "none") == 0;
	const bool secure = options->secure_auth_cookie || options->host_prefix_cookie || none;
	h2o_req_t *req = request->req;
	char token[64];
	char line[160];
	int n;

	if (request->cookies.base != NULL && decode_base64(request->csrf, GW_CSRF_LEN, gw_cookie(request->cookies, name)))
		return;
	gw_random(request->loop, request->csrf, GW_CSRF_LEN);
	/* What a cache may keep must not carry one browser's cookie. */
	if (gw_starts_with(request->path, "/assets/") || gw_starts_with(request->path, "/bin/"))
		return;
	sodium_bin2base64(token, sizeof(token), request->csrf, GW_CSRF_LEN, sodium_base64_VARIANT_ORIGINAL);
	n = snprintf(line,
				 sizeof(line),
				 "%s=%s; Path=/; HttpOnly; SameSite=%s%s",
				 name,
				 token,
				 none ? "None" : "Lax",
				 secure ? "; Secure" : "");
	h2o_add_header(&req->pool,
				   &req->res.headers,
				   H2O_TOKEN_SET_COOKIE,
				   NULL,
				   h2o_strdup(&req->pool, line, (size_t) n).base,
				   (size_t) n);
}

char *
gw_csrf_masked(GwRequest *request)
{
	uint8_t masked[2 * GW_CSRF_LEN];
	size_t len = sodium_base64_encoded_len(sizeof(masked), sodium_base64_VARIANT_ORIGINAL);
	char *text = h2o_mem_alloc_pool(&request->req->pool, len);

	gw_random(request->loop, masked, GW_CSRF_LEN);
	for (int i = 0; i < GW_CSRF_LEN; i++)
		masked[GW_CSRF_LEN + i] = masked[i] ^ request->csrf[i];
	return sodium_bin2base64(text, len, masked, sizeof(masked), sodium_base64_VARIANT_ORIGINAL);
}

/* A header's token, masked or plain, against the cookie's. */
static bool
csrf_matches(GwRequest *request, h2o_iovec_t given)
{
	uint8_t bytes[2 * GW_CSRF_LEN];

	if (decode_base64(bytes, sizeof(bytes), given))
		for (int i = 0; i < GW_CSRF_LEN; i++)
			bytes[i] ^= bytes[GW_CSRF_LEN + i];
	else if (!decode_base64(bytes, GW_CSRF_LEN, given))
		return false;
	return sodium_memcmp(bytes, request->csrf, GW_CSRF_LEN) == 0;
}

/* Paths whose callers have other credentials than a browser's cookie. */
static bool
csrf_exempt_path(h2o_iovec_t path)
{
	static const char *const prefixes[] = {"/api/v2/workspaceagents/", "/api/v2/workspaceproxies/me/", "/api/v2/scim/"};
	static const char organizations[] = "/api/v2/organizations/";
	const size_t len = sizeof(organizations) - 1;
	const char *rest;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (gw_starts_with(path, prefixes[i]))
			return true;
	if (gw_iovec_is(path, "/api/v2/users/first") || gw_iovec_is(path, "/api/v2/csp/reports"))
		return true;
	if (!gw_starts_with(path, organizations))
		return false;
	rest = memchr(path.base + len, '/', path.len - len);
	return rest != NULL &&
		   gw_starts_with(h2o_iovec_init(rest, path.len - (size_t) (rest - path.base)), "/provisionerdaemons");
}

static bool
is_same(h2o_iovec_t a, h2o_iovec_t b)
{
	return a.base != NULL && a.len == b.len && sodium_memcmp(a.base, b.base, a.len) == 0;
}

/* https://host of the request, or http://host where no TLS is spoken in front of us: a prefix of its own pages. */
static bool
is_own_origin(h2o_req_t *req, h2o_iovec_t url)
{
	static const char *const schemes[] = {"https://", "http://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		size_t len = strlen(schemes[i]);

		if (gw_starts_with(url, schemes[i]) && url.len >= len + req->authority.len &&
			memcmp(url.base + len, req->authority.base, req->authority.len) == 0 &&
			(url.len == len + req->authority.len || url.base[len + req->authority.len] == '/'))
			return true;
	}
	return false;
}

static bool
is_same_origin(h2o_req_t *req)
{
	h2o_iovec_t site = gw_header(req, "sec-fetch-site");
	h2o_iovec_t origin = gw_header(req, "origin");

	if (site.base != NULL)
		return gw_iovec_is(site, "same-origin");
	return is_own_origin(req, origin.base != NULL ? origin : gw_header(req, "referer"));
}

/* A page's form carries the token as a field: then the page must be ours. */
static bool
csrf_form_matches(GwRequest *request)
{
	h2o_req_t *req = request->req;

	return gw_starts_with(gw_header(req, "content-type"), "application/x-www-form-urlencoded") &&
		   req->entity.base != NULL &&
		   csrf_matches(request, gw_query_value(&req->pool, req->entity, "csrf_token")) && is_same_origin(req);
}

bool
gw_limit_csrf(GwRequest *request)
{
	static const char message[] =
		"Something is wrong with your CSRF token. Please refresh the page. If this error persists, try clearing your cookies.\n";
	static const char two_tokens[] =
		"CSRF error encountered. Authentication via \"coder_session_token\" cookie and \"Coder-Session-Token\" header detected, "
		"but the values do not match. To resolve this issue ensure the values used in both match, or only use one of the "
		"authentication methods. You can also try clearing your cookies if this error persists.\n";
	h2o_req_t *req = request->req;
	h2o_iovec_t cookie = request->token_cookie;

	if (cookie.base == NULL || gw_iovec_is(req->method, "GET") || gw_iovec_is(req->method, "HEAD") ||
		gw_iovec_is(req->method, "OPTIONS") || gw_iovec_is(req->method, "TRACE"))
		return true;
	if (!gw_starts_with(request->path, "/api") && !gw_starts_with(request->path, "/oauth2/authorize"))
		return true;
	if (is_same(gw_header(req, "coder-session-token"), cookie) ||
		is_same(gw_query_value(&req->pool, request->query, "coder_session_token"), cookie) ||
		gw_starts_with(gw_header(req, "authorization"), "Bearer ") ||
		gw_header(req, "coder-provisioner-daemon-psk").base != NULL ||
		gw_header(req, "coder-provisioner-daemon-key").base != NULL || csrf_exempt_path(request->path) ||
		csrf_matches(request, gw_header(req, "x-csrf-token")) || csrf_form_matches(request))
		return true;
	if (gw_header(req, "coder-session-token").len > 0)
		gw_reply_body(req, 400, "text/plain; charset=utf-8", two_tokens, sizeof(two_tokens) - 1);
	else
		gw_reply_body(req, 400, "text/plain; charset=utf-8", message, sizeof(message) - 1);
	return false;
}

/* CORS ----------------------------------------------------------------------- */

bool
gw_limit_cors(GwRequest *request)
{
	h2o_req_t *req = request->req;
	bool open = gw_starts_with(request->path, "/oauth2/") || gw_starts_with(request->path, "/api/experimental/mcp/") ||
				gw_starts_with(request->path, "/.well-known/oauth-");
	bool preflight = gw_iovec_is(req->method, "OPTIONS") && gw_header(req, "access-control-request-method").base != NULL;

	if (open || gw_server.options.allow_all_cors)
	{
		gw_add_header(req, "access-control-allow-origin", H2O_STRLIT("*"));
		if (open)
			gw_add_header(req, "access-control-expose-headers",
						  H2O_STRLIT("WWW-Authenticate, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Mcp-Session-Id"));
	}
	if (!preflight)
		return true;
	if (open)
	{
		gw_add_header(req, "access-control-allow-methods", H2O_STRLIT("GET, POST, DELETE, OPTIONS"));
		gw_add_header(req, "access-control-allow-headers",
					  H2O_STRLIT("Content-Type, Accept, Authorization, x-api-key, Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID"));
		gw_add_header(req, "access-control-max-age", H2O_STRLIT("86400"));
	}
	else if (gw_server.options.allow_all_cors)
	{
		gw_add_header(req, "access-control-allow-methods", H2O_STRLIT("GET, OPTIONS"));
		gw_add_header(req, "access-control-allow-headers", H2O_STRLIT("Accept, Content-Type, X-LATENCY-CHECK, X-CSRF-TOKEN"));
	}
	gw_reply_empty(req, 200);
	return false;
}
