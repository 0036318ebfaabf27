/*
 * support.c -- coder support bundle: what somebody needs who shall help, in a zip file.
 *
 * What cannot be had is noted, and the rest goes on.  Values of environments, what
 * is named like a secret, credentials in addresses and the own session token are taken out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/netcheck.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "version.h"

#define HIDDEN "***REDACTED***"
#define MAX_LOG (4 * 1024 * 1024)
#define WORKSPACES 10

typedef struct Bundle
{
	Cli *cli;
	struct archive *zip;
	char *log; /* what was asked, and what came of it */
	size_t log_len;
	int missing;
} Bundle;

/* Taking secrets out. */

static bool
is_secret_name(const char *name)
{
	static const char *const words[] = {"token", "secret", "password", "passwd", "api_key", "apikey", "private_key", "credential", "pg_connection"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasestr(name, words[i]) != NULL)
			return true;
	return false;
}

/* "scheme://user:password@host" without its user. */
static json_t *
without_user(const char *text)
{
	const char *authority = strstr(text, "://");
	const char *at = authority != NULL ? strchr(authority + 3, '@') : NULL;

	if (at == NULL || strcspn(authority + 3, "/?# \t\n") < (size_t) (at - authority - 3))
		return NULL;
	return json_sprintf("%.*s" HIDDEN "%s", (int) (authority + 3 - text), text, at);
}

static void redact(json_t *value);

static void
redact_member(json_t *object, const char *name, json_t *value, bool all)
{
	json_t *shorter;

	if (json_is_string(value) && json_string_length(value) > 0 && (all || is_secret_name(name)))
		json_object_set_new(object, name, json_string(HIDDEN));
	else if (json_is_string(value) && (shorter = without_user(json_string_value(value))) != NULL)
		json_object_set_new(object, name, shorter);
	else if (json_is_object(value) && (strcmp(name, "environment_variables") == 0 || strcmp(name, "env") == 0))
	{
		const char *variable;
		json_t *text;
		void *next;

		json_object_foreach_safe(value, next, variable, text)
			redact_member(value, variable, text, true);
	}
	else
		redact(value);
}

static void
redact(json_t *value)
{
	const char *name;
	json_t *member;
	void *next;
	size_t i;

	json_array_foreach(value, i, member)
	{
		json_t *shorter = json_is_string(member) ? without_user(json_string_value(member)) : NULL;

		if (shorter != NULL)
			json_array_set_new(value, i, shorter);
		else
			redact(member);
	}
	/* Sensitive facts and parameters hide nothing but their values. */
	if (json_is_object(value) && js_bool(value, "sensitive") && json_is_string(json_object_get(value, "value")))
		json_object_set_new(value, "value", json_string(HIDDEN));
	json_object_foreach_safe(value, next, name, member)
		redact_member(value, name, member, false);
}

/* The session token may stand in anything that was fetched. */
static void
hide(char *text, const char *secret)
{
	if (secret == NULL || strlen(secret) < 8)
		return;
	for (char *p = text; (p = strstr(p, secret)) != NULL;)
		memset(p, '*', strlen(secret));
}

/* The file. */

static void
note(Bundle *bundle, const char *format, ...)
{
	va_list args;
	char line[2048], stamp[32];
	time_t now = time(NULL);
	size_t len;
	struct tm tm;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", gmtime_r(&now, &tm));
	len = strlen(line) + strlen(stamp) + 3;
	if (bundle->log_len + len > MAX_LOG || (bundle->log = realloc(bundle->log, bundle->log_len + len)) == NULL)
		return;
	bundle->log_len += (size_t) sprintf(bundle->log + bundle->log_len, "%s %s\n", stamp, line);
}

static void
add(Bundle *bundle, const char *name, const void *data, size_t len)
{
	struct archive_entry *entry = archive_entry_new();

	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_mtime(entry, time(NULL), 0);
	archive_entry_set_size(entry, (la_int64_t) len);
	if (archive_write_header(bundle->zip, entry) != ARCHIVE_OK || (len > 0 && archive_write_data(bundle->zip, data, len) < 0))
		cli_fail("could not write %s: %s", name, archive_error_string(bundle->zip));
	archive_entry_free(entry);
}

static void
add_text(Bundle *bundle, const char *name, const char *text)
{
	char *copy = cli_format("%s", text);

	hide(copy, bundle->cli->token);
	add(bundle, name, copy, strlen(copy));
	free(copy);
}

/* value may be NULL: then it is null, as everywhere something is missing. */
static void
add_json(Bundle *bundle, const char *name, json_t *value)
{
	char *text;

	redact(value);
	text = value != NULL ? json_dumps(value, JSON_INDENT(4) | JSON_ENCODE_ANY) : NULL;
	add_text(bundle, name, text != NULL ? text : "null");
	free(text);
}

/* Asking. */

