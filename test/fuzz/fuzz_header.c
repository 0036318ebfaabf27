/*
 * fuzz_header.c -- any text as cookies and as a list: what is found lies inside
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "../../gateway/header.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a", "csrf_token", "coder_session_token"};
	char *text = malloc(size);
	h2o_iovec_t all = {text, size};

	memcpy(text, data, size);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		h2o_iovec_t value = gw_cookie(all, names[i]);

		if (value.base != NULL && (value.base <= text || value.len > size || value.base + value.len > text + size ||
								   memchr(value.base, ';', value.len) != NULL))
			abort();
		if (gw_list_has(all, names[i]) && memmem(text, size, names[i], strlen(names[i])) == NULL)
			abort();
	}
	free(text);
	return 0;
}
