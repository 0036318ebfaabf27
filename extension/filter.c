/*
 * filter.c -- the decision for lists: which rows of a type, as arrays for a policy or a
 * prepared statement, or as the text of a condition for a statement made at run time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "coder.h"
#include "compat.h"
#include "stat.h"

#define TIME_EVERY 16

PG_FUNCTION_INFO_V1(coder_filter);
PG_FUNCTION_INFO_V1(coder_filter_sql);
PG_FUNCTION_INFO_V1(coder_acl_can);

/* The filter of the current subject; of nobody where there is none. */
static void
current_filter(text *action, text *type, RbacFilter *filter)
{
	const CoderSubject *subject = coder_subject();

	memset(filter, 0, sizeof(*filter));
	filter->no_acls = true;
	filter->any_id = true;
	if (subject != NULL)
		rbac_filter(&subject->rbac,
					rbac_action(VARDATA_ANY(action), (int) VARSIZE_ANY_EXHDR(action)),
					rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type)),
					filter);
}

/* The same, one of some timed. */
static void
counted_filter(text *action, text *type, RbacFilter *filter)
{
	static unsigned n;
	instr_time began;
	instr_time took;

	if (n++ % TIME_EVERY != 0)
	{
		current_filter(action, type, filter);
		return;
	}
	INSTR_TIME_SET_CURRENT(began);
	current_filter(action, type, filter);
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, began);
	coder_stat_time("authorize prepare", INSTR_TIME_GET_DOUBLE(took), 1, false);
}

