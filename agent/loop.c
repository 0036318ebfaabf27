/*
 * loop.c -- a small event loop on epoll.
 *
 * A watch that is deleted while its events are still in the array of the
 * running round is only marked; it is freed at the end of the round, so that no
 * event reaches memory that has gone.  Timers are a binary heap of pointers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOP_EVENTS 64
#define LOOP_SIGNALS 65

struct LoopFd
{
	Loop *loop;
	int fd; /* -1: deleted */
	uint32_t events;
	LoopFdFn fn;
	void *arg;
	LoopFd *prev;
	LoopFd *next;
};

typedef struct Call
{
	struct Call *next;
	LoopFn fn;
	void *arg;
} Call;

typedef struct CallList
{
	Call *head;
	Call **tail;
} CallList;

typedef struct SignalWatch
{
	LoopSignalFn fn;
	void *arg;
} SignalWatch;

struct Loop
{
	int epoll;
	int wake;
	int64_t now;
	atomic_bool stop;
	LoopFd *watches;
	LoopFd *dead;
	LoopTimer **heap;
	size_t timers;
	size_t heap_cap;
	CallList deferred;
	pthread_mutex_t lock; /* over posted */
	CallList posted;
	SignalWatch signals[LOOP_SIGNALS];
};

/* What the signal handler may touch. */
static _Atomic int signal_wake[LOOP_SIGNALS]; /* eventfd plus one */
static atomic_bool signal_came[LOOP_SIGNALS];

int64_t
loop_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void
list_init(CallList *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

static void
list_free(CallList *list)
{
	Call *next;

	for (Call *call = list->head; call != NULL; call = next)
	{
		next = call->next;
		free(call);
	}
	list_init(list);
}

static Call *
call_new(LoopFn fn, void *arg)
{
	Call *call = malloc(sizeof(*call));

	if (call != NULL)
		*call = (Call){.fn = fn, .arg = arg};
	return call;
}

static void
list_append(CallList *list, Call *call)
{
	*list->tail = call;
	list->tail = &call->next;
}

/* Runs what is on the list now; what is added meanwhile waits for the next time. */
static void
list_run(CallList *list)
{
	Call *call = list->head;

	list_init(list);
	while (call != NULL)
	{
		Call *next = call->next;

		call->fn(call->arg);
		free(call);
		call = next;
	}
}

Loop *
loop_create(void)
{
	Loop *loop = calloc(1, sizeof(*loop));
	struct epoll_event event = {.events = EPOLLIN};

	if (loop == NULL)
		return NULL;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	list_init(&loop->deferred);
	list_init(&loop->posted);
	pthread_mutex_init(&loop->lock, NULL);
	loop->now = loop_clock();
	if (loop->epoll < 0 || loop->wake < 0 ||
		epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake, &event) < 0)
	{
		loop_destroy(loop);
		return NULL;
	}
	return loop;
}

static void
reap(Loop *loop)
{
	while (loop->dead != NULL)
	{
		LoopFd *watch = loop->dead;

		loop->dead = watch->next;
		free(watch);
	}
}

void
loop_destroy(Loop *loop)
{
	if (loop == NULL)
		return;
	for (int i = 1; i < LOOP_SIGNALS; i++)
		if (loop->signals[i].fn != NULL)
			loop_signal(loop, i, NULL, NULL);
	while (loop->watches != NULL)
		loop_fd_del(loop->watches);
	reap(loop);
	for (size_t i = 0; i < loop->timers; i++)
		loop->heap[i]->slot = 0;
	free(loop->heap);
	list_free(&loop->deferred);
	list_free(&loop->posted);
	pthread_mutex_destroy(&loop->lock);
	if (loop->epoll >= 0)
		close(loop->epoll);
	if (loop->wake >= 0)
		close(loop->wake);
	free(loop);
}

static void
wake(const Loop *loop)
{
	uint64_t one = 1;
	ssize_t n = write(loop->wake, &one, sizeof(one));

	(void) n; /* a full counter wakes as well */
}

