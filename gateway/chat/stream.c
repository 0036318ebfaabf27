/*
 * stream.c -- one answer of a model as it arrives.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "stream.h"

void
stream_init(Stream *stream, StreamPart part, void *arg)
{
	memset(stream, 0, sizeof(*stream));
	stream->part = part;
	stream->arg = arg;
}

void
stream_free(Stream *stream)
{
	for (int i = 0; i < stream->n_calls; i++)
	{
		free(stream->calls[i].id);
		free(stream->calls[i].name);
		free(stream->calls[i].args.bytes);
		free(stream->calls[i].signature);
	}
	free(stream->text.bytes);
	free(stream->reasoning.bytes);
	free(stream->signature);
	free(stream->response_id);
	free(stream->error);
	memset(stream, 0, sizeof(*stream));
}

void
stream_now(char buf[40])
{
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(buf, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, 40 - n, ".%06ldZ", now.tv_nsec / 1000);
}

static bool
text_add(Stream *stream, Text *text, const char *bytes, size_t len)
{
	if (len >= STREAM_MAX_TEXT - text->len)
		stream->too_long = true;
	if (stream->too_long)
		return false;
	if (text->len + len + 1 > text->room)
	{
		size_t room = (text->len + len + 1) * 2;
		char *grown = realloc(text->bytes, room);

		if (grown == NULL)
		{
			stream->too_long = true;
			return false;
		}
		text->bytes = grown;
		text->room = room;
	}
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
	text->bytes[text->len] = '\0';
	stream->began = true;
	return true;
}

static void
tell(Stream *stream, json_t *part)
{
	if (part == NULL)
		return;
	if (stream->part != NULL)
		stream->part(stream->arg, part);
	else
		json_decref(part);
}

void
stream_text(Stream *stream, const char *text, size_t len)
{
	if (len > 0 && text_add(stream, &stream->text, text, len))
		tell(stream, json_pack("{s:s, s:s%}", "type", "text", "text", text, len));
}

void
stream_reasoning(Stream *stream, const char *text, size_t len)
{
	if (len > 0 && text_add(stream, &stream->reasoning, text, len))
		tell(stream, json_pack("{s:s, s:s%}", "type", "reasoning", "text", text, len));
}

StreamCall *
stream_find_call(Stream *stream, int index)
{
	for (int i = 0; i < stream->n_calls; i++)
		if (stream->calls[i].index == index)
			return &stream->calls[i];
	return NULL;
}

StreamCall *
stream_call(Stream *stream, int index, const char *id, const char *name)
{
	StreamCall *call = stream_find_call(stream, index);

	if (call != NULL)
		return call;
	if (stream->n_calls == STREAM_MAX_CALLS)
	{
		stream->too_long = true;
		return NULL;
	}
	call = &stream->calls[stream->n_calls];
	memset(call, 0, sizeof(*call));
	call->index = index;
	call->id = strdup(id != NULL ? id : "");
	call->name = strdup(name != NULL ? name : "");
	if (call->id == NULL || call->name == NULL)
	{
		free(call->id);
		free(call->name);
		stream->too_long = true;
		return NULL;
	}
	stream_now(call->created_at);
	stream->n_calls++;
	stream->began = true;
	return call;
}

void
stream_call_args(Stream *stream, StreamCall *call, const char *args, size_t len)
{
	if (call != NULL && len > 0 && text_add(stream, &call->args, args, len))
		tell(stream, json_pack("{s:s, s:s, s:s, s:s%}", "type", "tool-call", "tool_call_id", call->id, "tool_name",
							   call->name, "args_delta", args, len));
}

void
stream_sign(Stream *stream, char **signature, const char *more)
{
	size_t len = *signature != NULL ? strlen(*signature) : 0;
	size_t n = strlen(more);
	char *grown = len + n < STREAM_MAX_TEXT ? realloc(*signature, len + n + 1) : NULL;

	if (grown == NULL)
	{
		stream->too_long = true;
		return;
	}
	memcpy(grown + len, more, n + 1);
	*signature = grown;
}

void
stream_fail(Stream *stream, int status, const char *error)
{
	if (stream->error != NULL)
		return;
	stream->error = strdup(error != NULL ? error : "");
	stream->error_status = status;
}

json_t *
stream_call_json(const StreamCall *call)
{
	json_t *args;

	if (call->args.len == 0)
		return json_object();
	args = json_loadb(call->args.bytes, call->args.len, 0, NULL);
	if (args != NULL && json_is_object(args))
		return args;
	json_decref(args);
	return NULL;
}

json_t *
stream_content(const Stream *stream)
{
	json_t *content = json_array();

	if (stream->reasoning.len > 0)
	{
		json_t *part = json_pack("{s:s, s:s%}", "type", "reasoning", "text", stream->reasoning.bytes, stream->reasoning.len);

		if (stream->signature != NULL)
			json_object_set_new(part, "signature", json_string(stream->signature));
		json_array_append_new(content, part);
	}
	if (stream->text.len > 0)
		json_array_append_new(content, json_pack("{s:s, s:s%}", "type", "text", "text", stream->text.bytes, stream->text.len));
	for (int i = 0; i < stream->n_calls; i++)
	{
		const StreamCall *call = &stream->calls[i];
		json_t *args = stream_call_json(call);

		json_array_append_new(content, json_pack("{s:s, s:s, s:s, s:n, s:o, s:s}", "type", "tool-call", "tool_call_id", call->id,
												 "tool_name", call->name, "mcp_server_config_id", "args",
												 args != NULL ? args : json_object(), "created_at", call->created_at));
		if (call->signature != NULL)
			json_object_set_new(json_array_get(content, json_array_size(content) - 1), "signature", json_string(call->signature));
	}
	return content;
}

json_t *
stream_usage_json(const Stream *stream)
{
	const StreamUsage *u = &stream->usage;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "input_tokens", (json_int_t) u->input, "output_tokens",
					 (json_int_t) u->output, "total_tokens", (json_int_t) u->total, "reasoning_tokens",
					 (json_int_t) u->reasoning, "cache_read_tokens", (json_int_t) u->cache_read, "cache_creation_tokens",
					 (json_int_t) u->cache_creation);
}
