/*
 * subject.c -- who asks: from a token to a subject, and the backend's cache of them.
 *
 * The cache is keyed by SHA-256 of the whole token, or a user's id.  Triggers on the few tables
 * that make a subject invalidate the empty table coder.auth_epoch; the relcache
 * callback below bumps a generation, and the next look-up drops the cache.  This
 * is transactional and reaches every backend.  A row that was read before an
 * invalidation must not be cached after it: the generation is read first, then
 * the rows with a fresh snapshot, and the entry is kept only if the generation
 * is still the same.  A transaction that writes caches nothing, since what it
 * read may never be committed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <sodium.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"
#include "load.h"

#define CACHE_MAX 10000

typedef struct CacheEntry
{
	uint8 digest[CODER_SHA256_LEN];
	CoderSubject *subject;
} CacheEntry;

CoderSubject *coder_current_subject;

static HTAB *cache;
static MemoryContext cache_context;
static MemoryContext retired_context; /* parent of caches that a call may still use */
static char *all_scopes[] = {"coder:all"};
static char *all_objects[] = {"*:*"};
static Oid epoch_relid;
static uint64 generation = 1;		/* bumped by invalidations */
static uint64 cache_generation = 0; /* of what the cache holds */

PG_FUNCTION_INFO_V1(coder_auth_changed);
PG_FUNCTION_INFO_V1(coder_subject_id);
PG_FUNCTION_INFO_V1(coder_subject_token_id);
PG_FUNCTION_INFO_V1(coder_agent_id);
PG_FUNCTION_INFO_V1(coder_subject_cached);

/* May run anywhere, even while a transaction aborts: nothing but the counter. */
static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == epoch_relid)
		generation++;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		coder_current_subject = NULL;
}

void
coder_subject_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
	RegisterXactCallback(on_xact_end, NULL);
}

/*
 * coder.auth_changed() RETURNS trigger
 *
 * On every table that makes a subject: drops the cached subjects of all
 * backends when the transaction commits.
 */
Datum
coder_auth_changed(PG_FUNCTION_ARGS)
{
	Oid relid = get_relname_relid("auth_epoch", coder_namespace());

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
	PG_RETURN_POINTER(NULL);
}

/* Empties the cache if something was invalidated; done where no caller holds an entry. */
static void
refresh_cache(void)
{
	HASHCTL ctl = {0};

	if (cache != NULL && cache_generation == generation &&
		(hash_get_num_entries(cache) < CACHE_MAX || coder_current_subject != NULL))
		return; /* a full one stays full until nobody uses it */
	epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	if (retired_context == NULL)
		retired_context =
			AllocSetContextCreate(TopMemoryContext, "coder old subjects", ALLOCSET_SMALL_SIZES);
	if (cache_context != NULL)
		MemoryContextSetParent(cache_context, retired_context);
	if (coder_current_subject == NULL)
		MemoryContextReset(retired_context); /* else a call further out may still use an entry */
	cache_context =
		AllocSetContextCreate(TopMemoryContext, "coder subjects", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = CODER_SHA256_LEN;
	ctl.entrysize = sizeof(CacheEntry);
	ctl.hcxt = cache_context;
	cache = hash_create("coder subjects", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cache_generation = generation;
}

/*
 * SPI leaves its own context current, which ends with SPI_finish(); here the
 * caller's stays.
 */
int
coder_execute(CoderPlan *plan, Datum *values, const char *nulls, bool read_only, long limit)
{
	MemoryContext caller = CurrentMemoryContext;
	int code;

	if (plan->plan == NULL)
	{
		SPIPlanPtr made = SPI_prepare_cursor(
			plan->sql, plan->nargs, unconstify(Oid *, plan->argtypes), CURSOR_OPT_GENERIC_PLAN);

		if (made == NULL)
			elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
		SPI_keepplan(made);
		plan->plan = made;
	}
	code = SPI_execute_plan(plan->plan, values, nulls, read_only, limit);
	MemoryContextSwitchTo(caller);
	return code;
}

CoderSubject *
coder_new_subject(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "coder subject", ALLOCSET_SMALL_SIZES);
	CoderSubject *subject = MemoryContextAllocZero(context, sizeof(CoderSubject));
	static uint64 loaded = 0;

	subject->context = context;
	subject->upstream_expires = DT_NOEND;
	subject->serial = ++loaded;
	return subject;
}

static void
raise_signed_out(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_CODER_UNAUTHENTICATED),
			 errmsg("%s", CODER_MSG_SIGN_IN),
			 errdetail_internal("%s", detail)));
}

