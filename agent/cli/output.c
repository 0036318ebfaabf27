/*
 * output.c -- lists as a table, or as JSON.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MAX_COLUMNS 16

/* Width on the screen: the bytes that do not continue a UTF-8 character. */
static int
width_of(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += ((unsigned char) *text & 0xc0) != 0x80;
	return n;
}

static void
print_cell(const char *text, int width, bool last)
{
	fputs(text, stdout);
	if (!last)
		printf("%*s", width - width_of(text) + 2, "");
}

static const char *
cell_of(const CliColumn *column, const json_t *row)
{
	const char *text = column->cell != NULL	  ? column->cell(row)
					   : column->time != NULL ? cli_ago(js_text(row, column->time))
											  : js_text(row, column->text);

	return text != NULL ? text : "";
}

static void
print_table(const json_t *rows, const CliColumn *columns)
{
	int width[MAX_COLUMNS];
	int ncolumns = 0;
	size_t i;
	json_t *row;

	for (; columns[ncolumns].title != NULL && ncolumns < MAX_COLUMNS; ncolumns++)
		width[ncolumns] = width_of(columns[ncolumns].title);
	json_array_foreach(rows, i, row)
	{
		for (int c = 0; c < ncolumns; c++)
		{
			int w = width_of(cell_of(&columns[c], row));

			if (w > width[c])
				width[c] = w;
		}
	}
	for (int c = 0; c < ncolumns; c++)
		print_cell(columns[c].title, width[c], c == ncolumns - 1);
	putchar('\n');
	json_array_foreach(rows, i, row)
	{
		for (int c = 0; c < ncolumns; c++)
			print_cell(cell_of(&columns[c], row), width[c], c == ncolumns - 1);
		putchar('\n');
	}
}

/* The columns that a list of names picks; the names are the titles, in any case. */
static const CliColumn *
picked(const char *names, const CliColumn *columns)
{
	static CliColumn chosen[MAX_COLUMNS + 1];
	int n = 0;

	for (const char *p = names; *p != '\0' && n < MAX_COLUMNS; p += strcspn(p, ","), p += *p == ',')
	{
		size_t len = strcspn(p, ",");
		const CliColumn *c = columns;

		while (c->title != NULL && (strlen(c->title) != len || strncasecmp(c->title, p, len) != 0))
			c++;
		if (c->title == NULL)
			cli_fail("there is no column \"%.*s\"", (int) len, p);
		chosen[n++] = *c;
	}
	chosen[n].title = NULL;
	return n > 0 ? chosen : columns;
}

void
cli_print_list(Cli *cli, const json_t *rows, const CliColumn *columns)
{
	const char *format = cli_flag(cli, "output");
	const char *names = cli_flag(cli, "column");

	if (format == NULL || strcmp(format, "table") == 0)
		print_table(rows, names != NULL ? picked(names, columns) : columns);
	else if (strcmp(format, "json") == 0)
	{
		json_dumpf(json_is_null(rows) ? json_array() : rows, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	else
		cli_fail("unknown output format \"%s\": table or json", format);
}

/* "5 minutes ago" of a time on the wire; "never" of one that was never set. */
const char *
cli_ago(const char *rfc3339)
{
	static char text[32];
	static const struct
	{
		long seconds;
		const char *unit;
	} units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
	struct tm tm = {0};
	const char *tail = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm);
	long age;
	bool past;

	if (tail == NULL || tm.tm_year <= 70)
		return "never";
	age = (long) (time(NULL) - timegm(&tm));
	past = age >= 0;
	if (!past)
		age = -age;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (age >= units[i].seconds)
		{
			long n = age / units[i].seconds;

			snprintf(text,
					 sizeof(text),
					 past ? "%ld %s%s ago" : "in %ld %s%s",
					 n,
					 units[i].unit,
					 n == 1 ? "" : "s");
			return text;
		}
	return "now";
}

json_int_t
cli_span(const char *text)
{
	double total = 0;

	if (*text == '\0')
		return -1;
	for (const char *p = text; *p != '\0';)
	{
		static const char units[] = "smhd";
		static const double milliseconds[] = {1000, 60000, 3600000, 86400000};
		char *end;
		double n = strtod(p, &end);
		const char *unit = *end != '\0' ? strchr(units, *end) : NULL;

		/* strtod() would take signs, spaces, "inf" and hexadecimals too. */
		if (end == p || strspn(p, "0123456789.") != (size_t) (end - p) || unit == NULL || n > 1e6)
			return -1;
		total += n * milliseconds[unit - units];
		p = end + 1;
	}
	return (json_int_t) total;
}
