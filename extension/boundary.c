/* SPDX-License-Identifier: MIT */
/*
 * boundary.c
 *	  Reports of boundaries, counted: one of an agent, or those of many agents
 *	  that a gateway sends together, so that they share a commit.
 *
 * Whatever the number of reports, each table is written by one statement, in
 * this order, and within it in the order of its key: batches, workspaces, users,
 * reports, sums.  Two transactions therefore never wait for each other.
 *
 * A backend remembers which workspaces and users it has found in the sets of the
 * open period, once the transaction that saw them there has committed: rows of an
 * open period stay.
 *
 * A report that is refused takes nothing else along: it is not among what is
 * written.  The advisory lock is taken before anything is read, as a statement's
 * snapshot must not be older than it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "error.h"
#include "json.h"
#include "stat.h"
#include "jsonbvalue.h"

/* lock.c */
extern Datum coder_lock_shared(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(coder_boundary_report);
PG_FUNCTION_INFO_V1(coder_boundary_reports);

#define MAX_ENTRIES 100000		/* of a report */
#define MAX_REPORTS 1000		/* at once */
#define MAX_DROPPED 1000000
#define SKEW (INT64CONST(3600) * USECS_PER_SEC)
#define SECONDS_LEN 19			/* of "2026-01-01T00:00:00" */
#define SHARDS 64
#define NOT_AUTHORIZED "Workspace agent not authorized."

typedef struct Report
{
	pg_uuid_t	agent;
	const char *error;			/* why it is refused, or NULL */
	int			code;
	bool		has_batch;
	bool		repeated;
	pg_uuid_t	batch;
	int64		allowed;
	int64		denied;
	int64		ignored;
	int64		skewed;
	int64		dropped;
	pg_uuid_t	workspace;
	pg_uuid_t	owner;
	pg_uuid_t	template;
	pg_uuid_t	organization;
	char	   *who;			/* JSON, for the gateway's log */
} Report;

typedef struct Statement
{
	const char *text;
	int			nargs;
	Oid			args[12];
	SPIPlanPtr	plan;
} Statement;

#define UUIDS UUIDARRAYOID
#define INTS INT8ARRAYOID
#ifndef UUIDARRAYOID
#define UUIDARRAYOID 2951
#endif

static Statement open_period = {"SELECT p.period, p.opened_at FROM coder.boundary_usage_periods p WHERE p.closed_at IS NULL", 0, {0}, NULL};
static Statement first_period = {"SELECT (p).period, (p).opened_at FROM coder.boundary_period(false) p", 0, {0}, NULL};
static Statement who = {
	"SELECT w.id, w.owner_id, w.template_id, w.organization_id, w.name, u.username, a.name, b.template_version_id"
	"  FROM coder.workspace_agents a"
	"  JOIN coder.workspace_resources r ON r.id = a.resource_id"
	"  JOIN coder.workspace_builds b ON b.job_id = r.job_id"
	"  JOIN coder.workspaces w ON w.id = b.workspace_id"
	"  LEFT JOIN coder.users u ON u.id = w.owner_id"
	" WHERE a.id = $1 AND NOT a.deleted AND NOT w.deleted AND (w.latest_build_id = b.id OR coder.agent_build_current(b))",
	1, {UUIDOID}, NULL};
static Statement add_batches = {
	"INSERT INTO coder.boundary_batches SELECT u.agent, u.batch, $3 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) u(agent, batch)"
	" ON CONFLICT DO NOTHING RETURNING agent_id, batch_id",
	3, {UUIDS, UUIDS, TIMESTAMPTZOID}, NULL};
static Statement add_workspaces = {
	"INSERT INTO coder.boundary_usage_workspaces SELECT $1, u FROM pg_catalog.unnest($2) u ON CONFLICT DO NOTHING",
	2, {INT8OID, UUIDS}, NULL};
static Statement add_users = {
	"INSERT INTO coder.boundary_usage_users SELECT $1, u FROM pg_catalog.unnest($2) u ON CONFLICT DO NOTHING",
	2, {INT8OID, UUIDS}, NULL};
static Statement add_reports = {
	"INSERT INTO coder.boundary_reports SELECT $1, u.* FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3),"
	" pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)) u",
	7, {TIMESTAMPTZOID, UUIDS, UUIDS, UUIDS, UUIDS, INTS, INTS}, NULL};
static Statement add_sums = {
	"INSERT INTO coder.boundary_usage_stats AS s"
	"	(replica_id, window_start, updated_at, unique_workspaces_count, unique_users_count, allowed_requests, denied_requests,"
	"	 reports, repeated_reports, ignored_requests, skewed_requests, dropped_requests)"
	" VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	" ON CONFLICT (replica_id) DO UPDATE"
	"   SET unique_workspaces_count = s.unique_workspaces_count OPERATOR(pg_catalog.+) excluded.unique_workspaces_count,"
	"	   unique_users_count = s.unique_users_count OPERATOR(pg_catalog.+) excluded.unique_users_count,"
	"	   allowed_requests = s.allowed_requests OPERATOR(pg_catalog.+) excluded.allowed_requests,"
	"	   denied_requests = s.denied_requests OPERATOR(pg_catalog.+) excluded.denied_requests,"
	"	   updated_at = GREATEST(s.updated_at, excluded.updated_at),"
	"	   reports = s.reports OPERATOR(pg_catalog.+) excluded.reports,"
	"	   repeated_reports = s.repeated_reports OPERATOR(pg_catalog.+) excluded.repeated_reports,"
	"	   ignored_requests = s.ignored_requests OPERATOR(pg_catalog.+) excluded.ignored_requests,"
	"	   skewed_requests = s.skewed_requests OPERATOR(pg_catalog.+) excluded.skewed_requests,"
	"	   dropped_requests = s.dropped_requests OPERATOR(pg_catalog.+) excluded.dropped_requests",
	11, {UUIDOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}, NULL};

/* Numbers begin again where the extension is made anew; times do not. */
typedef struct Period
{
	int64		number;
	TimestampTz opened_at;
} Period;

/* Members of the sets of one period that are committed, by table: direct mapped, so what is new replaces what was. */
#define KNOWN 8192
#define SETS 2

typedef struct KnownSet
{
	pg_uuid_t	ids[KNOWN];
	bool		used[KNOWN];
} KnownSet;

static KnownSet *known;			/* SETS of them */
static Period known_period;

/* What this transaction has found or added; known when it commits. */
typedef struct Found
{
	int			set;
	pg_uuid_t	id;
} Found;

static Found *found;
static int	nfound;
static Period found_period;

static bool
same_period(Period a, Period b)
{
	return a.number == b.number && a.opened_at == b.opened_at;
}

static uint32
slot_of(const pg_uuid_t *id)
{
	uint32		hash;

	memcpy(&hash, id->data + 4, sizeof(hash));
	return (hash ^ hash >> 13) % KNOWN;
}

static bool
is_known(int set, Period period, const pg_uuid_t *id)
{
	uint32		slot = slot_of(id);

	return known != NULL && same_period(known_period, period) && known[set].used[slot] && memcmp(&known[set].ids[slot], id, UUID_LEN) == 0;
}

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && nfound > 0 && known != NULL)
	{
		if (!same_period(known_period, found_period))
			memset(known, 0, SETS * sizeof(KnownSet));
		known_period = found_period;
		for (int i = 0; i < nfound; i++)
		{
			uint32		slot = slot_of(&found[i].id);

			known[found[i].set].ids[slot] = found[i].id;
			known[found[i].set].used[slot] = true;
		}
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		found = NULL;			/* in the transaction's memory */
		nfound = 0;
	}
}

