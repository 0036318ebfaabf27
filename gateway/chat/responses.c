/*
 * responses.c -- OpenAI's Responses API.
 *
 *   POST <base>/responses, "stream": true
 *   data: {"type": "response.output_text.delta", "delta": ...} and the like, at the end response.completed with the usage
 *
 * A chat goes on from the provider's last answer ("previous_response_id") where that is kept; where that fails, and in the
 * later steps of a turn, the whole history is sent: a chat must go on when the provider has forgotten, and with another one.
 * Thoughts are told again, sealed as they came, only to a provider that keeps nothing ("store": false).
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "provider.h"

#define DEFAULT_MAX_TOKENS 32000

/* Requests ------------------------------------------------------------------- */

static json_t *
user_part(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *text = json_string_value(json_object_get(part, "text"));
	const char *media;
	const char *data;

	if (provider_file_data(part, &media, &data) && strcmp(media, "application/pdf") == 0)
		return json_pack("{s:s, s:s, s:o}", "type", "input_file", "filename", "file.pdf", "file_data", json_sprintf("data:%s;base64,%s", media, data));
	if (provider_file_data(part, &media, &data))
		return json_pack("{s:s, s:o}", "type", "input_image", "image_url", json_sprintf("data:%s;base64,%s", media, data));
	if (type != NULL && strcmp(type, "file-reference") == 0)
		return json_pack("{s:s, s:o}", "type", "input_text", "text", provider_reference_text(part));
	return type != NULL && strcmp(type, "text") == 0 && text != NULL && *text != '\0'
			   ? json_pack("{s:s, s:s}", "type", "input_text", "text", text)
			   : NULL;
}

static void
add_user(json_t *input, const json_t *content)
{
	json_t *parts = json_array();
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_array_append_new(parts, user_part(part));
	}
	if (json_array_size(parts) > 0)
		json_array_append_new(input, json_pack("{s:s, s:O}", "role", "user", "content", parts));
	json_decref(parts);
}

static void
add_text(json_t *input, const char *role, const json_t *content)
{
	char *text = provider_text_of(content);

	if (text != NULL && *text != '\0')
		json_array_append_new(input, json_pack("{s:s, s:s}", "role", role, "content", text));
	free(text);
}

static json_t *
call_item(const json_t *part)
{
	char *args = json_dumps(json_object_get(part, "args"), JSON_COMPACT | JSON_ENCODE_ANY);
	json_t *item = json_pack("{s:s, s:O, s:O, s:s}", "type", "function_call", "call_id", json_object_get(part, "tool_call_id"), "name",
							 json_object_get(part, "tool_name"), "arguments", args != NULL ? args : "{}");

	free(args);
	return item;
}

static json_t *
result_item(const json_t *part)
{
	char *text = provider_result_text(part);
	json_t *item = json_pack("{s:s, s:O, s:s}", "type", "function_call_output", "call_id", json_object_get(part, "tool_call_id"), "output",
							 text != NULL ? text : "");
	const char *media;
	const char *data;

	if (provider_result_picture(part, &media, &data))
		json_object_set_new(item, "output", json_pack("[{s:s, s:s}, {s:s, s:o}]", "type", "input_text", "text", text != NULL ? text : "", "type",
													  "input_image", "image_url", json_sprintf("data:%s;base64,%s", media, data)));
	free(text);
	return item;
}

/* Thoughts that OpenAI has sealed; NULL: they are none. */
static json_t *
reasoning_item(const json_t *part)
{
	const json_t *own = json_object_get(json_object_get(part, "provider_metadata"), "openai");
	const json_t *sealed = json_object_get(own, "encrypted_content");
	const json_t *text = json_object_get(part, "text");
	json_t *item;

	if (!json_is_string(sealed))
		return NULL;
	item = json_pack("{s:s, s:O?, s:O, s:[]}", "type", "reasoning", "id", json_object_get(own, "item_id"), "encrypted_content", sealed, "summary");
	if (item != NULL && json_string_length(text) > 0)
		json_array_append_new(json_object_get(item, "summary"), json_pack("{s:s, s:O}", "type", "summary_text", "text", text));
	return item;
}

/* The parts of the assistant's and of a tool's message, in their order. */
static void
add_parts(json_t *input, const json_t *content, bool kept)
{
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		const json_t *text = json_object_get(part, "text");
		json_t *item = NULL;

		if (type == NULL || json_is_true(json_object_get(part, "provider_executed")))
			continue;
		if (strcmp(type, "text") == 0 && json_string_length(text) > 0)
			item = json_pack("{s:s, s:O}", "role", "assistant", "content", text);
		else if (strcmp(type, "reasoning") == 0 && !kept)
			item = reasoning_item(part);
		else if (strcmp(type, "tool-call") == 0)
			item = call_item(part);
		else if (strcmp(type, "tool-result") == 0)
			item = result_item(part);
		if (item != NULL)
			json_array_append_new(input, item);
	}
}

