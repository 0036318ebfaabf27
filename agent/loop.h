/*
 * loop.h -- a small event loop on epoll: descriptors, timers, deferred calls,
 * calls from other threads, signals.
 *
 * One thread runs a loop, and everything here but loop_post and loop_stop is
 * called on that thread only (before loop_run: on the thread that made it).
 * Callbacks may add and remove anything, also what is being called.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_LOOP_H
#define AGENT_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

typedef struct Loop Loop;
typedef struct LoopFd LoopFd;
typedef void (*LoopFn)(void *arg);
typedef void (*LoopFdFn)(void *arg, uint32_t events); /* events: EPOLLIN, EPOLLOUT, … as they came */
typedef void (*LoopSignalFn)(void *arg, int signo);

/* A timer lives inside its owner.  The owner must stop it before it goes. */
typedef struct LoopTimer
{
	Loop *loop;
	LoopFn fn;
	void *arg;
	int64_t when; /* ns, monotonic */
	size_t slot; /* place in the heap plus one; 0: not running */
} LoopTimer;

/* NULL if out of descriptors or memory. */
Loop *loop_create(void);

/* Frees the loop; its descriptors are forgotten, not closed.  Calls still waiting are dropped. */
void loop_destroy(Loop *loop);

/* Runs until loop_stop. */
void loop_run(Loop *loop);

/* One round; waits at most timeout_ms (-1: until something happens). */
void loop_once(Loop *loop, int timeout_ms);

/* Makes loop_run return after the current round.  From any thread. */
void loop_stop(Loop *loop);

/* Monotonic time in nanoseconds as of the start of the round; loop_clock asks the system. */
int64_t loop_now(const Loop *loop);
int64_t loop_clock(void);

/*
 * Watches fd (level triggered) for events: EPOLLIN, EPOLLOUT, or 0 for errors
 * and hang-up only.  NULL on failure.  loop_fd_del does not close fd, and must
 * come before its close; no call follows it.
 */
LoopFd *loop_fd_add(Loop *loop, int fd, uint32_t events, LoopFdFn fn, void *arg);
void loop_fd_set(LoopFd *watch, uint32_t events);
void loop_fd_del(LoopFd *watch);

/* Sets a timer up (not running).  loop_timer_start (re)starts it to fire once in ms from now. */
void loop_timer_init(LoopTimer *timer, Loop *loop, LoopFn fn, void *arg);

/*
 * Stops a timer that was set up, and gives it another function.  Setting it up
 * again instead would leave a running one in the loop, beyond its owner's end.
 */
void loop_timer_become(LoopTimer *timer, LoopFn fn);
void loop_timer_start(LoopTimer *timer, int64_t ms);
void loop_timer_start_at(LoopTimer *timer, int64_t when_ns);
void loop_timer_stop(LoopTimer *timer);
bool loop_timer_running(const LoopTimer *timer);

/* Calls fn(arg) at the end of this round, in order.  False when out of memory. */
bool loop_defer(Loop *loop, LoopFn fn, void *arg);

/* Calls fn(arg) on the loop's thread.  From any thread.  False when out of memory. */
bool loop_post(Loop *loop, LoopFn fn, void *arg);

/* Calls fn on the loop's thread for each arrival (coalesced) of signo.  One loop a signal; fn NULL: default action again. */
bool loop_signal(Loop *loop, int signo, LoopSignalFn fn, void *arg);

#endif
