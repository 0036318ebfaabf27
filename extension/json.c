/*
 * json.c -- JSON writer: see json.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json.h"

static const char hex_digits[] = "0123456789abcdef";

void
json_key(StringInfo buf, const char *key)
{
	char last = buf->len > 0 ? buf->data[buf->len - 1] : '\0';

	if (last != '{' && last != '[' && last != ':' && last != '\0')
		appendStringInfoChar(buf, ',');
	if (key != NULL)
	{
		appendStringInfoChar(buf, '"');
		appendStringInfoString(buf, key);
		appendBinaryStringInfo(buf, "\":", 2);
	}
}

void
json_open_at(StringInfo buf, const char *key, char bracket)
{
	json_key(buf, key);
	appendStringInfoChar(buf, bracket);
}

void
json_open(StringInfo buf, char bracket)
{
	json_open_at(buf, NULL, bracket);
}

void
json_close(StringInfo buf, char bracket)
{
	appendStringInfoChar(buf, bracket);
}

/* Bytes that cannot stand as they are: controls, quotes, <, >, & and the first byte of U+2028/9. */
static inline bool
json_special(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c == 0xE2;
}

static void
json_append_escape(StringInfo buf, unsigned char c)
{
	char esc[6] = {'\\', 'u', '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};

	switch (c)
	{
		case '"':
			appendBinaryStringInfo(buf, "\\\"", 2);
			break;
		case '\\':
			appendBinaryStringInfo(buf, "\\\\", 2);
			break;
		case '\n':
			appendBinaryStringInfo(buf, "\\n", 2);
			break;
		case '\r':
			appendBinaryStringInfo(buf, "\\r", 2);
			break;
		case '\t':
			appendBinaryStringInfo(buf, "\\t", 2);
			break;
		default:
			appendBinaryStringInfo(buf, esc, 6);
	}
}

/* U+2028 or U+2029 at p? */
static inline bool
json_line_separator(const char *p, int left)
{
	return left >= 3 && (unsigned char) p[0] == 0xE2 && (unsigned char) p[1] == 0x80 &&
		   ((unsigned char) p[2] == 0xA8 || (unsigned char) p[2] == 0xA9);
}

void
json_append_quoted(StringInfo buf, const char *value, int len)
{
	int start = 0;

	appendStringInfoChar(buf, '"');
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if (!json_special(c))
			continue;
		if (c == 0xE2 && !json_line_separator(value + i, len - i))
			continue;
		appendBinaryStringInfo(buf, value + start, i - start);
		if (c == 0xE2)
		{
			appendStringInfoString(buf,
								   (unsigned char) value[i + 2] == 0xA8 ? "\\u2028" : "\\u2029");
			i += 2;
		}
		else
			json_append_escape(buf, c);
		start = i + 1;
	}
	appendBinaryStringInfo(buf, value + start, len - start);
	appendStringInfoChar(buf, '"');
}

void
json_strn(StringInfo buf, const char *key, const char *value, int len)
{
	json_key(buf, key);
	json_append_quoted(buf, value, len);
}

void
json_str(StringInfo buf, const char *key, const char *value)
{
	json_strn(buf, key, value, (int) strlen(value));
}

void
json_text(StringInfo buf, const char *key, Datum value)
{
	struct varlena *t = PG_DETOAST_DATUM_PACKED(value);

	json_strn(buf, key, VARDATA_ANY(t), (int) VARSIZE_ANY_EXHDR(t));
}

void
json_int(StringInfo buf, const char *key, int64 value)
{
	json_key(buf, key);
	appendStringInfo(buf, INT64_FORMAT, value);
}

void
json_bool(StringInfo buf, const char *key, bool value)
{
	json_key(buf, key);
	appendStringInfoString(buf, value ? "true" : "false");
}

void
json_null(StringInfo buf, const char *key)
{
	json_key(buf, key);
	appendBinaryStringInfo(buf, "null", 4);
}

void
json_raw(StringInfo buf, const char *key, const char *json, int len)
{
	json_key(buf, key);
	appendBinaryStringInfo(buf, json, len);
}

void
json_append_uuid(StringInfo buf, const pg_uuid_t *value)
{
	char out[UUID_LEN * 2 + 4];
	char *p = out;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex_digits[value->data[i] >> 4];
		*p++ = hex_digits[value->data[i] & 15];
	}
	appendBinaryStringInfo(buf, out, sizeof(out));
}

void
json_uuid(StringInfo buf, const char *key, const pg_uuid_t *value)
{
	json_key(buf, key);
	appendStringInfoChar(buf, '"');
	json_append_uuid(buf, value);
	appendStringInfoChar(buf, '"');
}

/* RFC 3339 with Z; the fraction without trailing zeros. */
void
json_append_time(StringInfo buf, TimestampTz value)
{
	struct pg_tm tm;
	fsec_t fsec;
	char out[MAXDATELEN + 1];
	int n;

	if (TIMESTAMP_NOT_FINITE(value) || timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
	{
		appendStringInfoString(buf, value > 0 ? "9999-12-31T23:59:59Z" : "0001-01-01T00:00:00Z");
		return;
	}
	n = snprintf(out,
				 sizeof(out),
				 "%04d-%02d-%02dT%02d:%02d:%02d",
				 tm.tm_year,
				 tm.tm_mon,
				 tm.tm_mday,
				 tm.tm_hour,
				 tm.tm_min,
				 tm.tm_sec);
	if (fsec != 0)
	{
		n += snprintf(out + n, sizeof(out) - n, ".%06d", (int) fsec);
		while (out[n - 1] == '0')
			n--;
	}
	out[n++] = 'Z';
	appendBinaryStringInfo(buf, out, n);
}

void
json_time(StringInfo buf, const char *key, TimestampTz value)
{
	json_key(buf, key);
	appendStringInfoChar(buf, '"');
	json_append_time(buf, value);
	appendStringInfoChar(buf, '"');
}

void
json_append_compact(StringInfo buf, const char *json, int len)
{
	bool quoted = false;
	int start = 0;

	enlargeStringInfo(buf, len);
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) json[i];
		const char *put = NULL;
		int width = 1;

		if (!quoted)
		{
			if (c == '"')
				quoted = true;
			else if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
				put = "";
		}
		else if (c == '\\')
			i++;
		else if (c == '"')
			quoted = false;
		else if (c == '<')
			put = "\\u003c";
		else if (c == '>')
			put = "\\u003e";
		else if (c == '&')
			put = "\\u0026";
		else if (c == 0xE2 && json_line_separator(json + i, len - i))
		{
			put = (unsigned char) json[i + 2] == 0xA8 ? "\\u2028" : "\\u2029";
			width = 3;
		}
		if (put != NULL)
		{
			appendBinaryStringInfo(buf, json + start, i - start);
			appendStringInfoString(buf, put);
			i += width - 1;
			start = i + 1;
		}
	}
	appendBinaryStringInfo(buf, json + start, len - start);
}
