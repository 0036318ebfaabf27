/*
 * sse.c -- server-sent events as they arrive in pieces.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "wire/sse.h"

void
sse_init(Sse *sse, SseEvent event, void *arg)
{
	memset(sse, 0, sizeof(*sse));
	sse->event = event;
	sse->arg = arg;
}

void
sse_free(Sse *sse)
{
	free(sse->line);
	free(sse->data);
	sse->line = NULL;
	sse->data = NULL;
}

static bool
append(char **buf, size_t *len, size_t *room, const char *bytes, size_t n)
{
	if (n >= SSE_MAX_EVENT - *len)
		return false;
	if (*len + n + 1 > *room)
	{
		size_t wanted = (*len + n + 1) * 2;
		char *grown = realloc(*buf, wanted);

		if (grown == NULL)
			return false;
		*buf = grown;
		*room = wanted;
	}
	if (n > 0)
		memcpy(*buf + *len, bytes, n);
	*len += n;
	(*buf)[*len] = '\0';
	return true;
}

/* An empty line: what has come is an event, unless its data is empty: so some say that they are still there. */
static void
dispatch(Sse *sse)
{
	if (sse->data_len > 0)
		sse->event(sse->arg, sse->name, sse->data, sse->data_len);
	sse->has_data = false;
	sse->data_len = 0;
	sse->name[0] = '\0';
}

static bool
take_field(Sse *sse, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	size_t name = colon != NULL ? (size_t) (colon - line) : len;
	const char *value = colon != NULL ? colon + 1 : line + len;
	size_t n = (size_t) (line + len - value);

	if (n > 0 && *value == ' ')
	{
		value++;
		n--;
	}
	if (name == 4 && memcmp(line, "data", 4) == 0)
	{
		if (sse->has_data && !append(&sse->data, &sse->data_len, &sse->data_room, "\n", 1))
			return false;
		sse->has_data = true;
		return append(&sse->data, &sse->data_len, &sse->data_room, value, n);
	}
	if (name == 5 && memcmp(line, "event", 5) == 0)
	{
		if (n >= sizeof(sse->name))
			n = sizeof(sse->name) - 1;
		memcpy(sse->name, value, n);
		sse->name[n] = '\0';
	}
	return true;
}

static bool
end_line(Sse *sse)
{
	bool has_mark = !sse->begun && sse->line_len >= 3 && memcmp(sse->line, "\xef\xbb\xbf", 3) == 0;
	size_t mark = has_mark ? 3 : 0;
	bool ok = true;

	sse->begun = true;
	if (sse->line_len == mark)
		dispatch(sse);
	else
		ok = take_field(sse, sse->line + mark, sse->line_len - mark);
	sse->line_len = 0;
	return ok;
}

bool
sse_feed(Sse *sse, const char *bytes, size_t len)
{
	while (len > 0 && !sse->broken)
	{
		size_t n = 0;

		if (sse->after_cr && *bytes == '\n')
		{
			bytes++;
			len--;
			sse->after_cr = false;
			continue;
		}
		sse->after_cr = false;
		while (n < len && bytes[n] != '\n' && bytes[n] != '\r')
			n++;
		sse->broken = !append(&sse->line, &sse->line_len, &sse->line_room, bytes, n);
		if (n < len && !sse->broken)
		{
			sse->after_cr = bytes[n] == '\r';
			n++;
			sse->broken = !end_line(sse);
		}
		bytes += n;
		len -= n;
	}
	return !sse->broken;
}

void
sse_end(Sse *sse)
{
	if (!sse->broken && (sse->line_len == 0 || end_line(sse)))
		dispatch(sse);
	sse->line_len = 0;
}
