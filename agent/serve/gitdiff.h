/*
 * gitdiff.h -- what git says of a repository, read.
 *
 * No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_GITDIFF_H
#define AGENT_SERVE_GITDIFF_H

#include <stdbool.h>
#include <stddef.h>

typedef struct GitScan
{
	char *branch; /* all three malloc'ed, valid UTF-8 */
	char *origin; /* without a password */
	char *diff;
} GitScan;

/* The output of the scan: branch NUL origin NUL diff; of a diff above max bytes, whole files from the front.  False where it is none. */
bool git_parse_scan(const char *output, size_t len, size_t max, GitScan *scan);
void git_free_scan(GitScan *scan);

/* Takes user and password out of https://user:password@host/path, in place. */
void git_clean_origin(char *url);

#endif
