/*
 * test_stat.c -- what coder stat reads of the kernel's files, and how it says it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/stat.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The command line's own; here only text is made, which lives until the end as there. */
static char *made[100];
static int n_made;

char *
cli_format(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	assert_true(vasprintf(&text, format, args) >= 0);
	va_end(args);
	assert_true(n_made < 100);
	return made[n_made++] = text;
}

void
cli_fail(const char *format, ...)
{
	(void) format;
	abort();
}

const char *
cli_flag(const Cli *cli, const char *name)
{
	(void) cli;
	(void) name;
	return NULL;
}

bool
cli_switch(const Cli *cli, const char *name)
{
	(void) cli;
	(void) name;
	return false;
}

static void
test_fields(void **state)
{
	static const char meminfo[] = "MemTotal:       24684096 kB\nMemFree:          123 kB\nMemAvailable:   16777216 kB\nMemAvailableX: 1 kB\n";

	(void) state;
	assert_true(field(meminfo, "MemTotal:") == 24684096);
	assert_true(field(meminfo, "MemAvailable:") == 16777216);
	assert_true(field(meminfo, "Mem") == -1);
	assert_true(field("", "x") == -1);
	assert_true(field("usage_usec 12\nuser_usec 3", "user_usec") == 3);
	assert_true(number("max\n") == -1);
	assert_true(number("") == -1);
	assert_true(number("-1\n") == -1);
	assert_true(number("9223372036854771712\n") > NO_LIMIT);
	assert_true(number("1e999") == -1);
}

static void
test_proc_stat(void **state)
{
	double busy, all;

	(void) state;
	assert_true(parse_proc_stat("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 1 1 1 1\n", &busy, &all));
	assert_true(busy == 16 && all == 100);
	assert_false(parse_proc_stat("cpu  10 1 5\n", &busy, &all));
	assert_false(parse_proc_stat("cpu  10 -1 5 80 4 0 0 0\n", &busy, &all));
	assert_false(parse_proc_stat("cpu0 1 1 1 1 1 1 1 1\n", &busy, &all));
	assert_false(parse_proc_stat("", &busy, &all));
}

static void
test_cpu_max(void **state)
{
	(void) state;
	assert_true(parse_cpu_max("150000 100000\n") == 1.5);
	assert_true(parse_cpu_max("max 100000\n") == -1);
	assert_true(parse_cpu_max("100000\n") == -1);
	assert_true(parse_cpu_max("100000 0\n") == -1);
	assert_true(parse_cpu_max("") == -1);
}

static void
expect_text(double used, double total, const char *unit, const char *prefix, double factor, const char *want)
{
	char *text = stat_text(&(Stat){used, total, unit}, prefix, factor);

	assert_string_equal(text, want);
}

static void
test_texts(void **state)
{
	(void) state;
	expect_text(2, 2, "cores", "", 1, "2/2 cores (100%)");
	expect_text(0.25, 4, "cores", "", 1, "0.25/4 cores (6%)");
	expect_text(1.98, -1, "cores", "", 1, "1.98 cores");
	expect_text(7915433984, 25276514304, "B", "Gi", 1073741824, "7.37/23.5 GiB (31%)");
	expect_text(7915433984, 25276514304, "B", "Mi", 1048576, "7549/24106 MiB (31%)");
	expect_text(0, 0, "B", "Gi", 1073741824, "0 GiB");
	expect_text(29566881792, 270553174016, "B", "Gi", 1073741824, "27.5/252 GiB (11%)");
}

static void
test_json(void **state)
{
	json_t *json = stat_json(&(Stat){1.5, -1, "cores"});
	char *text = json_dumps(json, JSON_COMPACT);

	(void) state;
	assert_string_equal(text, "{\"total\":null,\"unit\":\"cores\",\"used\":1.5}");
	free(text);
	json_decref(json);
	json = stat_json(&(Stat){5, 10, "B"});
	text = json_dumps(json, JSON_COMPACT);
	assert_string_equal(text, "{\"total\":10,\"unit\":\"B\",\"used\":5}");
	free(text);
	json_decref(json);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields), cmocka_unit_test(test_proc_stat), cmocka_unit_test(test_cpu_max),
		cmocka_unit_test(test_texts),  cmocka_unit_test(test_json),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	while (n_made > 0)
		free(made[--n_made]);
	return failed;
}
