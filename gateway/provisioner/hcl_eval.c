/*
 * hcl_eval.c -- syntax trees of the configuration language to values
 *
 * Unknown values go through: an operation on one answers an unknown value.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl.h"

#include <math.h>
#include <string.h>

#define MAX_CHAIN 8 /* names handed to the resolver at once */

static const char ITEM[] = "*"; /* scope name of a splat's element: no identifier */

static const HclScope *
find_local(const HclScope *scope, const char *name)
{
	for (; scope != NULL; scope = scope->parent)
		if (scope->name != NULL && strcmp(scope->name, name) == 0)
			return scope;
	return NULL;
}

static const HclScope *
outermost(const HclScope *scope)
{
	while (scope != NULL && scope->parent != NULL)
		scope = scope->parent;
	return scope;
}

static HclValue *
mark(HclCtx *ctx, HclValue *v, bool sensitive)
{
	HclValue *copy;

	if (!sensitive || v->sensitive)
		return v;
	copy = hcl_alloc(ctx, sizeof(*copy));
	*copy = *v;
	copy->sensitive = true;
	return copy;
}

HclValue *
hcl_getattr(HclCtx *ctx, HclValue *v, const char *name, HclPos pos)
{
	HclValue *found;

	if (v->kind == HCL_UNKNOWN)
		return hcl_unknown(ctx);
	if (v->kind == HCL_NULL)
		hcl_raise(ctx, pos, "attribute \"%s\" of a null value", name);
	if (v->kind != HCL_OBJECT)
		hcl_raise(ctx, pos, "a %s has no attribute \"%s\"", hcl_kind_name(v), name);
	found = hcl_get(v, name);
	if (found != NULL)
		return mark(ctx, found, v->sensitive);
	if (v->open)
		return hcl_unknown(ctx);
	hcl_raise(ctx, pos, "there is no attribute \"%s\"", name);
}

HclValue *
hcl_index(HclCtx *ctx, HclValue *v, HclValue *key, HclPos pos)
{
	HclValue *n;

	if (v->kind == HCL_UNKNOWN || key->kind == HCL_UNKNOWN)
		return hcl_unknown(ctx);
	if (key->kind == HCL_NULL)
		hcl_raise(ctx, pos, "index is null");
	if (v->kind == HCL_OBJECT)
	{
		HclValue *text = hcl_to_string(ctx, key);

		if (text == NULL)
			hcl_raise(ctx, pos, "a key must be text");
		return hcl_getattr(ctx, v, text->u.str.data, pos);
	}
	if (v->kind != HCL_LIST)
		hcl_raise(ctx, pos, "a %s cannot be indexed", hcl_kind_name(v));
	n = hcl_to_number(ctx, key);
	if (n == NULL || n->kind != HCL_NUMBER || n->u.number != floorl(n->u.number))
		hcl_raise(ctx, pos, "an index must be a whole number");
	if (n->u.number < 0 || n->u.number >= (long double) v->u.list.n)
		hcl_raise(ctx,
				  pos,
				  "index %.0Lf is outside of the list of %zu elements",
				  n->u.number,
				  v->u.list.n);
	return mark(ctx, v->u.list.items[(size_t) n->u.number], v->sensitive);
}

/* A name, or a chain of names: what the resolver takes of it, then attributes. */
static HclValue *
eval_reference(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	const char *names[MAX_CHAIN];
	const HclExpr *links[MAX_CHAIN];
	const HclScope *found;
	const HclExpr *at;
	HclValue *v;
	size_t depth = 0;
	size_t taken = 1;
	size_t n;
	size_t i;

	for (at = e; at->kind == HX_ATTR; at = at->kids[0])
		depth++;
	if (at->kind != HX_VAR || depth >= MAX_CHAIN)
	{
		if (e->kind == HX_VAR)
			hcl_raise(ctx, e->pos, "there is no \"%s\" here", e->name);
		return hcl_getattr(ctx, hcl_eval(ctx, e->kids[0], scope), e->name, e->pos);
	}
	n = depth + 1;
	for (at = e, i = n; i-- > 0; at = at->kind == HX_ATTR ? at->kids[0] : at)
	{
		names[i] = at->name;
		links[i] = at;
	}
	found = find_local(scope, names[0]);
	if (found != NULL)
		v = found->value;
	else
	{
		const HclScope *root = outermost(scope);

		v = root != NULL && root->resolve != NULL ? root->resolve(root->arg, e, names, n, &taken)
												  : NULL;
		if (v == NULL)
			hcl_raise(ctx,
					  e->pos,
					  n > 1 ? "there is no \"%s.%s%s%s\"" : "there is no \"%s%s%s%s\"",
					  names[0],
					  n > 1 ? names[1] : "",
					  n > 2 ? "." : "",
					  n > 2 ? names[2] : "");
	}
	for (i = taken; i < n; i++)
		v = hcl_getattr(ctx, v, names[i], links[i]->pos);
	return v;
}

