/*
 * portowner.c -- the process behind a port of this machine, by /proc.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/portowner.h"
#include "serve/ports.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_TABLE ((size_t) 4 << 20)
#define MAX_COMMAND 65536

bool
portowner_is_jetbrains_command(const char *command, size_t n)
{
	static const char *const words[] = {"idea.vendor.name=JetBrains", "com.jetbrains.toolbox", "remote-dev-server"};

	for (size_t at = 0; at < n; at++)
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		{
			size_t len = strlen(words[i]);

			if (n - at >= len && strncasecmp(command + at, words[i], len) == 0)
				return true;
		}
	return false;
}

/* A file of /proc; malloc'ed, ended by a zero; NULL where it cannot be read. */
static char *
read_file(const char *path, size_t most, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = fd >= 0 ? malloc(most + 1) : NULL;
	ssize_t n;

	*size = 0;
	while (text != NULL && *size < most && (n = read(fd, text + *size, most - *size)) > 0)
		*size += (size_t) n;
	if (text != NULL)
		text[*size] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* The socket that listens on a port; 0: none does. */
static uint64_t
listener(const char *table, uint16_t port)
{
	size_t size;
	char *text = read_file(table, MAX_TABLE, &size);
	uint64_t inode = 0;

	for (char *line = text; line != NULL && inode == 0; line = strchr(line, '\n'))
	{
		ListeningPort found;

		line += line != text || *line == '\n';
		if (*line == '\0')
			break;
		if (ports_parse_line(line, &found) && found.port == port)
			inode = found.inode;
	}
	free(text);
	return inode;
}

/* Has the process the socket open? */
static bool
has_socket(const char *pid, const char *socket)
{
	char path[320], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir != NULL && !found && (entry = readdir(dir)) != NULL)
	{
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		found = strcmp(target, socket) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return found;
}

static bool
owner_is_jetbrains(uint64_t inode)
{
	char socket[64], path[64];
	struct dirent *entry;
	bool answer = false;
	DIR *proc = opendir("/proc");

	snprintf(socket, sizeof(socket), "socket:[%" PRIu64 "]", inode);
	while (proc != NULL && (entry = readdir(proc)) != NULL)
	{
		char *command;
		size_t n;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !has_socket(entry->d_name, socket))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/cmdline", entry->d_name);
		command = read_file(path, MAX_COMMAND, &n);
		answer = command != NULL && portowner_is_jetbrains_command(command, n);
		free(command);
		break;
	}
	if (proc != NULL)
		closedir(proc);
	return answer;
}

bool
ports_is_jetbrains(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) (const void *) &peer;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) (const void *) &peer;
	uint64_t inode = 0;

	if (getpeername(fd, (struct sockaddr *) &peer, &len) != 0)
		return false;
	if (peer.ss_family == AF_INET && (ntohl(v4->sin_addr.s_addr) >> 24) == 127)
	{
		inode = listener("/proc/net/tcp", ntohs(v4->sin_port));
		if (inode == 0)
			inode = listener("/proc/net/tcp6", ntohs(v4->sin_port)); /* for both families */
	}
	else if (peer.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
		inode = listener("/proc/net/tcp6", ntohs(v6->sin6_port));
	return inode != 0 && owner_is_jetbrains(inode);
}
