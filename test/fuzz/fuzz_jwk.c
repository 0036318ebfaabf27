/*
 * fuzz_jwk.c -- any texts as the members of a JSON Web Key: what becomes a key is
 * one that OpenSSL reads, of the algorithm's type and within its limits.
 *
 * The input's lines are the algorithm's first letter, kty, crv, n, e, x and y; one
 * that is "-" is missing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "jwkey.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static JwkText
next_line(const char **at, const char *end)
{
	const char *start = *at;
	const char *stop = memchr(start, '\n', (size_t) (end - start));
	JwkText line = {start, (size_t) ((stop != NULL ? stop : end) - start)};

	*at = stop != NULL ? stop + 1 : end;
	if (line.len == 1 && *start == '-')
		line.text = NULL;
	return line;
}

static void
check_pem(const uint8_t *key, size_t size, int type)
{
	BIO *bio = BIO_new_mem_buf(key, (int) size);
	EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);

	if (pkey == NULL || EVP_PKEY_get_base_id(pkey) != type)
		abort();
	if (type == EVP_PKEY_RSA && (EVP_PKEY_get_bits(pkey) < JWKEY_MIN_RSA || EVP_PKEY_get_bits(pkey) > JWKEY_MAX_RSA))
		abort();
	if (type == EVP_PKEY_EC && EVP_PKEY_get_bits(pkey) != 256)
		abort();
	EVP_PKEY_free(pkey);
	BIO_free(bio);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *) data;
	const char *end = at + size;
	JwkText alg;
	JwKey jwk;
	uint8_t *key;
	size_t n;

	if (size == 0)
		return 0;
	alg = next_line(&at, end);
	jwk.kty = next_line(&at, end);
	jwk.crv = next_line(&at, end);
	jwk.n = next_line(&at, end);
	jwk.e = next_line(&at, end);
	jwk.x = next_line(&at, end);
	jwk.y = next_line(&at, end);
	switch (alg.len == 0 || alg.text == NULL ? 0 : *alg.text)
	{
		case 'R':
			n = jwkey_public(&jwk, "RS256", &key);
			if (n > 0)
				check_pem(key, n, EVP_PKEY_RSA);
			break;
		case 'E':
			n = jwkey_public(&jwk, "ES256", &key);
			if (n > 0)
				check_pem(key, n, EVP_PKEY_EC);
			break;
		default:
			n = jwkey_public(&jwk, "EdDSA", &key);
			if (n != 0 && n != 32)
				abort();
			break;
	}
	if ((n == 0) != (key == NULL))
		abort();
	free(key);
	return 0;
}
