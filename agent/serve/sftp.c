/*
 * sftp.c -- the sftp subsystem: libssh reads and writes the packets, this does
 * what they ask.
 *
 * Relative paths start in the agent's folder.  A message that has begun is read
 * to its end before other channels of the connection go on.
 *
 * SPDX-License-Identifier: MIT
 */
#define WITH_SERVER
#include "serve/sftp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libssh/sftp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_READ 262144u
#define NAMES_PER_REPLY 100

typedef struct Handle
{
	struct Handle *next;
	int fd; /* of a file, or -1 */
	DIR *dir;
	char *path;
	bool append;
} Handle;

struct SftpServer
{
	sftp_session sftp;
	ssh_channel channel;
	bool ready;
	char *folder; /* relative paths start here */
	Handle *handles;
	uint8_t *buffer;
};

SftpServer *
sftp_server_start(Agent *agent, ssh_session session, ssh_channel channel)
{
	SftpServer *server = calloc(1, sizeof(*server));
	struct stat st;

	if (server == NULL)
		return NULL;
	server->channel = channel;
	pthread_mutex_lock(&agent->env_lock);
	if (agent->directory != NULL && stat(agent->directory, &st) == 0 && S_ISDIR(st.st_mode))
		server->folder = strdup(agent->directory);
	pthread_mutex_unlock(&agent->env_lock);
	if (server->folder == NULL)
		server->folder = agent_expand("~", true);
	server->buffer = malloc(MAX_READ);
	server->sftp = sftp_server_new(session, channel);
	if (server->folder == NULL || server->buffer == NULL || server->sftp == NULL)
	{
		sftp_server_end(server);
		return NULL;
	}
	return server;
}

static void
handle_free(SftpServer *server, Handle *handle)
{
	Handle **link = &server->handles;

	while (*link != handle)
		link = &(*link)->next;
	*link = handle->next;
	sftp_handle_remove(server->sftp, handle);
	if (handle->fd >= 0)
		close(handle->fd);
	if (handle->dir != NULL)
		closedir(handle->dir);
	free(handle->path);
	free(handle);
}

void
sftp_server_end(SftpServer *server)
{
	if (server == NULL)
		return;
	while (server->handles != NULL)
		handle_free(server, server->handles);
	if (server->sftp != NULL)
		sftp_server_free(server->sftp);
	free(server->folder);
	free(server->buffer);
	free(server);
}

static void
reply_errno(sftp_client_message msg, int error)
{
	uint32_t status = error == 0 ? SSH_FX_OK
		: error == ENOENT || error == ENOTDIR ? SSH_FX_NO_SUCH_FILE
		: error == EACCES || error == EPERM || error == EROFS ? SSH_FX_PERMISSION_DENIED
															  : SSH_FX_FAILURE;

	sftp_reply_status(msg, status, error == 0 ? "Success" : strerror(error));
}

/* The reply of a system call that answers -1 and errno. */
static void
reply_call(sftp_client_message msg, int result)
{
	reply_errno(msg, result == 0 ? 0 : errno);
}

/* An absolute path in out; false (errno set) where it is too long. */
static bool
resolve(const SftpServer *server, const char *name, char out[PATH_MAX])
{
	int n;

	if (name == NULL)
		name = "";
	n = *name == '/' ? snprintf(out, PATH_MAX, "%s", name)
		: *name == '\0' || strcmp(name, ".") == 0 ? snprintf(out, PATH_MAX, "%s", server->folder)
												  : snprintf(out, PATH_MAX, "%s/%s", server->folder, name);
	if (n >= 0 && n < PATH_MAX)
		return true;
	errno = ENAMETOOLONG;
	return false;
}

static void
attributes_of(sftp_attributes attr, const struct stat *st)
{
	memset(attr, 0, sizeof(*attr));
	attr->flags = SSH_FILEXFER_ATTR_SIZE | SSH_FILEXFER_ATTR_UIDGID | SSH_FILEXFER_ATTR_PERMISSIONS | SSH_FILEXFER_ATTR_ACMODTIME;
	attr->size = (uint64_t) st->st_size;
	attr->uid = st->st_uid;
	attr->gid = st->st_gid;
	attr->permissions = st->st_mode;
	attr->atime = (uint32_t) st->st_atime;
	attr->mtime = (uint32_t) st->st_mtime;
}

