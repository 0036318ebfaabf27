/*
 * program.c -- programs that commands run.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>

#include "cli/cli.h"

extern char **environ;

int
cli_program(const char *folder, const char *const *argv)
{
	posix_spawn_file_actions_t actions;
	void (*old)(int);
	pid_t pid;
	int error;
	int status;

	posix_spawn_file_actions_init(&actions);
	if (folder != NULL)
		posix_spawn_file_actions_addchdir_np(&actions, folder);
	error = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error != 0)
		return -error;
	/* Ctrl-C is the program's; what it makes of it, its status tells. */
	old = signal(SIGINT, SIG_IGN);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	signal(SIGINT, old);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
