/*
 * test_cli.c -- what the command line reads: spans of time, ports, columns.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/output.c"
#include "cli/sshforward.c"

static jmp_buf failed;
static const char *column_flag;

void
cli_fail(const char *format, ...)
{
	(void) format;
	longjmp(failed, 1);
}

void
cli_note(const char *format, ...)
{
	(void) format;
}

char *
cli_format(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	assert_true(vasprintf(&text, format, args) >= 0);
	va_end(args);
	return text;
}

const char *
cli_flag(const Cli *cli, const char *name)
{
	(void) cli;
	return strcmp(name, "column") == 0 ? column_flag : NULL;
}

int
cli_ssh_on_data(ssh_session session, ssh_channel channel, void *data, uint32_t size, int is_stderr, void *fresh)
{
	(void) session;
	(void) channel;
	(void) data;
	(void) size;
	(void) is_stderr;
	(void) fresh;
	return 0;
}

static void
spans(void **state)
{
	static const char *const bad[] = {"", "h", "1", "1h30", "-1h", "+1h", " 1h", "1 h", "0x1h", "infh", "nanh", "1h ", "1e3h", "1w", ".h", "1..5h", "9999999h", "1hh"};

	(void) state;
	assert_int_equal(cli_span("45s"), 45000);
	assert_int_equal(cli_span("90m"), 5400000);
	assert_int_equal(cli_span("1h30m"), 5400000);
	assert_int_equal(cli_span("1.5h"), 5400000);
	assert_int_equal(cli_span("30d"), 2592000000LL);
	assert_int_equal(cli_span("0s"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cli_span(bad[i]) != -1)
			fail_msg("\"%s\" is taken", bad[i]);
}

static void
remote_ports(void **state)
{
	static const char *const bad[] = {"", "80", "80:81", "80:host", ":h:80", "80::80", "80:h:", "0:h:80", "65536:h:80", "80:h:65536", "8x:h:80", "80:h:8x", "-1:h:80", "123456:h:80"};
	CliRemotePort port;

	(void) state;
	assert_true(cli_remote_port_parse("8080:localhost:80", &port));
	assert_int_equal(port.port, 8080);
	assert_string_equal(port.host, "localhost");
	assert_int_equal(port.host_port, 80);
	free(port.host);
	assert_true(cli_remote_port_parse("1:[::1]:65535", &port));
	assert_string_equal(port.host, "::1");
	free(port.host);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cli_remote_port_parse(bad[i], &port))
			fail_msg("\"%s\" is taken", bad[i]);
}

static void
columns(void **state)
{
	static const CliColumn all[] = {{"NAME", .text = "name"}, {"LAST USED", .time = "used"}, {.title = NULL}};
	const CliColumn *chosen;

	(void) state;
	chosen = picked("last used,Name", all);
	assert_string_equal(chosen[0].title, "LAST USED");
	assert_string_equal(chosen[1].title, "NAME");
	assert_null(chosen[2].title);
	assert_ptr_equal(picked("", all), all);
	if (setjmp(failed) == 0)
	{
		picked("nam", all);
		fail_msg("a column that there is not");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spans),
		cmocka_unit_test(remote_ports),
		cmocka_unit_test(columns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
