/*
 * stat.c -- what backends count together, in shared memory: see stat.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "coder.h"
#include "stat.h"

#define MAX_TIMERS 64
#define TIMER_NAME 64
#define FLUSH_REQUESTS 16
#define FLUSH_USECS 100000

/* Borders of the times of periodic work; the families of metrics show some of them each. */
static const double bounds[] = {0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.025, 0.035, 0.05, 0.075, 0.1,
								0.25, 0.5, 0.75, 1, 2.5, 5, 10, 30, 60, 300, 600};

typedef struct Timer
{
	char name[TIMER_NAME]; /* "": free */
	int64 runs;
	int64 failed;
	int64 items;
	double seconds;
	double longest;
	double last;
	TimestampTz last_at;
	int64 buckets[lengthof(bounds) + 1];
} Timer;

typedef struct StatShared
{
	TimestampTz since;
	pg_atomic_uint64 counts[STAT_COUNT];
	slock_t lock; /* of the timers */
	int64 dropped; /* names that found no place */
	Timer timers[MAX_TIMERS];
} StatShared;

uint64 coder_stat_local[STAT_COUNT];

static StatShared *shared;
static int requests; /* since the last flush */
static TimestampTz flushed_at;
static bool at_exit;

static const char *const stat_names[STAT_COUNT] = {
	[STAT_SUBJECT_HIT] = "subject_hit",
	[STAT_SUBJECT_MISS] = "subject_miss",
	[STAT_ANSWER_HIT] = "answer_hit",
	[STAT_ANSWER_MISS] = "answer_miss",
	[STAT_INVALIDATION] = "invalidation",
	[STAT_ALLOWED] = "allowed",
	[STAT_DENIED] = "denied",
	[STAT_REQUEST] = "request",
	[STAT_EVENT] = "event",
	[STAT_EVENT_BYTES] = "event_bytes",
	[STAT_CHAT_HIT] = "chat_hit",
	[STAT_CHAT_MISS] = "chat_miss",
	[STAT_CHAT_INVALIDATION] = "chat_invalidation",
	[STAT_CHAT_EMPTIED] = "chat_emptied",
	[STAT_BOUNDARY_REFUSED] = "boundary_refused",
	[STAT_BOUNDARY_CLAMPED] = "boundary_clamped",
};

PG_FUNCTION_INFO_V1(coder_stat_counters);
PG_FUNCTION_INFO_V1(coder_stat_count);
PG_FUNCTION_INFO_V1(coder_stat_timers);
PG_FUNCTION_INFO_V1(coder_stat_took);

static void
init_shared(StatShared *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->since = GetCurrentTimestamp();
	for (int i = 0; i < STAT_COUNT; i++)
		pg_atomic_init_u64(&stats->counts[i], 0);
	SpinLockInit(&stats->lock);
}

void
coder_stat_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(StatShared)));
}

void
coder_stat_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("coder stats", sizeof(StatShared), &found);
	if (!found)
		init_shared(shared);
	LWLockRelease(AddinShmemInitLock);
}

/* Without preload: this backend's. */
static StatShared *
stats(void)
{
	static StatShared own;

	if (shared == NULL)
	{
		init_shared(&own);
		shared = &own;
	}
	return shared;
}

void
coder_stat_flush(void)
{
	StatShared *to = stats();

	for (int i = 0; i < STAT_COUNT; i++)
	{
		if (coder_stat_local[i] == 0)
			continue;
		pg_atomic_fetch_add_u64(&to->counts[i], (int64) coder_stat_local[i]);
		coder_stat_local[i] = 0;
	}
}

static void
on_backend_exit(int code, Datum arg)
{
	coder_stat_flush();
}

void
coder_stat_flush_sometimes(void)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();

	coder_stat_local[STAT_REQUEST]++;
	if (++requests < FLUSH_REQUESTS && now - flushed_at < FLUSH_USECS)
		return;
	if (!at_exit)
	{
		before_shmem_exit(on_backend_exit, (Datum) 0);
		at_exit = true;
	}
	requests = 0;
	flushed_at = now;
	coder_stat_flush();
}

/* The timer of a name, made if there is room; NULL: there is none. */
static Timer *
find_timer(StatShared *to, const char *name)
{
	for (int i = 0; i < MAX_TIMERS; i++)
	{
		Timer *timer = &to->timers[i];

		if (timer->name[0] == '\0')
			strlcpy(timer->name, name, TIMER_NAME);
		if (strncmp(timer->name, name, TIMER_NAME - 1) == 0)
			return timer;
	}
	to->dropped++;
	return NULL;
}

