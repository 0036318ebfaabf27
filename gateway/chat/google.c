/*
 * google.c -- Google's Gemini API.
 *
 *   POST <base>/v1beta/models/<model>:streamGenerateContent?alt=sse
 *   data: {"candidates": [{"content": {"parts": [...]}, "finishReason"?}], "usageMetadata": {...}}     one a piece
 *
 * Calls have no numbers, often no ids, and come whole.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"

#define DEFAULT_MAX_TOKENS 32000
#define MIN_THINKING_BUDGET 128

/* Requests ------------------------------------------------------------------- */

static json_t *
text_part(const char *text)
{
	return text != NULL && *text != '\0' ? json_pack("{s:s}", "text", text) : NULL;
}

/* A result is an object here. */
static json_t *
result_part(const json_t *part)
{
	json_t *result = json_object_get(part, "result");
	const char *key = json_is_true(json_object_get(part, "is_error")) ? "error" : "output";
	json_t *response = json_is_object(result) ? json_incref(result) : json_pack("{s:O?}", key, result);

	if (json_is_true(json_object_get(part, "is_media")))
	{
		char *text = provider_result_text(part);

		json_decref(response);
		response = json_pack("{s:s}", key, text != NULL ? text : "");
		free(text);
	}
	return json_pack("{s:{s:O, s:o}}", "functionResponse", "name", json_object_get(part, "tool_name"), "response", response);
}

static json_t *
call_part(const json_t *part)
{
	return json_pack("{s:{s:O, s:O}}", "functionCall", "name", json_object_get(part, "tool_name"), "args", json_object_get(part, "args"));
}

/* The signature that came with a part goes back with it. */
static json_t *
signed_part(const json_t *part, json_t *made)
{
	json_t *signature = json_object_get(json_object_get(json_object_get(part, "provider_metadata"), "google"), "thought_signature");

	if (json_is_string(signature))
	{
		if (made == NULL)
			made = json_pack("{s:s}", "text", "");
		json_object_set(made, "thoughtSignature", signature);
	}
	return made;
}

static json_t *
part_of(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *media;
	const char *data;

	if (type == NULL)
		return NULL;
	if (strcmp(type, "text") == 0)
		return signed_part(part, text_part(json_string_value(json_object_get(part, "text"))));
	if (json_is_true(json_object_get(part, "provider_executed")))
		return NULL;
	if (strcmp(type, "tool-result") == 0)
		return result_part(part);
	if (strcmp(type, "tool-call") == 0)
		return signed_part(part, call_part(part));
	if (provider_file_data(part, &media, &data))
		return json_pack("{s:{s:s, s:s}}", "inlineData", "mimeType", media, "data", data);
	if (strcmp(type, "file-reference") == 0)
		return json_pack("{s:o}", "text", provider_reference_text(part));
	return NULL;
}

/* Adds the parts to the last content where that is of the same role. */
static void
add_content(json_t *contents, const char *role, const json_t *content)
{
	json_t *last = json_array_get(contents, json_array_size(contents) - 1);
	const char *last_role = json_string_value(json_object_get(last, "role"));
	json_t *parts = last_role != NULL && strcmp(last_role, role) == 0 ? json_object_get(last, "parts") : NULL;
	const char *media;
	const char *data;
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_t *made = part_of(part);

		if (made == NULL)
			continue;
		if (parts == NULL)
		{
			parts = json_array();
			json_array_append_new(contents, json_pack("{s:s, s:o}", "role", role, "parts", parts));
		}
		json_array_append_new(parts, made);
		/* A picture stands behind the result that it is of. */
		if (provider_result_picture(part, &media, &data))
			json_array_append_new(parts, json_pack("{s:{s:s, s:s}}", "inlineData", "mimeType", media, "data", data));
	}
}

static void
add_history(json_t *body, const json_t *history)
{
	json_t *contents = json_array();
	json_t *system = json_array();
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role != NULL && strcmp(role, "system") == 0)
		{
			char *text = provider_text_of(content);

			json_array_append_new(system, text_part(text));
			free(text);
		}
		else if (role != NULL)
			add_content(contents, strcmp(role, "assistant") == 0 ? "model" : "user", content);
	}
	json_object_set_new(body, "contents", contents);
	if (json_array_size(system) > 0)
		json_object_set_new(body, "systemInstruction", json_pack("{s:O}", "parts", system));
	json_decref(system);
}

