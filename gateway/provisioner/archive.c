/*
 * archive.c -- template archives (tar, zip) read into memory, within limits
 *
 * What is refused: absolute paths, "..", links, devices, fifos, encrypted
 * entries, more or larger files than archive.h allows.  The decoder never
 * touches the disk; unpacking writes what has passed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(char **error, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(char **error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(error, fmt, ap) < 0)
		*error = NULL;
	va_end(ap);
	return false;
}

/* The path without "./" and without a last slash; NULL if it leads elsewhere. */
static char *
clean_path(const char *path)
{
	char *out;
	size_t len = 0;

	if (path == NULL || path[0] == '/' || path[0] == '\0' || strlen(path) > ARCHIVE_MAX_PATH ||
		strchr(path, '\\') != NULL)
		return NULL;
	out = malloc(strlen(path) + 1);
	if (out == NULL)
		return NULL;
	while (*path != '\0')
	{
		const size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0)
		{
			free(out);
			return NULL;
		}
		if (n > 0 && !(n == 1 && path[0] == '.'))
		{
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, path, n);
			len += n;
		}
		path += n;
		while (*path == '/')
			path++;
	}
	out[len] = '\0';
	return out;
}

static bool
read_entry_data(struct archive *a, ArchiveFile *file, size_t total, char **error)
{
	size_t cap = 0;

	file->data = calloc(1, 1);
	for (;;)
	{
		char buf[16384];
		const la_ssize_t n = archive_read_data(a, buf, sizeof(buf));

		if (n == 0)
			return true;
		if (n < 0)
			return fail(error, "could not read \"%s\": %s", file->path, archive_error_string(a));
		if (file->len + (size_t) n > ARCHIVE_MAX_FILE)
			return fail(error, "\"%s\" is larger than %zu MiB", file->path, ARCHIVE_MAX_FILE >> 20);
		if (total + file->len + (size_t) n > ARCHIVE_MAX_TOTAL)
			return fail(
				error, "the archive is larger than %zu MiB unpacked", ARCHIVE_MAX_TOTAL >> 20);
		if (file->len + (size_t) n + 1 > cap)
		{
			char *grown;

			cap = (file->len + (size_t) n) * 2 + 1;
			grown = realloc(file->data, cap);
			if (grown == NULL)
				return fail(error, "out of memory");
			file->data = grown;
		}
		memcpy(file->data + file->len, buf, (size_t) n);
		file->len += (size_t) n;
		file->data[file->len] = '\0';
	}
}

static bool
add_entry(Archive *out, struct archive *a, struct archive_entry *entry, char **error)
{
	const char *name = archive_entry_pathname(entry);
	const unsigned type = archive_entry_filetype(entry);
	ArchiveFile *file;

	if (archive_entry_hardlink(entry) != NULL || (type != AE_IFREG && type != AE_IFDIR))
		return fail(
			error, "\"%.200s\" is neither a file nor a directory", name != NULL ? name : "?");
	if (archive_entry_is_encrypted(entry))
		return fail(error, "\"%.200s\" is encrypted", name != NULL ? name : "?");
	if (out->n >= ARCHIVE_MAX_FILES)
		return fail(error, "the archive has more than %u files", ARCHIVE_MAX_FILES);
	if (out->n == out->cap)
	{
		const size_t cap = out->cap == 0 ? 32 : out->cap * 2;
		ArchiveFile *grown = realloc(out->files, cap * sizeof(*grown));

		if (grown == NULL)
			return fail(error, "out of memory");
		out->files = grown;
		out->cap = cap;
	}
	file = &out->files[out->n];
	memset(file, 0, sizeof(*file));
	file->path = clean_path(name);
	if (file->path == NULL)
		return fail(
			error, "the path \"%.200s\" leads out of the template", name != NULL ? name : "");
	out->n++;
	file->mode = (unsigned) archive_entry_perm(entry) & 0777u;
	if (type == AE_IFDIR)
		return true;
	if (!read_entry_data(a, file, out->total, error))
		return false;
	out->total += file->len;
	return true;
}

bool
arc_read(Archive *out, const void *data, size_t len, char **error)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	bool ok = true;
	int rc;

	memset(out, 0, sizeof(*out));
	archive_read_support_format_tar(a);
	archive_read_support_format_zip(a);
	rc = archive_read_open_memory(a, data, len);
	while (rc == ARCHIVE_OK && ok && (rc = archive_read_next_header(a, &entry)) >= ARCHIVE_WARN &&
		   rc != ARCHIVE_EOF)
	{
		ok = add_entry(out, a, entry, error);
		rc = ARCHIVE_OK;
	}
	if (ok && rc != ARCHIVE_EOF)
		ok = fail(error, "could not read the archive: %s", archive_error_string(a));
	archive_read_free(a);
	if (!ok)
		arc_free(out);
	return ok;
}

const ArchiveFile *
arc_find(const Archive *archive, const char *path)
{
	size_t i;

	for (i = archive->n; i-- > 0;) /* of equal names the last one counts, as on disk */
		if (archive->files[i].data != NULL && strcmp(archive->files[i].path, path) == 0)
			return &archive->files[i];
	return NULL;
}

void
arc_free(Archive *archive)
{
	size_t i;

	for (i = 0; i < archive->n; i++)
	{
		free(archive->files[i].path);
		free(archive->files[i].data);
	}
	free(archive->files);
	memset(archive, 0, sizeof(*archive));
}

/* The directory of path, made where it is missing; links are not followed. */
static int
open_parent(int dir_fd, const char *path, const char **base)
{
	int fd = dup(dir_fd);
	const char *slash;

	while (fd >= 0 && (slash = strchr(path, '/')) != NULL)
	{
		char *part = strndup(path, (size_t) (slash - path));
		int next;

		if (part == NULL || (mkdirat(fd, part, 0755) != 0 && errno != EEXIST))
		{
			free(part);
			close(fd);
			return -1;
		}
		next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		free(part);
		close(fd);
		fd = next;
		path = slash + 1;
	}
	*base = path;
	return fd;
}

static bool
write_file(int dir_fd, const char *base, const ArchiveFile *file)
{
	const unsigned mode = file->mode != 0 ? (file->mode & 0755u) | 0600u : 0600u;
	int fd =
		openat(dir_fd, base, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, (mode_t) mode);
	size_t done = 0;

	if (fd < 0)
		return false;
	while (done < file->len)
	{
		const ssize_t n = write(fd, file->data + done, file->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			close(fd);
			return false;
		}
		done += (size_t) n;
	}
	return close(fd) == 0;
}

bool
arc_unpack(const Archive *archive, int dir_fd, char **error)
{
	size_t i;

	for (i = 0; i < archive->n; i++)
	{
		const ArchiveFile *file = &archive->files[i];
		const char *base;
		bool ok;
		int fd;

		if (file->path[0] == '\0')
			continue;
		fd = open_parent(dir_fd, file->path, &base);
		if (fd < 0)
			return fail(error, "could not unpack \"%s\": %s", file->path, strerror(errno));
		if (file->data == NULL)
			ok = mkdirat(fd, base, 0755) == 0 || errno == EEXIST;
		else
			ok = write_file(fd, base, file);
		if (!ok)
			fail(error, "could not unpack \"%s\": %s", file->path, strerror(errno));
		close(fd);
		if (!ok)
			return false;
	}
	return true;
}
