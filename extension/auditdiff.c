/*
 * auditdiff.c -- what differs between two versions of a row, as JSON.
 *
 * {"column": {"old": …, "new": …, "secret": false}}; a secret's values are
 * empty strings.  Where there is no old or no new row its values are the zero
 * values of their types, and a column that is NULL or zero is left out.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "audit.h"
#include "compat.h"
#include "json.h"

static void append_value(StringInfo buf, Oid type, Datum value);

static bool
is_number(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID;
}

static void
append_array(StringInfo buf, Oid element, Datum value)
{
	int16 len;
	bool byval;
	char align;
	Datum *elems;
	bool *nulls;
	int n;

	get_typlenbyvalalign(element, &len, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(value), element, len, byval, align, &elems, &nulls, &n);
	appendStringInfoChar(buf, '[');
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(buf, ',');
		if (nulls[i])
			appendStringInfoString(buf, "null");
		else
			append_value(buf, element, elems[i]);
	}
	appendStringInfoChar(buf, ']');
}

static void
append_quoted(StringInfo buf, const char *text)
{
	json_append_quoted(buf, text, (int) strlen(text));
}

static void
append_value(StringInfo buf, Oid type, Datum value)
{
	Oid element = get_element_type(type);
	Oid output;
	bool varlena;

	if (OidIsValid(element))
		append_array(buf, element, value);
	else if (type == BOOLOID)
		appendStringInfoString(buf, DatumGetBool(value) ? "true" : "false");
	else if (type == TIMESTAMPTZOID && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
	{
		appendStringInfoChar(buf, '"');
		json_append_time(buf, DatumGetTimestampTz(value));
		appendStringInfoChar(buf, '"');
	}
	else if (type == JSONBOID)
	{
		Jsonb *json = DatumGetJsonbP(value);

		JsonbToCString(buf, &json->root, VARSIZE(json));
	}
	else
	{
		getTypeOutputInfo(type, &output, &varlena);
		if (is_number(type))
			appendStringInfoString(buf, OidOutputFunctionCall(output, value));
		else
			append_quoted(buf, OidOutputFunctionCall(output, value));
	}
}

static const char *
zero_value(Oid type)
{
	if (type == BOOLOID)
		return "false";
	if (is_number(type))
		return "0";
	if (type == TIMESTAMPTZOID)
		return "\"0001-01-01T00:00:00Z\"";
	if (type == JSONBOID)
		return "{}";
	if (type == BYTEAOID)
		return "\"\\\\x\"";
	return OidIsValid(get_element_type(type)) ? "[]" : "\"\"";
}

/* A JSON column has two empty values, of which one is its zero. */
static bool
is_empty(const char *json)
{
	return strcmp(json, "{}") == 0 || strcmp(json, "[]") == 0;
}

/* A column of a row as JSON; of no row, and where the other row is none and this is NULL, zero. */
static char *
column_json(const AuditTable *table, const AuditColumn *column, HeapTuple row, bool alone)
{
	Oid type = TupleDescAttr(table->desc, column->attno - 1)->atttypid;
	StringInfoData buf;
	bool isnull = true;
	Datum value = (Datum) 0;

	if (row != NULL)
		value = heap_getattr(row, column->attno, table->desc, &isnull);
	if (isnull)
		return pstrdup(row == NULL || alone ? zero_value(type) : "null");
	initStringInfo(&buf);
	append_value(&buf, type, value);
	return buf.data;
}

static bool
column_differs(const AuditTable *table, const AuditColumn *column, HeapTuple old, HeapTuple new)
{
	Form_pg_attribute att = TupleDescAttr(table->desc, column->attno - 1);
	bool old_null;
	bool new_null;
	Datum before = heap_getattr(old, column->attno, table->desc, &old_null);
	Datum after = heap_getattr(new, column->attno, table->desc, &new_null);

	if (old_null || new_null)
		return old_null != new_null;
	return !datum_image_eq(before, after, att->attbyval, att->attlen);
}

bool
audit_differs(const AuditTable *table, HeapTuple old, HeapTuple new)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (column_differs(table, &table->columns[i], old, new))
			return true;
	return false;
}

static void
append_column(StringInfo buf, const AuditTable *table, const AuditColumn *column, HeapTuple old,
			  HeapTuple new)
{
	char *before;
	char *after;

	if (old != NULL && new != NULL && !column_differs(table, column, old, new))
		return;
	before = column_json(table, column, old, new == NULL);
	after = column_json(table, column, new, old == NULL);
	if (strcmp(before, after) == 0 ||
		((old == NULL || new == NULL) && is_empty(before) && is_empty(after)))
		return;
	json_open_at(buf, column->name, '{');
	json_raw(
		buf, "old", column->secret ? "\"\"" : before, column->secret ? 2 : (int) strlen(before));
	json_raw(buf, "new", column->secret ? "\"\"" : after, column->secret ? 2 : (int) strlen(after));
	json_bool(buf, "secret", column->secret);
	json_close(buf, '}');
}

void
audit_append_diff(StringInfo buf, const AuditTable *table, HeapTuple old, HeapTuple new)
{
	for (int i = 0; i < table->ncolumns; i++)
		append_column(buf, table, &table->columns[i], old, new);
}

void
audit_append_element(StringInfo buf, const AuditTable *table, HeapTuple row)
{
	if (table->ncolumns == 1)
	{
		char *value = column_json(table, &table->columns[0], row, false);

		json_raw(buf, NULL, value, (int) strlen(value));
		return;
	}
	json_open(buf, '{');
	for (int i = 0; i < table->ncolumns; i++)
	{
		const AuditColumn *column = &table->columns[i];
		char *value = column->secret ? pstrdup("\"\"") : column_json(table, column, row, false);

		json_raw(buf, column->name, value, (int) strlen(value));
	}
	json_close(buf, '}');
}
