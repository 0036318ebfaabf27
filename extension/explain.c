/*
 * explain.c -- why a decision falls as it does: which permission of which role at which level, which
 * entry of the object's lists, or what is missing.
 *
 * The decision itself is rbac.c's; here each role of the subject is looked at alone.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "coder.h"
#include "compat.h"
#include "json.h"
#include "load.h"
#include "system.h"

PG_FUNCTION_INFO_V1(coder_explain);
PG_FUNCTION_INFO_V1(coder_explain_json);

static const char *const level_names[] = {"site", "user", "organization", "member"};

/* The question, and what is found of it. */
typedef struct Explain
{
	const CoderSubject *subject;
	RbacObject object;
	int action;
	char *action_name;
	char *type_name;
	RbacRoleSets *sets; /* of each role of the subject */
	bool applies[RBAC_MEMBER + 1];
	int vote[RBAC_MEMBER + 1];
	bool acl_user;
	int nacl_groups;
	const pg_uuid_t **acl_groups;
	bool scope;
	bool allow_list;
	bool allowed;
	int decided; /* level that decided; -1: none */
} Explain;

/* Does the role count at this level for this object? */
static bool
role_counts(const Explain *e, const CoderRole *role, int level)
{
	if (!e->applies[level])
		return false;
	if (level < RBAC_ORG)
		return true;
	return role->in_org &&
		   (e->object.any_org || (e->object.org != NULL &&
								  memcmp(role->org.data, e->object.org->data, UUID_LEN) == 0));
}

static bool
role_speaks(const RbacRoleSets *sets, int level, const Explain *e, bool deny)
{
	uint32 bit = (uint32) 1 << e->action;
	const RbacSet *set = &sets->level[level];

	return ((deny ? set->deny : set->grant)[e->object.type] & bit) != 0;
}

static void
load_sets(Explain *e)
{
	const CoderSubject *subject = e->subject;
	MemoryContext caller = CurrentMemoryContext;

	e->sets = palloc0(sizeof(RbacRoleSets) * (subject->nroles + 1));
	SPI_connect();
	MemoryContextSwitchTo(caller);
	PushActiveSnapshot(GetLatestSnapshot());
	for (int i = 0; i < subject->nroles; i++)
		if (!subject->fixed || !coder_system_role_sets(subject->roles[i].name, &e->sets[i]))
			coder_role_sets(&subject->roles[i], &e->sets[i]);
	PopActiveSnapshot();
	SPI_finish();
}

/* A level's vote for one organization, of all roles that count there. */
static int
pooled_vote(const Explain *e, int level, const pg_uuid_t *org)
{
	int vote = 0;

	for (int i = 0; i < e->subject->nroles; i++)
	{
		const CoderRole *role = &e->subject->roles[i];

		if (!role_counts(e, role, level) ||
			(level >= RBAC_ORG && memcmp(role->org.data, org->data, UUID_LEN) != 0))
			continue;
		if (role_speaks(&e->sets[i], level, e, true))
			return -1;
		if (role_speaks(&e->sets[i], level, e, false))
			vote = 1;
	}
	return vote;
}

static void
find_votes(Explain *e)
{
	const RbacSubject *rbac = &e->subject->rbac;
	const RbacObject *object = &e->object;
	bool own = object->owner != NULL && memcmp(object->owner->data, rbac->id.data, UUID_LEN) == 0;
	bool inside = object->any_org ? rbac->norgs > 0
								  : object->org != NULL && rbac_is_member(rbac, object->org);

	e->applies[RBAC_SITE] = true;
	e->applies[RBAC_USER] = own && object->org == NULL && !object->any_org;
	e->applies[RBAC_ORG] = inside;
	e->applies[RBAC_MEMBER] = own && inside;
	for (int level = RBAC_SITE; level <= RBAC_MEMBER; level++)
	{
		if (!e->applies[level])
			continue;
		if (level < RBAC_ORG || !object->any_org)
		{
			e->vote[level] = pooled_vote(e, level, object->org);
			continue;
		}
		e->vote[level] = -1;
		for (int i = 0; i < rbac->norgs; i++)
			e->vote[level] = Max(e->vote[level], pooled_vote(e, level, &rbac->orgs[i].id));
	}
}

