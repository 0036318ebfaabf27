/*
 * plan.c -- plan or state JSON and the dependency graph to resources and agents
 *
 * Both engines end here: Terraform's JSON and our own have the same shape.  An
 * agent belongs to the compute resource that is nearest among its dependents;
 * apps, scripts and variables belong to the agent whose id they carry, or, at
 * plan time when nobody has an id yet, to the one they refer to directly.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* -- graph --------------------------------------------------------------- */

typedef struct Node
{
	char *name;
	char *label; /* NULL: providers, outputs and the like */
	size_t *out;
	size_t n_out;
	size_t *in;
	size_t n_in;
} Node;

struct Graph
{
	Node *nodes;
	size_t n;
	size_t cap;
	json_t *index; /* name -> position */
};

Graph *
graph_create(void)
{
	Graph *g = calloc(1, sizeof(*g));

	if (g == NULL)
		abort();
	g->index = json_object();
	return g;
}

void
graph_free(Graph *g)
{
	size_t i;

	if (g == NULL)
		return;
	for (i = 0; i < g->n; i++)
	{
		free(g->nodes[i].name);
		free(g->nodes[i].label);
		free(g->nodes[i].out);
		free(g->nodes[i].in);
	}
	free(g->nodes);
	json_decref(g->index);
	free(g);
}

static size_t
node_of(Graph *g, const char *name)
{
	const json_t *known = json_object_get(g->index, name);

	if (known != NULL)
		return (size_t) json_integer_value(known);
	if (g->n == g->cap)
	{
		g->cap = g->cap == 0 ? 64 : g->cap * 2;
		g->nodes = realloc(g->nodes, g->cap * sizeof(*g->nodes));
		if (g->nodes == NULL)
			abort();
	}
	g->nodes[g->n] = (Node){.name = strdup(name)};
	json_object_set_new(g->index, name, json_integer((json_int_t) g->n));
	return g->n++;
}

static void
push(size_t **list, size_t *n, size_t item)
{
	if ((*n & (*n - 1)) == 0) /* grow at powers of two */
	{
		*list = realloc(*list, (*n == 0 ? 1 : *n * 2) * sizeof(**list));
		if (*list == NULL)
			abort();
	}
	(*list)[(*n)++] = item;
}

static void
connect_nodes(Graph *g, size_t from, size_t to)
{
	push(&g->nodes[from].out, &g->nodes[from].n_out, to);
	push(&g->nodes[to].in, &g->nodes[to].n_in, from);
}

static size_t
node_of_label(Graph *g, const char *label)
{
	char name[1024];
	size_t i;

	snprintf(name, sizeof(name), "[root] %.1000s (expand)", label);
	i = node_of(g, name);
	if (g->nodes[i].label == NULL)
		g->nodes[i].label = strdup(label);
	return i;
}

void
graph_node(Graph *g, const char *label)
{
	node_of_label(g, label);
}

void
graph_edge(Graph *g, const char *from_label, const char *to_label)
{
	const size_t from = node_of_label(g, from_label);

	connect_nodes(g, from, node_of_label(g, to_label));
}

/* The quoted text at *at with its escapes undone, *at behind it; NULL if there is none. */
static char *
quoted(const char **at, const char *end)
{
	const char *s = *at;
	char *out;
	size_t n = 0;

	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	if (s >= end || *s != '"')
		return NULL;
	out = malloc((size_t) (end - s) + 1);
	for (s++; out != NULL && s < end && *s != '"'; s++)
	{
		if (*s == '\\' && s + 1 < end)
			s++;
		out[n++] = *s;
	}
	if (out != NULL)
		out[n] = '\0';
	*at = s < end ? s + 1 : end;
	return out;
}

static void
parse_line(Graph *g, const char *at, const char *end)
{
	char *name = quoted(&at, end);
	char *other;
	const char *label;
	size_t i;

	if (name == NULL)
		return;
	while (at < end && *at == ' ')
		at++;
	if (end - at > 2 && memcmp(at, "->", 2) == 0)
	{
		at += 2;
		other = quoted(&at, end);
		if (other != NULL)
		{
			i = node_of(g, name);
			connect_nodes(g, i, node_of(g, other));
		}
		free(other);
	}
	else if (at < end && *at == '[' &&
			 (label = memmem(at, (size_t) (end - at), "label", 5)) != NULL)
	{
		at = memchr(label, '"', (size_t) (end - label));
		i = node_of(g, name);
		free(g->nodes[i].label);
		g->nodes[i].label = at != NULL ? quoted(&at, end) : NULL;
	}
	free(name);
}

