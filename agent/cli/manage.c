/*
 * manage.c -- favourites, names, updates, logs, the state and the key of workspaces; notifications.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_STATE ((size_t) 64 * 1024 * 1024)
#define MAX_LOGS 64 /* of a build and its agents */

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

/* The build of that number, or the latest; a negative number counts back from it. */
static json_t *
find_build(Cli *cli, const json_t *workspace)
{
	const char *text = cli_flag(cli, "build-number");
	json_int_t latest = js_int(workspace, "latest_build.build_number");
	long long number;
	char *end;

	if (text == NULL)
		text = cli_flag(cli, "build");
	if (text == NULL || strcmp(text, "latest") == 0)
		return js_at(workspace, "latest_build");
	number = strtoll(text, &end, 10);
	if (*text == '\0' || *end != '\0')
		cli_fail("\"%s\" is no number of a build", text);
	if (number <= 0)
		number += latest;
	if (number == latest)
		return js_at(workspace, "latest_build");
	return cli_get(cli, cli_format("/api/v2/users/%s/workspace/%s/builds/%lld", cli_escape(js_text(workspace, "owner_name")), cli_escape(js_text(workspace, "name")),
								   number));
}

/* A log that is followed: of a build, or of one of its agents. */
typedef struct Log
{
	const char *source;
	char *path;
	json_int_t last; /* the line that was printed last */
} Log;

/* Prints what has come since; false where the server does not answer. */
static bool
print_new_lines(Cli *cli, Log *log)
{
	CliAnswer answer = cli_call(cli, "GET", cli_format("%s?after=%lld", log->path, (long long) log->last), NULL);
	const json_t *line;
	size_t i;

	if (answer.status == 0 || answer.status >= 500)
		return false;
	if (answer.status != 200)
		cli_fail_answer(&answer);
	json_array_foreach(answer.json, i, line)
	{
		const char *stage = js_text(line, "stage");

		printf("%s [%s] %s%s%s\n", js_text(line, "created_at"), log->source, stage, stage[0] ? ": " : "", js_text(line, "output"));
		log->last = js_int(line, "id");
	}
	fflush(stdout);
	json_decref(answer.json);
	free(answer.body);
	return true;
}

/* Whether lines may still come: the build runs, or it is a start that no other build has followed. */
static bool
goes_on(Cli *cli, const json_t *workspace, const json_t *build)
{
	CliAnswer answer = cli_call(cli, "GET", cli_format("/api/v2/workspaces/%s", js_text(workspace, "id")), NULL);
	const char *status = js_text(answer.json, "latest_build.job.status");

	if (answer.status == 0 || answer.status >= 500)
		return true;
	return answer.status == 200 && strcmp(js_text(answer.json, "latest_build.id"), js_text(build, "id")) == 0 &&
		(strcmp(js_text(build, "transition"), "start") == 0 ? strcmp(status, "failed") != 0 && strcmp(status, "canceled") != 0
															: strcmp(status, "pending") == 0 || strcmp(status, "running") == 0);
}

/* The logs of a build: its own, and its agents', which it has once it is done. */
static size_t
logs_of(Cli *cli, const json_t *build, Log *logs, size_t n)
{
	json_t *fresh = cli_get(cli, cli_format("/api/v2/workspacebuilds/%s", js_text(build, "id")));
	json_t *resource, *agent;
	size_t i, k;

	if (n == 0)
		logs[n++] = (Log){"build", cli_format("/api/v2/workspacebuilds/%s/logs", js_text(build, "id")), 0};
	json_array_foreach(json_object_get(fresh, "resources"), i, resource)
	{
		json_array_foreach(json_object_get(resource, "agents"), k, agent)
		{
			if (n < MAX_LOGS)
				logs[n++] = (Log){js_text(agent, "name"), cli_format("/api/v2/workspaceagents/%s/logs", js_text(agent, "id")), 0};
		}
	}
	return n;
}

