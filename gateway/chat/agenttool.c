/*
 * agenttool.c -- ticket -> request(s) to the agent -> result.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "agenttool.h"
#include "computer.h"
#include "db.h"
#include "exchange.h"
#include "mcplist.h"
#include "mcpwire.h"
#include "wsframe.h"
#include "turn.h"

#define MAX_ANSWER ((size_t) 8 << 20)
#define MAX_FILM (COMPUTER_MAX_VIDEO + COMPUTER_MAX_PICTURE + 4096)
#define MAX_FILMS 2 /* that are read at a time: one may be large */
#define FILM_MS 600000L
#define SETTLE_MS 300 /* from an action to the picture of what came of it */
#define CONNECT_MS 10000L
#define REQUEST_MS 30000L
#define DESKTOP_MS 60000L /* it may have to begin first */
#define MCP_LIST_MS 5000L
#define MCP_TOOL_MS 65000L /* the agent gives up after sixty seconds */
#define SLICE_MS 60000L /* a wait for a process is asked for again, so that no proxy on the way gives up */
#define EXECUTE_MS 10000L
#define MCP_SLOW_MS 4000
#define MAX_EXECUTE_MS 3600000L
#define MAX_OUTPUT 32768

static int n_films; /* that are read */

struct AgentTool
{
	Transfer transfer; /* first */
	json_t *chat;
	json_t *args;
	json_t *way; /* {url, ticket, directory, agent} */
	DbCall *call;
	CURL *easy;
	struct curl_slist *headers;
	char *body; /* that is sent */
	char *answer;
	size_t answer_len;
	bool too_long;
	bool plain; /* the answer is text, given as {"text": ...} */
	bool raw;	/* the answer is bytes: next is given NULL, and they stay until the next request */
	char output[128]; /* of an action on the desktop */
	void (*begin)(AgentTool *tool);
	void (*next)(AgentTool *tool, long status, json_t *answer); /* status 0: none came; answer: borrowed */
	const char *work; /* what the database plans and judges; NULL: done here */
	json_t *answers;
	char process[64];
	int64_t began;
	int64_t until; /* of a process */
	bool timed_out; /* the last request was not answered in its time */
	bool changes;	/* it may change what MCP servers there are */
	uint64_t mark;	/* of lists of tools, when the agent was asked */
	AgentToolDone done;
	void *arg;
};

static void
close_request(AgentTool *tool)
{
	if (tool->easy != NULL)
	{
		curl_multi_remove_handle(turn_env.multi, tool->easy);
		curl_easy_cleanup(tool->easy);
		tool->easy = NULL;
	}
	curl_slist_free_all(tool->headers);
	tool->headers = NULL;
	free(tool->body);
	tool->body = NULL;
	free(tool->answer);
	tool->answer = NULL;
	tool->answer_len = 0;
	tool->too_long = false;
}

/* Who works, and since when. */
static const char *
agent_of(const AgentTool *tool)
{
	const char *agent = json_string_value(json_object_get(tool->way, "agent"));

	return agent != NULL ? agent : "";
}

void
agenttool_cancel(AgentTool *tool)
{
	if (tool->changes && tool->way != NULL)
		mcplist_drop(agent_of(tool));
	if (tool->raw)
		n_films--;
	db_forget(tool->call);
	close_request(tool);
	json_decref(tool->chat);
	json_decref(tool->args);
	json_decref(tool->way);
	json_decref(tool->answers);
	free(tool);
}

static void
end(AgentTool *tool, json_t *result, unsigned flags)
{
	AgentToolDone done = tool->done;
	void *arg = tool->arg;

	agenttool_cancel(tool);
	done(arg, result, flags);
}

static void
fail(AgentTool *tool, const char *why)
{
	end(tool, json_pack("{s:s}", "error", why), true);
}

static const char *
arg_string(const AgentTool *tool, const char *name)
{
	return json_string_value(json_object_get(tool->args, name));
}

/* Requests --------------------------------------------------------------------- */

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	AgentTool *tool = arg;
	size_t len = size * n;
	char *grown;

	if (len > (tool->raw ? MAX_FILM : MAX_ANSWER) - tool->answer_len)
	{
		tool->too_long = true;
		return 0;
	}
	grown = realloc(tool->answer, tool->answer_len + len + 1);
	if (grown == NULL)
		return 0;
	tool->answer = grown;
	memcpy(grown + tool->answer_len, data, len);
	tool->answer_len += len;
	grown[tool->answer_len] = '\0';
	return len;
}