static void
append_text(HclCtx *ctx, HclBuf *buf, HclValue *v, HclPos pos)
{
	HclValue *text = hcl_to_string(ctx, v);

	if (text == NULL)
		hcl_raise(ctx, pos, "a %s cannot be part of a string", hcl_kind_name(v));
	if (text->kind == HCL_NULL)
		hcl_raise(ctx, pos, "a null value cannot be part of a string");
	hcl_append(ctx, buf, text->u.str.data, text->u.str.len);
}

static HclValue *
eval_template(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclBuf buf = {0};
	bool unknown = false;
	bool sensitive = false;
	size_t i;

	if (e->n == 1 && e->kids[0]->kind != HX_TPL_IF && e->kids[0]->kind != HX_TPL_FOR)
		return hcl_eval(ctx, e->kids[0], scope); /* "${x}" is x itself */
	for (i = 0; i < e->n; i++)
	{
		HclValue *v = hcl_eval(ctx, e->kids[i], scope);

		sensitive = sensitive || v->sensitive;
		if (v->kind == HCL_UNKNOWN)
			unknown = true;
		else if (!unknown)
			append_text(ctx, &buf, v, e->kids[i]->pos);
	}
	return mark(ctx, unknown ? hcl_unknown(ctx) : hcl_buf_string(ctx, &buf), sensitive);
}

static bool
eval_condition(HclCtx *ctx, const HclExpr *e, const HclScope *scope, bool *unknown)
{
	HclValue *v = hcl_to_bool(ctx, hcl_eval(ctx, e, scope));

	if (v == NULL || v->kind == HCL_NULL)
		hcl_raise(ctx, e->pos, "a condition must be true or false");
	*unknown = v->kind == HCL_UNKNOWN;
	return v->kind == HCL_BOOL && v->u.boolean;
}

static HclValue *
eval_tpl_if(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	bool unknown;
	const bool yes = eval_condition(ctx, e->kids[0], scope, &unknown);

	if (unknown)
		return hcl_unknown(ctx);
	if (yes)
		return hcl_eval(ctx, e->kids[1], scope);
	return e->kids[2] != NULL ? hcl_eval(ctx, e->kids[2], scope) : hcl_string(ctx, "");
}

/* Key and value of element i of a list, set or object. */
static void
element(HclCtx *ctx, HclValue *coll, size_t i, HclValue **key, HclValue **value)
{
	if (coll->kind == HCL_OBJECT)
	{
		*key = hcl_string(ctx, coll->u.map.items[i].key);
		*value = coll->u.map.items[i].value;
		return;
	}
	*value = coll->u.list.items[i];
	*key = coll->kind == HCL_SET ? *value : hcl_number(ctx, (long double) i);
}

static size_t
element_count(HclCtx *ctx, const HclValue *coll, HclPos pos)
{
	if (coll->kind == HCL_OBJECT)
		return coll->u.map.n;
	if (coll->kind != HCL_LIST && coll->kind != HCL_SET)
		hcl_raise(ctx, pos, "for needs a list, a set or an object, not a %s", hcl_kind_name(coll));
	return coll->u.list.n;
}

static HclValue *
eval_tpl_for(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *coll = hcl_eval(ctx, e->kids[0], scope);
	HclBuf buf = {0};
	size_t n;
	size_t i;

	if (coll->kind == HCL_UNKNOWN)
		return coll;
	n = element_count(ctx, coll, e->pos);
	for (i = 0; i < n; i++)
	{
		HclScope key_scope = {.parent = scope, .name = e->name};
		HclScope value_scope = {.parent = &key_scope, .name = e->name2};
		HclValue *v;

		element(ctx, coll, i, &key_scope.value, &value_scope.value);
		v = hcl_eval(ctx, e->kids[1], &value_scope);
		if (v->kind == HCL_UNKNOWN)
			return v;
		append_text(ctx, &buf, v, e->pos);
	}
	return hcl_buf_string(ctx, &buf);
}

