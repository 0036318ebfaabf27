/*
 * mcp.c -- the MCP servers of the workspace: programs that speak JSON-RPC on their standard input and output, a message a line.
 *
 * One at an address is spoken to by a program of ours (mcpremote.c).  They are started when somebody first asks for their tools, and again where the file that names them has changed or one has
 * died.  All on the loop's thread.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/context.h"
#include "serve/http.h"
#include "serve/mcpconfig.h"
#include "serve/mcpremote.h"
#include "version.h"

#define LIST_MS 4500 /* who asks for tools waits so long for those that begin */
#define CALL_MS 60000
#define MAX_LINE ((size_t) 8 << 20)
#define MAX_QUEUED ((size_t) 16 << 20) /* to a program that does not read */
#define MAX_FILE ((size_t) 262144)
#define MAX_CALLS 64 /* a server */
#define MAX_ENV 100
#define RETRY_NS (INT64_C(30) * 1000000000) /* until one that could not be started is tried again */

typedef struct Server Server;

/* Somebody who waits for tools, or for the answer of a call. */
typedef struct Wait
{
	struct Wait *next;
	Request *request;
	Server *server; /* NULL: for tools */
	int64_t id;
	LoopTimer timer;
} Wait;

struct Server
{
	Server *next;
	char name[MCPCONFIG_MAX_NAME];
	json_t *config;
	Process process;
	LoopFd *in_watch;
	LoopFd *out_watch;
	char *out; /* that is to be written */
	size_t out_len;
	char *line; /* that is being read */
	size_t line_len;
	size_t line_room;
	json_t *tools;
	bool settled; /* its tools are known, or it is dead */
	bool late;	  /* somebody has waited for it as long as one waits: nobody does again */
	bool ready;	  /* its tools were known once */
	bool dead;
	int64_t died; /* ns, of the loop */
	Loop *loop;
};

static Server *servers;
static Wait *waits;
static int64_t next_id = 1;
static struct timespec read_at; /* when the files were last changed, as they were read */

static void take_line(Server *server, const char *text, size_t len);

/* Who waits ------------------------------------------------------------------------ */

static void
wait_unlink(Wait *wait)
{
	for (Wait **link = &waits; *link != NULL; link = &(*link)->next)
		if (*link == wait)
		{
			*link = wait->next;
			break;
		}
	loop_timer_stop(&wait->timer);
}

static void
on_gone(void *arg)
{
	wait_unlink(arg);
	free(arg);
}

static void
answer_wait(Wait *wait, int status, json_t *value, const char *message)
{
	wait_unlink(wait);
	if (value != NULL)
		http_reply_json(wait->request, status, value);
	else
		http_reply_message(wait->request, status, message);
	http_resume(wait->request);
	free(wait);
}

static json_t *
all_tools(void)
{
	json_t *tools = json_array();

	for (const Server *server = servers; server != NULL; server = server->next)
		if (!server->dead && server->settled)
			json_array_extend(tools, server->tools);
	return json_pack("{s:o}", "tools", tools);
}

static bool
all_settled(void)
{
	for (const Server *server = servers; server != NULL; server = server->next)
		if (!server->settled && !server->late)
			return false;
	return true;
}

static void
tell_tools(void)
{
	Wait *next;

	for (Wait *wait = all_settled() ? waits : NULL; wait != NULL; wait = next)
	{
		next = wait->next;
		if (wait->server == NULL)
			answer_wait(wait, 200, all_tools(), NULL);
	}
}

static void
on_wait_over(void *arg)
{
	Wait *wait = arg;

	if (wait->server != NULL)
	{
		answer_wait(wait, 502, NULL, "The MCP server did not answer in time.");
		return;
	}
	for (Server *server = servers; server != NULL; server = server->next)
		server->late = server->late || !server->settled;
	answer_wait(wait, 200, all_tools(), NULL);
}

static Wait *
new_wait(Request *request, Server *server, int64_t ms)
{
	Wait *wait = calloc(1, sizeof(*wait));

	if (wait == NULL)
	{
		http_reply_message(request, 500, "out of memory");
		return NULL;
	}
	wait->request = request;
	wait->server = server;
	wait->next = waits;
	waits = wait;
	loop_timer_init(&wait->timer, http_agent(request)->loop, on_wait_over, wait);
	loop_timer_start(&wait->timer, ms);
	http_wait(request, ms + 5000, on_gone, wait);
	return wait;
}

