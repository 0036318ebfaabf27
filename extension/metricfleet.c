/* SPDX-License-Identifier: MIT */
/*
 * metricfleet.c
 *	  Workspaces, builds, jobs, agents and apps of one snapshot: see
 *	  metricfleet.h.
 *
 * Each table is read once, without the executor, and joined here by a hash of
 * ids: at 10,000 workspaces a statement for each family of metrics would spend
 * most of its time on joining the same seven tables again.  Like every function
 * of the extension this reads as the schema's owner does.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "coder.h"
#include "compat.h"
#include "metricfleet.h"

#define MAX_COLUMNS 16
#define PREBUILDS_USER "c42fdf75-3097-471c-8c33-fb52454d81c0"

/* ---- ids ---- */

/* What an id is of: the same id may be in two tables. */
typedef enum IdKind
{
	ID_USER,
	ID_ORGANIZATION,
	ID_TEMPLATE,
	ID_VERSION,
	ID_PRESET,
	ID_WORKSPACE,
	ID_JOB,
	ID_RESOURCE,
	ID_AGENT,
	ID_KINDS
} IdKind;

typedef struct IdEntry
{
	pg_uuid_t	id;
	int			at;
	char		status;
} IdEntry;

/* Ids are random: one multiplication spreads even those that are not. */
static inline uint32
id_hash(const pg_uuid_t *id)
{
	uint64		halves[2];

	memcpy(halves, id->data, sizeof(halves));
	return (uint32) (((halves[0] ^ (halves[1] << 1)) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32);
}

#define SH_PREFIX ids
#define SH_ELEMENT_TYPE IdEntry
#define SH_KEY_TYPE pg_uuid_t
#define SH_KEY id
#define SH_HASH_KEY(table, k) id_hash(&(k))
#define SH_EQUAL(table, a, b) (memcmp((a).data, (b).data, UUID_LEN) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct FleetIds
{
	ids_hash   *of[ID_KINDS];
} FleetIds;

/*
 * Rows are taken a batch at a time: the slots of all its ids are asked for before
 * the first is looked at, so that memory is waited for once and not for each.
 */
#define BATCH 64

static void
ids_ask(const ids_hash *index, const pg_uuid_t *ids, int n)
{
	for (int i = 0; i < n; i++)
		__builtin_prefetch(&index->data[id_hash(&ids[i]) & index->sizemask]);
}

static void
id_add(Fleet *fleet, IdKind kind, pg_uuid_t id, int at)
{
	bool		found;

	ids_insert(fleet->ids->of[kind], id, &found)->at = at;
}

static int
id_find(const Fleet *fleet, IdKind kind, pg_uuid_t id)
{
	const IdEntry *entry = ids_lookup(fleet->ids->of[kind], id);

	return entry == NULL ? FLEET_NONE : entry->at;
}

/* Ids of consecutive places, the first of which is at. */
static void
ids_add(Fleet *fleet, IdKind kind, const pg_uuid_t *ids, int n, int at)
{
	ids_ask(fleet->ids->of[kind], ids, n);
	for (int i = 0; i < n; i++)
		id_add(fleet, kind, ids[i], at + i);
}

static void
ids_find(const Fleet *fleet, IdKind kind, const pg_uuid_t *ids, int n, int *at)
{
	ids_ask(fleet->ids->of[kind], ids, n);
	for (int i = 0; i < n; i++)
		at[i] = id_find(fleet, kind, ids[i]);
}

/* ---- names ---- */

typedef struct NameKey
{
	const char *text;
	int			len;
} NameKey;

typedef struct NameEntry
{
	NameKey		key;			/* as it is */
	uint32		hash;
	char		status;
	const FleetName *name;		/* escaped */
} NameEntry;

#define SH_PREFIX FleetNames
#define SH_ELEMENT_TYPE NameEntry
#define SH_KEY_TYPE NameKey
#define SH_KEY key
#define SH_HASH_KEY(table, k) hash_bytes((const unsigned char *) (k).text, (k).len)
#define SH_EQUAL(table, a, b) ((a).len == (b).len && memcmp((a).text, (b).text, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static const FleetName *
make_name(const char *text, int len)
{
	StringInfoData buf;
	FleetName  *name;

	/* Nearly all are as they are. */
	if (metric_label_is_plain(text, (size_t) len))
	{
		name = palloc(offsetof(FleetName, text) + (size_t) len);
		name->len = len;
		memcpy(name->text, text, (size_t) len);
		return name;
	}
	initStringInfo(&buf);
	metric_label(&buf, text, (size_t) len);
	name = palloc(offsetof(FleetName, text) + (size_t) buf.len);
	name->len = buf.len;
	memcpy(name->text, buf.data, (size_t) buf.len);
	pfree(buf.data);
	return name;
}

const FleetName *
fleet_name(Fleet *fleet, const char *text, int len)
{
	NameKey		key = {.text = text, .len = len};
	bool		found;
	NameEntry  *entry = FleetNames_insert(fleet->names, key, &found);

	if (!found)
	{
		char	   *copy = palloc((Size) len + 1);

		memcpy(copy, text, (size_t) len);
		entry->key.text = copy;
		entry->name = make_name(text, len);
	}
	return entry->name;
}

static const FleetName *
name_of(Fleet *fleet, Datum value)
{
	struct varlena *text = PG_DETOAST_DATUM_PACKED(value);

	return fleet_name(fleet, VARDATA_ANY(text), (int) VARSIZE_ANY_EXHDR(text));
}

/* The same of what hardly two rows have; equal values are different objects. */
static const FleetName *
own_name_of(Datum value)
{
	struct varlena *text = PG_DETOAST_DATUM_PACKED(value);

	return make_name(VARDATA_ANY(text), (int) VARSIZE_ANY_EXHDR(text));
}

/* The label of an enum's value; at most some dozens are ever asked for. */
typedef struct FleetLabel
{
	Oid			id;
	const FleetName *name;
} FleetLabel;

#define MAX_LABELS 128

static const FleetName *
label_of(Fleet *fleet, Datum value)
{
	Oid			id = DatumGetObjectId(value);
	HeapTuple	tuple;
	const char *label;
	const FleetName *name;

	for (int i = 0; i < fleet->nlabels; i++)
		if (fleet->labels[i].id == id)
			return fleet->labels[i].name;
	tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(id));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "invalid internal value for enum: %u", id);
	label = NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel);
	name = fleet_name(fleet, label, (int) strlen(label));
	ReleaseSysCache(tuple);
	if (fleet->nlabels < MAX_LABELS)
		fleet->labels[fleet->nlabels++] = (FleetLabel) {id, name};
	return name;
}

