/*
 * fuzz_ws_client.c -- frames as a server might send them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "net/frame.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *problem;
	size_t at = 0;
	size_t n;
	NetFrame frame;

	while ((n = net_frame_get(&frame, data + at, size - at, 1 << 20, &problem)) > 0)
	{
		uint8_t *copy = malloc(n);
		NetFrame shorter;

		/* Nothing beyond the frame is looked at, and every part of it is needed. */
		if (problem != NULL || copy == NULL || frame.size > n || frame.data + frame.size != data + at + n)
			abort();
		memcpy(copy, data + at, n);
		if (net_frame_get(&shorter, copy, n, 1 << 20, &problem) != n || net_frame_get(&shorter, copy, n - 1, 1 << 20, &problem) != 0)
			abort();
		free(copy);
		at += n;
	}
	return 0;
}
