/*
 * ptymsg.h -- what a terminal's client says: the init, then keys and sizes.
 *
 *	| n u16 LE | init, n bytes JSON | JSON objects {"data", "height", "width"} ...
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_PTYMSG_H
#define AGENT_SERVE_PTYMSG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PTYMSG_MAX 65536 /* an init with its size, or a message */
#define PTYMSG_ID_LEN 36

typedef enum PtyMsgResult
{
	PTYMSG_OK,
	PTYMSG_SHORT, /* more must come */
	PTYMSG_BAD
} PtyMsgResult;

typedef struct PtyInit
{
	json_t *json; /* owns the texts; to be released with json_decref */
	const char *id; /* PTYMSG_ID_LEN bytes and NUL */
	const char *command; /* NULL: the shell */
	unsigned short rows, columns; /* 0: not told */
} PtyInit;

typedef struct PtyKeys
{
	json_t *json; /* owns data; to be released with json_decref */
	const char *data; /* may hold NULs; NULL where size is 0 */
	size_t size;
	unsigned short rows, columns; /* 0: not told */
} PtyKeys;

/* The init at the front of n bytes; *used of them are done with.  Only after PTYMSG_OK is there anything to release. */
PtyMsgResult ptymsg_init(PtyInit *init, const uint8_t *bytes, size_t n, size_t *used);

/* The message at the front, behind blanks; blanks alone are short. */
PtyMsgResult ptymsg_keys(PtyKeys *keys, const uint8_t *bytes, size_t n, size_t *used);

#endif
