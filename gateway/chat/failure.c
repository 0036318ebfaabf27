/*
 * failure.c -- classes of failures, in the order in which the reference looks for them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "failure.h"

static const char *const strong_auth[] = {"authentication", "unauthorized", "invalid api key", "invalid_api_key",
										  "quota", "billing", "insufficient_quota", "payment required", NULL};
static const char *const weak_auth[] = {"forbidden", NULL};
static const char *const overloaded[] = {"overloaded", NULL};
static const char *const rate_limit[] = {"rate limit", "rate_limit", "rate limited", "rate-limited", "too many requests", NULL};
static const char *const timeouts[] = {"timeout", "timed out", "unavailable", "connection reset", "connection refused", "eof",
									   "broken pipe", "bad gateway", "gateway timeout", NULL};
static const char *const config[] = {"invalid model", "model not found", "model_not_found", "unsupported model",
									 "context length exceeded", "context_exceeded", "maximum context length", "malformed config", NULL};
static const char *const generic[] = {"server error", "internal server error", NULL};
static const char *const deadline[] = {"context deadline exceeded", NULL};
static const char *const interrupted[] = {"chat interrupted", "request interrupted", "operation interrupted", NULL};

static bool
says(const char *text, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strcasestr(text, *words) != NULL)
			return true;
	return false;
}

static int
three_digits(const char *at)
{
	for (int i = 0; i < 3; i++)
		if (!isdigit((unsigned char) at[i]))
			return 0;
	return isdigit((unsigned char) at[3]) ? 0 : (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
}

/* A status that stands by itself, as no port does. */
static int
bare_status(const char *text)
{
	static const int known[] = {401, 403, 408, 429, 500, 502, 503, 504, 529};

	for (const char *at = text; *at != '\0'; at++)
	{
		int status = three_digits(at);

		if (at > text && (isalnum((unsigned char) at[-1]) || at[-1] == ':'))
			continue;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (status == known[i] && !isalnum((unsigned char) at[3]))
				return status;
	}
	return 0;
}

/* "status 503", "http 503" or a status by itself in a text; 0 where there is none. */
static int
status_in(const char *text)
{
	static const char *const marks[] = {"status ", "http "};

	for (int i = 0; i < 2; i++)
		for (const char *at = text; (at = strcasestr(at, marks[i])) != NULL;)
		{
			at += strlen(marks[i]);
			if (three_digits(at) != 0)
				return three_digits(at);
		}
	return bare_status(text);
}

Failure
failure_of(int status, const char *text)
{
	Failure f = {FAILURE_GENERIC, false, status};
	bool is_config;

	text = text != NULL ? text : "";
	if (f.status == 0)
		f.status = status_in(text);
	is_config = says(text, config);
	if (says(text, interrupted))
		return f;
	if (f.status == 529 || says(text, overloaded))
		f = (Failure){FAILURE_OVERLOADED, true, f.status};
	else if (f.status == 401 || says(text, strong_auth))
		f.kind = FAILURE_AUTH;
	else if (!is_config && (f.status == 403 || says(text, weak_auth)))
		f.kind = FAILURE_AUTH;
	else if (!is_config && (f.status == 429 || says(text, rate_limit)))
		f = (Failure){FAILURE_RATE_LIMIT, true, f.status};
	else if (says(text, deadline))
		f.kind = FAILURE_TIMEOUT;
	else if (f.status == 408 || f.status == 502 || f.status == 503 || f.status == 504 || says(text, timeouts))
		f = (Failure){FAILURE_TIMEOUT, true, f.status};
	else if (is_config)
		f.kind = FAILURE_CONFIG;
	else if (f.status == 500 || says(text, generic))
		f.retryable = true;
	return f;
}

const char *
failure_kind_name(FailureKind kind)
{
	static const char *const names[] = {"generic", "overloaded", "rate_limit", "timeout", "startup_timeout", "auth", "config"};

	return names[kind];
}

/* The sentence of a kind up to its full stop, without a status. */
static const char *
sentence(FailureKind kind)
{
	switch (kind)
	{
		case FAILURE_OVERLOADED:
			return "is temporarily overloaded";
		case FAILURE_RATE_LIMIT:
			return "is rate limiting requests";
		case FAILURE_TIMEOUT:
			return "is temporarily unavailable";
		case FAILURE_STARTUP_TIMEOUT:
			return "did not start responding in time";
		case FAILURE_CONFIG:
			return "rejected the model configuration";
		default:
			return "returned an unexpected error";
	}
}

void
failure_message(const Failure *failure, const char *provider, char *buf, int size)
{
	char status[32] = "";
	const char *p = provider != NULL && *provider != '\0' ? provider : "The AI provider";

	if (failure->status > 0)
		snprintf(status, sizeof(status), " (HTTP %d)", failure->status);
	if (failure->kind == FAILURE_AUTH)
		snprintf(buf, size, "Authentication with %s failed. Check the API key, permissions, and billing settings.", p);
	else if (failure->kind == FAILURE_CONFIG)
		snprintf(buf, size, "%s %s. Check the selected model and provider settings.", p, sentence(failure->kind));
	else if (failure->kind == FAILURE_TIMEOUT && !failure->retryable)
		snprintf(buf, size, "The request timed out before it completed.");
	else if (failure->kind == FAILURE_GENERIC && failure->status == 0 && !failure->retryable)
		snprintf(buf, size, "The chat request failed unexpectedly.");
	else if (failure->kind == FAILURE_STARTUP_TIMEOUT)
		snprintf(buf, size, "%s %s.", p, sentence(failure->kind));
	else
		snprintf(buf, size, "%s %s%s.", p, sentence(failure->kind), status);
}

void
failure_retry_message(const Failure *failure, const char *provider, char *buf, int size)
{
	const char *p = provider != NULL && *provider != '\0' ? provider : "The AI provider";

	if (failure->kind == FAILURE_AUTH)
		snprintf(buf, size, "Authentication with %s failed.", p);
	else
		snprintf(buf, size, "%s %s.", p, sentence(failure->kind));
}

/* A number of units of so many ms at the beginning of text. */
static int64_t
wait_of(const char *text, int64_t unit)
{
	int64_t ms = 0;

	while (*text == ' ' || *text == '\t')
		text++;
	for (; isdigit((unsigned char) *text) && ms < FAILURE_MAX_WAIT_MS; text++)
		ms = 10 * ms + (*text - '0') * unit;
	return ms < FAILURE_MAX_WAIT_MS ? ms : FAILURE_MAX_WAIT_MS;
}

int64_t
failure_retry_after_ms(const char *line, time_t now)
{
	struct tm tm = {0};
	int64_t wait;

	if (strncasecmp(line, "retry-after-ms:", 15) == 0)
		return wait_of(line + 15, 1);
	if (strncasecmp(line, "retry-after:", 12) != 0)
		return 0;
	if (strptime(line + 12, " %a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return wait_of(line + 12, 1000);
	wait = (int64_t) timegm(&tm) - (int64_t) now;
	if (wait <= 0)
		return 0;
	return wait < FAILURE_MAX_WAIT_MS / 1000 ? wait * 1000 : FAILURE_MAX_WAIT_MS;
}

int64_t
failure_delay_ms(int attempt, int64_t retry_after_ms)
{
	int64_t delay = attempt > 6 ? 60000 : (int64_t) 1000 << (attempt > 1 ? attempt - 1 : 0);

	if (delay > 60000)
		delay = 60000;
	return retry_after_ms > delay ? retry_after_ms : delay;
}
