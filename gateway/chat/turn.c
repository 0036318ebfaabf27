/*
 * turn.c -- one chat while it runs.
 *
 * config -> history -> ask -> (retry ->) ask -> tools -> store -> (summary -> history ->) ask ... -> finish
 *
 * What happens to the chat meanwhile is told by events of its status.  Events of before this worker took the chat may still
 * come: nothing is heeded until the worker's own "running" has.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "agenttool.h"
#include "db.h"
#include "debug.h"
#include "exchange.h"
#include "failure.h"
#include "gateway.h"
#include "grant.h"
#include "push.h"
#include "title.h"
#include "tool.h"
#include "turn.h"

#define MAX_SUMMARIES 3 /* a turn */
#define DEFAULT_THRESHOLD 70
#define SUMMARY_MS 90000L
#define SAY_MS 4	  /* from one statement with parts to the next, at least */
#define SAY_MOST_MS 20 /* where many chats speak, so that one statement has the parts of many */

typedef enum TurnState
{
	TURN_PREPARING, /* configuration, history */
	TURN_ASKING,
	TURN_WAITING, /* to ask again */
	TURN_TOOLS,
	TURN_STORING,
	TURN_SUMMING_UP, /* what was said becomes a summary, where the model's context is nearly full */
	TURN_FINISHING
} TurnState;

typedef struct Turn Turn;

typedef struct RunningTool
{
	Turn *turn;
	ToolCall *call;
	json_t *result; /* NULL: not yet */
	unsigned flags; /* of the result */
	bool is_dynamic;
	char ended_at[40];
} RunningTool;

struct Turn
{
	Turn *next;
	Turn **link;
	TurnState state;
	json_t *taken;
	const json_t *chat;	 /* of taken */
	const char *id;		 /* of chat */
	const char *owner;	 /* of chat */
	bool armed;			 /* our own "running" was seen */
	bool beaten;		 /* it was in the last heartbeat */
	bool interrupted;	 /* while a step is being stored */
	Grant grant;
	GrantWait *grant_wait;
	ConfigWait *wait;
	AgentTool *context; /* what the workspace tells, while it is read */
	json_t *history;
	json_t *tools;
	ToolKit kit;
	AgentTool *listing; /* of the workspace's MCP servers, while it is read */
	bool mcp_ready;
	DbCall *call;
	int steps;
	int summaries;
	bool ends; /* after the summary */
	Debug debug;
	Debug summing; /* the same of a summary */
	bool unchained; /* the provider does not know its last answer any more */
	int attempt; /* retries of this step so far */
	int64_t retry_at;
	int64_t step_began;
	int64_t first_part_by;
	Exchange exchange;
	RunningTool *running; /* one for each call of the step, once they run */
	int n_running;
	int n_tools_left;
	json_t *said; /* events that wait to be sent */
	int64_t say_at;
};

TurnEnv turn_env;

static const char summary_instruction[] =
	"The conversation is getting too long to be kept whole. Write down everything that somebody needs who goes on with it without "
	"having read it: what the user wants, in their own words where they matter; what was decided and why; what was done, with "
	"paths, names, commands and their results; what was found out, also what did not work; what is under way, and the next "
	"step. Keep exact what must be exact: identifiers, error messages, numbers. Leave out politeness and what is over. "
	"Answer with the summary alone, and call no tool.";

static Turn *turns;
static int n_turns;
static int64_t last_said; /* by all together */

static void ask(Turn *t);
static void load_history(Turn *t);
static void on_answered(void *arg, const Failure *failure);
static void finish(Turn *t, const char *status, const char *error);

/* Beginning and end ---------------------------------------------------------- */

static void
close_tools(Turn *t)
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

static void
close_context(Turn *t)
{
	if (t->context != NULL)
		agenttool_cancel(t->context);
	t->context = NULL;
	if (t->listing != NULL)
		agenttool_cancel(t->listing);
	t->listing = NULL;
}

