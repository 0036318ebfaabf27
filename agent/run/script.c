/*
 * script.c -- scripts of the template: at start, at stop, by the clock.
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run/agent.h"
#include "run/cron.h"
#include "run/metrics.h"

#define GRACE_MS 10000 /* after SIGHUP, and for pipes that stay open */
#define NO_PIDFD_MS 200
#define MAX_LINE 65536
#define OUTCOME_OK 0
#define OUTCOME_ERROR 1
#define OUTCOME_TIMEOUT 2

typedef struct Group
{
	int left;
	int worst;
	void (*done)(Agent *agent, int worst);
} Group;

typedef struct Stream
{
	struct Run *run;
	int fd;
	LoopFd *watch;
	Coder__Agent__V2__Log__Level level;
	size_t len;
	char line[MAX_LINE];
} Stream;

typedef struct Run
{
	Agent *agent;
	Group *group; /* NULL: by the clock */
	ScriptKind kind;
	uint8_t id[16];
	uint8_t source[16];
	Process process;
	LoopFd *watch;
	LoopTimer timer; /* timeout, then SIGKILL; or the wait for pipes */
	LoopTimer poll; /* where there is no pidfd */
	Stream out, err;
	int log_fd;
	struct timespec start;
	bool ended;
	bool timed_out;
	bool pipes_left;
	int code;
} Run;

static void
on_reported(void *arg, const uint8_t *data, size_t size, const char *error)
{
	(void) data;
	(void) size;
	if (error != NULL)
		agent_log(arg, "a script's end could not be reported: %s", error);
}

static void
report(const Run *run)
{
	Coder__Agent__V2__WorkspaceAgentScriptCompletedRequest request = CODER__AGENT__V2__WORKSPACE_AGENT_SCRIPT_COMPLETED_REQUEST__INIT;
	Coder__Agent__V2__Timing timing = CODER__AGENT__V2__TIMING__INIT;
	Google__Protobuf__Timestamp start = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Google__Protobuf__Timestamp end = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	start.seconds = run->start.tv_sec;
	start.nanos = (int32_t) run->start.tv_nsec;
	end.seconds = now.tv_sec;
	end.nanos = (int32_t) now.tv_nsec;
	timing.script_id.data = (uint8_t *) (uintptr_t) run->id;
	timing.script_id.len = sizeof(run->id);
	timing.start = &start;
	timing.end = &end;
	timing.exit_code = run->timed_out || run->pipes_left ? 255 : run->code;
	timing.stage = run->kind == SCRIPT_START ? CODER__AGENT__V2__TIMING__STAGE__START
		: run->kind == SCRIPT_STOP ? CODER__AGENT__V2__TIMING__STAGE__STOP
								   : CODER__AGENT__V2__TIMING__STAGE__CRON;
	timing.status = run->timed_out ? CODER__AGENT__V2__TIMING__STATUS__TIMED_OUT
		: run->pipes_left ? CODER__AGENT__V2__TIMING__STATUS__PIPES_LEFT_OPEN
		: run->code != 0 ? CODER__AGENT__V2__TIMING__STATUS__EXIT_FAILURE
						 : CODER__AGENT__V2__TIMING__STATUS__OK;
	request.timing = &timing;
	agent_call(run->agent, "ScriptCompleted", &request.base, on_reported, run->agent);
}

static void
send_line(Stream *stream, size_t size)
{
	ProtobufCBinaryData source = {sizeof(stream->run->source), stream->run->source};

	if (size > 0 && stream->line[size - 1] == '\r')
		size--;
	agent_send_log(stream->run->agent, &source, stream->level, stream->line, size);
}

static void
stream_close(Stream *stream)
{
	if (stream->fd < 0)
		return;
	if (stream->len > 0)
		send_line(stream, stream->len);
	if (stream->watch != NULL)
		loop_fd_del(stream->watch);
	close(stream->fd);
	stream->fd = -1;
}

static void
group_done(Agent *agent, Group *group, int outcome)
{
	if (outcome > 0 && group->worst == 0)
		group->worst = outcome;
	if (--group->left > 0)
		return;
	group->done(agent, group->worst);
	free(group);
}

