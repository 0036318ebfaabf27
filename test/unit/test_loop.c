/*
 * test_loop.c -- the event loop: order of timers, watches deleted while called,
 * calls from other threads, signals.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop.c"

static Loop *loop;
static int order[64];
static int norder;

static void
note(void *arg)
{
	order[norder++] = (int) (intptr_t) arg;
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

static int
setup(void **state)
{
	(void) state;
	norder = 0;
	loop = loop_create();
	return loop == NULL;
}

static int
teardown(void **state)
{
	(void) state;
	loop_destroy(loop);
	return 0;
}

static void
test_timers(void **state)
{
	LoopTimer timers[32], last;

	(void) state;
	for (int i = 0; i < 32; i++)
	{
		loop_timer_init(&timers[i], loop, note, (void *) (intptr_t) i);
		loop_timer_start(&timers[i], (i * 7) % 32);
	}
	for (int i = 0; i < 32; i += 3)
		loop_timer_stop(&timers[i]);
	loop_timer_init(&last, loop, stop, loop);
	loop_timer_start(&last, 40);
	loop_run(loop);
	assert_int_equal(norder, 21);
	for (int i = 1; i < norder; i++)
		assert_true((order[i - 1] * 7) % 32 < (order[i] * 7) % 32);
	assert_false(loop_timer_running(&timers[1]));
}

typedef struct Pair
{
	LoopFd *own, *other;
	int calls;
} Pair;

/* Whichever of the two is called first deletes both. */
static void
on_pair(void *arg, uint32_t events)
{
	Pair *pair = arg;

	assert_true((events & EPOLLIN) != 0);
	pair->calls++;
	loop_fd_del(pair->own);
	loop_fd_del(pair->other);
}

static void
test_delete_while_called(void **state)
{
	int a = eventfd(1, EFD_NONBLOCK), b = eventfd(1, EFD_NONBLOCK);
	Pair pair = {0};

	(void) state;
	pair.own = loop_fd_add(loop, a, EPOLLIN, on_pair, &pair);
	pair.other = loop_fd_add(loop, b, EPOLLIN, on_pair, &pair);
	for (int i = 0; i < 3; i++)
		loop_once(loop, 0);
	assert_int_equal(pair.calls, 1);
	close(a);
	close(b);
}

static void *
post_from_thread(void *arg)
{
	(void) arg;
	for (intptr_t i = 0; i < 50; i++)
		loop_post(loop, note, (void *) i);
	loop_post(loop, stop, loop);
	return NULL;
}

static void
test_post(void **state)
{
	pthread_t thread;

	(void) state;
	pthread_create(&thread, NULL, post_from_thread, NULL);
	loop_run(loop);
	pthread_join(thread, NULL);
	assert_int_equal(norder, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(order[i], i);
}

static void
test_defer(void **state)
{
	(void) state;
	loop_defer(loop, note, (void *) 1);
	loop_defer(loop, note, (void *) 2);
	assert_int_equal(norder, 0);
	loop_once(loop, -1);
	assert_true(norder == 2 && order[0] == 1 && order[1] == 2);
}

static void
on_usr1(void *arg, int signo)
{
	assert_int_equal(signo, SIGUSR1);
	note(arg);
	loop_stop(loop);
}

static void
test_signal(void **state)
{
	(void) state;
	assert_true(loop_signal(loop, SIGUSR1, on_usr1, (void *) 7));
	raise(SIGUSR1);
	loop_run(loop);
	assert_true(norder == 1 && order[0] == 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delete_while_called, setup, teardown),
		cmocka_unit_test_setup_teardown(test_post, setup, teardown),
		cmocka_unit_test_setup_teardown(test_defer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signal, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
