/*
 * event.c -- coder.emit() and coder.events_after(): an ordered log of events and its readers.
 *
 * Sequence numbers and transaction ids are both taken before a commit, so
 * neither is the order in which rows become visible.  What is final is the set
 * of rows below the xmin of a snapshot: every transaction below it has ended.
 * A reader's position is therefore a transaction id, the first that it has not
 * looked at; events_after gives out whole transactions from there up to xmin,
 * ordered by sequence number within one answer, and moves the position behind
 * them.  No row can appear below a position that was given out.
 *
 * xmin waits for transactions of all databases of the cluster; only those of this
 * one write here.  So where it can be had, the bound is the oldest transaction of
 * this database (final_below).  All below it, and below the first that had not
 * been completed then, had ended before the snapshot was taken: an xid is in its
 * PGPROC before the next one is given out, so who holds ProcArrayLock finds every
 * xid below latestCompletedXid there, as GetSnapshotData does.
 *
 * Readers wait on a condition variable that a commit with events wakes; without
 * shared memory (not preloaded) they poll.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"
#include "utils/xid8.h"

#include "coder.h"
#include "compat.h"
#include "stat.h"

#define BATCH 1000 /* rows of one answer, unless one transaction has more */
#define PACE_MS 2	   /* from an answer to the next, of one reader */
#define POLL_MS 50 /* without shared memory, or while a transaction is in the way */
#define MAX_TIMEOUT_MS 60000

typedef struct EventShared
{
	ConditionVariable committed;
	int64 history; /* another one each time shared memory is made: at start and behind a crash */
} EventShared;

static EventShared *shared;
static bool emitted; /* by the current transaction */

PG_FUNCTION_INFO_V1(coder_emit);
PG_FUNCTION_INFO_V1(coder_emit_all);
PG_FUNCTION_INFO_V1(coder_events_after);
PG_FUNCTION_INFO_V1(coder_events_history);

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
	{
		ConditionVariableInit(&shared->committed);
		if (!pg_strong_random(&shared->history, sizeof(shared->history)))
			shared->history = GetCurrentTimestamp();
	}
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

void
coder_event_note(void)
{
	emitted = true;
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
	coder_stat_local[STAT_EVENT]++;
	coder_stat_local[STAT_EVENT_BYTES] += VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1));
	PG_RETURN_INT64(seq);
}

static const Oid emit_all_args[] = {TEXTARRAYOID, TEXTARRAYOID};

static CoderPlan emit_all_plan = {
	"INSERT INTO coder.events (channel, payload) SELECT u.channel, u.payload FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) u (channel, payload)",
	2,
	emit_all_args,
	NULL};

/* The same for many, of type text, in the caller's SPI connection. */
void
coder_event_emit(int n, Datum *channels, Datum *payloads)
{
	Datum values[2] = {
		PointerGetDatum(construct_array(channels, n, TEXTOID, -1, false, TYPALIGN_INT)),
		PointerGetDatum(construct_array(payloads, n, TEXTOID, -1, false, TYPALIGN_INT))};

	coder_execute(&emit_all_plan, values, NULL, false, 0);
	emitted = true;
	coder_stat_local[STAT_EVENT] += n;
	for (int i = 0; i < n; i++)
		coder_stat_local[STAT_EVENT_BYTES] += VARSIZE_ANY_EXHDR(DatumGetPointer(payloads[i]));
}

/*
 * coder.emit_all(channels text[], payloads text[]) RETURNS bigint
 *
 * Appends events in their order; how many.
 */
Datum
coder_emit_all(PG_FUNCTION_ARGS)
{
	Datum *channels, *payloads;
	int n, m;

	/* NULLs are refused here. */
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &channels, NULL, &n);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &payloads, NULL, &m);
	if (n != m)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("each event has a channel and a payload"));
	if (n > 0)
	{
		SPI_connect();
		coder_event_emit(n, channels, payloads);
		SPI_finish();
	}
	PG_RETURN_INT64(n);
}

/*
 * The first transaction that may still append events, or one before it; false
 * where only a snapshot's xmin tells: on a standby, under a snapshot that is older
 * than this call, and where there may be prepared transactions, whose PGPROCs keep
 * their xid when they are over.
 */
static bool
final_below(FullTransactionId *bound)
{
	FullTransactionId next;

	if (RecoveryInProgress() || IsolationUsesXactSnapshot() || max_prepared_xacts > 0)
		return false;
	LWLockAcquire(ProcArrayLock, LW_SHARED);
	next = CODER_TRANSAM->latestCompletedXid;
	FullTransactionIdAdvance(&next);
	*bound = next;
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];
		TransactionId xid = ((volatile PGPROC *) proc)->xid;
		FullTransactionId full;

		if (!TransactionIdIsNormal(xid) || proc->databaseId != MyDatabaseId ||
			!TransactionIdPrecedes(xid, XidFromFullTransactionId(next)))
			continue;
		full = FullTransactionIdFromU64(U64FromFullTransactionId(next) -
										(uint32) (XidFromFullTransactionId(next) - xid));
		if (FullTransactionIdPrecedes(full, *bound))
			*bound = full;
	}
	LWLockRelease(ProcArrayLock);
	return true;
}

/* What one look has found: rows in the order of their transactions, then of seq. */
typedef struct Look
{
	int n;
	int room;
	Datum (*rows)[4]; /* next, seq, channel, payload */
	FullTransactionId last;
	bool held; /* there is a row behind a transaction that is running */
} Look;

