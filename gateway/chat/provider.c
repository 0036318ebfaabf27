/*
 * provider.c -- which provider speaks which format, and what the formats share.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"

static const struct
{
	const char *provider;
	const char *display_name;
	const ProviderFormat *format;
} providers[] = {
	{"anthropic", "Anthropic", &provider_anthropic},
	{"azure", "Azure OpenAI", &provider_chat_completions},
	{"bedrock", "AWS Bedrock", &provider_bedrock},
	{"google", "Google", &provider_google},
	{"openai", "OpenAI", &provider_chat_completions},
	{"openai-compat", "OpenAI Compatible", &provider_chat_completions},
	{"openrouter", "OpenRouter", &provider_chat_completions},
	{"vercel", "Vercel AI Gateway", &provider_chat_completions},
};

/* The models that OpenAI and Azure serve by the Responses API; all others speak chat completions. */
static const char *const responses_models[] = {
	"gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14", "gpt-4.1-nano-2025-04-14",
	"gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini", "gpt-4o-mini-2024-07-18",
	"gpt-4-turbo", "gpt-4-turbo-2024-04-09", "gpt-4-turbo-preview", "gpt-4-0125-preview", "gpt-4-1106-preview", "gpt-4",
	"gpt-4-0613", "gpt-4.5-preview", "gpt-4.5-preview-2025-02-27", "gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-1106",
	"chatgpt-4o-latest", "gpt-5-chat-latest",
	"o1", "o1-2024-12-17", "o3-mini", "o3-mini-2025-01-31", "o3", "o3-2025-04-16", "o4-mini", "o4-mini-2025-04-16",
	"codex-mini-latest", "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-2025-08-07", "gpt-5-mini-2025-08-07",
	"gpt-5-nano-2025-08-07", "gpt-5-codex", "gpt-5-chat", "gpt-5-pro", "gpt-5.1", "gpt-5.1-codex", "gpt-5.1-codex-max",
	"gpt-5.1-codex-mini", "gpt-5.1-chat", "gpt-5.2", "gpt-5.2-codex", "gpt-5.3", "gpt-5.3-codex", "gpt-5.4", "gpt-5.4-pro",
	"gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-codex", "gpt-oss-120b"};

static bool
speaks_responses(const char *provider, const char *model)
{
	if (strcmp(provider, "openai") != 0 && strcmp(provider, "azure") != 0)
		return false;
	for (size_t i = 0; i < sizeof(responses_models) / sizeof(responses_models[0]); i++)
		if (strcmp(responses_models[i], model) == 0)
			return true;
	return false;
}

const ProviderFormat *
provider_format(const char *provider, const char *model)
{
	if (speaks_responses(provider, model))
		return &provider_responses;
	for (size_t i = 0; i < sizeof(providers) / sizeof(providers[0]); i++)
		if (strcmp(providers[i].provider, provider) == 0)
			return providers[i].format;
	return NULL;
}

const char *
provider_display_name(const char *provider)
{
	for (size_t i = 0; i < sizeof(providers) / sizeof(providers[0]); i++)
		if (strcmp(providers[i].provider, provider) == 0)
			return providers[i].display_name;
	return NULL;
}

void
provider_request_free(ProviderRequest *request)
{
	for (int i = 0; i < request->n_headers; i++)
		free(request->headers[i]);
	free(request->url);
	free(request->body);
	memset(request, 0, sizeof(*request));
}

bool
provider_add_header(ProviderRequest *request, const char *name, const char *value)
{
	/* A key with a line feed would be a header of its own. */
	if (request->n_headers == PROVIDER_MAX_HEADERS || strpbrk(value, "\r\n") != NULL ||
		asprintf(&request->headers[request->n_headers], "%s: %s", name, value) < 0)
		return false;
	request->n_headers++;
	return true;
}

char *
provider_url(const char *base, const char *def, const char *path)
{
	const char *b = *base != '\0' ? base : def;
	int len = (int) strlen(b);
	char *url = NULL;

	while (len > 0 && b[len - 1] == '/')
		len--;
	return asprintf(&url, "%.*s%s", len, b, path) < 0 ? NULL : url;
}

