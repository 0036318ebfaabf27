/*
 * manage.c -- favourites, names, updates, logs, the state and the key of workspaces.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STATE ((size_t) 64 * 1024 * 1024)

static int
mark(Cli *cli, const char *method, const char *done)
{
	json_t *workspace;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	cli_send(cli, method, cli_format("/api/v2/workspaces/%s/favorite", js_text(workspace, "id")), NULL);
	printf("Workspace \"%s\" is %s.\n", js_text(workspace, "name"), done);
	return 0;
}

static int
run_favorite(Cli *cli)
{
	return mark(cli, "PUT", "a favourite");
}

static int
run_unfavorite(Cli *cli)
{
	return mark(cli, "DELETE", "no favourite any more");
}

static int
run_rename(Cli *cli)
{
	json_t *workspace;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	cli_send(cli, "PATCH", cli_format("/api/v2/workspaces/%s", js_text(workspace, "id")), json_pack("{s:s}", "name", cli_arg(cli, 1)));
	printf("Workspace \"%s\" is now \"%s\".\n", js_text(workspace, "name"), cli_arg(cli, 1));
	return 0;
}

static int
run_update(Cli *cli)
{
	json_t *workspace, *build;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	if (!js_bool(workspace, "outdated") && strcmp(js_text(workspace, "latest_build.transition"), "start") == 0)
	{
		printf("Workspace \"%s\" has the newest version already.\n", js_text(workspace, "name"));
		return 0;
	}
	/* What runs is stopped first, so that nothing of the old version is left. */
	if (strcmp(js_text(workspace, "latest_build.status"), "running") == 0)
	{
		build = cli_start_build(cli, workspace, "stop", NULL);
		cli_watch_build(cli, js_text(build, "id"));
	}
	build = cli_send(cli, "POST", cli_format("/api/v2/workspaces/%s/builds", js_text(workspace, "id")),
					 json_pack("{s:s, s:s}", "transition", "start", "template_version_id", js_text(workspace, "template_active_version_id")));
	cli_watch_build(cli, js_text(build, "id"));
	printf("Workspace \"%s\" has version %s.\n", js_text(workspace, "name"), js_text(build, "template_version_name"));
	return 0;
}

static void
print_lines(const char *source, const json_t *lines)
{
	const json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		const char *stage = js_text(line, "stage");

		printf("%s [%s] %s%s%s\n", js_text(line, "created_at"), source, stage, stage[0] ? ": " : "", js_text(line, "output"));
	}
}

/* The build of that number, or the latest. */
static json_t *
find_build(Cli *cli, const json_t *workspace)
{
	const char *number = cli_flag(cli, "build-number");

	if (number == NULL)
		number = cli_flag(cli, "build");
	if (number == NULL || strcmp(number, "latest") == 0)
		return js_at(workspace, "latest_build");
	return cli_get(cli, cli_format("/api/v2/users/%s/workspace/%s/builds/%s", cli_escape(js_text(workspace, "owner_name")),
								   cli_escape(js_text(workspace, "name")), cli_escape(number)));
}

static int
run_logs(Cli *cli)
{
	json_t *workspace, *build, *resource, *agent;
	size_t i, k;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	build = find_build(cli, workspace);
	print_lines("build", cli_get(cli, cli_format("/api/v2/workspacebuilds/%s/logs", js_text(build, "id"))));
	json_array_foreach(json_object_get(build, "resources"), i, resource)
	{
		json_array_foreach(json_object_get(resource, "agents"), k, agent)
		{
			print_lines(js_text(agent, "name"), cli_get(cli, cli_format("/api/v2/workspaceagents/%s/logs", js_text(agent, "id"))));
		}
	}
	return 0;
}

static int
run_publickey(Cli *cli)
{
	json_t *key;

	cli_need_login(cli);
	if (cli_switch(cli, "reset"))
	{
		if (!cli_confirm(cli, "Make a new key? Where the old one is known, it must be replaced"))
			return 1;
		key = cli_send(cli, "PUT", "/api/v2/users/me/gitsshkey", NULL);
	}
	else
		key = cli_get(cli, "/api/v2/users/me/gitsshkey");
	printf("%.*s\n", (int) strcspn(js_text(key, "public_key"), "\n"), js_text(key, "public_key"));
	return 0;
}

static int
run_state_pull(Cli *cli)
{
	const char *path = cli_arg(cli, 1);
	FILE *out = stdout;
	CliAnswer answer;
	json_t *build;

	cli_need_login(cli);
	build = find_build(cli, cli_workspace(cli, cli_arg(cli, 0)));
	answer = cli_call(cli, "GET", cli_format("/api/v2/workspacebuilds/%s/state", js_text(build, "id")), NULL);
	if (answer.status < 200 || answer.status > 299)
		cli_fail_answer(&answer);
	if (path != NULL && (out = fopen(path, "we")) == NULL)
		cli_fail("could not write %s: %s", path, strerror(errno));
	if (fwrite(answer.body, 1, answer.size, out) != answer.size || fflush(out) != 0 || (path != NULL && fclose(out) != 0))
		cli_fail("could not write the state: %s", strerror(errno));
	return 0;
}

static int
run_state_push(Cli *cli)
{
	const char *path = cli_arg(cli, 1);
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	unsigned char *text = malloc(MAX_STATE);
	char *encoded;
	json_t *build;
	size_t n;

	cli_need_login(cli);
	if (in == NULL || text == NULL)
		cli_fail("could not read %s: %s", path, strerror(errno));
	n = fread(text, 1, MAX_STATE, in);
	if (ferror(in) || n == MAX_STATE)
		cli_fail("could not read %s: %s", path, ferror(in) ? strerror(errno) : "it is too long");
	build = find_build(cli, cli_workspace(cli, cli_arg(cli, 0)));
	encoded = malloc(sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL));
	if (encoded == NULL)
		abort();
	sodium_bin2base64(encoded, sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL), text, n, sodium_base64_VARIANT_ORIGINAL);
	cli_send(cli, "PUT", cli_format("/api/v2/workspacebuilds/%s/state", js_text(build, "id")), json_pack("{s:s}", "state", encoded));
	return 0;
}

#define END_FLAG {NULL, 0, NULL, NULL, NULL}
static const CliFlag log_flags[] = {{"build-number", 'n', "number", NULL, "Of which build (the latest)."}, END_FLAG};
static const CliFlag key_flags[] = {{"reset", 0, NULL, NULL, "Make a new key."}, END_FLAG};
static const CliFlag state_flags[] = {{"build", 'b', "number", NULL, "Of which build (the latest)."}, END_FLAG};

const CliCommand cli_manage_commands[] = {
	{"favorite", "<workspace>", "Show a workspace first", NULL, 1, 1, run_favorite, NULL},
	{"unfavorite", "<workspace>", "Show a workspace among the others again", NULL, 1, 1, run_unfavorite, NULL},
	{"rename", "<workspace> <name>", "Give a workspace another name", NULL, 2, 2, run_rename, NULL},
	{"update", "<workspace>", "Build a workspace with the newest version of its template", NULL, 1, 1, run_update, NULL},
	{"logs", "<workspace>", "Show the log of a build and of its agents", log_flags, 1, 1, run_logs, NULL},
	{"publickey", "", "Show the key by which your workspaces reach git hosts", key_flags, 0, 0, run_publickey, NULL},
	{"state pull", "<workspace> [file]", "Write the Terraform state of a build", state_flags, 1, 2, run_state_pull, NULL},
	{"state push", "<workspace> <file|->", "Put a Terraform state in the place of a build's", state_flags, 2, 2, run_state_push, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
