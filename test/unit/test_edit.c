/*
 * test_edit.c -- what chats see and change of files: search and replace, numbered lines, clean text.
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

#include "../../agent/serve/edit.c"

static void
replaces(const char *text, const char *search, const char *replace, bool all, const char *wanted)
{
	const char *error;
	char *out = edit_replace(text, search, replace, all, &error);

	if (wanted == NULL)
		assert_null(out);
	else
	{
		assert_non_null(out);
		assert_string_equal(out, wanted);
	}
	free(out);
}

static void
exact(void **state)
{
	(void) state;
	replaces("a b c", "b", "x", false, "a x c");
	replaces("a b b", "b", "x", false, NULL);
	replaces("a b b", "b", "xx", true, "a xx xx");
	replaces("a", "b", "x", true, NULL);
	replaces("a", "", "x", true, NULL);
	replaces("", "a", "x", false, NULL);
	replaces("aaaa", "aa", "b", true, "bb");
	replaces("one\ntwo\n", "two\n", "", false, "one\n");
	replaces("a b", "b", "b b", true, "a b b");
}

static void
by_lines(void **state)
{
	(void) state;
	replaces("one  \ntwo\t\nthree\n", "one\ntwo", "1\n2", false, "1\n2\nthree\n");
	replaces("one\r\ntwo\r\nthree\r\n", "one\ntwo\n", "1\n2\n", false, "1\n2\nthree\r\n");
	replaces("if\n    a\n    b\nend\n", "a\nb", "    c", false, "if\n    c\nend\n");
	replaces("  a\nx\n\ta\n", "a ", "b", false, NULL);
	replaces("  a\nx\n\ta\n", "a ", "b", true, "b\nx\nb\n");
	replaces("  a", "a ", "b", true, "b");
	replaces("xa\n", "a ", "b", false, NULL);
	replaces("a\nb", "a\nb\nc", "x", false, NULL);
	replaces("a\n\nb\n", " ", "x", true, NULL);
	replaces("a\n\nb\n", "\t\n", "x", true, NULL);
	/* Spaces at the end come before spaces around. */
	replaces("  a\na \n", "a\t", "b", false, "  a\nb\n");
}

static void
lines(void **state)
{
	EditLimits limits = {1, 0, 1024, 2000, 32768};
	long total;
	long read;
	char *out;

	(void) state;
	out = edit_lines("a\r\nb\n\nc", 7, &limits, &total, &read);
	assert_string_equal(out, "1\ta\n2\tb\n3\t\n4\tc");
	assert_int_equal(total, 4);
	assert_int_equal(read, 4);
	free(out);
	out = edit_lines("", 0, &limits, &total, &read);
	assert_string_equal(out, "");
	assert_int_equal(total, 0);
	free(out);
	limits = (EditLimits){2, 1, 3, 2000, 32768};
	out = edit_lines("first\nsecond\nthird\n", 19, &limits, &total, &read);
	assert_string_equal(out, "2\tsec...");
	assert_int_equal(total, 3);
	assert_int_equal(read, 1);
	free(out);
	limits = (EditLimits){1, 0, 1024, 2000, 8};
	out = edit_lines("abc\ndef\nghi\n", 12, &limits, &total, &read);
	assert_string_equal(out, "1\tabc");
	assert_int_equal(read, 1);
	free(out);
	limits = (EditLimits){9, 0, 1024, 2000, 8};
	out = edit_lines("abc\n", 4, &limits, &total, &read);
	assert_int_equal(read, 0);
	assert_int_equal(total, 1);
	free(out);
}

static void
cleans(const char *bytes, size_t len, size_t max_line, const char *wanted)
{
	char *out = edit_clean(bytes, len, max_line);

	assert_string_equal(out, wanted);
	free(out);
}

static void
clean(void **state)
{
	(void) state;
	cleans("a\0b", 3, 0, "a\xef\xbf\xbd" "b");
	cleans("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, 0, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	cleans("\xc3", 1, 0, "\xef\xbf\xbd");
	cleans("\xed\xa0\x80", 3, 0, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* half of a surrogate pair */
	cleans("\xc0\x80", 2, 0, "\xef\xbf\xbd\xef\xbf\xbd");
	cleans("abcdef\ngh", 9, 4, "abcd...\ngh");
	cleans("abcd\ngh", 7, 4, "abcd\ngh");
	cleans("", 0, 4, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(exact), cmocka_unit_test(by_lines), cmocka_unit_test(lines), cmocka_unit_test(clean)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