/* ---- tables ---- */

typedef struct Reader
{
	Relation	rel;
	Relation	index;			/* NULL: all of the table */
	TableScanDesc scan;
	IndexScanDesc lookup;
	const pg_uuid_t *keys;		/* of the index, the next of them to look up */
	int			nkeys;
	bool		started;		/* has looked up one */
	TupleTableSlot *slot;
	int			ncolumns;
	AttrNumber	columns[MAX_COLUMNS];
	AttrNumber	last;			/* of them in the row */
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} Reader;

static void
reader_open(Reader *reader, const char *table, int ncolumns, const char *const *columns)
{
	Oid			relid = get_relname_relid(table, coder_namespace());

	Assert(ncolumns <= MAX_COLUMNS);
	if (!OidIsValid(relid))
		elog(ERROR, "coder.%s does not exist", table);
	reader->rel = table_open(relid, AccessShareLock);
	reader->ncolumns = ncolumns;
	reader->last = 0;
	for (int i = 0; i < ncolumns; i++)
	{
		reader->columns[i] = get_attnum(relid, columns[i]);
		if (reader->columns[i] == InvalidAttrNumber)
			elog(ERROR, "column coder.%s.%s does not exist", table, columns[i]);
		reader->last = Max(reader->last, reader->columns[i]);
	}
	reader->slot = table_slot_create(reader->rel, NULL);
	reader->index = NULL;
	reader->scan = NULL;
	reader->lookup = NULL;
	reader->nkeys = 0;
	reader->started = false;
}

/* Reads all of the table. */
static void
reader_scan(Reader *reader)
{
	reader->scan = table_beginscan(reader->rel, GetActiveSnapshot(), 0, NULL);
}

static void
reader_use(Reader *reader, const char *index, int nkeys)
{
	Oid			relid = get_relname_relid(index, coder_namespace());

	if (!OidIsValid(relid))
		elog(ERROR, "coder.%s does not exist", index);
	reader->index = index_open(relid, AccessShareLock);
	reader->lookup = index_beginscan(reader->rel, reader->index, GetActiveSnapshot(), nkeys, 0);
}

/* Ids in their order of arrival. */
typedef struct IdList
{
	pg_uuid_t  *ids;
	int			n;
} IdList;

/* One row by an index takes as long as some that follow one another. */
#define SCAN_FACTOR 3

/*
 * Reads at least those rows whose first column of the index is one of the keys:
 * each by the index, or all of the table where that is less work, so that what
 * is read is never more than the keys are worth.
 */
static void
reader_lookup(Reader *reader, const char *index, const IdList *keys)
{
	if ((double) reader->rel->rd_rel->reltuples <= (double) keys->n * SCAN_FACTOR)
	{
		reader_scan(reader);
		return;
	}
	reader_use(reader, index, 1);
	reader->keys = keys->ids;
	reader->nkeys = keys->n;
}

/* Goes on to the next key; false: there is none. */
static bool
next_key(Reader *reader)
{
	ScanKeyData key;

	if (reader->nkeys == 0)
		return false;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(reader->keys));
	index_rescan(reader->lookup, &key, 1, NULL, 0);
	reader->keys++;
	reader->nkeys--;
	return true;
}