static const Oid key_args[] = {TEXTOID};

static CoderPlan key_plan = {
	"SELECT k.hashed_secret, k.user_id, k.expires_at, k.last_used, k.lifetime_seconds,"
	"       k.scopes::pg_catalog.text[], k.allow_list,"
	"       k.login_type OPERATOR(pg_catalog.=) 'oauth2_provider_app' AND NOT coder.oauth2_audience_ok(k.id),"
	"       CASE WHEN k.login_type OPERATOR(pg_catalog.=) 'oidc' OR k.login_type OPERATOR(pg_catalog.=) 'github'"
	"            THEN coder.upstream_expiry(k.user_id, k.login_type) END"
	"  FROM coder.api_keys k WHERE k.id OPERATOR(pg_catalog.=) $1",
	1,
	key_args,
	NULL};

static const Oid use_args[] = {TEXTOID, TEXTOID, BOOLOID};

/* Written at most once an hour a key. */
static CoderPlan use_plan = {"SELECT coder.api_key_used($1, $2, $3)", 3, use_args, NULL};

static const Oid user_args[] = {UUIDOID};

static CoderPlan activate_plan = {"SELECT coder.user_activated($1)", 1, user_args, NULL};

static bool
may_write(void)
{
	return !XactReadOnly && !RecoveryInProgress() && !IsInParallelMode();
}

/* Expiry on every use; once an hour the key's use is written, and its life may begin anew. */
static void
note_use(CoderSubject *subject, const char *remote)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum values[3];
	bool isnull;

	if (now - subject->last_used < USECS_PER_HOUR || !may_write())
		return;
	values[0] = CStringGetTextDatum(subject->token_id);
	values[1] = CStringGetTextDatum(remote != NULL ? remote : "");
	values[2] = BoolGetDatum(true);
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	coder_execute(&use_plan, values, NULL, false, 1);
	if (SPI_processed == 1)
	{
		Datum expires = coder_column(0, 1, &isnull);

		if (!isnull)
			subject->expires_at = DatumGetTimestampTz(expires);
	}
	PopActiveSnapshot();
	SPI_finish();
	subject->last_used = now;
}

static void
raise_expired(CoderSubject *subject)
{
	StringInfoData detail;

	initStringInfo(&detail);
	appendStringInfoString(&detail, "API key expired at \"");
	json_append_time(&detail, subject->expires_at);
	appendStringInfoString(&detail, "\".");
	raise_signed_out(detail.data);
}

/* The active ones pass; a dormant user becomes active by asking. */
static void
check_status(const char *status, const pg_uuid_t *user_id)
{
	Datum id = UUIDPGetDatum(unconstify(pg_uuid_t *, user_id));

	if (strcmp(status, "active") == 0)
		return;
	if (strcmp(status, "deleted") == 0)
		raise_signed_out("API key is invalid.");
	if (strcmp(status, "dormant") == 0 && may_write())
	{
		coder_execute(&activate_plan, &id, NULL, false, 1);
		return;
	}
	ereport(
		ERROR,
		(errcode(ERRCODE_CODER_UNAUTHENTICATED),
		 errmsg(
			 "User is not active (status = \"%s\"). Contact an admin to reactivate your account.",
			 status)));
}

