/*
 * sshforward.h -- what listens in the workspace for an SSH client: ports (ssh -R), its key agent (-A), its display (-X).
 *
 * Everything here is used by the one thread of its connection.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_SSHFORWARD_H
#define AGENT_SERVE_SSHFORWARD_H

#include <libssh/libssh.h>
#include <poll.h>
#include <stdbool.h>

#define SSH_LISTENERS 32 /* of a connection */

typedef struct SshListener SshListener;

typedef struct SshListeners
{
	SshListener *first;
	int n;
} SshListeners;

/* A port that is forwarded to the client, on the address that it names (as it names it: "localhost", "", "0.0.0.0", ...).
 * The port that listens, which is another only where 0 is asked for; -1: it cannot. */
int ssh_listen_port(SshListeners *listeners, const char *address, int port);
bool ssh_unlisten_port(SshListeners *listeners, const char *address, int port);

/* The socket of the client's key agent, one for the connection; NULL: there can be none. */
const char *ssh_listen_agent(SshListeners *listeners);

/* A display for owner, whose cookie is told to the user's X clients; its name, NULL: there can be none. */
const char *ssh_listen_display(SshListeners *listeners, const void *owner, bool single, const char *protocol, const char *cookie, unsigned screen);

/* Ends those of an owner, or all (NULL). */
void ssh_unlisten(SshListeners *listeners, const void *owner);

/* What to wait for; how many. */
int ssh_listeners_poll(const SshListeners *listeners, struct pollfd *fds);

/* The next connection to one of them, and the channel that is open for it; -1: none.  Waits for the client's consent. */
int ssh_listeners_accept(SshListeners *listeners, ssh_session session, ssh_channel *channel);

/* Whether the words may stand in a command of xauth: a protocol's name, a cookie in hexadecimals. */
bool ssh_display_words_valid(const char *protocol, const char *cookie);

#endif
