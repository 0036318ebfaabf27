/*
 * test_context.c -- what models read of a workspace: clean texts, the front matter of skills, the output of git.
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

#include "../../agent/serve/context.c"
#include "../../agent/serve/gitdiff.c"

static void
cleans(const char *from, const char *to)
{
	char *text = context_clean(from, strlen(from));

	assert_string_equal(text, to);
	free(text);
}

static void
clean(void **state)
{
	(void) state;
	cleans("  a\r\nb\rc \n\n", "a\nb\nc");
	cleans("a<!-- do evil -->b", "ab");
	cleans("a<!-- never ended", "a");
	cleans("a<<!-- x -->!-- b -->c", "ac");
	cleans("a<\xe2\x80\x8b!-- b -->c", "ac");
	cleans("x\xe2\x80\xaey\xef\xbb\xbfz\xc2\xad", "xyz");
	cleans("t\xf3\xa0\x81\x81\xf3\xa0\x81\x82g", "tg"); /* letters of tags */
	cleans("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
	cleans("bad\xff utf8", "bad\xef\xbf\xbd utf8");
	cleans("bell\x07 esc\x1b[0m", "bell esc[0m");
	cleans("<!---->", "");
}

static void
names(void **state)
{
	(void) state;
	assert_true(context_is_skill_name("a"));
	assert_true(context_is_skill_name("deploy-to-2"));
	assert_false(context_is_skill_name(""));
	assert_false(context_is_skill_name("-a"));
	assert_false(context_is_skill_name("a-"));
	assert_false(context_is_skill_name("a--b"));
	assert_false(context_is_skill_name("Deploy"));
	assert_false(context_is_skill_name("../x"));
	assert_false(context_is_skill_name("a/b"));
	assert_false(context_is_skill_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

/* name NULL: it is no skill. */
static void
skill_is(const char *text, const char *name, const char *description, const char *body)
{
	char *got_name;
	char *got_description;
	const char *got_body;
	char *exact = malloc(strlen(text) + 1); /* not a byte beyond */

	strcpy(exact, text);
	if (context_skill(exact, strlen(exact), &got_name, &got_description, &got_body))
	{
		assert_non_null(name);
		assert_string_equal(got_name, name);
		assert_string_equal(got_description, description);
		assert_string_equal(got_body, body);
		free(got_name);
		free(got_description);
	}
	else
		assert_null(name);
	free(exact);
}

static void
skills(void **state)
{
	(void) state;
	skill_is("---\nname: deploy\ndescription: Puts it there.\n---\nDo it.\n", "deploy", "Puts it there.", "Do it.\n");
	skill_is("\xef\xbb\xbf---\r\nname: 'deploy'\r\n---\r\n", "deploy", "", "");
	skill_is("---\nname: a\ndescription: >\n  two\n  lines\n---\nx", "a", "two lines", "x");
	skill_is("---\nname: a\ndescription: \"hid<!-- x -->den\xe2\x80\x8b\"\n---\n", "a", "hidden", "");
	skill_is("---\nname: a\nmore:\n  name: b\n  list: [1, {description: c}]\ndescription: d\n---\n", "a", "d", "");
	skill_is("---\nname: [a]\n---\n", NULL, NULL, NULL);
	skill_is("---\nname: A b\n---\n", NULL, NULL, NULL);
	skill_is("---\nname: a\nname: b\n---\n", NULL, NULL, NULL);
	skill_is("---\nx: &x a\nname: *x\n---\n", NULL, NULL, NULL);
	skill_is("---\ndescription: d\n---\n", NULL, NULL, NULL);
	skill_is("---\nname: a\n", NULL, NULL, NULL);
	skill_is("name: a\n---\n", NULL, NULL, NULL);
	skill_is("---\n- name: a\n---\n", NULL, NULL, NULL);
	skill_is("---\nname: a: b: c\n---\n", NULL, NULL, NULL);
	skill_is("---\n---\n", NULL, NULL, NULL);
	skill_is("", NULL, NULL, NULL);
}

static void
origin_is(const char *from, const char *to)
{
	char url[128];

	strcpy(url, from);
	git_clean_origin(url);
	assert_string_equal(url, to);
}

static void
origins(void **state)
{
	(void) state;
	origin_is("https://me:secret@host/a/b.git", "https://host/a/b.git");
	origin_is("https://token@host/a@b", "https://host/a@b");
	origin_is("https://a@b@host/", "https://host/");
	origin_is("https://host/a@b", "https://host/a@b");
	origin_is("git@host:a/b.git", "git@host:a/b.git");
	origin_is("ssh://git@host/a", "ssh://git@host/a");
	origin_is("", "");
	origin_is("https://", "https://");
}

static void
scans(void **state)
{
	static const char output[] = "main\0https://u:p@h/r\0diff --git a/x b/x\n+1\ndiff --git a/y b/y\n+\xff\n";
	GitScan scan;

	(void) state;
	assert_true(git_parse_scan(output, sizeof(output) - 1, 1000, &scan));
	assert_string_equal(scan.branch, "main");
	assert_string_equal(scan.origin, "https://h/r");
	assert_string_equal(scan.diff, "diff --git a/x b/x\n+1\ndiff --git a/y b/y\n+\xef\xbf\xbd\n");
	git_free_scan(&scan);
	/* Of what is too long only whole files are kept, and it says so. */
	assert_true(git_parse_scan(output, sizeof(output) - 1, 40, &scan));
	assert_memory_equal(scan.diff, "diff --git a/x b/x\n+1\n# More", 28);
	git_free_scan(&scan);
	assert_true(git_parse_scan(output, sizeof(output) - 1, 10, &scan));
	assert_memory_equal(scan.diff, "# More", 6);
	git_free_scan(&scan);
	assert_true(git_parse_scan("\0", 2, 10, &scan));
	assert_string_equal(scan.diff, "");
	git_free_scan(&scan);
	assert_false(git_parse_scan("main", 4, 10, &scan));
	assert_false(git_parse_scan("", 0, 10, &scan));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(clean), cmocka_unit_test(names), cmocka_unit_test(skills), cmocka_unit_test(origins),
									   cmocka_unit_test(scans)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
