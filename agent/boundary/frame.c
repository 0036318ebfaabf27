/*
 * frame.c -- frames of the boundary log socket.  No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/frame.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_DROPPED 1000000

BoundaryFrameResult
boundary_frame_read(BoundaryFrame *frame, const uint8_t *data, size_t size)
{
	if (size < BOUNDARY_FRAME_HEAD)
		return BOUNDARY_FRAME_SHORT;
	frame->tag = data[0];
	frame->size = (size_t) data[1] << 16 | (size_t) data[2] << 8 | data[3];
	frame->data = data + BOUNDARY_FRAME_HEAD;
	if (frame->size > BOUNDARY_FRAME_MAX || (frame->tag != BOUNDARY_TAG_LOGS && frame->tag != BOUNDARY_TAG_MESSAGE))
		return BOUNDARY_FRAME_BAD;
	return size - BOUNDARY_FRAME_HEAD < frame->size ? BOUNDARY_FRAME_SHORT : BOUNDARY_FRAME_OK;
}

void
boundary_frame_head(uint8_t head[static BOUNDARY_FRAME_HEAD], uint8_t tag, size_t size)
{
	head[0] = tag;
	head[1] = (uint8_t) (size >> 16);
	head[2] = (uint8_t) (size >> 8);
	head[3] = (uint8_t) size;
}

/* Bytes of the character that p begins with; 0 where it is none. */
static size_t
character(const unsigned char *p)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)))
		return 0;
	if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)))
		return 0;
	return n;
}

void
boundary_make_text(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p != '\0';)
	{
		size_t n = character(p);

		if (n == 0)
			*p = '?';
		p += n > 0 ? n : 1;
	}
}

static void
make_texts(BoundaryLogs *logs)
{
	for (size_t i = 0; i < logs->n_logs; i++)
	{
		const BoundaryLog *log = logs->logs[i];

		if (log->resource_case != CODER__AGENT__V2__BOUNDARY_LOG__RESOURCE_HTTP_REQUEST)
			continue;
		boundary_make_text(log->http_request->method);
		boundary_make_text(log->http_request->url);
		boundary_make_text(log->http_request->matched_rule);
	}
}

static int64_t
dropped(int64_t count)
{
	return count < 0 ? 0 : count > MAX_DROPPED ? MAX_DROPPED : count;
}

static bool
read_message(BoundaryNews *news, const BoundaryFrame *frame)
{
	Coder__Boundary__V1__BoundaryMessage *message = coder__boundary__v1__boundary_message__unpack(NULL, frame->size, frame->data);

	if (message == NULL)
		return false;
	if (message->msg_case == CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__MSG_LOGS)
	{
		news->logs = message->logs;
		message->msg_case = CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__MSG__NOT_SET;
	}
	else if (message->msg_case == CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__MSG_STATUS)
	{
		news->channel_full = dropped(message->status->dropped_channel_full);
		news->batch_full = dropped(message->status->dropped_batch_full);
	}
	coder__boundary__v1__boundary_message__free_unpacked(message, NULL);
	return true;
}

bool
boundary_frame_news(BoundaryNews *news, const BoundaryFrame *frame)
{
	*news = (BoundaryNews) {0};
	if (frame->tag == BOUNDARY_TAG_MESSAGE && !read_message(news, frame))
		return false;
	if (frame->tag == BOUNDARY_TAG_LOGS)
	{
		news->logs = coder__agent__v2__report_boundary_logs_request__unpack(NULL, frame->size, frame->data);
		if (news->logs == NULL)
			return false;
	}
	if (news->logs != NULL)
		make_texts(news->logs);
	return true;
}

void
boundary_socket_path(char *path, size_t size, const char *given)
{
	const char *folder = getenv("TMPDIR");

	if (given != NULL && *given != '\0')
		snprintf(path, size, "%s", given);
	else
		snprintf(path, size, "%s/" BOUNDARY_SOCKET_NAME, folder != NULL && *folder != '\0' ? folder : "/tmp");
}
