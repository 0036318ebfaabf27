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
#define MAX_DETAILS 1000
#define SMALL_DETAIL 8192 /* pieces are put together to so much before they go to what is large: it is not copied for each */

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

/* What OpenRouter said of its thoughts, as it said it. */
static void
add_details(json_t *message, const json_t *content)
{
	json_t *all = json_array();
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_t *own = json_object_get(json_object_get(part, "provider_metadata"), "openrouter");

		json_array_extend(all, json_object_get(own, "reasoning_details"));
	}
	if (json_array_size(all) > 0)
		json_object_set(message, "reasoning_details", all);
	json_decref(all);
}

static json_t *
assistant_message(const json_t *content, const char *provider)
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
	if (strcmp(provider, "openrouter") == 0)
		add_details(message, content);
	json_object_set_new(message, "content", text != NULL && *text != '\0' ? json_string(text) : json_null());
	free(text);
	if (json_array_size(calls) > 0)
		json_object_set(message, "tool_calls", calls);
	json_decref(calls);
	return message;
}

/* pictures: those of results, which only users may show here. */
static void
add_results(json_t *messages, json_t *pictures, const json_t *content)
{
	const char *media;
	const char *data;
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
		if (provider_result_picture(part, &media, &data))
			json_array_append_new(pictures, json_pack("{s:s, s:{s:o}}", "type", "image_url", "image_url", "url",
													  json_sprintf("data:%s;base64,%s", media, data)));
	}
}

/* All results come before what a user says. */
static void
add_pictures(json_t *messages, json_t *pictures)
{
	if (json_array_size(pictures) > 0)
		json_array_append_new(messages, json_pack("{s:s, s:o}", "role", "user", "content", json_copy(pictures)));
	json_array_clear(pictures);
}

static json_t *
messages_of(const json_t *history, const char *provider)
{
	json_t *messages = json_array();
	json_t *pictures = json_array();
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role == NULL)
			continue;
		if (strcmp(role, "tool") != 0)
			add_pictures(messages, pictures);
		if (strcmp(role, "tool") == 0)
			add_results(messages, pictures, content);
		else if (strcmp(role, "assistant") == 0)
			json_array_append_new(messages, assistant_message(content, provider));
		else
			json_array_append_new(messages, user_message(role, content));
	}
	add_pictures(messages, pictures);
	json_decref(pictures);
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

/* What each provider's options are called on the wire.  Not sent are those of OpenAI's Responses alone. */
static const char *const openai_options[][2] = {
	{"logit_bias", "logit_bias"}, {"log_probs", "logprobs"}, {"top_log_probs", "top_logprobs"}, {"parallel_tool_calls", "parallel_tool_calls"},
	{"user", "user"}, {"reasoning_effort", "reasoning_effort"}, {"text_verbosity", "verbosity"}, {"prediction", "prediction"},
	{"store", "store"}, {"metadata", "metadata"}, {"prompt_cache_key", "prompt_cache_key"}, {"safety_identifier", "safety_identifier"},
	{"service_tier", "service_tier"}, {NULL, NULL}};
static const char *const compat_options[][2] = {{"user", "user"}, {"reasoning_effort", "reasoning_effort"}, {NULL, NULL}};
static const char *const openrouter_options[][2] = {
	{"reasoning", "reasoning"}, {"logit_bias", "logit_bias"}, {"log_probs", "logprobs"}, {"parallel_tool_calls", "parallel_tool_calls"},
	{"user", "user"}, {"provider", "provider"}, {NULL, NULL}};
static const char *const vercel_options[][2] = {
	{"reasoning", "reasoning"}, {"providerOptions", "providerOptions"}, {"user", "user"}, {"logit_bias", "logit_bias"},
	{"logprobs", "logprobs"}, {"top_logprobs", "top_logprobs"}, {"parallel_tool_calls", "parallel_tool_calls"}, {NULL, NULL}};

static const struct
{
	const char *provider;
	const char *key; /* in provider_options */
	const char *const (*names)[2];
} own_options[] = {{"openai", "openai", openai_options},		{"azure", "openai", openai_options},
				   {"openrouter", "openrouter", openrouter_options}, {"vercel", "vercel", vercel_options},
				   {"openai-compat", "openaicompat", compat_options}};

/* A provider's own options. */
static void
add_own_options(json_t *body, const ProviderAsk *ask)
{
	json_t *own = NULL;

	for (size_t i = 0; i < sizeof(own_options) / sizeof(own_options[0]); i++)
		if (strcmp(own_options[i].provider, ask->provider) == 0)
		{
			own = json_object_get(json_object_get(ask->options, "provider_options"), own_options[i].key);
			provider_options(body, own, own_options[i].names);
		}
	if (json_object_get(body, "tools") == NULL)
		json_object_del(body, "parallel_tool_calls");
	if (json_is_true(json_object_get(own, "include_usage")))
		json_object_set_new(body, "usage", json_pack("{s:b}", "include", 1));
	/* More of the administrator's, but nothing that is ours. */
	if (json_is_object(json_object_get(own, "extra_body")))
		json_object_update_missing(body, json_object_get(own, "extra_body"));
}

