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

typedef enum KeepKind
{
	KEEP_WORKSPACE,
	KEEP_PAGE_ALL,	 /* of all workspaces, as a user's favorites order it */
	KEEP_PAGE_READ,	 /* of those that a subject may read */
	KEEP_PAGE_OWN	 /* of those of them that are its own */
} KeepKind;

/* All bytes are the key: there are none between the members. */
typedef struct KeepKey
{
	pg_uuid_t id;	/* of the workspace, or of the user */
	uint64 subject; /* serial of the subject, where the answer depends on its rights */
	int32 kind;
	int32 limit;
	int32 offset;
	int32 unused;
} KeepKey;

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
