/*
 * coder.h -- what the files of the extension share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_H
#define CODER_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/uuid.h"

#include "rbac.h"

#define CODER_SHA256_LEN 32
#define CODER_KEY_ID_LEN 10
#define CODER_KEY_SECRET_LEN 22
#define CODER_KEY_LEN (CODER_KEY_ID_LEN + 1 + CODER_KEY_SECRET_LEN)

/* A role of a subject; one of the site where in_org is false. */
typedef struct CoderRole
{
	const char *name;
	bool in_org;
	bool implied; /* nobody gave it: every member has it */
	pg_uuid_t org;
} CoderRole;

/* Who asks: cached per token, or made for one call.  Read only. */
typedef struct CoderSubject
{
	MemoryContext context;
	uint64 serial; /* of each that this backend has loaded; 0: not loaded */
	RbacSubject rbac;
	char token_id[CODER_KEY_ID_LEN + 1]; /* "" where there is no API key */
	TimestampTz expires_at;
	TimestampTz upstream_expires; /* of the token of who signed the user in; DT_NOEND: none, or without an end */
	TimestampTz last_used;
	int64 lifetime_seconds;
	bool has_agent;
	pg_uuid_t agent_id;
	char *username;
	char *roles_json; /* User.roles: the site roles with their display names */
	char *orgs_json;  /* User.organization_ids */
	bool active;	  /* neither suspended nor deleted */
	bool assumed;	  /* by assume.c, and made anew when rights changed */
	bool fixed;		  /* of roles that are no user's: nothing to make anew */
	int nroles;
	CoderRole *roles;
	int nscopes;
	char **scopes; /* as they were asked for */
	int nallow;
	char **allow;
} CoderSubject;

/* subject.c */
extern CoderSubject *coder_current_subject; /* NULL: nobody */
extern uint64 coder_subject_time(void);
extern bool coder_subject_changed(const CoderSubject *subject, uint64 since);
extern void coder_subject_init(void);
extern CoderSubject *coder_subject_of_token(const char *token, int len, const char *remote);
extern bool coder_subject_upstream_over(const CoderSubject *subject);
extern CoderSubject *coder_subject_of_agent(const pg_uuid_t *auth_token);
extern CoderSubject *coder_subject_of_user(const pg_uuid_t *user_id);
extern CoderSubject *coder_subject_load_token(const char *token, int len);
extern void coder_subject_check_key(const char *token, int len);
extern CoderSubject *coder_user_subject(const pg_uuid_t *user_id);
extern CoderSubject *coder_new_subject(MemoryContext parent);

/* assume.c */
extern CoderSubject *coder_assumed_subject(void); /* NULL: it has no rights any more */

/* session.c */
extern void coder_session_init(void);
extern void coder_session_discard(void);
extern CoderSubject *coder_session_subject(void); /* NULL: nobody */
/* Has the user the rights of this role, other than as a superuser? */
extern bool coder_role_has(const char *role, Oid user);

/* Who asks, with the rights of now: of the request that is served, else of this session. */
static inline CoderSubject *
coder_subject(void)
{
	if (coder_current_subject == NULL)
		return coder_session_subject();
	return coder_current_subject->assumed ? coder_assumed_subject() : coder_current_subject;
}

/* can.c: arguments (action, type, org, owner, user_acl, group_acl, id) from first into an object;
 * the action. */
extern int coder_object_of_args(FunctionCallInfo fcinfo, int first, RbacObject *object);

/* lock.c */
#define CODER_LOCK_CLASS 3 /* objsubid of pg_locks */
extern bool coder_lock_key(uint64 key, bool session, bool wait); /* false: somebody holds it */

/* guard.c */
extern void coder_guard_init(void);

/* crypto.c */
extern void coder_crypto_init(void);
extern void coder_sha256(const void *data, size_t len, uint8 out[CODER_SHA256_LEN]);

/* seal.c */
extern void coder_seal_init(void);

/* event.c */
extern void coder_event_init(void);
extern void coder_event_note(void); /* this transaction has written into coder.events */
extern void coder_event_emit(int n, Datum *channels, Datum *payloads);
extern void coder_event_shmem_request(void);
extern void coder_event_shmem_startup(void);

/* chat.c */
extern void coder_chat_init(void);

/* worker.c */
extern void coder_worker_init(void);

/* handle.c */
extern void coder_handle_init(void);
extern Oid coder_namespace(void);

/* request.c */
extern Jsonb *coder_json_parse(char *text_json, int len);

/* A plan kept for the life of the backend: prepared at first use, in the caller's SPI connection.
 */
typedef struct CoderPlan
{
	const char *sql;
	int nargs;
	const Oid *argtypes;
	SPIPlanPtr plan;
} CoderPlan;
extern int coder_execute(CoderPlan *plan, Datum *values, const char *nulls, bool read_only,
						 long limit);

/* A request as the C handlers of hot routes see it. */
typedef struct CoderRequest
{
	int route;
	const char *pattern;
	text *method;
	text *path;
	int nparams;
	char **param_names;
	char **params;
	text *query;
	text *headers;
	bytea *body; /* NULL: none */
	text *remote;
	pg_uuid_t *request_id;
	text *cursor;
} CoderRequest;

/*
 * A handler of a hot route, found by the route's function name.  It writes the
 * body and returns the HTTP status, or 0 to leave the request to the SQL function.
 */
typedef int (*CoderFastHandler)(const CoderRequest *request, StringInfo body);
extern int coder_user_get_fast(const CoderRequest *request, StringInfo body);
extern int coder_chat_create_fast(const CoderRequest *request, StringInfo body);
extern int coder_workspace_list_fast(const CoderRequest *request, StringInfo body);

#endif
