/*
 * hcl_func_list.c -- functions of lists, sets and maps, and conversions
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_func.h"

#include <stdlib.h>
#include <string.h>

#define MAX_RANGE 100000

/* -- collections --------------------------------------------------------- */

static HclValue *
f_length(HclCall *c)
{
	const HclValue *v = c->args[0];

	if (v->kind == HCL_UNKNOWN)
		return hcl_unknown(c->ctx);
	if (v->kind == HCL_STRING)
		return hcl_number(c->ctx, (long double) hcl_count_chars(v));
	if (v->kind == HCL_OBJECT)
		return hcl_number(c->ctx, (long double) v->u.map.n);
	return hcl_number(c->ctx, (long double) hcl_arg_list(c, 0)->u.list.n);
}

static HclValue *
all_or_any(HclCall *c, bool all)
{
	const HclValue *v = hcl_arg_list(c, 0);
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		const HclValue *b = hcl_to_bool(c->ctx, v->u.list.items[i]);

		if ((b != NULL && b->kind == HCL_BOOL && b->u.boolean) != all)
			return hcl_bool(c->ctx, !all);
	}
	return hcl_bool(c->ctx, all);
}

static HclValue *
f_alltrue(HclCall *c)
{
	return all_or_any(c, true);
}

static HclValue *
f_anytrue(HclCall *c)
{
	return all_or_any(c, false);
}

static HclValue *
f_coalesce(HclCall *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
	{
		const HclValue *v = c->args[i];

		if (v->kind == HCL_UNKNOWN)
			return hcl_unknown(c->ctx);
		if (v->kind != HCL_NULL && !(v->kind == HCL_STRING && v->u.str.len == 0))
			return c->args[i];
	}
	hcl_bad_call(c, "every argument is null or empty");
}

static HclValue *
f_coalescelist(HclCall *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (c->args[i]->kind != HCL_NULL && hcl_arg_list(c, i)->u.list.n > 0)
			return c->args[i];
	hcl_bad_call(c, "every list is empty");
}

static HclValue *
f_compact(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		const HclValue *item = v->u.list.items[i];

		if (item->kind != HCL_NULL && !(item->kind == HCL_STRING && item->u.str.len == 0))
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return hcl_answer_list(c, &out);
}

static HclValue *
f_concat(HclCall *c)
{
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; j < hcl_arg_list(c, i)->u.list.n; j++)
			hcl_push(c->ctx, &out, c->args[i]->u.list.items[j]);
	return hcl_answer_list(c, &out);
}

static bool
member_of(const HclValue *v, const HclValue *item)
{
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
		if (hcl_equal(v->u.list.items[i], item))
			return true;
	return false;
}

static HclValue *
f_contains(HclCall *c)
{
	return hcl_bool(c->ctx, member_of(hcl_arg_list(c, 0), c->args[1]));
}

static HclValue *
f_distinct(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		const HclValue seen = {.kind = HCL_LIST, .u.list = {(HclValue **) out.items, out.n}};

		hcl_step(c->ctx, c->e->pos);
		if (!member_of(&seen, v->u.list.items[i]))
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return hcl_answer_list(c, &out);
}

static HclValue *
f_element(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	const long i = hcl_arg_integer(c, 1);

	if (v->u.list.n == 0 || i < 0)
		hcl_bad_call(c, "the list is empty, or the index is negative");
	return v->u.list.items[(size_t) i % v->u.list.n];
}

static void
flatten(HclCall *c, const HclValue *v, HclVec *out)
{
	size_t i;

	hcl_enter(c->ctx, c->e->pos);
	for (i = 0; i < v->u.list.n; i++)
		if (v->u.list.items[i]->kind == HCL_LIST || v->u.list.items[i]->kind == HCL_SET)
			flatten(c, v->u.list.items[i], out);
		else
			hcl_push(c->ctx, out, v->u.list.items[i]);
	c->ctx->depth--;
}

static HclValue *
f_flatten(HclCall *c)
{
	HclVec out = {0};

	flatten(c, hcl_arg_list(c, 0), &out);
	return hcl_answer_list(c, &out);
}

static HclValue *
f_index(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
		if (hcl_equal(v->u.list.items[i], c->args[1]))
			return hcl_number(c->ctx, (long double) i);
	hcl_bad_call(c, "the list has no such element");
}

