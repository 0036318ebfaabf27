/*
 * workspace.c -- JSON of workspaces, builds, resources, agents and apps.
 *
 * A list is read one level at a time: one statement for the workspaces, one for
 * their latest builds, one for the resources of those builds, and so on, each
 * with "= any($1)" and ordered by the parent.  The levels are then joined here by
 * binary search, so 25 workspaces cost as many statements as one.
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
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "build.h"
#include "compat.h"
#include "json.h"
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
	L_BUILD,
	L_RESOURCE,
	L_METADATA,
	L_AGENT,
	L_APP,
	L_SCRIPT,
	L_SOURCE,
	L_STATUS,
	L_LATEST_STATUS,
	L_COUNT
} LevelId;

/* Columns, in the order of the statements below.  Column 0 is what a level is searched by. */
enum
{
	W_ID, W_CREATED, W_UPDATED, W_OWNER, W_OWNER_NAME, W_OWNER_AVATAR, W_ORG, W_ORG_NAME,
	W_TEMPLATE, W_TEMPLATE_NAME, W_TEMPLATE_DISPLAY, W_TEMPLATE_ICON, W_CANCEL, W_ACTIVE_VERSION,
	W_REQUIRE_ACTIVE, W_CLASSIC, W_BUILD, W_NAME, W_SCHEDULE, W_TTL, W_DEFAULT_TTL, W_USER_AUTOSTOP,
	W_LAST_USED, W_DELETING, W_DORMANT, W_UPDATES, W_FAVORITE, W_NEXT_START, W_SHARED
};
enum
{
	B_ID, B_CREATED, B_UPDATED, B_WORKSPACE, B_WORKSPACE_NAME, B_OWNER, B_OWNER_NAME, B_OWNER_AVATAR,
	B_VERSION, B_VERSION_NAME, B_NUMBER, B_TRANSITION, B_INITIATOR, B_INITIATOR_NAME, B_REASON,
	B_DEADLINE, B_MAX_DEADLINE, B_COST, B_PRESET, B_AI_TASK, B_EXTERNAL_AGENT,
	J_ID, J_CREATED, J_STARTED, J_COMPLETED, J_CANCELED, J_ERROR, J_ERROR_CODE, J_STATUS, J_WORKER,
	J_FILE, J_TAGS, J_ORG, J_INITIATOR, J_OVERFLOWED, J_QUEUE
};
enum
{
	R_JOB, R_ID, R_CREATED, R_TRANSITION, R_TYPE, R_NAME, R_HIDE, R_ICON, R_COST
};
enum
{
	M_RESOURCE, M_KEY, M_VALUE, M_SENSITIVE
};
enum
{
	A_RESOURCE, A_ID, A_PARENT, A_CREATED, A_UPDATED, A_FIRST, A_LAST, A_DISCONNECTED, A_STARTED,
	A_READY, A_TIMEOUT, A_LIFECYCLE, A_NAME, A_INSTANCE, A_ARCH, A_ENV, A_OS, A_LOGS, A_OVERFLOWED,
	A_DIRECTORY, A_EXPANDED, A_VERSION, A_API_VERSION, A_TROUBLE, A_SUBSYSTEMS, A_DISPLAY_APPS,
	A_LATENCY, A_ORDER
};
enum
{
	P_AGENT, P_ID, P_URL, P_EXTERNAL, P_SLUG, P_DISPLAY, P_COMMAND, P_ICON, P_SUBDOMAIN, P_SHARING,
	P_HEALTH_URL, P_HEALTH_INTERVAL, P_HEALTH_THRESHOLD, P_HEALTH, P_GROUP, P_HIDDEN, P_OPEN_IN,
	P_TOOLTIP
};
enum
{
	S_AGENT, S_ID, S_SOURCE, S_PATH, S_SCRIPT, S_CRON, S_ON_START, S_ON_STOP, S_BLOCKS, S_TIMEOUT,
	S_DISPLAY
};
enum
{
	O_AGENT, O_ID, O_CREATED, O_DISPLAY, O_ICON
};
enum
{
	T_KEY, T_ID, T_CREATED, T_WORKSPACE, T_AGENT, T_APP, T_STATE, T_MESSAGE, T_URI
};

