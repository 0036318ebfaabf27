/*
 * test_chat_sse.c -- server-sent events, however the stream is cut.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../agent/wire/sse.c"

static char got[4096];

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	size_t n = strlen(got);

	assert_ptr_equal(arg, got);
	assert_int_equal(strlen(data), len);
	snprintf(got + n, sizeof(got) - n, "<%s|%s>", name, data);
}

/* In two pieces at each place, and byte by byte. */
static void
assert_events(const char *stream, const char *events)
{
	size_t len = strlen(stream);

	for (size_t cut = 0; cut <= len + 1; cut++)
	{
		Sse sse;
		bool ok = true;

		got[0] = '\0';
		sse_init(&sse, on_event, got);
		if (cut <= len)
			ok = sse_feed(&sse, stream, cut) && sse_feed(&sse, stream + cut, len - cut);
		for (size_t i = 0; cut > len && i < len; i++)
			ok &= sse_feed(&sse, stream + i, 1);
		sse_free(&sse);
		assert_true(ok);
		assert_string_equal(got, events);
	}
}

static void
test_forms(void **state)
{
	(void) state;
	assert_events("", "");
	assert_events("data: a\n\n", "<|a>");
	assert_events("data:a\r\n\r\ndata:b\r\n\r\n", "<|a><|b>");
	assert_events("data: a\rdata: b\r\rdata: c\r\r", "<|a\nb><|c>");
	assert_events("event: x\ndata:  two spaces\n\ndata: y\n\n", "<x| two spaces><|y>");
	assert_events(": comment\nid: 4\nretry: 5\nunknown: 6\n\ndata\n\n", "");
	assert_events("event: no data\n\ndata: d\n\n", "<|d>");
	assert_events("data: one\ndata:\ndata: three\n\n", "<|one\n\nthree>");
	assert_events("data:\n\ndata: \n\ndata: x\n\n", "<|x>");
	assert_events("\xef\xbb\xbf" "data: a\n\n\xef\xbb\xbf" "data: b\n\ndata: c\n\n", "<|a><|c>");
	assert_events("\xef\xbb\xbf\ndata: a\n\n", "<|a>");
	assert_events("data: not ended", "");
	assert_events("data: no empty line\n", "");
	assert_events("data: \xc3\xa4\xf0\x9f\x99\x82\n\n", "<|\xc3\xa4\xf0\x9f\x99\x82>");
	assert_events("datax: a\ndat: b\ndata: c\n\n\n\n\r\n", "<|c>");
}

/* Where the stream is over, the last event needs no empty line. */
static void
test_end(void **state)
{
	static const char *const streams[][2] = {{"", ""}, {"data: a", "<|a>"}, {"data: a\n", "<|a>"}, {"data: a\r", "<|a>"},
											 {"event: x\ndata: a\ndata: b", "<x|a\nb>"}, {"data: a\n\n", "<|a>"},
											 {"data: a\n\n: over", "<|a>"}, {"data:", ""}};

	(void) state;
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
	{
		Sse sse;

		got[0] = '\0';
		sse_init(&sse, on_event, got);
		assert_true(sse_feed(&sse, streams[i][0], strlen(streams[i][0])));
		sse_end(&sse);
		sse_end(&sse);
		sse_free(&sse);
		assert_string_equal(got, streams[i][1]);
	}
}

static void
test_long_name(void **state)
{
	(void) state;
	assert_events("event: 0123456789012345678901234567890123456789012345678901234567890123456789\ndata: a\n\n",
				  "<012345678901234567890123456789012345678901234567890123456789012|a>");
}

static void
test_too_long(void **state)
{
	char block[65536];
	size_t fed = 0;
	Sse sse;

	(void) state;
	memset(block, 'x', sizeof(block));
	/* one line without an end */
	sse_init(&sse, on_event, got);
	while (fed <= SSE_MAX_EVENT && sse_feed(&sse, block, sizeof(block)))
		fed += sizeof(block);
	assert_true(fed <= SSE_MAX_EVENT);
	assert_false(sse_feed(&sse, "\n\n", 2));
	sse_free(&sse);
	/* many lines of one event */
	memcpy(block, "data: ", 6);
	block[sizeof(block) - 1] = '\n';
	fed = 0;
	sse_init(&sse, on_event, got);
	while (fed <= 2 * SSE_MAX_EVENT && sse_feed(&sse, block, sizeof(block)))
		fed += sizeof(block);
	assert_true(fed <= SSE_MAX_EVENT + sizeof(block));
	assert_true(sse.broken);
	sse_free(&sse);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
