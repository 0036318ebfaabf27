/*
 * jwk.c -- JSON Web Keys of identity providers as the keys that jwt.c verifies with.
 *
 * A key that is too weak, of another type than the algorithm wants, or malformed
 * is no key.  Private members are not looked at.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <sodium.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "coder.h"
#include "compat.h"

#define JWK_MAX_MEMBER 2048 /* bytes of a number: RSA of 16384 bits */
#define JWK_MIN_RSA 2048	/* bits */
#define JWK_MAX_RSA 8192
#define P256_LEN 32

PG_FUNCTION_INFO_V1(coder_jwk_key);

/* A member that is text; false where there is none. */
static bool
get_text(Jsonb *jwk, const char *name, const char **s, int *len)
{
	JsonbValue v;

	if (getKeyJsonValueFromContainer(&jwk->root, name, (int) strlen(name), &v) == NULL ||
		v.type != jbvString)
		return false;
	*s = v.val.string.val;
	*len = v.val.string.len;
	return true;
}

static bool
is_text(Jsonb *jwk, const char *name, const char *want)
{
	const char *s;
	int len;

	return get_text(jwk, name, &s, &len) && len == (int) strlen(want) && memcmp(s, want, len) == 0;
}

/* A member in base64url as bytes; their number, 0 where it is malformed. */
static size_t
get_bytes(Jsonb *jwk, const char *name, uint8 out[JWK_MAX_MEMBER])
{
	const char *s;
	int len;
	size_t n;

	if (!get_text(jwk, name, &s, &len) ||
		sodium_base642bin(out, JWK_MAX_MEMBER, s, len, "=", &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
		return 0;
	return n;
}

/* A public key of parameters as PEM, or NULL. */
static bytea *
pem_of_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	bytea *pem = NULL;
	char *data;
	long len;

	if (ctx != NULL && params != NULL && bio != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
		EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
		PEM_write_bio_PUBKEY(bio, pkey) == 1)
	{
		len = BIO_get_mem_data(bio, &data);
		pem = cstring_to_text_with_len(data, (int) len);
	}
	BIO_free(bio);
	EVP_PKEY_free(pkey);
	EVP_PKEY_CTX_free(ctx);
	return pem;
}

static bytea *
rsa_key(Jsonb *jwk)
{
	uint8 bytes[JWK_MAX_MEMBER];
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	size_t len = get_bytes(jwk, "n", bytes);
	BIGNUM *n = BN_bin2bn(bytes, (int) len, NULL);
	BIGNUM *e;
	bytea *pem = NULL;

	len = get_bytes(jwk, "e", bytes);
	e = BN_bin2bn(bytes, (int) len, NULL);
	/* Public exponents are small and odd. */
	if (builder != NULL && n != NULL && e != NULL && BN_num_bits(n) >= JWK_MIN_RSA &&
		BN_num_bits(n) <= JWK_MAX_RSA && BN_num_bits(e) >= 2 && BN_num_bits(e) <= 64 && BN_is_odd(e) &&
		BN_is_odd(n) && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
	{
		params = OSSL_PARAM_BLD_to_param(builder);
		pem = pem_of_params("RSA", params);
	}
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(builder);
	BN_free(n);
	BN_free(e);
	return pem;
}

static bytea *
p256_key(Jsonb *jwk)
{
	uint8 bytes[JWK_MAX_MEMBER];
	uint8 point[1 + 2 * P256_LEN] = {4}; /* uncompressed */
	char curve[] = "prime256v1";
	OSSL_PARAM params[3];

	if (!is_text(jwk, "crv", "P-256") || get_bytes(jwk, "x", bytes) != P256_LEN)
		return NULL;
	memcpy(point + 1, bytes, P256_LEN);
	if (get_bytes(jwk, "y", bytes) != P256_LEN)
		return NULL;
	memcpy(point + 1 + P256_LEN, bytes, P256_LEN);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point));
	params[2] = OSSL_PARAM_construct_end();
	return pem_of_params("EC", params);
}

static bytea *
ed25519_key(Jsonb *jwk)
{
	uint8 bytes[JWK_MAX_MEMBER];
	bytea *key;

	if (!is_text(jwk, "crv", "Ed25519") || get_bytes(jwk, "x", bytes) != crypto_sign_PUBLICKEYBYTES)
		return NULL;
	key = palloc(VARHDRSZ + crypto_sign_PUBLICKEYBYTES);
	SET_VARSIZE(key, VARHDRSZ + crypto_sign_PUBLICKEYBYTES);
	memcpy(VARDATA(key), bytes, crypto_sign_PUBLICKEYBYTES);
	return key;
}

/*
 * coder.jwk_key(jwk jsonb, alg text) RETURNS bytea
 *
 * The key for coder.jwt_verify with alg; NULL where it is none for it.
 */
Datum
coder_jwk_key(PG_FUNCTION_ARGS)
{
	Jsonb *jwk = PG_GETARG_JSONB_P(0);
	char *alg = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bytea *key = NULL;

	if (!JB_ROOT_IS_OBJECT(jwk))
		PG_RETURN_NULL();
	if (strcmp(alg, "RS256") == 0 && is_text(jwk, "kty", "RSA"))
		key = rsa_key(jwk);
	else if (strcmp(alg, "ES256") == 0 && is_text(jwk, "kty", "EC"))
		key = p256_key(jwk);
	else if (strcmp(alg, "EdDSA") == 0 && is_text(jwk, "kty", "OKP"))
		key = ed25519_key(jwk);
	if (key == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(key);
}
