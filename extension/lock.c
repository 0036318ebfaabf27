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
PG_FUNCTION_INFO_V1(coder_lock_shared);
PG_FUNCTION_INFO_V1(coder_try_lock);
PG_FUNCTION_INFO_V1(coder_hold_lock);

static bool
take(uint64 key, LOCKMODE mode, bool session, bool wait)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, CODER_LOCK_CLASS);
	return LockAcquire(&tag, mode, session, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

bool
coder_lock_key(uint64 key, bool session, bool wait)
{
	return take(key, ExclusiveLock, session, wait);
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

/* coder.lock_shared(name text) RETURNS void: the same, beside others who hold it shared. */
Datum
coder_lock_shared(PG_FUNCTION_ARGS)
{
	(void) take(key_of(PG_GETARG_TEXT_PP(0)), ShareLock, false, true);
	PG_RETURN_VOID();
}

/* coder.hold_lock(name text) RETURNS void: waits for the lock, and holds it until the session ends. */
Datum
coder_hold_lock(PG_FUNCTION_ARGS)
{
	(void) take(key_of(PG_GETARG_TEXT_PP(0)), ExclusiveLock, true, true);
	PG_RETURN_VOID();
}

/* coder.try_lock(name text) RETURNS bool: the lock until the transaction ends; false where somebody holds it. */
Datum
coder_try_lock(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(coder_lock_key(key_of(PG_GETARG_TEXT_PP(0)), false, false));
}
