/*
 * turntools.c -- the tools that a model has called in a step: all at once, until each has a result.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "computer.h"
#include "turnstate.h"

/* Parts of a call tell whose tool it is, where an MCP server has it. */
void
turn_tell_server(const Turn *t, json_t *part, const char *tool)
{
	const char *server = tool != NULL ? mcp_server_of(t->kit.mcp, tool) : NULL;

	if (server != NULL)
		json_object_set_new(part, "mcp_server_config_id", json_string(server));
}

json_t *
turn_tool_message(const RunningTool *tool, const StreamCall *call)
{
	json_t *part = json_pack("{s:s, s:s, s:s, s:n, s:O, s:s}", "type", "tool-result", "tool_call_id", call->id, "tool_name",
							 call->name, "mcp_server_config_id", "result", tool->result, "created_at", tool->ended_at);

	turn_tell_server(tool->turn, part, call->name);
	if (tool->flags & TOOL_FAILED)
		json_object_set_new(part, "is_error", json_true());
	if (tool->flags & TOOL_MEDIA)
		json_object_set_new(part, "is_media", json_true());
	return json_pack("{s:s, s:[o]}", "role", "tool", "content", part);
}

void
turn_close_tools(Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
	{
		if (t->running[i].call != NULL && t->running[i].result == NULL)
			tool_cancel(t->running[i].call);
		json_decref(t->running[i].result);
	}
	free(t->running);
	t->running = NULL;
	t->n_running = 0;
	t->n_tools_left = 0;
}

/* All have ended: their results are told in the order of the calls. */
static void
tools_done(Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
	{
		json_t *message;

		if (t->running[i].is_dynamic)
			continue;
		message = turn_tool_message(&t->running[i], &t->exchange.stream.calls[i]);
		turn_say_part(t, "tool", json_incref(json_array_get(json_object_get(message, "content"), 0)));
		json_decref(message);
	}
	turn_store_step(t);
}

static void begin_waiting(Turn *t);

static void
on_tool(void *arg, json_t *result, unsigned flags)
{
	RunningTool *tool = arg;

	tool->call = NULL;
	tool->result = result;
	tool->flags = flags;
	stream_now(tool->ended_at);
	tool->turn->n_tools_left--;
	begin_waiting(tool->turn);
	if (tool->turn->n_tools_left == 0)
		tools_done(tool->turn);
}

static void
give_error(RunningTool *tool, json_t *text)
{
	tool->result = json_pack("{s:o}", "error", text);
	tool->flags = TOOL_FAILED;
	stream_now(tool->ended_at);
}

static json_t *
no_tool(const Turn *t, const char *name)
{
	const char *why = mcp_why_not(t->kit.mcp, name);

	return why != NULL ? json_sprintf("Tool not found: %s. Its MCP server %s.", name, why) : json_sprintf("Tool not found: %s", name);
}

/* There is one screen: what is done on it is done in the order of the calls. */
static bool
is_screen_used(const Turn *t, const char *name)
{
	if (strcmp(name, COMPUTER_TOOL) != 0)
		return false;
	for (int i = 0; i < t->n_running; i++)
		if (t->running[i].call != NULL && t->running[i].result == NULL && strcmp(t->exchange.stream.calls[i].name, COMPUTER_TOOL) == 0)
			return true;
	return false;
}

static void
run_tool(Turn *t, RunningTool *tool, const StreamCall *call)
{
	json_t *args = stream_call_json(call);

	tool->turn = t;
	tool->is_dynamic = tool_is_dynamic(&t->kit, call->name);
	if (args == NULL)
	{
		tool->is_dynamic = false;
		give_error(tool, json_string("The arguments are no JSON object."));
	}
	else if (!tool->is_dynamic && is_screen_used(t, call->name))
	{
		tool->waits = true;
		t->n_tools_left++;
	}
	else if (!tool->is_dynamic)
	{
		tool->call = tool_start(&t->kit, call->name, args, on_tool, tool);
		if (tool->call == NULL)
			give_error(tool, no_tool(t, call->name));
		else
			t->n_tools_left++;
	}
	json_decref(args);
}

/* The first call that waited for the screen is begun, where that is free by now. */
static void
begin_waiting(Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
		if (t->running[i].waits && t->running[i].result == NULL && !is_screen_used(t, t->exchange.stream.calls[i].name))
		{
			t->running[i].waits = false;
			t->n_tools_left--;
			run_tool(t, &t->running[i], &t->exchange.stream.calls[i]);
		}
}

/* One for each call that the model has made. */
static bool
have_tools(Turn *t)
{
	int n = t->exchange.stream.n_calls;

	if (t->running == NULL && n > 0)
		t->running = calloc((size_t) n, sizeof(*t->running));
	t->n_running = t->running != NULL ? n : 0;
	return t->n_running == n;
}

void
turn_run_tools(Turn *t)
{
	t->state = TURN_TOOLS;
	if (!have_tools(t))
	{
		turn_fail_plainly(t, "The server is out of memory.");
		return;
	}
	for (int i = 0; i < t->n_running; i++)
	{
		json_t *part = json_pack("{s:s, s:s, s:s, s:o, s:s}", "type", "tool-call", "tool_call_id", t->exchange.stream.calls[i].id, "tool_name",
								 t->exchange.stream.calls[i].name, "args", stream_call_json(&t->exchange.stream.calls[i]), "created_at",
								 t->exchange.stream.calls[i].created_at);

		if (part != NULL)
		{
			turn_tell_server(t, part, t->exchange.stream.calls[i].name);
			turn_say_part(t, "assistant", part);
		}
		run_tool(t, &t->running[i], &t->exchange.stream.calls[i]);
	}
	if (t->n_tools_left == 0)
		tools_done(t);
}

bool
turn_stop_tools(Turn *t)
{
	if (!have_tools(t))
		return false;
	for (int i = 0; i < t->n_running; i++)
	{
		RunningTool *tool = &t->running[i];

		tool->turn = t;
		tool->is_dynamic = false;
		if (tool->call != NULL && tool->result == NULL)
			tool_cancel(tool->call);
		tool->call = NULL;
		if (tool->result == NULL)
			give_error(tool, json_string("tool call was interrupted before it produced a result"));
	}
	t->n_tools_left = 0;
	return true;
}
