/*
 * cli.c -- commands, flags and help.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const CliCommand own_commands[];
static const CliCommand *const tables[] = {cli_login_commands,
										   cli_workspace_commands,
										   cli_template_commands,
										   cli_user_commands,
										   cli_ssh_commands,
										   cli_server_commands,
										   cli_boundary_commands,
										   cli_stat_commands,
										   cli_netcheck_commands,
										   cli_support_commands,
										   cli_inside_commands,
										   cli_schedule_commands,
										   cli_manage_commands,
										   cli_organization_commands,
										   cli_secret_commands,
										   cli_open_commands,
										   cli_dotfiles_commands,
										   cli_speedtest_commands,
										   own_commands};
#define NTABLES (sizeof(tables) / sizeof(tables[0]))

static const CliFlag global_flags[] = {
	{"url", 0, "url", "CODER_URL", "Address of the server."},
	{"token", 0, "token", "CODER_SESSION_TOKEN", "Session token, in place of the stored one."},
	{"global-config", 0, "dir", "CODER_CONFIG_DIR", "Folder that holds the address and the token."},
	{"org", 'O', "name", "CODER_ORGANIZATION", "Organization, by name or id."},
	{"yes", 'y', NULL, NULL, "Answer every question with its default."},
	{"help", 'h', NULL, NULL, "Show this help."},
	{NULL, 0, NULL, NULL, NULL},
};

void
cli_fail(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("error: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void
cli_note(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

char *
cli_format(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	return text;
}

/* Reads a line without echo; the terminal is put back whatever happens to the read. */
static ssize_t
read_secret(char **line, size_t *size)
{
	struct termios old, quiet;
	bool terminal = tcgetattr(STDIN_FILENO, &old) == 0;
	ssize_t n;

	if (terminal)
	{
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t) ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	n = getline(line, size, stdin);
	if (terminal)
	{
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	return n;
}

char *
cli_ask(const char *question, const char *preset, bool secret)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (preset != NULL && preset[0] != '\0')
		fprintf(stderr, "%s [%s]: ", question, preset);
	else
		fprintf(stderr, "%s: ", question);
	fflush(stderr);
	n = secret ? read_secret(&line, &size) : getline(&line, &size, stdin);
	if (n < 0)
		cli_fail("%s is needed, and there is nobody to ask", question);
	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '\0' && preset != NULL)
		return cli_format("%s", preset);
	return line;
}

bool
cli_confirm(Cli *cli, const char *question)
{
	const char *answer;

	if (cli_switch(cli, "yes"))
		return true;
	answer = cli_ask(cli_format("%s (yes/no)", question), "yes", false);
	return strcmp(answer, "yes") == 0 || strcmp(answer, "y") == 0;
}

static const CliFlag *
find_flag_in(const CliFlag *flags, const char *name, size_t len, char letter)
{
	for (; flags != NULL && flags->name != NULL; flags++)
	{
		if (name != NULL && strlen(flags->name) == len && strncmp(flags->name, name, len) == 0)
			return flags;
		if (letter != 0 && flags->letter == letter)
			return flags;
	}
	return NULL;
}

static const CliFlag *
find_flag(const CliCommand *command, const char *name, size_t len, char letter)
{
	const CliFlag *flag = command ? find_flag_in(command->flags, name, len, letter) : NULL;

	return flag != NULL ? flag : find_flag_in(global_flags, name, len, letter);
}

static void
give(Cli *cli, const CliFlag *flag, const char *value)
{
	if (cli->ngiven == CLI_MAX_VALUES)
		cli_fail("too many flags");
	cli->given[cli->ngiven].flag = flag;
	cli->given[cli->ngiven++].value = value;
}

const char *
cli_flag(const Cli *cli, const char *name)
{
	const CliFlag *flag;

	for (int i = cli->ngiven - 1; i >= 0; i--)
		if (strcmp(cli->given[i].flag->name, name) == 0)
			return cli->given[i].value;
	flag = find_flag(cli->command, name, strlen(name), 0);
	if (flag != NULL && flag->env != NULL)
	{
		const char *value = getenv(flag->env);

		return value != NULL && value[0] != '\0' ? value : NULL;
	}
	return NULL;
}

bool
cli_switch(const Cli *cli, const char *name)
{
	const char *value = cli_flag(cli, name);

	return value != NULL && strcmp(value, "false") != 0 && strcmp(value, "0") != 0;
}

int
cli_flag_all(const Cli *cli, const char *name, const char **values, int max)
{
	int n = 0;

	for (int i = 0; i < cli->ngiven && n < max; i++)
		if (strcmp(cli->given[i].flag->name, name) == 0)
			values[n++] = cli->given[i].value;
	return n;
}

const char *
cli_arg(const Cli *cli, int n)
{
	return n < cli->nargs ? cli->args[n] : NULL;
}

