/*
 * event.c -- coder.emit() and coder.events_after(): an ordered log of events and its readers.
 *
 * A sequence number is taken before its transaction commits, so a reader that
 * has seen 7 may meet a 6 later.  events_after therefore stops below the oldest
 * transaction that is still running: rows carry their transaction's id, and only
 * those below the xmin of a new snapshot are given out.
 *
 * Readers wait on a condition variable that a commit with events wakes; without
 * shared memory (not preloaded) they poll.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "coder.h"
#include "compat.h"

#define BATCH 1000 /* rows of one answer */
#define POLL_MS 50 /* without shared memory, or while a transaction is in the way */
#define MAX_TIMEOUT_MS 60000

typedef struct EventShared
{
	ConditionVariable committed;
} EventShared;

static EventShared *shared;
static bool emitted; /* by the current transaction */

PG_FUNCTION_INFO_V1(coder_emit);
PG_FUNCTION_INFO_V1(coder_events_after);

void
coder_event_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(EventShared)));
}

void
coder_event_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("coder events", sizeof(EventShared), &found);
	if (!found)
		ConditionVariableInit(&shared->committed);
	LWLockRelease(AddinShmemInitLock);
}

/* Rows are visible when this runs at commit; it must not fail. */
static void
on_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && emitted && shared != NULL)
		ConditionVariableBroadcast(&shared->committed);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		emitted = false;
}

void
coder_event_init(void)
{
	RegisterXactCallback(on_xact_end, NULL);
}

static const Oid emit_args[] = {TEXTOID, TEXTOID};

static CoderPlan emit_plan = {
	"INSERT INTO coder.events (channel, payload) VALUES ($1, $2) RETURNING seq",
	2,
	emit_args,
	NULL};

/*
 * coder.emit(channel text, payload text) RETURNS bigint
 *
 * Appends an event in the caller's transaction; its sequence number.
 */
Datum
coder_emit(PG_FUNCTION_ARGS)
{
	Datum values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	bool isnull;
	int64 seq;

	SPI_connect();
	if (coder_execute(&emit_plan, values, NULL, false, 1) != SPI_OK_INSERT_RETURNING)
		elog(ERROR, "could not append an event");
	seq = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	emitted = true;
	PG_RETURN_INT64(seq);
}

static const Oid after_args[] = {INT8OID, INT4OID};

/* The last column tells whether a row was left out because a transaction is running. */
static CoderPlan after_plan = {
	"SELECT e.seq, e.channel, e.payload,"
	"       e.xid OPERATOR(pg_catalog.<) pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())"
	"  FROM coder.events e WHERE e.seq OPERATOR(pg_catalog.>) $1 ORDER BY e.seq LIMIT $2",
	2,
	after_args,
	NULL};

/*
 * Puts the safe rows after a number into the store.  Returns their count and
 * sets held when a row had to stay behind: all rows after it stay, too.
 */
static int
read_events(int64 after, Tuplestorestate *store, TupleDesc desc, bool *held)
{
	Datum args[2] = {Int64GetDatum(after), Int32GetDatum(BATCH)};
	int n = 0;

	*held = false;
	SPI_connect();
	coder_execute(&after_plan, args, NULL, false, 0);
	for (uint64 i = 0; i < SPI_processed && !*held; i++)
	{
		Datum values[4];
		bool nulls[4];

		for (int c = 0; c < 4; c++)
			values[c] =
				SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1, &nulls[c]);
		if (!DatumGetBool(values[3]))
			*held = true;
		else
		{
			tuplestore_putvalues(store, desc, values, nulls);
			n++;
		}
	}
	SPI_finish();
	return n;
}

/* Waits for a commit with events; true when ms have passed. */
static bool
wait_commit(long ms)
{
	if (shared != NULL)
		return ConditionVariableTimedSleep(&shared->committed, ms, PG_WAIT_EXTENSION);
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(ms, POLL_MS),
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/*
 * coder.events_after(after bigint, timeout_ms int)
 *     RETURNS SETOF (seq bigint, channel text, payload text)
 *
 * The next events behind a sequence number, in order, as soon as there are any;
 * nothing after timeout_ms.  Needs READ COMMITTED: each look is a new snapshot.
 */
Datum
coder_events_after(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int64 after = PG_GETARG_INT64(0);
	int timeout = Min(Max(PG_GETARG_INT32(1), 0), MAX_TIMEOUT_MS);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	bool held;

	InitMaterializedSRF(fcinfo, 0);
	if (shared != NULL)
		ConditionVariablePrepareToSleep(&shared->committed);
	while (read_events(after, rsinfo->setResult, rsinfo->setDesc, &held) == 0)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (left <= 0)
			break;
		/* A transaction in the way may end without an event of its own. */
		wait_commit(held ? Min(left, POLL_MS) : left);
	}
	if (shared != NULL)
		ConditionVariableCancelSleep();
	return (Datum) 0;
}
