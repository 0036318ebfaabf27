/*
 * test_chat_failure.c -- classes of failures in their order, what the user is told, and how long is waited.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/failure.c"

static const struct
{
	int status;
	const char *text;
	FailureKind kind;
	bool retryable;
	int told;
} classes[] = {
	/* who stopped it comes before all */
	{0, "chat interrupted", FAILURE_GENERIC, false, 0},
	{529, "Request Interrupted", FAILURE_GENERIC, false, 529},
	{429, "operation interrupted", FAILURE_GENERIC, false, 429},
	{529, NULL, FAILURE_OVERLOADED, true, 529},
	{400, "Overloaded (overloaded_error)", FAILURE_OVERLOADED, true, 400},
	{401, "overloaded", FAILURE_OVERLOADED, true, 401},
	{401, "", FAILURE_AUTH, false, 401},
	{0, "authentication failed", FAILURE_AUTH, false, 0},
	{0, "Unauthorized", FAILURE_AUTH, false, 0},
	{400, "Invalid API key", FAILURE_AUTH, false, 400},
	{400, "invalid_api_key", FAILURE_AUTH, false, 400},
	{429, "You exceeded your quota", FAILURE_AUTH, false, 429},
	{429, "insufficient_quota", FAILURE_AUTH, false, 429},
	{400, "check your billing", FAILURE_AUTH, false, 400},
	{402, "payment required", FAILURE_AUTH, false, 402},
	{401, "model not found", FAILURE_AUTH, false, 401},
	{403, "", FAILURE_AUTH, false, 403},
	{0, "forbidden", FAILURE_AUTH, false, 0},
	{403, "invalid model", FAILURE_CONFIG, false, 403},
	{429, "", FAILURE_RATE_LIMIT, true, 429},
	{0, "rate limit reached", FAILURE_RATE_LIMIT, true, 0},
	{0, "rate_limit_error", FAILURE_RATE_LIMIT, true, 0},
	{0, "you are rate-limited", FAILURE_RATE_LIMIT, true, 0},
	{0, "rate limited", FAILURE_RATE_LIMIT, true, 0},
	{0, "Too Many Requests", FAILURE_RATE_LIMIT, true, 0},
	{429, "maximum context length", FAILURE_CONFIG, false, 429},
	{0, "context deadline exceeded", FAILURE_TIMEOUT, false, 0},
	{504, "Deadline exceeded", FAILURE_TIMEOUT, true, 504},
	{408, "", FAILURE_TIMEOUT, true, 408},
	{502, "", FAILURE_TIMEOUT, true, 502},
	{503, "", FAILURE_TIMEOUT, true, 503},
	{504, "", FAILURE_TIMEOUT, true, 504},
	{0, "timeout", FAILURE_TIMEOUT, true, 0},
	{0, "timed out", FAILURE_TIMEOUT, true, 0},
	{0, "service unavailable", FAILURE_TIMEOUT, true, 0},
	{0, "connection reset by peer", FAILURE_TIMEOUT, true, 0},
	{0, "connection refused", FAILURE_TIMEOUT, true, 0},
	{0, "unexpected EOF", FAILURE_TIMEOUT, true, 0},
	{0, "broken pipe", FAILURE_TIMEOUT, true, 0},
	{0, "bad gateway", FAILURE_TIMEOUT, true, 0},
	{0, "gateway timeout", FAILURE_TIMEOUT, true, 0},
	{503, "invalid model", FAILURE_TIMEOUT, true, 503},
	{400, "invalid model", FAILURE_CONFIG, false, 400},
	{404, "Model not found", FAILURE_CONFIG, false, 404},
	{404, "model_not_found", FAILURE_CONFIG, false, 404},
	{400, "unsupported model", FAILURE_CONFIG, false, 400},
	{400, "context length exceeded", FAILURE_CONFIG, false, 400},
	{400, "context_exceeded", FAILURE_CONFIG, false, 400},
	{400, "malformed config", FAILURE_CONFIG, false, 400},
	{400, "malformed configuration", FAILURE_CONFIG, false, 400},
	{500, "", FAILURE_GENERIC, true, 500},
	{0, "server error", FAILURE_GENERIC, true, 0},
	{0, "Internal Server Error", FAILURE_GENERIC, true, 0},
	{500, "invalid model", FAILURE_CONFIG, false, 500},
	{400, "", FAILURE_GENERIC, false, 400},
	{418, "teapot", FAILURE_GENERIC, false, 418},
	{0, NULL, FAILURE_GENERIC, false, 0},
	/* the status is in the text */
	{0, "it said status 503", FAILURE_TIMEOUT, true, 503},
	{0, "HTTP 429, sorry", FAILURE_RATE_LIMIT, true, 429},
	{0, "status of this: http 529", FAILURE_OVERLOADED, true, 529},
	{0, "got 500 back", FAILURE_GENERIC, true, 500},
	{0, "(401)", FAILURE_AUTH, false, 401},
	{0, "host:503 is no status", FAILURE_GENERIC, false, 0},
	{0, "1503 or 5031 or x503", FAILURE_GENERIC, false, 0},
	{0, "status 5031", FAILURE_GENERIC, false, 0},
	{0, "418", FAILURE_GENERIC, false, 0},
};

