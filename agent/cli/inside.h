/*
 * inside.h -- coder as git's helper for passwords.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_INSIDE_H
#define CODER_CLI_INSIDE_H

/* Prints the answer to git's question; the status of the process. */
int inside_askpass(const char *prompt);

#endif
