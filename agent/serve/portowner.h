/*
 * portowner.h -- whose port somebody forwards to.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_PORTOWNER_H
#define AGENT_SERVE_PORTOWNER_H

#include <stdbool.h>
#include <stddef.h>

/* Is what the connection leads to the backend of a JetBrains editor, on this machine?  Looks through /proc. */
bool ports_is_jetbrains(int fd);

/* The same of a command line, whose n bytes are arguments ended by zeros.  No I/O. */
bool portowner_is_jetbrains_command(const char *command, size_t n);

#endif
