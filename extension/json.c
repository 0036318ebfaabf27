/*
 * json.c -- JSON writer: see json.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json.h"

static const char hex_digits[] = "0123456789abcdef";

/* Where len bytes more and the terminator can be written. */
static inline char *
json_room(StringInfo buf, int len)
{
	if (buf->maxlen - buf->len <= len)
		enlargeStringInfo(buf, len);
	return buf->data + buf->len;
}

/* Tells of what was written there. */
static inline void
json_wrote(StringInfo buf, const char *end)
{
	buf->len = (int) (end - buf->data);
	buf->data[buf->len] = '\0';
}

static inline void
json_bytes(StringInfo buf, const char *bytes, int len)
{
	char *p = json_room(buf, len);

	memcpy(p, bytes, len);
	json_wrote(buf, p + len);
}

static inline void
json_byte(StringInfo buf, char byte)
{
	char *p = json_room(buf, 1);

	*p = byte;
	json_wrote(buf, p + 1);
}

void
json_key(StringInfo buf, const char *key)
{
	char last = buf->len > 0 ? buf->data[buf->len - 1] : '\0';
	int len = key != NULL ? (int) strlen(key) : 0;
	char *p = json_room(buf, len + 4);

	if (last != '{' && last != '[' && last != ':' && last != '\0')
		*p++ = ',';
	if (key != NULL)
	{
		*p++ = '"';
		memcpy(p, key, len);
		p += len;
		*p++ = '"';
		*p++ = ':';
	}
	json_wrote(buf, p);
}

void
json_open_at(StringInfo buf, const char *key, char bracket)
{
	json_key(buf, key);
	json_byte(buf, bracket);
}

void
json_open(StringInfo buf, char bracket)
{
	json_open_at(buf, NULL, bracket);
}

void
json_close(StringInfo buf, char bracket)
{
	json_byte(buf, bracket);
}

/* Bytes that cannot stand as they are: controls, quotes, <, >, & and the first byte of U+2028/9. */
static const bool special[256] = {
	[0x00 ... 0x1F] = true, ['"'] = true, ['\\'] = true, ['<'] = true, ['>'] = true, ['&'] = true, [0xE2] = true};

static void
json_append_escape(StringInfo buf, unsigned char c)
{
	char esc[6] = {'\\', 'u', '0', '0', hex_digits[c >> 4], hex_digits[c & 15]};

	switch (c)
	{
		case '"':
			json_bytes(buf, "\\\"", 2);
			break;
		case '\\':
			json_bytes(buf, "\\\\", 2);
			break;
		case '\n':
			json_bytes(buf, "\\n", 2);
			break;
		case '\r':
			json_bytes(buf, "\\r", 2);
			break;
		case '\t':
			json_bytes(buf, "\\t", 2);
			break;
		default:
			json_bytes(buf, esc, 6);
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

	(void) json_room(buf, len + 2);
	json_byte(buf, '"');
	for (int i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) value[i];

		if (!special[c])
			continue;
		if (c == 0xE2 && !json_line_separator(value + i, len - i))
			continue;
		json_bytes(buf, value + start, i - start);
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
	json_bytes(buf, value + start, len - start);
	json_byte(buf, '"');
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
	{
		char *p = json_room(buf, MAXINT8LEN);

		json_wrote(buf, p + pg_lltoa(value, p));
	}
}

void
json_bool(StringInfo buf, const char *key, bool value)
{
	json_key(buf, key);
	json_bytes(buf, value ? "true" : "false", value ? 4 : 5);
}

void
json_null(StringInfo buf, const char *key)
{
	json_key(buf, key);
	json_bytes(buf, "null", 4);
}

void
json_raw(StringInfo buf, const char *key, const char *json, int len)
{
	json_key(buf, key);
	json_bytes(buf, json, len);
}

void
json_append_uuid(StringInfo buf, const pg_uuid_t *value)
{
	char *p = json_room(buf, UUID_LEN * 2 + 4);

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex_digits[value->data[i] >> 4];
		*p++ = hex_digits[value->data[i] & 15];
	}
	json_wrote(buf, p);
}

void
json_uuid(StringInfo buf, const char *key, const pg_uuid_t *value)
{
	json_key(buf, key);
	json_byte(buf, '"');
	json_append_uuid(buf, value);
	json_byte(buf, '"');
}

static char *
put_digits(char *p, int value, int width)
{
	for (int i = width - 1; i >= 0; i--, value /= 10)
		p[i] = (char) ('0' + value % 10);
	return p + width;
}

/* RFC 3339 with Z; the fraction without trailing zeros. */
void
json_append_time(StringInfo buf, TimestampTz value)
{
	struct pg_tm tm;
	fsec_t fsec;
	char *p = json_room(buf, MAXDATELEN);

	if (TIMESTAMP_NOT_FINITE(value) || timestamp2tm(value, NULL, &tm, &fsec, NULL, NULL) != 0)
	{
		appendStringInfoString(buf, value > 0 ? "9999-12-31T23:59:59Z" : "0001-01-01T00:00:00Z");
		return;
	}
	/* Year 0 and before are BC and five digits are possible: as printf writes them. */
	if (tm.tm_year >= 0 && tm.tm_year <= 9999)
		p = put_digits(p, tm.tm_year, 4);
	else
		p += sprintf(p, "%04d", tm.tm_year);
	*p++ = '-';
	p = put_digits(p, tm.tm_mon, 2);
	*p++ = '-';
	p = put_digits(p, tm.tm_mday, 2);
	*p++ = 'T';
	p = put_digits(p, tm.tm_hour, 2);
	*p++ = ':';
	p = put_digits(p, tm.tm_min, 2);
	*p++ = ':';
	p = put_digits(p, tm.tm_sec, 2);
	if (fsec != 0)
	{
		*p++ = '.';
		p = put_digits(p, (int) fsec, 6);
		while (p[-1] == '0')
			p--;
	}
	*p++ = 'Z';
	json_wrote(buf, p);
}

void
json_time(StringInfo buf, const char *key, TimestampTz value)
{
	json_key(buf, key);
	json_byte(buf, '"');
	json_append_time(buf, value);
	json_byte(buf, '"');
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
			json_bytes(buf, json + start, i - start);
			appendStringInfoString(buf, put);
			i += width - 1;
			start = i + 1;
		}
	}
	json_bytes(buf, json + start, len - start);
}