/* Not in a subtransaction: it may be rolled back while the transaction commits. */
static void
remember(int set, Period period, Datum *ids, int n)
{
	if (GetCurrentTransactionNestLevel() > 1 || (nfound > 0 && !same_period(found_period, period)))
		return;
	if (known == NULL)
	{
		known = MemoryContextAllocZero(TopMemoryContext, SETS * sizeof(KnownSet));
		RegisterXactCallback(at_end, NULL);
	}
	found = found == NULL ? MemoryContextAlloc(TopTransactionContext, sizeof(Found) * (size_t) n)
		: repalloc(found, sizeof(Found) * (size_t) (nfound + n));
	found_period = period;
	for (int i = 0; i < n; i++)
	{
		found[nfound].set = set;
		found[nfound++].id = *DatumGetUUIDP(ids[i]);
	}
}

/* Rows that were written or read. */
static uint64
run(Statement *statement, Datum *values)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(statement->text, statement->nargs, statement->args);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		statement->plan = plan;
	}
	if (SPI_execute_plan(statement->plan, values, NULL, false, 0) < 0)
		elog(ERROR, "SPI_execute_plan failed");
	return SPI_processed;
}

static void
refuse(Report *report, int code, const char *error)
{
	if (report->error == NULL)
		coder_stat_add(STAT_BOUNDARY_REFUSED);
	report->code = code;
	report->error = error;
}