Graph *
graph_parse(const char *dot, size_t len)
{
	Graph *g = graph_create();
	const char *at = dot;
	const char *end = dot + len;

	while (at < end)
	{
		const char *nl = memchr(at, '\n', (size_t) (end - at));

		parse_line(g, at, nl != NULL ? nl : end);
		at = nl != NULL ? nl + 1 : end;
	}
	return g;
}

/* -- walking ------------------------------------------------------------- */

static void
walk_module(json_t *out, const json_t *module, bool data_only, int depth)
{
	json_t *item;
	size_t i;

	if (depth > 64)
		return;
	json_array_foreach(json_object_get(module, "child_modules"), i, item)
		walk_module(out, item, data_only, depth + 1);
	json_array_foreach(json_object_get(module, "resources"), i, item)
	{
		const char *mode = json_string_value(json_object_get(item, "mode"));

		if (json_is_object(item) && (!data_only || (mode != NULL && strcmp(mode, "data") == 0)))
			json_array_append(out, item);
	}
}

json_t *
plan_resources(const json_t *j)
{
	const json_t *planned = json_object_get(j, "planned_values");
	json_t *out = json_array();

	if (planned == NULL)
		walk_module(out, json_object_get(json_object_get(j, "values"), "root_module"), false, 0);
	else
	{
		const json_t *prior = json_object_get(json_object_get(j, "prior_state"), "values");

		walk_module(out, json_object_get(prior, "root_module"), true, 0);
		walk_module(out, json_object_get(planned, "root_module"), false, 0);
	}
	return out;
}

/* -- mapping ------------------------------------------------------------- */

typedef struct Map
{
	const json_t *resources;
	const Graph *graph;
	json_t *agents;	  /* label -> {"agent": …, "id": …, "owner": label} */
	json_t *metadata; /* target label -> values */
	char *error;
} Map;

static bool problem(Map *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool
problem(Map *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (m->error == NULL && vasprintf(&m->error, fmt, ap) < 0)
		m->error = NULL;
	va_end(ap);
	return false;
}

static const char *
str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

static json_int_t
num(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	/* A parameter's value is text, of which the schema makes a number. */
	if (json_is_string(v))
		return strtoll(json_string_value(v), NULL, 10);
	return json_is_real(v) ? (json_int_t) json_real_value(v) : json_integer_value(v);
}

static bool
flag(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

static const json_t *
values_of(const json_t *resource)
{
	return json_object_get(resource, "values");
}

static const json_t *
first(const json_t *values, const char *block)
{
	const json_t *list = json_object_get(values, block);

	return json_is_array(list) ? json_array_get(list, 0) : NULL;
}

static bool
is_type(const json_t *resource, const char *type)
{
	return strcmp(str(resource, "type"), type) == 0;
}

static bool
is_managed(const json_t *resource)
{
	return strcmp(str(resource, "mode"), "managed") == 0;
}

/* The address up to the first index. */
static char *
label_of(const json_t *resource)
{
	const char *address = str(resource, "address");

	return strndup(address, strcspn(address, "["));
}

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

static bool
is_compute(const json_t *resource)
{
	return is_managed(resource) && (strncmp(str(resource, "type"), "coder_", 6) != 0 ||
									is_type(resource, "coder_external_agent"));
}

static const json_t *
compute_with_label(const Map *m, const char *label)
{
	const json_t *item;
	size_t i;

	json_array_foreach(m->resources, i, item) if (is_compute(item))
	{
		char *other = label_of(item);
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

static bool
has_label(const Map *m, const char *label)
{
	size_t i;

	for (i = 0; i < m->graph->n; i++)
		if (m->graph->nodes[i].label != NULL && strcmp(m->graph->nodes[i].label, label) == 0)
			return true;
	return false;
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
			 str(resource, "type"),
			 str(resource, "name"));
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
		strcmp(str(v, "startup_script_behavior"), "blocking") == 0 || json_is_false(old);

	if (str(v, "startup_script")[0] != '\0')
		json_array_append_new(out,
							  script_json("Startup Script",
										  "/emojis/25b6-fe0f.png",
										  "coder-startup-script.log",
										  str(v, "startup_script"),
										  true,
										  blocking));
	if (str(v, "shutdown_script")[0] != '\0')
		json_array_append_new(out,
							  script_json("Shutdown Script",
										  "/emojis/25c0.png",
										  "coder-shutdown-script.log",
										  str(v, "shutdown_script"),
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
										str(item, "key"),
										"display_name",
										str(item, "display_name"),
										"script",
										str(item, "script"),
										"interval",
										num(item, "interval"),
										"timeout",
										num(item, "timeout"),
										"order",
										num(item, "order")));
	return out;
}

static json_t *
agent_display_apps(const json_t *v)
{
	static const char *const keys[] = {
		"vscode", "vscode_insiders", "web_terminal", "ssh_helper", "port_forwarding_helper"};
	const json_t *block = first(v, "display_apps");
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
	const json_t *block = first(v, "resources_monitoring");
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
									  flag(item, "enabled"),
									  "threshold",
									  num(item, "threshold")));
	}
	json_array_foreach(json_object_get(block, "volume"), i, item)
		json_array_append_new(volumes,
							  json_pack("{s:s, s:b, s:I}",
										"path",
										str(item, "path"),
										"enabled",
										flag(item, "enabled"),
										"threshold",
										num(item, "threshold")));
	return out;
}