static CliAnswer
ask(Bundle *bundle, const char *path)
{
	CliAnswer answer = cli_call(bundle->cli, "GET", path, NULL);

	note(bundle, "GET %s: %d %s", path, answer.status, answer.status == 0 ? answer.problem : answer.status > 299 ? js_text(answer.json, "message") : "");
	if (answer.status < 200 || answer.status > 299)
	{
		bundle->missing++;
		answer.json = NULL;
		answer.body = NULL;
		answer.size = 0;
	}
	return answer;
}

/* Asks for path and stores the answer; the answer, NULL where there is none. */
static json_t *
fetch(Bundle *bundle, const char *name, const char *path)
{
	json_t *json = ask(bundle, path).json;

	add_json(bundle, name, json);
	return json;
}

static void
fetch_text(Bundle *bundle, const char *name, const char *path)
{
	CliAnswer answer = ask(bundle, path);

	add_text(bundle, name, answer.body != NULL ? answer.body : "");
}

/* Lines of a log: time, level, stage or source, text. */
static void
fetch_log(Bundle *bundle, const char *name, const char *path)
{
	json_t *lines = ask(bundle, path).json, *line;
	char *text = NULL;
	size_t len = 0, i;
	FILE *out = open_memstream(&text, &len);

	json_array_foreach(lines, i, line)
	{
		fprintf(out, "%s [%s] %s%s%s\n", js_text(line, "created_at"), js_text(line, js_at(line, "log_level") ? "log_level" : "level"), js_text(line, "stage"),
				js_text(line, "stage")[0] ? ": " : "", js_text(line, "output"));
	}
	fclose(out);
	add_text(bundle, name, text);
	free(text);
}

static void
add_deployment(Bundle *bundle)
{
	cli_note("Asking for the deployment ...");
	fetch(bundle, "deployment/buildinfo.json", "/api/v2/buildinfo");
	fetch(bundle, "deployment/config.json", "/api/v2/deployment/config");
	fetch(bundle, "deployment/experiments.json", "/api/v2/experiments");
	fetch(bundle, "deployment/health.json", "/api/v2/debug/health");
	fetch(bundle, "deployment/health_settings.json", "/api/v2/debug/health/settings");
	fetch(bundle, "deployment/stats.json", "/api/v2/deployment/stats");
	fetch(bundle, "deployment/entitlements.json", "/api/v2/entitlements");
	fetch(bundle, "deployment/workspaces.json", cli_format("/api/v2/workspaces?limit=%d", WORKSPACES));
	fetch_text(bundle, "deployment/prometheus.txt", "/api/v2/debug/metrics");
	add_text(bundle, "license-status.txt", json_array_size(ask(bundle, "/api/v2/licenses").json) > 0 ? "There are licences.\n" : "No licenses found\n");
}

static void
add_network(Bundle *bundle, const char *agent)
{
	json_t *connection;

	cli_note("Trying the network ...");
	connection = fetch(bundle, "network/connection_info.json", agent ? cli_format("/api/v2/workspaceagents/%s/connection", agent) : "/api/v2/workspaceagents/connection");
	add_json(bundle, "network/netcheck.json", connection != NULL ? cli_netcheck(json_object_get(connection, "derp_map")) : NULL);
	add_json(bundle, "network/interfaces.json", cli_interfaces());
	fetch_text(bundle, "network/coordinator_debug.html", "/api/v2/debug/coordinator");
	fetch_text(bundle, "network/tailnet_debug.html", "/api/v2/debug/tailnet");
}

static void
add_template_file(Bundle *bundle, const json_t *version)
{
	CliAnswer answer = {0};

	if (js_text(version, "job.file_id")[0] != '\0')
		answer = ask(bundle, cli_format("/api/v2/files/%s?format=zip", js_text(version, "job.file_id")));
	add(bundle, "workspace/template_file.zip", answer.body, answer.body != NULL ? answer.size : 0);
}

static void
add_workspace(Bundle *bundle, json_t *workspace)
{
	const char *build = js_text(workspace, "latest_build.id");
	json_t *version;

	cli_note("Asking for the workspace ...");
	fetch_log(bundle, "workspace/build_logs.txt", cli_format("/api/v2/workspacebuilds/%s/logs", build));
	fetch(bundle, "workspace/parameters.json", cli_format("/api/v2/workspacebuilds/%s/parameters", build));
	fetch(bundle, "workspace/template.json", cli_format("/api/v2/templates/%s", js_text(workspace, "template_id")));
	version = fetch(bundle, "workspace/template_version.json", cli_format("/api/v2/templateversions/%s", js_text(workspace, "latest_build.template_version_id")));
	add_template_file(bundle, version);
	add_json(bundle, "workspace/workspace.json", workspace);
}

/* The agent that was named, or the first. */
static json_t *
choose_agent(const json_t *workspace, const char *name)
{
	json_t *resource, *agent;
	size_t i, k;

	json_array_foreach(js_at(workspace, "latest_build.resources"), i, resource)
	{
		json_array_foreach(json_object_get(resource, "agents"), k, agent)
		{
			if (name == NULL || strcmp(js_text(agent, "name"), name) == 0)
				return agent;
		}
	}
	if (name != NULL)
		cli_fail("the workspace has no agent \"%s\"", name);
	return NULL;
}

