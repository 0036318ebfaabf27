/*
 * workspace.c -- list, show, create, start, stop, restart, delete.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PARAMETERS 100

json_t *
cli_organization(Cli *cli)
{
	const char *wanted = cli_flag(cli, "org");
	json_t *mine = cli_get(cli, "/api/v2/users/me/organizations");
	json_t *organization;
	json_t *first = NULL;
	size_t i;

	json_array_foreach(mine, i, organization)
	{
		if (wanted != NULL && (strcasecmp(js_text(organization, "name"), wanted) == 0 ||
							   strcasecmp(js_text(organization, "id"), wanted) == 0))
			return organization;
		if (first == NULL || js_bool(organization, "is_default"))
			first = organization;
	}
	if (wanted != NULL)
		return cli_get(cli, cli_format("/api/v2/organizations/%s", cli_escape(wanted)));
	if (json_array_size(mine) != 1)
		cli_fail("you are in several organizations (or none): choose one with --org");
	return first;
}

static bool
is_uuid(const char *text)
{
	return strlen(text) == 36 && strspn(text, "0123456789abcdefABCDEF-") == 36 && text[8] == '-';
}

json_t *
cli_workspace(Cli *cli, const char *name)
{
	const char *slash = strchr(name, '/');
	char *owner = slash ? cli_format("%.*s", (int) (slash - name), name) : cli_format("me");
	char *bare = cli_format("%s", slash ? slash + 1 : name);

	if (is_uuid(name))
		return cli_get(cli, cli_format("/api/v2/workspaces/%s", name));
	bare[strcspn(bare, ".")] = '\0';
	return cli_get(cli,
				   cli_format("/api/v2/users/%s/workspace/%s", cli_escape(owner), cli_escape(bare)));
}

const char *
cli_workspace_name(const json_t *w)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s/%s", js_text(w, "owner_name"), js_text(w, "name"));
	return text;
}

static const char *
cell_healthy(const json_t *w)
{
	if (strcmp(js_text(w, "latest_build.transition"), "start") != 0)
		return "";
	return js_bool(w, "health.healthy") ? "yes" : "no";
}

static const char *
cell_outdated(const json_t *w)
{
	return js_bool(w, "outdated") ? "yes" : "no";
}

static const CliColumn workspace_columns[] = {
	{"WORKSPACE", .cell = cli_workspace_name},
	{"TEMPLATE", .text = "template_name"},
	{"STATUS", .text = "latest_build.status"},
	{"HEALTHY", .cell = cell_healthy},
	{"LAST BUILT", .time = "latest_build.created_at"},
	{"OUTDATED", .cell = cell_outdated},
	{.title = NULL},
};

static int
run_list(Cli *cli)
{
	const char *q = cli_flag(cli, "search");
	json_t *answer;

	cli_need_login(cli);
	if (q == NULL)
		q = cli_switch(cli, "all") ? "" : "owner:me";
	answer = cli_get(cli, cli_format("/api/v2/workspaces?q=%s", cli_escape(q)));
	if (json_array_size(json_object_get(answer, "workspaces")) == 0 && cli_flag(cli, "output") == NULL)
	{
		cli_note("No workspaces. Create one with \"coder create NAME --template TEMPLATE\".");
		return 0;
	}
	cli_print_list(cli, json_object_get(answer, "workspaces"), workspace_columns);
	return 0;
}

static void
show_agents(const json_t *workspace)
{
	json_t *resource;
	json_t *agent;
	size_t i;
	size_t j;

	json_array_foreach(js_at(workspace, "latest_build.resources"), i, resource)
	{
		printf("%s.%s\n", js_text(resource, "type"), js_text(resource, "name"));
		json_array_foreach(json_object_get(resource, "agents"), j, agent)
		{
			printf("  agent %s (%s/%s): %s, %s%s%s\n",
				   js_text(agent, "name"),
				   js_text(agent, "operating_system"),
				   js_text(agent, "architecture"),
				   js_text(agent, "status"),
				   js_text(agent, "lifecycle_state"),
				   js_text(agent, "version")[0] ? ", " : "",
				   js_text(agent, "version"));
		}
	}
}

static int
run_show(Cli *cli)
{
	json_t *workspace;
	const char *format = cli_flag(cli, "output");

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	if (format != NULL && strcmp(format, "json") == 0)
	{
		json_dumpf(workspace, stdout, JSON_INDENT(2));
		putchar('\n');
		return 0;
	}
	printf("%s/%s: %s (template %s, build %lld)\n",
		   js_text(workspace, "owner_name"),
		   js_text(workspace, "name"),
		   js_text(workspace, "latest_build.status"),
		   js_text(workspace, "template_name"),
		   (long long) js_int(workspace, "latest_build.build_number"));
	show_agents(workspace);
	return 0;
}

/* The value that --parameter NAME=VALUE gives, or NULL. */
static const char *
given_parameter(Cli *cli, const char *name)
{
	const char *values[MAX_PARAMETERS];
	int n = cli_flag_all(cli, "parameter", values, MAX_PARAMETERS);
	size_t len = strlen(name);

	for (int i = n - 1; i >= 0; i--)
		if (strncmp(values[i], name, len) == 0 && values[i][len] == '=')
			return values[i] + len + 1;
	return NULL;
}

