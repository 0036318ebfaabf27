/*
 * rbac.c -- who may do what: the tables of types, actions, roles and scopes,
 * and the decision over a subject's pooled sets.
 *
 * Nothing here reads a table: a subject comes from subject.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "json.h"
#include "rbac.h"

/* In alphabetical order: looked up by bisection. */
const char *const rbac_type_names[RBAC_TYPES] = {"aibridge_interception",
												 "api_key",
												 "assign_org_role",
												 "assign_role",
												 "audit_log",
												 "boundary_usage",
												 "chat",
												 "connection_log",
												 "crypto_key",
												 "debug_info",
												 "deployment_config",
												 "deployment_stats",
												 "file",
												 "group",
												 "group_member",
												 "idpsync_settings",
												 "inbox_notification",
												 "license",
												 "notification_message",
												 "notification_preference",
												 "notification_template",
												 "oauth2_app",
												 "oauth2_app_code_token",
												 "oauth2_app_secret",
												 "organization",
												 "organization_member",
												 "prebuilt_workspace",
												 "provisioner_daemon",
												 "provisioner_jobs",
												 "replicas",
												 "system",
												 "tailnet_coordinator",
												 "task",
												 "template",
												 "usage_event",
												 "user",
												 "user_secret",
												 "webpush_subscription",
												 "workspace",
												 "workspace_agent_devcontainers",
												 "workspace_agent_resource_monitor",
												 "workspace_dormant",
												 "workspace_proxy"};

const char *const rbac_action_names[RBAC_ACTIONS] = {"application_connect",
													 "assign",
													 "create",
													 "create_agent",
													 "delete",
													 "delete_agent",
													 "read",
													 "read_personal",
													 "share",
													 "ssh",
													 "start",
													 "stop",
													 "unassign",
													 "update",
													 "update_agent",
													 "update_personal",
													 "use",
													 "view_insights"};

/* Actions of each type, in the order of rbac_type_names. */
static const char *const type_actions[RBAC_TYPES] = {
	"create,read,update",
	"create,delete,read,update",
	"assign,create,delete,read,unassign,update",
	"assign,read,unassign",
	"create,read",
	"delete,read,update",
	"create,delete,read,update",
	"read,update",
	"create,delete,read,update",
	"read",
	"read,update",
	"read",
	"create,read",
	"create,delete,read,update",
	"read",
	"read,update",
	"create,read,update",
	"create,delete,read",
	"create,delete,read,update",
	"read,update",
	"read,update",
	"create,delete,read,update",
	"create,delete,read",
	"create,delete,read,update",
	"create,delete,read,update",
	"create,delete,read,update",
	"delete,update",
	"create,delete,read,update",
	"create,read,update",
	"read",
	"create,delete,read,update",
	"create,delete,read,update",
	"create,delete,read,update",
	"create,delete,read,update,use,view_insights",
	"create,read,update",
	"create,delete,read,read_personal,update,update_personal",
	"create,delete,read,update",
	"create,delete,read",
	"application_connect,create,create_agent,delete,delete_agent,read,share,ssh,start,stop,update,"
	"update_agent",
	"create",
	"create,read,update",
	"application_connect,create,create_agent,delete,delete_agent,read,share,ssh,start,stop,update,"
	"update_agent",
	"create,delete,read,update"};

/*
 * A role's lists.  An item of a list is "type:action,action", "!type:action" for
 * a negation, "*:action" for every type, or "*" for every action of every type but
 * those that follow it behind minus signs.  Items are separated by blanks.
 */
typedef struct RoleDef
{
	const char *name;
	const char *display;
	bool org_role;
	const char *site;
	const char *user;
	const char *org;
	const char *member;
} RoleDef;

#define WORKSPACE_ALL                                                                              \
	"workspace:application_connect,create,create_agent,delete,delete_agent,read,share,ssh,start,"  \
	"stop,update,update_agent"
#define WORKSPACE_NO_ACCESS                                                                        \
	"workspace:create,create_agent,delete,delete_agent,read,share,start,stop,update,update_agent"
