/*
 * cli.h -- what the command line's commands share.
 *
 * A command is one row of a CliCommand table; cli_main() parses its flags,
 * then calls it.  Everything a command allocates lives until the process
 * ends: commands are short, so nothing is freed piecemeal except what a long
 * connection (ssh, port-forward) would pile up.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_H
#define CODER_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define CLI_MAX_VALUES 512

/* A flag: --name, or -s; takes a value where value_name is given. */
typedef struct CliFlag
{
	const char *name;
	char letter; /* 0: no short form */
	const char *value_name; /* NULL: a switch */
	const char *env; /* environment variable that stands in, or NULL */
	const char *help;
} CliFlag;

typedef struct Cli Cli;

typedef struct CliCommand
{
	const char *path; /* "templates push" */
	const char *args; /* "[name]", for the usage line */
	const char *summary; /* one line, no full stop */
	const CliFlag *flags; /* ends with a zero row; NULL: none */
	int min_args;
	int max_args; /* -1: any number (what follows "--" included) */
	int (*run)(Cli *cli); /* exit status of the process */
	const char *const *examples; /* NULL-terminated, or NULL */
} CliCommand;

struct Cli
{
	const CliCommand *command;
	const char *args[256];
	int nargs;
	const char **rest; /* what follows "--", NULL-terminated; NULL where there was none */
	char *config_dir;
	char *url; /* of the server, without a trailing slash; NULL before login */
	char *token; /* NULL before login */
	struct
	{
		const CliFlag *flag;
		const char *value;
	} given[CLI_MAX_VALUES];
	int ngiven;
};

/* The tables, one for each family of commands; each ends with a zero row. */
extern const CliCommand cli_login_commands[];
extern const CliCommand cli_workspace_commands[];
extern const CliCommand cli_template_commands[];
extern const CliCommand cli_user_commands[];
extern const CliCommand cli_ssh_commands[];
extern const CliCommand cli_server_commands[];
extern const CliCommand cli_boundary_commands[];
extern const CliCommand cli_stat_commands[];
extern const CliCommand cli_netcheck_commands[];
extern const CliCommand cli_support_commands[];
extern const CliCommand cli_schedule_commands[];
extern const CliCommand cli_manage_commands[];
extern const CliCommand cli_inside_commands[];
extern const CliCommand cli_organization_commands[];
extern const CliCommand cli_secret_commands[];
extern const CliCommand cli_open_commands[];
extern const CliCommand cli_dotfiles_commands[];
extern const CliCommand cli_speedtest_commands[];

/* Runs the command that argv names; returns the exit status of the process. */
int cli_main(int argc, char **argv);

/* cli.c: what was given on the command line. */
const char *cli_flag(const Cli *cli, const char *name); /* last value, the environment's, or NULL */
bool cli_switch(const Cli *cli, const char *name);
int cli_flag_all(const Cli *cli, const char *name, const char **values, int max);
const char *cli_arg(const Cli *cli, int n); /* NULL beyond the last */

/* Prints "error: ..." and ends the process with status 1. */
_Noreturn void cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line for the person at the terminal (standard error). */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* printf into new memory. */
char *cli_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Asks at the terminal; fails where there is none.  secret: without echo. */
char *cli_ask(const char *question, const char *preset, bool secret);
bool cli_confirm(Cli *cli, const char *question); /* true at once with --yes */

/* program.c: runs a program in a folder (NULL: this one); its status, 128 and more where a signal ended it, -errno where it did not begin. */
int cli_program(const char *folder, const char *const *argv);

/* config.c: the folder that Coder's own command line uses too. */
void cli_config_load(Cli *cli);
void cli_config_save(const Cli *cli);
void cli_config_forget(const Cli *cli);
char *cli_config_read(const Cli *cli, const char *name); /* the line of a file; NULL where there is none */
void cli_config_write(const Cli *cli, const char *name, const char *text);
void cli_config_folder(const Cli *cli); /* makes it where there is none */
char *cli_tidy_url(const char *url); /* with a scheme, without slashes at its end */

/* client.c: calls of the API. */
typedef struct CliAnswer
{
	int status; /* HTTP status; 0: no answer */
	char *body; /* NUL-terminated */
	size_t size;
	json_t *json; /* NULL where the body is not JSON */
	char *build_version; /* X-Coder-Build-Version, or NULL */
	char *problem; /* where status is 0: why */
} CliAnswer;

/* One request; body may be NULL.  Never fails: look at status. */
CliAnswer cli_call(Cli *cli, const char *method, const char *path, const json_t *body);
CliAnswer cli_call_raw(Cli *cli,
					   const char *method,
					   const char *path,
					   const char *type,
					   const void *body,
					   size_t size);
/* The same; any answer but 2xx ends the process with the server's words. */
json_t *cli_get(Cli *cli, const char *path);
json_t *cli_send(Cli *cli, const char *method, const char *path, const json_t *body);
_Noreturn void cli_fail_answer(const CliAnswer *answer);
char *cli_escape(const char *text); /* for a path or a query */
void cli_need_login(Cli *cli);

/* json.c: values by path ("latest_build.job.status"); "" where there is none. */
const char *js_text(const json_t *value, const char *path);
json_int_t js_int(const json_t *value, const char *path);
bool js_bool(const json_t *value, const char *path);
json_t *js_at(const json_t *value, const char *path);

/* output.c: lists as a table, or as JSON with -o json. */
typedef struct CliColumn
{
	const char *title;
	/* Text of the cell, valid until the next call; NULL is printed as nothing. */
	const char *(*cell)(const json_t *row);
	const char *text; /* without a cell: the path of a text, */
	const char *time; /* or of a time */
} CliColumn;

#define CLI_OUTPUT_FLAG \
	{"output", 'o', "table|json", NULL, "Format of the list."}, {"column", 'c', "name,...", NULL, "Columns of the table, in that order."}
void cli_print_list(Cli *cli, const json_t *rows, const CliColumn *columns);
const char *cli_ago(const char *rfc3339);
/* "1h30m", "1.5h", "45s", "30d" in milliseconds; -1 where it is none. */
json_int_t cli_span(const char *text);

/* workspace.c and build.c: what several commands do. */
json_t *cli_organization(Cli *cli); /* --org, or the only one */
json_t *cli_workspace(Cli *cli, const char *name); /* "[owner/]name[.agent]" or an id */
/* owner/name, until the next call. */
const char *cli_workspace_name(const json_t *workspace);
void cli_watch_build(Cli *cli, const char *build_id); /* follows the log; fails where the build does */
bool cli_watch_version(Cli *cli, const char *version_id); /* the same for an import */
json_t *cli_start_build(Cli *cli, const json_t *workspace, const char *transition, const char *reason);
/* The agent of the latest build that name tells ("workspace[.agent]"), or the only one; it may be anything but connected. */
json_t *cli_named_agent(const json_t *workspace, const char *name);
/* The agent of a running workspace; starts it and waits where it must. */
json_t *cli_ready_agent(Cli *cli, const char *name, bool start, bool wait_scripts);

#endif
