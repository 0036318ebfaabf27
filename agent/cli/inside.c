/*
 * inside.c -- commands for use within a workspace, with the token of its agent: passwords and keys for git, tokens of other
 * services, what chats are told.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/askpass.h"
#include "cli/cli.h"
#include "cli/inside.h"
#include "serve/context.h"

#define EXTERNAL_AUTH "/api/v2/workspaceagents/me/external-auth"
#define CHAT_CONTEXT "/api/v2/workspaceagents/me/experimental/chat-context"
#define MAX_LISTENS 30 /* of a minute each */

extern char **environ;

/* Calls are the agent's. */
static void
be_agent(Cli *cli)
{
	const char *url = getenv("CODER_AGENT_URL");
	const char *token = getenv("CODER_AGENT_TOKEN");
	const char *file = getenv("CODER_AGENT_TOKEN_FILE");
	static char line[256];
	FILE *in;

	if ((token == NULL || *token == '\0') && file != NULL && (in = fopen(file, "re")) != NULL)
	{
		if (fgets(line, sizeof(line), in) != NULL)
		{
			line[strcspn(line, "\r\n")] = '\0';
			token = line;
		}
		fclose(in);
	}
	if (url == NULL || token == NULL || *token == '\0')
		cli_fail("this is for use within a workspace: CODER_AGENT_URL and CODER_AGENT_TOKEN are not set");
	cli->url = cli_tidy_url(url);
	cli->token = cli_format("%s", token);
}

/* What a program says in one line; "" where it fails. */
static char *
one_line(const char *command)
{
	FILE *out = popen(command, "re");
	char line[2048] = "";

	if (out != NULL)
	{
		if (fgets(line, sizeof(line), out) == NULL)
			line[0] = '\0';
		if (pclose(out) != 0)
			line[0] = '\0';
	}
	line[strcspn(line, "\r\n")] = '\0';
	return cli_format("%s", line);
}

static const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value != NULL ? value : "";
}

/* Tokens ------------------------------------------------------------------------ */

/* Where to link an account is said, and then waited for. */
static json_t *
wait_for_link(Cli *cli, const char *path, const char *url)
{
	cli_note("Open this address to sign in; git goes on then:\n\n\t%s\n", url);
	for (int i = 0; i < MAX_LISTENS; i++)
	{
		CliAnswer answer = cli_call(cli, "GET", cli_format("%s&listen=true", path), NULL);

		if (answer.status == 200 && js_text(answer.json, "access_token")[0] != '\0')
			return answer.json;
		if (answer.status != 200 && answer.status != 408)
			cli_fail_answer(&answer);
	}
	cli_fail("nobody has signed in");
}

int
inside_askpass(const char *prompt)
{
	Cli cli = {0};
	AskpassQuestion question;
	CliAnswer answer;
	json_t *token;
	char *path;
	const char *password;

	if (!askpass_parse(prompt, &question))
		cli_fail("\"%s\" is no question that can be answered", prompt);
	be_agent(&cli);
	path = cli_format("%s?match=%s&git_branch=%s&git_remote_origin=%s&chat_id=%s", EXTERNAL_AUTH, cli_escape(question.url),
					  cli_escape(one_line("git rev-parse --abbrev-ref HEAD 2>/dev/null")),
					  cli_escape(one_line("git config --get remote.origin.url 2>/dev/null")), cli_escape(environment("CODER_CHAT_ID")));
	answer = cli_call(&cli, "GET", path, NULL);
	if (answer.status != 200)
		cli_fail_answer(&answer);
	token = answer.json;
	if (js_text(token, "url")[0] != '\0')
	{
		if (strcmp(environment("CODER_CHAT_AGENT"), "true") == 0)
			cli_fail("the owner of this workspace must sign in at %s first", js_text(token, "url"));
		token = wait_for_link(&cli, path, js_text(token, "url"));
	}
	password = js_text(token, "password");
	puts(question.password && *password != '\0' ? password : js_text(token, "username"));
	return 0;
}

/* "a.b" of an object. */
static const json_t *
inner(const json_t *value, const char *path)
{
	char *copy = cli_format("%s", path);
	char *rest;

	for (const char *name = strtok_r(copy, ".", &rest); name != NULL && value != NULL; name = strtok_r(NULL, ".", &rest))
		value = json_object_get(value, name);
	return value;
}

static int
run_access_token(Cli *cli)
{
	const char *extra = cli_flag(cli, "extra");
	CliAnswer answer;
	const json_t *value;

	be_agent(cli);
	answer = cli_call(cli, "GET", cli_format("%s?id=%s", EXTERNAL_AUTH, cli_escape(cli_arg(cli, 0))), NULL);
	if (answer.status != 200)
		cli_fail_answer(&answer);
	if (js_text(answer.json, "url")[0] != '\0')
	{
		puts(js_text(answer.json, "url"));
		return 1;
	}
	value = extra != NULL ? inner(json_object_get(answer.json, "token_extra"), extra) : json_object_get(answer.json, "access_token");
	if (value == NULL)
		cli_fail("there is no \"%s\" beside the token", extra != NULL ? extra : "");
	puts(json_is_string(value) ? json_string_value(value) : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY));
	return 0;
}

/* SSH keys ---------------------------------------------------------------------- */

static char key_file[PATH_MAX];

static void
remove_key(void)
{
	if (key_file[0] != '\0')
		unlink(key_file);
}

