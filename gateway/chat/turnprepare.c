/*
 * turnprepare.c -- what a turn must know before it asks: configuration, the workspace's context and tools, history.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "gateway.h"
#include "title.h"
#include "turnstate.h"

/* History --------------------------------------------------------------------- */

/* Has the user spoken once, and nobody else yet? */
static bool
is_first_word(const json_t *history)
{
	int users = 0;
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));

		if (role == NULL || strcmp(role, "system") == 0)
			continue;
		if (strcmp(role, "user") != 0 || ++users > 1)
			return false;
	}
	return users == 1;
}

/* The history is there, and all that have tools have told them. */
static void
ask_when_ready(Turn *t)
{
	if (t->state == TURN_PREPARING && t->history != NULL && t->listing == NULL && (t->kit.mcp == NULL || t->mcp_ready))
		turn_ask(t);
}

/*
 * Is the last word the model's own, and whole?  Then a runner died between the last step of a turn and its end: to ask again
 * would be to answer twice.  What a provider's own tools have said last is gone on from.
 */
static bool
is_answered(const json_t *history)
{
	const json_t *last = json_array_get(history, json_array_size(history) - 1);
	const json_t *content = json_object_get(last, "content");
	const char *role = json_string_value(json_object_get(last, "role"));
	const char *type = NULL;
	size_t i;
	json_t *part;

	if (role == NULL || strcmp(role, "assistant") != 0)
		return false;
	json_array_foreach(content, i, part)
	{
		type = json_string_value(json_object_get(part, "type"));
		if (type != NULL && strcmp(type, "tool-call") == 0 && !json_is_true(json_object_get(part, "provider_executed")))
			return false;
	}
	return type != NULL && (strcmp(type, "text") == 0 || strcmp(type, "reasoning") == 0 || strcmp(type, "source") == 0);
}

static void
on_history(void *arg, PGresult *result)
{
	Turn *t = arg;

	if (!turn_have_row(t, result))
		return;
	t->history = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	if (!json_is_array(t->history))
	{
		turn_fail_plainly(t, "The history of the chat cannot be read.");
		return;
	}
	if (t->steps == 0 && t->summaries == 0 && is_answered(t->history))
	{
		turn_finish(t, "waiting", NULL);
		return;
	}
	if (is_first_word(t->history))
		title_first(t->chat);
	ask_when_ready(t);
}

static void
load_history(Turn *t)
{
	const char *const params[] = {t->id};

	turn_call_db(t, "SELECT coder.chat_prompt($1)", 1, params, on_history);
}

/* The workspace --------------------------------------------------------------- */

/* Its MCP servers have told their tools, or will not. */
static void
on_mcp_ready(void *arg)
{
	Turn *t = arg;

	t->mcp_ready = true;
	ask_when_ready(t);
}

static void
on_listed(void *arg, json_t *result, unsigned flags)
{
	Turn *t = arg;

	t->listing = NULL;
	if (flags == 0)
	{
		json_decref(t->kit.workspace);
		t->kit.workspace = tool_of_workspace(result);
	}
	json_decref(result);
	ask_when_ready(t);
}

/* The tools of the MCP servers that run in the workspace. */
static void
list_workspace_tools(Turn *t)
{
	json_t *nothing = t->listing == NULL ? json_object() : NULL;

	if (nothing != NULL)
		t->listing = agenttool_start(t->chat, "mcp_tools", nothing, on_listed, t);
	json_decref(nothing);
}

/* Does the workspace have skills?  Then there are tools for them. */
static void
note_skills(Turn *t, const json_t *told)
{
	json_object_set_new((json_t *) t->chat, "skills", json_boolean(json_is_true(json_object_get(told, "skills"))));
}

/* Without what the workspace tells it goes on; the next turn asks again. */
static void
on_context(void *arg, json_t *result, unsigned flags)
{
	Turn *t = arg;
	const char *why = json_string_value(json_object_get(result, "error"));

	t->context = NULL;
	if (flags & AGENTTOOL_FAILED)
		gw_log(GW_INFO, "chat %s: what its workspace tells was not read: %s", t->id, why != NULL ? why : "");
	else
		note_skills(t, result);
	json_decref(result);
	load_history(t);
}

static void
on_context_state(void *arg, PGresult *result)
{
	Turn *t = arg;
	json_t *state;
	json_t *nothing;

	if (!turn_have_row(t, result))
		return;
	state = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	note_skills(t, state);
	if (json_is_true(json_object_get(state, "due")) && (nothing = json_object()) != NULL)
	{
		t->context = agenttool_start(t->chat, "context", nothing, on_context, t);
		json_decref(nothing);
	}
	json_decref(state);
	if (t->context == NULL)
		load_history(t);
}

/* Instruction files and skills, where there is a workspace, and then the history. */
static void
load_context(Turn *t, bool has_workspace)
{
	const char *const params[] = {turn_env.worker, t->id};

	if (has_workspace)
	{
		list_workspace_tools(t);
		turn_call_db(t, "SELECT coder.chat_context_state($1, $2)", 2, params, on_context_state);
	}
	else
		load_history(t);
}

/* The history is read again, and what there is of a workspace. */
void
turn_begin_anew(Turn *t)
{
	json_decref(t->history);
	t->history = NULL;
	json_decref(t->tools);
	t->tools = NULL;
	t->state = TURN_PREPARING;
	load_context(t, true);
}

/* Configuration --------------------------------------------------------------- */

static void
got_prompt(void *arg, const json_t *value, const char *error)
{
	Turn *t = arg;

	t->wait = NULL;
	if (error != NULL)
	{
		turn_fail_plainly(t, "The server could not read the configuration of chats.");
		return;
	}
	json_object_set(t->taken, "user_prompt", (json_t *) value);
	load_context(t, json_is_string(json_object_get(t->chat, "workspace_id")));
}

static void
load_prompt(Turn *t)
{
	ConfigWait *wait = config_get(turn_env.config, CONFIG_PROMPT, t->owner, turn_env.now_ms(), got_prompt, t);

	/* What was answered at once may have ended the turn. */
	if (wait != NULL)
		t->wait = wait;
}

static void
on_grant(void *arg, Grant grant, const char *error)
{
	Turn *t = arg;

	t->grant = grant;
	if (error != NULL)
		turn_fail_plainly(t, error);
	else if (grant.api_key == NULL)
		turn_end(t);
	else
	{
		t->kit.mcp = mcp_open(t->chat, on_mcp_ready, t);
		load_prompt(t);
	}
}

/* A chat that uses the desktop has a model of its own for it. */
void
turn_prepare(Turn *t)
{
	json_t *computer = json_object_get(t->taken, "computer_model");

	json_object_set((json_t *) t->chat, "desktop", json_object_get(t->taken, "desktop"));
	if (json_is_object(computer))
	{
		grant_for(&t->grant_wait, turn_env.config, turn_env.now_ms(), computer, t->owner, on_grant, t);
		return;
	}
	grant_find(&t->grant_wait, turn_env.config, turn_env.now_ms(),
			   json_string_value(json_object_get(t->chat, "last_model_config_id")), t->owner, on_grant, t);
}