/* Programs ---------------------------------------------------------------------------- */

static void
close_fd(int *fd, LoopFd **watch)
{
	if (*watch != NULL)
		loop_fd_del(*watch);
	*watch = NULL;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* It has ended, or is to: its calls have failed. */
static void
server_die(Server *server)
{
	Wait *next;

	if (server->dead)
		return;
	server->dead = true;
	server->died = loop_now(server->loop);
	server->settled = true;
	close_fd(&server->process.in, &server->in_watch);
	close_fd(&server->process.out, &server->out_watch);
	command_kill(&server->process, SIGKILL);
	if (server->process.pid > 0)
		command_wait(&server->process);
	if (server->process.pidfd >= 0)
		close(server->process.pidfd);
	server->process.pid = 0;
	server->process.pidfd = -1;
	for (Wait *wait = waits; wait != NULL; wait = next)
	{
		next = wait->next;
		if (wait->server == server)
			answer_wait(wait, 502, NULL, "The MCP server has ended.");
	}
	tell_tools();
}

static void
server_free(Server *server)
{
	server_die(server);
	json_decref(server->config);
	json_decref(server->tools);
	free(server->out);
	free(server->line);
	free(server);
}

static void
flush_out(Server *server)
{
	while (server->out_len > 0)
	{
		ssize_t n = write(server->process.in, server->out, server->out_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
		{
			server_die(server);
			return;
		}
		memmove(server->out, server->out + n, server->out_len - (size_t) n);
		server->out_len -= (size_t) n;
	}
	loop_fd_set(server->in_watch, server->out_len > 0 ? EPOLLOUT : 0);
}

static void
on_writable(void *arg, uint32_t events)
{
	Server *server = arg;

	if (server->out_len > 0)
		flush_out(server);
	else if ((events & (EPOLLERR | EPOLLHUP)) != 0)
		server_die(server);
}

/* A message; taken over. */
static void
send_message(Server *server, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);
	size_t len = text != NULL ? strlen(text) : 0;
	char *grown = text != NULL && !server->dead && server->out_len + len < MAX_QUEUED ? realloc(server->out, server->out_len + len + 1) : NULL;

	json_decref(message);
	if (grown != NULL)
	{
		server->out = grown;
		memcpy(grown + server->out_len, text, len);
		grown[server->out_len + len] = '\n';
		server->out_len += len + 1;
		flush_out(server);
	}
	else if (!server->dead)
		server_die(server);
	free(text);
}

static bool
keep_line(Server *server, const char *bytes, size_t len)
{
	if (server->line_len + len > MAX_LINE)
		return false;
	if (server->line_len + len > server->line_room)
	{
		size_t room = (server->line_len + len) * 2;
		char *grown = realloc(server->line, room);

		if (grown == NULL)
			return false;
		server->line = grown;
		server->line_room = room;
	}
	memcpy(server->line + server->line_len, bytes, len);
	server->line_len += len;
	return true;
}

/* Each line is a message; the server may die of one. */
static void
take_bytes(Server *server, const char *bytes, size_t len)
{
	while (len > 0 && !server->dead)
	{
		const char *end = memchr(bytes, '\n', len);
		size_t n = end != NULL ? (size_t) (end - bytes) : len;

		if (!keep_line(server, bytes, n))
		{
			server_die(server);
			return;
		}
		bytes += n + (end != NULL);
		len -= n + (end != NULL);
		if (end == NULL)
			continue;
		n = server->line_len;
		server->line_len = 0;
		take_line(server, server->line, n);
	}
}

static void
on_readable(void *arg, uint32_t events)
{
	Server *server = arg;
	char bytes[65536];
	ssize_t n = read(server->process.out, bytes, sizeof(bytes));

	(void) events;
	if (n > 0)
		take_bytes(server, bytes, (size_t) n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		server_die(server);
}

/* Values may name variables of the agent's. */
static char **
environment_of(const json_t *env)
{
	char **list = calloc(MAX_ENV + 1, sizeof(*list));
	size_t n = 0;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *) env, name, value)
	{
		char *text = json_is_string(value) ? agent_expand(json_string_value(value), false) : NULL;

		if (list != NULL && n < MAX_ENV && text != NULL && *name != '\0' && strchr(name, '=') == NULL && asprintf(&list[n], "%s=%s", name, text) >= 0)
			n++;
		free(text);
	}
	return list;
}

