/*
 * plan_agent.c -- agents, and what resources of the template hang on them
 *
 * An agent belongs to the compute resource that is nearest among its dependents;
 * apps, scripts and variables belong to the agent whose id they carry, or, at
 * plan time when nobody has an id yet, to the one they refer to directly.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan_int.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool
valid_slug(const char *s)
{
	size_t i;

	if (s[0] == '\0')
		return false;
	for (i = 0; s[i] != '\0'; i++)
		if (!isalnum((unsigned char) s[i]) &&
			!(s[i] == '-' && i > 0 && s[i + 1] != '\0' && s[i - 1] != '-'))
			return false;
	return true;
}

bool
plan_is_compute(const json_t *resource)
{
	return plan_is_managed(resource) && (strncmp(plan_str(resource, "type"), "coder_", 6) != 0 ||
										 plan_is_type(resource, "coder_external_agent"));
}

static const json_t *
compute_with_label(const Map *m, const char *label)
{
	const json_t *item;
	size_t i;

	json_array_foreach(m->resources, i, item) if (plan_is_compute(item))
	{
		char *other = plan_label(item);
		const bool same = strcmp(other, label) == 0;

		free(other);
		if (same)
			return item;
	}
	return NULL;
}

/* The nearest compute resource from the node with this label; of equally near ones the first by
 * name. */
static const char *
nearest_compute(const Map *m, const char *label, bool upwards)
{
	const Graph *g = m->graph;
	size_t *queue = calloc(g->n + 1, sizeof(*queue));
	unsigned *depth = calloc(g->n + 1, sizeof(*depth));
	const char *best = NULL;
	unsigned best_depth = 0;
	size_t head = 0;
	size_t tail = 0;
	size_t i;

	for (i = 0; i < g->n && queue != NULL && depth != NULL; i++)
		if (g->nodes[i].label != NULL && strcmp(g->nodes[i].label, label) == 0)
		{
			queue[tail++] = i;
			depth[i] = 1;
			break;
		}
	while (head < tail)
	{
		const Node *node = &g->nodes[queue[head]];
		const unsigned d = depth[queue[head++]];
		const size_t *next = upwards ? node->in : node->out;
		const size_t n = upwards ? node->n_in : node->n_out;

		if (best != NULL && d > best_depth)
			break;
		if (d > 1 && node->label != NULL && compute_with_label(m, node->label) != NULL &&
			(best == NULL || strcmp(node->label, best) < 0))
		{
			best = node->label;
			best_depth = d;
		}
		for (i = 0; i < n; i++)
			if (depth[next[i]] == 0)
			{
				depth[next[i]] = d + 1;
				queue[tail++] = next[i];
			}
	}
	free(queue);
	free(depth);
	return best;
}

/* Is there an edge straight from "] <type>.<name> (expand)" to "] <target> (expand)"? */
static bool
refers_to(const Map *m, const json_t *resource, const char *target)
{
	char from[512];
	char to[512];
	size_t i;
	size_t k;

	snprintf(from,
			 sizeof(from),
			 "] %.200s.%.200s (expand)",
			 plan_str(resource, "type"),
			 plan_str(resource, "name"));
	snprintf(to, sizeof(to), "] %.400s (expand)", target);
	for (i = 0; i < m->graph->n; i++)
	{
		const Node *node = &m->graph->nodes[i];

		if (strlen(node->name) < strlen(from) ||
			strcmp(node->name + strlen(node->name) - strlen(from), from) != 0)
			continue;
		for (k = 0; k < node->n_out; k++)
		{
			const char *name = m->graph->nodes[node->out[k]].name;

			if (strlen(name) >= strlen(to) && strcmp(name + strlen(name) - strlen(to), to) == 0)
				return true;
		}
	}
	return false;
}

static json_t *
script_json(const char *name, const char *icon, const char *log, const char *script, bool start,
			bool blocks)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:i, s:s}",
					 "display_name",
					 name,
					 "icon",
					 icon,
					 "script",
					 script,
					 "cron",
					 "",
					 "start_blocks_login",
					 blocks,
					 "run_on_start",
					 start,
					 "run_on_stop",
					 !start,
					 "timeout_seconds",
					 0,
					 "log_path",
					 log);
}

