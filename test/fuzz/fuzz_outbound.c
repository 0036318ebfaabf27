/*
 * fuzz_outbound.c -- a plan of outbound requests, and the same bytes as an answer to the first of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdio.h>

#include "../../gateway/outbound/plan.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
answer(OutboundRequest *request, const char *text, size_t size)
{
	size_t at = 0;

	request->status = 200;
	while (at < size)
	{
		const char *end = memchr(text + at, '\n', size - at);
		size_t n = end != NULL ? (size_t) (end - text) + 1 - at : size - at;

		outbound_take_header(request, text + at, n);
		if (!outbound_take(request, text + at, n))
			request->error = "too_large";
		at += n;
	}
	if (request->len > request->max_size)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char fixed[] = "{\"continue\":\"f\",\"requests\":[{\"url\":\"http://a/\",\"max_size\":300}]}";
	const char *text = (const char *) data;
	OutboundPlan plan;
	char *cursor;

	if (outbound_plan_parse(&plan, text, size) == NULL)
	{
		if (plan.n > 0)
			answer(&plan.requests[0], text, size);
		outbound_plan_free(&plan);
	}
	if (outbound_plan_parse(&plan, fixed, sizeof(fixed) - 1) != NULL)
		abort();
	answer(&plan.requests[0], text, size);
	cursor = outbound_cursor(&plan);
	if (cursor == NULL)
		abort();
	free(cursor);
	outbound_plan_free(&plan);
	return 0;
}