static int
run_logs(Cli *cli)
{
	static Log logs[MAX_LOGS];
	bool follow = cli_switch(cli, "follow");
	json_t *workspace, *build;
	size_t n;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	build = find_build(cli, workspace);
	n = logs_of(cli, build, logs, 0);
	for (;;)
	{
		/* Asked before the lines, so that those of the end are among them. */
		bool more = follow && goes_on(cli, workspace, build);
		bool answered = true;

		for (size_t i = 0; i < n; i++)
			answered = print_new_lines(cli, &logs[i]) && answered;
		if (!follow && !answered)
			cli_fail("the server does not answer");
		if (!more && answered)
			return 0;
		nanosleep(&(struct timespec){0, 500000000}, NULL);
		if (n == 1 && answered)
			n = logs_of(cli, build, logs, n);
	}
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

static int
run_autoupdate(Cli *cli)
{
	const char *policy = cli_arg(cli, 1);
	json_t *workspace;

	cli_need_login(cli);
	workspace = cli_workspace(cli, cli_arg(cli, 0));
	cli_send(cli, "PUT", cli_format("/api/v2/workspaces/%s/autoupdates", js_text(workspace, "id")), json_pack("{s:s}", "automatic_updates", policy));
	printf("Workspace \"%s\" %s when it starts.\n", js_text(workspace, "name"), strcmp(policy, "always") == 0 ? "takes the newest version of its template" : "keeps its version");
	return 0;
}

/* 304: it was so already. */
static int
set_paused(Cli *cli, bool paused)
{
	CliAnswer answer;

	cli_need_login(cli);
	answer = cli_call(cli, "PUT", "/api/v2/notifications/settings", json_pack("{s:b}", "notifier_paused", paused));
	if (answer.status != 200 && answer.status != 304)
		cli_fail_answer(&answer);
	printf("Notifications are %s.\n", paused ? "paused" : "sent again");
	return 0;
}

static int
run_pause(Cli *cli)
{
	return set_paused(cli, true);
}

static int
run_resume(Cli *cli)
{
	return set_paused(cli, false);
}

static int
run_test_notification(Cli *cli)
{
	cli_need_login(cli);
	cli_send(cli, "POST", "/api/v2/notifications/test", NULL);
	puts("A notification was sent to you.");
	return 0;
}

static int
run_custom_notification(Cli *cli)
{
	cli_need_login(cli);
	cli_send(cli, "POST", "/api/v2/notifications/custom", json_pack("{s:{s:s, s:s}}", "content", "title", cli_arg(cli, 0), "message", cli_arg(cli, 1)));
	puts("A notification was sent to you.");
	return 0;
}

#define END_FLAG {NULL, 0, NULL, NULL, NULL}
static const CliFlag log_flags[] = {
	{"build-number", 'n', "number", NULL, "Of which build (the latest); -1 is the one before it."},
	{"follow", 'f', NULL, NULL, "Go on with the lines that come, until another build follows."},
	END_FLAG,
};
static const CliFlag key_flags[] = {{"reset", 0, NULL, NULL, "Make a new key."}, END_FLAG};
static const CliFlag state_flags[] = {{"build", 'b', "number", NULL, "Of which build (the latest)."}, END_FLAG};

const CliCommand cli_manage_commands[] = {
	{"favorite", "<workspace>", "Show a workspace first", NULL, 1, 1, run_favorite, NULL},
	{"unfavorite", "<workspace>", "Show a workspace among the others again", NULL, 1, 1, run_unfavorite, NULL},
	{"rename", "<workspace> <name>", "Give a workspace another name", NULL, 2, 2, run_rename, NULL},
	{"update", "<workspace>", "Build a workspace with the newest version of its template", NULL, 1, 1, run_update, NULL},
	{"logs", "<workspace>", "Show the log of a build and of its agents", log_flags, 1, 1, run_logs, NULL},
	{"autoupdate", "<workspace> <always|never>", "Say whether a workspace takes new versions of its template by itself", NULL, 2, 2, run_autoupdate, NULL},
	{"notifications pause", "", "Send no notifications to anybody", NULL, 0, 0, run_pause, NULL},
	{"notifications resume", "", "Send notifications again", NULL, 0, 0, run_resume, NULL},
	{"notifications test", "", "Send yourself a notification", NULL, 0, 0, run_test_notification, NULL},
	{"notifications custom", "<title> <message>", "Send yourself words of your own", NULL, 2, 2, run_custom_notification, NULL},
	{"publickey", "", "Show the key by which your workspaces reach git hosts", key_flags, 0, 0, run_publickey, NULL},
	{"state pull", "<workspace> [file]", "Write the Terraform state of a build", state_flags, 1, 2, run_state_pull, NULL},
	{"state push", "<workspace> <file|->", "Put a Terraform state in the place of a build's", state_flags, 2, 2, run_state_push, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
