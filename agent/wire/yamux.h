/*
 * yamux.h -- stream multiplexing over one byte stream (yamux version 0).
 *
 * No I/O: bytes come in by yamux_input() and leave by the send callback.
 * A session is used by one thread.  Callbacks may call any function of the
 * session except yamux_free().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_YAMUX_H
#define WIRE_YAMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define YAMUX_HEADER_LEN 12
#define YAMUX_WINDOW 262144u
#define YAMUX_MAX_STREAMS 1024
#define YAMUX_MAX_PENDING (8u << 20) /* bytes of one stream that wait for its window */

typedef struct YamuxSession YamuxSession;
typedef struct YamuxStream YamuxStream;

typedef struct YamuxCallbacks
{
	/* Whole frames to the transport. */
	void (*send)(void *arg, const uint8_t *data, size_t size);
	/* The peer opened a stream: set stream's user pointer, or yamux_reset() it. */
	void (*on_stream)(void *arg, YamuxStream *stream);
	/* Bytes of a stream; they count as consumed when this returns. */
	void (*on_data)(void *arg, YamuxStream *stream, const uint8_t *data, size_t size);
	/* The peer sends no more.  reset: and wants no more; the stream is gone after this call. */
	void (*on_end)(void *arg, YamuxStream *stream, bool reset);
	/* Answer to a yamux_ping(). */
	void (*on_pong)(void *arg, uint32_t value);
} YamuxCallbacks;

/* client: opens odd stream ids.  callbacks is kept by reference. */
YamuxSession *yamux_new(bool client, const YamuxCallbacks *callbacks, void *arg);

/* Frees the session; every stream that is left gets on_end(reset) first. */
void yamux_free(YamuxSession *session);

/* Bytes from the transport.  NULL, or why the session is broken (the transport must be closed). */
const char *yamux_input(YamuxSession *session, const uint8_t *data, size_t size);

/* NULL: too many streams, or the peer said that it goes away. */
YamuxStream *yamux_open(YamuxSession *session, void *user);

/* Queues bytes; false where the stream is closed or too much waits for the window. */
bool yamux_write(YamuxStream *stream, const void *data, size_t size);
size_t yamux_pending(const YamuxStream *stream);

/* No more from us (after what waits); the stream is freed when both sides are done. */
void yamux_finish(YamuxStream *stream);
/* Gives the stream up; it is gone when this returns. */
void yamux_reset(YamuxStream *stream);

void yamux_ping(YamuxSession *session, uint32_t value);

void yamux_set_user(YamuxStream *stream, void *user);
void *yamux_user(const YamuxStream *stream);
uint32_t yamux_stream_id(const YamuxStream *stream);

#endif
