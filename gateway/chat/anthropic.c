/*
 * anthropic.c -- Anthropic's messages.
 *
 *   POST <base>/v1/messages, "stream": true
 *   message_start, then for each block content_block_start, _delta ..., _stop, then message_delta and message_stop; error
 *
 * Roles alternate: results of tools are the user's.  What is behind a cache marker is read from the provider's cache the next
 * time: the system's last block and the last two messages have one.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "computer.h"
#include "provider.h"

#define DEFAULT_MAX_TOKENS 32000
#define THINKING_BETA "interleaved-thinking-2025-05-14" /* thoughts between calls of tools */

/* Requests ------------------------------------------------------------------- */

static json_t *
text_block(const char *text)
{
	return text != NULL && *text != '\0' ? json_pack("{s:s, s:s}", "type", "text", "text", text) : NULL;
}

static json_t *
file_block(const char *media, const char *data)
{
	return json_pack("{s:s, s:{s:s, s:s, s:s}}", "type", strcmp(media, "application/pdf") == 0 ? "document" : "image", "source", "type",
					 "base64", "media_type", media, "data", data);
}

static json_t *
result_block(const json_t *part)
{
	char *text = provider_result_text(part);
	json_t *block = json_pack("{s:s, s:O, s:s}", "type", "tool_result", "tool_use_id", json_object_get(part, "tool_call_id"), "content",
							  text != NULL ? text : "");
	const char *media;
	const char *data;

	if (provider_result_picture(part, &media, &data))
		json_object_set_new(block, "content", json_pack("[{s:s, s:s}, o]", "type", "text", "text", text != NULL ? text : "", file_block(media, data)));
	free(text);
	if (json_is_true(json_object_get(part, "is_error")))
		json_object_set_new(block, "is_error", json_true());
	return block;
}

static const json_t *
own_metadata(const json_t *part, const char *key)
{
	return json_object_get(json_object_get(json_object_get(part, "provider_metadata"), "anthropic"), key);
}

/* Thoughts are told again as they were said.  A block without a signature would be refused. */
static json_t *
thinking_block(const json_t *part)
{
	const json_t *signature = json_object_get(part, "signature");
	const json_t *redacted = own_metadata(part, "redacted_data");

	if (json_is_string(redacted))
		return json_pack("{s:s, s:O}", "type", "redacted_thinking", "data", redacted);
	return json_is_string(signature)
			   ? json_pack("{s:s, s:O, s:O}", "type", "thinking", "thinking", json_object_get(part, "text"), "signature", signature)
			   : NULL;
}

static const json_t *
find_result(const json_t *content, const char *call)
{
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		const char *id = json_string_value(json_object_get(part, "tool_call_id"));

		if (type != NULL && strcmp(type, "tool-result") == 0 && id != NULL && strcmp(id, call) == 0 && own_metadata(part, "content") != NULL)
			return part;
	}
	return NULL;
}

/* A call of Anthropic's own tools, told with its result only, and the result; other providers' are not told. */
static json_t *
own_tool_block(const json_t *part, const json_t *content)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const json_t *id = json_object_get(part, "tool_call_id");

	if (!json_is_string(id) || find_result(content, json_string_value(id)) == NULL)
		return NULL;
	if (strcmp(type, "tool-call") == 0)
		return json_pack("{s:s, s:O, s:O?, s:O?}", "type", "server_tool_use", "id", id, "name", json_object_get(part, "tool_name"), "input",
						 json_object_get(part, "args"));
	return json_pack("{s:s, s:O, s:O}", "type", "web_search_tool_result", "tool_use_id", id, "content", own_metadata(part, "content"));
}