/* Is there another row? */
static bool
next_slot(Reader *reader)
{
	if (reader->lookup == NULL)
		return table_scan_getnextslot(reader->scan, ForwardScanDirection, reader->slot);
	if (reader->lookup->numberOfKeys == 0)
		return index_getnext_slot(reader->lookup, ForwardScanDirection, reader->slot);
	while (!reader->started || !index_getnext_slot(reader->lookup, ForwardScanDirection, reader->slot))
	{
		if (!next_key(reader))
			return false;
		reader->started = true;
	}
	return true;
}

/* The next row's columns, which live until the next call. */
static bool
reader_next(Reader *reader)
{
	TupleTableSlot *slot = reader->slot;

	CHECK_FOR_INTERRUPTS();
	if (!next_slot(reader))
		return false;
	slot_getsomeattrs(slot, reader->last);
	for (int i = 0; i < reader->ncolumns; i++)
	{
		reader->values[i] = slot->tts_values[reader->columns[i] - 1];
		reader->nulls[i] = slot->tts_isnull[reader->columns[i] - 1];
	}
	return true;
}

static void
reader_close(Reader *reader)
{
	if (reader->scan != NULL)
		table_endscan(reader->scan);
	if (reader->lookup != NULL)
	{
		index_endscan(reader->lookup);
		index_close(reader->index, NoLock);
	}
	ExecDropSingleTupleTableSlot(reader->slot);
	table_close(reader->rel, NoLock);
}

#define OPEN(reader, table, ...) \
	do { \
		static const char *const columns_[] = {__VA_ARGS__}; \
		reader_open(reader, table, lengthof(columns_), columns_); \
	} while (0)

#define OPEN_ALL(reader, table, ...) \
	do { \
		OPEN(reader, table, __VA_ARGS__); \
		reader_scan(reader); \
	} while (0)

/* A table whose ids are looked up: as much room as rows are read of it, as PostgreSQL estimates. */
static void
open_index(Fleet *fleet, IdKind kind, const Reader *reader)
{
	double		rows = reader->lookup == NULL ? reader->rel->rd_rel->reltuples :
		reader->nkeys > 0 ? reader->nkeys * 2.0 : reader->index->rd_rel->reltuples;

	fleet->ids->of[kind] = ids_create(CurrentMemoryContext, rows < 64 ? 64 : rows > 1e8 ? 100000000 : (uint32) (rows * 1.5), NULL);
}

static inline pg_uuid_t
uuid_of(const Reader *reader, int column)
{
	return *DatumGetUUIDP(reader->values[column]);
}

static inline TimestampTz
time_of(const Reader *reader, int column)
{
	return reader->nulls[column] ? DT_NOBEGIN : DatumGetTimestampTz(reader->values[column]);
}

/* Room for one element more in an array that doubles. */
#define ROOM(array, n) \
	do { \
		if ((n) == 0) \
			(array) = palloc_extended(sizeof(*(array)) * 64, MCXT_ALLOC_HUGE); \
		else if ((n) >= 64 && ((n) & ((n) - 1)) == 0) \
			(array) = repalloc_huge((array), sizeof(*(array)) * (Size) (n) * 2); \
	} while (0)

static void
read_names(Fleet *fleet, IdKind kind, const char *table, const char *column)
{
	const char *columns[] = {"id", column};
	const FleetName **names = NULL;
	int			n = 0;
	Reader		reader;

	reader_open(&reader, table, 2, columns);
	reader_scan(&reader);
	open_index(fleet, kind, &reader);
	while (reader_next(&reader))
	{
		const FleetName *name = reader.nulls[1] ? fleet->empty : name_of(fleet, reader.values[1]);

		ROOM(names, n);
		names[n] = kind == ID_VERSION && name->len == 0 ? fleet->unknown : name;
		id_add(fleet, kind, uuid_of(&reader, 0), n++);
	}
	reader_close(&reader);
	fleet->named[kind] = names;
}

static const FleetName *
id_name(const Fleet *fleet, IdKind kind, pg_uuid_t id, const FleetName *otherwise)
{
	int			at = id_find(fleet, kind, id);

	return at == FLEET_NONE ? otherwise : fleet->named[kind][at];
}

static void
read_templates(Fleet *fleet)
{
	Reader		reader;

	OPEN_ALL(&reader, "templates", "id", "organization_id", "name", "deleted");
	open_index(fleet, ID_TEMPLATE, &reader);
	while (reader_next(&reader))
	{
		FleetTemplate *template;

		ROOM(fleet->templates, fleet->ntemplates);
		template = &fleet->templates[fleet->ntemplates];
		template->organization = id_name(fleet, ID_ORGANIZATION, uuid_of(&reader, 1), fleet->unknown);
		template->name = name_of(fleet, reader.values[2]);
		template->deleted = DatumGetBool(reader.values[3]);
		id_add(fleet, ID_TEMPLATE, uuid_of(&reader, 0), fleet->ntemplates++);
	}
	reader_close(&reader);
}

