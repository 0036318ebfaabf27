/*
 * fuzz_chat_bedrock.c -- AWS's event stream, cut in two, and what it says.  Checksums are put right first, as no input would
 * have good ones by chance.
 *
 * SPDX-License-Identifier: MIT
 */
#include <zlib.h>

#include "../../gateway/chat/eventstream.h"
#include "chat_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
put_checksum(uint8_t *at, const uint8_t *bytes, size_t len)
{
	uLong sum = crc32(crc32(0, NULL, 0), bytes, (uInt) len);

	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t) (sum >> (24 - 8 * i));
}

static void
put_right(uint8_t *bytes, size_t size)
{
	for (size_t at = 0; size - at >= 16;)
	{
		size_t total = (size_t) bytes[at] << 24 | (size_t) bytes[at + 1] << 16 | (size_t) bytes[at + 2] << 8 | bytes[at + 3];

		put_checksum(bytes + at + 8, bytes + at, 8);
		if (total < 16 || total > size - at)
			return;
		put_checksum(bytes + at + total - 4, bytes + at, total - 4);
		at += total;
	}
}

static char *
content_of(const char *bytes, size_t size, size_t cut)
{
	ChatAnswer answer = {.format = &provider_bedrock};
	EventStream frames;
	char *text;

	stream_init(&answer.stream, chat_answer_part, NULL);
	eventstream_init(&frames, chat_answer_event, &answer);
	if (eventstream_feed(&frames, bytes, cut))
		eventstream_feed(&frames, bytes + cut, size - cut);
	text = chat_answer_text(&answer.stream);
	eventstream_free(&frames);
	stream_free(&answer.stream);
	return text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size + 1);
	char *whole;
	char *cut;

	if (bytes == NULL)
		return 0;
	memcpy(bytes, data, size);
	put_right(bytes, size);
	whole = content_of((const char *) bytes, size, 0);
	cut = content_of((const char *) bytes, size, size / 2);
	if (whole == NULL || cut == NULL || strcmp(whole, cut) != 0)
		abort();
	free(whole);
	free(cut);
	free(bytes);
	return 0;
}
