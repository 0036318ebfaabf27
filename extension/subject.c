/*
 * subject.c -- who asks: from a token to a subject, and the backend's cache of them.
 *
 * The cache is keyed by SHA-256 of the whole token.  Triggers on the few tables
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

#define CACHE_MAX 10000

typedef struct CacheEntry
{
	uint8 digest[CODER_SHA256_LEN];
	CoderSubject *subject;
} CacheEntry;

CoderSubject *coder_current_subject;

static HTAB *cache;
static MemoryContext cache_context;
static Oid epoch_relid;
static uint64 generation = 1;		/* bumped by invalidations */
static uint64 cache_generation = 0; /* of what the cache holds */

PG_FUNCTION_INFO_V1(coder_auth_changed);
PG_FUNCTION_INFO_V1(coder_subject_id);
PG_FUNCTION_INFO_V1(coder_subject_token_id);
PG_FUNCTION_INFO_V1(coder_agent_id);
PG_FUNCTION_INFO_V1(coder_set_subject);
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

	if (cache != NULL && cache_generation == generation && hash_get_num_entries(cache) < CACHE_MAX)
		return;
	epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	if (cache_context != NULL && coder_current_subject == NULL)
		MemoryContextDelete(cache_context);
	/* else a call further out still uses an entry: its context stays until the backend ends */
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

static Datum
column(int row, int col, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, isnull);
}

static int
compare_orgs(const void *a, const void *b)
{
	return memcmp(((const RbacOrg *) a)->id.data, ((const RbacOrg *) b)->id.data, UUID_LEN);
}

/* The strings of a text[]; n is 0 for NULL. */
static char **
text_array(Datum value, bool isnull, int *n)
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
	"SELECT u.username, u.rbac_roles, u.is_service_account, u.status::pg_catalog.text, u.deleted"
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

/* A role that is not built in, if it exists. */
static void
add_custom_role(RbacSubject *rbac, const char *name, RbacOrg *org)
{
	Datum values[2] = {CStringGetTextDatum(name),
					   org != NULL ? UUIDPGetDatum(&org->id) : (Datum) 0};
	const char *nulls = org != NULL ? "  " : " n";
	RbacSet *sets[4] = {&rbac->site,
						org != NULL ? &org->org : NULL,
						&rbac->user,
						org != NULL ? &org->member : NULL};

	coder_execute(&custom_role_plan, values, nulls, true, 1);
	if (SPI_processed == 0)
		return;
	for (int i = 0; i < 4; i++)
	{
		bool isnull;
		Datum list = column(0, i + 1, &isnull);

		if (!isnull && sets[i] != NULL)
			add_permissions(sets[i], DatumGetJsonbP(list));
	}
}

static void
add_org_role(RbacSubject *rbac, RbacOrg *org, const char *name)
{
	if (!rbac_is_role(name, true))
	{
		add_custom_role(rbac, name, org);
		return;
	}
	rbac_add_role(&rbac->site, name, RBAC_SITE);
	rbac_add_role(&org->org, name, RBAC_ORG);
	rbac_add_role(&org->member, name, RBAC_MEMBER);
}

static void
add_site_roles(CoderSubject *subject, char **roles, int n)
{
	StringInfoData json;

	rbac_add_role(&subject->rbac.site, "member", RBAC_SITE);
	rbac_add_role(&subject->rbac.user, "member", RBAC_USER);
	initStringInfo(&json);
	json_open(&json, '[');
	for (int i = 0; i < n; i++)
	{
		json_open(&json, '{');
		json_str(&json, "name", roles[i]);
		json_str(&json, "display_name", rbac_role_display(roles[i]));
		json_close(&json, '}');
		if (!rbac_is_role(roles[i], false))
			add_custom_role(&subject->rbac, roles[i], NULL);
		else
		{
			rbac_add_role(&subject->rbac.site, roles[i], RBAC_SITE);
			rbac_add_role(&subject->rbac.user, roles[i], RBAC_USER);
		}
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

		rbac->orgs[i].id = *DatumGetUUIDP(column(i, 1, &isnull));
		roles = column(i, 2, &isnull);
		rows[i].roles = text_array(roles, isnull, &rows[i].nroles);
		rows[i].sharing = TextDatumGetCString(column(i, 3, &isnull));
		if (!DatumGetBool(column(i, 4, &isnull)))
			json_uuid(&json, NULL, &rbac->orgs[i].id);
	}
	json_close(&json, ']');
	subject->orgs_json = json.data;
	for (int i = 0; i < n; i++) /* SPI's result is gone once a custom role is looked up */
	{
		char *implied = psprintf(
			"organization-%s/%s", service_account ? "service-account" : "member", rows[i].sharing);

		add_org_role(rbac, &rbac->orgs[i], implied);
		for (int j = 0; j < rows[i].nroles; j++)
			add_org_role(rbac, &rbac->orgs[i], rows[i].roles[j]);
	}
	qsort(rbac->orgs, n, sizeof(RbacOrg), compare_orgs);
}

