/*
 * plan.h -- what a function asks the gateway to fetch, and the results it gets back.
 *
 * No I/O: docs/ARCHITECTURE.md section 2.2 is the contract.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OUTBOUND_PLAN_H
#define GATEWAY_OUTBOUND_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include <jansson.h>

#define OUTBOUND_MAX_REQUESTS 16
#define OUTBOUND_MAX_HEADERS 32
#define OUTBOUND_MAX_URL 16384
#define OUTBOUND_TIMEOUT_MS 10000
#define OUTBOUND_MAX_WAIT_MS 10000
#define OUTBOUND_MAX_TIMEOUT_MS 60000
#define OUTBOUND_MAX_BODY ((size_t) 16 << 20)
#define OUTBOUND_SIZE ((size_t) 1 << 20)
#define OUTBOUND_MAX_SIZE ((size_t) 16 << 20)
#define OUTBOUND_MAX_NAME 64

/* One request, and behind it what came of it. */
typedef struct OutboundRequest
{
	char *method;
	char *url;
	char *headers[OUTBOUND_MAX_HEADERS]; /* "Name: value" */
	int n_headers;
	char *body; /* NULL: none */
	size_t body_len;
	long timeout_ms;
	size_t max_size; /* of the answer's body */
	bool public_only; /* not to addresses of this machine or of private networks */
	bool probe; /* no HTTP: see probe.h */
	char name[OUTBOUND_MAX_NAME]; /* of the provider, where it is counted (count.h), and what for */
	char source[OUTBOUND_MAX_NAME];

	long status; /* 0: no answer, see error */
	const char *error;
	char error_text[256];
	json_t *answer_headers;
	char *content;
	size_t len;
	size_t room;
} OutboundRequest;

typedef struct OutboundPlan
{
	int n;		  /* 0: only a wait */
	long wait_ms; /* before the function goes on, without requests */
	OutboundRequest *requests;
	char *function; /* goes on with the results */
	json_t *state;	/* for it, opaque */
} OutboundPlan;

/* NULL, or what is wrong with it; the plan is then empty. */
const char *outbound_plan_parse(OutboundPlan *plan, const char *json, size_t len);
void outbound_plan_free(OutboundPlan *plan);

/* More of an answer's body: false where it becomes too long. */
bool outbound_take(OutboundRequest *request, const char *data, size_t len);

/* A line of an answer's head: "Name: value\r\n", or a status line, which begins anew. */
void outbound_take_header(OutboundRequest *request, const char *line, size_t len);

/* The cursor of the call that goes on: "fetched:<function>\n{"state":...,"results":[...]}"; malloc'ed. */
char *outbound_cursor(const OutboundPlan *plan);

/* Is the address one that everybody has, and not this machine's, a private network's or a special one? */
bool outbound_is_public(const struct sockaddr *address);

#endif
