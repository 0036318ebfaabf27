/*
 * fuzz_json.c -- the JSON writer: any text quoted is read back as it was, and
 * any JSON made compact is the same JSON; neither can end a <script> element.
 *
 * SPDX-License-Identifier: MIT
 */
#include "server_json.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_bytes(const char *text, int len)
{
	for (int i = 0; i < len; i++)
		if (text[i] == '<' || text[i] == '>' || text[i] == '&' || (i + 2 < len && memcmp(text + i, "\xe2\x80\xa8", 3) == 0))
			abort();
}

static void
check_quoted(const char *text, int len)
{
	int n;
	char *quoted = server_json_quoted(text, len, &n);
	json_t *back = json_loadb(quoted, (size_t) n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	check_bytes(quoted, n);
	if (json_string_length(back) != (size_t) len || memcmp(json_string_value(back), text, (size_t) len) != 0)
		abort();
	json_decref(back);
	free(quoted);
}

/* value: what the text means, NULL where it is no JSON. */
static void
check_compact(const char *text, int len, json_t *value)
{
	int n;
	char *compact = server_json_compact(text, len, &n);
	json_t *back = NULL;

	if (value != NULL)
	{
		check_bytes(compact, n);
		back = json_loadb(compact, (size_t) n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (back == NULL || !json_equal(back, value))
			abort();
	}
	json_decref(back);
	free(compact);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly that size, so that a read beyond it is seen. */
	char *text = memcpy(malloc(size > 0 ? size : 1), data, size);
	json_t *utf8 = json_stringn(text, size);
	json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	if (utf8 != NULL)
		check_quoted(text, (int) size);
	check_compact(text, (int) size, value);
	json_decref(utf8);
	json_decref(value);
	free(text);
	return 0;
}