static void
reply_stat(sftp_client_message msg, int result, const struct stat *st)
{
	struct sftp_attributes_struct attr;

	if (result != 0)
	{
		reply_errno(msg, errno);
		return;
	}
	attributes_of(&attr, st);
	sftp_reply_attr(msg, &attr);
}

/* Gives a new handle to the client; takes fd and dir. */
static void
reply_handle(SftpServer *server, sftp_client_message msg, int fd, DIR *dir, const char *path)
{
	Handle *handle = calloc(1, sizeof(*handle));
	ssh_string text;

	if (handle == NULL)
	{
		if (fd >= 0)
			close(fd);
		if (dir != NULL)
			closedir(dir);
		reply_errno(msg, ENOMEM);
		return;
	}
	handle->fd = fd;
	handle->dir = dir;
	handle->path = strdup(path);
	handle->next = server->handles;
	server->handles = handle;
	text = sftp_handle_alloc(server->sftp, handle);
	if (text == NULL || handle->path == NULL)
	{
		handle_free(server, handle);
		ssh_string_free(text);
		reply_errno(msg, EMFILE);
		return;
	}
	sftp_reply_handle(msg, text);
	ssh_string_free(text);
}

static void
do_open(SftpServer *server, sftp_client_message msg, const char *path)
{
	uint32_t wanted = sftp_client_message_get_flags(msg);
	int flags = O_CLOEXEC | O_NOCTTY;
	mode_t mode = msg->attr != NULL && (msg->attr->flags & SSH_FILEXFER_ATTR_PERMISSIONS) ? msg->attr->permissions & 07777 : 0666;
	int fd;

	flags |= (wanted & SSH_FXF_WRITE) ? ((wanted & SSH_FXF_READ) ? O_RDWR : O_WRONLY) : O_RDONLY;
	flags |= (wanted & SSH_FXF_APPEND) ? O_APPEND : 0;
	flags |= (wanted & SSH_FXF_CREAT) ? O_CREAT : 0;
	flags |= (wanted & SSH_FXF_TRUNC) ? O_TRUNC : 0;
	flags |= (wanted & SSH_FXF_EXCL) ? O_EXCL : 0;
	fd = open(path, flags, mode);
	if (fd < 0)
		reply_errno(msg, errno);
	else
		reply_handle(server, msg, fd, NULL, path);
}

static void
do_opendir(SftpServer *server, sftp_client_message msg, const char *path)
{
	DIR *dir = opendir(path);

	if (dir == NULL)
		reply_errno(msg, errno);
	else
		reply_handle(server, msg, -1, dir, path);
}

static void
do_read(SftpServer *server, sftp_client_message msg, const Handle *handle)
{
	size_t want = msg->len < MAX_READ ? msg->len : MAX_READ;
	ssize_t n = pread(handle->fd, server->buffer, want, (off_t) msg->offset);

	if (n < 0)
		reply_errno(msg, errno);
	else if (n == 0)
		sftp_reply_status(msg, SSH_FX_EOF, "End of file");
	else
		sftp_reply_data(msg, server->buffer, (int) n);
}

