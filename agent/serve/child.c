/*
 * child.c -- starting, hearing and reaping a program of the agent's own.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_MS 200

static void
close_fd(LoopFd **watch, int *fd)
{
	if (*watch != NULL)
		loop_fd_del(*watch);
	*watch = NULL;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Reads what there is; the rest of the buffer is its end where last, else what does not fit is dropped. */
static void
hear(LoopFd **watch, int *fd, char *text, size_t *len, bool last)
{
	char bytes[4096];

	while (*fd >= 0)
	{
		ssize_t n = read(*fd, bytes, sizeof(bytes));
		size_t more = n > 0 ? (size_t) n : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
		{
			close_fd(watch, fd);
			break;
		}
		if (last && more > CHILD_TEXT / 2)
		{
			memmove(bytes, bytes + more - CHILD_TEXT / 2, CHILD_TEXT / 2);
			more = CHILD_TEXT / 2;
		}
		if (last && *len + more >= CHILD_TEXT)
		{
			size_t kept = CHILD_TEXT - 1 - more;

			memmove(text, text + *len - kept, kept);
			*len = kept;
		}
		if (*len + more >= CHILD_TEXT)
			more = CHILD_TEXT - 1 - *len;
		memcpy(text + *len, bytes, more);
		*len += more;
		text[*len] = '\0';
	}
}

static void
on_out(void *arg, uint32_t events)
{
	Child *child = arg;

	(void) events;
	hear(&child->out_watch, &child->process.out, child->out, &child->out_len, false);
	if (child->said != NULL)
		child->said(child);
}

static void
on_err(void *arg, uint32_t events)
{
	Child *child = arg;

	(void) events;
	hear(&child->err_watch, &child->process.err, child->err, &child->err_len, true);
}

static void
ended(Child *child)
{
	int status;

	hear(&child->err_watch, &child->process.err, child->err, &child->err_len, true);
	close_fd(&child->out_watch, &child->process.out);
	close_fd(&child->err_watch, &child->process.err);
	close_fd(&child->end_watch, &child->process.pidfd);
	loop_timer_stop(&child->poll);
	status = command_wait(&child->process);
	child->running = false;
	child->ended(child, status);
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
	Child *child = arg;
	siginfo_t info = {0};

	if (waitid(P_PID, (id_t) child->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0)
		ended(child);
	else
		loop_timer_start(&child->poll, POLL_MS);
}

bool
child_start(Child *child, Agent *agent, const char *command, const char *const *env, char *error, size_t error_size)
{
	Command wanted = {.text = command, .extra = env, .plain = true, .ends_with_agent = true};

	child->agent = agent;
	child->out_len = child->err_len = 0;
	child->out[0] = child->err[0] = '\0';
	if (command_start(agent, &wanted, &child->process, error, error_size) != 0)
		return false;
	close(child->process.in);
	child->process.in = -1;
	fcntl(child->process.out, F_SETFL, O_NONBLOCK);
	fcntl(child->process.err, F_SETFL, O_NONBLOCK);
	child->running = true;
	loop_timer_init(&child->poll, agent->loop, on_poll, child);
	child->out_watch = loop_fd_add(agent->loop, child->process.out, EPOLLIN, on_out, child);
	child->err_watch = loop_fd_add(agent->loop, child->process.err, EPOLLIN, on_err, child);
	if (child->process.pidfd >= 0)
		child->end_watch = loop_fd_add(agent->loop, child->process.pidfd, EPOLLIN, on_end, child);
	if (child->end_watch == NULL)
		loop_timer_start(&child->poll, POLL_MS);
	return true;
}

const char *
child_last_words(const Child *child, char *text, size_t size)
{
	size_t end = child->err_len;
	size_t begin;

	while (end > 0 && strchr(" \t\r\n", child->err[end - 1]) != NULL)
		end--;
	begin = end;
	while (begin > 0 && child->err[begin - 1] != '\n')
		begin--;
	snprintf(text, size, "%.*s", (int) (end - begin), child->err + begin);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char) *p < ' ' || (unsigned char) *p >= 0x7f)
			*p = '?';
	return text;
}

bool
child_find(const char *name, char *path, size_t size)
{
	const char *all = getenv("PATH");
	const char *lists[] = {all != NULL ? all : "", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin"};

	for (int i = 0; i < 2; i++)
		for (const char *p = lists[i]; *p != '\0';)
		{
			size_t len = strcspn(p, ":");

			if (len > 0 && *p == '/' && (size_t) snprintf(path, size, "%.*s/%s", (int) len, p, name) < size && access(path, X_OK) == 0)
				return true;
			p += len + (p[len] == ':');
		}
	return false;
}
