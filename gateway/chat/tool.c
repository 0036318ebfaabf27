/*
 * tool.c -- the tools of chats: what models are told of them, and who runs them.
 *
 * Tools of the workspace are agenttool.c's, those of MCP servers mcp.c's; the others run in the database (coder.chat_tool), which is called again as long
 * as it says that it waits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "agenttool.h"
#include "computer.h"
#include "db.h"
#include "errand.h"
#include "tool.h"
#include "turn.h"

struct ToolCall
{
	ToolCall *next;
	ToolCall **link;
	char *chat;
	char *name;
	char *args;
	char *state; /* of the database's, between its calls */
	DbCall *call;
	int64_t due; /* 0: not waiting */
	AgentTool *agent;
	McpCall *mcp;
	Errand *errand;
	const json_t *kit_chat; /* the turn's */
	AgentTool *film;		/* its beginning or end, while the agent is asked for it */
	bool filming;
	char film_id[37];
	json_t *result; /* that waits for the film */
	unsigned flags;
	ToolDone done;
	void *arg;
};

/* Which chats have a tool. */
typedef enum Offer
{
	OFFER_ALL,
	OFFER_ROOT, /* no subagents */
	OFFER_SKILLS, /* whose workspace has skills */
	OFFER_DESKTOP, /* no subagents, where there are desktops */
	OFFER_COMPUTER /* subagents that use one */
} Offer;

typedef struct ToolType
{
	const char *name;
	bool in_workspace;
	Offer offer;
	const char *description;
	const char *properties; /* of its JSON schema */
	const char *required;
} ToolType;