static void
on_signal(int number)
{
	remove_key();
	_exit(128 + number);
}

static void
write_key(const char *key)
{
	const char *folder = getenv("TMPDIR");
	int fd;
	size_t len = strlen(key);

	if (snprintf(key_file, sizeof(key_file), "%s/coder-gitsshkey-XXXXXX", folder != NULL && *folder != '\0' ? folder : "/tmp") >= (int) sizeof(key_file))
		cli_fail("the name of the folder for temporary files is too long");
	fd = mkstemp(key_file);
	if (fd < 0)
	{
		key_file[0] = '\0';
		cli_fail("no file for the key: %s", strerror(errno));
	}
	atexit(remove_key);
	signal(SIGTERM, on_signal);
	signal(SIGHUP, on_signal);
	if (write(fd, key, len) != (ssize_t) len || close(fd) != 0)
		cli_fail("the key cannot be written: %s", strerror(errno));
}

/* Keys that ssh would try by itself, but for our naming another. */
static int
add_usual_keys(const char **argv, int n)
{
	static const char *const names[] = {"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"};
	const char *home = environment("HOME");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		char *path = cli_format("%s/.ssh/%s", home, names[i]);

		if (access(path, R_OK) != 0)
			continue;
		argv[n++] = "-i";
		argv[n++] = path;
	}
	return n;
}

static int
run_gitssh(Cli *cli)
{
	const char **argv;
	json_t *key;
	int n = 0;
	int rest = 0;
	int status;

	while (cli->rest != NULL && cli->rest[rest] != NULL)
		rest++;
	if (rest == 0)
		cli_fail("what ssh is to do stands behind \"--\"");
	be_agent(cli);
	key = cli_get(cli, "/api/v2/workspaceagents/me/gitsshkey");
	write_key(js_text(key, "private_key"));
	argv = calloc((size_t) rest + 32, sizeof(*argv));
	if (argv == NULL)
		abort();
	argv[n++] = "ssh";
	n = add_usual_keys(argv, n);
	argv[n++] = "-i";
	argv[n++] = key_file;
	for (int i = 0; i < rest; i++)
		argv[n++] = cli->rest[i];
	status = cli_program(NULL, argv);
	if (status < 0)
		cli_fail("ssh: %s", strerror(-status));
	if (status == 255)
		cli_note("\nIf the server has refused the key: this is the public one, to be added to your account there.\n\n%s", js_text(key, "public_key"));
	return status;
}

/* Chats ------------------------------------------------------------------------- */

/* The chat that is meant: the one named, else the one whose command this is; none: the only one. */
static json_t *
context_body(const Cli *cli)
{
	const char *chat = cli_flag(cli, "chat");
	json_t *body = json_object();

	if (chat != NULL && *chat != '\0')
		json_object_set_new(body, "chat_id", json_string(chat));
	return body;
}

static int
run_context_add(Cli *cli)
{
	const char *named = cli_flag(cli, "dir");
	char *folder = realpath(named != NULL && *named != '\0' ? named : ".", NULL);
	json_t *body = context_body(cli);
	json_t *parts;
	json_t *answer;

	if (folder == NULL)
		cli_fail("%s: %s", named != NULL ? named : ".", strerror(errno));
	parts = context_parts_of(folder);
	if (json_array_size(parts) == 0)
		cli_fail("%s has neither an AGENTS.md nor skills", folder);
	be_agent(cli);
	json_object_set_new(body, "parts", parts);
	answer = cli_send(cli, "POST", CHAT_CONTEXT, body);
	printf("Added %lld files and skills to chat %s.\n", (long long) json_integer_value(json_object_get(answer, "count")), js_text(answer, "chat_id"));
	return 0;
}

static int
run_context_clear(Cli *cli)
{
	json_t *answer;

	be_agent(cli);
	answer = cli_send(cli, "DELETE", CHAT_CONTEXT, context_body(cli));
	if (json_integer_value(json_object_get(answer, "count")) == 0)
		puts("There was nothing to clear.");
	else
		printf("Cleared what chat %s was told.\n", js_text(answer, "chat_id"));
	return 0;
}

static const CliFlag access_token_flags[] = {{"extra", 0, "path", NULL, "Print what is at this path beside the token instead."}, {NULL, 0, NULL, NULL, NULL}};
static const CliFlag clear_flags[] = {{"chat", 0, "id", "CODER_CHAT_ID", "The chat; needed where several are active."}, {NULL, 0, NULL, NULL, NULL}};
static const CliFlag add_flags[] = {{"dir", 0, "folder", NULL, "The folder; the current one unless given."},
									{"chat", 0, "id", "CODER_CHAT_ID", "The chat; needed where several are active."},
									{NULL, 0, NULL, NULL, NULL}};

const CliCommand cli_inside_commands[] = {
	{"external-auth access-token", "<provider>", "Print the token of an external service, within a workspace", access_token_flags, 1, 1, run_access_token, NULL},
	{"gitssh", "-- <arguments of ssh>", "Run ssh for git with the key of the workspace's owner", NULL, 0, 0, run_gitssh, NULL},
	{"exp chat context add", "", "Tell a chat of this workspace of a folder's AGENTS.md and skills", add_flags, 0, 0, run_context_add, NULL},
	{"exp chat context clear", "", "Take back what a chat of this workspace was told", clear_flags, 0, 0, run_context_clear, NULL},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
