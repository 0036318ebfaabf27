/*
 * test_sshforward.c -- what listens in a workspace for an SSH client.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "serve/sshforward.c"

static bool
connects(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool connected = connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0;

	close(fd);
	return connected;
}

static void
ports(void **state)
{
	SshListeners listeners = {0};
	struct pollfd fds[SSH_LISTENERS];
	int port = ssh_listen_port(&listeners, "localhost", 0);

	(void) state;
	assert_true(port > 0);
	assert_true(connects(port));
	/* taken already, by whatever name */
	assert_int_equal(ssh_listen_port(&listeners, "localhost", port), -1);
	assert_int_equal(ssh_listen_port(&listeners, "127.0.0.1", port), -1);
	assert_int_equal(ssh_listen_port(&listeners, "localhost", -1), -1);
	assert_int_equal(ssh_listen_port(&listeners, "localhost", 65536), -1);
	/* names are not looked up */
	assert_int_equal(ssh_listen_port(&listeners, "no such host", 0), -1);
	assert_int_equal(ssh_listen_port(&listeners, "198.51.100.7", 0), -1);
	assert_int_equal(ssh_listeners_poll(&listeners, fds), 1);
	assert_false(ssh_unlisten_port(&listeners, "127.0.0.1", port));
	assert_false(ssh_unlisten_port(&listeners, "localhost", port + 1));
	assert_true(ssh_unlisten_port(&listeners, "localhost", port));
	assert_false(connects(port));
	assert_false(ssh_unlisten_port(&listeners, "localhost", port));
	/* "" is every address */
	port = ssh_listen_port(&listeners, "", 0);
	assert_true(port > 0 && connects(port));
	ssh_unlisten(&listeners, NULL);
	assert_null(listeners.first);
}

static void
not_too_many(void **state)
{
	SshListeners listeners = {0};
	int open = 0;

	(void) state;
	for (int i = 0; i < SSH_LISTENERS + 5; i++)
		open += ssh_listen_port(&listeners, "localhost", 0) > 0;
	assert_int_equal(open, SSH_LISTENERS);
	assert_null(ssh_listen_agent(&listeners));
	ssh_unlisten(&listeners, NULL);
	assert_int_equal(listeners.n, 0);
}

static void
key_agent(void **state)
{
	SshListeners listeners = {0};
	struct stat st;
	const char *path = ssh_listen_agent(&listeners);
	char *copy;

	(void) state;
	assert_non_null(path);
	assert_ptr_equal(ssh_listen_agent(&listeners), path);
	copy = strdup(path);
	assert_int_equal(stat(copy, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	*strrchr(copy, '/') = '\0';
	assert_int_equal(stat(copy, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	ssh_unlisten(&listeners, NULL);
	assert_int_equal(stat(copy, &st), -1);
	free(copy);
	setenv("TMPDIR", "/no/such/folder", 1);
	assert_null(ssh_listen_agent(&listeners));
	unsetenv("TMPDIR");
}

/* What a client says goes into commands of xauth. */
static void
words_of_displays(void **state)
{
	char long_cookie[520];

	(void) state;
	assert_true(ssh_display_words_valid("MIT-MAGIC-COOKIE-1", "0123456789abcdefABCDEF"));
	assert_false(ssh_display_words_valid("MIT\nremove x", "00"));
	assert_false(ssh_display_words_valid("MIT source", "00"));
	assert_false(ssh_display_words_valid("", "00"));
	assert_false(ssh_display_words_valid("MIT", ""));
	assert_false(ssh_display_words_valid("MIT", "0"));
	assert_false(ssh_display_words_valid("MIT", "00\n"));
	assert_false(ssh_display_words_valid("MIT", "zz"));
	memset(long_cookie, 'a', sizeof(long_cookie));
	long_cookie[514] = '\0';
	assert_false(ssh_display_words_valid("MIT", long_cookie));
	assert_null(ssh_listen_display(&(SshListeners){0}, &long_cookie, false, "MIT", "00", 100));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports),
		cmocka_unit_test(not_too_many),
		cmocka_unit_test(key_agent),
		cmocka_unit_test(words_of_displays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