/* The key's row and its user into subject.  SPI is connected, subject's memory current. */
static void
load_key(CoderSubject *subject, const char *id, const char *secret)
{
	Datum arg = CStringGetTextDatum(id);
	uint8 hash[CODER_SHA256_LEN];
	bool isnull;
	bytea *stored;
	pg_uuid_t user_id;
	char **scopes;
	int nscopes;
	char **allow;
	int nallow;
	const char *unknown;
	Datum value;
	char *status;

	coder_execute(&key_plan, &arg, NULL, true, 1);
	if (SPI_processed == 0)
		raise_signed_out("API key is invalid.");
	coder_sha256(secret, CODER_KEY_SECRET_LEN, hash);
	stored = DatumGetByteaPP(coder_column(0, 1, &isnull));
	if (VARSIZE_ANY_EXHDR(stored) != CODER_SHA256_LEN ||
		sodium_memcmp(VARDATA_ANY(stored), hash, CODER_SHA256_LEN) != 0)
		raise_signed_out("API key secret is invalid.");
	user_id = *DatumGetUUIDP(coder_column(0, 2, &isnull));
	strlcpy(subject->token_id, id, sizeof(subject->token_id));
	subject->expires_at = DatumGetTimestampTz(coder_column(0, 3, &isnull));
	subject->last_used = DatumGetTimestampTz(coder_column(0, 4, &isnull));
	subject->lifetime_seconds = DatumGetInt64(coder_column(0, 5, &isnull));
	value = coder_column(0, 6, &isnull);
	scopes = coder_text_array(value, isnull, &nscopes);
	value = coder_column(0, 7, &isnull);
	allow = coder_text_array(value, isnull, &nallow);
	if (DatumGetBool(coder_column(0, 8, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_CODER_FORBIDDEN),
				 errmsg("Token audience validation failed"),
				 errdetail("The token is meant for another server.")));
	if (subject->expires_at <= GetCurrentTimestamp())
		raise_expired(subject);
	value = coder_column(0, 9, &isnull);
	if (!isnull)
		subject->upstream_expires = DatumGetTimestampTz(value);
	if (subject->upstream_expires == DT_NOBEGIN)
		raise_signed_out("You must re-authenticate with the login provider.");
	unknown = coder_set_scope(subject, scopes, nscopes, allow, nallow);
	if (unknown != NULL)
		elog(ERROR, "unknown scope \"%s\" of an API key", unknown);
	status = coder_load_user(subject, &user_id);
	if (status == NULL)
		raise_signed_out("API key is invalid.");
	check_status(status, &user_id);
}

/* Runs load between SPI_connect and SPI_finish with a snapshot taken now, in subject's memory. */
static CoderSubject *
load_subject_of_key(const char *id, const char *secret)
{
	CoderSubject *subject = coder_new_subject(CurrentMemoryContext);
	MemoryContext old;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(subject->context);
	load_key(subject, id, secret);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	return subject;
}

static void
check_key_shape(const char *token, int len)
{
	int dashes = 0;

	for (int i = 0; i < len; i++)
		dashes += token[i] == '-';
	if (dashes != 1)
		raise_signed_out(
			psprintf("Invalid API key format: incorrect amount of API key parts, expected 2 got %d",
					 dashes + 1));
	if (token[CODER_KEY_ID_LEN] != '-' || len < CODER_KEY_ID_LEN + 1)
		raise_signed_out(
			psprintf("Invalid API key format: invalid API key ID length, expected %d got %d",
					 CODER_KEY_ID_LEN,
					 (int) ((const char *) memchr(token, '-', len) - token)));
	if (len != CODER_KEY_LEN)
		raise_signed_out(
			psprintf("Invalid API key format: invalid API key secret length, expected %d got %d",
					 CODER_KEY_SECRET_LEN,
					 len - CODER_KEY_ID_LEN - 1));
}

/*
 * Puts a subject into the cache, unless something changed since before, when the
 * caller began to read it, or this transaction sees what others do not.
 */
