/* SPDX-License-Identifier: MIT */
/*
 * build.c
 *	  The state machine of builds: one set of tables for the API, for SQL and
 *	  for triggers.
 *
 * A workspace is the sum of its builds, and a build's state is its job's:
 *
 *	pending -> running -> succeeded | failed
 *	   |          |
 *	   |          +-----> canceling -> canceled | failed | succeeded
 *	   +---------------------------> canceled | failed
 *
 * A job's status is derived from started_at, canceled_at, completed_at and
 * error (coder.provisioner_jobs).  Each of the three times is written once;
 * coder_provisioner_jobs_guard refuses everything else, so no status has two
 * ends.  One way leads back, from running to pending: a job whose daemon died
 * before it changed anything outside (apply_started_at) gives up its daemon
 * and is counted (attempts).  Which build may follow which is build_conflicts
 * below.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "build.h"

PG_FUNCTION_INFO_V1(coder_workspace_status);
PG_FUNCTION_INFO_V1(coder_build_conflict);
PG_FUNCTION_INFO_V1(coder_job_is_active);
PG_FUNCTION_INFO_V1(coder_provisioner_jobs_guard);

#define ERRCODE_CODER_CONFLICT MAKE_SQLSTATE('Z', 'C', '4', '0', '9')

static const char *const job_status_names[] = {
	[JOB_PENDING] = "pending",
	[JOB_RUNNING] = "running",
	[JOB_CANCELING] = "canceling",
	[JOB_SUCCEEDED] = "succeeded",
	[JOB_CANCELED] = "canceled",
	[JOB_FAILED] = "failed",
};

static const char *const transition_names[] = {
	[TRANSITION_START] = "start",
	[TRANSITION_STOP] = "stop",
	[TRANSITION_DELETE] = "delete",
};

/* Status of a workspace whose latest job is running, or has succeeded. */
static const char *const running_names[] = {
	[TRANSITION_START] = "starting",
	[TRANSITION_STOP] = "stopping",
	[TRANSITION_DELETE] = "deleting",
};

static const char *const succeeded_names[] = {
	[TRANSITION_START] = "running",
	[TRANSITION_STOP] = "stopped",
	[TRANSITION_DELETE] = "deleted",
};

/* Builds that a deleted workspace refuses. */
static const char *const deleted_conflicts[] = {
	[TRANSITION_START] = "Cannot start a deleted workspace!",
	[TRANSITION_STOP] = "Cannot stop a deleted workspace!",
	[TRANSITION_DELETE] = NULL,
};

static int
name_index(const char *const *names, int n, const char *text, size_t len)
{
	for (int i = 0; i < n; i++)
		if (strlen(names[i]) == len && memcmp(names[i], text, len) == 0)
			return i;
	return n;
}

CoderJobStatus
coder_job_status_parse(const char *text, size_t len)
{
	return (CoderJobStatus) name_index(job_status_names, lengthof(job_status_names), text, len);
}

CoderTransition
coder_transition_parse(const char *text, size_t len)
{
	return (CoderTransition) name_index(transition_names, lengthof(transition_names), text, len);
}

bool
coder_job_active(CoderJobStatus status)
{
	return status == JOB_PENDING || status == JOB_RUNNING || status == JOB_CANCELING;
}

const char *
coder_workspace_status_name(CoderJobStatus status, CoderTransition transition)
{
	if (transition == TRANSITION_UNKNOWN || status == JOB_UNKNOWN)
		return job_status_names[JOB_FAILED];
	if (status == JOB_RUNNING)
		return running_names[transition];
	if (status == JOB_SUCCEEDED)
		return succeeded_names[transition];
	return job_status_names[status];
}

