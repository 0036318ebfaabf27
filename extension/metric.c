/* SPDX-License-Identifier: MIT */
/*
 * metric.c
 *	  A family of metrics in Prometheus' text format, made of a query's rows: the
 *	  last column is the value, the others are labels by their names.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "metrictext.h"

PG_FUNCTION_INFO_V1(coder_metric);
PG_FUNCTION_INFO_V1(coder_metric_series);

/* No scrape is longer than this, whatever is in the tables. */
#define MAX_BYTES (256 * 1024 * 1024)
#define ROWS_AT_ONCE 1000

typedef struct Family
{
	const char *name;
	MetricBounds bounds;		/* of a histogram */
	bool		histogram;
	bool		counted;		/* its rows have a sum and the counts of buckets instead of observations */
	StringInfoData out;
	StringInfoData labels;		/* of the row, without braces */
	FmgrInfo   *outputs;		/* of the columns; looked up once */
} Family;

static void
look_up_outputs(Family *family, TupleDesc desc)
{
	family->outputs = palloc0(sizeof(FmgrInfo) * (size_t) desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Oid			type = TupleDescAttr(desc, i)->atttypid;
		Oid			function;
		bool		varlena;

		getTypeOutputInfo(type, &function, &varlena);
		fmgr_info(function, &family->outputs[i]);
	}
}

/* A value as text, escaped for a label. */
static void
append_value(Family *family, StringInfo out, Datum value, Oid type, int column)
{
	const char *shown;

	if (type == TEXTOID || type == VARCHAROID)
	{
		const text *bytes = DatumGetTextPP(value);

		metric_label(out, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
		return;
	}
	shown = OutputFunctionCall(&family->outputs[column], value);
	metric_label(out, shown, strlen(shown));
}

static void
take_labels(Family *family, HeapTuple row, TupleDesc desc)
{
	resetStringInfo(&family->labels);
	for (int i = 1; i < desc->natts - family->counted; i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(row, desc, i, &isnull);

		if (i > 1)
			appendStringInfoChar(&family->labels, ',');
		appendStringInfoString(&family->labels, NameStr(TupleDescAttr(desc, i - 1)->attname));
		appendStringInfoString(&family->labels, "=\"");
		if (!isnull)
			append_value(family, &family->labels, value, TupleDescAttr(desc, i - 1)->atttypid, i - 1);
		appendStringInfoChar(&family->labels, '"');
	}
}

/* NULL in the array is no observation. */
static void
append_histogram(Family *family, ArrayType *values)
{
	MetricHistogram histogram = {0};
	Datum	   *datums;
	bool	   *nulls;
	int			n;

	deconstruct_array(values, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &datums, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			metric_observe(&histogram, &family->bounds, DatumGetFloat8(datums[i]));
	metric_histogram(&family->out, family->name, family->labels.data, family->labels.len, &histogram, &family->bounds);
}

/* The same of counts, which are of each bucket alone; what is over the last border is one more. */
static void
append_counts(Family *family, ArrayType *counts, double sum)
{
	MetricHistogram histogram = {.sum = sum};
	Datum	   *datums;
	bool	   *nulls;
	int			n;

	deconstruct_array(counts, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &datums, &nulls, &n);
	if (n != family->bounds.n + 1)
		ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
						errmsg("a row of \"%s\" has %d buckets instead of %d", family->name, n, family->bounds.n + 1)));
	for (int i = 0; i < n; i++)
	{
		histogram.counts[i] = nulls[i] ? 0 : DatumGetInt64(datums[i]);
		histogram.total += histogram.counts[i];
	}
	metric_histogram(&family->out, family->name, family->labels.data, family->labels.len, &histogram, &family->bounds);
}

static void
append_row(Family *family, HeapTuple row, TupleDesc desc)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, desc->natts, &isnull);

	if (isnull)
		return;
	if (family->out.len > MAX_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the metric \"%s\" is too long", family->name)));
	take_labels(family, row, desc);
	if (family->counted)
	{
		double		sum = DatumGetFloat8(SPI_getbinval(row, desc, desc->natts - 1, &isnull));

		append_counts(family, DatumGetArrayTypeP(value), isnull ? 0 : sum);
		return;
	}
	if (family->histogram)
	{
		append_histogram(family, DatumGetArrayTypeP(value));
		return;
	}
	metric_series(&family->out, family->name, "", family->labels.data, family->labels.len, NULL);
	if (SPI_gettypeid(desc, desc->natts) == FLOAT8OID)
		metric_double(&family->out, DatumGetFloat8(value));
	else
		appendStringInfoString(&family->out, OutputFunctionCall(&family->outputs[desc->natts - 1], value));
	appendStringInfoChar(&family->out, '\n');
}

/* The last column: what was observed, or counts, with their sum before them. */
static void
check_histogram(Family *family, TupleDesc desc)
{
	Oid			type = SPI_gettypeid(desc, desc->natts);

	family->counted = type == INT8ARRAYOID && desc->natts > 1 && SPI_gettypeid(desc, desc->natts - 1) == FLOAT8OID;
	if (type != FLOAT8ARRAYOID && !family->counted)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("the last column of the histogram \"%s\" is neither float8[] nor bigint[] after a sum", family->name)));
}

