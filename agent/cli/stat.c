/*
 * stat.c -- coder stat: how much of its processors, memory and disk a workspace uses.
 *
 * A container's figures come from its control group: version 2 has all in one
 * folder, version 1 has one for each controller.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SAMPLE_MS 300
#define MAX_FILE 65536
#define NO_LIMIT 4611686018427387904.0 /* a limit of version 1 above this is none */

/* An amount of something; total < 0: without a limit. */
typedef struct Stat
{
	double used;
	double total;
	const char *unit;
} Stat;

/* Parsers: text of a file of the kernel, no I/O. */

/* The number behind a word at the beginning of a line; -1: none. */
static double
field(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = text; line != NULL; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, name, len) == 0 && (line[len] == ' ' || line[len] == '\t'))
			return strtod(line + len, NULL);
	return -1;
}

/* The first number of a text; -1: none, or "max". */
static double
number(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	return end == text || !isfinite(value) || value < 0 ? -1 : value;
}

/* "cpu  user nice system idle iowait irq softirq steal …" of /proc/stat: ticks that were busy, and all. */
static bool
parse_proc_stat(const char *text, double *busy, double *all)
{
	const char *p = text + 4;
	double ticks[8];

	if (strncmp(text, "cpu ", 4) != 0)
		return false;
	*all = 0;
	for (int i = 0; i < 8; i++)
	{
		char *end;

		ticks[i] = strtod(p, &end);
		if (end == p || ticks[i] < 0)
			return false;
		*all += ticks[i];
		p = end;
	}
	*busy = *all - ticks[3] - ticks[4];
	return true;
}

/* "quota period" of cpu.max: cores; -1: no limit. */
static double
parse_cpu_max(const char *text)
{
	char *end;
	double quota = strtod(text, &end);
	double period;

	if (end == text)
		return -1;
	period = strtod(end, NULL);
	return quota > 0 && period > 0 ? quota / period : -1;
}

/* Three figures, or all of them before the point: "7.37", "27.5", "7549". */
static char *
figure(double value)
{
	int digits = value >= 100 || value == 0 ? 0 : value >= 10 ? 1 : 2;
	char *text = cli_format("%.*f", digits, value);
	char *dot = strchr(text, '.');

	if (dot != NULL)
	{
		char *end = text + strlen(text);

		while (end[-1] == '0')
			*--end = '\0';
		if (end[-1] == '.')
			end[-1] = '\0';
	}
	return text;
}

/* "7.37/23.5 GiB (31%)"; without a limit "7.37 GiB". */
static char *
stat_text(const Stat *stat, const char *prefix, double factor)
{
	double total = stat->total / factor;

	if (stat->total <= 0)
		return cli_format("%s %s%s", figure(stat->used / factor), prefix, stat->unit);
	return cli_format("%s/%s %s%s (%.0f%%)", figure(stat->used / factor), figure(total), prefix, stat->unit, 100 * stat->used / stat->total);
}

static json_t *
number_json(double value)
{
	return value == floor(value) ? json_integer((json_int_t) value) : json_real(value);
}

static json_t *
stat_json(const Stat *stat)
{
	return json_pack("{s:o, s:s, s:o}", "total", stat->total <= 0 ? json_null() : number_json(stat->total), "unit", stat->unit, "used", number_json(stat->used));
}

/* The kernel's files. */

/* A small file's text; false where there is none. */
static bool
slurp(const char *path, char text[static MAX_FILE])
{
	FILE *file = fopen(path, "re");
	size_t n;

	if (file == NULL)
		return false;
	n = fread(text, 1, MAX_FILE - 1, file);
	fclose(file);
	text[n] = '\0';
	return n > 0;
}