char *
provider_text_of(const json_t *content)
{
	size_t len = 0;
	size_t i;
	json_t *part;
	char *text;

	json_array_foreach(content, i, part)
	{
		len += json_string_length(json_object_get(part, "text")) + 1;
	}
	text = malloc(len + 1);
	if (text == NULL)
		return NULL;
	len = 0;
	json_array_foreach(content, i, part)
	{
		const json_t *t = json_object_get(part, "text");
		const char *type = json_string_value(json_object_get(part, "type"));

		if (type == NULL || strcmp(type, "text") != 0 || json_string_length(t) == 0)
			continue;
		if (len > 0)
			text[len++] = '\n';
		memcpy(text + len, json_string_value(t), json_string_length(t));
		len += json_string_length(t);
	}
	text[len] = '\0';
	return text;
}

char *
provider_result_text(const json_t *part)
{
	const json_t *result = json_object_get(part, "result");
	const char *words = json_string_value(json_object_get(result, "text"));
	const char *media = json_string_value(json_object_get(result, "mime_type"));
	char *text = NULL;

	if (json_is_string(result))
		return strdup(json_string_value(result));
	if (json_is_true(json_object_get(part, "is_media")) && media != NULL)
	{
		bool any = words != NULL && *words != '\0';

		return asprintf(&text, "%s%s[%s]", any ? words : "", any ? "\n" : "", media) >= 0 ? text : NULL;
	}
	return json_dumps(result != NULL ? result : json_null(), JSON_COMPACT | JSON_ENCODE_ANY);
}

char *
provider_error_text(const char *body, size_t len)
{
	json_t *root = json_loadb(body, len, JSON_DECODE_ANY, NULL);
	const json_t *error = json_object_get(json_is_array(root) ? json_array_get(root, 0) : root, "error");
	const char *message = json_string_value(json_is_string(error) ? error : json_object_get(error, "message"));
	const char *type = json_string_value(json_object_get(error, "type"));
	char *text = NULL;

	if (message == NULL)
		message = json_string_value(json_object_get(root, "message"));
	if (message == NULL)
		text = strndup(body, len < 512 ? len : 512);
	else if (type != NULL)
	{
		if (asprintf(&text, "%s (%s)", message, type) < 0)
			text = NULL;
	}
	else
		text = strdup(message);
	json_decref(root);
	return text;
}

void
provider_options(json_t *body, const json_t *own, const char *const names[][2])
{
	for (; (*names)[0] != NULL; names++)
	{
		json_t *value = json_object_get(own, (*names)[0]);

		if (value != NULL && !json_is_null(value))
			json_object_set(body, (*names)[1], value);
	}
}

int
provider_error_status(const char *code)
{
	static const struct
	{
		const char *code;
		int status;
	} statuses[] = {{"invalid_request_error", 400}, {"context_length_exceeded", 400}, {"authentication_error", 401},
					{"invalid_api_key", 401}, {"permission_error", 403}, {"not_found_error", 404}, {"request_too_large", 413},
					{"rate_limit_error", 429}, {"rate_limit_exceeded", 429}, {"too_many_requests", 429}, {"api_error", 500},
					{"server_error", 500}, {"internal_error", 500}, {"timeout_error", 504}, {"overloaded_error", 529},
					{"overloaded", 529}, {"slow_down", 529}};
	char *end;
	long number;

	if (code == NULL)
		return 0;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (strcmp(code, statuses[i].code) == 0)
			return statuses[i].status;
	number = strtol(code, &end, 10);
	return *end == '\0' && number >= 400 && number < 600 ? (int) number : 0;
}

void
provider_fail(Stream *stream, const json_t *root)
{
	const json_t *error = json_object_get(root, "error");
	const json_t *code = json_object_get(error, "code");
	char *body = json_is_object(error) || json_is_string(error) ? json_dumps(root, JSON_COMPACT) : NULL;
	char *text = body != NULL ? provider_error_text(body, strlen(body)) : NULL;
	int status = json_is_integer(code) ? (int) json_integer_value(code) : provider_error_status(json_string_value(code));

	if (status == 0)
		status = provider_error_status(json_string_value(json_object_get(error, "type")));
	if (text != NULL)
		stream_fail(stream, status, text);
	free(text);
	free(body);
}

json_t *
provider_reference_text(const json_t *part)
{
	const char *name = json_string_value(json_object_get(part, "file_name"));
	const char *content = json_string_value(json_object_get(part, "content"));

	return json_sprintf("[file-reference] %s:%lld-%lld\n```\n%s\n```", name != NULL ? name : "",
						(long long) json_integer_value(json_object_get(part, "start_line")),
						(long long) json_integer_value(json_object_get(part, "end_line")), content != NULL ? content : "");
}

