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
#include <sys/socket.h>
#include <unistd.h>

#include "serve/ports.h"
#include "serve/serve.h"
#include "wire/pbjson.h"

#define LIMIT_MS 20000
#define MAX_URL 4096
#define MAX_REQUEST ((size_t) 1 << 20)
#define MAX_LOG ((size_t) 10 << 20)
#define PORTS_CACHE_NS 1000000000

typedef struct Request
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
} Request;

static void
request_free(Request *request)
{
	loop_timer_stop(&request->timer);
	loop_fd_del(request->watch);
	close(request->fd);
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

/* Takes the reference. */
static void
reply_json(Request *request, int status, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	json_decref(value);
	if (text != NULL)
		reply(request, status, "application/json; charset=utf-8", text, strlen(text));
	free(text);
}

static void
reply_message(Request *request, int status, const char *message)
{
	reply_json(request, status, json_pack("{s:s}", "message", message));
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

			process_of(ports[i].inode, name, sizeof(name));
			json_array_append_new(list, json_pack("{s:s,s:s,s:i}", "process_name", name, "network", "tcp", "port", (int) ports[i].port));
		}
		json_decref(cache);
		cache = json_pack("{s:o}", "ports", list);
		cached_at = now;
	}
	reply_json(request, 200, json_incref(cache));
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
		reply_message(request, 404, "There is no log file.");
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
		reply_message(request, 404, "No manifest has come yet.");
	else
		reply_json(request, 200, json);
}

static void
get_root(Request *request)
{
	reply_message(request, 200, "Hello from the agent!");
}

static const struct
{
	const char *path;
	void (*get)(Request *request);
} routes[] = {{"/", get_root},
			  {"/api/v0/listening-ports", get_ports},
			  {"/debug/logs", get_log},
			  {"/debug/manifest", get_manifest}};

static void
answer(Request *request)
{
	request->url[request->url_len] = '\0';
	request->url[strcspn(request->url, "?#")] = '\0';
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (strcmp(routes[i].path, request->url) == 0)
		{
			if (request->parser.method == HTTP_GET)
				routes[i].get(request);
			else
				reply_message(request, 405, "Method not allowed.");
			return;
		}
	if (strncmp(request->url, "/api/v0/", 8) == 0 || strncmp(request->url, "/debug/", 7) == 0)
		reply_message(request, 501, "This agent does not offer this.");
	else
		reply_message(request, 404, "Not found.");
}

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
on_complete(http_parser *parser)
{
	((Request *) parser->data)->done = true;
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {.on_url = on_url, .on_message_complete = on_complete};

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

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0 || (request->received += (size_t) n) > MAX_REQUEST)
		return false;
	http_parser_execute(&request->parser, &settings, buffer, (size_t) n);
	if (request->done)
		answer(request);
	else if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK)
		reply_message(request, 400, "The request is not HTTP.");
	else
		return true;
	loop_fd_set(request->watch, EPOLLOUT);
	return send_reply(request);
}

static void
on_request(void *arg, uint32_t events)
{
	Request *request = arg;

	(void) events;
	if (!(request->out != NULL ? send_reply(request) : read_request(request)))
		request_free(request);
}

void
serve_http(Agent *agent, int fd)
{
	Request *request = calloc(1, sizeof(*request));

	if (request == NULL)
	{
		close(fd);
		return;
	}
	request->agent = agent;
	request->fd = fd;
	http_parser_init(&request->parser, HTTP_REQUEST);
	request->parser.data = request;
	request->watch = loop_fd_add(agent->loop, fd, EPOLLIN, on_request, request);
	if (request->watch == NULL)
	{
		close(fd);
		free(request);
		return;
	}
	loop_timer_init(&request->timer, agent->loop, on_limit, request);
	loop_timer_start(&request->timer, LIMIT_MS);
}
