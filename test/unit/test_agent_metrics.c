/*
 * test_agent_metrics.c -- what an agent counts of itself, and the addresses it may listen at.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "../../agent/run/metrics.c"
#include "../../agent/serve/debug.c"

/* What debug.c needs of others. */
void
agent_log(const Agent *agent, const char *format, ...)
{
	(void) agent;
	(void) format;
}

bool
http_serve_scope(Agent *agent, int fd, HttpScope scope, void (*gone)(void *arg), void *arg)
{
	(void) agent;
	(void) fd;
	(void) scope;
	(void) gone;
	(void) arg;
	return false;
}

LoopFd *
loop_fd_add(Loop *loop, int fd, uint32_t events, LoopFdFn fn, void *arg)
{
	(void) loop;
	(void) fd;
	(void) events;
	(void) fn;
	(void) arg;
	return NULL;
}

static void
text_of_series(void **state)
{
	size_t size;
	char *text;

	(void) state;
	metric_add(METRIC_SESSIONS, 1, "vscode", "no");
	metric_add(METRIC_SESSIONS, 1, "ssh", "yes");
	metric_set(METRIC_PEERS, 7, "p2p");
	metric_add(METRIC_SESSIONS, 2, "ssh", "no");
	metric_add(METRIC_PTY_CONNECTIONS, 1);
	metric_add(METRIC_SESSIONS, 1, "ssh", "no");
	metric_set(METRIC_PEERS, 2.5, "p2p");
	text = metric_text(&size);
	assert_string_equal(text,
						"# HELP agent_reconnecting_pty_connections_total Connections to terminals of browsers.\n"
						"# TYPE agent_reconnecting_pty_connections_total counter\n"
						"agent_reconnecting_pty_connections_total 1\n"
						"# HELP agent_sessions_total SSH sessions that have begun.\n"
						"# TYPE agent_sessions_total counter\n"
						"agent_sessions_total{magic_type=\"ssh\",pty=\"no\"} 3\n"
						"agent_sessions_total{magic_type=\"ssh\",pty=\"yes\"} 1\n"
						"agent_sessions_total{magic_type=\"vscode\",pty=\"no\"} 1\n"
						"# HELP coderd_agentstats_currently_reachable_peers Peers that answered last, directly (p2p) or through a relay (derp).\n"
						"# TYPE coderd_agentstats_currently_reachable_peers gauge\n"
						"coderd_agentstats_currently_reachable_peers{connection_type=\"p2p\"} 2.5\n");
	assert_int_equal(size, strlen(text));
	free(text);
}

static void
begin_at_zero(void **state)
{
	MetricSeries series[METRIC_MAX_SERIES];
	size_t n;

	(void) state;
	metric_start();
	n = metric_series(series, METRIC_MAX_SERIES);
	assert_int_equal(n, 9);
	for (size_t i = 0; i < n; i++)
		if (metric_label(series[i].family, 0) == NULL)
			assert_true(series[i].value == (series[i].family == METRIC_PTY_CONNECTIONS ? 1 : 0));
}

static void
series_are_few(void **state)
{
	static char names[200][16];
	MetricSeries series[METRIC_MAX_SERIES];

	(void) state;
	for (int i = 0; i < 200; i++)
	{
		snprintf(names[i], sizeof(names[i]), "e%d", i);
		metric_add(METRIC_PTY_ERRORS, 1, names[i]);
	}
	assert_int_equal(metric_series(series, METRIC_MAX_SERIES), METRIC_MAX_SERIES);
	metric_add(METRIC_SESSIONS, 1, "ssh", "no"); /* one that there is still counts */
	assert_int_equal(metric_series(series, 2), 2);
	assert_int_equal(series[0].family, METRIC_BOUNDARY_BATCHES_FORWARDED);
}

static void
addresses(void **state)
{
	static const char *const bad[] = {"", "2112", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:21 ", "name.example:1", "[::1:1", "::g:1", "[]:1x",
									  "0123456789012345678901234567890123456789012345678901234567890123456789:1"};
	struct sockaddr_storage address;
	struct sockaddr_in *v4 = (struct sockaddr_in *) &address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &address;
	socklen_t size;

	(void) state;
	assert_true(debug_parse_address("127.0.0.1:2112", &address, &size));
	assert_int_equal(v4->sin_family, AF_INET);
	assert_int_equal(ntohs(v4->sin_port), 2112);
	assert_int_equal(ntohl(v4->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_true(debug_parse_address("localhost:0", &address, &size));
	assert_int_equal(ntohl(v4->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_true(debug_parse_address("[::1]:65535", &address, &size));
	assert_int_equal(v6->sin6_family, AF_INET6);
	assert_int_equal(ntohs(v6->sin6_port), 65535);
	assert_true(debug_parse_address("::1:80", &address, &size));
	assert_int_equal(ntohs(v6->sin6_port), 80);
	assert_true(debug_parse_address(":2113", &address, &size));
	assert_memory_equal(&v6->sin6_addr, &in6addr_any, sizeof(in6addr_any));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(debug_parse_address(bad[i], &address, &size));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(text_of_series), cmocka_unit_test(begin_at_zero), cmocka_unit_test(series_are_few), cmocka_unit_test(addresses)};

	return cmocka_run_group_tests_name("agent metrics", tests, NULL, NULL);
}
