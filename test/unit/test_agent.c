/*
 * test_agent.c -- pure parts of the agent: schedules, the ring of a terminal,
 * and the list of listening ports.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../agent/run/cron.c"
#include "../../agent/serve/ports.c"
#include "../../agent/serve/portowner.c"
#include "../../agent/serve/ring.c"

static bool
matches(const char *text, int sec, int min, int hour, int mday, int mon, int wday)
{
	struct tm tm = {.tm_sec = sec, .tm_min = min, .tm_hour = hour, .tm_mday = mday, .tm_mon = mon - 1, .tm_wday = wday};
	Cron cron;

	assert_true(cron_parse(&cron, text));
	return cron_matches(&cron, &tm);
}

static void
cron_fields(void **state)
{
	(void) state;
	assert_true(matches("* * * * *", 59, 59, 23, 31, 12, 6));
	assert_true(matches("0 */15 8-10 * * MON-FRI", 0, 45, 9, 1, 1, 5));
	assert_false(matches("0 */15 8-10 * * MON-FRI", 0, 46, 9, 1, 1, 5));
	assert_false(matches("0 */15 8-10 * * MON-FRI", 0, 45, 11, 1, 1, 5));
	assert_false(matches("0 */15 8-10 * * MON-FRI", 0, 45, 9, 1, 1, 6));
	assert_true(matches("10/20 0 0 1 jan ?", 50, 0, 0, 1, 1, 3));
	assert_false(matches("10/20 0 0 1 jan ?", 0, 0, 0, 1, 1, 3));
	assert_true(matches("0,30 5 * * *", 30, 5, 1, 1, 1, 1));
}

static void
cron_days(void **state)
{
	(void) state;
	/* Both named: one is enough.  One a star: the other decides. */
	assert_true(matches("0 0 0 13 * 5", 0, 0, 0, 13, 2, 1));
	assert_true(matches("0 0 0 13 * 5", 0, 0, 0, 12, 2, 5));
	assert_false(matches("0 0 0 13 * 5", 0, 0, 0, 12, 2, 4));
	assert_false(matches("0 0 0 * * 5", 0, 0, 0, 13, 2, 4));
}

static void
cron_refuses(void **state)
{
	static const char *const bad[] = {"", "*", "* * * *", "* * * * * * *", "60 * * * *", "* * * 0 *", "* * * * 13", "5-1 * * * *",
									  "*/0 * * * *", "a * * * *", "1, * * * *", "1- * * * *", "9999 * * * *", "@daily", "* * * * * 7"};
	Cron cron;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cron_parse(&cron, bad[i]))
			fail_msg("taken: \"%s\"", bad[i]);
}

/* Every beginning of a schedule, in a block of its size: no byte beyond is read. */
static void
cron_truncated(void **state)
{
	static const char text[] = "0,30 */15 8-10 1/2 JAN-DEC MON";

	(void) state;
	for (size_t n = 0; n < sizeof(text); n++)
	{
		char *copy = malloc(n + 1);
		Cron cron;

		assert_non_null(copy);
		memcpy(copy, text, n);
		copy[n] = '\0';
		cron_parse(&cron, copy);
		free(copy);
	}
}

static void
ring_keeps_the_last(void **state)
{
	static Ring ring;
	static uint8_t out[RING_SIZE];
	static uint8_t data[RING_SIZE * 2 + 7];

	(void) state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) (i * 31 + i / 251);
	assert_int_equal(ring_get(&ring, out), 0);
	ring_put(&ring, "abc", 3);
	assert_int_equal(ring_get(&ring, out), 3);
	assert_memory_equal(out, "abc", 3);
	for (size_t at = 0; at < sizeof(data);)
	{
		size_t n = sizeof(data) - at < 1000 ? sizeof(data) - at : 1000;

		ring_put(&ring, data + at, n);
		at += n;
	}
	assert_int_equal(ring_get(&ring, out), RING_SIZE);
	assert_memory_equal(out, data + sizeof(data) - RING_SIZE, RING_SIZE);
	ring_put(&ring, data, sizeof(data));
	assert_int_equal(ring_get(&ring, out), RING_SIZE);
	assert_memory_equal(out, data + sizeof(data) - RING_SIZE, RING_SIZE);
}

