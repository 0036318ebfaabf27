/*
 * seal.c -- secrets of the deployment that are in no table, and columns sealed with them.
 *
 * A gateway hands them over when it connects: coder.secrets is base64url of
 * {"keys": [base64, ...], "secrets": {name: text}}, shown to nobody and stored
 * nowhere.  What a person at an SQL prompt sets there counts for nothing.  The first key seals; all of them open.  A sealed value is base64 of
 * nonce, ciphertext and tag (XChaCha20-Poly1305), and its column's partner
 * <column>_key_id names the key; NULL there means plain text.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <sodium.h>

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "coder.h"
#include "compat.h"

#define MAX_KEYS 16
#define MAX_RECENT 16
#define KEY_LEN crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define NONCE_LEN crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_LEN crypto_aead_xchacha20poly1305_ietf_ABYTES
#define ID_LEN 16 /* bytes; twice as many characters */
#define LABEL "coder sealed column v1"
#define B64 sodium_base64_VARIANT_ORIGINAL

typedef struct SealKey
{
	uint8 key[KEY_LEN];
	char id[2 * ID_LEN + 1];
} SealKey;

/*
 * What this transaction has sealed last: INSERT ... ON CONFLICT DO UPDATE takes
 * the values from the row that the trigger has sealed for the insertion.
 */
typedef struct Sealed
{
	LocalTransactionId transaction;
	uint8 hash[16];
	char id[2 * ID_LEN + 1];
} Sealed;

static Sealed just_sealed[MAX_RECENT];
static int next_sealed;
static char *secrets_setting;
static bool secrets_stale = true;
static SealKey seal_keys[MAX_KEYS];
static int n_seal_keys;
static Jsonb *secrets; /* {name: text}, in TopMemoryContext; NULL: none */

PG_FUNCTION_INFO_V1(coder_seal);
PG_FUNCTION_INFO_V1(coder_unseal);
PG_FUNCTION_INFO_V1(coder_seal_key_ids);
PG_FUNCTION_INFO_V1(coder_secret_setting);
PG_FUNCTION_INFO_V1(coder_seal_columns);

/* Handing over ---------------------------------------------------------------- */

static void
on_assign(const char *value, void *extra)
{
	secrets_stale = true;
}

static const char *
on_show(void)
{
	return "";
}

void
coder_seal_init(void)
{
	DefineCustomStringVariable("coder.secrets",
							   "Keys and secrets of the deployment, from the gateway.",
							   NULL,
							   &secrets_setting,
							   "",
							   PGC_USERSET,
							   GUC_NO_SHOW_ALL | GUC_NO_RESET_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE |
								   GUC_SUPERUSER_ONLY,
							   NULL,
							   on_assign,
							   on_show);
}

static void
add_key(const char *text, int len)
{
	SealKey *key = &seal_keys[n_seal_keys];
	uint8 digest[ID_LEN];
	size_t n;

	if (n_seal_keys == MAX_KEYS ||
		sodium_base642bin(key->key, KEY_LEN, text, len, " \n", &n, NULL, B64) != 0 || n != KEY_LEN)
	{
		ereport(WARNING, (errmsg("a key of coder.secrets is not %d bytes in base64, or there are too many", (int) KEY_LEN)));
		return;
	}
	crypto_generichash(digest, sizeof(digest), (const uint8 *) LABEL, strlen(LABEL), key->key, KEY_LEN);
	sodium_bin2hex(key->id, sizeof(key->id), digest, sizeof(digest));
	n_seal_keys++;
}

