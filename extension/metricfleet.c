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

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_enum.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
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

#define MAX_COLUMNS 12
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
} IdKind;

typedef struct IdKey
{
	pg_uuid_t	id;
	uint32		kind;
} IdKey;

typedef struct IdEntry
{
	IdKey		key;
	uint32		hash;
	char		status;
	union
	{
		int			at;
		const FleetName *name;
	}			to;
} IdEntry;

/* Ids are random: one multiplication spreads even those that are not. */
static inline uint32
id_hash(const IdKey *key)
{
	uint64		halves[2];

	memcpy(halves, key->id.data, sizeof(halves));
	return (uint32) (((halves[0] ^ (halves[1] << 1) ^ key->kind) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32);
}

#define SH_PREFIX FleetIndex
#define SH_ELEMENT_TYPE IdEntry
#define SH_KEY_TYPE IdKey
#define SH_KEY key
#define SH_HASH_KEY(table, k) id_hash(&(k))
#define SH_EQUAL(table, a, b) ((a).kind == (b).kind && memcmp((a).id.data, (b).id.data, UUID_LEN) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static IdEntry *
id_add(Fleet *fleet, IdKind kind, Datum id)
{
	IdKey		key = {.id = *DatumGetUUIDP(id), .kind = kind};
	bool		found;

	return FleetIndex_insert(fleet->ids, key, &found);
}

static int
id_find(Fleet *fleet, IdKind kind, Datum id)
{
	IdKey		key = {.id = *DatumGetUUIDP(id), .kind = kind};
	IdEntry    *entry = FleetIndex_lookup(fleet->ids, key);

	return entry == NULL ? FLEET_NONE : entry->to.at;
}

static const FleetName *
id_name(Fleet *fleet, IdKind kind, Datum id, const FleetName *otherwise)
{
	IdKey		key = {.id = *DatumGetUUIDP(id), .kind = kind};
	IdEntry    *entry = FleetIndex_lookup(fleet->ids, key);

	return entry == NULL ? otherwise : entry->to.name;
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
	TableScanDesc scan;
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
	reader->scan = table_beginscan(reader->rel, GetActiveSnapshot(), 0, NULL);
}

/* The next row's columns, which live until the next call. */
static bool
reader_next(Reader *reader)
{
	TupleTableSlot *slot = reader->slot;

	CHECK_FOR_INTERRUPTS();
	if (!table_scan_getnextslot(reader->scan, ForwardScanDirection, slot))
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
	table_endscan(reader->scan);
	ExecDropSingleTupleTableSlot(reader->slot);
	table_close(reader->rel, NoLock);
}

#define OPEN(reader, table, ...) \
	do { \
		static const char *const columns_[] = {__VA_ARGS__}; \
		reader_open(reader, table, lengthof(columns_), columns_); \
	} while (0)

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
	Reader		reader;

	reader_open(&reader, table, 2, columns);
	while (reader_next(&reader))
	{
		const FleetName *name = reader.nulls[1] ? fleet->empty : name_of(fleet, reader.values[1]);

		id_add(fleet, kind, reader.values[0])->to.name = kind == ID_VERSION && name->len == 0 ? fleet->unknown : name;
	}
	reader_close(&reader);
}

static void
read_templates(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "templates", "id", "organization_id", "name", "deleted");
	while (reader_next(&reader))
	{
		FleetTemplate *template;

		ROOM(fleet->templates, fleet->ntemplates);
		template = &fleet->templates[fleet->ntemplates];
		template->organization = id_name(fleet, ID_ORGANIZATION, reader.values[1], fleet->unknown);
		template->name = name_of(fleet, reader.values[2]);
		template->deleted = DatumGetBool(reader.values[3]);
		id_add(fleet, ID_TEMPLATE, reader.values[0])->to.at = fleet->ntemplates++;
	}
	reader_close(&reader);
}

