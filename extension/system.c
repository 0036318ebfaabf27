/*
 * system.c -- the server's own subjects: what background work may do when the rules are asked.
 *
 * All of them see every object by any scope, and are in no group.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/memutils.h"

#include "coder.h"
#include "compat.h"
#include "load.h"
#include "system.h"

typedef struct SystemDef
{
	const char *name;
	const char *role;
	const char *site; /* as the lists of rbac.c */
	const char *member;
} SystemDef;

static const SystemDef systems[] = {
	{"provisionerd",
	 "provisionerd",
	 "provisioner_jobs:create,read,update file:create,read system:* template:read,update"
	 " user:read,read_personal,update_personal"
	 " workspace_dormant:delete,read,update,stop,create_agent"
	 " workspace:delete,read,update,start,stop,create_agent task:read,update,delete api_key:*"
	 " organization:read group:read notification_message:create,read"
	 " workspace_agent_resource_monitor:create workspace_agent_devcontainers:create"
	 " usage_event:create",
	 ""},
	{"autostart",
	 "autostart",
	 "organization_member:read file:read notification_message:create,read system:*"
	 " task:read,update template:read,update user:read"
	 " workspace:delete,read,update,start,stop workspace_dormant:delete,read,update,stop",
	 ""},
	{"job_reaper",
	 "jobreaper",
	 "system:* template:read,update workspace:read,update workspace_dormant:read,update"
	 " provisioner_jobs:read,update",
	 ""},
	{"crypto_key_rotator", "keyrotator", "crypto_key:*", ""},
	{"crypto_key_reader", "keyrotator", "crypto_key:*", ""},
	{"connection_logger", "connectionlogger", "connection_log:read,update", ""},
	{"notifier",
	 "notifier",
	 "notification_message:create,read,update,delete inbox_notification:create"
	 " webpush_subscription:create,read,update,delete deployment_config:read,update",
	 ""},
	{"resource_monitor", "resourcemonitor", "workspace_agent_resource_monitor:update", ""},
	{"sub_agent_api",
	 "subagentapi",
	 "",
	 "workspace:read,update,create_agent,delete_agent,update_agent"},
	{"system_restricted",
	 "system",
	 "*:read api_key:create,read,delete,update assign_role:assign,read,unassign"
	 " assign_org_role:assign,create,delete,read,unassign,update"
	 " user:read,create,update,delete,read_personal,update_personal group:create,update system:*"
	 " organization:create,read organization_member:create,delete,read"
	 " provisioner_daemon:create,read,update workspace_dormant:update,delete,stop"
	 " workspace:update,delete,start,stop,ssh,create_agent,delete_agent,update_agent"
	 " workspace_proxy:create,update,delete deployment_config:create,update,delete"
	 " notification_message:create,read,update,delete"
	 " notification_preference:create,update,delete notification_template:create,update,delete"
	 " crypto_key:create,update,delete file:create,read provisioner_jobs:read,update,create"
	 " oauth2_app:create,read,update,delete oauth2_app_secret:create,read,update,delete"
	 " chat:create,read,update,delete",
	 ""},
	{"system_oauth",
	 "system-oauth2",
	 "oauth2_app:create,read,update,delete oauth2_app_secret:create,read,update,delete"
	 " oauth2_app_code_token:create,read,delete api_key:read,delete user:read organization:read",
	 ""},
	{"system_read_provisioner_daemons",
	 "system-read-provisioner-daemons",
	 "provisioner_daemon:read",
	 ""},
	{"prebuilds_orchestrator",
	 "prebuilds-orchestrator",
	 "template:read,update,use,view_insights workspace:create,delete,read,update,start,stop"
	 " prebuilt_workspace:update,delete organization_member:read,create assign_org_role:assign"
	 " user:read organization:read file:read group:read,create,update group_member:read",
	 ""},
	{"file_reader", "file-reader", "file:read", ""},
	{"usage_publisher", "usage-publisher", "license:read usage_event:read,update", ""},
	{"aibridged",
	 "aibridged",
	 "user:read,read_personal api_key:read aibridge_interception:create,read,update,delete",
	 ""},
	{"dbpurge",
	 "dbpurge",
	 "system:delete notification_message:delete api_key:delete aibridge_interception:delete",
	 ""},
	{"boundary_usage_tracker",
	 "boundary-usage-tracker",
	 "boundary_usage:read,update,delete",
	 ""},
	{"workspace_builder",
	 "workspace-builder",
	 "provisioner_daemon:read provisioner_jobs:update template:update",
	 ""},
	{"chatd",
	 "chatd",
	 "chat:create,read,update,delete workspace:read,update deployment_config:read"
	 " user:read_personal",
	 ""}};

