/*
 * desktop.h -- the workspace's virtual desktop: an X server of its own, begun when somebody wants it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_DESKTOP_H
#define AGENT_SERVE_DESKTOP_H

#include "run/agent.h"

/* Begins it unless it runs; ready(arg, NULL) is called when it does, ready(arg, why) where it cannot, at once or later. */
void desktop_want(Agent *agent, void (*ready)(void *arg, const char *why), void *arg);

/* Nobody waits any more. */
void desktop_forget(void *arg);

/* ":1" while it runs, else NULL; and the file with the key to it. */
const char *desktop_display(void);
const char *desktop_authority(void);

/* Removes what agents of this user that were killed have left in /tmp. */
void desktop_sweep(void);

/* The folder of its files. */
const char *desktop_folder(void);

void desktop_size(int *width, int *height);

/* Somebody uses it: recordings go on. */
void desktop_used(void);
int64_t desktop_last_use(void);

/* recording.c: it has ended, and so do its films. */
void recording_desktop_ended(void);

/* The agent ends: so does it. */
void desktop_stop(void);

#endif
