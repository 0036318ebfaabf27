/*
 * test_origin.c -- networks of trusted proxies, good and bad, and the clients that they name.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/origin.c"

static void
test_networks(void **state)
{
	static const char *const good[] = {"",
									   " ",
									   "10.0.0.0/8",
									   "::1",
									   "10.0.0.1, 192.168.0.0/16,fd00::/8",
									   "0.0.0.0/0",
									   "::/0",
									   ",,1.2.3.4,,"};
	static const char *const bad[] = {
		"x",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/",
		"10.0.0.0/8x",
		"10.0.0/8",
		"::/129",
		"1.2.3.4/8/8",
		"10.0.0.0/ 8",
		"10.0.0.0/+8",
		"localhost",
		"[::1]",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:1111:2222:3333:4444:5555:6666"};
	char many[65 * 8 + 1] = "";
	GwOrigins origins;

	(void) state;
	assert_true(gw_origins_parse(&origins, NULL));
	assert_int_equal(origins.n, 0);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!gw_origins_parse(&origins, good[i]))
			fail_msg("%s is refused", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (gw_origins_parse(&origins, bad[i]))
			fail_msg("%s is taken", bad[i]);
	for (int i = 0; i < GW_ORIGINS_MAX; i++)
		strcat(many, "1.2.3.4,");
	assert_true(gw_origins_parse(&origins, many));
	strcat(many, "1.2.3.4");
	assert_false(gw_origins_parse(&origins, many));
}

static void
test_inside(void **state)
{
	GwOrigins origins;

	(void) state;
	assert_true(gw_origins_parse(&origins, "10.0.0.0/8,192.168.4.0/22,fd00::/9,::1"));
	assert_true(gw_origins_contain(&origins, "10.255.255.255"));
	assert_true(gw_origins_contain(&origins, "::ffff:10.0.0.1"));
	assert_true(gw_origins_contain(&origins, "192.168.7.255"));
	assert_true(gw_origins_contain(&origins, "fd7f::1"));
	assert_true(gw_origins_contain(&origins, "::1"));
	assert_false(gw_origins_contain(&origins, "11.0.0.0"));
	assert_false(gw_origins_contain(&origins, "192.168.8.0"));
	assert_false(gw_origins_contain(&origins, "fd80::1"));
	assert_false(gw_origins_contain(&origins, "::2"));
	assert_false(gw_origins_contain(&origins, "nonsense"));
	assert_true(gw_origins_parse(&origins, "0.0.0.0/0"));
	assert_true(gw_origins_contain(&origins, "8.8.8.8"));
	assert_false(gw_origins_contain(&origins, "2001:db8::1"));
}

static void
test_clients(void **state)
{
	static const char *const named[][2] = {{"1.2.3.4", "1.2.3.4"},
										   {" 1.2.3.4\t", "1.2.3.4"},
										   {"1.2.3.4:80", "1.2.3.4"},
										   {"2001:db8::1", "2001:db8::1"},
										   {"[2001:db8::1]", "2001:db8::1"},
										   {"[2001:db8::1]:443", "2001:db8::1"},
										   {"::ffff:1.2.3.4", "1.2.3.4"},
										   {"6.6.6.6, 1.2.3.4", "1.2.3.4"},
										   {"6.6.6.6,1.2.3.4,10.0.0.1, 10.0.0.2", "1.2.3.4"},
										   {"10.0.0.1,10.0.0.2", "10.0.0.1"},
										   {"junk, 1.2.3.4", "1.2.3.4"}};
	static const char *const none[] = {"",
									   " ",
									   ",",
									   "junk",
									   "1.2.3.4,",
									   "1.2.3.4, junk",
									   "junk, 10.0.0.1",
									   "1.2.3",
									   "[::1",
									   "[::1]x",
									   "1.2.3.4.5",
									   "unknown",
									   "_hidden",
									   "2001:db8::1::2"};
	GwOrigins origins;
	char client[GW_ADDRESS_MAX];

	(void) state;
	assert_true(gw_origins_parse(&origins, "10.0.0.0/8"));
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
	{
		assert_true(gw_origins_client(&origins, named[i][0], strlen(named[i][0]), client));
		assert_string_equal(client, named[i][1]);
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (gw_origins_client(&origins, none[i], strlen(none[i]), client))
			fail_msg("\"%s\" names %s", none[i], client);
	assert_false(gw_origins_client(&origins, "1.2.3.4\0", 8, client));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_inside),
		cmocka_unit_test(test_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
