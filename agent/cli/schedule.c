/*
 * schedule.c -- coder schedule: when workspaces start and stop by themselves.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define MAX_DAYS 32 /* length of "Mon,Tue,…" */

/* Words. */

/* "9:30AM", "9am", "15:04": minutes since midnight; -1: none of them. */
static int
parse_clock(const char *text)
{
	char *end;
	long hour = strtol(text, &end, 10), minute = 0;

	if (end == text || !isdigit((unsigned char) text[0]) || end - text > 2)
		return -1;
	if (*end == ':')
	{
		const char *at = end + 1;

		minute = strtol(at, &end, 10);
		if (end - at != 2 || !isdigit((unsigned char) at[0]))
			return -1;
	}
	else if (*end == '\0')
		return -1; /* a number alone may be anything */
	if (strcasecmp(end, "am") == 0 || strcasecmp(end, "pm") == 0)
	{
		if (hour < 1 || hour > 12)
			return -1;
		hour = hour % 12 + (tolower((unsigned char) *end) == 'p' ? 12 : 0);
	}
	else if (*end != '\0')
		return -1;
	return hour > 23 || minute > 59 ? -1 : (int) (hour * 60 + minute);
}

/* A span as cli_span() knows it, and "30" for minutes. */
static json_int_t
parse_span(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return text[digits] == '\0' && digits > 0 && digits <= 6 ? (json_int_t) strtol(text, NULL, 10) * 60000 : cli_span(text);
}

/* Only letters of days and what joins them: "Mon-Fri", "Sat,Sun", "1-5", "*". */
static bool
is_days(const char *text)
{
	static const char *const names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
	const char *p = text;

	if (strcmp(text, "*") == 0)
		return true;
	if (strlen(text) > MAX_DAYS)
		return false;
	for (;;)
	{
		bool known = *p >= '0' && *p <= '6';

		if (known)
			p++;
		for (size_t i = 0; i < 7 && !known; i++)
			if (strncasecmp(p, names[i], 3) == 0)
			{
				known = true;
				p += 3;
			}
		if (!known)
			return false;
		if (*p == '\0')
			return true;
		if (*p != '-' && *p != ',')
			return false;
		p++;
	}
}

/* "1h 30m" of milliseconds. */
static char *
span_text(json_int_t ms)
{
	long long minutes = ms / 60000;

	if (minutes < 60)
		return cli_format("%lldm", minutes);
	return minutes % 60 == 0 ? cli_format("%lldh", minutes / 60) : cli_format("%lldh%lldm", minutes / 60, minutes % 60);
}

/* The zone of this machine: TZ, or where /etc/localtime points to. */
static char *
local_zone(void)
{
	static const char base[] = "zoneinfo/";
	const char *env = getenv("TZ");
	char target[256];
	ssize_t n = readlink("/etc/localtime", target, sizeof(target) - 1);
	char *name;

	if (env != NULL && env[0] != '\0' && env[0] != ':')
		return cli_format("%s", env);
	if (n <= 0)
		return cli_format("UTC");
	target[n] = '\0';
	name = strstr(target, base);
	name = name != NULL ? name + strlen(base) : target;
	return cli_format("%s", strcmp(name, "Etc/UTC") == 0 ? "UTC" : name);
}

/* Commands. */

static const char *
cell_starts(const json_t *w)
{
	return js_text(w, "autostart_schedule")[0] ? js_text(w, "autostart_schedule") : "by hand";
}

static const char *
cell_starts_next(const json_t *w)
{
	return js_text(w, "next_start_at")[0] ? cli_ago(js_text(w, "next_start_at")) : "";
}

static const char *
cell_stops(const json_t *w)
{
	return js_int(w, "ttl_ms") > 0 ? span_text(js_int(w, "ttl_ms")) : "by hand";
}

static const char *
cell_stops_next(const json_t *w)
{
	const char *deadline = js_text(w, "latest_build.deadline");

	return strcmp(js_text(w, "latest_build.status"), "running") == 0 && deadline[0] && strncmp(deadline, "0001", 4) != 0 ? cli_ago(deadline) : "";
}

static const CliColumn schedule_columns[] = {
	{"WORKSPACE", .cell = cli_workspace_name},
	{"STARTS AT", .cell = cell_starts},
	{"STARTS NEXT", .cell = cell_starts_next},
	{"STOPS AFTER", .cell = cell_stops},
	{"STOPS NEXT", .cell = cell_stops_next},
	{.title = NULL},
};

