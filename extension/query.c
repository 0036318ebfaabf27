/*
 * query.c -- the text of a request in parts: see query.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "query.h"

#include <string.h>

#include "../agent/wire/hex.h"

int
query_decode(const char *text, int len, char *out)
{
	int n = 0;

	for (int i = 0; i < len; i++)
	{
		char c = text[i];

		if (c == '+')
			c = ' ';
		else if (c == '%' && i + 2 < len && wire_hex_value(text[i + 1]) >= 0 &&
				 wire_hex_value(text[i + 2]) >= 0)
		{
			c = (char) (wire_hex_value(text[i + 1]) << 4 | wire_hex_value(text[i + 2]));
			i += 2;
		}
		if (c == '\0')
			return -1;
		out[n++] = c;
	}
	out[n] = '\0';
	return n;
}

/* The bytes before the separator, or all; *text moves behind it. */
static int
take_part(const char **text, const char *end, char separator, const char **part)
{
	const char *stop = memchr(*text, separator, (size_t) (end - *text));
	int len = (int) ((stop != NULL ? stop : end) - *text);

	*part = *text;
	*text += len + (stop != NULL);
	return len;
}

bool
query_next(const char **text, const char *end, QueryPair *pair)
{
	while (*text < end)
	{
		const char *part;
		int len = take_part(text, end, '&', &part);
		const char *eq = memchr(part, '=', (size_t) len);

		if (len == 0)
			continue;
		pair->name = part;
		pair->name_len = eq != NULL ? (int) (eq - part) : len;
		pair->value = eq != NULL ? eq + 1 : part + len;
		pair->value_len = (int) (part + len - pair->value);
		return true;
	}
	return false;
}

bool
query_next_header(const char **text, const char *end, QueryPair *pair)
{
	while (*text < end)
	{
		const char *line;
		int len = take_part(text, end, '\n', &line);
		const char *colon = memchr(line, ':', (size_t) len);
		const char *value;
		const char *stop = line + len;

		if (colon == NULL || colon == line)
			continue;
		value = colon + 1;
		while (value < stop && (*value == ' ' || *value == '\t'))
			value++;
		while (value < stop && (stop[-1] == '\r' || stop[-1] == ' '))
			stop--;
		*pair = (QueryPair){line, (int) (colon - line), value, (int) (stop - value)};
		return true;
	}
	return false;
}
