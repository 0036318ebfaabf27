/*
 * test_gateway_apphost.c -- which hosts are those of apps.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../gateway/apphost.c"

/* The label, or "" for none; host in a block of its size. */
static const char *
label_of(const char *host)
{
	static char label[GW_APPHOST_LABEL_MAX + 1];
	size_t len = strlen(host);
	char *exact = malloc(len > 0 ? len : 1);

	memcpy(exact, host, len);
	if (gw_apphost_label(label, exact, len) == 0)
		label[0] = '\0';
	free(exact);
	return label;
}

static void
test_labels(void **state)
{
	(void) state;
	gw_apphost_init("*.apps.example.com", "https://coder.example.com");
	assert_string_equal(label_of("web--dev--bob.apps.example.com"), "web--dev--bob");
	assert_string_equal(label_of("WEB--dev--Bob.Apps.Example.com:8443"), "web--dev--bob");
	assert_string_equal(label_of("coder.example.com"), "");
	assert_string_equal(label_of("apps.example.com"), "");
	assert_string_equal(label_of(".apps.example.com"), "");
	assert_string_equal(label_of("a.b.apps.example.com"), "");
	assert_string_equal(label_of("a/../b.apps.example.com"), "");
	assert_string_equal(label_of("web--dev--bob.apps.example.com.evil.com"), "");
	assert_string_equal(label_of("webapps.example.com"), "");
	assert_string_equal(label_of(""), "");
	assert_string_equal(label_of(":80"), "");
	assert_string_equal(label_of("[::1]:80"), "");
}

static void
test_own_host(void **state)
{
	(void) state;
	gw_apphost_init("https://*.example.com:8443", "https://coder.example.com:8443/");
	assert_string_equal(label_of("coder.example.com:8443"), "");
	assert_string_equal(label_of("Coder.Example.com"), "");
	assert_string_equal(label_of("web--dev--bob.example.com"), "web--dev--bob");
	gw_apphost_init("*--apps.example.com", "https://coder.example.com");
	assert_string_equal(label_of("web--dev--bob--apps.example.com"), "web--dev--bob");
}

static void
test_none(void **state)
{
	static const char *const none[] = {NULL, "", "*", "apps.example.com", "https://"};

	(void) state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
	{
		gw_apphost_init(none[i], "http://127.0.0.1:7080");
		assert_string_equal(label_of("a.apps.example.com"), "");
		assert_string_equal(label_of("127.0.0.1"), "");
	}
}

static void
test_cookie(void **state)
{
	(void) state;
	gw_apphost_init("*.example.com", "http://x");
	assert_string_equal(gw_apphost_cookie(), "coder_subdomain_app_session_token_47287a8f16ec75e6073f193989bb1c0c");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_own_host),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_cookie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