static void
run_finish(Run *run)
{
	Agent *agent = run->agent;
	Group *group = run->group;
	int outcome = run->timed_out ? OUTCOME_TIMEOUT : run->code != 0 || run->pipes_left ? OUTCOME_ERROR : OUTCOME_OK;

	stream_close(&run->out);
	stream_close(&run->err);
	loop_timer_stop(&run->timer);
	loop_timer_stop(&run->poll);
	if (run->watch != NULL)
		loop_fd_del(run->watch);
	if (run->process.pidfd >= 0)
		close(run->process.pidfd);
	if (run->log_fd >= 0)
		close(run->log_fd);
	agent_flush_logs(agent);
	report(run);
	free(run);
	metric_add(METRIC_SCRIPTS, 1, outcome == OUTCOME_OK ? "true" : "false");
	if (group != NULL)
		group_done(agent, group, outcome);
}

/* Over when the process has ended and nobody holds its pipes. */
static void
check_end(Run *run)
{
	if (run->ended && run->out.fd < 0 && run->err.fd < 0)
		run_finish(run);
}

static void
on_stream(void *arg, uint32_t events)
{
	Stream *stream = arg;
	Run *run = stream->run;
	ssize_t n = read(stream->fd, stream->line + stream->len, sizeof(stream->line) - stream->len);
	char *newline;

	(void) events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		stream_close(stream);
		check_end(run);
		return;
	}
	if (run->log_fd >= 0 && write(run->log_fd, stream->line + stream->len, (size_t) n) < 0)
	{
		agent_log(run->agent, "a script's log file could not be written: %s", strerror(errno));
		close(run->log_fd);
		run->log_fd = -1;
	}
	stream->len += (size_t) n;
	while ((newline = memchr(stream->line, '\n', stream->len)) != NULL)
	{
		size_t size = (size_t) (newline - stream->line);

		send_line(stream, size);
		stream->len -= size + 1;
		memmove(stream->line, newline + 1, stream->len);
	}
	if (stream->len == sizeof(stream->line))
	{
		send_line(stream, stream->len);
		stream->len = 0;
	}
}

/* The limit of a script, the grace after SIGHUP, or that of pipes left open. */
static void
on_run_time(void *arg)
{
	static const char words[] = "The script has ended, but something that it started still holds its output open.";
	Run *run = arg;

	if (run->ended)
	{
		ProtobufCBinaryData source = {sizeof(run->source), run->source};

		run->pipes_left = true;
		agent_send_log(run->agent, &source, CODER__AGENT__V2__LOG__LEVEL__WARN, words, sizeof(words) - 1);
		run_finish(run);
		return;
	}
	command_kill(&run->process, run->timed_out ? SIGKILL : SIGHUP);
	if (!run->timed_out)
		loop_timer_start(&run->timer, GRACE_MS);
	run->timed_out = true;
}

static void
on_process(void *arg)
{
	Run *run = arg;
	int status;

	if (waitpid(run->process.pid, &status, WNOHANG) == 0)
	{
		if (run->watch == NULL)
			loop_timer_start(&run->poll, NO_PIDFD_MS);
		return;
	}
	run->ended = true;
	run->code = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
	if (run->watch != NULL)
		loop_fd_del(run->watch);
	run->watch = NULL;
	loop_timer_start(&run->timer, GRACE_MS);
	check_end(run);
}

static void
on_pidfd(void *arg, uint32_t events)
{
	(void) events;
	on_process(arg);
}

static void
uuid_text(char text[37], const uint8_t id[16])
{
	char *p = text;

	for (int i = 0; i < 16; i++)
		p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
}

static int
open_log(const Agent *agent, const Script *script, const char *source)
{
	char path[4300];
	char *expanded = script->log_path[0] == '~' || script->log_path[0] == '$' || script->log_path[0] == '/'
		? agent_expand(script->log_path, true)
		: NULL;

	if (expanded != NULL)
		snprintf(path, sizeof(path), "%s", expanded);
	else if (script->log_path[0] != '\0')
		snprintf(path, sizeof(path), "%s/%s", agent->options.log_dir, script->log_path);
	else
		snprintf(path, sizeof(path), "%s/coder-script-%s.log", agent->options.log_dir, source);
	free(expanded);
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The folders of CODER_SCRIPT_*; the variables in extra. */
static void
script_folders(const Agent *agent, const char *source, char extra[2][4300])
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/coder-script-data", agent->options.script_data_dir);
	mkdir(path, 0700);
	snprintf(extra[1], 4300, "CODER_SCRIPT_BIN_DIR=%s/bin", path);
	mkdir(strchr(extra[1], '=') + 1, 0700);
	snprintf(extra[0], 4300, "CODER_SCRIPT_DATA_DIR=%s/%s", path, source);
	mkdir(strchr(extra[0], '=') + 1, 0700);
}

