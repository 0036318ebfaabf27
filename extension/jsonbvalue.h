/*
 * jsonbvalue.h -- members and text of jsonb, read and made.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_JSONBVALUE_H
#define CODER_JSONBVALUE_H

#include "utils/jsonb.h"

/* A member of an object, in value; NULL where it is not there, or the container is no object. */
static inline JsonbValue *
jsonb_member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return JsonContainerIsObject(object) ? getKeyJsonValueFromContainer(object, name, (int) strlen(name), value) : NULL;
}

/* Is it this text? */
static inline bool
jsonb_is_text(const JsonbValue *value, const char *text)
{
	return value->type == jbvString && value->val.string.len == (int) strlen(text) &&
		   memcmp(value->val.string.val, text, value->val.string.len) == 0;
}

/* Adds a key or a text to what is being made; s is not copied. */
static inline void
jsonb_push_text(JsonbParseState **state, JsonbIteratorToken token, const char *s, int len)
{
	JsonbValue v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = len;
	pushJsonbValue(state, token, &v);
}

#endif
