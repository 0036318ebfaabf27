/*
 * keep.h -- answers that a backend keeps, each for as long as the rows that it
 * was made of (change.h) are the same and the clock changes nothing in it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_KEEP_H
#define CODER_KEEP_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* All 24 bytes are the key. */
typedef struct KeepKey
{
	pg_uuid_t id;
	int32 kind; /* one of KEEP_..., or what tells the answers of one id apart, from 0 on */
	int32 part;
} KeepKey;

#define KEEP_WORKSPACE (-1)

typedef struct Kept
{
	KeepKey key;
	uint64 horizon;
	TimestampTz from; /* the first and the last instant that it is true of */
	TimestampTz until;
	uint32 *slots;
	char *bytes;
	int nslots;
	int len;
} Kept;

/* An answer to be kept; what it points to stays the caller's. */
extern void keep_store(const Kept *answer);
/* The kept answer, good until the next keep_store; NULL if there is none that is true at now. */
extern const Kept *keep_find(const KeepKey *key, TimestampTz now);
extern void keep_forget_all(void);

#endif
