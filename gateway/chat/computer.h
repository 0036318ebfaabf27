/*
 * computer.h -- the tool by which a model uses a workspace's desktop.
 *
 * Anthropic defines it: the model knows its arguments without being told of them.  No I/O: agenttool.c asks the agent.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_COMPUTER_H
#define GATEWAY_CHAT_COMPUTER_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define COMPUTER_TOOL "computer"
#define COMPUTER_BETA "computer-use-2025-11-24"

/* The screen as models see it: as large as they see well, of the desktop's shape. */
#define COMPUTER_WIDTH 1280
#define COMPUTER_HEIGHT 720

#define COMPUTER_MAX_VIDEO ((size_t) 100 << 20)
#define COMPUTER_MAX_PICTURE ((size_t) 10 << 20)

/* {name, description, input_schema, anthropic: the tool as its API takes it}; a new reference. */
json_t *computer_tool(void);

/*
 * What the agent is asked for a call with these arguments: a body of /desktop/action, a new reference.  *ms: how long that may
 * take by itself.
 */
json_t *computer_action(const json_t *args, long *ms);

/* Is it answered by what it says alone, without a picture? */
bool computer_is_text(const json_t *action);

/* The picture that is taken settle ms from now. */
json_t *computer_screenshot(long settle);

/* Of the pictures of this tool only the newest are told again. */
void computer_forget(json_t *history);

typedef struct ComputerPart
{
	const char *data; /* NULL: there is none */
	size_t len;
} ComputerPart;

/* The parts of a film that the agent has given (multipart/mixed): in body. */
bool computer_film(const char *body, size_t len, ComputerPart *video, ComputerPart *picture);

#endif