/* kept: the provider keeps its answers. */
static json_t *
input_of(const json_t *history, bool thinks, bool kept)
{
	json_t *input = json_array();
	size_t i;
	json_t *m;

	json_array_foreach(history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role == NULL)
			continue;
		if (strcmp(role, "system") == 0)
			add_text(input, thinks ? "developer" : "system", content);
		else if (strcmp(role, "user") == 0)
			add_user(input, content);
		else
			add_parts(input, content, kept);
	}
	return input;
}

/* OpenAI's own search. */
static json_t *
search_tool(const ProviderAsk *ask, const json_t *own)
{
	json_t *tool;

	if (!json_is_true(json_object_get(own, "web_search_enabled")) || ask->tool_choice != NULL)
		return NULL;
	tool = json_pack("{s:s}", "type", "web_search");
	if (json_is_string(json_object_get(own, "search_context_size")))
		json_object_set(tool, "search_context_size", json_object_get(own, "search_context_size"));
	if (json_array_size(json_object_get(own, "allowed_domains")) > 0)
		json_object_set_new(tool, "filters", json_pack("{s:O}", "allowed_domains", json_object_get(own, "allowed_domains")));
	return tool;
}

static void
add_tools(json_t *body, const ProviderAsk *ask)
{
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "openai");
	json_t *tools;
	size_t i;
	json_t *tool;

	if (ask->as_json)
		return;
	tools = json_array();
	json_array_foreach(ask->tools, i, tool)
	{
		json_array_append_new(tools, json_pack("{s:s, s:O, s:O, s:O, s:b}", "type", "function", "name", json_object_get(tool, "name"),
											   "description", json_object_get(tool, "description"), "parameters",
											   json_object_get(tool, "input_schema"), "strict",
											   (int) json_is_true(json_object_get(own, "strict_json_schema"))));
	}
	tool = search_tool(ask, own);
	if (tool != NULL)
		json_array_append_new(tools, tool);
	if (json_array_size(tools) > 0)
		json_object_set(body, "tools", tools);
	json_decref(tools);
	if (ask->tool_choice != NULL)
		json_object_set_new(body, "tool_choice", json_pack("{s:s, s:s}", "type", "function", "name", ask->tool_choice));
	else if (ask->no_calls)
		json_object_set_new(body, "tool_choice", json_string("none"));
}

/* What else the answer is to hold: what the model's options name, and sealed thoughts. */
static void
add_include(json_t *body, const json_t *own, bool thinks)
{
	json_t *include = json_is_array(json_object_get(own, "include")) ? json_copy(json_object_get(own, "include")) : json_array();
	json_t *sealed = json_string("reasoning.encrypted_content");
	bool have = false;
	size_t i;
	json_t *name;

	json_array_foreach(include, i, name)
	{
		have |= json_equal(name, sealed) != 0;
	}
	if (thinks && !have)
		json_array_append(include, sealed);
	if (json_is_true(json_object_get(own, "log_probs")))
		json_array_append_new(include, json_string("message.output_text.logprobs"));
	if (json_array_size(include) > 0)
		json_object_set(body, "include", include);
	json_decref(sealed);
	json_decref(include);
}

