/*
 * converse.c -- models at AWS Bedrock by its Converse API.
 *
 *   {"system": [{"text"}], "messages": [{"role", "content": [block]}], "inferenceConfig": {}, "toolConfig": {}, ...}
 *   messageStart, then for each block contentBlockStart (of calls only), contentBlockDelta ..., contentBlockStop, then
 *   messageStop with why, and metadata with what it took
 *
 * What not every vendor's models take is sent only to those that are known to: markers for the cache, a forced tool, results
 * marked as errors.  A name that tells no vendor (the ARN of a profile of one's own) is taken to be Anthropic's.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "converse.h"

/* Whose model it is -------------------------------------------------------------- */

/* Does the name say this vendor, at its beginning or behind a part of the world? */
static bool
is_of(const char *model, const char *vendor)
{
	const char *at = strstr(model, vendor);

	return at != NULL && (at == model || at[-1] == '.' || at[-1] == '/');
}

static bool
is_nova(const ProviderAsk *ask)
{
	return is_of(ask->model, "amazon.nova");
}

/* Anthropic's, as far as the name tells. */
static bool
is_claude(const ProviderAsk *ask)
{
	static const char *const others[] = {"ai21.", "amazon.", "cohere.", "deepseek.", "google.", "meta.", "minimax.", "mistral.",
										 "moonshot.", "moonshotai.", "nvidia.", "openai.", "qwen.", "stability.", "writer.", "zai."};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (is_of(ask->model, others[i]))
			return false;
	return true;
}

/* Requests ------------------------------------------------------------------- */

/* Text of white space only would be refused. */
static json_t *
text_block(const char *text)
{
	if (text == NULL || text[strspn(text, " \t\r\n")] == '\0')
		return NULL;
	return json_pack("{s:s}", "text", text);
}

/* "png" of "image/png"; names of documents differ in a request. */
static json_t *
file_block(const char *media, const char *data, int n)
{
	if (strcmp(media, "application/pdf") == 0)
		return json_pack("{s:{s:s, s:o, s:{s:s}}}", "document", "format", "pdf", "name", json_sprintf("document-%d", n), "source", "bytes", data);
	if (strncmp(media, "image/", 6) != 0)
		return NULL;
	return json_pack("{s:{s:s, s:{s:s}}}", "image", "format", media + 6, "source", "bytes", data);
}

static json_t *
result_block(const ProviderAsk *ask, const json_t *part)
{
	char *text = provider_result_text(part);
	json_t *content = json_array();
	json_t *block = json_pack("{s:{s:O, s:O}}", "toolResult", "toolUseId", json_object_get(part, "tool_call_id"), "content", content);
	const char *media;
	const char *data;

	json_array_append_new(content, json_pack("{s:s}", "text", text != NULL && *text != '\0' ? text : "-"));
	if (provider_result_picture(part, &media, &data))
		json_array_append_new(content, file_block(media, data, 0));
	if (json_is_true(json_object_get(part, "is_error")) && (is_claude(ask) || is_nova(ask)))
		json_object_set_new(json_object_get(block, "toolResult"), "status", json_string("error"));
	json_decref(content);
	free(text);
	return block;
}

/* A call or a result in a question that offers no tools: such blocks would be refused there. */
static json_t *
told_block(const json_t *part, const char *type)
{
	const char *name = json_string_value(json_object_get(part, "tool_name"));
	bool is_call = strcmp(type, "tool-call") == 0;
	char *text = is_call ? json_dumps(json_object_get(part, "args"), JSON_COMPACT | JSON_ENCODE_ANY) : provider_result_text(part);
	json_t *both = json_sprintf("[%s %s] %s", is_call ? "called" : "result of", name != NULL ? name : "a tool", text != NULL ? text : "");
	json_t *block = text_block(json_string_value(both));

	json_decref(both);
	free(text);
	return block;
}

/* Thoughts are told again where they were signed. */
static json_t *
reasoning_block(const json_t *part)
{
	const json_t *signature = json_object_get(part, "signature");
	const json_t *redacted = json_object_get(json_object_get(json_object_get(part, "provider_metadata"), "bedrock"), "redacted_data");

	if (json_is_string(redacted))
		return json_pack("{s:{s:O}}", "reasoningContent", "redactedContent", redacted);
	if (!json_is_string(signature))
		return NULL;
	return json_pack("{s:{s:{s:O, s:O}}}", "reasoningContent", "reasoningText", "text", json_object_get(part, "text"), "signature", signature);
}

