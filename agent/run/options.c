/*
 * options.c -- flags and environment of "coder agent", and its life as process 1.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boundary/frame.h"
#include "run/start.h"
#include "serve/context.h"

typedef struct Flag
{
	const char *name;
	const char *env;
	const char *preset; /* NULL: none; "false": a switch */
	const char *help;
	const char *value;
} Flag;

enum
{
	FLAG_URL,
	FLAG_TOKEN,
	FLAG_TOKEN_FILE,
	FLAG_AUTH,
	FLAG_LOG_DIR,
	FLAG_SCRIPT_DIR,
	FLAG_NO_REAP,
	FLAG_BLOCK_FILES,
	FLAG_BLOCK_REVERSE,
	FLAG_BLOCK_LOCAL,
	FLAG_BOUNDARY_SOCKET,
	FLAG_PROMETHEUS,
	FLAG_DEBUG,
	FLAG_PPROF,
	FLAG_VERBOSE,
	FLAG_HELP,
	NFLAGS
};

static Flag flags[NFLAGS] = {
	[FLAG_URL] = {"agent-url", "CODER_AGENT_URL", NULL, "URL of the server (required).", NULL},
	[FLAG_TOKEN] = {"agent-token", "CODER_AGENT_TOKEN", NULL, "Token of the agent.", NULL},
	[FLAG_TOKEN_FILE] = {"agent-token-file", "CODER_AGENT_TOKEN_FILE", NULL, "File that holds the token.", NULL},
	[FLAG_AUTH] = {"auth", "CODER_AGENT_AUTH", "token", "How the agent proves itself: token.", NULL},
	[FLAG_LOG_DIR] = {"log-dir", "CODER_AGENT_LOG_DIR", "/tmp", "Folder of coder-agent.log and the scripts' logs.", NULL},
	[FLAG_SCRIPT_DIR] = {"script-data-dir", "CODER_AGENT_SCRIPT_DATA_DIR", "/tmp", "Parent folder of coder-script-data.", NULL},
	[FLAG_NO_REAP] = {"no-reap", NULL, "false", "As process 1: do not reap foreign children.", NULL},
	[FLAG_BLOCK_FILES] = {"block-file-transfer", "CODER_AGENT_BLOCK_FILE_TRANSFER", "false", "Refuse sftp, scp, rsync and nc.", NULL},
	[FLAG_BLOCK_REVERSE] = {"block-reverse-port-forwarding",
							"CODER_AGENT_BLOCK_REVERSE_PORT_FORWARDING",
							"false",
							"Refuse forwarding of ports to the client.",
							NULL},
	[FLAG_BLOCK_LOCAL] = {"block-local-port-forwarding",
						  "CODER_AGENT_BLOCK_LOCAL_PORT_FORWARDING",
						  "false",
						  "Refuse forwarding of ports to the workspace.",
						  NULL},
	[FLAG_BOUNDARY_SOCKET] = {"boundary-log-proxy-socket-path",
							  BOUNDARY_SOCKET_ENV,
							  "",
							  "Socket that boundaries write their logs to; boundary-audit.sock in the folder of temporary files.",
							  NULL},
	[FLAG_PROMETHEUS] = {"prometheus-address",
						 "CODER_AGENT_PROMETHEUS_ADDRESS",
						 "127.0.0.1:2112",
						 "Address at which Prometheus finds what the agent counts; empty: none.",
						 NULL},
	[FLAG_DEBUG] = {"debug-address",
					"CODER_AGENT_DEBUG_ADDRESS",
					"127.0.0.1:2113",
					"Address of the routes under /debug: log, manifest, metrics; empty: none.",
					NULL},
	[FLAG_PPROF] = {"pprof-address",
					"CODER_AGENT_PPROF_ADDRESS",
					"",
					"Taken for the sake of templates: this agent has no profiles of that kind.",
					NULL},
	[FLAG_VERBOSE] = {"verbose", "CODER_VERBOSE", "false", "Log what the tunnel does, too.", NULL},
	[FLAG_HELP] = {"help", NULL, "false", "Print this help.", NULL},
};

static bool
is_switch(const Flag *flag)
{
	return flag->preset != NULL && strcmp(flag->preset, "false") == 0;
}

static bool
is_on(const Flag *flag)
{
	return strcmp(flag->value, "true") == 0 || strcmp(flag->value, "1") == 0;
}

static void
print_help(void)
{
	puts("coder agent: connect this workspace to the server.\n\nUsage:\n  coder agent [flags]\n\nFlags:");
	for (int i = 0; i < NFLAGS; i++)
	{
		printf("  --%s%s", flags[i].name, is_switch(&flags[i]) ? "" : " value");
		if (flags[i].env != NULL)
			printf(", $%s", flags[i].env);
		if (flags[i].preset != NULL && *flags[i].preset != '\0' && !is_switch(&flags[i]))
			printf(" (default %s)", flags[i].preset);
		printf("\n      %s\n", flags[i].help);
	}
}

