/*
 * test_chat_provider.c -- what each provider is asked, and its answers: whole, cut anywhere, cut off, failing and malformed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/converse.h"
#include "../../gateway/chat/provider.c"
#include "../../agent/wire/sse.h"

#define EVENT(json) "data: " json "\n\n"

static json_t *
json(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY, &error);

	if (value == NULL)
		fail_msg("%s in %s", error.text, text);
	return value;
}

static void
assert_json(const json_t *value, const char *wanted)
{
	json_t *w = json(wanted);
	char *got = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
	char *want = json_dumps(w, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);

	assert_string_equal(got, want);
	json_decref(w);
	free(got);
	free(want);
}

/* Requests ------------------------------------------------------------------- */

static const char history[] =
	"[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"be brief\"}]},"
	"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"file\",\"media_type\":\"image/png\",\"data\":\"aGk=\"}]},"
	"{\"role\":\"assistant\",\"content\":[{\"type\":\"reasoning\",\"text\":\"hm\",\"signature\":\"sig\"},{\"type\":\"text\",\"text\":\"I look\"},"
	"{\"type\":\"tool-call\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"args\":{\"a\":1},\"provider_metadata\":{\"google\":{\"thought_signature\":\"cs\"}}}]},"
	"{\"role\":\"tool\",\"content\":[{\"type\":\"tool-result\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"result\":{\"b\":2},\"is_error\":true}]},"
	"{\"role\":\"user\",\"content\":[{\"type\":\"file-reference\",\"file_name\":\"f.c\",\"start_line\":1,\"end_line\":2,\"content\":\"x\"}]}]";
static const char tools[] = "[{\"name\":\"see\",\"description\":\"sees\",\"input_schema\":{\"type\":\"object\"}}]";

typedef struct Asked
{
	ProviderRequest request;
	json_t *body;
	const char *error;
	bool ok;
} Asked;

static const char *the_history = history;
static const char *the_key = "key";
static const char *the_region;
static bool no_calls;
static bool as_json;

static Asked
ask_with(const char *provider, const char *model, const char *base, const char *options, const char *choice)
{
	Asked asked = {0};
	json_t *h = json(the_history);
	json_t *t = json(tools);
	json_t *o = json(options);
	ProviderAsk wanted = {.provider = provider, .model = model, .base_url = base, .api_key = the_key, .options = o, .history = h,
						  .tools = t, .tool_choice = choice, .no_calls = no_calls, .as_json = as_json, .region = the_region, .now = 1440938160};

	asked.ok = provider_format(provider, model)->request(&wanted, &asked.request, &asked.error);
	if (asked.request.body != NULL)
		asked.body = json(asked.request.body);
	json_decref(h);
	json_decref(t);
	json_decref(o);
	return asked;
}

static void
asked_free(Asked *asked)
{
	provider_request_free(&asked->request);
	json_decref(asked->body);
}

static void
assert_url(const char *provider, const char *model, const char *base, const char *url, const char *header)
{
	Asked asked = ask_with(provider, model, base, "{}", NULL);

	assert_true(asked.ok);
	assert_string_equal(asked.request.url, url);
	assert_string_equal(asked.request.headers[0], header);
	asked_free(&asked);
}

static void
test_urls(void **state)
{
	static const char bearer[] = "Authorization: Bearer key";

	(void) state;
	assert_url("openai", "gpt-x", "", "https://api.openai.com/v1/chat/completions", bearer);
	assert_url("openai", "gpt-5", "", "https://api.openai.com/v1/responses", bearer);
	assert_url("openai", "gpt-4o-mini", "http://h:1/v1//", "http://h:1/v1/responses", bearer);
	assert_url("openai-compat", "gpt-5", "http://h/v1/", "http://h/v1/chat/completions", bearer);
	assert_url("openrouter", "m", "", "https://openrouter.ai/api/v1/chat/completions", bearer);
	assert_url("openrouter", "m", "http://h/api", "http://h/api/chat/completions", bearer);
	assert_url("vercel", "m", "", "https://ai-gateway.vercel.sh/v1/chat/completions", bearer);
	assert_url("vercel", "m", "http://h", "http://h/chat/completions", bearer);
	assert_url("anthropic", "claude", "", "https://api.anthropic.com/v1/messages", "x-api-key: key");
	assert_url("anthropic", "claude", "http://h/", "http://h/v1/messages", "x-api-key: key");
	assert_url("anthropic", "claude", "http://h/v1", "http://h/v1/messages", "x-api-key: key");
	assert_url("google", "gemini-2.5-pro", "", "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
			   "x-goog-api-key: key");
	assert_url("google", "models/g", "http://h/v1beta/", "http://h/v1beta/models/g:streamGenerateContent?alt=sse", "x-goog-api-key: key");
	assert_url("bedrock", "us.anthropic.claude-1:0", "", "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-1%3A0/invoke-with-response-stream", bearer);
	assert_url("bedrock", "arn:aws:x/us.anthropic.y", "http://h:1/", "http://h:1/model/arn%3Aaws%3Ax%2Fus.anthropic.y/invoke-with-response-stream", bearer);
	assert_url("bedrock", "arn:aws:x/y", "http://h:1/", "http://h:1/model/arn%3Aaws%3Ax%2Fy/converse-stream", bearer);
	assert_url("bedrock", "amazon.nova-pro-v1:0", "http://h", "http://h/model/amazon.nova-pro-v1%3A0/converse-stream", bearer);
	assert_url("bedrock", "xanthropic.c", "http://h", "http://h/model/xanthropic.c/converse-stream", bearer);
	assert_url("bedrock", "anthropic.c", "https://bedrock-runtime.eu-west-3.amazonaws.com",
			   "https://bedrock-runtime.eu-west-3.amazonaws.com/model/eu.anthropic.c/invoke-with-response-stream", bearer);
	the_region = "ap-south-1";
	assert_url("bedrock", "anthropic.c", "", "https://bedrock-runtime.ap-south-1.amazonaws.com/model/apac.anthropic.c/invoke-with-response-stream", bearer);
	the_region = "evil.example/";
	assert_url("bedrock", "anthropic.c", "", "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.c/invoke-with-response-stream", bearer);
	the_region = NULL;
	assert_url("azure", "m", "https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/chat/completions", "api-key: key");
	assert_url("azure", "gpt-5", "https://r.openai.azure.com/", "https://r.openai.azure.com/openai/v1/responses", "api-key: key");
	assert_url("azure", "m", "https://r.openai.azure.com/openai/", "https://r.openai.azure.com/openai/v1/chat/completions", "api-key: key");
	assert_url("azure", "m", "https://r.openai.azure.com/openai/v1?api-version=1", "https://r.openai.azure.com/openai/v1/chat/completions", "api-key: key");
	assert_url("azure", "m", "http://h:1/some/path", "http://h:1/some/path/chat/completions", "api-key: key");
}

static void
assert_refused(const char *provider, const char *model, const char *base, const char *error)
{
	Asked asked = ask_with(provider, model, base, "{}", NULL);

	assert_false(asked.ok);
	assert_string_equal(asked.error, error);
	asked_free(&asked);
}

static void
test_refused(void **state)
{
	ProviderRequest request = {0};

	(void) state;
	assert_refused("azure", "m", "", "AZURE_OPENAI_BASE_URL is not set");
	assert_refused("azure", "gpt-5", "", "AZURE_OPENAI_BASE_URL is not set");
	assert_refused("google", "../x", "", "The model's name cannot be used.");
	assert_refused("google", "m?key=1", "", "The model's name cannot be used.");
	assert_refused("bedrock", "", "", "The model's name cannot be used.");
	assert_null(provider_format("other", "m"));
	/* a key that would be a header of its own */
	assert_false(provider_add_header(&request, "x-api-key", "a\r\nb: c"));
	for (int i = 0; i < PROVIDER_MAX_HEADERS; i++)
		assert_true(provider_add_header(&request, "a", "b"));
	assert_false(provider_add_header(&request, "a", "b"));
	provider_request_free(&request);
}

