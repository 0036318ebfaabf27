/*
 * tail.c -- pieces of a stream that come with their events.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tail.h"

#include <stdlib.h>
#include <string.h>

#define MAX_DIGITS 18

/* A number without a sign, and the blank behind it; NULL: there is none. */
static const char *
read_number(const char *p, const char *end, int64_t *number)
{
	const char *begin = p;

	*number = 0;
	for (; p < end && *p >= '0' && *p <= '9' && p - begin < MAX_DIGITS; p++)
		*number = *number * 10 + (*p - '0');
	return p > begin && p < end && *p == ' ' ? p + 1 : NULL;
}

bool
tail_parse(const char *payload, size_t len, TailPiece *piece)
{
	const char *end = payload + len;
	const char *p;

	if (len < 5 || memcmp(payload, "tail ", 5) != 0)
		return false;
	p = read_number(payload + 5, end, &piece->before);
	if (p == NULL || (p = read_number(p, end, &piece->last)) == NULL || p == end || piece->last <= piece->before)
		return false;
	piece->frame = p;
	piece->len = (size_t) (end - p);
	return true;
}

TailStep
tail_step(const Tail *tail, const TailPiece *piece)
{
	if (tail->at >= 0 && piece->last <= tail->at)
		return TAIL_HAD;
	return piece->before == tail->at ? TAIL_NEXT : TAIL_BEHIND;
}

bool
tail_keep(Tail *tail, const char *payload, size_t len)
{
	char *copy = tail->n_kept < TAIL_MAX_KEPT ? malloc(len + 1) : NULL;

	if (copy == NULL)
		return false;
	memcpy(copy, payload, len);
	copy[len] = '\0';
	tail->kept[tail->n_kept] = copy;
	tail->kept_len[tail->n_kept++] = len;
	return true;
}

void
tail_drop_kept(Tail *tail)
{
	for (int i = 0; i < tail->n_kept; i++)
		free(tail->kept[i]);
	tail->n_kept = 0;
}
