/*
 * tool.c -- the tools of chats.
 *
 * A table of tools; each says when it can be used and starts what it does.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "tool.h"

static const json_t *
dynamic_tool(const json_t *chat, const char *name)
{
	size_t i;
	json_t *tool;

	json_array_foreach(json_object_get(chat, "dynamic_tools"), i, tool)
	{
		const char *own = json_string_value(json_object_get(tool, "name"));

		if (own != NULL && strcmp(own, name) == 0)
			return tool;
	}
	return NULL;
}

/* Of a client's schema only what it takes is passed on. */
static json_t *
dynamic_schema(const json_t *tool)
{
	const json_t *given = json_object_get(tool, "input_schema");
	json_t *properties = json_object_get(given, "properties");
	json_t *required = json_object_get(given, "required");
	json_t *schema = json_pack("{s:s}", "type", "object");

	json_object_set_new(schema, "properties", json_is_object(properties) ? json_incref(properties) : json_object());
	if (json_is_array(required))
		json_object_set(schema, "required", required);
	return schema;
}

json_t *
tool_list(const json_t *chat)
{
	json_t *tools = json_array();
	size_t i;
	json_t *tool;

	json_array_foreach(json_object_get(chat, "dynamic_tools"), i, tool)
	{
		const char *name = json_string_value(json_object_get(tool, "name"));
		const char *description = json_string_value(json_object_get(tool, "description"));

		if (name != NULL)
			json_array_append_new(tools, json_pack("{s:s, s:s, s:o}", "name", name, "description",
												   description != NULL ? description : "", "input_schema", dynamic_schema(tool)));
	}
	return tools;
}

bool
tool_is_dynamic(const json_t *chat, const char *name)
{
	return dynamic_tool(chat, name) != NULL;
}

ToolCall *
tool_start(const json_t *chat, const char *name, const json_t *args, ToolDone done, void *arg)
{
	(void) chat;
	(void) name;
	(void) args;
	(void) done;
	(void) arg;
	return NULL;
}

void
tool_cancel(ToolCall *call)
{
	(void) call;
}