static bool
add_agent(Map *m, const json_t *resource)
{
	const json_t *v = values_of(resource);
	const char *name = str(resource, "name");
	char *label = label_of(resource);
	const char *owner;
	const json_t *other;
	const char *key;
	json_t *agent;
	bool ok = true;

	if (strchr(name, '_') != NULL)
		ok = problem(
			m, "agent name \"%s\" has an underscore; use letters, digits and single hyphens", name);
	else if (!valid_slug(name))
		ok = problem(
			m, "agent name \"%s\" must be letters, digits and single hyphens between them", name);
	json_object_foreach(
		m->agents, key, other) if (ok && strcasecmp(str(json_object_get(other, "agent"), "name"),
													name) == 0) ok =
		problem(m, "two agents have the name \"%s\"", name);
	if (ok && !has_label(m, label))
		ok = problem(
			m,
			"agent \"%s\" is not in the graph: a module with an agent cannot have count or for_each",
			name);
	owner = ok ? nearest_compute(m, label, true) : NULL;
	if (ok && owner != NULL)
	{
		agent = json_pack(
			"{s:s, s:s, s:O?, s:s, s:s, s:s, s:[], s:I, s:s, s:s, s:o, s:o, s:o, s:[], s:I, s:o, s:[], s:s}",
			"id",
			str(v, "id"),
			"name",
			name,
			"env",
			json_object_get(v, "env"),
			"operating_system",
			str(v, "os"),
			"architecture",
			str(v, "arch"),
			"directory",
			str(v, "dir"),
			"apps",
			"connection_timeout_seconds",
			num(v, "connection_timeout"),
			"troubleshooting_url",
			str(v, "troubleshooting_url"),
			"motd_file",
			str(v, "motd_file"),
			"metadata",
			agent_metadata(v),
			"display_apps",
			agent_display_apps(v),
			"scripts",
			agent_scripts(v),
			"extra_envs",
			"order",
			num(v, "order"),
			"resources_monitoring",
			agent_monitoring(v),
			"devcontainers",
			"api_key_scope",
			str(v, "api_key_scope"));
		if (!json_is_object(json_object_get(agent, "env")))
			json_object_set_new(agent, "env", json_object());
		if (strcmp(str(v, "auth"), "token") == 0)
			json_object_set_new(agent, "token", json_string(str(v, "token")));
		else
			json_object_set_new(agent, "instance_id", json_string(""));
		json_object_set_new(
			m->agents, label, json_pack("{s:o, s:s}", "agent", agent, "owner", owner));
	}
	free(label);
	return ok;
}

