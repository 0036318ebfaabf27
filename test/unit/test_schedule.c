/*
 * test_schedule.c -- times of the day, spans and days as people type them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/schedule.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* What else of the command line is needed; only texts are made here. */
static char *made[20];
static int n_made;

char *
cli_format(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	assert_true(vasprintf(&text, format, args) >= 0);
	va_end(args);
	assert_true(n_made < 20);
	return made[n_made++] = text;
}

void
cli_fail(const char *format, ...)
{
	(void) format;
	abort();
}

#define UNUSED(type, name, ...)   \
	type name(__VA_ARGS__)        \
	{                             \
		abort();                  \
	}
UNUSED(const char *, cli_flag, const Cli *cli __attribute__((unused)), const char *name __attribute__((unused)))
UNUSED(const char *, cli_arg, const Cli *cli __attribute__((unused)), int n __attribute__((unused)))
UNUSED(bool, cli_switch, const Cli *cli __attribute__((unused)), const char *name __attribute__((unused)))
UNUSED(void, cli_need_login, Cli *cli __attribute__((unused)))
UNUSED(const char *, cli_workspace_name, const json_t *w __attribute__((unused)))
UNUSED(json_t *, cli_workspace, Cli *cli __attribute__((unused)), const char *name __attribute__((unused)))
UNUSED(json_t *, cli_get, Cli *cli __attribute__((unused)), const char *path __attribute__((unused)))
UNUSED(json_t *, cli_send, Cli *cli __attribute__((unused)), const char *method __attribute__((unused)), const char *path __attribute__((unused)),
	   const json_t *body __attribute__((unused)))

static void
test_clock(void **state)
{
	static const struct
	{
		const char *text;
		int minutes;
	} cases[] = {{"9:30AM", 570},  {"9am", 540},   {"12am", 0},	 {"12:01pm", 721}, {"11:59PM", 1439}, {"00:00", 0}, {"15:04", 904}, {"7:05", 425},
				 {"24:00", -1},	   {"13pm", -1},   {"0am", -1},	 {"9", -1},		   {"", -1},		  {"9:5", -1},	{"9:60", -1},	{"9:305", -1},
				 {"-9:00", -1},	   {" 9:00", -1}, {"9:30xm", -1}, {"9:+5", -1},	   {"manual", -1},	  {"123:00", -1}, {"9:30 am", -1}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse_clock(cases[i].text), cases[i].minutes);
}

static void
test_span(void **state)
{
	static const struct
	{
		const char *text;
		json_int_t ms;
	} cases[] = {{"8h", 28800000}, {"1h30m", 5400000}, {"90m", 5400000}, {"45s", 45000}, {"2d", 172800000}, {"30", 1800000},   {"0h", 0}, {"", -1},
				 {"h", -1},		   {"8x", -1},		   {"-8h", -1},		 {"1h30", -1},	 {"8 h", -1},		{"9999999h", -1}, {"1.5h", 5400000}, {"manual", -1}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(parse_span(cases[i].text), cases[i].ms);
	assert_string_equal(span_text(5400000), "1h30m");
	assert_string_equal(span_text(28800000), "8h");
	assert_string_equal(span_text(1800000), "30m");
}

static void
test_days(void **state)
{
	static const char *const good[] = {"*", "Mon-Fri", "Sat,Sun", "1-5", "mon", "0", "MON,3,fri-sat"};
	static const char *const bad[] = {"", "Europe/Dublin", "Mon-", ",Mon", "Monday", "7", "Mon Fri", "UTC", "Mon,Tue,Wed,Thu,Fri,Sat,Sun,Mon,Tue"};

	(void) state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(is_days(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(is_days(bad[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_clock), cmocka_unit_test(test_span), cmocka_unit_test(test_days)};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	while (n_made > 0)
		free(made[--n_made]);
	return failed;
}