static void
read_workspaces(Fleet *fleet)
{
	pg_uuid_t	ids[BATCH];
	int			n = 0;
	Reader		reader;

	OPEN_ALL(&reader, "workspaces", "id", "owner_id", "organization_id", "template_id", "name", "deleted", "latest_build_id");
	open_index(fleet, ID_WORKSPACE, &reader);
	while (reader_next(&reader))
	{
		int			template = id_find(fleet, ID_TEMPLATE, uuid_of(&reader, 3));
		FleetWorkspace *workspace;

		if (template == FLEET_NONE)
			continue;
		ROOM(fleet->workspaces, fleet->nworkspaces);
		workspace = &fleet->workspaces[fleet->nworkspaces++];
		memset(workspace, 0, sizeof(*workspace));
		workspace->owner = id_name(fleet, ID_USER, uuid_of(&reader, 1), fleet->unknown);
		workspace->organization = id_name(fleet, ID_ORGANIZATION, uuid_of(&reader, 2), fleet->unknown);
		workspace->template = &fleet->templates[template];
		workspace->name = own_name_of(reader.values[4]);
		workspace->deleted = DatumGetBool(reader.values[5]);
		if (!reader.nulls[6])
			workspace->latest_id = uuid_of(&reader, 6);
		workspace->latest = workspace->first_up = workspace->first_total = FLEET_NONE;
		workspace->builds_series = workspace->apps_series = FLEET_NONE;
		ids[n++] = uuid_of(&reader, 0);
		if (n < BATCH)
			continue;
		ids_add(fleet, ID_WORKSPACE, ids, n, fleet->nworkspaces - n);
		n = 0;
	}
	ids_add(fleet, ID_WORKSPACE, ids, n, fleet->nworkspaces - n);
	reader_close(&reader);
}

static CoderJobStatus
job_status_of(const FleetName *name)
{
	return coder_job_status_parse(name->text, (size_t) name->len);
}

/* Jobs that are not in coder.build_totals: by an index where they are few of all. */
static void
open_jobs(Reader *reader)
{
	OPEN(reader, "provisioner_jobs", "id", "created_at", "started_at", "completed_at", "provisioner", "type", "job_status", "counted");
	reader_use(reader, "provisioner_jobs_uncounted_idx", 0);
	if (reader->rel->rd_rel->reltuples > reader->index->rd_rel->reltuples * SCAN_FACTOR)
	{
		index_rescan(reader->lookup, NULL, 0, NULL, 0);
		return;
	}
	index_endscan(reader->lookup);
	index_close(reader->index, NoLock);
	reader->lookup = NULL;
	reader_scan(reader);
}

static void
read_jobs(Fleet *fleet, IdList *read)
{
	pg_uuid_t	ids[BATCH];
	int			n = 0;
	Reader		reader;

	open_jobs(&reader);
	open_index(fleet, ID_JOB, &reader);
	while (reader_next(&reader))
	{
		FleetJob   *job;

		if (!reader.nulls[7])
			continue;
		ROOM(read->ids, read->n);
		read->ids[read->n++] = uuid_of(&reader, 0);
		ROOM(fleet->jobs, fleet->njobs);
		job = &fleet->jobs[fleet->njobs++];
		job->created_at = time_of(&reader, 1);
		job->started_at = time_of(&reader, 2);
		job->completed_at = time_of(&reader, 3);
		job->provisioner = label_of(fleet, reader.values[4]);
		job->type = label_of(fleet, reader.values[5]);
		job->status_name = label_of(fleet, reader.values[6]);
		job->status = job_status_of(job->status_name);
		job->build = FLEET_NONE;
		ids[n++] = uuid_of(&reader, 0);
		if (n < BATCH)
			continue;
		ids_add(fleet, ID_JOB, ids, n, fleet->njobs - n);
		n = 0;
	}
	ids_add(fleet, ID_JOB, ids, n, fleet->njobs - n);
	reader_close(&reader);
}

/* Is it the latest of its workspace, or its first that came up? */
static void
place_build(Fleet *fleet, int at, const pg_uuid_t *id)
{
	FleetBuild *build = &fleet->builds[at];
	FleetWorkspace *workspace = &fleet->workspaces[build->workspace];

	if (memcmp(workspace->latest_id.data, id->data, UUID_LEN) == 0)
		workspace->latest = at;
	if (build->transition_code != TRANSITION_START || fleet->jobs[build->job].status != JOB_SUCCEEDED)
		return;
	if (workspace->first_up == FLEET_NONE || fleet->builds[workspace->first_up].number > build->number)
		workspace->first_up = at;
}

