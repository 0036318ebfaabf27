/*
 * fuzz_jws.c -- any text as a signed token: its parts lie inside and decode into
 * no more than their length; a signature of the right size becomes DER.
 *
 * SPDX-License-Identifier: MIT
 */
#include "jws.h"

#include <stdlib.h>

#include <openssl/crypto.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_part(const JwsPart *part, const char *token, size_t len)
{
	uint8_t *out = malloc(part->len);
	uint8_t *der = NULL;
	size_t n;

	if (part->text < token || part->text + part->len > token + len)
		abort();
	if (jws_decode(part, out, &n))
	{
		if (n > part->len)
			abort();
		if (n == JWS_ES256_LEN && jws_es256_der(out, &der) == 0)
			abort();
	}
	OPENSSL_free(der);
	free(out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *token = (const char *) data;
	Jws jws;

	if (!jws_split(token, size, &jws))
		return 0;
	check_part(&jws.header, token, size);
	check_part(&jws.claims, token, size);
	check_part(&jws.signature, token, size);
	if (jws.signed_len != jws.header.len + 1 + jws.claims.len)
		abort();
	return 0;
}