/* What a part of content is told as; NULL: not at all. */
static json_t *
block_of(const json_t *part, const json_t *content, bool thoughts)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *media;
	const char *data;
	json_t *text;
	json_t *block;

	if (type == NULL)
		return NULL;
	if (strcmp(type, "text") == 0)
		return text_block(json_string_value(json_object_get(part, "text")));
	if (strcmp(type, "reasoning") == 0)
		return thoughts ? thinking_block(part) : NULL;
	if (json_is_true(json_object_get(part, "provider_executed")))
		return own_tool_block(part, content);
	if (strcmp(type, "tool-result") == 0)
		return result_block(part);
	if (strcmp(type, "tool-call") == 0)
		return json_pack("{s:s, s:O, s:O, s:O}", "type", "tool_use", "id", json_object_get(part, "tool_call_id"), "name",
						 json_object_get(part, "tool_name"), "input", json_object_get(part, "args"));
	if (provider_file_data(part, &media, &data))
		return file_block(media, data);
	if (strcmp(type, "file-reference") != 0)
		return NULL;
	text = provider_reference_text(part);
	block = text_block(json_string_value(text));
	json_decref(text);
	return block;
}

/* Adds a message's blocks; two messages of one role in a row are one. */
static void
add_message(json_t *messages, const char *role, const json_t *content, bool thoughts)
{
	json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const char *last_role = json_string_value(json_object_get(last, "role"));
	json_t *blocks = last_role != NULL && strcmp(last_role, role) == 0 ? json_object_get(last, "content") : NULL;
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_t *block = block_of(part, content, thoughts);

		if (block == NULL)
			continue;
		if (blocks == NULL)
		{
			blocks = json_array();
			json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role, "content", blocks));
		}
		json_array_append_new(blocks, block);
	}
}

/* Thoughts take no marker: the last block that is none gets it. */
static void
mark_for_cache(json_t *blocks)
{
	for (size_t i = json_array_size(blocks); i-- > 0;)
	{
		json_t *block = json_array_get(blocks, i);
		const char *type = json_string_value(json_object_get(block, "type"));

		if (type == NULL || strcmp(type, "thinking") == 0 || strcmp(type, "redacted_thinking") == 0)
			continue;
		json_object_set_new(block, "cache_control", json_pack("{s:s}", "type", "ephemeral"));
		return;
	}
}

static void
add_history(json_t *body, const json_t *history, bool thoughts)
{
	json_t *system = json_array();
	json_t *messages = json_array();
	size_t n;
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role != NULL && strcmp(role, "system") == 0)
		{
			char *text = provider_text_of(content);

			json_array_append_new(system, text_block(text));
			free(text);
		}
		else if (role != NULL)
			add_message(messages, strcmp(role, "assistant") == 0 ? "assistant" : "user", content, thoughts);
	}
	mark_for_cache(system);
	n = json_array_size(messages);
	for (i = n > 2 ? n - 2 : 0; i < n; i++)
		mark_for_cache(json_object_get(json_array_get(messages, i), "content"));
	if (json_array_size(system) > 0)
		json_object_set(body, "system", system);
	json_decref(system);
	json_object_set_new(body, "messages", messages);
}

/* Anthropic's own search, which Bedrock does not have. */
static json_t *
search_tool(const ProviderAsk *ask, const json_t *own)
{
	static const char *const domains[] = {"allowed_domains", "blocked_domains"};
	json_t *tool;

	if (!json_is_true(json_object_get(own, "web_search_enabled")) || ask->tool_choice != NULL || ask->no_calls || strcmp(ask->provider, "anthropic") != 0)
		return NULL;
	tool = json_pack("{s:s, s:s}", "type", "web_search_20250305", "name", "web_search");
	/* One of the two lists only. */
	for (int i = 0; i < 2; i++)
		if (json_array_size(json_object_get(own, domains[i])) > 0)
		{
			json_object_set(tool, domains[i], json_object_get(own, domains[i]));
			break;
		}
	return tool;
}