/* Ids of the subjects that have one. */
static const pg_uuid_t prebuilds_id = {
	{0xc4, 0x2f, 0xdf, 0x75, 0x30, 0x97, 0x47, 0x1c, 0x8c, 0x33, 0xfb, 0x52, 0x45, 0x4d, 0x81, 0xc0}};
static const pg_uuid_t file_reader_id = {
	{0xac, 0xbf, 0x0b, 0xe6, 0x6f, 0xed, 0x47, 0xb6, 0x8c, 0x43, 0x96, 0x2c, 0xb5, 0xca, 0xb9, 0x94}};

static const SystemDef *
find_system(const char *name)
{
	for (int i = 0; i < (int) lengthof(systems); i++)
		if (strcmp(systems[i].name, name) == 0)
			return &systems[i];
	return NULL;
}

bool
coder_system_role_sets(const char *role, RbacRoleSets *sets)
{
	for (int i = 0; i < (int) lengthof(systems); i++)
	{
		if (strcmp(systems[i].role, role) != 0)
			continue;
		memset(sets, 0, sizeof(*sets));
		rbac_add_spec(&sets->level[RBAC_SITE], systems[i].site);
		rbac_add_spec(&sets->level[RBAC_MEMBER], systems[i].member);
		return true;
	}
	return false;
}

/* The organization of a sub-agent's workspace, whose role is at the level of members. */
static void
add_org(CoderSubject *subject, const SystemDef *def, const pg_uuid_t *org)
{
	RbacSubject *rbac = &subject->rbac;

	rbac->norgs = 1;
	rbac->orgs = palloc0(sizeof(RbacOrg));
	rbac->orgs[0].id = *org;
	rbac_add_spec(&rbac->orgs[0].member, def->member);
	subject->roles[0].in_org = true;
	subject->roles[0].org = *org;
}

CoderSubject *
coder_system_subject(const char *name, const pg_uuid_t *owner, const pg_uuid_t *org,
					 MemoryContext parent)
{
	static char *all_scopes[] = {"coder:all"};
	static char *all_objects[] = {"*:*"};
	const SystemDef *def = find_system(name);
	CoderSubject *subject;
	MemoryContext old;

	if (def == NULL)
		return NULL;
	subject = coder_new_subject(parent);
	old = MemoryContextSwitchTo(subject->context);
	if (strcmp(name, "prebuilds_orchestrator") == 0)
		subject->rbac.id = prebuilds_id;
	else if (strcmp(name, "file_reader") == 0)
		subject->rbac.id = file_reader_id;
	else if (owner != NULL && def->member[0] != '\0')
		subject->rbac.id = *owner;
	subject->roles = palloc0(sizeof(CoderRole));
	subject->nroles = 1;
	subject->roles[0].name = def->role;
	rbac_add_spec(&subject->rbac.site, def->site);
	if (def->member[0] != '\0' && org != NULL)
		add_org(subject, def, org);
	coder_set_scope(subject, all_scopes, 1, all_objects, 1);
	subject->fixed = true;
	subject->active = true;
	subject->username = pstrdup(name);
	subject->roles_json = subject->orgs_json = pstrdup("[]");
	subject->expires_at = DT_NOEND;
	MemoryContextSwitchTo(old);
	return subject;
}