static void
add_tools(json_t *body, const ProviderAsk *ask)
{
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "google");
	json_t *tools = json_array();
	json_t *made;
	size_t i;
	json_t *tool;

	json_array_foreach(ask->tools, i, tool)
	{
		json_array_append_new(tools, json_pack("{s:O, s:O, s:O}", "name", json_object_get(tool, "name"), "description",
											   json_object_get(tool, "description"), "parametersJsonSchema",
											   json_object_get(tool, "input_schema")));
	}
	made = json_array();
	if (json_array_size(tools) > 0)
		json_array_append_new(made, json_pack("{s:O}", "functionDeclarations", tools));
	if (json_is_true(json_object_get(own, "web_search_enabled")) && ask->tool_choice == NULL && !ask->no_calls)
		json_array_append_new(made, json_pack("{s:{}}", "googleSearch"));
	if (json_array_size(made) > 0)
		json_object_set(body, "tools", made);
	json_decref(made);
	json_decref(tools);
	if (ask->tool_choice != NULL)
		json_object_set_new(body, "toolConfig", json_pack("{s:{s:s, s:[s]}}", "functionCallingConfig", "mode", "ANY",
														  "allowedFunctionNames", ask->tool_choice));
	else if (ask->no_calls && json_object_get(body, "tools") != NULL)
		json_object_set_new(body, "toolConfig", json_pack("{s:{s:s}}", "functionCallingConfig", "mode", "NONE"));
}

static json_t *
thinking_config(const json_t *own)
{
	const json_t *config = json_object_get(own, "thinking_config");
	const json_t *budget = json_object_get(config, "thinking_budget");
	json_t *made = json_object();

	if (json_is_integer(budget))
		json_object_set_new(made, "thinkingBudget",
							json_integer(json_integer_value(budget) < MIN_THINKING_BUDGET ? MIN_THINKING_BUDGET : json_integer_value(budget)));
	if (json_is_boolean(json_object_get(config, "include_thoughts")))
		json_object_set(made, "includeThoughts", json_object_get(config, "include_thoughts"));
	if (json_object_size(made) > 0)
		return made;
	json_decref(made);
	return NULL;
}

static void
add_options(json_t *body, const ProviderAsk *ask)
{
	static const char *const numbers[][2] = {{"temperature", "temperature"}, {"top_p", "topP"}, {"top_k", "topK"},
											 {"presence_penalty", "presencePenalty"}, {"frequency_penalty", "frequencyPenalty"}};
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "google");
	const json_t *max = json_object_get(ask->options, "max_output_tokens");
	json_t *config = json_object();
	json_t *thinking = thinking_config(own);

	json_object_set_new(config, "maxOutputTokens", json_integer(ask->max_output > 0 ? ask->max_output : json_is_integer(max)
												   ? json_integer_value(max) : DEFAULT_MAX_TOKENS));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (json_is_number(json_object_get(ask->options, numbers[i][0])))
			json_object_set(config, numbers[i][1], json_object_get(ask->options, numbers[i][0]));
	if (thinking != NULL)
		json_object_set_new(config, "thinkingConfig", thinking);
	json_object_set_new(body, "generationConfig", config);
	if (json_is_array(json_object_get(own, "safety_settings")))
		json_object_set(body, "safetySettings", json_object_get(own, "safety_settings"));
	if (json_is_string(json_object_get(own, "cached_content")))
		json_object_set(body, "cachedContent", json_object_get(own, "cached_content"));
}

/* A model's name is a part of the path. */
static char *
url_of(const ProviderAsk *ask)
{
	const char *model = strncmp(ask->model, "models/", 7) == 0 ? ask->model + 7 : ask->model;
	size_t len = strlen(ask->base_url);
	bool versioned;
	char *path = NULL;
	char *url = NULL;

	for (const char *p = model; *p != '\0'; p++)
		if (!isalnum((unsigned char) *p) && strchr("-._", *p) == NULL)
			return NULL;
	while (len > 0 && ask->base_url[len - 1] == '/')
		len--;
	versioned = (len > 3 && memcmp(ask->base_url + len - 3, "/v1", 3) == 0) ||
				(len > 7 && memcmp(ask->base_url + len - 7, "/v1beta", 7) == 0);
	if (asprintf(&path, "%s/models/%s:streamGenerateContent?alt=sse", versioned ? "" : "/v1beta", model) >= 0)
		url = provider_url(ask->base_url, "https://generativelanguage.googleapis.com", path);
	free(path);
	return url;
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	json_t *body;

	*error = "The model's name cannot be used.";
	request->url = url_of(ask);
	if (request->url == NULL)
		return false;
	body = json_object();
	add_history(body, ask->history);
	add_tools(body, ask);
	add_options(body, ask);
	request->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	*error = "The request cannot be made.";
	return request->body != NULL && provider_add_header(request, "x-goog-api-key", ask->api_key);
}

/* Answers -------------------------------------------------------------------- */

static void
take_call(Stream *stream, const json_t *part)
{
	const json_t *function = json_object_get(part, "functionCall");
	const char *id = json_string_value(json_object_get(function, "id"));
	json_t *signature = json_object_get(part, "thoughtSignature");
	char *args;
	StreamCall *call;

	if (!json_is_object(function))
		return;
	call = stream_call(stream, stream->n_calls, id, json_string_value(json_object_get(function, "name")));
	if (call == NULL)
		return;
	if (json_is_string(signature))
		stream_note(&call->metadata, "google", "thought_signature", json_incref(signature));
	args = json_dumps(json_object_get(function, "args"), JSON_COMPACT | JSON_ENCODE_ANY);
	if (args != NULL)
		stream_call_args(stream, call, args, strlen(args));
	free(args);
}

