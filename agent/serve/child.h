/*
 * child.h -- a program that the agent keeps running for itself.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_CHILD_H
#define AGENT_SERVE_CHILD_H

#include "run/agent.h"

#define CHILD_TEXT 1024

typedef struct Child Child;

struct Child
{
	Agent *agent;
	Process process;
	bool running;
	LoopFd *end_watch;
	LoopFd *out_watch;
	LoopFd *err_watch;
	LoopTimer poll; /* where the kernel has no pidfd */
	char out[CHILD_TEXT]; /* the beginning of what it says */
	size_t out_len;
	char err[CHILD_TEXT]; /* the end of its errors */
	size_t err_len;
	void (*said)(Child *child); /* more is in out; NULL: nobody asks */
	void (*ended)(Child *child, int status);
};

/* Starts a command of the shell that ends with the agent; child: zeroed, or ended.  False: error says why. */
bool child_start(Child *child, Agent *agent, const char *command, const char *const *env, char *error, size_t error_size);

/* The last line of its errors, "" where there is none. */
const char *child_last_words(const Child *child, char *text, size_t size);

/* Is there a program of this name?  Its path, or false. */
bool child_find(const char *name, char *path, size_t size);

#endif
