/*
 * row.c -- the decision for policies of row security, once for a statement.
 *
 * A policy asks for each part of a filter (rbac.h: RbacFilter) in an expression without
 * columns, such as (SELECT coder.row_orgs('read', 'workspace')), which is evaluated once.
 * What is left for each row is comparing ids.  Where nobody asks nothing passes, without an
 * error: raised for some rows only, it would tell of them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "coder.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(coder_row_all);
PG_FUNCTION_INFO_V1(coder_row_own);
PG_FUNCTION_INFO_V1(coder_row_orgs);
PG_FUNCTION_INFO_V1(coder_row_owned);
PG_FUNCTION_INFO_V1(coder_row_listed);
PG_FUNCTION_INFO_V1(coder_row_subject);
PG_FUNCTION_INFO_V1(coder_row_can);

static void
filter_of_args(FunctionCallInfo fcinfo, RbacFilter *filter)
{
	text *action = PG_GETARG_TEXT_PP(0);
	text *type = PG_GETARG_TEXT_PP(1);
	CoderSubject *subject = coder_subject();

	memset(filter, 0, sizeof(*filter));
	if (subject == NULL)
		return;
	rbac_filter(&subject->rbac,
				rbac_action(VARDATA_ANY(action), (int) VARSIZE_ANY_EXHDR(action)),
				rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type)),
				filter);
}

static Datum
uuids(const pg_uuid_t **ids, int n)
{
	Datum *elems = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elems[i] = UUIDPGetDatum(unconstify(pg_uuid_t *, ids[i]));
	return PointerGetDatum(construct_array(elems, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* coder.row_all(action text, type text) RETURNS bool: every row of the type? */
Datum
coder_row_all(PG_FUNCTION_ARGS)
{
	RbacFilter filter;

	filter_of_args(fcinfo, &filter);
	PG_RETURN_BOOL(filter.everything && filter.any_id);
}

/* coder.row_own(action text, type text) RETURNS bool: one's own rows that are of no organization? */
Datum
coder_row_own(PG_FUNCTION_ARGS)
{
	RbacFilter filter;

	filter_of_args(fcinfo, &filter);
	PG_RETURN_BOOL(filter.own && filter.any_id);
}

/* coder.row_orgs(action text, type text) RETURNS uuid[]: every row of which organizations? */
Datum
coder_row_orgs(PG_FUNCTION_ARGS)
{
	RbacFilter filter;

	filter_of_args(fcinfo, &filter);
	PG_RETURN_DATUM(uuids(filter.orgs, filter.any_id ? filter.norgs : 0));
}

/* coder.row_owned(action text, type text) RETURNS uuid[]: one's own rows of which organizations? */
Datum
coder_row_owned(PG_FUNCTION_ARGS)
{
	RbacFilter filter;

	filter_of_args(fcinfo, &filter);
	PG_RETURN_DATUM(uuids(filter.owned, filter.any_id ? filter.nowned : 0));
}

/*
 * coder.row_listed(action text, type text) RETURNS bool
 *
 * Does the token name the objects it is for, so that each row must be asked about?
 */
Datum
coder_row_listed(PG_FUNCTION_ARGS)
{
	RbacFilter filter;

	filter_of_args(fcinfo, &filter);
	PG_RETURN_BOOL(!filter.any_id && filter.nids > 0);
}

/* coder.row_subject() RETURNS uuid: who asks; NULL for nobody. */
Datum
coder_row_subject(PG_FUNCTION_ARGS)
{
	CoderSubject *subject = coder_subject();

	if (subject == NULL)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(&subject->rbac.id);
}

/*
 * coder.row_can(action text, type text, org uuid, owner uuid, user_acl jsonb, group_acl jsonb,
 *               id uuid) RETURNS bool
 *
 * The decision for one row: those with lists of their own, and where row_listed.
 */
Datum
coder_row_can(PG_FUNCTION_ARGS)
{
	RbacObject object;
	CoderSubject *subject = coder_subject();
	const char *why;
	int action;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || subject == NULL)
		PG_RETURN_BOOL(false);
	action = coder_object_of_args(fcinfo, 0, &object);
	PG_RETURN_BOOL(rbac_decide(&subject->rbac, action, &object, &why));
}
