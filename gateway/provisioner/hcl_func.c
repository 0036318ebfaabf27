/*
 * hcl_func.c -- calls of functions of the configuration language
 *
 * Each hcl_func_*.c has a table of its functions.  An unknown argument makes the
 * answer unknown, except where the row says that the function looks itself; a
 * sensitive one makes it sensitive, except where the row says that the function
 * decides.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_func.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const HclFunctions *const tables[] = {
	&hcl_number_functions,
	&hcl_text_functions,
	&hcl_list_functions,
	&hcl_code_functions,
};

/* -- arguments and answers ----------------------------------------------- */

void
hcl_bad_call(HclCall *c, const char *what)
{
	hcl_raise(c->ctx, c->e->pos, "%s(): %s", c->e->name, what);
}

HclValue *
hcl_arg_text(HclCall *c, size_t i)
{
	HclValue *v = hcl_to_string(c->ctx, c->args[i]);

	if (v == NULL || v->kind != HCL_STRING)
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): argument %zu must be text, not %s",
				  c->e->name,
				  i + 1,
				  hcl_kind_name(c->args[i]));
	return v;
}

long double
hcl_arg_number(HclCall *c, size_t i)
{
	HclValue *v = hcl_to_number(c->ctx, c->args[i]);

	if (v == NULL || v->kind != HCL_NUMBER)
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): argument %zu must be a number, not %s",
				  c->e->name,
				  i + 1,
				  hcl_kind_name(c->args[i]));
	return v->u.number;
}

long
hcl_arg_integer(HclCall *c, size_t i)
{
	long double n = hcl_arg_number(c, i);

	if (n != floorl(n) || fabsl(n) > 1e15L)
		hcl_raise(
			c->ctx, c->e->pos, "%s(): argument %zu must be a whole number", c->e->name, i + 1);
	return (long) n;
}

HclValue *
hcl_arg_list(HclCall *c, size_t i)
{
	HclValue *v = c->args[i];

	if (v->kind != HCL_LIST && v->kind != HCL_SET)
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): argument %zu must be a list, not %s",
				  c->e->name,
				  i + 1,
				  hcl_kind_name(v));
	return v;
}

HclValue *
hcl_arg_object(HclCall *c, size_t i)
{
	HclValue *v = c->args[i];

	if (v->kind != HCL_OBJECT)
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): argument %zu must be a map, not %s",
				  c->e->name,
				  i + 1,
				  hcl_kind_name(v));
	return v;
}

HclValue *
hcl_answer_list(HclCall *c, const HclVec *vec)
{
	return hcl_list(c->ctx, (HclValue **) vec->items, vec->n);
}

HclValue *
hcl_answer_text(HclCall *c, const char *s)
{
	return hcl_string(c->ctx, s);
}

bool
hcl_in_cutset(char ch, const char *set)
{
	return ch > 0 &&
		   strchr(set, ch) != NULL; /* ASCII only: a part of a character must not be cut */
}

void
hcl_append_json(HclCall *c, HclBuf *out, const HclValue *v)
{
	json_t *j = hcl_to_json(v);
	char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

	json_decref(j);
	if (s == NULL)
		hcl_bad_call(c, "cannot be written as JSON");
	hcl_append(c->ctx, out, s, strlen(s));
	free(s);
}

size_t
hcl_char_len(const char *s, size_t left)
{
	const unsigned char c = (unsigned char) *s;
	const size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

	return n <= left ? n : left;
}

size_t
hcl_count_chars(const HclValue *s)
{
	size_t at = 0;
	size_t n = 0;

	for (; at < s->u.str.len; n++)
		at += hcl_char_len(s->u.str.data + at, s->u.str.len - at);
	return n;
}

/* -- calls --------------------------------------------------------------- */

static int
by_name(const void *key, const void *row)
{
	return strcmp(key, ((const HclFunction *) row)->name);
}

static const HclFunction *
find_function(const char *name)
{
	const HclFunction *row = NULL;

	for (size_t i = 0; row == NULL && i < sizeof(tables) / sizeof(tables[0]); i++)
		row = bsearch(name, tables[i]->rows, tables[i]->n, sizeof(*row), by_name);
	return row;
}

HclValue *
hcl_call(HclCtx *ctx, const HclExpr *e, HclValue **args, size_t n)
{
	const HclFunction *row = find_function(e->name);
	HclCall c = {ctx, e, args, n};
	bool sensitive = false;
	HclValue *v;
	size_t i;

	if (row == NULL)
		hcl_raise(ctx, e->pos, "there is no function \"%.64s\"", e->name);
	if (n < (size_t) row->min || (row->max >= 0 && n > (size_t) row->max))
		hcl_raise(ctx, e->pos, "%s() got %zu arguments", e->name, n);
	for (i = 0; i < n; i++)
	{
		if (args[i]->kind == HCL_UNKNOWN && !row->unknowns)
			return args[i];
		sensitive = sensitive || args[i]->sensitive;
	}
	v = row->fn(&c);
	if (sensitive && !v->sensitive && !row->marks)
	{
		HclValue *copy = hcl_alloc(ctx, sizeof(*copy));

		*copy = *v;
		copy->sensitive = true;
		return copy;
	}
	return v;
}