static void
add_options(json_t *body, const ProviderAsk *ask)
{
	static const char *const numbers[][2] = {{"temperature", "temperature"}, {"top_p", "top_p"}, {"presence_penalty", "presence_penalty"},
											 {"frequency_penalty", "frequency_penalty"}, {NULL, NULL}};
	static const char *const top_k[][2] = {{"top_k", "top_k"}, {NULL, NULL}};
	bool reasoning = provider_openai_thinks(ask->model);
	const json_t *openai = json_object_get(json_object_get(ask->options, "provider_options"), "openai");
	bool is_openai = strcmp(ask->provider, "openai") == 0 || strcmp(ask->provider, "azure") == 0;
	const json_t *max = is_openai ? json_object_get(openai, "max_completion_tokens") : NULL;

	if (!json_is_integer(max))
		max = json_object_get(ask->options, "max_output_tokens");
	json_object_set_new(body, reasoning ? "max_completion_tokens" : "max_tokens",
						json_integer(ask->max_output > 0	 ? ask->max_output
									 : json_is_integer(max) ? json_integer_value(max)
															: DEFAULT_MAX_TOKENS));
	if (!reasoning)
		provider_options(body, ask->options, numbers);
	if (strcmp(ask->provider, "openrouter") == 0)
		provider_options(body, ask->options, top_k);
	add_own_options(body, ask);
}

