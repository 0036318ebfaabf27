/*
 * session.c -- who a person at an SQL prompt is: coder.login, coder.become, and the subject
 * that row security and coder.can ask when no request of the API is being served.
 *
 * The login is memory of this backend, not a setting, so nothing but these functions changes
 * it.  It follows transactions as SET does: a login of the session that is rolled back was
 * never there, one of the transaction ends with it; so an impersonation whose audit row is
 * rolled back ends, too.  It counts for the session user who made it only, and ends with
 * DISCARD ALL (guard.c).
 *
 * Without a login, members of coder_admin and coder_auditor who are no superusers have the
 * rights of the site roles owner and auditor; everybody else is nobody.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <sodium.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "load.h"
#include "request.h"

#define MAX_SAVED 64

typedef enum LoginKind
{
	LOGIN_NONE,
	LOGIN_TOKEN, /* coder.login */
	LOGIN_USER	 /* coder.become */
} LoginKind;

typedef struct Login
{
	LoginKind kind;
	Oid role; /* the session user who did it */
	pg_uuid_t user;
	char token[CODER_KEY_LEN + 1];
} Login;

typedef struct Logins
{
	Login session;
	Login local; /* of this transaction */
	bool has_local;
} Logins;

/* What a (sub)transaction found, to be put back when it is rolled back. */
typedef struct Saved
{
	int level;
	Logins before;
} Saved;

static Logins logins;
static Saved saved[MAX_SAVED];
static int nsaved;

/* The subject of the current login, and since when (extension/subject.c) it has its rights. */
static struct
{
	MemoryContext context;
	CoderSubject *subject;
	uint64 read_at;
	bool of_transaction; /* seen by a transaction that writes: it may never have been */
} held;

PG_FUNCTION_INFO_V1(coder_session_login);
PG_FUNCTION_INFO_V1(coder_session_become);
PG_FUNCTION_INFO_V1(coder_session_logout);
PG_FUNCTION_INFO_V1(coder_session_info);

static void
drop_held(void)
{
	held.subject = NULL;
}

/* ---- with transactions ---- */

static const Oid cursor_args[] = {TEXTOID, BOOLOID};

/*
 * Portals made by DECLARE, by PL/pgSQL's loops and by the protocol, but the one that runs; all,
 * or those that outlive the transaction.
 */
static CoderPlan cursor_plan = {
	"SELECT c.name FROM pg_catalog.pg_cursor() c"
	" WHERE c.name OPERATOR(pg_catalog.<>) '' AND c.name OPERATOR(pg_catalog.<>) $1"
	" AND (c.is_holdable OR NOT $2)",
	2,
	cursor_args,
	NULL};

static List *
open_cursors(bool holdable)
{
	MemoryContext context = CurrentMemoryContext;
	Datum args[2] = {CStringGetTextDatum(ActivePortal != NULL ? ActivePortal->name : ""),
					 BoolGetDatum(holdable)};
	List *names = NIL;
	bool isnull;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	coder_execute(&cursor_plan, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		names = lappend(names,
						TextDatumGetCString(SPI_getbinval(
							SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	SPI_finish();
	return names;
}

/* A cursor would mix the rows of two subjects. */
static void
refuse_cursors(void)
{
	List *names = open_cursors(false);

	if (names != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot change who asks while cursor \"%s\" is open",
						(char *) linitial(names)),
				 errhint("Close the cursor first.")));
}

/* One WITH HOLD has its rows by now, and would give them to who comes after the transaction. */
static void
close_held_cursors(void)
{
	ListCell *cell;

	foreach (cell, open_cursors(true))
	{
		Portal portal = GetPortalByName(lfirst(cell));

		if (!PortalIsValid(portal))
			continue;
		ereport(WARNING,
				(errmsg("cursor \"%s\" is closed", portal->name),
				 errdetail("It does not outlive the login of its transaction.")));
		PortalDrop(portal, false);
	}
}

static void
end_local(void)
{
	if (!logins.has_local)
		return;
	sodium_memzero(&logins.local, sizeof(logins.local));
	logins.has_local = false;
	drop_held();
}

static void
on_xact_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (logins.has_local)
				close_held_cursors();
			return;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			if (nsaved > 0)
				logins = saved[0].before;
			drop_held();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			if (held.of_transaction)
				drop_held();
			break;
		default:
			return;
	}
	end_local();
	if (nsaved > 0)
		sodium_memzero(saved, sizeof(saved[0]) * nsaved);
	nsaved = 0;
}

