/*
 * workspace.c -- JSON of workspaces, builds, resources, agents and apps.
 *
 * A list is read one level at a time (level.c): the workspaces, their latest
 * builds, the resources of those builds, and so on; users, templates and versions
 * once each however many rows name them.  The levels are joined here by binary
 * search.
 *
 * Field names, their order, and which are left out when empty are the API's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <malloc.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "build.h"
#include "change.h"
#include "coder.h"
#include "compat.h"
#include "json.h"
#include "keep.h"
#include "level.h"
#include "request.h"
#include "workspaceagent.h"

PG_FUNCTION_INFO_V1(coder_workspaces_json);
PG_FUNCTION_INFO_V1(coder_builds_json);
PG_FUNCTION_INFO_V1(coder_resources_json);
PG_FUNCTION_INFO_V1(coder_agents_json);

#define DEFAULT_TROUBLESHOOTING_URL "https://coder.com/docs/admin/templates/troubleshooting"

/* 0001-01-01 00:00:00 UTC, which the API takes for "not set", in PostgreSQL's epoch. */
#define YEAR_ONE INT64CONST(-63082281600000000)

/* ---- the statements ---- */

typedef enum LevelId
{
	L_WORKSPACE,
	L_PARENT, /* workspaces of builds, where L_WORKSPACE is not read */
	L_BUILD,
	L_JOB,
	L_VERSION,
	L_TEMPLATE,
	L_USER,
	L_ORG,
	L_RESOURCE,
	L_METADATA,
	L_AGENT,
	L_NODE,
	L_APP,
	L_SCRIPT,
	L_SOURCE,
	L_STATUS,
	L_LATEST_STATUS,
	L_COUNT
} LevelId;

/*
 * Columns of the levels' rows.  Column 0 is what a level is searched by.  What
 * stands in no list of columns below is taken from another level (join_…).
 */
enum
{
	W_ID, W_CREATED, W_UPDATED, W_OWNER, W_OWNER_NAME, W_OWNER_AVATAR, W_ORG, W_ORG_NAME,
	W_TEMPLATE, W_TEMPLATE_NAME, W_TEMPLATE_DISPLAY, W_TEMPLATE_ICON, W_CANCEL, W_ACTIVE_VERSION,
	W_REQUIRE_ACTIVE, W_CLASSIC, W_BUILD, W_NAME, W_SCHEDULE, W_TTL, W_DEFAULT_TTL, W_USER_AUTOSTOP,
	W_LAST_USED, W_DELETING, W_DORMANT, W_UPDATES, W_FAVORITE, W_NEXT_START, W_USER_ACL, W_GROUP_ACL,
	W_SHARED, W_COUNT
};
enum
{
	B_ID, B_CREATED, B_UPDATED, B_WORKSPACE, B_WORKSPACE_NAME, B_OWNER, B_OWNER_NAME, B_OWNER_AVATAR,
	B_VERSION, B_VERSION_NAME, B_NUMBER, B_TRANSITION, B_INITIATOR, B_INITIATOR_NAME, B_REASON,
	B_DEADLINE, B_MAX_DEADLINE, B_COST, B_PRESET, B_AI_TASK, B_EXTERNAL_AGENT,
	J_ID, J_CREATED, J_STARTED, J_COMPLETED, J_CANCELED, J_ERROR, J_ERROR_CODE, J_STATUS, J_WORKER,
	J_FILE, J_TAGS, J_ORG, J_INITIATOR, J_OVERFLOWED, J_QUEUE, B_COUNT
};
#define JOB(column) ((column) - J_ID) /* of a build's row in the job's */
enum
{
	V_ID, V_NAME, V_COUNT
};
enum
{
	TP_ID, TP_NAME, TP_DISPLAY, TP_ICON, TP_CANCEL, TP_ACTIVE_VERSION, TP_REQUIRE_ACTIVE, TP_CLASSIC,
	TP_DEFAULT_TTL, TP_USER_AUTOSTOP, TP_COUNT
};
enum
{
	U_ID, U_NAME, U_AVATAR, U_COUNT
};
enum
{
	G_ID, G_NAME, G_COUNT
};
enum
{
	R_JOB, R_ID, R_CREATED, R_TRANSITION, R_TYPE, R_NAME, R_HIDE, R_ICON, R_COST, R_COUNT
};
enum
{
	M_RESOURCE, M_KEY, M_VALUE, M_SENSITIVE, M_ID, M_COUNT
};
enum
{
	A_RESOURCE, A_ID, A_PARENT, A_CREATED, A_UPDATED, A_FIRST, A_LAST, A_DISCONNECTED, A_STARTED,
	A_READY, A_TIMEOUT, A_LIFECYCLE, A_NAME, A_INSTANCE, A_ARCH, A_ENV, A_OS, A_LOGS, A_OVERFLOWED,
	A_DIRECTORY, A_EXPANDED, A_VERSION, A_API_VERSION, A_TROUBLE, A_SUBSYSTEMS, A_DISPLAY_APPS,
	A_LATENCY, A_ORDER, A_COUNT
};
enum
{
	N_AGENT, N_LATENCY, N_COUNT
};
enum
{
	P_AGENT, P_ID, P_URL, P_EXTERNAL, P_SLUG, P_DISPLAY, P_COMMAND, P_ICON, P_SUBDOMAIN, P_SHARING,
	P_HEALTH_URL, P_HEALTH_INTERVAL, P_HEALTH_THRESHOLD, P_HEALTH, P_GROUP, P_HIDDEN, P_OPEN_IN,
	P_TOOLTIP, P_ORDER, P_COUNT
};
enum
{
	S_AGENT, S_ID, S_SOURCE, S_PATH, S_SCRIPT, S_CRON, S_ON_START, S_ON_STOP, S_BLOCKS, S_TIMEOUT,
	S_DISPLAY, S_ORDINAL, S_COUNT
};
enum
{
	O_AGENT, O_ID, O_CREATED, O_DISPLAY, O_ICON, O_COUNT
};
enum
{
	T_KEY, T_ID, T_CREATED, T_WORKSPACE, T_AGENT, T_APP, T_STATE, T_MESSAGE, T_URI, T_COUNT
};

