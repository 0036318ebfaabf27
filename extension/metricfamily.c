/* SPDX-License-Identifier: MIT */
/*
 * metricfamily.c
 *	  coder.metrics(): all families of metrics in Prometheus' text format, a
 *	  piece of the text a row.
 *
 * The first call reads the tables under the statement's snapshot (metricfleet.c);
 * what is then written, however slowly it is fetched, is of that snapshot and of
 * one time.  Families whose series are few are counted at once; those with a
 * series for each agent are written while they are asked for, so that memory
 * holds one piece of the text.  The rest is what coder.metrics_parts() says.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "metricfleet.h"

PG_FUNCTION_INFO_V1(coder_metrics);

#define MAX_LABELS 6
#define PIECE_BYTES (256 * 1024)

/* A series: labels and what was counted or observed. */
typedef struct Series
{
	const FleetName *labels[MAX_LABELS];
	int			before;			/* of the same workspace, or FLEET_NONE */
	int64		count;
	int64		micros;			/* that were observed: exact in whatever order */
	MetricHistogram *histogram;
} Series;

typedef struct SeriesKey
{
	const void *parts[MAX_LABELS];
} SeriesKey;

typedef struct SeriesEntry
{
	SeriesKey	key;
	uint32		hash;
	char		status;
	int			at;
} SeriesEntry;

/* Labels are objects: their addresses are their values. */
static inline uint32
series_hash_key(const SeriesKey *key)
{
	uint64		hash = 0;

	for (int i = 0; i < MAX_LABELS; i++)
		hash = (hash ^ (uint64) (uintptr_t) key->parts[i]) * UINT64CONST(0x9E3779B97F4A7C15) + (hash >> 29);
	return (uint32) (hash >> 32);
}

#define SH_PREFIX series
#define SH_ELEMENT_TYPE SeriesEntry
#define SH_KEY_TYPE SeriesKey
#define SH_KEY key
#define SH_HASH_KEY(table, k) series_hash_key(&(k))
#define SH_EQUAL(table, a, b) (memcmp((a).parts, (b).parts, sizeof((a).parts)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct SeriesGroup
{
	series_hash *index;
	Series	   *all;
	int			n;
} SeriesGroup;

typedef enum FamilyId
{
	F_UP,
	F_CONNECTIONS,
	F_LATENCIES,
	F_APPS,
	F_FIRST,
	F_LATEST,
	F_LATEST_STATUS,
	F_CREATED,
	F_CREATION_SECONDS,
	F_ENQUEUED,
	F_BUILDS,
	F_QUEUE_WAIT,
	F_JOB_SECONDS,
	F_BUILD_SECONDS,
	F_TEMPLATE_BUILD_SECONDS,
	F_JOBS_CURRENT,
	F_COUNT
} FamilyId;

/* Writes item i of a family that is not counted: its labels and value; false: it has none. */
typedef bool (*ItemFunction) (const Fleet *fleet, int i, const FleetName **labels, double *value);

typedef struct Family
{
	const char *name;
	const char *type;
	const char *help;
	const char *labels[MAX_LABELS];
	MetricBounds bounds;
	ItemFunction item;			/* NULL: its group */
} Family;

#define BOUNDS(...) {.n = lengthof(((const double[]) {__VA_ARGS__})), .values = (const double[]) {__VA_ARGS__}}
#define BUILD_BOUNDS BOUNDS(1, 10, 30, 60, 300, 600, 1800, 3600)

static bool
item_up(const Fleet *fleet, int i, const FleetName **labels, double *value)
{
	const FleetWorkspace *workspace = &fleet->workspaces[i];

	if (workspace->agents == 0)
		return false;
	labels[0] = workspace->owner;
	labels[1] = workspace->name;
	labels[2] = workspace->template->name;
	labels[3] = fleet->builds[workspace->latest].version;
	*value = workspace->agents;
	return true;
}