static void
on_subxact_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB && held.of_transaction)
		drop_held();
	if (nsaved == 0 || saved[nsaved - 1].level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (nsaved > 0 && saved[nsaved - 1].level >= level)
			logins = saved[--nsaved].before;
		drop_held();
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		if (nsaved > 1 && saved[nsaved - 2].level == level - 1)
			nsaved--; /* what the parent found is older */
		else
			saved[nsaved - 1].level = level - 1;
	}
}

void
coder_session_init(void)
{
	RegisterXactCallback(on_xact_end, NULL);
	RegisterSubXactCallback(on_subxact_end, NULL);
}

/* Remembers what is, once in each (sub)transaction. */
static void
save_logins(void)
{
	int level = GetCurrentTransactionNestLevel();

	if (nsaved > 0 && saved[nsaved - 1].level >= level)
		return;
	if (nsaved == MAX_SAVED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many logins in subtransactions within one another")));
	saved[nsaved].level = level;
	saved[nsaved].before = logins;
	nsaved++;
}

static void
change_login(const Login *login, bool local)
{
	refuse_cursors();
	save_logins();
	if (local)
	{
		logins.local = *login;
		logins.has_local = true;
	}
	else
	{
		logins.session = *login;
		end_local();
	}
	drop_held();
}

/* After DISCARD ALL, which runs in no transaction block. */
void
coder_session_discard(void)
{
	sodium_memzero(&logins, sizeof(logins));
	nsaved = 0;
	drop_held();
}

/* ---- who it is ---- */

/* The login that counts now; NULL: none.  SET SESSION AUTHORIZATION leaves it behind. */
static const Login *
current_login(void)
{
	const Login *login = logins.has_local ? &logins.local : &logins.session;

	return login->kind != LOGIN_NONE && login->role == GetSessionUserId() ? login : NULL;
}

bool
coder_role_has(const char *role, Oid user)
{
	Oid oid = get_role_oid(role, true);

	return OidIsValid(oid) && !superuser_arg(user) && has_privs_of_role(user, oid);
}

static CoderSubject *
make_role_subject(const char *site_role, const char *name)
{
	static char *scopes[] = {"coder:all"};
	static char *allow[] = {"*:*"};
	CoderSubject *subject = coder_new_subject(TopMemoryContext);
	MemoryContext old = MemoryContextSwitchTo(subject->context);

	subject->nroles = 2;
	subject->roles = palloc0(sizeof(CoderRole) * 2);
	subject->roles[0].name = "member";
	subject->roles[0].implied = true;
	subject->roles[1].name = site_role;
	for (int i = 0; i < 2; i++)
		rbac_pool(&subject->rbac.site,
				  &rbac_role_sets(subject->roles[i].name, false)->level[RBAC_SITE]);
	coder_set_scope(subject, scopes, 1, allow, 1);
	subject->active = subject->fixed = true;
	subject->expires_at = DT_NOEND;
	subject->username = pstrdup(name);
	subject->roles_json = pstrdup("[]");
	subject->orgs_json = pstrdup("[]");
	MemoryContextSwitchTo(old);
	return subject;
}

/*
 * The subject of a role of the database without a login.  The role is that of SET ROLE, not
 * that of a SECURITY DEFINER function around us: such a function lends nobody its owner's eyes.
 */
static CoderSubject *
role_subject(void)
{
	static CoderSubject *admin;
	static CoderSubject *auditor;
	Oid user = GetOuterUserId();

	if (coder_role_has("coder_admin", user))
	{
		if (admin == NULL)
			admin = make_role_subject("owner", "coder_admin");
		return admin;
	}
	if (coder_role_has("coder_auditor", user))
	{
		if (auditor == NULL)
			auditor = make_role_subject("auditor", "coder_auditor");
		return auditor;
	}
	return NULL;
}

/* Tables are read as their owner: the person who asks may not. */
static Oid
tables_owner(void)
{
	Oid relid = get_relname_relid("users", coder_namespace());
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for coder.users");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static const Oid state_args[] = {UUIDOID};

static CoderPlan state_plan = {
	"SELECT CASE WHEN u.deleted THEN 'deleted' ELSE u.status::pg_catalog.text END"
	"  FROM coder.users u WHERE u.id OPERATOR(pg_catalog.=) $1",
	1,
	state_args,
	NULL};

/* A user whom the API would let in; an error tells why not. */
static void
check_user(const pg_uuid_t *user)
{
	Datum arg = UUIDPGetDatum(unconstify(pg_uuid_t *, user));
	char *status = NULL;
	bool isnull;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	coder_execute(&state_plan, &arg, NULL, true, 1);
	if (SPI_processed == 1)
	{
		MemoryContext old = MemoryContextSwitchTo(held.context);

		status = TextDatumGetCString(
			SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	SPI_finish();
	if (status == NULL || strcmp(status, "deleted") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the user who asks does not exist any more")));
	if (strcmp(status, "suspended") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("the user who asks is suspended")));
}

static CoderSubject *
load_login(const Login *login)
{
	CoderSubject *subject;

	if (login->kind == LOGIN_TOKEN)
		return coder_subject_load_token(login->token, (int) strlen(login->token));
	check_user(&login->user);
	subject = coder_subject_of_user(&login->user);
	if (subject == NULL)
		elog(ERROR, "user does not exist");
	return subject;
}

/* The API's words for a token that is not good (any more) become PostgreSQL's. */
static void
raise_signed_out(ErrorData *error)
{
	FlushErrorState();
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the login of this session is not good any more"),
			 errdetail_internal("%s", error->detail != NULL ? error->detail : error->message),
			 errhint("Sign in again: SELECT coder.login('<token>').")));
}

/* The subject of a login, in the current context; 28000 where it has none. */
static CoderSubject *
load_or_raise(const Login *login)
{
	MemoryContext context = CurrentMemoryContext;
	CoderSubject *subject = NULL;

	PG_TRY();
	{
		subject = load_login(login);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_CODER_UNAUTHENTICATED)
			PG_RE_THROW();
		raise_signed_out(error); /* what was open is closed by the end of the (sub)transaction */
	}
	PG_END_TRY();
	return subject;
}

/* Loads the subject of a login into held. */
static void
hold(const Login *login)
{
	uint64 before = coder_subject_time();
	MemoryContext old;
	Oid user;
	int security;
	int settings;

	if (held.context == NULL)
		held.context = AllocSetContextCreate(TopMemoryContext, "coder login", ALLOCSET_SMALL_SIZES);
	drop_held();
	MemoryContextReset(held.context);
	/* Given back by the end of the (sub)transaction where it fails. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(tables_owner(), security | SECURITY_LOCAL_USERID_CHANGE);
	/* Off, it is one of the signs of a dump being restored, which triggers stand aside for. */
	settings = NewGUCNestLevel();
	(void) set_config_option(
		"row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	old = MemoryContextSwitchTo(held.context);
	held.subject = load_or_raise(login);
	MemoryContextSwitchTo(old);
	AtEOXact_GUC(false, settings);
	SetUserIdAndSecContext(user, security);
	held.read_at = before;
	held.of_transaction = TransactionIdIsValid(GetTopTransactionIdIfAny());
}

static void
refuse_expired(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("the token of this session has expired"),
			 errhint("Sign in again: SELECT coder.login('<token>').")));
}