static void
show(Cli *cli, const char *name)
{
	cli_print_list(cli, json_pack("[O]", cli_workspace(cli, name)), schedule_columns);
}

static int
run_show(Cli *cli)
{
	cli_need_login(cli);
	if (cli_arg(cli, 0) != NULL)
		show(cli, cli_arg(cli, 0));
	else
		cli_print_list(cli, js_at(cli_get(cli, cli_format("/api/v2/workspaces?q=%s", cli_switch(cli, "all") ? "" : "owner:me")), "workspaces"), schedule_columns);
	return 0;
}

static int
run_start(Cli *cli)
{
	const char *days = "*", *zone = NULL;
	int minutes = parse_clock(cli_arg(cli, 1));
	char *schedule = NULL;
	json_t *workspace;

	cli_need_login(cli);
	if (strcmp(cli_arg(cli, 1), "manual") != 0)
	{
		if (minutes < 0)
			cli_fail("\"%s\" is no time of a day: write 9:30AM or 15:04, or \"manual\"", cli_arg(cli, 1));
		for (int i = 2; i < cli->nargs; i++)
			if (is_days(cli_arg(cli, i)))
				days = cli_arg(cli, i);
			else
				zone = cli_arg(cli, i);
		schedule = cli_format("CRON_TZ=%s %d %d * * %s", zone != NULL ? zone : local_zone(), minutes % 60, minutes / 60, days);
	}
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	cli_send(cli, "PUT", cli_format("/api/v2/workspaces/%s/autostart", js_text(workspace, "id")), json_pack("{s:s?}", "schedule", schedule));
	show(cli, js_text(workspace, "id"));
	return 0;
}

static int
run_stop(Cli *cli)
{
	json_int_t ms = parse_span(cli_arg(cli, 1));
	bool manual = strcmp(cli_arg(cli, 1), "manual") == 0;
	json_t *workspace;

	cli_need_login(cli);
	if (ms < 0 && !manual)
		cli_fail("\"%s\" is no span of time: write 8h or 1h30m, or \"manual\"", cli_arg(cli, 1));
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	cli_send(cli, "PUT", cli_format("/api/v2/workspaces/%s/ttl", js_text(workspace, "id")), json_pack("{s:o}", "ttl_ms", manual ? json_null() : json_integer(ms)));
	show(cli, js_text(workspace, "id"));
	return 0;
}

static int
run_extend(Cli *cli)
{
	json_int_t ms = parse_span(cli_arg(cli, 1));
	time_t until = time(NULL) + (time_t) (ms / 1000);
	json_t *workspace;
	char text[32];
	struct tm tm;

	cli_need_login(cli);
	if (ms <= 0)
		cli_fail("\"%s\" is no span of time: write 2h or 90m", cli_arg(cli, 1));
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&until, &tm));
	cli_send(cli, "PUT", cli_format("/api/v2/workspaces/%s/extend", js_text(workspace, "id")), json_pack("{s:s}", "deadline", text));
	show(cli, js_text(workspace, "id"));
	return 0;
}

#define END_FLAG {NULL, 0, NULL, NULL, NULL}
static const CliFlag list_flags[] = {{"all", 'a', NULL, NULL, "Those of others too."}, CLI_OUTPUT_FLAG, END_FLAG};
static const CliFlag flags[] = {CLI_OUTPUT_FLAG, END_FLAG};
static const char *const start_examples[] = {"coder schedule start dev 9:30AM Mon-Fri Europe/Dublin", "coder schedule start dev manual", NULL};

const CliCommand cli_schedule_commands[] = {
	{"schedule show", "[workspace]", "Show when workspaces start and stop", list_flags, 0, 1, run_show, NULL},
	{"schedule start", "<workspace> <time [days] [zone]|manual>", "Start a workspace at a time of the day", flags, 2, 4, run_start, start_examples},
	{"schedule stop", "<workspace> <span|manual>", "Stop a workspace so long after its start", flags, 2, 2, run_stop, NULL},
	{"schedule extend", "<workspace> <span>", "Let a running workspace run so much longer from now", flags, 2, 2, run_extend, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
