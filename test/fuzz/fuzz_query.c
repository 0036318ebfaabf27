/*
 * fuzz_query.c -- any text as query parameters and as header lines: what is
 * found lies inside, nothing is longer decoded than encoded.
 *
 * SPDX-License-Identifier: MIT
 */
#include "query.h"

#include <stdlib.h>
#include <string.h>

#include <stddef.h>
#include <stdint.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_inside(const QueryPair *pair, const char *begin, const char *end)
{
	if (pair->name_len < 0 || pair->name < begin || pair->name + pair->name_len > end ||
		pair->value_len < 0 || pair->value < begin || pair->value + pair->value_len > end)
		abort();
}

/* In memory of exactly what is promised to be enough. */
static void
check_decoded(const char *text, int len)
{
	char *out = malloc((size_t) len + 1);
	int n = query_decode(text, len, out);

	if (n > len || (n >= 0 && strlen(out) != (size_t) n))
		abort();
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *begin = (const char *) data;
	const char *end = begin + size;
	const char *at = begin;
	QueryPair pair;

	while (query_next(&at, end, &pair))
	{
		check_inside(&pair, begin, end);
		check_decoded(pair.name, pair.name_len);
		check_decoded(pair.value, pair.value_len);
	}
	if (at != end)
		abort();
	at = begin;
	while (query_next_header(&at, end, &pair))
	{
		check_inside(&pair, begin, end);
		if (pair.name_len == 0 || memchr(pair.name, ':', (size_t) pair.name_len) != NULL)
			abort();
	}
	if (at != end)
		abort();
	return 0;
}