static const ToolType types[] = {
	{"list_templates", false, OFFER_ROOT,
	 "Lists the templates that a workspace can be made of, ten a page. Use a word of the task as query when there are many.",
	 "{\"query\": {\"type\": \"string\", \"description\": \"A word in the name or description.\"}, \"page\": {\"type\": \"integer\", "
	 "\"description\": \"1 is the first.\"}}",
	 "[]"},
	{"read_template", false, OFFER_ROOT,
	 "Tells a template's parameters with their types, defaults and options. Read it before create_workspace where values must be given.",
	 "{\"template_id\": {\"type\": \"string\", \"description\": \"The id from list_templates.\"}}", "[\"template_id\"]"},
	{"create_workspace", false, OFFER_ROOT,
	 "Makes a workspace of a template for this chat and waits until its agent is connected and its startup scripts have ended. "
	 "This takes minutes. A chat has one workspace: where there is one already nothing is made.",
	 "{\"template_id\": {\"type\": \"string\", \"description\": \"The id from list_templates.\"}, \"name\": {\"type\": \"string\", "
	 "\"description\": \"Letters, digits and hyphens; chosen where it is left out.\"}, \"parameters\": {\"type\": \"object\", "
	 "\"description\": \"Values of the template's parameters by name.\", \"additionalProperties\": {\"type\": \"string\"}}}",
	 "[\"template_id\"]"},
	{"start_workspace", false, OFFER_ROOT,
	 "Starts this chat's workspace where it is stopped, and waits until it can be used. Harmless where it runs.", "{}", "[]"},
	{"spawn_agent", false, OFFER_ROOT,
	 "Gives a part of the work to another agent, which begins at once and works beside you in the same workspace. It knows nothing "
	 "of this conversation: the prompt has to say all it needs, what it may change, and what its report shall hold. For parts that "
	 "stand on their own, not for what you can do in a few steps.",
	 "{\"prompt\": {\"type\": \"string\", \"description\": \"The whole task.\"}, \"title\": {\"type\": \"string\", \"description\": \"A "
	 "name for people.\"}}",
	 "[\"prompt\"]"},
	{"spawn_computer_use_agent", false, OFFER_DESKTOP,
	 "Gives a part of the work to another agent that sees the screen of the workspace's desktop and uses its mouse and keyboard: what "
	 "needs a browser or a window, such as trying a page as a user would. It begins at once and knows nothing of this conversation: the "
	 "prompt has to say what to open, what to do there, what to look for, and what its report shall hold. wait_agent gives the report.",
	 "{\"prompt\": {\"type\": \"string\", \"description\": \"The whole task.\"}, \"title\": {\"type\": \"string\", \"description\": \"A "
	 "name for people.\"}}",
	 "[\"prompt\"]"},
	{COMPUTER_TOOL, true, OFFER_COMPUTER, "", "{}", "[]"},
	{"wait_agent", false, OFFER_ROOT, "Waits until an agent that you spawned has ended, and gives its report.",
	 "{\"chat_id\": {\"type\": \"string\", \"description\": \"The id from spawn_agent.\"}, \"timeout_seconds\": {\"type\": \"integer\", "
	 "\"description\": \"300 where it is left out.\"}}",
	 "[\"chat_id\"]"},
	{"message_agent", false, OFFER_ROOT,
	 "Tells an agent that you spawned something more: a correction, an answer, another task. It reads it after what it is doing now.",
	 "{\"chat_id\": {\"type\": \"string\"}, \"message\": {\"type\": \"string\"}, \"interrupt\": {\"type\": \"boolean\", \"description\": "
	 "\"Stop what it is doing and read this first.\"}}",
	 "[\"chat_id\", \"message\"]"},
	{"close_agent", false, OFFER_ROOT, "Stops an agent that you spawned. What it did so far stays.", "{\"chat_id\": {\"type\": \"string\"}}", "[\"chat_id\"]"},
	{"read_file", true, OFFER_ALL,
	 "Reads lines of a text file of the workspace; each comes with its number and a tab in front. At most 2000 lines or 32 KiB at "
	 "a time: go on with offset.",
	 "{\"path\": {\"type\": \"string\", \"description\": \"An absolute path.\"}, \"offset\": {\"type\": \"integer\", \"description\": "
	 "\"The first line to read, counted from 1.\"}, \"limit\": {\"type\": \"integer\", \"description\": \"How many lines.\"}}",
	 "[\"path\"]"},
	{"write_file", true, OFFER_ALL,
	 "Writes a whole file of the workspace, in place of what is there; folders on the way are made. To change a part of a file use "
	 "edit_files.",
	 "{\"path\": {\"type\": \"string\", \"description\": \"An absolute path.\"}, \"content\": {\"type\": \"string\"}}",
	 "[\"path\", \"content\"]"},
	{"edit_files", true, OFFER_ALL,
	 "Replaces pieces of text in files of the workspace. All edits are found first: where one is not, nothing is written. A search "
	 "must be found once, so give it enough lines around the change, or say replace_all.",
	 "{\"files\": {\"type\": \"array\", \"items\": {\"type\": \"object\", \"properties\": {\"path\": {\"type\": \"string\", \"description\": "
	 "\"An absolute path.\"}, \"edits\": {\"type\": \"array\", \"items\": {\"type\": \"object\", \"properties\": {\"search\": {\"type\": "
	 "\"string\"}, \"replace\": {\"type\": \"string\"}, \"replace_all\": {\"type\": \"boolean\"}}, \"required\": [\"search\", "
	 "\"replace\"]}}}, \"required\": [\"path\", \"edits\"]}}}",
	 "[\"files\"]"},
	{"execute", true, OFFER_ALL,
	 "Runs a command of the shell in the workspace and gives its output and exit code. There is no terminal and nobody to answer "
	 "questions. It waits ten seconds unless timeout says otherwise; what takes longer runs on and can be followed with "
	 "process_output. Servers and watchers belong in the background.",
	 "{\"command\": {\"type\": \"string\"}, \"timeout\": {\"type\": \"string\", \"description\": \"How long to wait, as in 90s or 5m.\"}, "
	 "\"workdir\": {\"type\": \"string\", \"description\": \"An absolute path; the agent's folder where it is left out.\"}, "
	 "\"run_in_background\": {\"type\": \"boolean\"}}",
	 "[\"command\"]"},
	{"process_output", true, OFFER_ALL, "Gives the output of a command that was started, waiting for its end for a while.",
	 "{\"process_id\": {\"type\": \"string\"}, \"wait_timeout\": {\"type\": \"string\", \"description\": \"How long to wait, as in 30s; 0s "
	 "for what there is now; 10s where it is left out.\"}}",
	 "[\"process_id\"]"},
	{"process_list", true, OFFER_ALL, "Lists the commands that this chat has started in the workspace.", "{}", "[]"},
	{"process_signal", true, OFFER_ALL, "Ends a command that was started: terminate asks it to, kill does not ask.",
	 "{\"process_id\": {\"type\": \"string\"}, \"signal\": {\"type\": \"string\", \"enum\": [\"terminate\", \"kill\"]}}",
	 "[\"process_id\", \"signal\"]"},
	{"propose_plan", true, OFFER_ROOT,
	 "Shows the user a plan that you have written to a Markdown file of the workspace, of at most 32 KiB. Say afterwards in a sentence "
	 "what you ask them to decide, and end there: they answer with their next message.",
	 "{\"path\": {\"type\": \"string\", \"description\": \"The absolute path of the file.\"}}", "[\"path\"]"},
	{"read_skill", true, OFFER_SKILLS,
	 "Reads a skill of the workspace: how one kind of task is done there, and which files belong to it.",
	 "{\"name\": {\"type\": \"string\", \"description\": \"As the list of skills has it.\"}}", "[\"name\"]"},
	{"read_skill_file", true, OFFER_SKILLS, "Reads a file that belongs to a skill.",
	 "{\"name\": {\"type\": \"string\", \"description\": \"Of the skill.\"}, \"path\": {\"type\": \"string\", \"description\": \"As "
	 "read_skill names it, or below a folder that it names.\"}}",
	 "[\"name\", \"path\"]"},
};