static const char *
object_key(HclCtx *ctx, HclValue *key, HclPos pos)
{
	HclValue *text = hcl_to_string(ctx, key);

	if (text == NULL || text->kind == HCL_NULL)
		hcl_raise(ctx, pos, "a key must be text, not a %s", hcl_kind_name(key));
	return text->kind == HCL_UNKNOWN ? NULL : text->u.str.data;
}

static HclValue *
eval_object(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclMember *items = hcl_alloc(ctx, (e->n / 2 + 1) * sizeof(*items));
	size_t i;

	for (i = 0; i + 1 < e->n; i += 2)
	{
		const char *key = object_key(ctx, hcl_eval(ctx, e->kids[i], scope), e->kids[i]->pos);

		if (key == NULL)
			return hcl_unknown(ctx);
		items[i / 2] = (HclMember){key, hcl_eval(ctx, e->kids[i + 1], scope)};
	}
	return hcl_object(ctx, items, e->n / 2);
}

/* What a for expression gathers. */
typedef struct Gather
{
	HclVec values;
	HclVec keys;
	bool unknown;
} Gather;

static void
gather_grouped(HclCtx *ctx, Gather *g, const char *key, HclValue *v)
{
	size_t i;

	for (i = 0; i < g->keys.n; i++)
		if (strcmp(g->keys.items[i], key) == 0)
		{
			HclValue *list = g->values.items[i];
			HclVec vec = {(void **) list->u.list.items, list->u.list.n, list->u.list.n};

			hcl_push(ctx, &vec, v);
			list->u.list.items = (HclValue **) vec.items;
			list->u.list.n = vec.n;
			return;
		}
	{
		HclValue **items = hcl_alloc(ctx, sizeof(*items));

		items[0] = v;
		hcl_push(ctx, &g->keys, (void *) (uintptr_t) key);
		hcl_push(ctx, &g->values, hcl_list(ctx, items, 1));
	}
}

static void
for_element(HclCtx *ctx, const HclExpr *e, const HclScope *scope, Gather *g)
{
	const char *key;
	bool unknown = false;
	HclValue *v;

	if (e->kids[3] != NULL && !eval_condition(ctx, e->kids[3], scope, &unknown) && !unknown)
		return;
	g->unknown = g->unknown || unknown;
	if (e->kids[1] == NULL)
	{
		hcl_push(ctx, &g->values, hcl_eval(ctx, e->kids[2], scope));
		return;
	}
	key = object_key(ctx, hcl_eval(ctx, e->kids[1], scope), e->kids[1]->pos);
	v = hcl_eval(ctx, e->kids[2], scope);
	if (key == NULL)
		g->unknown = true;
	else if (e->flag)
		gather_grouped(ctx, g, key, v);
	else
	{
		hcl_push(ctx, &g->keys, (void *) (uintptr_t) key);
		hcl_push(ctx, &g->values, v);
	}
}

static HclValue *
eval_for(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *coll = hcl_eval(ctx, e->kids[0], scope);
	HclMember *items;
	Gather g = {0};
	HclValue *v;
	size_t n;
	size_t i;

	if (coll->kind == HCL_UNKNOWN)
		return coll;
	n = element_count(ctx, coll, e->pos);
	for (i = 0; i < n; i++)
	{
		HclScope key_scope = {.parent = scope, .name = e->name};
		HclScope value_scope = {.parent = &key_scope, .name = e->name2};

		hcl_step(ctx, e->pos);
		element(ctx, coll, i, &key_scope.value, &value_scope.value);
		for_element(ctx, e, &value_scope, &g);
	}
	if (g.unknown)
		return hcl_unknown(ctx);
	if (e->kids[1] == NULL)
		return hcl_list(ctx, (HclValue **) g.values.items, g.values.n);
	items = hcl_alloc(ctx, (g.keys.n + 1) * sizeof(*items));
	for (i = 0; i < g.keys.n; i++)
		items[i] = (HclMember){g.keys.items[i], g.values.items[i]};
	v = hcl_object(ctx, items, g.keys.n);
	if (v->u.map.n != g.keys.n)
		hcl_raise(
			ctx, e->pos, "for makes the same key twice; \"...\" behind the value would group them");
	return v;
}

