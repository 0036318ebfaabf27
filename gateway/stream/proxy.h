/*
 * proxy.h -- what a proxy does with heads of HTTP/1.1: reads a response, drops
 * what is for one connection only, and keeps the session from the app.
 *
 * No I/O here: bytes come in as they arrive.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_PROXY_H
#define STREAM_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <http_parser.h>

#define PROXY_MAX_HEAD 65536
#define PROXY_MAX_FIELDS 128

typedef enum ProxyState
{
	PROXY_MORE,		/* the message goes on */
	PROXY_DONE,		/* it is complete */
	PROXY_UPGRADED, /* 101: what follows is not HTTP */
	PROXY_BAD		/* no HTTP, or too large */
} ProxyState;

typedef struct ProxyText
{
	const char *base;
	size_t len;
} ProxyText;

typedef struct ProxyField
{
	size_t name; /* where it is in text */
	size_t name_len;
	size_t value;
	size_t value_len;
} ProxyField;

typedef struct ProxyResponse
{
	http_parser parser;
	bool to_head; /* the answer to a HEAD has no body */
	bool head_done;
	ProxyState state;
	int status;
	int64_t content_length; /* -1: not known */
	ProxyField fields[PROXY_MAX_FIELDS];
	size_t nfields;
	bool in_value;
	char *text;
	size_t text_len;
	size_t text_room;
	void (*body)(void *arg, const char *data, size_t len);
	void *arg;
} ProxyResponse;

/* body gets the bytes of the body, without their chunks. */
void proxy_response_init(ProxyResponse *response, bool to_head, void (*body)(void *arg, const char *data, size_t len),
						 void *arg);
void proxy_response_free(ProxyResponse *response);

/* Takes bytes; returns how many were the message's.  The state tells the rest. */
size_t proxy_response_feed(ProxyResponse *response, const char *data, size_t len);

/* The connection has ended. */
void proxy_response_end(ProxyResponse *response);

ProxyText proxy_name(const ProxyResponse *response, size_t i);
ProxyText proxy_value(const ProxyResponse *response, size_t i);

/* A field's value by its lower-case name; base NULL if absent. */
ProxyText proxy_find(const ProxyResponse *response, const char *name);

bool proxy_is(ProxyText text, const char *word); /* in any case */

/*
 * Is the field for one connection only?  connection is the value of the field
 * "Connection", which names more of them.
 */
bool proxy_is_hop(ProxyText name, ProxyText connection);

/* A session token's form. */
bool proxy_is_token(const char *text, size_t len);

/* Is it one of the server's: "name", or "name=value; ..."? */
bool proxy_is_own_cookie(ProxyText cookie);

/* Cookies without those of the server; dst has room for 2 * len.  The size. */
size_t proxy_strip_cookies(char *dst, const char *cookies, size_t len);

/* A query (no "?") without a session token; dst has room for len.  The size. */
size_t proxy_strip_query(char *dst, const char *query, size_t len);

/* A path with its query behind the first n segments ("/" where nothing is left). */
ProxyText proxy_behind(const char *path, size_t len, int n);

#endif