/* Bytes as text: without NUL, and where they are no UTF-8, with a question mark for each that is not ASCII. */
static json_t *
text_of_bytes(char *bytes, size_t len)
{
	bool valid = ws_is_utf8((const uint8_t *) bytes, len);
	size_t kept = 0;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] != '\0')
			bytes[kept++] = valid || (unsigned char) bytes[i] < 0x80 ? bytes[i] : '?';
	return json_stringn(bytes, kept);
}

static json_t *
read_answer(const AgentTool *tool)
{
	if (tool->answer == NULL)
		return tool->plain ? json_pack("{s:s}", "text", "") : NULL;
	if (tool->plain)
		return json_pack("{s:o}", "text", text_of_bytes(tool->answer, tool->answer_len));
	return json_loadb(tool->answer, tool->answer_len, 0, NULL);
}

static void
on_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	AgentTool *tool = (AgentTool *) transfer;
	long status = 0;
	json_t *answer;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (tool->too_long)
	{
		fail(tool, "The agent's answer is too long.");
		return;
	}
	tool->timed_out = code == CURLE_OPERATION_TIMEDOUT;
	answer = code == CURLE_OK && !tool->raw ? read_answer(tool) : NULL;
	if (!tool->raw)
		close_request(tool);
	tool->next(tool, code == CURLE_OK ? status : 0, answer);
	json_decref(answer);
}

static void
add_header(AgentTool *tool, const char *name, const char *value)
{
	char line[512];
	struct curl_slist *grown;

	snprintf(line, sizeof(line), "%s: %s", name, value);
	grown = curl_slist_append(tool->headers, line);
	if (grown != NULL)
		tool->headers = grown;
}

static void
add_headers(AgentTool *tool)
{
	const char *parent = json_string_value(json_object_get(tool->chat, "parent_chat_id"));
	char ancestors[64] = "[]";

	if (parent != NULL)
		snprintf(ancestors, sizeof(ancestors), "[\"%s\"]", parent);
	add_header(tool, "Coder-Chat-Ticket", json_string_value(json_object_get(tool->way, "ticket")));
	add_header(tool, "Coder-Chat-Id", json_string_value(json_object_get(tool->chat, "id")));
	add_header(tool, "Coder-Ancestor-Chat-Ids", ancestors);
	add_header(tool, "Content-Type", "application/json");
	add_header(tool, "Expect", "");
}

/* body: NULL for a GET; copied.  path: behind /api/v0. */
static void
request(AgentTool *tool, const char *path, const char *body, long limit_ms, void (*next)(AgentTool *, long, json_t *))
{
	char *url = NULL;
	CURL *easy = curl_easy_init();

	tool->next = next;
	tool->easy = easy;
	tool->body = body != NULL ? strdup(body) : NULL;
	if (easy == NULL || asprintf(&url, "%s/api/v0%s", json_string_value(json_object_get(tool->way, "url")), path) < 0)
	{
		fail(tool, "The server is out of memory.");
		return;
	}
	add_headers(tool);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	free(url);
	if (tool->body != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, tool->body);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) strlen(tool->body));
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, tool->headers);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, limit_ms);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, tool);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, &tool->transfer);
	if (turn_env.ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, turn_env.ca_file);
	curl_multi_add_handle(turn_env.multi, easy);
}

/* Has the agent done what it was asked?  Else the tool has failed with what it says. */
static bool
succeeded(AgentTool *tool, long status, const json_t *answer)
{
	const char *message = json_string_value(json_object_get(answer, "message"));
	const char *detail = json_string_value(json_object_get(answer, "detail"));

	if (status == 200 && json_is_object(answer))
		return true;
	if (message != NULL)
		end(tool, json_pack("{s:o}", "error", json_sprintf("%s%s%s", message, detail != NULL ? " " : "", detail != NULL ? detail : "")), true);
	else
		fail(tool, tool->timed_out ? "The workspace did not answer in time." : "The workspace cannot be reached.");
	return false;
}

static void
append_query(char **path, const char *name, const char *value)
{
	char *escaped = curl_easy_escape(NULL, value, 0);
	char *longer = NULL;

	if (escaped != NULL && *path != NULL && asprintf(&longer, "%s%c%s=%s", *path, strchr(*path, '?') != NULL ? '&' : '?', name, escaped) >= 0)
	{
		free(*path);
		*path = longer;
	}
	curl_free(escaped);
}

