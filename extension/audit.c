/*
 * audit.c -- the audit log: who changed what, by the API or by SQL.
 *
 * coder.audit_row() is the trigger of every tracked table; which columns count
 * is in coder.audit_columns.  What an API request changes is held back until
 * its function has answered, so that a resource has one row a request, with the
 * status; outside of a request a row is written at once.  coder.audit() adds
 * what a changed row does not tell (a login, who did it) and joins the change
 * of the same resource.
 *
 * Rows are written as the schema's owner, since who changes a table need not
 * have rights on the log; and nobody changes one: coder.audit_guard().
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "audit.h"
#include "coder.h"
#include "compat.h"
#include "error.h"

#define SUBSYSTEM_LEN 32
#define LABELS_MAX 8

/* Whose work the next changes are, when it is the server's own. */
typedef struct AuditLabel
{
	char subsystem[SUBSYSTEM_LEN]; /* "" : nobody's */
	bool told;
	SubTransactionId subid;
} AuditLabel;

static int serving; /* depth of requests */
static MemoryContext changes_context;
static AuditChange *changes;
static AuditChange *last_change;
static AuditLabel labels[LABELS_MAX] = {
	{"", true, InvalidSubTransactionId}}; /* the first is nobody's */
static int nlabels = 1;
static bool purging;

static const pg_uuid_t nil_uuid;

PG_FUNCTION_INFO_V1(coder_audit_row);
PG_FUNCTION_INFO_V1(coder_audit_build);
PG_FUNCTION_INFO_V1(coder_audit_guard);
PG_FUNCTION_INFO_V1(coder_audit);
PG_FUNCTION_INFO_V1(coder_audit_as);
PG_FUNCTION_INFO_V1(coder_audit_subsystem);
PG_FUNCTION_INFO_V1(coder_audit_purge);

static const AuditLabel *
current_label(void)
{
	return &labels[nlabels - 1];
}

/* State ---------------------------------------------------------------------- */

bool
audit_has_changes(void)
{
	return changes != NULL;
}

static void
forget_changes(void)
{
	changes = NULL;
	last_change = NULL;
	changes_context = NULL;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	forget_changes();
	nlabels = 1;
	audit_forget_request();
	purging = false;
	serving = 0;
}

/* Ids of subtransactions grow: what is left of an aborted one has its id or a later one. */
static void
on_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	AuditChange **link = &changes;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	last_change = NULL;
	while (*link != NULL)
	{
		if ((*link)->subid >= subid)
		{
			*link = (*link)->next;
			continue;
		}
		last_change = *link;
		link = &(*link)->next;
	}
	while (nlabels > 1 && labels[nlabels - 1].subid >= subid)
		nlabels--;
	purging = false;
}

void
coder_audit_init(void)
{
	audit_table_init();
	RegisterXactCallback(on_xact_end, NULL);
	RegisterSubXactCallback(on_subxact_end, NULL);
}

/* Changes ---------------------------------------------------------------------- */

/* Writes what was held back, in memory that goes with it. */
static void
write_changes(int status)
{
	MemoryContext old = MemoryContextSwitchTo(changes_context);

	audit_write(changes, status);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(changes_context);
	forget_changes();
}

/* Where a change is kept until it is written. */
static MemoryContext
changes_memory(void)
{
	if (changes_context == NULL)
		changes_context =
			AllocSetContextCreate(TopTransactionContext, "coder audit", ALLOCSET_DEFAULT_SIZES);
	return changes_context;
}

static void
add_change(AuditChange *change)
{
	change->subid = GetCurrentSubTransactionId();
	change->subsystem = MemoryContextStrdup(changes_memory(), current_label()->subsystem);
	if (last_change != NULL)
		last_change->next = change;
	else
		changes = change;
	last_change = change;
	if (serving == 0)
		write_changes(200);
}

void
coder_audit_begin(void)
{
	serving++;
}

void
coder_audit_end(int status)
{
	serving--;
	if (changes != NULL)
		write_changes(status);
}