#define STATUS_COLUMNS "s.id, s.created_at, s.workspace_id, s.agent_id, s.app_id, s.state::text, s.message, coalesce(s.uri, '')"

static const char *const statements[L_COUNT] = {
	[L_WORKSPACE] =
	"SELECT w.id, w.created_at, w.updated_at, w.owner_id, u.username, coalesce(u.avatar_url, ''),"
	" w.organization_id, o.name::text, w.template_id, t.name, coalesce(t.display_name, ''), t.icon,"
	" t.allow_user_cancel_workspace_jobs, t.active_version_id, t.require_active_version,"
	" t.use_classic_parameter_flow, w.latest_build_id, w.name, coalesce(w.autostart_schedule, ''),"
	" w.ttl, t.default_ttl, t.allow_user_autostop, w.last_used_at, w.deleting_at, w.dormant_at,"
	" w.automatic_updates::text, w.favorite, w.next_start_at,"
	" CASE WHEN w.user_acl <> '{}' OR w.group_acl <> '{}'"
	" THEN coder.workspace_shared_with(w.user_acl, w.group_acl) END"
	" FROM pg_catalog.unnest($1::uuid[]) WITH ORDINALITY i(id, n)"
	" JOIN coder.workspaces w ON w.id = i.id"
	" JOIN coder.users u ON u.id = w.owner_id"
	" JOIN coder.organizations o ON o.id = w.organization_id"
	" JOIN coder.templates t ON t.id = w.template_id"
	" ORDER BY i.n",
	[L_BUILD] =
	"SELECT b.id, b.created_at, b.updated_at, b.workspace_id, w.name, w.owner_id, u.username,"
	" coalesce(u.avatar_url, ''), b.template_version_id, v.name, b.build_number, b.transition::text,"
	" b.initiator_id, coalesce(i.username, ''), b.reason::text, b.deadline, b.max_deadline,"
	" b.daily_cost, b.template_version_preset_id, b.has_ai_task, b.has_external_agent,"
	" j.id, j.created_at, j.started_at, j.completed_at, j.canceled_at, coalesce(j.error, ''),"
	" coalesce(j.error_code, ''), j.job_status::text, j.worker_id, j.file_id, j.tags::text,"
	" j.organization_id, j.initiator_id, j.logs_overflowed,"
	" CASE WHEN j.job_status = 'pending' THEN coder.build_queue(j.id) END"
	" FROM coder.workspace_builds b"
	" JOIN coder.workspaces w ON w.id = b.workspace_id"
	" JOIN coder.users u ON u.id = w.owner_id"
	" JOIN coder.provisioner_jobs j ON j.id = b.job_id"
	" JOIN coder.template_versions v ON v.id = b.template_version_id"
	" LEFT JOIN coder.users i ON i.id = b.initiator_id"
	" WHERE b.id = ANY ($1::uuid[]) ORDER BY b.id",
	[L_RESOURCE] =
	"SELECT r.job_id, r.id, r.created_at, r.transition::text, r.type, r.name, r.hide, r.icon, r.daily_cost"
	" FROM coder.workspace_resources r WHERE r.job_id = ANY ($1::uuid[]) ORDER BY r.job_id, r.name",
	[L_METADATA] =
	"SELECT m.workspace_resource_id, m.key, coalesce(m.value, ''), m.sensitive"
	" FROM coder.workspace_resource_metadata m"
	" WHERE m.workspace_resource_id = ANY ($1::uuid[]) ORDER BY m.workspace_resource_id, m.id",
	[L_AGENT] =
	"SELECT a.resource_id, a.id, a.parent_id, a.created_at, a.updated_at, a.first_connected_at,"
	" a.last_connected_at, a.disconnected_at, a.started_at, a.ready_at, a.connection_timeout_seconds,"
	" a.lifecycle_state::text, a.name, coalesce(a.auth_instance_id, ''), a.architecture,"
	" a.environment_variables::text, a.operating_system, a.logs_length, a.logs_overflowed, a.directory,"
	" a.expanded_directory, a.version, a.api_version, a.troubleshooting_url,"
	" pg_catalog.to_json(a.subsystems)::text, pg_catalog.to_json(a.display_apps)::text, n.latency::text, a.display_order"
	" FROM coder.workspace_agents a LEFT JOIN coder.workspace_agent_nodes n ON n.agent_id = a.id"
	" WHERE a.resource_id = ANY ($1::uuid[]) AND NOT a.deleted"
	" ORDER BY a.resource_id, a.display_order, a.name",
	[L_APP] =
	"SELECT p.agent_id, p.id, coalesce(p.url, ''), p.external, p.slug, p.display_name,"
	" coalesce(p.command, ''), p.icon, p.subdomain, p.sharing_level::text, p.healthcheck_url,"
	" p.healthcheck_interval, p.healthcheck_threshold, p.health::text, coalesce(p.display_group, ''),"
	" p.hidden, p.open_in::text, p.tooltip"
	" FROM coder.workspace_apps p WHERE p.agent_id = ANY ($1::uuid[])"
	" ORDER BY p.agent_id, p.display_order, p.display_name, p.slug",
	[L_SCRIPT] =
	"SELECT s.workspace_agent_id, s.id, s.log_source_id, s.log_path, s.script, s.cron, s.run_on_start,"
	" s.run_on_stop, s.start_blocks_login, s.timeout_seconds, s.display_name"
	" FROM coder.workspace_agent_scripts s WHERE s.workspace_agent_id = ANY ($1::uuid[])"
	" ORDER BY s.workspace_agent_id, s.ordinal",
	[L_SOURCE] =
	"SELECT o.workspace_agent_id, o.id, o.created_at, o.display_name, o.icon"
	" FROM coder.workspace_agent_log_sources o WHERE o.workspace_agent_id = ANY ($1::uuid[])"
	" ORDER BY o.workspace_agent_id, o.created_at, o.id",
	[L_STATUS] =
	"SELECT s.app_id, " STATUS_COLUMNS " FROM coder.workspace_app_statuses s"
	" WHERE s.app_id = ANY ($1::uuid[]) ORDER BY s.app_id, s.created_at DESC",
	[L_LATEST_STATUS] =
	"SELECT DISTINCT ON (s.workspace_id) s.workspace_id, " STATUS_COLUMNS
	" FROM coder.workspace_app_statuses s WHERE s.workspace_id = ANY ($1::uuid[])"
	" ORDER BY s.workspace_id, s.created_at DESC",
};

