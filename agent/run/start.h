/*
 * start.h -- from the options of "coder agent" to its run.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_RUN_START_H
#define AGENT_RUN_START_H

#include "run/agent.h"

/* Runs until a signal asks for the end; the exit status of the process. */
int agent_run(const AgentOptions *options);

#endif
