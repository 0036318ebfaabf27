/*
 * deskaction.h -- what a client of the desktop asks to be done, as a list of small steps.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_DESKACTION_H
#define AGENT_SERVE_DESKACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define DESKACTION_MAX_TEXT 65536
#define DESKACTION_MAX_MS 100000

typedef enum DeskStepKind
{
	DESK_KEY_DOWN, /* value: the keysym */
	DESK_KEY_UP,
	DESK_MOVE,
	DESK_PRESS, /* value: buttons */
	DESK_RELEASE,
	DESK_WAIT /* value: ms */
} DeskStepKind;

typedef struct DeskStep
{
	DeskStepKind kind;
	uint32_t value;
	int x, y;
} DeskStep;

typedef struct DeskAction
{
	char name[24];
	bool is_screenshot, is_position;
	int width, height; /* of the screen as the client sees it; 0: as it is */
	DeskStep *steps;
	size_t n_steps, room;
	int64_t ms; /* of all waits */
} DeskAction;

/* False: it is none; error says why.  Steps are of the client's screen until deskaction_fit. */
bool deskaction_parse(DeskAction *action, const json_t *body, char *error, size_t error_size);

/* Makes all places those of a screen of this size, and width and height what the client sees. */
void deskaction_fit(DeskAction *action, int width, int height);

/* A place of the screen as the client sees it. */
void deskaction_told(const DeskAction *action, int width, int height, int *x, int *y);

void deskaction_free(DeskAction *action);

#endif