static SPIPlanPtr plans[L_COUNT];

/* ---- levels ---- */

typedef struct Row
{
	const Datum *v;
	const bool *null;
} Row;

typedef struct Level
{
	int n;
	int natts;
	Datum *values;
	bool *nulls;
} Level;

/* Everything below a set of jobs. */
typedef struct Tree
{
	Level level[L_COUNT];
	TimestampTz now;
	bool fresh; /* the answer to the request that made the build */
} Tree;

static Row
level_row(const Level *level, int i)
{
	Row row = {level->values + (size_t) i * level->natts, level->nulls + (size_t) i * level->natts};

	return row;
}

/* Run a level's statement; rows are deformed once, for repeated reading. */
static void
level_read(Tree *tree, LevelId id, Datum keys)
{
	Level *level = &tree->level[id];
	Oid argtype = UUIDARRAYOID;

	if (plans[id] == NULL)
	{
		SPIPlanPtr plan = SPI_prepare_cursor(statements[id], 1, &argtype, CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "cannot prepare a statement of the workspace list: %s",
				 SPI_result_code_string(SPI_result));
		plans[id] = plan;
	}
	if (SPI_execute_plan(plans[id], &keys, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "a statement of the workspace list failed");
	level->n = (int) SPI_processed;
	level->natts = SPI_tuptable->tupdesc->natts;
	level->values = palloc(sizeof(Datum) * Max(1, (size_t) level->n * level->natts));
	level->nulls = palloc(sizeof(bool) * Max(1, (size_t) level->n * level->natts));
	for (int i = 0; i < level->n; i++)
		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
						  level->values + (size_t) i * level->natts,
						  level->nulls + (size_t) i * level->natts);
}

