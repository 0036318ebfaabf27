/*
 * user.c -- users and tokens.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const CliColumn user_columns[] = {
	{"USERNAME", .text = "username"},
	{"EMAIL", .text = "email"},
	{"CREATED", .time = "created_at"},
	{"STATUS", .text = "status"},
	{.title = NULL},
};
static const CliColumn token_columns[] = {
	{"ID", .text = "id"},
	{"NAME", .text = "token_name"},
	{"LAST USED", .time = "last_used"},
	{"EXPIRES", .time = "expires_at"},
	{"CREATED", .time = "created_at"},
	{.title = NULL},
};

static int
run_users_list(Cli *cli)
{
	const char *q = cli_flag(cli, "search");

	cli_need_login(cli);
	cli_print_list(cli,
				   json_object_get(cli_get(cli, cli_format("/api/v2/users?q=%s", cli_escape(q ? q : ""))),
								   "users"),
				   user_columns);
	return 0;
}

static int
run_users_show(Cli *cli)
{
	json_t *user;

	cli_need_login(cli);
	user = cli_get(cli, cli_format("/api/v2/users/%s", cli_escape(cli_arg(cli, 0))));
	cli_print_list(cli, json_pack("[o]", user), user_columns);
	return 0;
}

/* 20 characters of the system's randomness. */
static char *
random_password(void)
{
	static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
	char *password = calloc(1, 21);

	if (password == NULL || sodium_init() < 0)
		cli_fail("no source of randomness");
	for (int i = 0; i < 20; i++)
		password[i] = letters[randombytes_uniform(sizeof(letters) - 1)];
	return password;
}

static int
run_users_create(Cli *cli)
{
	const char *username = cli_flag(cli, "username");
	const char *email = cli_flag(cli, "email");
	const char *password = cli_flag(cli, "password");

	cli_need_login(cli);
	if (username == NULL)
		username = cli_ask("Username", NULL, false);
	if (email == NULL)
		email = cli_ask("Email", NULL, false);
	if (password == NULL)
	{
		password = random_password();
		printf("Password: %s\n", password);
	}
	cli_send(cli,
			 "POST",
			 "/api/v2/users",
			 json_pack("{s:s, s:s, s:s, s:s, s:[s]}",
					   "username",
					   username,
					   "email",
					   email,
					   "password",
					   password,
					   "login_type",
					   "password",
					   "organization_ids",
					   js_text(cli_organization(cli), "id")));
	printf("User \"%s\" is created.\n", username);
	return 0;
}

static int
set_user_status(Cli *cli, const char *verb)
{
	json_t *user;

	cli_need_login(cli);
	user = cli_get(cli, cli_format("/api/v2/users/%s", cli_escape(cli_arg(cli, 0))));
	user = cli_send(cli, "PUT", cli_format("/api/v2/users/%s/status/%s", js_text(user, "id"), verb), NULL);
	printf("User \"%s\" is %s.\n", js_text(user, "username"), js_text(user, "status"));
	return 0;
}

static int
run_users_suspend(Cli *cli)
{
	return set_user_status(cli, "suspend");
}

static int
run_users_activate(Cli *cli)
{
	return set_user_status(cli, "activate");
}

static int
run_users_delete(Cli *cli)
{
	json_t *user;

	cli_need_login(cli);
	user = cli_get(cli, cli_format("/api/v2/users/%s", cli_escape(cli_arg(cli, 0))));
	if (!cli_confirm(cli, cli_format("Delete user \"%s\"?", js_text(user, "username"))))
		return 1;
	cli_send(cli, "DELETE", cli_format("/api/v2/users/%s", js_text(user, "id")), NULL);
	printf("User \"%s\" is deleted.\n", js_text(user, "username"));
	return 0;
}

static int
run_tokens_create(Cli *cli)
{
	const char *name = cli_flag(cli, "name");
	const char *lifetime = cli_flag(cli, "lifetime");
	json_t *body = json_object();

	cli_need_login(cli);
	if (name != NULL)
		json_object_set_new(body, "token_name", json_string(name));
	if (lifetime != NULL)
	{
		json_int_t ms = cli_span(lifetime);

		if (ms <= 0)
			cli_fail("--lifetime %s: a duration such as 30d or 12h expected", lifetime);
		json_object_set_new(body, "lifetime", json_integer(ms * 1000000)); /* the API's unit is a nanosecond */
	}
	puts(js_text(cli_send(cli, "POST", "/api/v2/users/me/keys/tokens", body), "key"));
	return 0;
}

static int
run_tokens_list(Cli *cli)
{
	cli_need_login(cli);
	cli_print_list(cli, cli_get(cli, "/api/v2/users/me/keys/tokens"), token_columns);
	return 0;
}

static int
run_tokens_remove(Cli *cli)
{
	CliAnswer token;
	const char *id;

	cli_need_login(cli);
	token = cli_call(cli,
					 "GET",
					 cli_format("/api/v2/users/me/keys/tokens/%s", cli_escape(cli_arg(cli, 0))),
					 NULL);
	id = token.status == 200 ? js_text(token.json, "id")
							 : cli_format("%.*s", (int) strcspn(cli_arg(cli, 0), "-"), cli_arg(cli, 0));
	cli_send(cli, "DELETE", cli_format("/api/v2/users/me/keys/%s", cli_escape(id)), NULL);
	puts("The token is removed.");
	return 0;
}

static const CliFlag list_flags[] = {
	{"search", 0, "query", NULL, "A search, such as \"status:active\"."},
	CLI_OUTPUT_FLAG,
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag output_flags[] = {CLI_OUTPUT_FLAG, {NULL, 0, NULL, NULL, NULL}};
static const CliFlag create_flags[] = {
	{"username", 'u', "name", NULL, "Name of the new user."},
	{"email", 'e', "email", NULL, "Email of the new user."},
	{"password", 'p', "password", NULL, "Password (default: a random one, printed)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag token_flags[] = {
	{"name", 'n', "name", NULL, "Name of the token."},
	{"lifetime", 0, "duration", NULL, "How long it lives, such as 30d."},
	{NULL, 0, NULL, NULL, NULL},
};

const CliCommand cli_user_commands[] = {
	{"users list", "", "List users", list_flags, 0, 0, run_users_list, NULL},
	{"users show", "<user>", "Show a user", output_flags, 1, 1, run_users_show, NULL},
	{"users create", "", "Create a user", create_flags, 0, 0, run_users_create, NULL},
	{"users suspend", "<user>", "Suspend a user", NULL, 1, 1, run_users_suspend, NULL},
	{"users activate", "<user>", "Activate a user", NULL, 1, 1, run_users_activate, NULL},
	{"users delete", "<user>", "Delete a user", NULL, 1, 1, run_users_delete, NULL},
	{"tokens create", "", "Create a token", token_flags, 0, 0, run_tokens_create, NULL},
	{"tokens list", "", "List your tokens", output_flags, 0, 0, run_tokens_list, NULL},
	{"tokens remove", "<name|id>", "Remove a token", NULL, 1, 1, run_tokens_remove, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
