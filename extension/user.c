/*
 * user.c -- GET /api/v2/users/me, the request every page and command begins with.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"

/* The columns that are read, with their numbers in the table. */
typedef enum MeColumn
{
	ME_ID,
	ME_USERNAME,
	ME_NAME,
	ME_AVATAR,
	ME_EMAIL,
	ME_CREATED,
	ME_UPDATED,
	ME_SEEN,
	ME_STATUS,
	ME_LOGIN,
	ME_SERVICE,
	ME_COLUMNS
} MeColumn;

static const char *const me_names[ME_COLUMNS] = {"id",
												 "username",
												 "name",
												 "avatar_url",
												 "email",
												 "created_at",
												 "updated_at",
												 "last_seen_at",
												 "status",
												 "login_type",
												 "is_service_account"};
static AttrNumber me_numbers[ME_COLUMNS];

/* The number of a column: the one of last time, unless the table has been altered. */
static AttrNumber
me_number(Relation users, MeColumn column)
{
	TupleDesc desc = RelationGetDescr(users);
	AttrNumber *number = &me_numbers[column];

	if (*number == InvalidAttrNumber || *number > desc->natts ||
		namestrcmp(&TupleDescAttr(desc, *number - 1)->attname, me_names[column]) != 0)
		*number = get_attnum(RelationGetRelid(users), me_names[column]);
	if (*number == InvalidAttrNumber)
		elog(ERROR, "coder.users has no column \"%s\"", me_names[column]);
	return *number;
}

/*
 * The subject's row, by the primary key and without a plan: an executor's start
 * and end would cost more than all the rest of the answer.  Values by reference
 * are copied into the current context.
 */
static void
read_me(Datum *values)
{
	Relation users = table_open(get_relname_relid("users", coder_namespace()), AccessShareLock);
	TupleDesc desc = RelationGetDescr(users);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key,
				me_number(users, ME_ID),
				BTEqualStrategyNumber,
				F_UUID_EQ,
				UUIDPGetDatum(&coder_current_subject->rbac.id));
	scan = systable_beginscan(
		users, RelationGetPrimaryKeyIndex(users), true, GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (!HeapTupleIsValid(tuple))
		coder_raise_not_found();
	for (int i = 0; i < ME_COLUMNS; i++)
	{
		AttrNumber number = me_number(users, (MeColumn) i);
		Form_pg_attribute attribute = TupleDescAttr(desc, number - 1);
		bool isnull;
		Datum value = heap_getattr(tuple, number, desc, &isnull);

		if (isnull) /* every one is NOT NULL */
			elog(ERROR, "coder.users.%s is null", me_names[i]);
		values[i] = datumCopy(value, attribute->attbyval, attribute->attlen);
	}
	systable_endscan(scan);
	table_close(users, AccessShareLock);
}

/* The label of an enum. */
static void
put_label(StringInfo body, const char *key, Datum value)
{
	json_str(body, key, DatumGetCString(DirectFunctionCall1(enum_out, value)));
}

/* A member that is left out when empty. */
static void
put_text_unless_empty(StringInfo body, const char *key, Datum value)
{
	struct varlena *t = PG_DETOAST_DATUM_PACKED(value);

	if (VARSIZE_ANY_EXHDR(t) > 0)
		json_strn(body, key, VARDATA_ANY(t), (int) VARSIZE_ANY_EXHDR(t));
}

/* User of the current subject: roles and organizations are the subject's. */
static int
put_me(StringInfo body)
{
	CoderSubject *subject = coder_current_subject;
	Datum v[ME_COLUMNS];

	read_me(v);
	appendStringInfoChar(body, '{');
	json_uuid(body, "id", &subject->rbac.id);
	json_text(body, "username", v[ME_USERNAME]);
	put_text_unless_empty(body, "name", v[ME_NAME]);
	put_text_unless_empty(body, "avatar_url", v[ME_AVATAR]);
	json_text(body, "email", v[ME_EMAIL]);
	json_time(body, "created_at", DatumGetTimestampTz(v[ME_CREATED]));
	json_time(body, "updated_at", DatumGetTimestampTz(v[ME_UPDATED]));
	json_time(body, "last_seen_at", DatumGetTimestampTz(v[ME_SEEN]));
	put_label(body, "status", v[ME_STATUS]);
	put_label(body, "login_type", v[ME_LOGIN]);
	if (DatumGetBool(v[ME_SERVICE]))
		json_bool(body, "is_service_account", true);
	json_raw(body, "organization_ids", subject->orgs_json, (int) strlen(subject->orgs_json));
	json_raw(body, "roles", subject->roles_json, (int) strlen(subject->roles_json));
	json_bool(body, "has_ai_seat", false);
	appendStringInfoChar(body, '}');
	return 200;
}

int
coder_user_get_fast(const CoderRequest *request, StringInfo body)
{
	RbacObject object = {0};
	const char *why;

	if (coder_current_subject == NULL || request->nparams != 1 ||
		strcmp(request->params[0], "me") != 0)
		return 0;
	object.type = rbac_type("user", 4);
	object.id = object.owner = &coder_current_subject->rbac.id;
	if (!rbac_decide(&coder_current_subject->rbac, rbac_action("read", 4), &object, &why))
		coder_raise_not_found();
	return put_me(body);
}
