/*
 * ptymsg.c -- what a terminal's client says: see ptymsg.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/ptymsg.h"

#include <string.h>

static unsigned short
dimension(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 && n <= UINT16_MAX ? (unsigned short) n : 0;
}

PtyMsgResult
ptymsg_init(PtyInit *init, const uint8_t *bytes, size_t n, size_t *used)
{
	size_t size = n < 2 ? 0 : bytes[0] | (size_t) bytes[1] << 8;

	if (n < 2)
		return PTYMSG_SHORT;
	if (size + 2 > PTYMSG_MAX)
		return PTYMSG_BAD;
	if (n < size + 2)
		return PTYMSG_SHORT;
	init->json = json_loadb((const char *) bytes + 2, size, 0, NULL);
	init->id = json_string_value(json_object_get(init->json, "ID"));
	init->command = json_string_value(json_object_get(init->json, "Command"));
	init->rows = dimension(init->json, "Height");
	init->columns = dimension(init->json, "Width");
	if (init->id == NULL || strlen(init->id) != PTYMSG_ID_LEN)
	{
		json_decref(init->json);
		return PTYMSG_BAD;
	}
	*used = size + 2;
	return PTYMSG_OK;
}

static bool
is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

PtyMsgResult
ptymsg_keys(PtyKeys *keys, const uint8_t *bytes, size_t n, size_t *used)
{
	json_error_t error;
	size_t blanks = 0;

	while (blanks < n && is_blank(bytes[blanks]))
		blanks++;
	*used = blanks;
	if (blanks == n)
		return PTYMSG_SHORT;
	keys->json = json_loadb((const char *) bytes + blanks, n - blanks, JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error);
	if (keys->json == NULL)
		return json_error_code(&error) == json_error_premature_end_of_input && n - blanks < PTYMSG_MAX ? PTYMSG_SHORT : PTYMSG_BAD;
	*used += (size_t) error.position;
	keys->data = json_string_value(json_object_get(keys->json, "data"));
	keys->size = json_string_length(json_object_get(keys->json, "data"));
	keys->rows = dimension(keys->json, "height");
	keys->columns = dimension(keys->json, "width");
	return PTYMSG_OK;
}