static HclValue *
f_keys(HclCall *c)
{
	const HclValue *v = hcl_arg_object(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.map.n; i++)
		hcl_push(c->ctx, &out, hcl_answer_text(c, v->u.map.items[i].key));
	return hcl_answer_list(c, &out);
}

static HclValue *
f_values(HclCall *c)
{
	const HclValue *v = hcl_arg_object(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.map.n; i++)
		hcl_push(c->ctx, &out, v->u.map.items[i].value);
	return hcl_answer_list(c, &out);
}

static HclValue *
f_lookup(HclCall *c)
{
	HclValue *found = hcl_get(hcl_arg_object(c, 0), hcl_arg_text(c, 1)->u.str.data);

	if (found != NULL)
		return found;
	if (c->n < 3)
		hcl_bad_call(c, "the map has no such key");
	return c->args[2];
}

static HclValue *
f_merge(HclCall *c)
{
	HclVec members = {0};
	HclMember *items;
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; c->args[i]->kind != HCL_NULL && j < hcl_arg_object(c, i)->u.map.n; j++)
			hcl_push(c->ctx, &members, &c->args[i]->u.map.items[j]);
	items = hcl_alloc(c->ctx, (members.n + 1) * sizeof(*items));
	for (i = 0; i < members.n; i++)
		items[i] = *(HclMember *) members.items[i];
	return hcl_object(c->ctx, items, members.n);
}

static HclValue *
f_map(HclCall *c)
{
	HclMember *items = hcl_alloc(c->ctx, (c->n / 2 + 1) * sizeof(*items));
	size_t i;

	if (c->n % 2 != 0)
		hcl_bad_call(c, "every key needs a value");
	for (i = 0; i < c->n; i += 2)
		items[i / 2] = (HclMember){hcl_arg_text(c, i)->u.str.data, c->args[i + 1]};
	return hcl_object(c->ctx, items, c->n / 2);
}

static HclValue *
f_list(HclCall *c)
{
	return hcl_list(c->ctx, c->args, c->n);
}

static HclValue *
f_matchkeys(HclCall *c)
{
	const HclValue *values = hcl_arg_list(c, 0);
	const HclValue *keys = hcl_arg_list(c, 1);
	HclVec out = {0};
	size_t i;

	if (values->u.list.n != keys->u.list.n)
		hcl_bad_call(c, "values and keys differ in length");
	for (i = 0; i < keys->u.list.n; i++)
		if (member_of(hcl_arg_list(c, 2), keys->u.list.items[i]))
			hcl_push(c->ctx, &out, values->u.list.items[i]);
	return hcl_answer_list(c, &out);
}

static HclValue *
f_one(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);

	if (v->u.list.n > 1)
		hcl_bad_call(c, "the list has more than one element");
	return v->u.list.n == 1 ? v->u.list.items[0] : hcl_null(c->ctx);
}

static HclValue *
f_reverse(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = v->u.list.n; i-- > 0;)
		hcl_push(c->ctx, &out, v->u.list.items[i]);
	return hcl_answer_list(c, &out);
}

static HclValue *
f_slice(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	const long from = hcl_arg_integer(c, 1);
	const long to = hcl_arg_integer(c, 2);

	if (from < 0 || to < from || (size_t) to > v->u.list.n)
		hcl_bad_call(c, "the range is outside of the list");
	return hcl_list(c->ctx, v->u.list.items + from, (size_t) (to - from));
}

static HclValue *
f_chunklist(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	const long size = hcl_arg_integer(c, 1);
	HclVec out = {0};
	size_t i;

	if (size < 1)
		hcl_bad_call(c, "the size must be 1 or more");
	for (i = 0; i < v->u.list.n; i += (size_t) size)
		hcl_push(c->ctx,
				 &out,
				 hcl_list(c->ctx,
						  v->u.list.items + i,
						  v->u.list.n - i < (size_t) size ? v->u.list.n - i : (size_t) size));
	return hcl_answer_list(c, &out);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp((*(HclValue *const *) a)->u.str.data, (*(HclValue *const *) b)->u.str.data);
}

