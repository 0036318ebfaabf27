/*
 * http.c -- port 4: the agent's own HTTP API, one request a connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <http_parser.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run/metrics.h"
#include "serve/debug.h"
#include "serve/http.h"
#include "serve/ports.h"
#include "serve/serve.h"
#include "wire/pbjson.h"

#define LIMIT_MS 20000
#define SLOW_BYTES_PER_MS 100 /* a large answer takes its time */
#define MAX_URL 4096
#define MAX_REQUEST ((size_t) 11 << 20)
#define MAX_HEADER_NAME 64
#define MAX_LOG ((size_t) 10 << 20)
#define PORTS_CACHE_NS 1000000000

struct Request
{
	Agent *agent;
	int fd;
	LoopFd *watch;
	LoopTimer timer;
	http_parser parser;
	char url[MAX_URL];
	size_t url_len;
	size_t received;
	bool done;
	char *out;
	size_t out_len, out_done;
	char *body;
	size_t body_len, body_room;
	char header[MAX_HEADER_NAME]; /* the name that is being read */
	bool header_valued;
	char chat[40];
	char ancestors[HTTP_MAX_ANCESTORS]; /* of the chat, as they came */
	char ws_key[64];
	const char *early; /* bytes behind the request */
	size_t early_len;
	bool taken; /* the connection is somebody else's */
	HttpScope scope;
	void (*closed)(void *arg); /* of who accepted it */
	void *closed_arg;
	void (*gone)(void *arg); /* of who answers later */
	void *gone_arg;
};

static void
request_free(Request *request)
{
	if (request->gone != NULL)
		request->gone(request->gone_arg);
	free(request->body);
	loop_timer_stop(&request->timer);
	if (!request->taken)
	{
		loop_fd_del(request->watch);
		close(request->fd);
	}
	if (request->closed != NULL)
		request->closed(request->closed_arg);
	free(request->out);
	free(request);
}

static void
on_limit(void *arg)
{
	request_free(arg);
}

static void
reply(Request *request, int status, const char *type, const char *body, size_t size)
{
	char head[256];
	int n = snprintf(head,
					 sizeof(head),
					 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
					 status,
					 http_status_str((enum http_status) status),
					 type,
					 size);

	request->out = malloc((size_t) n + size);
	if (request->out == NULL)
		return;
	memcpy(request->out, head, (size_t) n);
	memcpy(request->out + n, body, size);
	request->out_len = (size_t) n + size;
}

void
http_reply_json(Request *request, int status, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	json_decref(value);
	if (text != NULL)
		reply(request, status, "application/json; charset=utf-8", text, strlen(text));
	free(text);
}

void
http_reply_bytes(Request *request, int status, const char *type, const char *data, size_t len)
{
	reply(request, status, type, data, len);
}

void
http_reply_message(Request *request, int status, const char *message)
{
	http_reply_json(request, status, json_pack("{s:s}", "message", message));
}

void
http_reply_error(Request *request, int status, const char *message, const char *detail)
{
	http_reply_json(request, status, json_pack("{s:s, s:s}", "message", message, "detail", detail));
}