static const FleetWorkspace *
workspace_of_agent(const Fleet *fleet, const FleetAgent *agent)
{
	return &fleet->workspaces[fleet->builds[agent->build].workspace];
}

static bool
item_connection(const Fleet *fleet, int i, const FleetName **labels, double *value)
{
	const FleetAgent *agent = &fleet->agents[i];
	const FleetWorkspace *workspace = workspace_of_agent(fleet, agent);

	labels[0] = agent->name;
	labels[1] = workspace->owner;
	labels[2] = workspace->name;
	labels[3] = fleet->statuses[fleet_agent_status(fleet, agent)];
	labels[4] = agent->lifecycle;
	labels[5] = agent->node;
	*value = 1;
	return true;
}

static bool
item_latency(const Fleet *fleet, int i, const FleetName **labels, double *value)
{
	const FleetLatency *latency = &fleet->latencies[i];
	const FleetAgent *agent = &fleet->agents[latency->agent];
	const FleetWorkspace *workspace = workspace_of_agent(fleet, agent);

	labels[0] = agent->name;
	labels[1] = workspace->owner;
	labels[2] = workspace->name;
	labels[3] = latency->region;
	labels[4] = fleet->booleans[latency->preferred];
	*value = latency->seconds;
	return true;
}

static const Family families[F_COUNT] = {
	[F_UP] = {"coderd_agents_up", "gauge", "The number of agents of a workspace.",
		{"username", "workspace_name", "template_name", "template_version"}, .item = item_up},
	[F_CONNECTIONS] = {"coderd_agents_connections", "gauge", "Agents by the state of their connection and lifecycle.",
		{"agent_name", "username", "workspace_name", "status", "lifecycle_state", "tailnet_node"}, .item = item_connection},
	[F_LATENCIES] = {"coderd_agents_connection_latencies_seconds", "gauge", "Latency of agents to relays, as they measured it last.",
		{"agent_name", "username", "workspace_name", "derp_region", "preferred"}, .item = item_latency},
	[F_APPS] = {"coderd_agents_apps", "gauge", "Apps of agents by their health.",
		{"agent_name", "username", "workspace_name", "app_name", "health"}},
	[F_FIRST] = {"coderd_agents_first_connection_seconds", "histogram", "From the making of agents to their first connection.",
		{"template_name", "agent_name"}, BOUNDS(1, 10, 30, 60, 120, 300, 600, 1800, 3600)},
	[F_LATEST] = {"coderd_api_workspace_latest_build", "gauge", "Workspaces by the status of their latest build.", {"status"}},
	[F_LATEST_STATUS] = {"coderd_workspace_latest_build_status", "gauge",
		"Workspaces by the status of their latest build, template and owner.",
		{"status", "template_name", "template_version", "workspace_owner", "workspace_transition"}},
	[F_CREATED] = {"coderd_workspace_creation_total", "counter", "Workspaces that came up.",
		{"organization_name", "template_name", "preset_name"}},
	[F_CREATION_SECONDS] = {"coderd_workspace_creation_duration_seconds", "histogram",
		"First builds of workspaces, from the request to the end.",
		{"organization_name", "template_name", "preset_name", "type"}, BUILD_BOUNDS},
	[F_ENQUEUED] = {"coderd_workspace_builds_enqueued_total", "counter", "Builds that were asked for.",
		{"provisioner_type", "build_reason", "transition", "status"}},
	[F_BUILDS] = {"coderd_workspace_builds_total", "counter", "Builds that ended, of workspaces that there are.",
		{"workspace_owner", "workspace_name", "template_name", "template_version", "workspace_transition", "status"}},
	[F_QUEUE_WAIT] = {"coderd_provisioner_job_queue_wait_seconds", "histogram",
		"From the making of jobs to a provisioner that took them.",
		{"provisioner_type", "job_type", "transition", "build_reason"},
		BOUNDS(0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 900, 1800)},
	[F_JOB_SECONDS] = {"coderd_provisionerd_job_timings_seconds", "histogram", "Jobs, from their start to their end.",
		{"provisioner", "status"}, BUILD_BOUNDS},
	[F_BUILD_SECONDS] = {"coderd_provisionerd_workspace_build_timings_seconds", "histogram", "Builds, from their start to their end.",
		{"template_name", "template_version", "workspace_transition", "status"}, BUILD_BOUNDS},
	[F_TEMPLATE_BUILD_SECONDS] = {"coderd_template_workspace_build_duration_seconds", "histogram",
		"Builds, from the request until their last agent was ready.",
		{"template_name", "organization_name", "transition", "status", "is_prebuild"}, BUILD_BOUNDS},
	[F_JOBS_CURRENT] = {"coderd_provisionerd_jobs_current", "gauge", "Jobs that run.", {"provisioner"}},
};

