/*
 * failure.h -- what went wrong with a provider, whether to ask again, and what the user is told.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_FAILURE_H
#define GATEWAY_CHAT_FAILURE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define FAILURE_MAX_ATTEMPTS 25
#define FAILURE_MAX_WAIT_MS 3600000

typedef enum FailureKind
{
	FAILURE_GENERIC,
	FAILURE_OVERLOADED,
	FAILURE_RATE_LIMIT,
	FAILURE_TIMEOUT,
	FAILURE_STARTUP_TIMEOUT,
	FAILURE_AUTH,
	FAILURE_CONFIG
} FailureKind;

typedef struct Failure
{
	FailureKind kind;
	bool retryable;
	int status; /* HTTP status, 0: none */
} Failure;

/* status: HTTP status or 0; text: what the provider or libcurl said, NULL where nothing. */
Failure failure_of(int status, const char *text);

/* Its name on the wire. */
const char *failure_kind_name(FailureKind kind);

/* What the user is told at the end; provider: its display name, or NULL. */
void failure_message(const Failure *failure, const char *provider, char *buf, int size);

/* The same while it is tried again: without status and advice. */
void failure_retry_message(const Failure *failure, const char *provider, char *buf, int size);

/*
 * What a header's line asks to wait: "Retry-After: 5", a date there, or "retry-after-ms: 500"; 0: it is another, or asks nothing
 * that can be understood.  Never more than FAILURE_MAX_WAIT_MS.
 */
int64_t failure_retry_after_ms(const char *line, time_t now);

/* How long to wait before attempt number attempt (1: the first retry); retry_after_ms: as the provider asked, or 0. */
int64_t failure_delay_ms(int attempt, int64_t retry_after_ms);

#endif
