/*
 * initscript.h -- the scripts that download and start an agent in a new machine
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_INITSCRIPT_H
#define CODER_INITSCRIPT_H

typedef struct InitTarget
{
	const char *os;
	const char *arch;
} InitTarget;

#define INIT_TARGETS 7
extern const InitTarget init_targets[INIT_TARGETS];

/* The script with ${ARCH} filled in; ${ACCESS_URL} and ${AUTH_TYPE} are left for the Terraform
 * provider.  NULL if unknown. */
extern char *initscript_template(const char *os, const char *arch);

/* All of it filled in.  To be freed. */
extern char *initscript_render(const char *os, const char *arch, const char *access_url,
							   const char *auth);

#endif /* CODER_INITSCRIPT_H */