static HclValue *
eval_splat(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *coll = hcl_eval(ctx, e->kids[0], scope);
	HclScope item = {.parent = scope, .name = ITEM};
	HclValue **items;
	size_t i;

	if (coll->kind == HCL_UNKNOWN)
		return coll;
	if (coll->kind == HCL_NULL)
		return hcl_list(ctx, NULL, 0);
	if (coll->kind != HCL_LIST && coll->kind != HCL_SET)
	{
		items = hcl_alloc(ctx, sizeof(*items));
		item.value = coll;
		items[0] = hcl_eval(ctx, e->kids[1], &item);
		return hcl_list(ctx, items, 1);
	}
	items = hcl_alloc(ctx, (coll->u.list.n + 1) * sizeof(*items));
	for (i = 0; i < coll->u.list.n; i++)
	{
		item.value = coll->u.list.items[i];
		items[i] = hcl_eval(ctx, e->kids[1], &item);
	}
	return hcl_list(ctx, items, coll->u.list.n);
}

/* -- operators ----------------------------------------------------------- */

static long double
operand(HclCtx *ctx, HclValue *v, const HclExpr *e)
{
	HclValue *n = hcl_to_number(ctx, v);

	if (n == NULL || n->kind != HCL_NUMBER)
		hcl_raise(ctx, e->pos, "a number is needed, not a %s", hcl_kind_name(v));
	return n->u.number;
}

static bool
truth(HclCtx *ctx, HclValue *v, const HclExpr *e)
{
	HclValue *b = hcl_to_bool(ctx, v);

	if (b == NULL || b->kind != HCL_BOOL)
		hcl_raise(ctx, e->pos, "true or false is needed, not a %s", hcl_kind_name(v));
	return b->u.boolean;
}

static HclValue *
arithmetic(HclCtx *ctx, const HclExpr *e, long double a, long double b)
{
	switch (e->op)
	{
		case '+':
			return hcl_number(ctx, a + b);
		case '-':
			return hcl_number(ctx, a - b);
		case '*':
			return hcl_number(ctx, a * b);
		case '/':
			if (b == 0)
				hcl_raise(ctx, e->pos, "division by zero");
			return hcl_number(ctx, a / b);
		case '%':
			if (b == 0)
				hcl_raise(ctx, e->pos, "division by zero");
			return hcl_number(ctx, fmodl(a, b));
		case '<':
			return hcl_bool(ctx, a < b);
		case '>':
			return hcl_bool(ctx, a > b);
		case 'l':
			return hcl_bool(ctx, a <= b);
		default:
			return hcl_bool(ctx, a >= b);
	}
}

static HclValue *
eval_binary(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *a = hcl_eval(ctx, e->kids[0], scope);
	HclValue *b;
	HclValue *v;

	if ((e->op == '|' || e->op == '&') && a->kind != HCL_UNKNOWN &&
		truth(ctx, a, e->kids[0]) == (e->op == '|'))
		return hcl_bool(ctx, e->op == '|');
	b = hcl_eval(ctx, e->kids[1], scope);
	if (e->op == 'e' || e->op == 'n')
	{
		if (!hcl_is_known(a) || !hcl_is_known(b))
			return hcl_unknown(ctx);
		v = hcl_bool(ctx, hcl_equal(a, b) == (e->op == 'e'));
	}
	else if (a->kind == HCL_UNKNOWN || b->kind == HCL_UNKNOWN)
		return hcl_unknown(ctx);
	else if (e->op == '|' || e->op == '&')
		v = hcl_bool(ctx, truth(ctx, b, e->kids[1]));
	else
		v = arithmetic(ctx, e, operand(ctx, a, e->kids[0]), operand(ctx, b, e->kids[1]));
	if (v->kind == HCL_NUMBER && !isfinite(v->u.number))
		hcl_raise(ctx, e->pos, "number is out of range");
	return mark(ctx, v, a->sensitive || b->sensitive);
}

static HclValue *
eval_unary(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *v = hcl_eval(ctx, e->kids[0], scope);

	if (v->kind == HCL_UNKNOWN)
		return v;
	if (e->op == '!')
		return hcl_bool(ctx, !truth(ctx, v, e->kids[0]));
	return hcl_number(ctx, -operand(ctx, v, e->kids[0]));
}

