/*
 * askpass.h -- what git asks a helper for.
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_ASKPASS_H
#define CODER_CLI_ASKPASS_H

#include <stdbool.h>

typedef struct AskpassQuestion
{
	bool password; /* else the user's name */
	char *url; /* without a user; malloc'ed */
} AskpassQuestion;

/* "Username for 'https://host': ", "Password for 'https://user@host': "; false where it is no question about an http URL. */
bool askpass_parse(const char *prompt, AskpassQuestion *question);

#endif