static HclValue *
f_sort(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	HclValue **items = hcl_alloc(c->ctx, (v->u.list.n + 1) * sizeof(*items));
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		items[i] = hcl_to_string(c->ctx, v->u.list.items[i]);
		if (items[i] == NULL || items[i]->kind != HCL_STRING)
			hcl_bad_call(c, "an element is not text");
	}
	qsort(items, v->u.list.n, sizeof(*items), by_text);
	return hcl_list(c->ctx, items, v->u.list.n);
}

static HclValue *
f_transpose(HclCall *c)
{
	const HclValue *v = hcl_arg_object(c, 0);
	HclValue *out = hcl_object(c->ctx, NULL, 0);
	size_t i;
	size_t j;

	for (i = 0; i < v->u.map.n; i++)
	{
		const HclValue *items = v->u.map.items[i].value;

		for (j = 0; (items->kind == HCL_LIST || items->kind == HCL_SET) && j < items->u.list.n; j++)
		{
			HclValue *key = hcl_to_string(c->ctx, items->u.list.items[j]);
			HclValue *old;
			HclVec vec = {0};
			size_t k;

			if (key == NULL || key->kind != HCL_STRING)
				hcl_bad_call(c, "an element is not text");
			old = hcl_get(out, key->u.str.data);
			for (k = 0; old != NULL && k < old->u.list.n; k++)
				hcl_push(c->ctx, &vec, old->u.list.items[k]);
			hcl_push(c->ctx, &vec, hcl_answer_text(c, v->u.map.items[i].key));
			out = hcl_with(c->ctx, out, key->u.str.data, hcl_answer_list(c, &vec));
		}
	}
	return out;
}

static HclValue *
f_zipmap(HclCall *c)
{
	const HclValue *keys = hcl_arg_list(c, 0);
	const HclValue *values = hcl_arg_list(c, 1);
	HclMember *items = hcl_alloc(c->ctx, (keys->u.list.n + 1) * sizeof(*items));
	size_t i;

	if (keys->u.list.n != values->u.list.n)
		hcl_bad_call(c, "keys and values differ in length");
	for (i = 0; i < keys->u.list.n; i++)
	{
		HclValue *key = hcl_to_string(c->ctx, keys->u.list.items[i]);

		if (key == NULL || key->kind != HCL_STRING)
			hcl_bad_call(c, "a key is not text");
		items[i] = (HclMember){key->u.str.data, values->u.list.items[i]};
	}
	return hcl_object(c->ctx, items, keys->u.list.n);
}

static HclValue *
f_setunion(HclCall *c)
{
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; j < hcl_arg_list(c, i)->u.list.n; j++)
			hcl_push(c->ctx, &out, c->args[i]->u.list.items[j]);
	return hcl_set(c->ctx, (HclValue **) out.items, out.n);
}

static HclValue *
set_filter(HclCall *c, bool keep)
{
	const HclValue *v = hcl_arg_list(c, 0);
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < v->u.list.n; i++)
	{
		bool in = true;

		for (j = 1; j < c->n; j++)
			in = member_of(hcl_arg_list(c, j), v->u.list.items[i]) && in;
		if (in == keep)
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return hcl_set(c->ctx, (HclValue **) out.items, out.n);
}

static HclValue *
f_setintersection(HclCall *c)
{
	return set_filter(c, true);
}

static HclValue *
f_setsubtract(HclCall *c)
{
	return set_filter(c, false);
}

static HclValue *
f_setproduct(HclCall *c)
{
	size_t total = 1;
	HclVec out = {0};
	size_t i;
	size_t k;

	for (i = 0; i < c->n; i++)
	{
		total *= hcl_arg_list(c, i)->u.list.n;
		if (total > MAX_RANGE)
			hcl_bad_call(c, "more than 100000 elements");
	}
	for (k = 0; k < total; k++)
	{
		HclValue **row = hcl_alloc(c->ctx, c->n * sizeof(*row));
		size_t left = k;

		for (i = c->n; i-- > 0; left /= c->args[i]->u.list.n)
			row[i] = c->args[i]->u.list.items[left % c->args[i]->u.list.n];
		hcl_push(c->ctx, &out, hcl_list(c->ctx, row, c->n));
	}
	return hcl_answer_list(c, &out);
}

/* -- conversions --------------------------------------------------------- */

static HclValue *
converted(HclCall *c, HclValue *v)
{
	if (v == NULL)
		hcl_bad_call(c, "the value cannot be converted");
	return v;
}