/* Not sent are the options of chat completions alone: logit_bias, prediction, structured_outputs. */
static void
add_options(json_t *body, const ProviderAsk *ask, bool thinks)
{
	static const char *const numbers[][2] = {{"temperature", "temperature"}, {"top_p", "top_p"}, {NULL, NULL}};
	static const char *const names[][2] = {{"instructions", "instructions"}, {"max_tool_calls", "max_tool_calls"},
										   {"parallel_tool_calls", "parallel_tool_calls"}, {"user", "user"}, {"metadata", "metadata"},
										   {"prompt_cache_key", "prompt_cache_key"}, {"safety_identifier", "safety_identifier"},
										   {"service_tier", "service_tier"}, {"store", "store"}, {"top_log_probs", "top_logprobs"}, {NULL, NULL}};
	static const char *const thoughts[][2] = {{"reasoning_effort", "effort"}, {"reasoning_summary", "summary"}, {NULL, NULL}};
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "openai");
	const json_t *max = json_object_get(own, "max_completion_tokens");
	const json_t *verbosity = json_object_get(own, "text_verbosity");
	json_t *reasoning = json_object();
	json_t *schema = provider_openai_schema(ask);
	json_t *text = json_object();

	if (!json_is_integer(max))
		max = json_object_get(ask->options, "max_output_tokens");
	json_object_set_new(body, "max_output_tokens", json_integer(ask->max_output > 0 ? ask->max_output : json_is_integer(max)
													? json_integer_value(max) : DEFAULT_MAX_TOKENS));
	if (!thinks)
		provider_options(body, ask->options, numbers);
	provider_options(body, own, names);
	if (thinks)
		provider_options(reasoning, own, thoughts);
	if (json_object_size(reasoning) > 0)
		json_object_set(body, "reasoning", reasoning);
	json_decref(reasoning);
	if (json_is_string(verbosity))
		json_object_set(text, "verbosity", json_object_get(own, "text_verbosity"));
	if (schema != NULL)
	{
		json_object_set_new(schema, "type", json_string("json_schema"));
		json_object_set_new(text, "format", schema);
	}
	if (json_object_size(text) > 0)
		json_object_set(body, "text", text);
	json_decref(text);
	add_include(body, own, thinks);
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	bool thinks = provider_openai_thinks(ask->model);
	bool kept = provider_keeps_answers(ask->provider, ask->model, ask->options);
	json_t *body;

	request->url = provider_openai_url(ask, "/responses", error);
	if (request->url == NULL)
		return false;
	body = json_pack("{s:s, s:o, s:b, s:b}", "model", ask->model, "input", input_of(ask->history, thinks, kept), "stream", 1, "store", 1);
	if (ask->previous != NULL)
		json_object_set_new(body, "previous_response_id", json_string(ask->previous));
	add_tools(body, ask);
	add_options(body, ask, thinks);
	request->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	*error = "The request cannot be made.";
	return request->body != NULL && provider_openai_key(ask, request);
}

/* Answers -------------------------------------------------------------------- */

static void
take_usage(Stream *stream, const json_t *usage)
{
	int64_t cached = json_integer_value(json_object_get(json_object_get(usage, "input_tokens_details"), "cached_tokens"));
	int64_t input = json_integer_value(json_object_get(usage, "input_tokens"));
	StreamUsage *u = &stream->usage;

	if (!json_is_object(usage))
		return;
	u->input = cached >= 0 && input > cached ? input - cached : 0;
	u->cache_read = cached;
	u->output = json_integer_value(json_object_get(usage, "output_tokens"));
	u->total = json_integer_value(json_object_get(usage, "total_tokens"));
	u->reasoning = json_integer_value(json_object_get(json_object_get(usage, "output_tokens_details"), "reasoning_tokens"));
}

/* A call as it begins, and as it is when it is whole: some send no deltas. */
static void
take_call(Stream *stream, int index, const json_t *item, bool whole)
{
	const json_t *args = json_object_get(item, "arguments");
	StreamCall *call = stream_call(stream, index, json_string_value(json_object_get(item, "call_id")),
								   json_string_value(json_object_get(item, "name")));

	if (whole && call != NULL && call->args.len == 0 && json_is_string(args))
		stream_call_args(stream, call, json_string_value(args), json_string_length(args));
}

/* Thoughts that are whole: sealed, they may go back. */
static void
take_reasoning(Stream *stream, const json_t *item)
{
	json_t *sealed = json_object_get(item, "encrypted_content");
	json_t *id = json_object_get(item, "id");
	StreamItem *said = json_is_string(sealed) ? stream_item(stream, STREAM_REASONING) : NULL;

	if (said == NULL)
		return;
	stream_note(&said->metadata, "openai", "encrypted_content", json_incref(sealed));
	if (json_is_string(id))
		stream_note(&said->metadata, "openai", "item_id", json_incref(id));
	stream_apart(stream);
}

/* A search of the provider's own that is over. */
static void
take_search(Stream *stream, int index, const json_t *item)
{
	const json_t *id = json_object_get(item, "id");
	const json_t *query = json_object_get(json_object_get(item, "action"), "query");
	const char *status = json_string_value(json_object_get(item, "status"));

	if (!json_is_string(id))
		return;
	stream_part(stream, index, json_pack("{s:s, s:O, s:s, s:{s:O*}}", "type", "tool-call", "tool_call_id", id, "tool_name", "web_search", "args",
										 "query", query));
	stream_part_done(stream, index);
	stream_part(stream, index, json_pack("{s:s, s:O, s:s, s:{s:s}}", "type", "tool-result", "tool_call_id", id, "tool_name", "web_search",
										 "result", "status", status != NULL ? status : "completed"));
	stream_part_done(stream, index);
}

