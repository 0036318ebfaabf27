/*
 * test_chat_sigv4.c -- AWS signatures, against the published examples.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/sigv4.c"

/* 20150830T123600Z */
#define THEN 1440938160

static const Sigv4 example = {.key_id = "AKIDEXAMPLE", .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", .region = "us-east-1",
							  .service = "service", .host = "example.amazonaws.com", .path = "/", .body = "", .now = THEN};

static void
test_key(void **state)
{
	Sigv4 ask = example;
	unsigned char key[HASH];
	char hex[HEX];

	(void) state;
	ask.service = "iam";
	assert_true(signing_key(&ask, "20150830", key));
	sodium_bin2hex(hex, sizeof(hex), key, sizeof(key));
	assert_string_equal(hex, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

static void
test_examples(void **state)
{
	Sigv4 ask = example;
	char date[17];
	char *made = sigv4_authorization(&ask);

	(void) state;
	sigv4_date(&ask, date);
	assert_string_equal(date, "20150830T123600Z");
	assert_string_equal(made, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, "
						"Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
	free(made);
}

/* Each of what is signed changes the signature; the token is named among it. */
static void
test_all_signed(void **state)
{
	Sigv4 asks[8];
	char *made[8];

	(void) state;
	for (int i = 0; i < 8; i++)
		asks[i] = example;
	asks[1].path = "/model/a%3A0/x";
	asks[2].path = "/model/a:0/x";
	asks[3].body = "b";
	asks[3].body_len = 1;
	asks[4].host = "other";
	asks[5].region = "eu-west-1";
	asks[6].token = "token";
	asks[7].now++;
	for (int i = 0; i < 8; i++)
		made[i] = sigv4_authorization(&asks[i]);
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < i; j++)
			assert_string_not_equal(made[i], made[j]);
	assert_non_null(strstr(made[6], "SignedHeaders=host;x-amz-date;x-amz-security-token, "));
	for (int i = 0; i < 8; i++)
		free(made[i]);
}

static void
test_path(void **state)
{
	char *path = canonical_path("/model/us.x-1%3A0/in voke~");

	(void) state;
	assert_string_equal(path, "/model/us.x-1%253A0/in%20voke~");
	free(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_all_signed),
		cmocka_unit_test(test_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