static HclValue *
f_tostring(HclCall *c)
{
	return converted(c, hcl_to_string(c->ctx, c->args[0]));
}

static HclValue *
f_tonumber(HclCall *c)
{
	return converted(c, hcl_to_number(c->ctx, c->args[0]));
}

static HclValue *
f_tobool(HclCall *c)
{
	return converted(c, hcl_to_bool(c->ctx, c->args[0]));
}

static HclValue *
f_tolist(HclCall *c)
{
	if (c->args[0]->kind == HCL_NULL)
		return c->args[0];
	return hcl_list(c->ctx, hcl_arg_list(c, 0)->u.list.items, c->args[0]->u.list.n);
}

static HclValue *
f_toset(HclCall *c)
{
	if (c->args[0]->kind == HCL_NULL)
		return c->args[0];
	return hcl_set(c->ctx, hcl_arg_list(c, 0)->u.list.items, c->args[0]->u.list.n);
}

static HclValue *
f_tomap(HclCall *c)
{
	return c->args[0]->kind == HCL_NULL ? c->args[0] : hcl_arg_object(c, 0);
}

static HclValue *
flagged(HclCall *c, bool sensitive)
{
	HclValue *v = hcl_alloc(c->ctx, sizeof(*v));

	*v = *c->args[0];
	v->sensitive = sensitive;
	return v;
}

static HclValue *
f_sensitive(HclCall *c)
{
	return flagged(c, true);
}

static HclValue *
f_nonsensitive(HclCall *c)
{
	return flagged(c, false);
}

static HclValue *
f_issensitive(HclCall *c)
{
	return hcl_bool(c->ctx, c->args[0]->sensitive);
}

/* -- table --------------------------------------------------------------- */

static const HclFunction functions[] = {
	{"alltrue", f_alltrue, 1, 1, false, false},
	{"anytrue", f_anytrue, 1, 1, false, false},
	{"chunklist", f_chunklist, 2, 2, false, false},
	{"coalesce", f_coalesce, 1, -1, true, false},
	{"coalescelist", f_coalescelist, 1, -1, false, false},
	{"compact", f_compact, 1, 1, false, false},
	{"concat", f_concat, 1, -1, false, false},
	{"contains", f_contains, 2, 2, false, false},
	{"distinct", f_distinct, 1, 1, false, false},
	{"element", f_element, 2, 2, false, false},
	{"flatten", f_flatten, 1, 1, false, false},
	{"index", f_index, 2, 2, false, false},
	{"issensitive", f_issensitive, 1, 1, true, true},
	{"keys", f_keys, 1, 1, false, false},
	{"length", f_length, 1, 1, true, false},
	{"list", f_list, 0, -1, true, false},
	{"lookup", f_lookup, 2, 3, false, false},
	{"map", f_map, 0, -1, false, false},
	{"matchkeys", f_matchkeys, 3, 3, false, false},
	{"merge", f_merge, 0, -1, false, false},
	{"nonsensitive", f_nonsensitive, 1, 1, true, true},
	{"one", f_one, 1, 1, false, false},
	{"reverse", f_reverse, 1, 1, false, false},
	{"sensitive", f_sensitive, 1, 1, true, false},
	{"setintersection", f_setintersection, 1, -1, false, false},
	{"setproduct", f_setproduct, 1, -1, false, false},
	{"setsubtract", f_setsubtract, 2, 2, false, false},
	{"setunion", f_setunion, 1, -1, false, false},
	{"slice", f_slice, 3, 3, false, false},
	{"sort", f_sort, 1, 1, false, false},
	{"tobool", f_tobool, 1, 1, false, false},
	{"tolist", f_tolist, 1, 1, false, false},
	{"tomap", f_tomap, 1, 1, false, false},
	{"tonumber", f_tonumber, 1, 1, false, false},
	{"toset", f_toset, 1, 1, false, false},
	{"tostring", f_tostring, 1, 1, false, false},
	{"transpose", f_transpose, 1, 1, false, false},
	{"values", f_values, 1, 1, false, false},
	{"zipmap", f_zipmap, 2, 2, false, false},
};

const HclFunctions hcl_list_functions = HCL_FUNCTIONS(functions);