static const LevelColumn workspace_columns[] = {
	{W_ID, "id", LEVEL_ANY},
	{W_CREATED, "created_at", LEVEL_ANY},
	{W_UPDATED, "updated_at", LEVEL_ANY},
	{W_OWNER, "owner_id", LEVEL_ANY},
	{W_ORG, "organization_id", LEVEL_ANY},
	{W_TEMPLATE, "template_id", LEVEL_ANY},
	{W_BUILD, "latest_build_id", LEVEL_ANY},
	{W_NAME, "name", LEVEL_ANY},
	{W_SCHEDULE, "autostart_schedule", LEVEL_TEXT},
	{W_TTL, "ttl", LEVEL_ANY},
	{W_LAST_USED, "last_used_at", LEVEL_ANY},
	{W_DELETING, "deleting_at", LEVEL_ANY},
	{W_DORMANT, "dormant_at", LEVEL_ANY},
	{W_UPDATES, "automatic_updates", LEVEL_ENUM},
	{W_FAVORITE, "favorite", LEVEL_ANY},
	{W_NEXT_START, "next_start_at", LEVEL_ANY},
	{W_USER_ACL, "user_acl", LEVEL_ANY},
	{W_GROUP_ACL, "group_acl", LEVEL_ANY},
};
static const LevelColumn build_columns[] = {
	{B_ID, "id", LEVEL_ANY},
	{B_CREATED, "created_at", LEVEL_ANY},
	{B_UPDATED, "updated_at", LEVEL_ANY},
	{B_WORKSPACE, "workspace_id", LEVEL_ANY},
	{B_VERSION, "template_version_id", LEVEL_ANY},
	{B_NUMBER, "build_number", LEVEL_ANY},
	{B_TRANSITION, "transition", LEVEL_ENUM},
	{B_INITIATOR, "initiator_id", LEVEL_ANY},
	{B_REASON, "reason", LEVEL_ENUM},
	{B_DEADLINE, "deadline", LEVEL_ANY},
	{B_MAX_DEADLINE, "max_deadline", LEVEL_ANY},
	{B_COST, "daily_cost", LEVEL_ANY},
	{B_PRESET, "template_version_preset_id", LEVEL_ANY},
	{B_AI_TASK, "has_ai_task", LEVEL_ANY},
	{B_EXTERNAL_AGENT, "has_external_agent", LEVEL_ANY},
	{J_ID, "job_id", LEVEL_ANY},
};
static const LevelColumn job_columns[] = {
	{JOB(J_ID), "id", LEVEL_ANY},
	{JOB(J_CREATED), "created_at", LEVEL_ANY},
	{JOB(J_STARTED), "started_at", LEVEL_ANY},
	{JOB(J_COMPLETED), "completed_at", LEVEL_ANY},
	{JOB(J_CANCELED), "canceled_at", LEVEL_ANY},
	{JOB(J_ERROR), "error", LEVEL_TEXT},
	{JOB(J_ERROR_CODE), "error_code", LEVEL_TEXT},
	{JOB(J_STATUS), "job_status", LEVEL_ENUM},
	{JOB(J_WORKER), "worker_id", LEVEL_ANY},
	{JOB(J_FILE), "file_id", LEVEL_ANY},
	{JOB(J_TAGS), "tags", LEVEL_JSON},
	{JOB(J_ORG), "organization_id", LEVEL_ANY},
	{JOB(J_INITIATOR), "initiator_id", LEVEL_ANY},
	{JOB(J_OVERFLOWED), "logs_overflowed", LEVEL_ANY},
};
static const LevelColumn version_columns[] = {
	{V_ID, "id", LEVEL_ANY},
	{V_NAME, "name", LEVEL_ANY},
};
static const LevelColumn template_columns[] = {
	{TP_ID, "id", LEVEL_ANY},
	{TP_NAME, "name", LEVEL_ANY},
	{TP_DISPLAY, "display_name", LEVEL_TEXT},
	{TP_ICON, "icon", LEVEL_ANY},
	{TP_CANCEL, "allow_user_cancel_workspace_jobs", LEVEL_ANY},
	{TP_ACTIVE_VERSION, "active_version_id", LEVEL_ANY},
	{TP_REQUIRE_ACTIVE, "require_active_version", LEVEL_ANY},
	{TP_CLASSIC, "use_classic_parameter_flow", LEVEL_ANY},
	{TP_DEFAULT_TTL, "default_ttl", LEVEL_ANY},
	{TP_USER_AUTOSTOP, "allow_user_autostop", LEVEL_ANY},
};
static const LevelColumn user_columns[] = {
	{U_ID, "id", LEVEL_ANY},
	{U_NAME, "username", LEVEL_ANY},
	{U_AVATAR, "avatar_url", LEVEL_TEXT},
};
static const LevelColumn org_columns[] = {
	{G_ID, "id", LEVEL_ANY},
	{G_NAME, "name", LEVEL_ANY},
};
static const LevelColumn resource_columns[] = {
	{R_JOB, "job_id", LEVEL_ANY},
	{R_ID, "id", LEVEL_ANY},
	{R_CREATED, "created_at", LEVEL_ANY},
	{R_TRANSITION, "transition", LEVEL_ENUM},
	{R_TYPE, "type", LEVEL_ANY},
	{R_NAME, "name", LEVEL_ANY},
	{R_HIDE, "hide", LEVEL_ANY},
	{R_ICON, "icon", LEVEL_ANY},
	{R_COST, "daily_cost", LEVEL_ANY},
};
static const LevelColumn metadata_columns[] = {
	{M_RESOURCE, "workspace_resource_id", LEVEL_ANY},
	{M_KEY, "key", LEVEL_ANY},
	{M_VALUE, "value", LEVEL_TEXT},
	{M_SENSITIVE, "sensitive", LEVEL_ANY},
	{M_ID, "id", LEVEL_ANY},
};
static const LevelColumn agent_columns[] = {
	{A_RESOURCE, "resource_id", LEVEL_ANY},
	{A_ID, "id", LEVEL_ANY},
	{A_PARENT, "parent_id", LEVEL_ANY},
	{A_CREATED, "created_at", LEVEL_ANY},
	{A_UPDATED, "updated_at", LEVEL_ANY},
	{A_FIRST, "first_connected_at", LEVEL_ANY},
	{A_LAST, "last_connected_at", LEVEL_ANY},
	{A_DISCONNECTED, "disconnected_at", LEVEL_ANY},
	{A_STARTED, "started_at", LEVEL_ANY},
	{A_READY, "ready_at", LEVEL_ANY},
	{A_TIMEOUT, "connection_timeout_seconds", LEVEL_ANY},
	{A_LIFECYCLE, "lifecycle_state", LEVEL_ENUM},
	{A_NAME, "name", LEVEL_ANY},
	{A_INSTANCE, "auth_instance_id", LEVEL_TEXT},
	{A_ARCH, "architecture", LEVEL_ANY},
	{A_ENV, "environment_variables", LEVEL_JSON},
	{A_OS, "operating_system", LEVEL_ANY},
	{A_LOGS, "logs_length", LEVEL_ANY},
	{A_OVERFLOWED, "logs_overflowed", LEVEL_ANY},
	{A_DIRECTORY, "directory", LEVEL_ANY},
	{A_EXPANDED, "expanded_directory", LEVEL_ANY},
	{A_VERSION, "version", LEVEL_ANY},
	{A_API_VERSION, "api_version", LEVEL_ANY},
	{A_TROUBLE, "troubleshooting_url", LEVEL_ANY},
	{A_SUBSYSTEMS, "subsystems", LEVEL_LABELS},
	{A_DISPLAY_APPS, "display_apps", LEVEL_LABELS},
	{A_ORDER, "display_order", LEVEL_ANY},
	{0, "deleted", LEVEL_SKIP},
};
static const LevelColumn node_columns[] = {
	{N_AGENT, "agent_id", LEVEL_ANY},
	{N_LATENCY, "latency", LEVEL_JSON},
};
static const LevelColumn app_columns[] = {
	{P_AGENT, "agent_id", LEVEL_ANY},
	{P_ID, "id", LEVEL_ANY},
	{P_URL, "url", LEVEL_TEXT},
	{P_EXTERNAL, "external", LEVEL_ANY},
	{P_SLUG, "slug", LEVEL_ANY},
	{P_DISPLAY, "display_name", LEVEL_ANY},
	{P_COMMAND, "command", LEVEL_TEXT},
	{P_ICON, "icon", LEVEL_ANY},
	{P_SUBDOMAIN, "subdomain", LEVEL_ANY},
	{P_SHARING, "sharing_level", LEVEL_ENUM},
	{P_HEALTH_URL, "healthcheck_url", LEVEL_ANY},
	{P_HEALTH_INTERVAL, "healthcheck_interval", LEVEL_ANY},
	{P_HEALTH_THRESHOLD, "healthcheck_threshold", LEVEL_ANY},
	{P_HEALTH, "health", LEVEL_ENUM},
	{P_GROUP, "display_group", LEVEL_TEXT},
	{P_HIDDEN, "hidden", LEVEL_ANY},
	{P_OPEN_IN, "open_in", LEVEL_ENUM},
	{P_TOOLTIP, "tooltip", LEVEL_ANY},
	{P_ORDER, "display_order", LEVEL_ANY},
};
static const LevelColumn script_columns[] = {
	{S_AGENT, "workspace_agent_id", LEVEL_ANY},
	{S_ID, "id", LEVEL_ANY},
	{S_SOURCE, "log_source_id", LEVEL_ANY},
	{S_PATH, "log_path", LEVEL_ANY},
	{S_SCRIPT, "script", LEVEL_ANY},
	{S_CRON, "cron", LEVEL_ANY},
	{S_ON_START, "run_on_start", LEVEL_ANY},
	{S_ON_STOP, "run_on_stop", LEVEL_ANY},
	{S_BLOCKS, "start_blocks_login", LEVEL_ANY},
	{S_TIMEOUT, "timeout_seconds", LEVEL_ANY},
	{S_DISPLAY, "display_name", LEVEL_ANY},
	{S_ORDINAL, "ordinal", LEVEL_ANY},
};
static const LevelColumn source_columns[] = {
	{O_AGENT, "workspace_agent_id", LEVEL_ANY},
	{O_ID, "id", LEVEL_ANY},
	{O_CREATED, "created_at", LEVEL_ANY},
	{O_DISPLAY, "display_name", LEVEL_ANY},
	{O_ICON, "icon", LEVEL_ANY},
};

#define STATUS_COLUMNS(key) \
	{ \
		{T_KEY, key, LEVEL_ANY}, {T_ID, "id", LEVEL_ANY}, {T_CREATED, "created_at", LEVEL_ANY}, \
		{T_WORKSPACE, "workspace_id", LEVEL_ANY}, {T_AGENT, "agent_id", LEVEL_ANY}, \
		{T_APP, "app_id", LEVEL_ANY}, {T_STATE, "state", LEVEL_ENUM}, \
		{T_MESSAGE, "message", LEVEL_ANY}, {T_URI, "uri", LEVEL_TEXT}, \
	}
static const LevelColumn status_columns[] = STATUS_COLUMNS("app_id");
static const LevelColumn latest_status_columns[] = STATUS_COLUMNS("workspace_id");

#define COLUMNS(list) .ncolumns = lengthof(list), .columns = (list)

static LevelTable tables[L_COUNT] = {
	[L_WORKSPACE] = {.table = "workspaces", .index = "workspaces_pkey", .natts = W_COUNT,
					 COLUMNS(workspace_columns)},
	[L_PARENT] = {.table = "workspaces", .index = "workspaces_pkey", .natts = W_COUNT,
				  COLUMNS(workspace_columns)},
	[L_BUILD] = {.table = "workspace_builds", .index = "workspace_builds_pkey", .natts = B_COUNT,
				 COLUMNS(build_columns)},
	[L_JOB] = {.table = "provisioner_jobs", .index = "provisioner_jobs_pkey", .natts = JOB(B_COUNT),
			   COLUMNS(job_columns)},
	[L_VERSION] = {.table = "template_versions", .index = "template_versions_pkey", .natts = V_COUNT,
				   COLUMNS(version_columns)},
	[L_TEMPLATE] = {.table = "templates", .index = "templates_pkey", .natts = TP_COUNT,
					COLUMNS(template_columns)},
	[L_USER] = {.table = "users", .index = "users_pkey", .natts = U_COUNT, COLUMNS(user_columns)},
	[L_ORG] = {.table = "organizations", .index = "organizations_pkey", .natts = G_COUNT,
			   COLUMNS(org_columns)},
	[L_RESOURCE] = {.table = "workspace_resources", .index = "workspace_resources_job_id_idx",
					.natts = R_COUNT, .norder = 1, .order = {{R_NAME, TEXTOID}},
					COLUMNS(resource_columns)},
	[L_METADATA] = {.table = "workspace_resource_metadata", .index = "workspace_resource_metadata_name",
					.natts = M_COUNT, .norder = 1, .order = {{M_ID, INT8OID}},
					COLUMNS(metadata_columns)},
	[L_AGENT] = {.table = "workspace_agents", .index = "workspace_agents_resource_id_idx",
				 .natts = A_COUNT, .norder = 2, .order = {{A_ORDER, INT4OID}, {A_NAME, TEXTOID}},
				 COLUMNS(agent_columns)},
	[L_NODE] = {.table = "workspace_agent_nodes", .index = "workspace_agent_nodes_pkey",
				.natts = N_COUNT, COLUMNS(node_columns)},
	[L_APP] = {.table = "workspace_apps", .index = "workspace_apps_agent_id_slug_idx",
			   .natts = P_COUNT, .norder = 3,
			   .order = {{P_ORDER, INT4OID}, {P_DISPLAY, TEXTOID}, {P_SLUG, TEXTOID}},
			   COLUMNS(app_columns)},
	[L_SCRIPT] = {.table = "workspace_agent_scripts",
				  .index = "workspace_agent_scripts_workspace_agent_id_idx", .natts = S_COUNT,
				  .norder = 1, .order = {{S_ORDINAL, INT4OID}}, COLUMNS(script_columns)},
	[L_SOURCE] = {.table = "workspace_agent_log_sources", .index = "workspace_agent_log_sources_pkey",
				  .natts = O_COUNT, .norder = 2, .order = {{O_CREATED, INT8OID}, {O_ID, UUIDOID}},
				  COLUMNS(source_columns)},
	/* Both indexes have the newest first. */
	[L_STATUS] = {.table = "workspace_app_statuses", .index = "idx_workspace_app_statuses_app_id",
				  .natts = T_COUNT, COLUMNS(status_columns)},
	[L_LATEST_STATUS] = {.table = "workspace_app_statuses",
						 .index = "idx_workspace_app_statuses_workspace_id_created_at",
						 .natts = T_COUNT, .first_only = true, COLUMNS(latest_status_columns)},
};