int64_t
loop_now(const Loop *loop)
{
	return loop->now;
}

void
loop_stop(Loop *loop)
{
	atomic_store(&loop->stop, true);
	wake(loop);
}

bool
loop_defer(Loop *loop, LoopFn fn, void *arg)
{
	Call *call = call_new(fn, arg);

	if (call != NULL)
		list_append(&loop->deferred, call);
	return call != NULL;
}

bool
loop_post(Loop *loop, LoopFn fn, void *arg)
{
	Call *call = call_new(fn, arg);

	if (call == NULL)
		return false;
	pthread_mutex_lock(&loop->lock);
	list_append(&loop->posted, call);
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
	return true;
}

static void
run_posted(Loop *loop)
{
	CallList list;

	pthread_mutex_lock(&loop->lock);
	list = loop->posted;
	if (list.head == NULL)
		list.tail = &list.head;
	list_init(&loop->posted);
	pthread_mutex_unlock(&loop->lock);
	list_run(&list);
}

/* Descriptors. */

LoopFd *
loop_fd_add(Loop *loop, int fd, uint32_t events, LoopFdFn fn, void *arg)
{
	LoopFd *watch = malloc(sizeof(*watch));
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (watch == NULL)
		return NULL;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
	{
		free(watch);
		return NULL;
	}
	*watch = (LoopFd){
		.loop = loop, .fd = fd, .events = events, .fn = fn, .arg = arg, .next = loop->watches};
	if (loop->watches != NULL)
		loop->watches->prev = watch;
	loop->watches = watch;
	return watch;
}

void
loop_fd_set(LoopFd *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (watch->events == events || watch->fd < 0)
		return;
	watch->events = events;
	epoll_ctl(watch->loop->epoll, EPOLL_CTL_MOD, watch->fd, &event);
}

void
loop_fd_del(LoopFd *watch)
{
	Loop *loop;

	if (watch == NULL || watch->fd < 0)
		return;
	loop = watch->loop;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
	if (watch->prev != NULL)
		watch->prev->next = watch->next;
	else
		loop->watches = watch->next;
	if (watch->next != NULL)
		watch->next->prev = watch->prev;
	watch->next = loop->dead;
	loop->dead = watch;
}

/* Timers: heap[0] is the next to fire. */

static void
heap_put(Loop *loop, size_t i, LoopTimer *timer)
{
	loop->heap[i] = timer;
	timer->slot = i + 1;
}

static void
heap_up(Loop *loop, size_t i)
{
	LoopTimer *timer = loop->heap[i];

	while (i > 0 && loop->heap[(i - 1) / 2]->when > timer->when)
	{
		heap_put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_put(loop, i, timer);
}

static void
heap_down(Loop *loop, size_t i)
{
	LoopTimer *timer = loop->heap[i];

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= loop->timers)
			break;
		if (child + 1 < loop->timers && loop->heap[child + 1]->when < loop->heap[child]->when)
			child++;
		if (loop->heap[child]->when >= timer->when)
			break;
		heap_put(loop, i, loop->heap[child]);
		i = child;
	}
	heap_put(loop, i, timer);
}

void
loop_timer_init(LoopTimer *timer, Loop *loop, LoopFn fn, void *arg)
{
	*timer = (LoopTimer){.loop = loop, .fn = fn, .arg = arg};
}

void
loop_timer_become(LoopTimer *timer, LoopFn fn)
{
	loop_timer_stop(timer);
	timer->fn = fn;
}

void
loop_timer_start(LoopTimer *timer, int64_t ms)
{
	loop_timer_start_at(timer, loop_clock() + ms * 1000000);
}

