/*
 * debug.h -- the agent's HTTP addresses outside the tunnel.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_DEBUG_H
#define AGENT_SERVE_DEBUG_H

#include <sys/socket.h>

#include "serve/http.h"

/* Listens where the options say; an address that is taken is told in the log. */
void debug_start(Agent *agent);

/* Is it one of those ports? */
bool debug_has_port(uint16_t port);

/* HOST:PORT; HOST: a number, localhost or nothing (all).  False where it is none.  Port 0 takes any. */
bool debug_parse_address(const char *text, struct sockaddr_storage *address, socklen_t *size);

#endif