/* Does this resource belong to the agent? */
static bool
belongs(const Map *m, const json_t *resource, const json_t *entry)
{
	const char *id = str(json_object_get(entry, "agent"), "id");
	const char *wanted = str(values_of(resource), "agent_id");
	char target[512];

	if (id[0] != '\0' || wanted[0] != '\0')
		return strcmp(id, wanted) == 0;
	snprintf(
		target, sizeof(target), "coder_agent.%.400s", str(json_object_get(entry, "agent"), "name"));
	return refers_to(m, resource, target);
}

static bool
belongs_to_devcontainer(const Map *m, const json_t *resource, const json_t *devcontainer)
{
	const char *id = str(devcontainer, "subagent_id");
	const char *wanted = str(values_of(resource), "agent_id");
	char target[512];

	if (id[0] != '\0' || wanted[0] != '\0')
		return strcmp(id, wanted) == 0;
	snprintf(target, sizeof(target), "coder_devcontainer.%.400s", str(devcontainer, "name"));
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
	const json_t *v = values_of(resource);
	const char *key;
	json_t *entry;

	json_object_foreach(m->agents, key, entry) if (belongs(m, resource, entry))
		json_array_append_new(json_object_get(json_object_get(entry, "agent"), "devcontainers"),
							  json_pack("{s:s, s:s, s:s, s:s, s:s, s:[], s:[], s:[]}",
										"workspace_folder",
										str(v, "workspace_folder"),
										"config_path",
										str(v, "config_path"),
										"name",
										str(resource, "name"),
										"id",
										str(v, "id"),
										"subagent_id",
										str(v, "subagent_id"),
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

		if (str(agent, "id")[0] != '\0' && belongs(m, resource, entry) &&
			json_object_get(agent, "token") == NULL)
			json_object_set_new(
				agent, "instance_id", json_string(str(values_of(resource), "instance_id")));
	}
}

static bool
add_app(Map *m, const json_t *resource, json_t *slugs)
{
	const json_t *v = values_of(resource);
	const char *slug = str(v, "slug")[0] != '\0' ? str(v, "slug") : str(resource, "name");
	const char *share = str(v, "share");
	const char *shown = str(v, "display_name")[0] != '\0' ? str(v, "display_name")
						: str(v, "name")[0] != '\0'		  ? str(v, "name")
														  : slug;
	const json_t *check = first(v, "healthcheck");
	json_t *app;

	if (!valid_slug(slug))
		return problem(
			m, "app slug \"%s\" must be letters, digits and single hyphens between them", slug);
	if (json_object_get(slugs, slug) != NULL)
		return problem(m, "two apps have the slug \"%s\"", slug);
	json_object_set_new(slugs, slug, json_true());
	app = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:b, s:I, s:b, s:s, s:s, s:s, s:s}",
					"slug",
					slug,
					"display_name",
					shown,
					"command",
					str(v, "command"),
					"url",
					str(v, "url"),
					"icon",
					str(v, "icon"),
					"subdomain",
					flag(v, "subdomain"),
					"sharing_level",
					strcmp(share, "public") == 0		  ? "PUBLIC"
					: strcmp(share, "authenticated") == 0 ? "AUTHENTICATED"
														  : "OWNER",
					"external",
					flag(v, "external"),
					"order",
					num(v, "order"),
					"hidden",
					flag(v, "hidden"),
					"open_in",
					strcmp(str(v, "open_in"), "tab") == 0 ? "TAB" : "SLIM_WINDOW",
					"group",
					str(v, "group"),
					"id",
					str(v, "id"),
					"tooltip",
					str(v, "tooltip"));
	if (check != NULL)
		json_object_set_new(app,
							"healthcheck",
							json_pack("{s:s, s:I, s:I}",
									  "url",
									  str(check, "url"),
									  "interval",
									  num(check, "interval"),
									  "threshold",
									  num(check, "threshold")));
	attach(m, resource, "apps", "apps", app);
	return true;
}

static void
add_env(Map *m, const json_t *resource)
{
	const json_t *v = values_of(resource);

	attach(m,
		   resource,
		   "extra_envs",
		   "envs",
		   json_pack("{s:s, s:s, s:s}",
					 "name",
					 str(v, "name"),
					 "value",
					 str(v, "value"),
					 "merge_strategy",
					 str(v, "merge_strategy")));
}