static bool
tells_thoughts(const ProviderAsk *ask)
{
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "anthropic");

	return is_claude(ask) && !json_is_false(json_object_get(own, "send_reasoning"));
}

/* What a part of content is told as; NULL: not at all. */
static json_t *
block_of(const ProviderAsk *ask, const json_t *part, int *documents)
{
	const char *type = json_string_value(json_object_get(part, "type"));
	bool offers = json_array_size(ask->tools) > 0 && !ask->no_calls;
	const char *media;
	const char *data;
	json_t *text;
	json_t *block;

	if (type == NULL)
		return NULL;
	if (strcmp(type, "text") == 0)
		return text_block(json_string_value(json_object_get(part, "text")));
	if (strcmp(type, "reasoning") == 0)
		return tells_thoughts(ask) ? reasoning_block(part) : NULL;
	if (json_is_true(json_object_get(part, "provider_executed")))
		return NULL;
	if (strcmp(type, "tool-result") == 0)
		return offers ? result_block(ask, part) : told_block(part, type);
	if (strcmp(type, "tool-call") == 0)
		return offers ? json_pack("{s:{s:O, s:O, s:O}}", "toolUse", "toolUseId", json_object_get(part, "tool_call_id"), "name",
								  json_object_get(part, "tool_name"), "input", json_object_get(part, "args"))
					  : told_block(part, type);
	if (provider_file_data(part, &media, &data))
		return file_block(media, data, ++*documents);
	if (strcmp(type, "file-reference") != 0)
		return NULL;
	text = provider_reference_text(part);
	block = text_block(json_string_value(text));
	json_decref(text);
	return block;
}

