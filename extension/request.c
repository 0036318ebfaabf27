/*
 * request.c -- a request as the composite value coder.request.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/jsonapi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "error.h"
#include "jsonbvalue.h"
#include "query.h"
#include "request.h"

#define REQUEST_COLUMNS 11

const CoderRequest *coder_current_request;

typedef struct Pair
{
	char *key;
	char *value;
	int next; /* the following value of the same key, -1: none */
	bool first;
} Pair;

/* One part of a query, decoded; it must be text. */
static char *
url_decode(const char *s, int len)
{
	char *out = palloc(len + 1);
	int n = query_decode(s, len, out);

	if (n < 0 || !pg_verify_mbstr(GetDatabaseEncoding(), out, n, true))
		ereport(
			ERROR,
			(errcode(ERRCODE_CODER_BAD_REQUEST), errmsg("Query parameters have invalid values.")));
	return out;
}

/* Joins the last of n pairs to the one before it with the same key, if there is one. */
static void
link_pair(Pair *pairs, int n)
{
	Pair *last = &pairs[n - 1];

	for (int i = n - 2; i >= 0 && last->first; i--)
	{
		if (strcmp(pairs[i].key, last->key) == 0)
		{
			pairs[i].next = n - 1;
			last->first = false;
		}
	}
}

static int
split_query(const char *s, int len, Pair **out)
{
	const char *end = s + len;
	int n = 0;
	int cap = 8;
	Pair *pairs = palloc(sizeof(Pair) * cap);
	QueryPair part;

	while (query_next(&s, end, &part))
	{
		if (n == QUERY_MAX_PAIRS)
			ereport(ERROR,
					(errcode(ERRCODE_CODER_BAD_REQUEST),
					 errmsg("Query parameters have invalid values."),
					 errdetail("There are more than %d parameters.", QUERY_MAX_PAIRS)));
		if (n == cap)
			pairs = repalloc(pairs, sizeof(Pair) * (cap *= 2));
		pairs[n] = (Pair){url_decode(part.name, part.name_len),
						  url_decode(part.value, part.value_len),
						  -1,
						  true};
		link_pair(pairs, ++n);
	}
	*out = pairs;
	return n;
}

int
coder_request_query(const CoderRequest *request, const char *const *names, char **values, int n)
{
	Pair *pairs;
	int count = request->query != NULL ? split_query(VARDATA_ANY(request->query),
													 (int) VARSIZE_ANY_EXHDR(request->query), &pairs)
									   : 0;
	int others = 0;

	memset(values, 0, sizeof(*values) * n);
	for (int i = 0; i < count; i++)
	{
		int at = 0;

		while (at < n && strcmp(names[at], pairs[i].key) != 0)
			at++;
		if (at == n || !pairs[i].first)
			others++;
		else
			values[at] = pairs[i].value;
	}
	return others;
}

/* Query parameters: name -> text, and "name[]" -> array where a name is repeated. */
static Jsonb *
query_jsonb(text *query)
{
	JsonbParseState *state = NULL;
	Pair *pairs;
	int n =
		query != NULL ? split_query(VARDATA_ANY(query), (int) VARSIZE_ANY_EXHDR(query), &pairs) : 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		char *list;

		if (!pairs[i].first)
			continue;
		jsonb_push_text(&state, WJB_KEY, pairs[i].key, (int) strlen(pairs[i].key));
		jsonb_push_text(&state, WJB_VALUE, pairs[i].value, (int) strlen(pairs[i].value));
		if (pairs[i].next < 0)
			continue;
		list = psprintf("%s[]", pairs[i].key);
		jsonb_push_text(&state, WJB_KEY, list, (int) strlen(list));
		pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		for (int j = i; j >= 0; j = pairs[j].next)
			jsonb_push_text(&state, WJB_ELEM, pairs[j].value, (int) strlen(pairs[j].value));
		pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static Jsonb *
params_jsonb(const CoderRequest *request)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < request->nparams; i++)
	{
		jsonb_push_text(
			&state, WJB_KEY, request->param_names[i], (int) strlen(request->param_names[i]));
		jsonb_push_text(&state, WJB_VALUE, request->params[i], (int) strlen(request->params[i]));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* "name: value" lines. */
static Jsonb *
headers_jsonb(text *headers)
{
	JsonbParseState *state = NULL;
	const char *s = headers != NULL ? VARDATA_ANY(headers) : "";
	const char *end = s + (headers != NULL ? VARSIZE_ANY_EXHDR(headers) : 0);
	QueryPair line;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while (query_next_header(&s, end, &line))
	{
		jsonb_push_text(&state, WJB_KEY, line.name, line.name_len);
		jsonb_push_text(&state, WJB_VALUE, line.value, line.value_len);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * JSON text (len bytes, NUL behind them) as jsonb, or NULL where it is none.
 * jsonb_in reads no table and holds nothing, so its error may be dropped here.
 */
Jsonb *
coder_json_parse(char *text_json, int len)
{
	Jsonb *volatile json = NULL;
	MemoryContext context = CurrentMemoryContext;

	if (memchr(text_json, '\0', len) != NULL || !pg_verify_mbstr(PG_UTF8, text_json, len, true))
		return NULL;
	PG_TRY();
	{
		json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text_json)));
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		json = NULL;
	}
	PG_END_TRY();
	return json;
}

