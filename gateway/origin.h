/*
 * origin.h -- whose word counts about where a client is: the proxies in front of this server.
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_ORIGIN_H
#define GATEWAY_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW_ORIGINS_MAX 64
#define GW_ADDRESS_MAX 46 /* INET6_ADDRSTRLEN */

typedef struct GwNet
{
	uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
	int bits;
} GwNet;

typedef struct GwOrigins
{
	GwNet nets[GW_ORIGINS_MAX];
	int n;
} GwOrigins;

/* Addresses and networks, "10.0.0.0/8, ::1"; false for anything else, or more than GW_ORIGINS_MAX.
 * NULL is none. */
bool gw_origins_parse(GwOrigins *origins, const char *text);

/* Is the address in one of the networks? */
bool gw_origins_contain(const GwOrigins *origins, const char *address);

/*
 * The client that a trusted proxy names in a header: of a list (X-Forwarded-For)
 * the last one that is no trusted proxy, else the only one.  False where the
 * value is no such thing.
 */
bool gw_origins_client(const GwOrigins *origins, const char *value, size_t len,
					   char client[GW_ADDRESS_MAX]);

#endif
