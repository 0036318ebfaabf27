/*
 * query.h -- the text of a request in parts: query parameters and header lines.
 *
 * Nothing here needs the server: no memory, no errors but false.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_QUERY_H
#define CODER_QUERY_H

#include <stdbool.h>

#define QUERY_MAX_PAIRS 1000 /* as each name is compared with those before it */

/* A name and a value; both point into the text and do not end in NUL. */
typedef struct QueryPair
{
	const char *name;
	int name_len;
	const char *value;
	int value_len;
} QueryPair;

/*
 * The next pair "name=value" before '&', still encoded; *text moves behind it.
 * False at the end.  Empty parts are passed over; without '=' the value is empty.
 */
extern bool query_next(const char **text, const char *end, QueryPair *pair);

/*
 * Percent-decodes len bytes into out, which has room for len + 1, and ends them
 * with NUL.  A bad escape stands for itself.  The size, or -1 where a byte of
 * the result is NUL.
 */
extern int query_decode(const char *text, int len, char *out);

/*
 * The next line "name: value" with blanks around the value taken off; *text
 * moves behind it.  False at the end.  Lines without a name are passed over.
 */
extern bool query_next_header(const char **text, const char *end, QueryPair *pair);

#endif