static void
add_keys(Jsonb *all)
{
	JsonbValue *list = getKeyJsonValueFromContainer(&all->root, "keys", 4, NULL);
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;

	if (list == NULL || list->type != jbvBinary || !JsonContainerIsArray(list->val.binary.data))
		return;
	it = JsonbIteratorInit(list->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
		if (token == WJB_ELEM && v.type == jbvString)
			add_key(v.val.string.val, v.val.string.len);
}

/* The members of "secrets", kept for the session. */
static void
keep_secrets(Jsonb *all)
{
	JsonbValue *found = getKeyJsonValueFromContainer(&all->root, "secrets", 7, NULL);
	Jsonb *object;

	if (found == NULL || found->type != jbvBinary || !JsonContainerIsObject(found->val.binary.data))
		return;
	object = JsonbValueToJsonb(found);
	secrets = MemoryContextAlloc(TopMemoryContext, VARSIZE(object));
	memcpy(secrets, object, VARSIZE(object));
}

/* A session of somebody who is not the server. */
static bool
is_person(void)
{
	return coder_role_has("coder_user", GetSessionUserId());
}

/* What the setting holds now. */
static void
load_secrets(void)
{
	size_t cap;
	char *json;
	size_t n;
	Jsonb *all = NULL;

	if (!secrets_stale)
		return;
	sodium_memzero(seal_keys, sizeof(seal_keys));
	n_seal_keys = 0;
	if (secrets != NULL)
		pfree(secrets);
	secrets = NULL;
	secrets_stale = false;
	if (secrets_setting == NULL || *secrets_setting == '\0' || is_person())
		return;
	cap = strlen(secrets_setting);
	json = palloc(cap + 1);
	if (sodium_base642bin((uint8 *) json, cap, secrets_setting, cap, NULL, &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0)
	{
		json[n] = '\0';
		all = coder_json_parse(json, (int) n);
	}
	if (all == NULL || !JB_ROOT_IS_OBJECT(all))
		ereport(WARNING, (errmsg("coder.secrets is malformed")));
	else
	{
		add_keys(all);
		keep_secrets(all);
	}
	sodium_memzero(json, cap);
}

/* coder.secret_setting(name text) RETURNS text: a secret of the deployment; NULL where this session has none. */
Datum
coder_secret_setting(PG_FUNCTION_ARGS)
{
	text *name = PG_GETARG_TEXT_PP(0);
	JsonbValue v;

	load_secrets();
	if (secrets == NULL ||
		getKeyJsonValueFromContainer(&secrets->root, VARDATA_ANY(name), (int) VARSIZE_ANY_EXHDR(name), &v) == NULL ||
		v.type != jbvString)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text_with_len(v.val.string.val, v.val.string.len));
}

/* coder.seal_key_ids() RETURNS text[]: names of this session's keys, the one that seals first. */
Datum
coder_seal_key_ids(PG_FUNCTION_ARGS)
{
	Datum ids[MAX_KEYS];

	load_secrets();
	for (int i = 0; i < n_seal_keys; i++)
		ids[i] = CStringGetTextDatum(seal_keys[i].id);
	PG_RETURN_ARRAYTYPE_P(construct_array(ids, n_seal_keys, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Sealing --------------------------------------------------------------------- */

static text *
seal(const SealKey *key, const char *plain, size_t len)
{
	size_t total = NONCE_LEN + len + TAG_LEN;
	uint8 *bytes = palloc(total);
	size_t cap = sodium_base64_encoded_len(total, B64);
	char *out = palloc(cap);

	randombytes_buf(bytes, NONCE_LEN);
	crypto_aead_xchacha20poly1305_ietf_encrypt(bytes + NONCE_LEN,
											   NULL,
											   (const uint8 *) plain,
											   len,
											   (const uint8 *) LABEL,
											   strlen(LABEL),
											   NULL,
											   bytes,
											   key->key);
	sodium_bin2base64(out, cap, bytes, total, B64);
	return cstring_to_text(out);
}

static const SealKey *
find_key(const char *id, int len)
{
	for (int i = 0; i < n_seal_keys; i++)
		if (len == (int) strlen(seal_keys[i].id) && memcmp(id, seal_keys[i].id, len) == 0)
			return &seal_keys[i];
	return NULL;
}

/* coder.seal(value text) RETURNS text: sealed with the first key; NULL where there is none. */
Datum
coder_seal(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);

	load_secrets();
	if (n_seal_keys == 0)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(seal(&seal_keys[0], VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
}

/*
 * coder.unseal(value text, key_id text) RETURNS text
 *
 * The plain text; the value itself where key_id is NULL.  An error where the key
 * is not this session's, or the value is not what was sealed.
 */
Datum
coder_unseal(PG_FUNCTION_ARGS)
{
	text *value;
	text *id;
	const SealKey *key;
	uint8 *bytes;
	size_t cap;
	size_t n;
	text *out;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	value = PG_GETARG_TEXT_PP(0);
	if (PG_ARGISNULL(1))
		PG_RETURN_TEXT_P(value);
	id = PG_GETARG_TEXT_PP(1);
	load_secrets();
	key = find_key(VARDATA_ANY(id), (int) VARSIZE_ANY_EXHDR(id));
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the value is sealed with the key \"%s\", which this session does not have", text_to_cstring(id))));
	cap = VARSIZE_ANY_EXHDR(value);
	bytes = palloc(cap + 1);
	if (sodium_base642bin(bytes, cap, VARDATA_ANY(value), cap, NULL, &n, NULL, B64) != 0 || n < NONCE_LEN + TAG_LEN)
		n = 0;
	out = palloc(VARHDRSZ + cap);
	SET_VARSIZE(out, VARHDRSZ + (n > 0 ? n - NONCE_LEN - TAG_LEN : 0));
	if (n == 0 || crypto_aead_xchacha20poly1305_ietf_decrypt((uint8 *) VARDATA(out),
															 NULL,
															 NULL,
															 bytes + NONCE_LEN,
															 n - NONCE_LEN,
															 (const uint8 *) LABEL,
															 strlen(LABEL),
															 bytes,
															 key->key) != 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a sealed value is damaged")));
	PG_RETURN_TEXT_P(out);
}

/* The trigger ------------------------------------------------------------------ */

static text *
get_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

static bool
same_text(const text *a, const text *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		   memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

static int
find_column(TupleDesc desc, const char *name)
{
	int column = SPI_fnumber(desc, name);

	if (column <= 0)
		elog(ERROR, "there is no column \"%s\" to seal", name);
	return column;
}

static void
hash_text(const text *value, uint8 hash[16])
{
	crypto_generichash(hash, 16, (const uint8 *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), NULL, 0);
}

static void
remember_sealed(const text *value, const char *id)
{
	Sealed *sealed = &just_sealed[next_sealed++ % MAX_RECENT];

	sealed->transaction = CODER_LOCAL_TRANSACTION;
	hash_text(value, sealed->hash);
	strlcpy(sealed->id, id, sizeof(sealed->id));
}

/* The key of a value that this transaction has just sealed; NULL for any other. */
static const char *
find_sealed(const text *value)
{
	uint8 hash[16];

	hash_text(value, hash);
	for (int i = 0; i < MAX_RECENT; i++)
		if (just_sealed[i].transaction == CODER_LOCAL_TRANSACTION && memcmp(just_sealed[i].hash, hash, 16) == 0)
			return just_sealed[i].id;
	return NULL;
}

static CoderPlan sealing_plan = {
	"SELECT FROM coder.dbcrypt_keys k WHERE k.active_key_digest IS NOT NULL LIMIT 1", 0, NULL, NULL};

/* A person has no keys: what the deployment seals is not to be stored in plain text through them. */
static void
check_plain(void)
{
	bool sealing;

	if (n_seal_keys > 0 || !is_person())
		return;
	SPI_connect();
	coder_execute(&sealing_plan, NULL, NULL, true, 1);
	sealing = SPI_processed > 0;
	SPI_finish();
	if (sealing)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secrets are sealed here, and this session has no key"),
				 errhint("Use the pages, or the API.")));
}

/* One column of the new row: sealed if it is new plain text; the row as it is then. */
static HeapTuple
seal_column(const TriggerData *trigger, HeapTuple tuple, const char *name)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	int columns[2];
	Datum values[2];
	bool nulls[2] = {false, false};
	HeapTuple old = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_trigtuple : NULL;
	text *value;
	text *key;

	columns[0] = find_column(desc, name);
	columns[1] = find_column(desc, psprintf("%s_key_id", name));
	value = get_text(tuple, desc, columns[0]);
	key = get_text(tuple, desc, columns[1]);
	/* Who sets the key has sealed the value. */
	if (old == NULL ? key != NULL : !same_text(key, get_text(old, desc, columns[1])))
		return tuple;
	if (old != NULL && same_text(value, get_text(old, desc, columns[0])))
		return tuple;
	nulls[0] = value == NULL;
	values[0] = PointerGetDatum(value);
	if (value != NULL && VARSIZE_ANY_EXHDR(value) > 0)
		check_plain();
	nulls[1] = value == NULL || VARSIZE_ANY_EXHDR(value) == 0 || n_seal_keys == 0;
	values[1] = (Datum) 0;
	if (!nulls[1] && old != NULL && find_sealed(value) != NULL)
		values[1] = CStringGetTextDatum(find_sealed(value));
	else if (!nulls[1])
	{
		text *sealed = seal(&seal_keys[0], VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));

		remember_sealed(sealed, seal_keys[0].id);
		values[0] = PointerGetDatum(sealed);
		values[1] = CStringGetTextDatum(seal_keys[0].id);
	}
	return heap_modify_tuple_by_cols(tuple, desc, 2, columns, values, nulls);
}

/*
 * coder.seal_columns(column, ...) RETURNS trigger
 *
 * Before insert or update, for each row: new plain text in the columns is sealed.
 */
Datum
coder_seal_columns(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		elog(ERROR, "coder.seal_columns is a trigger before insert or update of a row");
	load_secrets();
	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	for (int i = 0; i < trigger->tg_trigger->tgnargs; i++)
		tuple = seal_column(trigger, tuple, trigger->tg_trigger->tgargs[i]);
	return PointerGetDatum(tuple);
}