typedef struct Walk
{
	Fleet	   *fleet;
	SeriesGroup		groups[F_COUNT];
	const FleetName *success;
	const FleetName *failed;
	int			family;
	int			item;
	StringInfoData piece;		/* behind room for a varlena header */
	bool		over;			/* coder.metrics_parts() has been asked */
	Datum		at;
} Walk;

/* ---- counting ---- */

static int
series_add(SeriesGroup *group, FamilyId family, const SeriesKey *key)
{
	Series	   *series;

	if (group->n == 0)
		group->all = palloc(sizeof(Series) * 16);
	else if (group->n >= 16 && (group->n & (group->n - 1)) == 0)
		group->all = repalloc_huge(group->all, sizeof(Series) * (Size) group->n * 2);
	series = &group->all[group->n];
	memset(series, 0, sizeof(*series));
	memcpy(series->labels, key->parts, sizeof(key->parts));
	series->before = FLEET_NONE;
	if (families[family].bounds.n > 0)
		series->histogram = palloc0(sizeof(MetricHistogram));
	return group->n++;
}

static SeriesKey
series_key(FamilyId family, const FleetName *const *labels)
{
	SeriesKey	key = {0};

	for (int i = 0; i < MAX_LABELS && families[family].labels[i] != NULL; i++)
		key.parts[i] = labels[i];
	return key;
}

static Series *
series_of(Walk *walk, FamilyId family, const FleetName *const *labels)
{
	SeriesGroup	   *group = &walk->groups[family];
	SeriesKey	key = series_key(family, labels);
	SeriesEntry *entry;
	bool		found;

	if (group->index == NULL)
		group->index = series_create(CurrentMemoryContext, 16, NULL);
	entry = series_insert(group->index, key, &found);
	if (!found)
		entry->at = series_add(group, family, &key);
	return &group->all[entry->at];
}

/*
 * The same of a family whose series are each of one workspace, which has few:
 * they are a list, whose last is *last.
 */
static Series *
series_of_workspace(Walk *walk, FamilyId family, int *last, const FleetName *const *labels)
{
	SeriesGroup *group = &walk->groups[family];
	SeriesKey	key = series_key(family, labels);
	int			at = *last;

	while (at != FLEET_NONE && memcmp(group->all[at].labels, key.parts, sizeof(key.parts)) != 0)
		at = group->all[at].before;
	if (at == FLEET_NONE)
	{
		at = series_add(group, family, &key);
		group->all[at].before = *last;
		*last = at;
	}
	return &group->all[at];
}

#define LABELS(...) ((const FleetName *const[MAX_LABELS]) {__VA_ARGS__})
#define SERIES(walk, family, ...) series_of(walk, family, LABELS(__VA_ARGS__))

/* A clock that went back has measured nothing. */
static void
observe(Walk *walk, FamilyId family, TimestampTz from, TimestampTz to, const FleetName *const *labels)
{
	Series	   *series;

	if (to < from)
		return;
	series = series_of(walk, family, labels);
	metric_observe(series->histogram, &families[family].bounds, (double) (to - from) / USECS_PER_SEC);
	series->micros += to - from;
}