#define DORMANT                                                                                    \
	" workspace_dormant:create,create_agent,delete,delete_agent,read,stop,update,update_agent"
#define OWNER                                                                                      \
	"*-workspace_dormant-prebuilt_workspace-workspace-user_secret-usage_event-boundary_usage"      \
	" prebuilt_workspace:delete,update" DORMANT
#define MEMBER_SITE "assign_role:read oauth2_app:read workspace_proxy:read"
#define MEMBER_USER                                                                                \
	"*-workspace_dormant-prebuilt_workspace-workspace-user-organization_member-boundary_usage"     \
	"-aibridge_interception-chat user:read,read_personal,update_personal"                          \
	" aibridge_interception:create,update provisioner_daemon:create,read,update"
#define MEMBER_ALL                                                                                 \
	"*-workspace_dormant-prebuilt_workspace-user-organization_member-aibridge_interception"        \
	" aibridge_interception:create,update organization_member:read" DORMANT
#define MEMBER_ORG "provisioner_daemon:read organization:read assign_org_role:read"

static const RoleDef roles[] = {
	{"owner", "Owner", false, OWNER " " WORKSPACE_ALL, "", "", ""},
	{"member", "Member", false, MEMBER_SITE, MEMBER_USER, "", ""},
	/* What the two become by the deployment's switches disable_owner_workspace_access and
	 * disable_workspace_sharing. */
	{"owner/no_access", "Owner", false, OWNER " " WORKSPACE_NO_ACCESS, "", "", ""},
	{"member/no_sharing", "Member", false, MEMBER_SITE " !workspace:share", MEMBER_USER, "", ""},
	{"auditor",
	 "Auditor",
	 false,
	 "assign_org_role:read audit_log:read connection_log:read user:read group:read"
	 " group_member:read organization:read organization_member:read deployment_stats:read"
	 " deployment_config:read aibridge_interception:read template:read,view_insights",
	 "",
	 "",
	 ""},
	{"template-admin",
	 "Template Admin",
	 false,
	 "template:create,delete,read,update,use,view_insights file:create,read workspace:read"
	 " prebuilt_workspace:delete,update provisioner_daemon:create,delete,read,update"
	 " assign_org_role:read user:read group:read group_member:read organization:read"
	 " organization_member:read",
	 "",
	 "",
	 ""},
	{"user-admin",
	 "User Admin",
	 false,
	 "assign_role:assign,read,unassign assign_org_role:assign,read,unassign"
	 " user:create,delete,read,read_personal,update,update_personal"
	 " group:create,delete,read,update group_member:read organization:read"
	 " organization_member:create,delete,read,update idpsync_settings:read,update",
	 "",
	 "",
	 ""},
	{"agents-access", "Coder Agents User", false, "", "chat:create,delete,read,update", "", ""},
	{"organization-admin",
	 "Organization Admin",
	 true,
	 "user:read",
	 "",
	 "*-workspace-workspace_dormant-prebuilt_workspace-assign_role-user_secret-boundary_usage"
	 " " WORKSPACE_NO_ACCESS DORMANT " prebuilt_workspace:delete,update",
	 ""},
	{"organization-auditor",
	 "Organization Auditor",
	 true,
	 "",
	 "",
	 "audit_log:read connection_log:read group:read group_member:read organization:read"
	 " organization_member:read template:read,view_insights",
	 ""},
	{"organization-user-admin",
	 "Organization User Admin",
	 true,
	 "user:read",
	 "",
	 "assign_org_role:assign,read,unassign organization:read"
	 " organization_member:create,delete,read,update group:create,delete,read,update"
	 " group_member:read idpsync_settings:read,update",
	 ""},
	{"organization-template-admin",
	 "Organization Template Admin",
	 true,
	 "",
	 "",
	 "template:create,delete,read,update,use,view_insights file:create,read workspace:read"
	 " prebuilt_workspace:delete,update organization:read organization_member:read group:read"
	 " group_member:read provisioner_daemon:create,delete,read,update"
	 " provisioner_jobs:create,read,update",
	 ""},
	{"organization-workspace-creation-ban",
	 "Organization Workspace Creation Ban",
	 true,
	 "",
	 "",
	 "!workspace:create,create_agent,delete,delete_agent",
	 ""},
	/* The implied roles, by the organization's shareable_workspace_owners. */
	{"organization-member/everyone",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " organization_member:read group:read",
	 MEMBER_ALL},
	{"organization-member/service_accounts",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " organization_member:read",
	 MEMBER_ALL " !workspace:share"},
	{"organization-member/none",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " !workspace:share",
	 MEMBER_ALL " !workspace:share"},
	{"organization-service-account/everyone",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " organization_member:read group:read",
	 MEMBER_ALL},
	{"organization-service-account/service_accounts",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " organization_member:read group:read",
	 MEMBER_ALL},
	{"organization-service-account/none",
	 "",
	 true,
	 "",
	 "",
	 MEMBER_ORG " !workspace:share",
	 MEMBER_ALL}};