/*
 * Roles, organizations and groups of a user, into subject, whose memory the
 * caller has made current.  SPI is connected.  Returns the status, or NULL if
 * there is no such user.
 */
static char *
load_user(CoderSubject *subject, const pg_uuid_t *user_id)
{
	Datum id = UUIDPGetDatum(unconstify(pg_uuid_t *, user_id));
	bool isnull;
	bool service;
	char *status;
	char **roles;
	int nroles;
	Datum value;

	coder_execute(&user_plan, &id, NULL, true, 1);
	if (SPI_processed == 0)
		return NULL;
	subject->rbac.id = *user_id;
	subject->username = TextDatumGetCString(column(0, 1, &isnull));
	value = column(0, 2, &isnull);
	roles = text_array(value, isnull, &nroles);
	service = DatumGetBool(column(0, 3, &isnull));
	status = TextDatumGetCString(column(0, 4, &isnull));
	if (DatumGetBool(column(0, 5, &isnull)))
		status = pstrdup("deleted");
	add_site_roles(subject, roles, nroles);
	add_organizations(subject, id, service);

	coder_execute(&groups_plan, &id, NULL, true, 0);
	subject->rbac.ngroups = (int) SPI_processed;
	subject->rbac.groups = palloc(sizeof(pg_uuid_t) * (SPI_processed + 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		subject->rbac.groups[i] = *DatumGetUUIDP(column((int) i, 1, &isnull));
	return status;
}

static CoderSubject *
new_subject(MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "coder subject", ALLOCSET_SMALL_SIZES);
	CoderSubject *subject = MemoryContextAllocZero(context, sizeof(CoderSubject));

	subject->context = context;
	return subject;
}

/* "type:id" entries; an unreadable one allows nothing. */
static void
add_allow_list(RbacSubject *rbac, char **list, int n)
{
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
	"       k.login_type OPERATOR(pg_catalog.=) 'oauth2_provider_app' AND NOT coder.oauth2_audience_ok(k.id)"
	"  FROM coder.api_keys k WHERE k.id OPERATOR(pg_catalog.=) $1",
	1,
	key_args,
	NULL};

static const Oid use_args[] = {TEXTOID, TEXTOID, BOOLOID};

/* Written at most once an hour a key. */
static CoderPlan use_plan = {"SELECT coder.api_key_used($1, $2, $3)", 3, use_args, NULL};

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
		Datum expires = column(0, 1, &isnull);

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
	Datum value;
	char *status;

	coder_execute(&key_plan, &arg, NULL, true, 1);
	if (SPI_processed == 0)
		raise_signed_out("API key is invalid.");
	coder_sha256(secret, CODER_KEY_SECRET_LEN, hash);
	stored = DatumGetByteaPP(column(0, 1, &isnull));
	if (VARSIZE_ANY_EXHDR(stored) != CODER_SHA256_LEN ||
		sodium_memcmp(VARDATA_ANY(stored), hash, CODER_SHA256_LEN) != 0)
		raise_signed_out("API key secret is invalid.");
	user_id = *DatumGetUUIDP(column(0, 2, &isnull));
	strlcpy(subject->token_id, id, sizeof(subject->token_id));
	subject->expires_at = DatumGetTimestampTz(column(0, 3, &isnull));
	subject->last_used = DatumGetTimestampTz(column(0, 4, &isnull));
	subject->lifetime_seconds = DatumGetInt64(column(0, 5, &isnull));
	value = column(0, 6, &isnull);
	scopes = text_array(value, isnull, &nscopes);
	value = column(0, 7, &isnull);
	allow = text_array(value, isnull, &nallow);
	if (DatumGetBool(column(0, 8, &isnull)))
		ereport(ERROR,
				(errcode(ERRCODE_CODER_FORBIDDEN),
				 errmsg("Token audience validation failed"),
				 errdetail("The token is meant for another server.")));
	if (subject->expires_at <= GetCurrentTimestamp())
		raise_expired(subject);
	for (int i = 0; i < nscopes; i++)
		if (!rbac_add_scope(&subject->rbac.scope, scopes[i]))
			elog(ERROR, "unknown scope \"%s\" of an API key", scopes[i]);
	add_allow_list(&subject->rbac, allow, nallow);
	status = load_user(subject, &user_id);
	if (status == NULL)
		raise_signed_out("API key is invalid.");
	check_status(status, &user_id);
}