static const FleetName *
outcome(const Walk *walk, const FleetJob *job)
{
	return job->status == JOB_SUCCEEDED ? walk->success : walk->failed;
}

static void
count_job(Walk *walk, const FleetJob *job)
{
	const Fleet *fleet = walk->fleet;
	const FleetBuild *build = job->build == FLEET_NONE ? NULL : &fleet->builds[job->build];

	if (job->status == JOB_RUNNING || job->status == JOB_CANCELING)
		SERIES(walk, F_JOBS_CURRENT, job->provisioner)->count++;
	if (job->started_at == DT_NOBEGIN)
		return;
	observe(walk, F_QUEUE_WAIT, job->created_at, job->started_at,
			LABELS(job->provisioner, job->type, build != NULL ? build->transition : fleet->empty, build != NULL ? build->reason : fleet->empty));
	if (job->completed_at != DT_NOBEGIN)
		observe(walk, F_JOB_SECONDS, job->started_at, job->completed_at, LABELS(job->provisioner, outcome(walk, job)));
}

/* From the request until the last root agent was ready, where all are. */
static void
count_template_build(Walk *walk, const FleetBuild *build, const FleetWorkspace *workspace)
{
	Fleet	   *fleet = walk->fleet;
	const FleetName *const worst[] = {walk->success, fleet_name(fleet, "timeout", 7), fleet_name(fleet, "error", 5)};

	if (build->agents == 0 || build->agents_final < build->agents || fleet->jobs[build->job].status != JOB_SUCCEEDED)
		return;
	observe(walk, F_TEMPLATE_BUILD_SECONDS, build->created_at, build->last_ready,
			LABELS(workspace->template->name, workspace->template->organization, build->transition, worst[build->worst],
				   fleet->booleans[build->prebuild]));
}

static void
count_build(Walk *walk, const FleetBuild *build)
{
	Fleet	   *fleet = walk->fleet;
	const FleetJob *job = &fleet->jobs[build->job];
	FleetWorkspace *workspace = &fleet->workspaces[build->workspace];
	const FleetTemplate *template = workspace->template;

	SERIES(walk, F_ENQUEUED, job->provisioner, build->reason, build->transition, walk->success)->count++;
	count_template_build(walk, build, workspace);
	if (build->number == 1 && build->transition_code == TRANSITION_START && job->status == JOB_SUCCEEDED)
		observe(walk, F_CREATION_SECONDS, job->created_at, job->completed_at,
				LABELS(workspace->organization, template->name, build->preset,
					   build->prebuild ? fleet_name(fleet, "prebuild", 8) : fleet_name(fleet, "regular", 7)));
	if (job->completed_at == DT_NOBEGIN)
		return;
	if (!workspace->deleted)
		series_of_workspace(walk, F_BUILDS, &workspace->builds_series,
							LABELS(workspace->owner, workspace->name, template->name, build->version, build->transition,
								   outcome(walk, job)))->count++;
	if (job->started_at != DT_NOBEGIN)
		observe(walk, F_BUILD_SECONDS, job->started_at, job->completed_at,
				LABELS(template->name, build->version, build->transition, outcome(walk, job)));
}

static void
count_workspace(Walk *walk, const FleetWorkspace *workspace)
{
	const Fleet *fleet = walk->fleet;
	const FleetBuild *latest = workspace->latest == FLEET_NONE ? NULL : &fleet->builds[workspace->latest];
	const FleetBuild *first = workspace->first_up == FLEET_NONE ? NULL : &fleet->builds[workspace->first_up];

	bool		prebuild = first != NULL && first->prebuild;
	const FleetName *preset = first != NULL ? first->preset : NULL;

	if (workspace->first_total != FLEET_NONE)
	{
		const FleetTotalKey *total = &fleet->total_keys[workspace->first_total];

		if (first == NULL || total->number < first->number)
		{
			prebuild = total->labels[0] == fleet->booleans[true];
			preset = total->preset;
		}
	}
	if (preset != NULL && !prebuild && !workspace->template->deleted)
		SERIES(walk, F_CREATED, workspace->organization, workspace->template->name, preset)->count++;
	if (workspace->deleted || latest == NULL)
		return;
	SERIES(walk, F_LATEST, fleet->jobs[latest->job].status_name)->count++;
	SERIES(walk, F_LATEST_STATUS, fleet->jobs[latest->job].status_name, workspace->template->name, latest->version, workspace->owner,
		   latest->transition)->count++;
}

