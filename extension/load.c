/*
 * load.c -- a user's roles, organizations and groups from the tables into a subject.
 *
 * A subject keeps the names of its roles, for explanations and for who may give
 * which role, and the pooled sets of their permissions, for decisions.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "coder.h"
#include "compat.h"
#include "json.h"
#include "load.h"

Datum
coder_column(int row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

static int
compare_orgs(const void *a, const void *b)
{
	return memcmp(((const RbacOrg *) a)->id.data, ((const RbacOrg *) b)->id.data, UUID_LEN);
}

char **
coder_text_array(Datum value, bool isnull, int *n)
{
	Datum *elems;
	bool *nulls;
	char **out;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(
		DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, n);
	out = palloc(sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
		out[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(elems[i]);
	return out;
}

/* The member of a permission, as a string that need not end in NUL; false where it is none. */
static bool
permission_member(JsonbContainer *permission, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(permission, name, (int) strlen(name), value) != NULL &&
		   value->type == jbvString;
}

static bool
is_star(const JsonbValue *v)
{
	return v->val.string.len == 1 && v->val.string.val[0] == '*';
}

/*
 * Types and actions without a name here share one place in a set, where only
 * wildcards may grant: a permission that names one grants nothing, but denies.
 */
static bool
known_permission(const JsonbValue *type, const JsonbValue *action)
{
	return (is_star(type) ||
			rbac_type(type->val.string.val, type->val.string.len) != RBAC_OTHER_TYPE) &&
		   (is_star(action) ||
			rbac_action(action->val.string.val, action->val.string.len) != RBAC_OTHER_ACTION);
}

static void
add_permission(RbacSet *set, JsonbContainer *permission)
{
	JsonbValue type;
	JsonbValue action;
	JsonbValue negate;
	uint32 *words;
	uint32 bits;

	if (!permission_member(permission, "resource_type", &type) ||
		!permission_member(permission, "action", &action))
		return;
	words = getKeyJsonValueFromContainer(permission, "negate", 6, &negate) != NULL &&
					negate.type == jbvBool && negate.val.boolean
				? set->deny
				: set->grant;
	bits = is_star(&action)
			   ? RBAC_ALL_ACTIONS
			   : (uint32) 1 << rbac_action(action.val.string.val, action.val.string.len);
	if (words == set->grant && !known_permission(&type, &action))
		return;
	if (!is_star(&type))
	{
		words[rbac_type(type.val.string.val, type.val.string.len)] |= bits;
		return;
	}
	for (int t = 0; t <= RBAC_TYPES; t++)
		words[t] |= bits;
}

/*
 * A custom role's permission list, a JSON array of {negate, resource_type,
 * action}, into a set.
 */