static void
test_classes(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
	{
		Failure f = failure_of(classes[i].status, classes[i].text);

		if (f.kind != classes[i].kind || f.retryable != classes[i].retryable || f.status != classes[i].told)
			fail_msg("%d \"%s\" is %s, %d, %d", classes[i].status, classes[i].text != NULL ? classes[i].text : "",
					 failure_kind_name(f.kind), (int) f.retryable, f.status);
	}
}

static void
assert_says(FailureKind kind, bool retryable, int status, const char *provider, const char *final, const char *retry)
{
	Failure f = {kind, retryable, status};
	char buf[256];

	failure_message(&f, provider, buf, sizeof(buf));
	assert_string_equal(buf, final);
	failure_retry_message(&f, provider, buf, sizeof(buf));
	assert_string_equal(buf, retry);
}

static void
test_messages(void **state)
{
	(void) state;
	assert_says(FAILURE_OVERLOADED, true, 529, "Anthropic", "Anthropic is temporarily overloaded (HTTP 529).", "Anthropic is temporarily overloaded.");
	assert_says(FAILURE_OVERLOADED, true, 0, NULL, "The AI provider is temporarily overloaded.", "The AI provider is temporarily overloaded.");
	assert_says(FAILURE_RATE_LIMIT, true, 429, "OpenAI", "OpenAI is rate limiting requests (HTTP 429).", "OpenAI is rate limiting requests.");
	assert_says(FAILURE_TIMEOUT, true, 503, "Google", "Google is temporarily unavailable (HTTP 503).", "Google is temporarily unavailable.");
	assert_says(FAILURE_TIMEOUT, false, 0, "Google", "The request timed out before it completed.", "Google is temporarily unavailable.");
	assert_says(FAILURE_STARTUP_TIMEOUT, true, 0, "", "The AI provider did not start responding in time.", "The AI provider did not start responding in time.");
	assert_says(FAILURE_AUTH, false, 401, "OpenRouter", "Authentication with OpenRouter failed. Check the API key, permissions, and billing settings.",
				"Authentication with OpenRouter failed.");
	assert_says(FAILURE_CONFIG, false, 404, "OpenAI", "OpenAI rejected the model configuration. Check the selected model and provider settings.",
				"OpenAI rejected the model configuration.");
	assert_says(FAILURE_GENERIC, true, 500, "OpenAI", "OpenAI returned an unexpected error (HTTP 500).", "OpenAI returned an unexpected error.");
	assert_says(FAILURE_GENERIC, true, 0, "OpenAI", "OpenAI returned an unexpected error.", "OpenAI returned an unexpected error.");
	assert_says(FAILURE_GENERIC, false, 0, "OpenAI", "The chat request failed unexpectedly.", "OpenAI returned an unexpected error.");
}

static void
test_retry_after(void **state)
{
	/* Sun, 06 Nov 1994 08:49:37 GMT */
	static const time_t now = 784111777;
	static const struct
	{
		const char *line;
		int64_t ms;
	} cases[] = {{"Retry-After: 5\r\n", 5000}, {"retry-after:7", 7000}, {"Retry-After-Ms: 1500", 1500}, {"Retry-After: 0", 0}, {"Retry-After: -5", 0},
				 {"Retry-After:", 0}, {"Retry-After: soon", 0}, {"Retry-After: 99999999999999999999999999", FAILURE_MAX_WAIT_MS},
				 {"retry-after-ms: 99999999999999999999999999", FAILURE_MAX_WAIT_MS}, {"Retry-After: Sun, 06 Nov 1994 08:49:47 GMT", 10000},
				 {"Retry-After: Sun, 06 Nov 1994 08:49:07 GMT", 0}, {"Retry-After: Sun, 06 Nov 2094 08:49:37 GMT", FAILURE_MAX_WAIT_MS},
				 {"X-Retry-After: 5", 0}, {"", 0}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(failure_retry_after_ms(cases[i].line, now), cases[i].ms);
}

static void
test_delays(void **state)
{
	static const int64_t delays[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

	(void) state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(failure_delay_ms(i + 1, 0), delays[i]);
	assert_int_equal(failure_delay_ms(25, 0), 60000);
	assert_int_equal(failure_delay_ms(3, 500), 4000);
	assert_int_equal(failure_delay_ms(1, 90000), 90000);
}

static void
test_names(void **state)
{
	static const char *const names[] = {"generic", "overloaded", "rate_limit", "timeout", "startup_timeout", "auth", "config"};

	(void) state;
	for (int i = 0; i < 7; i++)
		assert_string_equal(failure_kind_name(i), names[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_delays),
		cmocka_unit_test(test_retry_after),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
