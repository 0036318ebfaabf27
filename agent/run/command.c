/*
 * command.c -- the environment of commands in a workspace, and starting them.
 *
 * The order of precedence is that of the agent protocol's sheet: the agent's
 * own environment, the SSH client's, the fixed set, the template's, the session's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run/agent.h"

extern char **environ;

#define MAX_VARIABLES 1024

typedef struct Environment
{
	char *list[MAX_VARIABLES + 1];
	size_t n;
} Environment;

/* Sets "NAME=value"; an earlier one of the name goes. */
static void
env_put(Environment *env, char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->list[i], entry, len) == 0)
		{
			free(env->list[i]);
			env->list[i] = entry;
			return;
		}
	if (env->n == MAX_VARIABLES || entry[len - 1] != '=')
	{
		free(entry);
		return;
	}
	env->list[env->n++] = entry;
	env->list[env->n] = NULL;
}

static void
env_set(Environment *env, const char *name, const char *value)
{
	char *entry;

	if (asprintf(&entry, "%s=%s", name, value) >= 0)
		env_put(env, entry);
}

static const char *
env_get(const Environment *env, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->list[i], name, len) == 0 && env->list[i][len] == '=')
			return env->list[i] + len + 1;
	return NULL;
}

static void
env_free(Environment *env)
{
	for (size_t i = 0; i < env->n; i++)
		free(env->list[i]);
}

static const char *
home_dir(void)
{
	const char *home = getenv("HOME");
	struct passwd *user = home == NULL ? getpwuid(getuid()) : NULL;

	return home != NULL ? home : user != NULL ? user->pw_dir : "/";
}

/* A line of /etc/passwd, read by ourselves: a static binary has no name service. */
static char *
login_shell(void)
{
	FILE *file = fopen("/etc/passwd", "re");
	char *line = NULL;
	size_t size = 0;
	char *shell = NULL;

	while (file != NULL && shell == NULL && getline(&line, &size, file) >= 0)
	{
		char *fields[7] = {0};
		char *rest = line;

		for (int i = 0; i < 7 && rest != NULL; i++)
			fields[i] = strsep(&rest, ":\n");
		if (fields[6] != NULL && fields[6][0] == '/' && fields[2] != NULL &&
			(uid_t) strtoul(fields[2], NULL, 10) == getuid() && access(fields[6], X_OK) == 0)
			shell = strdup(fields[6]);
	}
	free(line);
	if (file != NULL)
		fclose(file);
	if (shell == NULL && getenv("SHELL") != NULL && access(getenv("SHELL"), X_OK) == 0)
		shell = strdup(getenv("SHELL"));
	return shell != NULL ? shell : strdup(access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh");
}

char *
agent_expand(const char *text, bool path)
{
	char *out = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&out, &size);

	if (stream == NULL)
		return NULL;
	if (path && text[0] == '~' && (text[1] == '/' || text[1] == '\0'))
	{
		fputs(home_dir(), stream);
		text++;
	}
	while (*text != '\0')
	{
		char name[128];
		size_t n = 0;
		bool braces = text[0] == '$' && text[1] == '{';
		const char *p = text + 1 + braces;

		if (text[0] != '$' || !(isalpha((unsigned char) *p) || *p == '_'))
		{
			fputc(*text++, stream);
			continue;
		}
		while ((isalnum((unsigned char) *p) || *p == '_') && n < sizeof(name) - 1)
			name[n++] = *p++;
		name[n] = '\0';
		if (braces && *p == '}')
			p++;
		if (getenv(name) != NULL)
			fputs(getenv(name), stream);
		text = p;
	}
	fclose(stream);
	if (path && out[0] != '\0' && out[0] != '/')
	{
		char *absolute;

		if (asprintf(&absolute, "%s/%s", home_dir(), out) < 0)
			absolute = NULL;
		free(out);
		out = absolute;
	}
	return out;
}

static void
env_base(Environment *env, const Command *command, const char *shell)
{
	static const char *const hidden[] = {"CODER_SSH_SESSION_TYPE=", "CODER_CONTAINER=", "CODER_CONTAINER_USER="};

	for (char **p = environ; *p != NULL; p++)
		env_put(env, strdup(*p));
	for (const char *const *p = command->env; p != NULL && *p != NULL; p++)
	{
		bool hide = false;
		char name[128];

		for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
			hide = hide || strncmp(*p, hidden[i], strlen(hidden[i])) == 0;
		snprintf(name, sizeof(name), "%.*s", (int) strcspn(*p, "="), *p);
		if (!hide && getenv(name) == NULL)
			env_put(env, strdup(*p));
	}
	if (env_get(env, "USER") == NULL)
		env_set(env, "USER", getuid() == 0 ? "root" : "coder");
	if (env_get(env, "LOGNAME") == NULL)
		env_set(env, "LOGNAME", env_get(env, "USER"));
	if (env_get(env, "HOME") == NULL)
		env_set(env, "HOME", home_dir());
	env_set(env, "SHELL", shell);
}

