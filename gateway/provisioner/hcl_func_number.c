/*
 * hcl_func_number.c -- functions of numbers
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_func.h"

#include <ctype.h>
#include <math.h>

#define MAX_RANGE 100000

static HclValue *
f_abs(HclCall *c)
{
	return hcl_number(c->ctx, fabsl(hcl_arg_number(c, 0)));
}

static HclValue *
f_ceil(HclCall *c)
{
	return hcl_number(c->ctx, ceill(hcl_arg_number(c, 0)));
}

static HclValue *
f_floor(HclCall *c)
{
	return hcl_number(c->ctx, floorl(hcl_arg_number(c, 0)));
}

static HclValue *
checked(HclCall *c, long double n)
{
	if (!isfinite(n))
		hcl_bad_call(c, "the result is not a number");
	return hcl_number(c->ctx, n);
}

static HclValue *
f_log(HclCall *c)
{
	return checked(c, logl(hcl_arg_number(c, 0)) / logl(hcl_arg_number(c, 1)));
}

static HclValue *
f_pow(HclCall *c)
{
	return checked(c, powl(hcl_arg_number(c, 0), hcl_arg_number(c, 1)));
}

static HclValue *
f_signum(HclCall *c)
{
	const long double n = hcl_arg_number(c, 0);

	return hcl_number(c->ctx, (n > 0) - (n < 0));
}

static HclValue *
extreme(HclCall *c, bool largest)
{
	long double best = hcl_arg_number(c, 0);
	size_t i;

	for (i = 1; i < c->n; i++)
	{
		const long double n = hcl_arg_number(c, i);

		if (largest ? n > best : n < best)
			best = n;
	}
	return hcl_number(c->ctx, best);
}

static HclValue *
f_max(HclCall *c)
{
	return extreme(c, true);
}

static HclValue *
f_min(HclCall *c)
{
	return extreme(c, false);
}

static HclValue *
f_parseint(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	const long base = hcl_arg_integer(c, 1);
	long double n = 0;
	size_t i = 0;
	const bool negative = s->u.str.data[0] == '-';

	if (base < 2 || base > 36)
		hcl_bad_call(c, "the base must be between 2 and 36");
	if (negative)
		i++;
	if (s->u.str.len == i)
		hcl_bad_call(c, "not a number");
	for (; i < s->u.str.len; i++)
	{
		const int ch = tolower((unsigned char) s->u.str.data[i]);
		const int digit = isdigit(ch) ? ch - '0' : isalpha(ch) ? ch - 'a' + 10 : 99;

		if (digit >= base)
			hcl_bad_call(c, "not a number of this base");
		n = n * (long double) base + digit;
	}
	return checked(c, negative ? -n : n);
}

static HclValue *
f_sum(HclCall *c)
{
	const HclValue *v = hcl_arg_list(c, 0);
	long double n = 0;
	size_t i;

	if (v->u.list.n == 0)
		hcl_bad_call(c, "the list is empty");
	for (i = 0; i < v->u.list.n; i++)
	{
		HclValue *item = hcl_to_number(c->ctx, v->u.list.items[i]);

		if (item == NULL || item->kind != HCL_NUMBER)
			hcl_bad_call(c, "an element is not a number");
		n += item->u.number;
	}
	return checked(c, n);
}

static HclValue *
f_range(HclCall *c)
{
	const long double start = c->n > 1 ? hcl_arg_number(c, 0) : 0;
	const long double end = hcl_arg_number(c, c->n > 1 ? 1 : 0);
	const long double step = c->n > 2 ? hcl_arg_number(c, 2) : (end < start ? -1 : 1);
	HclVec out = {0};
	long double n;

	if (step == 0 || (c->n > 2 && (end < start) != (step < 0) && end != start))
		hcl_bad_call(c, "the step does not lead from the start to the end");
	for (n = start; step > 0 ? n < end : n > end; n += step)
	{
		if (out.n >= MAX_RANGE)
			hcl_bad_call(c, "more than 100000 elements");
		hcl_push(c->ctx, &out, hcl_number(c->ctx, n));
	}
	return hcl_answer_list(c, &out);
}

/* -- table --------------------------------------------------------------- */

static const HclFunction functions[] = {
	{"abs", f_abs, 1, 1, false, false},
	{"ceil", f_ceil, 1, 1, false, false},
	{"floor", f_floor, 1, 1, false, false},
	{"log", f_log, 2, 2, false, false},
	{"max", f_max, 1, -1, false, false},
	{"min", f_min, 1, -1, false, false},
	{"parseint", f_parseint, 2, 2, false, false},
	{"pow", f_pow, 2, 2, false, false},
	{"range", f_range, 1, 3, false, false},
	{"signum", f_signum, 1, 1, false, false},
	{"sum", f_sum, 1, 1, false, false},
};

const HclFunctions hcl_number_functions = HCL_FUNCTIONS(functions);
