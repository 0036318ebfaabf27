/*
 * organization.c -- coder organizations: those there are, and who is in them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static const char *
cell_default(const json_t *o)
{
	return js_bool(o, "is_default") ? "true" : "false";
}

static const char *
cell_roles(const json_t *member)
{
	static char text[256];
	json_t *role;
	size_t i;
	size_t n = 0;

	text[0] = '\0';
	json_array_foreach(json_object_get(member, "roles"), i, role)
	{
		n += (size_t) snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? " " : "", js_text(role, "name"));
		if (n >= sizeof(text))
			break;
	}
	return text;
}

static const CliColumn organization_columns[] = {
	{"NAME", .text = "name"},
	{"DISPLAY NAME", .text = "display_name"},
	{"ID", .text = "id"},
	{"DEFAULT", .cell = cell_default},
	{.title = NULL},
};
static const CliColumn member_columns[] = {
	{"USERNAME", .text = "username"},
	{"ORGANIZATION ROLES", .cell = cell_roles},
	{.title = NULL},
};

static int
run_list(Cli *cli)
{
	cli_need_login(cli);
	cli_print_list(cli, cli_get(cli, "/api/v2/organizations"), organization_columns);
	return 0;
}

/* The organizations that a word means: the one that commands use, one's own, or that of the name. */
static json_t *
those_of(Cli *cli, const char *word)
{
	if (strcmp(word, "selected") == 0)
		return json_pack("[O]", cli_organization(cli));
	if (strcmp(word, "me") == 0)
		return cli_get(cli, "/api/v2/users/me/organizations");
	return json_pack("[o]", cli_get(cli, cli_format("/api/v2/organizations/%s", cli_escape(word))));
}

static int
run_show(Cli *cli)
{
	json_t *found;
	json_t *organization;
	size_t i;

	cli_need_login(cli);
	found = those_of(cli, cli_arg(cli, 0) != NULL ? cli_arg(cli, 0) : "selected");
	if (!cli_switch(cli, "only-id"))
	{
		cli_print_list(cli, found, organization_columns);
		return 0;
	}
	json_array_foreach(found, i, organization)
	{
		puts(js_text(organization, "id"));
	}
	return 0;
}

static int
run_create(Cli *cli)
{
	const char *name = cli_arg(cli, 0);
	json_t *organization;

	cli_need_login(cli);
	if (!cli_confirm(cli, cli_format("Create organization \"%s\"?", name)))
		return 1;
	organization = cli_send(cli, "POST", "/api/v2/organizations", json_pack("{s:s}", "name", name));
	printf("Organization \"%s\" is created: %s.\n", name, js_text(organization, "id"));
	return 0;
}

static int
run_delete(Cli *cli)
{
	json_t *organization;

	cli_need_login(cli);
	organization = cli_get(cli, cli_format("/api/v2/organizations/%s", cli_escape(cli_arg(cli, 0))));
	if (!cli_confirm(cli, cli_format("Delete organization \"%s\"?", js_text(organization, "name"))))
		return 1;
	cli_send(cli, "DELETE", cli_format("/api/v2/organizations/%s", js_text(organization, "id")), NULL);
	printf("Organization \"%s\" is deleted.\n", js_text(organization, "name"));
	return 0;
}

static int
run_members_list(Cli *cli)
{
	cli_need_login(cli);
	cli_print_list(cli, cli_get(cli, cli_format("/api/v2/organizations/%s/members", js_text(cli_organization(cli), "id"))), member_columns);
	return 0;
}

/* Adds a member, or removes one. */
static int
change_member(Cli *cli, const char *method, const char *done)
{
	json_t *organization;

	cli_need_login(cli);
	organization = cli_organization(cli);
	cli_send(cli, method, cli_format("/api/v2/organizations/%s/members/%s", js_text(organization, "id"), cli_escape(cli_arg(cli, 0))), NULL);
	printf("User \"%s\" %s organization \"%s\".\n", cli_arg(cli, 0), done, js_text(organization, "name"));
	return 0;
}

static int
run_members_add(Cli *cli)
{
	return change_member(cli, "POST", "is a member of");
}

static int
run_members_remove(Cli *cli)
{
	return change_member(cli, "DELETE", "is no longer a member of");
}

#define END_FLAG {NULL, 0, NULL, NULL, NULL}
static const CliFlag list_flags[] = {CLI_OUTPUT_FLAG, END_FLAG};
static const CliFlag show_flags[] = {{"only-id", 0, NULL, NULL, "Print nothing but the id."}, CLI_OUTPUT_FLAG, END_FLAG};

const CliCommand cli_organization_commands[] = {
	{"organizations list", "", "List organizations", list_flags, 0, 0, run_list, NULL},
	{"organizations show", "[selected|me|name|id]", "Show the organization that commands use, your own, or one", show_flags, 0, 1, run_show, NULL},
	{"organizations create", "<name>", "Create an organization", NULL, 1, 1, run_create, NULL},
	{"organizations delete", "<name|id>", "Delete an organization", NULL, 1, 1, run_delete, NULL},
	{"organizations members list", "", "List the members of an organization", list_flags, 0, 0, run_members_list, NULL},
	{"organizations members add", "<user>", "Make a user a member", NULL, 1, 1, run_members_add, NULL},
	{"organizations members remove", "<user>", "Let a user be a member no longer", NULL, 1, 1, run_members_remove, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