static void
print_flags(const CliFlag *flags)
{
	for (; flags != NULL && flags->name != NULL; flags++)
	{
		char left[64];
		int n;

		n = flags->letter ? snprintf(left, sizeof(left), "  -%c, --%s", flags->letter, flags->name)
						  : snprintf(left, sizeof(left), "      --%s", flags->name);
		if (flags->value_name != NULL && n > 0 && (size_t) n < sizeof(left))
			snprintf(left + n, sizeof(left) - (size_t) n, " %s", flags->value_name);
		printf("%-34s %s", left, flags->help);
		if (flags->env != NULL)
			printf(" ($%s)", flags->env);
		putchar('\n');
	}
}

static void
print_command_help(const CliCommand *command)
{
	printf("%s.\n\nUsage:\n  coder %s [flags]%s%s\n",
		   command->summary,
		   command->path,
		   command->args[0] ? " " : "",
		   command->args);
	if (command->examples != NULL)
	{
		puts("\nExamples:");
		for (const char *const *line = command->examples; *line != NULL; line++)
			printf("  %s\n", *line);
	}
	if (command->flags != NULL && command->flags->name != NULL)
	{
		puts("\nFlags:");
		print_flags(command->flags);
	}
	puts("\nFlags of every command:");
	print_flags(global_flags);
}

/* The commands whose path begins with prefix (a whole word), or all. */
static int
print_commands(const char *prefix)
{
	size_t len = strlen(prefix);
	int n = 0;

	for (size_t t = 0; t < NTABLES; t++)
		for (const CliCommand *c = tables[t]; c->path != NULL; c++)
		{
			if (len > 0 && (strncmp(c->path, prefix, len) != 0 || c->path[len] != ' '))
				continue;
			printf("  %-28s %s\n", c->path, c->summary);
			n++;
		}
	return n;
}

/* Prints the next word of every command's path that begins with prefix (whole words, or empty), once each. */
static void
print_words(const char *prefix)
{
	size_t len = strlen(prefix);
	char last[64] = "";

	for (size_t t = 0; t < NTABLES; t++)
		for (const CliCommand *c = tables[t]; c->path != NULL; c++)
		{
			const char *word = c->path + (len > 0 ? len + 1 : 0);
			size_t n;

			if (len > 0 && (strncmp(c->path, prefix, len) != 0 || c->path[len] != ' '))
				continue;
			n = strcspn(word, " ");
			if (n >= sizeof(last) || (strlen(last) == n && strncmp(last, word, n) == 0))
				continue;
			snprintf(last, sizeof(last), "%.*s", (int) n, word);
			printf(" %s", last);
		}
}

/* A script that completes the words of commands: of the first, and of those that have a second. */
static int
run_completion(Cli *cli)
{
	const char *shell = cli_flag(cli, "shell");
	char last[64] = "";

	if (shell == NULL)
		shell = getenv("SHELL") != NULL && strstr(getenv("SHELL"), "zsh") != NULL ? "zsh" : "bash";
	if (strcmp(shell, "bash") != 0 && strcmp(shell, "zsh") != 0)
		cli_fail("unknown shell \"%s\": bash or zsh", shell);
	if (strcmp(shell, "zsh") == 0)
		puts("autoload -U +X bashcompinit && bashcompinit");
	fputs("_coder() {\n\tlocal words=\"", stdout);
	print_words("");
	fputs("\"\n\tif [ \"$COMP_CWORD\" -ge 2 ]; then\n\t\tcase ${COMP_WORDS[1]} in\n", stdout);
	for (size_t t = 0; t < NTABLES; t++)
		for (const CliCommand *c = tables[t]; c->path != NULL; c++)
		{
			size_t n = strcspn(c->path, " ");

			if (c->path[n] == '\0' || n >= sizeof(last) || (strlen(last) == n && strncmp(last, c->path, n) == 0))
				continue;
			snprintf(last, sizeof(last), "%.*s", (int) n, c->path);
			printf("\t\t%s) words=\"", last);
			print_words(last);
			puts("\" ;;");
		}
	puts("\t\t*) words= ;;\n\t\tesac\n\tfi\n\t[ \"$COMP_CWORD\" -le 2 ] && COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
		 "complete -o default -F _coder coder");
	return 0;
}