static void
add_tools(json_t *body, const ProviderAsk *ask)
{
	json_t *schema = provider_openai_schema(ask);

	if (schema != NULL)
	{
		json_object_set_new(body, "response_format", json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", schema));
		return;
	}
	if (json_array_size(ask->tools) > 0)
		json_object_set_new(body, "tools", tools_of(ask->tools));
	if (ask->tool_choice != NULL)
		json_object_set_new(body, "tool_choice", json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", ask->tool_choice));
	else if (ask->no_calls && json_array_size(ask->tools) > 0)
		json_object_set_new(body, "tool_choice", json_string("none"));
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	json_t *body;

	request->url = provider_openai_url(ask, "/chat/completions", error);
	if (request->url == NULL)
		return false;
	body = json_pack("{s:s, s:o, s:b, s:{s:b}}", "model", ask->model, "messages", messages_of(ask->history, ask->provider), "stream", 1,
					 "stream_options", "include_usage", 1);
	add_tools(body, ask);
	add_options(body, ask);
	request->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	*error = "The request cannot be made.";
	return request->body != NULL && provider_openai_key(ask, request);
}

/* Answers -------------------------------------------------------------------- */

/* The text of two pieces of one detail becomes one. */
static bool
merge_detail(json_t *last, const json_t *more)
{
	static const char *const texts[] = {"text", "summary", "data"};
	const json_t *type = json_object_get(more, "type");
	const char *key;
	json_t *value;

	if (!json_equal(json_object_get(last, "type"), type) || !json_equal(json_object_get(last, "index"), json_object_get(more, "index")))
		return false;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		const json_t *a = json_object_get(last, texts[i]);
		const json_t *b = json_object_get(more, texts[i]);

		if (json_is_string(a) && json_is_string(b))
			json_object_set_new(last, texts[i], json_sprintf("%s%s", json_string_value(a), json_string_value(b)));
	}
	json_object_foreach((json_t *) more, key, value)
	{
		if (!json_is_string(json_object_get(last, key)))
			json_object_set(last, key, value);
	}
	return true;
}

static size_t
size_of_detail(const json_t *detail)
{
	return json_string_length(json_object_get(detail, "text")) + json_string_length(json_object_get(detail, "summary")) +
		   json_string_length(json_object_get(detail, "data"));
}

/* The last of the details is put to the one before it, where both are of one. */
static void
tie_details(json_t *kept)
{
	size_t n = json_array_size(kept);

	if (n > 1 && merge_detail(json_array_get(kept, n - 2), json_array_get(kept, n - 1)))
		json_array_remove(kept, n - 1);
}

static void
keep_detail(json_t *kept, const json_t *detail)
{
	json_t *last = json_array_get(kept, json_array_size(kept) - 1);

	if (last != NULL && size_of_detail(last) < SMALL_DETAIL && merge_detail(last, detail))
		return;
	tie_details(kept);
	if (json_array_size(kept) < MAX_DETAILS)
		json_array_append_new(kept, json_deep_copy(detail));
}

/* Does a detail have room in the answer? */
static bool
has_room(Stream *stream, const json_t *detail)
{
	size_t size = size_of_detail(detail);

	if (size >= STREAM_MAX_TEXT - stream->size)
		stream->too_long = true;
	else
		stream->size += size;
	return !stream->too_long;
}

/* Thoughts as OpenRouter wants them back. */
static void
take_details(Stream *stream, const json_t *details)
{
	StreamItem *item;
	json_t *kept;
	size_t i;
	json_t *detail;

	if (json_array_size(details) == 0 || (item = stream_item(stream, STREAM_REASONING)) == NULL)
		return;
	kept = json_object_get(json_object_get(item->metadata, "openrouter"), "reasoning_details");
	if (kept == NULL)
	{
		kept = json_array();
		stream_note(&item->metadata, "openrouter", "reasoning_details", kept);
	}
	json_array_foreach(details, i, detail)
	{
		if (!has_room(stream, detail))
			return;
		if (json_is_object(detail))
			keep_detail(kept, detail);
	}
}

/* Pages that the provider's search found. */
static void
take_annotations(Stream *stream, const json_t *annotations)
{
	size_t i;
	json_t *annotation;

	json_array_foreach(annotations, i, annotation)
	{
		const json_t *cited = json_object_get(annotation, "url_citation");

		stream_source(stream, json_string_value(json_object_get(cited, "url")), json_string_value(json_object_get(cited, "title")));
	}
}

/* The call that a piece is of.  Some send no index, and some the same one for all: then a new id begins a new call. */
static StreamCall *
call_of(Stream *stream, const json_t *piece)
{
	const json_t *index = json_object_get(piece, "index");
	const char *id = json_string_value(json_object_get(piece, "id"));
	const char *name = json_string_value(json_object_get(json_object_get(piece, "function"), "name"));
	int n = json_is_integer(index) ? (int) json_integer_value(index) : 0;
	StreamCall *call = stream_find_call(stream, n);
	bool is_new = id != NULL && *id != '\0' && name != NULL && *name != '\0';

	if (stream->n_calls > 0 && !json_is_integer(index))
		call = &stream->calls[stream->n_calls - 1];
	if (call != NULL && is_new && !stream_is_call(call, id))
	{
		while (stream_find_call(stream, n) != NULL)
			n++;
		call = NULL;
	}
	return call != NULL ? call : stream_call(stream, n, id, name);
}

/* A list of parts: [{"type": "text", "text": ...}], and thoughts as {"type": "thinking", "thinking": [...]}. */
static void
take_parts(Stream *stream, const json_t *parts, bool are_thoughts)
{
	size_t i;
	json_t *part;

	json_array_foreach(parts, i, part)
	{
		const json_t *text = json_object_get(part, "text");
		const json_t *thinking = json_object_get(part, "thinking");

		if (json_is_string(text))
			(are_thoughts ? stream_reasoning : stream_text)(stream, json_string_value(text), json_string_length(text));
		else if (json_is_string(thinking))
			stream_reasoning(stream, json_string_value(thinking), json_string_length(thinking));
		else if (!are_thoughts)
			take_parts(stream, thinking, true);
	}
}

/* What is said, a text; with some a list of parts. */
static void
take_content(Stream *stream, const json_t *content)
{
	if (json_is_string(content))
		stream_text(stream, json_string_value(content), json_string_length(content));
	else
		take_parts(stream, content, false);
}

/* Arguments as JSON, not as the text of it. */
static void
take_arguments(Stream *stream, StreamCall *call, const json_t *args)
{
	char *text = json_dumps(args, JSON_COMPACT);

	if (text != NULL)
		stream_call_args(stream, call, text, strlen(text));
	free(text);
}

static void
take_delta(Stream *stream, const json_t *delta)
{
	const json_t *content = json_object_get(delta, "content");
	const json_t *refusal = json_object_get(delta, "refusal");
	const json_t *reasoning = json_object_get(delta, "reasoning_content");
	size_t i;
	json_t *c;

	if (!json_is_string(reasoning))
		reasoning = json_object_get(delta, "reasoning");
	if (json_is_string(reasoning))
		stream_reasoning(stream, json_string_value(reasoning), json_string_length(reasoning));
	take_details(stream, json_object_get(delta, "reasoning_details"));
	take_content(stream, content);
	if (json_is_string(refusal))
		stream_text(stream, json_string_value(refusal), json_string_length(refusal));
	take_annotations(stream, json_object_get(delta, "annotations"));
	json_array_foreach(json_object_get(delta, "tool_calls"), i, c)
	{
		const json_t *args = json_object_get(json_object_get(c, "function"), "arguments");
		StreamCall *call = call_of(stream, c);

		if (json_is_string(args))
			stream_call_args(stream, call, json_string_value(args), json_string_length(args));
		else if (json_is_object(args))
			take_arguments(stream, call, args);
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
	for (int i = 0; i < stream->n_items; i++)
		tie_details(json_object_get(json_object_get(stream->items[i].metadata, "openrouter"), "reasoning_details"));
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
	if (strncmp(data, "[DONE]", 6) == 0)
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
	provider_fail(stream, root);
	choice = json_array_get(json_object_get(root, "choices"), 0);
	/* Who does not stream says all at once. */
	take_delta(stream, json_object_get(choice, json_is_object(json_object_get(choice, "delta")) ? "delta" : "message"));
	take_usage(stream, json_object_get(root, "usage"));
	take_finish(stream, json_string_value(json_object_get(choice, "finish_reason")));
	json_decref(root);
}

const ProviderFormat provider_chat_completions = {make_request, take_event, false};
