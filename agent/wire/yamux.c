/*
 * yamux.c -- stream multiplexing over one byte stream (yamux version 0).
 *
 *	 0        1        2                4                 8                 12
 *	+--------+--------+----------------+-----------------+-----------------+------ - -
 *	| ver 0  | type   | flags  u16 BE  | stream  u32 BE  | length  u32 BE  | payload (Data)
 *	+--------+--------+----------------+-----------------+-----------------+------ - -
 *
 * type 0 Data (length = payload), 1 WindowUpdate (length = credit), 2 Ping
 * (length = opaque value), 3 GoAway (length = reason).  A stream begins with
 * SYN and ends when both sides have sent FIN, or either RST.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/yamux.h"

#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

enum
{
	TYPE_DATA,
	TYPE_WINDOW,
	TYPE_PING,
	TYPE_GOAWAY
};

#define FLAG_SYN 1u
#define FLAG_ACK 2u
#define FLAG_FIN 4u
#define FLAG_RST 8u

#define GOAWAY_PROTOCOL_ERROR 1u

struct YamuxStream
{
	YamuxStream *next;
	YamuxSession *session;
	void *user;
	uint32_t id;
	uint32_t send_window;
	uint32_t recv_window;	/* what the peer may still send */
	bool ack_due;			/* our ACK travels with the next frame */
	bool fin_wanted;		/* yamux_finish() was called */
	bool fin_sent;
	bool fin_received;
	uint8_t *pending; /* waits for the send window */
	size_t pending_size;
	size_t pending_room;
};

struct YamuxSession
{
	const YamuxCallbacks *callbacks;
	void *arg;
	bool client;
	bool going_away;
	bool freeing;
	uint32_t next_id;
	int nstreams;
	YamuxStream *streams;
	uint8_t header[YAMUX_HEADER_LEN];
	size_t header_have;
	uint32_t data_left;		 /* of the Data frame that is being read */
	YamuxStream *data_stream; /* NULL: its bytes are discarded */
	uint16_t data_flags;
};