static json_t *
agent_scripts(const json_t *v)
{
	json_t *out = json_array();
	const json_t *old = json_object_get(v, "login_before_ready");
	const bool blocking =
		strcmp(plan_str(v, "startup_script_behavior"), "blocking") == 0 || json_is_false(old);

	if (plan_str(v, "startup_script")[0] != '\0')
		json_array_append_new(out,
							  script_json("Startup Script",
										  "/emojis/25b6-fe0f.png",
										  "coder-startup-script.log",
										  plan_str(v, "startup_script"),
										  true,
										  blocking));
	if (plan_str(v, "shutdown_script")[0] != '\0')
		json_array_append_new(out,
							  script_json("Shutdown Script",
										  "/emojis/25c0.png",
										  "coder-shutdown-script.log",
										  plan_str(v, "shutdown_script"),
										  false,
										  false));
	return out;
}

static json_t *
agent_metadata(const json_t *v)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(v, "metadata"), i, item)
		json_array_append_new(out,
							  json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}",
										"key",
										plan_str(item, "key"),
										"display_name",
										plan_str(item, "display_name"),
										"script",
										plan_str(item, "script"),
										"interval",
										plan_num(item, "interval"),
										"timeout",
										plan_num(item, "timeout"),
										"order",
										plan_num(item, "order")));
	return out;
}

static json_t *
agent_display_apps(const json_t *v)
{
	static const char *const keys[] = {
		"vscode", "vscode_insiders", "web_terminal", "ssh_helper", "port_forwarding_helper"};
	const json_t *block = plan_first(v, "display_apps");
	json_t *out = json_object();
	size_t i;

	for (i = 0; i < 5; i++)
	{
		const json_t *given = json_object_get(block, keys[i]);

		json_object_set_new(
			out, keys[i], json_boolean(json_is_boolean(given) ? json_is_true(given) : i != 1));
	}
	return out;
}

static json_t *
agent_monitoring(const json_t *v)
{
	const json_t *block = plan_first(v, "resources_monitoring");
	const json_t *memory = json_object_get(block, "memory");
	json_t *volumes = json_array();
	json_t *out = json_pack("{s:o}", "volumes", volumes);
	const json_t *item;
	size_t i;

	if (json_array_size(memory) > 0)
	{
		item = json_array_get(memory, json_array_size(memory) - 1);
		json_object_set_new(out,
							"memory",
							json_pack("{s:b, s:I}",
									  "enabled",
									  plan_flag(item, "enabled"),
									  "threshold",
									  plan_num(item, "threshold")));
	}
	json_array_foreach(json_object_get(block, "volume"), i, item)
		json_array_append_new(volumes,
							  json_pack("{s:s, s:b, s:I}",
										"path",
										plan_str(item, "path"),
										"enabled",
										plan_flag(item, "enabled"),
										"threshold",
										plan_num(item, "threshold")));
	return out;
}

static json_t *
agent_json(const json_t *v, const char *name)
{
	json_t *agent = json_pack(
		"{s:s, s:s, s:O?, s:s, s:s, s:s, s:[], s:I, s:s, s:s, s:o, s:o, s:o, s:[], s:I, s:o, s:[], s:s}",
		"id",
		plan_str(v, "id"),
		"name",
		name,
		"env",
		json_object_get(v, "env"),
		"operating_system",
		plan_str(v, "os"),
		"architecture",
		plan_str(v, "arch"),
		"directory",
		plan_str(v, "dir"),
		"apps",
		"connection_timeout_seconds",
		plan_num(v, "connection_timeout"),
		"troubleshooting_url",
		plan_str(v, "troubleshooting_url"),
		"motd_file",
		plan_str(v, "motd_file"),
		"metadata",
		agent_metadata(v),
		"display_apps",
		agent_display_apps(v),
		"scripts",
		agent_scripts(v),
		"extra_envs",
		"order",
		plan_num(v, "order"),
		"resources_monitoring",
		agent_monitoring(v),
		"devcontainers",
		"api_key_scope",
		plan_str(v, "api_key_scope"));

	if (!json_is_object(json_object_get(agent, "env")))
		json_object_set_new(agent, "env", json_object());
	if (strcmp(plan_str(v, "auth"), "token") == 0)
		json_object_set_new(agent, "token", json_string(plan_str(v, "token")));
	else
		json_object_set_new(agent, "instance_id", json_string(""));
	return agent;
}

