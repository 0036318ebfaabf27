/*
 * test_boundary.c -- frames of the boundary log socket.
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

#include "../../agent/boundary/frame.c"

/* An allowed GET of https://a.io/ by the rule domain=a.io, at 1776297600. */
static const uint8_t one[] = {0x02, 0, 0, 0x31, 0x0a, 0x2f, 0x0a, 0x2d, 0x08, 1,	0x12, 6,	0x08, 0x80, 0xcd, 0x80, 0xcf, 6,
							  0x1a, 0x21, 0x0a, 3, 'G', 'E', 'T', 0x12, 0x0d, 'h', 't', 't', 'p', 's', ':', '/', '/', 'a',
							  '.', 'i', 'o', '/', 0x1a, 0x0b, 'd', 'o', 'm', 'a', 'i', 'n',	'=', 'a', '.', 'i', 'o'};

static void
a_log(void **state)
{
	BoundaryFrame frame;
	BoundaryNews news;
	const BoundaryLog *log;

	(void) state;
	for (size_t n = 0; n < sizeof(one); n++)
		assert_int_equal(boundary_frame_read(&frame, one, n), BOUNDARY_FRAME_SHORT);
	assert_int_equal(boundary_frame_read(&frame, one, sizeof(one)), BOUNDARY_FRAME_OK);
	assert_int_equal(frame.size + BOUNDARY_FRAME_HEAD, sizeof(one));
	assert_true(boundary_frame_news(&news, &frame));
	assert_int_equal(news.logs->n_logs, 1);
	log = news.logs->logs[0];
	assert_true(log->allowed);
	assert_int_equal(log->time->seconds, 1776297600);
	assert_string_equal(log->http_request->method, "GET");
	assert_string_equal(log->http_request->matched_rule, "domain=a.io");
	coder__agent__v2__report_boundary_logs_request__free_unpacked(news.logs, NULL);
}

static void
a_bare_request(void **state)
{
	static const uint8_t bare[] = {1, 0, 0, 6, 0x0a, 4, 0x08, 1, 0x1a, 0};
	BoundaryFrame frame;
	BoundaryNews news;

	(void) state;
	assert_int_equal(boundary_frame_read(&frame, bare, sizeof(bare)), BOUNDARY_FRAME_OK);
	assert_true(boundary_frame_news(&news, &frame));
	assert_int_equal(news.logs->n_logs, 1);
	coder__agent__v2__report_boundary_logs_request__free_unpacked(news.logs, NULL);
}

static void
a_status(void **state)
{
	static const uint8_t three[] = {2, 0, 0, 4, 0x12, 2, 8, 3};
	static const uint8_t odd[] = {2, 0, 0, 19, 0x12, 17, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 16, 0xff, 0xff, 0xff, 0xff, 0x7f};
	BoundaryFrame frame;
	BoundaryNews news;

	(void) state;
	assert_int_equal(boundary_frame_read(&frame, three, sizeof(three)), BOUNDARY_FRAME_OK);
	assert_true(boundary_frame_news(&news, &frame));
	assert_null(news.logs);
	assert_int_equal(news.channel_full, 3);
	assert_int_equal(news.batch_full, 0);
	assert_int_equal(boundary_frame_read(&frame, odd, sizeof(odd)), BOUNDARY_FRAME_OK);
	assert_true(boundary_frame_news(&news, &frame));
	assert_int_equal(news.channel_full, 0);
	assert_int_equal(news.batch_full, 1000000);
}

static void
hostile(void **state)
{
	static const uint8_t tag[] = {3, 0, 0, 0}, zero[] = {0, 0, 0, 0}, longer[] = {1, 0, 0x80, 1}, longest[] = {2, 0xff, 0xff, 0xff};
	static const uint8_t garbage[] = {1, 0, 0, 3, 0x0a, 0xff, 0xff}, most[] = {1, 0, 0x80, 0};
	BoundaryFrame frame;
	BoundaryNews news;
	uint8_t head[BOUNDARY_FRAME_HEAD];

	(void) state;
	assert_int_equal(boundary_frame_read(&frame, tag, 4), BOUNDARY_FRAME_BAD);
	assert_int_equal(boundary_frame_read(&frame, zero, 4), BOUNDARY_FRAME_BAD);
	assert_int_equal(boundary_frame_read(&frame, longer, 4), BOUNDARY_FRAME_BAD);
	assert_int_equal(boundary_frame_read(&frame, longest, 4), BOUNDARY_FRAME_BAD);
	assert_int_equal(boundary_frame_read(&frame, most, 4), BOUNDARY_FRAME_SHORT);
	assert_int_equal(boundary_frame_read(&frame, garbage, sizeof(garbage)), BOUNDARY_FRAME_OK);
	assert_false(boundary_frame_news(&news, &frame));
	boundary_frame_head(head, BOUNDARY_TAG_LOGS, BOUNDARY_FRAME_MAX);
	assert_memory_equal(head, most, 4);
}

static void
texts(void **state)
{
	static const char *const pairs[][2] = {{"https://a.io/\xc3\xa9", "https://a.io/\xc3\xa9"}, {"\xff\xfe", "??"}, {"a\xc3", "a?"},
										   {"\xed\xa0\x80", "???"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"}, {"\xf4\x90\x80\x80", "????"},
										   {"\xc0\x80", "??"}, {"\xe0\x80\xaf", "???"}};
	char text[64];

	(void) state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		strcpy(text, pairs[i][0]);
		boundary_make_text(text);
		assert_string_equal(text, pairs[i][1]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log),
		cmocka_unit_test(a_bare_request),
		cmocka_unit_test(a_status),
		cmocka_unit_test(hostile),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