/* Builds that have been read, and what they hang from. */
typedef struct BuildBatch
{
	int			n;
	pg_uuid_t	ids[BATCH];
	pg_uuid_t	workspaces[BATCH];
	pg_uuid_t	jobs[BATCH];
	FleetBuild	builds[BATCH];
} BuildBatch;

static void
add_builds(Fleet *fleet, BuildBatch *batch)
{
	int			workspaces[BATCH];
	int			jobs[BATCH];

	ids_find(fleet, ID_WORKSPACE, batch->workspaces, batch->n, workspaces);
	ids_find(fleet, ID_JOB, batch->jobs, batch->n, jobs);
	for (int i = 0; i < batch->n; i++)
	{
		__builtin_prefetch(&fleet->workspaces[Max(workspaces[i], 0)]);
		__builtin_prefetch(&fleet->jobs[Max(jobs[i], 0)]);
	}
	for (int i = 0; i < batch->n; i++)
	{
		if (workspaces[i] == FLEET_NONE || jobs[i] == FLEET_NONE)
			continue;
		ROOM(fleet->builds, fleet->nbuilds);
		batch->builds[i].workspace = workspaces[i];
		batch->builds[i].job = jobs[i];
		fleet->builds[fleet->nbuilds] = batch->builds[i];
		fleet->jobs[jobs[i]].build = fleet->nbuilds;
		place_build(fleet, fleet->nbuilds++, &batch->ids[i]);
	}
	batch->n = 0;
}

static void
read_builds(Fleet *fleet, const IdList *jobs)
{
	pg_uuid_t  *prebuilds = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(PREBUILDS_USER)));
	BuildBatch *batch = palloc(sizeof(*batch));
	Reader		reader;

	batch->n = 0;
	OPEN(&reader, "workspace_builds", "id", "created_at", "workspace_id", "template_version_id", "build_number", "transition",
		 "initiator_id", "job_id", "reason", "template_version_preset_id");
	reader_lookup(&reader, "workspace_builds_job_id_key", jobs);
	while (reader_next(&reader))
	{
		FleetBuild *build = &batch->builds[batch->n];

		batch->ids[batch->n] = uuid_of(&reader, 0);
		batch->workspaces[batch->n] = uuid_of(&reader, 2);
		batch->jobs[batch->n++] = uuid_of(&reader, 7);
		memset(build, 0, sizeof(*build));
		build->created_at = time_of(&reader, 1);
		build->version = reader.nulls[3] ? fleet->unknown : id_name(fleet, ID_VERSION, uuid_of(&reader, 3), fleet->unknown);
		build->number = DatumGetInt32(reader.values[4]);
		build->transition = label_of(fleet, reader.values[5]);
		build->transition_code = coder_transition_parse(build->transition->text, (size_t) build->transition->len);
		build->prebuild = memcmp(DatumGetUUIDP(reader.values[6])->data, prebuilds->data, UUID_LEN) == 0;
		build->reason = label_of(fleet, reader.values[8]);
		build->preset = reader.nulls[9] ? fleet->empty : id_name(fleet, ID_PRESET, uuid_of(&reader, 9), fleet->empty);
		build->last_ready = DT_NOBEGIN;
		if (batch->n == BATCH)
			add_builds(fleet, batch);
	}
	add_builds(fleet, batch);
	reader_close(&reader);
}

static void
add_resources(Fleet *fleet, IdList *read, const pg_uuid_t *ids, const pg_uuid_t *of, int n)
{
	int			jobs[BATCH];

	ids_find(fleet, ID_JOB, of, n, jobs);
	ids_ask(fleet->ids->of[ID_RESOURCE], ids, n);
	for (int i = 0; i < n; i++)
		__builtin_prefetch(&fleet->jobs[Max(jobs[i], 0)]);
	for (int i = 0; i < n; i++)
	{
		if (jobs[i] == FLEET_NONE || fleet->jobs[jobs[i]].build == FLEET_NONE)
			continue;
		ROOM(read->ids, read->n);
		read->ids[read->n++] = ids[i];
		id_add(fleet, ID_RESOURCE, ids[i], fleet->jobs[jobs[i]].build);
	}
}

static void
read_resources(Fleet *fleet, const IdList *of, IdList *read)
{
	pg_uuid_t	ids[BATCH];
	pg_uuid_t	jobs[BATCH];
	int			n = 0;
	Reader		reader;

	OPEN(&reader, "workspace_resources", "id", "job_id");
	reader_lookup(&reader, "workspace_resources_job_id_idx", of);
	open_index(fleet, ID_RESOURCE, &reader);
	while (reader_next(&reader))
	{
		ids[n] = uuid_of(&reader, 0);
		jobs[n++] = uuid_of(&reader, 1);
		if (n < BATCH)
			continue;
		add_resources(fleet, read, ids, jobs, n);
		n = 0;
	}
	add_resources(fleet, read, ids, jobs, n);
	reader_close(&reader);
}

