/*
 * plan_data.c -- parameters, presets, external authentication, tasks
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan_int.h"

#include <stdlib.h>
#include <string.h>

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
	bool no_min = !json_is_number(min) || plan_flag(rule, "min_disabled");
	bool no_max = !json_is_number(max) || plan_flag(rule, "max_disabled");

	/* Providers of old say 0 and 0 where nothing is set. */
	if (json_object_get(rule, "min_disabled") == NULL && json_is_number(min) &&
		json_is_number(max) && plan_num(rule, "min") == 0 && plan_num(rule, "max") == 0)
		no_min = no_max = true;
	json_object_set_new(out, "validation_regex", json_string(plan_str(rule, "regex")));
	json_object_set_new(out, "validation_error", json_string(plan_str(rule, "error")));
	json_object_set_new(out, "validation_monotonic", json_string(plan_str(rule, "monotonic")));
	if (rule != NULL && !no_min)
		json_object_set_new(out, "validation_min", json_integer(plan_num(rule, "min")));
	if (rule != NULL && !no_max)
		json_object_set_new(out, "validation_max", json_integer(plan_num(rule, "max")));
}

static bool
add_parameter(Map *m, const json_t *resource, json_t *out)
{
	const json_t *v = plan_values(resource);
	const char *form_type = form_type_name(plan_str(v, "form_type"));
	json_t *options = json_array();
	json_t *param;
	const json_t *item;
	size_t i;

	if (form_type == NULL)
	{
		json_decref(options);
		return plan_problem(m,
							"parameter \"%s\" has the form_type \"%s\", which is unknown",
							plan_str(v, "name"),
							plan_str(v, "form_type"));
	}
	json_array_foreach(out, i, item) if (strcmp(plan_str(item, "name"), plan_str(v, "name")) == 0)
	{
		json_decref(options);
		return plan_problem(m, "two parameters have the name \"%s\"", plan_str(v, "name"));
	}
	json_array_foreach(json_object_get(v, "option"), i, item)
		json_array_append_new(options,
							  json_pack("{s:s, s:s, s:s, s:s}",
										"name",
										plan_str(item, "name"),
										"description",
										plan_str(item, "description"),
										"value",
										plan_str(item, "value"),
										"icon",
										plan_str(item, "icon")));
	param = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:o, s:b, s:s, s:I, s:b, s:s}",
					  "name",
					  plan_str(v, "name"),
					  "description",
					  plan_str(v, "description"),
					  "type",
					  plan_str(v, "type")[0] != '\0' ? plan_str(v, "type") : "string",
					  "mutable",
					  plan_flag(v, "mutable"),
					  "default_value",
					  plan_str(v, "default"),
					  "icon",
					  plan_str(v, "icon"),
					  "options",
					  options,
					  "required",
					  !plan_flag(v, "optional"),
					  "display_name",
					  plan_str(v, "display_name"),
					  "order",
					  plan_num(v, "order"),
					  "ephemeral",
					  plan_flag(v, "ephemeral"),
					  "form_type",
					  form_type);
	parameter_validation(param, v);
	json_array_append_new(out, param);
	return true;
}

static json_t *
prebuild_json(const json_t *v)
{
	const json_t *block = plan_first(v, "prebuilds");
	const json_t *expiry = plan_first(block, "expiration_policy");
	const json_t *scheduling = plan_first(block, "scheduling");
	json_t *schedule = json_array();
	json_t *out = json_pack("{s:I}", "instances", plan_num(block, "instances"));
	const json_t *item;
	size_t i;

	json_object_set_new(
		out, "expiration_policy", json_pack("{s:I}", "ttl", plan_num(expiry, "ttl")));
	json_array_foreach(json_object_get(scheduling, "schedule"), i, item)
		json_array_append_new(schedule,
							  json_pack("{s:s, s:I}",
										"cron",
										plan_str(item, "cron"),
										"instances",
										plan_num(item, "instances")));
	json_object_set_new(
		out,
		"scheduling",
		json_pack(
			"{s:s, s:o}", "timezone", plan_str(scheduling, "timezone"), "schedule", schedule));
	return out;
}

static bool
add_preset(Map *m, const json_t *resource, json_t *out)
{
	const json_t *v = plan_values(resource);
	json_t *parameters = json_array();
	const json_t *item;
	const char *key;
	size_t i;

	json_array_foreach(out, i, item) if (plan_flag(item, "default") && plan_flag(v, "default"))
	{
		json_decref(parameters);
		return plan_problem(m,
							"two presets are the default: \"%s\" and \"%s\"",
							plan_str(item, "name"),
							plan_str(v, "name"));
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
									plan_str(v, "name"),
									"parameters",
									parameters,
									"prebuild",
									prebuild_json(v),
									"default",
									plan_flag(v, "default"),
									"description",
									plan_str(v, "description"),
									"icon",
									plan_str(v, "icon")));
	return true;
}

json_t *
plan_external_auth(const Map *m)
{
	json_t *by_id = json_object();
	json_t *out = json_array();
	const json_t *item;
	json_t *value;
	const char *key;
	size_t i;
	int pass;

	for (pass = 0; pass < 2; pass++)
		json_array_foreach(
			m->resources,
			i,
			item) if (plan_is_type(item, pass == 0 ? "coder_git_auth" : "coder_external_auth"))
			json_object_set_new(by_id,
								plan_str(plan_values(item), "id"),
								json_boolean(plan_flag(plan_values(item), "optional")));
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

json_t *
plan_ai_tasks(const Map *m)
{
	json_t *out = json_array();
	const json_t *item;
	size_t i;

	json_array_foreach(m->resources, i, item) if (plan_is_managed(item) &&
												  plan_is_type(item, "coder_ai_task"))
	{
		const json_t *v = plan_values(item);
		const json_t *sidebar = plan_first(v, "sidebar_app");
		const char *app =
			plan_str(v, "app_id")[0] != '\0' ? plan_str(v, "app_id") : plan_str(sidebar, "id");
		json_t *task = json_pack("{s:s, s:s}", "id", plan_str(v, "id"), "app_id", app);

		if (sidebar != NULL)
			json_object_set_new(
				task, "sidebar_app", json_pack("{s:s}", "id", plan_str(sidebar, "id")));
		json_array_append_new(out, task);
	}
	return out;
}

bool
plan_map_data(Map *m, json_t *parameters, json_t *presets)
{
	const json_t *item;
	bool ok = true;
	size_t i;

	json_array_foreach(m->resources, i, item)
	{
		if (ok && plan_is_type(item, "coder_parameter"))
			ok = add_parameter(m, item, parameters);
		else if (ok && plan_is_type(item, "coder_workspace_preset"))
			ok = add_preset(m, item, presets);
	}
	return ok;
}