static void
turn_end(Turn *t)
{
	*t->link = t->next;
	if (t->next != NULL)
		t->next->link = t->link;
	n_turns--;
	grant_cancel(t->grant_wait);
	config_cancel(t->wait);
	db_forget(t->call);
	close_context(t);
	close_tools(t);
	mcp_close(t->kit.mcp);
	json_decref(t->kit.workspace);
	exchange_free(&t->exchange);
	json_decref(t->taken);
	grant_free(&t->grant);
	json_decref(t->history);
	json_decref(t->tools);
	json_decref(t->said);
	debug_free(&t->debug);
	debug_free(&t->summing);
	free(t);
}

/* A statement of this turn; where the connection is down the turn ends, since its chat will be taken again. */
static bool
call_db(Turn *t, const char *sql, int n, const char *const *params, DbDone done)
{
	t->call = db_call(sql, n, params, done, t);
	if (t->call != NULL)
		return true;
	turn_end(t);
	return false;
}

static void fail_plainly(Turn *t, const char *message);

/* Is there a row?  Else the turn ends: its connection is lost, or the statement has failed, which the user is told. */
static bool
have_row(Turn *t, PGresult *result)
{
	t->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		return true;
	if (result == NULL)
		turn_end(t);
	else
		fail_plainly(t, "The server could not read or store the chat.");
	return false;
}

/* What is said --------------------------------------------------------------- */

/* Sends the gathered events of one turn, or of all (NULL), in one statement. */
static void
say_now(Turn *only)
{
	json_t *all = json_array();
	char *text;

	for (Turn *t = only != NULL ? only : turns; t != NULL; t = only != NULL ? NULL : t->next)
	{
		if (t->said == NULL)
			continue;
		json_array_append_new(all, json_pack("{s:s, s:o}", "chat", t->id, "events", t->said));
		t->said = NULL;
	}
	if (json_array_size(all) > 0 && (text = json_dumps(all, JSON_COMPACT)) != NULL)
	{
		const char *const params[] = {text};

		db_call("SELECT coder.chat_say($1::jsonb)", 1, params, NULL, NULL);
		free(text);
	}
	json_decref(all);
}

/* When what comes now is to be sent: at once, unless the last has only just been. */
static int64_t
say_time(void)
{
	int64_t pace = SAY_MS + n_turns / 20;
	int64_t next = last_said + (pace < SAY_MOST_MS ? pace : SAY_MOST_MS);
	int64_t now = turn_env.now_ms();

	return next > now ? next : now;
}

/* Two deltas of one kind in a row are one. */
static bool
merge(json_t *said, const json_t *part)
{
	json_t *last = json_object_get(json_object_get(json_array_get(said, json_array_size(said) - 1), "message_part"), "part");
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *last_type = json_string_value(json_object_get(last, "type"));
	const json_t *a = json_object_get(last, "text");
	const json_t *b = json_object_get(part, "text");

	if (type == NULL || last_type == NULL || strcmp(type, last_type) != 0 || !json_is_string(a) || !json_is_string(b))
		return false;
	json_object_set_new(last, "text", json_sprintf("%s%s", json_string_value(a), json_string_value(b)));
	return true;
}

static void
say(Turn *t, json_t *event)
{
	if (t->said == NULL)
	{
		t->said = json_array();
		t->say_at = say_time();
	}
	json_array_append_new(t->said, event);
}

static void
say_part(Turn *t, const char *role, json_t *part)
{
	if (t->said != NULL && merge(t->said, part))
		json_decref(part);
	else
		say(t, json_pack("{s:s, s:{s:s, s:o}}", "type", "message_part", "message_part", "role", role, "part", part));
}

static void
on_part(void *arg, json_t *part)
{
	say_part(arg, "assistant", part);
}

/* Finish --------------------------------------------------------------------- */

static void
on_finished(void *arg, PGresult *result)
{
	Turn *t = arg;

	t->call = NULL;
	turn_end(t);
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		push_send(PQgetvalue(result, 0, 0));
}

static void
finish(Turn *t, const char *status, const char *error)
{
	const char *const params[] = {turn_env.worker, t->id, status, error};

	t->state = TURN_FINISHING;
	grant_cancel(t->grant_wait);
	config_cancel(t->wait);
	t->wait = NULL;
	db_forget(t->call);
	close_context(t);
	close_tools(t);
	exchange_free(&t->exchange);
	debug_end(&t->summing, "interrupted");
	debug_end(&t->debug, error != NULL ? "error" : "completed");
	say_now(t);
	call_db(t, "SELECT coder.chat_end($1, $2, $3::coder.chat_status, $4)", 4, params, on_finished);
}

