/*
 * child.h -- programs that the server starts beside itself and keeps alive: the provisioner, the runner of chats.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHILD_H
#define GATEWAY_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* Those that the options ask for. */
void gw_children_start(void);

/* True: it was one of them; it is started again soon. */
bool gw_children_reaped(pid_t pid, int status);

/* Starts those whose time has come.  True: one still waits for its time. */
bool gw_children_run_due(void);

/* Asks all to end and waits ten seconds at most. */
void gw_children_stop(void);

#endif