static void
answer_ok(AgentTool *tool, long status, json_t *answer)
{
	if (succeeded(tool, status, answer))
		end(tool, json_pack("{s:b}", "ok", 1), false);
}

/* Files ------------------------------------------------------------------------ */

static void
on_lines(AgentTool *tool, long status, json_t *answer)
{
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (!succeeded(tool, status, answer))
		return;
	if (!json_is_true(json_object_get(answer, "success")))
		fail(tool, error != NULL ? error : "The file cannot be read.");
	else
		end(tool, json_pack("{s:O?, s:O?, s:O?, s:O?}", "content", json_object_get(answer, "content"), "file_size",
							json_object_get(answer, "file_size"), "total_lines", json_object_get(answer, "total_lines"), "lines_read",
							json_object_get(answer, "lines_read")), false);
}

static void
read_file(AgentTool *tool)
{
	static const char *const numbers[] = {"offset", "limit"};
	char *path = strdup("/read-file-lines");
	char number[32];

	append_query(&path, "path", arg_string(tool, "path") != NULL ? arg_string(tool, "path") : "");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (json_is_integer(json_object_get(tool->args, numbers[i])))
		{
			snprintf(number, sizeof(number), "%lld", (long long) json_integer_value(json_object_get(tool->args, numbers[i])));
			append_query(&path, numbers[i], number);
		}
	request(tool, path, NULL, REQUEST_MS, on_lines);
	free(path);
}

static void
write_file(AgentTool *tool)
{
	char *path = strdup("/write-file");
	const char *content = arg_string(tool, "content");

	append_query(&path, "path", arg_string(tool, "path") != NULL ? arg_string(tool, "path") : "");
	request(tool, path, content != NULL ? content : "", REQUEST_MS, answer_ok);
	free(path);
}

static void
edit_files(AgentTool *tool)
{
	char *body = json_dumps(tool->args, JSON_COMPACT);

	request(tool, "/edit-files", body != NULL ? body : "{}", REQUEST_MS, answer_ok);
	free(body);
}

/* Processes -------------------------------------------------------------------- */