static void
add_tools(json_t *body, const ProviderAsk *ask, const json_t *own)
{
	json_t *tools = json_array();
	size_t i;
	json_t *tool;

	json_array_foreach(ask->tools, i, tool)
	{
		json_t *defined = json_object_get(tool, "anthropic"); /* a tool that the models know */

		if (defined != NULL && strcmp(ask->provider, "anthropic") == 0)
			json_array_append(tools, defined);
		else
			json_array_append_new(tools, json_pack("{s:O, s:O, s:O}", "name", json_object_get(tool, "name"), "description",
												   json_object_get(tool, "description"), "input_schema", json_object_get(tool, "input_schema")));
	}
	tool = search_tool(ask, own);
	if (tool != NULL)
		json_array_append_new(tools, tool);
	if (json_array_size(tools) > 0)
	{
		json_object_set(body, "tools", tools);
		if (ask->tool_choice != NULL)
			json_object_set_new(body, "tool_choice", json_pack("{s:s, s:s}", "type", "tool", "name", ask->tool_choice));
		else if (ask->no_calls)
			json_object_set_new(body, "tool_choice", json_pack("{s:s}", "type", "none"));
		else if (json_is_true(json_object_get(own, "disable_parallel_tool_use")))
			json_object_set_new(body, "tool_choice", json_pack("{s:s, s:b}", "type", "auto", "disable_parallel_tool_use", 1));
	}
	json_decref(tools);
}

/* A model that thinks takes no temperature, and cannot be forced to call a tool. */
static void
add_options(json_t *body, const ProviderAsk *ask, const json_t *own)
{
	static const char *const numbers[] = {"temperature", "top_p", "top_k"};
	const json_t *max = json_object_get(ask->options, "max_output_tokens");
	const json_t *budget = json_object_get(json_object_get(own, "thinking"), "budget_tokens");
	const json_t *effort = json_object_get(own, "effort");
	json_int_t tokens = json_is_integer(max) ? json_integer_value(max) : DEFAULT_MAX_TOKENS;
	bool thinks = false;

	if (ask->max_output > 0)
		tokens = ask->max_output;
	if (ask->tool_choice == NULL && json_is_integer(budget) && json_integer_value(budget) > 0)
	{
		thinks = true;
		json_object_set_new(body, "thinking", json_pack("{s:s, s:O}", "type", "enabled", "budget_tokens", budget));
		/* The thoughts count. */
		if (tokens <= json_integer_value(budget))
			tokens += json_integer_value(budget);
	}
	else if (ask->tool_choice == NULL && json_is_string(effort))
	{
		thinks = true;
		json_object_set_new(body, "thinking", json_pack("{s:s}", "type", "adaptive"));
		json_object_set_new(body, "output_config", json_pack("{s:O}", "effort", effort));
	}
	json_object_set_new(body, "max_tokens", json_integer(tokens));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && !thinks; i++)
		if (json_is_number(json_object_get(ask->options, numbers[i])))
			json_object_set(body, numbers[i], json_object_get(ask->options, numbers[i]));
}

json_t *
provider_anthropic_body(const ProviderAsk *ask)
{
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "anthropic");
	json_t *body = json_object();

	add_options(body, ask, own);
	add_history(body, ask->history, !json_is_false(json_object_get(own, "send_reasoning")));
	add_tools(body, ask, own);
	return body;
}

/* Is there a tool that only the beta of the API has? */
static bool
wants_beta(const json_t *tools)
{
	size_t i;
	json_t *tool;

	json_array_foreach(tools, i, tool)
	{
		if (json_object_get(tool, "anthropic") != NULL)
			return true;
	}
	return false;
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	bool beta = wants_beta(ask->tools);
	size_t len = strlen(ask->base_url);
	bool versioned;
	bool between;
	json_t *body = provider_anthropic_body(ask);

	while (len > 0 && ask->base_url[len - 1] == '/')
		len--;
	versioned = len > 3 && memcmp(ask->base_url + len - 3, "/v1", 3) == 0;
	json_object_set_new(body, "model", json_string(ask->model));
	json_object_set_new(body, "stream", json_true());
	request->url = provider_url(ask->base_url, "https://api.anthropic.com",
								versioned ? (beta ? "/messages?beta=true" : "/messages") : (beta ? "/v1/messages?beta=true" : "/v1/messages"));
	request->body = json_dumps(body, JSON_COMPACT);
	/* Models that think as far as a budget goes do so between calls of tools only where it is asked for. */
	between = json_object_get(json_object_get(body, "thinking"), "budget_tokens") != NULL && json_object_get(body, "tools") != NULL;
	json_decref(body);
	*error = "The request cannot be made.";
	return request->url != NULL && request->body != NULL && provider_add_header(request, "x-api-key", ask->api_key) &&
		   provider_add_header(request, "anthropic-version", "2023-06-01") &&
		   ((!beta && !between) || provider_add_header(request, "anthropic-beta", !between ? COMPUTER_BETA
																				 : !beta  ? THINKING_BETA
																						  : COMPUTER_BETA "," THINKING_BETA));
}