static bool
add_agent(Map *m, const json_t *resource)
{
	const json_t *v = plan_values(resource);
	const char *name = plan_str(resource, "name");
	char *label = plan_label(resource);
	const char *owner;
	const json_t *other;
	const char *key;
	bool ok = true;

	if (strchr(name, '_') != NULL)
		ok = plan_problem(
			m, "agent name \"%s\" has an underscore; use letters, digits and single hyphens", name);
	else if (!valid_slug(name))
		ok = plan_problem(
			m, "agent name \"%s\" must be letters, digits and single hyphens between them", name);
	json_object_foreach(
		m->agents,
		key,
		other) if (ok && strcasecmp(plan_str(json_object_get(other, "agent"), "name"), name) == 0)
		ok = plan_problem(m, "two agents have the name \"%s\"", name);
	if (ok && !graph_has_label(m->graph, label))
		ok = plan_problem(
			m,
			"agent \"%s\" is not in the graph: a module with an agent cannot have count or for_each",
			name);
	owner = ok ? nearest_compute(m, label, true) : NULL;
	if (ok && owner != NULL)
	{
		json_object_set_new(m->agents,
							label,
							json_pack("{s:o, s:s}", "agent", agent_json(v, name), "owner", owner));
	}
	free(label);
	return ok;
}

/* Does this resource belong to the agent? */
static bool
belongs(const Map *m, const json_t *resource, const json_t *entry)
{
	const char *id = plan_str(json_object_get(entry, "agent"), "id");
	const char *wanted = plan_str(plan_values(resource), "agent_id");
	char target[512];

	if (id[0] != '\0' || wanted[0] != '\0')
		return strcmp(id, wanted) == 0;
	snprintf(target,
			 sizeof(target),
			 "coder_agent.%.400s",
			 plan_str(json_object_get(entry, "agent"), "name"));
	return refers_to(m, resource, target);
}

static bool
belongs_to_devcontainer(const Map *m, const json_t *resource, const json_t *devcontainer)
{
	const char *id = plan_str(devcontainer, "subagent_id");
	const char *wanted = plan_str(plan_values(resource), "agent_id");
	char target[512];

	if (id[0] != '\0' || wanted[0] != '\0')
		return strcmp(id, wanted) == 0;
	snprintf(target, sizeof(target), "coder_devcontainer.%.400s", plan_str(devcontainer, "name"));
	return refers_to(m, resource, target);
}

/* Appends child to the list of the agent, or of a devcontainer of an agent; drops it where there is
 * none. */
static void
attach(Map *m, const json_t *resource, const char *list, const char *dev_list, json_t *child)
{
	const char *key;
	json_t *entry;
	json_t *dev;
	size_t i;

	json_object_foreach(m->agents, key, entry) if (belongs(m, resource, entry))
	{
		json_array_append_new(json_object_get(json_object_get(entry, "agent"), list), child);
		return;
	}
	json_object_foreach(m->agents, key, entry)
		json_array_foreach(json_object_get(json_object_get(entry, "agent"), "devcontainers"),
						   i,
						   dev) if (belongs_to_devcontainer(m, resource, dev))
	{
		json_array_append_new(json_object_get(dev, dev_list), child);
		return;
	}
	json_decref(child);
}

static void
add_devcontainer(Map *m, const json_t *resource)
{
	const json_t *v = plan_values(resource);
	const char *key;
	json_t *entry;

	json_object_foreach(m->agents, key, entry) if (belongs(m, resource, entry))
		json_array_append_new(json_object_get(json_object_get(entry, "agent"), "devcontainers"),
							  json_pack("{s:s, s:s, s:s, s:s, s:s, s:[], s:[], s:[]}",
										"workspace_folder",
										plan_str(v, "workspace_folder"),
										"config_path",
										plan_str(v, "config_path"),
										"name",
										plan_str(resource, "name"),
										"id",
										plan_str(v, "id"),
										"subagent_id",
										plan_str(v, "subagent_id"),
										"apps",
										"scripts",
										"envs"));
}

static void
add_instance_id(Map *m, const json_t *resource)
{
	const char *key;
	json_t *entry;

	json_object_foreach(m->agents, key, entry)
	{
		json_t *agent = json_object_get(entry, "agent");

		if (plan_str(agent, "id")[0] != '\0' && belongs(m, resource, entry) &&
			json_object_get(agent, "token") == NULL)
			json_object_set_new(
				agent, "instance_id", json_string(plan_str(plan_values(resource), "instance_id")));
	}
}

