/*
 * edit.h -- text as agents of chats read and change it.
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_EDIT_H
#define AGENT_SERVE_EDIT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Replaces search in text, which must be found once, or all of them.  Where it is not found as it is, whole lines are
 * compared without blanks at their end, then without blanks around them.  malloc'ed, or NULL with what is wrong in error
 * (static text).
 */
char *edit_replace(const char *text, const char *search, const char *replace, bool all, const char **error);

typedef struct EditLimits
{
	long offset; /* the first line, from 1 */
	long limit; /* lines; 0: as many as max_lines */
	size_t max_line; /* bytes of one */
	long max_lines;
	size_t max_bytes; /* of all */
} EditLimits;

/* Lines with their numbers: "<n>TAB<line>", joined by line feeds; malloc'ed.  total, read: how many lines there are, were taken. */
char *edit_lines(const char *text, size_t len, const EditLimits *limits, long *total, long *read);

/* Valid UTF-8 of any bytes, without NUL, lines cut at max_line bytes (0: not cut); malloc'ed. */
char *edit_clean(const char *bytes, size_t len, size_t max_line);

#endif