/* The request failed: what it changed is undone, and told by coder.audit_refused(). */
void
coder_audit_cancel(void)
{
	if (serving > 0)
		serving--;
}

/* Triggers --------------------------------------------------------------------- */

/* A dump is restored with both off (coder.restoring()): it has the log too. */
static bool
is_silent(void)
{
	return creating_extension || !current_label()->told ||
		   (!row_security && !check_function_bodies);
}

static AuditOp
trigger_op(const AuditTable *table, const TriggerData *trigger)
{
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		return OP_CREATE;
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return OP_DELETE;
	if (!audit_row_deleted(table, trigger->tg_trigtuple) &&
		audit_row_deleted(table, trigger->tg_newtuple))
		return OP_DELETE;
	return OP_WRITE;
}

static void
note_row(AuditTable *table, const TriggerData *trigger)
{
	AuditOp op = trigger_op(table, trigger);
	MemoryContext old = MemoryContextSwitchTo(changes_memory());
	AuditChange *change = palloc0(sizeof(*change));

	change->type = table->type;
	change->table = table;
	change->op = op;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		change->new = heap_copytuple(trigger->tg_trigtuple);
	else
		change->old = heap_copytuple(trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		change->new = heap_copytuple(trigger->tg_newtuple);
	if (!audit_row_uuid(
			table, change->new != NULL ? change->new : change->old, table->id_att, &change->id))
		change->id = nil_uuid;
	MemoryContextSwitchTo(old);
	add_change(change);
}

/* coder.audit_row() RETURNS trigger: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW of a tracked
 * table. */
Datum
coder_audit_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AuditTable *table;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_row is an AFTER trigger for each row")));
	if (is_silent())
		return PointerGetDatum(NULL);
	table = audit_table(trigger->tg_relation);
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		audit_row_deleted(table, trigger->tg_trigtuple) !=
			audit_row_deleted(table, trigger->tg_newtuple) ||
		audit_differs(table, trigger->tg_trigtuple, trigger->tg_newtuple))
		note_row(table, trigger);
	return PointerGetDatum(NULL);
}

static const Oid build_args[] = {UUIDOID, UUIDOID, JSONBOID, INT4OID};

/* Who began the build, from where, is with its job (coder.audit_origin). */
static CoderPlan build_plan = {
	"INSERT INTO coder.audit_logs (user_id, organization_id, ip, user_agent, token_id, resource_type,"
	" resource_id, resource_target, action, diff, status_code, additional_fields, request_id, database_role)"
	" SELECT $2, w.organization_id, ($3 OPERATOR(pg_catalog.->>) 'audit_ip')::pg_catalog.inet,"
	"  $3 OPERATOR(pg_catalog.->>) 'audit_user_agent', $3 OPERATOR(pg_catalog.->>) 'audit_token_id',"
	"  'workspace_build', b.id, '',"
	"  CASE b.transition WHEN 'start' THEN 'start'::coder.audit_action WHEN 'stop' THEN 'stop' ELSE 'delete' END,"
	"  CASE WHEN p.template_version_id OPERATOR(pg_catalog.=) b.template_version_id THEN '{}'::pg_catalog.jsonb"
	"   ELSE pg_catalog.jsonb_build_object('template_version_id', pg_catalog.jsonb_build_object("
	"    'old', coalesce(p.template_version_id::pg_catalog.text, ''), 'new', b.template_version_id, 'secret', false)) END,"
	"  $4, pg_catalog.jsonb_build_object('workspace_name', w.name, 'workspace_owner', u.username, 'workspace_id', w.id,"
	"   'build_number', b.build_number::pg_catalog.text, 'build_reason', b.reason), $1,"
	"  $3 OPERATOR(pg_catalog.->>) 'audit_database_role'"
	" FROM coder.workspace_builds b"
	" JOIN coder.workspaces w ON w.id OPERATOR(pg_catalog.=) b.workspace_id"
	" LEFT JOIN coder.users u ON u.id OPERATOR(pg_catalog.=) w.owner_id"
	" LEFT JOIN coder.workspace_builds p ON p.workspace_id OPERATOR(pg_catalog.=) b.workspace_id"
	"  AND p.build_number OPERATOR(pg_catalog.=) (b.build_number OPERATOR(pg_catalog.-) 1)"
	" WHERE b.job_id OPERATOR(pg_catalog.=) $1",
	4,
	build_args,
	NULL};