/* Answers -------------------------------------------------------------------- */

static void
take_usage(Stream *stream, const json_t *usage)
{
	const json_t *input = json_object_get(usage, "input_tokens");
	const json_t *read = json_object_get(usage, "cache_read_input_tokens");
	const json_t *written = json_object_get(usage, "cache_creation_input_tokens");
	const json_t *output = json_object_get(usage, "output_tokens");
	StreamUsage *u = &stream->usage;

	if (json_is_integer(input))
		u->input = json_integer_value(input);
	if (json_is_integer(read))
		u->cache_read = json_integer_value(read);
	if (json_is_integer(written))
		u->cache_creation = json_integer_value(written);
	if (json_is_integer(output))
		u->output = json_integer_value(output);
	u->total = (int64_t) ((uint64_t) u->input + (uint64_t) u->output);
}

/* What was found: for people title and address, for Anthropic itself all of it. */
static void
take_search(Stream *stream, int index, const json_t *block)
{
	json_t *content = json_object_get(block, "content");
	json_t *result = json_array();
	json_t *part;
	size_t i;
	json_t *hit;

	json_array_foreach(content, i, hit)
	{
		const char *url = json_string_value(json_object_get(hit, "url"));
		const char *title = json_string_value(json_object_get(hit, "title"));

		json_array_append_new(result, json_pack("{s:s*, s:s*}", "url", url, "title", title));
		stream_source(stream, url, title);
	}
	part = json_pack("{s:s, s:O?, s:s, s:o, s:{s:{s:O?}}}", "type", "tool-result", "tool_call_id", json_object_get(block, "tool_use_id"),
					 "tool_name", "web_search", "result", result, "provider_metadata", "anthropic", "content", content);
	if (part != NULL && !json_is_array(content))
	{
		json_object_set_new(part, "result", json_pack("{s:O?}", "error", json_object_get(content, "error_code")));
		json_object_set_new(part, "is_error", json_true());
	}
	stream_part(stream, index, part);
}

static void
begin_block(Stream *stream, const json_t *root)
{
	const json_t *block = json_object_get(root, "content_block");
	const char *type = json_string_value(json_object_get(block, "type"));
	int index = (int) json_integer_value(json_object_get(root, "index"));
	const json_t *data = json_object_get(block, "data");
	StreamItem *item;

	if (type == NULL)
		return;
	if (strcmp(type, "tool_use") == 0)
		stream_call(stream, index, json_string_value(json_object_get(block, "id")), json_string_value(json_object_get(block, "name")));
	else if (strcmp(type, "thinking") == 0)
		stream_apart(stream);
	else if (strcmp(type, "redacted_thinking") == 0 && json_is_string(data))
	{
		stream_apart(stream);
		item = stream_item(stream, STREAM_REASONING);
		if (item != NULL)
			stream_note(&item->metadata, "anthropic", "redacted_data", json_incref((json_t *) data));
		stream_apart(stream);
	}
	else if (strcmp(type, "server_tool_use") == 0)
		stream_part(stream, index, json_pack("{s:s, s:O?, s:O?, s:{}}", "type", "tool-call", "tool_call_id", json_object_get(block, "id"),
											 "tool_name", json_object_get(block, "name"), "args"));
	else if (strcmp(type, "web_search_tool_result") == 0)
		take_search(stream, index, block);
}

