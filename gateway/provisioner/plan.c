/*
 * plan.c -- plan or state JSON and the dependency graph to resources
 *
 * Both engines end here: Terraform's JSON and our own have the same shape.
 * Their agents: plan_agent.c; what else a template declares: plan_data.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* -- reading a resource -------------------------------------------------- */

bool
plan_problem(Map *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (m->error == NULL && vasprintf(&m->error, fmt, ap) < 0)
		m->error = NULL;
	va_end(ap);
	return false;
}

const char *
plan_str(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

json_int_t
plan_num(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	/* A parameter's value is text, of which the schema makes a number. */
	if (json_is_string(v))
		return strtoll(json_string_value(v), NULL, 10);
	return json_is_real(v) ? (json_int_t) json_real_value(v) : json_integer_value(v);
}

bool
plan_flag(const json_t *j, const char *key)
{
	return json_is_true(json_object_get(j, key));
}

const json_t *
plan_values(const json_t *resource)
{
	return json_object_get(resource, "values");
}

const json_t *
plan_first(const json_t *values, const char *block)
{
	const json_t *list = json_object_get(values, block);

	return json_is_array(list) ? json_array_get(list, 0) : NULL;
}

bool
plan_is_type(const json_t *resource, const char *type)
{
	return strcmp(plan_str(resource, "type"), type) == 0;
}

bool
plan_is_managed(const json_t *resource)
{
	return strcmp(plan_str(resource, "mode"), "managed") == 0;
}

/* The address up to the first index. */
char *
plan_label(const json_t *resource)
{
	const char *address = plan_str(resource, "address");

	return strndup(address, strcspn(address, "["));
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
										plan_str(item, "key"),
										"value",
										plan_str(item, "value"),
										"sensitive",
										plan_flag(item, "sensitive"),
										"is_null",
										plan_flag(item, "is_null")));
	return out;
}

static const char *
instance_type(const json_t *resource)
{
	const char *type = plan_str(resource, "type");

	if (strcmp(type, "google_compute_instance") == 0)
		return plan_str(plan_values(resource), "machine_type");
	if (strcmp(type, "aws_instance") == 0 || strcmp(type, "aws_spot_instance_request") == 0)
		return plan_str(plan_values(resource), "instance_type");
	if (strcmp(type, "azurerm_linux_virtual_machine") == 0 ||
		strcmp(type, "azurerm_windows_virtual_machine") == 0)
		return plan_str(plan_values(resource), "size");
	return "";
}

static const char *
automatic_instance_id(const json_t *resource)
{
	const char *type = plan_str(resource, "type");

	if (strcmp(type, "google_compute_instance") == 0)
		return plan_str(plan_values(resource), "instance_id");
	if (strcmp(type, "aws_instance") == 0)
		return plan_str(plan_values(resource), "id");
	if (strcmp(type, "aws_spot_instance_request") == 0)
		return plan_str(plan_values(resource), "spot_instance_id");
	if (strcmp(type, "azurerm_linux_virtual_machine") == 0 ||
		strcmp(type, "azurerm_windows_virtual_machine") == 0)
		return plan_str(plan_values(resource), "virtual_machine_id");
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
	char *label = plan_label(resource);
	char *path = module_path(plan_str(resource, "address"));
	const json_t *meta = json_object_get(m->metadata, label);
	json_t *agents = json_array();
	const char *key;
	json_t *entry;
	json_t *out;

	json_object_foreach(m->agents, key, entry) if (strcmp(plan_str(entry, "owner"), label) == 0)
	{
		json_t *agent = json_object_get(entry, "agent");

		if (json_object_get(agent, "token") == NULL && plan_str(agent, "instance_id")[0] == '\0')
			json_object_set_new(agent, "instance_id", json_string(automatic_instance_id(resource)));
		json_array_append(agents, agent);
	}
	out = json_pack("{s:s, s:s, s:o, s:o, s:b, s:s, s:s, s:I, s:s}",
					"name",
					plan_str(resource, "name"),
					"type",
					plan_str(resource, "type"),
					"agents",
					agents,
					"metadata",
					metadata_items(meta),
					"hide",
					plan_flag(meta, "hide"),
					"icon",
					plan_str(meta, "icon"),
					"instance_type",
					instance_type(resource),
					"daily_cost",
					plan_num(meta, "daily_cost"),
					"module_path",
					path);
	free(path);
	free(label);
	return out;
}

static int
by_address(const void *a, const void *b)
{
	return strcmp(plan_str(*(json_t *const *) a, "address"),
				  plan_str(*(json_t *const *) b, "address"));
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
		if (plan_is_managed(items[i]))
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
		if (plan_is_type(resource, hidden[i]))
			return false;
	return true;
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

	if (plan_map_agents(&m, sorted) && plan_map_data(&m, parameters, presets))
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
						plan_external_auth(&m),
						"ai_tasks",
						plan_ai_tasks(&m),
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
