/*
 * response.c -- errors as SQLSTATEs of class ZC, and JSON answers in the API's form.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"

PG_FUNCTION_INFO_V1(coder_raise);
PG_FUNCTION_INFO_V1(coder_raise_sql);
PG_FUNCTION_INFO_V1(coder_raise_not_found_sql);
PG_FUNCTION_INFO_V1(coder_raise_forbidden_sql);
PG_FUNCTION_INFO_V1(coder_ts);
PG_FUNCTION_INFO_V1(coder_ts0);
PG_FUNCTION_INFO_V1(coder_compact_jsonb);
PG_FUNCTION_INFO_V1(coder_compact_json);

int
coder_errcode_of_status(int status)
{
	if (status < 100 || status > 999)
		elog(ERROR, "invalid HTTP status: %d", status);
	return MAKE_SQLSTATE('Z', 'C', '0' + status / 100, '0' + status / 10 % 10, '0' + status % 10);
}

void
coder_raise_not_found(void)
{
	ereport(ERROR, (errcode(ERRCODE_CODER_NOT_FOUND), errmsg("%s", CODER_MSG_NOT_FOUND)));
}

void
coder_raise_forbidden(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CODER_FORBIDDEN),
			 errmsg("%s", CODER_MSG_FORBIDDEN),
			 errdetail("%s", CODER_DETAIL_FORBIDDEN)));
}

/*
 * coder.raise(status int, message text, detail text, validations jsonb) RETURNS void
 *
 * Raises ZC<status>: message, detail and, as the hint, the array of validations.
 */
Datum
coder_raise(PG_FUNCTION_ARGS)
{
	char *message;
	char *detail = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *hint = NULL;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("status and message must not be null")));
	message = text_to_cstring(PG_GETARG_TEXT_PP(1));
	if (!PG_ARGISNULL(3))
	{
		Jsonb *list = PG_GETARG_JSONB_P(3);

		hint = JsonbToCString(NULL, &list->root, VARSIZE(list));
	}
	ereport(ERROR,
			(errcode(coder_errcode_of_status(PG_GETARG_INT32(0))),
			 errmsg_internal("%s", message),
			 detail != NULL ? errdetail_internal("%s", detail) : 0,
			 hint != NULL ? errhint("%s", hint) : 0));
	PG_RETURN_VOID();
}

/*
 * coder.raise_sql(state text, message text, detail text, hint text) RETURNS void
 *
 * Raises the error of a request in PostgreSQL's words, for a person at an SQL prompt: state is
 * ZC<status>.
 */
Datum
coder_raise_sql(PG_FUNCTION_ARGS)
{
	static const struct
	{
		const char *status;
		int errcode;
	} states[] = {{"401", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
				  {"403", ERRCODE_INSUFFICIENT_PRIVILEGE},
				  {"404", ERRCODE_INSUFFICIENT_PRIVILEGE},
				  {"409", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE},
				  {"501", ERRCODE_FEATURE_NOT_SUPPORTED}};
	char *state = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *message = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *detail = PG_ARGISNULL(2) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *hint = PG_ARGISNULL(3) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(3));
	int code = ERRCODE_INVALID_PARAMETER_VALUE;

	for (int i = 0; i < (int) lengthof(states); i++)
		if (strlen(state) == 5 && strcmp(state + 2, states[i].status) == 0)
			code = states[i].errcode;
	if (hint[0] == '\0' && code == ERRCODE_INSUFFICIENT_PRIVILEGE)
		hint = "coder.whoami() tells who asks, coder.explain_access() what lets somebody do something.";
	ereport(ERROR,
			(errcode(code),
			 errmsg_internal("%s", message),
			 detail[0] != '\0' ? errdetail_internal("%s", detail) : 0,
			 hint[0] != '\0' ? errhint("%s", hint) : 0,
			 /* Its statement has a token. */
			 errhidestmt(code == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)));
	PG_RETURN_VOID();
}

/* coder.raise_not_found() RETURNS void: missing or not readable, the answer does not tell which. */
Datum
coder_raise_not_found_sql(PG_FUNCTION_ARGS)
{
	coder_raise_not_found();
	PG_RETURN_VOID();
}

/* coder.raise_forbidden() RETURNS void */
Datum
coder_raise_forbidden_sql(PG_FUNCTION_ARGS)
{
	coder_raise_forbidden();
	PG_RETURN_VOID();
}

/* coder.ts(timestamptz) RETURNS text: RFC 3339 in UTC, as on the wire; NULL for NULL. */
Datum
coder_ts(PG_FUNCTION_ARGS)
{
	StringInfoData buf;

	initStringInfo(&buf);
	json_append_time(&buf, PG_GETARG_TIMESTAMPTZ(0));
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/* coder.ts0(timestamptz) RETURNS text: as ts, year 1 for NULL. */
Datum
coder_ts0(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_TEXT_P(cstring_to_text("0001-01-01T00:00:00Z"));
	return coder_ts(fcinfo);
}

static text *
compact(const char *json, int len)
{
	StringInfoData buf;

	initStringInfo(&buf);
	json_append_compact(&buf, json, len);
	return cstring_to_text_with_len(buf.data, buf.len);
}

/* coder.compact(jsonb) RETURNS text: without blanks, with the API's escapes. */
Datum
coder_compact_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	char *raw = JsonbToCString(NULL, &json->root, VARSIZE(json));

	PG_RETURN_TEXT_P(compact(raw, (int) strlen(raw)));
}

/* coder.compact(json) RETURNS text: without blanks, with the API's escapes. */
Datum
coder_compact_json(PG_FUNCTION_ARGS)
{
	text *json = PG_GETARG_TEXT_PP(0);

	PG_RETURN_TEXT_P(compact(VARDATA_ANY(json), (int) VARSIZE_ANY_EXHDR(json)));
}
