/*
 * turnstep.c -- a step of a turn is stored, and what comes after it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "turnstate.h"

/* What the model has said and called, of this step. */
static json_t *
step_content(const Turn *t)
{
	json_t *content = exchange_content(&t->exchange);
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));

		if (type != NULL && strcmp(type, "tool-call") == 0)
			turn_tell_server(t, part, json_string_value(json_object_get(part, "tool_name")));
	}
	return content;
}

/* The messages of the step that has ended. */
json_t *
turn_step_messages(Turn *t)
{
	json_t *content = step_content(t);
	json_t *messages = json_array();
	json_t *assistant;

	if (json_array_size(content) == 0)
	{
		json_decref(content);
		return messages;
	}
	assistant = json_pack("{s:s, s:o, s:o, s:O, s:I}", "role", "assistant", "content", content, "usage",
						  stream_usage_json(&t->exchange.stream), "context_limit", json_object_get(t->grant.model, "context_limit"), "runtime_ms",
						  (json_int_t) (turn_env.now_ms() - t->step_began));
	if (exchange_answer_id(&t->exchange) != NULL)
		json_object_set_new(assistant, "provider_response_id", json_string(exchange_answer_id(&t->exchange)));
	json_array_append_new(messages, assistant);
	for (int i = 0; i < t->n_running; i++)
		if (!t->running[i].is_dynamic)
			json_array_append_new(messages, turn_tool_message(&t->running[i], &t->exchange.stream.calls[i]));
	return messages;
}

/* Stores messages; done decides how it goes on. */
static void
send_step(Turn *t)
{
	const char *const params[] = {turn_env.worker, t->id, json_string_value(json_object_get(t->grant.model, "id")), t->step, turn_lease(t)};

	if (turn_call_db(t, "SELECT coder.chat_step($1, $2, $3, $4::jsonb, $5)", 5, params, t->stored))
	{
		free(t->step);
		t->step = NULL;
	}
}

void
turn_store(Turn *t, const json_t *messages, DbDone done)
{
	t->state = TURN_STORING;
	free(t->step);
	t->step = json_dumps(messages, JSON_COMPACT);
	t->stored = done;
	turn_when_said(t, send_step);
}

/* Has the step given the chat a workspace? */
static bool
got_workspace(const Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
	{
		const char *name = t->exchange.stream.calls[i].name;

		if ((t->running[i].flags & TOOL_FAILED) == 0 && (strcmp(name, "create_workspace") == 0 || strcmp(name, "start_workspace") == 0))
			return true;
	}
	return false;
}

/* The history has what was said now. */
static void
remember_step(Turn *t)
{
	json_t *messages = turn_step_messages(t);

	json_array_extend(t->history, messages);
	json_decref(messages);
}

/* Is a call the client's, who must answer it? */
static bool
has_dynamic_call(const Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
		if (t->running[i].is_dynamic)
			return true;
	return false;
}

/* The model wants to be asked again, with the results or just so. */
static void
go_on(Turn *t)
{
	bool new_workspace;

	remember_step(t);
	t->attempt = 0;
	if (turn_is_nearly_full(t))
	{
		turn_sum_up(t, false);
		return;
	}
	new_workspace = got_workspace(t);
	turn_close_tools(t);
	exchange_free(&t->exchange);
	if (new_workspace)
		turn_begin_anew(t);
	else
		turn_ask(t);
}

static void
on_step_stored(void *arg, PGresult *result)
{
	Turn *t = arg;
	bool is_last;

	if (!turn_have_row(t, result))
		return;
	if (PQgetisnull(result, 0, 0))
	{
		turn_end(t);
		return;
	}
	debug_stored(&t->debug, PQgetvalue(result, 0, 0));
	is_last = t->n_running == 0 && t->exchange.stream.end != STREAM_PAUSED;
	if (!t->interrupted && is_last && turn_is_nearly_full(t))
	{
		remember_step(t);
		turn_sum_up(t, true);
	}
	else if (t->interrupted || is_last || ++t->steps >= TURN_MAX_STEPS)
		turn_finish(t, "waiting", NULL);
	else if (has_dynamic_call(t))
		turn_finish(t, "requires_action", NULL);
	else
		go_on(t);
}

void
turn_store_step(Turn *t)
{
	json_t *messages = turn_step_messages(t);

	if (json_array_size(messages) == 0)
		turn_finish(t, "waiting", NULL);
	else
		turn_store(t, messages, on_step_stored);
	json_decref(messages);
}