static bool
is_object(const JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* 16 bytes in hexadecimal, as the gateway writes bytes; also with dashes. */
static bool
read_uuid(const JsonbValue *value, pg_uuid_t *uuid)
{
	int			n = 0;

	if (value == NULL || value->type != jbvString)
		return false;
	for (int i = 0; i < value->val.string.len; i++)
	{
		char		c = value->val.string.val[i];
		int			digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (c == '-')
			continue;
		if (digit < 0 || n == 2 * UUID_LEN)
			return false;
		uuid->data[n / 2] = (unsigned char) (n % 2 == 0 ? digit << 4 : uuid->data[n / 2] | digit);
		n++;
	}
	return n == 2 * UUID_LEN;
}

/* One entry.  Its own time moves nothing; one that is far from ours is noticed. */
static void
count_entry(Report *report, JsonbContainer *entry, const char *early, const char *late)
{
	JsonbValue	value;
	const JsonbValue *at;

	if (!is_object(jsonb_member(entry, "http_request", &value)))
	{
		report->ignored++;
		return;
	}
	at = jsonb_member(entry, "allowed", &value);
	if (at != NULL && at->type == jbvBool && at->val.boolean)
		report->allowed++;
	else
		report->denied++;
	at = jsonb_member(entry, "time", &value);
	if (at != NULL && at->type == jbvString && at->val.string.len >= SECONDS_LEN &&
		(strncmp(at->val.string.val, early, SECONDS_LEN) < 0 || strncmp(at->val.string.val, late, SECONDS_LEN) > 0))
		report->skewed++;
}

static const char *
time_text(TimestampTz at)
{
	StringInfoData text;

	initStringInfo(&text);
	json_append_time(&text, at);
	return text.data[0] == '"' ? text.data + 1 : text.data;
}

static int64
read_dropped(JsonbContainer *request)
{
	JsonbValue	value;
	const JsonbValue *n = jsonb_member(request, "dropped", &value);
	int64		dropped = 0;

	/* The mapping to JSON writes 64 bits as a text. */
	if (n != NULL && n->type == jbvNumeric)
		dropped = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(n->val.numeric)));
	else if (n != NULL && n->type == jbvString && n->val.string.len < 19)
		dropped = strtoll(pnstrdup(n->val.string.val, n->val.string.len), NULL, 10);
	if (dropped < 0 || dropped > MAX_DROPPED)
		coder_stat_add(STAT_BOUNDARY_CLAMPED);
	return Max(0, Min(dropped, MAX_DROPPED));
}

static void
read_request(Report *report, JsonbContainer *request, const char *early, const char *late)
{
	JsonbValue	value;
	const JsonbValue *logs = jsonb_member(request, "logs", &value);
	JsonbValue	batch;

	if (logs != NULL && logs->type == jbvBinary && JsonContainerIsArray(logs->val.binary.data))
	{
		JsonbContainer *list = logs->val.binary.data;
		uint32		n = JsonContainerSize(list);

		if (n > MAX_ENTRIES)
		{
			refuse(report, ERRCODE_CODER_BAD_REQUEST, "too many entries in one report");
			return;
		}
		for (uint32 i = 0; i < n; i++)
		{
			JsonbValue *entry = getIthJsonbValueFromContainer(list, i);

			if (is_object(entry))
				count_entry(report, entry->val.binary.data, early, late);
			else
				report->ignored++;
			pfree(entry);
		}
	}
	else if (logs != NULL && logs->type != jbvNull)
		refuse(report, ERRCODE_CODER_BAD_REQUEST, "logs is no list");
	if (jsonb_member(request, "batch_id", &batch) != NULL && batch.type == jbvString && batch.val.string.len > 0)
	{
		report->has_batch = true;
		if (!read_uuid(&batch, &report->batch))
			refuse(report, ERRCODE_CODER_BAD_REQUEST, "a batch id is 16 bytes");
	}
	report->dropped = read_dropped(request);
}

