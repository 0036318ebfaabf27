/*
 * fuzz_ws_agent.c -- frames as a client of the agent might send them.
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
	uint8_t *input = malloc(size > 0 ? size : 1);
	const char *problem;
	size_t at = 0;
	size_t n;
	WireWsFrame frame;

	if (input == NULL)
		return 0;
	memcpy(input, data, size);
	while ((n = wire_ws_get_masked(&frame, input + at, size - at, 1 << 20, &problem)) > 0)
	{
		uint8_t *again = malloc(frame.size + WIRE_WS_HEADER_MAX);
		WireWsFrame back;

		/* What was unmasked is the message that a server would send plainly. */
		if (problem != NULL || again == NULL || frame.data + frame.size != input + at + n)
			abort();
		if (frame.final)
		{
			size_t sent = wire_ws_put_plain(again, frame.op, frame.data, frame.size);

			if (wire_ws_get(&back, again, sent, 1 << 20, &problem) != sent || back.size != frame.size ||
				memcmp(back.data, frame.data, frame.size) != 0)
				abort();
		}
		free(again);
		at += n;
	}
	free(input);
	return 0;
}
