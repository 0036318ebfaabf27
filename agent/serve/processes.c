/*
 * processes.c -- commands that chats run in the workspace.
 *
 * All on the loop's thread.  Of the output the first and the last 16 KiB are kept.  What has ended is forgotten after five
 * minutes, or when there are too many.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "serve/desktop.h"
#include "serve/edit.h"
#include "serve/http.h"

#define KEPT ((size_t) 16384) /* of the beginning, and of the end */
#define MAX_LINE 2048
#define MAX_LISTED 10
#define MAX_JOBS 200
#define MAX_RUNNING 50
#define FORGET_S 300
#define WAIT_MS 300000
#define POLL_MS 200
#define MAX_ENV 200

typedef struct Waiter
{
	struct Waiter *next;
	struct Job *job;
	Request *request;
} Waiter;

typedef struct Job
{
	struct Job *next;
	char id[37];
	char chat[40];
	char *command;
	char *directory;
	bool background;
	bool running;
	int exit_code;
	time_t started;
	time_t exited;
	Process process;
	LoopFd *out_watch;
	LoopFd *end_watch;
	LoopTimer poll; /* where the kernel has no pidfd */
	char head[KEPT];
	size_t head_len;
	char tail[KEPT]; /* a ring: byte n of what is behind the head is at n % KEPT */
	uint64_t tail_len;
	Waiter *waiters;
} Job;

static Job *jobs;

/* Output ---------------------------------------------------------------------- */

static void
keep(Job *job, const char *bytes, size_t len)
{
	size_t n = len < KEPT - job->head_len ? len : KEPT - job->head_len;

	memcpy(job->head + job->head_len, bytes, n);
	job->head_len += n;
	for (size_t i = n; i < len; i++)
		job->tail[job->tail_len++ % KEPT] = bytes[i];
}

static void
close_output(Job *job)
{
	if (job->out_watch != NULL)
		loop_fd_del(job->out_watch);
	job->out_watch = NULL;
	if (job->process.out >= 0)
		close(job->process.out);
	job->process.out = -1;
}

/* Reads what there is; true while more may come. */
static bool
read_output(Job *job)
{
	char bytes[16384];

	for (int i = 0; i < 64 && job->process.out >= 0; i++)
	{
		ssize_t n = read(job->process.out, bytes, sizeof(bytes));

		if (n > 0)
			keep(job, bytes, (size_t) n);
		else if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		else
			close_output(job);
	}
	return job->process.out >= 0;
}

static void
on_output(void *arg, uint32_t events)
{
	(void) events;
	read_output(arg);
}

static json_t *
output_json(const Job *job)
{
	size_t kept = job->tail_len < KEPT ? (size_t) job->tail_len : KEPT;
	uint64_t omitted = job->tail_len - kept;
	char *all = malloc(job->head_len + kept + 64);
	size_t len = job->head_len;
	char *clean;
	json_t *answer;

	if (all == NULL)
		return NULL;
	memcpy(all, job->head, len);
	if (omitted > 0)
		len += (size_t) sprintf(all + len, "\n[%llu bytes left out]\n", (unsigned long long) omitted);
	for (size_t i = 0; i < kept; i++)
		all[len++] = job->tail[(job->tail_len - kept + i) % KEPT];
	clean = edit_clean(all, len, MAX_LINE);
	free(all);
	answer = json_pack("{s:s, s:b, s:n}", "output", clean != NULL ? clean : "", "running", (int) job->running, "truncated");
	free(clean);
	if (!job->running)
		json_object_set_new(answer, "exit_code", json_integer(job->exit_code));
	if (omitted > 0)
		json_object_set_new(answer, "truncated",
							json_pack("{s:I, s:I, s:I, s:s}", "original_bytes", (json_int_t) (job->head_len + job->tail_len), "retained_bytes",
									  (json_int_t) (job->head_len + kept), "omitted_bytes", (json_int_t) omitted, "strategy", "head_tail"));
	return answer;
}

/* The end --------------------------------------------------------------------- */

static void
tell_waiters(Job *job)
{
	while (job->waiters != NULL)
	{
		Waiter *waiter = job->waiters;

		job->waiters = waiter->next;
		http_reply_json(waiter->request, 200, output_json(job));
		http_resume(waiter->request);
		free(waiter);
	}
}

static void
ended(Job *job)
{
	read_output(job);
	job->exit_code = command_wait(&job->process);
	job->running = false;
	job->exited = time(NULL);
	if (job->end_watch != NULL)
		loop_fd_del(job->end_watch);
	job->end_watch = NULL;
	if (job->process.pidfd >= 0)
		close(job->process.pidfd);
	job->process.pidfd = -1;
	loop_timer_stop(&job->poll);
	git_changed(job->chat, job->directory);
	tell_waiters(job);
}

