/*
 * route.h -- coder.routes in memory: which row answers a method and a path.
 *
 * A table is immutable and counted; a reload makes a new one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_MAX_ROUTE_PARAMS 8
#define GW_MAX_SEGMENTS 32

typedef enum GwRate
{
	GW_RATE_API,
	GW_RATE_LOGIN,
	GW_RATE_FILES,
	GW_RATE_NONE
} GwRate;

typedef struct GwRoute
{
	int id;
	char *method; /* "*": any */
	char *pattern;
	int n_params;
	bool slow;
	bool read_only;
	bool raw_body;
	bool needs_token; /* 401 without one */
	GwRate rate;
	size_t max_body;
} GwRoute;

typedef struct GwRouteTable GwRouteTable;

/* A piece of the path, still percent-encoded. */
typedef struct GwSlice
{
	const char *base;
	size_t len;
} GwSlice;

typedef struct GwMatch
{
	const GwRoute *route; /* NULL: none */
	bool path_known;	  /* the path has routes, for other methods */
	int n_params;
	GwSlice params[GW_MAX_ROUTE_PARAMS];
} GwMatch;

GwRouteTable *gw_routes_new(void);
/* False: the pattern is malformed or has too many parameters. */
bool gw_routes_add(GwRouteTable *table, const GwRoute *route);
GwRouteTable *gw_routes_ref(GwRouteTable *table);
void gw_routes_unref(GwRouteTable *table);
size_t gw_routes_count(const GwRouteTable *table);
/* NULL: there is none with this id. */
const GwRoute *gw_routes_by_id(const GwRouteTable *table, int id);

/* path: no query, runs of slashes collapsed.  HEAD takes a GET row where it has none. */
void gw_routes_find(const GwRouteTable *table, const char *method, size_t method_len, const char *path,
					size_t len, GwMatch *match);

/* Collapses runs of slashes into dst (of len bytes or more); the new length. */
size_t gw_path_collapse(char *dst, const char *path, size_t len);

/* Percent-decodes into dst (of len bytes or more).  False: malformed, or a NUL. */
bool gw_percent_decode(char *dst, size_t *dst_len, const char *src, size_t len, bool plus);

#endif