/* Scopes with a name of their own; "type:action" and "type:*" are parsed. */
static const struct
{
	const char *name;
	const char *spec;
} scopes[] = {
	{"coder:all", "*"},
	{"coder:application_connect", "workspace:application_connect"},
	{"no_user_data", "*-user"},
	{"coder:workspaces.create",
	 "template:read,use workspace:start,stop,create,update,read organization_member:read"},
	{"coder:workspaces.operate",
	 "template:read workspace:start,stop,read,update organization_member:read"},
	{"coder:workspaces.delete", "template:read,use workspace:read,delete organization_member:read"},
	{"coder:workspaces.access",
	 "template:read workspace:read,ssh,application_connect organization_member:read"},
	{"coder:templates.build", "template:read file:create,read provisioner_jobs:read"},
	{"coder:templates.author", "template:read,create,update,delete,view_insights file:create,read"},
	{"coder:apikeys.manage_self", "api_key:read,create,update,delete"}};

static int
bisect(const char *const *names, int n, const char *name, int len)
{
	int lo = 0;
	int hi = n - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;
		int cmp = strncmp(names[mid], name, len);

		if (cmp == 0)
			cmp = names[mid][len] == '\0' ? 0 : 1;
		if (cmp == 0)
			return mid;
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return -1;
}

int
rbac_type(const char *name, int len)
{
	int i = bisect(rbac_type_names, RBAC_TYPES, name, len);

	return i < 0 ? RBAC_OTHER_TYPE : i;
}

int
rbac_action(const char *name, int len)
{
	int i = bisect(rbac_action_names, RBAC_ACTIONS, name, len);

	return i < 0 ? RBAC_OTHER_ACTION : i;
}

/* "a,b,c" or "*" up to a blank or the end, as bits. */
static uint32
parse_actions(const char *s, int len)
{
	uint32 bits = 0;

	if (len == 1 && s[0] == '*')
		return RBAC_ALL_ACTIONS;
	while (len > 0)
	{
		const char *comma = memchr(s, ',', len);
		int n = comma != NULL ? (int) (comma - s) : len;

		bits |= (uint32) 1 << rbac_action(s, n);
		s += n + (comma != NULL);
		len -= n + (comma != NULL);
	}
	return bits;
}

uint32
rbac_type_actions(int type)
{
	return parse_actions(type_actions[type], (int) strlen(type_actions[type]));
}

/* "*": every action of every type, known or not.  "*-type-type": of all known types but these. */
static void
add_wildcard(RbacSet *set, const char *s, int len)
{
	bool except[RBAC_TYPES + 1] = {false};
	int i = 1;

	while (i < len)
	{
		int start = ++i;

		while (i < len && s[i] != '-')
			i++;
		except[rbac_type(s + start, i - start)] = true;
	}
	except[RBAC_OTHER_TYPE] = len > 1;
	for (int t = 0; t <= RBAC_TYPES; t++)
		if (!except[t])
			set->grant[t] = RBAC_ALL_ACTIONS;
}

