/*
 * serve.h -- what the services inside the tunnel share among each other.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_SERVE_H
#define AGENT_SERVE_SERVE_H

#include "run/agent.h"

/* Ends every terminal. */
void serve_pty_stop(void);

#endif
