/*
 * subject.c -- who asks: from a token to a subject, and the backend's cache of them.
 *
 * The cache is keyed by SHA-256 of the whole token, or a user's id.  Triggers on the few tables
 * that make a subject tell of a change with the server's own invalidations:
 *	 of everybody's rights (a role, an organization, a setting): one of the relcache, for the empty
 *	 table coder.auth_epoch;
 *	 of one user's (roles, memberships, groups, status, keys): one of a catalog cache, for a name made
 *	 of the user's id, which no row of the catalog has.  Only its hash travels; the slot of the hash
 *	 stands for the user, and for those few who share it.
 * Both go out with the commit and only then, after the transaction has become visible and before who
 * committed is told; they are part of the commit's record, so a standby replays them behind the
 * commit; a backend that fell behind is told to forget all (hash 0, relation 0), which reaches both
 * callbacks.  A rolled back savepoint takes its own along.
 *
 * The callbacks advance a clock of this backend and write its time down, for all or for the slot.  An
 * entry has the time at which its reader began, and holds as long as neither time is later.  Why an
 * entry that holds is what a snapshot taken now shows: the invalidations that have come are accepted
 * first, then the clock is read, then the rows with a snapshot taken after that.  A commit which that
 * snapshot does not show sends its invalidation later than the snapshot, so it cannot have been
 * accepted before; whenever it is, its time is later than the entry's, and it is accepted before the
 * first look-up of any statement that begins after its commit.  A commit that the snapshot shows may
 * come as an invalidation too, which drops the entry for nothing.  All of it is one process' memory:
 * the only order between processes that counts is that of the server's queue of invalidations.
 *
 * A transaction that writes caches nothing, since what it read may never be committed.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <sodium.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_conversion.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
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
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"
#include "load.h"
#include "stat.h"

#define CACHE_MAX 10000
#define USER_SLOTS 4096
#define TOLD_MAX 64 /* users that one transaction tells of; more are everybody */

typedef struct CacheEntry
{
	uint8 digest[CODER_SHA256_LEN];
	CoderSubject *subject;
	uint64 read_at; /* the clock as its rows began to be read */
	uint32 slot;	/* the user's */
} CacheEntry;

CoderSubject *coder_current_subject;

static HTAB *cache;
static MemoryContext cache_context;
static MemoryContext retired_context; /* parent of caches that a call may still use */
static char *all_scopes[] = {"coder:all"};
static char *all_objects[] = {"*:*"};
static bool any_retired;
static Oid epoch_relid;
static uint64 clock_now = 1;				/* advanced by invalidations */
static uint64 all_changed = 1;				/* when everybody's rights changed last */
static uint64 user_changed_at[USER_SLOTS];	/* when those of the slot's users did */
static uint64 cache_made = 0;				/* when the cache was last empty */
static int users_told;						/* by this transaction */

PG_FUNCTION_INFO_V1(coder_auth_changed);
PG_FUNCTION_INFO_V1(coder_subject_id);
PG_FUNCTION_INFO_V1(coder_subject_token_id);
PG_FUNCTION_INFO_V1(coder_agent_id);
PG_FUNCTION_INFO_V1(coder_subject_cached);

/* May run anywhere, even while a transaction aborts: nothing but the times. */
static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	if (relid != InvalidOid && relid != epoch_relid)
		return;
	all_changed = ++clock_now;
	coder_stat_add(STAT_INVALIDATION);
}

/* The same; 0 is every hash. */
static void
on_user_invalidate(Datum arg, int cacheid, uint32 hash)
{
	coder_stat_add(STAT_INVALIDATION);
	if (hash == 0)
		all_changed = ++clock_now;
	else
		user_changed_at[hash % USER_SLOTS] = ++clock_now;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	users_told = 0;
	if (event == XACT_EVENT_ABORT)
		coder_current_subject = NULL;
}

void
coder_subject_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(CONNAMENSP, on_user_invalidate, (Datum) 0);
	RegisterXactCallback(on_xact_end, NULL);
}

/* ---- changes ---- */

/*
 * What stands for a user in the cache of conversions, which nothing else listens to: no conversion is
 * in namespace 0.
 */
static void
user_key(const pg_uuid_t *user_id, NameData *key)
{
	memset(key, 0, sizeof(*key));
	strcpy(NameStr(*key), "coder user ");
	for (int i = 0; i < UUID_LEN; i++)
		sprintf(NameStr(*key) + 11 + 2 * i, "%02x", user_id->data[i]);
}

static uint32
user_slot(const pg_uuid_t *user_id)
{
	NameData key;

	user_key(user_id, &key);
	return GetSysCacheHashValue2(CONNAMENSP, NameGetDatum(&key), ObjectIdGetDatum(InvalidOid)) %
		   USER_SLOTS;
}

