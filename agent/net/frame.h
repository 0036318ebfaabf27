/*
 * frame.h -- frames of a WebSocket as a client gets them (RFC 6455); no I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_FRAME_H
#define AGENT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct NetFrame
{
	int op;
	bool final;
	const uint8_t *data; /* into the input */
	size_t size;
} NetFrame;

/* Bytes that the frame at the front takes; 0: more must come, or *problem says what is wrong with it. */
size_t net_frame_get(NetFrame *frame, const uint8_t *input, size_t n, size_t max, const char **problem);

#endif