static void
add_agent(Bundle *bundle, const char *id)
{
	cli_note("Asking for the agent ...");
	fetch(bundle, "agent/agent.json", cli_format("/api/v2/workspaceagents/%s", id));
	fetch(bundle, "agent/listening_ports.json", cli_format("/api/v2/workspaceagents/%s/listening-ports", id));
	fetch_log(bundle, "agent/startup_logs.txt", cli_format("/api/v2/workspaceagents/%s/logs", id));
}

/* What only the reference's agents tell by themselves; the names are there, as readers look for them. */
static void
add_absent(Bundle *bundle, bool workspace, bool agent)
{
	static const char *const of_workspace[] = {"workspace/template.json", "workspace/template_version.json", "workspace/parameters.json", "workspace/workspace.json"};

	for (size_t i = 0; !workspace && i < sizeof(of_workspace) / sizeof(of_workspace[0]); i++)
		add_json(bundle, of_workspace[i], NULL);
	if (!workspace)
	{
		add_text(bundle, "workspace/build_logs.txt", "");
		add(bundle, "workspace/template_file.zip", NULL, 0);
	}
	if (!agent)
	{
		add_json(bundle, "agent/agent.json", NULL);
		add_json(bundle, "agent/listening_ports.json", NULL);
		add_text(bundle, "agent/startup_logs.txt", "");
	}
	add_json(bundle, "agent/manifest.json", NULL);
	add_json(bundle, "agent/peer_diagnostics.json", NULL);
	add_json(bundle, "agent/ping_result.json", NULL);
	add_text(bundle, "agent/agent_magicsock.html", "");
	add_text(bundle, "agent/client_magicsock.html", "");
	add_text(bundle, "agent/logs.txt", "");
	add_text(bundle, "agent/prometheus.txt", "");
}

static void
open_zip(Bundle *bundle, const char *path)
{
	bundle->zip = archive_write_new();
	umask(0077);
	if (bundle->zip == NULL || archive_write_set_format_zip(bundle->zip) != ARCHIVE_OK || archive_write_open_filename(bundle->zip, path) != ARCHIVE_OK)
		cli_fail("could not write %s: %s", path, bundle->zip != NULL ? archive_error_string(bundle->zip) : "out of memory");
}

static int
run_bundle(Cli *cli)
{
	Bundle bundle = {.cli = cli};
	const char *path = cli_flag(cli, "output-file");
	json_t *workspace = NULL, *agent = NULL;
	char *partial;

	cli_need_login(cli);
	if (path == NULL)
		path = cli_format("coder-support-%lld.zip", (long long) time(NULL));
	if (cli_arg(cli, 0) != NULL)
	{
		workspace = cli_workspace(cli, cli_arg(cli, 0));
		agent = choose_agent(workspace, cli_arg(cli, 1));
	}
	else
		cli_note("Without a workspace there is nothing of one in the bundle.");
	cli_note("The bundle holds the deployment's settings, health and, where one is named, a workspace with its template and logs.\n"
			 "Values of environments and secrets are taken out; logs may hold others: look into it before you send it.");
	if (!cli_confirm(cli, "Collect it?"))
		return 1;
	partial = cli_format("%s.partial", path);
	open_zip(&bundle, partial);
	note(&bundle, "coder %s, %s", CODER_VERSION, cli->url);
	add_deployment(&bundle);
	add_network(&bundle, agent != NULL ? js_text(agent, "id") : NULL);
	if (workspace != NULL)
		add_workspace(&bundle, workspace);
	if (agent != NULL)
		add_agent(&bundle, js_text(agent, "id"));
	add_absent(&bundle, workspace != NULL, agent != NULL);
	add_text(&bundle, "cli_logs.txt", bundle.log != NULL ? bundle.log : "");
	add_text(&bundle, "logs.txt", bundle.log != NULL ? bundle.log : "");
	if (archive_write_close(bundle.zip) != ARCHIVE_OK || rename(partial, path) != 0)
	{
		unlink(partial);
		cli_fail("could not write %s: %s", path, strerror(errno));
	}
	if (bundle.missing > 0)
		cli_note("%d answers could not be had; cli_logs.txt says which.", bundle.missing);
	cli_note("Wrote support bundle to %s", path);
	return 0;
}

static const CliFlag bundle_flags[] = {
	{"output-file", 'O', "path", "CODER_SUPPORT_BUNDLE_OUTPUT_FILE", "Where to write (coder-support-TIME.zip)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const bundle_examples[] = {"coder support bundle", "coder support bundle dev main -O bundle.zip", NULL};

const CliCommand cli_support_commands[] = {
	{"support bundle", "[[owner/]workspace [agent]]", "Collect what somebody needs who shall help", bundle_flags, 0, 2, run_bundle, bundle_examples},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
