/*
 * server.c -- "coder server" hands over to coder-server.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "run/agent.h"
#include "version.h"

/* Beside this program, in the build's own place, or on PATH. */
static int
run_server(Cli *cli)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *argv[300] = {"coder-server"};
	int argc = 1;

	for (const char **p = cli->rest; p != NULL && *p != NULL && argc < 299; p++)
		argv[argc++] = *p;
	if (n > 0)
	{
		char *slash;

		self[n] = '\0';
		slash = strrchr(self, '/');
		*slash = '\0';
		execv(cli_format("%s/coder-server", self), (char **) argv);
		execv(cli_format("%s/../gateway/coder-server", self), (char **) argv);
	}
	execvp("coder-server", (char **) argv);
	cli_fail("could not run coder-server: %s", strerror(errno));
}

/* The first line must hold "Coder": what downloads agents looks for it. */
static int
run_version(Cli *cli)
{
	(void) cli;
	puts("Coder " CODER_VERSION);
	return 0;
}

static const char *const examples[] = {"coder server -- --http-address 127.0.0.1:7080",
									   "coder server -- --help",
									   NULL};

const CliCommand cli_server_commands[] = {
	{"server", "[-- flags of coder-server]", "Run the server", NULL, 0, 0, run_server, examples},
	{"version", "", "Show the version of this program", NULL, 0, 0, run_version, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
