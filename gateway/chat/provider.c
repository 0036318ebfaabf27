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
	{"anthropic", "Anthropic", NULL},
	{"azure", "Azure OpenAI", &provider_chat_completions},
	{"bedrock", "AWS Bedrock", NULL},
	{"google", "Google", NULL},
	{"openai", "OpenAI", &provider_chat_completions},
	{"openai-compat", "OpenAI Compatible", &provider_chat_completions},
	{"openrouter", "OpenRouter", &provider_chat_completions},
	{"vercel", "Vercel AI Gateway", &provider_chat_completions},
};

const ProviderFormat *
provider_format(const char *provider, const char *model)
{
	(void) model;
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

	if (json_is_string(result))
		return strdup(json_string_value(result));
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
