/*
 * jwkey.h -- the public key of the members of a JSON Web Key.
 *
 * Nothing here needs the server: no errors but 0.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_JWKEY_H
#define CODER_JWKEY_H

#include <stddef.h>
#include <stdint.h>

#define JWKEY_MAX_MEMBER 2048 /* bytes of a number: RSA of 16384 bits */
#define JWKEY_MIN_RSA 2048	  /* bits */
#define JWKEY_MAX_RSA 8192

typedef struct JwkText
{
	const char *text; /* NULL: the key has no such member, or it is no text */
	size_t len;
} JwkText;

typedef struct JwKey
{
	JwkText kty;
	JwkText crv;
	JwkText n;
	JwkText e;
	JwkText x;
	JwkText y;
} JwKey;

/*
 * The key for an algorithm, allocated with malloc: PEM for RS256 and ES256, 32
 * bytes for EdDSA.  Its size; 0 where it is too weak, of another type than the
 * algorithm wants, or malformed.
 */
extern size_t jwkey_public(const JwKey *jwk, const char *alg, uint8_t **key);

#endif