/* What a server at an address is, for the program that speaks to it; NULL where it is none. */
static json_t *
remote_env(const json_t *config)
{
	json_t *remote = json_object_get(config, "url") != NULL ? json_deep_copy(config) : NULL;
	json_t *headers = json_object_get(remote, "headers");
	const char *name;
	json_t *value;
	void *next;
	json_t *env;
	char *text;

	json_object_foreach_safe(headers, next, name, value)
	{
		text = agent_expand(json_string_value(value), false);
		json_object_set_new(headers, name, json_string(text != NULL && strpbrk(text, "\r\n") == NULL ? text : ""));
		free(text);
	}
	text = remote != NULL ? json_dumps(remote, JSON_COMPACT) : NULL;
	env = text != NULL ? json_pack("{s:s}", MCPREMOTE_ENV, text) : NULL;
	json_decref(remote);
	free(text);
	return env;
}

static char **
list_env(const json_t *env)
{
	const char *text = json_string_value(json_object_get(env, MCPREMOTE_ENV));
	char **list = text != NULL ? calloc(2, sizeof(*list)) : NULL;

	if (text == NULL)
		return environment_of(env);
	if (list != NULL && asprintf(&list[0], MCPREMOTE_ENV "=%s", text) < 0)
		list[0] = NULL;
	return list;
}

static bool
server_start(Server *server, Agent *agent)
{
	char ours[96];
	json_t *remote = remote_env(server->config);
	char **env = list_env(remote != NULL ? remote : json_object_get(server->config, "env"));
	Command wanted = {.text = json_string_value(json_object_get(server->config, "command")), .extra = (const char *const *) env,
					  .merge_output = true, .plain = true};
	char error[256];
	bool started;

	snprintf(ours, sizeof(ours), "exec /proc/%d/exe " MCPREMOTE_COMMAND " 2>/dev/null", (int) getpid());
	if (remote != NULL)
		wanted.text = ours;
	started = env != NULL && command_start(agent, &wanted, &server->process, error, sizeof(error)) == 0;
	for (size_t i = 0; env != NULL && env[i] != NULL; i++)
		free(env[i]);
	free(env);
	json_decref(remote);
	if (!started)
	{
		server->process.pid = 0;
		return false;
	}
	fcntl(server->process.in, F_SETFL, O_NONBLOCK);
	fcntl(server->process.out, F_SETFL, O_NONBLOCK);
	server->in_watch = loop_fd_add(agent->loop, server->process.in, 0, on_writable, server);
	server->out_watch = loop_fd_add(agent->loop, server->process.out, EPOLLIN, on_readable, server);
	return server->in_watch != NULL && server->out_watch != NULL;
}

/* What they say -------------------------------------------------------------------------- */

#define HELLO_ID 0 /* initialize */

static void
list_tools(Server *server, const char *cursor)
{
	json_t *message = json_pack("{s:s, s:s, s:s}", "jsonrpc", "2.0", "id", "tools", "method", "tools/list");

	if (cursor != NULL)
		json_object_set_new(message, "params", json_pack("{s:s}", "cursor", cursor));
	send_message(server, message);
}

static void
on_hello(Server *server, const json_t *result)
{
	if (!json_is_object(result))
	{
		server_die(server);
		return;
	}
	send_message(server, json_pack("{s:s, s:s}", "jsonrpc", "2.0", "method", "notifications/initialized"));
	if (!server->dead)
		list_tools(server, NULL);
}

static void
on_tools(Server *server, const json_t *result)
{
	const char *cursor = json_string_value(json_object_get(result, "nextCursor"));
	size_t before = json_array_size(server->tools);

	mcpconfig_add_tools(server->tools, server->name, result);
	/* A page without anything new is the last. */
	if (cursor != NULL && *cursor != '\0' && json_array_size(server->tools) > before)
	{
		list_tools(server, cursor);
		return;
	}
	server->settled = true;
	server->ready = true;
	server->late = false;
	tell_tools();
}

