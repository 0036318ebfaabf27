/*
 * completions.c -- OpenAI's chat completions, which many others speak too.
 *
 *   POST <base>/chat/completions, "stream": true
 *   data: {"choices":[{"index":0,"delta":{"content":"..."},"finish_reason":null}]}     one a piece
 *   data: {"choices":[],"usage":{...}}                                               where asked for
 *   data: [DONE]
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "provider.h"

#define DEFAULT_MAX_TOKENS 32000

/* Requests ------------------------------------------------------------------- */

static json_t *
text_part(const char *text)
{
	return json_pack("{s:s, s:s}", "type", "text", "text", text);
}

/* A file with data is a picture; one with text was read for the model. */
static json_t *
user_part(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *media;
	const char *data;
	const char *text = json_string_value(json_object_get(part, "text"));
	json_t *url;
	json_t *made;

	if (type == NULL)
		return NULL;
	if (provider_file_data(part, &media, &data))
	{
		url = json_sprintf("data:%s;base64,%s", media, data);
		made = json_pack("{s:s, s:{s:o}}", "type", "image_url", "image_url", "url", url);
		return made;
	}
	if (strcmp(type, "file-reference") == 0)
		return json_pack("{s:s, s:o}", "type", "text", "text", provider_reference_text(part));
	return text != NULL && *text != '\0' ? text_part(text) : NULL;
}

static bool
only_text(const json_t *content)
{
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));

		if (type != NULL && strcmp(type, "text") != 0 && strcmp(type, "reasoning") != 0)
			return false;
	}
	return true;
}

static json_t *
user_message(const char *role, const json_t *content)
{
	json_t *message = json_pack("{s:s}", "role", role);
	json_t *parts;
	size_t i;
	json_t *part;

	if (only_text(content))
	{
		char *text = provider_text_of(content);

		json_object_set_new(message, "content", json_string(text != NULL ? text : ""));
		free(text);
		return message;
	}
	parts = json_array();
	json_array_foreach(content, i, part)
	{
		json_t *made = user_part(part);

		if (made != NULL)
			json_array_append_new(parts, made);
	}
	json_object_set_new(message, "content", parts);
	return message;
}

static json_t *
assistant_message(const json_t *content)
{
	json_t *message = json_pack("{s:s}", "role", "assistant");
	json_t *calls = json_array();
	char *text = provider_text_of(content);
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		char *args;

		if (type == NULL || strcmp(type, "tool-call") != 0 || json_is_true(json_object_get(part, "provider_executed")))
			continue;
		args = json_dumps(json_object_get(part, "args"), JSON_COMPACT | JSON_ENCODE_ANY);
		json_array_append_new(calls, json_pack("{s:O, s:s, s:{s:O, s:s}}", "id", json_object_get(part, "tool_call_id"), "type", "function",
											   "function", "name", json_object_get(part, "tool_name"), "arguments",
											   args != NULL ? args : "{}"));
		free(args);
	}
	json_object_set_new(message, "content", text != NULL && *text != '\0' ? json_string(text) : json_null());
	free(text);
	if (json_array_size(calls) > 0)
		json_object_set(message, "tool_calls", calls);
	json_decref(calls);
	return message;
}

static void
add_results(json_t *messages, const json_t *content)
{
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		char *text;

		if (type == NULL || strcmp(type, "tool-result") != 0)
			continue;
		text = provider_result_text(part);
		json_array_append_new(messages, json_pack("{s:s, s:O, s:s}", "role", "tool", "tool_call_id",
												  json_object_get(part, "tool_call_id"), "content", text != NULL ? text : ""));
		free(text);
	}
}

static json_t *
messages_of(const json_t *history)
{
	json_t *messages = json_array();
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role == NULL)
			continue;
		if (strcmp(role, "tool") == 0)
			add_results(messages, content);
		else if (strcmp(role, "assistant") == 0)
			json_array_append_new(messages, assistant_message(content));
		else
			json_array_append_new(messages, user_message(role, content));
	}
	return messages;
}

static json_t *
tools_of(const json_t *tools)
{
	json_t *made = json_array();
	size_t i;
	json_t *tool;

	json_array_foreach(tools, i, tool)
	{
		json_array_append_new(made, json_pack("{s:s, s:{s:O, s:O, s:O}}", "type", "function", "function", "name",
											  json_object_get(tool, "name"), "description", json_object_get(tool, "description"),
											  "parameters", json_object_get(tool, "input_schema")));
	}
	return made;
}