static void
keep_subject(const uint8 *key, CoderSubject *subject, uint64 before)
{
	CacheEntry *entry;
	bool found;

	if (before != generation || before != cache_generation ||
		hash_get_num_entries(cache) >= CACHE_MAX || TransactionIdIsValid(GetTopTransactionIdIfAny()) || IsolationUsesXactSnapshot())
		return;
	entry = hash_search(cache, key, HASH_ENTER, &found);
	MemoryContextSetParent(subject->context, cache_context);
	entry->subject = subject; /* an expired one before it goes with the cache */
}

/*
 * The subject of an API key; raises ZC401 where it has none.  The answer lives
 * as long as the cache or the current context, whichever holds it.
 */
CoderSubject *
coder_subject_of_token(const char *token, int len, const char *remote)
{
	uint8 digest[CODER_SHA256_LEN];
	CacheEntry *entry;
	CoderSubject *subject;
	char id[CODER_KEY_ID_LEN + 1];
	uint64 before;

	AcceptInvalidationMessages(); /* a later statement of a transaction may lock nothing new */
	refresh_cache();
	coder_sha256(token, len, digest);
	entry = hash_search(cache, digest, HASH_FIND, NULL);
	if (entry != NULL &&
		Min(entry->subject->expires_at, entry->subject->upstream_expires) > GetCurrentTimestamp())
	{
		note_use(entry->subject, remote);
		return entry->subject;
	}

	check_key_shape(token, len);
	memcpy(id, token, CODER_KEY_ID_LEN);
	id[CODER_KEY_ID_LEN] = '\0';
	before = generation;
	subject = load_subject_of_key(id, token + CODER_KEY_ID_LEN + 1);
	keep_subject(digest, subject, before);
	note_use(subject, remote);
	return subject;
}

/* Has the token ended that the provider gave when the user signed in? */
bool
coder_subject_upstream_over(const CoderSubject *subject)
{
	return subject->upstream_expires != DT_NOEND && may_write() &&
		   subject->upstream_expires <= GetCurrentTimestamp();
}

/* Raises ZC401 where the token does not look like an API key. */
void
coder_subject_check_key(const char *token, int len)
{
	check_key_shape(token, len);
}

/* The same subject in the current context and nobody else's; the key must look like one. */
CoderSubject *
coder_subject_load_token(const char *token, int len)
{
	CoderSubject *subject;
	char id[CODER_KEY_ID_LEN + 1];

	check_key_shape(token, len);
	memcpy(id, token, CODER_KEY_ID_LEN);
	id[CODER_KEY_ID_LEN] = '\0';
	subject = load_subject_of_key(id, token + CODER_KEY_ID_LEN + 1);
	note_use(subject, NULL);
	return subject;
}

/*
 * Grows with every change of somebody's rights: what was made at another one is
 * stale.  A statement that locks no new table is told of none otherwise.
 */
uint64
coder_subject_generation(void)
{
	if (!OidIsValid(epoch_relid))
		epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	AcceptInvalidationMessages();
	return generation;
}

/* A user with all rights of its roles; NULL where there is none.  Lives in parent. */
static CoderSubject *
load_subject_of_user(const pg_uuid_t *user_id, MemoryContext parent)
{
	CoderSubject *subject = coder_new_subject(parent);
	MemoryContext old;
	char *status;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(subject->context);
	status = coder_load_user(subject, user_id);
	coder_set_scope(subject, all_scopes, 1, all_objects, 1);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	subject->expires_at = DT_NOEND;
	if (status != NULL)
		return subject;
	MemoryContextDelete(subject->context);
	return NULL;
}

/*
 * A user with all rights of its roles: for SQL by hand, and for agents' owners;
 * NULL where there is none.  The caller's own, in the current context.
 */
CoderSubject *
coder_subject_of_user(const pg_uuid_t *user_id)
{
	return load_subject_of_user(user_id, CurrentMemoryContext);
}

/*
 * The same from the cache, read only, for as long as the statement.  Its key is
 * the user's id and zeros.
 */