static void
on_called(Server *server, int64_t id, const json_t *message)
{
	const json_t *result = json_object_get(message, "result");
	const char *why = json_string_value(json_object_get(json_object_get(message, "error"), "message"));

	for (Wait *wait = waits; wait != NULL; wait = wait->next)
		if (wait->server == server && wait->id == id)
		{
			if (json_is_object(result))
				answer_wait(wait, 200, mcpconfig_answer(result), NULL);
			else
				answer_wait(wait, 502, NULL, why != NULL ? why : "The MCP server answered with an error.");
			return;
		}
}

static void
take_line(Server *server, const char *text, size_t len)
{
	json_t *message = json_loadb(text, len, 0, NULL);
	json_t *id = json_object_get(message, "id");
	const char *method = json_string_value(json_object_get(message, "method"));

	if (method != NULL && id != NULL && strcmp(method, "ping") == 0)
		send_message(server, json_pack("{s:s, s:O, s:{}}", "jsonrpc", "2.0", "id", id, "result"));
	else if (method != NULL && id != NULL)
		send_message(server, json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error", "code", -32601, "message",
									   "Method not found"));
	else if (method != NULL && strcmp(method, "notifications/tools/list_changed") == 0 && server->settled)
	{
		server->settled = false;
		json_array_clear(server->tools);
		list_tools(server, NULL);
	}
	else if (method == NULL && json_is_string(id) && strcmp(json_string_value(id), "tools") == 0)
		on_tools(server, json_object_get(message, "result"));
	else if (method == NULL && json_is_integer(id) && json_integer_value(id) == HELLO_ID)
		on_hello(server, json_object_get(message, "result"));
	else if (method == NULL && json_is_integer(id))
		on_called(server, (int64_t) json_integer_value(id), message);
	json_decref(message);
}

/* Configuration -------------------------------------------------------------------------- */

static char *
read_file(const char *path, size_t *len, struct timespec *changed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *data = NULL;
	ssize_t n;

	*len = 0;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t) st.st_size <= MAX_FILE && (data = malloc(MAX_FILE)) != NULL)
	{
		*changed = st.st_mtim;
		while (*len < MAX_FILE && (n = read(fd, data + *len, MAX_FILE - *len)) > 0)
			*len += (size_t) n;
	}
	if (fd >= 0)
		close(fd);
	return data;
}

/* The servers that the files name, in their order; the time of the latest change. */
static json_t *
read_config(Agent *agent, struct timespec *changed)
{
	json_t *all = json_array();
	char *files = strdup(context_mcp_files());
	char *rest = files;
	char *name;
	char *directory;

	memset(changed, 0, sizeof(*changed));
	pthread_mutex_lock(&agent->env_lock);
	directory = strdup(agent->directory != NULL ? agent->directory : "");
	pthread_mutex_unlock(&agent->env_lock);
	while (files != NULL && directory != NULL && (name = strsep(&rest, ",")) != NULL)
	{
		char *path = NULL;
		struct timespec at = {0};
		size_t len;
		char *text;
		json_t *found;

		if (*name == '\0')
			continue;
		if (*name == '/' || *name == '~' || *directory == '\0')
			path = agent_expand(name, true);
		else if (asprintf(&path, "%s/%s", directory, name) < 0)
			path = NULL;
		text = path != NULL ? read_file(path, &len, &at) : NULL;
		found = text != NULL ? mcpconfig_servers(text, len) : NULL;
		json_array_extend(all, found);
		if (at.tv_sec > changed->tv_sec || (at.tv_sec == changed->tv_sec && at.tv_nsec > changed->tv_nsec))
			*changed = at;
		json_decref(found);
		free(text);
		free(path);
	}
	free(files);
	free(directory);
	return all;
}

static Server *
find_server(const char *name, size_t len)
{
	for (Server *server = servers; server != NULL; server = server->next)
		if (strlen(server->name) == len && strncmp(server->name, name, len) == 0)
			return server;
	return NULL;
}