long
agenttool_duration(const char *text, long def)
{
	static const struct
	{
		const char *unit;
		double ms;
	} units[] = {{"ms", 1}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
	double sum = 0;

	if (text == NULL || *text == '\0')
		return def;
	while (*text != '\0')
	{
		char *after;
		double n = strtod(text, &after);
		size_t i = 0;

		if (after == text || !(n >= 0 && n < 1e9))
			return def;
		while (i < sizeof(units) / sizeof(units[0]) && strncmp(after, units[i].unit, strlen(units[i].unit)) != 0)
			i++;
		if (i == sizeof(units) / sizeof(units[0]))
			return def;
		sum += n * units[i].ms;
		text = after + strlen(units[i].unit);
	}
	return sum > MAX_EXECUTE_MS ? MAX_EXECUTE_MS : (long) sum;
}

/* What came of a process, or how far it is. */
static json_t *
process_result(const AgentTool *tool, const json_t *answer)
{
	bool running = json_is_true(json_object_get(answer, "running"));
	const json_t *code = json_object_get(answer, "exit_code");
	const char *output = json_string_value(json_object_get(answer, "output"));
	size_t len = output != NULL ? strlen(output) : 0;
	json_t *result = json_pack("{s:b, s:I}", "success", !running && json_integer_value(code) == 0, "wall_duration_ms",
							   (json_int_t) (turn_env.now_ms() - tool->began));

	/* Of a longer text the end says more; a character is not cut in two. */
	while (len > MAX_OUTPUT || (len > 0 && output != NULL && ((unsigned char) *output & 0xc0) == 0x80))
	{
		output++;
		len--;
	}
	if (len > 0)
		json_object_set_new(result, "output", json_stringn(output, len));
	json_object_set_new(result, "exit_code", json_integer(running || !json_is_integer(code) ? 0 : json_integer_value(code)));
	if (json_is_object(json_object_get(answer, "truncated")))
		json_object_set(result, "truncated", json_object_get(answer, "truncated"));
	return result;
}

static void on_output(AgentTool *tool, long status, json_t *answer);

/* Waits for the end of the process as long as there is time, in slices. */
static void
ask_output(AgentTool *tool)
{
	char path[128];
	int64_t left = tool->until - turn_env.now_ms();

	snprintf(path, sizeof(path), "/processes/%s/output%s", tool->process, left > 0 ? "?wait=true" : "");
	request(tool, path, NULL, left <= 0 ? REQUEST_MS : left < SLICE_MS ? (long) left : SLICE_MS, on_output);
}

static void
on_output(AgentTool *tool, long status, json_t *answer)
{
	json_t *result;

	if (tool->timed_out && tool->until > 0)
	{
		if (tool->until <= turn_env.now_ms())
			tool->until = 0; /* only how far it is */
		ask_output(tool);
		return;
	}
	if (!succeeded(tool, status, answer))
		return;
	result = process_result(tool, answer);
	if (json_is_true(json_object_get(answer, "running")))
	{
		if (tool->until > turn_env.now_ms())
		{
			json_decref(result);
			ask_output(tool);
			return;
		}
		if (arg_string(tool, "command") != NULL)
		{
			json_object_set_new(result, "error", json_string("The command has not ended in time. It runs on; process_output tells how far it is."));
			json_object_set_new(result, "background_process_id", json_string(tool->process));
		}
		else
		{
			json_object_set_new(result, "success", json_true());
			json_object_set_new(result, "note", json_string("process is still running"));
		}
	}
	end(tool, result, false);
}

static void
on_started(AgentTool *tool, long status, json_t *answer)
{
	const char *id = json_string_value(json_object_get(answer, "id"));

	if (!succeeded(tool, status, answer))
		return;
	snprintf(tool->process, sizeof(tool->process), "%s", id != NULL ? id : "");
	if (json_is_true(json_object_get(tool->args, "run_in_background")))
		end(tool, json_pack("{s:b, s:i, s:I, s:s}", "success", 1, "exit_code", 0, "wall_duration_ms", (json_int_t) 0, "background_process_id",
							tool->process), false);
	else
		ask_output(tool);
}

/* "make &": what is put in the background stays there. */
static void
take_ampersand(json_t *args)
{
	const char *command = json_string_value(json_object_get(args, "command"));
	size_t len = command != NULL ? strlen(command) : 0;

	while (len > 0 && strchr(" \t\n", command[len - 1]) != NULL)
		len--;
	if (len < 2 || command[len - 1] != '&' || command[len - 2] == '&')
		return;
	json_object_set_new(args, "run_in_background", json_true());
	json_object_set_new(args, "command", json_stringn(command, len - 1));
}

static void
execute(AgentTool *tool)
{
	static const char *const environment[][2] = {
		{"CODER_CHAT_AGENT", "true"}, {"GIT_EDITOR", "true"}, {"GIT_SEQUENCE_EDITOR", "true"}, {"EDITOR", "true"},
		{"VISUAL", "true"},			  {"GIT_TERMINAL_PROMPT", "0"}, {"NO_COLOR", "1"},		   {"TERM", "dumb"},
		{"PAGER", "cat"},			  {"GIT_PAGER", "cat"}};
	json_t *env = json_object();
	json_t *body;
	char *text;

	if (arg_string(tool, "command") == NULL || *arg_string(tool, "command") == '\0')
	{
		json_decref(env);
		fail(tool, "command is required.");
		return;
	}
	take_ampersand(tool->args);
	for (size_t i = 0; i < sizeof(environment) / sizeof(environment[0]); i++)
		json_object_set_new(env, environment[i][0], json_string(environment[i][1]));
	body = json_pack("{s:s, s:o, s:b}", "command", arg_string(tool, "command"), "env", env, "background",
					 (int) json_is_true(json_object_get(tool->args, "run_in_background")));
	if (arg_string(tool, "workdir") != NULL)
		json_object_set_new(body, "workdir", json_string(arg_string(tool, "workdir")));
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	tool->until = tool->began + agenttool_duration(arg_string(tool, "timeout"), EXECUTE_MS);
	request(tool, "/processes/start", text != NULL ? text : "{}", REQUEST_MS, on_started);
	free(text);
}

/* The process that a tool names: false where it is no id. */
static bool
take_process(AgentTool *tool)
{
	const char *id = arg_string(tool, "process_id");

	if (id == NULL || *id == '\0' || strlen(id) >= sizeof(tool->process) || strspn(id, "0123456789abcdefABCDEF-") != strlen(id))
	{
		fail(tool, "process_id is not the id of a process.");
		return false;
	}
	strcpy(tool->process, id);
	return true;
}

static void
process_output(AgentTool *tool)
{
	if (!take_process(tool))
		return;
	tool->until = tool->began + agenttool_duration(arg_string(tool, "wait_timeout"), EXECUTE_MS);
	ask_output(tool);
}

static void
on_list(AgentTool *tool, long status, json_t *answer)
{
	if (succeeded(tool, status, answer))
		end(tool, json_incref(answer), false);
}

static void
process_list(AgentTool *tool)
{
	request(tool, "/processes/list", NULL, REQUEST_MS, on_list);
}

static void
on_signalled(AgentTool *tool, long status, json_t *answer)
{
	const char *message = json_string_value(json_object_get(answer, "message"));

	if (succeeded(tool, status, answer))
		end(tool, json_pack("{s:b, s:s}", "success", 1, "message", message != NULL ? message : "The signal was sent."), false);
}

static void
process_signal(AgentTool *tool)
{
	char path[128];
	json_t *body;
	char *text;

	if (!take_process(tool))
		return;
	snprintf(path, sizeof(path), "/processes/%s/signal", tool->process);
	body = json_pack("{s:s}", "signal", arg_string(tool, "signal") != NULL ? arg_string(tool, "signal") : "");
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	request(tool, path, text != NULL ? text : "{}", REQUEST_MS, on_signalled);
	free(text);
}

/* What the database plans and judges ---------------------------------------------- */

static void
on_judged(void *arg, PGresult *result)
{
	AgentTool *tool = arg;
	json_t *answer = NULL;
	json_t *value;
	bool is_error;

	tool->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	value = json_incref(json_object_get(answer, "result"));
	is_error = json_is_true(json_object_get(answer, "is_error"));
	json_decref(answer);
	if (value != NULL)
		end(tool, value, is_error);
	else
		fail(tool, "The server could not run the tool.");
}

static void
judge(AgentTool *tool)
{
	char *args = json_dumps(tool->args, JSON_COMPACT);
	char *answers = json_dumps(tool->answers, JSON_COMPACT);
	const char *const params[] = {turn_env.worker, json_string_value(json_object_get(tool->chat, "id")), tool->work, args, answers};

	tool->call = args != NULL && answers != NULL
		? db_call("SELECT coder.chat_agent_done($1, $2, $3, $4::jsonb, $5::jsonb)", 5, params, on_judged, tool)
		: NULL;
	free(args);
	free(answers);
	if (tool->call == NULL)
		fail(tool, "The server could not run the tool.");
}

static void next_request(AgentTool *tool);

static void
on_fetched(AgentTool *tool, long status, json_t *answer)
{
	if (status == 0)
	{
		fail(tool, tool->timed_out ? "The workspace did not answer in time." : "The workspace cannot be reached.");
		return;
	}
	json_array_append_new(tool->answers, json_pack("{s:i, s:O?}", "status", (int) status, "text", json_object_get(answer, "text")));
	if (status == 200)
		next_request(tool);
	else
		judge(tool);
}

static void
next_request(AgentTool *tool)
{
	const json_t *wanted = json_array_get(json_object_get(tool->way, "requests"), json_array_size(tool->answers));
	const char *path = json_string_value(json_object_get(wanted, "path"));
	const json_t *body = json_object_get(wanted, "body");
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

	if (path != NULL)
		request(tool, path, text, (long) json_integer_value(json_object_get(tool->way, "limit_ms")), on_fetched);
	else
		judge(tool);
	free(text);
}

static void
work(AgentTool *tool)
{
	tool->plain = true;
	tool->answers = json_array();
	next_request(tool);
}

/* MCP servers of the workspace --------------------------------------------------- */

static void
on_mcp_tools(AgentTool *tool, long status, json_t *answer)
{
	json_t *tools = json_object_get(answer, "tools");

	if (status == 200 && json_is_array(tools))
	{
		/* Some servers may have been too slow for this answer. */
		if (turn_env.now_ms() - tool->began < MCP_SLOW_MS)
			mcplist_put(agent_of(tool), tools, tool->mark, turn_env.now_ms());
		end(tool, json_incref(tools), 0);
	}
	else if (status >= 400)
		end(tool, json_array(), 0); /* an agent without them */
	else
		fail(tool, tool->timed_out ? "The workspace did not answer in time." : "The workspace cannot be reached.");
}

static void
mcp_tools(AgentTool *tool)
{
	json_t *known = mcplist_get(agent_of(tool), turn_env.now_ms());

	if (known != NULL)
	{
		end(tool, known, 0);
		return;
	}
	tool->mark = mcplist_mark();
	request(tool, "/mcp/tools", NULL, MCP_LIST_MS, on_mcp_tools);
}

/* What the agent tells as the protocol does, but for the name of a type. */
static json_t *
mcp_answer(json_t *answer)
{
	json_t *result = json_pack("{s:O?, s:b}", "content", json_object_get(answer, "content"), "isError",
							   (int) json_is_true(json_object_get(answer, "is_error")));
	size_t i;
	json_t *item;

	json_array_foreach(json_object_get(result, "content"), i, item)
	{
		if (json_is_string(json_object_get(item, "media_type")))
			json_object_set(item, "mimeType", json_object_get(item, "media_type"));
	}
	return result;
}

static void
on_mcp_called(AgentTool *tool, long status, json_t *answer)
{
	unsigned flags;
	json_t *result;
	json_t *kept;

	if (!succeeded(tool, status, answer))
		return;
	result = mcp_answer(answer);
	kept = mcp_result(result, &flags);
	json_decref(result);
	end(tool, kept, (flags & MCP_FAILED ? AGENTTOOL_FAILED : 0) | (flags & MCP_MEDIA ? AGENTTOOL_MEDIA : 0));
}

static void
mcp_call_tool(AgentTool *tool)
{
	char *body = json_dumps(tool->args, JSON_COMPACT);

	request(tool, "/mcp/call-tool", body != NULL ? body : "{}", MCP_TOOL_MS, on_mcp_called);
	free(body);
}

/* The desktop ------------------------------------------------------------------- */

static void
ask_desktop(AgentTool *tool, json_t *action, long ms, void (*next)(AgentTool *, long, json_t *))
{
	char *body = json_dumps(action, JSON_COMPACT);

	json_decref(action);
	request(tool, "/desktop/action", body != NULL ? body : "{}", DESKTOP_MS + ms, next);
	free(body);
}

static void
on_picture(AgentTool *tool, long status, json_t *answer)
{
	json_t *data = json_object_get(answer, "screenshot_data");

	if (!succeeded(tool, status, answer))
		return;
	if (!json_is_string(data))
		fail(tool, "The desktop gave no picture.");
	else
		end(tool, json_pack("{s:O, s:s, s:s}", "data", data, "mime_type", "image/png", "text", tool->output), AGENTTOOL_MEDIA);
}

/* A model sees what came of each action. */
static void
on_acted(AgentTool *tool, long status, json_t *answer)
{
	const char *output = json_string_value(json_object_get(answer, "output"));

	if (!succeeded(tool, status, answer))
		return;
	snprintf(tool->output, sizeof(tool->output), "%s", output != NULL ? output : "");
	ask_desktop(tool, computer_screenshot(SETTLE_MS), SETTLE_MS, on_picture);
}

static void
on_told(AgentTool *tool, long status, json_t *answer)
{
	if (succeeded(tool, status, answer))
		end(tool, json_pack("{s:O?}", "output", json_object_get(answer, "output")), 0);
}

static void
computer(AgentTool *tool)
{
	long ms;
	json_t *action = computer_action(tool->args, &ms);
	const char *name = json_string_value(json_object_get(action, "action"));

	if (name == NULL)
		fail(tool, "The server is out of memory.");
	else if (strcmp(name, "screenshot") == 0)
		ask_desktop(tool, action, ms, on_picture);
	else
		ask_desktop(tool, action, ms, computer_is_text(action) ? on_told : on_acted);
}

/* Films of it ------------------------------------------------------------------- */

static void
recording_start(AgentTool *tool)
{
	char *body = json_dumps(tool->args, JSON_COMPACT);

	request(tool, "/desktop/recording/start", body != NULL ? body : "{}", DESKTOP_MS, answer_ok);
	free(body);
}

static char *
base64_of(const ComputerPart *part)
{
	size_t room = sodium_base64_encoded_len(part->len, sodium_base64_VARIANT_ORIGINAL);
	char *text = part->data != NULL ? malloc(room) : NULL;

	if (text != NULL)
		sodium_bin2base64(text, room, (const unsigned char *) part->data, part->len, sodium_base64_VARIANT_ORIGINAL);
	return text;
}

static void
on_film_kept(void *arg, PGresult *result)
{
	AgentTool *tool = arg;
	json_t *kept = NULL;

	tool->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		kept = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	if (kept != NULL)
		end(tool, kept, 0);
	else
		fail(tool, "The film could not be kept.");
}

static void
on_film(AgentTool *tool, long status, json_t *answer)
{
	ComputerPart video, picture;
	char *text[2];

	(void) answer;
	if (status != 200 || tool->answer == NULL || !computer_film(tool->answer, tool->answer_len, &video, &picture))
	{
		fail(tool, "The workspace gave no film.");
		return;
	}
	text[0] = base64_of(&video);
	text[1] = base64_of(&picture);
	close_request(tool);
	if (text[0] != NULL)
	{
		const char *const params[] = {turn_env.worker, json_string_value(json_object_get(tool->chat, "id")), text[0], text[1]};

		tool->call = db_call("SELECT coder.chat_keep_film($1, $2, decode($3, 'base64'), decode($4, 'base64'))", 4, params, on_film_kept, tool);
	}
	free(text[0]);
	free(text[1]);
	if (tool->call == NULL)
		fail(tool, "The film could not be kept.");
}

static void
recording_stop(AgentTool *tool)
{
	char *body;

	if (n_films >= MAX_FILMS)
	{
		fail(tool, "Too many films are read already.");
		return;
	}
	n_films++;
	tool->raw = true;
	body = json_dumps(tool->args, JSON_COMPACT);
	request(tool, "/desktop/recording/stop", body != NULL ? body : "{}", FILM_MS, on_film);
	free(body);
}

/* Beginning -------------------------------------------------------------------- */

static const struct
{
	const char *name;
	void (*begin)(AgentTool *tool);
	bool changes; /* anything in the workspace */
} tools[] = {
	{"read_file", read_file, false},
	{"write_file", write_file, true},
	{"edit_files", edit_files, true},
	{"execute", execute, true},
	{"process_output", process_output, true},
	{"process_list", process_list, false},
	{"process_signal", process_signal, true},
	{"mcp_tools", mcp_tools, false},
	{"mcp_call", mcp_call_tool, true},
	{"context", work, false},
	{"read_skill", work, false},
	{"read_skill_file", work, false},
	{"propose_plan", work, false},
	{COMPUTER_TOOL, computer, true},
	{"recording_start", recording_start, false},
	{"recording_stop", recording_stop, false},
};

static void
on_ticket(void *arg, PGresult *result)
{
	AgentTool *tool = arg;
	const char *error;

	tool->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		tool->way = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	error = json_string_value(json_object_get(tool->way, "error"));
	if (tool->way == NULL || error != NULL)
		fail(tool, error != NULL ? error : "The server could not run the tool.");
	else
		tool->begin(tool);
}

static DbCall *
call_for_work(AgentTool *tool, const char *const ids[static 3])
{
	char *args = json_dumps(tool->args, JSON_COMPACT);
	const char *const params[] = {ids[0], ids[1], ids[2], args};
	DbCall *call = args != NULL ? db_call("SELECT coder.chat_agent_work($1, $2, $3, $4::jsonb)", 4, params, on_ticket, tool) : NULL;

	free(args);
	return call;
}

AgentTool *
agenttool_start(const json_t *chat, const char *name, const json_t *args, AgentToolDone done, void *arg)
{
	const char *const params[] = {turn_env.worker, json_string_value(json_object_get(chat, "id")), name};
	AgentTool *tool;
	size_t i = 0;

	while (i < sizeof(tools) / sizeof(tools[0]) && strcmp(tools[i].name, name) != 0)
		i++;
	if (i == sizeof(tools) / sizeof(tools[0]) || (tool = calloc(1, sizeof(*tool))) == NULL)
		return NULL;
	tool->transfer.done = on_done;
	tool->chat = json_incref((json_t *) chat);
	tool->args = json_deep_copy(args);
	tool->begin = tools[i].begin;
	tool->changes = tools[i].changes;
	tool->began = turn_env.now_ms();
	tool->done = done;
	tool->arg = arg;
	tool->work = tools[i].begin == work ? tools[i].name : NULL;
	tool->call = tool->work != NULL ? call_for_work(tool, params)
									: db_call("SELECT coder.chat_agent_ticket($1, $2)", 2, params, on_ticket, tool);
	if (tool->call != NULL)
		return tool;
	agenttool_cancel(tool);
	return NULL;
}
