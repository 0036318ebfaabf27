/*
 * fuzz_askpass.c -- questions of git.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/askpass.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *prompt = malloc(size + 1);
	AskpassQuestion question;

	if (prompt == NULL)
		return 0;
	memcpy(prompt, data, size);
	prompt[size] = '\0';
	if (askpass_parse(prompt, &question))
	{
		/* No user is left in it. */
		const char *host = strstr(question.url, "://") + 3;

		if (memchr(host, '@', strcspn(host, "/?#")) != NULL)
			abort();
		free(question.url);
	}
	free(prompt);
	return 0;
}