static uint64 kept_catalogs; /* level_catalogs() of what is kept */

static const Oid shared_args[] = {JSONBOID, JSONBOID};
static CoderPlan shared_plan = {"SELECT coder.workspace_shared_with($1, $2)", 2, shared_args, NULL};
static const Oid queue_args[] = {UUIDOID};
static CoderPlan queue_plan = {"SELECT coder.build_queue($1)", 1, queue_args, NULL};

/* ---- levels ---- */

/* Everything below a set of jobs. */
typedef struct Tree
{
	Level level[L_COUNT];
	TimestampTz now;
	bool fresh; /* the answer to the request that made the build */
} Tree;

static void
read_level(Tree *tree, LevelId id, LevelKeys *keys)
{
	level_read(&tables[id], keys, &tree->level[id]);
}

/* Reads the rows that a column of another level names. */
static void
read_named(Tree *tree, LevelId id, LevelId by, int column)
{
	LevelKeys keys = {0};

	level_keys_add_column(&keys, &tree->level[by], column);
	read_level(tree, id, &keys);
}

/* The row of an id that is its level's key; v is NULL if there is none. */
static Row
find_row(const Tree *tree, LevelId id, Datum key)
{
	Row none = {NULL, NULL};
	int count;
	int first = level_find(&tree->level[id], DatumGetUUIDP(key), &count);

	return count == 0 ? none : level_row(&tree->level[id], first);
}

/* The same where a foreign key says that there is one. */
static Row
need_row(const Tree *tree, LevelId id, Datum key)
{
	Row row = find_row(tree, id, key);

	if (row.v == NULL)
		elog(ERROR, "a row of coder.%s is missing", tables[id].table);
	return row;
}

static void
copy_column(Row to, int column, Row from, int from_column)
{
	to.v[column] = from.v[from_column];
	to.null[column] = from.null[from_column];
}

/* The text that a statement with one row answers; isnull if it is NULL. */
static Datum
ask_text(CoderPlan *plan, Datum *args, bool *isnull)
{
	Datum answer;

	coder_execute(plan, args, NULL, true, 1);
	answer = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	return answer;
}

static void
join_workspace(const Tree *tree, Row row)
{
	Row owner = need_row(tree, L_USER, row.v[W_OWNER]);
	Row organization = need_row(tree, L_ORG, row.v[W_ORG]);
	Row template = need_row(tree, L_TEMPLATE, row.v[W_TEMPLATE]);

	copy_column(row, W_OWNER_NAME, owner, U_NAME);
	copy_column(row, W_OWNER_AVATAR, owner, U_AVATAR);
	copy_column(row, W_ORG_NAME, organization, G_NAME);
	copy_column(row, W_TEMPLATE_NAME, template, TP_NAME);
	copy_column(row, W_TEMPLATE_DISPLAY, template, TP_DISPLAY);
	copy_column(row, W_TEMPLATE_ICON, template, TP_ICON);
	copy_column(row, W_CANCEL, template, TP_CANCEL);
	copy_column(row, W_ACTIVE_VERSION, template, TP_ACTIVE_VERSION);
	copy_column(row, W_REQUIRE_ACTIVE, template, TP_REQUIRE_ACTIVE);
	copy_column(row, W_CLASSIC, template, TP_CLASSIC);
	copy_column(row, W_DEFAULT_TTL, template, TP_DEFAULT_TTL);
	copy_column(row, W_USER_AUTOSTOP, template, TP_USER_AUTOSTOP);
	if (JB_ROOT_COUNT(DatumGetJsonbP(row.v[W_USER_ACL])) > 0 ||
		JB_ROOT_COUNT(DatumGetJsonbP(row.v[W_GROUP_ACL])) > 0)
	{
		Datum acls[2] = {row.v[W_USER_ACL], row.v[W_GROUP_ACL]};

		row.v[W_SHARED] = ask_text(&shared_plan, acls, &row.null[W_SHARED]);
	}
}

/* Is the job of a build waiting for a provisioner? */
static bool
is_pending(Row build)
{
	Datum status = build.v[J_STATUS];

	return coder_job_status_parse(VARDATA_ANY(DatumGetPointer(status)),
								  VARSIZE_ANY_EXHDR(DatumGetPointer(status))) == JOB_PENDING;
}

static void
join_build(const Tree *tree, Row row, Row workspace)
{
	Row owner = need_row(tree, L_USER, workspace.v[W_OWNER]);
	Row initiator = find_row(tree, L_USER, row.v[B_INITIATOR]);
	Row version = need_row(tree, L_VERSION, row.v[B_VERSION]);
	Row job = need_row(tree, L_JOB, row.v[J_ID]);

	copy_column(row, B_WORKSPACE_NAME, workspace, W_NAME);
	copy_column(row, B_OWNER, workspace, W_OWNER);
	copy_column(row, B_OWNER_NAME, owner, U_NAME);
	copy_column(row, B_OWNER_AVATAR, owner, U_AVATAR);
	copy_column(row, B_VERSION_NAME, version, V_NAME);
	if (initiator.v != NULL)
		copy_column(row, B_INITIATOR_NAME, initiator, U_NAME);
	for (int c = J_CREATED; c < J_QUEUE; c++)
		copy_column(row, c, job, JOB(c));
	if (is_pending(row))
		row.v[J_QUEUE] = ask_text(&queue_plan, &row.v[J_ID], &row.null[J_QUEUE]);
}

/* ---- members ---- */

static bool
text_is_empty(Datum value)
{
	return VARSIZE_ANY_EXHDR(DatumGetPointer(value)) == 0;
}

static void
put_text_omit(StringInfo buf, const char *key, Row row, int column)
{
	if (!row.null[column] && !text_is_empty(row.v[column]))
		json_text(buf, key, row.v[column]);
}

static void
put_uuid(StringInfo buf, const char *key, Row row, int column)
{
	if (row.null[column])
		json_null(buf, key);
	else
		json_uuid(buf, key, DatumGetUUIDP(row.v[column]));
}

static void
put_time(StringInfo buf, const char *key, Row row, int column)
{
	if (row.null[column] || DatumGetTimestampTz(row.v[column]) == YEAR_ONE)
		json_null(buf, key);
	else
		json_time(buf, key, DatumGetTimestampTz(row.v[column]));
}

static void
put_time_omit(StringInfo buf, const char *key, Row row, int column)
{
	if (!row.null[column])
		json_time(buf, key, DatumGetTimestampTz(row.v[column]));
}

static void
put_int(StringInfo buf, const char *key, Row row, int column)
{
	json_int(buf, key, DatumGetInt32(row.v[column]));
}

static void
put_bool(StringInfo buf, const char *key, Row row, int column)
{
	json_bool(buf, key, DatumGetBool(row.v[column]));
}

/* JSON text as a value, or null. */
static void
put_json(StringInfo buf, const char *key, Row row, int column)
{
	Datum value = row.v[column];

	if (row.null[column])
	{
		json_null(buf, key);
		return;
	}
	json_key(buf, key);
	json_append_compact(buf, VARDATA_ANY(DatumGetPointer(value)),
						VARSIZE_ANY_EXHDR(DatumGetPointer(value)));
}

/* ---- apps ---- */

static void
write_app_status(StringInfo buf, const char *key, Row row)
{
	json_open_at(buf, key, '{');
	put_uuid(buf, "id", row, T_ID);
	put_time(buf, "created_at", row, T_CREATED);
	put_uuid(buf, "workspace_id", row, T_WORKSPACE);
	put_uuid(buf, "agent_id", row, T_AGENT);
	put_uuid(buf, "app_id", row, T_APP);
	json_text(buf, "state", row.v[T_STATE]);
	json_text(buf, "message", row.v[T_MESSAGE]);
	json_text(buf, "uri", row.v[T_URI]);
	json_str(buf, "icon", "");
	json_bool(buf, "needs_user_attention", false);
	json_close(buf, '}');
}