static void
test_completions_request(void **state)
{
	Asked asked = ask_with("openai-compat", "m", "http://h", "{\"max_output_tokens\":5,\"temperature\":0.5}", NULL);

	(void) state;
	assert_json(json_object_get(asked.body, "messages"),
				"[{\"role\":\"system\",\"content\":\"be brief\"},"
				"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,aGk=\"}}]},"
				"{\"role\":\"assistant\",\"content\":\"I look\",\"tool_calls\":[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"see\",\"arguments\":\"{\\\"a\\\":1}\"}}]},"
				"{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"{\\\"b\\\":2}\"},"
				"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"[file-reference] f.c:1-2\\n```\\nx\\n```\"}]}]");
	assert_json(json_object_get(asked.body, "tools"),
				"[{\"type\":\"function\",\"function\":{\"name\":\"see\",\"description\":\"sees\",\"parameters\":{\"type\":\"object\"}}}]");
	assert_json(json_object_get(asked.body, "max_tokens"), "5");
	assert_json(json_object_get(asked.body, "temperature"), "0.5");
	assert_json(json_object_get(asked.body, "stream_options"), "{\"include_usage\":true}");
	asked_free(&asked);
	asked = ask_with("openai", "o9", "http://h", "{\"temperature\":0.5}", NULL);
	assert_json(json_object_get(asked.body, "temperature"), "0.5");
	asked_free(&asked);
	asked = ask_with("openai-compat", "gpt-5", "http://h", "{\"temperature\":0.5,\"provider_options\":{\"openaicompat\":{\"reasoning_effort\":\"low\"}}}", "see");
	assert_null(json_object_get(asked.body, "temperature"));
	assert_null(json_object_get(asked.body, "max_tokens"));
	assert_json(json_object_get(asked.body, "max_completion_tokens"), "32000");
	assert_json(json_object_get(asked.body, "reasoning_effort"), "\"low\"");
	assert_json(json_object_get(asked.body, "tool_choice"), "{\"type\":\"function\",\"function\":{\"name\":\"see\"}}");
	asked_free(&asked);
}

static void
test_responses_request(void **state)
{
	Asked asked = ask_with("openai", "gpt-5", "", "{\"temperature\":1,\"max_output_tokens\":7,\"provider_options\":{\"openai\":{\"reasoning_effort\":\"high\","
						   "\"reasoning_summary\":\"auto\",\"store\":false,\"text_verbosity\":\"low\"}}}", NULL);

	(void) state;
	assert_json(json_object_get(asked.body, "input"),
				"[{\"role\":\"developer\",\"content\":\"be brief\"},"
				"{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"look\"},{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,aGk=\"}]},"
				"{\"role\":\"assistant\",\"content\":\"I look\"},"
				"{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"see\",\"arguments\":\"{\\\"a\\\":1}\"},"
				"{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"{\\\"b\\\":2}\"},"
				"{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"[file-reference] f.c:1-2\\n```\\nx\\n```\"}]}]");
	assert_null(json_object_get(asked.body, "temperature"));
	assert_json(json_object_get(asked.body, "store"), "false");
	assert_json(json_object_get(asked.body, "max_output_tokens"), "7");
	assert_json(json_object_get(asked.body, "reasoning"), "{\"effort\":\"high\",\"summary\":\"auto\"}");
	assert_json(json_object_get(asked.body, "text"), "{\"verbosity\":\"low\"}");
	asked_free(&asked);
	asked = ask_with("openai", "gpt-4o", "", "{\"temperature\":1}", "see");
	assert_json(json_object_get(asked.body, "temperature"), "1");
	assert_json(json_object_get(asked.body, "store"), "true");
	assert_json(json_object_get(json_array_get(json_object_get(asked.body, "input"), 0), "role"), "\"system\"");
	assert_json(json_object_get(asked.body, "tool_choice"), "{\"type\":\"function\",\"name\":\"see\"}");
	asked_free(&asked);
}

static void
test_anthropic_request(void **state)
{
	Asked asked = ask_with("anthropic", "claude", "", "{\"temperature\":0.5}", NULL);

	(void) state;
	assert_string_equal(asked.request.headers[1], "anthropic-version: 2023-06-01");
	assert_json(json_object_get(asked.body, "system"), "[{\"type\":\"text\",\"text\":\"be brief\",\"cache_control\":{\"type\":\"ephemeral\"}}]");
	assert_json(json_object_get(asked.body, "messages"),
				"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"look\"},{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"aGk=\"}}]},"
				"{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"sig\"},{\"type\":\"text\",\"text\":\"I look\"},"
				"{\"type\":\"tool_use\",\"id\":\"c1\",\"name\":\"see\",\"input\":{\"a\":1},\"cache_control\":{\"type\":\"ephemeral\"}}]},"
				"{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c1\",\"content\":\"{\\\"b\\\":2}\",\"is_error\":true},"
				"{\"type\":\"text\",\"text\":\"[file-reference] f.c:1-2\\n```\\nx\\n```\",\"cache_control\":{\"type\":\"ephemeral\"}}]}]");
	assert_json(json_object_get(asked.body, "tools"), "[{\"name\":\"see\",\"description\":\"sees\",\"input_schema\":{\"type\":\"object\"}}]");
	assert_json(json_object_get(asked.body, "max_tokens"), "32000");
	assert_json(json_object_get(asked.body, "temperature"), "0.5");
	assert_null(json_object_get(asked.body, "thinking"));
	asked_free(&asked);
	asked = ask_with("anthropic", "claude", "", "{\"temperature\":0.5,\"max_output_tokens\":1000,\"provider_options\":{\"anthropic\":{\"thinking\":{\"budget_tokens\":2000},"
					 "\"send_reasoning\":false}}}", NULL);
	assert_json(json_object_get(asked.body, "thinking"), "{\"type\":\"enabled\",\"budget_tokens\":2000}");
	assert_json(json_object_get(asked.body, "max_tokens"), "3000");
	assert_null(json_object_get(asked.body, "temperature"));
	assert_null(strstr(asked.request.body, "\"sig\""));
	assert_int_equal(asked.request.n_headers, 3);
	assert_string_equal(asked.request.headers[2], "anthropic-beta: interleaved-thinking-2025-05-14");
	asked_free(&asked);
	asked = ask_with("anthropic", "claude", "", "{\"provider_options\":{\"anthropic\":{\"effort\":\"low\"}}}", NULL);
	assert_json(json_object_get(asked.body, "thinking"), "{\"type\":\"adaptive\"}");
	assert_json(json_object_get(asked.body, "output_config"), "{\"effort\":\"low\"}");
	asked_free(&asked);
	asked = ask_with("anthropic", "claude", "", "{\"provider_options\":{\"anthropic\":{\"effort\":\"low\"}}}", "see");
	assert_null(json_object_get(asked.body, "thinking"));
	assert_json(json_object_get(asked.body, "tool_choice"), "{\"type\":\"tool\",\"name\":\"see\"}");
	asked_free(&asked);
}

/* Every option of a model that a provider knows reaches it, under its name there; those of another provider do not. */
static void
assert_options(const char *provider, const char *model, const char *options, const char *sent)
{
	Asked asked = ask_with(provider, model, "http://h", options, NULL);
	json_t *wanted = json(sent);
	const char *key;
	json_t *value;

	assert_true(asked.ok);
	json_object_foreach(wanted, key, value)
	{
		char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		if (json_is_null(value))
			assert_null(json_object_get(asked.body, key));
		else
			assert_json(json_object_get(asked.body, key), text);
		free(text);
	}
	json_decref(wanted);
	asked_free(&asked);
}

#define OPENAI_OPTIONS "{\"top_k\":3,\"presence_penalty\":0.1,\"frequency_penalty\":0.2,\"provider_options\":{\"openai\":{\"include\":[\"x\"],\"instructions\":\"i\"," \
	"\"logit_bias\":{\"1\":2},\"log_probs\":true,\"top_log_probs\":2,\"max_tool_calls\":3,\"parallel_tool_calls\":false,\"user\":\"u\",\"max_completion_tokens\":9," \
	"\"text_verbosity\":\"low\",\"prediction\":{\"type\":\"content\"},\"store\":true,\"metadata\":{\"a\":\"b\"},\"prompt_cache_key\":\"k\",\"safety_identifier\":\"s\"," \
	"\"service_tier\":\"flex\",\"strict_json_schema\":true,\"reasoning_effort\":\"high\",\"web_search_enabled\":true,\"search_context_size\":\"low\"," \
	"\"allowed_domains\":[\"a.b\"]},\"openaicompat\":{\"user\":\"c\"},\"openrouter\":{\"user\":\"r\",\"reasoning\":{\"effort\":\"low\"},\"extra_body\":{\"model\":\"m2\",\"more\":1}," \
	"\"include_usage\":true,\"log_probs\":true,\"logit_bias\":{\"1\":1},\"parallel_tool_calls\":true,\"provider\":{\"sort\":\"price\"}},\"vercel\":{\"user\":\"v\"," \
	"\"reasoning\":{\"enabled\":true},\"providerOptions\":{\"order\":[\"a\"]},\"logit_bias\":{\"1\":3},\"logprobs\":true,\"top_logprobs\":4,\"parallel_tool_calls\":false," \
	"\"extra_body\":{\"messages\":[],\"more\":2}}}}"

static void
test_options(void **state)
{
	(void) state;
	assert_options("openai", "gpt-x", OPENAI_OPTIONS, "{\"logit_bias\":{\"1\":2},\"logprobs\":true,\"top_logprobs\":2,\"parallel_tool_calls\":false,\"user\":\"u\","
				   "\"max_tokens\":9,\"verbosity\":\"low\",\"prediction\":{\"type\":\"content\"},\"store\":true,\"metadata\":{\"a\":\"b\"},\"prompt_cache_key\":\"k\","
				   "\"safety_identifier\":\"s\",\"service_tier\":\"flex\",\"reasoning_effort\":\"high\",\"presence_penalty\":0.1,\"frequency_penalty\":0.2,"
				   "\"top_k\":null,\"include\":null,\"max_tool_calls\":null,\"extra_body\":null,\"more\":null}");
	assert_options("azure", "gpt-5", OPENAI_OPTIONS, "{\"include\":[\"x\",\"reasoning.encrypted_content\",\"message.output_text.logprobs\"],\"instructions\":\"i\","
				   "\"top_logprobs\":2,\"max_tool_calls\":3,\"parallel_tool_calls\":false,\"user\":\"u\",\"max_output_tokens\":9,\"text\":{\"verbosity\":\"low\"},"
				   "\"store\":true,\"metadata\":{\"a\":\"b\"},\"prompt_cache_key\":\"k\",\"safety_identifier\":\"s\",\"service_tier\":\"flex\","
				   "\"reasoning\":{\"effort\":\"high\"},\"prediction\":null,\"logit_bias\":null,\"tools\":[{\"type\":\"function\",\"name\":\"see\",\"description\":\"sees\","
				   "\"parameters\":{\"type\":\"object\"},\"strict\":true},{\"type\":\"web_search\",\"search_context_size\":\"low\",\"filters\":{\"allowed_domains\":[\"a.b\"]}}]}");
	assert_options("openai-compat", "m", OPENAI_OPTIONS, "{\"user\":\"c\",\"max_tokens\":32000,\"logit_bias\":null,\"reasoning\":null,\"store\":null}");
	assert_options("openrouter", "m", OPENAI_OPTIONS, "{\"user\":\"r\",\"reasoning\":{\"effort\":\"low\"},\"model\":\"m\",\"more\":1,\"usage\":{\"include\":true},"
				   "\"logprobs\":true,\"logit_bias\":{\"1\":1},\"parallel_tool_calls\":true,\"provider\":{\"sort\":\"price\"},\"top_k\":3,\"store\":null}");
	assert_options("vercel", "m", OPENAI_OPTIONS, "{\"user\":\"v\",\"reasoning\":{\"enabled\":true},\"providerOptions\":{\"order\":[\"a\"]},\"logit_bias\":{\"1\":3},"
				   "\"logprobs\":true,\"top_logprobs\":4,\"parallel_tool_calls\":false,\"more\":2,\"top_k\":null}");
	assert_options("google", "g", "{\"top_p\":0.5,\"provider_options\":{\"google\":{\"cached_content\":\"c\",\"safety_settings\":[{\"category\":\"a\",\"threshold\":\"b\"}]}}}",
				   "{\"cachedContent\":\"c\",\"safetySettings\":[{\"category\":\"a\",\"threshold\":\"b\"}]}");
	assert_options("anthropic", "c", "{\"top_k\":4,\"top_p\":0.5,\"provider_options\":{\"anthropic\":{\"disable_parallel_tool_use\":true}}}",
				   "{\"top_k\":4,\"top_p\":0.5,\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":true}}");
}

/* What a provider has sealed goes back to it alone. */
static void
test_sealed(void **state)
{
	static const char content[] = "[{\"role\":\"assistant\",\"content\":[{\"type\":\"reasoning\",\"text\":\"hm\",\"provider_metadata\":{\"openai\":{\"item_id\":\"rs\","
		"\"encrypted_content\":\"e\"},\"openrouter\":{\"reasoning_details\":[{\"type\":\"t\"}]}}},{\"type\":\"text\",\"text\":\"x\"}]}]";
	json_t *h = json(content);
	json_t *o = json("{\"provider_options\":{\"openai\":{\"store\":false}}}");
	ProviderAsk wanted = {.provider = "openai", .model = "gpt-5", .base_url = "", .api_key = "k", .history = h, .options = o};
	static const struct
	{
		const char *provider;
		const char *model;
		bool sealed;
		bool details;
	} cases[] = {{"openai", "gpt-5", true, false}, {"openrouter", "m", false, true}, {"vercel", "m", false, false}, {"anthropic", "m", false, false},
				 {"google", "m", false, false}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		ProviderRequest request = {0};
		const char *error;

		wanted.provider = cases[i].provider;
		wanted.model = cases[i].model;
		assert_true(provider_format(wanted.provider, wanted.model)->request(&wanted, &request, &error));
		assert_int_equal(strstr(request.body, "{\"type\":\"reasoning\",\"id\":\"rs\",\"encrypted_content\":\"e\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm\"}]}") != NULL,
						 cases[i].sealed);
		assert_int_equal(strstr(request.body, "\"reasoning_details\":[{\"type\":\"t\"}]") != NULL, cases[i].details);
		assert_null(strstr(request.body, "provider_metadata"));
		provider_request_free(&request);
	}
	wanted.provider = "openai";
	wanted.model = "gpt-5";
	wanted.options = NULL;
	wanted.previous = "resp_9";
	{
		ProviderRequest request = {0};
		const char *error;

		assert_true(provider_responses.request(&wanted, &request, &error));
		assert_null(strstr(request.body, "encrypted_content\":\"e"));
		assert_non_null(strstr(request.body, "\"previous_response_id\":\"resp_9\""));
		provider_request_free(&request);
	}
	assert_true(provider_keeps_answers("azure", "gpt-5", NULL));
	assert_false(provider_keeps_answers("openai", "gpt-5", o));
	assert_false(provider_keeps_answers("openai-compat", "gpt-5", NULL));
	json_decref(h);
	json_decref(o);
}

static void
test_bedrock_request(void **state)
{
	Asked asked;

	(void) state;
	the_key = "AKIDEXAMPLEEXAMPLE:secret";
	asked = ask_with("bedrock", "anthropic.c", "", "{\"provider_options\":{\"anthropic\":{\"web_search_enabled\":true}}}", NULL);
	assert_string_equal(asked.request.headers[0], "Authorization: Bearer AKIDEXAMPLEEXAMPLE:secret");
	assert_json(json_object_get(asked.body, "anthropic_version"), "\"bedrock-2023-05-31\"");
	assert_null(json_object_get(asked.body, "model"));
	assert_null(json_object_get(asked.body, "stream"));
	assert_int_equal(json_array_size(json_object_get(asked.body, "tools")), 1);
	asked_free(&asked);
	the_key = "ASIAEXAMPLEEXAMPLE:sec/ret+:to:ken";
	asked = ask_with("bedrock", "anthropic.c:0", "http://h:8080/base", "{}", NULL);
	assert_int_equal(asked.request.n_headers, 3);
	assert_memory_equal(asked.request.headers[0], "Authorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE/20150830/us-east-1/bedrock/aws4_request, "
						"SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=", 160);
	assert_string_equal(asked.request.headers[1], "X-Amz-Date: 20150830T123600Z");
	assert_string_equal(asked.request.headers[2], "X-Amz-Security-Token: to:ken");
	assert_null(strstr(asked.request.headers[0], "sec/ret"));
	asked_free(&asked);
	the_key = "key";
}

/* What a model of this name is asked by Converse. */
static Asked
ask_converse(const char *model, const char *options, const char *choice)
{
	Asked asked = ask_with("bedrock", model, "", options, choice);

	assert_true(asked.ok);
	assert_non_null(strstr(asked.request.url, "/converse-stream"));
	return asked;
}

static void
test_converse_request(void **state)
{
	Asked asked = ask_converse("meta.llama3", "{\"temperature\":0.5,\"top_p\":0.9,\"top_k\":3,\"provider_options\":{\"anthropic\":{\"effort\":\"low\"}}}", "see");

	(void) state;
	assert_json(json_object_get(asked.body, "system"), "[{\"text\":\"be brief\"}]");
	assert_json(json_object_get(asked.body, "messages"),
				"[{\"role\":\"user\",\"content\":[{\"text\":\"look\"},{\"image\":{\"format\":\"png\",\"source\":{\"bytes\":\"aGk=\"}}}]},"
				"{\"role\":\"assistant\",\"content\":[{\"text\":\"I look\"},{\"toolUse\":{\"toolUseId\":\"c1\",\"name\":\"see\",\"input\":{\"a\":1}}}]},"
				"{\"role\":\"user\",\"content\":[{\"toolResult\":{\"toolUseId\":\"c1\",\"content\":[{\"text\":\"{\\\"b\\\":2}\"}]}},"
				"{\"text\":\"[file-reference] f.c:1-2\\n```\\nx\\n```\"}]}]");
	assert_json(json_object_get(asked.body, "toolConfig"),
				"{\"tools\":[{\"toolSpec\":{\"name\":\"see\",\"description\":\"sees\",\"inputSchema\":{\"json\":{\"type\":\"object\"}}}}]}");
	assert_json(json_object_get(asked.body, "inferenceConfig"), "{\"temperature\":0.5,\"topP\":0.9}");
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"top_k\":3}");
	asked_free(&asked);
	asked = ask_converse("mistral.m", "{\"max_output_tokens\":7}", "see");
	assert_json(json_object_get(json_object_get(asked.body, "toolConfig"), "toolChoice"), "{\"any\":{}}");
	assert_json(json_object_get(asked.body, "inferenceConfig"), "{\"maxTokens\":7}");
	asked_free(&asked);
	asked = ask_converse("us.amazon.nova-2", "{\"top_k\":3}", "see");
	assert_json(json_object_get(json_object_get(asked.body, "toolConfig"), "toolChoice"), "{\"tool\":{\"name\":\"see\"}}");
	assert_json(json_object_get(asked.body, "system"), "[{\"text\":\"be brief\"},{\"cachePoint\":{\"type\":\"default\"}}]");
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"inferenceConfig\":{\"topK\":3}}");
	asked_free(&asked);
}

