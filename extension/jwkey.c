/*
 * jwkey.c -- the public key of the members of a JSON Web Key.
 *
 * SPDX-License-Identifier: MIT
 */
#include "jwkey.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <sodium.h>

#define P256_LEN 32

static bool
is_text(const JwkText *member, const char *want)
{
	return member->text != NULL && member->len == strlen(want) &&
		   memcmp(member->text, want, member->len) == 0;
}

/* A member in base64url as bytes; their number, 0 where it is malformed. */
static size_t
get_bytes(const JwkText *member, uint8_t out[JWKEY_MAX_MEMBER])
{
	size_t n;

	if (member->text == NULL ||
		sodium_base642bin(out, JWKEY_MAX_MEMBER, member->text, member->len, "=", &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
		return 0;
	return n;
}

static size_t
copy_key(const void *data, size_t len, uint8_t **key)
{
	*key = malloc(len);
	if (*key == NULL)
		return 0;
	memcpy(*key, data, len);
	return len;
}

/* A public key of parameters as PEM. */
static size_t
pem_of_params(const char *type, OSSL_PARAM *params, uint8_t **key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	size_t size = 0;
	char *data;
	long len;

	if (ctx != NULL && params != NULL && bio != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
		EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
		PEM_write_bio_PUBKEY(bio, pkey) == 1)
	{
		len = BIO_get_mem_data(bio, &data);
		size = copy_key(data, (size_t) len, key);
	}
	BIO_free(bio);
	EVP_PKEY_free(pkey);
	EVP_PKEY_CTX_free(ctx);
	return size;
}

/* Public exponents are small and odd. */
static bool
rsa_is_sound(const BIGNUM *n, const BIGNUM *e)
{
	return n != NULL && e != NULL && BN_num_bits(n) >= JWKEY_MIN_RSA &&
		   BN_num_bits(n) <= JWKEY_MAX_RSA && BN_num_bits(e) >= 2 && BN_num_bits(e) <= 64 &&
		   BN_is_odd(e) && BN_is_odd(n);
}

static size_t
rsa_key(const JwKey *jwk, uint8_t **key)
{
	uint8_t bytes[JWKEY_MAX_MEMBER];
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	size_t len = get_bytes(&jwk->n, bytes);
	BIGNUM *n = BN_bin2bn(bytes, (int) len, NULL);
	BIGNUM *e;
	size_t size = 0;

	len = get_bytes(&jwk->e, bytes);
	e = BN_bin2bn(bytes, (int) len, NULL);
	if (builder != NULL && rsa_is_sound(n, e) &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
	{
		params = OSSL_PARAM_BLD_to_param(builder);
		size = pem_of_params("RSA", params, key);
	}
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(builder);
	BN_free(n);
	BN_free(e);
	return size;
}

static size_t
p256_key(const JwKey *jwk, uint8_t **key)
{
	uint8_t bytes[JWKEY_MAX_MEMBER];
	uint8_t point[1 + 2 * P256_LEN] = {4}; /* uncompressed */
	char curve[] = "prime256v1";
	OSSL_PARAM params[3];

	if (!is_text(&jwk->crv, "P-256") || get_bytes(&jwk->x, bytes) != P256_LEN)
		return 0;
	memcpy(point + 1, bytes, P256_LEN);
	if (get_bytes(&jwk->y, bytes) != P256_LEN)
		return 0;
	memcpy(point + 1 + P256_LEN, bytes, P256_LEN);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point));
	params[2] = OSSL_PARAM_construct_end();
	return pem_of_params("EC", params, key);
}

static size_t
ed25519_key(const JwKey *jwk, uint8_t **key)
{
	uint8_t bytes[JWKEY_MAX_MEMBER];

	if (!is_text(&jwk->crv, "Ed25519") || get_bytes(&jwk->x, bytes) != crypto_sign_PUBLICKEYBYTES)
		return 0;
	return copy_key(bytes, crypto_sign_PUBLICKEYBYTES, key);
}

size_t
jwkey_public(const JwKey *jwk, const char *alg, uint8_t **key)
{
	*key = NULL;
	if (strcmp(alg, "RS256") == 0 && is_text(&jwk->kty, "RSA"))
		return rsa_key(jwk, key);
	if (strcmp(alg, "ES256") == 0 && is_text(&jwk->kty, "EC"))
		return p256_key(jwk, key);
	if (strcmp(alg, "EdDSA") == 0 && is_text(&jwk->kty, "OKP"))
		return ed25519_key(jwk, key);
	return 0;
}