void
loop_timer_start_at(LoopTimer *timer, int64_t when_ns)
{
	Loop *loop = timer->loop;

	loop_timer_stop(timer);
	if (loop->timers == loop->heap_cap)
	{
		size_t cap = loop->heap_cap == 0 ? 16 : 2 * loop->heap_cap;
		LoopTimer **heap = realloc(loop->heap, cap * sizeof(*heap));

		if (heap == NULL)
			abort(); /* a lost timer would hang its owner for good */
		loop->heap = heap;
		loop->heap_cap = cap;
	}
	timer->when = when_ns;
	loop->heap[loop->timers++] = timer;
	heap_up(loop, loop->timers - 1);
}

void
loop_timer_stop(LoopTimer *timer)
{
	Loop *loop = timer->loop;
	size_t i = timer->slot;
	LoopTimer *last;

	if (i == 0)
		return;
	i--;
	timer->slot = 0;
	last = loop->heap[--loop->timers];
	if (last == timer)
		return;
	heap_put(loop, i, last);
	heap_up(loop, i);
	heap_down(loop, last->slot - 1);
}

bool
loop_timer_running(const LoopTimer *timer)
{
	return timer->slot != 0;
}

static void
run_timers(Loop *loop)
{
	while (loop->timers > 0 && loop->heap[0]->when <= loop->now)
	{
		LoopTimer *timer = loop->heap[0];

		loop_timer_stop(timer);
		timer->fn(timer->arg);
	}
}

static int
wait_ms(const Loop *loop, int limit)
{
	int64_t ms;

	if (loop->deferred.head != NULL || atomic_load(&loop->stop))
		return 0;
	if (loop->timers == 0)
		return limit;
	ms = (loop->heap[0]->when - loop_clock() + 999999) / 1000000;
	if (ms < 0)
		ms = 0;
	if (ms > 3600000)
		ms = 3600000;
	return limit >= 0 && limit < ms ? limit : (int) ms;
}

/* Signals: the handler notes the signal and wakes the loop. */

static void
on_signal(int signo)
{
	int saved = errno;
	uint64_t one = 1;
	int fd = atomic_load(&signal_wake[signo]) - 1;

	atomic_store(&signal_came[signo], true);
	if (fd >= 0)
	{
		ssize_t n = write(fd, &one, sizeof(one));

		(void) n;
	}
	errno = saved;
}

bool
loop_signal(Loop *loop, int signo, LoopSignalFn fn, void *arg)
{
	struct sigaction action = {.sa_flags = SA_RESTART};

	if (signo <= 0 || signo >= LOOP_SIGNALS)
		return false;
	loop->signals[signo] = (SignalWatch){.fn = fn, .arg = arg};
	atomic_store(&signal_wake[signo], fn != NULL ? loop->wake + 1 : 0);
	action.sa_handler = fn != NULL ? on_signal : SIG_DFL;
	sigemptyset(&action.sa_mask);
	return sigaction(signo, &action, NULL) == 0;
}

static void
run_signals(Loop *loop)
{
	for (int i = 1; i < LOOP_SIGNALS; i++)
		if (loop->signals[i].fn != NULL && atomic_exchange(&signal_came[i], false))
			loop->signals[i].fn(loop->signals[i].arg, i);
}

static void
run_woken(Loop *loop)
{
	uint64_t count;
	ssize_t n = read(loop->wake, &count, sizeof(count));

	(void) n;
	run_signals(loop);
	run_posted(loop);
}

void
loop_once(Loop *loop, int timeout_ms)
{
	struct epoll_event events[LOOP_EVENTS];
	int n = epoll_wait(loop->epoll, events, LOOP_EVENTS, wait_ms(loop, timeout_ms));

	loop->now = loop_clock();
	for (int i = 0; i < n; i++)
	{
		LoopFd *watch = events[i].data.ptr;

		if (watch == NULL)
			run_woken(loop);
		else if (watch->fd >= 0)
			watch->fn(watch->arg, events[i].events);
	}
	run_timers(loop);
	list_run(&loop->deferred);
	reap(loop);
}

void
loop_run(Loop *loop)
{
	while (!atomic_load(&loop->stop))
		loop_once(loop, -1);
	atomic_store(&loop->stop, false);
}