static void
find_acls(Explain *e)
{
	const RbacSubject *rbac = &e->subject->rbac;

	e->acl_groups = palloc(sizeof(pg_uuid_t *) * (rbac->ngroups + 1));
	if (rbac_no_acls(rbac, &e->object))
		return;
	e->acl_user = rbac_acl_holds(e->object.user_acl, &rbac->id, e->action);
	if (!e->applies[RBAC_ORG])
		return;
	if (e->object.org != NULL && rbac_acl_holds(e->object.group_acl, e->object.org, e->action))
		e->acl_groups[e->nacl_groups++] = e->object.org;
	for (int i = 0; i < rbac->ngroups; i++)
		if (rbac_acl_holds(e->object.group_acl, &rbac->groups[i], e->action))
			e->acl_groups[e->nacl_groups++] = &rbac->groups[i];
}

/* The level that decides among the roles: the table of rbac.c. */
static int
deciding_level(const Explain *e)
{
	if (e->vote[RBAC_SITE] != 0)
		return RBAC_SITE;
	if (e->vote[RBAC_USER] > 0)
		return RBAC_USER;
	if (e->vote[RBAC_ORG] != 0)
		return RBAC_ORG;
	if (e->vote[RBAC_MEMBER] != 0)
		return RBAC_MEMBER;
	return e->vote[RBAC_USER] < 0 ? RBAC_USER : -1;
}

static void
explain(Explain *e)
{
	const char *why;

	load_sets(e);
	find_votes(e);
	find_acls(e);
	e->scope = rbac_vote(&e->subject->rbac.scope, e->object.type, e->action) > 0;
	e->allow_list = rbac_allow_list_passes(&e->subject->rbac, &e->object);
	e->decided = deciding_level(e);
	e->allowed = rbac_decide(&e->subject->rbac, e->action, &e->object, &why);
}

/* ---- in words ---- */

/* A role's name without the variant that a switch or mode made of it. */
static const char *
plain_name(const char *name)
{
	const char *slash = strchr(name, '/');

	return slash == NULL ? name : pnstrdup(name, slash - name);
}

/* The first role that granted, or negated, at the level that decided. */
static const char *
deciding_role(const Explain *e, bool deny)
{
	for (int i = 0; i < e->subject->nroles; i++)
		if (role_counts(e, &e->subject->roles[i], e->decided) &&
			role_speaks(&e->sets[i], e->decided, e, deny))
			return plain_name(e->subject->roles[i].name);
	return "";
}

static bool
granted_by_roles(const Explain *e)
{
	return e->decided >= 0 && e->vote[e->decided] > 0;
}

static char *
reason(const Explain *e)
{
	if (e->object.any_org && e->object.org != NULL)
		return pstrdup("an object cannot be in an organization and in any");
	if (e->allowed || !e->scope || !e->allow_list)
	{
		bool granted = granted_by_roles(e) || e->acl_user || e->nacl_groups > 0;

		if (granted && !e->scope)
			return psprintf("the token's scope does not hold %s:%s", e->type_name, e->action_name);
		if (granted && !e->allow_list)
			return pstrdup("the object is not on the token's allow list");
	}
	if (granted_by_roles(e))
		return psprintf("the role %s grants %s:%s at the level %s",
						deciding_role(e, false),
						e->type_name,
						e->action_name,
						level_names[e->decided]);
	if (e->acl_user)
		return pstrdup("the object's list of users grants it");
	if (e->nacl_groups > 0)
		return pstrdup("the object's list of groups grants it");
	if (e->decided >= 0)
		return psprintf("the role %s denies %s:%s at the level %s",
						deciding_role(e, true),
						e->type_name,
						e->action_name,
						level_names[e->decided]);
	return psprintf("no role grants %s:%s on this object", e->type_name, e->action_name);
}

