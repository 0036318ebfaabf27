/*
 * test_chat_computer.c -- the tool by which models use a desktop: what the agent is asked, which pictures are told again, films.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../gateway/chat/computer.c"

static void
asks(const char *args, const char *wanted, long wanted_ms)
{
	json_t *given = json_loads(args, 0, NULL);
	json_t *expected = json_loads(wanted, 0, NULL);
	long ms;
	json_t *action = computer_action(given, &ms);

	json_object_del(action, "scaled_width");
	json_object_del(action, "scaled_height");
	if (!json_equal(action, expected))
		fail_msg("%s: %s", args, json_dumps(action, 0));
	assert_int_equal(ms, wanted_ms);
	json_decref(given);
	json_decref(expected);
	json_decref(action);
}

static void
actions(void **state)
{
	json_t *shot = computer_screenshot(0);

	(void) state;
	asks("{\"action\": \"left_click\", \"coordinate\": [1, 2], \"text\": \"ctrl\", \"other\": 1}",
		 "{\"action\": \"left_click\", \"coordinate\": [1, 2], \"text\": \"ctrl\"}", 0);
	asks("{\"action\": \"screenshot\"}", "{\"action\": \"screenshot\"}", 0);
	/* The model counts in seconds, the agent in milliseconds. */
	asks("{\"action\": \"wait\", \"duration\": 2.5}", "{\"action\": \"screenshot\", \"duration\": 2500}", 2500);
	asks("{\"action\": \"wait\"}", "{\"action\": \"screenshot\", \"duration\": 1000}", 1000);
	asks("{\"action\": \"wait\", \"duration\": 1e300}", "{\"action\": \"screenshot\", \"duration\": 60000}", 60000);
	asks("{\"action\": \"hold_key\", \"text\": \"a\", \"duration\": -1}", "{\"action\": \"hold_key\", \"text\": \"a\", \"duration\": 1000}", 1000);
	asks("{\"action\": \"left_click\", \"duration\": 5}", "{\"action\": \"left_click\"}", 0);
	asks("{}", "{\"action\": \"\"}", 0);
	asks("{\"action\": 7}", "{\"action\": \"\"}", 0);
	assert_int_equal(json_integer_value(json_object_get(shot, "scaled_width")), COMPUTER_WIDTH);
	assert_null(json_object_get(shot, "duration"));
	json_decref(shot);
}

static void
defined(void **state)
{
	json_t *tool = computer_tool();
	const json_t *own = json_object_get(tool, "anthropic");

	(void) state;
	assert_non_null(tool);
	assert_string_equal(json_string_value(json_object_get(own, "type")), "computer_20251124");
	assert_int_equal(json_integer_value(json_object_get(own, "display_height_px")), COMPUTER_HEIGHT);
	json_decref(tool);
}

static size_t
pictures(json_t *history)
{
	size_t n = 0;
	size_t i;
	json_t *message;

	json_array_foreach(history, i, message)
		n += is_picture(json_array_get(json_object_get(message, "content"), 0));
	return n;
}

/* Twenty are told, of twenty-one the last ten; those of other tools stay. */
static void
forgets(void **state)
{
	json_t *history = json_array();

	(void) state;
	json_array_append_new(history, json_pack("{s:[{s:s, s:s, s:b, s:{s:s}}]}", "content", "type", "tool-result", "tool_name", "other", "is_media", 1,
											 "result", "data", "kept"));
	for (int i = 0; i < 20; i++)
		json_array_append_new(history, json_pack("{s:[{s:s, s:s, s:b, s:{s:i}}]}", "content", "type", "tool-result", "tool_name", "computer", "is_media", 1,
												 "result", "data", i));
	computer_forget(history);
	assert_int_equal(pictures(history), 20);
	json_array_append(history, json_array_get(history, 20));
	json_array_set_new(history, 21, json_deep_copy(json_array_get(history, 20)));
	computer_forget(history);
	assert_int_equal(pictures(history), 10);
	assert_true(is_picture(json_array_get(json_object_get(json_array_get(history, 12), "content"), 0)));
	assert_false(is_picture(json_array_get(json_object_get(json_array_get(history, 11), "content"), 0)));
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(json_array_get(history, 0), "content"), 0), "is_media")));
	json_decref(history);
	computer_forget(NULL);
}

static void
films(void **state)
{
	static const char whole[] = "--b\r\nContent-Type: video/mp4\r\n\r\nfilm\r\n--x\0!\r\n--b\r\nContent-Type: image/jpeg\r\n\r\npicture\r\n--b--\r\n";
	static const char torn[] = "--b\r\nContent-Type: video/mp4\r\n\r\nfilm\r\n--b\r\nContent-Type: image/jpeg\r\n\r\npict";
	static const char none[] = "--b\r\nContent-Type: text/plain\r\n\r\nfilm\r\n--b--\r\n";
	ComputerPart video, picture;

	(void) state;
	assert_true(computer_film(whole, sizeof(whole) - 1, &video, &picture));
	assert_int_equal(video.len, 11);
	assert_memory_equal(video.data, "film\r\n--x\0!", 11);
	assert_int_equal(picture.len, 7);
	assert_memory_equal(picture.data, "picture", 7);
	assert_true(computer_film(torn, sizeof(torn) - 1, &video, &picture));
	assert_null(picture.data);
	assert_false(computer_film(none, sizeof(none) - 1, &video, &picture));
	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		computer_film(whole, n, &video, &picture);
	assert_false(computer_film("", 0, &video, &picture));
	assert_false(computer_film("\r\n\r\n", 4, &video, &picture));
	assert_false(computer_film("--\r\n--\r\n", 8, &video, &picture));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(actions),
		cmocka_unit_test(defined),
		cmocka_unit_test(forgets),
		cmocka_unit_test(films),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
