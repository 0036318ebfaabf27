/*
 * sftp.h -- the sftp subsystem (version 3) on a channel of libssh.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_SFTP_H
#define AGENT_SERVE_SFTP_H

#include <libssh/libssh.h>

#include "run/agent.h"

typedef struct SftpServer SftpServer;

/* NULL when out of memory. */
SftpServer *sftp_server_start(Agent *agent, ssh_session session, ssh_channel channel);

/* Answers what has come; false when the client is done. */
bool sftp_server_serve(SftpServer *server);

/* Closes all files; NULL is allowed. */
void sftp_server_end(SftpServer *server);

#endif
