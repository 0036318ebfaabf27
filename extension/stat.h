/*
 * stat.h -- what backends count together, in shared memory.
 *
 * A backend counts in its own memory, at the cost of one addition, and gives the
 * sums away with a later request.  Where the library is not preloaded each
 * backend has its own.  Counters begin at 0 with the server.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_STAT_H
#define CODER_STAT_H

#include "datatype/timestamp.h"

typedef enum CoderStat
{
	STAT_SUBJECT_HIT,	/* a token's or user's subject was in the backend's cache */
	STAT_SUBJECT_MISS,
	STAT_ANSWER_HIT,	/* a kept answer (keep.c) was used */
	STAT_ANSWER_MISS,
	STAT_INVALIDATION,	/* a subject was told that it changed */
	STAT_ALLOWED,		/* decisions of rbac */
	STAT_DENIED,
	STAT_REQUEST,		/* calls of handle */
	STAT_EVENT,			/* calls of emit, some of whose transactions may have failed */
	STAT_EVENT_BYTES,
	STAT_CHAT_HIT,		/* of the cache of configuration in runners of chats (coder.stat_count) */
	STAT_CHAT_MISS,
	STAT_CHAT_INVALIDATION,
	STAT_CHAT_EMPTIED,
	STAT_BOUNDARY_REFUSED,	/* reports of boundaries that were not counted */
	STAT_BOUNDARY_CLAMPED,	/* and that were, with an absurd figure made the nearest possible */
	STAT_COUNT
} CoderStat;

extern uint64 coder_stat_local[STAT_COUNT];

static inline void
coder_stat_add(CoderStat stat)
{
	coder_stat_local[stat]++;
}

extern void coder_stat_shmem_request(void);
extern void coder_stat_shmem_startup(void);
/* Gives away what was counted. */
extern void coder_stat_flush(void);
/* The same, now and then; called at the start of each request. */
extern void coder_stat_flush_sometimes(void);
/* Something periodic took so long and did so much; failed: it did nothing. */
extern void coder_stat_time(const char *name, double seconds, int64 items, bool failed);

#endif