/* A slug of four or five digits, perhaps with an s, would be read as a port. */
static bool
slug_looks_like_port(const char *slug)
{
	size_t digits = strspn(slug, "0123456789");

	return (digits == 4 || digits == 5) &&
		   (slug[digits] == '\0' || strcmp(slug + digits, "s") == 0);
}

/* build is the build that the agent belongs to, its v NULL if there is none. */
static void
put_subdomain_name(StringInfo buf, Row app, Row agent, Row build)
{
	char *slug;
	char *agent_part = "";

	if (!DatumGetBool(app.v[P_SUBDOMAIN]) || build.v == NULL)
		return;
	slug = TextDatumGetCString(app.v[P_SLUG]);
	if (slug_looks_like_port(slug))
		agent_part = psprintf("--%s", TextDatumGetCString(agent.v[A_NAME]));
	json_str(buf, "subdomain_name",
			 psprintf("%s%s--%s--%s", slug, agent_part, TextDatumGetCString(build.v[B_WORKSPACE_NAME]),
					  TextDatumGetCString(build.v[B_OWNER_NAME])));
}

static void
write_app(StringInfo buf, const Tree *tree, Row row, Row agent, Row build)
{
	int count;
	int first = level_find(&tree->level[L_STATUS], DatumGetUUIDP(row.v[P_ID]), &count);

	json_open_at(buf, NULL, '{');
	put_uuid(buf, "id", row, P_ID);
	put_text_omit(buf, "url", row, P_URL);
	put_bool(buf, "external", row, P_EXTERNAL);
	json_text(buf, "slug", row.v[P_SLUG]);
	put_text_omit(buf, "display_name", row, P_DISPLAY);
	put_text_omit(buf, "command", row, P_COMMAND);
	put_text_omit(buf, "icon", row, P_ICON);
	put_bool(buf, "subdomain", row, P_SUBDOMAIN);
	put_subdomain_name(buf, row, agent, build);
	json_text(buf, "sharing_level", row.v[P_SHARING]);
	json_open_at(buf, "healthcheck", '{');
	json_text(buf, "url", row.v[P_HEALTH_URL]);
	put_int(buf, "interval", row, P_HEALTH_INTERVAL);
	put_int(buf, "threshold", row, P_HEALTH_THRESHOLD);
	json_close(buf, '}');
	json_text(buf, "health", row.v[P_HEALTH]);
	put_text_omit(buf, "group", row, P_GROUP);
	put_bool(buf, "hidden", row, P_HIDDEN);
	json_text(buf, "open_in", row.v[P_OPEN_IN]);
	put_text_omit(buf, "tooltip", row, P_TOOLTIP);
	json_open_at(buf, "statuses", '[');
	for (int i = 0; i < count; i++)
		write_app_status(buf, NULL, level_row(&tree->level[L_STATUS], first + i));
	json_close(buf, ']');
	json_close(buf, '}');
}

/* ---- agents ---- */

static CoderAgentTimes
agent_times(Row row)
{
	CoderAgentTimes times = {
		.created_at = DatumGetTimestampTz(row.v[A_CREATED]),
		.first_connected_at = row.null[A_FIRST] ? 0 : DatumGetTimestampTz(row.v[A_FIRST]),
		.last_connected_at = row.null[A_LAST] ? 0 : DatumGetTimestampTz(row.v[A_LAST]),
		.disconnected_at = row.null[A_DISCONNECTED] ? 0 : DatumGetTimestampTz(row.v[A_DISCONNECTED]),
		.has_first = !row.null[A_FIRST],
		.has_last = !row.null[A_LAST],
		.has_disconnected = !row.null[A_DISCONNECTED],
		.connection_timeout_seconds = DatumGetInt32(row.v[A_TIMEOUT]),
	};

	return times;
}

static CoderAgentStatus
agent_connection(const Tree *tree, Row row)
{
	CoderAgentTimes times = agent_times(row);

	return coder_agent_connection(&times, tree->now, CODER_AGENT_INACTIVE_SECONDS);
}

static const char *
agent_ill(const Tree *tree, Row row)
{
	return coder_agent_ill(agent_connection(tree, row), TextDatumGetCString(row.v[A_LIFECYCLE]));
}

static void
write_agent_times(StringInfo buf, Row row, CoderAgentStatus status)
{
	put_time_omit(buf, "first_connected_at", row, A_FIRST);
	put_time_omit(buf, "last_connected_at", row, A_LAST);
	/* An agent that fell silent was last there when it was last heard of. */
	if (status == AGENT_DISCONNECTED &&
		(row.null[A_DISCONNECTED] || (!row.null[A_LAST] && DatumGetTimestampTz(row.v[A_DISCONNECTED]) <
															   DatumGetTimestampTz(row.v[A_LAST]))))
		put_time_omit(buf, "disconnected_at", row, A_LAST);
	else
		put_time_omit(buf, "disconnected_at", row, A_DISCONNECTED);
	put_time_omit(buf, "started_at", row, A_STARTED);
	put_time_omit(buf, "ready_at", row, A_READY);
}

static void
write_script(StringInfo buf, Row row)
{
	json_open_at(buf, NULL, '{');
	put_uuid(buf, "id", row, S_ID);
	put_uuid(buf, "log_source_id", row, S_SOURCE);
	json_text(buf, "log_path", row.v[S_PATH]);
	json_text(buf, "script", row.v[S_SCRIPT]);
	json_text(buf, "cron", row.v[S_CRON]);
	put_bool(buf, "run_on_start", row, S_ON_START);
	put_bool(buf, "run_on_stop", row, S_ON_STOP);
	put_bool(buf, "start_blocks_login", row, S_BLOCKS);
	json_int(buf, "timeout", (int64) DatumGetInt32(row.v[S_TIMEOUT]) * INT64CONST(1000000000));
	json_text(buf, "display_name", row.v[S_DISPLAY]);
	json_close(buf, '}');
}

static void
write_log_source(StringInfo buf, Row row)
{
	json_open_at(buf, NULL, '{');
	put_uuid(buf, "workspace_agent_id", row, O_AGENT);
	put_uuid(buf, "id", row, O_ID);
	put_time(buf, "created_at", row, O_CREATED);
	json_text(buf, "display_name", row.v[O_DISPLAY]);
	json_text(buf, "icon", row.v[O_ICON]);
	json_close(buf, '}');
}

/* log_sources, scripts and what follows from them. */
static void
write_agent_scripts(StringInfo buf, const Tree *tree, Row agent)
{
	const Level *sources = &tree->level[L_SOURCE];
	const Level *scripts = &tree->level[L_SCRIPT];
	bool blocking = false;
	int count;
	int first = level_find(sources, DatumGetUUIDP(agent.v[A_ID]), &count);

	json_open_at(buf, "log_sources", '[');
	for (int i = 0; i < count; i++)
		write_log_source(buf, level_row(sources, first + i));
	json_close(buf, ']');
	first = level_find(scripts, DatumGetUUIDP(agent.v[A_ID]), &count);
	json_open_at(buf, "scripts", '[');
	for (int i = 0; i < count; i++)
	{
		Row row = level_row(scripts, first + i);

		write_script(buf, row);
		blocking |= DatumGetBool(row.v[S_ON_START]) && DatumGetBool(row.v[S_BLOCKS]);
	}
	json_close(buf, ']');
	json_str(buf, "startup_script_behavior", blocking ? "blocking" : "non-blocking");
}

static void
write_agent(StringInfo buf, const Tree *tree, Row row, Row build)
{
	const Level *apps = &tree->level[L_APP];
	CoderAgentStatus status = agent_connection(tree, row);
	const char *ill = agent_ill(tree, row);
	int count;
	int first = level_find(apps, DatumGetUUIDP(row.v[A_ID]), &count);

	json_open_at(buf, NULL, '{');
	put_uuid(buf, "id", row, A_ID);
	put_uuid(buf, "parent_id", row, A_PARENT);
	put_time(buf, "created_at", row, A_CREATED);
	put_time(buf, "updated_at", row, A_UPDATED);
	write_agent_times(buf, row, status);
	json_str(buf, "status", coder_agent_status_name(status));
	json_text(buf, "lifecycle_state", row.v[A_LIFECYCLE]);
	json_text(buf, "name", row.v[A_NAME]);
	put_uuid(buf, "resource_id", row, A_RESOURCE);
	put_text_omit(buf, "instance_id", row, A_INSTANCE);
	json_text(buf, "architecture", row.v[A_ARCH]);
	put_json(buf, "environment_variables", row, A_ENV);
	json_text(buf, "operating_system", row.v[A_OS]);
	put_int(buf, "logs_length", row, A_LOGS);
	put_bool(buf, "logs_overflowed", row, A_OVERFLOWED);
	put_text_omit(buf, "directory", row, A_DIRECTORY);
	put_text_omit(buf, "expanded_directory", row, A_EXPANDED);
	json_text(buf, "version", row.v[A_VERSION]);
	json_text(buf, "api_version", row.v[A_API_VERSION]);
	json_open_at(buf, "apps", '[');
	for (int i = 0; i < count; i++)
		write_app(buf, tree, level_row(apps, first + i), row, build);
	json_close(buf, ']');
	if (!row.null[A_LATENCY])
		put_json(buf, "latency", row, A_LATENCY);
	put_int(buf, "connection_timeout_seconds", row, A_TIMEOUT);
	if (text_is_empty(row.v[A_TROUBLE]))
		json_str(buf, "troubleshooting_url", DEFAULT_TROUBLESHOOTING_URL);
	else
		json_text(buf, "troubleshooting_url", row.v[A_TROUBLE]);
	put_json(buf, "subsystems", row, A_SUBSYSTEMS);
	json_open_at(buf, "health", '{');
	json_bool(buf, "healthy", ill == NULL);
	if (ill != NULL)
		json_str(buf, "reason", ill);
	json_close(buf, '}');
	put_json(buf, "display_apps", row, A_DISPLAY_APPS);
	write_agent_scripts(buf, tree, row);
	json_close(buf, '}');
}