/* Every --parameter must name one that the template has. */
static void
check_given_parameters(Cli *cli, const json_t *parameters)
{
	const char *values[MAX_PARAMETERS];
	int n = cli_flag_all(cli, "parameter", values, MAX_PARAMETERS);

	for (int v = 0; v < n; v++)
	{
		size_t len = strcspn(values[v], "=");
		bool known = false;
		json_t *p;
		size_t i;

		if (values[v][len] != '=')
			cli_fail("--parameter %s: NAME=VALUE expected", values[v]);
		json_array_foreach(parameters, i, p)
		{
			const char *name = js_text(p, "name");

			known = known || (strlen(name) == len && strncmp(name, values[v], len) == 0);
		}
		if (!known)
			cli_fail("the template has no parameter \"%.*s\"", (int) len, values[v]);
	}
}

static const char *
ask_parameter(const json_t *p)
{
	const char *label = js_text(p, "display_name");
	json_t *option;
	size_t i;

	if (label[0] == '\0')
		label = js_text(p, "name");
	if (js_text(p, "description_plaintext")[0] != '\0')
		cli_note("%s", js_text(p, "description_plaintext"));
	json_array_foreach(json_object_get(p, "options"), i, option)
	{
		cli_note("  %s  %s", js_text(option, "value"), js_text(option, "name"));
	}
	return cli_ask(label, js_text(p, "default_value"), false);
}

static json_t *
collect_parameters(Cli *cli, const char *version_id)
{
	json_t *parameters =
		cli_get(cli, cli_format("/api/v2/templateversions/%s/rich-parameters", version_id));
	json_t *values = json_array();
	json_t *p;
	size_t i;

	check_given_parameters(cli, parameters);
	json_array_foreach(parameters, i, p)
	{
		const char *value = given_parameter(cli, js_text(p, "name"));
		bool ask = isatty(STDIN_FILENO) && !cli_switch(cli, "yes") &&
			!cli_switch(cli, "use-parameter-defaults");

		if (value == NULL && js_bool(p, "ephemeral"))
			continue;
		if (value == NULL && ask)
			value = ask_parameter(p);
		if (value == NULL && js_bool(p, "required"))
			cli_fail("parameter \"%s\" is required: give it with --parameter %s=VALUE",
					 js_text(p, "name"),
					 js_text(p, "name"));
		if (value == NULL)
			value = js_text(p, "default_value");
		json_array_append_new(values,
							  json_pack("{s:s, s:s}", "name", js_text(p, "name"), "value", value));
	}
	return values;
}

static json_t *
find_template(Cli *cli)
{
	const char *wanted = cli_flag(cli, "template");
	json_t *templates = cli_get(cli, "/api/v2/templates");
	json_t *template;
	size_t i;

	if (wanted == NULL && json_array_size(templates) == 1)
		return json_array_get(templates, 0);
	if (wanted == NULL && isatty(STDIN_FILENO))
	{
		json_array_foreach(templates, i, template)
		{
			cli_note("  %-24s %s", js_text(template, "name"), js_text(template, "description"));
		}
		wanted = cli_ask("Template", NULL, false);
	}
	if (wanted == NULL)
		cli_fail("choose a template with --template");
	json_array_foreach(templates, i, template)
	{
		if (strcasecmp(js_text(template, "name"), wanted) == 0)
			return template;
	}
	cli_fail("there is no template \"%s\"", wanted);
}