void
coder_stat_time(const char *name, double seconds, int64 items, bool failed)
{
	StatShared *to = stats();
	TimestampTz now = GetCurrentTimestamp();
	Timer *timer;
	size_t bucket = 0;

	if (name[0] == '\0' || isnan(seconds) || seconds < 0)
		return;
	while (bucket < lengthof(bounds) && seconds > bounds[bucket])
		bucket++;
	SpinLockAcquire(&to->lock);
	timer = find_timer(to, name);
	if (timer != NULL)
	{
		timer->runs++;
		timer->failed += failed;
		timer->items += items;
		timer->seconds += seconds;
		timer->longest = Max(timer->longest, seconds);
		timer->last = seconds;
		timer->last_at = now;
		timer->buckets[bucket]++;
	}
	SpinLockRelease(&to->lock);
}

/*
 * coder.stat_took(name text, began timestamptz, items bigint) RETURNS bigint
 *
 * Notes that something periodic, which began then, is done; the items.
 */
Datum
coder_stat_took(PG_FUNCTION_ARGS)
{
	double seconds = (double) (GetCurrentTimestamp() - PG_GETARG_TIMESTAMPTZ(1)) / USECS_PER_SEC;
	int64 items = PG_GETARG_INT64(2);

	coder_stat_time(text_to_cstring(PG_GETARG_TEXT_PP(0)), Max(seconds, 0), items, false);
	PG_RETURN_INT64(items);
}

/*
 * coder.stat_count(name text, n bigint) RETURNS bigint
 *
 * Adds what another process has counted; n.
 */
Datum
coder_stat_count(PG_FUNCTION_ARGS)
{
	const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int64 n = PG_GETARG_INT64(1);

	if (n < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a counter cannot fall")));
	for (int i = 0; i < STAT_COUNT; i++)
		if (strcmp(stat_names[i], name) == 0)
		{
			pg_atomic_fetch_add_u64(&stats()->counts[i], n);
			PG_RETURN_INT64(n);
		}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no counter \"%s\"", name)));
}

/* coder.stat_counters() RETURNS TABLE (name text, count bigint, since timestamptz) */
Datum
coder_stat_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	StatShared *from = stats();

	coder_stat_flush();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < STAT_COUNT; i++)
	{
		Datum values[3] = {CStringGetTextDatum(stat_names[i]),
						   Int64GetDatum((int64) pg_atomic_read_u64(&from->counts[i])),
						   TimestampTzGetDatum(from->since)};
		bool nulls[3] = {false, false, false};

		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}

static Datum
buckets_of(const Timer *timer)
{
	Datum counts[lengthof(bounds) + 1];

	for (size_t i = 0; i < lengthof(counts); i++)
		counts[i] = Int64GetDatum(timer->buckets[i]);
	return PointerGetDatum(construct_array(
		counts, lengthof(counts), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static Datum
bounds_array(void)
{
	Datum values[lengthof(bounds)];

	for (size_t i = 0; i < lengthof(values); i++)
		values[i] = Float8GetDatum(bounds[i]);
	return PointerGetDatum(construct_array(
		values, lengthof(values), FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * coder.stat_timers() RETURNS TABLE (name text, runs, failed, items bigint, seconds, longest, last float8,
 * last_at timestamptz, bounds float8[], buckets bigint[])
 *
 * buckets: how many took up to each of bounds, and longer than the last.
 */
Datum
coder_stat_timers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *set = (ReturnSetInfo *) fcinfo->resultinfo;
	StatShared *from = stats();
	Timer *copy = palloc(sizeof(from->timers));

	InitMaterializedSRF(fcinfo, 0);
	SpinLockAcquire(&from->lock);
	memcpy(copy, from->timers, sizeof(from->timers));
	SpinLockRelease(&from->lock);
	for (int i = 0; i < MAX_TIMERS && copy[i].name[0] != '\0'; i++)
	{
		Datum values[] = {CStringGetTextDatum(copy[i].name),
						  Int64GetDatum(copy[i].runs),
						  Int64GetDatum(copy[i].failed),
						  Int64GetDatum(copy[i].items),
						  Float8GetDatum(copy[i].seconds),
						  Float8GetDatum(copy[i].longest),
						  Float8GetDatum(copy[i].last),
						  TimestampTzGetDatum(copy[i].last_at),
						  bounds_array(),
						  buckets_of(&copy[i])};
		bool nulls[lengthof(values)] = {false};

		tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}