static void
on_end(void *arg, uint32_t events)
{
	(void) events;
	ended(arg);
}

static void
on_poll(void *arg)
{
	Job *job = arg;
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t) job->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0)
		ended(job);
	else
		loop_timer_start(&job->poll, POLL_MS);
}

static void
job_free(Job *job)
{
	close_output(job);
	free(job->command);
	free(job->directory);
	free(job);
}

/* Forgets what has ended long ago, and the oldest that has ended where there are too many. */
static int
tidy(void)
{
	time_t now = time(NULL);
	int n = 0;

	for (Job **link = &jobs; *link != NULL;)
	{
		Job *job = *link;

		if (!job->running && (++n > MAX_JOBS || now - job->exited > FORGET_S))
		{
			*link = job->next;
			job_free(job);
		}
		else
			link = &job->next;
	}
	return n;
}

/* Requests --------------------------------------------------------------------- */

static void
new_id(char id[37])
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != (ssize_t) sizeof(b))
		abort();
	b[6] = (unsigned char) ((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char) ((b[8] & 0x3f) | 0x80);
	snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6],
			 b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int
running(void)
{
	int n = 0;

	for (const Job *job = jobs; job != NULL; job = job->next)
		n += job->running;
	return n;
}

/* Watches a process that has begun; false: it is ended. */
static bool
watch(Job *job, Agent *agent)
{
	close(job->process.in); /* nobody answers questions */
	job->process.in = -1;
	fcntl(job->process.out, F_SETFL, O_NONBLOCK);
	loop_timer_init(&job->poll, agent->loop, on_poll, job);
	job->out_watch = loop_fd_add(agent->loop, job->process.out, EPOLLIN, on_output, job);
	if (job->process.pidfd >= 0)
		job->end_watch = loop_fd_add(agent->loop, job->process.pidfd, EPOLLIN, on_end, job);
	else
		loop_timer_start(&job->poll, POLL_MS);
	return job->out_watch != NULL && (job->end_watch != NULL || job->process.pidfd < 0);
}

/* "NAME=value" of each member; NULL-terminated, malloc'ed with its strings. */
static char **
environment_of(const json_t *env, const char *chat)
{
	char **list = calloc(MAX_ENV + 4, sizeof(*list));
	size_t n = 0;
	const char *name;
	json_t *value;

	if (list == NULL)
		return NULL;
	json_object_foreach((json_t *) env, name, value)
		if (n < MAX_ENV && *name != '\0' && strchr(name, '=') == NULL && json_is_string(value) &&
			asprintf(&list[n], "%s=%s", name, json_string_value(value)) >= 0)
			n++;
	if (*chat != '\0' && asprintf(&list[n], "CODER_CHAT_ID=%s", chat) >= 0)
		n++;
	if (desktop_display() != NULL && json_object_get(env, "DISPLAY") == NULL)
	{
		if (asprintf(&list[n], "DISPLAY=%s", desktop_display()) >= 0)
			n++;
		if (asprintf(&list[n], "XAUTHORITY=%s", desktop_authority()) >= 0)
			n++;
	}
	list[n] = NULL;
	return list;
}

/* Where a command begins: what it names, else the agent's folder. */
static char *
directory_of(Request *request, const char *named)
{
	Agent *agent = http_agent(request);
	char *directory;

	pthread_mutex_lock(&agent->env_lock);
	directory = strdup(named != NULL && *named != '\0' ? named : agent->directory != NULL ? agent->directory : "");
	pthread_mutex_unlock(&agent->env_lock);
	return directory;
}

static void
start(Request *request, const json_t *body, const char *command)
{
	const char *directory = json_string_value(json_object_get(body, "workdir"));
	char **env = environment_of(json_object_get(body, "env"), http_chat(request));
	Command wanted = {.text = command, .env = (const char *const *) env, .merge_output = true, .directory = directory, .plain = true};
	Job *job = calloc(1, sizeof(*job));
	char error[256] = "out of memory";

	if (job == NULL || env == NULL || (job->command = strdup(command)) == NULL || (job->directory = directory_of(request, directory)) == NULL ||
		command_start(http_agent(request), &wanted, &job->process, error, sizeof(error)) != 0)
	{
		http_reply_message(request, 500, error);
		if (job != NULL)
		{
			job->process.out = -1;
			job_free(job);
		}
	}
	else
	{
		new_id(job->id);
		snprintf(job->chat, sizeof(job->chat), "%s", http_chat(request));
		job->background = json_is_true(json_object_get(body, "background"));
		job->running = true;
		job->started = time(NULL);
		job->next = jobs;
		jobs = job;
		if (!watch(job, http_agent(request)))
		{
			command_kill(&job->process, SIGKILL);
			ended(job);
		}
		git_touched(request, job->directory);
		http_reply_json(request, 200, json_pack("{s:s, s:b}", "id", job->id, "started", 1));
	}
	for (size_t i = 0; env != NULL && env[i] != NULL; i++)
		free(env[i]);
	free(env);
}