static void
take_delta(Stream *stream, const json_t *root)
{
	const json_t *delta = json_object_get(root, "delta");
	const char *type = json_string_value(json_object_get(delta, "type"));
	const json_t *text = json_object_get(delta, "text");
	const json_t *thinking = json_object_get(delta, "thinking");
	const json_t *json = json_object_get(delta, "partial_json");
	const json_t *signature = json_object_get(delta, "signature");
	const json_t *citation = json_object_get(delta, "citation");
	int index = (int) json_integer_value(json_object_get(root, "index"));
	StreamCall *call;

	if (type == NULL)
		return;
	if (strcmp(type, "text_delta") == 0 && json_is_string(text))
		stream_text(stream, json_string_value(text), json_string_length(text));
	else if (strcmp(type, "thinking_delta") == 0 && json_is_string(thinking))
		stream_reasoning(stream, json_string_value(thinking), json_string_length(thinking));
	else if (strcmp(type, "signature_delta") == 0 && json_is_string(signature))
		stream_sign(stream, json_string_value(signature), json_string_length(signature));
	else if (strcmp(type, "citations_delta") == 0)
		stream_source(stream, json_string_value(json_object_get(citation, "url")), json_string_value(json_object_get(citation, "title")));
	else if (strcmp(type, "input_json_delta") == 0 && json_is_string(json))
	{
		call = stream_find_call(stream, index);
		if (call != NULL)
			stream_call_args(stream, call, json_string_value(json), json_string_length(json));
		else
			stream_part_args(stream, index, json_string_value(json), json_string_length(json));
	}
}

static void
take_end(Stream *stream, const char *reason)
{
	if (stream->n_calls > 0)
		stream->end = STREAM_TOOL_CALLS;
	else if (reason != NULL && strcmp(reason, "pause_turn") == 0)
		stream->end = STREAM_PAUSED;
	else if (reason != NULL)
		stream->end = strcmp(reason, "max_tokens") == 0 || strcmp(reason, "model_context_window_exceeded") == 0 ? STREAM_LENGTH : STREAM_STOP;
}

static void
take_event(Stream *stream, const char *name, const char *data, size_t len)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "type"));
	const json_t *message = json_object_get(root, "message");
	char *text;

	if (root == NULL)
	{
		stream_fail(stream, 0, "the answer holds what is no JSON");
		return;
	}
	type = type != NULL ? type : name;
	if (strcmp(type, "message_start") == 0)
	{
		if (json_is_string(json_object_get(message, "id")) && stream->response_id == NULL)
			stream->response_id = strdup(json_string_value(json_object_get(message, "id")));
		take_usage(stream, json_object_get(message, "usage"));
	}
	else if (strcmp(type, "content_block_start") == 0)
		begin_block(stream, root);
	else if (strcmp(type, "content_block_delta") == 0)
		take_delta(stream, root);
	else if (strcmp(type, "content_block_stop") == 0)
		stream_part_done(stream, (int) json_integer_value(json_object_get(root, "index")));
	else if (strcmp(type, "message_delta") == 0)
	{
		take_usage(stream, json_object_get(root, "usage"));
		take_end(stream, json_string_value(json_object_get(json_object_get(root, "delta"), "stop_reason")));
	}
	else if (strcmp(type, "message_stop") == 0 && stream->end == STREAM_OPEN)
		take_end(stream, "end_turn");
	else if (strcmp(type, "error") == 0)
	{
		text = provider_error_text(data, len);
		stream_fail(stream, provider_error_status(json_string_value(json_object_get(json_object_get(root, "error"), "type"))), text);
		free(text);
	}
	json_decref(root);
}

const ProviderFormat provider_anthropic = {make_request, take_event, false};
