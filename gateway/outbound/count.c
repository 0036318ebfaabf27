/*
 * count.c -- requests to identity and git providers, counted: see count.h.
 *
 * Names are the administrator's and few; an array that is searched will do.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "count.h"

#define MAX_COUNTS 1024
#define MAX_LIMITS 256

/* Answers by provider, purpose and status (0: none). */
typedef struct Count
{
	char name[OUTBOUND_MAX_NAME];
	char source[OUTBOUND_MAX_NAME];
	long status;
	unsigned long long n;
} Count;

/* What GitHub said last of those who are nobody to it. */
typedef struct Limit
{
	char name[OUTBOUND_MAX_NAME];
	char resource[OUTBOUND_MAX_NAME];
	long long limit, remaining, used;
	long long reset; /* 0: unknown */
} Limit;

static struct
{
	pthread_mutex_t lock;
	Count counts[MAX_COUNTS];
	int n_counts;
	Limit limits[MAX_LIMITS];
	int n_limits;
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
count_answer(const OutboundRequest *request)
{
	Count *count = NULL;

	for (int i = 0; i < table.n_counts && count == NULL; i++)
		if (table.counts[i].status == request->status && strcmp(table.counts[i].name, request->name) == 0 &&
			strcmp(table.counts[i].source, request->source) == 0)
			count = &table.counts[i];
	if (count == NULL && table.n_counts < MAX_COUNTS)
	{
		count = &table.counts[table.n_counts++];
		strcpy(count->name, request->name);
		strcpy(count->source, request->source);
		count->status = request->status;
	}
	if (count != NULL)
		count->n++;
}

static const char *
header(const OutboundRequest *request, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach(request->answer_headers, key, value)
		if (strcasecmp(key, name) == 0)
			return json_string_value(value);
	return NULL;
}

/* A whole number that is not negative. */
static bool
header_number(const OutboundRequest *request, const char *name, long long *out)
{
	const char *text = header(request, name);
	char *end;

	if (text == NULL || *text == '\0')
		return false;
	*out = strtoll(text, &end, 10);
	return *end == '\0' && *out >= 0;
}

/* The limits of users with a token are each user's own, and are not told. */
static void
note_limit(const OutboundRequest *request)
{
	const char *resource = header(request, "x-ratelimit-resource");
	Limit seen = {.limit = 0};
	Limit *limit = NULL;

	if (request->status != 401 || resource == NULL || !header_number(request, "x-ratelimit-limit", &seen.limit) ||
		!header_number(request, "x-ratelimit-remaining", &seen.remaining) || !header_number(request, "x-ratelimit-used", &seen.used) ||
		!header_number(request, "x-ratelimit-reset", &seen.reset))
		return;
	if (seen.limit == 0 && seen.remaining == 0 && seen.used == 0)
		return;
	strcpy(seen.name, request->name);
	snprintf(seen.resource, sizeof(seen.resource), "%.*s-unauthorized", (int) sizeof(seen.resource) - 14, resource);
	for (int i = 0; i < table.n_limits && limit == NULL; i++)
		if (strcmp(table.limits[i].name, seen.name) == 0 && strcmp(table.limits[i].resource, seen.resource) == 0)
			limit = &table.limits[i];
	if (limit == NULL && table.n_limits < MAX_LIMITS)
		limit = &table.limits[table.n_limits++];
	if (limit != NULL)
		*limit = seen;
}

void
outbound_count(const OutboundRequest *request)
{
	if (request->name[0] == '\0')
		return;
	pthread_mutex_lock(&table.lock);
	count_answer(request);
	note_limit(request);
	pthread_mutex_unlock(&table.lock);
}

/* A label with its value, escaped; bytes that are no ASCII are left out, as names are none. */
static void
print_label(FILE *out, const char *label, const char *value)
{
	fprintf(out, "%s=\"", label);
	for (; *value != '\0'; value++)
	{
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else if ((unsigned char) *value < 0x80)
			fputc(*value, out);
	}
	fputc('"', out);
}

static long long
limit_of(const Limit *limit, int64_t now)
{
	(void) now;
	return limit->limit;
}

static long long
remaining_of(const Limit *limit, int64_t now)
{
	(void) now;
	return limit->remaining;
}

static long long
used_of(const Limit *limit, int64_t now)
{
	(void) now;
	return limit->used;
}

static long long
reset_of(const Limit *limit, int64_t now)
{
	(void) now;
	return limit->reset;
}

static long long
left_of(const Limit *limit, int64_t now)
{
	return limit->reset - now;
}

void
outbound_count_print(FILE *out, int64_t now)
{
	static const struct
	{
		const char *name, *help;
		long long (*value)(const Limit *limit, int64_t now);
	} families[] = {
		{"", "Requests that GitHub allows those whom it does not know, in its interval.", limit_of},
		{"_remaining", "Those that are left.", remaining_of},
		{"_used", "Those that were made.", used_of},
		{"_next_reset_unix", "When the next interval begins.", reset_of},
		{"_reset_in_seconds", "How long that is from now.", left_of},
	};

	pthread_mutex_lock(&table.lock);
	fputs("# HELP coderd_oauth2_external_requests_total Requests to identity and git providers; status_code 0: there was no answer.\n"
		  "# TYPE coderd_oauth2_external_requests_total counter\n",
		  out);
	for (int i = 0; i < table.n_counts; i++)
	{
		fputs("coderd_oauth2_external_requests_total{", out);
		print_label(out, "name", table.counts[i].name);
		fputc(',', out);
		print_label(out, "source", table.counts[i].source);
		fprintf(out, ",status_code=\"%ld\"} %llu\n", table.counts[i].status, table.counts[i].n);
	}
	for (size_t f = 0; f < sizeof(families) / sizeof(families[0]); f++)
	{
		fprintf(out, "# HELP coderd_oauth2_external_requests_rate_limit%s %s\n# TYPE coderd_oauth2_external_requests_rate_limit%s gauge\n",
				families[f].name, families[f].help, families[f].name);
		for (int i = 0; i < table.n_limits; i++)
		{
			if (families[f].value == left_of && table.limits[i].reset == 0)
				continue;
			fprintf(out, "coderd_oauth2_external_requests_rate_limit%s{", families[f].name);
			print_label(out, "name", table.limits[i].name);
			fputc(',', out);
			print_label(out, "resource", table.limits[i].resource);
			fprintf(out, "} %lld\n", families[f].value(&table.limits[i], now));
		}
	}
	pthread_mutex_unlock(&table.lock);
}
