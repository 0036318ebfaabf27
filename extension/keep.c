/*
 * keep.c -- answers that a backend keeps: see keep.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "change.h"
#include "compat.h"
#include "keep.h"
#include "stat.h"

/* Some 3,000 workspaces of 5 kB.  When it is full all of it goes; what is very long is not kept. */
#define MAX_BYTES (16 * 1024 * 1024)
#define MAX_ANSWER (MAX_BYTES / 16)

static MemoryContext context;
static HTAB *answers;

void
keep_forget_all(void)
{
	if (context != NULL)
		MemoryContextDelete(context);
	context = NULL;
	answers = NULL;
}

static void
make_table(void)
{
	HASHCTL ctl = {.keysize = sizeof(KeepKey), .entrysize = sizeof(Kept)};

	/* Small blocks: what is longer than 1 kB is then allocated as long as it is. */
	context = AllocSetContextCreate(TopMemoryContext, "coder kept answers", ALLOCSET_SMALL_SIZES);
	ctl.hcxt = context;
	answers = hash_create("coder kept answers", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
keep_store(const Kept *answer)
{
	Size slots = sizeof(uint32) * answer->nslots;
	char *block;
	Kept *kept;
	bool found;

	if (answer->len > MAX_ANSWER)
		return;
	if (context != NULL && MemoryContextMemAllocated(context, true) + answer->len > MAX_BYTES)
		keep_forget_all();
	if (answers == NULL)
		make_table();
	block = MemoryContextAlloc(context, slots + answer->len);
	memcpy(block, answer->slots, slots);
	memcpy(block + slots, answer->bytes, answer->len);
	kept = hash_search(answers, &answer->key, HASH_ENTER, &found);
	if (found)
		pfree(kept->slots);
	*kept = *answer;
	kept->slots = (uint32 *) block;
	kept->bytes = block + slots;
}

const Kept *
keep_find(const KeepKey *key, TimestampTz now)
{
	Kept *kept = answers == NULL ? NULL : hash_search(answers, key, HASH_FIND, NULL);

	if (kept == NULL || now < kept->from || now > kept->until ||
		!change_none(kept->slots, kept->nslots, kept->horizon))
	{
		coder_stat_add(STAT_ANSWER_MISS);
		return NULL;
	}
	coder_stat_add(STAT_ANSWER_HIT);
	return kept;
}