static void
test_converse_thinking(void **state)
{
	static const char hard[] = "{\"temperature\":1,\"provider_options\":{\"anthropic\":{\"effort\":\"max\"}}}";
	static const char budget[] = "{\"max_output_tokens\":9,\"top_k\":3,\"provider_options\":{\"anthropic\":{\"thinking\":{\"budget_tokens\":2000}}}}";
	Asked asked = ask_converse("openai.gpt-oss", hard, NULL);

	(void) state;
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"reasoning_effort\":\"high\"}");
	assert_null(json_object_get(asked.body, "inferenceConfig"));
	asked_free(&asked);
	asked = ask_converse("amazon.nova-2", hard, NULL);
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"reasoningConfig\":{\"type\":\"enabled\",\"maxReasoningEffort\":\"high\"}}");
	asked_free(&asked);
	/* a profile of one's own: its name says no vendor; thoughts that were signed go back */
	asked = ask_converse("arn:aws:bedrock:x:1:application-inference-profile/abc", budget, NULL);
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000}}");
	assert_json(json_object_get(asked.body, "inferenceConfig"), "{\"maxTokens\":2009}");
	assert_json(json_array_get(json_object_get(json_array_get(json_object_get(asked.body, "messages"), 1), "content"), 0),
				"{\"reasoningContent\":{\"reasoningText\":{\"text\":\"hm\",\"signature\":\"sig\"}}}");
	assert_json(json_object_get(json_array_get(json_object_get(json_array_get(json_object_get(asked.body, "messages"), 2), "content"), 0), "toolResult"),
				"{\"toolUseId\":\"c1\",\"status\":\"error\",\"content\":[{\"text\":\"{\\\"b\\\":2}\"}]}");
	asked_free(&asked);
	asked = ask_converse("deepseek.r1", budget, NULL);
	assert_json(json_object_get(asked.body, "additionalModelRequestFields"), "{\"top_k\":3}");
	asked_free(&asked);
}

