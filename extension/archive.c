/*
 * archive.c -- zip archives as tar and back, for uploads and downloads.
 *
 * libarchive does the formats.  An archive is outside data: entries of more than
 * files may hold, results above the limit of an upload, and whatever libarchive
 * calls an error make the answer NULL.  Only regular files and folders go over;
 * names that leave the archive's root do not.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"

#include <archive.h>
#include <archive_entry.h>

#define ARCHIVE_MAX (100 * 1024 * 1024) /* as POST /api/v2/files */
#define ENTRIES_MAX 100000
#define CHUNK 65536
#define OWNER 1000 /* uid and gid of entries, as the reference does */

typedef struct Conversion
{
	struct archive *in;
	struct archive *out;
	StringInfoData result;
	int64 unpacked;
} Conversion;

static la_ssize_t
append_result(struct archive *out, void *arg, const void *data, size_t n)
{
	Conversion *c = arg;

	if (n > ARCHIVE_MAX || (size_t) c->result.len + n > ARCHIVE_MAX)
	{
		archive_set_error(out, ENOSPC, "archive is too large");
		return -1;
	}
	appendBinaryStringInfo(&c->result, data, (int) n);
	return (la_ssize_t) n;
}

/* Is it a path below the archive's root? */
static bool
name_is_safe(const char *name)
{
	const char *p = name;

	if (name == NULL || *name == '\0' || *name == '/')
		return false;
	for (;;)
	{
		size_t n = strcspn(p, "/");

		if (n == 2 && p[0] == '.' && p[1] == '.')
			return false;
		if (p[n] == '\0')
			return true;
		p += n + 1;
	}
}

/* The size of a file whose header does not say it: zip archives written as a stream. */
static bool
read_content(Conversion *c, StringInfo content)
{
	la_ssize_t n;

	resetStringInfo(content);
	enlargeStringInfo(content, CHUNK);
	while ((n = archive_read_data(c->in, content->data + content->len, CHUNK)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		c->unpacked += n;
		if (c->unpacked > ARCHIVE_MAX)
			return false;
		content->len += (int) n;
		enlargeStringInfo(content, CHUNK);
	}
	return n == 0;
}

static bool
copy_entry(Conversion *c, struct archive_entry *entry, StringInfo content)
{
	struct archive_entry *copy;
	bool file = archive_entry_filetype(entry) == AE_IFREG;
	bool ok;

	if (!name_is_safe(archive_entry_pathname(entry)))
		return false;
	if (!file && archive_entry_filetype(entry) != AE_IFDIR)
		return true;
	if (archive_entry_hardlink(entry) != NULL)
		return true;
	if (file && !read_content(c, content))
		return false;
	copy = archive_entry_new();
	if (copy == NULL)
		return false;
	archive_entry_copy_pathname(copy, archive_entry_pathname(entry));
	archive_entry_set_filetype(copy, archive_entry_filetype(entry));
	archive_entry_set_perm(copy, archive_entry_perm(entry) & 0777);
	archive_entry_set_mtime(copy, archive_entry_mtime(entry), 0);
	archive_entry_set_uid(copy, OWNER);
	archive_entry_set_gid(copy, OWNER);
	archive_entry_set_size(copy, file ? content->len : 0);
	ok = archive_write_header(c->out, copy) >= ARCHIVE_WARN &&
		 (!file || content->len == 0 ||
		  archive_write_data(c->out, content->data, (size_t) content->len) == content->len);
	archive_entry_free(copy);
	return ok;
}

static bool
copy_all(Conversion *c, const char *data, size_t size)
{
	struct archive_entry *entry;
	StringInfoData content;
	int code;

	if (archive_read_open_memory(c->in, data, size) != ARCHIVE_OK ||
		archive_write_open(c->out, c, NULL, append_result, NULL) != ARCHIVE_OK)
		return false;
	initStringInfo(&content);
	for (int n = 0; (code = archive_read_next_header(c->in, &entry)) >= ARCHIVE_WARN; n++)
	{
		if (code == ARCHIVE_EOF)
			return archive_write_close(c->out) == ARCHIVE_OK;
		if (n == ENTRIES_MAX || !copy_entry(c, entry, &content))
			return false;
	}
	return code == ARCHIVE_EOF && archive_write_close(c->out) == ARCHIVE_OK;
}

static Datum
convert(FunctionCallInfo fcinfo, bool to_zip)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);
	Conversion c = {0};
	volatile bool ok = false;
	bytea *answer;

	initStringInfo(&c.result);
	c.in = archive_read_new();
	c.out = archive_write_new();
	PG_TRY();
	{
		if (c.in == NULL || c.out == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		if (to_zip)
		{
			archive_read_support_format_tar(c.in);
			archive_write_set_format_zip(c.out);
		}
		else
		{
			archive_read_support_format_zip_seekable(c.in); /* needs the directory at the end: whole archives only */
			archive_write_set_format_pax_restricted(c.out);
		}
		archive_write_set_bytes_in_last_block(c.out, 1);
		ok = copy_all(&c, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	}
	PG_FINALLY();
	{
		/* What is not closed yet must not be flushed into a result that may be gone. */
		if (c.out != NULL && !ok)
			archive_write_fail(c.out);
		archive_write_free(c.out);
		archive_read_free(c.in);
	}
	PG_END_TRY();
	if (!ok)
		PG_RETURN_NULL();
	answer = palloc(VARHDRSZ + c.result.len);
	SET_VARSIZE(answer, VARHDRSZ + c.result.len);
	memcpy(VARDATA(answer), c.result.data, c.result.len);
	PG_RETURN_BYTEA_P(answer);
}

/*
 * coder.archive_zip_to_tar(data bytea) RETURNS bytea    IMMUTABLE STRICT PARALLEL SAFE
 *
 * The files of a zip archive as a tar archive; NULL where it is none, or is cut
 * off, too large, or holds names outside of its root.
 */
PG_FUNCTION_INFO_V1(coder_archive_zip_to_tar);
Datum
coder_archive_zip_to_tar(PG_FUNCTION_ARGS)
{
	return convert(fcinfo, false);
}

/* coder.archive_tar_to_zip(data bytea): likewise, the other way. */
PG_FUNCTION_INFO_V1(coder_archive_tar_to_zip);
Datum
coder_archive_tar_to_zip(PG_FUNCTION_ARGS)
{
	return convert(fcinfo, true);
}