/* The name of the process that holds the socket, "" where it is not ours to see. */
static void
process_of(uint64_t inode, char *name, size_t size)
{
	DIR *proc = opendir("/proc");
	char wanted[64];
	bool found = false;

	*name = '\0';
	snprintf(wanted, sizeof(wanted), "socket:[%" PRIu64 "]", inode);
	for (struct dirent *p; !found && proc != NULL && (p = readdir(proc)) != NULL;)
	{
		char path[300];
		DIR *fds;

		if (!isdigit((unsigned char) p->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/fd", p->d_name);
		fds = opendir(path);
		for (struct dirent *f; !found && fds != NULL && (f = readdir(fds)) != NULL;)
		{
			char target[64];
			ssize_t n = readlinkat(dirfd(fds), f->d_name, target, sizeof(target) - 1);

			if (n <= 0)
				continue;
			target[n] = '\0';
			found = strcmp(target, wanted) == 0;
		}
		if (fds != NULL)
			closedir(fds);
		if (found)
		{
			FILE *comm;

			snprintf(path, sizeof(path), "/proc/%.20s/comm", p->d_name);
			comm = fopen(path, "re");
			if (comm != NULL)
			{
				if (fgets(name, (int) size, comm) == NULL)
					*name = '\0';
				name[strcspn(name, "\n")] = '\0';
				fclose(comm);
			}
		}
	}
	if (proc != NULL)
		closedir(proc);
}

/* A whole file, at most limit bytes, NUL-terminated; NULL where it cannot be read. */
static char *
read_whole(const char *path, size_t limit, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = NULL;
	size_t room = 0;
	ssize_t n = 1;

	*size = 0;
	while (fd >= 0 && n > 0 && *size < limit)
	{
		if (room - *size < 4096)
		{
			char *bigger = realloc(data, room + 65536);

			if (bigger == NULL)
				break;
			data = bigger;
			room += 65536;
		}
		n = read(fd, data + *size, room - *size - 1);
		*size += n > 0 ? (size_t) n : 0;
	}
	if (fd >= 0)
		close(fd);
	if (data != NULL)
		data[*size] = '\0';
	return data;
}

static void
get_ports(Request *request)
{
	static json_t *cache;
	static int64_t cached_at;
	static ListeningPort ports[PORTS_MAX];
	int64_t now = loop_now(request->agent->loop);
	size_t size;
	char *text;
	size_t n;

	if (cache == NULL || now - cached_at > PORTS_CACHE_NS)
	{
		json_t *list = json_array();

		text = read_whole("/proc/net/tcp", (size_t) 4 << 20, &size);
		n = text != NULL ? ports_parse(text, ports, PORTS_MAX) : 0;
		free(text);
		for (size_t i = 0; i < n; i++)
		{
			char name[64];

			if (debug_has_port(ports[i].port))
				continue;
			process_of(ports[i].inode, name, sizeof(name));
			json_array_append_new(list, json_pack("{s:s,s:s,s:i}", "process_name", name, "network", "tcp", "port", (int) ports[i].port));
		}
		json_decref(cache);
		cache = json_pack("{s:o}", "ports", list);
		cached_at = now;
	}
	http_reply_json(request, 200, json_incref(cache));
}

static void
get_log(Request *request)
{
	char path[4200];
	size_t size;
	char *text;

	snprintf(path, sizeof(path), "%s/coder-agent.log", request->agent->options.log_dir);
	text = read_whole(path, MAX_LOG, &size);
	if (text == NULL)
		http_reply_message(request, 404, "There is no log file.");
	else
		reply(request, 200, "text/plain; charset=utf-8", text, size);
	free(text);
}

static void
get_manifest(Request *request)
{
	json_t *json = NULL;

	pthread_mutex_lock(&request->agent->env_lock);
	if (request->agent->manifest != NULL)
		json = pbjson_from_message(&request->agent->manifest->base);
	pthread_mutex_unlock(&request->agent->env_lock);
	if (json == NULL)
		http_reply_message(request, 404, "No manifest has come yet.");
	else
		http_reply_json(request, 200, json);
}

static void
get_metrics(Request *request)
{
	size_t size;
	char *text;

	report_count_boundary(request->agent);
	text = metric_text(&size);
	if (text != NULL)
		reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
	free(text);
}

static void
get_root(Request *request)
{
	http_reply_message(request, 200, "Hello from the agent!");
}

static const struct
{
	const char *method;
	const char *path;
	void (*answer)(Request *request);
} routes[] = {{"GET", "/", get_root},
			  {"GET", "/api/v0/listening-ports", get_ports},
			  {"GET", "/api/v0/context-config", context_get},
			  {"GET", "/api/v0/read-file", files_read},
			  {"GET", "/api/v0/read-file-lines", files_read_lines},
			  {"POST", "/api/v0/list-directory", files_list},
			  {"POST", "/api/v0/write-file", files_write},
			  {"POST", "/api/v0/edit-files", files_edit},
			  {"GET", "/api/v0/git/watch", git_watch},
			  {"GET", "/api/v0/desktop/vnc", desktop_vnc},
			  {"POST", "/api/v0/desktop/action", desktop_action},
			  {"POST", "/api/v0/desktop/recording/start", recording_start},
			  {"POST", "/api/v0/desktop/recording/stop", recording_stop},
			  {"GET", "/api/v0/mcp/tools", mcp_tools},
			  {"POST", "/api/v0/mcp/call-tool", mcp_call_tool},
			  {"POST", "/api/v0/processes/start", processes_start},
			  {"GET", "/api/v0/processes/list", processes_list},
			  {"GET", "/debug/logs", get_log},
			  {"GET", "/debug/manifest", get_manifest},
			  {"GET", "/debug/prometheus", get_metrics}};

static void
answer(Request *request)
{
	static const char processes[] = "/api/v0/processes/";
	const char *method = http_method_str((enum http_method) request->parser.method);
	char path[MAX_URL];
	bool known = false;

	request->url[request->url_len] = '\0';
	strcpy(path, request->url);
	path[strcspn(path, "?#")] = '\0';
	if (request->scope != HTTP_ALL && strcmp(method, "GET") != 0)
	{
		http_reply_message(request, 405, "Method not allowed.");
		return;
	}
	if (request->scope == HTTP_METRICS)
	{
		get_metrics(request);
		return;
	}
	if (request->scope == HTTP_DEBUG && strncmp(path, "/debug/", 7) != 0)
	{
		http_reply_message(request, 404, "Not found.");
		return;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		if (strcmp(routes[i].path, path) != 0)
			continue;
		known = true;
		if (strcmp(routes[i].method, method) == 0)
		{
			routes[i].answer(request);
			return;
		}
	}
	if (known)
		http_reply_message(request, 405, "Method not allowed.");
	else if (strncmp(path, processes, sizeof(processes) - 1) == 0 && processes_one(request, method, path + sizeof(processes) - 1))
		;
	else if (strncmp(path, "/api/v0/", 8) == 0 || strncmp(path, "/debug/", 7) == 0)
		http_reply_message(request, 501, "This agent does not offer this.");
	else
		http_reply_message(request, 404, "Not found.");
}

/* What handlers ask for --------------------------------------------------------- */

Agent *
http_agent(const Request *request)
{
	return request->agent;
}

const char *
http_body(const Request *request, size_t *len)
{
	*len = request->body_len;
	return request->body != NULL ? request->body : "";
}

const char *
http_chat(const Request *request)
{
	return request->chat;
}

const char *
http_ancestors(const Request *request)
{
	return request->ancestors;
}

const char *
http_ws_key(const Request *request)
{
	return request->parser.upgrade ? request->ws_key : "";
}

int
http_take(Request *request, const char **early, size_t *early_len)
{
	loop_fd_del(request->watch);
	request->taken = true;
	*early = request->early;
	*early_len = request->early_len;
	return request->fd;
}

static int
hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *
http_query(const Request *request, const char *name)
{
	const char *p = strchr(request->url, '?');
	size_t name_len = strlen(name);

	while (p != NULL)
	{
		size_t len = strcspn(++p, "&#");

		if (len > name_len && strncmp(p, name, name_len) == 0 && p[name_len] == '=')
		{
			char *value = malloc(len);
			size_t n = 0;

			for (size_t i = name_len + 1; value != NULL && i < len; i++)
			{
				bool escaped = p[i] == '%' && i + 2 < len && hex(p[i + 1]) >= 0 && hex(p[i + 2]) >= 0;

				value[n++] = escaped ? (char) (16 * hex(p[i + 1]) + hex(p[i + 2])) : p[i] == '+' ? ' ' : p[i];
				i += escaped ? 2 : 0;
			}
			if (value != NULL)
				value[n] = '\0';
			return value;
		}
		p = strchr(p, '&');
	}
	return NULL;
}

void
http_wait(Request *request, int64_t ms, void (*gone)(void *arg), void *arg)
{
	request->gone = gone;
	request->gone_arg = arg;
	loop_timer_start(&request->timer, ms);
}

void
http_resume(Request *request)
{
	request->gone = NULL;
	loop_timer_start(&request->timer, LIMIT_MS + (int64_t) request->out_len / SLOW_BYTES_PER_MS);
	loop_fd_set(request->watch, EPOLLOUT);
}

/* The connection ------------------------------------------------------------------ */

static int
on_url(http_parser *parser, const char *at, size_t length)
{
	Request *request = parser->data;

	if (length >= sizeof(request->url) - request->url_len)
		return 1;
	memcpy(request->url + request->url_len, at, length);
	request->url_len += length;
	return 0;
}

static int
on_field(http_parser *parser, const char *at, size_t length)
{
	Request *request = parser->data;
	size_t have = request->header_valued ? 0 : strlen(request->header);

	request->header_valued = false;
	snprintf(request->header + have, sizeof(request->header) - have, "%.*s", (int) length, at);
	return 0;
}

/* Values may come in pieces. */
static void
append(char *text, size_t size, const char *at, size_t length)
{
	size_t have = strlen(text);

	snprintf(text + have, size - have, "%.*s", (int) length, at);
}

static int
on_value(http_parser *parser, const char *at, size_t length)
{
	Request *request = parser->data;

	if (strcasecmp(request->header, "Coder-Chat-Id") == 0)
		append(request->chat, sizeof(request->chat), at, length);
	else if (strcasecmp(request->header, "Coder-Ancestor-Chat-Ids") == 0)
		append(request->ancestors, sizeof(request->ancestors), at, length);
	else if (strcasecmp(request->header, "Sec-WebSocket-Key") == 0)
		append(request->ws_key, sizeof(request->ws_key), at, length);
	request->header_valued = true;
	return 0;
}

static int
on_body(http_parser *parser, const char *at, size_t length)
{
	Request *request = parser->data;

	if (request->body_len + length + 1 > request->body_room)
	{
		size_t room = 2 * (request->body_len + length + 1);
		char *grown = realloc(request->body, room);

		if (grown == NULL)
			return 1;
		request->body = grown;
		request->body_room = room;
	}
	memcpy(request->body + request->body_len, at, length);
	request->body_len += length;
	request->body[request->body_len] = '\0';
	return 0;
}

static int
on_complete(http_parser *parser)
{
	((Request *) parser->data)->done = true;
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url, .on_header_field = on_field, .on_header_value = on_value, .on_body = on_body, .on_message_complete = on_complete};

static bool
send_reply(Request *request)
{
	while (request->out_done < request->out_len)
	{
		ssize_t n = send(request->fd, request->out + request->out_done, request->out_len - request->out_done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		request->out_done += (size_t) n;
	}
	return false;
}

static bool
read_request(Request *request)
{
	char buffer[8192];
	ssize_t n = read(request->fd, buffer, sizeof(buffer));
	size_t taken;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0 || (request->received += (size_t) n) > MAX_REQUEST)
		return false;
	taken = http_parser_execute(&request->parser, &settings, buffer, (size_t) n);
	if (request->done)
	{
		request->early = buffer + taken;
		request->early_len = (size_t) n - taken;
		answer(request);
		if (request->taken)
			return false;
	}
	else if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK)
		http_reply_message(request, 400, "The request is not HTTP.");
	else
		return true;
	/* Who answers later hears of a connection that ends meanwhile. */
	loop_fd_set(request->watch, request->out != NULL || request->gone == NULL ? EPOLLOUT : EPOLLRDHUP);
	return request->gone != NULL || send_reply(request);
}

static void
on_request(void *arg, uint32_t events)
{
	Request *request = arg;

	if (request->gone != NULL && (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0)
		request_free(request);
	else if (!(request->out != NULL ? send_reply(request) : read_request(request)))
		request_free(request);
}

void
serve_http(Agent *agent, int fd)
{
	if (!http_serve_scope(agent, fd, HTTP_ALL, NULL, NULL))
		close(fd);
}

bool
http_serve_scope(Agent *agent, int fd, HttpScope scope, void (*gone)(void *arg), void *arg)
{
	Request *request = calloc(1, sizeof(*request));

	if (request == NULL)
		return false;
	request->agent = agent;
	request->scope = scope;
	request->closed = gone;
	request->closed_arg = arg;
	request->fd = fd;
	http_parser_init(&request->parser, HTTP_REQUEST);
	request->parser.data = request;
	request->watch = loop_fd_add(agent->loop, fd, EPOLLIN, on_request, request);
	if (request->watch == NULL)
	{
		free(request);
		return false;
	}
	loop_timer_init(&request->timer, agent->loop, on_limit, request);
	loop_timer_start(&request->timer, LIMIT_MS);
	return true;
}
