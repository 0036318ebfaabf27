/*
 * main.c -- the binary coder: the workspace agent, and the command line.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include <openssl/crypto.h>

#include "cli/cli.h"
#include "cli/inside.h"
#include "run/agent.h"
#include "serve/mcpremote.h"

int
main(int argc, char **argv)
{
	static char version[] = "version";

	/* exit() of a command must not free what the tunnel's thread still uses. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);

	if (argc > 1 && strcmp(argv[1], "agent") == 0)
		return agent_main(argc - 1, argv + 1);
	if (argc == 2 && strcmp(argv[1], MCPREMOTE_COMMAND) == 0)
		return mcpremote_main();
	/* GIT_ASKPASS: git runs it with nothing but its question. */
	if (argc == 2 && (strncmp(argv[1], "Username ", 9) == 0 || strncmp(argv[1], "Password ", 9) == 0))
		return inside_askpass(argv[1]);
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		argv[1] = version;
	return cli_main(argc, argv);
}