static void
append_member(StringInfo text, const char *name, HeapTuple row, TupleDesc desc, int column)
{
	char	   *value = SPI_getvalue(row, desc, column);

	if (value != NULL)
		json_str(text, name, value);
	else
		json_null(text, name);
}

static pg_uuid_t
uuid_of(HeapTuple row, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, column, &isnull);

	return isnull ? (pg_uuid_t) {{0}} : *DatumGetUUIDP(value);
}

/* Who and where: of the agent, not of the message. */
static void
look_up(Report *report, MemoryContext context)
{
	Datum		agent = UUIDPGetDatum(&report->agent);
	HeapTuple	row;
	TupleDesc	desc;
	StringInfoData text;
	MemoryContext old;

	if (run(&who, &agent) == 0)
	{
		refuse(report, ERRCODE_CODER_UNAUTHENTICATED, NOT_AUTHORIZED);
		SPI_freetuptable(SPI_tuptable);
		return;
	}
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	report->workspace = uuid_of(row, desc, 1);
	report->owner = uuid_of(row, desc, 2);
	report->template = uuid_of(row, desc, 3);
	report->organization = uuid_of(row, desc, 4);
	old = MemoryContextSwitchTo(context);
	initStringInfo(&text);
	json_open(&text, '{');
	append_member(&text, "workspace_id", row, desc, 1);
	append_member(&text, "workspace_name", row, desc, 5);
	append_member(&text, "owner", row, desc, 6);
	append_member(&text, "agent_name", row, desc, 7);
	append_member(&text, "template_id", row, desc, 3);
	append_member(&text, "template_version_id", row, desc, 8);
	json_close(&text, '}');
	report->who = text.data;
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
}

static int
compare_uuids(const void *a, const void *b)
{
	return memcmp(*(const pg_uuid_t *const *) a, *(const pg_uuid_t *const *) b, UUID_LEN);
}

static int
compare_batches(const void *a, const void *b)
{
	const Report *one = *(const Report *const *) a;
	const Report *other = *(const Report *const *) b;
	int			order = memcmp(&one->agent, &other->agent, UUID_LEN);

	return order != 0 ? order : memcmp(&one->batch, &other->batch, UUID_LEN);
}

static Datum
uuid_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

