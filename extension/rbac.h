/*
 * rbac.h -- resource types, actions, permission sets and the decision.
 *
 * A level (site, user, or one organization's org and member lists) is a set of
 * granted and a set of negated (type, action) pairs: one word a type, one bit
 * an action.  Roles of a subject are pooled into these sets when it is loaded,
 * so a decision is a few array reads.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_RBAC_H
#define CODER_RBAC_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#define RBAC_TYPES 43
#define RBAC_ACTIONS 18
#define RBAC_OTHER_TYPE RBAC_TYPES /* a type the table does not know: only wildcards match */
#define RBAC_OTHER_ACTION 31	   /* likewise an action */
#define RBAC_ALL_ACTIONS UINT32_MAX

typedef struct RbacSet
{
	uint32 grant[RBAC_TYPES + 1];
	uint32 deny[RBAC_TYPES + 1];
} RbacSet;

typedef struct RbacOrg
{
	pg_uuid_t id;
	RbacSet org;
	RbacSet member;
} RbacOrg;

/*
 * One entry of a scope's allow list: type RBAC_ANY_TYPE and any_id are wildcards;
 * no_id stands for objects without an id, such as one that is to be made.
 */
#define RBAC_ANY_TYPE (-1)
typedef struct RbacAllow
{
	int type;
	bool any_id;
	bool no_id;
	pg_uuid_t id;
} RbacAllow;

typedef struct RbacSubject
{
	pg_uuid_t id;
	RbacSet site;
	RbacSet user;
	int norgs;
	RbacOrg *orgs; /* the membership set, ordered by id */
	int ngroups;
	pg_uuid_t *groups;
	RbacSet scope; /* built-in scopes have only site lists */
	bool allow_all;
	bool sharing_off; /* the deployment's switch: workspaces and tasks have no ACLs */
	int nallow;
	RbacAllow *allow;
} RbacSubject;

typedef struct RbacObject
{
	int type;
	const pg_uuid_t *id; /* NULL: none */
	const pg_uuid_t *org;
	const pg_uuid_t *owner;
	bool any_org;
	bool listed; /* a row of a list: its ACLs count whatever the deployment's switch */
	Jsonb *user_acl;
	Jsonb *group_acl;
} RbacObject;

/*
 * The rows of a type that a subject may act on, for a list's query.  A row passes
 * where everything is set, or its organization is one of orgs, or it is the
 * subject's own in one of owned, or the subject's own and of no organization
 * where own is set, or its ACLs say so (rbac_acl_can; never where no_acls is set);
 * and, unless any_id is set, where its id is one of ids.
 */
typedef struct RbacFilter
{
	const RbacSubject *subject;
	bool everything;
	bool own;
	bool no_acls;
	bool any_id;
	int norgs;
	int nowned;
	int nids;
	const pg_uuid_t **orgs;
	const pg_uuid_t **owned;
	const pg_uuid_t **ids;
} RbacFilter;

typedef enum RbacLevel
{
	RBAC_SITE,
	RBAC_USER,
	RBAC_ORG,
	RBAC_MEMBER
} RbacLevel;

extern const char *const rbac_type_names[RBAC_TYPES];
extern const char *const rbac_action_names[RBAC_ACTIONS];
extern int rbac_type(const char *name, int len);
extern int rbac_action(const char *name, int len);
extern uint32 rbac_type_actions(int type);

/* why: what decided, in words. */
extern bool rbac_decide(const RbacSubject *subject, int action, const RbacObject *object,
						const char **why);
/* Parts of the decision, for explanations. */
extern bool rbac_no_acls(const RbacSubject *subject, const RbacObject *object);
extern bool rbac_acl_holds(Jsonb *acl, const pg_uuid_t *key, int action);
extern bool rbac_allow_list_passes(const RbacSubject *subject, const RbacObject *object);
/* The same by the object's ACLs alone, and the scope and allow list of the subject. */
extern bool rbac_acl_can(const RbacSubject *subject, int action, const RbacObject *object);
/* What of a type the subject may act on; arrays in the current context, ids in the subject. */
extern void rbac_filter(const RbacSubject *subject, int action, int type, RbacFilter *filter);
/* Is the subject in the organization?  From its roles. */
extern bool rbac_is_member(const RbacSubject *subject, const pg_uuid_t *org);
/* 32 hexadecimal digits, with or without dashes; false for anything else. */
extern bool rbac_parse_uuid(const char *s, pg_uuid_t *id);
/* One "type:id" of an allow list; false where it allows nothing. */
extern bool rbac_parse_allow(const char *text, RbacAllow *allow);

/* A role's lists, compiled. */
typedef struct RbacRoleSets
{
	RbacSet level[RBAC_MEMBER + 1];
} RbacRoleSets;
/* Those of a built-in role, kept for the backend's life; NULL: no such role of the site (org false)
 * or of organizations. */
extern const RbacRoleSets *rbac_role_sets(const char *role, bool org);
/* Adds one set to another. */
extern void rbac_pool(RbacSet *to, const RbacSet *from);
/* -1, 0 or +1: a set's opinion of an action on a type. */
extern int rbac_vote(const RbacSet *set, int type, int action);
/* The names of the built-in roles, one after another; NULL behind the last. */
extern const char *rbac_role_name(int i, bool *org);
extern bool rbac_is_role(const char *role, bool org);
extern const char *rbac_role_display(const char *role);
/* Adds a scope; false: no such scope. */
extern bool rbac_add_scope(RbacSet *set, const char *scope);
extern void rbac_add_spec(RbacSet *set, const char *spec);
extern bool rbac_role_json(StringInfo buf, const char *role, RbacLevel level);

#endif
