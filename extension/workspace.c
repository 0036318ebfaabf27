/*
 * workspace.c -- JSON of workspaces, builds, resources, agents and apps.
 *
 * Its rows: workspacetree.c.  What is kept of it: workspacekeep.c.
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
#include "coder.h"
#include "compat.h"
#include "json.h"
#include "workspace.h"

PG_FUNCTION_INFO_V1(coder_workspaces_json);
PG_FUNCTION_INFO_V1(coder_builds_json);
PG_FUNCTION_INFO_V1(coder_resources_json);
PG_FUNCTION_INFO_V1(coder_agents_json);

#define DEFAULT_TROUBLESHOOTING_URL "https://coder.com/docs/admin/templates/troubleshooting"

/* 0001-01-01 00:00:00 UTC, which the API takes for "not set", in PostgreSQL's epoch. */
#define YEAR_ONE INT64CONST(-63082281600000000)

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

static CoderAgentStatus
agent_connection(const Tree *tree, Row row)
{
	CoderAgentTimes times = tree_agent_times(row);

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

/*
 * A workspace as everyone but its owner sees it.  Returns where the value of
 * "favorite" begins.
 */
int
workspace_write(StringInfo buf, const Tree *tree, Row row)
{
	Row build = tree_latest_build(tree, row);
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
void
workspace_keep_memory(void)
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
	workspace_keep_memory();
	initStringInfo(buf);
	appendBinaryStringInfo(buf, "\0\0\0", VARHDRSZ);
}

static Datum
text_end(StringInfo buf)
{
	SET_VARSIZE(buf->data, buf->len);
	return PointerGetDatum(buf->data);
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
	workspaces_write(&buf, NULL, PG_GETARG_ARRAYTYPE_P(0), viewer, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2));
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
	ids = tree_array_ids(PG_GETARG_ARRAYTYPE_P(0), &n);
	keys = tree_keys(ids, n);
	tree_read_builds(&tree, &keys, L_PARENT);
	json_open(&buf, '[');
	for (int i = 0; i < n; i++)
	{
		Row row = tree_row(&tree, L_BUILD, UUIDPGetDatum(ids[i]));

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
		tree_read_jobs(tree, &keys);
		return none;
	}
	build = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	level_keys_add(&keys, DatumGetUUIDP(build));
	tree_read_builds(tree, &keys, L_PARENT);
	return tree_row(tree, L_BUILD, build);
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