static void
tell_all(void)
{
	Oid relid = get_relname_relid("auth_epoch", coder_namespace());

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/*
 * Invalidates a row of pg_conversion that does not exist, whose name stands for
 * the user.  This transaction hears of it at its next command, which must count
 * as one that follows a write.
 */
static void
tell_user(const pg_uuid_t *user_id)
{
	Datum values[Natts_pg_conversion] = {0};
	bool nulls[Natts_pg_conversion] = {false};
	NameData key;
	Relation catalog;
	HeapTuple row;

	user_key(user_id, &key);
	catalog = table_open(ConversionRelationId, AccessShareLock);
	values[Anum_pg_conversion_conname - 1] = NameGetDatum(&key);
	row = heap_form_tuple(RelationGetDescr(catalog), values, nulls);
	CacheInvalidateHeapTuple(catalog, row, NULL);
	(void) GetCurrentCommandId(true);
	heap_freetuple(row);
	table_close(catalog, AccessShareLock);
}

/* Each call tells anew, as the one before it may have been in a savepoint that was rolled back. */
static void
tell_column(Trigger *trigger, TupleDesc desc, HeapTuple row)
{
	int attno = SPI_fnumber(desc, trigger->tgargs[0]);
	bool isnull;
	Datum id;

	if (attno <= 0 || TupleDescAttr(desc, attno - 1)->atttypid != UUIDOID)
		elog(ERROR,
			 "trigger \"%s\": there is no uuid %s",
			 trigger->tgname,
			 trigger->tgargs[0]);
	id = heap_getattr(row, attno, desc, &isnull);
	if (isnull || ++users_told > TOLD_MAX)
		tell_all();
	else
		tell_user(DatumGetUUIDP(id));
}

/*
 * coder.auth_changed([column]) RETURNS trigger
 *
 * On every table that makes a subject: has all backends forget, when the
 * transaction commits, the subjects of the user whose id is in this column of the
 * old row or the new one; without a column, or of a statement, all subjects.
 */
Datum
coder_auth_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleDesc desc;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.auth_changed is a trigger")));
	if (data->tg_trigger->tgnargs == 0 || !TRIGGER_FIRED_FOR_ROW(data->tg_event))
	{
		tell_all();
		PG_RETURN_POINTER(NULL);
	}
	desc = RelationGetDescr(data->tg_relation);
	tell_column(data->tg_trigger, desc, data->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		tell_column(data->tg_trigger, desc, data->tg_newtuple);
	PG_RETURN_POINTER(NULL);
}

/* ---- the cache ---- */

/* Where entries go that a call further out may still use; those of before are gone if none does. */
static void
retire(MemoryContext context)
{
	if (retired_context == NULL)
		retired_context =
			AllocSetContextCreate(TopMemoryContext, "coder old subjects", ALLOCSET_SMALL_SIZES);
	MemoryContextSetParent(context, retired_context);
	any_retired = true;
}

/* Empties the cache if all was invalidated; done where no caller holds an entry. */
static void
refresh_cache(void)
{
	HASHCTL ctl = {0};

	if (any_retired && coder_current_subject == NULL)
	{
		MemoryContextReset(retired_context);
		any_retired = false;
	}
	if (cache != NULL && cache_made >= all_changed &&
		(hash_get_num_entries(cache) < CACHE_MAX || coder_current_subject != NULL))
		return; /* a full one stays full until nobody uses it */
	epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	if (cache_context != NULL)
		retire(cache_context);
	cache_context =
		AllocSetContextCreate(TopMemoryContext, "coder subjects", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = CODER_SHA256_LEN;
	ctl.entrysize = sizeof(CacheEntry);
	ctl.hcxt = cache_context;
	cache = hash_create("coder subjects", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cache_made = clock_now;
}

static bool
entry_holds(const CacheEntry *entry)
{
	return entry->read_at >= user_changed_at[entry->slot];
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
 * Puts a subject into the cache, unless its rights changed since before, when the
 * caller began to read it, or this transaction sees what others do not.
 */
static void
keep_subject(const uint8 *key, CoderSubject *subject, uint64 before)
{
	uint32 slot = user_slot(&subject->rbac.id);
	CacheEntry *entry;
	bool found;

	if (before < all_changed || before < user_changed_at[slot] ||
		TransactionIdIsValid(GetTopTransactionIdIfAny()) || IsolationUsesXactSnapshot())
		return;
	if (hash_get_num_entries(cache) >= CACHE_MAX &&
		hash_search(cache, key, HASH_FIND, NULL) == NULL)
		return;
	entry = hash_search(cache, key, HASH_ENTER, &found);
	if (found)
		retire(entry->subject->context);
	MemoryContextSetParent(subject->context, cache_context);
	entry->subject = subject;
	entry->read_at = before;
	entry->slot = slot;
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
	if (entry != NULL && entry_holds(entry) &&
		Min(entry->subject->expires_at, entry->subject->upstream_expires) > GetCurrentTimestamp())
	{
		coder_stat_add(STAT_SUBJECT_HIT);
		note_use(entry->subject, remote);
		return entry->subject;
	}

	coder_stat_add(STAT_SUBJECT_MISS);
	check_key_shape(token, len);
	memcpy(id, token, CODER_KEY_ID_LEN);
	id[CODER_KEY_ID_LEN] = '\0';
	before = clock_now;
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
 * The time of this backend's clock: what is read after it may be used as long as
 * coder_subject_changed does not say otherwise.
 */
uint64
coder_subject_time(void)
{
	if (!OidIsValid(epoch_relid))
		epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	AcceptInvalidationMessages();
	return clock_now;
}

/*
 * Have the subject's rights changed since that time?  The invalidations that have
 * come are accepted first: a statement that locks no new table is told of none
 * otherwise.
 */
bool
coder_subject_changed(const CoderSubject *subject, uint64 since)
{
	return coder_subject_time() != since &&
		   (since < all_changed || since < user_changed_at[user_slot(&subject->rbac.id)]);
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
	if (entry != NULL && entry_holds(entry))
	{
		coder_stat_add(STAT_SUBJECT_HIT);
		return entry->subject;
	}
	coder_stat_add(STAT_SUBJECT_MISS);
	before = clock_now;
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
	CacheEntry *entry;

	coder_sha256(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), digest);
	if (cache == NULL || cache_made < all_changed)
		PG_RETURN_BOOL(false);
	entry = hash_search(cache, digest, HASH_FIND, NULL);
	PG_RETURN_BOOL(entry != NULL && entry_holds(entry));
}