/* The types of both sides are made one, as far as primitives go. */
static HclValue *
eval_cond(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	bool unknown;
	const bool yes = eval_condition(ctx, e->kids[0], scope, &unknown);

	if (unknown)
		return hcl_unknown(ctx);
	return hcl_eval(ctx, e->kids[yes ? 1 : 2], scope);
}

/* -- calls --------------------------------------------------------------- */

typedef struct TryArg
{
	HclCtx *ctx;
	const HclExpr *e;
	const HclScope *scope;
	HclValue *value;
} TryArg;

static void
try_one(void *arg)
{
	TryArg *t = arg;

	t->value = hcl_eval(t->ctx, t->e, t->scope);
}

/* try() and can() look at their arguments themselves. */
static HclValue *
eval_try(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	const bool can = strcmp(e->name, "can") == 0;
	TryArg t = {ctx, NULL, scope, NULL};
	size_t i;

	if (e->n == 0 || (can && e->n != 1))
		hcl_raise(ctx, e->pos, can ? "can() takes one argument" : "try() needs an argument");
	for (i = 0; i < e->n; i++)
	{
		t.e = e->kids[i];
		if (hcl_guard(ctx, try_one, &t))
			return can ? (hcl_is_known(t.value) ? hcl_bool(ctx, true) : hcl_unknown(ctx)) : t.value;
		if (ctx->steps > HCL_MAX_STEPS || ctx->used > HCL_MAX_MEMORY)
			hcl_rethrow(ctx);
	}
	if (can)
		return hcl_bool(ctx, false);
	hcl_rethrow(ctx);
}

static HclValue *
eval_call(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclVec args = {0};
	size_t i;
	size_t j;

	if (strcmp(e->name, "try") == 0 || strcmp(e->name, "can") == 0)
		return eval_try(ctx, e, scope);
	for (i = 0; i < e->n; i++)
	{
		HclValue *v = hcl_eval(ctx, e->kids[i], scope);

		if (!e->flag || i + 1 < e->n)
		{
			hcl_push(ctx, &args, v);
			continue;
		}
		if (v->kind == HCL_UNKNOWN)
			return v;
		if (v->kind != HCL_LIST && v->kind != HCL_SET)
			hcl_raise(ctx, e->pos, "\"...\" needs a list");
		for (j = 0; j < v->u.list.n; j++)
			hcl_push(ctx, &args, v->u.list.items[j]);
	}
	return hcl_call(ctx, e, (HclValue **) args.items, args.n);
}

static HclValue *
eval_tuple(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue **items = hcl_alloc(ctx, (e->n + 1) * sizeof(*items));
	size_t i;

	for (i = 0; i < e->n; i++)
		items[i] = hcl_eval(ctx, e->kids[i], scope);
	return hcl_list(ctx, items, e->n);
}

static HclValue *
eval_kind(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	const HclScope *item;

	switch (e->kind)
	{
		case HX_LITERAL:
			return e->value;
		case HX_TEMPLATE:
			return eval_template(ctx, e, scope);
		case HX_TUPLE:
			return eval_tuple(ctx, e, scope);
		case HX_OBJECT:
			return eval_object(ctx, e, scope);
		case HX_VAR:
		case HX_ATTR:
			return eval_reference(ctx, e, scope);
		case HX_INDEX:
			return hcl_index(
				ctx, hcl_eval(ctx, e->kids[0], scope), hcl_eval(ctx, e->kids[1], scope), e->pos);
		case HX_SPLAT:
			return eval_splat(ctx, e, scope);
		case HX_ITEM:
			item = find_local(scope, ITEM);
			return item != NULL ? item->value : hcl_unknown(ctx);
		case HX_CALL:
			return eval_call(ctx, e, scope);
		case HX_COND:
			return eval_cond(ctx, e, scope);
		case HX_FOR:
			return eval_for(ctx, e, scope);
		case HX_BINARY:
			return eval_binary(ctx, e, scope);
		case HX_UNARY:
			return eval_unary(ctx, e, scope);
		case HX_TPL_IF:
			return eval_tpl_if(ctx, e, scope);
		case HX_TPL_FOR:
			return eval_tpl_for(ctx, e, scope);
	}
	return hcl_null(ctx);
}

HclValue *
hcl_eval(HclCtx *ctx, const HclExpr *e, const HclScope *scope)
{
	HclValue *v;

	hcl_step(ctx, e->pos);
	hcl_enter(ctx, e->pos);
	v = eval_kind(ctx, e, scope);
	ctx->depth--;
	return v;
}