CoderSubject *
coder_user_subject(const pg_uuid_t *user_id)
{
	uint8 key[CODER_SHA256_LEN] = {0};
	CoderSubject *subject;
	CacheEntry *entry;
	uint64 before;

	AcceptInvalidationMessages();
	refresh_cache();
	memcpy(key, user_id->data, UUID_LEN);
	entry = hash_search(cache, key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->subject;
	before = generation;
	subject = load_subject_of_user(user_id, CurrentMemoryContext);
	if (subject != NULL)
		keep_subject(key, subject, before);
	return subject;
}

static CoderPlan agent_plan = {"SELECT s.agent_id, s.owner_id, s.scope, s.allow_list"
							   "  FROM coder.agent_subject($1) s WHERE s.agent_id IS NOT NULL",
							   1,
							   user_args,
							   NULL};

/*
 * The owner of the workspace of an agent token, narrowed to what the agent may
 * see; NULL where the token is nobody's.  Not cached: it depends on the latest
 * build, and agents hold one connection.
 */
CoderSubject *
coder_subject_of_agent(const pg_uuid_t *auth_token)
{
	CoderSubject *subject = coder_new_subject(CurrentMemoryContext);
	Datum arg = UUIDPGetDatum(unconstify(pg_uuid_t *, auth_token));
	MemoryContext old;
	bool isnull;
	bool known = false;

	if (!OidIsValid(LookupFuncName(
			list_make2(makeString("coder"), makeString("agent_subject")), 1, user_args, true)))
		return NULL;
	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(subject->context);
	coder_execute(&agent_plan, &arg, NULL, true, 1);
	if (SPI_processed == 1)
	{
		pg_uuid_t owner = *DatumGetUUIDP(coder_column(0, 2, &isnull));
		char **scope = palloc(sizeof(char *));
		int n;
		Datum value;
		char **allow;

		subject->agent_id = *DatumGetUUIDP(coder_column(0, 1, &isnull));
		subject->has_agent = true;
		scope[0] = TextDatumGetCString(coder_column(0, 3, &isnull));
		value = coder_column(0, 4, &isnull);
		allow = coder_text_array(value, isnull, &n);
		if (strcmp(scope[0], "no_user_data") != 0)
			scope = all_scopes;
		coder_set_scope(subject, scope, 1, allow, n);
		subject->expires_at = DT_NOEND;
		known = coder_load_user(subject, &owner) != NULL;
	}
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	return known ? subject : NULL;
}

/* coder.subject_id() RETURNS uuid: the user who asks, NULL where nobody or a role of the database. */
Datum
coder_subject_id(PG_FUNCTION_ARGS)
{
	static const pg_uuid_t nil;
	CoderSubject *subject = coder_subject();

	if (subject == NULL || memcmp(&subject->rbac.id, &nil, UUID_LEN) == 0)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(&subject->rbac.id);
}

/* coder.subject_token_id() RETURNS text: the id of the API key used, NULL where none. */
Datum
coder_subject_token_id(PG_FUNCTION_ARGS)
{
	CoderSubject *subject = coder_subject();

	if (subject == NULL || subject->token_id[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(subject->token_id));
}

/* coder.agent_id() RETURNS uuid: the workspace agent whose token was used, NULL where none. */
Datum
coder_agent_id(PG_FUNCTION_ARGS)
{
	if (coder_current_subject == NULL || !coder_current_subject->has_agent)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(&coder_current_subject->agent_id);
}

/* coder.subject_cached(token text) RETURNS bool: does this backend hold the token's subject?  For
 * tests. */
Datum
coder_subject_cached(PG_FUNCTION_ARGS)
{
	text *token = PG_GETARG_TEXT_PP(0);
	uint8 digest[CODER_SHA256_LEN];

	coder_sha256(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), digest);
	PG_RETURN_BOOL(cache != NULL && cache_generation == generation &&
				   hash_search(cache, digest, HASH_FIND, NULL) != NULL);
}