/* The same by a snapshot: transactions of all databases below this one have ended. */
static FullTransactionId
xmin_of(Snapshot snapshot)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32 epoch = EpochFromFullTransactionId(next);

	if (snapshot->xmin > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, snapshot->xmin);
}

/* What is read here is read past the planner, so its check is made here. */
static Relation
open_events(void)
{
	Oid relid = get_relname_relid("events", coder_namespace());

	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK ||
		check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "events");
	return table_open(relid, AccessShareLock);
}

static void
add_row(Look *look, HeapTuple tuple, TupleDesc desc)
{
	static const char *const columns[] = {"xid", "seq", "channel", "payload"};
	HeapTuple copy = heap_copytuple(tuple);
	bool isnull;

	if (look->n == look->room)
	{
		look->room = Max(64, 2 * look->room);
		look->rows = look->rows == NULL ? palloc(sizeof(*look->rows) * look->room)
										: repalloc_huge(look->rows, sizeof(*look->rows) * look->room);
	}
	for (int i = 0; i < (int) lengthof(columns); i++)
		look->rows[look->n][i] = heap_getattr(copy, SPI_fnumber(desc, columns[i]), desc, &isnull);
	look->last = DatumGetFullTransactionId(look->rows[look->n][0]);
	look->n++;
}

/*
 * Reads final rows from a position on, by the primary key and without a plan:
 * one that was made while the table was small would read all of it.  The
 * transaction in which the limit falls comes whole.  Where the next answer begins.
 */
static FullTransactionId
look_from(Datum position, Look *look)
{
	Relation events = open_events();
	Relation index = index_open(RelationGetPrimaryKeyIndex(events), AccessShareLock);
	TupleDesc desc = RelationGetDescr(events);
	AttrNumber column = SPI_fnumber(desc, "xid");
	FullTransactionId bound;
	FullTransactionId next;
	bool known = final_below(&bound); /* before the snapshot is taken */
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (!known)
		bound = xmin_of(GetActiveSnapshot());
	next = bound;
	ScanKeyInit(&key, column, BTGreaterEqualStrategyNumber, F_XID8GE, position);
	scan = systable_beginscan_ordered(events, index, GetActiveSnapshot(), 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		FullTransactionId xid = DatumGetFullTransactionId(heap_getattr(tuple, column, desc, &isnull));

		look->held = !FullTransactionIdPrecedes(xid, bound);
		if (look->held)
			break;
		if (look->n >= BATCH && !FullTransactionIdEquals(xid, look->last))
		{
			next = look->last;
			FullTransactionIdAdvance(&next);
			break;
		}
		add_row(look, tuple, desc);
	}
	systable_endscan_ordered(scan);
	PopActiveSnapshot();
	index_close(index, AccessShareLock);
	table_close(events, AccessShareLock);
	return next;
}

static int
compare_seq(const void *a, const void *b)
{
	int64 x = DatumGetInt64(((const Datum *) a)[1]);
	int64 y = DatumGetInt64(((const Datum *) b)[1]);

	return x < y ? -1 : x > y;
}

/* Puts what is final from a position on into the store, by sequence number. */
static void
read_events(Datum position, Look *look, Tuplestorestate *store, TupleDesc desc)
{
	bool nulls[4] = {false};
	FullTransactionId next = look_from(position, look);

	if (look->n > 1)
		qsort(look->rows, look->n, sizeof(*look->rows), compare_seq);
	for (int i = 0; i < look->n; i++)
	{
		look->rows[i][0] = FullTransactionIdGetDatum(next);
		tuplestore_putvalues(store, desc, look->rows[i], nulls);
	}
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
 * A reader that comes back at once after an answer waits a little: where many
 * commit, one look finds the events of all of them, and none of them has to wake it.
 */
static void
pace(TimestampTz answered)
{
	long left = PACE_MS - TimestampDifferenceMilliseconds(answered, GetCurrentTimestamp());

	if (answered == 0 || left <= 0 || left > PACE_MS)
		return;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, left, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * coder.events_after(position xid8, timeout_ms int)
 *     RETURNS SETOF (next xid8, seq bigint, channel text, payload text)
 *
 * The next events from a position on as soon as there are any, and the position
 * behind them; nothing after timeout_ms.  Needs READ COMMITTED: each look is a
 * new snapshot.
 */
Datum
coder_events_after(PG_FUNCTION_ARGS)
{
	static TimestampTz answered;
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum position = PG_GETARG_DATUM(0);
	int timeout = Min(Max(PG_GETARG_INT32(1), 0), MAX_TIMEOUT_MS);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);

	InitMaterializedSRF(fcinfo, 0);
	pace(answered);
	if (shared != NULL)
		ConditionVariablePrepareToSleep(&shared->committed);
	while (true)
	{
		Look look = {0};
		long left;

		read_events(position, &look, rsinfo->setResult, rsinfo->setDesc);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (look.n > 0 || left <= 0)
			break;
		/* A transaction in the way may end without an event of its own. */
		wait_commit(look.held ? Min(left, POLL_MS) : left);
	}
	if (shared != NULL)
		ConditionVariableCancelSleep();
	answered = GetCurrentTimestamp();
	return (Datum) 0;
}

/*
 * coder.events_history() RETURNS bigint
 *
 * While it is the same, positions mean the same.  A crash may take transaction ids
 * back whose records had not reached the disk: they are given out anew, so that a
 * position of before may be behind events that a reader has not had.  Without shared
 * memory of our own only a new start of the server is told.
 */
Datum
coder_events_history(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(shared != NULL ? shared->history : PgStartTime);
}
