/*
 * test_chat_awsprofile.c -- keys of AWS in shared files and in answers of its services, and where they may be asked for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../gateway/chat/awsprofile.c"

#define ID "AKIAEXAMPLEEXAMPLE12"

static const char file[] = "; a comment\r\n"
						   "aws_access_key_id = AKIABEFOREANYSECTION\n"
						   "[default]\r\n"
						   "  aws_access_key_id=" ID "\r\n"
						   "AWS_SECRET_ACCESS_KEY = sec/ret+=  \r\n"
						   "# another\n"
						   "region = eu-west-1\n"
						   "[ profile  other ]\n"
						   "aws_access_key_id = " ID "\n"
						   "aws_secret_access_key = x\n"
						   "aws_session_token = to:ken==\n"
						   "region = a-region-whose-name-is-far-too-long-to-be-one\n"
						   "[half]\n"
						   "aws_access_key_id = " ID "\n"
						   "nonsense\n"
						   "[unclosed\n"
						   "aws_secret_access_key = y";

static void
assert_profile(const char *text, const char *profile, const char *key, const char *region)
{
	char *found = NULL;
	char where[AWS_REGION_MAX] = "";

	aws_profile_read(text, profile, &found, where);
	if (key == NULL)
		assert_null(found);
	else
	{
		assert_non_null(found);
		assert_string_equal(found, key);
	}
	assert_string_equal(where, region);
	free(found);
}

static void
test_profiles(void **state)
{
	char *found = strdup("kept");
	char where[AWS_REGION_MAX] = "kept";

	(void) state;
	assert_profile(file, "default", ID ":sec/ret+=", "eu-west-1");
	assert_profile(file, "other", ID ":x:to:ken==", "");
	assert_profile(file, "half", NULL, "");
	assert_profile(file, "oth", NULL, "");
	assert_profile(file, "unclosed", NULL, "");
	assert_profile("", "default", NULL, "");
	assert_profile("[]\n[", "", NULL, "");
	assert_profile("[p]\naws_access_key_id = short\naws_secret_access_key = x", "p", NULL, "");
	assert_profile("[p]\naws_access_key_id = " ID "\naws_secret_access_key = has a blank", "p", NULL, "");
	assert_profile("[p]\naws_access_key_id = " ID "\naws_secret_access_key = has:colon", "p", NULL, "");
	/* what a file does not have stays */
	aws_profile_read(file, "half", &found, where);
	assert_string_equal(found, "kept");
	assert_string_equal(where, "kept");
	free(found);
}

static void
assert_answer(const char *text, const char *key, time_t expires)
{
	time_t ends = 1;
	char *found = aws_answer_read(text, strlen(text), &ends);

	if (key == NULL)
		assert_null(found);
	else
	{
		assert_non_null(found);
		assert_string_equal(found, key);
		assert_int_equal(ends, expires);
	}
	free(found);
}

static void
test_answers(void **state)
{
	(void) state;
	assert_answer("{\"Code\":\"Success\",\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Token\":\"t=\",\"Expiration\":\"2015-08-30T12:36:00Z\"}", ID ":s:t=", 1440938160);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Expiration\":\"2015-08-30T12:36:00.123Z\"}", ID ":s", 1440938160);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\"}", ID ":s", 0);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Expiration\":\"soon\"}", NULL, 0);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Expiration\":\"2015-08-30T12:36:00+02:00\"}", NULL, 0);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\\nX-Header: y\"}", NULL, 0);
	assert_answer("{\"AssumeRoleWithWebIdentityResponse\":{\"AssumeRoleWithWebIdentityResult\":{\"Credentials\":{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\","
				  "\"SessionToken\":\"t=\",\"Expiration\":1.440938160E9}}}}", ID ":s:t=", 1440938160);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Expiration\":-1}", NULL, 0);
	assert_answer("{\"AccessKeyId\":\"" ID "\",\"SecretAccessKey\":\"s\",\"Expiration\":1e300}", NULL, 0);
	assert_answer("{\"AccessKeyId\":\"" ID "\"}", NULL, 0);
	assert_answer("{\"Code\":\"Failed\"}", NULL, 0);
	assert_answer("[]", NULL, 0);
	assert_answer("", NULL, 0);
}

static void
test_addresses(void **state)
{
	(void) state;
	assert_true(aws_container_url("https://example.com/x"));
	assert_true(aws_container_url("http://127.0.0.1:8080/x"));
	assert_true(aws_container_url("http://localhost/x"));
	assert_true(aws_container_url("http://169.254.170.2/x"));
	assert_true(aws_container_url("http://169.254.170.23/v1/credentials"));
	assert_true(aws_container_url("http://[fd00:ec2::23]:80/v1/credentials"));
	assert_true(aws_container_url("HTTP://[::1]"));
	assert_false(aws_container_url("http://example.com/"));
	assert_false(aws_container_url("http://localhost.example.com/"));
	assert_false(aws_container_url("http://127.0.0.1@example.com/"));
	assert_false(aws_container_url("http://127.0.0.1:1@example.com/"));
	assert_false(aws_container_url("http://169.254.170.24/"));
	assert_false(aws_container_url("https://"));
	assert_false(aws_container_url("ftp://127.0.0.1/"));
	assert_false(aws_container_url(""));
}

static void
test_keys(void **state)
{
	(void) state;
	assert_true(aws_is_key(ID ":s"));
	assert_false(aws_is_key("AKIAlower123456789:s"));
	assert_false(aws_is_key("AKIDEXAMPLEEXAMPLE12:s"));
	assert_false(aws_is_key("AKIASHORT:s"));
	assert_false(aws_is_key(ID));
	assert_null(aws_key(NULL, "s", NULL));
	assert_null(aws_key(ID, "", NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_profiles),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
