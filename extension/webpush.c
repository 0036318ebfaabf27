/*
 * webpush.c -- messages to browsers: encryption (RFC 8291, RFC 8188) and the server's signature
 * (RFC 8292).
 *
 * Keys are on P-256: private ones 32 bytes, public ones 65 (uncompressed points).
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <sodium.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "coder.h"

#define PRIVATE_LEN 32
#define PUBLIC_LEN 65
#define AUTH_LEN 16
#define SALT_LEN 16
#define TAG_LEN 16
#define RECORD_SIZE 4096
#define HEADER_LEN (SALT_LEN + 4 + 1 + PUBLIC_LEN)
#define MAX_PAYLOAD (RECORD_SIZE - TAG_LEN - 1)

typedef struct Pair
{
	uint8 private[PRIVATE_LEN];
	uint8 public[PUBLIC_LEN];
} Pair;

PG_FUNCTION_INFO_V1(coder_p256_keypair);
PG_FUNCTION_INFO_V1(coder_es256_sign);
PG_FUNCTION_INFO_V1(coder_webpush_encrypt);

static void
raise_crypto(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("could not %s", what)));
}

static void
make_pair(Pair *pair)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	BIGNUM *number = NULL;
	size_t len = 0;
	bool ok = key != NULL &&
			  EVP_PKEY_get_octet_string_param(
				  key, OSSL_PKEY_PARAM_PUB_KEY, pair->public, PUBLIC_LEN, &len) == 1 &&
			  len == PUBLIC_LEN &&
			  EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
			  BN_bn2binpad(number, pair->private, PRIVATE_LEN) == PRIVATE_LEN;

	BN_clear_free(number);
	EVP_PKEY_free(key);
	if (!ok)
		raise_crypto("make a key");
}

/* A key from its parts; NULL where they are no key.  private may be NULL. */
static EVP_PKEY *
import_key(const uint8 *private, const uint8 *public)
{
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	BIGNUM *number = private != NULL ? BN_bin2bn(private, PRIVATE_LEN, NULL) : NULL;
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (build != NULL &&
		OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
		OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, public, PUBLIC_LEN) == 1 &&
		(number == NULL || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, number) == 1))
		params = OSSL_PARAM_BLD_to_param(build);
	if (params == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
		EVP_PKEY_fromdata(
			context, &key, private != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(build);
	BN_clear_free(number);
	EVP_PKEY_CTX_free(context);
	return key;
}

/* coder.p256_keypair() RETURNS bytea[]: {private, public} */
Datum
coder_p256_keypair(PG_FUNCTION_ARGS)
{
	Datum parts[2];
	Pair pair;

	make_pair(&pair);
	parts[0] = PointerGetDatum(palloc(VARHDRSZ + PRIVATE_LEN));
	parts[1] = PointerGetDatum(palloc(VARHDRSZ + PUBLIC_LEN));
	SET_VARSIZE(DatumGetPointer(parts[0]), VARHDRSZ + PRIVATE_LEN);
	SET_VARSIZE(DatumGetPointer(parts[1]), VARHDRSZ + PUBLIC_LEN);
	memcpy(VARDATA(DatumGetPointer(parts[0])), pair.private, PRIVATE_LEN);
	memcpy(VARDATA(DatumGetPointer(parts[1])), pair.public, PUBLIC_LEN);
	sodium_memzero(&pair, sizeof(pair));
	PG_RETURN_ARRAYTYPE_P(construct_array(parts, 2, BYTEAOID, -1, false, TYPALIGN_INT));
}

/* The bytes of an argument, which must be so many. */
static const uint8 *
take_bytes(bytea *value, int len, const char *what)
{
	if ((int) VARSIZE_ANY_EXHDR(value) != len)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be %d bytes", what, len)));
	return (const uint8 *) VARDATA_ANY(value);
}

static bytea *
make_bytea(const void *data, size_t len)
{
	bytea *value = palloc(VARHDRSZ + len);

	SET_VARSIZE(value, VARHDRSZ + len);
	memcpy(VARDATA(value), data, len);
	return value;
}

/* DER's two numbers as 32 bytes each. */
static bool
raw_signature(const uint8 *der, size_t len, uint8 raw[64])
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long) len);
	bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32 &&
			  BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32;

	ECDSA_SIG_free(sig);
	return ok;
}

/* coder.es256_sign(data text, private bytea, public bytea) RETURNS bytea: r and s */
Datum
coder_es256_sign(PG_FUNCTION_ARGS)
{
	text *data = PG_GETARG_TEXT_PP(0);
	const uint8 *private = take_bytes(PG_GETARG_BYTEA_PP(1), PRIVATE_LEN, "a private key");
	const uint8 *public = take_bytes(PG_GETARG_BYTEA_PP(2), PUBLIC_LEN, "a public key");
	EVP_PKEY *key = import_key(private, public);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8 der[80];
	uint8 raw[64];
	size_t len = sizeof(der);
	bool ok =
		key != NULL && context != NULL &&
		EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
		EVP_DigestSign(
			context, der, &len, (const uint8 *) VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data)) == 1 &&
		raw_signature(der, len, raw);

	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	if (!ok)
		raise_crypto("sign");
	PG_RETURN_BYTEA_P(make_bytea(raw, sizeof(raw)));
}

