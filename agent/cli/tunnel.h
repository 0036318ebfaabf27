/*
 * tunnel.h -- the command line's end of the tunnel to one agent.
 *
 * The tunnel lives on a thread and loop of its own, so that commands may use
 * plain blocking or polled descriptors.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_TUNNEL_H
#define CODER_CLI_TUNNEL_H

#include "cli/cli.h"

typedef struct CliTunnel CliTunnel;

typedef struct CliPing
{
	double milliseconds;
	bool direct; /* else through the relay */
	char path[96]; /* endpoint, or name of the relay's region */
} CliPing;

/* Starts the tunnel to agent (its JSON); ends the process where that is refused. */
CliTunnel *cli_tunnel_open(Cli *cli, const json_t *agent);

/* A connection to a TCP port of the agent, or -errno; the caller closes it. */
int cli_tunnel_dial(CliTunnel *tunnel, int port, int timeout_ms);

/* One ping; 0, or -ETIMEDOUT. */
int cli_tunnel_ping(CliTunnel *tunnel, int timeout_ms, CliPing *result);

/* Says goodbye to the coordinator, so that the agent forgets this peer at once. */
void cli_tunnel_close(CliTunnel *tunnel);

/* Copies both ways until both directions have ended; a's reader may be another descriptor than its writer. */
void cli_pump(int a_in, int a_out, int b);

#endif