static void
take_part(Stream *stream, const json_t *part)
{
	const json_t *text = json_object_get(part, "text");
	json_t *signature = json_object_get(part, "thoughtSignature");
	StreamItem *item;

	if (json_is_string(text) && json_is_true(json_object_get(part, "thought")))
		stream_reasoning(stream, json_string_value(text), json_string_length(text));
	else if (json_is_string(text))
	{
		stream_text(stream, json_string_value(text), json_string_length(text));
		item = json_is_string(signature) ? stream_item(stream, STREAM_TEXT) : NULL;
		if (item != NULL)
			stream_note(&item->metadata, "google", "thought_signature", json_incref(signature));
	}
	take_call(stream, part);
}

static void
take_usage(Stream *stream, const json_t *usage)
{
	int64_t cached = json_integer_value(json_object_get(usage, "cachedContentTokenCount"));
	int64_t prompt = json_integer_value(json_object_get(usage, "promptTokenCount"));
	int64_t thoughts = json_integer_value(json_object_get(usage, "thoughtsTokenCount"));
	StreamUsage *u = &stream->usage;

	if (!json_is_object(usage))
		return;
	u->input = cached >= 0 && prompt > cached ? prompt - cached : 0;
	u->cache_read = cached;
	u->reasoning = thoughts;
	u->output = (int64_t) ((uint64_t) json_integer_value(json_object_get(usage, "candidatesTokenCount")) + (uint64_t) thoughts);
	u->total = json_integer_value(json_object_get(usage, "totalTokenCount"));
}

/* What Google's own search found. */
static void
take_sources(Stream *stream, const json_t *candidate)
{
	size_t i;
	json_t *chunk;

	json_array_foreach(json_object_get(json_object_get(candidate, "groundingMetadata"), "groundingChunks"), i, chunk)
	{
		const json_t *web = json_object_get(chunk, "web");

		stream_source(stream, json_string_value(json_object_get(web, "uri")), json_string_value(json_object_get(web, "title")));
	}
}

/* An answer that is empty for a reason, of which the user would see nothing else. */
static void
take_nothing(Stream *stream, const char *reason)
{
	static const char *const mended[] = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", NULL};
	static const char *const blocked[] = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", NULL};
	char why[64];

	for (int i = 0; mended[i] != NULL; i++)
		if (strcmp(reason, mended[i]) == 0)
			stream_fail(stream, 0, "server error: the model made a call that cannot be read");
	for (int i = 0; blocked[i] != NULL; i++)
		if (strcmp(reason, blocked[i]) == 0)
		{
			snprintf(why, sizeof(why), "the answer was blocked: %s", reason);
			stream_fail(stream, 400, why);
		}
}

static void
take_end(Stream *stream, const char *reason)
{
	if (reason == NULL)
		return;
	if (stream->n_items == 0)
		take_nothing(stream, reason);
	if (stream->n_calls > 0)
		stream->end = STREAM_TOOL_CALLS;
	else
		stream->end = strcmp(reason, "MAX_TOKENS") == 0 ? STREAM_LENGTH : STREAM_STOP;
}

/* The HTTP status that the name of an error stands for. */
static int
status_of(const char *name)
{
	static const struct
	{
		const char *name;
		int status;
	} statuses[] = {{"INVALID_ARGUMENT", 400}, {"UNAUTHENTICATED", 401}, {"PERMISSION_DENIED", 403}, {"NOT_FOUND", 404},
					{"RESOURCE_EXHAUSTED", 429}, {"INTERNAL", 500}, {"UNAVAILABLE", 503}, {"DEADLINE_EXCEEDED", 504}};

	for (size_t i = 0; name != NULL && i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (strcmp(name, statuses[i].name) == 0)
			return statuses[i].status;
	return 0;
}

static void
take_event(Stream *stream, const char *name, const char *data, size_t len)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const json_t *candidate = json_array_get(json_object_get(root, "candidates"), 0);
	const json_t *error = json_object_get(root, "error");
	const json_t *code = json_object_get(error, "code");
	const json_t *id = json_object_get(root, "responseId");
	size_t i;
	json_t *part;

	(void) name;
	if (root == NULL)
	{
		stream_fail(stream, 0, "the answer holds what is no JSON");
		return;
	}
	if (json_is_object(error))
	{
		char *text = provider_error_text(data, len);

		stream_fail(stream, json_is_integer(code) ? (int) json_integer_value(code) : status_of(json_string_value(json_object_get(error, "status"))), text);
		free(text);
	}
	if (json_is_string(json_object_get(json_object_get(root, "promptFeedback"), "blockReason")))
		stream_fail(stream, 400, "the prompt was blocked");
	if (json_is_string(id) && stream->response_id == NULL)
		stream->response_id = strdup(json_string_value(id));
	json_array_foreach(json_object_get(json_object_get(candidate, "content"), "parts"), i, part)
	{
		take_part(stream, part);
	}
	take_sources(stream, candidate);
	take_usage(stream, json_object_get(root, "usageMetadata"));
	take_end(stream, json_string_value(json_object_get(candidate, "finishReason")));
	json_decref(root);
}

const ProviderFormat provider_google = {make_request, take_event, false};
