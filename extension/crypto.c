/*
 * crypto.c -- random bytes, digests, password hashes, SSH keys; libsodium first,
 * OpenSSL for PBKDF2, which libsodium lacks.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <sodium.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "coder.h"
#include "compat.h"
#include "error.h"

#define KEY_ALPHABET "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define PBKDF2_PREFIX "$pbkdf2-sha256$"
#define PBKDF2_MAX_ITERATIONS 10000000
#define PBKDF2_MAX_HASH 128

PG_FUNCTION_INFO_V1(coder_random_key);
PG_FUNCTION_INFO_V1(coder_sha256_bytea);
PG_FUNCTION_INFO_V1(coder_random_bytes);
PG_FUNCTION_INFO_V1(coder_password_hash);
PG_FUNCTION_INFO_V1(coder_password_verify);
PG_FUNCTION_INFO_V1(coder_ssh_keypair);
PG_FUNCTION_INFO_V1(coder_ed25519_keypair);

void
coder_crypto_init(void)
{
	if (sodium_init() < 0)
		ereport(FATAL, (errmsg("could not initialize libsodium")));
}

void
coder_sha256(const void *data, size_t len, uint8 out[CODER_SHA256_LEN])
{
	crypto_hash_sha256(out, data, len);
}

static bytea *
bytea_of(const void *data, size_t len)
{
	bytea *out = palloc(VARHDRSZ + len);

	SET_VARSIZE(out, VARHDRSZ + len);
	memcpy(VARDATA(out), data, len);
	return out;
}

/* coder.random_key(length int) RETURNS text: letters and digits, for key ids and secrets. */
Datum
coder_random_key(PG_FUNCTION_ARGS)
{
	int32 len = PG_GETARG_INT32(0);
	char *out;

	if (len < 1 || len > 1024)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("length must be between 1 and 1024")));
	out = palloc(len);
	for (int i = 0; i < len; i++)
		out[i] = KEY_ALPHABET[randombytes_uniform(sizeof(KEY_ALPHABET) - 1)];
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out, len));
}

/* coder.sha256(text) RETURNS bytea: what api_keys.hashed_secret holds of a secret. */
Datum
coder_sha256_bytea(PG_FUNCTION_ARGS)
{
	text *secret = PG_GETARG_TEXT_PP(0);
	uint8 hash[CODER_SHA256_LEN];

	coder_sha256(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), hash);
	PG_RETURN_BYTEA_P(bytea_of(hash, sizeof(hash)));
}

/* coder.random_bytes(length int) RETURNS bytea */
Datum
coder_random_bytes(PG_FUNCTION_ARGS)
{
	int32 len = PG_GETARG_INT32(0);
	bytea *out;

	if (len < 0 || len > 65536)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("length must be between 0 and 65536")));
	out = palloc(VARHDRSZ + len);
	SET_VARSIZE(out, VARHDRSZ + len);
	randombytes_buf(VARDATA(out), len);
	PG_RETURN_BYTEA_P(out);
}

/*
 * coder.password_hash(password text) RETURNS text: argon2id, for
 * users.hashed_password.
 */