static Datum
int_array(Datum *values, int n)
{
	return PointerGetDatum(construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Batches that were counted before, or that come twice here, are repeated.  Who sends the same now waits for the other's end. */
static void
claim_batches(Report *reports, int n, TimestampTz now)
{
	Report	  **list = palloc(sizeof(Report *) * (size_t) n);
	Datum	   *agents = palloc(sizeof(Datum) * (size_t) n);
	Datum	   *batches = palloc(sizeof(Datum) * (size_t) n);
	Datum		values[3];
	int			m = 0;
	uint64		at = 0;

	for (int i = 0; i < n; i++)
		if (reports[i].error == NULL && reports[i].has_batch)
			list[m++] = &reports[i];
	if (m == 0)
		return;
	qsort(list, (size_t) m, sizeof(Report *), compare_batches);
	for (int i = 0; i < m; i++)
	{
		agents[i] = UUIDPGetDatum(&list[i]->agent);
		batches[i] = UUIDPGetDatum(&list[i]->batch);
	}
	values[0] = uuid_array(agents, m);
	values[1] = uuid_array(batches, m);
	values[2] = TimestampTzGetDatum(now);
	run(&add_batches, values);
	/* What was new comes back in the same order. */
	for (int i = 0; i < m; i++)
	{
		Report		claimed = {0};
		const Report *a = &claimed;
		const Report *b = list[i];

		list[i]->repeated = true;
		if (at == SPI_processed)
			continue;
		claimed.agent = uuid_of(SPI_tuptable->vals[at], SPI_tuptable->tupdesc, 1);
		claimed.batch = uuid_of(SPI_tuptable->vals[at], SPI_tuptable->tupdesc, 2);
		if (compare_batches(&a, &b) != 0)
			continue;
		list[i]->repeated = false;
		at++;
	}
	if (at != SPI_processed)
		elog(ERROR, "a batch that nobody sent was counted");
	SPI_freetuptable(SPI_tuptable);
}

static bool
is_counted(const Report *report)
{
	return report->error == NULL && !report->repeated && report->allowed + report->denied > 0;
}

/* How many of the ids (of workspaces or owners) are new in the period. */
static int64
add_to_set(int set, const Report *reports, int n, Period period)
{
	Statement  *statement = set == 0 ? &add_workspaces : &add_users;
	size_t		offset = set == 0 ? offsetof(Report, workspace) : offsetof(Report, owner);
	const pg_uuid_t **ids = palloc(sizeof(pg_uuid_t *) * (size_t) n);
	Datum	   *list = palloc(sizeof(Datum) * (size_t) n);
	Datum		values[2];
	int			m = 0, distinct = 0;
	int64		added;

	for (int i = 0; i < n; i++)
	{
		const pg_uuid_t *id = (const pg_uuid_t *) ((const char *) &reports[i] + offset);

		if (is_counted(&reports[i]) && !is_known(set, period, id))
			ids[m++] = id;
	}
	if (m == 0)
		return 0;
	qsort(ids, (size_t) m, sizeof(pg_uuid_t *), compare_uuids);
	for (int i = 0; i < m; i++)
		if (i == 0 || memcmp(ids[i], ids[i - 1], UUID_LEN) != 0)
			list[distinct++] = UUIDPGetDatum(ids[i]);
	values[0] = Int64GetDatum(period.number);
	values[1] = uuid_array(list, distinct);
	added = (int64) run(statement, values);
	remember(set, period, list, distinct);
	return added;
}

static int64
write_reports(const Report *reports, int n, TimestampTz at)
{
	Datum	   *columns[6];
	Datum		values[7];
	int			m = 0;

	for (int c = 0; c < 6; c++)
		columns[c] = palloc(sizeof(Datum) * (size_t) n);
	for (int i = 0; i < n; i++)
	{
		const Report *r = &reports[i];

		if (!is_counted(r))
			continue;
		columns[0][m] = UUIDPGetDatum(&r->workspace);
		columns[1][m] = UUIDPGetDatum(&r->owner);
		columns[2][m] = UUIDPGetDatum(&r->template);
		columns[3][m] = UUIDPGetDatum(&r->organization);
		columns[4][m] = Int64GetDatum(r->allowed);
		columns[5][m] = Int64GetDatum(r->denied);
		m++;
	}
	if (m == 0)
		return 0;
	values[0] = TimestampTzGetDatum(at);
	for (int c = 0; c < 6; c++)
		values[c + 1] = c < 4 ? uuid_array(columns[c], m) : int_array(columns[c], m);
	run(&add_reports, values);
	return m;
}

/* The shard's row last: it is locked until the transaction ends. */
static void
write_sums(const Report *reports, int n, TimestampTz at, int64 counted, int64 workspaces, int64 users)
{
	pg_uuid_t	shard = {{0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, [15] = (unsigned char) (MyProcPid % SHARDS)}};
	int64		allowed = 0, denied = 0, ignored = 0, skewed = 0, dropped = 0, repeated = 0;
	Datum		values[11];

	for (int i = 0; i < n; i++)
	{
		const Report *r = &reports[i];

		if (r->error != NULL)
			continue;
		repeated += r->repeated;
		if (r->repeated)
			continue;
		allowed += r->allowed;
		denied += r->denied;
		ignored += r->ignored;
		skewed += r->skewed;
		dropped += r->dropped;
	}
	if (counted + ignored + dropped + repeated == 0)
		return;
	values[0] = UUIDPGetDatum(&shard);
	values[1] = TimestampTzGetDatum(at);
	values[2] = Int64GetDatum(workspaces);
	values[3] = Int64GetDatum(users);
	values[4] = Int64GetDatum(allowed);
	values[5] = Int64GetDatum(denied);
	values[6] = Int64GetDatum(counted);
	values[7] = Int64GetDatum(repeated);
	values[8] = Int64GetDatum(ignored);
	values[9] = Int64GetDatum(skewed);
	values[10] = Int64GetDatum(dropped);
	run(&add_sums, values);
}

/* Until the transaction ends the open period stays open. */
static Period
hold_period(void)
{
	Period		period;
	bool		isnull;

	if (XactIsoLevel != XACT_READ_COMMITTED)
		ereport(ERROR, errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("boundary usage is counted in READ COMMITTED transactions only"));
	/* As coder.boundary_lock(false) takes it. */
	DirectFunctionCall1(coder_lock_shared, PointerGetDatum(cstring_to_text("coder.boundary_period")));
	if (run(&open_period, NULL) == 0)
		run(&first_period, NULL);
	period.number = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	period.opened_at = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return period;
}

/* Counts what is not refused. */
static void
count_reports(Report *reports, int n, MemoryContext context)
{
	Period		period;
	TimestampTz at;
	int64		workspaces, users, counted;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	period = hold_period();
	at = GetCurrentTimestamp();
	at = Max(at, period.opened_at);
	for (int i = 0; i < n; i++)
		if (reports[i].error == NULL)
			look_up(&reports[i], context);
	claim_batches(reports, n, GetCurrentTimestamp());
	workspaces = add_to_set(0, reports, n, period);
	users = add_to_set(1, reports, n, period);
	counted = write_reports(reports, n, at);
	write_sums(reports, n, at, counted, workspaces, users);
	SPI_finish();
}

Datum
coder_boundary_report(PG_FUNCTION_ARGS)
{
	Report		report = {.agent = *PG_GETARG_UUID_P(0)};
	TimestampTz now = GetCurrentTimestamp();

	coder_stat_flush_sometimes();
	read_request(&report, &PG_GETARG_JSONB_P(1)->root, time_text(now - SKEW), time_text(now + SKEW));
	count_reports(&report, 1, CurrentMemoryContext);
	if (report.error != NULL)
		ereport(ERROR, errcode(report.code), errmsg("%s", report.error));
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(report.repeated ? "{}" : report.who)));
}

