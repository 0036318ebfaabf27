/*
 * test_archive.c -- template archives: what is read, and what is refused
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "provisioner/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CAP (80u << 20)

typedef struct Maker
{
	struct archive *a;
	char *data;
	size_t *used; /* libarchive keeps the address */
} Maker;

static Maker
begin(bool gzip)
{
	Maker m = {archive_write_new(), malloc(CAP), calloc(1, sizeof(size_t))};

	archive_write_set_format_pax_restricted(m.a);
	if (gzip)
		archive_write_add_filter_gzip(m.a);
	archive_write_open_memory(m.a, m.data, CAP, m.used);
	return m;
}

static void
put(Maker *m, const char *path, unsigned type, const char *link, const void *data, size_t len)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, path);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_size(e, (int64_t) len);
	archive_entry_set_filetype(e, type == 0 ? AE_IFREG : type);
	if (link != NULL && type == 0)
		archive_entry_set_hardlink(e, link);
	else if (link != NULL)
		archive_entry_set_symlink(e, link);
	archive_write_header(m->a, e);
	if (len > 0)
		archive_write_data(m->a, data, len);
	archive_entry_free(e);
}

/* Reads what was made, from a block of exactly its size.  The error, or NULL. */
static char *
finish(Maker *m, Archive *out, size_t cut)
{
	char *exact;
	char *error = NULL;

	archive_write_close(m->a);
	archive_write_free(m->a);
	if (cut == 0)
		cut = *m->used;
	exact = malloc(cut);
	memcpy(exact, m->data, cut);
	if (arc_read(out, exact, cut, &error))
		assert_null(error);
	else
		assert_non_null(error);
	free(exact);
	free(m->data);
	free(m->used);
	return error;
}

static void
refused(Maker *m, const char *because)
{
	Archive out;
	char *error = finish(m, &out, 0);

	if (error == NULL || strstr(error, because) == NULL)
		fail_msg("got \"%s\", want \"%s\"", error != NULL ? error : "no error", because);
	free(error);
	assert_int_equal(out.n, 0);
}

static void
test_good(void **state)
{
	Maker m = begin(false);
	Archive out;

	(void) state;
	put(&m, "./", AE_IFDIR, NULL, NULL, 0);
	put(&m, "./main.tf", 0, NULL, "a", 1);
	put(&m, "mod/sub/x.tf", 0, NULL, "xyz", 3);
	assert_null(finish(&m, &out, 0));
	assert_int_equal(arc_find(&out, "main.tf")->len, 1);
	assert_string_equal(arc_find(&out, "mod/sub/x.tf")->data, "xyz");
	assert_null(arc_find(&out, "mod"));
	arc_free(&out);
}

static void
test_hostile(void **state)
{
	static const char *const paths[] = {"/etc/passwd", "../x", "a/../../x", "a/..", "a\\..\\b"};
	Maker m;
	size_t i;

	(void) state;
	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
	{
		m = begin(false);
		put(&m, paths[i], 0, NULL, "x", 1);
		refused(&m, "leads out of the template");
	}
	m = begin(false);
	put(&m, "link", AE_IFLNK, "/etc/passwd", NULL, 0);
	refused(&m, "neither a file nor a directory");
	m = begin(false);
	put(&m, "a", 0, NULL, "x", 1);
	put(&m, "hard", 0, "a", NULL, 0);
	refused(&m, "neither a file nor a directory");
	m = begin(false);
	put(&m, "dev", AE_IFCHR, NULL, NULL, 0);
	refused(&m, "neither a file nor a directory");
	m = begin(false);
	put(&m, "pipe", AE_IFIFO, NULL, NULL, 0);
	refused(&m, "neither a file nor a directory");
}

static void
test_bombs(void **state)
{
	char *zeros = calloc(1, ARCHIVE_MAX_FILE + 1);
	Maker m = begin(false);
	char name[32];
	unsigned i;

	(void) state;
	put(&m, "big", 0, NULL, zeros, ARCHIVE_MAX_FILE + 1);
	refused(&m, "larger than 10 MiB");
	m = begin(false);
	for (i = 0; i < 7; i++)
	{
		snprintf(name, sizeof(name), "f%u", i);
		put(&m, name, 0, NULL, zeros, ARCHIVE_MAX_FILE);
	}
	refused(&m, "larger than 64 MiB unpacked");
	free(zeros);
	m = begin(false);
	for (i = 0; i <= ARCHIVE_MAX_FILES; i++)
	{
		snprintf(name, sizeof(name), "f%u", i);
		put(&m, name, 0, NULL, NULL, 0);
	}
	refused(&m, "more than 10000 files");
	m = begin(true);
	put(&m, "main.tf", 0, NULL, "x", 1);
	refused(&m, "could not read the archive"); /* compressed tar is no template */
}

/* Every truncation is an error or a shorter archive; never more. */
static void
test_truncated(void **state)
{
	size_t cut;

	(void) state;
	for (cut = 1; cut < 3000; cut += 7)
	{
		Maker m = begin(false);
		Archive out;

		put(&m, "main.tf", 0, NULL, "0123456789", 10);
		put(&m, "b", 0, NULL, "x", 1);
		free(finish(&m, &out, cut));
		assert_true(out.n <= 2);
		arc_free(&out);
	}
}

static void
test_unpack(void **state)
{
	char dir[] = "/tmp/coder-archive-XXXXXX";
	char command[64];
	char text[8] = {0};
	Maker m = begin(false);
	Archive out;
	char *error = NULL;
	int fd;
	int file;

	(void) state;
	put(&m, "a/b/main.tf", 0, NULL, "hallo", 5);
	assert_null(finish(&m, &out, 0));
	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(symlinkat("/etc", fd, "link"), 0);
	assert_true(arc_unpack(&out, fd, &error));
	file = openat(fd, "a/b/main.tf", O_RDONLY);
	assert_int_equal(read(file, text, 7), 5);
	assert_string_equal(text, "hallo");
	close(file);
	arc_free(&out);

	/* A link that is already there is not followed. */
	m = begin(false);
	put(&m, "link/x", 0, NULL, "x", 1);
	assert_null(finish(&m, &out, 0));
	assert_false(arc_unpack(&out, fd, &error));
	assert_non_null(error);
	free(error);
	arc_free(&out);
	close(fd);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_unpack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