/* -- bodies -------------------------------------------------------------- */

/* Appends the object of one nested block to the list of its type. */
static void
add_nested(HclCtx *ctx, HclVec *types, HclVec *lists, const char *type, HclValue *object)
{
	size_t i;

	for (i = 0; i < types->n; i++)
		if (strcmp(types->items[i], type) == 0)
			break;
	if (i == types->n)
	{
		hcl_push(ctx, types, (void *) (uintptr_t) type);
		hcl_push(ctx, lists, hcl_alloc(ctx, sizeof(HclVec)));
	}
	hcl_push(ctx, lists->items[i], object);
}

/* dynamic "type" { for_each, iterator, content {} } */
static void
add_dynamic(HclCtx *ctx, HclVec *types, HclVec *lists, const HclBlock *block, const HclScope *scope)
{
	const HclAttr *each = hcl_attr(&block->body, "for_each");
	const HclAttr *iterator = hcl_attr(&block->body, "iterator");
	const HclBlock *content = NULL;
	const char *name;
	HclValue *coll;
	size_t n;
	size_t i;

	for (i = 0; i < block->body.nblocks; i++)
		if (strcmp(block->body.blocks[i]->type, "content") == 0)
			content = block->body.blocks[i];
	if (block->nlabels != 1 || each == NULL || content == NULL)
		hcl_raise(ctx, block->pos, "dynamic needs a label, for_each and a content block");
	name = iterator != NULL && iterator->expr->kind == HX_VAR ? iterator->expr->name
															  : block->labels[0];
	coll = hcl_eval(ctx, each->expr, scope);
	if (coll->kind == HCL_UNKNOWN || coll->kind == HCL_NULL)
		return;
	n = element_count(ctx, coll, each->pos);
	for (i = 0; i < n; i++)
	{
		HclMember members[2] = {{"key", NULL}, {"value", NULL}};
		HclScope inner = {.parent = scope, .name = name};

		element(ctx, coll, i, &members[0].value, &members[1].value);
		inner.value = hcl_object(ctx, members, 2);
		add_nested(ctx, types, lists, block->labels[0], hcl_eval_body(ctx, &content->body, &inner));
	}
}

/*
 * A body as an object: an attribute is a member, the nested blocks of one type
 * are a list of objects.  count, for_each, depends_on and the like stay out.
 */
HclValue *
hcl_eval_body(HclCtx *ctx, const HclBody *body, const HclScope *scope)
{
	HclVec types = {0};
	HclVec lists = {0};
	HclMember *items;
	size_t n = 0;
	size_t i;

	for (i = 0; i < body->nblocks; i++)
	{
		const HclBlock *block = body->blocks[i];

		if (strcmp(block->type, "dynamic") == 0)
			add_dynamic(ctx, &types, &lists, block, scope);
		else if (strcmp(block->type, "lifecycle") != 0 && strcmp(block->type, "provisioner") != 0 &&
				 strcmp(block->type, "connection") != 0)
			add_nested(ctx, &types, &lists, block->type, hcl_eval_body(ctx, &block->body, scope));
	}
	items = hcl_alloc(ctx, (body->nattrs + types.n + 1) * sizeof(*items));
	for (i = 0; i < body->nattrs; i++)
	{
		const char *name = body->attrs[i].name;

		if (strcmp(name, "count") != 0 && strcmp(name, "for_each") != 0 &&
			strcmp(name, "depends_on") != 0 && strcmp(name, "provider") != 0 &&
			strcmp(name, "providers") != 0)
			items[n++] = (HclMember){name, hcl_eval(ctx, body->attrs[i].expr, scope)};
	}
	for (i = 0; i < types.n; i++)
	{
		HclVec *list = lists.items[i];

		items[n++] = (HclMember){types.items[i], hcl_list(ctx, (HclValue **) list->items, list->n)};
	}
	return hcl_object(ctx, items, n);
}

/* -- types --------------------------------------------------------------- */