/* A question that offers no tools tells of calls and results in words; text of white space is not sent. */
static void
test_converse_without_tools(void **state)
{
	json_t *past = json("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\" \\n\"},{\"type\":\"file\",\"media_type\":\"application/pdf\",\"data\":\"eA==\"},"
						"{\"type\":\"file\",\"media_type\":\"application/pdf\",\"data\":\"eQ==\"},{\"type\":\"file\",\"media_type\":\"audio/x\",\"data\":\"eQ==\"}]},"
						"{\"role\":\"assistant\",\"content\":[{\"type\":\"tool-call\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"args\":{\"a\":1}}]},"
						"{\"role\":\"tool\",\"content\":[{\"type\":\"tool-result\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"result\":{\"b\":2}}]}]");
	json_t *none = json("[]");
	ProviderAsk wanted = {.provider = "bedrock", .model = "meta.l", .base_url = "", .api_key = "key", .options = NULL, .history = past, .tools = none};
	json_t *body = converse_body(&wanted);

	(void) state;
	assert_json(json_object_get(body, "messages"),
				"[{\"role\":\"user\",\"content\":[{\"document\":{\"format\":\"pdf\",\"name\":\"document-1\",\"source\":{\"bytes\":\"eA==\"}}},"
				"{\"document\":{\"format\":\"pdf\",\"name\":\"document-2\",\"source\":{\"bytes\":\"eQ==\"}}}]},"
				"{\"role\":\"assistant\",\"content\":[{\"text\":\"[called see] {\\\"a\\\":1}\"}]},"
				"{\"role\":\"user\",\"content\":[{\"text\":\"[result of see] {\\\"b\\\":2}\"}]}]");
	assert_null(json_object_get(body, "toolConfig"));
	json_decref(body);
	json_decref(past);
	json_decref(none);
}

/* The member of a body at a path. */
static const json_t *
at(const json_t *body, const char *path)
{
	char *copy = strdup(path);
	char *rest = copy;
	char *name;

	while ((name = strsep(&rest, ".")) != NULL)
		body = json_object_get(body, name);
	free(copy);
	return body;
}

static void
assert_asked(const char *provider, const char *model, const char *options, const char *choice, const char *path, const char *wanted)
{
	Asked asked = ask_with(provider, model, "http://h", options, choice);

	assert_true(asked.ok);
	if (wanted != NULL)
		assert_json(at(asked.body, path), wanted);
	else
		assert_null(at(asked.body, path));
	asked_free(&asked);
}

/* Tools that were called are told of, and none is to be called. */
static void
test_no_calls(void **state)
{
	static const char search[] = "{\"provider_options\":{\"anthropic\":{\"web_search_enabled\":true,\"disable_parallel_tool_use\":true},\"google\":{\"web_search_enabled\":true}}}";

	(void) state;
	no_calls = true;
	assert_asked("openai-compat", "m", "{}", NULL, "tool_choice", "\"none\"");
	assert_asked("openai", "gpt-5", "{}", NULL, "tool_choice", "\"none\"");
	assert_asked("anthropic", "c", search, NULL, "tool_choice", "{\"type\":\"none\"}");
	assert_asked("anthropic", "c", search, NULL, "tools", "[{\"name\":\"see\",\"description\":\"sees\",\"input_schema\":{\"type\":\"object\"}}]");
	assert_asked("google", "g", search, NULL, "toolConfig", "{\"functionCallingConfig\":{\"mode\":\"NONE\"}}");
	assert_asked("bedrock", "meta.l", "{}", NULL, "toolConfig", NULL);
	no_calls = false;
}

/* OpenAI's models are held to a schema; others call the tool. */
static void
test_as_json(void **state)
{
	static const char format[] = "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"see\",\"strict\":true,\"schema\":{\"type\":\"object\",\"additionalProperties\":false}}}";

	(void) state;
	as_json = true;
	assert_asked("openai", "m", "{}", "see", "response_format", format);
	assert_asked("azure", "m", "{\"provider_options\":{\"openai\":{\"parallel_tool_calls\":true}}}", "see", "response_format", format);
	assert_asked("azure", "m", "{\"provider_options\":{\"openai\":{\"parallel_tool_calls\":true}}}", "see", "parallel_tool_calls", NULL);
	assert_asked("openai", "m", "{}", "see", "tools", NULL);
	assert_asked("openai", "gpt-5", "{\"provider_options\":{\"openai\":{\"text_verbosity\":\"low\"}}}", "see", "text",
				 "{\"verbosity\":\"low\",\"format\":{\"type\":\"json_schema\",\"name\":\"see\",\"strict\":true,\"schema\":{\"type\":\"object\",\"additionalProperties\":false}}}");
	assert_asked("openai", "gpt-5", "{}", "see", "tool_choice", NULL);
	assert_asked("openai-compat", "m", "{}", "see", "tool_choice", "{\"type\":\"function\",\"function\":{\"name\":\"see\"}}");
	assert_asked("openai-compat", "m", "{}", "see", "response_format", NULL);
	assert_asked("vercel", "m", "{}", "see", "response_format", NULL);
	assert_asked("anthropic", "c", "{}", "see", "tool_choice", "{\"type\":\"tool\",\"name\":\"see\"}");
	as_json = false;
}

static void
test_search_requests(void **state)
{
	static const char both[] = "{\"provider_options\":{\"anthropic\":{\"web_search_enabled\":true,\"allowed_domains\":[\"a.b\"],\"blocked_domains\":[\"c\"]},"
		"\"google\":{\"web_search_enabled\":true}}}";
	Asked asked = ask_with("anthropic", "claude", "", both, NULL);

	(void) state;
	assert_json(json_array_get(json_object_get(asked.body, "tools"), 1),
				"{\"type\":\"web_search_20250305\",\"name\":\"web_search\",\"allowed_domains\":[\"a.b\"]}");
	asked_free(&asked);
	asked = ask_with("anthropic", "claude", "", both, "see");
	assert_int_equal(json_array_size(json_object_get(asked.body, "tools")), 1);
	asked_free(&asked);
	asked = ask_with("google", "g", "", both, NULL);
	assert_json(json_array_get(json_object_get(asked.body, "tools"), 1), "{\"googleSearch\":{}}");
	asked_free(&asked);
}

static void
test_google_request(void **state)
{
	Asked asked = ask_with("google", "g", "", "{\"top_k\":3,\"provider_options\":{\"google\":{\"thinking_config\":{\"thinking_budget\":1,\"include_thoughts\":true}}}}", "see");

	(void) state;
	assert_json(json_object_get(asked.body, "systemInstruction"), "{\"parts\":[{\"text\":\"be brief\"}]}");
	assert_json(json_object_get(asked.body, "contents"),
				"[{\"role\":\"user\",\"parts\":[{\"text\":\"look\"},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"aGk=\"}}]},"
				"{\"role\":\"model\",\"parts\":[{\"text\":\"I look\"},{\"functionCall\":{\"name\":\"see\",\"args\":{\"a\":1}},\"thoughtSignature\":\"cs\"}]},"
				"{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"name\":\"see\",\"response\":{\"b\":2}}},{\"text\":\"[file-reference] f.c:1-2\\n```\\nx\\n```\"}]}]");
	assert_json(json_object_get(asked.body, "tools"),
				"[{\"functionDeclarations\":[{\"name\":\"see\",\"description\":\"sees\",\"parametersJsonSchema\":{\"type\":\"object\"}}]}]");
	assert_json(json_object_get(asked.body, "generationConfig"),
				"{\"maxOutputTokens\":32000,\"topK\":3,\"thinkingConfig\":{\"thinkingBudget\":128,\"includeThoughts\":true}}");
	assert_json(json_object_get(asked.body, "toolConfig"), "{\"functionCallingConfig\":{\"mode\":\"ANY\",\"allowedFunctionNames\":[\"see\"]}}");
	asked_free(&asked);
}

/* Answers -------------------------------------------------------------------- */

typedef struct Heard
{
	const ProviderFormat *format;
	Stream stream;
	Sse sse;
	Text said; /* what clients were told: text, [reasoning], {arguments} */
} Heard;

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	Heard *heard = arg;

	heard->format->event(&heard->stream, name, data, len);
}

static void
on_part(void *arg, json_t *part)
{
	Heard *heard = arg;
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *text = json_string_value(json_object_get(part, strcmp(type, "tool-call") == 0 ? "args_delta" : "text"));
	size_t n = heard->said.len;

	/* the provider's own calls and results, and sources, come whole */
	if (text == NULL)
	{
		assert_null(json_object_get(part, "provider_metadata"));
		json_decref(part);
		return;
	}
	heard->said.bytes = realloc(heard->said.bytes, n + strlen(text) + 3);
	heard->said.len += (size_t) sprintf(heard->said.bytes + n, strcmp(type, "reasoning") == 0 ? "[%s]" : "%s", text);
	json_decref(part);
}

static void
hear(Heard *heard, const ProviderFormat *format, const char *answer, size_t len, size_t cut)
{
	memset(heard, 0, sizeof(*heard));
	heard->format = format;
	stream_init(&heard->stream, on_part, heard);
	sse_init(&heard->sse, on_event, heard);
	assert_true(sse_feed(&heard->sse, answer, cut));
	assert_true(sse_feed(&heard->sse, answer + cut, len - cut));
}

static void
heard_free(Heard *heard)
{
	sse_free(&heard->sse);
	stream_free(&heard->stream);
	free(heard->said.bytes);
}

