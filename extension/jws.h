/*
 * jws.h -- the compact form of a JSON Web Signature in parts.
 *
 * Nothing here needs the server: no errors but false and 0.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_JWS_H
#define CODER_JWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JWS_MAX 65536
#define JWS_ES256_LEN 64

typedef struct JwsPart
{
	const char *text; /* base64, into the token */
	size_t len;
} JwsPart;

typedef struct Jws
{
	JwsPart header;
	JwsPart claims;
	JwsPart signature;
	size_t signed_len; /* what the signature is over: the first so many bytes of the token */
} Jws;

/* False where the token is too long or lacks a part's dot. */
extern bool jws_split(const char *token, size_t len, Jws *jws);

/* Base64 (URL alphabet, no padding) into out, which has room for part->len bytes; *n is the size. */
extern bool jws_decode(const JwsPart *part, uint8_t *out, size_t *n);

/*
 * The R and S of an ES256 signature as the DER that OpenSSL wants, allocated by
 * OpenSSL; its size, 0 on failure.
 */
extern size_t jws_es256_der(const uint8_t sig[JWS_ES256_LEN], uint8_t **der);

#endif