static void
env_workspace(Environment *env, const Agent *agent)
{
	const Manifest *manifest = agent->manifest;
	char text[5000];

	env_set(env, "CODER", "true");
	env_set(env, "CODER_AGENT_TOKEN", agent->options.token);
	env_set(env, "CODER_AGENT_URL", agent->options.url);
	snprintf(text, sizeof(text), "%s gitssh --", agent->self_path);
	env_set(env, "GIT_SSH_COMMAND", text);
	env_set(env, "GIT_ASKPASS", agent->self_path);
	if (manifest == NULL)
		return;
	env_set(env, "CODER_WORKSPACE_NAME", manifest->workspace_name);
	env_set(env, "CODER_WORKSPACE_AGENT_NAME", manifest->agent_name);
	env_set(env, "CODER_WORKSPACE_OWNER_NAME", manifest->owner_username);
	if (manifest->workspace_id.len == 16)
	{
		const uint8_t *id = manifest->workspace_id.data;
		char *p = text;

		for (int i = 0; i < 16; i++)
			p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
		env_set(env, "CODER_WORKSPACE_ID", text);
	}
	if (manifest->vs_code_port_proxy_uri[0] != '\0')
		env_set(env, "VSCODE_PROXY_URI", manifest->vs_code_port_proxy_uri);
	for (size_t i = 0; i < manifest->n_environment_variables; i++)
	{
		char *value = agent_expand(manifest->environment_variables[i]->value, false);

		if (value != NULL)
			env_set(env, manifest->environment_variables[i]->key, value);
		free(value);
	}
}

static void
env_build(Environment *env, Agent *agent, const Command *command, const char *shell)
{
	char *path;

	env->n = 0;
	env->list[0] = NULL;
	env_base(env, command, shell);
	pthread_mutex_lock(&agent->env_lock);
	env_workspace(env, agent);
	pthread_mutex_unlock(&agent->env_lock);
	if (asprintf(&path,
				 "%s/coder-script-data/bin:%s",
				 agent->options.script_data_dir,
				 env_get(env, "PATH") ? env_get(env, "PATH") : "/usr/local/bin:/usr/bin:/bin") >= 0)
	{
		env_set(env, "PATH", path);
		free(path);
	}
	env_set(env, "SSH_CLIENT", "0.0.0.0 0 0");
	env_set(env, "SSH_CONNECTION", "0.0.0.0 0 0.0.0.0 0");
	for (const char *const *p = command->extra; p != NULL && *p != NULL; p++)
		env_put(env, strdup(*p));
}

/* The manifest's folder where it exists, else home. */
static char *
working_directory(Agent *agent)
{
	struct stat st;
	char *dir;

	pthread_mutex_lock(&agent->env_lock);
	dir = agent->directory != NULL && agent->directory[0] != '\0' && stat(agent->directory, &st) == 0 && S_ISDIR(st.st_mode)
		? strdup(agent->directory)
		: strdup(home_dir());
	pthread_mutex_unlock(&agent->env_lock);
	return dir;
}

/*
 * The words to execute.  A text that begins with #! runs by the interpreter it
 * names; words of that line are split at blanks.
 */
static int
build_argv(const char *text, char *shell, char *copy, const char **argv, int max)
{
	const char *start = text + strspn(text, " \t\r\n");
	int n = 0;

	if (*text == '\0')
	{
		argv[n++] = shell;
		argv[n++] = "-l";
	}
	else if (strncmp(start, "#!", 2) == 0)
	{
		char *line = copy + (start - text) + 2;
		char *word;

		line[strcspn(line, "\r\n")] = '\0';
		while (n < max - 3 && (word = strsep(&line, " \t")) != NULL)
			if (*word != '\0')
				argv[n++] = word;
		argv[n++] = "-c";
		argv[n++] = text;
	}
	else
	{
		argv[n++] = shell;
		argv[n++] = "-c";
		argv[n++] = text;
	}
	argv[n] = NULL;
	return n;
}

typedef struct Pipes
{
	int child_in;
	int child_out;
	int child_err;
	int terminal; /* the terminal's child end, or -1 */
} Pipes;

