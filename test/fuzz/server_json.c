/*
 * server_json.c -- extension/json.c outside of the server: see server_json.h.
 *
 * SPDX-License-Identifier: MIT
 */
#define json_null server_json_null /* jansson has that name */
#include "../../extension/json.c"

#include "server_json.h"

/* What json.c needs of the server and the server's libraries for programs lack. */
struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

int
pg_lltoa(int64 value, char *a)
{
	return sprintf(a, INT64_FORMAT, value);
}

int
timestamp2tm(Timestamp dt, int *tzp, struct pg_tm *tm, fsec_t *fsec, const char **tzn, pg_tz *attimezone)
{
	return -1;
}

char *
server_json_quoted(const char *text, int len, int *n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	json_append_quoted(&buf, text, len);
	*n = buf.len;
	return buf.data;
}

char *
server_json_compact(const char *text, int len, int *n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	json_append_compact(&buf, text, len);
	*n = buf.len;
	return buf.data;
}