/* The turn has failed: the user is told by an event, and by the chat's last_error. */
static void
fail(Turn *t, const Failure *failure, const char *message)
{
	json_t *error = json_pack("{s:s, s:s, s:b}", "message", message, "kind", failure_kind_name(failure->kind), "retryable",
							  (int) failure->retryable);
	const char *provider = json_string_value(json_object_get(t->grant.provider, "provider"));

	if (provider != NULL)
		json_object_set_new(error, "provider", json_string(provider));
	if (failure->status > 0)
		json_object_set_new(error, "status_code", json_integer(failure->status));
	say(t, json_pack("{s:s, s:o}", "type", "error", "error", error));
	finish(t, "error", message);
}

static void
fail_plainly(Turn *t, const char *message)
{
	Failure failure = {FAILURE_CONFIG, false, 0};

	fail(t, &failure, message);
}

/* Configuration and history --------------------------------------------------- */

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
		ask(t);
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

	if (!have_row(t, result))
		return;
	t->history = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	if (!json_is_array(t->history))
	{
		fail_plainly(t, "The history of the chat cannot be read.");
		return;
	}
	if (t->steps == 0 && t->summaries == 0 && is_answered(t->history))
	{
		finish(t, "waiting", NULL);
		return;
	}
	if (is_first_word(t->history))
		title_first(t->chat);
	ask_when_ready(t);
}

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

static void
load_history(Turn *t)
{
	const char *const params[] = {t->id};

	call_db(t, "SELECT coder.chat_prompt($1)", 1, params, on_history);
}

/* The workspace --------------------------------------------------------------- */

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

	if (!have_row(t, result))
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
		call_db(t, "SELECT coder.chat_context_state($1, $2)", 2, params, on_context_state);
	}
	else
		load_history(t);
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

/* The user's own words stand behind all other instructions. */
static void
add_user_prompt(Turn *t, const char *prompt)
{
	size_t at = 0;
	const char *role;

	if (*prompt == '\0')
		return;
	while ((role = json_string_value(json_object_get(json_array_get(t->history, at), "role"))) != NULL && strcmp(role, "system") == 0)
		at++;
	json_array_insert_new(t->history, at,
						  json_pack("{s:s, s:[{s:s, s:o}]}", "role", "system", "content", "type", "text", "text",
									json_sprintf("<user-instructions>\n%s\n</user-instructions>", prompt)));
}

