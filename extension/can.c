/*
 * can.c -- the decision as SQL functions: can, user_can, require, require_read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "stat.h"

#define TIME_EVERY 128 /* decisions: the clock costs as much as one */

PG_FUNCTION_INFO_V1(coder_can);
PG_FUNCTION_INFO_V1(coder_can_any);
PG_FUNCTION_INFO_V1(coder_require);
PG_FUNCTION_INFO_V1(coder_require_read);
PG_FUNCTION_INFO_V1(coder_user_can);
PG_FUNCTION_INFO_V1(coder_may_assign);
PG_FUNCTION_INFO_V1(coder_has_organization_membership);
PG_FUNCTION_INFO_V1(coder_rbac_role);

/* Arguments (action, type, org, owner, user_acl, group_acl, id) from first into an object; the
 * action. */
int
coder_object_of_args(FunctionCallInfo fcinfo, int first, RbacObject *object)
{
	text *action = PG_GETARG_TEXT_PP(first);
	text *type = PG_GETARG_TEXT_PP(first + 1);
	NullableDatum *args = &fcinfo->args[first + 2];

	memset(object, 0, sizeof(*object));
	object->type = rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type));
	object->org = args[0].isnull ? NULL : DatumGetUUIDP(args[0].value);
	object->owner = args[1].isnull ? NULL : DatumGetUUIDP(args[1].value);
	object->user_acl = args[2].isnull ? NULL : DatumGetJsonbP(args[2].value);
	object->group_acl = args[3].isnull ? NULL : DatumGetJsonbP(args[3].value);
	object->id = args[4].isnull ? NULL : DatumGetUUIDP(args[4].value);
	return rbac_action(VARDATA_ANY(action), (int) VARSIZE_ANY_EXHDR(action));
}

static bool
decide_timed(const RbacSubject *subject, int action, const RbacObject *object, const char **why)
{
	instr_time began;
	instr_time took;
	bool allowed;

	INSTR_TIME_SET_CURRENT(began);
	allowed = rbac_decide(subject, action, object, why);
	INSTR_TIME_SET_CURRENT(took);
	INSTR_TIME_SUBTRACT(took, began);
	coder_stat_time(allowed ? "authorize allowed" : "authorize denied", INSTR_TIME_GET_DOUBLE(took), 1, false);
	return allowed;
}

/* rbac_decide, counted. */
static bool
decide(const RbacSubject *subject, int action, const RbacObject *object, const char **why)
{
	static unsigned n;
	bool allowed = n++ % TIME_EVERY == 0 ? decide_timed(subject, action, object, why)
										 : rbac_decide(subject, action, object, why);

	coder_stat_add(allowed ? STAT_ALLOWED : STAT_DENIED);
	return allowed;
}

static bool
can_by_args(FunctionCallInfo fcinfo, const char **why)
{
	const CoderSubject *subject = coder_subject();
	RbacObject object;
	int action;

	*why = "nobody is asking";
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || subject == NULL)
		return false;
	action = coder_object_of_args(fcinfo, 0, &object);
	return decide(&subject->rbac, action, &object, why);
}

/*
 * coder.can(action text, type text, org uuid, owner uuid, user_acl jsonb,
 *           group_acl jsonb, id uuid) RETURNS bool
 *
 * May the current subject do it?  An ACL maps a user or group id to an array of
 * actions, or to {"permissions": array}.
 */
Datum
coder_can(PG_FUNCTION_ARGS)
{
	const char *why;

	PG_RETURN_BOOL(can_by_args(fcinfo, &why));
}

/*
 * coder.can_any(action text, type text, owner uuid) RETURNS bool
 *
 * May the current subject do it in at least one organization?
 */
Datum
coder_can_any(PG_FUNCTION_ARGS)
{
	const CoderSubject *subject = coder_subject();
	RbacObject object = {0};
	const char *why;
	text *action;
	text *type;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || subject == NULL)
		PG_RETURN_BOOL(false);
	action = PG_GETARG_TEXT_PP(0);
	type = PG_GETARG_TEXT_PP(1);
	object.type = rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type));
	object.owner = PG_ARGISNULL(2) ? NULL : PG_GETARG_UUID_P(2);
	object.any_org = true;
	PG_RETURN_BOOL(rbac_decide(&subject->rbac,
							   rbac_action(VARDATA_ANY(action), (int) VARSIZE_ANY_EXHDR(action)),
							   &object,
							   &why));
}

/* coder.require(as can) RETURNS void: ZC403 where can is false. */
Datum
coder_require(PG_FUNCTION_ARGS)
{
	const char *why;

	if (!can_by_args(fcinfo, &why))
		coder_raise_forbidden();
	PG_RETURN_VOID();
}

/* coder.require_read(as can) RETURNS void: ZC404 where can is false. */
Datum
coder_require_read(PG_FUNCTION_ARGS)
{
	const char *why;

	if (!can_by_args(fcinfo, &why))
		coder_raise_not_found();
	PG_RETURN_VOID();
}

/*
 * coder.user_can(who uuid, action text, type text, org uuid, owner uuid,
 *                user_acl jsonb, group_acl jsonb, id uuid) RETURNS bool
 *
 * May this user do it, asking with all rights of its roles?  Nobody who is
 * suspended or deleted may.
 */
Datum
coder_user_can(PG_FUNCTION_ARGS)
{
	const CoderSubject *subject;
	RbacObject object;
	const char *why;
	int action;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);
	subject = coder_user_subject(PG_GETARG_UUID_P(0));
	if (subject == NULL || !subject->active)
		PG_RETURN_BOOL(false);
	action = coder_object_of_args(fcinfo, 1, &object);
	PG_RETURN_BOOL(rbac_decide(&subject->rbac, action, &object, &why));
}