/* How the root agents of a build came up; result: the state in which the start ended. */
static void
count_root_agent(FleetBuild *build, const FleetName *result, TimestampTz ready_at)
{
	static const char error[] = "start_error";
	static const char timeout[] = "start_timeout";

	build->agents++;
	if (ready_at == DT_NOBEGIN)
		return;
	build->agents_final++;
	build->last_ready = Max(build->last_ready, ready_at);
	if (result->len == sizeof(error) - 1 && memcmp(result->text, error, sizeof(error) - 1) == 0)
		build->worst = 2;
	else if (result->len == sizeof(timeout) - 1 && memcmp(result->text, timeout, sizeof(timeout) - 1) == 0)
		build->worst = Max(build->worst, 1);
}

/* Agents that have been read, and what they hang from. */
typedef struct AgentBatch
{
	int			n;
	pg_uuid_t	ids[BATCH];
	pg_uuid_t	resources[BATCH];
	TimestampTz ready_at[BATCH];
	const FleetName *results[BATCH];
	bool		root[BATCH];
	bool		deleted[BATCH];
	FleetAgent	agents[BATCH];
} AgentBatch;

static void
add_agent(Fleet *fleet, IdList *read, const AgentBatch *batch, int i, int at)
{
	FleetBuild *build = &fleet->builds[at];
	FleetWorkspace *workspace = &fleet->workspaces[build->workspace];

	if (batch->root[i])
		count_root_agent(build, batch->results[i], batch->ready_at[i]);
	if (batch->agents[i].times.has_first)
	{
		ROOM(fleet->firsts, fleet->nfirsts);
		fleet->firsts[fleet->nfirsts++] = (FleetFirst) {
			.agent = batch->agents[i].name,
			.build = at,
			.created_at = batch->agents[i].times.created_at,
			.connected_at = batch->agents[i].times.first_connected_at,
		};
	}
	if (workspace->deleted || workspace->latest != at || batch->deleted[i])
		return;
	ROOM(fleet->agents, fleet->nagents);
	fleet->agents[fleet->nagents] = batch->agents[i];
	fleet->agents[fleet->nagents].build = at;
	workspace->agents++;
	ROOM(read->ids, read->n);
	read->ids[read->n++] = batch->ids[i];
	id_add(fleet, ID_AGENT, batch->ids[i], fleet->nagents++);
}

static void
add_agents(Fleet *fleet, IdList *read, AgentBatch *batch)
{
	int			builds[BATCH];

	ids_find(fleet, ID_RESOURCE, batch->resources, batch->n, builds);
	ids_ask(fleet->ids->of[ID_AGENT], batch->ids, batch->n);
	for (int i = 0; i < batch->n; i++)
		__builtin_prefetch(&fleet->builds[Max(builds[i], 0)]);
	for (int i = 0; i < batch->n; i++)
		if (builds[i] != FLEET_NONE)
			__builtin_prefetch(&fleet->workspaces[fleet->builds[builds[i]].workspace]);
	for (int i = 0; i < batch->n; i++)
		if (builds[i] != FLEET_NONE)
			add_agent(fleet, read, batch, i, builds[i]);
	batch->n = 0;
}

static void
read_agents(Fleet *fleet, const IdList *resources, IdList *read)
{
	AgentBatch *batch = palloc(sizeof(*batch));
	Reader		reader;

	batch->n = 0;
	OPEN(&reader, "workspace_agents", "id", "resource_id", "created_at", "first_connected_at", "last_connected_at", "disconnected_at",
		 "connection_timeout_seconds", "lifecycle_state", "name", "ready_at", "parent_id", "deleted", "start_result");
	reader_lookup(&reader, "workspace_agents_resource_id_idx", resources);
	/* Most of them may be of builds of the past. */
	fleet->ids->of[ID_AGENT] = ids_create(CurrentMemoryContext, (uint32) Max(fleet->nworkspaces, 64), NULL);
	while (reader_next(&reader))
	{
		int			i = batch->n++;

		batch->ids[i] = uuid_of(&reader, 0);
		batch->resources[i] = uuid_of(&reader, 1);
		batch->ready_at[i] = time_of(&reader, 9);
		batch->root[i] = reader.nulls[10];
		batch->deleted[i] = DatumGetBool(reader.values[11]);
		batch->agents[i] = (FleetAgent) {
			.times = {
				.created_at = time_of(&reader, 2),
				.has_first = !reader.nulls[3], .first_connected_at = time_of(&reader, 3),
				.has_last = !reader.nulls[4], .last_connected_at = time_of(&reader, 4),
				.has_disconnected = !reader.nulls[5], .disconnected_at = time_of(&reader, 5),
				.connection_timeout_seconds = DatumGetInt32(reader.values[6]),
			},
			.lifecycle = label_of(fleet, reader.values[7]),
			.name = name_of(fleet, reader.values[8]),
			.node = fleet->unknown,
		};
		batch->results[i] = reader.nulls[12] ? batch->agents[i].lifecycle : label_of(fleet, reader.values[12]);
		if (batch->n == BATCH)
			add_agents(fleet, read, batch);
	}
	add_agents(fleet, read, batch);
	reader_close(&reader);
}

