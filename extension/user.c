/*
 * user.c -- GET /api/v2/users/me, the request every page and command begins with.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"

static const Oid me_args[] = {UUIDOID};

static CoderPlan me_plan = {
	"SELECT u.username, u.name, u.avatar_url, u.email, u.created_at, u.updated_at,"
	"       u.last_seen_at, u.status::pg_catalog.text, u.login_type::pg_catalog.text,"
	"       u.is_service_account"
	"  FROM coder.users u WHERE u.id OPERATOR(pg_catalog.=) $1",
	1,
	me_args,
	NULL};

/* A member that is left out when empty. */
static void
put_text_unless_empty(StringInfo body, const char *key, Datum value)
{
	struct varlena *t = PG_DETOAST_DATUM_PACKED(value);

	if (VARSIZE_ANY_EXHDR(t) > 0)
		json_strn(body, key, VARDATA_ANY(t), (int) VARSIZE_ANY_EXHDR(t));
}

/* User of the current subject: the row is read, roles and organizations are the subject's. */
static int
put_me(StringInfo body)
{
	CoderSubject *subject = coder_current_subject;
	Datum id = UUIDPGetDatum(&subject->rbac.id);
	Datum v[10];
	bool isnull;

	SPI_connect();
	coder_execute(&me_plan, &id, NULL, true, 1);
	if (SPI_processed == 0)
		coder_raise_not_found();
	for (int i = 0; i < (int) lengthof(v); i++)
		v[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
	appendStringInfoChar(body, '{');
	json_uuid(body, "id", &subject->rbac.id);
	json_text(body, "username", v[0]);
	put_text_unless_empty(body, "name", v[1]);
	put_text_unless_empty(body, "avatar_url", v[2]);
	json_text(body, "email", v[3]);
	json_time(body, "created_at", DatumGetTimestampTz(v[4]));
	json_time(body, "updated_at", DatumGetTimestampTz(v[5]));
	json_time(body, "last_seen_at", DatumGetTimestampTz(v[6]));
	json_text(body, "status", v[7]);
	json_text(body, "login_type", v[8]);
	if (DatumGetBool(v[9]))
		json_bool(body, "is_service_account", true);
	json_raw(body, "organization_ids", subject->orgs_json, (int) strlen(subject->orgs_json));
	json_raw(body, "roles", subject->roles_json, (int) strlen(subject->roles_json));
	json_bool(body, "has_ai_seat", false);
	appendStringInfoChar(body, '}');
	SPI_finish();
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