static void
got_prompt(void *arg, const json_t *value, const char *error)
{
	Turn *t = arg;

	t->wait = NULL;
	if (error != NULL)
	{
		fail_plainly(t, "The server could not read the configuration of chats.");
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
		fail_plainly(t, error);
	else if (grant.api_key == NULL)
		turn_end(t);
	else
	{
		t->kit.mcp = mcp_open(t->chat, on_mcp_ready, t);
		load_prompt(t);
	}
}

/*
 * News may overtake the answer that gives the chat: the last leases that were told, and what was told of each since.
 */
typedef struct Lease
{
	char chat[40];
	char began[48];
	char since[24]; /* "": nothing */
} Lease;

static Lease leases[256];
static unsigned n_leases; /* ever; the slot is its remainder */

static Lease *
find_lease(const char *chat, const char *began)
{
	unsigned have = n_leases < 256 ? n_leases : 256;

	for (unsigned i = 1; i <= have; i++)
	{
		Lease *lease = &leases[(n_leases - i) % 256];

		if (strcmp(lease->chat, chat) == 0)
			return began == NULL || strcmp(lease->began, began) == 0 ? lease : NULL;
	}
	return NULL;
}

static void
note_lease(const char *chat, const char *status)
{
	Lease *lease;

	if (strncmp(status, "running ", 8) != 0)
	{
		lease = find_lease(chat, NULL);
		if (lease != NULL)
			snprintf(lease->since, sizeof(lease->since), "%s", status);
		return;
	}
	lease = &leases[n_leases++ % 256];
	snprintf(lease->chat, sizeof(lease->chat), "%s", chat);
	snprintf(lease->began, sizeof(lease->began), "%s", status + 8);
	lease->since[0] = '\0';
}

/* What was told of this lease before the turn was there. */
static void
heed_early_news(Turn *t)
{
	const char *began = json_string_value(json_object_get(t->chat, "started_at"));
	const Lease *lease = began != NULL ? find_lease(t->id, began) : NULL;

	t->armed = lease != NULL;
	if (lease != NULL && lease->since[0] != '\0')
		turn_status(t->id, lease->since);
}

void
turn_start(json_t *taken)
{
	Turn *t = calloc(1, sizeof(*t));

	if (t == NULL)
	{
		json_decref(taken);
		return;
	}
	t->taken = taken;
	t->chat = json_object_get(taken, "chat");
	t->kit.chat = t->chat;
	t->id = json_string_value(json_object_get(t->chat, "id"));
	t->owner = json_string_value(json_object_get(t->chat, "owner_id"));
	t->next = turns;
	t->link = &turns;
	if (turns != NULL)
		turns->link = &t->next;
	turns = t;
	n_turns++;
	grant_find(&t->grant_wait, turn_env.config, turn_env.now_ms(),
			   json_string_value(json_object_get(t->chat, "last_model_config_id")), t->owner, on_grant, t);
	/* The configuration may have been at hand, and the turn may have failed already. */
	if (turns == t)
		heed_early_news(t);
}

/* Storing --------------------------------------------------------------------- */

/* Parts of a call tell whose tool it is, where an MCP server has it. */
static void
tell_server(const Turn *t, json_t *part, const char *tool)
{
	const char *server = tool != NULL ? mcp_server_of(t->kit.mcp, tool) : NULL;

	if (server != NULL)
		json_object_set_new(part, "mcp_server_config_id", json_string(server));
}

static json_t *
tool_message(const RunningTool *tool, const StreamCall *call)
{
	json_t *part = json_pack("{s:s, s:s, s:s, s:n, s:O, s:s}", "type", "tool-result", "tool_call_id", call->id, "tool_name",
							 call->name, "mcp_server_config_id", "result", tool->result, "created_at", tool->ended_at);

	tell_server(tool->turn, part, call->name);
	if (tool->flags & TOOL_FAILED)
		json_object_set_new(part, "is_error", json_true());
	if (tool->flags & TOOL_MEDIA)
		json_object_set_new(part, "is_media", json_true());
	return json_pack("{s:s, s:[o]}", "role", "tool", "content", part);
}

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
			tell_server(t, part, json_string_value(json_object_get(part, "tool_name")));
	}
	return content;
}

/* The messages of the step that has ended. */
static json_t *
step_messages(Turn *t)
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
			json_array_append_new(messages, tool_message(&t->running[i], &t->exchange.stream.calls[i]));
	return messages;
}

/* Stores messages; done decides how it goes on. */
static void
store(Turn *t, const json_t *messages, DbDone done)
{
	char *text = json_dumps(messages, JSON_COMPACT);
	const char *const params[] = {turn_env.worker, t->id, json_string_value(json_object_get(t->grant.model, "id")), text};

	t->state = TURN_STORING;
	say_now(t);
	call_db(t, "SELECT coder.chat_step($1, $2, $3, $4::jsonb)", 4, params, done);
	free(text);
}

/* Summaries ------------------------------------------------------------------- */

static int64_t
context_tokens(const Turn *t)
{
	const StreamUsage *u = &t->exchange.stream.usage;
	int64_t tokens = u->input + u->cache_read + u->cache_creation;

	return tokens > 0 ? tokens : u->total;
}

/* Percent of the context from which on it is summed up: the owner's for this model, else the model's. */
static int64_t
threshold(const Turn *t)
{
	const json_t *own = json_object_get(t->taken, "compaction_threshold");
	const json_t *models = json_object_get(t->grant.model, "compression_threshold");
	const json_t *chosen = json_is_integer(own) ? own : models;
	json_int_t percent = json_is_integer(chosen) ? json_integer_value(chosen) : DEFAULT_THRESHOLD;

	return percent < 0 || percent > 100 ? DEFAULT_THRESHOLD : percent;
}