/* Fills the values: the command line's, the environment's, the preset. */
static bool
parse(int argc, char **argv)
{
	struct option options[NFLAGS + 1] = {0};
	int index;
	int got;

	for (int i = 0; i < NFLAGS; i++)
	{
		const char *env = flags[i].env != NULL ? getenv(flags[i].env) : NULL;

		/* An address may be none. */
		flags[i].value = env != NULL && (*env != '\0' || i == FLAG_PROMETHEUS || i == FLAG_DEBUG) ? env : flags[i].preset;
		options[i].name = flags[i].name;
		options[i].has_arg = is_switch(&flags[i]) ? optional_argument : required_argument;
	}
	optind = 1;
	while ((got = getopt_long(argc, argv, "", options, &index)) == 0)
		flags[index].value = optarg != NULL ? optarg : "true";
	if (got == '?')
		return false;
	if (optind < argc)
		fprintf(stderr, "coder agent: unexpected argument \"%s\"\n", argv[optind]);
	return optind >= argc;
}

static char *
read_token(void)
{
	const char *path = flags[FLAG_TOKEN_FILE].value;
	char text[256] = "";
	FILE *file;
	size_t len;

	if (flags[FLAG_TOKEN].value != NULL)
		return strdup(flags[FLAG_TOKEN].value);
	if (path == NULL)
		return NULL;
	file = fopen(path, "re");
	if (file == NULL)
	{
		fprintf(stderr, "coder agent: could not read %s: %s\n", path, strerror(errno));
		return NULL;
	}
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	for (len = strlen(text); len > 0 && isspace((unsigned char) text[len - 1]);)
		text[--len] = '\0';
	return *text != '\0' ? strdup(text + strspn(text, " \t\r\n")) : NULL;
}

static pid_t reaped_child;

static void
pass_on(int signo)
{
	kill(reaped_child, signo);
}

/* As process 1: the agent is a child; orphans of the workspace are reaped here. */
static void
reap_as_init(void)
{
	int status;
	pid_t pid;

	reaped_child = fork();
	if (reaped_child <= 0)
	{
		if (reaped_child == 0)
			setsid();
		return;
	}
	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	signal(SIGHUP, pass_on);
	for (;;)
	{
		pid = waitpid(-1, &status, 0);
		if (pid == reaped_child && (WIFEXITED(status) || WIFSIGNALED(status)))
			exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
		if (pid < 0 && errno != EINTR)
			exit(1);
	}
}

/* The folder of this program, at the end of PATH: "coder" works in scripts. */
static void
extend_path(void)
{
	char self[4096];
	char path[16384];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *old = getenv("PATH");
	char *slash;

	if (n <= 0)
		return;
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	if (snprintf(path, sizeof(path), "%s:%s", old != NULL ? old : "/usr/local/bin:/usr/bin:/bin", self) < (int) sizeof(path))
		setenv("PATH", path, 1);
}

int
agent_main(int argc, char **argv)
{
	AgentOptions options = {0};
	char socket_path[4096];
	NetUrl url;
	size_t len;

	if (!parse(argc, argv))
		return 1;
	if (is_on(&flags[FLAG_HELP]))
	{
		print_help();
		return 0;
	}
	if (strcmp(flags[FLAG_AUTH].value, "token") != 0)
	{
		fprintf(stderr, "coder agent: authentication by \"%s\" is not supported; use token\n", flags[FLAG_AUTH].value);
		return 1;
	}
	if (flags[FLAG_URL].value == NULL || !net_url_parse(&url, flags[FLAG_URL].value))
	{
		fputs("coder agent: set CODER_AGENT_URL to the server's URL (http:// or https://)\n", stderr);
		return 1;
	}
	options.url = strdup(flags[FLAG_URL].value);
	options.token = read_token();
	if (options.url == NULL || options.token == NULL || strlen(options.token) > 200)
	{
		fputs("coder agent: set CODER_AGENT_TOKEN or CODER_AGENT_TOKEN_FILE\n", stderr);
		return 1;
	}
	for (len = strlen(options.url); len > 0 && options.url[len - 1] == '/';)
		options.url[--len] = '\0';
	options.log_dir = strdup(flags[FLAG_LOG_DIR].value);
	options.script_data_dir = strdup(flags[FLAG_SCRIPT_DIR].value);
	options.block_file_transfer = is_on(&flags[FLAG_BLOCK_FILES]);
	options.block_local_forwarding = is_on(&flags[FLAG_BLOCK_LOCAL]);
	options.block_reverse_forwarding = is_on(&flags[FLAG_BLOCK_REVERSE]);
	boundary_socket_path(socket_path, sizeof(socket_path), flags[FLAG_BOUNDARY_SOCKET].value);
	options.boundary_socket = strdup(socket_path);
	options.prometheus_address = strdup(flags[FLAG_PROMETHEUS].value);
	options.debug_address = strdup(flags[FLAG_DEBUG].value);
	options.verbose = is_on(&flags[FLAG_VERBOSE]);
	if (getpid() == 1 && !is_on(&flags[FLAG_NO_REAP]))
		reap_as_init();
	if (sodium_init() < 0)
		return 1;
	setenv(BOUNDARY_SOCKET_ENV, options.boundary_socket, 1); /* for boundaries in scripts and sessions */
	extend_path();
	context_take_settings();
	return agent_run(&options);
}