/* The body as jsonb, or NULL where it is not JSON: coder.body() then says so. */
static Jsonb *
body_jsonb(bytea *body)
{
	int len = (int) VARSIZE_ANY_EXHDR(body);

	return coder_json_parse(pnstrdup(VARDATA_ANY(body), len), len);
}

static void
set_text(Datum *values, bool *nulls, int i, text *value)
{
	values[i] = PointerGetDatum(value);
	nulls[i] = value == NULL;
}

Datum
coder_request_datum(const CoderRequest *request, TupleDesc desc, bool raw_body)
{
	Datum values[REQUEST_COLUMNS] = {0};
	bool nulls[REQUEST_COLUMNS] = {false};
	Jsonb *body = NULL;

	if (desc->natts != REQUEST_COLUMNS)
		elog(ERROR, "coder.request has %d columns, expected %d", desc->natts, REQUEST_COLUMNS);
	if (request->body != NULL && !raw_body && VARSIZE_ANY_EXHDR(request->body) > 0)
		body = body_jsonb(request->body);
	values[0] = CStringGetTextDatum(request->pattern);
	set_text(values, nulls, 1, request->method);
	set_text(values, nulls, 2, request->path);
	values[3] = JsonbPGetDatum(params_jsonb(request));
	values[4] = JsonbPGetDatum(query_jsonb(request->query));
	values[5] = JsonbPGetDatum(headers_jsonb(request->headers));
	values[6] = JsonbPGetDatum(body);
	nulls[6] = body == NULL;
	set_text(values, nulls, 7, body == NULL ? (text *) request->body : NULL);
	set_text(values, nulls, 8, request->remote);
	values[9] = UUIDPGetDatum(request->request_id);
	nulls[9] = request->request_id == NULL;
	set_text(values, nulls, 10, request->cursor);
	return heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc);
}

PG_FUNCTION_INFO_V1(coder_current_request_sql);

text *
coder_request_header(const CoderRequest *request, const char *name)
{
	text *headers = request != NULL ? request->headers : NULL;
	const char *s = headers != NULL ? VARDATA_ANY(headers) : "";
	const char *end = s + (headers != NULL ? VARSIZE_ANY_EXHDR(headers) : 0);
	int name_len = (int) strlen(name);
	QueryPair line;

	while (query_next_header(&s, end, &line))
		if (line.name_len == name_len && memcmp(line.name, name, name_len) == 0)
			return cstring_to_text_with_len(line.value, line.value_len);
	return NULL;
}

/*
 * coder.current_request(OUT remote text, OUT user_agent text, OUT request_id uuid)
 *
 * Of the request being served; NULLs outside of one.
 */
Datum
coder_current_request_sql(PG_FUNCTION_ARGS)
{
	const CoderRequest *request = coder_current_request;
	TupleDesc desc;
	Datum values[3] = {0};
	bool nulls[3] = {true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (request != NULL)
	{
		text *agent = coder_request_header(request, "user-agent");

		set_text(values, nulls, 0, request->remote);
		set_text(values, nulls, 1, agent);
		values[2] = UUIDPGetDatum(request->request_id);
		nulls[2] = request->request_id == NULL;
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* A form's body, application/x-www-form-urlencoded, in the shape of coder.request.query; ZC400 where it is no text. */
PG_FUNCTION_INFO_V1(coder_form_decode);
Datum
coder_form_decode(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(query_jsonb((text *) PG_GETARG_BYTEA_PP(0)));
}