static int
run_create(Cli *cli)
{
	const char *name;
	const char *owner = "me";
	const char *slash;
	json_t *template;
	json_t *body;
	json_t *workspace;

	cli_need_login(cli);
	name = cli_arg(cli, 0) != NULL ? cli_arg(cli, 0) : cli_ask("Name of the workspace", NULL, false);
	slash = strchr(name, '/');
	if (slash != NULL)
	{
		owner = cli_format("%.*s", (int) (slash - name), name);
		name = slash + 1;
	}
	template = find_template(cli);
	body = json_pack("{s:s, s:s, s:o}",
					 "name",
					 name,
					 "template_id",
					 js_text(template, "id"),
					 "rich_parameter_values",
					 collect_parameters(cli, js_text(template, "active_version_id")));
	if (!cli_confirm(cli, cli_format("Create workspace \"%s\" from %s?", name, js_text(template, "name"))))
		return 1;
	workspace =
		cli_send(cli, "POST", cli_format("/api/v2/users/%s/workspaces", cli_escape(owner)), body);
	cli_watch_build(cli, js_text(workspace, "latest_build.id"));
	printf("Workspace \"%s\" is created. Enter it with \"coder ssh %s\".\n", name, name);
	return 0;
}

static void
build_and_watch(Cli *cli, const char *transition)
{
	json_t *workspace = cli_workspace(cli, cli_arg(cli, 0));
	const char *status = js_text(workspace, "latest_build.job.status");
	json_t *build;

	if (strcmp(js_text(workspace, "latest_build.transition"), transition) == 0 &&
		(strcmp(status, "pending") == 0 || strcmp(status, "running") == 0))
	{
		cli_watch_build(cli, js_text(workspace, "latest_build.id"));
		return;
	}
	build = cli_start_build(cli, workspace, transition, "cli");
	cli_watch_build(cli, js_text(build, "id"));
}

static int
run_start(Cli *cli)
{
	json_t *workspace;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	if (strcmp(js_text(workspace, "latest_build.status"), "running") == 0)
	{
		printf("Workspace \"%s\" is running already.\n", js_text(workspace, "name"));
		return 0;
	}
	build_and_watch(cli, "start");
	printf("Workspace \"%s\" is running.\n", js_text(workspace, "name"));
	return 0;
}

static int
run_stop(Cli *cli)
{
	cli_need_login(cli);
	if (!cli_confirm(cli, cli_format("Stop workspace \"%s\"?", cli_arg(cli, 0))))
		return 1;
	build_and_watch(cli, "stop");
	printf("Workspace \"%s\" is stopped.\n", cli_arg(cli, 0));
	return 0;
}

static int
run_restart(Cli *cli)
{
	cli_need_login(cli);
	if (!cli_confirm(cli, cli_format("Restart workspace \"%s\"?", cli_arg(cli, 0))))
		return 1;
	build_and_watch(cli, "stop");
	build_and_watch(cli, "start");
	printf("Workspace \"%s\" is running.\n", cli_arg(cli, 0));
	return 0;
}

static int
run_delete(Cli *cli)
{
	cli_need_login(cli);
	if (!cli_confirm(cli, cli_format("Delete workspace \"%s\" and all that is in it?", cli_arg(cli, 0))))
		return 1;
	build_and_watch(cli, "delete");
	printf("Workspace \"%s\" is deleted.\n", cli_arg(cli, 0));
	return 0;
}

static const CliFlag list_flags[] = {
	{"all", 'a', NULL, NULL, "Of every owner, not only yours."},
	{"search", 0, "query", NULL, "A search, such as \"owner:me status:running\"."},
	CLI_OUTPUT_FLAG,
	{NULL, 0, NULL, NULL, NULL},
};
static const CliFlag show_flags[] = {CLI_OUTPUT_FLAG, {NULL, 0, NULL, NULL, NULL}};
static const CliFlag create_flags[] = {
	{"template", 't', "name", "CODER_TEMPLATE_NAME", "Template of the workspace."},
	{"parameter", 0, "name=value", NULL, "Value of a parameter; may be repeated."},
	{"use-parameter-defaults", 0, NULL, NULL, "Take the defaults instead of asking."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const create_examples[] = {"coder create dev --template sandbox",
											  "coder create dev -t docker --parameter cpus=4 --yes",
											  NULL};

const CliCommand cli_workspace_commands[] = {
	{"list", "", "List workspaces", list_flags, 0, 0, run_list, NULL},
	{"show", "<workspace>", "Show a workspace and its agents", show_flags, 1, 1, run_show, NULL},
	{"create", "[name]", "Create a workspace", create_flags, 0, 1, run_create, create_examples},
	{"start", "<workspace>", "Start a workspace", NULL, 1, 1, run_start, NULL},
	{"stop", "<workspace>", "Stop a workspace", NULL, 1, 1, run_stop, NULL},
	{"restart", "<workspace>", "Stop and start a workspace", NULL, 1, 1, run_restart, NULL},
	{"delete", "<workspace>", "Delete a workspace", NULL, 1, 1, run_delete, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
