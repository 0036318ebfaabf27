/*
 * worker.c -- the background worker that calls coder.tick().
 *
 * One a database, held by an advisory lock.  Where the library is preloaded and
 * coder.database is set, the postmaster starts it; elsewhere
 * coder.ensure_worker() does, which the gateway calls when it connects.  A round
 * that fails is logged and the next one tried; the worker ends itself when the
 * extension is gone.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "coder.h"
#include "compat.h"
#include "stat.h"

#define ROUND_MS 1000
#define LOCK_KEY 0x636f64657274696bLL /* "codertik" */

static char *worker_database; /* coder.database */

extern PGDLLEXPORT void coder_worker_main(Datum arg);

PG_FUNCTION_INFO_V1(coder_ensure_worker);

static void
fill_worker(BackgroundWorker *worker)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = 5;
	strlcpy(worker->bgw_library_name, "coder", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, "coder_worker_main", sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, "coder worker", sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, "coder worker", sizeof(worker->bgw_type));
}

void
coder_worker_init(void)
{
	BackgroundWorker worker;

	/* Such a variable can only be made at server start; without preload there is no worker to configure. */
	if (!process_shared_preload_libraries_in_progress)
		return;
	DefineCustomStringVariable("coder.database",
							   "Database whose coder.tick() the background worker calls.",
							   "Empty: no worker until coder.ensure_worker() starts one.",
							   &worker_database,
							   "",
							   PGC_POSTMASTER,
							   0,
							   NULL,
							   NULL,
							   NULL);
	MarkGUCPrefixReserved("coder");
	if (worker_database == NULL || worker_database[0] == '\0')
		return;
	fill_worker(&worker);
	strlcpy(worker.bgw_extra, worker_database, sizeof(worker.bgw_extra));
	RegisterBackgroundWorker(&worker);
}

/* Calls a function that takes nothing, if it exists, in a transaction of its own. */
static void
call_if_exists(const char *function)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT pg_catalog.to_regprocedure('%s()') IS NOT NULL", function);
	SPI_connect();
	if (SPI_execute(sql.data, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		bool isnull;

		if (DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)))
		{
			resetStringInfo(&sql);
			appendStringInfo(&sql, "SELECT %s()", function);
			SPI_execute(sql.data, false, 0);
		}
	}
	SPI_finish();
}

/* One transaction; its failure is logged.  False: it failed. */
static bool
run_job(void (*job)(const char *), const char *arg)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool failed = false;

	SetCurrentStatementStartTimestamp();
	PG_TRY();
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		pgstat_report_activity(STATE_RUNNING, arg);
		job(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		failed = true;
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return !failed;
}

/* The same, with its time noted. */
static void
run_timed(const char *name, const char *function)
{
	TimestampTz began = GetCurrentTimestamp();
	bool done = run_job(call_if_exists, function);
	double seconds = (double) (GetCurrentTimestamp() - began) / USECS_PER_SEC;

	coder_stat_time(name, Max(seconds, 0), 0, !done);
}

/* Whether the extension exists; takes the lock of the only worker. */
static void
check_singleton(const char *arg)
{
	if (!OidIsValid(get_extension_oid("coder", true)))
		proc_exit(0);
	if (!OidIsValid(coder_namespace()))
		proc_exit(0);
	if (!coder_lock_key(LOCK_KEY, true, false))
		proc_exit(0);
}

static void
check_extension(const char *arg)
{
	if (!OidIsValid(get_extension_oid("coder", true)))
		proc_exit(0);
}

void
coder_worker_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	if (MyBgworkerEntry->bgw_extra[0] != '\0')
		BackgroundWorkerInitializeConnection(MyBgworkerEntry->bgw_extra, NULL, 0);
	else
		BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	run_job(check_singleton, "");
	for (;;)
	{
		(void) WaitLatch(
			MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ROUND_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		run_job(check_extension, "");
		run_timed("people", "coder.end_long_transactions");
		run_timed("round", "coder.tick");
		run_timed("events", "coder.events_purge");
		coder_stat_flush();
	}
}

/*
 * coder.ensure_worker() RETURNS bool
 *
 * Starts the worker of this database unless it runs; true if it runs or could
 * be started.  A second one that loses the race ends itself.
 */
Datum
coder_ensure_worker(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	bool isnull;
	bool running = false;
	char sql[256];

	snprintf(
		sql,
		sizeof(sql),
		"SELECT pg_catalog.bool_or(true) FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory'"
		" AND l.database = %u AND l.classid = %u AND l.objid = %u AND l.objsubid = %d AND l.granted",
		MyDatabaseId,
		(uint32) (LOCK_KEY >> 32),
		(uint32) LOCK_KEY,
		CODER_LOCK_CLASS);
	SPI_connect();
	if (SPI_execute(sql, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		Datum d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		running = !isnull && DatumGetBool(d);
	}
	SPI_finish();
	if (running)
		PG_RETURN_BOOL(true);
	fill_worker(&worker);
	worker.bgw_main_arg = ObjectIdGetDatum(MyDatabaseId);
	PG_RETURN_BOOL(RegisterDynamicBackgroundWorker(&worker, &handle));
}