/* A column of a row of the job; a NULL is noted in its place of nulls. */
static Datum
job_column(const TriggerData *trigger, HeapTuple row, const char *name, char *null)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	bool isnull;
	Datum value = heap_getattr(row, SPI_fnumber(desc, name), desc, &isnull);

	*null = isnull ? 'n' : ' ';
	return value;
}

/* Has the job just ended? */
static bool
job_has_ended(const TriggerData *trigger)
{
	char was_running;
	char is_running;

	(void) job_column(trigger, trigger->tg_trigtuple, "completed_at", &was_running);
	(void) job_column(trigger, trigger->tg_newtuple, "completed_at", &is_running);
	return was_running == 'n' && is_running == ' ';
}

/* 200, or 500 for a job that failed or was cancelled. */
static int
job_outcome(const TriggerData *trigger)
{
	char no_error;
	char not_canceled;
	Datum error = job_column(trigger, trigger->tg_newtuple, "error", &no_error);

	(void) job_column(trigger, trigger->tg_newtuple, "canceled_at", &not_canceled);
	if (no_error == ' ' && VARSIZE_ANY_EXHDR(PG_DETOAST_DATUM_PACKED(error)) == 0)
		no_error = 'n';
	return no_error == 'n' && not_canceled == 'n' ? 200 : 500;
}

/*
 * coder.audit_build() RETURNS trigger: AFTER UPDATE of a build's job that has ended.
 *
 * A build's row is written when its outcome is known.
 */
Datum
coder_audit_build(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AuditOwner owner;
	Datum values[4];
	char nulls[5] = "    ";

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_build is an AFTER UPDATE trigger")));
	if (!job_has_ended(trigger))
		return PointerGetDatum(NULL);
	values[0] = job_column(trigger, trigger->tg_newtuple, "id", &nulls[0]);
	values[1] = job_column(trigger, trigger->tg_newtuple, "initiator_id", &nulls[1]);
	values[2] = job_column(trigger, trigger->tg_newtuple, "trace_metadata", &nulls[2]);
	values[3] = Int32GetDatum(job_outcome(trigger));
	owner = audit_begin_owner();
	SPI_connect();
	coder_execute(&build_plan, values, nulls, false, 0);
	SPI_finish();
	audit_end_owner(owner);
	return PointerGetDatum(NULL);
}

/*
 * coder.audit_guard() RETURNS trigger
 *
 * BEFORE UPDATE OR DELETE OR TRUNCATE of the log: ZC403 unless coder.audit_purge() deletes.
 */
Datum
coder_audit_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_guard is a trigger")));
	if (!purging || !TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_CODER_FORBIDDEN),
				 errmsg("Rows of the audit log are neither changed nor deleted."),
				 errhint("Old rows go by the setting audit_logs_retention (coder.audit_purge).")));
	return PointerGetDatum(trigger->tg_trigtuple);
}

/* Functions -------------------------------------------------------------------- */