static const CliFlag completion_flags[] = {
	{"shell", 's', "bash|zsh", NULL, "For which shell."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const completion_examples[] = {"source <(coder completion --shell bash)", NULL};

static const CliCommand own_commands[] = {
	{"completion", "", "Print a script that completes commands in a shell", completion_flags, 0, 0, run_completion, completion_examples},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};

static int
print_overview(void)
{
	puts("coder: workspaces from the command line, and the agent inside them.\n\n"
		 "Usage:\n  coder COMMAND [flags] [arguments]\n\nCommands:");
	print_commands("");
	puts("  agent                        Run the workspace agent\n\n"
		 "\"coder COMMAND --help\" tells more of one.\n\nFlags of every command:");
	print_flags(global_flags);
	return 0;
}

/* The command with the longest path that begins the words; *used of them name it. */
static const CliCommand *
find_command(const char *const *words, int nwords, int *used)
{
	const CliCommand *best = NULL;

	*used = 0;
	for (size_t t = 0; t < NTABLES; t++)
		for (const CliCommand *c = tables[t]; c->path != NULL; c++)
		{
			const char *p = c->path;
			int n = 0;

			while (n < nwords)
			{
				size_t len = strlen(words[n]);

				if (strncmp(p, words[n], len) != 0 || (p[len] != ' ' && p[len] != '\0'))
					break;
				n++;
				p += len;
				if (*p == '\0')
					break;
				p++;
			}
			if (*p == '\0' && n > *used)
			{
				best = c;
				*used = n;
			}
		}
	return best;
}

/* Other names of words, as Coder's own command line knows them. */
static const char *
usual_word(const char *word, bool first)
{
	static const char *const others[][2] = {
		{"organization", "organizations"}, {"org", "organizations"}, {"orgs", "organizations"}, {"secrets", "secret"},
		{"notification", "notifications"}, {"user", "users"},		 {"token", "tokens"},		{"template", "templates"},
	};

	if (!first)
		return strcmp(word, "ls") == 0 ? "list" : word;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(word, others[i][0]) == 0)
			return others[i][1];
	return word;
}

/*
 * The words that name the command come before all flags but the global ones;
 * their flags are skipped here and read again by parse_flags().
 */
static const CliCommand *
command_of(int argc, char **argv, int *used, const char **first)
{
	const char *words[4];
	int nwords = 0;

	for (int i = 1; i < argc && nwords < 4; i++)
	{
		if (strcmp(argv[i], "--") == 0)
			break;
		if (argv[i][0] == '-' && argv[i][1] != '\0')
		{
			const CliFlag *flag = argv[i][1] == '-'
				? find_flag(NULL, argv[i] + 2, strlen(argv[i] + 2), 0)
				: find_flag(NULL, NULL, 0, argv[i][1]);

			if (flag != NULL && flag->value_name != NULL)
				i++;
			continue;
		}
		words[nwords] = usual_word(argv[i], nwords == 0);
		nwords++;
	}
	*first = nwords > 0 ? words[0] : NULL;
	return find_command(words, nwords, used);
}

/* One argument that starts with '-'; returns how many arguments it took. */
static int
parse_flag(Cli *cli, int i, int argc, char **argv)
{
	const char *text = argv[i];
	const CliFlag *flag;
	const char *value = NULL;

	if (text[1] == '-')
	{
		size_t len = strcspn(text + 2, "=");

		flag = find_flag(cli->command, text + 2, len, 0);
		if (text[2 + len] == '=')
			value = text + 2 + len + 1;
	}
	else
	{
		flag = find_flag(cli->command, NULL, 0, text[1]);
		if (text[2] != '\0')
			value = text[2] == '=' ? text + 3 : text + 2;
	}
	if (flag == NULL)
		cli_fail("unknown flag %s; see \"coder %s --help\"", text, cli->command->path);
	if (flag->value_name == NULL)
	{
		give(cli, flag, value ? value : "true");
		return 1;
	}
	if (value != NULL)
	{
		give(cli, flag, value);
		return 1;
	}
	if (i + 1 >= argc)
		cli_fail("%s needs a value (%s)", text, flag->value_name);
	give(cli, flag, argv[i + 1]);
	return 2;
}

static void
parse(Cli *cli, int argc, char **argv, int path_words)
{
	for (int i = 1; i < argc;)
	{
		if (strcmp(argv[i], "--") == 0)
		{
			cli->rest = (const char **) (argv + i + 1);
			break;
		}
		if (argv[i][0] == '-' && argv[i][1] != '\0')
		{
			i += parse_flag(cli, i, argc, argv);
			continue;
		}
		if (path_words > 0)
			path_words--;
		else if (cli->nargs < (int) (sizeof(cli->args) / sizeof(cli->args[0])))
			cli->args[cli->nargs++] = argv[i];
		else
			cli_fail("too many arguments");
		i++;
	}
	if (cli_switch(cli, "help"))
		return;
	if (cli->nargs < cli->command->min_args ||
		(cli->command->max_args >= 0 && cli->nargs > cli->command->max_args))
		cli_fail("usage: coder %s [flags] %s", cli->command->path, cli->command->args);
}

int
cli_main(int argc, char **argv)
{
	Cli *cli = calloc(1, sizeof(*cli));
	const char *first;
	int used;

	if (cli == NULL)
		abort();
	cli->command = command_of(argc, argv, &used, &first);
	if (cli->command == NULL)
	{
		if (first == NULL || strcmp(first, "help") == 0)
			return print_overview();
		if (print_commands(first) > 0)
			return 0;
		cli_fail("unknown command \"%s\"; see \"coder --help\"", first);
	}
	parse(cli, argc, argv, used);
	if (cli_switch(cli, "help"))
	{
		print_command_help(cli->command);
		return 0;
	}
	cli_config_load(cli);
	return cli->command->run(cli);
}