/* However the answer is cut in two it is this content; ids of calls and times are left out. */
static void
assert_answer(const ProviderFormat *format, const char *answer, StreamEnd end, const char *content, const char *usage)
{
	size_t len = strlen(answer);

	for (size_t cut = 0; cut <= len; cut += cut % 7 + 1)
	{
		Heard heard;
		json_t *made;
		json_t *used;
		size_t i;
		json_t *part;

		hear(&heard, format, answer, len, cut);
		if (heard.stream.error != NULL)
			fail_msg("cut at %zu: %s", cut, heard.stream.error);
		made = stream_content(&heard.stream);
		used = stream_usage_json(&heard.stream);
		json_array_foreach(made, i, part)
		{
			json_object_del(part, "created_at");
			json_object_del(part, "mcp_server_config_id");
			json_object_del(part, "type");
		}
		assert_json(made, content);
		assert_json(used, usage);
		assert_int_equal(heard.stream.end, end);
		json_decref(made);
		json_decref(used);
		heard_free(&heard);
	}
}

/* An answer that ends too early must never pass for a whole one; nothing it says is lost or said twice. */
static void
assert_truncations(const ProviderFormat *format, const char *answer, size_t whole)
{
	for (size_t len = 0; len < whole; len++)
	{
		Heard heard;

		hear(&heard, format, answer, len, len / 2);
		assert_int_equal(heard.stream.end, STREAM_OPEN);
		assert_null(heard.stream.error);
		heard_free(&heard);
	}
}

static void
assert_fails(const ProviderFormat *format, const char *answer, int status, const char *error)
{
	Heard heard;

	hear(&heard, format, answer, strlen(answer), 0);
	assert_non_null(heard.stream.error);
	assert_string_equal(heard.stream.error, error);
	assert_int_equal(heard.stream.error_status, status);
	heard_free(&heard);
}

/* Whatever JSON comes, the parser stands. */
static void
assert_stands(const ProviderFormat *format)
{
	static const char *const junk[] = {
		EVENT("{}"), EVENT("[]"), EVENT("[1]"), EVENT("{\"choices\":{}}"), EVENT("{\"choices\":[1]}"), EVENT("{\"choices\":[{\"delta\":[]}]}"),
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}"), EVENT("{\"type\":1}"), EVENT("{\"type\":\"message_start\",\"message\":3}"),
		EVENT("{\"type\":\"content_block_start\"}"), EVENT("{\"type\":\"content_block_delta\",\"index\":5,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"x\"}}"),
		EVENT("{\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\"}}"), EVENT("{\"type\":\"message_delta\"}"),
		EVENT("{\"type\":\"response.output_item.added\",\"item\":{\"type\":\"function_call\"}}"),
		EVENT("{\"type\":\"response.function_call_arguments.delta\",\"output_index\":9,\"delta\":\"x\"}"),
		EVENT("{\"type\":\"response.output_text.delta\"}"), EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{}},{\"functionCall\":3},4]}}]}"),
		EVENT("{\"candidates\":3,\"usageMetadata\":[]}"), EVENT("{\"usage\":{\"input_tokens\":-9223372036854775807,\"output_tokens\":-9223372036854775807}}"),
		EVENT("{\"type\":\"message_delta\",\"usage\":{\"input_tokens\":9223372036854775807,\"output_tokens\":9223372036854775807}}"),
		EVENT("{\"usageMetadata\":{\"candidatesTokenCount\":9223372036854775807,\"thoughtsTokenCount\":9223372036854775807}}"),
		EVENT("{\"usage\":{\"prompt_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":-9223372036854775807}}}"),
		EVENT("{\"usageMetadata\":{\"promptTokenCount\":1,\"cachedContentTokenCount\":-9223372036854775807}}"),
		EVENT("{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"input_tokens_details\":{\"cached_tokens\":-9223372036854775807}}}}")};

	for (size_t i = 0; i < sizeof(junk) / sizeof(junk[0]); i++)
	{
		Heard heard;

		hear(&heard, format, junk[i], strlen(junk[i]), 0);
		json_decref(stream_content(&heard.stream));
		heard_free(&heard);
	}
	assert_fails(format, EVENT("{\"a\":"), 0, "the answer holds what is no JSON");
	assert_fails(format, EVENT("\xff\xfe"), 0, "the answer holds what is no JSON");
	assert_fails(format, EVENT("{\"a\":\"\xe2\x82\"}"), 0, "the answer holds what is no JSON");
}

#define USAGE(in, out, total, reasoning, read, written) \
	"{\"input_tokens\":" #in ",\"output_tokens\":" #out ",\"total_tokens\":" #total ",\"reasoning_tokens\":" #reasoning \
	",\"cache_read_tokens\":" #read ",\"cache_creation_tokens\":" #written "}"