static double
file_number(const char *path)
{
	char text[MAX_FILE];

	return slurp(path, text) ? number(text) : -1;
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
pause_sample(void)
{
	nanosleep(&(struct timespec){.tv_nsec = SAMPLE_MS * 1000000L}, NULL);
}

/* Is this a group of its own, by version 2?  The machine's root has no limits to be read. */
static bool
has_group_v2(void)
{
	return access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0 && access("/sys/fs/cgroup/memory.max", R_OK) == 0;
}

/* What makes containers leaves one of these. */
static bool
has_marks(void)
{
	char text[MAX_FILE];

	if (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 || getenv("KUBERNETES_SERVICE_HOST") != NULL || getenv("container") != NULL)
		return true;
	return slurp("/proc/1/cgroup", text) && (strstr(text, "/docker") != NULL || strstr(text, "/kubepods") != NULL || strstr(text, "/lxc") != NULL);
}

static bool
is_container(void)
{
	char text[MAX_FILE];

	if (has_marks())
		return true;
	return has_group_v2() && (file_number("/sys/fs/cgroup/memory.max") > 0 || (slurp("/sys/fs/cgroup/cpu.max", text) && parse_cpu_max(text) > 0));
}

static bool
host_cpu(Stat *stat)
{
	char text[MAX_FILE];
	double busy, all, busy_then, all_then;
	double cores = (double) sysconf(_SC_NPROCESSORS_ONLN);

	if (!slurp("/proc/stat", text) || !parse_proc_stat(text, &busy_then, &all_then))
		return false;
	pause_sample();
	if (!slurp("/proc/stat", text) || !parse_proc_stat(text, &busy, &all))
		return false;
	*stat = (Stat){all > all_then ? round(100 * cores * (busy - busy_then) / (all - all_then)) / 100 : 0, cores, "cores"};
	return true;
}

/* Seconds of processors that the container has used; -1: not known. */
static double
container_cpu_seconds(void)
{
	char text[MAX_FILE];
	double ns;

	if (has_group_v2())
		return slurp("/sys/fs/cgroup/cpu.stat", text) && field(text, "usage_usec") >= 0 ? field(text, "usage_usec") / 1e6 : -1;
	ns = file_number("/sys/fs/cgroup/cpuacct/cpuacct.usage");
	if (ns < 0)
		ns = file_number("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage");
	return ns < 0 ? -1 : ns / 1e9;
}

static double
container_cores(void)
{
	char text[MAX_FILE];
	double quota, period;

	if (has_group_v2())
		return slurp("/sys/fs/cgroup/cpu.max", text) ? parse_cpu_max(text) : -1;
	quota = file_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
	period = file_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
	return quota > 0 && period > 0 ? quota / period : -1;
}

static bool
container_cpu(Stat *stat)
{
	double before = container_cpu_seconds(), at = seconds_now();

	if (before < 0)
		return false;
	pause_sample();
	*stat = (Stat){round(100 * (container_cpu_seconds() - before) / (seconds_now() - at)) / 100, container_cores(), "cores"};
	if (stat->used < 0)
		stat->used = 0;
	return true;
}

static bool
host_memory(Stat *stat)
{
	char text[MAX_FILE];
	double total, available;

	if (!slurp("/proc/meminfo", text))
		return false;
	total = field(text, "MemTotal:");
	available = field(text, "MemAvailable:");
	*stat = (Stat){(total - available) * 1024, total * 1024, "B"};
	return total > 0 && available >= 0;
}

/* What could be given back at once (files that were read) is not in use. */
static bool
container_memory(Stat *stat)
{
	const bool v2 = has_group_v2();
	char text[MAX_FILE];
	double used = file_number(v2 ? "/sys/fs/cgroup/memory.current" : "/sys/fs/cgroup/memory/memory.usage_in_bytes");
	double limit = file_number(v2 ? "/sys/fs/cgroup/memory.max" : "/sys/fs/cgroup/memory/memory.limit_in_bytes");
	double cache = -1;

	if (used < 0)
		return false;
	if (slurp(v2 ? "/sys/fs/cgroup/memory.stat" : "/sys/fs/cgroup/memory/memory.stat", text))
		cache = field(text, v2 ? "inactive_file" : "total_inactive_file");
	*stat = (Stat){cache > 0 && cache < used ? used - cache : used, limit >= NO_LIMIT ? -1 : limit, "B"};
	return true;
}

static bool
disk(Stat *stat, const char *path)
{
	struct statvfs fs;

	if (statvfs(path, &fs) != 0)
		return false;
	*stat = (Stat){(double) (fs.f_blocks - fs.f_bfree) * (double) fs.f_frsize, (double) fs.f_blocks * (double) fs.f_frsize, "B"};
	return true;
}

/* Commands. */

static double
factor_of(const char *prefix)
{
	static const char *const names[] = {"Ki", "Mi", "Gi", "Ti"};
	double factor = 1;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		factor *= 1024;
		if (strcmp(prefix, names[i]) == 0)
			return factor;
	}
	cli_fail("unknown prefix \"%s\": Ki, Mi, Gi or Ti", prefix);
}

static bool
wants_json(Cli *cli, const char *other)
{
	const char *format = cli_flag(cli, "output");

	if (format != NULL && strcmp(format, "json") != 0 && strcmp(format, other) != 0)
		cli_fail("unknown output format \"%s\": %s or json", format, other);
	return format != NULL && strcmp(format, "json") == 0;
}

