/*
 * workspacetree.c -- the rows that the JSON of workspaces and builds is made of.
 *
 * Read one level at a time (level.c): the workspaces, their latest builds, the
 * resources of those builds, and so on; users, templates and versions once each
 * however many rows name them.  The levels are joined here by binary search.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "build.h"
#include "coder.h"
#include "compat.h"
#include "workspace.h"

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

static const Oid shared_args[] = {JSONBOID, JSONBOID};
static CoderPlan shared_plan = {"SELECT coder.workspace_shared_with($1, $2)", 2, shared_args, NULL};
static const Oid queue_args[] = {UUIDOID};
static CoderPlan queue_plan = {"SELECT coder.build_queue($1)", 1, queue_args, NULL};

/* ---- levels ---- */

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
Row
tree_row(const Tree *tree, LevelId id, Datum key)
{
	Row none = {NULL, NULL};
	int count;
	int first = level_find(&tree->level[id], DatumGetUUIDP(key), &count);

	return count == 0 ? none : level_row(&tree->level[id], first);
}

/* The same where a foreign key says that there is one. */
Row
tree_need_row(const Tree *tree, LevelId id, Datum key)
{
	Row row = tree_row(tree, id, key);

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
	Row owner = tree_need_row(tree, L_USER, row.v[W_OWNER]);
	Row organization = tree_need_row(tree, L_ORG, row.v[W_ORG]);
	Row template = tree_need_row(tree, L_TEMPLATE, row.v[W_TEMPLATE]);

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
bool
tree_build_pending(Row build)
{
	Datum status = build.v[J_STATUS];

	return coder_job_status_parse(VARDATA_ANY(DatumGetPointer(status)),
								  VARSIZE_ANY_EXHDR(DatumGetPointer(status))) == JOB_PENDING;
}

static void
join_build(const Tree *tree, Row row, Row workspace)
{
	Row owner = tree_need_row(tree, L_USER, workspace.v[W_OWNER]);
	Row initiator = tree_row(tree, L_USER, row.v[B_INITIATOR]);
	Row version = tree_need_row(tree, L_VERSION, row.v[B_VERSION]);
	Row job = tree_need_row(tree, L_JOB, row.v[J_ID]);

	copy_column(row, B_WORKSPACE_NAME, workspace, W_NAME);
	copy_column(row, B_OWNER, workspace, W_OWNER);
	copy_column(row, B_OWNER_NAME, owner, U_NAME);
	copy_column(row, B_OWNER_AVATAR, owner, U_AVATAR);
	copy_column(row, B_VERSION_NAME, version, V_NAME);
	if (initiator.v != NULL)
		copy_column(row, B_INITIATOR_NAME, initiator, U_NAME);
	for (int c = J_CREATED; c < J_QUEUE; c++)
		copy_column(row, c, job, JOB(c));
	if (tree_build_pending(row))
		row.v[J_QUEUE] = ask_text(&queue_plan, &row.v[J_ID], &row.null[J_QUEUE]);
}

/* ---- agents ---- */

CoderAgentTimes
tree_agent_times(Row row)
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

/* ---- reading ---- */

void
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
const pg_uuid_t **
tree_array_ids(ArrayType *array, int *count)
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

LevelKeys
tree_keys(const pg_uuid_t **ids, int n)
{
	LevelKeys keys = {0};

	for (int i = 0; i < n; i++)
		level_keys_add(&keys, ids[i]);
	return keys;
}

/* Read all that hangs below a set of jobs: resources, agents, and what agents have. */
void
tree_read_jobs(Tree *tree, LevelKeys *jobs)
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
		Row node = tree_row(tree, L_NODE, agent.v[A_ID]);

		if (node.v != NULL)
			copy_column(agent, A_LATENCY, node, N_LATENCY);
	}
}

/* Read builds and what they name; their workspaces are in the given level. */
void
tree_read_builds(Tree *tree, LevelKeys *ids, LevelId workspaces)
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

		join_build(tree, build, tree_need_row(tree, workspaces, build.v[B_WORKSPACE]));
	}
	level_keys_add_column(&jobs, builds, J_ID);
	tree_read_jobs(tree, &jobs);
}

/* The row of a workspace's latest build; v is NULL if there is none. */
Row
tree_latest_build(const Tree *tree, Row workspace)
{
	Row none = {NULL, NULL};
	int count = 0;
	int first = 0;

	if (!workspace.null[W_BUILD])
		first = level_find(&tree->level[L_BUILD], DatumGetUUIDP(workspace.v[W_BUILD]), &count);
	return count == 0 ? none : level_row(&tree->level[L_BUILD], first);
}

/* Read workspaces and what they show. */
void
tree_read_workspaces(Tree *tree, const pg_uuid_t **ids, int n)
{
	LevelKeys keys = tree_keys(ids, n);
	LevelKeys builds = {0};
	Level *workspaces = &tree->level[L_WORKSPACE];

	read_level(tree, L_WORKSPACE, &keys);
	read_named(tree, L_ORG, L_WORKSPACE, W_ORG);
	read_named(tree, L_TEMPLATE, L_WORKSPACE, W_TEMPLATE);
	level_keys_add_column(&builds, workspaces, W_BUILD);
	tree_read_builds(tree, &builds, L_WORKSPACE);
	read_named(tree, L_LATEST_STATUS, L_WORKSPACE, W_ID);
	for (int i = 0; i < workspaces->n; i++)
		join_workspace(tree, level_row(workspaces, i));
}

bool
tree_watched(void)
{
	return level_watched(tables, L_COUNT);
}
