/*
 * ssh.h -- parts of the SSH server that others or tests use.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_SSH_H
#define AGENT_SERVE_SSH_H

#include "run/agent.h"

/* Ends every connection; processes get SIGHUP.  On the loop's thread. */
void serve_ssh_stop(void);

/* The first word of command names nc, rsync, scp or sftp. */
bool ssh_command_moves_files(const char *command);

/* Number of a signal as SSH names it ("TERM"); SIGKILL for any other name. */
int ssh_signal_number(const char *name);

#endif