/* Rights lent by coder.become end with the membership that lent them. */
static void
check_lender(const Login *login)
{
	if (login->kind == LOGIN_USER &&
		!is_member_of_role(login->role, get_role_oid("coder_admin", false)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("role \"%s\" is no longer a member of coder_admin",
						GetUserNameFromId(login->role, false))));
}

CoderSubject *
coder_session_subject(void)
{
	const Login *login;

	if (coder_current_request != NULL)
		return NULL; /* a request has its own subject, or none */
	login = current_login();
	if (login == NULL)
		return role_subject();
	check_lender(login);
	if (held.subject == NULL || coder_subject_changed(held.subject, held.read_at))
		hold(login);
	if (held.subject->expires_at <= GetCurrentTimestamp())
		refuse_expired();
	return held.subject;
}

/* ---- functions ---- */

static void
warn_superuser(void)
{
	if (superuser_arg(GetOuterUserId()))
		ereport(WARNING,
				(errmsg("row security does not apply to a superuser"),
				 errhint("SET ROLE coder_admin or coder_user to see what the user sees.")));
}

/* Makes the login current, and fails where it is none: its transaction is then rolled back. */
static void
enter(Login *login, bool local)
{
	login->role = GetSessionUserId();
	change_login(login, local);
	sodium_memzero(login, sizeof(*login));
	(void) coder_session_subject();
	warn_superuser();
}

