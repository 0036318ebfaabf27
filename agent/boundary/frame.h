/*
 * frame.h -- frames of the boundary log socket.
 *
 *	 0          1                        4
 *	+----------+------------------------+------------------+
 *	| tag u8   | length u24 BE          | protobuf payload |
 *	+----------+------------------------+------------------+
 *
 * tag 1: a ReportBoundaryLogsRequest; tag 2: a BoundaryMessage.  Nobody answers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_FRAME_H
#define AGENT_BOUNDARY_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent.pb-c.h"
#include "boundary.pb-c.h"

#define BOUNDARY_FRAME_HEAD 4
#define BOUNDARY_FRAME_MAX 32768 /* of a payload */
#define BOUNDARY_SOCKET_ENV "CODER_AGENT_BOUNDARY_LOG_PROXY_SOCKET_PATH"
#define BOUNDARY_SOCKET_NAME "boundary-audit.sock"

typedef Coder__Agent__V2__BoundaryLog BoundaryLog;
typedef Coder__Agent__V2__ReportBoundaryLogsRequest BoundaryLogs;

enum
{
	BOUNDARY_TAG_LOGS = 1,
	BOUNDARY_TAG_MESSAGE = 2
};

typedef enum BoundaryFrameResult
{
	BOUNDARY_FRAME_OK,
	BOUNDARY_FRAME_SHORT, /* more bytes are needed */
	BOUNDARY_FRAME_BAD /* an unknown tag, or too long: nothing behind it can be read */
} BoundaryFrameResult;

typedef struct BoundaryFrame
{
	uint8_t tag;
	const uint8_t *data;
	size_t size;
} BoundaryFrame;

/* What a frame says: logs (the caller's to free), or counts of entries that a boundary itself dropped. */
typedef struct BoundaryNews
{
	BoundaryLogs *logs; /* NULL: none */
	int64_t channel_full;
	int64_t batch_full;
} BoundaryNews;

/* The frame that data begins with; it has BOUNDARY_FRAME_HEAD + frame->size bytes. */
BoundaryFrameResult boundary_frame_read(BoundaryFrame *frame, const uint8_t *data, size_t size);
void boundary_frame_head(uint8_t head[static BOUNDARY_FRAME_HEAD], uint8_t tag, size_t size);

/* False where the payload is no such message.  Texts are valid UTF-8 then, counts between 0 and a million. */
bool boundary_frame_news(BoundaryNews *news, const BoundaryFrame *frame);

/* Replaces bytes that are no UTF-8 by question marks: a message with such a text is refused whole. */
void boundary_make_text(char *text);

/* The agent's socket: the environment's, or the usual name in the folder of temporary files. */
void boundary_socket_path(char *path, size_t size, const char *given);

#endif
