/*
 * fuzz_boundary_proxy.c -- what a boundary reads of programs, servers and people: the first byte says which
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boundary/rules.c"
#include "boundary/config.c"
#include "boundary/dns.c"
#include "boundary/http.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A message in pieces; a request is passed on as the proxy does, and reads the same then. */
static void
fuzz_message(const uint8_t *data, size_t size, bool is_answer, size_t piece)
{
	HttpMessage message;
	HttpTarget target;
	HttpBuffer in = {0};
	size_t at = 0, used;
	bool ok = true, headed = false;

	http_message_init(&message, is_answer, piece % 2);
	while (ok && !message.done && (at < size || in.size > 0))
	{
		size_t n = size - at < piece ? size - at : piece;

		http_buffer_add(&in, data + at, n);
		at += n;
		for (int i = 0; ok && i < 3 && in.size > 0 && !message.done; i++)
		{
			ok = http_message_input(&message, in.data, in.size, &used);
			if (used > in.size)
				abort();
			http_buffer_take(&in, used);
			if (!ok || !message.head_done || headed)
				continue;
			headed = true;
			if (is_answer)
				http_answer_head(&message, !message.close);
			else if ((ok = http_target(&target, &message, piece % 3 == 0, 80)))
				http_request_head(&message, target.path, target.authority);
			/* What goes on has no line that was not a header. */
			if (ok && message.out.data != NULL && memchr(message.out.data, '\0', message.out.size) != NULL)
				abort();
		}
	}
	http_buffer_free(&in);
	http_message_free(&message);
}

static void
fuzz_rule(char *text, char *target)
{
	BoundaryRules rules = {0};
	char error[600];

	if (boundary_rules_add(&rules, text, error, sizeof(error)))
		boundary_rules_match(&rules, "GET", "www.example.com", target);
	/* A path with dot segments matches no rule that names one. */
	boundary_rules_free(&rules);
	if (boundary_rules_add(&rules, "path=/x/*", error, sizeof(error)) && strstr(target, "/../") != NULL && strchr(target, '?') == NULL &&
		boundary_rules_match(&rules, "GET", "a", target) != NULL)
		abort();
	boundary_rules_free(&rules);
}

static void
fuzz_config(const char *text, size_t size)
{
	BoundaryRules rules = {0};
	BoundaryConfig config;
	char error[600];

	if (boundary_config_read(&config, &rules, text, size, error, sizeof(error)))
		boundary_config_free(&config);
	boundary_rules_free(&rules);
}

static void
fuzz_question(const uint8_t *data, size_t size)
{
	static const uint8_t address[4] = {198, 18, 0, 1};
	uint8_t out[DNS_MAX];
	DnsQuestion question;

	if (dns_question(&question, data, size) &&
		(question.size > size || dns_answer(out, data, &question, address) > DNS_MAX || strlen(question.name) >= DNS_NAME_MAX))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size < 2)
		return 0;
	text = malloc(size);
	if (text == NULL)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] % 5)
	{
		case 0:
			fuzz_message(data + 2, size - 2, false, data[1] + 1u);
			break;
		case 1:
			fuzz_message(data + 2, size - 2, true, data[1] + 1u);
			break;
		case 2:
			fuzz_rule(text, text + strcspn(text, "\n"));
			break;
		case 3:
			fuzz_config(text, size - 1);
			break;
		default:
			fuzz_question(data + 1, size - 1);
	}
	free(text);
	return 0;
}
