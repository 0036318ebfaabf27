/*
 * files.c -- files of the workspace, read and changed for chats.
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/edit.h"
#include "serve/http.h"

#define MAX_FILE ((size_t) 10 << 20)
#define MAX_FILES 100
#define MAX_EDITS 1000
#define MAX_LISTED 10000

static int
status_of(int error)
{
	return error == ENOENT || error == ENOTDIR ? 404 : error == EACCES || error == EPERM ? 403 : error == EISDIR ? 400 : 500;
}

/* A regular file to be read; -1 with errno. */
static int
open_regular(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int error = 0;

	if (fd < 0)
		return -1;
	if (fstat(fd, st) != 0)
		error = errno;
	else if (!S_ISREG(st->st_mode))
		error = S_ISDIR(st->st_mode) ? EISDIR : EINVAL;
	if (error == 0)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

/* A whole regular file of at most limit bytes; malloc'ed, NULL with errno. */
static char *
read_file(const char *path, size_t limit, size_t *len)
{
	struct stat st;
	int fd = open_regular(path, &st);
	char *data = NULL;
	ssize_t n = 1;
	int error = 0;

	*len = 0;
	if (fd < 0)
		return NULL;
	if ((size_t) st.st_size > limit)
		error = EFBIG;
	else if ((data = malloc((size_t) st.st_size + 1)) == NULL)
		error = ENOMEM;
	while (error == 0 && n > 0 && *len < (size_t) st.st_size)
	{
		n = read(fd, data + *len, (size_t) st.st_size - *len);
		if (n < 0)
			error = errno;
		else
			*len += (size_t) n;
	}
	close(fd);
	if (error != 0)
	{
		free(data);
		errno = error;
		return NULL;
	}
	data[*len] = '\0';
	return data;
}

/* The folders on the way to a file. */
static bool
make_parents(const char *path)
{
	char *copy = strdup(path);
	bool ok = copy != NULL;

	for (char *p = copy != NULL ? strchr(copy + 1, '/') : NULL; ok && p != NULL; p = strchr(p + 1, '/'))
	{
		*p = '\0';
		ok = mkdir(copy, 0755) == 0 || errno == EEXIST;
		*p = '/';
	}
	free(copy);
	return ok;
}

static bool
write_all(int fd, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return false;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t) n : 0;
	}
	return true;
}

/* Writes beside the file and puts it in its place, so that nobody reads half of it; false with errno. */
static bool
write_file(const char *path, const char *data, size_t len)
{
	char *real = realpath(path, NULL); /* behind links */
	const char *target = real != NULL ? real : path;
	struct stat st;
	mode_t mode = 0644;
	char *temporary = NULL;
	int fd = -1;
	bool ok = false;
	int error;

	if (stat(target, &st) == 0)
	{
		mode = st.st_mode & 07777;
		if (S_ISDIR(st.st_mode))
			errno = EISDIR;
		ok = S_ISREG(st.st_mode);
	}
	else
		ok = make_parents(target);
	if (ok && asprintf(&temporary, "%s.XXXXXX", target) < 0)
		temporary = NULL;
	ok = ok && temporary != NULL && (fd = mkstemp(temporary)) >= 0;
	ok = ok && write_all(fd, data, len) && fchmod(fd, mode) == 0;
	error = errno;
	if (fd >= 0 && close(fd) != 0)
		ok = false;
	if (ok && rename(temporary, target) != 0)
	{
		error = errno;
		ok = false;
	}
	if (!ok && fd >= 0)
		unlink(temporary);
	free(temporary);
	free(real);
	errno = error;
	return ok;
}

/* Plans are proposed, not written where everybody else would look for one. */
static bool
is_home_plan(const char *path)
{
	const char *home = getenv("HOME");
	size_t len = home != NULL ? strlen(home) : 0;

	return len > 0 && strncmp(path, home, len) == 0 && strcasecmp(path + len, "/plan.md") == 0;
}

static bool
may_write(Request *request, const char *path)
{
	char message[PATH_MAX + 64];

	if (path == NULL || *path != '/')
		snprintf(message, sizeof(message), "\"%.*s\" is no absolute path.", PATH_MAX, path != NULL ? path : "");
	else if (strlen(path) >= PATH_MAX)
		snprintf(message, sizeof(message), "The path is too long.");
	else if (is_home_plan(path))
		snprintf(message, sizeof(message), "plan.md in the home folder is not written to: a plan has a file of its own.");
	else
		return true;
	http_reply_message(request, 400, message);
	return false;
}

