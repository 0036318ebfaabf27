/*
 * fuzz_chat_completions.c -- a provider's streamed answer: server-sent events, cut in two, and what they say.
 *
 * SPDX-License-Identifier: MIT
 */
#include "chat_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	chat_answer(&provider_chat_completions, (const char *) data, size);
	return 0;
}
