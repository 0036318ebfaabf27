/*
 * config.c -- the folder with the server's address and the session token.
 *
 * The same files as Coder's own command line: "url" and "session", each one
 * line, the latter readable by its owner only.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *
default_dir(void)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");

	if (xdg != NULL && xdg[0] == '/')
		return cli_format("%s/coderv2", xdg);
	return cli_format("%s/.config/coderv2", home != NULL ? home : "/");
}

char *
cli_config_read(const Cli *cli, const char *name)
{
	char *path = cli_format("%s/%s", cli->config_dir, name);
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	free(path);
	if (file == NULL)
		return NULL;
	if (getline(&line, &size, file) < 0)
	{
		free(line);
		line = NULL;
	}
	fclose(file);
	if (line != NULL)
		line[strcspn(line, "\r\n")] = '\0';
	return line != NULL && line[0] != '\0' ? line : NULL;
}

/* Written beside and renamed, so that a full disk leaves the old one. */
void
cli_config_write(const Cli *cli, const char *name, const char *text)
{
	char *path = cli_format("%s/%s", cli->config_dir, name);
	char *fresh = cli_format("%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);

	if (fd < 0 || write(fd, text, len) != (ssize_t) len || close(fd) != 0 || rename(fresh, path) != 0)
		cli_fail("could not write %s: %s", path, strerror(errno));
	free(fresh);
	free(path);
}

void
cli_config_folder(const Cli *cli)
{
	char *path = cli_format("%s", cli->config_dir);

	for (char *p = path + 1;; p++)
	{
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			cli_fail("could not create %s: %s", path, strerror(errno));
		*p = c;
		if (c == '\0')
			break;
	}
	free(path);
}

char *
cli_tidy_url(const char *url)
{
	char *tidy = strstr(url, "://") ? cli_format("%s", url) : cli_format("https://%s", url);
	size_t len = strlen(tidy);

	while (len > 0 && tidy[len - 1] == '/')
		tidy[--len] = '\0';
	return tidy;
}

void
cli_config_load(Cli *cli)
{
	const char *dir = cli_flag(cli, "global-config");
	const char *url = cli_flag(cli, "url");
	const char *token = cli_flag(cli, "token");

	cli->config_dir = dir != NULL ? cli_format("%s", dir) : default_dir();
	if (url == NULL)
		url = cli_config_read(cli, "url");
	if (url != NULL)
		cli->url = cli_tidy_url(url);
	cli->token = token != NULL ? cli_format("%s", token) : cli_config_read(cli, "session");
}

void
cli_config_save(const Cli *cli)
{
	cli_config_folder(cli);
	cli_config_write(cli, "url", cli->url);
	cli_config_write(cli, "session", cli->token);
}

void
cli_config_forget(const Cli *cli)
{
	static const char *const names[] = {"session", "url"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		char *path = cli_format("%s/%s", cli->config_dir, names[i]);

		if (unlink(path) != 0 && errno != ENOENT)
			cli_fail("could not remove %s: %s", path, strerror(errno));
		free(path);
	}
}
