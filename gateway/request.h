/*
 * request.h -- what the gateway notes about a request: id, tokens, time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_REQUEST_H
#define GATEWAY_REQUEST_H

#include "gateway.h"

#define GW_CSRF_LEN 32

typedef struct GwRequest
{
	h2o_req_t *req;
	GwLoop *loop;
	uint64_t started; /* microseconds, monotonic */
	int route;		  /* id, for the metrics; 0: none */
	bool counted;	  /* among those in progress */
	bool upgraded;	  /* its time is no latency */
	h2o_iovec_t path; /* without query, runs of slashes collapsed */
	h2o_iovec_t query;
	h2o_iovec_t cookies;
	h2o_iovec_t app_host; /* the name of an app below the wildcard host; base NULL: another host */
	h2o_iovec_t token; /* base NULL: none */
	h2o_iovec_t token_cookie;
	uint64_t unknown_token; /* hash of a token that counts as its address as yet; 0: none */
	uint8_t csrf[GW_CSRF_LEN];
	char id[37];
	char remote[64];
} GwRequest;

/* Notes the request and sets the headers that every answer has. */
GwRequest *gw_request_begin(h2o_req_t *req);

/* Microseconds of a clock that never jumps. */
uint64_t gw_micros(void);

/* A header by its lower-case name; base NULL if absent. */
h2o_iovec_t gw_header(h2o_req_t *req, const char *name);

/* The first value of a query parameter, percent-decoded into the pool; base NULL if absent. */
h2o_iovec_t gw_query_value(h2o_mem_pool_t *pool, h2o_iovec_t query, const char *name);

static inline bool
gw_iovec_is(h2o_iovec_t v, const char *text)
{
	return v.len == strlen(text) && memcmp(v.base, text, v.len) == 0;
}

static inline bool
gw_starts_with(h2o_iovec_t v, const char *text)
{
	size_t len = strlen(text);

	return v.len >= len && memcmp(v.base, text, len) == 0;
}

/* rate.c */

/* True if the request may go on; otherwise 429 has been answered. */
bool gw_limit_rate(GwRequest *request, int rate);

/* limit.c */

/* True if the request may go on; otherwise 400 has been answered. */
bool gw_limit_csrf(GwRequest *request);

/* Answers a preflight, or sets the headers of a cross-origin answer. */
bool gw_limit_cors(GwRequest *request);

/* The masked CSRF token for a page: base64, NUL-terminated, from the pool. */
char *gw_csrf_masked(GwRequest *request);

/* Sets request->csrf from the cookie, or makes a new one and adds Set-Cookie. */
void gw_csrf_begin(GwRequest *request);

/* api.c */
void gw_api_serve(GwRequest *request);

/* site.c */
void gw_site_init(void);
/* True if the path was one of the gateway's own. */
bool gw_site_serve_own(GwRequest *request);
void gw_site_serve(GwRequest *request);

/* metrics.c */
void gw_metrics_init(GwLoop *loop);
#define GW_ROUTE_UNKNOWN 2047 /* instead of a route's id: a path of the API that has none */
/* A request of request->route begins. */
void gw_metrics_begin(GwRequest *request);
/* It is over. */
void gw_metrics_end(GwRequest *request);
/* A WebSocket of a route begins and ends; the same route and thread. */
void gw_metrics_ws_begin(GwLoop *loop, int route);
void gw_metrics_ws_end(GwLoop *loop, int route, uint64_t us);
void gw_metrics_serve(GwRequest *request);
/* What this process counts, as text; the caller frees it. */
char *gw_metrics_text(const GwLoop *loop, size_t *len);

/* prometheus.c: a request at the address for Prometheus */
int gw_metrics_scrape(h2o_handler_t *handler, h2o_req_t *req);

#endif