static void
read_workspaces(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "workspaces", "id", "owner_id", "organization_id", "template_id", "name", "deleted", "latest_build_id");
	while (reader_next(&reader))
	{
		int			template = id_find(fleet, ID_TEMPLATE, reader.values[3]);
		FleetWorkspace *workspace;

		if (template == FLEET_NONE)
			continue;
		ROOM(fleet->workspaces, fleet->nworkspaces);
		workspace = &fleet->workspaces[fleet->nworkspaces];
		memset(workspace, 0, sizeof(*workspace));
		workspace->owner = id_name(fleet, ID_USER, reader.values[1], fleet->unknown);
		workspace->organization = id_name(fleet, ID_ORGANIZATION, reader.values[2], fleet->unknown);
		workspace->template = &fleet->templates[template];
		workspace->name = name_of(fleet, reader.values[4]);
		workspace->deleted = DatumGetBool(reader.values[5]);
		if (!reader.nulls[6])
			workspace->latest_id = *DatumGetUUIDP(reader.values[6]);
		workspace->latest = workspace->first_up = FLEET_NONE;
		id_add(fleet, ID_WORKSPACE, reader.values[0])->to.at = fleet->nworkspaces++;
	}
	reader_close(&reader);
}

static CoderJobStatus
job_status_of(const FleetName *name)
{
	return coder_job_status_parse(name->text, (size_t) name->len);
}

static void
read_jobs(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "provisioner_jobs", "id", "created_at", "started_at", "completed_at", "provisioner", "type", "job_status");
	while (reader_next(&reader))
	{
		FleetJob   *job;

		ROOM(fleet->jobs, fleet->njobs);
		job = &fleet->jobs[fleet->njobs];
		job->created_at = time_of(&reader, 1);
		job->started_at = time_of(&reader, 2);
		job->completed_at = time_of(&reader, 3);
		job->provisioner = label_of(fleet, reader.values[4]);
		job->type = label_of(fleet, reader.values[5]);
		job->status_name = label_of(fleet, reader.values[6]);
		job->status = job_status_of(job->status_name);
		job->build = FLEET_NONE;
		id_add(fleet, ID_JOB, reader.values[0])->to.at = fleet->njobs++;
	}
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

static void
read_builds(Fleet *fleet)
{
	pg_uuid_t  *prebuilds = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(PREBUILDS_USER)));
	Reader		reader;

	OPEN(&reader, "workspace_builds", "id", "created_at", "workspace_id", "template_version_id", "build_number", "transition",
		 "initiator_id", "job_id", "reason", "template_version_preset_id");
	while (reader_next(&reader))
	{
		int			workspace = id_find(fleet, ID_WORKSPACE, reader.values[2]);
		int			job = id_find(fleet, ID_JOB, reader.values[7]);
		FleetBuild *build;

		if (workspace == FLEET_NONE || job == FLEET_NONE)
			continue;
		ROOM(fleet->builds, fleet->nbuilds);
		build = &fleet->builds[fleet->nbuilds];
		memset(build, 0, sizeof(*build));
		build->created_at = time_of(&reader, 1);
		build->workspace = workspace;
		build->version = id_name(fleet, ID_VERSION, reader.values[3], fleet->unknown);
		build->number = DatumGetInt32(reader.values[4]);
		build->transition = label_of(fleet, reader.values[5]);
		build->transition_code = coder_transition_parse(build->transition->text, (size_t) build->transition->len);
		build->prebuild = memcmp(DatumGetUUIDP(reader.values[6])->data, prebuilds->data, UUID_LEN) == 0;
		build->job = job;
		build->reason = label_of(fleet, reader.values[8]);
		build->preset = reader.nulls[9] ? fleet->empty : id_name(fleet, ID_PRESET, reader.values[9], fleet->empty);
		build->last_ready = DT_NOBEGIN;
		fleet->jobs[job].build = fleet->nbuilds;
		place_build(fleet, fleet->nbuilds++, DatumGetUUIDP(reader.values[0]));
	}
	reader_close(&reader);
}

static void
read_resources(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "workspace_resources", "id", "job_id");
	while (reader_next(&reader))
	{
		int			job = id_find(fleet, ID_JOB, reader.values[1]);

		if (job != FLEET_NONE && fleet->jobs[job].build != FLEET_NONE)
			id_add(fleet, ID_RESOURCE, reader.values[0])->to.at = fleet->jobs[job].build;
	}
	reader_close(&reader);
}