static int
open_pipes(const Command *command, Process *process, Pipes *pipes)
{
	int in[2] = {-1, -1};
	int out[2] = {-1, -1};
	int err[2] = {-1, -1};

	pipes->terminal = -1;
	process->err = -1;
	if (command->pty)
	{
		struct winsize size = {.ws_row = command->rows, .ws_col = command->columns};

		if (openpty(&process->in, &pipes->terminal, NULL, NULL, &size) != 0)
			return -1;
		fcntl(process->in, F_SETFD, FD_CLOEXEC);
		fcntl(pipes->terminal, F_SETFD, FD_CLOEXEC);
		process->out = process->in;
		pipes->child_in = pipes->child_out = pipes->child_err = pipes->terminal;
		return 0;
	}
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || (!command->merge_output && pipe2(err, O_CLOEXEC) != 0))
	{
		int all[] = {in[0], in[1], out[0], out[1]};

		for (size_t i = 0; i < 4; i++)
			if (all[i] >= 0)
				close(all[i]);
		return -1;
	}
	process->in = in[1];
	process->out = out[0];
	process->err = err[0];
	pipes->child_in = in[0];
	pipes->child_out = out[1];
	pipes->child_err = command->merge_output ? out[1] : err[1];
	return 0;
}

static void
close_child_ends(const Pipes *pipes)
{
	if (pipes->terminal >= 0)
	{
		close(pipes->terminal);
		return;
	}
	close(pipes->child_in);
	close(pipes->child_out);
	if (pipes->child_err != pipes->child_out)
		close(pipes->child_err);
}

/* In the child, after fork: only async-signal-safe calls. */
static _Noreturn void
run_child(const Pipes *pipes, bool ends_with_agent, const char *dir, const char *const *argv, char *const *env)
{
	sigset_t none;

	sigemptyset(&none);
	for (int s = 1; s < 32; s++)
		signal(s, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (ends_with_agent)
		prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (pipes->terminal >= 0)
		ioctl(pipes->terminal, TIOCSCTTY, 0);
	dup2(pipes->child_in, STDIN_FILENO);
	dup2(pipes->child_out, STDOUT_FILENO);
	dup2(pipes->child_err, STDERR_FILENO);
	if (chdir(dir) != 0 && chdir("/") != 0)
		_exit(126);
	execvpe(argv[0], (char *const *) (uintptr_t) argv, env);
	_exit(127);
}

int
command_start(Agent *agent, const Command *command, Process *process, char *error, size_t error_size)
{
	const char *text = command->text ? command->text : "";
	Environment *env = calloc(1, sizeof(*env));
	char *shell = command->plain ? strdup("/bin/sh") : login_shell();
	char *copy = strdup(text);
	bool elsewhere = command->directory != NULL && *command->directory != '\0';
	char *dir = elsewhere ? strdup(command->directory) : working_directory(agent);
	const char *argv[64];
	Pipes pipes;
	int result = -1;

	memset(process, 0, sizeof(*process));
	process->in = process->out = process->err = process->pidfd = -1;
	if (env == NULL || shell == NULL || copy == NULL || dir == NULL)
	{
		snprintf(error, error_size, "out of memory");
		goto done;
	}
	if (elsewhere && access(dir, X_OK) != 0)
	{
		snprintf(error, error_size, "%s: %s", dir, strerror(errno));
		goto done;
	}
	env_build(env, agent, command, shell);
	build_argv(text, shell, copy, argv, 64);
	if (open_pipes(command, process, &pipes) != 0)
	{
		snprintf(error, error_size, "could not make a %s: %s", command->pty ? "terminal" : "pipe", strerror(errno));
		goto done;
	}
	process->pid = fork();
	if (process->pid == 0)
		run_child(&pipes, command->ends_with_agent, dir, argv, env->list);
	close_child_ends(&pipes);
	if (process->pid < 0)
	{
		snprintf(error, error_size, "could not start a process: %s", strerror(errno));
		close(process->in);
		if (process->out != process->in)
			close(process->out);
		if (process->err >= 0)
			close(process->err);
		goto done;
	}
	process->pidfd = (int) syscall(SYS_pidfd_open, process->pid, 0);
	result = 0;
done:
	if (env != NULL)
		env_free(env);
	free(env);
	free(shell);
	free(copy);
	free(dir);
	return result;
}

int
command_wait(const Process *process)
{
	int status;

	while (waitpid(process->pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void
command_kill(const Process *process, int signal_number)
{
	if (process->pid > 0)
		kill(-process->pid, signal_number);
}