static bool
is_nearly_full(const Turn *t)
{
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	int64_t percent = threshold(t);

	return percent < 100 && limit > 0 && t->summaries < MAX_SUMMARIES && context_tokens(t) * 100 >= limit * percent;
}

/* The history is read again, and what there is of a workspace. */
static void
begin_anew(Turn *t)
{
	json_decref(t->history);
	t->history = NULL;
	json_decref(t->tools);
	t->tools = NULL;
	t->state = TURN_PREPARING;
	load_context(t, true);
}

static void
on_summary_stored(void *arg, PGresult *result)
{
	Turn *t = arg;

	if (!have_row(t, result))
		return;
	if (PQgetisnull(result, 0, 0))
	{
		turn_end(t);
		return;
	}
	exchange_free(&t->exchange);
	if (t->interrupted || t->ends)
	{
		finish(t, "waiting", NULL);
		return;
	}
	begin_anew(t);
}

/* For the model the summary, for people a call that tells of it. */
static json_t *
summary_messages(Turn *t, const char *summary)
{
	json_t *result = json_object_get(t->taken, "summary");
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	char now[40];
	char call[64];

	stream_now(now);
	snprintf(call, sizeof(call), "chat_summarized_%s", json_string_value(json_object_get(result, "id")));
	json_object_del(result, "id");
	json_object_set_new(result, "summary", json_string(summary));
	json_object_set_new(result, "source", json_string("automatic"));
	json_object_set_new(result, "context_limit_tokens", json_integer(limit));
	return json_pack("[{s:s, s:s, s:b, s:[{s:s, s:o}]}, {s:s, s:s, s:b, s:o, s:[{s:s, s:s, s:s, s:{}, s:s}]},"
					 " {s:s, s:s, s:b, s:[{s:s, s:s, s:s, s:n, s:O, s:s}]}]",
					 "role", "user", "visibility", "model", "compressed", 1, "content", "type", "text", "text",
					 json_sprintf("This is a summary of the conversation so far, which is not shown to you any more:\n\n%s", summary), "role",
					 "assistant", "visibility", "user", "compressed", 1, "usage", stream_usage_json(&t->exchange.stream), "content", "type",
					 "tool-call", "tool_call_id", call, "tool_name", "chat_summarized", "args", "created_at", now, "role", "tool", "visibility",
					 "both", "compressed", 1, "content", "type", "tool-result", "tool_call_id", call, "tool_name", "chat_summarized",
					 "mcp_server_config_id", "result", result, "created_at", now);
}

/* Without a summary it goes on as it was: the provider says when it is really too much. */
static void
go_on_without(Turn *t)
{
	exchange_free(&t->exchange);
	t->summaries = MAX_SUMMARIES;
	if (t->ends)
		finish(t, "waiting", NULL);
	else
		ask(t);
}

static void
on_summary(void *arg, const Failure *failure)
{
	Turn *t = arg;
	json_t *messages;
	char *text;

	if (failure != NULL)
		debug_failed(&t->summing, &t->grant, failure, t->exchange.why, 0);
	debug_step(&t->summing, &t->exchange.stream, failure != NULL ? "error" : "completed");
	debug_end(&t->summing, failure != NULL ? "error" : "completed");
	text = failure == NULL ? stream_said(&t->exchange.stream) : NULL;
	if (text == NULL || *text == '\0')
	{
		free(text);
		gw_log(GW_INFO, "chat %s: no summary could be made", t->id);
		go_on_without(t);
		return;
	}
	messages = summary_messages(t, text);
	free(text);
	if (messages == NULL)
	{
		go_on_without(t);
		return;
	}
	store(t, messages, on_summary_stored);
	json_decref(messages);
}

static void
drop_part(void *arg, json_t *part)
{
	(void) arg;
	json_decref(part);
}