/* Words that came without deltas. */
static void
take_message(Stream *stream, const json_t *item)
{
	size_t i;
	json_t *part;

	json_array_foreach(json_object_get(item, "content"), i, part)
	{
		const json_t *text = json_object_get(part, "text");

		if (!json_is_string(text))
			text = json_object_get(part, "refusal");
		if (json_is_string(text))
			stream_text(stream, json_string_value(text), json_string_length(text));
	}
}

static void
take_item(Stream *stream, const json_t *root, bool whole)
{
	const json_t *item = json_object_get(root, "item");
	const char *type = json_string_value(json_object_get(item, "type"));
	int index = (int) json_integer_value(json_object_get(root, "output_index"));

	if (type == NULL)
		return;
	if (strcmp(type, "function_call") == 0)
		take_call(stream, index, item, whole);
	else if (strcmp(type, "reasoning") == 0 && whole)
		take_reasoning(stream, item);
	else if (strcmp(type, "web_search_call") == 0 && whole)
		take_search(stream, index, item);
	else if (strcmp(type, "message") == 0 && whole && !stream->in_pieces)
		take_message(stream, item);
}

static void
take_end(Stream *stream, const json_t *response, bool whole)
{
	const char *reason = json_string_value(json_object_get(json_object_get(response, "incomplete_details"), "reason"));

	take_usage(stream, json_object_get(response, "usage"));
	if (stream->n_calls > 0)
		stream->end = STREAM_TOOL_CALLS;
	else
		stream->end = !whole && reason != NULL && strcmp(reason, "max_output_tokens") == 0 ? STREAM_LENGTH : STREAM_STOP;
}

static void
take_failure(Stream *stream, const json_t *error)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *code = json_string_value(json_object_get(error, "code"));
	json_t *text = json_sprintf("%s (%s)", message != NULL ? message : "", code != NULL ? code : "error");

	stream_fail(stream, provider_error_status(code), json_string_value(text));
	json_decref(text);
}

static void
take_delta(Stream *stream, const char *type, const json_t *root)
{
	const json_t *delta = json_object_get(root, "delta");
	const char *text = json_string_value(delta);
	size_t len = json_string_length(delta);

	if (text == NULL)
		return;
	if (strcmp(type, "response.output_text.delta") == 0 || strcmp(type, "response.refusal.delta") == 0)
	{
		stream->in_pieces = true;
		stream_text(stream, text, len);
	}
	else if (strcmp(type, "response.reasoning_summary_text.delta") == 0)
		stream_reasoning(stream, text, len);
	else if (strcmp(type, "response.function_call_arguments.delta") == 0)
		stream_call_args(stream, stream_find_call(stream, (int) json_integer_value(json_object_get(root, "output_index"))), text, len);
}

static void
take_typed(Stream *stream, const char *type, const json_t *root)
{
	const json_t *response = json_object_get(root, "response");
	const json_t *id = json_object_get(response, "id");

	if (json_is_string(id) && stream->response_id == NULL)
		stream->response_id = strdup(json_string_value(id));
	if (strcmp(type, "response.output_item.added") == 0)
		take_item(stream, root, false);
	else if (strcmp(type, "response.output_item.done") == 0)
		take_item(stream, root, true);
	else if (strcmp(type, "response.reasoning_summary_part.added") == 0)
	{
		const StreamItem *item = stream_item(stream, STREAM_REASONING);

		if (item != NULL && item->text.len > 0)
			stream_reasoning(stream, "\n\n", 2);
	}
	else if (strcmp(type, "response.output_text.annotation.added") == 0)
	{
		const json_t *cited = json_object_get(root, "annotation");

		stream_source(stream, json_string_value(json_object_get(cited, "url")), json_string_value(json_object_get(cited, "title")));
	}
	else if (strcmp(type, "response.completed") == 0 || strcmp(type, "response.incomplete") == 0)
		take_end(stream, response, strcmp(type, "response.completed") == 0);
	else if (strcmp(type, "response.failed") == 0)
		take_failure(stream, json_object_get(response, "error"));
	else if (strcmp(type, "error") == 0)
		take_failure(stream, json_is_object(json_object_get(root, "error")) ? json_object_get(root, "error") : root);
	else
		take_delta(stream, type, root);
}

static void
take_event(Stream *stream, const char *name, const char *data, size_t len)
{
	json_t *root;
	const char *type;

	if (strncmp(data, "[DONE]", 6) == 0)
		return;
	root = json_loadb(data, len, 0, NULL);
	type = json_string_value(json_object_get(root, "type"));
	if (root == NULL)
		stream_fail(stream, 0, "the answer holds what is no JSON");
	else
		take_typed(stream, type != NULL ? type : name, root);
	json_decref(root);
}

const ProviderFormat provider_responses = {make_request, take_event, false};
