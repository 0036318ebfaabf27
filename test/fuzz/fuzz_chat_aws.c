/*
 * fuzz_chat_aws.c -- shared files of AWS, and what its services answer.  What comes out can go into a header.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../gateway/chat/awsprofile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(char *key)
{
	if (key != NULL && (!aws_is_key(key) || strpbrk(key, " \r\n") != NULL))
		abort();
	free(key);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char region[AWS_REGION_MAX] = "";
	char *key = NULL;
	time_t expires;

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	aws_profile_read(text, "default", &key, region);
	check(key);
	check(aws_answer_read(text, size, &expires));
	aws_container_url(text);
	free(text);
	return 0;
}