static CoderJobStatus
arg_job_status(text *t)
{
	return coder_job_status_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static CoderTransition
arg_transition(text *t)
{
	return coder_transition_parse(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/* coder.workspace_status(job_status text, transition text) returns text */
Datum
coder_workspace_status(PG_FUNCTION_ARGS)
{
	CoderJobStatus status = arg_job_status(PG_GETARG_TEXT_PP(0));
	CoderTransition transition = arg_transition(PG_GETARG_TEXT_PP(1));

	PG_RETURN_TEXT_P(cstring_to_text(coder_workspace_status_name(status, transition)));
}

/* coder.job_is_active(status text) returns boolean */
Datum
coder_job_is_active(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(coder_job_active(arg_job_status(PG_GETARG_TEXT_PP(0))));
}

/*
 * coder.build_conflict(transition text, workspace_deleted boolean,
 * last_job_status text) returns text
 *
 * last_job_status is NULL for a workspace that was never built.
 */
Datum
coder_build_conflict(PG_FUNCTION_ARGS)
{
	CoderTransition transition;
	const char *conflict = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	transition = arg_transition(PG_GETARG_TEXT_PP(0));
	if (transition == TRANSITION_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown transition")));
	if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1))
		conflict = deleted_conflicts[transition];
	if (conflict == NULL && !PG_ARGISNULL(2) && coder_job_active(arg_job_status(PG_GETARG_TEXT_PP(2))))
		conflict = "A workspace build is already active.";
	if (conflict == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(conflict));
}

/*
 * Refuse a change of a column that is written once.  Null to a value is the
 * only step; after the end there is none.
 */
static void
guard_column(TriggerData *trigger, const char *column, bool ended)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			attno = SPI_fnumber(desc, column);
	bool		old_null;
	bool		new_null;
	Datum		old_value;
	Datum		new_value;

	if (attno <= 0)
		elog(ERROR, "table %s has no column %s", RelationGetRelationName(trigger->tg_relation), column);
	old_value = heap_getattr(trigger->tg_trigtuple, attno, desc, &old_null);
	new_value = heap_getattr(trigger->tg_newtuple, attno, desc, &new_null);
	if (old_null && (new_null || !ended))
		return;
	if (!old_null && !new_null && DatumGetInt64(old_value) == DatumGetInt64(new_value))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CODER_CONFLICT),
			 ended ? errmsg("Job has already completed!") :
			 errmsg("A job's %s is written once.", column)));
}

/* Has the job of the old row come to its end? */
static bool
job_ended(TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;

	heap_getattr(trigger->tg_trigtuple, SPI_fnumber(desc, "completed_at"), desc, &isnull);
	return !isnull;
}

static bool
is_null(TriggerData *trigger, HeapTuple row, const char *column)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;

	heap_getattr(row, SPI_fnumber(desc, column), desc, &isnull);
	return isnull;
}

static int32
attempts(TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;

	return DatumGetInt32(heap_getattr(row, SPI_fnumber(desc, "attempts"), desc, &isnull));
}

/* Is a running job put back in the queue, as a whole and while it may be? */
static bool
is_put_back(TriggerData *trigger)
{
	HeapTuple	was = trigger->tg_trigtuple;
	HeapTuple	is = trigger->tg_newtuple;

	return !is_null(trigger, was, "started_at") && is_null(trigger, is, "started_at") &&
		is_null(trigger, was, "apply_started_at") && is_null(trigger, was, "canceled_at") &&
		is_null(trigger, is, "worker_id") && attempts(trigger, is) == attempts(trigger, was) + 1;
}

/* coder.provisioner_jobs_guard() returns trigger: BEFORE UPDATE */
Datum
coder_provisioner_jobs_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		ended;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.provisioner_jobs_guard is a BEFORE UPDATE trigger")));
	ended = job_ended(trigger);
	if (ended || !is_put_back(trigger))
		guard_column(trigger, "started_at", ended);
	guard_column(trigger, "canceled_at", ended);
	guard_column(trigger, "completed_at", ended);
	return PointerGetDatum(trigger->tg_newtuple);
}