static void
add_options(json_t *body, const ProviderAsk *ask)
{
	static const char *const numbers[] = {"temperature", "top_p", "presence_penalty", "frequency_penalty"};
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"),
										strcmp(ask->provider, "openai-compat") == 0 ? "openaicompat" : "openai");
	const json_t *max = json_object_get(ask->options, "max_output_tokens");
	bool reasoning = provider_openai_thinks(ask->model);
	const json_t *effort = json_object_get(own, "reasoning_effort");

	json_object_set_new(body, reasoning ? "max_completion_tokens" : "max_tokens",
						json_integer(ask->max_output > 0	 ? ask->max_output
									 : json_is_integer(max) ? json_integer_value(max)
															: DEFAULT_MAX_TOKENS));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && !reasoning; i++)
		if (json_is_number(json_object_get(ask->options, numbers[i])))
			json_object_set(body, numbers[i], json_object_get(ask->options, numbers[i]));
	if (json_is_string(effort))
		json_object_set(body, "reasoning_effort", (json_t *) effort);
	if (json_is_string(json_object_get(own, "user")))
		json_object_set(body, "user", json_object_get(own, "user"));
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	json_t *body;

	request->url = provider_openai_url(ask, "/chat/completions", error);
	if (request->url == NULL)
		return false;
	body = json_pack("{s:s, s:o, s:b, s:{s:b}}", "model", ask->model, "messages", messages_of(ask->history), "stream", 1,
					 "stream_options", "include_usage", 1);
	if (json_array_size(ask->tools) > 0)
		json_object_set_new(body, "tools", tools_of(ask->tools));
	if (ask->tool_choice != NULL)
		json_object_set_new(body, "tool_choice", json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", ask->tool_choice));
	add_options(body, ask);
	request->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	*error = "The request cannot be made.";
	return request->body != NULL && provider_openai_key(ask, request);
}

/* Answers -------------------------------------------------------------------- */

static void
take_delta(Stream *stream, const json_t *delta)
{
	const json_t *content = json_object_get(delta, "content");
	const json_t *reasoning = json_object_get(delta, "reasoning_content");
	size_t i;
	json_t *c;

	if (json_is_string(reasoning))
		stream_reasoning(stream, json_string_value(reasoning), json_string_length(reasoning));
	if (json_is_string(content))
		stream_text(stream, json_string_value(content), json_string_length(content));
	json_array_foreach(json_object_get(delta, "tool_calls"), i, c)
	{
		const json_t *function = json_object_get(c, "function");
		const json_t *args = json_object_get(function, "arguments");
		StreamCall *call = stream_call(stream, (int) json_integer_value(json_object_get(c, "index")),
									   json_string_value(json_object_get(c, "id")), json_string_value(json_object_get(function, "name")));

		if (json_is_string(args))
			stream_call_args(stream, call, json_string_value(args), json_string_length(args));
	}
}

static void
take_usage(Stream *stream, const json_t *usage)
{
	int64_t cached = json_integer_value(json_object_get(json_object_get(usage, "prompt_tokens_details"), "cached_tokens"));
	int64_t prompt = json_integer_value(json_object_get(usage, "prompt_tokens"));
	StreamUsage *u = &stream->usage;

	if (!json_is_object(usage))
		return;
	u->input = cached >= 0 && prompt > cached ? prompt - cached : 0;
	u->cache_read = cached;
	u->output = json_integer_value(json_object_get(usage, "completion_tokens"));
	u->total = json_integer_value(json_object_get(usage, "total_tokens"));
	u->reasoning = json_integer_value(json_object_get(json_object_get(usage, "completion_tokens_details"), "reasoning_tokens"));
}

static void
take_finish(Stream *stream, const char *reason)
{
	if (reason == NULL)
		return;
	if (strcmp(reason, "length") == 0)
		stream->end = STREAM_LENGTH;
	else
		stream->end = STREAM_STOP;
	/* Some say "stop" behind a call. */
	if (stream->n_calls > 0)
		stream->end = STREAM_TOOL_CALLS;
}

static void
take_event(Stream *stream, const char *name, const char *data, size_t len)
{
	json_t *root;
	const json_t *choice;

	(void) name;
	if (strcmp(data, "[DONE]") == 0)
	{
		if (stream->end == STREAM_OPEN)
			take_finish(stream, "stop");
		return;
	}
	root = json_loadb(data, len, 0, NULL);
	if (root == NULL)
	{
		stream_fail(stream, 0, "the answer holds what is no JSON");
		return;
	}
	if (json_is_object(json_object_get(root, "error")))
	{
		char *text = provider_error_text(data, len);
		const json_t *code = json_object_get(json_object_get(root, "error"), "code");

		stream_fail(stream, json_is_integer(code) ? (int) json_integer_value(code) : 0, text);
		free(text);
	}
	choice = json_array_get(json_object_get(root, "choices"), 0);
	take_delta(stream, json_object_get(choice, "delta"));
	take_usage(stream, json_object_get(root, "usage"));
	take_finish(stream, json_string_value(json_object_get(choice, "finish_reason")));
	json_decref(root);
}

const ProviderFormat provider_chat_completions = {make_request, take_event, false};
