/*
 * json.c -- values of an answer by path.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

/* A member by dotted path; a step that is a number picks from an array. */
json_t *
js_at(const json_t *value, const char *path)
{
	while (value != NULL && *path != '\0')
	{
		size_t len = strcspn(path, ".");
		char step[64];

		if (len >= sizeof(step))
			return NULL;
		memcpy(step, path, len);
		step[len] = '\0';
		value = json_is_array(value) ? json_array_get(value, (size_t) strtoul(step, NULL, 10))
									 : json_object_get(value, step);
		path += len + (path[len] == '.');
	}
	return (json_t *) value;
}

const char *
js_text(const json_t *value, const char *path)
{
	const char *text = json_string_value(js_at(value, path));

	return text != NULL ? text : "";
}

json_int_t
js_int(const json_t *value, const char *path)
{
	const json_t *number = js_at(value, path);

	return json_is_real(number) ? (json_int_t) json_real_value(number) : json_integer_value(number);
}

bool
js_bool(const json_t *value, const char *path)
{
	return json_is_true(js_at(value, path));
}
