/*
 * json.h -- JSON text into a StringInfo, with the API's escapes.
 *
 * Strings escape < > & and U+2028/2029 as the API does.  Members are written in
 * order; json_key() puts the comma, so a writer never counts:
 *
 *	json_open(buf, '{');
 *	json_str(buf, "name", name);
 *	json_close(buf, '}');
 *
 * A value directly in an array is written with key NULL.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_JSON_H
#define CODER_JSON_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "utils/uuid.h"

/* A comma unless the buffer's last byte opens something, then "key": (key must need no escape). */
extern void json_key(StringInfo buf, const char *key);
/* '{' or '[' as a value; key as above. */
extern void json_open_at(StringInfo buf, const char *key, char bracket);
extern void json_open(StringInfo buf, char bracket);
extern void json_close(StringInfo buf, char bracket);
extern void json_str(StringInfo buf, const char *key, const char *value);
extern void json_strn(StringInfo buf, const char *key, const char *value, int len);
extern void json_text(StringInfo buf, const char *key, Datum value); /* a text datum */
extern void json_int(StringInfo buf, const char *key, int64 value);
extern void json_bool(StringInfo buf, const char *key, bool value);
extern void json_null(StringInfo buf, const char *key);
extern void json_raw(StringInfo buf, const char *key, const char *json, int len);
extern void json_uuid(StringInfo buf, const char *key, const pg_uuid_t *value);
extern void json_time(StringInfo buf, const char *key, TimestampTz value);
/* Without key and comma. */
extern void json_append_quoted(StringInfo buf, const char *value, int len);
extern void json_append_uuid(StringInfo buf, const pg_uuid_t *value);
extern void json_append_time(StringInfo buf, TimestampTz value);
/* JSON text as the server prints it, without blanks and with the API's escapes. */
extern void json_append_compact(StringInfo buf, const char *json, int len);

#endif