/* How the root agents of a build came up. */
static void
count_root_agent(FleetBuild *build, const FleetName *lifecycle, TimestampTz ready_at)
{
	static const char error[] = "start_error";
	static const char timeout[] = "start_timeout";

	build->agents++;
	if (ready_at == DT_NOBEGIN)
		return;
	build->agents_final++;
	build->last_ready = Max(build->last_ready, ready_at);
	if (lifecycle->len == sizeof(error) - 1 && memcmp(lifecycle->text, error, sizeof(error) - 1) == 0)
		build->worst = 2;
	else if (lifecycle->len == sizeof(timeout) - 1 && memcmp(lifecycle->text, timeout, sizeof(timeout) - 1) == 0)
		build->worst = Max(build->worst, 1);
}

static void
add_agent(Fleet *fleet, const Reader *reader, int at, const FleetName *lifecycle)
{
	FleetAgent *agent;

	ROOM(fleet->agents, fleet->nagents);
	agent = &fleet->agents[fleet->nagents];
	agent->times = (CoderAgentTimes) {
		.created_at = time_of(reader, 2),
		.has_first = !reader->nulls[3], .first_connected_at = time_of(reader, 3),
		.has_last = !reader->nulls[4], .last_connected_at = time_of(reader, 4),
		.has_disconnected = !reader->nulls[5], .disconnected_at = time_of(reader, 5),
		.connection_timeout_seconds = DatumGetInt32(reader->values[6]),
	};
	agent->name = name_of(fleet, reader->values[8]);
	agent->lifecycle = lifecycle;
	agent->node = fleet->unknown;
	agent->build = at;
	fleet->workspaces[fleet->builds[at].workspace].agents++;
	id_add(fleet, ID_AGENT, reader->values[0])->to.at = fleet->nagents++;
}

static void
read_agents(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "workspace_agents", "id", "resource_id", "created_at", "first_connected_at", "last_connected_at", "disconnected_at",
		 "connection_timeout_seconds", "lifecycle_state", "name", "ready_at", "parent_id", "deleted");
	while (reader_next(&reader))
	{
		int			at = id_find(fleet, ID_RESOURCE, reader.values[1]);
		const FleetName *lifecycle;
		const FleetWorkspace *workspace;

		if (at == FLEET_NONE)
			continue;
		lifecycle = label_of(fleet, reader.values[7]);
		workspace = &fleet->workspaces[fleet->builds[at].workspace];
		if (reader.nulls[10])
			count_root_agent(&fleet->builds[at], lifecycle, time_of(&reader, 9));
		if (!workspace->deleted && workspace->latest == at && !DatumGetBool(reader.values[11]))
			add_agent(fleet, &reader, at, lifecycle);
	}
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

	OPEN(&reader, "workspace_agent_nodes", "agent_id", "node", "latency");
	while (reader_next(&reader))
	{
		int			agent = id_find(fleet, ID_AGENT, reader.values[0]);
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
read_apps(Fleet *fleet)
{
	Reader		reader;

	OPEN(&reader, "workspace_apps", "agent_id", "display_name", "health");
	while (reader_next(&reader))
	{
		int			agent = id_find(fleet, ID_AGENT, reader.values[0]);

		if (agent == FLEET_NONE)
			continue;
		ROOM(fleet->apps, fleet->napps);
		fleet->apps[fleet->napps++] = (FleetApp) {
			.agent = agent,
			.name = name_of(fleet, reader.values[1]),
			.health = label_of(fleet, reader.values[2]),
		};
	}
	reader_close(&reader);
}

Fleet *
fleet_read(TimestampTz at)
{
	Fleet	   *fleet = palloc0(sizeof(*fleet));

	fleet->at = at;
	fleet->ids = FleetIndex_create(CurrentMemoryContext, 1024, NULL);
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
	read_jobs(fleet);
	read_builds(fleet);
	read_resources(fleet);
	read_agents(fleet);
	read_nodes(fleet);
	read_apps(fleet);
	return fleet;
}

CoderAgentStatus
fleet_agent_status(const Fleet *fleet, const FleetAgent *agent)
{
	return coder_agent_connection(&agent->times, fleet->at, CODER_AGENT_INACTIVE_SECONDS);
}