/* coder.session_login(token text, local bool) RETURNS void: ZC401 where the token is nobody's. */
Datum
coder_session_login(PG_FUNCTION_ARGS)
{
	text *token = PG_GETARG_TEXT_PP(0);
	Login login = {.kind = LOGIN_TOKEN};

	coder_subject_check_key(VARDATA_ANY(token), (int) VARSIZE_ANY_EXHDR(token));
	memcpy(login.token, VARDATA_ANY(token), CODER_KEY_LEN);
	enter(&login, PG_GETARG_BOOL(1));
	PG_RETURN_VOID();
}

/* coder.session_become(user_id uuid, local bool) RETURNS void */
Datum
coder_session_become(PG_FUNCTION_ARGS)
{
	Login login = {.kind = LOGIN_USER, .user = *PG_GETARG_UUID_P(0)};

	enter(&login, PG_GETARG_BOOL(1));
	/* Not undone by a rollback, as the audit row is. */
	ereport(LOG,
			(errmsg("role \"%s\" asks as user %s",
					GetUserNameFromId(GetSessionUserId(), false),
					DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(0)))),
			 errhidestmt(true),
			 errhidecontext(true)));
	PG_RETURN_VOID();
}

/* coder.session_logout() RETURNS void: neither the session nor the transaction has a login. */
Datum
coder_session_logout(PG_FUNCTION_ARGS)
{
	Login nobody = {.kind = LOGIN_NONE};

	change_login(&nobody, false);
	PG_RETURN_VOID();
}

/*
 * coder.session_info(OUT login text, OUT local bool, OUT user_id uuid, OUT token_id text)
 *
 * login is "token", "become", "role" or "nobody".
 */
Datum
coder_session_info(PG_FUNCTION_ARGS)
{
	const Login *login = current_login();
	CoderSubject *subject = coder_session_subject();
	TupleDesc desc;
	Datum values[4] = {0};
	bool nulls[4] = {false, false, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(login == NULL ? (subject == NULL ? "nobody" : "role")
									: login->kind == LOGIN_TOKEN ? "token"
																 : "become");
	values[1] = BoolGetDatum(login != NULL && logins.has_local);
	if (login != NULL)
	{
		nulls[2] = false;
		values[2] = UUIDPGetDatum(&subject->rbac.id);
		nulls[3] = subject->token_id[0] == '\0';
		values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(subject->token_id);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
