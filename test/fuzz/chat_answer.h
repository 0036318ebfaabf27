/*
 * chat_answer.h -- feeds an answer to a provider's parser, and checks what must hold whatever it says.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef FUZZ_CHAT_ANSWER_H
#define FUZZ_CHAT_ANSWER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../gateway/chat/provider.h"
#include "../../agent/wire/sse.h"

typedef struct ChatAnswer
{
	const ProviderFormat *format;
	Stream stream;
} ChatAnswer;

static void
chat_answer_event(void *arg, const char *name, const char *data, size_t len)
{
	ChatAnswer *answer = arg;

	if (data[len] != '\0')
		abort();
	answer->format->event(&answer->stream, name, data, len);
}

static void
chat_answer_part(void *arg, json_t *part)
{
	(void) arg;
	if (!json_is_string(json_object_get(part, "type")))
		abort();
	json_decref(part);
}

/* The content as text, without what is of this moment. */
static char *
chat_answer_text(const Stream *stream)
{
	json_t *content = stream_content(stream);
	json_t *part;
	size_t i;
	char *text;

	json_array_foreach(content, i, part)
	{
		json_object_del(part, "created_at");
		json_object_del(part, "tool_call_id");
	}
	text = json_dumps(content, JSON_COMPACT);
	json_decref(content);
	json_decref(stream_usage_json(stream));
	return text;
}

/* The content of the same bytes cut at this place. */
static __attribute__((unused)) char *
chat_answer_content(const ProviderFormat *format, const char *bytes, size_t size, size_t cut)
{
	ChatAnswer answer = {.format = format};
	char *text;
	Sse sse;

	stream_init(&answer.stream, chat_answer_part, NULL);
	sse_init(&sse, chat_answer_event, &answer);
	if (sse_feed(&sse, bytes, cut))
		sse_feed(&sse, bytes + cut, size - cut);
	sse_end(&sse);
	text = chat_answer_text(&answer.stream);
	sse_free(&sse);
	stream_free(&answer.stream);
	return text;
}

static __attribute__((unused)) void
chat_answer(const ProviderFormat *format, const char *bytes, size_t size)
{
	char *whole = chat_answer_content(format, bytes, size, 0);
	char *cut = chat_answer_content(format, bytes, size, size / 2);

	if (whole == NULL || cut == NULL || strcmp(whole, cut) != 0)
		abort();
	free(whole);
	free(cut);
}

#endif