/* ---- resources ---- */

/* Where a resource stands in its build's list. */
typedef struct ResourcePlace
{
	int index;
	int order; /* the smallest display order of its agents */
	int tie;   /* its place by name */
} ResourcePlace;

static int
compare_places(const void *a, const void *b)
{
	const ResourcePlace *x = a;
	const ResourcePlace *y = b;

	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return (x->tie > y->tie) - (x->tie < y->tie);
}

static void
write_resource(StringInfo buf, const Tree *tree, Row row, Row build)
{
	const Level *agents = &tree->level[L_AGENT];
	const Level *metadata = &tree->level[L_METADATA];
	int count;
	int first = level_find(agents, DatumGetUUIDP(row.v[R_ID]), &count);

	json_open_at(buf, NULL, '{');
	put_uuid(buf, "id", row, R_ID);
	put_time(buf, "created_at", row, R_CREATED);
	put_uuid(buf, "job_id", row, R_JOB);
	json_text(buf, "workspace_transition", row.v[R_TRANSITION]);
	json_text(buf, "type", row.v[R_TYPE]);
	json_text(buf, "name", row.v[R_NAME]);
	put_bool(buf, "hide", row, R_HIDE);
	json_text(buf, "icon", row.v[R_ICON]);
	if (count > 0)
	{
		json_open_at(buf, "agents", '[');
		for (int i = 0; i < count; i++)
			write_agent(buf, tree, level_row(agents, first + i), build);
		json_close(buf, ']');
	}
	first = level_find(metadata, DatumGetUUIDP(row.v[R_ID]), &count);
	if (count > 0)
	{
		json_open_at(buf, "metadata", '[');
		for (int i = 0; i < count; i++)
		{
			Row m = level_row(metadata, first + i);

			json_open_at(buf, NULL, '{');
			json_text(buf, "key", m.v[M_KEY]);
			json_text(buf, "value", m.v[M_VALUE]);
			put_bool(buf, "sensitive", m, M_SENSITIVE);
			json_close(buf, '}');
		}
		json_close(buf, ']');
	}
	put_int(buf, "daily_cost", row, R_COST);
	json_close(buf, '}');
}

static void
write_resources(StringInfo buf, const char *key, const Tree *tree, Datum job, Row build)
{
	const Level *resources = &tree->level[L_RESOURCE];
	int count;
	int first = level_find(resources, DatumGetUUIDP(job), &count);
	ResourcePlace *places = palloc(sizeof(ResourcePlace) * Max(1, count));

	for (int i = 0; i < count; i++)
	{
		int agents;
		int agent = level_find(&tree->level[L_AGENT], DatumGetUUIDP(level_row(resources, first + i).v[R_ID]), &agents);

		places[i].index = first + i;
		places[i].tie = i;
		places[i].order = agents > 0
							  ? DatumGetInt32(level_row(&tree->level[L_AGENT], agent).v[A_ORDER])
							  : PG_INT32_MAX;
	}
	qsort(places, count, sizeof(ResourcePlace), compare_places);
	json_open_at(buf, key, '[');
	for (int i = 0; i < count; i++)
		write_resource(buf, tree, level_row(resources, places[i].index), build);
	json_close(buf, ']');
	pfree(places);
}

/* Read all that hangs below a set of jobs: resources, agents, and what agents have. */
static void
read_below_jobs(Tree *tree, LevelKeys *jobs)
{
	read_level(tree, L_RESOURCE, jobs);
	read_named(tree, L_METADATA, L_RESOURCE, R_ID);
	read_named(tree, L_AGENT, L_RESOURCE, R_ID);
	read_named(tree, L_NODE, L_AGENT, A_ID);
	read_named(tree, L_APP, L_AGENT, A_ID);
	read_named(tree, L_SCRIPT, L_AGENT, A_ID);
	read_named(tree, L_SOURCE, L_AGENT, A_ID);
	read_named(tree, L_STATUS, L_APP, P_ID);
	for (int i = 0; i < tree->level[L_AGENT].n; i++)
	{
		Row agent = level_row(&tree->level[L_AGENT], i);
		Row node = find_row(tree, L_NODE, agent.v[A_ID]);

		if (node.v != NULL)
			copy_column(agent, A_LATENCY, node, N_LATENCY);
	}
}

/* ---- builds ---- */

static void
write_job_metadata(StringInfo buf)
{
	static const pg_uuid_t nil = {{0}};

	json_open_at(buf, "metadata", '{');
	json_str(buf, "template_version_name", "");
	json_uuid(buf, "template_id", &nil);
	json_str(buf, "template_name", "");
	json_str(buf, "template_display_name", "");
	json_str(buf, "template_icon", "");
	json_close(buf, '}');
}

/*
 * coder.build_queue answers "position size " and then matched_provisioners as
 * JSON.  Returns where the JSON begins, or NULL.
 */
static const char *
queue_parse(Row row, int *position, int *size)
{
	char *answer;
	char *end;

	*position = *size = 0;
	if (row.null[J_QUEUE])
		return NULL;
	answer = TextDatumGetCString(row.v[J_QUEUE]);
	*position = (int) strtol(answer, &end, 10);
	*size = (int) strtol(end, &end, 10);
	while (*end == ' ')
		end++;
	return end;
}

static void
write_job(StringInfo buf, const Tree *tree, Row row, int position, int size)
{
	json_open_at(buf, "job", '{');
	put_uuid(buf, "id", row, J_ID);
	put_time(buf, "created_at", row, J_CREATED);
	put_time_omit(buf, "started_at", row, J_STARTED);
	put_time_omit(buf, "completed_at", row, J_COMPLETED);
	put_time_omit(buf, "canceled_at", row, J_CANCELED);
	put_text_omit(buf, "error", row, J_ERROR);
	put_text_omit(buf, "error_code", row, J_ERROR_CODE);
	json_text(buf, "status", row.v[J_STATUS]);
	if (!row.null[J_WORKER])
		put_uuid(buf, "worker_id", row, J_WORKER);
	put_uuid(buf, "file_id", row, J_FILE);
	put_json(buf, "tags", row, J_TAGS);
	json_int(buf, "queue_position", tree->fresh ? 0 : position);
	json_int(buf, "queue_size", tree->fresh ? 0 : size);
	put_uuid(buf, "organization_id", row, J_ORG);
	put_uuid(buf, "initiator_id", row, J_INITIATOR);
	json_open_at(buf, "input", '{');
	put_uuid(buf, "workspace_build_id", row, B_ID);
	json_close(buf, '}');
	json_str(buf, "type", "workspace_build");
	write_job_metadata(buf);
	put_bool(buf, "logs_overflowed", row, J_OVERFLOWED);
	json_close(buf, '}');
}

static const char *
build_status(Row row)
{
	Datum job = row.v[J_STATUS];
	Datum transition = row.v[B_TRANSITION];

	return coder_workspace_status_name(
		coder_job_status_parse(VARDATA_ANY(DatumGetPointer(job)), VARSIZE_ANY_EXHDR(DatumGetPointer(job))),
		coder_transition_parse(VARDATA_ANY(DatumGetPointer(transition)),
							   VARSIZE_ANY_EXHDR(DatumGetPointer(transition))));
}

static void
write_build(StringInfo buf, const char *key, const Tree *tree, Row row)
{
	int position;
	int size;
	const char *matched = queue_parse(row, &position, &size);

	json_open_at(buf, key, '{');
	put_uuid(buf, "id", row, B_ID);
	put_time(buf, "created_at", row, B_CREATED);
	put_time(buf, "updated_at", row, B_UPDATED);
	put_uuid(buf, "workspace_id", row, B_WORKSPACE);
	json_text(buf, "workspace_name", row.v[B_WORKSPACE_NAME]);
	put_uuid(buf, "workspace_owner_id", row, B_OWNER);
	json_text(buf, "workspace_owner_name", row.v[B_OWNER_NAME]);
	put_text_omit(buf, "workspace_owner_avatar_url", row, B_OWNER_AVATAR);
	put_uuid(buf, "template_version_id", row, B_VERSION);
	if (tree->fresh)
		json_str(buf, "template_version_name", "");
	else
		json_text(buf, "template_version_name", row.v[B_VERSION_NAME]);
	put_int(buf, "build_number", row, B_NUMBER);
	json_text(buf, "transition", row.v[B_TRANSITION]);
	put_uuid(buf, "initiator_id", row, B_INITIATOR);
	if (row.null[B_INITIATOR_NAME])
		json_str(buf, "initiator_name", "");
	else
		json_text(buf, "initiator_name", row.v[B_INITIATOR_NAME]);
	write_job(buf, tree, row, position, size);
	json_text(buf, "reason", row.v[B_REASON]);
	write_resources(buf, "resources", tree, row.v[J_ID], row);
	put_time(buf, "deadline", row, B_DEADLINE);
	put_time(buf, "max_deadline", row, B_MAX_DEADLINE);
	json_str(buf, "status", build_status(row));
	put_int(buf, "daily_cost", row, B_COST);
	if (matched != NULL)
		json_raw(buf, "matched_provisioners", matched, (int) strlen(matched));
	else
	{
		json_open_at(buf, "matched_provisioners", '{');
		json_int(buf, "count", 0);
		json_int(buf, "available", 0);
		json_null(buf, "most_recently_seen");
		json_close(buf, '}');
	}
	put_uuid(buf, "template_version_preset_id", row, B_PRESET);
	if (!row.null[B_AI_TASK])
		put_bool(buf, "has_ai_task", row, B_AI_TASK);
	if (!row.null[B_EXTERNAL_AGENT])
		put_bool(buf, "has_external_agent", row, B_EXTERNAL_AGENT);
	json_close(buf, '}');
}