static void
add_script(Map *m, const json_t *resource)
{
	const json_t *v = values_of(resource);

	attach(m,
		   resource,
		   "scripts",
		   "scripts",
		   json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:s}",
					 "display_name",
					 str(v, "display_name"),
					 "icon",
					 str(v, "icon"),
					 "script",
					 str(v, "script"),
					 "cron",
					 str(v, "cron"),
					 "start_blocks_login",
					 flag(v, "start_blocks_login"),
					 "run_on_start",
					 flag(v, "run_on_start"),
					 "run_on_stop",
					 flag(v, "run_on_stop"),
					 "timeout_seconds",
					 num(v, "timeout"),
					 "log_path",
					 str(v, "log_path")));
}

static bool
add_metadata(Map *m, const json_t *resource)
{
	char *label = label_of(resource);
	const char *target = nearest_compute(m, label, false);
	bool ok = true;

	if (target != NULL && json_object_get(m->metadata, target) != NULL)
		ok = problem(m, "two coder_metadata describe \"%s\"", target);
	else if (target != NULL)
		json_object_set(m->metadata, target, (json_t *) (uintptr_t) values_of(resource));
	free(label);
	return ok;
}

/* -- the list of resources ----------------------------------------------- */

static json_t *
metadata_items(const json_t *v)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(v, "item"), i, item)
		json_array_append_new(out,
							  json_pack("{s:s, s:s, s:b, s:b}",
										"key",
										str(item, "key"),
										"value",
										str(item, "value"),
										"sensitive",
										flag(item, "sensitive"),
										"is_null",
										flag(item, "is_null")));
	return out;
}

static const char *
instance_type(const json_t *resource)
{
	const char *type = str(resource, "type");

	if (strcmp(type, "google_compute_instance") == 0)
		return str(values_of(resource), "machine_type");
	if (strcmp(type, "aws_instance") == 0 || strcmp(type, "aws_spot_instance_request") == 0)
		return str(values_of(resource), "instance_type");
	if (strcmp(type, "azurerm_linux_virtual_machine") == 0 ||
		strcmp(type, "azurerm_windows_virtual_machine") == 0)
		return str(values_of(resource), "size");
	return "";
}

static const char *
automatic_instance_id(const json_t *resource)
{
	const char *type = str(resource, "type");

	if (strcmp(type, "google_compute_instance") == 0)
		return str(values_of(resource), "instance_id");
	if (strcmp(type, "aws_instance") == 0)
		return str(values_of(resource), "id");
	if (strcmp(type, "aws_spot_instance_request") == 0)
		return str(values_of(resource), "spot_instance_id");
	if (strcmp(type, "azurerm_linux_virtual_machine") == 0 ||
		strcmp(type, "azurerm_windows_virtual_machine") == 0)
		return str(values_of(resource), "virtual_machine_id");
	return "";
}

/* "module.a.module.b" of "module.a.module.b.type.name[0]". */
static char *
module_path(const char *address)
{
	size_t end = 0;
	size_t at = 0;

	while (strncmp(address + at, "module.", 7) == 0)
	{
		bool quote = false;
		int open = 0;

		for (at += 7; address[at] != '\0'; at++)
		{
			if (address[at] == '"')
				quote = !quote;
			else if (!quote && address[at] == '[')
				open++;
			else if (!quote && address[at] == ']')
				open--;
			else if (!quote && open == 0 && address[at] == '.')
				break;
		}
		end = at;
		if (address[at] == '.')
			at++;
	}
	return strndup(address, end);
}

