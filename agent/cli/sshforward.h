/*
 * sshforward.h -- what the workspace reaches here through coder ssh: ports (-R), the key agent (-A).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_SSHFORWARD_H
#define CODER_CLI_SSHFORWARD_H

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <stdbool.h>

#define CLI_FORWARDS 64 /* connections at once */
#define CLI_REMOTE_PORTS 32
#define CLI_FORWARD_PIECE 32768

/* A port of the workspace, and what it is here. */
typedef struct CliRemotePort
{
	int port;
	char *host;
	int host_port;
} CliRemotePort;

typedef struct CliForward
{
	struct CliForward *next;
	ssh_channel channel;
	int fd;
	bool ended; /* no more comes from here */
	bool shut; /* nor from the workspace */
	char pending[CLI_FORWARD_PIECE]; /* of the workspace, not yet taken here */
	size_t from, to;
	struct ssh_channel_callbacks_struct callbacks;
} CliForward;

typedef struct CliForwards
{
	ssh_session session;
	bool *fresh;
	const char *key_agent; /* socket; NULL: not forwarded */
	CliRemotePort ports[CLI_REMOTE_PORTS];
	int nports;
	CliForward *first;
	int n;
	struct ssh_callbacks_struct callbacks;
} CliForwards;

/*
 * Of every channel, with a bool as its userdata: data has come.  Reading one channel takes
 * packets of all, so what came for another would else wait for the next packet.
 */
int cli_ssh_on_data(ssh_session session, ssh_channel channel, void *data, uint32_t size, int is_stderr, void *fresh);

/* "8080:localhost:80"; false where it is none. */
bool cli_remote_port_parse(const char *text, CliRemotePort *port);

/* Begins; ports are asked of the workspace, whose refusal ends the process. */
void cli_forwards_begin(CliForwards *forwards, ssh_session session, bool *fresh);

int cli_forwards_poll(const CliForwards *forwards, struct pollfd *fds);

/* Takes new connections, and moves what there is to move. */
void cli_forwards_round(CliForwards *forwards);

#endif