/* Runs load between SPI_connect and SPI_finish with a snapshot taken now, in subject's memory. */
static CoderSubject *
load_subject_of_key(const char *id, const char *secret)
{
	CoderSubject *subject = new_subject(CurrentMemoryContext);
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
	bool found;

	refresh_cache();
	coder_sha256(token, len, digest);
	entry = hash_search(cache, digest, HASH_FIND, NULL);
	if (entry != NULL && entry->subject->expires_at > GetCurrentTimestamp())
	{
		note_use(entry->subject, remote);
		return entry->subject;
	}

	check_key_shape(token, len);
	memcpy(id, token, CODER_KEY_ID_LEN);
	id[CODER_KEY_ID_LEN] = '\0';
	before = generation;
	subject = load_subject_of_key(id, token + CODER_KEY_ID_LEN + 1);
	if (before == generation && before == cache_generation &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsolationUsesXactSnapshot())
	{
		entry = hash_search(cache, digest, HASH_ENTER, &found);
		MemoryContextSetParent(subject->context, cache_context);
		entry->subject = subject; /* an expired one before it goes with the cache */
	}
	note_use(subject, remote);
	return subject;
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

/* Grows with every change of somebody's rights that this backend has been told of. */
uint64
coder_subject_generation(void)
{
	if (!OidIsValid(epoch_relid))
		epoch_relid = get_relname_relid("auth_epoch", coder_namespace());
	return generation;
}

/* A user with all rights of its roles: for SQL by hand, and for agents' owners. */
CoderSubject *
coder_subject_of_user(const pg_uuid_t *user_id)
{
	CoderSubject *subject = new_subject(CurrentMemoryContext);
	MemoryContext old;
	char *status;

	SPI_connect();
	PushActiveSnapshot(GetLatestSnapshot());
	old = MemoryContextSwitchTo(subject->context);
	status = load_user(subject, user_id);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	SPI_finish();
	if (status == NULL)
		return NULL;
	rbac_add_scope(&subject->rbac.scope, "coder:all");
	subject->rbac.allow_all = true;
	subject->expires_at = DT_NOEND;
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
	CoderSubject *subject = new_subject(CurrentMemoryContext);
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
		pg_uuid_t owner = *DatumGetUUIDP(column(0, 2, &isnull));
		char *scope = TextDatumGetCString(column(0, 3, &isnull));
		int n;
		Datum value;
		char **allow;

		subject->agent_id = *DatumGetUUIDP(column(0, 1, &isnull));
		subject->has_agent = true;
		value = column(0, 4, &isnull);
		allow = text_array(value, isnull, &n);
		rbac_add_scope(&subject->rbac.scope,
					   strcmp(scope, "no_user_data") == 0 ? scope : "coder:all");
		add_allow_list(&subject->rbac, allow, n);
		subject->expires_at = DT_NOEND;
		known = load_user(subject, &owner) != NULL;
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

/* Replaces the scope and the allow list of a subject that is nobody else's. */
static void
narrow(CoderSubject *subject, char **scopes, int nscopes, char **allow, int nallow)
{
	RbacSubject *rbac = &subject->rbac;

	memset(&rbac->scope, 0, sizeof(rbac->scope));
	for (int i = 0; i < nscopes; i++)
		if (!rbac_add_scope(&rbac->scope, scopes[i]))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown scope \"%s\"", scopes[i])));
	rbac->allow_all = false;
	rbac->nallow = 0;
	add_allow_list(rbac, allow, nallow);
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
	MemoryContext old;
	CoderSubject *subject;
	int nscopes;
	int nallow;
	char **scopes;
	char **allow;

	coder_current_subject = NULL;
	if (PG_ARGISNULL(0))
		PG_RETURN_VOID();
	scopes = text_array(PG_GETARG_DATUM(1), PG_ARGISNULL(1), &nscopes);
	allow = text_array(PG_GETARG_DATUM(2), PG_ARGISNULL(2), &nallow);
	old = MemoryContextSwitchTo(TopMemoryContext); /* a subject by hand stays: a few kB a call */
	subject = coder_subject_of_user(PG_GETARG_UUID_P(0));
	if (subject == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("user does not exist")));
	MemoryContextSwitchTo(subject->context);
	narrow(subject, scopes, nscopes, allow, nallow);
	MemoryContextSwitchTo(old);
	coder_current_subject = subject;
	PG_RETURN_VOID();
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
