/*
 * secret.c -- coder secret: values that one's workspaces get as variables and files.
 *
 * A value comes from a pipe or a file rather than from the command line, where
 * everybody on the machine could read it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_VALUE 32768 /* the server's limit */

static const CliColumn columns[] = {
	{"NAME", .text = "name"},
	{"CREATED", .time = "created_at"},
	{"UPDATED", .time = "updated_at"},
	{"ENV", .text = "env_name"},
	{"FILE", .text = "file_path"},
	{"DESCRIPTION", .text = "description"},
	{.title = NULL},
};

static char *
path_of(const char *name)
{
	return cli_format("/api/v2/users/me/secrets/%s", cli_escape(name));
}

static int
run_list(Cli *cli)
{
	cli_need_login(cli);
	if (cli_arg(cli, 0) != NULL)
		cli_print_list(cli, json_pack("[o]", cli_get(cli, path_of(cli_arg(cli, 0)))), columns);
	else
		cli_print_list(cli, cli_get(cli, "/api/v2/users/me/secrets"), columns);
	return 0;
}

/* What is piped into the command; NULL where it has a terminal, or nothing at all, as its input. */
static char *
piped_value(void)
{
	static char value[MAX_VALUE + 2];
	struct stat input;
	size_t n;

	if (fstat(STDIN_FILENO, &input) != 0 || S_ISCHR(input.st_mode))
		return NULL;
	n = fread(value, 1, sizeof(value) - 1, stdin);
	if (ferror(stdin))
		cli_fail("could not read the value: %s", strerror(errno));
	if (n > MAX_VALUE)
		cli_fail("the value is longer than %d bytes", MAX_VALUE);
	value[n] = '\0';
	if (strlen(value) != n)
		cli_fail("the value has a NUL byte");
	return n > 0 ? value : NULL;
}

/* What was given of a secret. */
static json_t *
given(Cli *cli)
{
	static const char *const members[][2] = {{"description", "description"}, {"env", "env_name"}, {"file", "file_path"}};
	const char *value = cli_flag(cli, "value");
	const char *piped = piped_value();
	json_t *body = json_object();

	if (value != NULL && piped != NULL)
		cli_fail("the value is given twice: by --value and by a pipe");
	if (value == NULL)
		value = piped;
	if (value != NULL && json_object_set_new(body, "value", json_string(value)) != 0)
		cli_fail("the value is not UTF-8 text");
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (cli_flag(cli, members[i][0]) != NULL)
			json_object_set_new(body, members[i][1], json_string(cli_flag(cli, members[i][0])));
	return body;
}

static int
run_create(Cli *cli)
{
	json_t *body;

	cli_need_login(cli);
	body = given(cli);
	if (json_object_get(body, "value") == NULL)
		cli_fail("give the value by a pipe, or by --value");
	json_object_set_new(body, "name", json_string(cli_arg(cli, 0)));
	cli_send(cli, "POST", "/api/v2/users/me/secrets", body);
	printf("Secret \"%s\" is created; workspaces have it from their next start.\n", cli_arg(cli, 0));
	return 0;
}

static int
run_update(Cli *cli)
{
	json_t *body;

	cli_need_login(cli);
	body = given(cli);
	if (json_object_size(body) == 0)
		cli_fail("nothing to change: give --value (or a pipe), --description, --env or --file");
	cli_send(cli, "PATCH", path_of(cli_arg(cli, 0)), body);
	printf("Secret \"%s\" is changed.\n", cli_arg(cli, 0));
	return 0;
}

static int
run_delete(Cli *cli)
{
	cli_need_login(cli);
	if (!cli_confirm(cli, cli_format("Delete secret \"%s\"?", cli_arg(cli, 0))))
		return 1;
	cli_send(cli, "DELETE", path_of(cli_arg(cli, 0)), NULL);
	printf("Secret \"%s\" is deleted.\n", cli_arg(cli, 0));
	return 0;
}

static const CliFlag list_flags[] = {CLI_OUTPUT_FLAG, {NULL, 0, NULL, NULL, NULL}};
static const CliFlag value_flags[] = {
	{"value", 0, "text", NULL, "The value; better by a pipe, which no other user of the machine can read."},
	{"description", 0, "text", NULL, "What it is for."},
	{"env", 0, "name", NULL, "Variable of workspaces that has the value."},
	{"file", 0, "path", NULL, "File of workspaces that has the value: ~/... or /..."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const create_examples[] = {"printf %s \"$KEY\" | coder secret create api-key --env API_KEY", NULL};
static const char *const update_examples[] = {"printf %s \"$KEY\" | coder secret update api-key", "coder secret update api-key --file \"\"", NULL};

const CliCommand cli_secret_commands[] = {
	{"secret list", "[name]", "List your secrets, without their values", list_flags, 0, 1, run_list, NULL},
	{"secret create", "<name>", "Create a secret", value_flags, 1, 1, run_create, create_examples},
	{"secret update", "<name>", "Change a secret", value_flags, 1, 1, run_update, update_examples},
	{"secret delete", "<name>", "Delete a secret", NULL, 1, 1, run_delete, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
