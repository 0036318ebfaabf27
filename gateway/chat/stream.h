/*
 * stream.h -- one answer of a model as it arrives, whatever the provider's wire format is.
 *
 * A provider's parser tells it of text, reasoning and tool calls; it makes the parts that are streamed to clients and, at the
 * end, the content of the message that is stored.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_STREAM_H
#define GATEWAY_CHAT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define STREAM_MAX_CALLS 128
#define STREAM_MAX_TEXT ((size_t) 16 << 20)

typedef enum StreamEnd
{
	STREAM_OPEN,	   /* the provider has not said that it has ended */
	STREAM_STOP,	   /* the model is done */
	STREAM_TOOL_CALLS, /* it waits for results */
	STREAM_LENGTH	   /* cut off at the most tokens */
} StreamEnd;

typedef struct StreamUsage
{
	int64_t input; /* without what came from a cache */
	int64_t output;
	int64_t total;
	int64_t reasoning;
	int64_t cache_read;
	int64_t cache_creation;
} StreamUsage;

typedef struct Text
{
	char *bytes;
	size_t len;
	size_t room;
} Text;

typedef struct StreamCall
{
	int index; /* as the provider numbers them */
	char *id;
	char *name;
	Text args;
	char *signature; /* that the call must be shown with when it is told again, or NULL */
	char created_at[40];
} StreamCall;

/* A part for clients: {"type": "text", "text": ...} and the like; the callee takes the reference. */
typedef void (*StreamPart)(void *arg, json_t *part);

typedef struct Stream
{
	StreamPart part;
	void *arg;
	Text text;
	Text reasoning;
	char *signature;   /* of the reasoning */
	int n_thoughts;	   /* blocks of reasoning, where the provider counts them: a signature is of one */
	char *response_id; /* the provider's id of the answer, to go on from */
	StreamCall calls[STREAM_MAX_CALLS];
	int n_calls;
	StreamUsage usage;
	StreamEnd end;
	bool began;		  /* something has arrived */
	bool too_long;
	char *error;	  /* the provider said that it failed */
	int error_status; /* its HTTP status where it told one */
} Stream;

void stream_init(Stream *stream, StreamPart part, void *arg);
void stream_free(Stream *stream);

void stream_text(Stream *stream, const char *text, size_t len);
void stream_reasoning(Stream *stream, const char *text, size_t len);
/* The call of this index, begun where it is new; NULL where there are too many. */
StreamCall *stream_call(Stream *stream, int index, const char *id, const char *name);
/* The call of this index; NULL where none has begun. */
StreamCall *stream_find_call(Stream *stream, int index);
void stream_call_args(Stream *stream, StreamCall *call, const char *args, size_t len);
/* Adds to a signature: stream->signature or a call's. */
void stream_sign(Stream *stream, char **signature, const char *more);
void stream_fail(Stream *stream, int status, const char *error);

/* The arguments of a call as JSON; {} where it has none, NULL where they are not an object. */
json_t *stream_call_json(const StreamCall *call);

/* The parts of the assistant's message, without what is empty. */
json_t *stream_content(const Stream *stream);

/* {"input_tokens": ...}: what chat_step takes. */
json_t *stream_usage_json(const Stream *stream);

/* RFC 3339 of now, as in created_at of parts. */
void stream_now(char buf[40]);

#endif