Datum
coder_boundary_reports(PG_FUNCTION_ARGS)
{
	JsonbContainer *list = &PG_GETARG_JSONB_P(0)->root;
	TimestampTz now = GetCurrentTimestamp();
	const char *early = time_text(now - SKEW);
	const char *late = time_text(now + SKEW);
	int			n = JsonContainerIsArray(list) ? (int) JsonContainerSize(list) : -1;
	Report	   *reports;
	StringInfoData out;

	coder_stat_flush_sometimes();
	if (n < 0 || n > MAX_REPORTS)
		ereport(ERROR, errcode(ERRCODE_CODER_BAD_REQUEST), errmsg("expected a list of at most %d reports", MAX_REPORTS));
	reports = palloc0(sizeof(Report) * (size_t) (n + 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *one = getIthJsonbValueFromContainer(list, (uint32) i);
		JsonbValue	agent, request;

		if (!is_object(one) || !read_uuid(jsonb_member(one->val.binary.data, "agent", &agent), &reports[i].agent) ||
			!is_object(jsonb_member(one->val.binary.data, "request", &request)))
			refuse(&reports[i], ERRCODE_CODER_BAD_REQUEST, "a report has an agent and a request");
		else
			read_request(&reports[i], request.val.binary.data, early, late);
	}
	count_reports(reports, n, CurrentMemoryContext);
	initStringInfo(&out);
	json_open(&out, '[');
	for (int i = 0; i < n; i++)
	{
		if (reports[i].error == NULL)
		{
			const char *answer = reports[i].repeated ? "{}" : reports[i].who;

			json_raw(&out, NULL, answer, (int) strlen(answer));
			continue;
		}
		json_open_at(&out, NULL, '{');
		json_str(&out, "error", reports[i].error);
		json_close(&out, '}');
	}
	json_close(&out, ']');
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
