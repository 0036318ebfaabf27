/*
 * fuzz_context.c -- files of a workspace that are told to models, skills, and what git says.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/context.h"
#include "serve/gitdiff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = context_clean((const char *) data, size);
	char *again = text != NULL ? context_clean(text, strlen(text)) : NULL;
	char *name;
	char *description;
	const char *body;
	GitScan scan;

	/* What is clean stays as it is, and holds no comment. */
	if (text == NULL || again == NULL || strcmp(text, again) != 0 || strstr(text, "<!--") != NULL)
		abort();
	free(text);
	free(again);
	if (context_skill((const char *) data, size, &name, &description, &body))
	{
		if (!context_is_skill_name(name) || body < (const char *) data || body > (const char *) data + size)
			abort();
		free(name);
		free(description);
	}
	if (git_parse_scan((const char *) data, size, 64, &scan))
	{
		if (strlen(scan.diff) > 3 * 64 + 100)
			abort();
		git_free_scan(&scan);
	}
	return 0;
}