static void
count_agents(Walk *walk)
{
	const Fleet *fleet = walk->fleet;

	for (int i = 0; i < fleet->nfirsts; i++)
	{
		const FleetFirst *first = &fleet->firsts[i];
		const FleetWorkspace *workspace = &fleet->workspaces[fleet->builds[first->build].workspace];

		observe(walk, F_FIRST, first->created_at, first->connected_at, LABELS(workspace->template->name, first->agent));
	}
	for (int i = 0; i < fleet->napps; i++)
	{
		const FleetAgent *agent = &fleet->agents[fleet->apps[i].agent];
		FleetWorkspace *workspace = &fleet->workspaces[fleet->builds[agent->build].workspace];

		series_of_workspace(walk, F_APPS, &workspace->apps_series,
							LABELS(agent->name, workspace->owner, workspace->name, fleet->apps[i].name, fleet->apps[i].health))->count++;
	}
}

/* ---- what was added up of jobs that have ended ---- */

/* The series that a total belongs to; NULL: what it is of is gone, or it is none. */
static Series *
series_of_total(Walk *walk, const FleetTotalKey *key)
{
	const FleetName *const *labels = key->labels;

	switch (key->family)
	{
		case TOTAL_QUEUE_WAIT:
			return SERIES(walk, F_QUEUE_WAIT, labels[0], labels[1], labels[2], labels[3]);
		case TOTAL_JOB_SECONDS:
			return SERIES(walk, F_JOB_SECONDS, labels[0], labels[1]);
		case TOTAL_ENQUEUED:
			return SERIES(walk, F_ENQUEUED, labels[0], labels[1], labels[2], walk->success);
		case TOTAL_TEMPLATE_BUILD:
			return key->template == NULL ? NULL :
				SERIES(walk, F_TEMPLATE_BUILD_SECONDS, key->template->name, key->template->organization, labels[0], labels[1], labels[2]);
		case TOTAL_CREATION:
			return key->template == NULL ? NULL :
				SERIES(walk, F_CREATION_SECONDS, key->organization, key->template->name, key->preset, labels[0]);
		case TOTAL_BUILD_SECONDS:
			return key->template == NULL ? NULL :
				SERIES(walk, F_BUILD_SECONDS, key->template->name, key->version, labels[0], labels[1]);
		case TOTAL_FIRST:
			return key->template == NULL ? NULL : SERIES(walk, F_FIRST, key->template->name, labels[0]);
		default:
			return NULL;
	}
}

static void
count_total_build(Walk *walk, const FleetTotalKey *key)
{
	FleetWorkspace *workspace;

	if (key->workspace == FLEET_NONE)
		return;
	workspace = &walk->fleet->workspaces[key->workspace];
	if (!workspace->deleted)
		series_of_workspace(walk, F_BUILDS, &workspace->builds_series,
							LABELS(workspace->owner, workspace->name, workspace->template->name, key->version, key->labels[0],
								   key->labels[1]))->count += key->n;
}

static void
place_first(Fleet *fleet, int at)
{
	const FleetTotalKey *key = &fleet->total_keys[at];
	FleetWorkspace *workspace;

	if (key->workspace == FLEET_NONE)
		return;
	workspace = &fleet->workspaces[key->workspace];
	if (workspace->first_total == FLEET_NONE || fleet->total_keys[workspace->first_total].number > key->number)
		workspace->first_total = at;
}