static bool
add_app(Map *m, const json_t *resource, json_t *slugs)
{
	const json_t *v = plan_values(resource);
	const char *slug =
		plan_str(v, "slug")[0] != '\0' ? plan_str(v, "slug") : plan_str(resource, "name");
	const char *share = plan_str(v, "share");
	const char *shown = plan_str(v, "display_name")[0] != '\0' ? plan_str(v, "display_name")
						: plan_str(v, "name")[0] != '\0'	   ? plan_str(v, "name")
															   : slug;
	const json_t *check = plan_first(v, "healthcheck");
	json_t *app;

	if (!valid_slug(slug))
		return plan_problem(
			m, "app slug \"%s\" must be letters, digits and single hyphens between them", slug);
	if (json_object_get(slugs, slug) != NULL)
		return plan_problem(m, "two apps have the slug \"%s\"", slug);
	json_object_set_new(slugs, slug, json_true());
	app = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:b, s:I, s:b, s:s, s:s, s:s, s:s}",
					"slug",
					slug,
					"display_name",
					shown,
					"command",
					plan_str(v, "command"),
					"url",
					plan_str(v, "url"),
					"icon",
					plan_str(v, "icon"),
					"subdomain",
					plan_flag(v, "subdomain"),
					"sharing_level",
					strcmp(share, "public") == 0		  ? "PUBLIC"
					: strcmp(share, "authenticated") == 0 ? "AUTHENTICATED"
														  : "OWNER",
					"external",
					plan_flag(v, "external"),
					"order",
					plan_num(v, "order"),
					"hidden",
					plan_flag(v, "hidden"),
					"open_in",
					strcmp(plan_str(v, "open_in"), "tab") == 0 ? "TAB" : "SLIM_WINDOW",
					"group",
					plan_str(v, "group"),
					"id",
					plan_str(v, "id"),
					"tooltip",
					plan_str(v, "tooltip"));
	if (check != NULL)
		json_object_set_new(app,
							"healthcheck",
							json_pack("{s:s, s:I, s:I}",
									  "url",
									  plan_str(check, "url"),
									  "interval",
									  plan_num(check, "interval"),
									  "threshold",
									  plan_num(check, "threshold")));
	attach(m, resource, "apps", "apps", app);
	return true;
}

static void
add_env(Map *m, const json_t *resource)
{
	const json_t *v = plan_values(resource);

	attach(m,
		   resource,
		   "extra_envs",
		   "envs",
		   json_pack("{s:s, s:s, s:s}",
					 "name",
					 plan_str(v, "name"),
					 "value",
					 plan_str(v, "value"),
					 "merge_strategy",
					 plan_str(v, "merge_strategy")));
}

static void
add_script(Map *m, const json_t *resource)
{
	const json_t *v = plan_values(resource);

	attach(m,
		   resource,
		   "scripts",
		   "scripts",
		   json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:s}",
					 "display_name",
					 plan_str(v, "display_name"),
					 "icon",
					 plan_str(v, "icon"),
					 "script",
					 plan_str(v, "script"),
					 "cron",
					 plan_str(v, "cron"),
					 "start_blocks_login",
					 plan_flag(v, "start_blocks_login"),
					 "run_on_start",
					 plan_flag(v, "run_on_start"),
					 "run_on_stop",
					 plan_flag(v, "run_on_stop"),
					 "timeout_seconds",
					 plan_num(v, "timeout"),
					 "log_path",
					 plan_str(v, "log_path")));
}

static bool
add_metadata(Map *m, const json_t *resource)
{
	char *label = plan_label(resource);
	const char *target = nearest_compute(m, label, false);
	bool ok = true;

	if (target != NULL && json_object_get(m->metadata, target) != NULL)
		ok = plan_problem(m, "two coder_metadata describe \"%s\"", target);
	else if (target != NULL)
		json_object_set(m->metadata, target, (json_t *) (uintptr_t) plan_values(resource));
	free(label);
	return ok;
}

typedef void (*AddFn)(Map *m, const json_t *resource);

static void
for_each(Map *m, const json_t *sorted, const char *type, AddFn fn)
{
	const json_t *item;
	size_t i;

	json_array_foreach(sorted, i, item) if (plan_is_type(item, type)) fn(m, item);
}

bool
plan_map_agents(Map *m, const json_t *sorted)
{
	json_t *slugs = json_object();
	const json_t *item;
	bool ok = true;
	size_t i;

	json_array_foreach(sorted, i, item) if (ok && plan_is_type(item, "coder_agent")) ok =
		add_agent(m, item);
	for_each(m, sorted, "coder_devcontainer", add_devcontainer);
	for_each(m, sorted, "coder_agent_instance", add_instance_id);
	json_array_foreach(sorted, i, item) if (ok && plan_is_type(item, "coder_app")) ok =
		add_app(m, item, slugs);
	for_each(m, sorted, "coder_env", add_env);
	for_each(m, sorted, "coder_script", add_script);
	json_array_foreach(sorted, i, item) if (ok && plan_is_type(item, "coder_metadata")) ok =
		add_metadata(m, item);
	json_decref(slugs);
	return ok;
}