static void
add_server(Agent *agent, json_t *config)
{
	Server *server = calloc(1, sizeof(*server));

	if (server == NULL)
		return;
	snprintf(server->name, sizeof(server->name), "%s", json_string_value(json_object_get(config, "name")));
	server->config = json_incref(config);
	server->loop = agent->loop;
	server->tools = json_array();
	server->process = (Process){.pid = 0, .pidfd = -1, .in = -1, .out = -1, .err = -1};
	server->next = servers;
	servers = server;
	if (!server_start(server, agent))
		server_die(server);
	else
		send_message(server, json_pack("{s:s, s:i, s:s, s:{s:s, s:{}, s:{s:s, s:s}}}", "jsonrpc", "2.0", "id", HELLO_ID, "method", "initialize", "params",
									   "protocolVersion", "2025-06-18", "capabilities", "clientInfo", "name", "coder", "version", CODER_VERSION));
}

/* One that has died is started again; one that could not be started at all not at once. */
static bool
is_kept(const Server *server)
{
	return !server->dead || (!server->ready && loop_now(server->loop) - server->died < RETRY_NS);
}

/* Starts what the files name now and does not run yet, and ends what they do not name any more. */
static void
load_servers(Agent *agent, bool refresh)
{
	struct timespec changed;
	json_t *wanted = read_config(agent, &changed);
	bool same = !refresh && changed.tv_sec == read_at.tv_sec && changed.tv_nsec == read_at.tv_nsec;
	size_t i;
	json_t *config;

	read_at = changed;
	for (Server **link = &servers; *link != NULL;)
	{
		Server *server = *link;

		if (same && is_kept(server))
		{
			link = &server->next;
			continue;
		}
		*link = server->next;
		server_free(server);
	}
	json_array_foreach(wanted, i, config)
	{
		const char *name = json_string_value(json_object_get(config, "name"));

		if (find_server(name, strlen(name)) == NULL)
			add_server(agent, config);
	}
	json_decref(wanted);
}

/* Requests ------------------------------------------------------------------------------------ */

/* GET /api/v0/mcp/tools */
void
mcp_tools(Request *request)
{
	char *refresh = http_query(request, "refresh");

	load_servers(http_agent(request), refresh != NULL && strcmp(refresh, "true") == 0);
	free(refresh);
	if (all_settled())
		http_reply_json(request, 200, all_tools());
	else
		new_wait(request, NULL, LIST_MS);
}

static int
calls_of(const Server *server)
{
	int n = 0;

	for (const Wait *wait = waits; wait != NULL; wait = wait->next)
		n += wait->server == server;
	return n;
}

static void
call(Request *request, Server *server, const char *tool, json_t *arguments)
{
	Wait *wait = new_wait(request, server, CALL_MS);
	json_t *message;

	if (wait == NULL)
		return;
	wait->id = next_id++;
	message = json_pack("{s:s, s:I, s:s, s:{s:s, s:o}}", "jsonrpc", "2.0", "id", (json_int_t) wait->id, "method", "tools/call", "params", "name", tool,
						"arguments", json_is_object(arguments) ? json_incref(arguments) : json_object());
	send_message(server, message);
}

/* POST /api/v0/mcp/call-tool {tool_name, arguments} */
void
mcp_call_tool(Request *request)
{
	size_t len;
	const char *text = http_body(request, &len);
	json_t *body = json_loadb(text, len, 0, NULL);
	const char *name = json_string_value(json_object_get(body, "tool_name"));
	const char *between = name != NULL ? strstr(name, "__") : NULL;
	Server *server = between != NULL ? find_server(name, (size_t) (between - name)) : NULL;

	if (between == NULL || between == name || between[2] == '\0')
		http_reply_message(request, 400, "tool_name is server__tool.");
	else if (server == NULL || server->dead)
		http_reply_message(request, 404, "There is no such MCP server.");
	else if (calls_of(server) >= MAX_CALLS)
		http_reply_message(request, 502, "The MCP server has too many calls to answer.");
	else
		call(request, server, between + 2, json_object_get(body, "arguments"));
	json_decref(body);
}

void
mcp_stop(void)
{
	while (servers != NULL)
	{
		Server *server = servers;

		servers = server->next;
		server_free(server);
	}
}
