/*
 * context.c -- texts of a workspace as models may read them, and the front matter of skills.
 *
 * Whoever can write a file of a repository can write to the model that reads it.  What people who look at the file would not
 * see, the model does not get: comments of HTML, characters without width, tags, marks of direction.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "serve/context.h"
#include "serve/edit.h"

#define MAX_NAME 64
#define MAX_DEPTH 32 /* of what a front matter holds besides */

/* Ranges of characters that nobody sees. */
static const struct
{
	uint32_t first;
	uint32_t last;
} hidden[] = {
	{0x00, 0x08},	  {0x0b, 0x0c},		{0x0e, 0x1f},	  {0x7f, 0x9f},		{0xad, 0xad},	  {0x34f, 0x34f},	{0x61c, 0x61c},
	{0x70f, 0x70f},	  {0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x180b, 0x180f}, {0x200b, 0x200f}, {0x202a, 0x202e}, {0x2060, 0x206f},
	{0x3164, 0x3164}, {0xfe00, 0xfe0f}, {0xfeff, 0xfeff}, {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a},
	{0xe0000, 0xe0fff},
};

static bool
is_hidden(uint32_t c)
{
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
		if (c >= hidden[i].first && c <= hidden[i].last)
			return true;
	return false;
}

/* The character at p, of text that is valid UTF-8; its length in size. */
static uint32_t
character(const unsigned char *p, size_t *size)
{
	if (*p < 0x80)
		return *size = 1, *p;
	if (*p < 0xe0)
		return *size = 2, ((uint32_t) (p[0] & 0x1f) << 6) | (p[1] & 0x3f);
	if (*p < 0xf0)
		return *size = 3, ((uint32_t) (p[0] & 0x0f) << 12) | ((uint32_t) (p[1] & 0x3f) << 6) | (p[2] & 0x3f);
	return *size = 4, ((uint32_t) (p[0] & 0x07) << 18) | ((uint32_t) (p[1] & 0x3f) << 12) | ((uint32_t) (p[2] & 0x3f) << 6) | (p[3] & 0x3f);
}

/* In place; both only make it shorter. */
static void
drop_hidden(char *text)
{
	char *out = text;
	size_t size;

	for (const char *p = text; *p != '\0'; p += size)
	{
		uint32_t c = character((const unsigned char *) p, &size);

		if (c == '\r')
		{
			if (p[1] != '\n')
				*out++ = '\n';
		}
		else if (!is_hidden(c))
		{
			memmove(out, p, size);
			out += size;
		}
	}
	*out = '\0';
}

/* What begins and is not ended goes too: a browser would not show it either. */
static void
drop_comments(char *text)
{
	char *out = text;
	const char *p = text;
	const char *begin;

	while ((begin = strstr(p, "<!--")) != NULL)
	{
		const char *end = strstr(begin + 4, "-->");

		memmove(out, p, (size_t) (begin - p));
		out += begin - p;
		p = end != NULL ? end + 3 : begin + strlen(begin);
	}
	memmove(out, p, strlen(p) + 1);
}

char *
context_clean(const char *bytes, size_t len)
{
	char *text = edit_clean(bytes, len, 0);
	size_t begin;
	size_t end;

	if (text == NULL)
		return NULL;
	/* A comment's marks may be hidden in characters that nobody sees, and what two comments leave may be a third. */
	drop_hidden(text);
	while (strstr(text, "<!--") != NULL)
		drop_comments(text);
	begin = strspn(text, " \t\n");
	end = strlen(text);
	while (end > begin && strchr(" \t\n", text[end - 1]) != NULL)
		end--;
	memmove(text, text + begin, end - begin);
	text[end - begin] = '\0';
	return text;
}

bool
context_is_skill_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > MAX_NAME || name[0] == '-' || name[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!(islower((unsigned char) name[i]) || isdigit((unsigned char) name[i]) || (name[i] == '-' && name[i + 1] != '-')))
			return false;
	return true;
}

