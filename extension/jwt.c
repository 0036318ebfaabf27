/*
 * jwt.c -- JSON Web Tokens in compact form: header.claims.signature.
 *
 * HS256, HS384, HS512 and EdDSA by libsodium and OpenSSL's HMAC, RS256 by OpenSSL;
 * ES256 is only verified (OpenID Connect).  The algorithm is the caller's: a token
 * whose header names another one does not verify.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <sodium.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "compat.h"
#include "jws.h"

#define B64 sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define MAX_SIGNATURE 1024 /* RSA of 8192 bits */

typedef enum JwtAlg
{
	JWT_HS256,
	JWT_HS384,
	JWT_HS512,
	JWT_EDDSA,
	JWT_RS256,
	JWT_ES256,
	JWT_UNKNOWN
} JwtAlg;

static const char *const alg_names[] = {"HS256", "HS384", "HS512", "EdDSA", "RS256", "ES256"};

PG_FUNCTION_INFO_V1(coder_jwt_sign);
PG_FUNCTION_INFO_V1(coder_jwt_verify);
PG_FUNCTION_INFO_V1(coder_jwt_open);
PG_FUNCTION_INFO_V1(coder_jwt_header);

static JwtAlg
parse_alg(text *name)
{
	char *s = text_to_cstring(name);

	for (int i = 0; i < (int) lengthof(alg_names); i++)
		if (strcmp(alg_names[i], s) == 0)
			return (JwtAlg) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown algorithm \"%s\"", s)));
}

static const EVP_MD *
hmac_digest(JwtAlg alg)
{
	return alg == JWT_HS256 ? EVP_sha256() : alg == JWT_HS384 ? EVP_sha384() : EVP_sha512();
}

static void
append_b64(StringInfo buf, const void *data, size_t len)
{
	size_t cap = sodium_base64_encoded_len(len, B64);
	char *out = palloc(cap);

	sodium_bin2base64(out, cap, data, len, B64);
	appendStringInfoString(buf, out);
}

/* RS256 with a PEM private key; the signature's size. */
static size_t
sign_pem(bytea *key, const char *data, size_t len, uint8 out[MAX_SIGNATURE])
{
	BIO *bio = BIO_new_mem_buf(VARDATA_ANY(key), (int) VARSIZE_ANY_EXHDR(key));
	EVP_PKEY *pkey =
		bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *) "") : NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = MAX_SIGNATURE;
	bool rsa = pkey != NULL && EVP_PKEY_base_id(pkey) == EVP_PKEY_RSA &&
			   EVP_PKEY_get_size(pkey) <= MAX_SIGNATURE;
	bool good = rsa && ctx != NULL &&
				EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
				EVP_DigestSign(ctx, out, &n, (const uint8 *) data, len) == 1;

	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	if (!rsa)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an RS256 key for signing is an RSA key in PEM")));
	if (!good)
		elog(ERROR, "could not sign a token");
	return n;
}

/* The MAC or signature over buf; its size. */
static size_t
sign(JwtAlg alg, bytea *key, const char *data, size_t len, uint8 *out)
{
	const uint8 *k = (const uint8 *) VARDATA_ANY(key);
	size_t key_len = VARSIZE_ANY_EXHDR(key);
	uint8 pk[crypto_sign_PUBLICKEYBYTES];
	uint8 sk[crypto_sign_SECRETKEYBYTES];
	unsigned int n = 0;

	if (alg <= JWT_HS512)
	{
		if (HMAC(hmac_digest(alg), k, (int) key_len, (const uint8 *) data, len, out, &n) == NULL)
			elog(ERROR, "could not sign a token");
		return n;
	}
	if (alg == JWT_RS256)
		return sign_pem(key, data, len, out);
	if (alg != JWT_EDDSA)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("tokens are not signed with %s", alg_names[alg])));
	if (key_len != crypto_sign_SEEDBYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an EdDSA key for signing has %d bytes", (int) crypto_sign_SEEDBYTES)));
	crypto_sign_seed_keypair(pk, sk, k);
	crypto_sign_detached(out, NULL, (const uint8 *) data, len, sk);
	sodium_memzero(sk, sizeof(sk));
	return crypto_sign_BYTES;
}

static char *
jsonb_text(Jsonb *json)
{
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/*
 * coder.jwt_sign(claims jsonb, key bytea, alg text, header jsonb) RETURNS text
 *
 * header's members go beside alg and typ.  key is the HMAC secret, the seed of an
 * Ed25519 key, or an RSA key in PEM.
 */
Datum
coder_jwt_sign(PG_FUNCTION_ARGS)
{
	Jsonb *claims = PG_GETARG_JSONB_P(0);
	bytea *key = PG_GETARG_BYTEA_PP(1);
	JwtAlg alg = parse_alg(PG_GETARG_TEXT_PP(2));
	char *extra = jsonb_text(PG_GETARG_JSONB_P(3));
	char *body = jsonb_text(claims);
	StringInfoData header;
	StringInfoData token;
	uint8 signature[MAX_SIGNATURE];
	size_t n;

	if (!JB_ROOT_IS_OBJECT(claims) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(3)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("claims and header must be objects")));
	initStringInfo(&header);
	appendStringInfo(&header, "{\"alg\":\"%s\",\"typ\":\"JWT\"", alg_names[alg]);
	if (JB_ROOT_COUNT(PG_GETARG_JSONB_P(3)) > 0)
		appendStringInfo(&header, ",%s", extra + 1);
	else
		appendStringInfoChar(&header, '}');
	initStringInfo(&token);
	append_b64(&token, header.data, header.len);
	appendStringInfoChar(&token, '.');
	append_b64(&token, body, strlen(body));
	n = sign(alg, key, token.data, token.len, signature);
	appendStringInfoChar(&token, '.');
	append_b64(&token, signature, n);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token.data, token.len));
}