static Datum
uuid_array(const pg_uuid_t **ids, int n)
{
	Datum *elems = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(unconstify(pg_uuid_t *, ids[i]));
	return PointerGetDatum(
		construct_array(elems, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Organizations of the subject, whose rows' group lists count for it. */
static const pg_uuid_t **
members(const RbacFilter *filter, int *n)
{
	const RbacSubject *subject = filter->subject;
	const pg_uuid_t **ids;

	*n = 0;
	if (filter->no_acls)
		return NULL;
	ids = palloc(sizeof(pg_uuid_t *) * (subject->norgs + 1));
	for (int i = 0; i < subject->norgs; i++)
		ids[(*n)++] = &subject->orgs[i].id;
	return ids;
}

/* Keys of group lists: the subject's groups, and the Everyone groups of its organizations. */
static const pg_uuid_t **
acl_keys(const RbacFilter *filter, int *n)
{
	const RbacSubject *subject = filter->subject;
	const pg_uuid_t **ids;

	*n = 0;
	if (filter->no_acls)
		return NULL;
	ids = palloc(sizeof(pg_uuid_t *) * (subject->norgs + subject->ngroups + 1));
	for (int i = 0; i < subject->norgs; i++)
		ids[(*n)++] = &subject->orgs[i].id;
	for (int i = 0; i < subject->ngroups; i++)
		ids[(*n)++] = &subject->groups[i];
	return ids;
}

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(
		DirectFunctionCall1(uuid_out, UUIDPGetDatum(unconstify(pg_uuid_t *, id))));
}

/*
 * coder.filter(action text, type text) RETURNS coder.row_filter
 *
 * For a policy, or a statement that is prepared once: (SELECT (coder.filter(…)).orgs)
 * is evaluated once a statement.
 */
Datum
coder_filter(PG_FUNCTION_ARGS)
{
	RbacFilter filter;
	TupleDesc desc;
	Datum values[8];
	bool nulls[8] = {false};
	const pg_uuid_t **ids;
	Datum *keys;
	int n;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 8)
		elog(ERROR, "coder.row_filter does not have 8 columns");
	counted_filter(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), &filter);
	values[0] = BoolGetDatum(filter.everything);
	nulls[1] = filter.subject == NULL;
	values[1] = nulls[1] ? (Datum) 0 : UUIDPGetDatum(&filter.subject->id);
	values[2] = uuid_array(filter.orgs, filter.norgs);
	values[3] = uuid_array(filter.owned, filter.nowned);
	values[4] = BoolGetDatum(filter.own);
	ids = members(&filter, &n);
	values[5] = uuid_array(ids, n);
	ids = acl_keys(&filter, &n);
	keys = palloc(sizeof(Datum) * (n + 1));
	for (int i = 0; i < n; i++)
		keys[i] = CStringGetTextDatum(uuid_text(ids[i]));
	values[6] = PointerGetDatum(construct_array(keys, n, TEXTOID, -1, false, TYPALIGN_INT));
	nulls[7] = filter.any_id;
	values[7] = uuid_array(filter.ids, filter.nids);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Appends a constant array of ids. */
static void
put_ids(StringInfo buf, const pg_uuid_t **ids, int n, const char *type)
{
	appendStringInfoString(buf, "'{");
	for (int i = 0; i < n; i++)
		appendStringInfo(buf, "%s%s", i > 0 ? "," : "", uuid_text(ids[i]));
	appendStringInfo(buf, "}'::pg_catalog.%s[]", type);
}

static void
put_any(StringInfo buf, const char *column, const pg_uuid_t **ids, int n)
{
	appendStringInfo(buf, "%s OPERATOR(pg_catalog.=) ANY (", column);
	put_ids(buf, ids, n, "uuid");
	appendStringInfoChar(buf, ')');
}

/* The columns of a list's rows as SQL expressions; NULL where there is none. */
typedef struct FilterColumns
{
	const char *org;
	const char *owner;
	const char *id;
	const char *user_acl;
	const char *group_acl;
} FilterColumns;

/* Starts an alternative of the condition. */
static void
next_arm(StringInfo buf)
{
	if (buf->len > 0)
		appendStringInfoString(buf, " OR ");
}

static void
put_acl_can(StringInfo buf, const char *action, const char *type, const FilterColumns *columns)
{
	appendStringInfo(buf,
					 " AND coder.acl_can(%s, %s, %s, %s, %s, %s))",
					 quote_literal_cstr(action),
					 quote_literal_cstr(type),
					 columns->org != NULL ? columns->org : "NULL",
					 columns->user_acl != NULL ? columns->user_acl : "NULL",
					 columns->group_acl != NULL ? columns->group_acl : "NULL",
					 columns->id != NULL ? columns->id : "NULL");
}

/* Rows that share themselves: what an index finds by a key, judged by coder.acl_can. */
static void
put_acls(StringInfo buf, const char *action, const char *type, const RbacFilter *filter,
		 const FilterColumns *columns)
{
	const pg_uuid_t **ids;
	int n;

	if (filter->no_acls)
		return;
	if (columns->user_acl != NULL)
	{
		next_arm(buf);
		appendStringInfo(buf,
						 "(%s OPERATOR(pg_catalog.<>) '{}'::pg_catalog.jsonb"
						 " AND %s OPERATOR(pg_catalog.?) '%s'",
						 columns->user_acl,
						 columns->user_acl,
						 uuid_text(&filter->subject->id));
		put_acl_can(buf, action, type, columns);
	}
	ids = members(filter, &n);
	if (columns->group_acl == NULL || columns->org == NULL || n == 0)
		return;
	next_arm(buf);
	appendStringInfo(buf,
					 "(%s OPERATOR(pg_catalog.<>) '{}'::pg_catalog.jsonb"
					 " AND %s OPERATOR(pg_catalog.?|) ",
					 columns->group_acl,
					 columns->group_acl);
	ids = acl_keys(filter, &n);
	put_ids(buf, ids, n, "text");
	put_acl_can(buf, action, type, columns);
}

static void
put_roles(StringInfo buf, const RbacFilter *filter, const FilterColumns *columns)
{
	if (columns->org != NULL && filter->norgs > 0)
	{
		next_arm(buf);
		put_any(buf, columns->org, filter->orgs, filter->norgs);
	}
	if (columns->owner == NULL)
		return;
	if (columns->org != NULL && filter->nowned > 0)
	{
		next_arm(buf);
		appendStringInfo(buf,
						 "(%s OPERATOR(pg_catalog.=) '%s'::pg_catalog.uuid AND ",
						 columns->owner,
						 uuid_text(&filter->subject->id));
		put_any(buf, columns->org, filter->owned, filter->nowned);
		appendStringInfoChar(buf, ')');
	}
	if (!filter->own)
		return;
	next_arm(buf);
	appendStringInfo(buf,
					 "(%s OPERATOR(pg_catalog.=) '%s'::pg_catalog.uuid",
					 columns->owner,
					 uuid_text(&filter->subject->id));
	if (columns->org != NULL)
		appendStringInfo(buf, " AND %s IS NULL", columns->org);
	appendStringInfoChar(buf, ')');
}

static const char *
column_arg(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/*
 * coder.filter_sql(action text, type text, org text, owner text, id text,
 *                  user_acl text, group_acl text) RETURNS text
 */
Datum
coder_filter_sql(PG_FUNCTION_ARGS)
{
	FilterColumns columns = {column_arg(fcinfo, 2),
							 column_arg(fcinfo, 3),
							 column_arg(fcinfo, 4),
							 column_arg(fcinfo, 5),
							 column_arg(fcinfo, 6)};
	RbacFilter filter;
	StringInfoData arms;
	StringInfoData buf;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	counted_filter(PG_GETARG_TEXT_PP(0), PG_GETARG_TEXT_PP(1), &filter);
	initStringInfo(&arms);
	if (filter.everything)
		appendStringInfoString(&arms, "true");
	else
	{
		put_roles(&arms, &filter, &columns);
		put_acls(&arms,
				 text_to_cstring(PG_GETARG_TEXT_PP(0)),
				 text_to_cstring(PG_GETARG_TEXT_PP(1)),
				 &filter,
				 &columns);
	}
	initStringInfo(&buf);
	appendStringInfo(&buf, "(%s", arms.len > 0 ? arms.data : "false");
	if (!filter.any_id)
	{
		resetStringInfo(&buf);
		appendStringInfo(&buf, "((%s) AND ", arms.len > 0 ? arms.data : "false");
		if (columns.id != NULL)
			put_any(&buf, columns.id, filter.ids, filter.nids);
		else
			appendStringInfoString(&buf, "false");
	}
	appendStringInfoChar(&buf, ')');
	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}

/*
 * coder.acl_can(action text, type text, org uuid, user_acl jsonb, group_acl jsonb,
 *               id uuid) RETURNS bool
 */
Datum
coder_acl_can(PG_FUNCTION_ARGS)
{
	const CoderSubject *subject = coder_subject();
	RbacObject object = {.listed = true};
	text *action;
	text *type;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || subject == NULL)
		PG_RETURN_BOOL(false);
	action = PG_GETARG_TEXT_PP(0);
	type = PG_GETARG_TEXT_PP(1);
	object.type = rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type));
	object.org = PG_ARGISNULL(2) ? NULL : PG_GETARG_UUID_P(2);
	object.user_acl = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	object.group_acl = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	object.id = PG_ARGISNULL(5) ? NULL : PG_GETARG_UUID_P(5);
	PG_RETURN_BOOL(rbac_acl_can(&subject->rbac,
								rbac_action(VARDATA_ANY(action), (int) VARSIZE_ANY_EXHDR(action)),
								&object));
}
