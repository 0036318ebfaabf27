/*
 * jwk.c -- JSON Web Keys of identity providers as the keys that jwt.c verifies with.
 *
 * A key that is too weak, of another type than the algorithm wants, or malformed
 * is no key (jwkey.c).  Private members are not looked at.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "coder.h"
#include "compat.h"
#include "jwkey.h"

PG_FUNCTION_INFO_V1(coder_jwk_key);

/* A member that is text. */
static JwkText
get_text(Jsonb *jwk, const char *name)
{
	JwkText member = {NULL, 0};
	JsonbValue v;

	if (getKeyJsonValueFromContainer(&jwk->root, name, (int) strlen(name), &v) != NULL &&
		v.type == jbvString)
	{
		member.text = v.val.string.val;
		member.len = (size_t) v.val.string.len;
	}
	return member;
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
	JwKey parts;
	uint8_t *key;
	size_t size;
	bytea *answer;

	if (!JB_ROOT_IS_OBJECT(jwk))
		PG_RETURN_NULL();
	parts.kty = get_text(jwk, "kty");
	parts.crv = get_text(jwk, "crv");
	parts.n = get_text(jwk, "n");
	parts.e = get_text(jwk, "e");
	parts.x = get_text(jwk, "x");
	parts.y = get_text(jwk, "y");
	answer = palloc(VARHDRSZ + 4 * JWKEY_MAX_MEMBER); /* before the key, which an error would leak */
	size = jwkey_public(&parts, alg, &key);
	if (size == 0 || size > 4 * JWKEY_MAX_MEMBER)
	{
		free(key);
		PG_RETURN_NULL();
	}
	SET_VARSIZE(answer, VARHDRSZ + size);
	memcpy(VARDATA(answer), key, size);
	free(key);
	PG_RETURN_BYTEA_P(answer);
}
