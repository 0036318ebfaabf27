/*
 * debug.c -- notes of what was asked and answered.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "db.h"
#include "debug.h"

#define MAX_SAID 2000
#define MIN_SECRET 6

static json_t *
new_id(void)
{
	unsigned char b[16];
	char hex[33];

	randombytes_buf(b, sizeof(b));
	b[6] = (unsigned char) ((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char) ((b[8] & 0x3f) | 0x80);
	sodium_bin2hex(hex, sizeof(hex), b, sizeof(b));
	return json_sprintf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

/* Sends a note; step: taken over, or NULL. */
static void
note(Debug *debug, const char *status, json_t *step)
{
	json_t *told = json_copy(debug->run);
	char *text;

	json_object_set_new(told, "status", json_string(status));
	if (step != NULL)
	{
		json_object_set_new(step, "number", json_integer(debug->step));
		json_object_set_new(told, "step", step);
	}
	text = json_dumps(told, JSON_COMPACT);
	if (text != NULL)
	{
		const char *const params[] = {text};

		db_call("SELECT coder.chat_debug_note($1::jsonb)", 1, params, NULL, NULL);
	}
	free(text);
	json_decref(told);
}

void
debug_begin(Debug *debug, const json_t *chat, const Grant *grant, const char *kind)
{
	debug_free(debug);
	debug->run = json_pack("{s:o, s:O, s:s, s:O*, s:O*, s:O*}", "id", new_id(), "chat_id", json_object_get(chat, "id"), "kind", kind,
						   "provider", json_object_get(grant->provider, "provider"), "model", json_object_get(grant->model, "model"),
						   "model_config_id", json_object_get(grant->model, "id"));
	if (debug->run != NULL)
		note(debug, "in_progress", NULL);
}

/* A part without what only machines read. */
static json_t *
plain_part(const json_t *part)
{
	json_t *plain = json_copy((json_t *) part);
	size_t len = json_string_length(json_object_get(part, "data"));

	json_object_del(plain, "provider_metadata");
	json_object_del(plain, "signature");
	if (json_object_del(plain, "data") == 0)
		json_object_set_new(plain, "data_size", json_integer((json_int_t) (len / 4 * 3)));
	return plain;
}

static json_t *
plain_content(const json_t *content)
{
	json_t *plain = json_array();
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_array_append_new(plain, plain_part(part));
	}
	return plain;
}

static json_t *
plain_history(const json_t *history)
{
	json_t *plain = json_array();
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		json_array_append_new(plain, json_pack("{s:O*, s:O*, s:o}", "id", json_object_get(m, "id"), "role", json_object_get(m, "role"), "content",
											   plain_content(json_object_get(m, "content"))));
	}
	return plain;
}

void
debug_asked(Debug *debug, const Grant *grant, const json_t *history, const json_t *tools, const char *operation)
{
	if (debug->run == NULL || debug->open)
		return;
	debug->open = true;
	debug->step++;
	json_decref(debug->attempts);
	debug->attempts = json_array();
	note(debug, "in_progress", json_pack("{s:s, s:s, s:{s:o, s:O*, s:O*}}", "operation", operation, "status", "in_progress", "request", "messages",
										 plain_history(history), "tools", tools, "options", json_object_get(grant->model, "options")));
}

/* Blots out each occurrence of a secret. */
static void
blot(char *text, const char *secret, size_t len)
{
	for (char *at = text; len >= MIN_SECRET && strlen(at) >= len; at++)
		if (strncmp(at, secret, len) == 0)
			memset(at, '*', len);
}

/* What a provider said, without the key, whole or a piece of it between colons. */
static json_t *
without_key(const char *said, const char *key)
{
	char *text = strndup(said, MAX_SAID);
	json_t *made;

	if (text == NULL)
		return NULL;
	if (key != NULL)
	{
		blot(text, key, strlen(key));
		for (const char *piece = key; *piece != '\0'; piece += strspn(piece, ":"))
		{
			size_t len = strcspn(piece, ":");

			blot(text, piece, len);
			piece += len;
		}
	}
	made = json_string(text);
	if (made == NULL)
		made = json_string("(no UTF-8)");
	free(text);
	return made;
}

void
debug_failed(Debug *debug, const Grant *grant, const Failure *failure, const char *said, int64_t delay_ms)
{
	json_t *attempt;

	if (debug->run == NULL || !debug->open)
		return;
	attempt = json_pack("{s:i, s:s, s:s, s:b}", "number", (int) json_array_size(debug->attempts) + 1, "status", "error", "kind",
						failure_kind_name(failure->kind), "retryable", (int) failure->retryable);
	if (failure->status > 0)
		json_object_set_new(attempt, "status_code", json_integer(failure->status));
	if (delay_ms > 0)
		json_object_set_new(attempt, "delay_ms", json_integer(delay_ms));
	if (said != NULL)
		json_object_set_new(attempt, "message", without_key(said, grant->api_key));
	json_array_append_new(debug->attempts, attempt);
	note(debug, "in_progress", json_pack("{s:s, s:O}", "status", "in_progress", "attempts", debug->attempts));
}

void
debug_step(Debug *debug, const Stream *stream, const char *status)
{
	static const char *const ends[] = {"open", "stop", "tool_calls", "length", "paused"};
	json_t *step;
	json_t *content;

	if (debug->run == NULL || !debug->open)
		return;
	debug->open = false;
	step = json_pack("{s:s, s:O}", "status", status, "attempts", debug->attempts);
	if (strcmp(status, "error") == 0 && json_array_size(debug->attempts) > 0)
		json_object_set(step, "error", json_array_get(debug->attempts, json_array_size(debug->attempts) - 1));
	if (stream != NULL)
	{
		content = stream_content(stream);
		json_object_set_new(step, "response", json_pack("{s:o, s:s}", "content", plain_content(content), "finish_reason", ends[stream->end]));
		json_object_set_new(step, "usage", stream_usage_json(stream));
		json_decref(content);
	}
	note(debug, "in_progress", step);
}

void
debug_stored(Debug *debug, const char *ids)
{
	long long id = ids != NULL && *ids == '{' ? atoll(ids + 1) : 0;

	if (debug->run != NULL && id > 0)
		note(debug, "in_progress", json_pack("{s:I}", "assistant_message_id", (json_int_t) id));
}

void
debug_interrupted(Debug *debug, const Stream *stream)
{
	debug->interrupted = true;
	debug_step(debug, stream, "interrupted");
}

void
debug_end(Debug *debug, const char *status)
{
	if (debug->run == NULL)
		return;
	debug_step(debug, NULL, debug->interrupted ? "interrupted" : status);
	note(debug, debug->interrupted ? "interrupted" : status, NULL);
	debug_free(debug);
}

void
debug_free(Debug *debug)
{
	json_decref(debug->run);
	json_decref(debug->attempts);
	memset(debug, 0, sizeof(*debug));
}