static bool
agree(const Pair *ours, const uint8 *theirs, uint8 secret[32])
{
	EVP_PKEY *key = import_key(ours->private, ours->public);
	EVP_PKEY *peer = import_key(NULL, theirs);
	EVP_PKEY_CTX *context = key != NULL ? EVP_PKEY_CTX_new(key, NULL) : NULL;
	size_t len = 32;
	bool ok = context != NULL && peer != NULL && EVP_PKEY_derive_init(context) == 1 &&
			  EVP_PKEY_derive_set_peer(context, peer) == 1 &&
			  EVP_PKEY_derive(context, secret, &len) == 1 && len == 32;

	EVP_PKEY_CTX_free(context);
	EVP_PKEY_free(peer);
	EVP_PKEY_free(key);
	return ok;
}

static void
hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8 out[32])
{
	unsigned n = 32;

	HMAC(EVP_sha256(), key, (int) key_len, data, len, out, &n);
}

/* HKDF's one block: info and a 1. */
static void
expand(const uint8 prk[32], const void *info, size_t len, uint8 out[32])
{
	uint8 data[256];

	Assert(len < sizeof(data));
	memcpy(data, info, len);
	data[len] = 1;
	hmac_sha256(prk, 32, data, len + 1, out);
}

static void
derive_keys(const Pair *ours, const uint8 *theirs, const uint8 *auth, const uint8 *salt,
			uint8 cek[32], uint8 nonce[32])
{
	static const char key_info[] = "WebPush: info";
	uint8 info[sizeof(key_info) + 2 * PUBLIC_LEN];
	uint8 secret[32];
	uint8 prk[32];
	uint8 ikm[32];

	if (!agree(ours, theirs, secret))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the browser's key is no point of P-256")));
	memcpy(info, key_info, sizeof(key_info));
	memcpy(info + sizeof(key_info), theirs, PUBLIC_LEN);
	memcpy(info + sizeof(key_info) + PUBLIC_LEN, ours->public, PUBLIC_LEN);
	hmac_sha256(auth, AUTH_LEN, secret, sizeof(secret), prk);
	expand(prk, info, sizeof(info), ikm);
	hmac_sha256(salt, SALT_LEN, ikm, sizeof(ikm), prk);
	/* Their NULs belong to them. */
	expand(prk, "Content-Encoding: aes128gcm", sizeof("Content-Encoding: aes128gcm"), cek);
	expand(prk, "Content-Encoding: nonce", sizeof("Content-Encoding: nonce"), nonce);
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(prk, sizeof(prk));
	sodium_memzero(ikm, sizeof(ikm));
}

static bool
seal(const uint8 *cek, const uint8 *nonce, const uint8 *plain, int len, uint8 *out)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int n = 0;
	int rest = 0;
	bool ok = context != NULL &&
			  EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, cek, nonce) == 1 &&
			  EVP_EncryptUpdate(context, out, &n, plain, len) == 1 &&
			  EVP_EncryptFinal_ex(context, out + n, &rest) == 1 &&
			  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_LEN, out + n + rest) == 1;

	EVP_CIPHER_CTX_free(context);
	return ok && n + rest == len;
}

/*
 * coder.webpush_encrypt(payload, public, auth, salt, our_private, our_public bytea) RETURNS bytea
 *
 * The body of a push: one record.  public and auth are the browser's; salt and
 * our pair are fresh where they are NULL, and given by tests only.
 */
Datum
coder_webpush_encrypt(PG_FUNCTION_ARGS)
{
	bytea *payload;
	const uint8 *theirs;
	const uint8 *auth;
	int len;
	uint8 plain[MAX_PAYLOAD + 1];
	uint8 out[HEADER_LEN + RECORD_SIZE];
	uint8 cek[32];
	uint8 nonce[32];
	Pair ours;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	payload = PG_GETARG_BYTEA_PP(0);
	theirs = take_bytes(PG_GETARG_BYTEA_PP(1), PUBLIC_LEN, "a browser's key");
	auth = take_bytes(PG_GETARG_BYTEA_PP(2), AUTH_LEN, "a browser's secret");
	len = (int) VARSIZE_ANY_EXHDR(payload);
	if (len > MAX_PAYLOAD)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the message is too long to push")));
	randombytes_buf(out, SALT_LEN);
	if (!PG_ARGISNULL(3))
		memcpy(out, take_bytes(PG_GETARG_BYTEA_PP(3), SALT_LEN, "a salt"), SALT_LEN);
	if (PG_ARGISNULL(4) || PG_ARGISNULL(5))
		make_pair(&ours);
	else
	{
		memcpy(ours.private,
			   take_bytes(PG_GETARG_BYTEA_PP(4), PRIVATE_LEN, "a private key"),
			   PRIVATE_LEN);
		memcpy(
			ours.public, take_bytes(PG_GETARG_BYTEA_PP(5), PUBLIC_LEN, "a public key"), PUBLIC_LEN);
	}
	derive_keys(&ours, theirs, auth, out, cek, nonce);
	memcpy(out + SALT_LEN, "\0\0\x10\0", 4); /* RECORD_SIZE */
	out[SALT_LEN + 4] = PUBLIC_LEN;
	memcpy(out + SALT_LEN + 5, ours.public, PUBLIC_LEN);
	memcpy(plain, VARDATA_ANY(payload), len);
	plain[len] = 2; /* the last record */
	if (!seal(cek, nonce, plain, len + 1, out + HEADER_LEN))
		raise_crypto("encrypt the message");
	sodium_memzero(&ours, sizeof(ours));
	sodium_memzero(cek, sizeof(cek));
	PG_RETURN_BYTEA_P(make_bytea(out, HEADER_LEN + len + 1 + TAG_LEN));
}
