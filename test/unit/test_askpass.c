/*
 * test_askpass.c -- what git asks its helper for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../agent/cli/askpass.c"

/* url NULL: it is no question. */
static void
asks(const char *prompt, const char *url, bool password)
{
	AskpassQuestion question;
	char *exact = strdup(prompt);

	if (askpass_parse(exact, &question))
	{
		assert_non_null(url);
		assert_string_equal(question.url, url);
		assert_int_equal(question.password, password);
		free(question.url);
	}
	else
		assert_null(url);
	free(exact);
}

static void
questions(void **state)
{
	(void) state;
	asks("Username for 'https://github.com': ", "https://github.com", false);
	asks("Password for 'https://me@github.com': ", "https://github.com", true);
	asks("Password for 'https://me:x@github.com/a/b': ", "https://github.com/a/b", true);
	asks("Username for \"http://host:8080/x@y\": ", "http://host:8080/x@y", false);
	asks("Password for 'https://@host': ", "https://host", false);
	asks("Username for 'ssh://host': ", NULL, false);
	asks("Username for ", NULL, false);
	asks("Username ", NULL, false);
	asks("Password for 'https://': ", NULL, false);
	asks("Passphrase for 'https://x': ", NULL, false);
	asks("", NULL, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(questions)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
