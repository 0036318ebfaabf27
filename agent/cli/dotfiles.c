/*
 * dotfiles.c -- coder dotfiles: one's own settings, from a git repository.
 *
 * The repository is cloned into the folder of the configuration, or brought up
 * to date there; then its install script runs, or, where it has none, its dot
 * files are linked to from the home.  What would be overwritten is kept beside.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define URL_FILE "dotfilesurl" /* as Coder's own command line calls it */

static const char *const scripts[] = {
	"install.sh",		 "install",		   "bootstrap.sh",		   "bootstrap",		   "setup.sh",		   "setup",
	"script/install.sh", "script/install", "script/bootstrap.sh", "script/bootstrap", "script/setup.sh", "script/setup",
};

static bool
is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void
agree(Cli *cli, const char *question)
{
	if (!cli_confirm(cli, question))
		exit(1);
}

/* git, which takes hosts that it does not know: a new workspace knows none. */
static bool
git(const char *const *argv)
{
	const char *ssh = getenv("GIT_SSH_COMMAND");
	int status;

	setenv("GIT_SSH_COMMAND", cli_format("%s -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no", ssh != NULL && *ssh != '\0' ? ssh : "ssh"), 1);
	status = cli_program(NULL, argv);
	if (ssh != NULL)
		setenv("GIT_SSH_COMMAND", ssh, 1);
	else
		unsetenv("GIT_SSH_COMMAND");
	if (status < 0)
		cli_fail("could not run git: %s", strerror(-status));
	return status == 0;
}

/* A repository of another address gives way, but is kept. */
static void
put_aside_other(Cli *cli, const char *folder, const char *url)
{
	char *old = cli_config_read(cli, URL_FILE);
	char *aside;

	if (!is_folder(folder) || (old != NULL && strcmp(old, url) == 0))
		return;
	aside = cli_format("%s_backup_%lld", folder, (long long) time(NULL));
	agree(cli, cli_format("%s is of another repository (%s). Keep it as %s, and clone %s?", folder, old != NULL ? old : "unknown", aside, url));
	if (rename(folder, aside) != 0)
		cli_fail("could not rename %s: %s", folder, strerror(errno));
}

static void
fetch(Cli *cli, const char *folder, const char *url, const char *branch)
{
	if (!is_folder(folder))
	{
		const char *const any[] = {"git", "clone", "--", url, folder, NULL};
		const char *const one[] = {"git", "clone", "--branch", branch, "--", url, folder, NULL};

		agree(cli, cli_format("Clone %s into %s?", url, folder));
		cli_config_folder(cli);
		if (!git(branch != NULL ? one : any))
			cli_fail("%s could not be cloned", url);
		return;
	}
	agree(cli, cli_format("Bring %s up to date?", folder));
	/* What is there already is better than nothing: a host that is away stops nobody. */
	if (!git((const char *const[]){"git", "-C", folder, "pull", "--ff-only", NULL}))
		cli_note("The repository could not be brought up to date; going on with what is there.");
	if (branch != NULL && !git((const char *const[]){"git", "-C", folder, "checkout", branch, "--", NULL}))
		cli_note("There is no branch \"%s\"; going on with the one that is there.", branch);
}

static bool
run_script(Cli *cli, const char *folder)
{
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++)
	{
		char *path = cli_format("%s/%s", folder, scripts[i]);
		struct stat st;
		int status;

		if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		agree(cli, cli_format("Run %s?", path));
		if ((st.st_mode & 0111) == 0)
			cli_fail("%s is not executable", path);
		fflush(stdout);
		status = cli_program(folder, (const char *const[]){path, NULL});
		if (status < 0)
			cli_fail("could not run %s: %s", path, strerror(-status));
		if (status != 0)
			cli_fail("%s failed with status %d", path, status);
		return true;
	}
	return false;
}

/* Dot files, but those of git itself. */
static int
is_dotfile(const struct dirent *entry)
{
	const char *name = entry->d_name;

	return name[0] == '.' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && (strncmp(name, ".git", 4) != 0 || strcmp(name, ".gitconfig") == 0);
}

/* A link stands for nothing of its own and goes; anything else is kept beside. */
static void
link_to(const char *from, const char *to)
{
	struct stat st;

	if (lstat(to, &st) == 0)
	{
		char *aside = cli_format("%s.bak", to);

		if (S_ISLNK(st.st_mode) ? unlink(to) != 0 : rename(to, aside) != 0)
			cli_fail("could not put %s aside: %s", to, strerror(errno));
	}
	if (symlink(from, to) != 0)
		cli_fail("could not link %s: %s", to, strerror(errno));
	printf("%s -> %s\n", to, from);
}

static int
run_dotfiles(Cli *cli)
{
	const char *url = cli_arg(cli, 0);
	const char *name = cli_flag(cli, "repo-dir");
	const char *home = cli_flag(cli, "symlink-dir");
	char resolved[PATH_MAX];
	struct dirent **entries;
	char *folder = cli_format("%s/%s", cli->config_dir, name != NULL ? name : "dotfiles");
	int n;

	put_aside_other(cli, folder, url);
	fetch(cli, folder, url, cli_flag(cli, "branch"));
	cli_config_write(cli, URL_FILE, url);
	if (realpath(folder, resolved) == NULL) /* links work from anywhere */
		cli_fail("%s: %s", folder, strerror(errno));
	if (run_script(cli, resolved))
	{
		puts("The install script is done.");
		return 0;
	}
	n = scandir(resolved, &entries, is_dotfile, alphasort);
	if (n < 0)
		cli_fail("could not read %s: %s", resolved, strerror(errno));
	if (n == 0)
	{
		puts("The repository has neither an install script nor dot files: nothing to do.");
		return 0;
	}
	if (home == NULL)
		home = getenv("HOME");
	if (home == NULL || !is_folder(home))
		cli_fail("no folder for the links: name one with --symlink-dir");
	agree(cli, cli_format("No install script: link %d files from %s?", n, home));
	for (int i = 0; i < n; i++)
		link_to(cli_format("%s/%s", resolved, entries[i]->d_name), cli_format("%s/%s", home, entries[i]->d_name));
	return 0;
}

static const CliFlag flags[] = {
	{"branch", 'b', "name", NULL, "Branch of the repository (default: its own)."},
	{"repo-dir", 0, "name", "CODER_DOTFILES_REPO_DIR", "Folder of the repository, below that of the configuration (default: dotfiles)."},
	{"symlink-dir", 0, "folder", "CODER_SYMLINK_DIR", "Where links are made (default: your home)."},
	{NULL, 0, NULL, NULL, NULL},
};
static const char *const examples[] = {"coder dotfiles --yes git@github.com:example/dotfiles.git", NULL};

const CliCommand cli_dotfiles_commands[] = {
	{"dotfiles", "<repository>", "Take your dot files from a git repository", flags, 1, 1, run_dotfiles, examples},
	{NULL, NULL, NULL, NULL, 0, 0, NULL, NULL},
};
