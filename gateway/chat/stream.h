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
#define STREAM_MAX_ITEMS 1024
#define STREAM_MAX_TEXT ((size_t) 16 << 20) /* of all items together */
#define STREAM_MAX_SOURCES 100

typedef enum StreamEnd
{
	STREAM_OPEN,	   /* the provider has not said that it has ended */
	STREAM_STOP,	   /* the model is done */
	STREAM_TOOL_CALLS, /* it waits for results */
	STREAM_LENGTH,	   /* cut off at the most tokens */
	STREAM_PAUSED	   /* the provider wants to be asked again to go on */
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

typedef enum StreamKind
{
	STREAM_TEXT,
	STREAM_REASONING,
	STREAM_CALL, /* of a tool of ours */
	STREAM_PART	 /* of the provider's own tools: a call, a result */
} StreamKind;

/* A piece of the answer, in the order in which it was said. */
typedef struct StreamItem
{
	StreamKind kind;
	int index;		 /* of a part: as the provider numbers it; of a call: in calls */
	Text text;		 /* of text and reasoning; of a part its arguments as they come */
	char *signature; /* of reasoning */
	json_t *part;
	json_t *metadata; /* what only the provider that made it understands: {"anthropic": {...}}, or NULL */
} StreamItem;

typedef struct StreamCall
{
	int index; /* as the provider numbers them */
	char *id;  /* no other call of the answer has it */
	char *given_id; /* as the provider wrote it; NULL where it has written none */
	char *name;
	Text args;
	json_t *metadata; /* as an item's */
	char created_at[40];
} StreamCall;

/* A part for clients: {"type": "text", "text": ...} and the like; the callee takes the reference. */
typedef void (*StreamPart)(void *arg, json_t *part);

typedef struct Stream
{
	StreamPart part;
	void *arg;
	StreamItem *items;
	int n_items;
	int room_items;
	bool apart;		   /* what comes now is an item of its own */
	size_t size;	   /* of all items' texts */
	json_t *sources;   /* parts of type source */
	char *response_id; /* the provider's id of the answer, to go on from */
	StreamCall *calls;
	int n_calls;
	int room_calls;
	StreamUsage usage;
	StreamEnd end;
	bool began;		  /* something has arrived */
	bool in_pieces;	  /* words come in pieces, and once more whole */
	bool too_long;
	char *error;	  /* the provider said that it failed */
	int error_status; /* its HTTP status where it told one */
} Stream;

void stream_init(Stream *stream, StreamPart part, void *arg);
void stream_free(Stream *stream);

void stream_text(Stream *stream, const char *text, size_t len);
void stream_reasoning(Stream *stream, const char *text, size_t len);
/* What comes now is not put together with what came before, though it is of the same kind. */
void stream_apart(Stream *stream);
/* The item of this kind that is being said, begun where there is none; NULL where there are too many.  Until the next call. */
StreamItem *stream_item(Stream *stream, StreamKind kind);
/* The call of this index, begun where it is new; NULL where there are too many. */
StreamCall *stream_call(Stream *stream, int index, const char *id, const char *name);
/* The call of this index; NULL where none has begun. */
StreamCall *stream_find_call(Stream *stream, int index);
/* Does this call have this id, as the provider writes it? */
bool stream_is_call(const StreamCall *call, const char *id);
void stream_call_args(Stream *stream, StreamCall *call, const char *args, size_t len);
/* Adds to the signature of the reasoning that is being said. */
void stream_sign(Stream *stream, const char *more, size_t len);
/* Sets metadata->provider.key. */
void stream_note(json_t **metadata, const char *provider, const char *key, json_t *value);
/*
 * A call or result of the provider's own tools, as a part (the reference is taken).  A call's arguments may follow; with
 * stream_part_done it is whole, and told.
 */
void stream_part(Stream *stream, int index, json_t *part);
void stream_part_args(Stream *stream, int index, const char *args, size_t len);
void stream_part_done(Stream *stream, int index);
/* A page that the answer rests on; told once for each URL. */
void stream_source(Stream *stream, const char *url, const char *title);
void stream_fail(Stream *stream, int status, const char *error);

/* The arguments of a call as JSON; {} where it has none, NULL where they are not an object. */
json_t *stream_call_json(const StreamCall *call);

/* All that was said, without thoughts; malloc'ed. */
char *stream_said(const Stream *stream);

/* The parts of the assistant's message, without what is empty. */
json_t *stream_content(const Stream *stream);

/* {"input_tokens": ...}: what chat_step takes. */
json_t *stream_usage_json(const Stream *stream);

/* RFC 3339 of now, as in created_at of parts. */
void stream_now(char buf[40]);

#endif
