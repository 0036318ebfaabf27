/*
 * change.c -- which rows have changed since when: see change.h.
 *
 * An answer may be kept for a later request only if every row that it was made
 * of is the same under that request's snapshot.  A trigger on each table marks
 * the slots of the rows that a transaction changes.  In shared memory a slot has
 *	 open	how many transactions that marked it have not ended,
 *	 last	the number of the last commit that had marked it.
 * Commits that changed something are numbered by a counter, after they have
 * become visible: the callbacks of XACT_EVENT_COMMIT run behind
 * ProcArrayEndTransaction.
 *
 * A transaction's horizon is the counter as it was before any of its snapshots
 * was taken, at the end of the backend's transaction before.  Let an answer be
 * made in a transaction with horizon A, and asked for in one with horizon B.  A
 * commit that one of the two snapshots shows and the other does not became
 * visible after one of the horizons was read, so its number is above the lower
 * of the two.  Whoever looks at the slot after having taken his snapshot finds it
 * open, or finds such a number.  So: nothing open, and nothing above the lower
 * horizon, says that both snapshots show the same.  It is safe that a horizon is
 * lower than it could be; the answer is then made once more.
 *
 * This needs shared memory, that is the extension preloaded.  Where snapshots may
 * be older than their transaction (imported ones, parallel workers), on a standby,
 * and in a transaction that writes, nothing is kept.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "change.h"
#include "coder.h"
#include "compat.h"

#define WORD_BITS 64
#define WORDS (CHANGE_SLOTS / WORD_BITS + 1)

typedef struct ChangeSlot
{
	pg_atomic_uint64 last;
	pg_atomic_uint32 open;
} ChangeSlot;

typedef struct ChangeShared
{
	pg_atomic_uint64 commits;
	char pad[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64)];
	ChangeSlot slots[CHANGE_SLOTS + 1];
} ChangeShared;

static ChangeShared *shared;
static uint64 horizon;		 /* 0 is below every commit */
static uint64 marked[WORDS]; /* slots that this transaction holds open */
static bool any_marked;

PG_FUNCTION_INFO_V1(coder_row_changed);

void
coder_change_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(ChangeShared)));
}

void
coder_change_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("coder changes", sizeof(ChangeShared), &found);
	if (!found)
	{
		pg_atomic_init_u64(&shared->commits, 0);
		for (int i = 0; i <= CHANGE_SLOTS; i++)
		{
			pg_atomic_init_u64(&shared->slots[i].last, 0);
			pg_atomic_init_u32(&shared->slots[i].open, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- writers ---- */

static void
mark_slot(uint32 slot)
{
	uint64 bit = UINT64CONST(1) << (slot % WORD_BITS);

	if (marked[slot / WORD_BITS] & bit)
		return;
	any_marked = true;
	marked[slot / WORD_BITS] |= bit;
	pg_atomic_fetch_add_u32(&shared->slots[slot].open, 1);
}

/* Commits may come here in another order than that of their numbers. */
static void
raise_last(ChangeSlot *slot, uint64 commit)
{
	uint64 last = pg_atomic_read_u64(&slot->last);

	while (last < commit && !pg_atomic_compare_exchange_u64(&slot->last, &last, commit))
		;
}

/* commit: its number, or 0 for a transaction that changed nothing after all. */
static void
close_slots(uint64 commit)
{
	for (int w = 0; w < WORDS; w++)
	{
		for (uint64 bits = marked[w]; bits != 0; bits &= bits - 1)
		{
			ChangeSlot *slot = &shared->slots[w * WORD_BITS + __builtin_ctzll(bits)];

			raise_last(slot, commit);
			pg_atomic_fetch_sub_u32(&slot->open, 1);
		}
		marked[w] = 0;
	}
	any_marked = false;
}

/* Must not fail but before a prepared transaction. */
static void
on_xact_end(XactEvent event, void *arg)
{
	if (shared == NULL)
		return;
	/* Who commits it, perhaps after a restart, would not know of the slots. */
	if (event == XACT_EVENT_PRE_PREPARE && any_marked)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot prepare a transaction that has changed workspaces")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (any_marked)
		close_slots(event == XACT_EVENT_COMMIT ? pg_atomic_add_fetch_u64(&shared->commits, 1) : 0);
	horizon = pg_atomic_read_u64(&shared->commits);
}

void
coder_change_init(void)
{
	RegisterXactCallback(on_xact_end, NULL);
}

static void
mark_columns(Trigger *trigger, TupleDesc desc, HeapTuple tuple)
{
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		int attno = SPI_fnumber(desc, trigger->tgargs[i]);
		bool isnull;
		Datum id;

		if (attno <= 0)
			elog(ERROR, "trigger \"%s\": there is no column %s", trigger->tgname, trigger->tgargs[i]);
		id = heap_getattr(tuple, attno, desc, &isnull);
		if (!isnull)
			mark_slot(change_slot(DatumGetUUIDP(id)));
	}
}

/*
 * coder.row_changed(column, ...) RETURNS trigger
 *
 * AFTER any change of a row: marks the slots of the ids in these columns, of the
 * old row and of the new one; without columns the list's; TRUNCATE marks all.
 */
Datum
coder_row_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc desc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.row_changed is an AFTER trigger")));
	if (shared == NULL)
		PG_RETURN_POINTER(NULL);
	desc = RelationGetDescr(data->tg_relation);
	if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		mark_slot(CHANGE_ALL);
	else if (data->tg_trigger->tgnargs == 0)
		mark_slot(change_list_slot());
	else
		mark_columns(data->tg_trigger, desc, data->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && TRIGGER_FIRED_FOR_ROW(data->tg_event))
		mark_columns(data->tg_trigger, desc, data->tg_newtuple);
	PG_RETURN_POINTER(NULL);
}

/* ---- readers ---- */

bool
change_usable(void)
{
	return shared != NULL && !IsParallelWorker() && !IsolationUsesXactSnapshot() &&
		   !TransactionIdIsValid(GetTopTransactionIdIfAny()) && ActiveSnapshotSet() &&
		   !GetActiveSnapshot()->takenDuringRecovery;
}

uint32
change_slot(const pg_uuid_t *id)
{
	return hash_combine(hash_bytes(id->data, UUID_LEN), MyDatabaseId) % CHANGE_SLOTS;
}

uint32
change_list_slot(void)
{
	static const pg_uuid_t nil = {{0}};

	return change_slot(&nil);
}

uint64
change_horizon(void)
{
	return horizon;
}

bool
change_none(const uint32 *slots, int n, uint64 other)
{
	uint64 since = Min(horizon, other);

	for (int i = 0; i < n; i++)
	{
		ChangeSlot *slot = &shared->slots[slots[i]];

		if (pg_atomic_read_u32(&slot->open) > 0)
			return false;
		/* Who closes a slot has raised last before. */
		pg_read_barrier();
		if (pg_atomic_read_u64(&slot->last) > since)
			return false;
	}
	return true;
}