static long
number(const Request *request, const char *name, long def)
{
	char *text = http_query(request, name);
	char *end;
	long n = text != NULL ? strtol(text, &end, 10) : def;

	if (text != NULL && (*text == '\0' || *end != '\0' || n < 0))
		n = def;
	free(text);
	return n;
}

/* Bytes of a regular file from offset on, at most limit; malloc'ed, NULL with errno. */
static char *
read_part(const char *path, long offset, size_t limit, size_t *len)
{
	struct stat st;
	int fd = open_regular(path, &st);
	char *data = NULL;
	ssize_t n = 1;
	int error = 0;

	*len = 0;
	if (fd < 0)
		return NULL;
	if ((data = malloc(limit + 1)) == NULL)
		error = ENOMEM;
	while (error == 0 && n > 0 && *len < limit)
	{
		n = pread(fd, data + *len, limit - *len, offset + (off_t) *len);
		if (n < 0)
			error = errno;
		else
			*len += (size_t) n;
	}
	close(fd);
	if (error != 0)
	{
		free(data);
		data = NULL;
	}
	errno = error;
	return data;
}

/* GET /api/v0/read-file?path&offset&limit: bytes as they are. */
void
files_read(Request *request)
{
	char *path = http_query(request, "path");
	long limit = number(request, "limit", 0);
	size_t len;
	char *data;

	if (path == NULL || *path != '/')
		http_reply_message(request, 400, "The path is not absolute.");
	else if ((data = read_part(path, number(request, "offset", 0), limit > 0 && (size_t) limit < MAX_FILE ? (size_t) limit : MAX_FILE, &len)) == NULL)
		http_reply_message(request, errno == EINVAL ? 400 : status_of(errno), strerror(errno));
	else
	{
		http_reply_bytes(request, 200, "application/octet-stream", data, len);
		free(data);
	}
	free(path);
}

/* "/a/b" as ["a", "b"]. */
static json_t *
path_parts(const char *path)
{
	json_t *parts = json_array();

	while (*path != '\0')
	{
		size_t len = strcspn(path, "/");

		if (len > 0)
			json_array_append_new(parts, json_stringn(path, len));
		path += len + (path[len] == '/');
	}
	return parts;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* What is in a folder: directories first; NULL with errno. */
static json_t *
list_of(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, by_name);
	json_t *folders = n >= 0 ? json_array() : NULL;
	json_t *files = json_array();

	for (int i = 0; i < n; i++)
	{
		const char *name = entries[i]->d_name;
		char whole[PATH_MAX];
		struct stat st;

		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && i < MAX_LISTED &&
			snprintf(whole, sizeof(whole), "%s/%s", strcmp(path, "/") == 0 ? "" : path, name) < (int) sizeof(whole))
		{
			bool is_dir = stat(whole, &st) == 0 && S_ISDIR(st.st_mode);
			json_t *one = json_pack("{s:s, s:s, s:b}", "name", name, "absolute_path_string", whole, "is_dir", (int) is_dir);

			/* A name that is no UTF-8 cannot be told. */
			if (one != NULL)
				json_array_append_new(is_dir ? folders : files, one);
		}
		free(entries[i]);
	}
	if (n >= 0)
	{
		free(entries);
		json_array_extend(folders, files);
	}
	json_decref(files);
	return folders;
}

/* The folder that a request names: path, or the parts of its body from the root or from home; malloc'ed. */
static char *
listed_path(Request *request)
{
	size_t len;
	const char *text = http_body(request, &len);
	json_t *body = json_loadb(text, len, 0, NULL);
	const char *from = json_string_value(json_object_get(body, "relativity"));
	const char *home = getenv("HOME");
	char *path = http_query(request, "path");
	size_t i;
	json_t *part;

	if (path == NULL || *path == '\0')
	{
		free(path);
		path = strdup(from != NULL && strcmp(from, "home") == 0 && home != NULL ? home : "");
		json_array_foreach(json_object_get(body, "path"), i, part)
		{
			char *longer = NULL;

			if (path == NULL || !json_is_string(part) || asprintf(&longer, "%s/%s", path, json_string_value(part)) < 0)
				continue;
			free(path);
			path = longer;
		}
		if (path != NULL && *path == '\0')
		{
			free(path);
			path = strdup("/");
		}
	}
	json_decref(body);
	return path;
}

/* POST /api/v0/list-directory */
void
files_list(Request *request)
{
	char *path = listed_path(request);
	json_t *contents;

	if (path == NULL || *path != '/')
		http_reply_message(request, 400, "The path is not absolute.");
	else if ((contents = list_of(path)) == NULL)
		http_reply_message(request, errno == ENOTDIR ? 400 : status_of(errno), strerror(errno));
	else
		http_reply_json(request, 200, json_pack("{s:o, s:s, s:o}", "absolute_path", path_parts(path), "absolute_path_string", path, "contents", contents));
	free(path);
}