/* RS256 and ES256 with a PEM public key. */
static bool
verify_pem(JwtAlg alg, bytea *key, const char *data, size_t len, const uint8 *sig, size_t sig_len)
{
	BIO *bio = BIO_new_mem_buf(VARDATA_ANY(key), (int) VARSIZE_ANY_EXHDR(key));
	EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8 *der = NULL;
	int want = alg == JWT_RS256 ? EVP_PKEY_RSA : EVP_PKEY_EC;
	bool good = false;

	if (pkey != NULL && ctx != NULL && EVP_PKEY_base_id(pkey) == want)
	{
		if (alg == JWT_ES256)
		{
			sig_len = sig_len == JWS_ES256_LEN ? jws_es256_der(sig, &der) : 0;
			sig = der;
		}
		good = sig_len > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
			   EVP_DigestVerify(ctx, sig, sig_len, (const uint8 *) data, len) == 1;
	}
	OPENSSL_free(der);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	return good;
}

static bool
verify(JwtAlg alg, bytea *key, const char *data, size_t len, const uint8 *sig, size_t sig_len)
{
	uint8 want[64];

	if (alg == JWT_RS256 || alg == JWT_ES256)
		return verify_pem(alg, key, data, len, sig, sig_len);
	if (alg == JWT_EDDSA)
		return sig_len == crypto_sign_BYTES &&
			   VARSIZE_ANY_EXHDR(key) == crypto_sign_PUBLICKEYBYTES &&
			   crypto_sign_verify_detached(
				   sig, (const uint8 *) data, len, (const uint8 *) VARDATA_ANY(key)) == 0;
	return sig_len == sign(alg, key, data, len, want) && sodium_memcmp(want, sig, sig_len) == 0;
}

/* The JSON object in a part of a token, or NULL. */
static Jsonb *
decode_object(const JwsPart *part)
{
	char *out = palloc(part->len + 1);
	size_t n;
	Jsonb *json;

	if (!jws_decode(part, (uint8 *) out, &n))
		return NULL;
	out[n] = '\0';
	json = coder_json_parse(out, (int) n);
	return json != NULL && JB_ROOT_IS_OBJECT(json) ? json : NULL;
}

/* Is a claim with a time, if there is one, at or before (or, for exp, after) the given second? */
static bool
time_holds(Jsonb *claims, const char *name, double at, bool after)
{
	JsonbValue v;

	if (getKeyJsonValueFromContainer(&claims->root, name, (int) strlen(name), &v) == NULL)
		return true;
	if (v.type != jbvNumeric)
		return false;
	{
		double t = DatumGetFloat8(
			DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v.val.numeric)));

		return after ? t > at : t <= at;
	}
}

/* Does the header name this algorithm? */
static bool
header_names(Jsonb *header, JwtAlg alg)
{
	JsonbValue v;

	return header != NULL && getKeyJsonValueFromContainer(&header->root, "alg", 3, &v) != NULL &&
		   v.type == jbvString && v.val.string.len == (int) strlen(alg_names[alg]) &&
		   memcmp(v.val.string.val, alg_names[alg], v.val.string.len) == 0;
}

/*
 * The claims of a token whose signature and algorithm are right, else NULL;
 * without a key the signature is not looked at and only the header is given.
 */
static Jsonb *
open_token(text *token, bytea *key, JwtAlg alg)
{
	const char *s = VARDATA_ANY(token);
	uint8 *sig;
	size_t sig_len;
	Jws jws;

	if (!jws_split(s, VARSIZE_ANY_EXHDR(token), &jws))
		return NULL;
	if (key == NULL)
		return decode_object(&jws.header);
	sig = palloc(jws.signature.len + 1);
	if (!jws_decode(&jws.signature, sig, &sig_len) ||
		!header_names(decode_object(&jws.header), alg) ||
		!verify(alg, key, s, jws.signed_len, sig, sig_len))
		return NULL;
	return decode_object(&jws.claims);
}

/*
 * coder.jwt_verify(token text, key bytea, alg text, at timestamptz) RETURNS jsonb
 *
 * The claims, or NULL where the token is malformed, its signature or algorithm
 * wrong, or where at is not between nbf and exp.  key is the HMAC secret, the
 * Ed25519 public key, or a PEM public key (RS256, ES256).
 */
Datum
coder_jwt_verify(PG_FUNCTION_ARGS)
{
	JwtAlg alg = parse_alg(PG_GETARG_TEXT_PP(2));
	double at = (double) (PG_GETARG_TIMESTAMPTZ(3) - SetEpochTimestamp()) / USECS_PER_SEC;
	Jsonb *claims = open_token(PG_GETARG_TEXT_PP(0), PG_GETARG_BYTEA_PP(1), alg);

	if (claims == NULL || !time_holds(claims, "exp", at, true) ||
		!time_holds(claims, "nbf", at, false))
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(claims);
}

/* coder.jwt_open(token text, key bytea, alg text) RETURNS jsonb: the same at whatever time. */
Datum
coder_jwt_open(PG_FUNCTION_ARGS)
{
	Jsonb *claims = open_token(
		PG_GETARG_TEXT_PP(0), PG_GETARG_BYTEA_PP(1), parse_alg(PG_GETARG_TEXT_PP(2)));

	if (claims == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(claims);
}

/* coder.jwt_header(token text) RETURNS jsonb: what a token says of itself, unverified; NULL for no token. */
Datum
coder_jwt_header(PG_FUNCTION_ARGS)
{
	Jsonb *header = open_token(PG_GETARG_TEXT_PP(0), NULL, JWT_UNKNOWN);

	if (header == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(header);
}
