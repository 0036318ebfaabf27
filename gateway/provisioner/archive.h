/*
 * archive.h -- template archives (tar, zip) read into memory, within limits
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_ARCHIVE_H
#define CODER_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>

#define ARCHIVE_MAX_FILES 10000u
#define ARCHIVE_MAX_FILE ((size_t) 10 << 20)
#define ARCHIVE_MAX_TOTAL ((size_t) 64 << 20)
#define ARCHIVE_MAX_PATH 1024u

typedef struct ArchiveFile
{
	char *path; /* relative, no "..", no empty parts */
	char *data; /* NULL of a directory */
	size_t len;
	unsigned mode;
} ArchiveFile;

typedef struct Archive
{
	ArchiveFile *files;
	size_t n;
	size_t cap;
	size_t total;
} Archive;

/* False with an error text (to be freed) where the archive is broken, hostile or too large. */
extern bool arc_read(Archive *archive, const void *data, size_t len, char **error);
extern const ArchiveFile *arc_find(const Archive *archive, const char *path);
extern void arc_free(Archive *archive);

/* Writes the files below the directory dir_fd, which must be new: no path is followed out of it. */
extern bool arc_unpack(const Archive *archive, int dir_fd, char **error);

#endif /* CODER_ARCHIVE_H */