/* Adds a message's blocks; roles alternate. */
static void
add_message(const ProviderAsk *ask, json_t *messages, const char *role, const json_t *content, int *documents)
{
	json_t *last = json_array_get(messages, json_array_size(messages) - 1);
	const char *last_role = json_string_value(json_object_get(last, "role"));
	json_t *blocks = last_role != NULL && strcmp(last_role, role) == 0 ? json_object_get(last, "content") : NULL;
	size_t i;
	json_t *part;

	json_array_foreach(content, i, part)
	{
		json_t *block = block_of(ask, part, documents);

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

/* What is before a marker is read from the cache the next time. */
static void
mark_for_cache(const ProviderAsk *ask, json_t *blocks)
{
	if (json_array_size(blocks) > 0 && (is_claude(ask) || is_nova(ask)))
		json_array_append_new(blocks, json_pack("{s:{s:s}}", "cachePoint", "type", "default"));
}

static void
add_history(json_t *body, const ProviderAsk *ask)
{
	json_t *system = json_array();
	json_t *messages = json_array();
	int documents = 0;
	size_t n;
	size_t i;
	json_t *m;

	json_array_foreach(ask->history, i, m)
	{
		const char *role = json_string_value(json_object_get(m, "role"));
		const json_t *content = json_object_get(m, "content");

		if (role != NULL && strcmp(role, "system") == 0)
		{
			char *text = provider_text_of(content);
			json_t *block = text_block(text);

			if (block != NULL)
				json_array_append_new(system, block);
			free(text);
		}
		else if (role != NULL)
			add_message(ask, messages, strcmp(role, "assistant") == 0 ? "assistant" : "user", content, &documents);
	}
	mark_for_cache(ask, system);
	n = json_array_size(messages);
	for (i = n > 2 ? n - 2 : 0; i < n; i++)
		mark_for_cache(ask, json_object_get(json_array_get(messages, i), "content"));
	if (json_array_size(system) > 0)
		json_object_set(body, "system", system);
	json_decref(system);
	json_object_set_new(body, "messages", messages);
}

/* Not all can be made to call one tool: some to call any, and there is only the one then; the rest is asked to in words. */
static json_t *
tool_choice(const ProviderAsk *ask)
{
	if (ask->tool_choice == NULL)
		return NULL;
	if (is_claude(ask) || is_nova(ask))
		return json_pack("{s:{s:s}}", "tool", "name", ask->tool_choice);
	return is_of(ask->model, "mistral.") ? json_pack("{s:{}}", "any") : NULL;
}

static void
add_tools(json_t *body, const ProviderAsk *ask)
{
	json_t *tools = json_array();
	json_t *config;
	json_t *choice;
	size_t i;
	json_t *tool;

	/* That none is to be called cannot be said here. */
	json_array_foreach(ask->no_calls ? NULL : ask->tools, i, tool)
	{
		json_array_append_new(tools, json_pack("{s:{s:O, s:O, s:{s:O}}}", "toolSpec", "name", json_object_get(tool, "name"), "description",
											   json_object_get(tool, "description"), "inputSchema", "json",
											   json_object_get(tool, "input_schema")));
	}
	if (json_array_size(tools) > 0)
	{
		config = json_pack("{s:O}", "tools", tools);
		choice = tool_choice(ask);
		if (choice != NULL)
			json_object_set_new(config, "toolChoice", choice);
		json_object_set_new(body, "toolConfig", config);
	}
	json_decref(tools);
}

/* How hard a model thinks, as its vendor names it; false: it does not think. */
static bool
add_thinking(json_t *more, const ProviderAsk *ask)
{
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "anthropic");
	json_t *budget = json_object_get(json_object_get(own, "thinking"), "budget_tokens");
	json_t *effort = json_object_get(own, "effort");
	const char *word = json_string_value(effort);

	if (ask->tool_choice != NULL)
		return false;
	if (is_of(ask->model, "openai.") && word != NULL)
		json_object_set_new(more, "reasoning_effort", json_string(strcmp(word, "max") == 0 ? "high" : word));
	else if (is_nova(ask) && word != NULL)
		json_object_set_new(more, "reasoningConfig", json_pack("{s:s, s:s}", "type", "enabled", "maxReasoningEffort", strcmp(word, "max") == 0 ? "high" : word));
	else if (is_claude(ask) && json_is_integer(budget) && json_integer_value(budget) > 0)
		json_object_set_new(more, "thinking", json_pack("{s:s, s:O}", "type", "enabled", "budget_tokens", budget));
	else if (is_claude(ask) && word != NULL)
	{
		json_object_set_new(more, "thinking", json_pack("{s:s}", "type", "adaptive"));
		json_object_set_new(more, "output_config", json_pack("{s:O}", "effort", effort));
	}
	else
		return false;
	return true;
}

static void
add_top_k(json_t *more, const ProviderAsk *ask)
{
	json_t *top_k = json_object_get(ask->options, "top_k");

	if (!json_is_number(top_k))
		return;
	if (is_nova(ask))
		json_object_set_new(more, "inferenceConfig", json_pack("{s:O}", "topK", top_k));
	else
		json_object_set(more, is_of(ask->model, "cohere.") ? "k" : "top_k", top_k);
}

/* Where nothing is configured the model says as much as it can: what the most is differs. */
static void
add_options(json_t *body, const ProviderAsk *ask)
{
	static const char *const numbers[][2] = {{"temperature", "temperature"}, {"top_p", "topP"}, {NULL, NULL}};
	const json_t *own = json_object_get(json_object_get(ask->options, "provider_options"), "anthropic");
	const json_t *budget = json_object_get(json_object_get(own, "thinking"), "budget_tokens");
	const json_t *max = json_object_get(ask->options, "max_output_tokens");
	json_int_t tokens = ask->max_output > 0 ? ask->max_output : json_integer_value(max);
	json_t *config = json_object();
	json_t *more = json_object();
	bool thinks = add_thinking(more, ask);

	/* Claude's thoughts count. */
	if (json_object_get(json_object_get(more, "thinking"), "budget_tokens") != NULL && tokens > 0 && tokens <= json_integer_value(budget))
		tokens += json_integer_value(budget);
	if (tokens > 0)
		json_object_set_new(config, "maxTokens", json_integer(tokens));
	/* A model that thinks takes none of these. */
	if (!thinks)
	{
		provider_options(config, ask->options, numbers);
		add_top_k(more, ask);
	}
	if (json_object_size(config) > 0)
		json_object_set(body, "inferenceConfig", config);
	if (json_object_size(more) > 0)
		json_object_set(body, "additionalModelRequestFields", more);
	json_decref(config);
	json_decref(more);
}

json_t *
converse_body(const ProviderAsk *ask)
{
	json_t *body = json_object();

	add_history(body, ask);
	add_tools(body, ask);
	add_options(body, ask);
	return body;
}

/* Answers -------------------------------------------------------------------- */

static void
begin_block(Stream *stream, const json_t *root)
{
	const json_t *use = json_object_get(json_object_get(root, "start"), "toolUse");
	const char *type = json_string_value(json_object_get(use, "type"));

	/* Tools that AWS runs itself are not ours to run. */
	if (json_is_object(use) && (type == NULL || strcmp(type, "server_tool_use") != 0))
		stream_call(stream, (int) json_integer_value(json_object_get(root, "contentBlockIndex")),
					json_string_value(json_object_get(use, "toolUseId")), json_string_value(json_object_get(use, "name")));
}

static void
take_reasoning(Stream *stream, const json_t *reasoning)
{
	const json_t *text = json_object_get(reasoning, "text");
	const json_t *signature = json_object_get(reasoning, "signature");
	json_t *redacted = json_object_get(reasoning, "redactedContent");
	StreamItem *item;

	if (json_is_string(text))
		stream_reasoning(stream, json_string_value(text), json_string_length(text));
	if (json_is_string(signature))
		stream_sign(stream, json_string_value(signature), json_string_length(signature));
	if (!json_is_string(redacted))
		return;
	stream_apart(stream);
	item = stream_item(stream, STREAM_REASONING);
	if (item != NULL)
		stream_note(&item->metadata, "bedrock", "redacted_data", json_incref(redacted));
	stream_apart(stream);
}

static void
take_delta(Stream *stream, const json_t *root)
{
	const json_t *delta = json_object_get(root, "delta");
	const json_t *text = json_object_get(delta, "text");
	const json_t *input = json_object_get(json_object_get(delta, "toolUse"), "input");
	const json_t *citation = json_object_get(delta, "citation");
	StreamCall *call;

	if (json_is_string(text))
		stream_text(stream, json_string_value(text), json_string_length(text));
	if (json_is_object(json_object_get(delta, "reasoningContent")))
		take_reasoning(stream, json_object_get(delta, "reasoningContent"));
	if (json_is_object(citation))
		stream_source(stream, json_string_value(json_object_get(json_object_get(json_object_get(citation, "location"), "web"), "url")),
					  json_string_value(json_object_get(citation, "title")));
	call = json_is_string(input) ? stream_find_call(stream, (int) json_integer_value(json_object_get(root, "contentBlockIndex"))) : NULL;
	if (call != NULL)
		stream_call_args(stream, call, json_string_value(input), json_string_length(input));
}

/* Two thoughts in a row are two. */
static void
end_block(Stream *stream)
{
	if (stream->n_items > 0 && stream->items[stream->n_items - 1].kind == STREAM_REASONING)
		stream_apart(stream);
}

static void
take_end(Stream *stream, const char *reason)
{
	if (reason != NULL && strncmp(reason, "malformed_", 10) == 0)
		stream_fail(stream, 500, "the model's answer could not be read (server error)");
	else if (stream->n_calls > 0)
		stream->end = STREAM_TOOL_CALLS;
	else if (reason != NULL && (strcmp(reason, "max_tokens") == 0 || strcmp(reason, "model_context_window_exceeded") == 0))
		stream->end = STREAM_LENGTH;
	else
		stream->end = STREAM_STOP;
}

static void
take_usage(Stream *stream, const json_t *usage)
{
	StreamUsage *u = &stream->usage;

	if (!json_is_object(usage))
		return;
	u->input = json_integer_value(json_object_get(usage, "inputTokens"));
	u->output = json_integer_value(json_object_get(usage, "outputTokens"));
	u->total = json_integer_value(json_object_get(usage, "totalTokens"));
	u->cache_read = json_integer_value(json_object_get(usage, "cacheReadInputTokens"));
	u->cache_creation = json_integer_value(json_object_get(usage, "cacheWriteInputTokens"));
}

void
converse_event(Stream *stream, const char *name, const char *data, size_t len)
{
	json_t *root = json_loadb(data, len, 0, NULL);

	if (root == NULL && len > 0)
		stream_fail(stream, 0, "the answer holds what is no JSON");
	else if (strcmp(name, "contentBlockStart") == 0)
		begin_block(stream, root);
	else if (strcmp(name, "contentBlockDelta") == 0)
		take_delta(stream, root);
	else if (strcmp(name, "contentBlockStop") == 0)
		end_block(stream);
	else if (strcmp(name, "messageStop") == 0)
		take_end(stream, json_string_value(json_object_get(root, "stopReason")));
	else if (strcmp(name, "metadata") == 0)
		take_usage(stream, json_object_get(root, "usage"));
	json_decref(root);
}