#define N_TYPES (sizeof(types) / sizeof(types[0]))

static ToolCall *waiting;
static json_t *told[N_TYPES]; /* types as models are told of them */

/* A subagent makes no workspaces, no agents and no plans. */
static bool
is_offered(const json_t *chat, const ToolType *type)
{
	const char *mode = json_string_value(json_object_get(chat, "mode"));

	if (type->offer == OFFER_SKILLS)
		return json_is_true(json_object_get(chat, "skills"));
	if (type->offer == OFFER_COMPUTER)
		return mode != NULL && strcmp(mode, "computer_use") == 0;
	if (type->offer == OFFER_DESKTOP && !json_is_true(json_object_get(chat, "desktop")))
		return false;
	return type->offer == OFFER_ALL || !json_is_string(json_object_get(chat, "parent_chat_id"));
}

static const ToolType *
find_type(const json_t *chat, const char *name)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(types[i].name, name) == 0)
			return is_offered(chat, &types[i]) ? &types[i] : NULL;
	return NULL;
}

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

/* The same for all turns that have it, which must not change it: a thousand of them at once are one. */
static json_t *
type_json(size_t i)
{
	const ToolType *type = &types[i];
	json_t *schema;

	if (told[i] == NULL && type->offer == OFFER_COMPUTER)
		told[i] = computer_tool();
	if (told[i] != NULL)
		return json_incref(told[i]);
	schema = json_pack("{s:s, s:o}", "type", "object", "properties", json_loads(type->properties, 0, NULL));
	if (strcmp(type->required, "[]") != 0)
		json_object_set_new(schema, "required", json_loads(type->required, 0, NULL));
	told[i] = json_pack("{s:s, s:s, s:o}", "name", type->name, "description", type->description, "input_schema", schema);
	return json_incref(told[i]);
}