void
processes_start(Request *request)
{
	size_t len;
	const char *text = http_body(request, &len);
	json_t *body = json_loadb(text, len, 0, NULL);
	const char *command = json_string_value(json_object_get(body, "command"));

	tidy();
	if (command == NULL || *command == '\0')
		http_reply_message(request, 400, "command is required.");
	else if (running() >= MAX_RUNNING)
		http_reply_message(request, 429, "Too many commands run already.");
	else
		start(request, body, command);
	json_decref(body);
}

/* Who asks without a chat sees all. */
static bool
is_of(const Job *job, const char *chat)
{
	return *chat == '\0' || strcmp(job->chat, chat) == 0;
}

void
processes_list(Request *request)
{
	json_t *list = json_array();

	tidy();
	for (int ended_too = 0; ended_too < 2; ended_too++)
		for (const Job *job = jobs; job != NULL && json_array_size(list) < MAX_LISTED; job = job->next)
		{
			char *command = edit_clean(job->command, strlen(job->command), 0);
			json_t *one;

			if (job->running == !ended_too && is_of(job, http_chat(request)))
			{
				one = json_pack("{s:s, s:s, s:s, s:b, s:b, s:I}", "id", job->id, "command", command != NULL ? command : "", "workdir",
								job->directory, "background", (int) job->background, "running", (int) job->running, "started_at_unix",
								(json_int_t) job->started);
				if (!job->running)
				{
					json_object_set_new(one, "exit_code", json_integer(job->exit_code));
					json_object_set_new(one, "exited_at_unix", json_integer((json_int_t) job->exited));
				}
				json_array_append_new(list, one);
			}
			free(command);
		}
	http_reply_json(request, 200, json_pack("{s:o}", "processes", list));
}

/* The request is over before the process is. */
static void
on_gone(void *arg)
{
	Waiter *waiter = arg;

	for (Waiter **link = &waiter->job->waiters; *link != NULL; link = &(*link)->next)
		if (*link == waiter)
		{
			*link = waiter->next;
			break;
		}
	free(waiter);
}

static void
output(Request *request, Job *job)
{
	char *wait = http_query(request, "wait");
	Waiter *waiter = job->running && wait != NULL && strcmp(wait, "true") == 0 ? calloc(1, sizeof(*waiter)) : NULL;

	free(wait);
	if (waiter == NULL)
	{
		read_output(job);
		http_reply_json(request, 200, output_json(job));
		return;
	}
	*waiter = (Waiter){job->waiters, job, request};
	job->waiters = waiter;
	http_wait(request, WAIT_MS, on_gone, waiter);
}

static void
send_signal(Request *request, const Job *job)
{
	size_t len;
	const char *text = http_body(request, &len);
	json_t *body = json_loadb(text, len, 0, NULL);
	const char *name = json_string_value(json_object_get(body, "signal"));
	int sig = name == NULL ? 0 : strcmp(name, "kill") == 0 ? SIGKILL : strcmp(name, "terminate") == 0 ? SIGTERM : 0;

	if (sig == 0)
		http_reply_message(request, 400, "signal is \"terminate\" or \"kill\".");
	else if (!job->running)
		http_reply_message(request, 409, "The process does not run any more.");
	else
	{
		command_kill(&job->process, sig);
		http_reply_message(request, 200, sig == SIGKILL ? "The process was killed." : "The process was asked to end.");
	}
	json_decref(body);
}

bool
processes_one(Request *request, const char *method, const char *rest)
{
	const char *what = strchr(rest, '/');
	bool is_output = what != NULL && strcmp(what, "/output") == 0 && strcmp(method, "GET") == 0;
	bool is_signal = what != NULL && strcmp(what, "/signal") == 0 && strcmp(method, "POST") == 0;

	if (!is_output && !is_signal)
		return false;
	for (Job *job = jobs; job != NULL; job = job->next)
		if ((size_t) (what - rest) == strlen(job->id) && strncmp(rest, job->id, strlen(job->id)) == 0 && is_of(job, http_chat(request)))
		{
			if (is_output)
				output(request, job);
			else
				send_signal(request, job);
			return true;
		}
	http_reply_message(request, 404, "There is no such process.");
	return true;
}

void
processes_stop(void)
{
	for (const Job *job = jobs; job != NULL; job = job->next)
		if (job->running)
			command_kill(&job->process, SIGTERM);
}