static YamuxStream *
find_stream(YamuxSession *session, uint32_t id)
{
	for (YamuxStream *s = session->streams; s != NULL; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

static void
send_frame(YamuxSession *session, uint8_t type, uint16_t flags, uint32_t id, uint32_t length)
{
	uint8_t frame[YAMUX_HEADER_LEN];
	uint8_t *p = frame;

	p = wire_put8(p, 0);
	p = wire_put8(p, type);
	p = wire_put16be(p, flags);
	p = wire_put32be(p, id);
	wire_put32be(p, length);
	session->callbacks->send(session->arg, frame, sizeof(frame));
}

static uint16_t
take_ack(YamuxStream *stream)
{
	uint16_t flags = stream->ack_due ? FLAG_ACK : 0;

	stream->ack_due = false;
	return flags;
}

static YamuxStream *
new_stream(YamuxSession *session, uint32_t id, void *user)
{
	YamuxStream *stream = calloc(1, sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->session = session;
	stream->id = id;
	stream->user = user;
	stream->send_window = YAMUX_WINDOW;
	stream->recv_window = YAMUX_WINDOW;
	stream->next = session->streams;
	session->streams = stream;
	session->nstreams++;
	return stream;
}

static void
drop_stream(YamuxStream *stream)
{
	YamuxSession *session = stream->session;
	YamuxStream **link = &session->streams;

	while (*link != stream)
		link = &(*link)->next;
	*link = stream->next;
	session->nstreams--;
	if (session->data_stream == stream)
		session->data_stream = NULL;
	free(stream->pending);
	free(stream);
}

/* One Data frame, header and payload in one piece. */
static void
send_data(YamuxStream *stream, const uint8_t *data, size_t size)
{
	YamuxSession *session = stream->session;
	uint8_t *frame = malloc(YAMUX_HEADER_LEN + size);
	uint8_t *p = frame;

	if (frame == NULL)
		return;
	p = wire_put8(p, 0);
	p = wire_put8(p, TYPE_DATA);
	p = wire_put16be(p, take_ack(stream));
	p = wire_put32be(p, stream->id);
	p = wire_put32be(p, (uint32_t) size);
	memcpy(p, data, size);
	stream->send_window -= (uint32_t) size;
	session->callbacks->send(session->arg, frame, YAMUX_HEADER_LEN + size);
	free(frame);
}

static void
send_fin(YamuxStream *stream)
{
	stream->fin_sent = true;
	send_frame(stream->session, TYPE_WINDOW, (uint16_t) (take_ack(stream) | FLAG_FIN), stream->id, 0);
	if (stream->fin_received)
		drop_stream(stream);
}

/* Sends of what waits as much as the window allows. */
static void
flush_pending(YamuxStream *stream)
{
	size_t n = stream->pending_size < stream->send_window ? stream->pending_size : stream->send_window;

	if (n > 0)
	{
		send_data(stream, stream->pending, n);
		stream->pending_size -= n;
		memmove(stream->pending, stream->pending + n, stream->pending_size);
	}
	if (stream->pending_size == 0 && stream->fin_wanted && !stream->fin_sent)
		send_fin(stream);
}

static bool
append_pending(YamuxStream *stream, const uint8_t *data, size_t size)
{
	if (size > YAMUX_MAX_PENDING - stream->pending_size)
		return false;
	if (stream->pending_size + size > stream->pending_room)
	{
		size_t room = (stream->pending_size + size) * 2;
		uint8_t *bigger = realloc(stream->pending, room);

		if (bigger == NULL)
			return false;
		stream->pending = bigger;
		stream->pending_room = room;
	}
	memcpy(stream->pending + stream->pending_size, data, size);
	stream->pending_size += size;
	return true;
}

bool
yamux_write(YamuxStream *stream, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	size_t now = 0;

	if (stream->fin_wanted || stream->session->freeing)
		return false;
	if (stream->pending_size == 0)
	{
		now = size < stream->send_window ? size : stream->send_window;
		if (now > 0)
			send_data(stream, bytes, now);
	}
	return now == size || append_pending(stream, bytes + now, size - now);
}

size_t
yamux_pending(const YamuxStream *stream)
{
	return stream->pending_size;
}

void
yamux_finish(YamuxStream *stream)
{
	if (stream->fin_wanted)
		return;
	stream->fin_wanted = true;
	if (stream->pending_size == 0)
		send_fin(stream);
}

void
yamux_reset(YamuxStream *stream)
{
	send_frame(stream->session, TYPE_WINDOW, FLAG_RST, stream->id, 0);
	drop_stream(stream);
}

void
yamux_ping(YamuxSession *session, uint32_t value)
{
	send_frame(session, TYPE_PING, FLAG_SYN, 0, value);
}

YamuxStream *
yamux_open(YamuxSession *session, void *user)
{
	YamuxStream *stream;

	if (session->going_away || session->nstreams >= YAMUX_MAX_STREAMS || session->next_id > UINT32_MAX - 2)
		return NULL;
	stream = new_stream(session, session->next_id, user);
	if (stream == NULL)
		return NULL;
	session->next_id += 2;
	send_frame(session, TYPE_WINDOW, FLAG_SYN, stream->id, 0);
	return stream;
}

static const char *
broken(YamuxSession *session, const char *why)
{
	send_frame(session, TYPE_GOAWAY, 0, 0, GOAWAY_PROTOCOL_ERROR);
	return why;
}

/* A SYN of the peer; *result is NULL where the stream was refused. */
static const char *
accept_stream(YamuxSession *session, uint32_t id, YamuxStream **result)
{
	*result = NULL;
	if (id == 0 || (id % 2 == 1) == session->client)
		return broken(session, "a stream was opened under an id of this side");
	if (find_stream(session, id) != NULL)
		return broken(session, "a stream was opened twice");
	if (session->nstreams >= YAMUX_MAX_STREAMS)
	{
		send_frame(session, TYPE_WINDOW, FLAG_RST, id, 0);
		return NULL;
	}
	*result = new_stream(session, id, NULL);
	if (*result == NULL)
		return "out of memory";
	(*result)->ack_due = true;
	session->callbacks->on_stream(session->arg, *result);
	*result = find_stream(session, id); /* the callback may have reset it */
	return NULL;
}

/* FIN and RST of a frame whose body has been handled. */
static const char *
end_flags(YamuxSession *session, YamuxStream *stream, uint16_t flags)
{
	uint32_t id = stream->id;
	bool gone = (flags & FLAG_RST) != 0;

	if (!gone && (flags & FLAG_FIN) == 0)
		return NULL;
	if (!gone && stream->fin_received)
		return broken(session, "a stream ended twice");
	stream->fin_received = true;
	gone = gone || stream->fin_sent;
	session->callbacks->on_end(session->arg, stream, (flags & FLAG_RST) != 0);
	/* The callback may have finished or reset it, and it may be gone by that. */
	if (gone && find_stream(session, id) == stream)
		drop_stream(stream);
	return NULL;
}

/* Gives credit back once half the window is used, as the protocol's users expect. */
static void
return_credit(YamuxStream *stream)
{
	uint32_t credit = YAMUX_WINDOW - stream->recv_window;

	if (credit < YAMUX_WINDOW / 2 && !stream->ack_due)
		return;
	stream->recv_window = YAMUX_WINDOW;
	send_frame(stream->session, TYPE_WINDOW, take_ack(stream), stream->id, credit);
}

static const char *
on_stream_frame(YamuxSession *session, uint8_t type, uint16_t flags, uint32_t id, uint32_t length)
{
	YamuxStream *stream = find_stream(session, id);
	const char *problem;

	if (flags & FLAG_SYN)
	{
		problem = accept_stream(session, id, &stream);
		if (problem != NULL)
			return problem;
	}
	if (type == TYPE_DATA)
	{
		if (stream != NULL && (length > stream->recv_window || stream->fin_received))
			return broken(session, "more data than the window allows");
		if (stream != NULL)
			stream->recv_window -= length;
		session->data_stream = stream;
		session->data_left = length;
		session->data_flags = flags;
		if (length > 0 || stream == NULL)
			return NULL;
	}
	else if (stream != NULL)
	{
		if (length > UINT32_MAX - stream->send_window)
			return broken(session, "a window grew too large");
		stream->send_window += length;
	}
	if (stream == NULL)
		return NULL;
	if (stream->ack_due)
		return_credit(stream);
	if (type == TYPE_WINDOW && (stream->pending_size > 0 || stream->fin_wanted))
	{
		flush_pending(stream);
		stream = find_stream(session, id);
		if (stream == NULL)
			return NULL;
	}
	return end_flags(session, stream, flags);
}

static const char *
on_header(YamuxSession *session)
{
	const uint8_t *h = session->header;
	uint16_t flags = wire_get16be(h + 2);
	uint32_t id = wire_get32be(h + 4);
	uint32_t length = wire_get32be(h + 8);

	if (h[0] != 0)
		return broken(session, "unknown version");
	switch (h[1])
	{
		case TYPE_DATA:
		case TYPE_WINDOW:
			return on_stream_frame(session, h[1], flags, id, length);
		case TYPE_PING:
			if (flags & FLAG_SYN)
				send_frame(session, TYPE_PING, FLAG_ACK, 0, length);
			else if (session->callbacks->on_pong != NULL)
				session->callbacks->on_pong(session->arg, length);
			return NULL;
		case TYPE_GOAWAY:
			session->going_away = true;
			return length == 0 ? NULL : "the peer reported a protocol error";
		default:
			return broken(session, "unknown frame type");
	}
}

/* Hands over what is there of a Data frame's payload; returns how much. */
static size_t
on_payload(YamuxSession *session, const uint8_t *data, size_t size, const char **problem)
{
	size_t n = size < session->data_left ? size : session->data_left;
	YamuxStream *stream = session->data_stream;

	session->data_left -= (uint32_t) n;
	if (stream != NULL)
		session->callbacks->on_data(session->arg, stream, data, n);
	stream = session->data_stream; /* NULL when the callback gave it up */
	if (session->data_left > 0 || stream == NULL)
		return n;
	return_credit(stream);
	session->data_stream = NULL;
	*problem = end_flags(session, stream, session->data_flags);
	return n;
}

const char *
yamux_input(YamuxSession *session, const uint8_t *data, size_t size)
{
	const char *problem = NULL;

	while (size > 0 && problem == NULL)
	{
		size_t n;

		if (session->data_left > 0)
			n = on_payload(session, data, size, &problem);
		else
		{
			n = YAMUX_HEADER_LEN - session->header_have;
			n = n < size ? n : size;
			memcpy(session->header + session->header_have, data, n);
			session->header_have += n;
			if (session->header_have == YAMUX_HEADER_LEN)
			{
				session->header_have = 0;
				problem = on_header(session);
			}
		}
		data += n;
		size -= n;
	}
	return problem;
}

YamuxSession *
yamux_new(bool client, const YamuxCallbacks *callbacks, void *arg)
{
	YamuxSession *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	session->callbacks = callbacks;
	session->arg = arg;
	session->client = client;
	session->next_id = client ? 1 : 2;
	return session;
}

void
yamux_free(YamuxSession *session)
{
	if (session == NULL)
		return;
	session->freeing = true;
	while (session->streams != NULL)
	{
		YamuxStream *stream = session->streams;

		session->callbacks->on_end(session->arg, stream, true);
		if (session->streams == stream)
			drop_stream(stream);
	}
	free(session);
}

void
yamux_set_user(YamuxStream *stream, void *user)
{
	stream->user = user;
}

void *
yamux_user(const YamuxStream *stream)
{
	return stream->user;
}

uint32_t
yamux_stream_id(const YamuxStream *stream)
{
	return stream->id;
}
