/*
 * loop.c -- event loops: messages between them, timers, random numbers, streams, log.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "gateway.h"

static const uint64_t bucket_ms[4] = {10, 100, 1000, 10000};

typedef struct Message
{
	h2o_multithread_message_t super;
	void (*fn)(GwLoop *loop, void *arg);
	void *arg;
} Message;

void
gw_loop_post(GwLoop *loop, void (*fn)(GwLoop *loop, void *arg), void *arg)
{
	Message *message = h2o_mem_alloc(sizeof(*message));

	memset(message, 0, sizeof(*message));
	message->fn = fn;
	message->arg = arg;
	h2o_multithread_send_message(&loop->receiver, &message->super);
}

static void
on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
	GwLoop *loop = H2O_STRUCT_FROM_MEMBER(GwLoop, receiver, receiver);

	while (!h2o_linklist_is_empty(messages))
	{
		Message *message = H2O_STRUCT_FROM_MEMBER(Message, super.link, messages->next);

		h2o_linklist_unlink(&message->super.link);
		message->fn(loop, message->arg);
		free(message);
	}
}

/* What every loop needs before anything hangs on it. */
void
gw_loop_init(GwLoop *loop, int index)
{
	loop->index = index;
	h2o_context_init(&loop->ctx, h2o_evloop_create(), &gw_server.config);
	h2o_multithread_register_receiver(loop->ctx.queue, &loop->receiver, on_messages);
	for (int i = 0; i < 4; i++)
		h2o_timeout_init(loop->ctx.loop, &loop->buckets[i], bucket_ms[i]);
	h2o_linklist_init_anchor(&loop->streams);
	h2o_linklist_init_anchor(&loop->calls);
}

/* Timers --------------------------------------------------------------------- */

/*
 * h2o's timeouts have one fixed duration each, so a timer goes through a few of
 * them: the largest that is not longer than what is left, again and again.
 */
static void
timer_link(GwTimer *timer, uint64_t now)
{
	uint64_t left = timer->deadline > now ? timer->deadline - now : 0;
	int i = 3;

	while (i > 0 && bucket_ms[i] > left)
		i--;
	h2o_timeout_link(timer->loop->ctx.loop, &timer->loop->buckets[i], &timer->entry);
}

static void
on_timeout(h2o_timeout_entry_t *entry)
{
	GwTimer *timer = H2O_STRUCT_FROM_MEMBER(GwTimer, entry, entry);
	uint64_t now = h2o_now(timer->loop->ctx.loop);

	if (now < timer->deadline)
		timer_link(timer, now);
	else
		timer->cb(timer->arg);
}

void
gw_timer_start(GwTimer *timer, GwLoop *loop, uint64_t ms, void (*cb)(void *arg), void *arg)
{
	uint64_t now = h2o_now(loop->ctx.loop);

	gw_timer_stop(timer);
	timer->loop = loop;
	timer->deadline = now + ms;
	timer->cb = cb;
	timer->arg = arg;
	timer->entry.cb = on_timeout;
	timer_link(timer, now);
}

void
gw_timer_stop(GwTimer *timer)
{
	if (timer->loop != NULL && h2o_timeout_is_linked(&timer->entry))
		h2o_timeout_unlink(&timer->entry);
}

/* Random --------------------------------------------------------------------- */

void
gw_random(GwLoop *loop, void *dst, size_t n)
{
	if (n > sizeof(loop->random))
		abort();
	if (loop->random_left < n)
	{
		size_t got = 0;

		while (got < sizeof(loop->random))
		{
			ssize_t r = getrandom(loop->random + got, sizeof(loop->random) - got, 0);

			if (r > 0)
				got += (size_t) r;
			else if (errno != EINTR)
				abort();
		}
		loop->random_left = sizeof(loop->random);
	}
	loop->random_left -= n;
	memcpy(dst, loop->random + loop->random_left, n);
	explicit_bzero(loop->random + loop->random_left, n);
}

void
gw_uuid(GwLoop *loop, char dst[static 37])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t bytes[16];
	char *p = dst;

	gw_random(loop, bytes, sizeof(bytes));
	bytes[6] = (uint8_t) ((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (uint8_t) ((bytes[8] & 0x3f) | 0x80);
	for (int i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[bytes[i] >> 4];
		*p++ = hex[bytes[i] & 15];
	}
	*p = '\0';
}

/* Streams -------------------------------------------------------------------- */

static void
stop_streams(void *arg)
{
	GwLoop *loop = arg;

	/* on_stop may remove its stream, so restart from the head; a stream is told once. */
	while (!h2o_linklist_is_empty(&loop->streams))
	{
		GwStream *stream = H2O_STRUCT_FROM_MEMBER(GwStream, link, loop->streams.next);

		h2o_linklist_unlink(&stream->link);
		stream->on_stop(stream);
	}
}

void
gw_loop_stop_streams(GwLoop *loop)
{
	loop->stopping = true;
	stop_streams(loop);
}

void
gw_stream_add(GwLoop *loop, GwStream *stream, void (*on_stop)(GwStream *stream))
{
	memset(&stream->link, 0, sizeof(stream->link));
	stream->on_stop = on_stop;
	h2o_linklist_insert(&loop->streams, &stream->link);
}

void
gw_stream_remove(GwStream *stream)
{
	if (h2o_linklist_is_linked(&stream->link))
		h2o_linklist_unlink(&stream->link);
}

/* Log ------------------------------------------------------------------------ */

void
gw_log(GwLogLevel level, const char *fmt, ...)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	char text[2048];
	char stamp[40];
	struct timespec now;
	struct tm tm;
	va_list args;

	if (level == GW_DEBUG && !gw_server.options.verbose)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(stderr, "%s.%03ld [%s] %s\n", stamp, now.tv_nsec / 1000000, names[level], text);
}