/* The rows of one parent: the first and how many.  Rows are ordered by column 0. */
static int
level_find(const Level *level, Datum key, int *count)
{
	const pg_uuid_t *uuid = DatumGetUUIDP(key);
	int low = 0;
	int high = level->n;

	while (low < high)
	{
		int mid = low + (high - low) / 2;

		if (memcmp(DatumGetUUIDP(level_row(level, mid).v[0])->data, uuid->data, UUID_LEN) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (high = low; high < level->n; high++)
		if (memcmp(DatumGetUUIDP(level_row(level, high).v[0])->data, uuid->data, UUID_LEN) != 0)
			break;
	*count = high - low;
	return low;
}

/* One column of a level as uuid[]. */
static Datum
level_keys(const Level *level, int column)
{
	Datum *keys = palloc(sizeof(Datum) * Max(1, level->n));
	int n = 0;

	for (int i = 0; i < level->n; i++)
		if (!level_row(level, i).null[column])
			keys[n++] = level_row(level, i).v[column];
	return PointerGetDatum(construct_array(keys, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
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
	int first = level_find(&tree->level[L_STATUS], row.v[P_ID], &count);

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

static CoderAgentStatus
agent_connection(const Tree *tree, Row row)
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
	int first = level_find(sources, agent.v[A_ID], &count);

	json_open_at(buf, "log_sources", '[');
	for (int i = 0; i < count; i++)
		write_log_source(buf, level_row(sources, first + i));
	json_close(buf, ']');
	first = level_find(scripts, agent.v[A_ID], &count);
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
	int first = level_find(apps, row.v[A_ID], &count);

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
	int first = level_find(agents, row.v[R_ID], &count);

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
	first = level_find(metadata, row.v[R_ID], &count);
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
	int first = level_find(resources, job, &count);
	ResourcePlace *places = palloc(sizeof(ResourcePlace) * Max(1, count));

	for (int i = 0; i < count; i++)
	{
		int agents;
		int agent = level_find(&tree->level[L_AGENT], level_row(resources, first + i).v[R_ID], &agents);

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

/* Read all that hangs below resources: agents, and what agents have. */
static void
read_below_resources(Tree *tree)
{
	Datum keys = level_keys(&tree->level[L_RESOURCE], R_ID);

	level_read(tree, L_METADATA, keys);
	level_read(tree, L_AGENT, keys);
}

static void
read_below_agents(Tree *tree)
{
	Datum keys = level_keys(&tree->level[L_AGENT], A_ID);

	level_read(tree, L_APP, keys);
	level_read(tree, L_SCRIPT, keys);
	level_read(tree, L_SOURCE, keys);
	level_read(tree, L_STATUS, level_keys(&tree->level[L_APP], P_ID));
}

static void
read_below_jobs(Tree *tree, Datum jobs)
{
	level_read(tree, L_RESOURCE, jobs);
	read_below_resources(tree);
	read_below_agents(tree);
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

static void
read_builds(Tree *tree, Datum ids)
{
	level_read(tree, L_BUILD, ids);
	read_below_jobs(tree, level_keys(&tree->level[L_BUILD], J_ID));
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
	int resource = job == 0 ? (nresources = 0) : level_find(resources, job, &nresources);

	initStringInfo(&failing);
	json_open(&failing, '[');
	for (int i = 0; i < nresources; i++)
	{
		int nagents;
		int agent = level_find(agents, level_row(resources, resource + i).v[R_ID], &nagents);

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
	int first = level_find(&tree->level[L_LATEST_STATUS], row.v[W_ID], &count);

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
		first = level_find(&tree->level[L_BUILD], workspace.v[W_BUILD], &count);
	return count == 0 ? none : level_row(&tree->level[L_BUILD], first);
}

static void
write_workspace(StringInfo buf, const Tree *tree, Row row, const pg_uuid_t *viewer)
{
	Row build = latest_build(tree, row);
	bool own = viewer != NULL && memcmp(viewer, DatumGetUUIDP(row.v[W_OWNER]), UUID_LEN) == 0;
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
	json_bool(buf, "favorite", own && DatumGetBool(row.v[W_FAVORITE]));
	put_time(buf, "next_start_at", row, W_NEXT_START);
	json_bool(buf, "is_prebuild", false);
	json_null(buf, "task_id");
	if (!row.null[W_SHARED])
		put_json(buf, "shared_with", row, W_SHARED);
	json_close(buf, '}');
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
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/* coder.workspaces_json(ids uuid[], viewer uuid, fresh boolean) returns text */
Datum
coder_workspaces_json(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *viewer = PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1);
	StringInfoData buf;
	Tree tree;

	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text("[]"));
	text_begin(&buf);
	tree_begin(&tree, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
	level_read(&tree, L_WORKSPACE, PG_GETARG_DATUM(0));
	read_builds(&tree, level_keys(&tree.level[L_WORKSPACE], W_BUILD));
	level_read(&tree, L_LATEST_STATUS, level_keys(&tree.level[L_WORKSPACE], W_ID));
	json_open(&buf, '[');
	for (int i = 0; i < tree.level[L_WORKSPACE].n; i++)
		write_workspace(&buf, &tree, level_row(&tree.level[L_WORKSPACE], i), viewer);
	json_close(&buf, ']');
	SPI_finish();
	return text_end(&buf);
}

/* Position of an element of a uuid array's rows in the order asked for. */
static void
write_builds_in_order(StringInfo buf, const Tree *tree, ArrayType *ids)
{
	Datum *values;
	bool *nulls;
	int n;

	deconstruct_array(ids, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		int count;
		int first;

		if (nulls[i])
			continue;
		first = level_find(&tree->level[L_BUILD], values[i], &count);
		if (count > 0)
			write_build(buf, NULL, tree, level_row(&tree->level[L_BUILD], first));
	}
}

/* coder.builds_json(ids uuid[], fresh boolean) returns text */
Datum
coder_builds_json(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	Tree tree;

	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text("[]"));
	text_begin(&buf);
	tree_begin(&tree, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	read_builds(&tree, PG_GETARG_DATUM(0));
	json_open(&buf, '[');
	write_builds_in_order(&buf, &tree, PG_GETARG_ARRAYTYPE_P(0));
	json_close(&buf, ']');
	SPI_finish();
	return text_end(&buf);
}

/* The build of a job, for the names that apps need; v is NULL for other jobs. */
static Row
build_of_job(Tree *tree, Datum job)
{
	Row none = {NULL, NULL};
	Oid argtype = UUIDOID;
	bool isnull;
	Datum build;

	if (SPI_execute_with_args("SELECT id FROM coder.workspace_builds WHERE job_id = $1", 1, &argtype,
							  &job, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed == 0)
		return none;
	build = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	level_read(tree, L_BUILD,
			   PointerGetDatum(construct_array(&build, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
	return tree->level[L_BUILD].n == 0 ? none : level_row(&tree->level[L_BUILD], 0);
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
	build = build_of_job(&tree, job);
	read_below_jobs(&tree, PointerGetDatum(construct_array(&job, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
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
	build = build_of_job(&tree, job);
	read_below_jobs(&tree, PointerGetDatum(construct_array(&job, 1, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR)));
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