bool
provider_result_picture(const json_t *part, const char **media_type, const char **data)
{
	static const char *const types[] = {"image/png", "image/jpeg", "image/gif", "image/webp"};
	const json_t *result = json_object_get(part, "result");

	*media_type = json_string_value(json_object_get(result, "mime_type"));
	*data = json_string_value(json_object_get(result, "data"));
	if (!json_is_true(json_object_get(part, "is_media")) || *media_type == NULL || *data == NULL)
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(*media_type, types[i]) == 0)
			return true;
	return false;
}

bool
provider_file_data(const json_t *part, const char **media_type, const char **data)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	*media_type = json_string_value(json_object_get(part, "media_type"));
	*data = json_string_value(json_object_get(part, "data"));
	return type != NULL && strcmp(type, "file") == 0 && *media_type != NULL && *data != NULL;
}

/* What OpenAI and those who follow it share --------------------------------- */

bool
provider_openai_thinks(const char *model)
{
	static const char *const prefixes[] = {"o1", "o3", "o4-", "gpt-5", "codex-", "gpt-oss-"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(model, prefixes[i], strlen(prefixes[i])) == 0)
			return strncmp(model, "gpt-5-chat", 10) != 0 && strncmp(model, "gpt-5.1-chat", 12) != 0;
	return false;
}

bool
provider_keeps_answers(const char *provider, const char *model, const json_t *options)
{
	return provider_format(provider, model) == &provider_responses &&
		   !json_is_false(json_object_get(json_object_get(json_object_get(options, "provider_options"), "openai"), "store"));
}

/* https://x.openai.azure.com, with or without what follows it, as .../openai/v1; another path stays as it is. */
static char *
azure_url(const char *base, const char *path)
{
	const char *host = strstr(base, "://");
	size_t len = strcspn(base, "?#");
	const char *rest;
	char *url = NULL;

	host = host != NULL ? host + 3 : base;
	while (len > 0 && base[len - 1] == '/')
		len--;
	rest = memchr(host, '/', len > (size_t) (host - base) ? len - (size_t) (host - base) : 0);
	if (rest == NULL)
		return asprintf(&url, "%.*s/openai/v1%s", (int) len, base, path) < 0 ? NULL : url;
	if (len >= 7 && memcmp(base + len - 7, "/openai", 7) == 0)
		return asprintf(&url, "%.*s/v1%s", (int) len, base, path) < 0 ? NULL : url;
	return asprintf(&url, "%.*s%s", (int) len, base, path) < 0 ? NULL : url;
}

char *
provider_openai_url(const ProviderAsk *ask, const char *path, const char **error)
{
	*error = "The request cannot be made.";
	if (strcmp(ask->provider, "openrouter") == 0)
		return provider_url(ask->base_url, "https://openrouter.ai/api/v1", path);
	if (strcmp(ask->provider, "vercel") == 0)
		return provider_url(ask->base_url, "https://ai-gateway.vercel.sh/v1", path);
	if (strcmp(ask->provider, "azure") != 0)
		return provider_url(ask->base_url, "https://api.openai.com/v1", path);
	if (*ask->base_url == '\0')
	{
		*error = "AZURE_OPENAI_BASE_URL is not set";
		return NULL;
	}
	return azure_url(ask->base_url, path);
}

json_t *
provider_openai_schema(const ProviderAsk *ask)
{
	const json_t *tool = json_array_get(ask->tools, 0);
	json_t *schema;

	if (!ask->as_json || (strcmp(ask->provider, "openai") != 0 && strcmp(ask->provider, "azure") != 0))
		return NULL;
	schema = json_copy(json_object_get(tool, "input_schema"));
	json_object_set_new(schema, "additionalProperties", json_false());
	return json_pack("{s:O, s:b, s:o}", "name", json_object_get(tool, "name"), "strict", 1, "schema", schema);
}

bool
provider_openai_key(const ProviderAsk *ask, ProviderRequest *request)
{
	char *bearer = NULL;
	bool ok;

	if (strcmp(ask->provider, "azure") == 0)
		return provider_add_header(request, "api-key", ask->api_key);
	ok = asprintf(&bearer, "Bearer %s", ask->api_key) > 0 && provider_add_header(request, "Authorization", bearer);
	free(bearer);
	return ok;
}
