/*
 * edit.c -- search and replace, numbered lines, clean text.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/edit.h"

typedef struct Buffer
{
	char *bytes;
	size_t len;
	size_t room;
	bool failed;
} Buffer;

static void
add(Buffer *buffer, const char *bytes, size_t len)
{
	if (buffer->len + len + 1 > buffer->room)
	{
		size_t room = 2 * (buffer->len + len + 1);
		char *grown = realloc(buffer->bytes, room);

		if (grown == NULL)
		{
			buffer->failed = true;
			return;
		}
		buffer->bytes = grown;
		buffer->room = room;
	}
	memcpy(buffer->bytes + buffer->len, bytes, len);
	buffer->len += len;
	buffer->bytes[buffer->len] = '\0';
}

static char *
finish(Buffer *buffer)
{
	add(buffer, "", 0);
	if (!buffer->failed)
		return buffer->bytes;
	free(buffer->bytes);
	return NULL;
}

/* Search and replace ------------------------------------------------------------ */

typedef struct Line
{
	const char *at;
	size_t len; /* without its line feed */
} Line;

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The line without blanks at its end, and, strict not, at its beginning. */
static Line
trimmed(Line line, bool strict)
{
	while (line.len > 0 && is_blank(line.at[line.len - 1]))
		line.len--;
	while (!strict && line.len > 0 && is_blank(*line.at))
	{
		line.at++;
		line.len--;
	}
	return line;
}

/* The line at text, and where the next one begins (NULL: nowhere). */
static Line
line_at(const char *text, const char **next)
{
	const char *end = strchr(text, '\n');

	*next = end != NULL ? end + 1 : NULL;
	return (Line){text, end != NULL ? (size_t) (end - text) : strlen(text)};
}

/* Do the lines from text on equal those of search?  Then the end of the last of them, without its line feed. */
static const char *
match_lines(const char *text, const char *search, bool strict)
{
	const char *next_text = text;
	const char *next_search = search;
	Line line = {text, 0};

	while (next_search != NULL && *next_search != '\0')
	{
		Line wanted = trimmed(line_at(next_search, &next_search), strict);
		Line found;

		if (next_text == NULL)
			return NULL;
		line = line_at(next_text, &next_text);
		found = trimmed(line, strict);
		if (found.len != wanted.len || memcmp(found.at, wanted.at, found.len) != 0)
			return NULL;
	}
	return line.at + line.len;
}

/* The next place of search at or behind from: [*begin, *end).  how: 0 as it is, 1 and 2 by lines. */
static bool
find(const char *from, const char *text, const char *search, int how, const char **begin, const char **end)
{
	if (how == 0)
	{
		*begin = strstr(from, search);
		*end = *begin != NULL ? *begin + strlen(search) : NULL;
		return *begin != NULL;
	}
	for (const char *at = from; at != NULL; at = strchr(at, '\n'), at = at != NULL ? at + 1 : NULL)
	{
		if (at != text && at[-1] != '\n')
			continue;
		*end = match_lines(at, search, how == 1);
		if (*end == NULL)
			continue;
		*begin = at;
		return true;
	}
	return false;
}

static int
count(const char *text, const char *search, int how)
{
	const char *begin;
	const char *end;
	int n = 0;

	for (const char *from = text; n < 2 && find(from, text, search, how, &begin, &end); from = end)
	{
		n++;
		if (how != 0 && *end == '\0')
			break;
	}
	return n;
}

char *
edit_replace(const char *text, const char *search, const char *replace, bool all, const char **error)
{
	Buffer out = {0};
	const char *from = text;
	const char *begin;
	const char *end;
	size_t replace_len = strlen(replace);
	int how = 0;
	int n = 0;

	*error = "search is empty";
	if (*search == '\0')
		return NULL;
	/* Of blanks alone nothing is left to compare lines by. */
	n = count(text, search, how);
	while (n == 0 && how < 2 && strspn(search, " \t\r\n") != strlen(search))
		n = count(text, search, ++how);
	*error = "search was not found in the file";
	if (n == 0)
		return NULL;
	*error = "search was found more than once: give more lines around it, or say replace_all";
	if (n > 1 && !all)
		return NULL;
	/* By lines, the line feed behind the last one stays. */
	if (how != 0 && replace_len > 0 && replace[replace_len - 1] == '\n' && search[strlen(search) - 1] == '\n')
		replace_len--;
	while (find(from, text, search, how, &begin, &end))
	{
		add(&out, from, (size_t) (begin - from));
		add(&out, replace, replace_len);
		from = end;
		if (!all || *from == '\0')
			break;
	}
	add(&out, from, strlen(from));
	*error = "out of memory";
	return finish(&out);
}

/* Text ---------------------------------------------------------------------------- */

/* How many bytes the character at p has; 0: it is none. */
static size_t
character(const unsigned char *p, size_t len)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : (*p & 0xf0) == 0xe0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (*p == 0 || n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] >= 0xa0) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] >= 0x90))
		return 0;
	return n;
}

static void
add_clean(Buffer *out, const char *bytes, size_t len, size_t max_line)
{
	size_t in_line = 0;

	for (size_t i = 0; i < len;)
	{
		size_t n = character((const unsigned char *) bytes + i, len - i);

		if (bytes[i] == '\n')
			in_line = 0;
		if (max_line == 0 || in_line < max_line || bytes[i] == '\n')
		{
			if (n > 0)
				add(out, bytes + i, n);
			else
				add(out, "\xef\xbf\xbd", 3);
		}
		else if (in_line == max_line)
			add(out, "...", 3);
		if (bytes[i] != '\n')
			in_line += max_line != 0 && in_line < max_line && in_line + (n > 0 ? n : 1) > max_line ? max_line - in_line : n > 0 ? n : 1;
		i += n > 0 ? n : 1;
	}
}

char *
edit_clean(const char *bytes, size_t len, size_t max_line)
{
	Buffer out = {0};

	add_clean(&out, bytes, len, max_line);
	return finish(&out);
}

char *
edit_lines(const char *text, size_t len, const EditLimits *limits, long *total, long *read)
{
	Buffer out = {0};
	long wanted = limits->limit > 0 && limits->limit < limits->max_lines ? limits->limit : limits->max_lines;
	bool full = false;

	*total = 0;
	*read = 0;
	for (size_t at = 0; at < len;)
	{
		const char *end = memchr(text + at, '\n', len - at);
		size_t size = end != NULL ? (size_t) (end - (text + at)) : len - at;
		size_t before = out.len;
		char number[32];

		++*total;
		if (*total >= limits->offset && *read < wanted && !full)
		{
			snprintf(number, sizeof(number), "%s%ld\t", *read > 0 ? "\n" : "", *total);
			add(&out, number, strlen(number));
			add_clean(&out, text + at, size > 0 && text[at + size - 1] == '\r' ? size - 1 : size, limits->max_line);
			full = out.len > limits->max_bytes && *read > 0;
			if (full)
				out.len = before;
			else
				++*read;
		}
		at += size + 1;
	}
	return finish(&out);
}