static json_t *
resource_json(Map *m, const json_t *resource)
{
	char *label = label_of(resource);
	char *path = module_path(str(resource, "address"));
	const json_t *meta = json_object_get(m->metadata, label);
	json_t *agents = json_array();
	const char *key;
	json_t *entry;
	json_t *out;

	json_object_foreach(m->agents, key, entry) if (strcmp(str(entry, "owner"), label) == 0)
	{
		json_t *agent = json_object_get(entry, "agent");

		if (json_object_get(agent, "token") == NULL && str(agent, "instance_id")[0] == '\0')
			json_object_set_new(agent, "instance_id", json_string(automatic_instance_id(resource)));
		json_array_append(agents, agent);
	}
	out = json_pack("{s:s, s:s, s:o, s:o, s:b, s:s, s:s, s:I, s:s}",
					"name",
					str(resource, "name"),
					"type",
					str(resource, "type"),
					"agents",
					agents,
					"metadata",
					metadata_items(meta),
					"hide",
					flag(meta, "hide"),
					"icon",
					str(meta, "icon"),
					"instance_type",
					instance_type(resource),
					"daily_cost",
					num(meta, "daily_cost"),
					"module_path",
					path);
	free(path);
	free(label);
	return out;
}

static int
by_address(const void *a, const void *b)
{
	return strcmp(str(*(json_t *const *) a, "address"), str(*(json_t *const *) b, "address"));
}

/* The managed resources sorted by address. */
static json_t *
sorted_by_address(const json_t *resources)
{
	const size_t n = json_array_size(resources);
	json_t **items = calloc(n + 1, sizeof(*items));
	json_t *out = json_array();
	size_t i;

	for (i = 0; items != NULL && i < n; i++)
		items[i] = json_array_get(resources, i);
	if (items != NULL)
		qsort(items, n, sizeof(*items), by_address);
	for (i = 0; items != NULL && i < n; i++)
		if (is_managed(items[i]))
			json_array_append(out, items[i]);
	free(items);
	return out;
}

static bool
is_listed(const json_t *resource)
{
	static const char *const hidden[] = {
		"coder_agent", "coder_agent_instance", "coder_app", "coder_script", "coder_metadata"};
	size_t i;

	for (i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (is_type(resource, hidden[i]))
			return false;
	return true;
}

/* -- parameters, presets, external auth, tasks ---------------------------- */

static const char *
form_type_name(const char *s)
{
	static const char *const names[][2] = {{"", "DEFAULT"},
										   {"error", "FORM_ERROR"},
										   {"radio", "RADIO"},
										   {"dropdown", "DROPDOWN"},
										   {"input", "INPUT"},
										   {"textarea", "TEXTAREA"},
										   {"slider", "SLIDER"},
										   {"checkbox", "CHECKBOX"},
										   {"switch", "SWITCH"},
										   {"tag-select", "TAGSELECT"},
										   {"multi-select", "MULTISELECT"}};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(s, names[i][0]) == 0)
			return names[i][1];
	return NULL;
}

static void
parameter_validation(json_t *out, const json_t *v)
{
	const json_t *list = json_object_get(v, "validation");
	const json_t *rule = json_array_size(list) == 1 ? json_array_get(list, 0) : NULL;
	const json_t *min = json_object_get(rule, "min");
	const json_t *max = json_object_get(rule, "max");
	bool no_min = !json_is_number(min) || flag(rule, "min_disabled");
	bool no_max = !json_is_number(max) || flag(rule, "max_disabled");

	/* Providers of old say 0 and 0 where nothing is set. */
	if (json_object_get(rule, "min_disabled") == NULL && json_is_number(min) &&
		json_is_number(max) && num(rule, "min") == 0 && num(rule, "max") == 0)
		no_min = no_max = true;
	json_object_set_new(out, "validation_regex", json_string(str(rule, "regex")));
	json_object_set_new(out, "validation_error", json_string(str(rule, "error")));
	json_object_set_new(out, "validation_monotonic", json_string(str(rule, "monotonic")));
	if (rule != NULL && !no_min)
		json_object_set_new(out, "validation_min", json_integer(num(rule, "min")));
	if (rule != NULL && !no_max)
		json_object_set_new(out, "validation_max", json_integer(num(rule, "max")));
}