static void
test_completions_answer(void **state)
{
	/* as OpenRouter thinks and searches; calls without a number, and two of one number */
	static const char odd[] = EVENT("{\"choices\":[{\"delta\":{\"reasoning\":\"h\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"h\",\"signature\":null}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"reasoning\":\"m\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"m\",\"signature\":\"s\"}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"data\":\"d\"},3]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"1}\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"y\\\":2}\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c\",\"function\":{\"name\":\"h\",\"arguments\":\"\"}}],"
			  "\"annotations\":[{\"url_citation\":{\"url\":\"https://a\"}}]},\"finish_reason\":\"stop\"}]}");
	static const char text[] = EVENT("{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}") EVENT("{\"choices\":[{\"delta\":{\"content\":\"\xc3\xa4 \"}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}");
	static const char whole[] = EVENT("{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}") EVENT("{\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}")
		EVENT("{\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15,\"prompt_tokens_details\":{\"cached_tokens\":4},"
			  "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}") EVENT("[DONE]");
	static const char calls[] = EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"x\\\"\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"y\\\":2}\"}},{\"index\":1,\"function\":{\"arguments\":\":1}\"}}]}}]}")
		EVENT("{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");

	(void) state;
	assert_answer(&provider_chat_completions, text, STREAM_STOP, "[{\"text\":\"hm\"},{\"text\":\"\xc3\xa4 b\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_chat_completions, whole, STREAM_LENGTH, "[{\"text\":\"a\"}]", USAGE(6, 5, 15, 2, 4, 0));
	assert_answer(&provider_chat_completions, calls, STREAM_TOOL_CALLS,
				  "[{\"tool_call_id\":\"a\",\"tool_name\":\"f\",\"args\":{\"y\":2}},{\"tool_call_id\":\"b\",\"tool_name\":\"g\",\"args\":{\"x\":1}}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_chat_completions, EVENT("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}") EVENT("[DONE]"), STREAM_STOP, "[{\"text\":\"x\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_chat_completions, odd, STREAM_TOOL_CALLS,
				  "[{\"text\":\"hm\",\"provider_metadata\":{\"openrouter\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"hm\",\"signature\":\"s\"},"
				  "{\"type\":\"reasoning.encrypted\",\"data\":\"d\"}]}}},{\"tool_call_id\":\"a\",\"tool_name\":\"f\",\"args\":{\"x\":1}},"
				  "{\"tool_call_id\":\"b\",\"tool_name\":\"g\",\"args\":{\"y\":2}},{\"tool_call_id\":\"c\",\"tool_name\":\"h\",\"args\":{}},"
				  "{\"source_id\":\"source_1\",\"url\":\"https://a\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_truncations(&provider_chat_completions, text, sizeof(text) - 2);
	assert_truncations(&provider_chat_completions, calls, sizeof(calls) - 2);
	assert_fails(&provider_chat_completions, EVENT("{\"error\":{\"message\":\"slow down\",\"type\":\"t\",\"code\":429}}"), 429, "slow down (t)");
	assert_fails(&provider_chat_completions, EVENT("{\"error\":\"overloaded\"}"), 0, "overloaded");
	assert_stands(&provider_chat_completions);
}

static void
test_responses_answer(void **state)
{
	static const char found[] = EVENT("{\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs1\",\"encrypted_content\":\"e1\"}}")
		EVENT("{\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"hm\"}")
		EVENT("{\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"reasoning\",\"id\":\"rs2\",\"encrypted_content\":\"e2\"}}")
		EVENT("{\"type\":\"response.output_item.done\",\"output_index\":2,\"item\":{\"type\":\"web_search_call\",\"id\":\"ws\",\"status\":\"completed\",\"action\":{\"query\":\"q\"}}}")
		EVENT("{\"type\":\"response.output_text.delta\",\"delta\":\"it\"}")
		EVENT("{\"type\":\"response.output_text.annotation.added\",\"annotation\":{\"type\":\"url_citation\",\"url\":\"https://a\",\"title\":\"A\"}}")
		EVENT("{\"type\":\"response.completed\",\"response\":{}}");
	static const char text[] = EVENT("{\"type\":\"response.created\",\"response\":{\"id\":\"r1\"}}") EVENT("{\"type\":\"response.reasoning_summary_part.added\"}")
		EVENT("{\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"one\"}") EVENT("{\"type\":\"response.reasoning_summary_part.added\"}")
		EVENT("{\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"two\"}") EVENT("{\"type\":\"response.output_text.delta\",\"delta\":\"\xc3\xa4\"}")
		EVENT("{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":10,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":5,"
			  "\"output_tokens_details\":{\"reasoning_tokens\":3},\"total_tokens\":15}}}");
	static const char calls[] = EVENT("{\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\",\"arguments\":\"\"}}")
		EVENT("{\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"{\\\"x\\\":\"}")
		EVENT("{\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"1}\"}")
		EVENT("{\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}}")
		EVENT("{\"type\":\"response.output_item.done\",\"output_index\":2,\"item\":{\"type\":\"function_call\",\"call_id\":\"b\",\"name\":\"g\",\"arguments\":\"{}\"}}")
		EVENT("{\"type\":\"response.completed\",\"response\":{}}");

	(void) state;
	assert_answer(&provider_responses, text, STREAM_STOP, "[{\"text\":\"one\\n\\ntwo\"},{\"text\":\"\xc3\xa4\"}]", USAGE(6, 5, 15, 3, 4, 0));
	assert_answer(&provider_responses, calls, STREAM_TOOL_CALLS,
				  "[{\"tool_call_id\":\"a\",\"tool_name\":\"f\",\"args\":{\"x\":1}},{\"tool_call_id\":\"b\",\"tool_name\":\"g\",\"args\":{}}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_responses, EVENT("{\"type\":\"response.output_text.delta\",\"delta\":\"x\"}")
				  EVENT("{\"type\":\"response.incomplete\",\"response\":{\"incomplete_details\":{\"reason\":\"max_output_tokens\"}}}"), STREAM_LENGTH,
				  "[{\"text\":\"x\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_responses, found, STREAM_STOP, "[{\"text\":\"\",\"provider_metadata\":{\"openai\":{\"encrypted_content\":\"e1\",\"item_id\":\"rs1\"}}},"
				  "{\"text\":\"hm\",\"provider_metadata\":{\"openai\":{\"encrypted_content\":\"e2\",\"item_id\":\"rs2\"}}},"
				  "{\"tool_call_id\":\"ws\",\"tool_name\":\"web_search\",\"args\":{\"query\":\"q\"},\"provider_executed\":true},"
				  "{\"tool_call_id\":\"ws\",\"tool_name\":\"web_search\",\"result\":{\"status\":\"completed\"},\"provider_executed\":true},"
				  "{\"text\":\"it\"},{\"source_id\":\"source_1\",\"url\":\"https://a\",\"title\":\"A\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_truncations(&provider_responses, text, sizeof(text) - 2);
	assert_truncations(&provider_responses, calls, sizeof(calls) - 2);
	assert_fails(&provider_responses, EVENT("{\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"slow\"}"), 429, "slow (rate_limit_exceeded)");
	assert_fails(&provider_responses, EVENT("{\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"m\"}}}"), 500, "m (server_error)");
	assert_stands(&provider_responses);
}

#define A_START "event: message_start\n" EVENT("{\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":4," \
	"\"cache_creation_input_tokens\":3,\"output_tokens\":1}}}") "event: ping\n" EVENT("{\"type\":\"ping\"}")
#define A_END(reason) EVENT("{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"},\"usage\":{\"output_tokens\":5}}") EVENT("{\"type\":\"message_stop\"}")

static void
test_anthropic_answer(void **state)
{
	static const char text[] = A_START EVENT("{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"si\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"g\"}}")
		EVENT("{\"type\":\"content_block_stop\",\"index\":0}")
		EVENT("{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"\xc3\xa4\"}}") A_END("end_turn");
	static const char two[] = A_START EVENT("{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"a\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s\"}}")
		EVENT("{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"thinking\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"b\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"t\"}}") A_END("max_tokens");
	static const char calls[] = A_START EVENT("{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"x\\\"\"}}")
		EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\":1}\"}}") A_END("tool_use");

	(void) state;
	assert_answer(&provider_anthropic, text, STREAM_STOP, "[{\"text\":\"hm\",\"signature\":\"sig\"},{\"text\":\"\xc3\xa4\"}]", USAGE(10, 5, 15, 0, 4, 3));
	assert_answer(&provider_anthropic, two, STREAM_LENGTH, "[{\"text\":\"a\",\"signature\":\"s\"},{\"text\":\"b\",\"signature\":\"t\"}]", USAGE(10, 5, 15, 0, 4, 3));
	assert_answer(&provider_anthropic, calls, STREAM_TOOL_CALLS, "[{\"tool_call_id\":\"a\",\"tool_name\":\"f\",\"args\":{\"x\":1}}]", USAGE(10, 5, 15, 0, 4, 3));
	/* message_delta is the second last event: what lacks only message_stop is whole */
	assert_truncations(&provider_anthropic, text, sizeof(text) - 1 - strlen(EVENT("{\"type\":\"message_stop\"}")) - 1);
	assert_truncations(&provider_anthropic, calls, sizeof(calls) - 1 - strlen(EVENT("{\"type\":\"message_stop\"}")) - 1);
	assert_fails(&provider_anthropic, "event: error\n" EVENT("{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"), 529, "Overloaded (overloaded_error)");
	assert_fails(&provider_anthropic, EVENT("{\"type\":\"error\",\"error\":{\"type\":\"new_error\",\"message\":\"m\"}}"), 0, "m (new_error)");
	assert_stands(&provider_anthropic);
}

#define A_BLOCK(n, block) EVENT("{\"type\":\"content_block_start\",\"index\":" #n ",\"content_block\":" block "}")
#define A_DELTA(n, delta) EVENT("{\"type\":\"content_block_delta\",\"index\":" #n ",\"delta\":" delta "}")
#define A_STOP(n) EVENT("{\"type\":\"content_block_stop\",\"index\":" #n "}")

/* Thoughts between the provider's own searches, text and a call: all in its order, and told again exactly so. */
static void
test_anthropic_interleaved(void **state)
{
	static const char answer[] = A_START A_BLOCK(0, "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}")
		A_DELTA(0, "{\"type\":\"signature_delta\",\"signature\":\"s0\"}") A_STOP(0)
		A_BLOCK(1, "{\"type\":\"redacted_thinking\",\"data\":\"secret\"}") A_STOP(1)
		A_BLOCK(2, "{\"type\":\"server_tool_use\",\"id\":\"srv1\",\"name\":\"web_search\",\"input\":{}}")
		A_DELTA(2, "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"query\\\":\"}")
		A_DELTA(2, "{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"q\\\"}\"}") A_STOP(2)
		A_BLOCK(3, "{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"srv1\",\"content\":[{\"type\":\"web_search_result\",\"url\":\"https://a\","
				   "\"title\":\"A\",\"encrypted_content\":\"enc\"}]}") A_STOP(3)
		A_BLOCK(4, "{\"type\":\"thinking\",\"thinking\":\"\"}") A_DELTA(4, "{\"type\":\"thinking_delta\",\"thinking\":\"so\"}")
		A_DELTA(4, "{\"type\":\"signature_delta\",\"signature\":\"s4\"}") A_STOP(4)
		A_BLOCK(5, "{\"type\":\"text\",\"text\":\"\"}") A_DELTA(5, "{\"type\":\"text_delta\",\"text\":\"it is \"}") A_STOP(5)
		A_BLOCK(6, "{\"type\":\"text\",\"text\":\"\",\"citations\":[]}")
		A_DELTA(6, "{\"type\":\"citations_delta\",\"citation\":{\"type\":\"web_search_result_location\",\"url\":\"https://a\",\"title\":\"A\"}}")
		A_DELTA(6, "{\"type\":\"citations_delta\",\"citation\":{\"type\":\"web_search_result_location\",\"url\":\"https://b\",\"title\":null}}")
		A_DELTA(6, "{\"type\":\"text_delta\",\"text\":\"so\"}") A_STOP(6)
		A_BLOCK(7, "{\"type\":\"tool_use\",\"id\":\"a:1\",\"name\":\"f\",\"input\":{}}") A_STOP(7) A_END("tool_use");
	static const char content[] =
		"[{\"text\":\"\",\"signature\":\"s0\"},{\"text\":\"\",\"provider_metadata\":{\"anthropic\":{\"redacted_data\":\"secret\"}}},"
		"{\"tool_call_id\":\"srv1\",\"tool_name\":\"web_search\",\"args\":{\"query\":\"q\"},\"provider_executed\":true},"
		"{\"tool_call_id\":\"srv1\",\"tool_name\":\"web_search\",\"result\":[{\"url\":\"https://a\",\"title\":\"A\"}],\"provider_executed\":true,"
		"\"provider_metadata\":{\"anthropic\":{\"content\":[{\"type\":\"web_search_result\",\"url\":\"https://a\",\"title\":\"A\",\"encrypted_content\":\"enc\"}]}}},"
		"{\"text\":\"so\",\"signature\":\"s4\"},{\"text\":\"it is so\"},{\"tool_call_id\":\"a_1\",\"tool_name\":\"f\",\"args\":{}},"
		"{\"source_id\":\"source_1\",\"url\":\"https://a\",\"title\":\"A\"},{\"source_id\":\"source_2\",\"url\":\"https://b\"}]";
	static const char again[] =
		"[{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"s0\"},{\"type\":\"redacted_thinking\",\"data\":\"secret\"},"
		"{\"type\":\"server_tool_use\",\"id\":\"srv1\",\"name\":\"web_search\",\"input\":{\"query\":\"q\"}},"
		"{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"srv1\",\"content\":[{\"type\":\"web_search_result\",\"url\":\"https://a\",\"title\":\"A\","
		"\"encrypted_content\":\"enc\"}]},{\"type\":\"thinking\",\"thinking\":\"so\",\"signature\":\"s4\"},{\"type\":\"text\",\"text\":\"it is so\"},"
		"{\"type\":\"tool_use\",\"id\":\"a_1\",\"name\":\"f\",\"input\":{},\"cache_control\":{\"type\":\"ephemeral\"}}]";
	static const char alone[] = "[{\"type\":\"text\",\"text\":\"it is so\",\"cache_control\":{\"type\":\"ephemeral\"}}]";
	ProviderAsk wanted = {.provider = "anthropic", .model = "claude", .base_url = "", .api_key = "key"};
	Heard heard;
	json_t *body;
	json_t *told;

	(void) state;
	assert_answer(&provider_anthropic, answer, STREAM_TOOL_CALLS, content, USAGE(10, 5, 15, 0, 4, 3));
	hear(&heard, &provider_anthropic, answer, strlen(answer), 0);
	wanted.history = json_pack("[{s:s, s:o}]", "role", "assistant", "content", stream_content(&heard.stream));
	body = provider_anthropic_body(&wanted);
	assert_json(json_object_get(json_array_get(json_object_get(body, "messages"), 0), "content"), again);
	json_decref(body);
	/* a search whose result is missing, and what is another provider's, are not told */
	told = json_object_get(json_array_get(wanted.history, 0), "content");
	for (int i = 0; i < 2; i++)
		json_array_remove(told, 0);
	json_array_remove(told, 1);
	json_array_remove(told, 1);
	json_array_remove(told, 2);
	json_array_append_new(told, json("{\"type\":\"tool-result\",\"tool_call_id\":\"srv1\",\"provider_executed\":true,\"result\":1}"));
	json_array_append_new(told, json("{\"type\":\"text\",\"text\":\"\",\"provider_metadata\":{\"google\":{\"thought_signature\":\"x\"}}}"));
	body = provider_anthropic_body(&wanted);
	assert_json(json_object_get(json_array_get(json_object_get(body, "messages"), 0), "content"), alone);
	json_decref(body);
	json_decref((json_t *) wanted.history);
	heard_free(&heard);
	assert_answer(&provider_anthropic, A_START A_BLOCK(0, "{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s\",\"content\":"
													   "{\"type\":\"web_search_tool_result_error\",\"error_code\":\"unavailable\"}}") A_STOP(0) A_END("pause_turn"),
				  STREAM_PAUSED, "[{\"tool_call_id\":\"s\",\"tool_name\":\"web_search\",\"result\":{\"error\":\"unavailable\"},\"is_error\":true,"
				  "\"provider_executed\":true,\"provider_metadata\":{\"anthropic\":{\"content\":{\"type\":\"web_search_tool_result_error\",\"error_code\":\"unavailable\"}}}}]",
				  USAGE(10, 5, 15, 0, 4, 3));
}

static void
test_google_answer(void **state)
{
	static const char text[] = EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true}]}}],\"responseId\":\"g1\"}")
		EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\xc3\xa4\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":10,"
			  "\"cachedContentTokenCount\":4,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":2,\"totalTokenCount\":17}}");
	static const char calls[] = EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"i\",\"name\":\"f\",\"args\":{\"x\":1}},\"thoughtSignature\":\"s\"},"
									  "{\"functionCall\":{\"id\":\"j\",\"name\":\"g\"}}]}}]}") EVENT("{\"candidates\":[{\"finishReason\":\"STOP\"}]}");
	static const char found[] = EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"it \"}]}}]}")
		EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"is\"},{\"text\":\"\",\"thoughtSignature\":\"sig\"}]},\"groundingMetadata\":{\"groundingChunks\":["
			  "{\"web\":{\"uri\":\"https://a\",\"title\":\"A\"}},{\"web\":{\"uri\":\"https://a\"}},{\"web\":3},4]},\"finishReason\":\"STOP\"}]}");
	static const char unnamed[] = EVENT("{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"f\"}},{\"functionCall\":{\"name\":\"f\"}}]}}]}");
	Heard heard;

	(void) state;
	assert_answer(&provider_google, text, STREAM_STOP, "[{\"text\":\"hm\"},{\"text\":\"\xc3\xa4\"}]", USAGE(6, 7, 17, 2, 4, 0));
	assert_answer(&provider_google, calls, STREAM_TOOL_CALLS,
				  "[{\"tool_call_id\":\"i\",\"tool_name\":\"f\",\"args\":{\"x\":1},\"provider_metadata\":{\"google\":{\"thought_signature\":\"s\"}}},{\"tool_call_id\":\"j\",\"tool_name\":\"g\",\"args\":{}}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_answer(&provider_google, found, STREAM_STOP, "[{\"text\":\"it is\",\"provider_metadata\":{\"google\":{\"thought_signature\":\"sig\"}}},"
				  "{\"source_id\":\"source_1\",\"url\":\"https://a\",\"title\":\"A\"}]", USAGE(0, 0, 0, 0, 0, 0));
	assert_truncations(&provider_google, text, sizeof(text) - 2);
	assert_truncations(&provider_google, calls, sizeof(calls) - 2);
	hear(&heard, &provider_google, unnamed, strlen(unnamed), 0);
	assert_int_equal(heard.stream.n_calls, 2);
	assert_string_not_equal(heard.stream.calls[0].id, heard.stream.calls[1].id);
	heard_free(&heard);
	assert_fails(&provider_google, EVENT("{\"error\":{\"code\":503,\"message\":\"busy\",\"status\":\"UNAVAILABLE\"}}"), 503, "busy");
	assert_fails(&provider_google, EVENT("{\"error\":{\"message\":\"no\",\"status\":\"RESOURCE_EXHAUSTED\"}}"), 429, "no");
	assert_fails(&provider_google, EVENT("{\"error\":{\"message\":\"no\",\"status\":\"OTHER\"}}"), 0, "no");
	assert_fails(&provider_google, EVENT("{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}"), 400, "the prompt was blocked");
	assert_stands(&provider_google);
}

static void
assert_bedrock(const char *name, const char *data, int status, const char *error)
{
	Stream stream;

	stream_init(&stream, NULL, NULL);
	provider_bedrock.event(&stream, name, data, strlen(data));
	if (error == NULL)
		assert_null(stream.error);
	else
	{
		assert_non_null(stream.error);
		assert_string_equal(stream.error, error);
		assert_int_equal(stream.error_status, status);
	}
	stream_free(&stream);
}

static void
test_bedrock_answer(void **state)
{
	/* {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}} */
	static const char chunk[] = "{\"bytes\":\"eyJ0eXBlIjoibWVzc2FnZV9kZWx0YSIsImRlbHRhIjp7InN0b3BfcmVhc29uIjoiZW5kX3R1cm4ifSwidXNhZ2UiOnsib3V0cHV0X3Rva2VucyI6NX19\",\"p\":\"ab\"}";
	Stream stream;

	(void) state;
	stream_init(&stream, NULL, NULL);
	provider_bedrock.event(&stream, "chunk", chunk, strlen(chunk));
	assert_null(stream.error);
	assert_int_equal(stream.end, STREAM_STOP);
	assert_int_equal(stream.usage.output, 5);
	stream_free(&stream);
	assert_bedrock("other", "{}", 0, NULL);
	assert_bedrock("chunk", "{}", 0, "the answer holds what is no event");
	assert_bedrock("chunk", "{\"bytes\":\"!\"}", 0, "the answer holds what is no event");
	assert_bedrock("chunk", "{\"bytes\":\"\"}", 0, "the answer holds what is no JSON");
	assert_bedrock("chunk", "nonsense", 0, "the answer holds what is no event");
	assert_bedrock("!throttlingException", "{\"message\":\"slow down\"}", 429, "slow down (throttlingException)");
	assert_bedrock("!ModelTimeoutException", "{\"message\":\"m\"}", 408, "m (ModelTimeoutException)");
	assert_bedrock("!internalServerException", "", 500, " (internalServerException)");
	assert_bedrock("!new", "{\"message\":\"m\"}", 0, "m (new)");
}

static void
converse(Stream *stream, const char *name, const char *data)
{
	provider_bedrock.event(stream, name, data, strlen(data));
}

static void
test_converse_answer(void **state)
{
	Stream stream;
	json_t *content;
	json_t *usage;

	(void) state;
	stream_init(&stream, NULL, NULL);
	converse(&stream, "messageStart", "{\"role\":\"assistant\",\"p\":\"abc\"}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"reasoningContent\":{\"text\":\"hm\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":0,\"delta\":{\"reasoningContent\":{\"signature\":\"sig\"}}}");
	converse(&stream, "contentBlockStop", "{\"contentBlockIndex\":0}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":1,\"delta\":{\"reasoningContent\":{\"redactedContent\":\"eA==\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":2,\"delta\":{\"text\":\"he\"}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":2,\"delta\":{\"text\":\"llo\"}}");
	converse(&stream, "contentBlockStop", "{\"contentBlockIndex\":2}");
	converse(&stream, "contentBlockStart", "{\"contentBlockIndex\":3,\"start\":{\"toolUse\":{\"toolUseId\":\"t1\",\"name\":\"see\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":3,\"delta\":{\"toolUse\":{\"input\":\"{\\\"a\\\":\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":3,\"delta\":{\"toolUse\":{\"input\":\"1}\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":9,\"delta\":{\"toolUse\":{\"input\":\"of none\"}}}");
	converse(&stream, "contentBlockStart", "{\"contentBlockIndex\":4,\"start\":{\"toolUse\":{\"toolUseId\":\"t2\",\"name\":\"theirs\",\"type\":\"server_tool_use\"}}}");
	converse(&stream, "contentBlockDelta", "{\"contentBlockIndex\":5,\"delta\":{\"citation\":{\"title\":\"T\",\"location\":{\"web\":{\"url\":\"https://x/\"}}}}}");
	assert_int_equal(stream.end, STREAM_OPEN);
	converse(&stream, "messageStop", "{\"stopReason\":\"tool_use\"}");
	converse(&stream, "metadata", "{\"usage\":{\"inputTokens\":7,\"outputTokens\":5,\"totalTokens\":17,\"cacheReadInputTokens\":3,\"cacheWriteInputTokens\":2},\"metrics\":{\"latencyMs\":1}}");
	converse(&stream, "initial-response", "");
	assert_null(stream.error);
	assert_int_equal(stream.end, STREAM_TOOL_CALLS);
	content = stream_content(&stream);
	assert_int_equal(json_array_size(content), 5);
	assert_json(json_object_get(json_array_get(content, 0), "signature"), "\"sig\"");
	assert_json(json_object_get(json_array_get(content, 1), "provider_metadata"), "{\"bedrock\":{\"redacted_data\":\"eA==\"}}");
	assert_json(json_object_get(json_array_get(content, 2), "text"), "\"hello\"");
	assert_json(json_object_get(json_array_get(content, 3), "args"), "{\"a\":1}");
	assert_json(json_object_get(json_array_get(content, 4), "url"), "\"https://x/\"");
	usage = stream_usage_json(&stream);
	assert_json(usage, "{\"input_tokens\":7,\"output_tokens\":5,\"total_tokens\":17,\"reasoning_tokens\":0,\"cache_read_tokens\":3,\"cache_creation_tokens\":2}");
	json_decref(usage);
	json_decref(content);
	stream_free(&stream);
}

static void
assert_converse_end(const char *reason, StreamEnd end, int status)
{
	Stream stream;
	char data[100];

	snprintf(data, sizeof(data), "{\"stopReason\":\"%s\"}", reason);
	stream_init(&stream, NULL, NULL);
	converse(&stream, "messageStop", data);
	assert_int_equal(stream.end, end);
	assert_int_equal(stream.error_status, status);
	stream_free(&stream);
}

static void
test_converse_ends(void **state)
{
	(void) state;
	assert_converse_end("end_turn", STREAM_STOP, 0);
	assert_converse_end("stop_sequence", STREAM_STOP, 0);
	assert_converse_end("guardrail_intervened", STREAM_STOP, 0);
	assert_converse_end("content_filtered", STREAM_STOP, 0);
	assert_converse_end("max_tokens", STREAM_LENGTH, 0);
	assert_converse_end("model_context_window_exceeded", STREAM_LENGTH, 0);
	assert_converse_end("malformed_tool_use", STREAM_OPEN, 500);
	assert_bedrock("contentBlockDelta", "{", 0, "the answer holds what is no JSON");
	assert_bedrock("!modelStreamErrorException", "{\"message\":\"m\",\"originalStatusCode\":500}", 500, "m (modelStreamErrorException)");
}

/* What goes through the stream, beyond what a parser may say. */
static void
test_stream_limits(void **state)
{
	char *block = malloc(1 << 20);
	Stream stream;
	json_t *args;

	(void) state;
	memset(block, 'x', 1 << 20);
	stream_init(&stream, NULL, NULL);
	for (int i = 0; i < 20; i++)
		stream_text(&stream, block, 1 << 20);
	assert_true(stream.too_long);
	assert_true(stream.size < STREAM_MAX_TEXT);
	stream_free(&stream);
	stream_init(&stream, NULL, NULL);
	for (int i = 0; i < STREAM_MAX_CALLS; i++)
		assert_non_null(stream_call(&stream, i, NULL, NULL));
	assert_ptr_equal(stream_call(&stream, 3, "other", "name"), &stream.calls[3]);
	assert_null(stream_call(&stream, STREAM_MAX_CALLS, NULL, NULL));
	assert_true(stream.too_long);
	assert_null(stream_find_call(&stream, -1));
	stream_free(&stream);
	stream_init(&stream, NULL, NULL);
	stream_call_args(&stream, stream_call(&stream, 0, "a", "f"), "[1]", 3);
	assert_null(stream_call_json(&stream.calls[0]));
	stream_call_args(&stream, stream_call(&stream, 1, "b", "f"), "{\"a\":", 5);
	assert_null(stream_call_json(&stream.calls[1]));
	args = stream_call_json(stream_call(&stream, 2, "c", "f"));
	assert_json(args, "{}");
	json_decref(args);
	stream_fail(&stream, 1, "first");
	stream_fail(&stream, 2, "second");
	assert_string_equal(stream.error, "first");
	stream_free(&stream);
	stream_init(&stream, NULL, NULL);
	for (int i = 0; i < 20; i++)
	{
		char *event = NULL;

		assert_true(asprintf(&event, "{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"%.1048576s\"}]}}]}",
							 block) > 0);
		provider_chat_completions.event(&stream, "", event, strlen(event));
		free(event);
	}
	assert_true(stream.too_long);
	assert_true(stream.size < STREAM_MAX_TEXT);
	stream_free(&stream);
	free(block);
}

/* A thought in many pieces, as OpenRouter wants it back: one detail, and each of another kind for itself. */
static void
test_details(void **state)
{
	static const char piece[] = "{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"abcdefghij\"}]}}]}";
	static const char sealed[] = "{\"choices\":[{\"delta\":{\"reasoning_details\":[{\"type\":\"reasoning.encrypted\",\"index\":0,\"data\":\"x\"}]}}]}";
	static const char end[] = "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}";
	Stream stream;
	const json_t *kept;

	(void) state;
	stream_init(&stream, NULL, NULL);
	for (int i = 0; i < 100000; i++)
		provider_chat_completions.event(&stream, "", piece, sizeof(piece) - 1);
	provider_chat_completions.event(&stream, "", sealed, sizeof(sealed) - 1);
	for (int i = 0; i < 2000; i++)
		provider_chat_completions.event(&stream, "", piece, sizeof(piece) - 1);
	provider_chat_completions.event(&stream, "", end, sizeof(end) - 1);
	kept = json_object_get(json_object_get(stream.items[0].metadata, "openrouter"), "reasoning_details");
	assert_int_equal(json_array_size(kept), 3);
	assert_int_equal(json_string_length(json_object_get(json_array_get(kept, 0), "text")), 1000000);
	assert_string_equal(json_string_value(json_object_get(json_array_get(kept, 1), "data")), "x");
	assert_int_equal(json_string_length(json_object_get(json_array_get(kept, 2), "text")), 20000);
	assert_int_equal(strspn(json_string_value(json_object_get(json_array_get(kept, 2), "text")), "abcdefghij"), 20000);
	stream_free(&stream);
}

static void
test_error_texts(void **state)
{
	static const char *const texts[][2] = {{"{\"error\":{\"message\":\"m\",\"type\":\"t\"}}", "m (t)"}, {"{\"error\":{\"message\":\"m\"}}", "m"},
										   {"{\"error\":\"m\"}", "m"}, {"{\"message\":\"m\"}", "m"}, {"[{\"error\":{\"message\":\"m\"}}]", "m"},
										   {"<html>", "<html>"}, {"", ""}, {"{\"error\":3}", "{\"error\":3}"}};
	char longer[2000];
	char *text;

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		text = provider_error_text(texts[i][0], strlen(texts[i][0]));
		assert_string_equal(text, texts[i][1]);
		free(text);
	}
	memset(longer, 'x', sizeof(longer));
	text = provider_error_text(longer, sizeof(longer));
	assert_int_equal(strlen(text), 512);
	free(text);
}