Datum
coder_password_hash(PG_FUNCTION_ARGS)
{
	text *password = PG_GETARG_TEXT_PP(0);
	char out[crypto_pwhash_STRBYTES];

	if (crypto_pwhash_str_alg(out,
							  VARDATA_ANY(password),
							  VARSIZE_ANY_EXHDR(password),
							  crypto_pwhash_OPSLIMIT_INTERACTIVE,
							  19 * 1024 * 1024,
							  crypto_pwhash_ALG_ARGON2ID13) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not hash the password: out of memory")));
	PG_RETURN_TEXT_P(cstring_to_text(out));
}

/* The unpadded standard base64 between two pointers; its size, or -1. */
static int
decode_base64(const char *s, const char *end, uint8 *out, size_t cap)
{
	size_t n;

	if (sodium_base642bin(
			out, cap, s, end - s, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0)
		return -1;
	return (int) n;
}

/* $pbkdf2-sha256$<iterations>$<salt>$<hash>, as an imported database holds them. */
static bool
pbkdf2_matches(const char *stored, const char *password, int password_len)
{
	const char *p = stored + strlen(PBKDF2_PREFIX);
	char *end;
	long iterations = strtol(p, &end, 10);
	const char *salt_end;
	uint8 salt[64];
	uint8 want[PBKDF2_MAX_HASH];
	uint8 got[PBKDF2_MAX_HASH];
	int salt_len;
	int want_len;

	if (*end != '$' || iterations < 1 || iterations > PBKDF2_MAX_ITERATIONS)
		return false;
	salt_end = strchr(end + 1, '$');
	if (salt_end == NULL)
		return false;
	salt_len = decode_base64(end + 1, salt_end, salt, sizeof(salt));
	want_len = decode_base64(salt_end + 1, stored + strlen(stored), want, sizeof(want));
	if (salt_len < 0 || want_len < 16)
		return false;
	if (PKCS5_PBKDF2_HMAC(password,
						  password_len,
						  salt,
						  salt_len,
						  (int) iterations,
						  EVP_sha256(),
						  want_len,
						  got) != 1)
		return false;
	return sodium_memcmp(want, got, want_len) == 0;
}

/*
 * coder.password_verify(stored text, password text) RETURNS bool
 *
 * stored is an argon2id string or the reference's PBKDF2 form.  An empty one
 * matches nothing, in the time of a real comparison.
 */
Datum
coder_password_verify(PG_FUNCTION_ARGS)
{
	char *stored = text_to_cstring(PG_GETARG_TEXT_PP(0));
	text *password = PG_GETARG_TEXT_PP(1);
	const char *p = VARDATA_ANY(password);
	int len = (int) VARSIZE_ANY_EXHDR(password);
	char dummy[crypto_pwhash_STRBYTES];

	if (strncmp(stored, PBKDF2_PREFIX, strlen(PBKDF2_PREFIX)) == 0)
		PG_RETURN_BOOL(pbkdf2_matches(stored, p, len));
	if (strncmp(stored, "$argon2", 7) == 0)
		PG_RETURN_BOOL(crypto_pwhash_str_verify(stored, p, len) == 0);
	if (crypto_pwhash_str_alg(dummy,
							  p,
							  len,
							  crypto_pwhash_OPSLIMIT_INTERACTIVE,
							  19 * 1024 * 1024,
							  crypto_pwhash_ALG_ARGON2ID13) == 0)
		sodium_memzero(dummy, sizeof(dummy));
	PG_RETURN_BOOL(false);
}

/* An SSH wire string: u32 BE size, bytes. */
static void
put_ssh_string(StringInfo buf, const void *data, uint32 len)
{
	uint8 be[4] = {len >> 24, len >> 16, len >> 8, len};

	appendBinaryStringInfo(buf, (char *) be, 4);
	appendBinaryStringInfo(buf, data, len);
}

static void
append_base64(StringInfo buf, const char *data, int len, int width)
{
	int cap = sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL);
	char *out = palloc(cap);
	int n;

	sodium_bin2base64(out, cap, (const unsigned char *) data, len, sodium_base64_VARIANT_ORIGINAL);
	n = (int) strlen(out);
	for (int i = 0; i < n; i += width)
	{
		appendBinaryStringInfo(buf, out + i, Min(width, n - i));
		if (width < n)
			appendStringInfoChar(buf, '\n');
	}
}

/* openssh-key-v1: magic, no cipher, one key; the private part padded to 8 bytes. */
static text *
openssh_private(const uint8 *pk, const uint8 *sk, const StringInfo public_blob)
{
	StringInfoData priv;
	StringInfoData all;
	StringInfoData pem;
	uint32 check = randombytes_random();

	initStringInfo(&priv);
	appendBinaryStringInfo(&priv, (char *) &check, 4);
	appendBinaryStringInfo(&priv, (char *) &check, 4);
	put_ssh_string(&priv, "ssh-ed25519", 11);
	put_ssh_string(&priv, pk, crypto_sign_PUBLICKEYBYTES);
	put_ssh_string(&priv, sk, crypto_sign_SECRETKEYBYTES);
	put_ssh_string(&priv, "", 0);
	for (char pad = 1; priv.len % 8 != 0; pad++)
		appendStringInfoChar(&priv, pad);

	initStringInfo(&all);
	appendBinaryStringInfo(&all, "openssh-key-v1\0", 15);
	put_ssh_string(&all, "none", 4);
	put_ssh_string(&all, "none", 4);
	put_ssh_string(&all, "", 0);
	appendBinaryStringInfo(&all, "\0\0\0\1", 4);
	put_ssh_string(&all, public_blob->data, public_blob->len);
	put_ssh_string(&all, priv.data, priv.len);

	initStringInfo(&pem);
	appendStringInfoString(&pem, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
	append_base64(&pem, all.data, all.len, 70);
	appendStringInfoString(&pem, "-----END OPENSSH PRIVATE KEY-----\n");
	sodium_memzero(priv.data, priv.len);
	sodium_memzero(all.data, all.len);
	return cstring_to_text_with_len(pem.data, pem.len);
}

/* coder.ssh_keypair() RETURNS text[]: a new ed25519 key, {private, public}, in OpenSSH's forms. */
Datum
coder_ssh_keypair(PG_FUNCTION_ARGS)
{
	uint8 pk[crypto_sign_PUBLICKEYBYTES];
	uint8 sk[crypto_sign_SECRETKEYBYTES];
	StringInfoData blob;
	StringInfoData line;
	Datum pair[2];

	crypto_sign_keypair(pk, sk);
	initStringInfo(&blob);
	put_ssh_string(&blob, "ssh-ed25519", 11);
	put_ssh_string(&blob, pk, sizeof(pk));
	initStringInfo(&line);
	appendStringInfoString(&line, "ssh-ed25519 ");
	append_base64(&line, blob.data, blob.len, 1 << 20);
	appendStringInfoChar(&line, '\n');
	pair[0] = PointerGetDatum(openssh_private(pk, sk, &blob));
	pair[1] = PointerGetDatum(cstring_to_text_with_len(line.data, line.len));
	sodium_memzero(sk, sizeof(sk));
	PG_RETURN_ARRAYTYPE_P(construct_array(pair, 2, TEXTOID, -1, false, TYPALIGN_INT));
}

/* coder.ed25519_keypair() RETURNS bytea[]: {seed, public key}, for coder.jwt_sign with EdDSA. */
Datum
coder_ed25519_keypair(PG_FUNCTION_ARGS)
{
	uint8 pk[crypto_sign_PUBLICKEYBYTES];
	uint8 sk[crypto_sign_SECRETKEYBYTES];
	Datum pair[2];

	crypto_sign_keypair(pk, sk);
	pair[0] = PointerGetDatum(bytea_of(sk, crypto_sign_SEEDBYTES));
	pair[1] = PointerGetDatum(bytea_of(pk, sizeof(pk)));
	sodium_memzero(sk, sizeof(sk));
	PG_RETURN_ARRAYTYPE_P(construct_array(pair, 2, BYTEAOID, -1, false, TYPALIGN_INT));
}