static bool
add_parameter(Map *m, const json_t *resource, json_t *out)
{
	const json_t *v = values_of(resource);
	const char *form_type = form_type_name(str(v, "form_type"));
	json_t *options = json_array();
	json_t *param;
	const json_t *item;
	size_t i;

	if (form_type == NULL)
	{
		json_decref(options);
		return problem(m,
					   "parameter \"%s\" has the form_type \"%s\", which is unknown",
					   str(v, "name"),
					   str(v, "form_type"));
	}
	json_array_foreach(out, i, item) if (strcmp(str(item, "name"), str(v, "name")) == 0)
	{
		json_decref(options);
		return problem(m, "two parameters have the name \"%s\"", str(v, "name"));
	}
	json_array_foreach(json_object_get(v, "option"), i, item)
		json_array_append_new(options,
							  json_pack("{s:s, s:s, s:s, s:s}",
										"name",
										str(item, "name"),
										"description",
										str(item, "description"),
										"value",
										str(item, "value"),
										"icon",
										str(item, "icon")));
	param = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:o, s:b, s:s, s:I, s:b, s:s}",
					  "name",
					  str(v, "name"),
					  "description",
					  str(v, "description"),
					  "type",
					  str(v, "type")[0] != '\0' ? str(v, "type") : "string",
					  "mutable",
					  flag(v, "mutable"),
					  "default_value",
					  str(v, "default"),
					  "icon",
					  str(v, "icon"),
					  "options",
					  options,
					  "required",
					  !flag(v, "optional"),
					  "display_name",
					  str(v, "display_name"),
					  "order",
					  num(v, "order"),
					  "ephemeral",
					  flag(v, "ephemeral"),
					  "form_type",
					  form_type);
	parameter_validation(param, v);
	json_array_append_new(out, param);
	return true;
}

static json_t *
prebuild_json(const json_t *v)
{
	const json_t *block = first(v, "prebuilds");
	const json_t *expiry = first(block, "expiration_policy");
	const json_t *scheduling = first(block, "scheduling");
	json_t *schedule = json_array();
	json_t *out = json_pack("{s:I}", "instances", num(block, "instances"));
	const json_t *item;
	size_t i;

	json_object_set_new(out, "expiration_policy", json_pack("{s:I}", "ttl", num(expiry, "ttl")));
	json_array_foreach(json_object_get(scheduling, "schedule"), i, item) json_array_append_new(
		schedule,
		json_pack("{s:s, s:I}", "cron", str(item, "cron"), "instances", num(item, "instances")));
	json_object_set_new(
		out,
		"scheduling",
		json_pack("{s:s, s:o}", "timezone", str(scheduling, "timezone"), "schedule", schedule));
	return out;
}

static bool
add_preset(Map *m, const json_t *resource, json_t *out)
{
	const json_t *v = values_of(resource);
	json_t *parameters = json_array();
	const json_t *item;
	const char *key;
	size_t i;

	json_array_foreach(out, i, item) if (flag(item, "default") && flag(v, "default"))
	{
		json_decref(parameters);
		return problem(
			m, "two presets are the default: \"%s\" and \"%s\"", str(item, "name"), str(v, "name"));
	}
	json_object_foreach(json_object_get(v, "parameters"), key, item)
		json_array_append_new(parameters,
							  json_pack("{s:s, s:s}",
										"name",
										key,
										"value",
										json_is_string(item) ? json_string_value(item) : ""));
	json_array_append_new(out,
						  json_pack("{s:s, s:o, s:o, s:b, s:s, s:s}",
									"name",
									str(v, "name"),
									"parameters",
									parameters,
									"prebuild",
									prebuild_json(v),
									"default",
									flag(v, "default"),
									"description",
									str(v, "description"),
									"icon",
									str(v, "icon")));
	return true;
}

static json_t *
external_auth(const Map *m)
{
	json_t *by_id = json_object();
	json_t *out = json_array();
	const json_t *item;
	json_t *value;
	const char *key;
	size_t i;
	int pass;

	for (pass = 0; pass < 2; pass++)
		json_array_foreach(m->resources, i, item) if (is_type(item,
															  pass == 0 ? "coder_git_auth"
																		: "coder_external_auth"))
			json_object_set_new(
				by_id, str(values_of(item), "id"), json_boolean(flag(values_of(item), "optional")));
	{
		char *sorted = json_dumps(by_id, JSON_SORT_KEYS);
		json_t *ordered = json_loads(sorted, 0, NULL);

		free(sorted);
		json_object_foreach(ordered, key, value)
			json_array_append_new(out, json_pack("{s:s, s:O}", "id", key, "optional", value));
		json_decref(ordered);
	}
	json_decref(by_id);
	return out;
}