static void
append_rows(Family *family, const char *query, Datum at)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	MemoryContext per_batch = AllocSetContextCreate(CurrentMemoryContext, "metric rows", ALLOCSET_DEFAULT_SIZES);
	Portal		portal;

	/* Read only: of the caller's snapshot, as all families of one scrape are. */
	portal = SPI_cursor_open_with_args(NULL, query, 1, types, &at, NULL, true, CURSOR_OPT_NO_SCROLL);
	for (;;)
	{
		MemoryContext before;

		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		if (SPI_processed == 0)
			break;
		if (family->histogram)
			check_histogram(family, SPI_tuptable->tupdesc);
		if (family->outputs == NULL)
			look_up_outputs(family, SPI_tuptable->tupdesc);
		before = MemoryContextSwitchTo(per_batch);
		for (uint64 i = 0; i < SPI_processed; i++)
			append_row(family, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		MemoryContextSwitchTo(before);
		MemoryContextReset(per_batch);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

/*
 * coder.metric(name, type, help, query, at, buckets) returns text.  The query's
 * $1 is the time.
 */
Datum
coder_metric(PG_FUNCTION_ARGS)
{
	Family		family = {0};
	char	   *type;
	char	   *help;
	char	   *query;
	text	   *result;

	for (int i = 0; i < 5; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	family.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	help = text_to_cstring(PG_GETARG_TEXT_PP(2));
	query = text_to_cstring(PG_GETARG_TEXT_PP(3));
	family.histogram = strcmp(type, "histogram") == 0;
	if (!PG_ARGISNULL(5))
	{
		ArrayType  *bounds = PG_GETARG_ARRAYTYPE_P(5);

		family.bounds.values = (const double *) ARR_DATA_PTR(bounds);
		family.bounds.n = ArrayGetNItems(ARR_NDIM(bounds), ARR_DIMS(bounds));
		if (family.bounds.n > METRIC_MAX_BOUNDS)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a histogram has %d buckets at most", METRIC_MAX_BOUNDS)));
		if (ARR_HASNULL(bounds))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a bucket must not be NULL")));
	}
	initStringInfo(&family.out);
	initStringInfo(&family.labels);
	metric_head(&family.out, family.name, type, help);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	append_rows(&family, query, PG_GETARG_DATUM(4));
	SPI_finish();
	result = cstring_to_text_with_len(family.out.data, family.out.len);
	PG_RETURN_TEXT_P(result);
}

/* ---- families whose names are data ---- */

/* Labels of an object of texts, without braces. */
static void
take_object(StringInfo labels, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbValue	value;

	resetStringInfo(labels);
	for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, false); token != WJB_DONE; token = JsonbIteratorNext(&it, &value, true))
	{
		if (token == WJB_KEY)
		{
			if (labels->len > 0)
				appendStringInfoChar(labels, ',');
			appendBinaryStringInfo(labels, value.val.string.val, value.val.string.len);
			appendStringInfoString(labels, "=\"");
		}
		else if (token == WJB_VALUE)
		{
			if (value.type == jbvString)
				metric_label(labels, value.val.string.val, (size_t) value.val.string.len);
			appendStringInfoChar(labels, '"');
		}
	}
}

static void
append_named(Family *family, HeapTuple row, TupleDesc desc, const char *help)
{
	const char *name = SPI_getvalue(row, desc, 1);
	const char *type = SPI_getvalue(row, desc, 2);
	bool		nulls[2];
	Datum		labels = SPI_getbinval(row, desc, 3, &nulls[0]);
	Datum		value = SPI_getbinval(row, desc, 4, &nulls[1]);

	if (name == NULL || type == NULL || nulls[0] || nulls[1])
		return;
	if (family->name == NULL || strcmp(family->name, name) != 0)
	{
		family->name = MemoryContextStrdup(CurTransactionContext, name);
		metric_head(&family->out, name, type, help);
	}
	take_object(&family->labels, DatumGetJsonbP(labels));
	metric_series(&family->out, name, "", family->labels.data, family->labels.len, NULL);
	metric_double(&family->out, DatumGetFloat8(value));
	appendStringInfoChar(&family->out, '\n');
}

/* coder.metric_series(query, help, at) returns text */
Datum
coder_metric_series(PG_FUNCTION_ARGS)
{
	Family		family = {0};
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		at;
	char	   *query;
	char	   *help;

	for (int i = 0; i < 3; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();
	query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	help = text_to_cstring(PG_GETARG_TEXT_PP(1));
	at = PG_GETARG_DATUM(2);
	initStringInfo(&family.out);
	initStringInfo(&family.labels);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, 1, types, &at, NULL, true, 0) != SPI_OK_SELECT || SPI_tuptable->tupdesc->natts != 4 ||
		SPI_gettypeid(SPI_tuptable->tupdesc, 3) != JSONBOID || SPI_gettypeid(SPI_tuptable->tupdesc, 4) != FLOAT8OID)
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("the query of metrics does not have name, type, labels and value")));
	for (uint64 i = 0; i < SPI_processed; i++)
		append_named(&family, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, help);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(family.out.data, family.out.len));
}
