/*
 * test_stream_tail.c -- pieces of a stream that come with their events.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/stream/tail.c"

static bool
parse(const char *payload, TailPiece *piece)
{
	return tail_parse(payload, strlen(payload), piece);
}

static void
test_parse(void **state)
{
	static const char *const others[] = {
		"", "tail", "tail ", "tail 1", "tail 1 ", "tail 1 2", "tail 1 2 ", "tail  1 2 []", "tail -1 2 []", "tail 1 2[]", "tail 2 2 []",
		"tail 3 2 []", "tail x 2 []", "tail 1 9999999999999999999 []", "waiting", "running 2026-01-01", "TAIL 1 2 []"};
	TailPiece piece;

	(void) state;
	assert_true(parse("tail 0 7 [{\"a\":1}]", &piece));
	assert_int_equal(piece.before, 0);
	assert_int_equal(piece.last, 7);
	assert_int_equal(piece.len, 9);
	assert_memory_equal(piece.frame, "[{\"a\":1}]", 9);
	assert_true(parse("tail 123456789012345678 123456789012345679 x", &piece));
	assert_int_equal(piece.last, 123456789012345679);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		assert_false(parse(others[i], &piece));
	/* It ends where its length says. */
	assert_false(tail_parse("tail 1 22 x", 9, &piece));
}

static void
test_step(void **state)
{
	Tail tail = {.at = 7};

	(void) state;
	assert_int_equal(tail_step(&tail, &(TailPiece){7, 9, "", 0}), TAIL_NEXT);
	assert_int_equal(tail_step(&tail, &(TailPiece){5, 7, "", 0}), TAIL_HAD);
	assert_int_equal(tail_step(&tail, &(TailPiece){0, 3, "", 0}), TAIL_HAD);
	assert_int_equal(tail_step(&tail, &(TailPiece){8, 9, "", 0}), TAIL_BEHIND);
	/* A part of it was had: the rest is not known by itself. */
	assert_int_equal(tail_step(&tail, &(TailPiece){6, 9, "", 0}), TAIL_BEHIND);
	/* A chat whose rows are gone begins at 0 again: not this stream's. */
	assert_int_equal(tail_step(&tail, &(TailPiece){0, 9, "", 0}), TAIL_BEHIND);
	tail.at = -1;
	assert_int_equal(tail_step(&tail, &(TailPiece){0, 9, "", 0}), TAIL_BEHIND);
	tail.at = 0;
	assert_int_equal(tail_step(&tail, &(TailPiece){0, 9, "", 0}), TAIL_NEXT);
}

static void
test_keep(void **state)
{
	Tail tail = {.at = 0};
	char payload[] = "tail 0 1 [1]";

	(void) state;
	for (int i = 0; i < TAIL_MAX_KEPT; i++)
	{
		payload[10] = (char) ('0' + i % 10);
		assert_true(tail_keep(&tail, payload, strlen(payload)));
	}
	assert_false(tail_keep(&tail, payload, strlen(payload)));
	assert_string_equal(tail.kept[0], "tail 0 1 [0]");
	assert_string_equal(tail.kept[13], "tail 0 1 [3]");
	assert_int_equal(tail.kept_len[13], strlen(payload));
	tail_drop_kept(&tail);
	assert_int_equal(tail.n_kept, 0);
	assert_true(tail_keep(&tail, payload, strlen(payload)));
	tail_drop_kept(&tail);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_step), cmocka_unit_test(test_keep)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