static void
stream_open(Run *run, Stream *stream, int fd, Coder__Agent__V2__Log__Level level)
{
	stream->run = run;
	stream->fd = fd;
	stream->level = level;
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	stream->watch = loop_fd_add(run->agent->loop, fd, EPOLLIN, on_stream, stream);
}

static void
script_start(Agent *agent, const Script *script, ScriptKind kind, Group *group)
{
	Run *run = calloc(1, sizeof(*run));
	static char variables[2][4300];
	const char *extra[3] = {variables[0], variables[1], NULL};
	Command command = {.text = script->script, .extra = extra};
	char source[37];
	char error[256];

	if (run == NULL)
	{
		if (group != NULL)
			group_done(agent, group, OUTCOME_ERROR);
		return;
	}
	run->agent = agent;
	run->group = group;
	run->kind = kind;
	run->out.fd = run->err.fd = run->log_fd = -1;
	if (script->id.len == 16)
		memcpy(run->id, script->id.data, 16);
	if (script->log_source_id.len == 16)
		memcpy(run->source, script->log_source_id.data, 16);
	uuid_text(source, run->source);
	script_folders(agent, source, variables);
	clock_gettime(CLOCK_REALTIME, &run->start);
	loop_timer_init(&run->timer, agent->loop, on_run_time, run);
	loop_timer_init(&run->poll, agent->loop, on_process, run);
	if (command_start(agent, &command, &run->process, error, sizeof(error)) != 0)
	{
		agent_log(agent, "script: %s", error);
		run->code = 255;
		run_finish(run);
		return;
	}
	close(run->process.in);
	run->log_fd = open_log(agent, script, source);
	stream_open(run, &run->out, run->process.out, CODER__AGENT__V2__LOG__LEVEL__INFO);
	stream_open(run, &run->err, run->process.err, CODER__AGENT__V2__LOG__LEVEL__ERROR);
	if (run->process.pidfd >= 0)
		run->watch = loop_fd_add(agent->loop, run->process.pidfd, EPOLLIN, on_pidfd, run);
	if (run->watch == NULL)
		loop_timer_start(&run->poll, NO_PIDFD_MS);
	if (script->timeout != NULL && (script->timeout->seconds > 0 || script->timeout->nanos > 0))
		loop_timer_start(&run->timer, script->timeout->seconds * 1000 + script->timeout->nanos / 1000000);
}

void
scripts_run(Agent *agent, ScriptKind kind, void (*done)(Agent *agent, int worst))
{
	const Manifest *manifest = agent->manifest;
	Group *group = calloc(1, sizeof(*group));

	if (group == NULL)
	{
		done(agent, OUTCOME_ERROR);
		return;
	}
	group->done = done;
	group->left = 1; /* this function */
	for (size_t i = 0; manifest != NULL && i < manifest->n_scripts; i++)
		if (kind == SCRIPT_START ? manifest->scripts[i]->run_on_start : manifest->scripts[i]->run_on_stop)
		{
			group->left++;
			script_start(agent, manifest->scripts[i], kind, group);
		}
	group_done(agent, group, OUTCOME_OK);
}

static LoopTimer cron_timer;
static time_t cron_last;

/* Once a second; seconds that a busy loop missed are made up for, up to a minute. */
static void
on_cron_time(void *arg)
{
	Agent *agent = arg;
	time_t now = time(NULL);

	if (now - cron_last > 60 || now < cron_last)
		cron_last = now - 1;
	for (; cron_last < now && !agent->stopping; cron_last++)
	{
		time_t second = cron_last + 1;
		struct tm tm;

		localtime_r(&second, &tm);
		for (size_t i = 0; i < agent->manifest->n_scripts; i++)
		{
			const Script *script = agent->manifest->scripts[i];
			Cron cron;

			if (script->cron[0] != '\0' && cron_parse(&cron, script->cron) && cron_matches(&cron, &tm))
				script_start(agent, script, SCRIPT_CRON, NULL);
		}
	}
	if (!agent->stopping)
		loop_timer_start(&cron_timer, 1000);
}

void
scripts_start_cron(Agent *agent)
{
	bool any = false;
	Cron cron;

	for (size_t i = 0; agent->manifest != NULL && i < agent->manifest->n_scripts; i++)
	{
		const char *text = agent->manifest->scripts[i]->cron;

		if (text[0] != '\0' && !cron_parse(&cron, text))
			agent_log(agent, "a script has a schedule that cannot be read: \"%s\"", text);
		any = any || text[0] != '\0';
	}
	if (!any)
		return;
	cron_last = time(NULL);
	loop_timer_init(&cron_timer, agent->loop, on_cron_time, agent);
	loop_timer_start(&cron_timer, 1000);
}