/* A name that all providers take. */
static bool
is_name(const char *name)
{
	size_t len = name != NULL ? strlen(name) : 0;

	return len > 0 && len <= MCP_MAX_NAME &&
		   strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

static const json_t *
named(const json_t *tools, const char *name)
{
	size_t i;
	json_t *tool;

	json_array_foreach(tools, i, tool)
	{
		if (strcmp(json_string_value(json_object_get(tool, "name")), name) == 0)
			return tool;
	}
	return NULL;
}

json_t *
tool_of_workspace(const json_t *listed)
{
	json_t *tools = json_array();
	size_t i;
	json_t *given;

	json_array_foreach(listed, i, given)
	{
		const char *name = json_string_value(json_object_get(given, "name"));
		const char *description = json_string_value(json_object_get(given, "description"));
		json_t *properties = json_object_get(given, "schema");
		json_t *required = json_object_get(given, "required");
		json_t *schema = json_pack("{s:s}", "type", "object");

		json_object_set_new(schema, "properties", json_is_object(properties) ? json_incref(properties) : json_object());
		if (json_array_size(required) > 0)
			json_object_set(schema, "required", required);
		if (is_name(name) && named(tools, name) == NULL && json_array_size(tools) < MCP_MAX_TOOLS &&
			json_dumpb(schema, NULL, 0, JSON_COMPACT) <= MCP_MAX_SCHEMA)
			json_array_append_new(tools, json_pack("{s:s, s:s, s:O}", "name", name, "description",
												   description != NULL && strlen(description) <= MCP_MAX_DESCRIPTION ? description : "",
												   "input_schema", schema));
		json_decref(schema);
	}
	return tools;
}

/* Is it a tool of the server's own, or of a server that an administrator has set up?  Those come first. */
static bool
is_ours(const ToolKit *kit, const char *name)
{
	return find_type(kit->chat, name) != NULL || mcp_server_of(kit->mcp, name) != NULL;
}

json_t *
tool_list(const ToolKit *kit)
{
	json_t *tools = json_array();
	size_t i;
	json_t *tool;

	for (i = 0; i < N_TYPES; i++)
		if (is_offered(kit->chat, &types[i]))
			json_array_append_new(tools, type_json(i));
	mcp_add_tools(kit->mcp, tools);
	json_array_foreach(kit->workspace, i, tool)
	{
		if (!is_ours(kit, json_string_value(json_object_get(tool, "name"))))
			json_array_append(tools, tool);
	}
	json_array_foreach(json_object_get(kit->chat, "dynamic_tools"), i, tool)
	{
		const char *name = json_string_value(json_object_get(tool, "name"));
		const char *description = json_string_value(json_object_get(tool, "description"));

		if (name != NULL && tool_is_dynamic(kit, name))
			json_array_append_new(tools, json_pack("{s:s, s:s, s:o}", "name", name, "description",
												   description != NULL ? description : "", "input_schema", dynamic_schema(tool)));
	}
	return tools;
}

bool
tool_is_dynamic(const ToolKit *kit, const char *name)
{
	return !is_ours(kit, name) && named(kit->workspace, name) == NULL && dynamic_tool(kit->chat, name) != NULL;
}

/* Calls ------------------------------------------------------------------------ */

void
tool_cancel(ToolCall *call)
{
	*call->link = call->next;
	if (call->next != NULL)
		call->next->link = call->link;
	db_forget(call->call);
	if (call->agent != NULL)
		agenttool_cancel(call->agent);
	if (call->mcp != NULL)
		mcp_cancel(call->mcp);
	errand_cancel(call->errand);
	if (call->film != NULL)
		agenttool_cancel(call->film);
	json_decref(call->result);
	free(call->chat);
	free(call->name);
	free(call->args);
	free(call->state);
	free(call);
}

static void
end(ToolCall *call, json_t *result, unsigned flags)
{
	ToolDone done = call->done;
	void *arg = call->arg;

	tool_cancel(call);
	done(arg, result, flags);
}

static void
on_agent(void *arg, json_t *result, unsigned flags)
{
	ToolCall *call = arg;

	call->agent = NULL;
	end(call, result, (flags & AGENTTOOL_FAILED ? TOOL_FAILED : 0) | (flags & AGENTTOOL_MEDIA ? TOOL_MEDIA : 0));
}

static void
on_mcp(void *arg, json_t *result, unsigned flags)
{
	ToolCall *call = arg;

	call->mcp = NULL;
	end(call, result, (flags & MCP_FAILED ? TOOL_FAILED : 0) | (flags & MCP_MEDIA ? TOOL_MEDIA : 0));
}

static bool ask_database(ToolCall *call);

/* What others have said is in the state of the next call. */
static void
on_fetched(void *arg, json_t *results)
{
	ToolCall *call = arg;
	json_t *state = json_loads(call->state, 0, NULL);

	call->errand = NULL;
	json_object_set_new(state, "results", results);
	free(call->state);
	call->state = json_dumps(state, JSON_COMPACT);
	json_decref(state);
	if (!ask_database(call))
		end(call, json_pack("{s:s}", "error", "The server could not run the tool."), TOOL_FAILED);
}

/* Films of what an agent does on the desktop while it is waited for --------------- */

static AgentTool *
ask_film(ToolCall *call, const char *what, AgentToolDone done)
{
	json_t *args = json_pack("{s:s}", "recording_id", call->film_id);
	AgentTool *asked = args != NULL ? agenttool_start(call->kit_chat, what, args, done, call) : NULL;

	json_decref(args);
	return asked;
}

/* What was made of it stands beside the report; without it the report is as good. */
static void
on_film_kept(void *arg, json_t *film, unsigned flags)
{
	ToolCall *call = arg;
	json_t *result = json_incref(call->result);

	call->film = NULL;
	if ((flags & AGENTTOOL_FAILED) == 0)
		json_object_update(result, film);
	json_decref(film);
	end(call, result, call->flags);
}

static void
end_film(ToolCall *call)
{
	json_t *result;

	call->film = call->filming ? ask_film(call, "recording_stop", on_film_kept) : NULL;
	if (call->film != NULL)
		return;
	result = json_incref(call->result);
	end(call, result, call->flags);
}

static void
on_film_begun(void *arg, json_t *answer, unsigned flags)
{
	ToolCall *call = arg;

	json_decref(answer);
	call->film = NULL;
	call->filming = (flags & AGENTTOOL_FAILED) == 0;
	if (call->result != NULL)
		end_film(call);
}

static void
begin_film(ToolCall *call)
{
	unsigned char b[16];
	char id[33];

	if (call->film_id[0] != '\0')
		return;
	randombytes_buf(b, sizeof(b));
	sodium_bin2hex(id, sizeof(id), b, sizeof(b));
	snprintf(call->film_id, sizeof(call->film_id), "%.8s-%.4s-4%.3s-a%.3s-%.12s", id, id + 8, id + 13, id + 17, id + 20);
	call->film = ask_film(call, "recording_start", on_film_begun);
}

/* The database has nothing more to do. */
static void
answered(ToolCall *call, json_t *result, unsigned flags)
{
	if (call->film == NULL && !call->filming)
	{
		end(call, result, flags);
		return;
	}
	call->result = result;
	call->flags = flags;
	if (call->film == NULL)
		end_film(call);
}

static void
on_answer(void *arg, PGresult *result)
{
	ToolCall *call = arg;
	json_t *answer = NULL;
	json_t *wait;

	call->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	wait = json_object_get(answer, "wait_ms");
	if (json_is_integer(wait))
	{
		free(call->state);
		call->state = json_dumps(json_object_get(answer, "state"), JSON_COMPACT);
		call->due = turn_env.now_ms() + json_integer_value(wait);
		if (json_is_true(json_object_get(answer, "film")))
			begin_film(call);
	}
	else if (json_object_get(answer, "fetch") != NULL)
	{
		free(call->state);
		call->state = json_dumps(json_object_get(answer, "state"), JSON_COMPACT);
		call->errand = errand_begin(json_object_get(answer, "fetch"), on_fetched, call);
		if (call->errand == NULL)
			end(call, json_pack("{s:s}", "error", "The server could not ask another one."), TOOL_FAILED);
	}
	else if (json_object_get(answer, "result") != NULL)
		answered(call, json_incref(json_object_get(answer, "result")), json_is_true(json_object_get(answer, "is_error")) ? TOOL_FAILED : 0);
	else
		end(call, json_pack("{s:s}", "error", "The server could not run the tool."), TOOL_FAILED);
	json_decref(answer);
}

static bool
ask_database(ToolCall *call)
{
	const char *const params[] = {turn_env.worker, call->chat, call->name, call->args, call->state};

	call->due = 0;
	call->call = db_call("SELECT coder.chat_tool($1, $2, $3, $4::jsonb, $5::jsonb)", 5, params, on_answer, call);
	return call->call != NULL;
}

/* Calls a tool of an MCP server in the workspace. */
static AgentTool *
call_workspace(const ToolKit *kit, const char *name, const json_t *args, ToolCall *call)
{
	json_t *wanted = json_pack("{s:s, s:O}", "tool_name", name, "arguments", args);
	AgentTool *begun = wanted != NULL ? agenttool_start(kit->chat, "mcp_call", wanted, on_agent, call) : NULL;

	json_decref(wanted);
	return begun;
}

ToolCall *
tool_start(const ToolKit *kit, const char *name, const json_t *args, ToolDone done, void *arg)
{
	const ToolType *type = find_type(kit->chat, name);
	bool known = is_ours(kit, name) || named(kit->workspace, name) != NULL;
	ToolCall *call = known ? calloc(1, sizeof(*call)) : NULL;
	bool begun;

	if (call == NULL)
		return NULL;
	call->chat = strdup(json_string_value(json_object_get(kit->chat, "id")));
	call->name = strdup(name);
	call->args = json_dumps(args, JSON_COMPACT);
	call->done = done;
	call->arg = arg;
	call->kit_chat = kit->chat;
	call->next = waiting;
	call->link = &waiting;
	if (waiting != NULL)
		waiting->link = &call->next;
	waiting = call;
	if (type != NULL && type->in_workspace)
		begun = (call->agent = agenttool_start(kit->chat, name, args, on_agent, call)) != NULL;
	else if (type != NULL)
		begun = ask_database(call);
	else if (mcp_server_of(kit->mcp, name) != NULL)
		begun = (call->mcp = mcp_call(kit->mcp, name, args, on_mcp, call)) != NULL;
	else
		begun = (call->agent = call_workspace(kit, name, args, call)) != NULL;
	if (begun)
		return call;
	tool_cancel(call);
	return NULL;
}

int64_t
tool_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();
	ToolCall *next;

	for (ToolCall *call = waiting; call != NULL; call = next)
	{
		next = call->next;
		if (call->due == 0)
			continue;
		if (call->due <= now)
			ask_database(call);
		else if (call->due - now < most)
			most = call->due - now;
	}
	return most;
}

void
tool_free_types(void)
{
	for (size_t i = 0; i < N_TYPES; i++)
	{
		json_decref(told[i]);
		told[i] = NULL;
	}
}