/*
 * coder.has_organization_membership(org uuid) RETURNS bool
 *
 * Membership of the current subject, from its own roles and without a query:
 * roles of the site make nobody a member.
 */
Datum
coder_has_organization_membership(PG_FUNCTION_ARGS)
{
	const CoderSubject *subject = coder_subject();

	PG_RETURN_BOOL(subject != NULL && rbac_is_member(&subject->rbac, PG_GETARG_UUID_P(0)));
}

static bool
one_of(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

/* Who has the role mine may give the role target; both of the organization in question, or of the site. */
static bool
role_assigns(const char *mine, bool mine_in_org, const char *target, bool target_in_org)
{
	static const char *const of_user_admin[] = {
		"member", "organization-member", "agents-access", NULL};
	bool org_built_in = rbac_is_role(target, true);

	if (!mine_in_org)
	{
		if (strncmp(mine, "owner", 5) == 0 && (mine[5] == '\0' || mine[5] == '/'))
			return true;
		return strcmp(mine, "system") == 0 ||
			   (strcmp(mine, "user-admin") == 0 && one_of(target, of_user_admin)) ||
			   (strcmp(mine, "prebuilds-orchestrator") == 0 &&
				strcmp(target, "organization-member") == 0);
	}
	if (strcmp(mine, "organization-admin") == 0)
		return target_in_org && (org_built_in || !rbac_is_role(target, false));
	return strcmp(mine, "organization-user-admin") == 0 &&
		   strcmp(target, "organization-member") == 0;
}

/*
 * coder.may_assign(role text, org uuid) RETURNS bool
 *
 * May the current subject give or take away a role of the site (org is NULL), or
 * of an organization?  Besides, it needs the permission to.
 */
Datum
coder_may_assign(PG_FUNCTION_ARGS)
{
	const CoderSubject *subject = coder_subject();
	pg_uuid_t *org = PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1);
	char *target;

	if (PG_ARGISNULL(0) || subject == NULL)
		PG_RETURN_BOOL(false);
	target = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strcmp(target, "organization-service-account") == 0)
		PG_RETURN_BOOL(false);
	for (int i = 0; i < subject->nroles; i++)
	{
		const CoderRole *role = &subject->roles[i];

		if (role->in_org &&
			(org == NULL || memcmp(role->org.data, org->data, UUID_LEN) != 0))
			continue;
		if (role_assigns(role->name, role->in_org, target, org != NULL))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}

/*
 * coder.rbac_role(role text, org bool, OUT known bool, OUT display text): a
 * built-in role's display name; org tells organization roles from site roles.
 */
Datum
coder_rbac_role(PG_FUNCTION_ARGS)
{
	char *role = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strchr(role, '/') != NULL || !rbac_is_role(role, PG_GETARG_BOOL(1)))
		PG_RETURN_NULL(); /* variants are nobody's to give */
	PG_RETURN_TEXT_P(cstring_to_text(rbac_role_display(role)));
}

PG_FUNCTION_INFO_V1(coder_role_permissions);
PG_FUNCTION_INFO_V1(coder_rbac_type_known);
PG_FUNCTION_INFO_V1(coder_rbac_action_known);

/*
 * coder.role_permissions(role text, level text) RETURNS jsonb
 *
 * Permission[] of a built-in role at site, user, org or member level; NULL for
 * no such role.
 */
Datum
coder_role_permissions(PG_FUNCTION_ARGS)
{
	static const char *const levels[] = {"site", "user", "org", "member"};
	char *role = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *level = text_to_cstring(PG_GETARG_TEXT_PP(1));
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < (int) lengthof(levels); i++)
		if (strcmp(level, levels[i]) == 0 && rbac_role_json(&buf, role, (RbacLevel) i))
			PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
	PG_RETURN_NULL();
}

/* coder.rbac_type_known(type text) RETURNS bool */
Datum
coder_rbac_type_known(PG_FUNCTION_ARGS)
{
	text *type = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(rbac_type(VARDATA_ANY(type), (int) VARSIZE_ANY_EXHDR(type)) != RBAC_OTHER_TYPE);
}

/* coder.rbac_action_known(type text, action text) RETURNS bool: is it one of the type's actions? */
Datum
coder_rbac_action_known(PG_FUNCTION_ARGS)
{
	text *type_name = PG_GETARG_TEXT_PP(0);
	text *action_name = PG_GETARG_TEXT_PP(1);
	int type = rbac_type(VARDATA_ANY(type_name), (int) VARSIZE_ANY_EXHDR(type_name));
	int action = rbac_action(VARDATA_ANY(action_name), (int) VARSIZE_ANY_EXHDR(action_name));

	PG_RETURN_BOOL(type != RBAC_OTHER_TYPE && action != RBAC_OTHER_ACTION &&
				   (rbac_type_actions(type) & ((uint32) 1 << action)) != 0);
}

PG_FUNCTION_INFO_V1(coder_rbac_resources);

/*
 * coder.rbac_resources() RETURNS jsonb
 *
 * {"type": ["action", ...], ...}: every resource type with its actions.
 */
Datum
coder_rbac_resources(PG_FUNCTION_ARGS)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	for (int type = 0; type < RBAC_TYPES; type++)
	{
		uint32 actions = rbac_type_actions(type);
		const char *separator = "";

		appendStringInfo(&buf, "%s\"%s\":[", type > 0 ? "," : "", rbac_type_names[type]);
		for (int action = 0; action < RBAC_ACTIONS; action++)
			if (actions & ((uint32) 1 << action))
			{
				appendStringInfo(&buf, "%s\"%s\"", separator, rbac_action_names[action]);
				separator = ",";
			}
		appendStringInfoChar(&buf, ']');
	}
	appendStringInfoChar(&buf, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
}
