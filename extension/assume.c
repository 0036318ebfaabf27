/*
 * assume.c -- asking as somebody without a login: as a user, one of the server's own subjects, or a
 * made-up one.  For the server's functions, administrators and tests; people sign in (session.c).
 *
 * Such a subject stays while statements come and go, so each decision asks
 * whether rights have changed since it was made, and makes it anew then.  A
 * user who was suspended or deleted since is nobody.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "coder.h"
#include "compat.h"
#include "load.h"
#include "request.h"
#include "system.h"

static CoderSubject *assumed_subject; /* the one that has been set last */
static uint64 assumed_at;			  /* the time since which it has its rights */

PG_FUNCTION_INFO_V1(coder_set_subject);
PG_FUNCTION_INFO_V1(coder_set_system_subject);
PG_FUNCTION_INFO_V1(coder_set_subject_roles);

static char **
copy_strings(char **strings, int n)
{
	char **copy = palloc(sizeof(char *) * (n + 1));

	for (int i = 0; i < n; i++)
		copy[i] = pstrdup(strings[i]);
	return copy;
}

/* Asks as this subject from now on; the one before it goes, unless a request is served inside it. */
static void
assume(CoderSubject *subject)
{
	if (assumed_subject != NULL && coder_current_request == NULL)
		MemoryContextDelete(assumed_subject->context);
	subject->assumed = true;
	assumed_subject = subject;
	coder_current_subject = subject;
}

/* A user's subject that lasts, with its scope and allow list; NULL where there is no such user. */
static CoderSubject *
make_user(const pg_uuid_t *id, char **scopes, int nscopes, char **allow, int nallow)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	CoderSubject *subject = coder_subject_of_user(id);
	const char *unknown = NULL;

	if (subject != NULL)
	{
		MemoryContextSwitchTo(subject->context);
		unknown = coder_set_scope(subject,
								  copy_strings(scopes, nscopes),
								  nscopes,
								  copy_strings(allow, nallow),
								  nallow);
	}
	MemoryContextSwitchTo(old);
	if (unknown != NULL)
	{
		char *name = pstrdup(unknown);

		MemoryContextDelete(subject->context);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown scope \"%s\"", name)));
	}
	return subject;
}

/*
 * The current subject, which is the session's, with the rights of now; NULL where
 * its user has none any more.
 */
CoderSubject *
coder_assumed_subject(void)
{
	CoderSubject *before = coder_current_subject;
	CoderSubject *subject;
	uint64 now;

	if (before != assumed_subject || before->fixed || !coder_subject_changed(before, assumed_at))
		return before;
	now = coder_subject_time();
	subject = make_user(
		&before->rbac.id, before->scopes, before->nscopes, before->allow, before->nallow);
	if (subject != NULL && !subject->active)
	{
		MemoryContextDelete(subject->context);
		subject = NULL;
	}
	coder_current_subject = NULL;
	if (subject == NULL)
		return NULL;
	assume(subject);
	assumed_at = now;
	return subject;
}

/*
 * coder.set_subject(user_id uuid, scopes text[], allow_list text[]) RETURNS void
 *
 * The rest of the session asks as this user, NULL for nobody, until the next
 * call or the end of a failed transaction.  For administrators and tests; a
 * request of the API sets its own.
 */
Datum
coder_set_subject(PG_FUNCTION_ARGS)
{
	CoderSubject *subject;
	uint64 now;
	int nscopes;
	int nallow;
	char **scopes;
	char **allow;

	coder_current_subject = NULL;
	if (PG_ARGISNULL(0))
		PG_RETURN_VOID();
	scopes = coder_text_array(PG_GETARG_DATUM(1), PG_ARGISNULL(1), &nscopes);
	allow = coder_text_array(PG_GETARG_DATUM(2), PG_ARGISNULL(2), &nallow);
	now = coder_subject_time();
	subject = make_user(PG_GETARG_UUID_P(0), scopes, nscopes, allow, nallow);
	if (subject == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("user does not exist")));
	assume(subject);
	assumed_at = now;
	PG_RETURN_VOID();
}

/*
 * coder.set_system_subject(name text, owner uuid, org uuid) RETURNS void
 *
 * The rest of the session asks as one of the server's own subjects; owner and
 * org are those of the workspace of sub_agent_api.  22023 where there is no
 * such subject.
 */
Datum
coder_set_system_subject(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	CoderSubject *subject;

	coder_current_subject = NULL;
	subject = coder_system_subject(name,
								   PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1),
								   PG_ARGISNULL(2) ? NULL : PG_GETARG_UUID_P(2),
								   TopMemoryContext);
	if (subject == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no system subject \"%s\"", name)));
	assume(subject);
	PG_RETURN_VOID();
}

static void
copy_groups(RbacSubject *rbac, ArrayType *array)
{
	Datum *elems;
	bool *nulls;
	int n;

	deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, &nulls, &n);
	rbac->groups = palloc(sizeof(pg_uuid_t) * (n + 1));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			rbac->groups[rbac->ngroups++] = *DatumGetUUIDP(elems[i]);
}

/* Roles of a made-up subject; false where one is malformed. */
static bool
give_roles(CoderSubject *subject, char **roles, int n)
{
	MemoryContext old;
	bool ok;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(subject->context);
	ok = coder_load_roles(subject, roles, n);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	return ok;
}

/*
 * coder.set_subject_roles(id uuid, roles text[], groups uuid[], scopes text[],
 *                         allow_list text[]) RETURNS void
 *
 * The rest of the session asks as somebody with this id and just these roles,
 * "name" or "name:organization id".  None is implied.  22023 for a malformed
 * role or an unknown scope; a role that does not exist grants nothing.
 */
Datum
coder_set_subject_roles(PG_FUNCTION_ARGS)
{
	int counts[3];
	char **lists[3];
	CoderSubject *subject;
	MemoryContext old;

	coder_current_subject = NULL;
	subject = coder_new_subject(CurrentMemoryContext);
	old = MemoryContextSwitchTo(subject->context);
	lists[0] = coder_text_array(PG_GETARG_DATUM(1), false, &counts[0]);
	copy_groups(&subject->rbac, PG_GETARG_ARRAYTYPE_P(2));
	lists[1] = coder_text_array(PG_GETARG_DATUM(3), false, &counts[1]);
	lists[2] = coder_text_array(PG_GETARG_DATUM(4), false, &counts[2]);
	MemoryContextSwitchTo(old);
	if (!give_roles(subject, lists[0], counts[0]))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("malformed role")));
	MemoryContextSwitchTo(subject->context);
	if (coder_set_scope(subject, lists[1], counts[1], lists[2], counts[2]) != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown scope")));
	subject->rbac.id = *PG_GETARG_UUID_P(0);
	subject->fixed = subject->active = true;
	subject->username = pstrdup("");
	subject->roles_json = subject->orgs_json = pstrdup("[]");
	subject->expires_at = DT_NOEND;
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(subject->context, TopMemoryContext);
	assume(subject);
	PG_RETURN_VOID();
}
