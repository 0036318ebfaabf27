/*
 * open.c -- coder open: a workspace in an editor, an app of it in a browser.
 *
 * Within a workspace there is nothing to open with: the address is printed,
 * without a token unless one is asked for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define TOKEN_PLACE "$SESSION_TOKEN" /* in the addresses of a template's apps */

static bool
within_workspace(void)
{
	const char *coder = getenv("CODER");

	return coder != NULL && strcmp(coder, "true") == 0;
}

/* Gives the address to the desktop; false where there is none. */
static bool
open_address(const char *address)
{
	static const char *const openers[] = {"xdg-open", "open"};

	for (size_t i = 0; i < sizeof(openers) / sizeof(openers[0]); i++)
		if (cli_program(NULL, (const char *const[]){openers[i], address, NULL}) == 0)
			return true;
	return false;
}

/* The folder to open: absolute, or below the agent's own; NULL: the editor's choice. */
static char *
folder_of(const json_t *agent, const char *folder)
{
	const char *base = js_text(agent, "expanded_directory");

	if (folder != NULL && folder[0] == '/')
		return cli_format("%s", folder);
	if (folder == NULL || strcmp(folder, ".") == 0)
		return base[0] != '\0' ? cli_format("%s", base) : NULL;
	if (folder[0] == '~')
		cli_fail("%s: an absolute folder is needed, or one below the workspace's own", folder);
	if (base[0] == '\0')
		cli_fail("%s: the agent has no folder of its own, so an absolute one is needed", folder);
	return cli_format("%s/%s", base, folder);
}

static int
run_vscode(Cli *cli)
{
	bool inside = within_workspace();
	bool wanted = cli_switch(cli, "generate-token");
	json_t *workspace;
	json_t *agent;
	char *folder;
	char *address;
	char *key = NULL;

	cli_need_login(cli);
	agent = cli_ready_agent(cli, cli_arg(cli, 0), true, false);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	folder = folder_of(agent, cli_arg(cli, 1));
	address = cli_format("vscode://coder.coder-remote/open?agent=%s%s%s&owner=%s&url=%s&workspace=%s", cli_escape(js_text(agent, "name")), folder ? "&folder=" : "",
						 folder ? cli_escape(folder) : "", cli_escape(js_text(workspace, "owner_name")), cli_escape(cli->url), cli_escape(js_text(workspace, "name")));
	if (!inside || wanted)
		key = cli_format("%s", js_text(cli_send(cli, "POST", "/api/v2/users/me/keys", NULL), "key"));
	if (!inside && open_address(cli_format("%s&token=%s", address, key)))
		return 0;
	/* A key that nobody has asked to see is of no use any more. */
	if (key != NULL && !wanted)
		cli_call(cli, "DELETE", cli_format("/api/v2/users/me/keys/%.*s", (int) strcspn(key, "-"), key), NULL);
	cli_note("Open this address on the machine of the editor:");
	printf("%s%s%s\n", address, wanted ? "&token=" : "", wanted ? key : "");
	return 0;
}

static json_t *
region_of(Cli *cli, const char *name)
{
	json_t *regions = json_object_get(cli_get(cli, "/api/v2/regions"), "regions");
	json_t *region;
	size_t i;

	json_array_foreach(regions, i, region)
	{
		if (strcmp(js_text(region, "name"), name) == 0)
			return region;
	}
	cli_fail("there is no region \"%s\"", name);
}

/* text with the first of a placeholder replaced; text itself where there is none. */
static char *
replaced(const char *text, const char *place, const char *by)
{
	const char *at = strstr(text, place);

	if (at == NULL)
		return cli_format("%s", text);
	return cli_format("%.*s%s%s", (int) (at - text), text, by, at + strlen(place));
}

static char *
address_of(Cli *cli, const json_t *workspace, const json_t *agent, const json_t *app)
{
	const char *region_name = cli_flag(cli, "region");
	json_t *region;
	const char *hosts;
	char *base;

	if (js_bool(app, "external"))
		return replaced(js_text(app, "url"), TOKEN_PLACE, cli->token);
	region = region_of(cli, region_name != NULL ? region_name : "primary");
	hosts = js_text(region, "wildcard_hostname");
	base = cli_tidy_url(js_text(region, "path_app_url"));
	if (hosts[0] != '\0' && js_bool(app, "subdomain") && js_text(app, "subdomain_name")[0] != '\0')
		return cli_format("%.*s://%s/", (int) strcspn(base, ":"), base, replaced(hosts, "*", js_text(app, "subdomain_name")));
	base = cli_format("%s/@%s/%s.%s", base, js_text(workspace, "owner_name"), js_text(workspace, "name"), js_text(agent, "name"));
	if (js_text(app, "command")[0] != '\0')
		return cli_format("%s/terminal?app=%s", base, cli_escape(js_text(app, "slug")));
	return cli_format("%s/apps/%s/", base, cli_escape(js_text(app, "slug")));
}

/* The names of the agent's apps, in order. */
static char *
slugs_of(const json_t *agent)
{
	char *text = cli_format("%s", "");
	json_t *app;
	size_t i;

	json_array_foreach(json_object_get(agent, "apps"), i, app)
	{
		text = cli_format("%s%s%s", text, i > 0 ? ", " : "", js_text(app, "slug"));
	}
	return text[0] != '\0' ? text : cli_format("%s", "none");
}

static int
run_app(Cli *cli)
{
	const char *wanted = cli_arg(cli, 1);
	json_t *workspace;
	json_t *agent;
	json_t *app;
	char *address = NULL;
	size_t i;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	agent = cli_named_agent(workspace, cli_arg(cli, 0));
	if (wanted == NULL)
	{
		printf("Apps of \"%s\": %s\n", js_text(workspace, "name"), slugs_of(agent));
		return 0;
	}
	json_array_foreach(json_object_get(agent, "apps"), i, app)
	{
		if (strcmp(js_text(app, "slug"), wanted) == 0)
			address = address_of(cli, workspace, agent, app);
	}
	if (address == NULL)
		cli_fail("workspace \"%s\" has no app \"%s\"; it has: %s", js_text(workspace, "name"), wanted, slugs_of(agent));
	if (!within_workspace() && open_address(address))
		return 0;
	cli_note("Open this address in a browser:");
	puts(address);
	return 0;
}

static const CliFlag vscode_flags[] = {
	{"generate-token", 0, NULL, "CODER_OPEN_VSCODE_GENERATE_TOKEN", "Put a new session token into an address that is printed."},
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag app_flags[] = {
	{"region", 0, "name", "CODER_OPEN_APP_REGION", "Region whose address is used (default: primary)."},
	{NULL, 0, NULL, NULL, NULL},
};

const CliCommand cli_open_commands[] = {
	{"open vscode", "<workspace> [folder]", "Open a workspace in Visual Studio Code", vscode_flags, 1, 2, run_vscode, NULL},
	{"open app", "<workspace> [app]", "Open an app of a workspace in the browser, or list them", app_flags, 1, 2, run_app, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