/* An id for the call, from what is random anyway. */
static void
new_summary(Turn *t, int64_t tokens)
{
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	unsigned char b[16];
	char id[33];

	randombytes_buf(b, sizeof(b));
	sodium_bin2hex(id, sizeof(id), b, sizeof(b));
	json_object_set_new(t->taken, "summary",
						json_pack("{s:o, s:I, s:f, s:I}", "id",
								  json_sprintf("%.8s-%.4s-4%.3s-a%.3s-%.12s", id, id + 8, id + 13, id + 17, id + 20), "threshold_percent",
								  (json_int_t) threshold(t), "usage_percent", (double) tokens * 100 / (double) limit, "context_tokens",
								  (json_int_t) tokens));
}

/* Asks for a summary of the history; ends: it was the last step. */
static void
sum_up(Turn *t, bool ends)
{
	ExchangeAsk wanted = {.grant = &t->grant, .chat = t->chat, .limit_ms = SUMMARY_MS};
	json_t *history = json_copy(t->history);
	const char *error = NULL;
	bool ok;

	new_summary(t, context_tokens(t));
	close_tools(t);
	exchange_free(&t->exchange);
	t->state = TURN_SUMMING_UP;
	t->summaries++;
	t->ends = ends;
	json_array_append_new(history, json_pack("{s:s, s:[{s:s, s:s}]}", "role", "user", "content", "type", "text", "text", summary_instruction));
	wanted.history = history;
	if (t->debug.run != NULL)
		debug_begin(&t->summing, t->chat, &t->grant, "compaction");
	debug_asked(&t->summing, &t->grant, history, NULL, "generate");
	ok = exchange_begin(&t->exchange, turn_env.multi, turn_env.ca_file, &wanted, drop_part, on_summary, t, &error);
	json_decref(history);
	if (!ok)
		go_on_without(t);
}

static void
on_step_stored(void *arg, PGresult *result)
{
	Turn *t = arg;
	bool dynamic = false;
	bool new_workspace;
	json_t *messages;

	if (!have_row(t, result))
		return;
	if (PQgetisnull(result, 0, 0))
	{
		turn_end(t);
		return;
	}
	debug_stored(&t->debug, PQgetvalue(result, 0, 0));
	for (int i = 0; i < t->n_running; i++)
		dynamic |= t->running[i].is_dynamic;
	if (!t->interrupted && t->n_running == 0 && t->exchange.stream.end != STREAM_PAUSED && is_nearly_full(t))
	{
		messages = step_messages(t);
		json_array_extend(t->history, messages);
		json_decref(messages);
		sum_up(t, true);
		return;
	}
	if (t->interrupted || (t->n_running == 0 && t->exchange.stream.end != STREAM_PAUSED) || ++t->steps >= TURN_MAX_STEPS)
	{
		finish(t, "waiting", NULL);
		return;
	}
	if (dynamic)
	{
		finish(t, "requires_action", NULL);
		return;
	}
	messages = step_messages(t);
	json_array_extend(t->history, messages);
	json_decref(messages);
	t->attempt = 0;
	if (is_nearly_full(t))
	{
		sum_up(t, false);
		return;
	}
	new_workspace = got_workspace(t);
	close_tools(t);
	exchange_free(&t->exchange);
	if (new_workspace)
		begin_anew(t);
	else
		ask(t);
}

static void
store_step(Turn *t)
{
	json_t *messages = step_messages(t);

	if (json_array_size(messages) == 0)
		finish(t, "waiting", NULL);
	else
		store(t, messages, on_step_stored);
	json_decref(messages);
}

/* Tools ----------------------------------------------------------------------- */

/* All have ended: their results are told in the order of the calls. */
static void
tools_done(Turn *t)
{
	for (int i = 0; i < t->n_running; i++)
	{
		json_t *message;

		if (t->running[i].is_dynamic)
			continue;
		message = tool_message(&t->running[i], &t->exchange.stream.calls[i]);
		say_part(t, "tool", json_incref(json_array_get(json_object_get(message, "content"), 0)));
		json_decref(message);
	}
	store_step(t);
}

