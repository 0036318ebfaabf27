/*
 * output.c -- lists as a table, or as JSON.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	const char *text = column->cell(row);

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

void
cli_print_list(Cli *cli, const json_t *rows, const CliColumn *columns)
{
	const char *format = cli_flag(cli, "output");

	if (format == NULL || strcmp(format, "table") == 0)
		print_table(rows, columns);
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
