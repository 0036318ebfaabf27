/*
 * jws.c -- the compact form of a JSON Web Signature in parts: see jws.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "jws.h"

#include <openssl/ecdsa.h>
#include <sodium.h>
#include <string.h>

bool
jws_split(const char *token, size_t len, Jws *jws)
{
	const char *end = token + len;
	const char *dot = memchr(token, '.', len);
	const char *dot2 = dot != NULL ? memchr(dot + 1, '.', (size_t) (end - dot - 1)) : NULL;

	if (len > JWS_MAX || dot2 == NULL)
		return false;
	jws->header = (JwsPart){token, (size_t) (dot - token)};
	jws->claims = (JwsPart){dot + 1, (size_t) (dot2 - dot - 1)};
	jws->signature = (JwsPart){dot2 + 1, (size_t) (end - dot2 - 1)};
	jws->signed_len = (size_t) (dot2 - token);
	return true;
}

bool
jws_decode(const JwsPart *part, uint8_t *out, size_t *n)
{
	return sodium_base642bin(out,
							 part->len,
							 part->text,
							 part->len,
							 NULL,
							 n,
							 NULL,
							 sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
}

size_t
jws_es256_der(const uint8_t sig[JWS_ES256_LEN], uint8_t **der)
{
	ECDSA_SIG *parts = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(sig, JWS_ES256_LEN / 2, NULL);
	BIGNUM *s = BN_bin2bn(sig + JWS_ES256_LEN / 2, JWS_ES256_LEN / 2, NULL);
	int n = 0;

	if (parts != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(parts, r, s) == 1)
	{
		r = s = NULL; /* parts owns them */
		n = i2d_ECDSA_SIG(parts, der);
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(parts);
	return n > 0 ? (size_t) n : 0;
}
