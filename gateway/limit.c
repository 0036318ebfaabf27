/*
 * limit.c -- requests a minute, CSRF, CORS.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "reply.h"
#include "request.h"
#include "route.h"

/* Rate ----------------------------------------------------------------------- */

#define SHARDS 16
#define SLOTS 8192 /* per shard; the oldest of a probe window is overwritten */
#define PROBES 8
#define WINDOW 60

typedef struct Slot
{
	uint64_t key;
	uint64_t window; /* number of the minute that count is of */
	uint32_t count;
	uint32_t before; /* of the minute before */
} Slot;

static struct
{
	pthread_mutex_t lock;
	Slot *slots;
} shards[SHARDS];
static uint8_t hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
init_shards(void)
{
	randombytes_buf(hash_key, sizeof(hash_key));
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&shards[i].lock, NULL);
}

static Slot *
find_slot(Slot *slots, uint64_t key)
{
	Slot *oldest = NULL;

	for (size_t i = 0; i < PROBES; i++)
	{
		Slot *slot = &slots[(key + i) % SLOTS];

		if (slot->key == key)
			return slot;
		if (oldest == NULL || slot->window < oldest->window)
			oldest = slot;
	}
	*oldest = (Slot){.key = key};
	return oldest;
}

/*
 * Counts a request; returns how many there were in the sliding minute, without
 * it, the last window weighted by how much of it still counts.
 */
static unsigned
count_request(uint64_t key, uint64_t now)
{
	uint64_t window = now / WINDOW;
	unsigned seen;
	Slot *slot;

	pthread_once(&once, init_shards);
	pthread_mutex_lock(&shards[key % SHARDS].lock);
	if (shards[key % SHARDS].slots == NULL)
		shards[key % SHARDS].slots = calloc(SLOTS, sizeof(Slot));
	slot = find_slot(shards[key % SHARDS].slots, key / SHARDS);
	if (slot->window != window)
	{
		slot->before = slot->window + 1 == window ? slot->count : 0;
		slot->count = 0;
		slot->window = window;
	}
	seen = slot->count + (unsigned) (slot->before * (WINDOW - now % WINDOW) / WINDOW);
	slot->count++;
	pthread_mutex_unlock(&shards[key % SHARDS].lock);
	return seen;
}

static int
limit_of(int rate)
{
	switch ((GwRate) rate)
	{
		case GW_RATE_API:
			return gw_server.options.api_rate_limit;
		case GW_RATE_LOGIN:
			return 60;
		case GW_RATE_FILES:
			return 12;
		case GW_RATE_NONE:
			break;
	}
	return 0;
}

/* Who asks: the key's id where there is a token, else the address; plus the path. */
static uint64_t
rate_key(const GwRequest *request, int rate)
{
	const char *who = request->remote;
	size_t len = strlen(request->remote);
	char text[512];
	uint64_t key;
	size_t n;

	pthread_once(&once, init_shards);
	if (rate != GW_RATE_LOGIN && request->token.base != NULL)
	{
		who = request->token.base;
		len = request->token.len < 10 ? request->token.len : 10;
	}
	n = len < 64 ? len : 64;
	memcpy(text, who, n);
	text[n++] = (char) rate;
	len = request->path.len < 400 ? request->path.len : 400;
	memcpy(text + n, request->path.base, len);
	crypto_shorthash((unsigned char *) &key, (unsigned char *) text, n + len, hash_key);
	return key;
}

static void
add_number_header(h2o_req_t *req, const char *name, unsigned long value)
{
	char *text = h2o_mem_alloc_pool(&req->pool, 24);
	int n = snprintf(text, 24, "%lu", value);

	gw_add_header(req, name, text, (size_t) n);
}

bool
gw_limit_rate(GwRequest *request, int rate)
{
	int limit = gw_server.options.disable_rate_limits ? 0 : limit_of(rate);
	uint64_t now = (uint64_t) time(NULL);
	uint64_t reset = (now / WINDOW + 1) * WINDOW;
	h2o_req_t *req = request->req;
	char message[100];
	unsigned seen;

	if (limit <= 0)
		return true;
	seen = count_request(rate_key(request, rate), now);
	add_number_header(req, "x-ratelimit-limit", (unsigned) limit);
	add_number_header(req, "x-ratelimit-remaining", seen + 1 < (unsigned) limit ? (unsigned) limit - seen - 1 : 0);
	add_number_header(req, "x-ratelimit-reset", reset);
	if (seen < (unsigned) limit)
		return true;
	add_number_header(req, "retry-after", reset - now);
	snprintf(message, sizeof(message), "You've been rate limited for sending more than %d requests in 1m0s.", limit);
	gw_reply_error(req, 429, message, NULL);
	return false;
}

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
	h2o_req_t *req = request->req;
	char text[64];
	h2o_iovec_t line;

	if (request->cookies.base != NULL &&
		decode_base64(request->csrf, GW_CSRF_LEN, gw_cookie(request->cookies, "csrf_token")))
		return;
	gw_random(request->loop, request->csrf, GW_CSRF_LEN);
	/* What a cache may keep must not carry one browser's cookie. */
	if (gw_starts_with(request->path, "/assets/") || gw_starts_with(request->path, "/bin/"))
		return;
	sodium_bin2base64(text, sizeof(text), request->csrf, GW_CSRF_LEN, sodium_base64_VARIANT_ORIGINAL);
	line = h2o_concat(&req->pool, h2o_iovec_init(H2O_STRLIT("csrf_token=")), h2o_iovec_init(text, strlen(text)),
					  h2o_iovec_init(H2O_STRLIT("; Path=/; HttpOnly; SameSite=Lax")),
					  gw_server.options.secure_auth_cookie ? h2o_iovec_init(H2O_STRLIT("; Secure"))
														   : h2o_iovec_init("", 0));
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_SET_COOKIE, NULL, line.base, line.len);
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

static bool
contains(h2o_iovec_t text, const char *part)
{
	return memmem(text.base, text.len, part, strlen(part)) != NULL;
}

static bool
csrf_exempt_path(h2o_iovec_t path)
{
	static const char *const parts[] = {"/api/v2/users/first", "/api/v2/csp/reports", "api/v2/workspaceagents",
										"api/v2/workspaceproxies/me", "/derp", "api/v2/scim"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (contains(path, parts[i]))
			return true;
	return contains(path, "/organizations/") && contains(path, "/provisionerdaemons");
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
