/*
 * fuzz_boundary.c -- frames of the boundary log socket, as anybody in a workspace may write them
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "boundary/frame.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const char *text)
{
	for (const unsigned char *p = (const unsigned char *) text; *p != '\0'; p += character(p))
		if (character(p) == 0)
			abort();
}

static void
check_logs(BoundaryLogs *logs)
{
	uint8_t *bytes = malloc(coder__agent__v2__report_boundary_logs_request__get_packed_size(logs) + 1);

	for (size_t i = 0; i < logs->n_logs; i++)
		if (logs->logs[i]->resource_case == CODER__AGENT__V2__BOUNDARY_LOG__RESOURCE_HTTP_REQUEST)
		{
			check_text(logs->logs[i]->http_request->url);
			check_text(logs->logs[i]->http_request->method);
		}
	if (bytes != NULL)
		coder__agent__v2__report_boundary_logs_request__pack(logs, bytes);
	free(bytes);
	coder__agent__v2__report_boundary_logs_request__free_unpacked(logs, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BoundaryFrame frame;
	BoundaryNews news;
	size_t at = 0;

	while (boundary_frame_read(&frame, data + at, size - at) == BOUNDARY_FRAME_OK)
	{
		at += BOUNDARY_FRAME_HEAD + frame.size;
		if (at > size || frame.size > BOUNDARY_FRAME_MAX)
			abort();
		if (!boundary_frame_news(&news, &frame))
			continue;
		if (news.channel_full < 0 || news.batch_full < 0)
			abort();
		if (news.logs != NULL)
			check_logs(news.logs);
	}
	return 0;
}