static void
on_tool(void *arg, json_t *result, unsigned flags)
{
	RunningTool *tool = arg;

	tool->call = NULL;
	tool->result = result;
	tool->flags = flags;
	stream_now(tool->ended_at);
	if (--tool->turn->n_tools_left == 0)
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

static void
run_tools(Turn *t)
{
	t->state = TURN_TOOLS;
	if (!have_tools(t))
	{
		fail_plainly(t, "The server is out of memory.");
		return;
	}
	for (int i = 0; i < t->n_running; i++)
	{
		json_t *part = json_pack("{s:s, s:s, s:s, s:o, s:s}", "type", "tool-call", "tool_call_id", t->exchange.stream.calls[i].id, "tool_name",
								 t->exchange.stream.calls[i].name, "args", stream_call_json(&t->exchange.stream.calls[i]), "created_at",
								 t->exchange.stream.calls[i].created_at);

		if (part != NULL)
		{
			tell_server(t, part, t->exchange.stream.calls[i].name);
			say_part(t, "assistant", part);
		}
		run_tool(t, &t->running[i], &t->exchange.stream.calls[i]);
	}
	if (t->n_tools_left == 0)
		tools_done(t);
}

/* Asking ---------------------------------------------------------------------- */

static void
ask(Turn *t)
{
	ExchangeAsk wanted = {.grant = &t->grant, .chat = t->chat, .history = t->history};
	const char *error = NULL;

	if (t->tools == NULL)
	{
		t->tools = tool_list(&t->kit);
		add_user_prompt(t, json_string_value(json_object_get(t->taken, "user_prompt")));
	}
	wanted.tools = t->tools;
	wanted.chain = t->steps == 0 && t->attempt == 0 && !t->unchained && t->summaries == 0;
	t->state = TURN_ASKING;
	t->step_began = turn_env.now_ms();
	t->first_part_by = t->step_began + turn_env.first_part_ms;
	if (json_is_true(json_object_get(t->taken, "debug")) && t->debug.run == NULL)
		debug_begin(&t->debug, t->chat, &t->grant, "chat_turn");
	debug_asked(&t->debug, &t->grant, t->history, t->tools, "stream");
	if (!exchange_begin(&t->exchange, turn_env.multi, turn_env.ca_file, &wanted, on_part, on_answered, t, &error))
		fail_plainly(t, error);
}

static void
ask_failed(Turn *t, Failure failure)
{
	char message[512];
	const char *name = json_string_value(json_object_get(t->grant.provider, "provider"));
	const char *provider = name != NULL ? provider_display_name(name) : NULL;
	int64_t delay;
	json_t *retry;
	char at[40];

	if (t->exchange.chained && (failure.status == 400 || failure.status == 404))
	{
		debug_failed(&t->debug, &t->grant, &failure, t->exchange.why, 0);
		exchange_free(&t->exchange);
		t->unchained = true;
		ask(t);
		return;
	}
	if (!failure.retryable || t->attempt + 1 >= FAILURE_MAX_ATTEMPTS)
	{
		failure_message(&failure, provider, message, sizeof(message));
		debug_failed(&t->debug, &t->grant, &failure, t->exchange.why, 0);
		fail(t, &failure, message);
		return;
	}
	t->attempt++;
	delay = failure_delay_ms(t->attempt, t->exchange.retry_after_ms);
	debug_failed(&t->debug, &t->grant, &failure, t->exchange.why, delay);
	failure_retry_message(&failure, provider, message, sizeof(message));
	{
		time_t when = time(NULL) + (time_t) (delay / 1000);
		struct tm tm;

		gmtime_r(&when, &tm);
		strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
	}
	retry = json_pack("{s:i, s:I, s:s, s:s, s:s, s:s}", "attempt", t->attempt, "delay_ms", (json_int_t) delay, "error", message, "kind",
					  failure_kind_name(failure.kind), "provider", name != NULL ? name : "", "retrying_at", at);
	if (failure.status > 0)
		json_object_set_new(retry, "status_code", json_integer(failure.status));
	say(t, json_pack("{s:s, s:o}", "type", "retry", "retry", retry));
	exchange_free(&t->exchange);
	t->state = TURN_WAITING;
	t->retry_at = turn_env.now_ms() + delay;
}

static void
on_answered(void *arg, const Failure *failure)
{
	Turn *t = arg;

	if (failure != NULL)
	{
		ask_failed(t, *failure);
		return;
	}
	t->attempt = 0;
	debug_step(&t->debug, &t->exchange.stream, "completed");
	if (t->exchange.stream.n_calls > 0)
		run_tools(t);
	else
		store_step(t);
}

/* What happens meanwhile ------------------------------------------------------ */

static void
on_partial_stored(void *arg, PGresult *result)
{
	Turn *t = arg;

	if (have_row(t, result))
		finish(t, "waiting", NULL);
}

/* The user stopped it: what was said so far is kept, open calls end. */
static void
interrupt(Turn *t)
{
	json_t *messages;

	if (t->state == TURN_SUMMING_UP)
	{
		finish(t, "waiting", NULL);
		return;
	}
	if (t->state == TURN_STORING || t->state == TURN_FINISHING)
	{
		t->interrupted = true;
		return;
	}
	exchange_stop(&t->exchange);
	debug_interrupted(&t->debug, t->exchange.stream_open ? &t->exchange.stream : NULL);
	if (t->exchange.stream_open && have_tools(t))
	{
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
		messages = step_messages(t);
		if (json_array_size(messages) > 0)
		{
			store(t, messages, on_partial_stored);
			json_decref(messages);
			return;
		}
		json_decref(messages);
	}
	finish(t, "waiting", NULL);
}

static Turn *
find_turn(const char *chat)
{
	for (Turn *t = turns; t != NULL; t = t->next)
		if (strcmp(t->id, chat) == 0)
			return t;
	return NULL;
}

void
turn_status(const char *chat, const char *status)
{
	Turn *t = find_turn(chat);
	const char *began = t != NULL ? json_string_value(json_object_get(t->chat, "started_at")) : NULL;

	note_lease(chat, status);
	if (t == NULL)
		return;
	if (strncmp(status, "running ", 8) == 0)
		t->armed |= began != NULL && strcmp(status + 8, began) == 0;
	else if (!t->armed || t->state == TURN_FINISHING)
		return;
	else if (strcmp(status, "waiting") == 0)
		interrupt(t);
	else
		turn_end(t);
}

void
turn_keep_only(const char *ids)
{
	Turn *next;

	for (Turn *t = turns; t != NULL; t = next)
	{
		next = t->next;
		if (strstr(ids, t->id) == NULL && t->beaten && t->state != TURN_FINISHING)
			interrupt(t);
	}
}

char *
turn_ids(void)
{
	char *text = turns != NULL ? malloc((size_t) n_turns * 37 + 3) : NULL;
	char *p = text;

	if (text == NULL)
		return NULL;
	*p++ = '{';
	for (Turn *t = turns; t != NULL; t = t->next)
	{
		p += sprintf(p, "%s%s", t == turns ? "" : ",", t->id);
		t->beaten = true;
	}
	strcpy(p, "}");
	return text;
}

int
turn_count(void)
{
	return n_turns;
}

int64_t
turn_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();
	bool due = false;
	Turn *next;

	for (Turn *t = turns; t != NULL; t = t->next)
		due |= t->said != NULL && t->say_at <= now;
	if (due)
	{
		say_now(NULL);
		last_said = now;
	}
	for (Turn *t = turns; t != NULL; t = next)
	{
		next = t->next;
		if (t->said != NULL && t->say_at - now < most)
			most = t->say_at - now;
		if (t->state == TURN_WAITING && t->retry_at <= now)
			ask(t);
		else if (t->state == TURN_WAITING && t->retry_at - now < most)
			most = t->retry_at - now;
		else if (t->state == TURN_ASKING && !t->exchange.stream.began && t->first_part_by <= now)
			ask_failed(t, (Failure){FAILURE_STARTUP_TIMEOUT, true, 0});
	}
	return most > 0 ? most : 0;
}

void
turn_drop_all(void)
{
	while (turns != NULL)
		turn_end(turns);
}

void
turn_hand_over(void)
{
	while (turns != NULL)
	{
		Turn *t = turns;
		const char *const params[] = {turn_env.worker, t->id};

		json_decref(t->said);
		t->said = NULL;
		if (t->state != TURN_FINISHING)
			db_call("SELECT coder.chat_finish($1, $2, 'pending')", 2, params, NULL, NULL);
		turn_end(t);
	}
}
