/*
 * secret.h -- what the database's sessions need and its tables must not hold: keys and clients' secrets.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_SECRET_H
#define GATEWAY_SECRET_H

#include <stdbool.h>

/* Is a setting (its name in lower case, without "coder_") one that is not told to the tables? */
bool gw_is_secret(const char *name);

/*
 * Reads keys and secrets from the environment and the file of keys.  The answer,
 * malloc'ed, is an option for libpq ("-c coder.secrets=..."), "" without any;
 * NULL after a message about what is wrong.
 */
char *gw_secrets_read(void);

/* The option in force; the answer is malloc'ed. */
char *gw_secrets_option(void);
void gw_secrets_use(char *option); /* takes it over */

#endif
