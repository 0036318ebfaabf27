/*
 * build.c -- following a build or an import, and agents that come up after it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void
sleep_ms(long ms)
{
	struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};

	while (nanosleep(&pause, &pause) != 0)
		;
}

static bool
is_over(const char *status)
{
	return strcmp(status, "succeeded") == 0 || strcmp(status, "failed") == 0 ||
		strcmp(status, "canceled") == 0;
}

/* Prints the log's lines after *last; a new stage gets a heading. */
static void
print_logs(Cli *cli, const char *path, json_int_t *last, char *stage, size_t stage_size)
{
	json_t *logs = cli_get(cli, cli_format("%s?after=%lld", path, (long long) *last));
	json_t *entry;
	size_t i;

	json_array_foreach(logs, i, entry)
	{
		*last = js_int(entry, "id");
		if (strcmp(js_text(entry, "stage"), stage) != 0)
		{
			snprintf(stage, stage_size, "%s", js_text(entry, "stage"));
			cli_note("==> %s", stage);
		}
		if (js_text(entry, "output")[0] != '\0' && strcmp(js_text(entry, "log_level"), "debug") != 0)
			cli_note("    %s", js_text(entry, "output"));
	}
	json_decref(logs);
}

/*
 * Follows the job of the object at path (its member "job") with the log at
 * path/logs until it has ended; returns the final object.
 */
static json_t *
follow(Cli *cli, const char *path)
{
	char *logs = cli_format("%s/logs", path);
	char stage[128] = "";
	json_int_t last = 0;
	long wait = 30;
	bool told = false;

	for (;;)
	{
		json_t *object = cli_get(cli, path);
		bool over = is_over(js_text(object, "job.status"));

		if (!told && strcmp(js_text(object, "job.status"), "pending") == 0 && wait > 500)
		{
			cli_note("Waiting for a provisioner (position %lld in the queue) ...",
					 (long long) js_int(object, "job.queue_position"));
			told = true;
		}
		print_logs(cli, logs, &last, stage, sizeof(stage));
		if (over)
			return object;
		json_decref(object);
		sleep_ms(wait);
		wait = wait * 3 / 2 > 1000 ? 1000 : wait * 3 / 2;
	}
}

void
cli_watch_build(Cli *cli, const char *build_id)
{
	json_t *build = follow(cli, cli_format("/api/v2/workspacebuilds/%s", build_id));

	if (strcmp(js_text(build, "job.status"), "succeeded") != 0)
		cli_fail("the build %s: %s",
				 strcmp(js_text(build, "job.status"), "canceled") == 0 ? "was canceled" : "failed",
				 js_text(build, "job.error"));
}

bool
cli_watch_version(Cli *cli, const char *version_id)
{
	json_t *version = follow(cli, cli_format("/api/v2/templateversions/%s", version_id));

	if (strcmp(js_text(version, "job.status"), "succeeded") == 0)
		return true;
	cli_note("The import failed: %s", js_text(version, "job.error"));
	return false;
}

json_t *
cli_start_build(Cli *cli, const json_t *workspace, const char *transition, const char *reason)
{
	json_t *body = json_pack("{s:s}", "transition", transition);

	if (reason != NULL)
		json_object_set_new(body, "reason", json_string(reason));
	return cli_send(cli,
					"POST",
					cli_format("/api/v2/workspaces/%s/builds", js_text(workspace, "id")),
					body);
}

json_t *
cli_named_agent(const json_t *workspace, const char *whole)
{
	const char *dot = strrchr(whole, '.');
	const char *name = dot != NULL ? dot + 1 : NULL;
	json_t *resource;
	json_t *agent;
	json_t *found = NULL;
	size_t i;
	size_t j;
	int n = 0;

	json_array_foreach(js_at(workspace, "latest_build.resources"), i, resource)
	{
		json_array_foreach(json_object_get(resource, "agents"), j, agent)
		{
			if (name != NULL && strcmp(js_text(agent, "name"), name) != 0)
				continue;
			found = agent;
			n++;
		}
	}
	if (n == 0)
		cli_fail(name ? "workspace \"%s\" has no agent \"%s\"" : "workspace \"%s\" has no agent",
				 js_text(workspace, "name"),
				 name);
	if (n > 1)
		cli_fail("workspace \"%s\" has several agents: name one, as in %s.AGENT",
				 js_text(workspace, "name"),
				 js_text(workspace, "name"));
	return found;
}

static json_t *
wait_agent(Cli *cli, json_t *agent, bool wait_scripts)
{
	char *path = cli_format("/api/v2/workspaceagents/%s", js_text(agent, "id"));
	long wait = 20;
	bool told = false;

	for (;;)
	{
		const char *status = js_text(agent, "status");
		const char *lifecycle = js_text(agent, "lifecycle_state");

		if (strcmp(status, "connected") == 0 &&
			(!wait_scripts || strcmp(js_text(agent, "startup_script_behavior"), "blocking") != 0 ||
			 (strcmp(lifecycle, "created") != 0 && strcmp(lifecycle, "starting") != 0)))
		{
			if (strcmp(lifecycle, "start_error") == 0)
				cli_note("The agent's startup script failed; the workspace may be incomplete.");
			return agent;
		}
		if (strcmp(status, "timeout") == 0 && !told)
		{
			cli_note("The agent takes too long to connect; still waiting ...");
			told = true;
		}
		sleep_ms(wait);
		wait = wait * 3 / 2 > 500 ? 500 : wait * 3 / 2;
		agent = cli_get(cli, path);
	}
}

json_t *
cli_ready_agent(Cli *cli, const char *name, bool start, bool wait_scripts)
{
	json_t *workspace = cli_workspace(cli, name);
	const char *transition = js_text(workspace, "latest_build.transition");
	const char *status = js_text(workspace, "latest_build.job.status");

	if (strcmp(transition, "start") != 0 && is_over(status))
	{
		json_t *build;

		if (!start)
			cli_fail("workspace \"%s\" is stopped; start it with \"coder start %s\"",
					 js_text(workspace, "name"),
					 js_text(workspace, "name"));
		cli_note("Starting workspace \"%s\" ...", js_text(workspace, "name"));
		build = cli_start_build(cli, workspace, "start", "ssh_connection");
		cli_watch_build(cli, js_text(build, "id"));
		workspace = cli_workspace(cli, name);
	}
	else if (!is_over(status))
	{
		cli_watch_build(cli, js_text(workspace, "latest_build.id"));
		workspace = cli_workspace(cli, name);
	}
	else if (strcmp(status, "succeeded") != 0)
		cli_fail("the last build of workspace \"%s\" %s: %s",
				 js_text(workspace, "name"),
				 status,
				 js_text(workspace, "latest_build.job.error"));
	return wait_agent(cli, cli_named_agent(workspace, name), wait_scripts);
}
