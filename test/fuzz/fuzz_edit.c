/*
 * fuzz_edit.c -- search and replace and numbered lines of any text.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../agent/serve/edit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Three texts, each ended by a NUL: what is searched in, for, and what is put there. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	EditLimits limits = {1 + (long) (size % 3), (long) (size % 5), 16, 20, 256};
	char *copy = malloc(size + 3);
	const char *search;
	const char *replace;
	const char *error;
	long total;
	long read;

	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	memset(copy + size, 0, 3);
	search = copy + strlen(copy) + 1 <= copy + size ? copy + strlen(copy) + 1 : copy + size;
	replace = search + strlen(search) + 1 <= copy + size ? search + strlen(search) + 1 : copy + size;
	free(edit_replace(copy, search, replace, size % 2 == 0, &error));
	free(edit_lines((const char *) data, size, &limits, &total, &read));
	free(edit_clean((const char *) data, size, 8));
	free(copy);
	return 0;
}