void
files_read_lines(Request *request)
{
	EditLimits limits = {number(request, "offset", 1), number(request, "limit", 0), (size_t) number(request, "max_line_bytes", 1024),
						 number(request, "max_response_lines", 2000), (size_t) number(request, "max_response_bytes", 32768)};
	long max_size = number(request, "max_file_size", 1048576);
	char *path = http_query(request, "path");
	size_t len;
	char *data = path != NULL && *path == '/' ? read_file(path, max_size > 0 && (size_t) max_size < MAX_FILE ? (size_t) max_size : MAX_FILE, &len) : NULL;
	const char *why = path == NULL || *path != '/' ? "the path is not absolute" : errno == EFBIG ? "the file is too large" : strerror(errno);
	long total;
	long read;
	char *text;

	if (data == NULL)
		http_reply_json(request, 200, json_pack("{s:b, s:s}", "success", 0, "error", why));
	else
	{
		text = edit_lines(data, len, &limits, &total, &read);
		http_reply_json(request, 200, json_pack("{s:b, s:I, s:I, s:I, s:s}", "success", 1, "file_size", (json_int_t) len, "total_lines",
												(json_int_t) total, "lines_read", (json_int_t) read, "content", text != NULL ? text : ""));
		free(text);
	}
	free(data);
	free(path);
}

void
files_write(Request *request)
{
	char *path = http_query(request, "path");
	size_t len;
	const char *body = http_body(request, &len);

	if (may_write(request, path))
	{
		if (write_file(path, body, len))
		{
			git_touched(request, path);
			http_reply_message(request, 200, "The file was written.");
		}
		else
			http_reply_message(request, status_of(errno), strerror(errno));
	}
	free(path);
}

/* The text of a file with all its edits; NULL: answered. */
static char *
edited(Request *request, const json_t *file)
{
	const char *path = json_string_value(json_object_get(file, "path"));
	size_t len;
	size_t i;
	json_t *edit;
	char *text;
	char message[PATH_MAX + 256];

	if (!may_write(request, path))
		return NULL;
	text = read_file(path, MAX_FILE, &len);
	if (text == NULL || strlen(text) != len)
	{
		snprintf(message, sizeof(message), "%s: %s", path, text == NULL ? strerror(errno) : "this is no text");
		http_reply_message(request, text == NULL ? status_of(errno) : 400, message);
		free(text);
		return NULL;
	}
	json_array_foreach(json_object_get(file, "edits"), i, edit)
	{
		const char *search = json_string_value(json_object_get(edit, "search"));
		const char *replace = json_string_value(json_object_get(edit, "replace"));
		const char *error = "an edit needs search and replace";
		char *changed = search != NULL && replace != NULL && i < MAX_EDITS
			? edit_replace(text, search, replace, json_is_true(json_object_get(edit, "replace_all")), &error)
			: NULL;

		free(text);
		text = changed;
		if (text == NULL)
		{
			snprintf(message, sizeof(message), "%s: edit %zu: %s", path, i + 1, error);
			http_reply_message(request, 400, message);
			return NULL;
		}
	}
	return text;
}

void
files_edit(Request *request)
{
	size_t len;
	const char *body = http_body(request, &len);
	json_t *root = json_loadb(body, len, 0, NULL);
	json_t *files = json_object_get(root, "files");
	char *texts[MAX_FILES] = {NULL};
	size_t n = json_array_size(files);
	size_t i = 0;

	if (n == 0 || n > MAX_FILES)
		http_reply_message(request, 400, "files is a list of one to a hundred files.");
	else
	{
		while (i < n && (texts[i] = edited(request, json_array_get(files, i))) != NULL)
			i++;
		for (size_t j = 0; i == n && j < n; j++)
			if (!write_file(json_string_value(json_object_get(json_array_get(files, j), "path")), texts[j], strlen(texts[j])))
			{
				http_reply_message(request, status_of(errno), strerror(errno));
				i = n + 1;
			}
		for (size_t j = 0; i == n && j < n; j++)
			git_touched(request, json_string_value(json_object_get(json_array_get(files, j), "path")));
		if (i == n)
			http_reply_message(request, 200, "The files were changed.");
	}
	for (size_t j = 0; j < MAX_FILES; j++)
		free(texts[j]);
	json_decref(root);
}
