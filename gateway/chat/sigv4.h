/*
 * sigv4.h -- AWS Signature Version 4 of a POST without a query.
 *
 * What is signed: the method, the path, the headers host, x-amz-date and, with a token, x-amz-security-token, and the body.
 * No I/O and no clock.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_SIGV4_H
#define GATEWAY_CHAT_SIGV4_H

#include <stddef.h>
#include <time.h>

typedef struct Sigv4
{
	const char *key_id;
	const char *secret;
	const char *token; /* of a session; NULL: none */
	const char *region;
	const char *service;
	const char *host; /* as in the Host header */
	const char *path; /* as in the request line */
	const char *body;
	size_t body_len;
	time_t now;
} Sigv4;

/* The value of x-amz-date. */
void sigv4_date(const Sigv4 *ask, char date[17]);

/* The value of Authorization; malloc'ed, NULL: no memory. */
char *sigv4_authorization(const Sigv4 *ask);

#endif