static const char table[] =
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	"   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 5002 1 0 100 0 0 10 0\n"
	"   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   114        0 21034 1 0 100 0 0 10 0\n"
	"   2: 0100007F:1538 0100007F:8000 01 00000000:00000000 00:00000000 00000000   114        0 21035 1 0 100 0 0 10 0\n"
	"   3: 00000000:0004 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0\n"
	"  10: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 5003 1 0 100 0 0 10 0\n";

static void
ports_of_a_table(void **state)
{
	ListeningPort ports[4];

	(void) state;
	assert_int_equal(ports_parse(table, ports, 4), 2);
	assert_int_equal(ports[0].port, 0x1538);
	assert_int_equal(ports[0].inode, 21034);
	assert_int_equal(ports[1].port, 8080);
	assert_int_equal(ports_parse(table, ports, 1), 1);
}

/* IPv6's table, whose addresses are longer; and a port of this process, which is no editor. */
static void
ports_of_ipv6(void **state)
{
	static const char line[] = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
	ListeningPort port;

	(void) state;
	assert_true(ports_parse_line(line, &port));
	assert_int_equal(port.port, 8080);
	assert_int_equal(port.inode, 4711);
}

static void
jetbrains_commands(void **state)
{
	static const char java[] = "java\0-Didea.Vendor.name=jetbrains\0com.intellij.idea.Main\0";
	static const char remote[] = "/home/me/.cache/Remote-Dev-Server.sh\0run";
	static const char other[] = "java\0-Dvendor.name=JetBrains\0com.jetbrains";

	(void) state;
	assert_true(portowner_is_jetbrains_command(java, sizeof(java)));
	assert_true(portowner_is_jetbrains_command(remote, sizeof(remote)));
	assert_true(portowner_is_jetbrains_command("x com.jetbrains.toolbox", 23));
	assert_false(portowner_is_jetbrains_command("x com.jetbrains.toolbox", 22));
	assert_false(portowner_is_jetbrains_command(other, sizeof(other)));
	assert_false(portowner_is_jetbrains_command("", 0));
}

static void
owner_of_a_port(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(address);
	uint64_t inode;

	(void) state;
	assert_int_equal(bind(server, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_int_equal(listen(server, 1), 0);
	assert_int_equal(getsockname(server, (struct sockaddr *) &address, &len), 0);
	inode = listener("/proc/net/tcp", ntohs(address.sin_port));
	assert_true(inode != 0);
	assert_int_equal(listener("/proc/net/tcp", 1), 0);
	assert_int_equal(connect(client, (struct sockaddr *) &address, sizeof(address)), 0);
	assert_false(ports_is_jetbrains(client));
	assert_false(ports_is_jetbrains(server));
	close(client);
	close(server);
}

static void
ports_truncated(void **state)
{
	ListeningPort ports[4];

	(void) state;
	for (size_t n = 0; n < sizeof(table); n++)
	{
		char *copy = malloc(n + 1);

		assert_non_null(copy);
		memcpy(copy, table, n);
		copy[n] = '\0';
		assert_true(ports_parse(copy, ports, 4) <= 2);
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cron_fields),	   cmocka_unit_test(cron_days),			   cmocka_unit_test(cron_refuses),
		cmocka_unit_test(cron_truncated),  cmocka_unit_test(ring_keeps_the_last),  cmocka_unit_test(ports_of_a_table),
		cmocka_unit_test(ports_of_ipv6),
		cmocka_unit_test(jetbrains_commands),
		cmocka_unit_test(owner_of_a_port),
		cmocka_unit_test(ports_truncated),
	};

	return cmocka_run_group_tests_name("agent", tests, NULL, NULL);
}
