/*
 * fuzz_ws_client.c -- frames as a server might send them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "wire/wsframe.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *problem;
	size_t at = 0;
	size_t n;
	WireWsFrame frame;

	while ((n = wire_ws_get(&frame, data + at, size - at, 1 << 20, &problem)) > 0)
	{
		uint8_t *copy = malloc(n);
		WireWsFrame shorter;

		/* Nothing beyond the frame is looked at, and every part of it is needed. */
		if (problem != NULL || copy == NULL || frame.size > n || frame.data + frame.size != data + at + n)
			abort();
		memcpy(copy, data + at, n);
		if (wire_ws_get(&shorter, copy, n, 1 << 20, &problem) != n || wire_ws_get(&shorter, copy, n - 1, 1 << 20, &problem) != 0)
			abort();
		free(copy);
		at += n;
	}
	return 0;
}