static void
count_totals(Walk *walk)
{
	Fleet	   *fleet = walk->fleet;

	for (int i = 0; i < fleet->ntotal_keys; i++)
	{
		const FleetTotalKey *key = &fleet->total_keys[i];

		if (key->n <= 0)
			continue;
		if (key->family == TOTAL_BUILDS)
			count_total_build(walk, key);
		else if (key->family == TOTAL_FIRST_UP)
			place_first(fleet, i);
	}
	for (int i = 0; i < fleet->ntotals; i++)
	{
		const FleetTotal *total = &fleet->totals[i];
		const FleetTotalKey *key = &fleet->total_keys[total->key];
		Series	   *series = key->n <= 0 ? NULL : series_of_total(walk, key);

		if (series == NULL)
			continue;
		series->count += total->n;
		series->micros += total->micros;
		if (series->histogram == NULL || total->bucket < 0 || total->bucket > METRIC_MAX_BOUNDS)
			continue;
		series->histogram->counts[total->bucket] += total->n;
		series->histogram->total += total->n;
	}
}

static Walk *
walk_begin(TimestampTz at)
{
	Walk	   *walk = palloc0(sizeof(*walk));
	Fleet	   *fleet = fleet_read(at);
	static const char *const provisioners[] = {"echo", "terraform"};

	walk->fleet = fleet;
	walk->at = TimestampTzGetDatum(at);
	walk->success = fleet_name(fleet, "success", 7);
	walk->failed = fleet_name(fleet, "failed", 6);
	for (size_t i = 0; i < lengthof(provisioners); i++)
		SERIES(walk, F_JOBS_CURRENT, fleet_name(fleet, provisioners[i], (int) strlen(provisioners[i])));
	count_totals(walk);
	for (int i = 0; i < fleet->njobs; i++)
		count_job(walk, &fleet->jobs[i]);
	for (int i = 0; i < fleet->nbuilds; i++)
		count_build(walk, &fleet->builds[i]);
	for (int i = 0; i < fleet->nworkspaces; i++)
		count_workspace(walk, &fleet->workspaces[i]);
	count_agents(walk);
	initStringInfo(&walk->piece);
	enlargeStringInfo(&walk->piece, PIECE_BYTES + PIECE_BYTES / 4);
	return walk;
}

/* ---- writing ---- */

/* The fixed text of a family's lines: before each label's value, and behind the last. */
typedef struct Frame
{
	int			n;
	struct
	{
		char		text[128];
		int			len;
	}			before[MAX_LABELS];
} Frame;

static void
make_frame(const Family *family, Frame *frame)
{
	frame->n = 0;
	while (frame->n < MAX_LABELS && family->labels[frame->n] != NULL)
	{
		int			i = frame->n++;

		frame->before[i].len = snprintf(frame->before[i].text, sizeof(frame->before[i].text), "%s%s=\"",
										i == 0 ? "" : "\",", family->labels[i]);
	}
}

/* Labels without braces. */
static void
write_labels(StringInfo out, const Frame *frame, const FleetName *const *labels)
{
	int			len = 1;
	char	   *to;

	for (int i = 0; i < frame->n; i++)
		len += frame->before[i].len + labels[i]->len;
	enlargeStringInfo(out, len);
	to = out->data + out->len;
	for (int i = 0; i < frame->n; i++)
	{
		memcpy(to, frame->before[i].text, (size_t) frame->before[i].len);
		to += frame->before[i].len;
		memcpy(to, labels[i]->text, (size_t) labels[i]->len);
		to += labels[i]->len;
	}
	*to++ = '"';
	out->len += len;
}

static void
write_line(StringInfo out, const Family *family, int name_len, const Frame *frame, const FleetName *const *labels, double value)
{
	appendBinaryStringInfo(out, family->name, name_len);
	appendStringInfoChar(out, '{');
	write_labels(out, frame, labels);
	appendBinaryStringInfo(out, "} ", 2);
	if (value == (double) (int64) value)
	{
		char		text[MAXINT8LEN + 1];

		appendBinaryStringInfo(out, text, pg_lltoa((int64) value, text));
	}
	else
		metric_double(out, value);
	appendStringInfoChar(out, '\n');
}