/* ---- as JSON ---- */

static void
put_permissions(StringInfo buf, const Explain *e, int level)
{
	json_open_at(buf, "permissions", '[');
	for (int i = 0; i < e->subject->nroles; i++)
	{
		const CoderRole *role = &e->subject->roles[i];

		for (int deny = 0; deny <= 1 && role_counts(e, role, level); deny++)
		{
			const RbacSet *set = &e->sets[i].level[level];
			uint32 word = (deny ? set->deny : set->grant)[e->object.type];

			if (!role_speaks(&e->sets[i], level, e, deny))
				continue;
			json_open(buf, '{');
			json_str(buf, "role", plain_name(role->name));
			if (role->in_org)
				json_uuid(buf, "organization_id", &role->org);
			json_bool(buf, "implied", role->implied);
			json_bool(buf, "negate", deny);
			json_str(buf, "resource_type", e->type_name);
			json_str(buf, "action", word == RBAC_ALL_ACTIONS ? "*" : e->action_name);
			json_close(buf, '}');
		}
	}
	json_close(buf, ']');
}

static void
put_levels(StringInfo buf, const Explain *e)
{
	static const char *const votes[] = {"deny", "none", "grant"};

	json_open_at(buf, "levels", '[');
	for (int level = RBAC_SITE; level <= RBAC_MEMBER; level++)
	{
		json_open(buf, '{');
		json_str(buf, "level", level_names[level]);
		json_bool(buf, "applies", e->applies[level]);
		json_str(buf, "vote", votes[e->vote[level] + 1]);
		json_bool(buf, "decides", level == e->decided);
		put_permissions(buf, e, level);
		json_close(buf, '}');
	}
	json_close(buf, ']');
}

static void
put_strings(StringInfo buf, const char *key, char **strings, int n)
{
	json_open_at(buf, key, '[');
	for (int i = 0; i < n; i++)
		json_str(buf, NULL, strings[i]);
	json_close(buf, ']');
}

/* Built-in roles that would grant it, given in the object's organization where they are of one. */
static void
put_would_grant(StringInfo buf, const Explain *e)
{
	const char *name;
	bool org;

	json_open_at(buf, "would_grant", '[');
	for (int i = 0; (name = rbac_role_name(i, &org)) != NULL; i++)
	{
		const RbacRoleSets *sets = rbac_role_sets(name, org);
		bool grants = rbac_vote(&sets->level[RBAC_SITE], e->object.type, e->action) > 0;

		if (strchr(name, '/') != NULL || e->allowed)
			continue;
		if (org && (e->object.org != NULL || e->object.any_org))
			grants |= rbac_vote(&sets->level[RBAC_ORG], e->object.type, e->action) > 0;
		if (e->applies[RBAC_USER])
			grants |= rbac_vote(&sets->level[RBAC_USER], e->object.type, e->action) > 0;
		if (grants)
			json_str(buf, NULL, name);
	}
	json_close(buf, ']');
}

static void
put_object(StringInfo buf, const Explain *e)
{
	json_open_at(buf, "object", '{');
	json_str(buf, "resource_type", e->type_name);
	if (e->object.id != NULL)
		json_uuid(buf, "resource_id", e->object.id);
	if (e->object.owner != NULL)
		json_uuid(buf, "owner_id", e->object.owner);
	if (e->object.org != NULL)
		json_uuid(buf, "organization_id", e->object.org);
	json_bool(buf, "any_org", e->object.any_org);
	json_close(buf, '}');
}