static void
do_write(sftp_client_message msg, const Handle *handle)
{
	const char *data = msg->data != NULL ? ssh_string_data(msg->data) : NULL;
	size_t left = msg->data != NULL ? ssh_string_len(msg->data) : 0;
	off_t at = (off_t) msg->offset;

	while (left > 0)
	{
		ssize_t n = pwrite(handle->fd, data, left, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
		{
			reply_errno(msg, errno);
			return;
		}
		data += n;
		at += n;
		left -= (size_t) n;
	}
	reply_errno(msg, 0);
}

/* As ls -l prints an entry: clients show this line. */
static void
long_name(char *out, size_t size, const char *name, const struct stat *st)
{
	static const char letters[] = "rwxrwxrwx";
	char mode[11];
	char when[32] = "";
	struct tm tm;

	mode[0] = S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : '-';
	for (int i = 0; i < 9; i++)
		mode[1 + i] = (st->st_mode & (0400u >> i)) != 0 ? letters[i] : '-';
	mode[10] = '\0';
	if (localtime_r(&st->st_mtime, &tm) != NULL)
		strftime(when, sizeof(when), "%b %e %H:%M", &tm);
	snprintf(out,
			 size,
			 "%s %3lu %-8u %-8u %8lld %s %s",
			 mode,
			 (unsigned long) st->st_nlink,
			 st->st_uid,
			 st->st_gid,
			 (long long) st->st_size,
			 when,
			 name);
}

static void
do_readdir(sftp_client_message msg, Handle *handle)
{
	int n = 0;

	while (n < NAMES_PER_REPLY)
	{
		struct dirent *entry = readdir(handle->dir);
		struct sftp_attributes_struct attr;
		struct stat st;
		char line[512];

		if (entry == NULL)
			break;
		if (fstatat(dirfd(handle->dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		attributes_of(&attr, &st);
		long_name(line, sizeof(line), entry->d_name, &st);
		if (sftp_reply_names_add(msg, entry->d_name, line, &attr) != 0)
			break;
		n++;
	}
	if (n == 0)
		sftp_reply_status(msg, SSH_FX_EOF, "End of directory");
	else
		sftp_reply_names(msg);
}

static int
set_attributes(const char *path, int fd, sftp_attributes attr)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if (attr == NULL)
		return 0;
	if ((attr->flags & SSH_FILEXFER_ATTR_SIZE) &&
		(fd >= 0 ? ftruncate(fd, (off_t) attr->size) : truncate(path, (off_t) attr->size)) != 0)
		return -1;
	if ((attr->flags & SSH_FILEXFER_ATTR_UIDGID) && chown(path, attr->uid, attr->gid) != 0)
		return -1;
	if ((attr->flags & SSH_FILEXFER_ATTR_PERMISSIONS) && chmod(path, attr->permissions & 07777) != 0)
		return -1;
	if (attr->flags & SSH_FILEXFER_ATTR_ACMODTIME)
	{
		times[0] = (struct timespec){.tv_sec = attr->atime};
		times[1] = (struct timespec){.tv_sec = attr->mtime};
		return utimensat(AT_FDCWD, path, times, 0);
	}
	return 0;
}

static void
do_realpath(sftp_client_message msg, const char *path)
{
	struct sftp_attributes_struct attr;
	char real[PATH_MAX];

	memset(&attr, 0, sizeof(attr));
	/* A path that does not exist is answered as it is: clients ask before they create. */
	sftp_reply_name(msg, realpath(path, real) != NULL ? real : path, &attr);
}

static void
do_readlink(sftp_client_message msg, const char *path)
{
	struct sftp_attributes_struct attr;
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
	{
		reply_errno(msg, errno);
		return;
	}
	target[n] = '\0';
	memset(&attr, 0, sizeof(attr));
	sftp_reply_name(msg, target, &attr);
}

/* Requests with a second path: rename, symlink and their extended forms. */
static void
do_two_paths(SftpServer *server, sftp_client_message msg, uint8_t type, const char *path)
{
	const char *extension = type == SSH_FXP_EXTENDED ? sftp_client_message_get_submessage(msg) : NULL;
	const char *data = sftp_client_message_get_data(msg);
	char other[PATH_MAX];

	if (!resolve(server, data, other))
		reply_errno(msg, errno);
	else if (type == SSH_FXP_RENAME)
		/* Version 3 does not replace what is there. */
		reply_call(msg, renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_NOREPLACE));
	else if (type == SSH_FXP_SYMLINK)
		/* OpenSSH's order: the target, as it is given, then the link. */
		reply_call(msg, symlink(sftp_client_message_get_filename(msg), other));
	else if (extension != NULL && strcmp(extension, "posix-rename@openssh.com") == 0)
		reply_call(msg, rename(path, other));
	else if (extension != NULL && strcmp(extension, "hardlink@openssh.com") == 0)
		reply_call(msg, link(path, other));
	else
		sftp_reply_status(msg, SSH_FX_OP_UNSUPPORTED, "Unsupported operation");
}

static void
answer_path(SftpServer *server, sftp_client_message msg, uint8_t type)
{
	char path[PATH_MAX];
	struct stat st;

	if (!resolve(server, sftp_client_message_get_filename(msg), path))
	{
		reply_errno(msg, errno);
		return;
	}
	switch (type)
	{
		case SSH_FXP_OPEN:
			do_open(server, msg, path);
			break;
		case SSH_FXP_OPENDIR:
			do_opendir(server, msg, path);
			break;
		case SSH_FXP_STAT:
			reply_stat(msg, stat(path, &st), &st);
			break;
		case SSH_FXP_LSTAT:
			reply_stat(msg, lstat(path, &st), &st);
			break;
		case SSH_FXP_SETSTAT:
			reply_call(msg, set_attributes(path, -1, msg->attr));
			break;
		case SSH_FXP_REMOVE:
			reply_call(msg, unlink(path));
			break;
		case SSH_FXP_MKDIR:
			reply_call(msg,
					   mkdir(path,
							 msg->attr != NULL && (msg->attr->flags & SSH_FILEXFER_ATTR_PERMISSIONS)
								 ? msg->attr->permissions & 07777
								 : 0777));
			break;
		case SSH_FXP_RMDIR:
			reply_call(msg, rmdir(path));
			break;
		case SSH_FXP_REALPATH:
			do_realpath(msg, path);
			break;
		case SSH_FXP_READLINK:
			do_readlink(msg, path);
			break;
		default:
			do_two_paths(server, msg, type, path);
			break;
	}
}

static void
answer_handle(SftpServer *server, sftp_client_message msg, uint8_t type)
{
	Handle *handle = msg->handle != NULL ? sftp_handle(server->sftp, msg->handle) : NULL;
	bool directory = type == SSH_FXP_READDIR;
	struct stat st;

	if (handle == NULL || (type != SSH_FXP_CLOSE && directory != (handle->dir != NULL)))
	{
		sftp_reply_status(msg, SSH_FX_FAILURE, "Invalid handle");
		return;
	}
	switch (type)
	{
		case SSH_FXP_CLOSE:
			handle_free(server, handle);
			reply_errno(msg, 0);
			break;
		case SSH_FXP_READ:
			do_read(server, msg, handle);
			break;
		case SSH_FXP_WRITE:
			do_write(msg, handle);
			break;
		case SSH_FXP_FSTAT:
			reply_stat(msg, fstat(handle->fd, &st), &st);
			break;
		case SSH_FXP_FSETSTAT:
			reply_call(msg, set_attributes(handle->path, handle->fd, msg->attr));
			break;
		default:
			do_readdir(msg, handle);
			break;
	}
}

static void
answer(SftpServer *server, sftp_client_message msg)
{
	uint8_t type = sftp_client_message_get_type(msg);

	switch (type)
	{
		case SSH_FXP_CLOSE:
		case SSH_FXP_READ:
		case SSH_FXP_WRITE:
		case SSH_FXP_FSTAT:
		case SSH_FXP_FSETSTAT:
		case SSH_FXP_READDIR:
			answer_handle(server, msg, type);
			break;
		default:
			answer_path(server, msg, type);
			break;
	}
}

bool
sftp_server_serve(SftpServer *server)
{
	int waiting;

	while ((waiting = ssh_channel_poll(server->channel, 0)) > 0)
	{
		sftp_client_message msg;

		if (!server->ready)
		{
			if (sftp_server_init(server->sftp) != 0)
				return false;
			server->ready = true;
			continue;
		}
		msg = sftp_get_client_message(server->sftp);
		if (msg == NULL)
			return false;
		answer(server, msg);
		sftp_client_message_free(msg);
	}
	return waiting == 0 && !ssh_channel_is_eof(server->channel);
}
