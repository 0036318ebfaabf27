/*
 * cron.c -- schedules: second minute hour day-of-month month [day-of-week].
 *
 * SPDX-License-Identifier: MIT
 */
#include "run/cron.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum
{
	SECOND,
	MINUTE,
	HOUR,
	DAY,
	MONTH,
	WEEKDAY
};

static const int lowest[CRON_FIELDS] = {0, 0, 0, 1, 1, 0};
static const int highest[CRON_FIELDS] = {59, 59, 23, 31, 12, 6};

/* A number or a name at *p, which moves on; -1 where there is none. */
static int
read_value(const char **p, int field)
{
	static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
	static const char days[] = "sunmontuewedthufrisat";
	const char *names = field == MONTH ? months : field == WEEKDAY ? days : "";
	int value = 0;

	if (isdigit((unsigned char) **p))
	{
		for (int n = 0; isdigit((unsigned char) **p); n++, (*p)++)
		{
			if (n == 3)
				return -1;
			value = value * 10 + (**p - '0');
		}
		return value;
	}
	for (size_t i = 0; names[i] != '\0'; i += 3)
		if (strncasecmp(*p, names + i, 3) == 0)
		{
			*p += 3;
			return (int) (i / 3) + lowest[field];
		}
	return -1;
}

/* One element of a list: *, n, n-m, each with /step. */
static bool
read_range(Cron *cron, const char **p, int field)
{
	int from = lowest[field];
	int to = highest[field];
	int step = 1;

	if (**p == '*' || **p == '?')
	{
		(*p)++;
		cron->any[field] = true;
	}
	else
	{
		from = to = read_value(p, field);
		if (**p == '-')
		{
			(*p)++;
			to = read_value(p, field);
		}
		else if (**p == '/')
			to = highest[field];
	}
	if (**p == '/')
	{
		(*p)++;
		step = isdigit((unsigned char) **p) ? read_value(p, field) : -1;
	}
	if (from < lowest[field] || to > highest[field] || from > to || step < 1)
		return false;
	for (int i = from; i <= to; i += step)
		cron->bits[field] |= UINT64_C(1) << i;
	return true;
}

bool
cron_parse(Cron *cron, const char *text)
{
	int field = 0;

	memset(cron, 0, sizeof(*cron));
	text += strspn(text, " \t");
	while (*text != '\0')
	{
		if (field == CRON_FIELDS)
			return false;
		do
		{
			if (*text == ',')
				text++;
			if (!read_range(cron, &text, field))
				return false;
		} while (*text == ',');
		if (*text != '\0' && *text != ' ' && *text != '\t')
			return false;
		text += strspn(text, " \t");
		field++;
	}
	if (field == WEEKDAY)
	{
		cron->bits[WEEKDAY] = 0x7f;
		cron->any[WEEKDAY] = true;
		field++;
	}
	return field == CRON_FIELDS;
}

static bool
has(const Cron *cron, int field, int value)
{
	return (cron->bits[field] >> value & 1) != 0;
}

bool
cron_matches(const Cron *cron, const struct tm *tm)
{
	bool day = has(cron, DAY, tm->tm_mday);
	bool weekday = has(cron, WEEKDAY, tm->tm_wday);

	if (tm->tm_sec > highest[SECOND] || !has(cron, SECOND, tm->tm_sec) || !has(cron, MINUTE, tm->tm_min) ||
		!has(cron, HOUR, tm->tm_hour) || !has(cron, MONTH, tm->tm_mon + 1))
		return false;
	/* When both days are named, either will do. */
	return cron->any[DAY] || cron->any[WEEKDAY] ? day && weekday : day || weekday;
}