static void
add_permissions(RbacSet *set, Jsonb *list)
{
	JsonbIterator *it;
	JsonbValue item;
	JsonbIteratorToken tok;

	if (!JB_ROOT_IS_ARRAY(list))
		return;
	it = JsonbIteratorInit(&list->root);
	while ((tok = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
		if (tok == WJB_ELEM && item.type == jbvBinary &&
			JsonContainerIsObject(item.val.binary.data))
			add_permission(set, item.val.binary.data);
}

static const Oid user_args[] = {UUIDOID};

static CoderPlan user_plan = {
	"SELECT u.username, u.rbac_roles, u.is_service_account, u.status::pg_catalog.text, u.deleted,"
	"       (SELECT pg_catalog.array_agg(s.name) FROM coder.settings s"
	"         WHERE s.name OPERATOR(pg_catalog.=) ANY ("
	"               '{disable_owner_workspace_access,disable_workspace_sharing}')"
	"           AND s.value OPERATOR(pg_catalog.=) ANY ('{1,t,T,true,TRUE,True}'))"
	"  FROM coder.users u WHERE u.id OPERATOR(pg_catalog.=) $1",
	1,
	user_args,
	NULL};

static CoderPlan orgs_plan = {
	"SELECT m.organization_id, m.roles, o.shareable_workspace_owners::pg_catalog.text, o.deleted"
	"  FROM coder.organization_members m JOIN coder.organizations o"
	"    ON o.id OPERATOR(pg_catalog.=) m.organization_id"
	" WHERE m.user_id OPERATOR(pg_catalog.=) $1 ORDER BY o.created_at, o.id",
	1,
	user_args,
	NULL};

static CoderPlan groups_plan = {
	"SELECT g.group_id FROM coder.group_members g WHERE g.user_id OPERATOR(pg_catalog.=) $1",
	1,
	user_args,
	NULL};

static const Oid role_args[] = {TEXTOID, UUIDOID};

static CoderPlan custom_role_plan = {
	"SELECT r.site_permissions, r.org_permissions, r.user_permissions, r.member_permissions"
	"  FROM coder.custom_roles r WHERE r.name OPERATOR(pg_catalog.=) $1 AND NOT r.is_system"
	"   AND r.organization_id IS NOT DISTINCT FROM $2",
	2,
	role_args,
	NULL};

/* The lists of a role that is not built in; empty where there is none. */
static void
custom_role_sets(const CoderRole *role, RbacRoleSets *sets)
{
	Datum values[2] = {CStringGetTextDatum(role->name),
					   UUIDPGetDatum(unconstify(pg_uuid_t *, &role->org))};
	static const RbacLevel levels[] = {RBAC_SITE, RBAC_ORG, RBAC_USER, RBAC_MEMBER};

	coder_execute(&custom_role_plan, values, role->in_org ? "  " : " n", true, 1);
	if (SPI_processed == 0)
		return;
	for (int i = 0; i < (int) lengthof(levels); i++)
	{
		bool isnull;
		Datum list = coder_column(0, i + 1, &isnull);

		if (!isnull)
			add_permissions(&sets->level[levels[i]], DatumGetJsonbP(list));
	}
}

/* The lists of a role; SPI is connected. */
void
coder_role_sets(const CoderRole *role, RbacRoleSets *sets)
{
	const RbacRoleSets *built_in = rbac_role_sets(role->name, role->in_org);

	memset(sets, 0, sizeof(*sets));
	if (built_in != NULL)
		*sets = *built_in;
	else
		custom_role_sets(role, sets);
}

/* Pools a role of the site (org is NULL) or of an organization of the subject. */
static void
add_role(CoderSubject *subject, const CoderRole *role, RbacOrg *org)
{
	const RbacRoleSets *sets = rbac_role_sets(role->name, role->in_org);
	RbacRoleSets custom;

	if (sets == NULL)
	{
		memset(&custom, 0, sizeof(custom));
		custom_role_sets(role, &custom);
		sets = &custom;
	}
	rbac_pool(&subject->rbac.site, &sets->level[RBAC_SITE]);
	rbac_pool(&subject->rbac.user, &sets->level[RBAC_USER]);
	if (org == NULL)
		return;
	rbac_pool(&org->org, &sets->level[RBAC_ORG]);
	rbac_pool(&org->member, &sets->level[RBAC_MEMBER]);
}

static CoderRole *
next_role(CoderSubject *subject, const char *name)
{
	CoderRole *role = &subject->roles[subject->nroles++];

	memset(role, 0, sizeof(*role));
	role->name = name;
	return role;
}

static bool
listed(char **names, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* The site's roles, as the deployment's switches make them. */
static void
add_site_roles(CoderSubject *subject, char **roles, int n, char **switches, int nswitches)
{
	bool no_sharing = listed(switches, nswitches, "disable_workspace_sharing");
	bool no_access = listed(switches, nswitches, "disable_owner_workspace_access");
	StringInfoData json;
	CoderRole *role;

	subject->roles = palloc(sizeof(CoderRole) * (n + 1));
	subject->rbac.sharing_off = no_sharing;
	role = next_role(subject, no_sharing ? "member/no_sharing" : "member");
	role->implied = true;
	add_role(subject, role, NULL);
	initStringInfo(&json);
	json_open(&json, '[');
	for (int i = 0; i < n; i++)
	{
		json_open(&json, '{');
		json_str(&json, "name", roles[i]);
		json_str(&json, "display_name", rbac_role_display(roles[i]));
		json_close(&json, '}');
		if (strchr(roles[i], '/') != NULL)
			continue; /* no role has such a name */
		if (strcmp(roles[i], "owner") == 0 && no_access)
			role = next_role(subject, "owner/no_access");
		else
			role = next_role(subject, roles[i]);
		add_role(subject, role, NULL);
	}
	json_close(&json, ']');
	subject->roles_json = json.data;
}

typedef struct OrgRow
{
	char **roles;
	int nroles;
	const char *sharing;
} OrgRow;

static void
add_org_role(CoderSubject *subject, RbacOrg *org, const char *name, bool implied)
{
	CoderRole *role = next_role(subject, name);

	role->in_org = true;
	role->implied = implied;
	role->org = org->id;
	add_role(subject, role, org);
}

/* The implied role and those given, as the organization's mode of sharing makes them. */
static void
add_org_roles(CoderSubject *subject, RbacOrg *org, const OrgRow *row, bool service_account)
{
	const char *kind = service_account ? "service-account" : "member";

	subject->roles =
		repalloc(subject->roles, sizeof(CoderRole) * (subject->nroles + row->nroles + 1));
	add_org_role(subject, org, psprintf("organization-%s/%s", kind, row->sharing), true);
	for (int i = 0; i < row->nroles; i++)
	{
		const char *name = row->roles[i];

		if (strchr(name, '/') != NULL)
			continue; /* no role has such a name */
		if (strcmp(name, "organization-member") == 0 ||
			strcmp(name, "organization-service-account") == 0)
			name = psprintf("%s/%s", name, row->sharing);
		add_org_role(subject, org, name, false);
	}
}

static void
add_organizations(CoderSubject *subject, Datum id, bool service_account)
{
	RbacSubject *rbac = &subject->rbac;
	OrgRow *rows;
	StringInfoData json;
	int n;

	coder_execute(&orgs_plan, &id, NULL, true, 0);
	n = (int) SPI_processed;
	rbac->norgs = n;
	rbac->orgs = palloc0(sizeof(RbacOrg) * (n + 1));
	rows = palloc0(sizeof(OrgRow) * (n + 1));
	initStringInfo(&json);
	json_open(&json, '[');
	for (int i = 0; i < n; i++)
	{
		bool isnull;
		Datum roles;

		rbac->orgs[i].id = *DatumGetUUIDP(coder_column(i, 1, &isnull));
		roles = coder_column(i, 2, &isnull);
		rows[i].roles = coder_text_array(roles, isnull, &rows[i].nroles);
		rows[i].sharing = TextDatumGetCString(coder_column(i, 3, &isnull));
		if (!DatumGetBool(coder_column(i, 4, &isnull)))
			json_uuid(&json, NULL, &rbac->orgs[i].id);
	}
	json_close(&json, ']');
	subject->orgs_json = json.data;
	for (int i = 0; i < n; i++) /* SPI's result is gone once a custom role is looked up */
		add_org_roles(subject, &rbac->orgs[i], &rows[i], service_account);
	qsort(rbac->orgs, n, sizeof(RbacOrg), compare_orgs);
}

/*
 * Roles, organizations and groups of a user, into subject, whose memory the
 * caller has made current.  SPI is connected.  Returns the status, or NULL if
 * there is no such user.
 */
char *
coder_load_user(CoderSubject *subject, const pg_uuid_t *user_id)
{
	Datum id = UUIDPGetDatum(unconstify(pg_uuid_t *, user_id));
	bool isnull;
	bool service;
	char *status;
	char **roles;
	char **switches;
	int nroles;
	int nswitches;
	Datum value;

	coder_execute(&user_plan, &id, NULL, true, 1);
	if (SPI_processed == 0)
		return NULL;
	subject->rbac.id = *user_id;
	subject->username = TextDatumGetCString(coder_column(0, 1, &isnull));
	value = coder_column(0, 2, &isnull);
	roles = coder_text_array(value, isnull, &nroles);
	service = DatumGetBool(coder_column(0, 3, &isnull));
	status = TextDatumGetCString(coder_column(0, 4, &isnull));
	if (DatumGetBool(coder_column(0, 5, &isnull)))
		status = pstrdup("deleted");
	value = coder_column(0, 6, &isnull);
	switches = coder_text_array(value, isnull, &nswitches);
	subject->active = strcmp(status, "suspended") != 0 && strcmp(status, "deleted") != 0;
	add_site_roles(subject, roles, nroles, switches, nswitches);
	add_organizations(subject, id, service);

	coder_execute(&groups_plan, &id, NULL, true, 0);
	subject->rbac.ngroups = (int) SPI_processed;
	subject->rbac.groups = palloc(sizeof(pg_uuid_t) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		subject->rbac.groups[i] = *DatumGetUUIDP(coder_column((int) i, 1, &isnull));
	return status;
}

/* The organization of a subject, made where it is not yet one of its. */
static RbacOrg *
org_of(CoderSubject *subject, const pg_uuid_t *id)
{
	RbacSubject *rbac = &subject->rbac;

	for (int i = 0; i < rbac->norgs; i++)
		if (memcmp(rbac->orgs[i].id.data, id->data, UUID_LEN) == 0)
			return &rbac->orgs[i];
	memset(&rbac->orgs[rbac->norgs], 0, sizeof(RbacOrg));
	rbac->orgs[rbac->norgs].id = *id;
	return &rbac->orgs[rbac->norgs++];
}

/*
 * Just these roles, "name" or "name:organization", none implied; false where one
 * is neither.  SPI is connected, the subject's memory current.
 */
bool
coder_load_roles(CoderSubject *subject, char **names, int n)
{
	subject->roles = palloc(sizeof(CoderRole) * (n + 1));
	subject->rbac.orgs = palloc(sizeof(RbacOrg) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		char *colon = strchr(names[i], ':');
		CoderRole *role = next_role(subject, names[i]);

		if (colon == names[i] || names[i][0] == '\0')
			return false;
		if (colon != NULL)
		{
			role->name = pnstrdup(names[i], colon - names[i]);
			role->in_org = true;
			if (!rbac_parse_uuid(colon + 1, &role->org))
				return false;
		}
		add_role(subject, role, role->in_org ? org_of(subject, &role->org) : NULL);
	}
	qsort(subject->rbac.orgs, subject->rbac.norgs, sizeof(RbacOrg), compare_orgs);
	return true;
}

/* "type:id" entries; an unreadable one allows nothing. */
static void
add_allow_list(RbacSubject *rbac, char **list, int n)
{
	rbac->allow_all = false;
	rbac->nallow = 0;
	rbac->allow = palloc0(sizeof(RbacAllow) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		RbacAllow *allow = &rbac->allow[rbac->nallow];

		if (!rbac_parse_allow(list[i], allow))
			continue;
		if (allow->type == RBAC_ANY_TYPE && allow->any_id)
			rbac->allow_all = true;
		rbac->nallow++;
	}
}

const char *
coder_set_scope(CoderSubject *subject, char **scopes, int nscopes, char **allow, int nallow)
{
	memset(&subject->rbac.scope, 0, sizeof(subject->rbac.scope));
	for (int i = 0; i < nscopes; i++)
		if (!rbac_add_scope(&subject->rbac.scope, scopes[i]))
			return scopes[i];
	add_allow_list(&subject->rbac, allow, nallow);
	subject->scopes = scopes;
	subject->nscopes = nscopes;
	subject->allow = allow;
	subject->nallow = nallow;
	return NULL;
}