/* ---- what agents told of themselves ---- */

/* What a region's value holds; false where there is no latency in it. */
static bool
take_region(JsonbContainer *region, FleetLatency *latency)
{
	JsonbValue	value;

	if (!JsonContainerIsObject(region) ||
		getKeyJsonValueFromContainer(region, "latency_ms", strlen("latency_ms"), &value) == NULL || value.type != jbvNumeric)
		return false;
	latency->seconds = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric))) / 1000;
	latency->preferred = getKeyJsonValueFromContainer(region, "preferred", strlen("preferred"), &value) != NULL &&
		value.type == jbvBool && value.val.boolean;
	return true;
}

static void
take_latencies(Fleet *fleet, int agent, Jsonb *json)
{
	JsonbIterator *it;
	JsonbValue	value;
	const FleetName *region = NULL;

	if (!JB_ROOT_IS_OBJECT(json))
		return;
	it = JsonbIteratorInit(&json->root);
	for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, false); token != WJB_DONE; token = JsonbIteratorNext(&it, &value, true))
	{
		FleetLatency latency = {.agent = agent};

		if (token == WJB_KEY)
			region = fleet_name(fleet, value.val.string.val, value.val.string.len);
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvBinary || !take_region(value.val.binary.data, &latency))
			continue;
		latency.region = region;
		ROOM(fleet->latencies, fleet->nlatencies);
		fleet->latencies[fleet->nlatencies++] = latency;
	}
}

static void
read_nodes(Fleet *fleet)
{
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "metrics node", ALLOCSET_DEFAULT_SIZES);
	Reader		reader;

	OPEN_ALL(&reader, "workspace_agent_nodes", "agent_id", "node", "latency");
	while (reader_next(&reader))
	{
		int			agent = id_find(fleet, ID_AGENT, uuid_of(&reader, 0));
		MemoryContext before;
		Jsonb	   *node;
		Jsonb	   *latency = NULL;
		JsonbValue	id;

		if (agent == FLEET_NONE)
			continue;
		before = MemoryContextSwitchTo(row);
		node = DatumGetJsonbP(reader.values[1]);
		if (!reader.nulls[2])
			latency = DatumGetJsonbP(reader.values[2]);
		MemoryContextSwitchTo(before);
		if (JB_ROOT_IS_OBJECT(node) && getKeyJsonValueFromContainer(&node->root, "id", 2, &id) != NULL)
		{
			if (id.type == jbvString)
				fleet->agents[agent].node = fleet_name(fleet, id.val.string.val, id.val.string.len);
			else if (id.type == jbvNumeric)
			{
				const char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(id.val.numeric)));

				fleet->agents[agent].node = fleet_name(fleet, text, (int) strlen(text));
			}
		}
		if (latency != NULL)
			take_latencies(fleet, agent, latency);
		MemoryContextReset(row);
	}
	reader_close(&reader);
	MemoryContextDelete(row);
}

static void
add_apps(Fleet *fleet, const pg_uuid_t *ids, const FleetApp *apps, int n)
{
	int			agents[BATCH];

	ids_find(fleet, ID_AGENT, ids, n, agents);
	for (int i = 0; i < n; i++)
	{
		if (agents[i] == FLEET_NONE)
			continue;
		ROOM(fleet->apps, fleet->napps);
		fleet->apps[fleet->napps] = apps[i];
		fleet->apps[fleet->napps++].agent = agents[i];
	}
}

static void
read_apps(Fleet *fleet, const IdList *of)
{
	pg_uuid_t	ids[BATCH];
	FleetApp	apps[BATCH];
	int			n = 0;
	Reader		reader;

	OPEN(&reader, "workspace_apps", "agent_id", "display_name", "health");
	reader_lookup(&reader, "workspace_apps_agent_id_slug_idx", of);
	while (reader_next(&reader))
	{
		ids[n] = uuid_of(&reader, 0);
		apps[n].name = name_of(fleet, reader.values[1]);
		apps[n++].health = label_of(fleet, reader.values[2]);
		if (n < BATCH)
			continue;
		add_apps(fleet, ids, apps, n);
		n = 0;
	}
	add_apps(fleet, ids, apps, n);
	reader_close(&reader);
}

/* ---- what was added up ---- */