/* Read builds and what they name; their workspaces are in the given level. */
static void
read_builds(Tree *tree, LevelKeys *ids, LevelId workspaces)
{
	Level *builds = &tree->level[L_BUILD];
	LevelKeys users = {0};
	LevelKeys jobs = {0};

	read_level(tree, L_BUILD, ids);
	if (workspaces == L_PARENT)
		read_named(tree, L_PARENT, L_BUILD, B_WORKSPACE);
	read_named(tree, L_JOB, L_BUILD, J_ID);
	read_named(tree, L_VERSION, L_BUILD, B_VERSION);
	level_keys_add_column(&users, &tree->level[workspaces], W_OWNER);
	level_keys_add_column(&users, builds, B_INITIATOR);
	read_level(tree, L_USER, &users);
	for (int i = 0; i < builds->n; i++)
	{
		Row build = level_row(builds, i);

		join_build(tree, build, need_row(tree, workspaces, build.v[B_WORKSPACE]));
	}
	level_keys_add_column(&jobs, builds, J_ID);
	read_below_jobs(tree, &jobs);
}

/* ---- workspaces ---- */

/* Top-level agents of a build that are not well. */
static void
write_health(StringInfo buf, const Tree *tree, Datum job)
{
	const Level *resources = &tree->level[L_RESOURCE];
	const Level *agents = &tree->level[L_AGENT];
	StringInfoData failing;
	int nresources;
	int resource = job == 0 ? (nresources = 0) : level_find(resources, DatumGetUUIDP(job), &nresources);

	initStringInfo(&failing);
	json_open(&failing, '[');
	for (int i = 0; i < nresources; i++)
	{
		int nagents;
		int agent = level_find(agents, DatumGetUUIDP(level_row(resources, resource + i).v[R_ID]), &nagents);

		for (int k = 0; k < nagents; k++)
		{
			Row row = level_row(agents, agent + k);

			if (row.null[A_PARENT] && agent_ill(tree, row) != NULL)
				json_uuid(&failing, NULL, DatumGetUUIDP(row.v[A_ID]));
		}
	}
	json_close(&failing, ']');
	json_open_at(buf, "health", '{');
	json_bool(buf, "healthy", failing.len == 2);
	json_raw(buf, "failing_agents", failing.data, failing.len);
	json_close(buf, '}');
	pfree(failing.data);
}

/* ttl_ms: the user's, or the template's where users may not choose. */
static void
put_ttl(StringInfo buf, Row row)
{
	if (!DatumGetBool(row.v[W_USER_AUTOSTOP]))
		json_int(buf, "ttl_ms", DatumGetInt64(row.v[W_DEFAULT_TTL]) / 1000000);
	else if (!row.null[W_TTL])
		json_int(buf, "ttl_ms", DatumGetInt64(row.v[W_TTL]) / 1000000);
}

static void
write_latest_status(StringInfo buf, const Tree *tree, Row row)
{
	int count;
	int first = level_find(&tree->level[L_LATEST_STATUS], DatumGetUUIDP(row.v[W_ID]), &count);

	if (count == 0)
		json_null(buf, "latest_app_status");
	else
		write_app_status(buf, "latest_app_status", level_row(&tree->level[L_LATEST_STATUS], first));
}

static void
write_workspace_template(StringInfo buf, Row row)
{
	put_uuid(buf, "template_id", row, W_TEMPLATE);
	json_text(buf, "template_name", row.v[W_TEMPLATE_NAME]);
	json_text(buf, "template_display_name", row.v[W_TEMPLATE_DISPLAY]);
	json_text(buf, "template_icon", row.v[W_TEMPLATE_ICON]);
	put_bool(buf, "template_allow_user_cancel_workspace_jobs", row, W_CANCEL);
	put_uuid(buf, "template_active_version_id", row, W_ACTIVE_VERSION);
	put_bool(buf, "template_require_active_version", row, W_REQUIRE_ACTIVE);
	put_bool(buf, "template_use_classic_parameter_flow", row, W_CLASSIC);
}

/* The row of a workspace's latest build; v is NULL if there is none. */
static Row
latest_build(const Tree *tree, Row workspace)
{
	Row none = {NULL, NULL};
	int count = 0;
	int first = 0;

	if (!workspace.null[W_BUILD])
		first = level_find(&tree->level[L_BUILD], DatumGetUUIDP(workspace.v[W_BUILD]), &count);
	return count == 0 ? none : level_row(&tree->level[L_BUILD], first);
}

/*
 * A workspace as everyone but its owner sees it.  Returns where the value of
 * "favorite" begins.
 */
static int
write_workspace(StringInfo buf, const Tree *tree, Row row)
{
	Row build = latest_build(tree, row);
	int favorite;
	bool outdated = build.v != NULL && memcmp(DatumGetUUIDP(build.v[B_VERSION]),
											  DatumGetUUIDP(row.v[W_ACTIVE_VERSION]), UUID_LEN) != 0;

	json_open_at(buf, NULL, '{');
	put_uuid(buf, "id", row, W_ID);
	put_time(buf, "created_at", row, W_CREATED);
	put_time(buf, "updated_at", row, W_UPDATED);
	put_uuid(buf, "owner_id", row, W_OWNER);
	json_text(buf, "owner_name", row.v[W_OWNER_NAME]);
	json_text(buf, "owner_avatar_url", row.v[W_OWNER_AVATAR]);
	put_uuid(buf, "organization_id", row, W_ORG);
	json_text(buf, "organization_name", row.v[W_ORG_NAME]);
	write_workspace_template(buf, row);
	if (build.v != NULL)
		write_build(buf, "latest_build", tree, build);
	else
		json_null(buf, "latest_build");
	write_latest_status(buf, tree, row);
	json_bool(buf, "outdated", outdated);
	json_text(buf, "name", row.v[W_NAME]);
	put_text_omit(buf, "autostart_schedule", row, W_SCHEDULE);
	put_ttl(buf, row);
	json_time(buf, "last_used_at", DatumGetTimestampTz(row.v[W_LAST_USED]));
	put_time(buf, "deleting_at", row, W_DELETING);
	put_time(buf, "dormant_at", row, W_DORMANT);
	write_health(buf, tree, build.v == NULL ? 0 : build.v[J_ID]);
	json_text(buf, "automatic_updates", row.v[W_UPDATES]);
	json_bool(buf, "allow_renames", false);
	json_bool(buf, "favorite", false);
	favorite = buf->len - (int) strlen("false");
	put_time(buf, "next_start_at", row, W_NEXT_START);
	json_bool(buf, "is_prebuild", false);
	json_null(buf, "task_id");
	if (!row.null[W_SHARED])
		put_json(buf, "shared_with", row, W_SHARED);
	json_close(buf, '}');
	return favorite;
}

/* ---- functions ---- */

/*
 * A list is some hundred kilobytes, made again for each request.  Let the
 * backend keep that memory: giving it back to the kernel and faulting it in
 * again took a tenth of the time.
 */
static void
keep_memory(void)
{
	static bool done = false;

	if (done)
		return;
	done = true;
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
	mallopt(M_TOP_PAD, 512 * 1024);
#endif
}

/* A buffer that becomes a text datum without another copy. */
static void
text_begin(StringInfo buf)
{
	keep_memory();
	initStringInfo(buf);
	appendBinaryStringInfo(buf, "\0\0\0", VARHDRSZ);
}

static Datum
text_end(StringInfo buf)
{
	SET_VARSIZE(buf->data, buf->len);
	return PointerGetDatum(buf->data);
}

static void
tree_begin(Tree *tree, bool fresh)
{
	memset(tree, 0, sizeof(*tree));
	tree->now = GetCurrentTimestamp();
	tree->fresh = fresh;
	level_begin();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* The elements of a uuid[]; NULLs are left out. */
static const pg_uuid_t **
array_ids(ArrayType *array, int *count)
{
	const pg_uuid_t **ids;
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &values, &nulls, &n);
	ids = palloc(sizeof(*ids) * Max(1, n));
	*count = 0;
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			ids[(*count)++] = DatumGetUUIDP(values[i]);
	return ids;
}

static LevelKeys
keys_of(const pg_uuid_t **ids, int n)
{
	LevelKeys keys = {0};

	for (int i = 0; i < n; i++)
		level_keys_add(&keys, ids[i]);
	return keys;
}

/* Read workspaces and what they show. */
static void
read_workspaces(Tree *tree, const pg_uuid_t **ids, int n)
{
	LevelKeys keys = keys_of(ids, n);
	LevelKeys builds = {0};
	Level *workspaces = &tree->level[L_WORKSPACE];

	read_level(tree, L_WORKSPACE, &keys);
	read_named(tree, L_ORG, L_WORKSPACE, W_ORG);
	read_named(tree, L_TEMPLATE, L_WORKSPACE, W_TEMPLATE);
	level_keys_add_column(&builds, workspaces, W_BUILD);
	read_builds(tree, &builds, L_WORKSPACE);
	read_named(tree, L_LATEST_STATUS, L_WORKSPACE, W_ID);
	for (int i = 0; i < workspaces->n; i++)
		join_workspace(tree, level_row(workspaces, i));
}

/* ---- what is kept of workspaces ---- */