static json_t *
ai_tasks(const Map *m)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(m->resources, i, item) if (is_managed(item) &&
												  is_type(item, "coder_ai_task"))
	{
		const json_t *v = values_of(item);
		const json_t *sidebar = first(v, "sidebar_app");
		const char *app = str(v, "app_id")[0] != '\0' ? str(v, "app_id") : str(sidebar, "id");
		json_t *task = json_pack("{s:s, s:s}", "id", str(v, "id"), "app_id", app);

		if (sidebar != NULL)
			json_object_set_new(task, "sidebar_app", json_pack("{s:s}", "id", str(sidebar, "id")));
		json_array_append_new(out, task);
	}
	return out;
}

static bool
graph_has_type(const Graph *g, const char *type)
{
	const size_t n = strlen(type);
	size_t i;

	for (i = 0; i < g->n; i++)
	{
		const char *label = g->nodes[i].label;
		const char *hit = label != NULL ? strstr(label, type) : NULL;

		if (hit != NULL && hit[n] == '.' && (hit == label || hit[-1] == '.'))
			return true;
	}
	return false;
}

/* -- all of it ----------------------------------------------------------- */

typedef void (*AddFn)(Map *m, const json_t *resource);

static void
for_each(Map *m, const json_t *sorted, const char *type, AddFn fn)
{
	const json_t *item;
	size_t i;

	json_array_foreach(sorted, i, item) if (is_type(item, type)) fn(m, item);
}

static bool
map_agents(Map *m, const json_t *sorted)
{
	json_t *slugs = json_object();
	const json_t *item;
	bool ok = true;
	size_t i;

	json_array_foreach(sorted, i, item) if (ok && is_type(item, "coder_agent")) ok =
		add_agent(m, item);
	for_each(m, sorted, "coder_devcontainer", add_devcontainer);
	for_each(m, sorted, "coder_agent_instance", add_instance_id);
	json_array_foreach(sorted, i, item) if (ok && is_type(item, "coder_app")) ok =
		add_app(m, item, slugs);
	for_each(m, sorted, "coder_env", add_env);
	for_each(m, sorted, "coder_script", add_script);
	json_array_foreach(sorted, i, item) if (ok && is_type(item, "coder_metadata")) ok =
		add_metadata(m, item);
	json_decref(slugs);
	return ok;
}

static bool
map_data(Map *m, json_t *parameters, json_t *presets)
{
	const json_t *item;
	bool ok = true;
	size_t i;

	json_array_foreach(m->resources, i, item)
	{
		if (ok && is_type(item, "coder_parameter"))
			ok = add_parameter(m, item, parameters);
		else if (ok && is_type(item, "coder_workspace_preset"))
			ok = add_preset(m, item, presets);
	}
	return ok;
}

json_t *
plan_map(const json_t *resources, const Graph *graph, char **error)
{
	Map m = {
		.resources = resources, .graph = graph, .agents = json_object(), .metadata = json_object()};
	json_t *sorted = sorted_by_address(resources);
	json_t *parameters = json_array();
	json_t *presets = json_array();
	json_t *list = json_array();
	json_t *out = NULL;
	const json_t *item;
	size_t i;

	if (map_agents(&m, sorted) && map_data(&m, parameters, presets))
	{
		json_array_foreach(sorted, i, item) if (is_listed(item))
			json_array_append_new(list, resource_json(&m, item));
		out = json_pack("{s:O, s:O, s:O, s:o, s:o, s:b, s:b}",
						"resources",
						list,
						"parameters",
						parameters,
						"presets",
						presets,
						"external_auth_providers",
						external_auth(&m),
						"ai_tasks",
						ai_tasks(&m),
						"has_ai_tasks",
						graph_has_type(graph, "coder_ai_task"),
						"has_external_agents",
						graph_has_type(graph, "coder_external_agent"));
	}
	*error = m.error;
	json_decref(sorted);
	json_decref(parameters);
	json_decref(presets);
	json_decref(list);
	json_decref(m.agents);
	json_decref(m.metadata);
	return out;
}