static int
print_stat(Cli *cli, bool known, const Stat *stat)
{
	const char *prefix = stat->unit != NULL && stat->unit[0] == 'B' ? cli_flag(cli, "prefix") : "";

	if (!known)
		cli_fail("this system does not tell");
	if (prefix == NULL)
		prefix = "Gi";
	if (wants_json(cli, "text"))
		json_dumpf(stat_json(stat), stdout, JSON_INDENT(2));
	else
		fputs(stat_text(stat, prefix, prefix[0] == '\0' ? 1 : factor_of(prefix)), stdout);
	putchar('\n');
	return 0;
}

static int
run_cpu(Cli *cli)
{
	Stat stat = {0};
	bool inside = !cli_switch(cli, "host") && is_container();

	return print_stat(cli, inside ? container_cpu(&stat) : host_cpu(&stat), &stat);
}

static int
run_mem(Cli *cli)
{
	Stat stat = {0};
	bool inside = !cli_switch(cli, "host") && is_container();

	return print_stat(cli, inside ? container_memory(&stat) : host_memory(&stat), &stat);
}

static int
run_disk(Cli *cli)
{
	Stat stat = {0};
	const char *path = cli_flag(cli, "path") != NULL ? cli_flag(cli, "path") : "/";

	if (!disk(&stat, path))
		cli_fail("%s cannot be measured", path);
	return print_stat(cli, true, &stat);
}

static int
run_stat(Cli *cli)
{
	const char *home = getenv("HOME") != NULL ? getenv("HOME") : "/";
	const bool inside = is_container(), json = wants_json(cli, "table");
	json_t *row = json_object();
	static const char *const keys[] = {"host_cpu", "host_memory", "home_disk", "container_cpu", "container_memory"};
	static const char *const titles[] = {"HOST CPU", "HOST MEMORY", "HOME DISK", "CONTAINER CPU", "CONTAINER MEMORY"};
	Stat stats[5] = {0};
	const bool known[5] = {host_cpu(&stats[0]), host_memory(&stats[1]), disk(&stats[2], home), inside && container_cpu(&stats[3]), inside && container_memory(&stats[4])};
	const char *texts[5];

	for (int i = 0; i < 5; i++)
	{
		bool bytes = known[i] && stats[i].unit[0] == 'B';

		texts[i] = known[i] ? stat_text(&stats[i], bytes ? "Gi" : "", bytes ? factor_of("Gi") : 1) : "-";
		json_object_set_new(row, keys[i], known[i] ? stat_json(&stats[i]) : json_null());
	}
	if (json)
	{
		json_dumpf(json_pack("[o]", row), stdout, JSON_INDENT(2));
		putchar('\n');
		return 0;
	}
	for (int line = 0; line < 2; line++)
		for (int i = 0; i < 5; i++)
		{
			int width = (int) (strlen(texts[i]) > strlen(titles[i]) ? strlen(texts[i]) : strlen(titles[i]));

			printf("%-*s%s", i < 4 ? width : 0, line == 0 ? titles[i] : texts[i], i < 4 ? "  " : "\n");
		}
	return 0;
}

#define FORMAT_FLAG {"output", 'o', "text|json", NULL, "Format."}
#define PREFIX_FLAG {"prefix", 0, "Ki|Mi|Gi|Ti", NULL, "Unit of the text (Gi)."}
#define HOST_FLAG {"host", 0, NULL, NULL, "Of the machine, also in a container."}
#define END_FLAG {NULL, 0, NULL, NULL, NULL}

static const CliFlag stat_flags[] = {CLI_OUTPUT_FLAG, END_FLAG};
static const CliFlag cpu_flags[] = {HOST_FLAG, FORMAT_FLAG, END_FLAG};
static const CliFlag mem_flags[] = {HOST_FLAG, FORMAT_FLAG, PREFIX_FLAG, END_FLAG};
static const CliFlag disk_flags[] = {{"path", 0, "path", NULL, "Whose file system (/)."}, FORMAT_FLAG, PREFIX_FLAG, END_FLAG};

const CliCommand cli_stat_commands[] = {
	{"stat", "", "Show what this workspace uses of its processors, memory and disk", stat_flags, 0, 0, run_stat, NULL},
	{"stat cpu", "", "Show the use of processors, in cores", cpu_flags, 0, 0, run_cpu, NULL},
	{"stat mem", "", "Show the use of memory", mem_flags, 0, 0, run_mem, NULL},
	{"stat disk", "", "Show the use of a disk", disk_flags, 0, 0, run_disk, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
