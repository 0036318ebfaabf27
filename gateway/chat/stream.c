/*
 * stream.c -- one answer of a model as it arrives.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
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

static void
item_free(StreamItem *item)
{
	free(item->text.bytes);
	free(item->signature);
	json_decref(item->part);
	json_decref(item->metadata);
}

void
stream_free(Stream *stream)
{
	for (int i = 0; i < stream->n_calls; i++)
	{
		free(stream->calls[i].id);
		free(stream->calls[i].given_id);
		free(stream->calls[i].name);
		free(stream->calls[i].args.bytes);
		json_decref(stream->calls[i].metadata);
	}
	for (int i = 0; i < stream->n_items; i++)
		item_free(&stream->items[i]);
	free(stream->calls);
	free(stream->items);
	json_decref(stream->sources);
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

/* PostgreSQL has no U+0000: it becomes U+FFFD. */
static size_t
without_nul(char *to, const char *bytes, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (bytes[i] == '\0')
		{
			memcpy(to + n, "\xef\xbf\xbd", 3);
			n += 3;
		}
		else
			to[n++] = bytes[i];
	return n;
}

/* Where what was added is; NULL where there is no room. */
static const char *
text_add(Stream *stream, Text *text, const char *bytes, size_t len, size_t *added)
{
	size_t most = memchr(bytes, '\0', len) == NULL ? len : 3 * len;

	if (most >= STREAM_MAX_TEXT - stream->size)
		stream->too_long = true;
	if (stream->too_long)
		return NULL;
	if (text->len + most + 1 > text->room)
	{
		size_t room = (text->len + most + 1) * 2;
		char *grown = realloc(text->bytes, room);

		if (grown == NULL)
		{
			stream->too_long = true;
			return NULL;
		}
		text->bytes = grown;
		text->room = room;
	}
	*added = without_nul(text->bytes + text->len, bytes, len);
	text->len += *added;
	stream->size += *added;
	text->bytes[text->len] = '\0';
	stream->began = true;
	return text->bytes + text->len - *added;
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

/* Items ---------------------------------------------------------------------- */

static StreamItem *
new_item(Stream *stream, StreamKind kind)
{
	StreamItem *item;

	if (stream->n_items == stream->room_items)
	{
		int room = stream->room_items > 0 ? 2 * stream->room_items : 8;
		StreamItem *grown = room <= STREAM_MAX_ITEMS ? realloc(stream->items, (size_t) room * sizeof(*grown)) : NULL;

		if (grown == NULL)
		{
			stream->too_long = true;
			return NULL;
		}
		stream->items = grown;
		stream->room_items = room;
	}
	item = &stream->items[stream->n_items++];
	memset(item, 0, sizeof(*item));
	item->kind = kind;
	stream->apart = false;
	return item;
}

void
stream_apart(Stream *stream)
{
	stream->apart = true;
}

StreamItem *
stream_item(Stream *stream, StreamKind kind)
{
	StreamItem *last = stream->n_items > 0 ? &stream->items[stream->n_items - 1] : NULL;

	if (last != NULL && last->kind == kind && !stream->apart)
		return last;
	/* Who reads along sees two thoughts in a row as two. */
	if (last != NULL && last->kind == kind && kind == STREAM_REASONING && last->text.len > 0)
		tell(stream, json_pack("{s:s, s:s}", "type", "reasoning", "text", "\n\n"));
	return new_item(stream, kind);
}

static void
add_words(Stream *stream, StreamKind kind, const char *text, size_t len)
{
	StreamItem *item = len > 0 ? stream_item(stream, kind) : NULL;
	size_t n = 0;
	const char *added = item != NULL ? text_add(stream, &item->text, text, len, &n) : NULL;

	if (added != NULL)
		tell(stream, json_pack("{s:s, s:s%}", "type", kind == STREAM_TEXT ? "text" : "reasoning", "text", added, n));
}

void
stream_text(Stream *stream, const char *text, size_t len)
{
	add_words(stream, STREAM_TEXT, text, len);
}

void
stream_reasoning(Stream *stream, const char *text, size_t len)
{
	add_words(stream, STREAM_REASONING, text, len);
}

void
stream_sign(Stream *stream, const char *more, size_t n)
{
	StreamItem *item = stream_item(stream, STREAM_REASONING);
	size_t len = item != NULL && item->signature != NULL ? strlen(item->signature) : 0;
	char *grown = item != NULL && n < STREAM_MAX_TEXT - stream->size ? realloc(item->signature, len + n + 1) : NULL;

	if (grown == NULL)
	{
		stream->too_long = true;
		return;
	}
	memcpy(grown + len, more, n);
	grown[len + n] = '\0';
	item->signature = grown;
	stream->size += n;
}

void
stream_note(json_t **metadata, const char *provider, const char *key, json_t *value)
{
	json_t *own;

	if (*metadata == NULL)
		*metadata = json_object();
	own = json_object_get(*metadata, provider);
	if (own == NULL)
	{
		own = json_object();
		json_object_set_new(*metadata, provider, own);
	}
	json_object_set_new(own, key, value);
}

/* The provider's own tools ----------------------------------------------------- */

static StreamItem *
find_part(Stream *stream, int index)
{
	for (int i = stream->n_items - 1; i >= 0; i--)
		if (stream->items[i].kind == STREAM_PART && stream->items[i].index == index)
			return &stream->items[i];
	return NULL;
}

void
stream_part(Stream *stream, int index, json_t *part)
{
	StreamItem *item = part != NULL ? new_item(stream, STREAM_PART) : NULL;
	char now[40];

	if (item == NULL)
	{
		json_decref(part);
		return;
	}
	stream_now(now);
	json_object_set_new(part, "provider_executed", json_true());
	json_object_set_new(part, "mcp_server_config_id", json_null());
	json_object_set_new(part, "created_at", json_string(now));
	item->index = index;
	item->part = part;
	stream->began = true;
}

void
stream_part_args(Stream *stream, int index, const char *args, size_t len)
{
	StreamItem *item = find_part(stream, index);
	size_t added;

	if (item != NULL && len > 0)
		text_add(stream, &item->text, args, len, &added);
}

void
stream_part_done(Stream *stream, int index)
{
	StreamItem *item = find_part(stream, index);
	json_t *args;
	json_t *told;

	if (item == NULL)
		return;
	if (item->text.len > 0)
	{
		args = json_loadb(item->text.bytes, item->text.len, 0, NULL);
		json_object_set_new(item->part, "args", json_is_object(args) ? json_incref(args) : json_object());
		json_decref(args);
	}
	told = json_copy(item->part);
	json_object_del(told, "provider_metadata");
	tell(stream, told);
}

void
stream_source(Stream *stream, const char *url, const char *title)
{
	json_t *part;
	size_t i;

	if (url == NULL || *url == '\0')
		return;
	if (stream->sources == NULL)
		stream->sources = json_array();
	json_array_foreach(stream->sources, i, part)
	{
		if (strcmp(json_string_value(json_object_get(part, "url")), url) == 0)
			return;
	}
	if (i == STREAM_MAX_SOURCES)
		return;
	part = json_pack("{s:s, s:o, s:s, s:s*}", "type", "source", "source_id", json_sprintf("source_%zu", i + 1), "url", url, "title", title);
	json_array_append(stream->sources, part);
	tell(stream, part);
}

/* Calls of our tools ------------------------------------------------------------ */

StreamCall *
stream_find_call(Stream *stream, int index)
{
	for (int i = 0; i < stream->n_calls; i++)
		if (stream->calls[i].index == index)
			return &stream->calls[i];
	return NULL;
}

static bool
grow_calls(Stream *stream)
{
	int room = stream->room_calls > 0 ? 4 * stream->room_calls : 2;
	StreamCall *grown;

	if (stream->n_calls < stream->room_calls)
		return true;
	grown = room <= STREAM_MAX_CALLS ? realloc(stream->calls, (size_t) room * sizeof(*grown)) : NULL;
	if (grown == NULL)
		return false;
	stream->calls = grown;
	stream->room_calls = room;
	return true;
}

/* An id for a call that has none: no other call of the chat has it. */
static char *
make_id(int index)
{
	char now[40];
	char *id = malloc(80);
	int n = id != NULL ? snprintf(id, 80, "call_") : 0;

	if (id == NULL)
		return NULL;
	stream_now(now);
	for (const char *p = now; *p != '\0'; p++)
		if (isdigit((unsigned char) *p))
			id[n++] = *p;
	snprintf(id + n, 80 - (size_t) n, "_%d", index);
	return id;
}

/* Ids of calls are told to other providers too: what one of them would refuse is "_". */
static char *
clean_id(const char *id, int index)
{
	char *clean;

	if (id == NULL || *id == '\0')
		return make_id(index);
	clean = strdup(id);
	for (char *p = clean; p != NULL && *p != '\0'; p++)
		if (!isalnum((unsigned char) *p) && *p != '_' && *p != '-')
			*p = '_';
	return clean;
}

bool
stream_is_call(const StreamCall *call, const char *id)
{
	return call->given_id != NULL && strcmp(call->given_id, id) == 0;
}

/* Of two calls with one id the second has another, as its result must find it. */
static char *
own_id(const Stream *stream, const char *id)
{
	char *clean = clean_id(id, stream->n_calls);

	for (int i = 0; clean != NULL && i < stream->n_calls; i++)
		if (strcmp(stream->calls[i].id, clean) == 0)
		{
			free(clean);
			return make_id(stream->n_calls);
		}
	return clean;
}

StreamCall *
stream_call(Stream *stream, int index, const char *id, const char *name)
{
	StreamCall *call = stream_find_call(stream, index);
	StreamItem *item;

	if (call != NULL)
		return call;
	item = grow_calls(stream) ? new_item(stream, STREAM_CALL) : NULL;
	if (item == NULL)
	{
		stream->too_long = true;
		return NULL;
	}
	item->index = stream->n_calls;
	call = &stream->calls[stream->n_calls];
	memset(call, 0, sizeof(*call));
	call->index = index;
	call->id = own_id(stream, id);
	call->given_id = id != NULL ? strdup(id) : NULL;
	call->name = strdup(name != NULL ? name : "");
	if (call->id == NULL || call->name == NULL)
	{
		free(call->id);
		free(call->given_id);
		free(call->name);
		stream->n_items--;
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
	size_t n = 0;
	const char *added = call != NULL && len > 0 ? text_add(stream, &call->args, args, len, &n) : NULL;

	if (added != NULL)
		tell(stream, json_pack("{s:s, s:s, s:s, s:s%}", "type", "tool-call", "tool_call_id", call->id, "tool_name",
							   call->name, "args_delta", added, n));
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

char *
stream_said(const Stream *stream)
{
	char *said = malloc(stream->size + 1);
	size_t len = 0;

	for (int i = 0; said != NULL && i < stream->n_items; i++)
		if (stream->items[i].kind == STREAM_TEXT && stream->items[i].text.len > 0)
		{
			memcpy(said + len, stream->items[i].text.bytes, stream->items[i].text.len);
			len += stream->items[i].text.len;
		}
	if (said != NULL)
		said[len] = '\0';
	return said;
}

static json_t *
call_part(const StreamCall *call)
{
	json_t *args = stream_call_json(call);
	json_t *part = json_pack("{s:s, s:s, s:s, s:n, s:o, s:s}", "type", "tool-call", "tool_call_id", call->id, "tool_name", call->name,
							 "mcp_server_config_id", "args", args != NULL ? args : json_object(), "created_at", call->created_at);

	if (part != NULL && call->metadata != NULL)
		json_object_set(part, "provider_metadata", call->metadata);
	return part;
}

/* Text or reasoning; NULL where it says nothing to anybody. */
static json_t *
words_part(const StreamItem *item)
{
	json_t *part;

	if (item->text.len == 0 && item->signature == NULL && item->metadata == NULL)
		return NULL;
	part = json_pack("{s:s, s:s%}", "type", item->kind == STREAM_TEXT ? "text" : "reasoning", "text",
					 item->text.len > 0 ? item->text.bytes : "", item->text.len);
	if (part != NULL && item->signature != NULL)
		json_object_set_new(part, "signature", json_string(item->signature));
	if (part != NULL && item->metadata != NULL)
		json_object_set(part, "provider_metadata", item->metadata);
	return part;
}

json_t *
stream_content(const Stream *stream)
{
	json_t *content = json_array();

	for (int i = 0; i < stream->n_items; i++)
	{
		const StreamItem *item = &stream->items[i];
		json_t *part = item->kind == STREAM_CALL   ? call_part(&stream->calls[item->index])
					   : item->kind == STREAM_PART ? json_copy(item->part)
												   : words_part(item);

		if (part != NULL)
			json_array_append_new(content, part);
	}
	json_array_extend(content, stream->sources);
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