static void
take_total_key(Fleet *fleet, FleetTotalKey *key, const Reader *reader)
{
	Datum	   *labels;
	bool	   *nulls;
	int			n;
	int			template = id_find(fleet, ID_TEMPLATE, uuid_of(reader, key->family == TOTAL_CREATION ? 3 : 2));

	key->organization = id_name(fleet, ID_ORGANIZATION, uuid_of(reader, 2), fleet->unknown);
	key->template = template == FLEET_NONE ? NULL : &fleet->templates[template];
	key->workspace = id_find(fleet, ID_WORKSPACE, uuid_of(reader, 2));
	key->version = id_name(fleet, ID_VERSION, uuid_of(reader, 3), fleet->unknown);
	key->preset = id_name(fleet, ID_PRESET, uuid_of(reader, 4), fleet->empty);
	deconstruct_array(DatumGetArrayTypeP(reader->values[5]), TEXTOID, -1, false, TYPALIGN_INT, &labels, &nulls, &n);
	for (int i = 0; i < FLEET_TOTAL_LABELS; i++)
		key->labels[i] = i < n && !nulls[i] ? name_of(fleet, labels[i]) : fleet->empty;
	if (key->family == TOTAL_FIRST_UP && n > 1)
		key->number = pg_strtoint32(TextDatumGetCString(labels[1]));
}

/* The place of a key by its id. */
static int
read_total_keys(Fleet *fleet, int **places)
{
	int			room = 0;
	Reader		reader;

	OPEN_ALL(&reader, "build_total_keys", "id", "family", "a", "b", "c", "labels");
	while (reader_next(&reader))
	{
		int			id = DatumGetInt32(reader.values[0]);
		FleetTotalKey *key;

		if (id < 0)
			continue;
		if (id >= room)
		{
			int			more = Max(1024, Max(room * 2, id + 1));

			*places = room == 0 ? palloc_extended(sizeof(int) * (Size) more, MCXT_ALLOC_HUGE) : repalloc_huge(*places, sizeof(int) * (Size) more);
			for (int i = room; i < more; i++)
				(*places)[i] = FLEET_NONE;
			room = more;
		}
		ROOM(fleet->total_keys, fleet->ntotal_keys);
		(*places)[id] = fleet->ntotal_keys;
		key = &fleet->total_keys[fleet->ntotal_keys++];
		memset(key, 0, sizeof(*key));
		key->family = DatumGetInt16(reader.values[1]);
		take_total_key(fleet, key, &reader);
	}
	reader_close(&reader);
	return room;
}

static void
read_totals(Fleet *fleet)
{
	int		   *places = NULL;
	int			room = read_total_keys(fleet, &places);
	Reader		reader;

	OPEN_ALL(&reader, "build_totals", "key", "bucket", "n", "micros");
	while (reader_next(&reader))
	{
		int			id = DatumGetInt32(reader.values[0]);
		FleetTotal *total;

		if (id < 0 || id >= room || places[id] == FLEET_NONE)
			continue;
		ROOM(fleet->totals, fleet->ntotals);
		total = &fleet->totals[fleet->ntotals++];
		total->key = places[id];
		total->bucket = DatumGetInt16(reader.values[1]);
		total->n = DatumGetInt64(reader.values[2]);
		total->micros = DatumGetInt64(reader.values[3]);
		fleet->total_keys[total->key].n += total->n;
	}
	reader_close(&reader);
}

Fleet *
fleet_read(TimestampTz at)
{
	Fleet	   *fleet = palloc0(sizeof(*fleet));
	IdList		jobs = {0};
	IdList		resources = {0};
	IdList		agents = {0};

	fleet->at = at;
	fleet->ids = palloc0(sizeof(FleetIds));
	fleet->named = palloc0(sizeof(*fleet->named) * ID_KINDS);
	fleet->names = FleetNames_create(CurrentMemoryContext, 256, NULL);
	fleet->labels = palloc(sizeof(FleetLabel) * MAX_LABELS);
	fleet->unknown = fleet_name(fleet, "unknown", 7);
	fleet->empty = fleet_name(fleet, "", 0);
	fleet->booleans[false] = fleet_name(fleet, "false", 5);
	fleet->booleans[true] = fleet_name(fleet, "true", 4);
	for (CoderAgentStatus i = AGENT_CONNECTING; i <= AGENT_DISCONNECTED; i++)
		fleet->statuses[i] = fleet_name(fleet, coder_agent_status_name(i), (int) strlen(coder_agent_status_name(i)));
	read_names(fleet, ID_ORGANIZATION, "organizations", "name");
	read_names(fleet, ID_USER, "users", "username");
	read_names(fleet, ID_VERSION, "template_versions", "name");
	read_names(fleet, ID_PRESET, "template_version_presets", "name");
	read_templates(fleet);
	read_workspaces(fleet);
	read_totals(fleet);
	read_jobs(fleet, &jobs);
	read_builds(fleet, &jobs);
	read_resources(fleet, &jobs, &resources);
	read_agents(fleet, &resources, &agents);
	read_nodes(fleet);
	read_apps(fleet, &agents);
	return fleet;
}

CoderAgentStatus
fleet_agent_status(const Fleet *fleet, const FleetAgent *agent)
{
	return coder_agent_connection(&agent->times, fleet->at, CODER_AGENT_INACTIVE_SECONDS);
}