/* A picture that a tool gave is shown as one, and its base64 is no text. */
static void
assert_picture(const char *provider, const char *model, const char *shown)
{
	Asked asked = ask_with(provider, model, "http://h/v1", "{}", NULL);
	char *body = json_dumps(asked.body, JSON_COMPACT | JSON_SORT_KEYS);

	if (strstr(body, shown) == NULL)
		fail_msg("%s: %s", provider, body);
	assert_ptr_equal(strstr(body, "cGlj"), strstr(strstr(body, shown), "cGlj"));
	assert_non_null(strstr(body, "a cat\\n[image/png]"));
	free(body);
	asked_free(&asked);
}

static void
test_pictures(void **state)
{
	(void) state;
	the_history = "[{\"role\":\"assistant\",\"content\":[{\"type\":\"tool-call\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"args\":{}},"
				  "{\"type\":\"tool-call\",\"tool_call_id\":\"c2\",\"tool_name\":\"see\",\"args\":{}}]},"
				  "{\"role\":\"tool\",\"content\":[{\"type\":\"tool-result\",\"tool_call_id\":\"c1\",\"tool_name\":\"see\",\"is_media\":true,"
				  "\"result\":{\"data\":\"cGlj\",\"mime_type\":\"image/png\",\"text\":\"a cat\"}}]},"
				  "{\"role\":\"tool\",\"content\":[{\"type\":\"tool-result\",\"tool_call_id\":\"c2\",\"tool_name\":\"see\",\"result\":1}]}]";
	assert_picture("anthropic", "claude", "{\"source\":{\"data\":\"cGlj\",\"media_type\":\"image/png\",\"type\":\"base64\"},\"type\":\"image\"}");
	assert_picture("openai", "gpt-5", "{\"image_url\":\"data:image/png;base64,cGlj\",\"type\":\"input_image\"}");
	assert_picture("google", "gemini", "{\"inlineData\":{\"data\":\"cGlj\",\"mimeType\":\"image/png\"}}");
	/* Behind both results. */
	assert_picture("openai-compat", "m", "\"tool_call_id\":\"c2\"},{\"content\":[{\"image_url\":{\"url\":\"data:image/png;base64,cGlj\"},\"type\":\"image_url\"}],\"role\":\"user\"}");
	the_history = history;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_completions_request),
		cmocka_unit_test(test_responses_request),
		cmocka_unit_test(test_anthropic_request),
		cmocka_unit_test(test_google_request),
		cmocka_unit_test(test_search_requests),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_no_calls),
		cmocka_unit_test(test_as_json),
		cmocka_unit_test(test_bedrock_request),
		cmocka_unit_test(test_converse_request),
		cmocka_unit_test(test_converse_thinking),
		cmocka_unit_test(test_converse_without_tools),
		cmocka_unit_test(test_converse_answer),
		cmocka_unit_test(test_converse_ends),
		cmocka_unit_test(test_completions_answer),
		cmocka_unit_test(test_responses_answer),
		cmocka_unit_test(test_anthropic_answer),
		cmocka_unit_test(test_anthropic_interleaved),
		cmocka_unit_test(test_google_answer),
		cmocka_unit_test(test_bedrock_answer),
		cmocka_unit_test(test_stream_limits),
		cmocka_unit_test(test_details),
		cmocka_unit_test(test_error_texts),
		cmocka_unit_test(test_pictures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
