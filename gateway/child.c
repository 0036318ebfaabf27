/*
 * child.c -- programs that the server starts beside itself and keeps alive.
 *
 * Each is this program again, in a process group of its own, with what it needs in its environment; it ends when the server
 * dies.  One that ends is started again, at once at first, then ever more slowly.
 *
 * SPDX-License-Identifier: MIT
 */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "gateway.h"
#include "request.h"

#define CALM_MS 30000 /* one that ran for so long may fail at once again */
#define FIRST_BACKOFF_MS 250
#define MAX_BACKOFF_MS 10000
#define STOP_MS 10000

typedef struct Child
{
	const char *command; /* the first argument */
	const char *name;
	bool (*wanted)(void);
	void (*environment)(void);
	pid_t pid;
	unsigned backoff_ms;
	uint64_t started;
	uint64_t again; /* when to start it; 0: it runs, or is not wanted */
} Child;

static uint64_t
now_ms(void)
{
	return gw_micros() / 1000;
}

static bool
wants_provisioner(void)
{
	return gw_server.options.provisioner_daemons > 0;
}

static void
provisioner_environment(void)
{
	char workers[16];

	snprintf(workers, sizeof(workers), "%d", gw_server.options.provisioner_daemons);
	setenv("CODER_PROVISIONER_DAEMONS", workers, 1);
	unsetenv("CODER_PROVISIONERD_TAGS"); /* of daemons that are started apart */
	unsetenv("CODER_PROVISIONER_DAEMON_KEY");
	setenv("CODER_CACHE_DIRECTORY", gw_server.options.cache_dir, 1);
	setenv("CODER_AGENT_BINARY", gw_server.options.agent_path, 1);
	setenv("CODER_CONFIG_DIR", gw_server.options.config_dir, 1);
}

/* Chats are an experiment. */
static bool
wants_chat_runner(void)
{
	const char *p = gw_server.options.experiments;

	while (p != NULL && *p != '\0')
	{
		size_t len;

		p += strspn(p, " ,");
		len = strcspn(p, " ,");
		if (len == 6 && memcmp(p, "agents", 6) == 0)
			return true;
		p += len;
	}
	return false;
}

static void
no_environment(void)
{
}

static Child children[] = {
	{"provisioner", "the provisioner", wants_provisioner, provisioner_environment, 0, 0, 0, 0},
	{"chat-runner", "the chat runner", wants_chat_runner, no_environment, 0, 0, 0, 0},
};

#define N_CHILDREN (sizeof(children) / sizeof(children[0]))

static void
child_start(Child *child)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *argv[] = {exe, (char *) child->command, NULL};
	pid_t parent = getpid();
	sigset_t none;

	child->again = 0;
	if (n <= 0)
		return;
	exe[n] = '\0';
	child->started = now_ms();
	child->pid = fork();
	if (child->pid != 0)
		return;
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	setenv("CODER_PG_CONNECTION_URL", gw_server.conninfo, 1);
	setenv("CODER_ACCESS_URL", gw_server.options.access_url, 1);
	if (gw_server.options.verbose)
		setenv("CODER_VERBOSE", "true", 1);
	child->environment();
	execv(exe, argv);
	_exit(1);
}

void
gw_children_start(void)
{
	for (size_t i = 0; i < N_CHILDREN; i++)
		if (children[i].wanted())
			child_start(&children[i]);
}

bool
gw_children_reaped(pid_t pid, int status)
{
	Child *child = children;

	while (child < children + N_CHILDREN && child->pid != pid)
		child++;
	if (child == children + N_CHILDREN)
		return false;
	child->pid = 0;
	if (atomic_load(&gw_server.stopping))
		return true;
	if (now_ms() - child->started > CALM_MS || child->backoff_ms == 0)
		child->backoff_ms = FIRST_BACKOFF_MS;
	else if (child->backoff_ms < MAX_BACKOFF_MS)
		child->backoff_ms *= 2;
	gw_log(GW_WARN, "%s ended (%s %d); starting it again in %u ms", child->name, WIFSIGNALED(status) ? "signal" : "status",
		   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), child->backoff_ms);
	child->again = now_ms() + child->backoff_ms;
	return true;
}

bool
gw_children_run_due(void)
{
	bool due = false;

	for (size_t i = 0; i < N_CHILDREN; i++)
	{
		if (children[i].again != 0 && now_ms() >= children[i].again)
			child_start(&children[i]);
		due |= children[i].again != 0;
	}
	return due;
}

void
gw_children_stop(void)
{
	int left = 0;

	for (size_t i = 0; i < N_CHILDREN; i++)
	{
		children[i].again = 0;
		if (children[i].pid > 0 && kill(children[i].pid, SIGTERM) == 0)
			left++;
	}
	for (uint64_t end = now_ms() + STOP_MS; left > 0 && now_ms() < end; usleep(10000))
		for (size_t i = 0; i < N_CHILDREN; i++)
			if (children[i].pid > 0 && waitpid(children[i].pid, NULL, WNOHANG) != 0)
			{
				children[i].pid = 0;
				left--;
			}
	for (size_t i = 0; i < N_CHILDREN; i++)
		if (children[i].pid > 0)
		{
			kill(children[i].pid, SIGKILL);
			waitpid(children[i].pid, NULL, 0);
			children[i].pid = 0;
		}
}