void
rbac_add_spec(RbacSet *set, const char *spec)
{
	while (*spec != '\0')
	{
		int len = (int) strcspn(spec, " ");
		bool deny = spec[0] == '!';
		const char *item = spec + deny;
		int item_len = len - deny;

		if (item_len > 2 && item[0] == '*' && item[1] == ':')
			for (int t = 0; t <= RBAC_TYPES; t++)
				set->grant[t] |= parse_actions(item + 2, item_len - 2);
		else if (item_len > 0 && item[0] == '*')
			add_wildcard(set, item, item_len);
		else if (item_len > 0)
		{
			const char *colon = memchr(item, ':', item_len);
			int type_len = (int) (colon - item);
			uint32 bits = parse_actions(colon + 1, item_len - type_len - 1);
			uint32 *words = deny ? set->deny : set->grant;

			words[rbac_type(item, type_len)] |= bits;
		}
		spec += len;
		spec += strspn(spec, " ");
	}
}

static const RoleDef *
find_role(const char *name)
{
	for (int i = 0; i < (int) lengthof(roles); i++)
		if (strcmp(roles[i].name, name) == 0)
			return &roles[i];
	return NULL;
}

static const char *
role_spec(const RoleDef *role, RbacLevel level)
{
	switch (level)
	{
		case RBAC_SITE:
			return role->site;
		case RBAC_USER:
			return role->user;
		case RBAC_ORG:
			return role->org;
		default:
			return role->member;
	}
}

const RbacRoleSets *
rbac_role_sets(const char *role, bool org)
{
	static RbacRoleSets *compiled[lengthof(roles)];
	const RoleDef *def = find_role(role);
	int i;

	if (def == NULL || def->org_role != org)
		return NULL;
	i = (int) (def - roles);
	if (compiled[i] == NULL)
	{
		RbacRoleSets *sets = MemoryContextAllocZero(TopMemoryContext, sizeof(*sets));

		for (int level = RBAC_SITE; level <= RBAC_MEMBER; level++)
			rbac_add_spec(&sets->level[level], role_spec(def, (RbacLevel) level));
		compiled[i] = sets;
	}
	return compiled[i];
}

void
rbac_pool(RbacSet *to, const RbacSet *from)
{
	for (int t = 0; t <= RBAC_TYPES; t++)
	{
		to->grant[t] |= from->grant[t];
		to->deny[t] |= from->deny[t];
	}
}

const char *
rbac_role_name(int i, bool *org)
{
	if (i >= (int) lengthof(roles))
		return NULL;
	*org = roles[i].org_role;
	return roles[i].name;
}

bool
rbac_is_role(const char *role, bool org)
{
	const RoleDef *def = find_role(role);

	return def != NULL && def->org_role == org;
}

const char *
rbac_role_display(const char *role)
{
	const RoleDef *def = find_role(role);

	return def != NULL ? def->display : "";
}

bool
rbac_add_scope(RbacSet *set, const char *scope)
{
	const char *colon = strchr(scope, ':');
	int type;
	int action;

	for (int i = 0; i < (int) lengthof(scopes); i++)
	{
		if (strcmp(scopes[i].name, scope) == 0)
		{
			rbac_add_spec(set, scopes[i].spec);
			return true;
		}
	}
	if (colon == NULL)
		return false;
	type = rbac_type(scope, (int) (colon - scope));
	if (type == RBAC_OTHER_TYPE)
		return false;
	if (strcmp(colon + 1, "*") == 0)
	{
		set->grant[type] = RBAC_ALL_ACTIONS;
		return true;
	}
	action = rbac_action(colon + 1, (int) strlen(colon + 1));
	if (action == RBAC_OTHER_ACTION || (rbac_type_actions(type) & ((uint32) 1 << action)) == 0)
		return false;
	set->grant[type] |= (uint32) 1 << action;
	return true;
}

/* -1, 0 or +1: one level's opinion. */
static inline int
vote(const RbacSet *set, int type, uint32 bit)
{
	if (set->deny[type] & bit)
		return -1;
	return (set->grant[type] & bit) ? 1 : 0;
}

