/*
 * main.c -- the binary coder: the workspace agent, and the command line.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "cli/cli.h"
#include "run/agent.h"

int
main(int argc, char **argv)
{
	static char version[] = "version";

	if (argc > 1 && strcmp(argv[1], "agent") == 0)
		return agent_main(argc - 1, argv + 1);
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = version;
	return cli_main(argc, argv);
}
