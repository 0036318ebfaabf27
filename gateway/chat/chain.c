/*
 * chain.c -- which answer to go on from.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "chain.h"
#include "provider.h"

static bool
is_role(const json_t *message, const char *role)
{
	const char *r = json_string_value(json_object_get(message, "role"));

	return r != NULL && strcmp(r, role) == 0;
}

void
chain_context(const json_t *history, char context[CHAIN_CONTEXT])
{
	crypto_generichash_state state;
	unsigned char sum[16];
	size_t i;
	json_t *m;

	crypto_generichash_init(&state, NULL, 0, sizeof(sum));
	json_array_foreach(history, i, m)
	{
		char *text = is_role(m, "system") ? provider_text_of(json_object_get(m, "content")) : NULL;

		if (text != NULL)
			crypto_generichash_update(&state, (const unsigned char *) text, strlen(text) + 1);
		free(text);
	}
	crypto_generichash_final(&state, sum, sizeof(sum));
	sodium_bin2hex(context, CHAIN_CONTEXT, sum, sizeof(sum));
}

void
chain_mark(json_t *content, const char *context)
{
	json_t *last = json_array_get(content, json_array_size(content) - 1);
	json_t *metadata = json_deep_copy(json_object_get(last, "provider_metadata"));

	if (last == NULL)
		return;
	stream_note(&metadata, "openai", "context", json_string(context));
	json_object_set_new(last, "provider_metadata", metadata);
}

static bool
is_marked(const json_t *message, const char *context)
{
	const json_t *content = json_object_get(message, "content");
	const json_t *last = json_array_get(content, json_array_size(content) - 1);
	const json_t *own = json_object_get(json_object_get(last, "provider_metadata"), "openai");
	const char *marked = json_string_value(json_object_get(own, "context"));

	return marked != NULL && strcmp(marked, context) == 0;
}

const char *
chain_find(const json_t *history, const char *model_id, const char *context, size_t *from)
{
	size_t i = json_array_size(history);
	const json_t *m = NULL;
	const char *model;
	const char *id;

	while (i > 0 && !is_role(json_array_get(history, i - 1), "assistant"))
		i--;
	if (i == 0 || i == json_array_size(history))
		return NULL;
	m = json_array_get(history, i - 1);
	model = json_string_value(json_object_get(m, "model_config_id"));
	id = json_string_value(json_object_get(m, "provider_response_id"));
	if (id == NULL || *id == '\0' || model == NULL || model_id == NULL || strcmp(model, model_id) != 0 || !is_marked(m, context))
		return NULL;
	*from = i;
	return id;
}