/* Before the JSON of a workspace that is kept, or about to be. */
typedef struct WorkspaceHead
{
	pg_uuid_t owner;
	int favorite; /* where "false" stands in the JSON that is "true" for the owner; 0 if it is for nobody */
} WorkspaceHead;

/* What a workspace's JSON was made of. */
typedef struct Sources
{
	uint32 *slots;
	int n;
	int room;
	TimestampTz until; /* the clock changes nothing before */
} Sources;

static void
add_slot(Sources *sources, uint32 slot)
{
	if (sources->n == sources->room)
	{
		sources->room = Max(32, sources->room * 2);
		sources->slots = sources->slots == NULL
							 ? palloc(sizeof(uint32) * sources->room)
							 : repalloc(sources->slots, sizeof(uint32) * sources->room);
	}
	sources->slots[sources->n++] = slot;
}

static void
add_source(Sources *sources, const pg_uuid_t *id)
{
	add_slot(sources, change_slot(id));
}

static void
add_column(Sources *sources, Row row, int column)
{
	if (!row.null[column])
		add_source(sources, DatumGetUUIDP(row.v[column]));
}

/* The users or groups that an access list names. */
static void
add_acl(Sources *sources, Datum acl)
{
	JsonbIterator *it = JsonbIteratorInit(&DatumGetJsonbP(acl)->root);
	JsonbIteratorToken token;
	JsonbValue value;

	/* Values are skipped, so every key is one of the list's own. */
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char *key = pnstrdup(value.val.string.val, value.val.string.len);

			add_source(sources, DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(key))));
		}
}

static void
add_agents(Sources *sources, const Tree *tree, Datum resource)
{
	int nagents;
	int agent = level_find(&tree->level[L_AGENT], DatumGetUUIDP(resource), &nagents);

	for (int i = 0; i < nagents; i++)
	{
		Row row = level_row(&tree->level[L_AGENT], agent + i);
		CoderAgentTimes times = agent_times(row);
		TimestampTz until = coder_agent_connection_until(&times, tree->now, CODER_AGENT_INACTIVE_SECONDS);
		int napps;
		int app = level_find(&tree->level[L_APP], DatumGetUUIDP(row.v[A_ID]), &napps);

		add_column(sources, row, A_ID);
		sources->until = Min(sources->until, until);
		for (int k = 0; k < napps; k++)
			add_column(sources, level_row(&tree->level[L_APP], app + k), P_ID);
	}
}

static void
add_build(Sources *sources, const Tree *tree, Row build)
{
	int nresources;
	int resource = level_find(&tree->level[L_RESOURCE], DatumGetUUIDP(build.v[J_ID]), &nresources);

	add_column(sources, build, B_VERSION);
	add_column(sources, build, B_INITIATOR);
	add_column(sources, build, J_ID);
	for (int i = 0; i < nresources; i++)
	{
		Row row = level_row(&tree->level[L_RESOURCE], resource + i);

		add_column(sources, row, R_ID);
		add_agents(sources, tree, row.v[R_ID]);
	}
}

/*
 * The ids by which rows were read for a workspace: every level_read of
 * read_workspaces, and the statement of shared_plan.  False if it is made of more
 * than that, as the place in the queue is.
 */
static bool
find_sources(Sources *sources, const Tree *tree, Row row)
{
	Row build = latest_build(tree, row);

	memset(sources, 0, sizeof(*sources));
	sources->until = DT_NOEND;
	if (build.v != NULL && is_pending(build))
		return false;
	add_slot(sources, CHANGE_ALL);
	add_column(sources, row, W_ID);
	add_column(sources, row, W_OWNER);
	add_column(sources, row, W_ORG);
	add_column(sources, row, W_TEMPLATE);
	add_column(sources, row, W_BUILD);
	add_acl(sources, row.v[W_USER_ACL]);
	add_acl(sources, row.v[W_GROUP_ACL]);
	if (build.v != NULL)
		add_build(sources, tree, build);
	return true;
}

/*
 * May answers be kept and found now?  What was kept under other catalogs is
 * forgotten here.
 */
static bool
keep_usable(void)
{
	static bool watched = false;
	uint64 catalogs;

	level_begin();
	if (!change_usable())
		return false;
	catalogs = level_catalogs();
	if (kept_catalogs != catalogs)
	{
		keep_forget_all();
		watched = level_watched(tables, L_COUNT);
		kept_catalogs = catalogs;
	}
	return watched;
}

static KeepKey
workspace_key(const pg_uuid_t *id)
{
	KeepKey key = {.id = *id, .kind = KEEP_WORKSPACE};

	StaticAssertStmt(sizeof(key) == UUID_LEN + sizeof(uint64) + 4 * sizeof(int32), "a key has no gaps");
	return key;
}

/* An element of the array: a head and its JSON, as viewer sees it. */
static void
put_workspace(StringInfo buf, const char *bytes, int len, const pg_uuid_t *viewer)
{
	WorkspaceHead head;
	const char *json = bytes + sizeof(head);

	memcpy(&head, bytes, sizeof(head));
	len -= sizeof(head);
	if (head.favorite == 0 || viewer == NULL || memcmp(viewer, &head.owner, UUID_LEN) != 0)
	{
		json_raw(buf, NULL, json, len);
		return;
	}
	json_raw(buf, NULL, json, head.favorite);
	appendBinaryStringInfo(buf, "true", 4);
	appendBinaryStringInfo(buf, json + head.favorite + 5, len - head.favorite - 5);
}

/* A workspace's head and JSON. */
static StringInfoData
render_workspace(const Tree *tree, Row row)
{
	WorkspaceHead head = {.owner = *DatumGetUUIDP(row.v[W_OWNER])};
	StringInfoData buf;
	int favorite;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, 8 * 1024);
	appendBinaryStringInfo(&buf, (char *) &head, sizeof(head));
	/* The writer looks at the byte before for whether a comma is due. */
	buf.data[buf.len - 1] = '\0';
	favorite = write_workspace(&buf, tree, row);
	if (DatumGetBool(row.v[W_FAVORITE]))
		head.favorite = favorite - (int) sizeof(head);
	memcpy(buf.data, &head, sizeof(head));
	return buf;
}

static void
keep_workspace(const Tree *tree, Row row, const StringInfoData *rendered)
{
	Sources sources;
	Kept kept = {.key = workspace_key(DatumGetUUIDP(row.v[W_ID])), .horizon = change_horizon(), .from = tree->now};

	if (kept_catalogs != level_catalogs() || !find_sources(&sources, tree, row))
		return;
	kept.until = sources.until;
	kept.slots = sources.slots;
	kept.nslots = sources.n;
	kept.bytes = rendered->data;
	kept.len = rendered->len;
	keep_store(&kept);
}

/* Workspaces of one answer: what is kept of them, and the others made anew. */
typedef struct Listed
{
	int n;
	const pg_uuid_t **ids;
	const Kept **kept; /* NULL: missing */
	int nmissing;
	const pg_uuid_t **missing;
	StringInfoData *rendered; /* of the missing ones; no data: there is no such workspace */
} Listed;

static void
find_kept(Listed *list, bool keep)
{
	TimestampTz now = GetCurrentTimestamp();

	list->kept = palloc0(sizeof(*list->kept) * Max(1, list->n));
	list->missing = palloc(sizeof(*list->missing) * Max(1, list->n));
	for (int i = 0; i < list->n; i++)
	{
		KeepKey key = workspace_key(list->ids[i]);

		if (keep)
			list->kept[i] = keep_find(&key, now);
		if (list->kept[i] == NULL)
			list->missing[list->nmissing++] = list->ids[i];
	}
}

/* Writes the array; rendered texts are used up in the order of the missing ids. */
static void
put_workspaces(StringInfo buf, const char *key, const Listed *list, const pg_uuid_t *viewer)
{
	int next = 0;

	json_open_at(buf, key, '[');
	for (int i = 0; i < list->n; i++)
		if (list->kept[i] != NULL)
			put_workspace(buf, list->kept[i]->bytes, list->kept[i]->len, viewer);
		else
		{
			const StringInfoData *rendered = &list->rendered[next++];

			if (rendered->data != NULL)
				put_workspace(buf, rendered->data, rendered->len, viewer);
		}
	json_close(buf, ']');
}

static void
render_missing(Listed *list, Tree *tree)
{
	read_workspaces(tree, list->missing, list->nmissing);
	list->rendered = palloc0(sizeof(*list->rendered) * list->nmissing);
	for (int i = 0; i < list->nmissing; i++)
	{
		Row row = find_row(tree, L_WORKSPACE, UUIDPGetDatum(list->missing[i]));

		if (row.v != NULL)
			list->rendered[i] = render_workspace(tree, row);
	}
}

static void
keep_missing(const Listed *list, const Tree *tree)
{
	for (int i = 0; i < list->nmissing; i++)
		if (list->rendered[i].data != NULL)
			keep_workspace(tree, find_row(tree, L_WORKSPACE, UUIDPGetDatum(list->missing[i])), &list->rendered[i]);
}

/* An array of Workspace in the order of the ids. */
static void
write_workspaces(StringInfo buf, const char *key, ArrayType *array, const pg_uuid_t *viewer, bool fresh)
{
	bool keep = !fresh && keep_usable();
	Listed list = {0};
	Tree tree;

	list.ids = array_ids(array, &list.n);
	find_kept(&list, keep);
	if (list.nmissing == 0)
	{
		put_workspaces(buf, key, &list, viewer);
		return;
	}
	tree_begin(&tree, fresh);
	render_missing(&list, &tree);
	put_workspaces(buf, key, &list, viewer);
	if (keep)
		keep_missing(&list, &tree); /* only now, as what was found may go */
	SPI_finish();
}

