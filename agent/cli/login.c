/*
 * login.c -- login, logout, whoami, version.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Its first user: asked for, or given by flags. */
static void
create_first_user(Cli *cli)
{
	const char *username = cli_flag(cli, "first-user-username");
	const char *email = cli_flag(cli, "first-user-email");
	const char *password = cli_flag(cli, "first-user-password");
	const char *name = cli_flag(cli, "first-user-full-name");
	const char *user = getenv("USER");

	cli_note("This server is new: create its first user, who may do everything.");
	if (username == NULL)
		username = cli_ask("Username", user, false);
	if (email == NULL)
		email = cli_ask("Email", NULL, false);
	if (password == NULL)
	{
		password = cli_ask("Password", NULL, true);
		if (isatty(STDIN_FILENO) && strcmp(password, cli_ask("Password again", NULL, true)) != 0)
			cli_fail("the passwords differ");
	}
	cli_send(cli,
			 "POST",
			 "/api/v2/users/first",
			 json_pack("{s:s, s:s, s:s, s:s, s:b}",
					   "username",
					   username,
					   "email",
					   email,
					   "password",
					   password,
					   "name",
					   name ? name : "",
					   "trial",
					   0));
	cli->token = cli_format("%s",
							js_text(cli_send(cli,
											 "POST",
											 "/api/v2/users/login",
											 json_pack("{s:s, s:s}", "email", email, "password", password)),
									"session_token"));
}

/* A token that was given makes a session key of its own, as the sheet of the API's clients says. */
static void
use_token(Cli *cli)
{
	if (cli_switch(cli, "use-token-as-session"))
		return;
	cli->token = cli_format("%s", js_text(cli_send(cli, "POST", "/api/v2/users/me/keys", NULL), "key"));
}

static int
run_login(Cli *cli)
{
	const char *given_token = cli_flag(cli, "token");
	CliAnswer first;

	if (cli_arg(cli, 0) != NULL)
		cli->url = cli_tidy_url(cli_arg(cli, 0));
	if (cli->url == NULL)
		cli_fail("usage: coder login URL");

	cli->token = NULL;
	first = cli_call(cli, "GET", "/api/v2/users/first", NULL);
	if (first.status == 404 && first.build_version != NULL)
		create_first_user(cli);
	else if (first.status != 200)
	{
		if (first.status == 404)
			cli_fail("%s is not a Coder server", cli->url);
		cli_fail_answer(&first);
	}
	else
	{
		if (given_token == NULL)
		{
			cli_note("Open this page in your browser and copy the key that it shows:\n\n    %s/cli-auth\n",
					 cli->url);
			given_token = cli_ask("Key", NULL, true);
		}
		cli->token = cli_format("%s", given_token);
		use_token(cli);
	}
	json_t *me = cli_get(cli, "/api/v2/users/me");

	cli_config_save(cli);
	printf("Signed in to %s as %s.\n", cli->url, js_text(me, "username"));
	return 0;
}

static int
run_logout(Cli *cli)
{
	CliAnswer answer;

	cli_need_login(cli);
	if (!cli_confirm(cli, "Sign out?"))
		return 1;
	answer = cli_call(cli, "POST", "/api/v2/users/logout", NULL);
	cli_config_forget(cli);
	if (answer.status != 200 && answer.status != 401)
		cli_fail_answer(&answer);
	puts("Signed out.");
	return 0;
}

static int
run_whoami(Cli *cli)
{
	json_t *me;
	const char *format = cli_flag(cli, "output");

	cli_need_login(cli);
	me = cli_get(cli, "/api/v2/users/me");
	if (format != NULL && strcmp(format, "json") == 0)
	{
		json_dumpf(json_pack("[{s:s, s:s, s:O}]",
							 "url",
							 cli->url,
							 "username",
							 js_text(me, "username"),
							 "id",
							 json_object_get(me, "id")),
				   stdout,
				   JSON_INDENT(2));
		putchar('\n');
	}
	else
		printf("%s is signed in as %s.\n", cli->url, js_text(me, "username"));
	return 0;
}

static const CliFlag login_flags[] = {
	{"first-user-username", 0, "name", "CODER_FIRST_USER_USERNAME", "Name of the first user of a new server."},
	{"first-user-full-name", 0, "name", "CODER_FIRST_USER_FULL_NAME", "Full name of the first user."},
	{"first-user-email", 0, "email", "CODER_FIRST_USER_EMAIL", "Email of the first user."},
	{"first-user-password", 0, "password", "CODER_FIRST_USER_PASSWORD", "Password of the first user."},
	{"use-token-as-session", 0, NULL, NULL, "Store the given token itself, not a new key."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag whoami_flags[] = {CLI_OUTPUT_FLAG, {NULL, 0, NULL, NULL, NULL}};

const CliCommand cli_login_commands[] = {
	{"login", "[url]", "Sign in to a server", login_flags, 0, 1, run_login, NULL},
	{"logout", "", "Sign out and forget the token", NULL, 0, 0, run_logout, NULL},
	{"whoami", "", "Show who is signed in, and where", whoami_flags, 0, 0, run_whoami, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