static HclValue *
convert_elements(HclCtx *ctx, HclValue *v, const HclExpr *type, HclPos pos)
{
	const char *name = type->name;
	const HclExpr *inner = type->n > 0 ? type->kids[0] : NULL;
	HclValue **items;
	HclMember *members;
	HclValue *out;
	size_t i;

	if (strcmp(name, "map") == 0)
	{
		if (v->kind != HCL_OBJECT)
			hcl_raise(ctx, pos, "a map is needed, not a %s", hcl_kind_name(v));
		members = hcl_alloc(ctx, (v->u.map.n + 1) * sizeof(*members));
		for (i = 0; i < v->u.map.n; i++)
			members[i] =
				(HclMember){v->u.map.items[i].key,
							inner != NULL ? hcl_convert(ctx, v->u.map.items[i].value, inner, pos)
										  : v->u.map.items[i].value};
		return hcl_object(ctx, members, v->u.map.n);
	}
	if (v->kind != HCL_LIST && v->kind != HCL_SET)
		hcl_raise(ctx, pos, "a %s is needed, not a %s", name, hcl_kind_name(v));
	items = hcl_alloc(ctx, (v->u.list.n + 1) * sizeof(*items));
	for (i = 0; i < v->u.list.n; i++)
		items[i] = inner != NULL && strcmp(name, "tuple") != 0
					   ? hcl_convert(ctx, v->u.list.items[i], inner, pos)
					   : v->u.list.items[i];
	out = strcmp(name, "set") == 0 ? hcl_set(ctx, items, v->u.list.n)
								   : hcl_list(ctx, items, v->u.list.n);
	return out;
}

/* object({ name = type, other = optional(type, default) }) */
static HclValue *
convert_object(HclCtx *ctx, HclValue *v, const HclExpr *type, HclPos pos)
{
	const HclExpr *fields = type->n == 1 && type->kids[0]->kind == HX_OBJECT ? type->kids[0] : NULL;
	HclMember *members;
	size_t i;

	if (v->kind != HCL_OBJECT)
		hcl_raise(ctx, pos, "an object is needed, not a %s", hcl_kind_name(v));
	if (fields == NULL)
		return v;
	members = hcl_alloc(ctx, (fields->n / 2 + 1) * sizeof(*members));
	for (i = 0; i + 1 < fields->n; i += 2)
	{
		const HclExpr *want = fields->kids[i + 1];
		const bool optional =
			want->kind == HX_CALL && strcmp(want->name, "optional") == 0 && want->n > 0;
		const char *key =
			fields->kids[i]->kind == HX_LITERAL ? object_key(ctx, fields->kids[i]->value, pos) : "";
		HclValue *item = hcl_get(v, key);

		if (item == NULL && !optional)
			hcl_raise(ctx, pos, "attribute \"%s\" is missing", key);
		if (optional && (item == NULL || item->kind == HCL_NULL))
			item = want->n > 1 ? hcl_eval(ctx, want->kids[1], NULL) : hcl_null(ctx);
		members[i / 2] =
			(HclMember){key, hcl_convert(ctx, item, optional ? want->kids[0] : want, pos)};
	}
	return hcl_object(ctx, members, fields->n / 2);
}

/* v as the type that the expression of a variable's "type" names. */
HclValue *
hcl_convert(HclCtx *ctx, HclValue *v, const HclExpr *type, HclPos pos)
{
	HclValue *out = NULL;
	const char *name = type->name;

	if (type->kind == HX_LITERAL && type->value->kind == HCL_STRING)
		name = type->value->u.str.data; /* the quoted form of old */
	if (v->kind == HCL_NULL || v->kind == HCL_UNKNOWN || name == NULL || strcmp(name, "any") == 0)
		return v;
	hcl_enter(ctx, pos);
	if (strcmp(name, "string") == 0)
		out = hcl_to_string(ctx, v);
	else if (strcmp(name, "number") == 0)
		out = hcl_to_number(ctx, v);
	else if (strcmp(name, "bool") == 0)
		out = hcl_to_bool(ctx, v);
	else if (strcmp(name, "object") == 0)
		out = convert_object(ctx, v, type, pos);
	else if (strcmp(name, "list") == 0 || strcmp(name, "set") == 0 || strcmp(name, "map") == 0 ||
			 strcmp(name, "tuple") == 0)
		out = convert_elements(ctx, v, type, pos);
	else
		hcl_raise(ctx, pos, "there is no type \"%s\"", name);
	if (out == NULL)
		hcl_raise(ctx, pos, "a %s is needed, not a %s", name, hcl_kind_name(v));
	ctx->depth--;
	return mark(ctx, out, v->sensitive);
}