/* Is this line "---", with blanks or not? */
static bool
is_fence(const char *line, size_t len)
{
	while (len > 0 && strchr(" \t\r", line[len - 1]) != NULL)
		len--;
	while (len > 0 && strchr(" \t", *line) != NULL)
	{
		line++;
		len--;
	}
	return len == 3 && memcmp(line, "---", 3) == 0;
}

/* The YAML between the fences; false where there are none. */
static bool
front_matter(const char *text, size_t len, const char **yaml, size_t *yaml_len, const char **body)
{
	const char *end = text + len;
	const char *line = len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;

	*yaml = NULL;
	while (line < end)
	{
		const char *feed = memchr(line, '\n', (size_t) (end - line));
		const char *next = feed != NULL ? feed + 1 : end;
		bool fence = is_fence(line, (size_t) ((feed != NULL ? feed : end) - line));

		if (*yaml == NULL && !fence)
			return false;
		if (*yaml == NULL)
			*yaml = next;
		else if (fence)
		{
			*yaml_len = (size_t) (line - *yaml);
			*body = next;
			return true;
		}
		line = next;
	}
	return false;
}

typedef struct Fields
{
	char *name;
	char *description;
	char **wanted; /* where the next scalar goes; NULL: nowhere */
	int depth;
	bool key; /* the next node of the outermost mapping is a key */
	bool bad;
} Fields;

static void
take_scalar(Fields *fields, const yaml_event_t *event)
{
	const char *value = (const char *) event->data.scalar.value;
	size_t len = event->data.scalar.length;

	if (fields->depth != 1)
		return;
	if (fields->key)
	{
		fields->wanted = len == 4 && memcmp(value, "name", 4) == 0 ? &fields->name
			: len == 11 && memcmp(value, "description", 11) == 0 ? &fields->description
																 : NULL;
		fields->bad |= fields->wanted != NULL && *fields->wanted != NULL;
	}
	else if (fields->wanted != NULL && !fields->bad)
		fields->bad |= (*fields->wanted = context_clean(value, len)) == NULL;
	fields->key = !fields->key;
}

/* One event of the parser; false at the end. */
static bool
take_event(Fields *fields, const yaml_event_t *event)
{
	switch (event->type)
	{
		case YAML_STREAM_END_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			return false;
		case YAML_MAPPING_START_EVENT:
		case YAML_SEQUENCE_START_EVENT:
			/* Name and description are texts, and keys are too. */
			fields->bad |= (fields->depth == 0 && event->type != YAML_MAPPING_START_EVENT) || fields->depth == MAX_DEPTH ||
				(fields->depth == 1 && (fields->key || fields->wanted != NULL));
			if (fields->depth++ == 0)
				fields->key = true;
			return !fields->bad;
		case YAML_MAPPING_END_EVENT:
		case YAML_SEQUENCE_END_EVENT:
			if (--fields->depth == 1)
				fields->key = true;
			return true;
		case YAML_ALIAS_EVENT:
			fields->bad = true;
			return false;
		case YAML_SCALAR_EVENT:
			take_scalar(fields, event);
			return !fields->bad && fields->depth > 0;
		default:
			return true;
	}
}

static void
parse_fields(Fields *fields, const char *yaml, size_t len)
{
	yaml_parser_t parser;
	yaml_event_t event;
	bool more = true;

	if (!yaml_parser_initialize(&parser))
		return;
	yaml_parser_set_input_string(&parser, (const unsigned char *) yaml, len);
	while (more)
	{
		if (!yaml_parser_parse(&parser, &event))
		{
			fields->bad = true;
			break;
		}
		more = take_event(fields, &event);
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
}

bool
context_skill(const char *text, size_t len, char **name, char **description, const char **body)
{
	Fields fields = {0};
	const char *yaml;
	size_t yaml_len;

	if (!front_matter(text, len, &yaml, &yaml_len, body))
		return false;
	parse_fields(&fields, yaml, yaml_len);
	if (fields.description == NULL && !fields.bad)
		fields.description = strdup("");
	if (fields.bad || fields.name == NULL || fields.description == NULL || !context_is_skill_name(fields.name))
	{
		free(fields.name);
		free(fields.description);
		return false;
	}
	*name = fields.name;
	*description = fields.description;
	return true;
}