static void
write_series(StringInfo out, const Family *family, int name_len, const Frame *frame, const Series *series)
{
	StringInfoData labels;

	if (series->histogram == NULL)
	{
		write_line(out, family, name_len, frame, series->labels, (double) series->count);
		return;
	}
	series->histogram->sum = (double) series->micros / USECS_PER_SEC;
	initStringInfo(&labels);
	write_labels(&labels, frame, series->labels);
	metric_histogram(out, family->name, labels.data, labels.len, series->histogram, &family->bounds);
	pfree(labels.data);
}

static int
items_of(const Walk *walk, int family)
{
	switch (family)
	{
		case F_UP:
			return walk->fleet->nworkspaces;
		case F_CONNECTIONS:
			return walk->fleet->nagents;
		case F_LATENCIES:
			return walk->fleet->nlatencies;
		default:
			return walk->groups[family].n;
	}
}

/* Writes of a family until the piece is full; true: the family is over. */
static bool
write_family(Walk *walk)
{
	const Family *family = &families[walk->family];
	int			name_len = (int) strlen(family->name);
	int			n = items_of(walk, walk->family);
	StringInfo	out = &walk->piece;
	Frame		frame;

	make_frame(family, &frame);
	if (walk->item == 0)
		metric_head(out, family->name, family->type, family->help);
	for (; walk->item < n && out->len < PIECE_BYTES; walk->item++)
	{
		const FleetName *labels[MAX_LABELS];
		double		value;

		if (family->item == NULL)
			write_series(out, family, name_len, &frame, &walk->groups[walk->family].all[walk->item]);
		else if (family->item(walk->fleet, walk->item, labels, &value))
			write_line(out, family, name_len, &frame, labels, value);
	}
	return walk->item >= n;
}

/* What the other parts say; they are functions of SQL, each a few series. */
static void
write_parts(Walk *walk)
{
	Oid			types[1] = {TIMESTAMPTZOID};

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT coder.metrics_parts($1)", 1, types, &walk->at, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "coder.metrics_parts failed");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
		{
			text	   *part = DatumGetTextPP(value);

			appendBinaryStringInfo(&walk->piece, VARDATA_ANY(part), (int) VARSIZE_ANY_EXHDR(part));
		}
	}
	SPI_finish();
}

/* The next piece of the text; false: there is none. */
static bool
next_piece(Walk *walk)
{
	resetStringInfo(&walk->piece);
	appendBinaryStringInfo(&walk->piece, "\0\0\0", VARHDRSZ);
	while (walk->family < F_COUNT && walk->piece.len < PIECE_BYTES)
		if (write_family(walk))
		{
			walk->family++;
			walk->item = 0;
		}
	if (walk->family == F_COUNT && !walk->over && walk->piece.len < PIECE_BYTES)
	{
		write_parts(walk);
		walk->over = true;
	}
	SET_VARSIZE(walk->piece.data, walk->piece.len);
	return walk->piece.len > VARHDRSZ;
}

/* coder.metrics(at timestamptz) returns setof text */
Datum
coder_metrics(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Walk	   *walk;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext before;

		call = SRF_FIRSTCALL_INIT();
		before = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		call->user_fctx = walk_begin(PG_ARGISNULL(0) ? GetCurrentStatementStartTimestamp() : PG_GETARG_TIMESTAMPTZ(0));
		MemoryContextSwitchTo(before);
	}
	call = SRF_PERCALL_SETUP();
	walk = call->user_fctx;
	if (!next_piece(walk))
		SRF_RETURN_DONE(call);
	SRF_RETURN_NEXT(call, PointerGetDatum(walk->piece.data));
}