static void
put_acls(StringInfo buf, const Explain *e)
{
	json_open_at(buf, "acl", '{');
	json_bool(buf, "user", e->acl_user);
	json_open_at(buf, "groups", '[');
	for (int i = 0; i < e->nacl_groups; i++)
		json_uuid(buf, NULL, e->acl_groups[i]);
	json_close(buf, ']');
	json_close(buf, '}');
}

static void
put_token(StringInfo buf, const Explain *e)
{
	json_open_at(buf, "scope", '{');
	json_bool(buf, "passes", e->scope);
	put_strings(buf, "scopes", e->subject->scopes, e->subject->nscopes);
	json_close(buf, '}');
	json_open_at(buf, "allow_list", '{');
	json_bool(buf, "passes", e->allow_list);
	put_strings(buf, "entries", e->subject->allow, e->subject->nallow);
	json_close(buf, '}');
}

static void
put_explanation(StringInfo buf, const Explain *e)
{
	json_open(buf, '{');
	json_bool(buf, "allowed", e->allowed);
	json_str(buf, "reason", reason(e));
	json_uuid(buf, "user_id", &e->subject->rbac.id);
	json_str(buf, "username", e->subject->username);
	json_str(buf, "action", e->action_name);
	put_object(buf, e);
	put_levels(buf, e);
	put_acls(buf, e);
	put_token(buf, e);
	put_would_grant(buf, e);
	json_close(buf, '}');
}

/* Arguments from first: action, type, org, owner, user_acl, group_acl, id. */
static void
read_question(FunctionCallInfo fcinfo, int first, Explain *e)
{
	RbacObject *object = &e->object;
	int i = first;

	e->action_name = text_to_cstring(PG_GETARG_TEXT_PP(i));
	e->action = rbac_action(e->action_name, (int) strlen(e->action_name));
	i++;
	e->type_name = text_to_cstring(PG_GETARG_TEXT_PP(i));
	object->type = rbac_type(e->type_name, (int) strlen(e->type_name));
	i++;
	object->org = PG_ARGISNULL(i) ? NULL : PG_GETARG_UUID_P(i);
	i++;
	object->owner = PG_ARGISNULL(i) ? NULL : PG_GETARG_UUID_P(i);
	i++;
	object->user_acl = PG_ARGISNULL(i) ? NULL : PG_GETARG_JSONB_P(i);
	i++;
	object->group_acl = PG_ARGISNULL(i) ? NULL : PG_GETARG_JSONB_P(i);
	i++;
	object->id = PG_ARGISNULL(i) ? NULL : PG_GETARG_UUID_P(i);
}

/*
 * coder.explain(action text, type text, org uuid, owner uuid, user_acl jsonb,
 *               group_acl jsonb, id uuid) RETURNS text
 *
 * What decides for the current subject, in a sentence.
 */
Datum
coder_explain(PG_FUNCTION_ARGS)
{
	Explain e = {.subject = coder_subject()};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	if (e.subject == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("denied: nobody is asking"));
	read_question(fcinfo, 0, &e);
	explain(&e);
	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf("%s: %s", e.allowed ? "allowed" : "denied", reason(&e))));
}

/*
 * coder.explain_json(who uuid, action text, type text, org uuid, owner uuid,
 *                    user_acl jsonb, group_acl jsonb, id uuid, any_org bool) RETURNS jsonb
 *
 * All that decides, for a user by any scope, or for the current subject by its
 * token's where who is NULL.  NULL where there is no such user.
 */
Datum
coder_explain_json(PG_FUNCTION_ARGS)
{
	Explain e = {0};
	StringInfoData buf;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	e.subject =
		PG_ARGISNULL(0) ? coder_subject() : coder_subject_of_user(PG_GETARG_UUID_P(0));
	if (e.subject == NULL)
		PG_RETURN_NULL();
	read_question(fcinfo, 1, &e);
	e.object.any_org = !PG_ARGISNULL(8) && PG_GETARG_BOOL(8);
	explain(&e);
	initStringInfo(&buf);
	put_explanation(&buf, &e);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
}