int
rbac_vote(const RbacSet *set, int type, int action)
{
	return vote(set, type, (uint32) 1 << action);
}

static const RbacOrg *
find_org(const RbacSubject *subject, const pg_uuid_t *id)
{
	int lo = 0;
	int hi = subject->norgs - 1;

	while (lo <= hi)
	{
		int mid = (lo + hi) / 2;
		int cmp = memcmp(subject->orgs[mid].id.data, id->data, UUID_LEN);

		if (cmp == 0)
			return &subject->orgs[mid];
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid - 1;
	}
	return NULL;
}

static inline bool
same_uuid(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return a != NULL && memcmp(a->data, b->data, UUID_LEN) == 0;
}

/* The votes of the organization's two levels for this object. */
static void
org_votes(const RbacSubject *subject, uint32 bit, const RbacObject *object, int *org, int *member)
{
	bool own = same_uuid(object->owner, &subject->id);

	*org = *member = 0;
	if (object->any_org)
	{
		int best_org = -2;
		int best_member = -2;

		for (int i = 0; i < subject->norgs; i++)
		{
			best_org = Max(best_org, vote(&subject->orgs[i].org, object->type, bit));
			best_member = Max(best_member, vote(&subject->orgs[i].member, object->type, bit));
		}
		*org = best_org == -2 ? 0 : best_org;
		*member = best_member == -2 || !own ? 0 : best_member;
	}
	else if (object->org != NULL)
	{
		const RbacOrg *found = find_org(subject, object->org);

		if (found != NULL)
		{
			*org = vote(&found->org, object->type, bit);
			*member = own ? vote(&found->member, object->type, bit) : 0;
		}
	}
}

static bool
role_grant(const RbacSubject *subject, uint32 bit, const RbacObject *object, const char **why)
{
	int site = vote(&subject->site, object->type, bit);
	int org;
	int member;

	if (site != 0)
	{
		*why = site > 0 ? "granted by a site role" : "denied by a site role";
		return site > 0;
	}
	if (object->org == NULL && !object->any_org && same_uuid(object->owner, &subject->id) &&
		vote(&subject->user, object->type, bit) > 0)
	{
		*why = "granted to the owner of the object";
		return true;
	}
	org_votes(subject, bit, object, &org, &member);
	if (org != 0)
	{
		*why = org > 0 ? "granted by an organization role" : "denied by an organization role";
		return org > 0;
	}
	*why =
		member > 0 ? "granted to the owner of the object in the organization" : "no role grants it";
	return member > 0;
}