/* coder.workspaces_json(ids uuid[], viewer uuid, fresh boolean) returns text */
Datum
coder_workspaces_json(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *viewer = PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1);
	StringInfoData buf;

	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text("[]"));
	text_begin(&buf);
	write_workspaces(&buf, NULL, PG_GETARG_ARRAYTYPE_P(0), viewer, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
	return text_end(&buf);
}

/* coder.builds_json(ids uuid[], fresh boolean) returns text */
Datum
coder_builds_json(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	Tree tree;
	const pg_uuid_t **ids;
	LevelKeys keys;
	int n;

	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text("[]"));
	text_begin(&buf);
	tree_begin(&tree, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	ids = array_ids(PG_GETARG_ARRAYTYPE_P(0), &n);
	keys = keys_of(ids, n);
	read_builds(&tree, &keys, L_PARENT);
	json_open(&buf, '[');
	for (int i = 0; i < n; i++)
	{
		Row row = find_row(&tree, L_BUILD, UUIDPGetDatum(ids[i]));

		if (row.v != NULL)
			write_build(&buf, NULL, &tree, row);
	}
	json_close(&buf, ']');
	SPI_finish();
	return text_end(&buf);
}

static const Oid of_job_args[] = {UUIDOID};
static CoderPlan of_job_plan = {
	"SELECT b.id FROM coder.workspace_builds b WHERE b.job_id OPERATOR(pg_catalog.=) $1", 1, of_job_args, NULL};

/*
 * Read a job's resources and the build of the job, for the names that apps need;
 * v is NULL for other jobs.
 */
static Row
read_job(Tree *tree, Datum job)
{
	Row none = {NULL, NULL};
	LevelKeys keys = {0};
	bool isnull;
	Datum build;

	coder_execute(&of_job_plan, &job, NULL, true, 1);
	if (SPI_processed == 0)
	{
		level_keys_add(&keys, DatumGetUUIDP(job));
		read_below_jobs(tree, &keys);
		return none;
	}
	build = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	level_keys_add(&keys, DatumGetUUIDP(build));
	read_builds(tree, &keys, L_PARENT);
	return find_row(tree, L_BUILD, build);
}

/* coder.resources_json(job uuid) returns text */
Datum
coder_resources_json(PG_FUNCTION_ARGS)
{
	Datum job = PG_GETARG_DATUM(0);
	StringInfoData buf;
	Tree tree;
	Row build;

	text_begin(&buf);
	tree_begin(&tree, false);
	build = read_job(&tree, job);
	write_resources(&buf, NULL, &tree, job, build);
	SPI_finish();
	return text_end(&buf);
}

/* coder.agents_json(job uuid, agent uuid) returns text: one agent of a job, or NULL */
Datum
coder_agents_json(PG_FUNCTION_ARGS)
{
	Datum job = PG_GETARG_DATUM(0);
	const pg_uuid_t *agent = PG_GETARG_UUID_P(1);
	StringInfoData buf;
	bool found = false;
	Tree tree;
	Row build;

	text_begin(&buf);
	tree_begin(&tree, false);
	build = read_job(&tree, job);
	for (int i = 0; i < tree.level[L_AGENT].n && !found; i++)
	{
		Row row = level_row(&tree.level[L_AGENT], i);

		if (memcmp(DatumGetUUIDP(row.v[A_ID]), agent, UUID_LEN) != 0)
			continue;
		write_agent(&buf, &tree, row, build);
		found = true;
	}
	SPI_finish();
	if (!found)
		PG_RETURN_NULL();
	return text_end(&buf);
}

/* ---- GET /api/v2/workspaces ---- */

static const Oid page_args[] = {UUIDOID, INT4OID, INT4OID, TEXTOID};

static CoderPlan page_all_plan = {
	"SELECT coder.workspace_page_all($1, $2, $3),"
	"       (SELECT coalesce(pg_catalog.sum(t.live), 0) FROM coder.workspace_totals t)",
	3,
	page_args,
	NULL};

static CoderPlan page_where_plan = {
	"SELECT p.ids, p.total FROM coder.workspace_page_where($1, $2, $3, coder.workspace_search($4)) p",
	4,
	page_args,
	NULL};

/* A number of a query: digits only, small enough; false for what the SQL function is to judge. */
static bool
parse_small(const char *value, int *number)
{
	size_t len = value == NULL ? 0 : strlen(value);

	*number = value == NULL ? 0 : atoi(value);
	return value == NULL || (len > 0 && len < 10 && strspn(value, "0123456789") == len);
}

/* Without the blanks around it. */
static char *
trim_blanks(char *value)
{
	char *end = value + strlen(value);

	while (*value == ' ')
		value++;
	while (end > value && end[-1] == ' ')
		end--;
	*end = '\0';
	return value;
}

/*
 * The current subject may read every workspace?  An id that no workspace has: a
 * token's allow list must let pass any id, not only objects without one.
 */
static bool
reads_all(void)
{
	static const pg_uuid_t nil = {{0}};
	RbacObject all = {.type = rbac_type("workspace", 9), .id = &nil};
	RbacObject dormant = {.type = rbac_type("workspace_dormant", 17), .id = &nil};
	const RbacSubject *subject = &coder_current_subject->rbac;
	int action = rbac_action("read", 4);
	const char *why;

	return rbac_decide(subject, action, &all, &why) && rbac_decide(subject, action, &dormant, &why);
}

/* A page: the ids as an array, NULL for none, and how many workspaces there are. */
typedef struct ListPage
{
	ArrayType *ids;
	int64 total;
} ListPage;

static ListPage
read_page(CoderPlan *plan, const char *search, int limit, int offset)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum args[4] = {UUIDPGetDatum(&coder_current_subject->rbac.id), Int32GetDatum(limit),
					 Int32GetDatum(offset), CStringGetTextDatum(search)};
	ListPage page = {0};
	bool isnull;
	Datum ids;

	SPI_connect();
	coder_execute(plan, args, limit == 0 ? " n  " : NULL, true, 1);
	page.total = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContextSwitchTo(caller);
		page.ids = DatumGetArrayTypePCopy(ids);
	}
	SPI_finish();
	return page;
}

/* What a kept page consists of: the count, and then the array, if there is one. */
static ListPage
page_of_bytes(const char *bytes, int len)
{
	ListPage page = {0};
	int size = len - (int) sizeof(page.total);

	memcpy(&page.total, bytes, sizeof(page.total));
	if (size > 0)
	{
		page.ids = palloc(size);
		memcpy(page.ids, bytes + sizeof(page.total), size);
	}
	return page;
}

static void
keep_page(const KeepKey *key, const ListPage *page)
{
	uint32 slots[] = {change_list_slot(), CHANGE_ALL};
	StringInfoData bytes;
	Kept kept = {.key = *key, .horizon = change_horizon(), .from = DT_NOBEGIN, .until = DT_NOEND,
				 .slots = slots, .nslots = lengthof(slots)};

	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, (char *) &page->total, sizeof(page->total));
	if (page->ids != NULL)
		appendBinaryStringInfo(&bytes, (char *) page->ids, VARSIZE(page->ids));
	kept.bytes = bytes.data;
	kept.len = bytes.len;
	keep_store(&kept);
}

/* Under what a page is kept; false where it depends on more than the list's slot and the subject. */
static bool
page_key(const char *search, int limit, int offset, bool all, KeepKey *key)
{
	const CoderSubject *subject = coder_current_subject;

	memset(key, 0, sizeof(*key));
	key->id = subject->rbac.id;
	key->limit = limit;
	key->offset = offset;
	key->subject = all ? 0 : subject->serial;
	if (search[0] == '\0')
		key->kind = all ? KEEP_PAGE_ALL : KEEP_PAGE_READ;
	else
		key->kind = KEEP_PAGE_OWN;
	return (search[0] == '\0' || strcmp(search, "owner:me") == 0) && (all || key->subject != 0);
}

/* A page, kept for as long as nothing changes its order, the count or the subject's rights. */
static ListPage
find_page(const char *search, int limit, int offset)
{
	bool all = search[0] == '\0' && reads_all();
	KeepKey key;
	bool keep = page_key(search, limit, offset, all, &key) && keep_usable();
	const Kept *found = keep ? keep_find(&key, 0) : NULL;
	ListPage page;

	if (found != NULL)
		return page_of_bytes(found->bytes, found->len);
	page = read_page(all ? &page_all_plan : &page_where_plan, search, limit, offset);
	if (keep && kept_catalogs == level_catalogs())
		keep_page(&key, &page);
	return page;
}

/* coder.workspace_list in C; requests with unusual parameters are left to it. */
int
coder_workspace_list_fast(const CoderRequest *request, StringInfo body)
{
	static const char *const names[] = {"limit", "offset", "q"};
	static int usual = 64 * 1024; /* size of the last answers */
	char *values[lengthof(names)];
	ListPage page;
	int limit;
	int offset;

	if (coder_current_subject == NULL ||
		coder_request_query(request, names, values, lengthof(names)) > 0 ||
		!parse_small(values[0], &limit) || !parse_small(values[1], &offset))
		return 0;
	keep_memory();
	enlargeStringInfo(body, usual);
	page = find_page(values[2] == NULL ? "" : trim_blanks(values[2]), limit, offset);
	json_open(body, '{');
	if (page.ids == NULL)
		json_raw(body, "workspaces", "[]", 2);
	else
		write_workspaces(body, "workspaces", page.ids, &coder_current_subject->rbac.id, false);
	json_int(body, "count", page.total);
	json_close(body, '}');
	usual = Min(Max(body->len + 1024, usual - usual / 16), 4 * 1024 * 1024);
	return 200;
}
