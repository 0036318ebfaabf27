/*
 * lock.c -- locks by name that only the extension can take.
 *
 * PostgreSQL's advisory locks are everybody's who is connected: whoever held the one of
 * coder.tick() would stop all that is due by time.  These are of the same kind, but of a class
 * that its SQL functions, which know the classes 1 and 2, cannot name.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "coder.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(coder_lock);
PG_FUNCTION_INFO_V1(coder_try_lock);

bool
coder_lock_key(uint64 key, bool session, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, CODER_LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, session, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static uint64
key_of(text *name)
{
	return hash_bytes_extended(
		(const unsigned char *) VARDATA_ANY(name), (int) VARSIZE_ANY_EXHDR(name), 0);
}

/* coder.lock(name text) RETURNS void: waits for the lock, and holds it until the transaction ends. */
Datum
coder_lock(PG_FUNCTION_ARGS)
{
	(void) coder_lock_key(key_of(PG_GETARG_TEXT_PP(0)), false, true);
	PG_RETURN_VOID();
}

/* coder.try_lock(name text) RETURNS bool: the same, or false where somebody holds it. */
Datum
coder_try_lock(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(coder_lock_key(key_of(PG_GETARG_TEXT_PP(0)), false, false));
}