/* Does the ACL's entry for id, an array or {"permissions": array}, hold action or "*"? */
static bool
acl_entry_holds(Jsonb *acl, const pg_uuid_t *id, const char *action)
{
	char key[UUID_LEN * 2 + 5];
	JsonbValue value;
	JsonbContainer *list;
	JsonbIterator *it;
	JsonbValue item;
	JsonbIteratorToken tok;
	char *p = key;

	for (int i = 0; i < UUID_LEN; i++)
		p += sprintf(p, (i == 4 || i == 6 || i == 8 || i == 10) ? "-%02x" : "%02x", id->data[i]);
	if (getKeyJsonValueFromContainer(&acl->root, key, (int) (p - key), &value) == NULL ||
		value.type != jbvBinary)
		return false;
	list = value.val.binary.data;
	if (JsonContainerIsObject(list))
	{
		if (getKeyJsonValueFromContainer(list, "permissions", 11, &value) == NULL ||
			value.type != jbvBinary)
			return false;
		list = value.val.binary.data;
	}
	if (!JsonContainerIsArray(list))
		return false;
	it = JsonbIteratorInit(list);
	while ((tok = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (tok != WJB_ELEM || item.type != jbvString)
			continue;
		if (item.val.string.len == 1 && item.val.string.val[0] == '*')
			return true;
		if (item.val.string.len == (int) strlen(action) &&
			memcmp(item.val.string.val, action, item.val.string.len) == 0)
			return true;
	}
	return false;
}

static inline bool
acl_present(const Jsonb *acl)
{
	return acl != NULL && JB_ROOT_IS_OBJECT(acl) && JB_ROOT_COUNT(acl) > 0;
}

static int
workspace_type(void)
{
	static int type = -1;

	if (type < 0)
		type = rbac_type("workspace", 9);
	return type;
}

static int
task_type(void)
{
	static int type = -1;

	if (type < 0)
		type = rbac_type("task", 4);
	return type;
}

/* Has the deployment switched the object's lists of users and groups off? */
bool
rbac_no_acls(const RbacSubject *subject, const RbacObject *object)
{
	return subject->sharing_off && !object->listed &&
		   (object->type == workspace_type() || object->type == task_type());
}

bool
rbac_acl_holds(Jsonb *acl, const pg_uuid_t *key, int action)
{
	const char *name = action == RBAC_OTHER_ACTION ? "*" : rbac_action_names[action];

	return acl_present(acl) && acl_entry_holds(acl, key, name);
}

static bool
acl_grant(const RbacSubject *subject, int action, const RbacObject *object, const char **why)
{
	if (rbac_no_acls(subject, object))
		return false;
	if (rbac_acl_holds(object->user_acl, &subject->id, action))
	{
		*why = "granted by the object's list of users";
		return true;
	}
	if (!acl_present(object->group_acl))
		return false;
	if (object->any_org ? subject->norgs == 0
						: (object->org == NULL || find_org(subject, object->org) == NULL))
		return false;
	*why = "granted by the object's list of groups";
	if (object->org != NULL && rbac_acl_holds(object->group_acl, object->org, action))
		return true;
	for (int i = 0; i < subject->ngroups; i++)
		if (rbac_acl_holds(object->group_acl, &subject->groups[i], action))
			return true;
	*why = "no role grants it";
	return false;
}

bool
rbac_allow_list_passes(const RbacSubject *subject, const RbacObject *object)
{
	if (subject->allow_all)
		return true;
	for (int i = 0; i < subject->nallow; i++)
	{
		const RbacAllow *allow = &subject->allow[i];

		if (allow->type != RBAC_ANY_TYPE && allow->type != object->type)
			continue;
		if (allow->any_id ||
			(allow->no_id ? object->id == NULL : same_uuid(object->id, &allow->id)))
			return true;
	}
	return false;
}

bool
rbac_decide(const RbacSubject *subject, int action, const RbacObject *object, const char **why)
{
	uint32 bit = (uint32) 1 << action;

	if (object->any_org && object->org != NULL)
	{
		*why = "an object cannot be in an organization and in any";
		return false;
	}
	if (!role_grant(subject, bit, object, why) && !acl_grant(subject, action, object, why))
		return false;
	if (vote(&subject->scope, object->type, bit) <= 0)
	{
		*why = "outside the scope of the token";
		return false;
	}
	if (!rbac_allow_list_passes(subject, object))
	{
		*why = "not on the allow list of the token";
		return false;
	}
	return true;
}

bool
rbac_acl_can(const RbacSubject *subject, int action, const RbacObject *object)
{
	const char *why;

	return acl_grant(subject, action, object, &why) &&
		   vote(&subject->scope, object->type, (uint32) 1 << action) > 0 &&
		   rbac_allow_list_passes(subject, object);
}

bool
rbac_is_member(const RbacSubject *subject, const pg_uuid_t *org)
{
	return find_org(subject, org) != NULL;
}

bool
rbac_parse_uuid(const char *s, pg_uuid_t *id)
{
	int digits = 0;

	memset(id, 0, sizeof(*id));
	for (; *s != '\0'; s++)
	{
		int value = isdigit((unsigned char) *s)		 ? *s - '0'
					: (*s >= 'a' && *s <= 'f') ? *s - 'a' + 10
					: (*s >= 'A' && *s <= 'F') ? *s - 'A' + 10
											   : -1;

		if (*s == '-')
			continue;
		if (value < 0 || digits >= UUID_LEN * 2)
			return false;
		id->data[digits / 2] |= (unsigned char) (digits % 2 == 0 ? value << 4 : value);
		digits++;
	}
	return digits == UUID_LEN * 2;
}

bool
rbac_parse_allow(const char *text, RbacAllow *allow)
{
	const char *colon = strchr(text, ':');
	int len;

	memset(allow, 0, sizeof(*allow));
	if (colon == NULL)
		return false;
	len = (int) (colon - text);
	allow->type = len == 1 && text[0] == '*' ? RBAC_ANY_TYPE : rbac_type(text, len);
	if (allow->type == RBAC_OTHER_TYPE)
		return false;
	allow->any_id = strcmp(colon + 1, "*") == 0;
	allow->no_id = colon[1] == '\0';
	return allow->any_id || allow->no_id || rbac_parse_uuid(colon + 1, &allow->id);
}

/* The ids that the allow list leaves; false where it leaves all. */
static bool
filter_ids(const RbacSubject *subject, int type, RbacFilter *filter)
{
	if (subject->allow_all)
		return false;
	for (int i = 0; i < subject->nallow; i++)
	{
		const RbacAllow *allow = &subject->allow[i];

		if (allow->type != RBAC_ANY_TYPE && allow->type != type)
			continue;
		if (allow->any_id)
			return false;
		if (!allow->no_id)
			filter->ids[filter->nids++] = &allow->id;
	}
	return true;
}

void
rbac_filter(const RbacSubject *subject, int action, int type, RbacFilter *filter)
{
	uint32 bit = (uint32) 1 << action;
	int site = vote(&subject->site, type, bit);

	memset(filter, 0, sizeof(*filter));
	filter->subject = subject;
	filter->no_acls = true;
	filter->any_id = true;
	if (vote(&subject->scope, type, bit) <= 0)
		return;
	filter->ids = palloc(sizeof(pg_uuid_t *) * (subject->nallow + 1));
	filter->any_id = !filter_ids(subject, type, filter);
	if (!filter->any_id && filter->nids == 0)
		return;
	filter->everything = site > 0;
	if (site > 0)
		return;
	filter->no_acls = false;
	if (site < 0)
		return;
	filter->own = vote(&subject->user, type, bit) > 0;
	filter->orgs = palloc(sizeof(pg_uuid_t *) * (subject->norgs + 1));
	filter->owned = palloc(sizeof(pg_uuid_t *) * (subject->norgs + 1));
	for (int i = 0; i < subject->norgs; i++)
	{
		const RbacOrg *org = &subject->orgs[i];
		int org_vote = vote(&org->org, type, bit);

		if (org_vote > 0)
			filter->orgs[filter->norgs++] = &org->id;
		else if (org_vote == 0 && vote(&org->member, type, bit) > 0)
			filter->owned[filter->nowned++] = &org->id;
	}
}

static void
put_permission(StringInfo buf, bool deny, int type, const char *action)
{
	json_open(buf, '{');
	json_bool(buf, "negate", deny);
	json_str(buf, "resource_type", rbac_type_names[type]);
	json_str(buf, "action", action);
	json_close(buf, '}');
}

/* Appends Permission[] of a built-in role's level: whole types first, then single actions by type.
 */
bool
rbac_role_json(StringInfo buf, const char *role, RbacLevel level)
{
	const RoleDef *def = find_role(role);
	RbacSet set = {0};

	if (def == NULL)
		return false;
	rbac_add_spec(&set, role_spec(def, level));
	json_open(buf, '[');
	for (int t = 0; t < RBAC_TYPES; t++)
		if (set.grant[t] == RBAC_ALL_ACTIONS)
			put_permission(buf, false, t, "*");
	for (int t = 0; t < RBAC_TYPES; t++)
	{
		for (int a = 0; a < RBAC_ACTIONS; a++)
		{
			uint32 bit = (uint32) 1 << a;

			if (set.grant[t] != RBAC_ALL_ACTIONS && (set.grant[t] & bit))
				put_permission(buf, false, t, rbac_action_names[a]);
			if (set.deny[t] & bit)
				put_permission(buf, true, t, rbac_action_names[a]);
		}
	}
	json_close(buf, ']');
	return true;
}