static char *
arg_text(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static pg_uuid_t *
arg_uuid(FunctionCallInfo fcinfo, int i)
{
	pg_uuid_t *copy;

	if (PG_ARGISNULL(i))
		return NULL;
	copy = palloc(sizeof(*copy));
	*copy = *PG_GETARG_UUID_P(i);
	return copy;
}

static char *
arg_json(FunctionCallInfo fcinfo, int i)
{
	Jsonb *json;

	if (PG_ARGISNULL(i))
		return NULL;
	json = PG_GETARG_JSONB_P(i);
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/*
 * coder.audit(action text, type text, id uuid, target text, org uuid, diff jsonb,
 *             status int4, actor uuid, additional jsonb, icon text) RETURNS void
 */
Datum
coder_audit(PG_FUNCTION_ARGS)
{
	MemoryContext old;
	AuditChange *change;
	AuditNote *note;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("action and type of an audit row must not be null")));
	old = MemoryContextSwitchTo(changes_memory());
	change = palloc0(sizeof(*change));
	note = palloc0(sizeof(*note));
	note->action = arg_text(fcinfo, 0);
	change->type = arg_text(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		change->id = *PG_GETARG_UUID_P(2);
	note->target = PG_ARGISNULL(3) ? pstrdup("") : arg_text(fcinfo, 3);
	note->org = arg_uuid(fcinfo, 4);
	note->diff = arg_json(fcinfo, 5);
	note->status = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT32(6);
	note->actor = arg_uuid(fcinfo, 7);
	note->additional = arg_json(fcinfo, 8);
	note->icon = arg_text(fcinfo, 9);
	change->note = note;
	MemoryContextSwitchTo(old);
	add_change(change);
	PG_RETURN_VOID();
}

/*
 * coder.audit_as(subsystem text, told bool) RETURNS void
 *
 * What follows in this transaction is the server's own work, until the call
 * with NULL that belongs to it.  Not told: another row tells it.
 */
Datum
coder_audit_as(PG_FUNCTION_ARGS)
{
	AuditLabel *label = &labels[nlabels];

	if (PG_ARGISNULL(0))
	{
		nlabels = Max(nlabels - 1, 1);
		PG_RETURN_VOID();
	}
	if (nlabels == LABELS_MAX)
		elog(ERROR, "too many calls of coder.audit_as within one another");
	strlcpy(label->subsystem, text_to_cstring(PG_GETARG_TEXT_PP(0)), SUBSYSTEM_LEN);
	label->told = labels[nlabels - 1].told && (PG_ARGISNULL(1) || PG_GETARG_BOOL(1));
	label->subid = GetCurrentSubTransactionId();
	nlabels++;
	PG_RETURN_VOID();
}

/* coder.audit_subsystem() RETURNS text: what coder.audit_as() said; NULL where nothing holds. */
Datum
coder_audit_subsystem(PG_FUNCTION_ARGS)
{
	if (current_label()->subsystem[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(current_label()->subsystem));
}

static const Oid purge_args[] = {INT8OID};

/* Connections were audited by older servers; no setting keeps them. */
static CoderPlan purge_plans[] = {
	{"DELETE FROM coder.audit_logs l WHERE l.id OPERATOR(pg_catalog.=) ANY (ARRAY("
	 "SELECT x.id FROM coder.audit_logs x"
	 " WHERE x.\"time\" OPERATOR(pg_catalog.<) (SELECT coder.audit_kept_from())"
	 " ORDER BY x.\"time\" LIMIT $1))",
	 1,
	 purge_args,
	 NULL},
	{"DELETE FROM coder.audit_logs l WHERE l.id OPERATOR(pg_catalog.=) ANY (ARRAY("
	 "SELECT x.id FROM coder.audit_logs x WHERE x.\"time\" OPERATOR(pg_catalog.<)"
	 " (pg_catalog.now() OPERATOR(pg_catalog.-) '90 days'::pg_catalog.interval)"
	 " AND x.action OPERATOR(pg_catalog.=) ANY ('{connect,disconnect,open,close}'::coder.audit_action[])"
	 " ORDER BY x.\"time\" LIMIT $1))",
	 1,
	 purge_args,
	 NULL}};

/*
 * coder.audit_purge(most int8) RETURNS int8
 *
 * Deletes rows that are older than they are kept, the oldest first, most of
 * each kind; how many.
 */
Datum
coder_audit_purge(PG_FUNCTION_ARGS)
{
	Datum most = PG_GETARG_DATUM(0);
	volatile int64 done = 0;

	SPI_connect();
	purging = true;
	PG_TRY();
	{
		for (int i = 0; i < (int) lengthof(purge_plans); i++)
		{
			coder_execute(&purge_plans[i], &most, NULL, false, 0);
			done += (int64) SPI_processed;
		}
	}
	PG_FINALLY();
	{
		purging = false;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_INT64(done);
}
