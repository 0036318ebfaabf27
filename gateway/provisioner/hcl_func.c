/*
 * hcl_func.c -- functions of the configuration language
 *
 * One row of functions[] for each; an unknown argument makes the answer
 * unknown, except where the row says that the function looks itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl.h"

#include <ctype.h>
#include <math.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_RANGE 100000
#define FORMAT_MAX_WIDTH 1024

typedef struct Call
{
	HclCtx *ctx;
	const HclExpr *e;
	HclValue **args;
	size_t n;
} Call;

typedef HclValue *(*Function)(Call *c);

static _Noreturn void
bad(Call *c, const char *what)
{
	hcl_raise(c->ctx, c->e->pos, "%s(): %s", c->e->name, what);
}

static HclValue *
text(Call *c, size_t i)
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

static long double
number(Call *c, size_t i)
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

static long
integer(Call *c, size_t i)
{
	long double n = number(c, i);

	if (n != floorl(n) || fabsl(n) > 1e15L)
		hcl_raise(
			c->ctx, c->e->pos, "%s(): argument %zu must be a whole number", c->e->name, i + 1);
	return (long) n;
}

static HclValue *
list(Call *c, size_t i)
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

static HclValue *
object(Call *c, size_t i)
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

static HclValue *
from_vec(Call *c, const HclVec *vec)
{
	return hcl_list(c->ctx, (HclValue **) vec->items, vec->n);
}

static HclValue *
str(Call *c, const char *s)
{
	return hcl_string(c->ctx, s);
}

/* -- numbers ------------------------------------------------------------- */

static HclValue *
f_abs(Call *c)
{
	return hcl_number(c->ctx, fabsl(number(c, 0)));
}

static HclValue *
f_ceil(Call *c)
{
	return hcl_number(c->ctx, ceill(number(c, 0)));
}

static HclValue *
f_floor(Call *c)
{
	return hcl_number(c->ctx, floorl(number(c, 0)));
}

static HclValue *
checked(Call *c, long double n)
{
	if (!isfinite(n))
		bad(c, "the result is not a number");
	return hcl_number(c->ctx, n);
}

static HclValue *
f_log(Call *c)
{
	return checked(c, logl(number(c, 0)) / logl(number(c, 1)));
}

static HclValue *
f_pow(Call *c)
{
	return checked(c, powl(number(c, 0), number(c, 1)));
}

static HclValue *
f_signum(Call *c)
{
	const long double n = number(c, 0);

	return hcl_number(c->ctx, (n > 0) - (n < 0));
}

static HclValue *
extreme(Call *c, bool largest)
{
	long double best = number(c, 0);
	size_t i;

	for (i = 1; i < c->n; i++)
	{
		const long double n = number(c, i);

		if (largest ? n > best : n < best)
			best = n;
	}
	return hcl_number(c->ctx, best);
}

static HclValue *
f_max(Call *c)
{
	return extreme(c, true);
}

static HclValue *
f_min(Call *c)
{
	return extreme(c, false);
}

static HclValue *
f_parseint(Call *c)
{
	const HclValue *s = text(c, 0);
	const long base = integer(c, 1);
	long double n = 0;
	size_t i = 0;
	const bool negative = s->u.str.data[0] == '-';

	if (base < 2 || base > 36)
		bad(c, "the base must be between 2 and 36");
	if (negative)
		i++;
	if (s->u.str.len == i)
		bad(c, "not a number");
	for (; i < s->u.str.len; i++)
	{
		const int ch = tolower((unsigned char) s->u.str.data[i]);
		const int digit = isdigit(ch) ? ch - '0' : isalpha(ch) ? ch - 'a' + 10 : 99;

		if (digit >= base)
			bad(c, "not a number of this base");
		n = n * (long double) base + digit;
	}
	return checked(c, negative ? -n : n);
}

static HclValue *
f_sum(Call *c)
{
	const HclValue *v = list(c, 0);
	long double n = 0;
	size_t i;

	if (v->u.list.n == 0)
		bad(c, "the list is empty");
	for (i = 0; i < v->u.list.n; i++)
	{
		HclValue *item = hcl_to_number(c->ctx, v->u.list.items[i]);

		if (item == NULL || item->kind != HCL_NUMBER)
			bad(c, "an element is not a number");
		n += item->u.number;
	}
	return checked(c, n);
}

static HclValue *
f_range(Call *c)
{
	const long double start = c->n > 1 ? number(c, 0) : 0;
	const long double end = number(c, c->n > 1 ? 1 : 0);
	const long double step = c->n > 2 ? number(c, 2) : (end < start ? -1 : 1);
	HclVec out = {0};
	long double n;

	if (step == 0 || (c->n > 2 && (end < start) != (step < 0) && end != start))
		bad(c, "the step does not lead from the start to the end");
	for (n = start; step > 0 ? n < end : n > end; n += step)
	{
		if (out.n >= MAX_RANGE)
			bad(c, "more than 100000 elements");
		hcl_push(c->ctx, &out, hcl_number(c->ctx, n));
	}
	return from_vec(c, &out);
}

/* -- text ---------------------------------------------------------------- */

/* Bytes of the character that starts at s. */
static size_t
char_len(const char *s, size_t left)
{
	const unsigned char c = (unsigned char) *s;
	const size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

	return n <= left ? n : left;
}

static HclValue *
map_bytes(Call *c, int (*fn)(int))
{
	const HclValue *s = text(c, 0);
	HclValue *out = hcl_stringn(c->ctx, s->u.str.data, s->u.str.len);
	char *data = (char *) (uintptr_t) out->u.str.data;
	size_t i;

	for (i = 0; i < out->u.str.len; i++)
		if ((unsigned char) data[i] < 0x80)
			data[i] = (char) fn((unsigned char) data[i]);
	return out;
}

static HclValue *
f_upper(Call *c)
{
	return map_bytes(c, toupper);
}

static HclValue *
f_lower(Call *c)
{
	return map_bytes(c, tolower);
}

static HclValue *
f_title(Call *c)
{
	const HclValue *s = text(c, 0);
	HclValue *out = hcl_stringn(c->ctx, s->u.str.data, s->u.str.len);
	char *data = (char *) (uintptr_t) out->u.str.data;
	size_t i;

	for (i = 0; i < out->u.str.len; i++)
		if (i == 0 || isspace((unsigned char) data[i - 1]))
			data[i] = (char) toupper((unsigned char) data[i]);
	return out;
}

static bool
in_cutset(char ch, const char *set)
{
	return ch > 0 &&
		   strchr(set, ch) != NULL; /* ASCII only: a part of a character must not be cut */
}

static HclValue *
trimmed(Call *c, const char *set)
{
	const HclValue *s = text(c, 0);
	size_t from = 0;
	size_t to = s->u.str.len;

	while (from < to && in_cutset(s->u.str.data[from], set))
		from++;
	while (to > from && in_cutset(s->u.str.data[to - 1], set))
		to--;
	return hcl_stringn(c->ctx, s->u.str.data + from, to - from);
}

static HclValue *
f_trim(Call *c)
{
	return trimmed(c, text(c, 1)->u.str.data);
}

static HclValue *
f_trimspace(Call *c)
{
	return trimmed(c, " \t\r\n\v\f");
}

static HclValue *
f_chomp(Call *c)
{
	const HclValue *s = text(c, 0);
	size_t to = s->u.str.len;

	while (to > 0 && (s->u.str.data[to - 1] == '\n' || s->u.str.data[to - 1] == '\r'))
		to--;
	return hcl_stringn(c->ctx, s->u.str.data, to);
}

static bool
has_prefix(const HclValue *s, const HclValue *part)
{
	return s->u.str.len >= part->u.str.len &&
		   memcmp(s->u.str.data, part->u.str.data, part->u.str.len) == 0;
}

static bool
has_suffix(const HclValue *s, const HclValue *part)
{
	return s->u.str.len >= part->u.str.len && memcmp(s->u.str.data + s->u.str.len - part->u.str.len,
													 part->u.str.data,
													 part->u.str.len) == 0;
}

static HclValue *
f_startswith(Call *c)
{
	return hcl_bool(c->ctx, has_prefix(text(c, 0), text(c, 1)));
}

static HclValue *
f_endswith(Call *c)
{
	return hcl_bool(c->ctx, has_suffix(text(c, 0), text(c, 1)));
}

static HclValue *
f_strcontains(Call *c)
{
	const HclValue *s = text(c, 0);
	const HclValue *part = text(c, 1);

	return hcl_bool(c->ctx,
					memmem(s->u.str.data, s->u.str.len, part->u.str.data, part->u.str.len) != NULL);
}

static HclValue *
f_trimprefix(Call *c)
{
	HclValue *s = text(c, 0);
	const HclValue *part = text(c, 1);

	return has_prefix(s, part) ? hcl_stringn(c->ctx,
											 s->u.str.data + part->u.str.len,
											 s->u.str.len - part->u.str.len)
							   : s;
}

static HclValue *
f_trimsuffix(Call *c)
{
	HclValue *s = text(c, 0);
	const HclValue *part = text(c, 1);

	return has_suffix(s, part) ? hcl_stringn(c->ctx, s->u.str.data, s->u.str.len - part->u.str.len)
							   : s;
}

static HclValue *
f_strrev(Call *c)
{
	const HclValue *s = text(c, 0);
	char *out = hcl_alloc(c->ctx, s->u.str.len + 1);
	size_t at = 0;

	while (at < s->u.str.len)
	{
		const size_t n = char_len(s->u.str.data + at, s->u.str.len - at);

		memcpy(out + s->u.str.len - at - n, s->u.str.data + at, n);
		at += n;
	}
	return hcl_stringn(c->ctx, out, s->u.str.len);
}

static size_t
count_chars(const HclValue *s)
{
	size_t at = 0;
	size_t n = 0;

	for (; at < s->u.str.len; n++)
		at += char_len(s->u.str.data + at, s->u.str.len - at);
	return n;
}

static HclValue *
f_substr(Call *c)
{
	const HclValue *s = text(c, 0);
	const long total = (long) count_chars(s);
	long offset = integer(c, 1);
	long length = integer(c, 2);
	size_t at = 0;
	size_t from;

	if (offset < 0)
		offset = offset + total < 0 ? 0 : offset + total;
	if (offset > total)
		offset = total;
	if (length < 0 || length > total - offset)
		length = total - offset;
	while (offset-- > 0)
		at += char_len(s->u.str.data + at, s->u.str.len - at);
	from = at;
	while (length-- > 0)
		at += char_len(s->u.str.data + at, s->u.str.len - at);
	return hcl_stringn(c->ctx, s->u.str.data + from, at - from);
}

static HclValue *
f_indent(Call *c)
{
	const long n = integer(c, 0);
	const HclValue *s = text(c, 1);
	HclBuf out = {0};
	size_t i;
	long k;

	if (n < 0 || n > FORMAT_MAX_WIDTH)
		bad(c, "the number of spaces is out of range");
	for (i = 0; i < s->u.str.len; i++)
	{
		hcl_append(c->ctx, &out, s->u.str.data + i, 1);
		for (k = 0; s->u.str.data[i] == '\n' && k < n; k++)
			hcl_append(c->ctx, &out, " ", 1);
	}
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_join(Call *c)
{
	const HclValue *sep = text(c, 0);
	HclBuf out = {0};
	bool first = true;
	size_t i;
	size_t j;

	for (i = 1; i < c->n; i++)
	{
		const HclValue *v = list(c, i);

		for (j = 0; j < v->u.list.n; j++)
		{
			HclValue *s = hcl_to_string(c->ctx, v->u.list.items[j]);

			if (s == NULL || s->kind != HCL_STRING)
				bad(c, "an element is not text");
			if (!first)
				hcl_append(c->ctx, &out, sep->u.str.data, sep->u.str.len);
			first = false;
			hcl_append(c->ctx, &out, s->u.str.data, s->u.str.len);
		}
	}
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_split(Call *c)
{
	const HclValue *sep = text(c, 0);
	const HclValue *s = text(c, 1);
	const char *at = s->u.str.data;
	const char *end = at + s->u.str.len;
	HclVec out = {0};

	for (;;)
	{
		const char *hit = NULL;

		if (sep->u.str.len > 0)
			hit = memmem(at, (size_t) (end - at), sep->u.str.data, sep->u.str.len);
		else if (at < end && (size_t) (end - at) > char_len(at, (size_t) (end - at)))
			hit = at + char_len(at, (size_t) (end - at));
		hcl_push(c->ctx, &out, hcl_stringn(c->ctx, at, (size_t) ((hit != NULL ? hit : end) - at)));
		if (hit == NULL)
			return from_vec(c, &out);
		at = hit + sep->u.str.len;
	}
}

/* -- regular expressions ------------------------------------------------- */

typedef struct Regex
{
	pcre2_code *code;
	pcre2_match_data *match;
	pcre2_match_context *limits;
} Regex;

static void
regex_free(Regex *r)
{
	pcre2_match_context_free(r->limits);
	pcre2_match_data_free(r->match);
	pcre2_code_free(r->code);
}

static void
regex_compile(Call *c, Regex *r, const char *pattern, size_t len)
{
	int error;
	PCRE2_SIZE offset;

	r->code = pcre2_compile(
		(PCRE2_SPTR) pattern, len, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, NULL);
	if (r->code == NULL)
	{
		char why[128];

		pcre2_get_error_message(error, (PCRE2_UCHAR *) why, sizeof(why));
		hcl_raise(c->ctx, c->e->pos, "%s(): regular expression: %s", c->e->name, why);
	}
	r->match = pcre2_match_data_create_from_pattern(r->code, NULL);
	r->limits = pcre2_match_context_create(NULL);
	pcre2_set_match_limit(r->limits, 1000000);
	pcre2_set_depth_limit(r->limits, 1000);
	pcre2_set_heap_limit(r->limits, 4096);
}

/* What one match answers: the whole, the groups as a list, or named groups as an object. */
static HclValue *
regex_value(Call *c, const Regex *r, const char *s)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(r->match);
	const uint32_t total = pcre2_get_ovector_count(r->match);
	PCRE2_SPTR names;
	uint32_t count;
	uint32_t size;
	uint32_t i;
	HclMember *members;
	HclVec out = {0};

	if (total == 1)
		return hcl_stringn(c->ctx, s + at[0], at[1] - at[0]);
	pcre2_pattern_info(r->code, PCRE2_INFO_NAMECOUNT, &count);
	pcre2_pattern_info(r->code, PCRE2_INFO_NAMEENTRYSIZE, &size);
	pcre2_pattern_info(r->code, PCRE2_INFO_NAMETABLE, &names);
	for (i = 1; i < total; i++)
		hcl_push(c->ctx,
				 &out,
				 at[2 * i] == PCRE2_UNSET
					 ? hcl_null(c->ctx)
					 : hcl_stringn(c->ctx, s + at[2 * i], at[2 * i + 1] - at[2 * i]));
	if (count == 0)
		return from_vec(c, &out);
	members = hcl_alloc(c->ctx, count * sizeof(*members));
	for (i = 0; i < count; i++)
	{
		const PCRE2_SPTR row = names + (size_t) i * size;

		members[i].key =
			hcl_strndup(c->ctx, (const char *) row + 2, strlen((const char *) row + 2));
		members[i].value = out.items[(row[0] << 8 | row[1]) - 1];
	}
	return hcl_object(c->ctx, members, count);
}

typedef struct RegexRun
{
	Call *c;
	Regex regex;
	const HclValue *s;
	const HclValue *with; /* replace */
	bool all;
	HclValue *out;
} RegexRun;

static void
regex_replace(RegexRun *run)
{
	size_t size = run->s->u.str.len * 2 + 4096;
	PCRE2_SIZE len = size;
	char *out = hcl_alloc(run->c->ctx, size);
	int rc = pcre2_substitute(run->regex.code,
							  (PCRE2_SPTR) run->s->u.str.data,
							  run->s->u.str.len,
							  0,
							  PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH |
								  PCRE2_SUBSTITUTE_UNSET_EMPTY,
							  run->regex.match,
							  run->regex.limits,
							  (PCRE2_SPTR) run->with->u.str.data,
							  run->with->u.str.len,
							  (PCRE2_UCHAR *) out,
							  &len);

	if (rc == PCRE2_ERROR_NOMEMORY && len <= HCL_MAX_MEMORY)
	{
		out = hcl_alloc(run->c->ctx, len);
		rc = pcre2_substitute(run->regex.code,
							  (PCRE2_SPTR) run->s->u.str.data,
							  run->s->u.str.len,
							  0,
							  PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_UNSET_EMPTY,
							  run->regex.match,
							  run->regex.limits,
							  (PCRE2_SPTR) run->with->u.str.data,
							  run->with->u.str.len,
							  (PCRE2_UCHAR *) out,
							  &len);
	}
	if (rc < 0)
		bad(run->c, "the replacement failed");
	run->out = hcl_stringn(run->c->ctx, out, len);
}

static void
regex_run(void *arg)
{
	RegexRun *run = arg;
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(run->regex.match);
	PCRE2_SIZE from = 0;
	HclVec out = {0};

	if (run->with != NULL)
	{
		regex_replace(run);
		return;
	}
	while (from <= run->s->u.str.len)
	{
		const int rc = pcre2_match(run->regex.code,
								   (PCRE2_SPTR) run->s->u.str.data,
								   run->s->u.str.len,
								   from,
								   0,
								   run->regex.match,
								   run->regex.limits);

		hcl_step(run->c->ctx, run->c->e->pos);
		if (rc == PCRE2_ERROR_NOMATCH)
			break;
		if (rc < 0)
			bad(run->c, "the regular expression is too expensive, or the text is not UTF-8");
		hcl_push(run->c->ctx, &out, regex_value(run->c, &run->regex, run->s->u.str.data));
		if (!run->all)
			break;
		from =
			at[1] > at[0]
				? at[1]
				: at[1] + (at[1] < run->s->u.str.len ? char_len(run->s->u.str.data + at[1], 4) : 1);
	}
	if (!run->all && out.n == 0)
		bad(run->c, "the text does not match");
	run->out = run->all ? from_vec(run->c, &out) : out.items[0];
}

static HclValue *
regex_apply(Call *c, const char *pattern, size_t len, const HclValue *s, const HclValue *with,
			bool all)
{
	RegexRun run = {.c = c, .s = s, .with = with, .all = all};
	bool ok;

	regex_compile(c, &run.regex, pattern, len);
	ok = hcl_guard(c->ctx, regex_run, &run);
	regex_free(&run.regex);
	if (!ok)
		hcl_rethrow(c->ctx);
	return run.out;
}

static HclValue *
f_regex(Call *c)
{
	const HclValue *pattern = text(c, 0);

	return regex_apply(c, pattern->u.str.data, pattern->u.str.len, text(c, 1), NULL, false);
}

static HclValue *
f_regexall(Call *c)
{
	const HclValue *pattern = text(c, 0);

	return regex_apply(c, pattern->u.str.data, pattern->u.str.len, text(c, 1), NULL, true);
}

static HclValue *
f_replace(Call *c)
{
	const HclValue *s = text(c, 0);
	const HclValue *from = text(c, 1);
	const HclValue *to = text(c, 2);
	const char *at = s->u.str.data;
	const char *end = at + s->u.str.len;
	const char *hit;
	HclBuf out = {0};

	if (from->u.str.len > 1 && from->u.str.data[0] == '/' &&
		from->u.str.data[from->u.str.len - 1] == '/')
		return regex_apply(c, from->u.str.data + 1, from->u.str.len - 2, s, to, false);
	if (from->u.str.len == 0)
		return text(c, 0);
	while ((hit = memmem(at, (size_t) (end - at), from->u.str.data, from->u.str.len)) != NULL)
	{
		hcl_append(c->ctx, &out, at, (size_t) (hit - at));
		hcl_append(c->ctx, &out, to->u.str.data, to->u.str.len);
		at = hit + from->u.str.len;
	}
	hcl_append(c->ctx, &out, at, (size_t) (end - at));
	return hcl_buf_string(c->ctx, &out);
}

/* -- format -------------------------------------------------------------- */

static void
format_json(Call *c, HclBuf *out, const HclValue *v)
{
	json_t *j = hcl_to_json(v);
	char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

	json_decref(j);
	if (s == NULL)
		bad(c, "cannot be written as JSON");
	hcl_append(c->ctx, out, s, strlen(s));
	free(s);
}

/* One verb: flags and width have been checked to be few and small. */
static void
format_verb(Call *c, HclBuf *out, const char *spec, char verb, size_t arg)
{
	char fmt[48];
	HclBuf quoted = {0};

	if (arg >= c->n)
		bad(c, "there are fewer arguments than verbs");
	switch (verb)
	{
		case 'd':
		case 'x':
		case 'X':
		case 'o':
			snprintf(fmt, sizeof(fmt), "%%%sl%c", spec, verb);
			{
				const char *s = hcl_printf(c->ctx, (const char *) fmt, integer(c, arg));

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 'e':
		case 'f':
		case 'g':
			snprintf(fmt, sizeof(fmt), "%%%sL%c", spec, verb);
			{
				const char *s = hcl_printf(c->ctx, (const char *) fmt, number(c, arg));

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 't':
		case 's':
			snprintf(fmt, sizeof(fmt), "%%%ss", spec);
			{
				const char *s = hcl_printf(c->ctx, (const char *) fmt, text(c, arg)->u.str.data);

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 'q':
			format_json(c, &quoted, text(c, arg));
			hcl_append(c->ctx, out, quoted.data, quoted.len);
			return;
		case 'v':
			if (c->args[arg]->kind == HCL_STRING || c->args[arg]->kind == HCL_NUMBER ||
				c->args[arg]->kind == HCL_BOOL)
				format_verb(c, out, spec, 's', arg);
			else
				format_json(c, out, c->args[arg]);
			return;
		default:
			bad(c, "there is no such verb");
	}
}

static HclValue *
format(Call *c)
{
	const HclValue *f = text(c, 0);
	size_t arg = 1;
	size_t i = 0;
	HclBuf out = {0};

	while (i < f->u.str.len)
	{
		char spec[24];
		size_t n = 0;

		if (f->u.str.data[i] != '%')
		{
			hcl_append(c->ctx, &out, f->u.str.data + i++, 1);
			continue;
		}
		if (f->u.str.data[++i] == '%')
		{
			hcl_append(c->ctx, &out, "%", 1);
			i++;
			continue;
		}
		while (in_cutset(f->u.str.data[i], "+-# 0123456789.[]"))
		{
			if (f->u.str.data[i] == '[')
			{
				arg = (size_t) strtoul(f->u.str.data + i + 1, NULL, 10);
				if (arg == 0)
					bad(c, "an argument's number must be 1 or more");
				while (f->u.str.data[i] != '\0' && f->u.str.data[i] != ']')
					i++;
			}
			else if (n + 1 < sizeof(spec) && f->u.str.data[i] != ']')
				spec[n++] = f->u.str.data[i];
			if (f->u.str.data[i] == '\0')
				break;
			i++;
		}
		spec[n] = '\0';
		if (strtoul(spec + strspn(spec, "+-# 0."), NULL, 10) > FORMAT_MAX_WIDTH)
			bad(c, "the width is too large");
		if (strchr(spec, '.') != NULL &&
			strtoul(strchr(spec, '.') + 1, NULL, 10) > FORMAT_MAX_WIDTH)
			bad(c, "the precision is too large");
		if (i >= f->u.str.len)
			bad(c, "a verb is missing");
		format_verb(c, &out, spec, f->u.str.data[i], arg++);
		i++;
	}
	if (!hcl_is_utf8(out.data, out.len))
		bad(c, "the precision cuts a character");
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_formatlist(Call *c)
{
	HclValue **args = hcl_alloc(c->ctx, c->n * sizeof(*args));
	size_t count = 0;
	HclVec out = {0};
	size_t i;
	size_t k;

	for (i = 1; i < c->n; i++)
		if (c->args[i]->kind == HCL_LIST || c->args[i]->kind == HCL_SET)
			count = c->args[i]->u.list.n > count ? c->args[i]->u.list.n : count;
	for (k = 0; k < count; k++)
	{
		Call one = {c->ctx, c->e, args, c->n};

		for (i = 0; i < c->n; i++)
		{
			args[i] = c->args[i];
			if (i > 0 && (args[i]->kind == HCL_LIST || args[i]->kind == HCL_SET))
			{
				if (args[i]->u.list.n != count)
					bad(c, "the lists differ in length");
				args[i] = args[i]->u.list.items[k];
			}
		}
		hcl_push(c->ctx, &out, format(&one));
	}
	return from_vec(c, &out);
}

/* -- collections --------------------------------------------------------- */

static HclValue *
f_length(Call *c)
{
	const HclValue *v = c->args[0];

	if (v->kind == HCL_UNKNOWN)
		return hcl_unknown(c->ctx);
	if (v->kind == HCL_STRING)
		return hcl_number(c->ctx, (long double) count_chars(v));
	if (v->kind == HCL_OBJECT)
		return hcl_number(c->ctx, (long double) v->u.map.n);
	return hcl_number(c->ctx, (long double) list(c, 0)->u.list.n);
}

static HclValue *
all_or_any(Call *c, bool all)
{
	const HclValue *v = list(c, 0);
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
f_alltrue(Call *c)
{
	return all_or_any(c, true);
}

static HclValue *
f_anytrue(Call *c)
{
	return all_or_any(c, false);
}

static HclValue *
f_coalesce(Call *c)
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
	bad(c, "every argument is null or empty");
}

static HclValue *
f_coalescelist(Call *c)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (c->args[i]->kind != HCL_NULL && list(c, i)->u.list.n > 0)
			return c->args[i];
	bad(c, "every list is empty");
}

static HclValue *
f_compact(Call *c)
{
	const HclValue *v = list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		const HclValue *item = v->u.list.items[i];

		if (item->kind != HCL_NULL && !(item->kind == HCL_STRING && item->u.str.len == 0))
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return from_vec(c, &out);
}

static HclValue *
f_concat(Call *c)
{
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; j < list(c, i)->u.list.n; j++)
			hcl_push(c->ctx, &out, c->args[i]->u.list.items[j]);
	return from_vec(c, &out);
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
f_contains(Call *c)
{
	return hcl_bool(c->ctx, member_of(list(c, 0), c->args[1]));
}

static HclValue *
f_distinct(Call *c)
{
	const HclValue *v = list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		const HclValue seen = {.kind = HCL_LIST, .u.list = {(HclValue **) out.items, out.n}};

		hcl_step(c->ctx, c->e->pos);
		if (!member_of(&seen, v->u.list.items[i]))
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return from_vec(c, &out);
}

static HclValue *
f_element(Call *c)
{
	const HclValue *v = list(c, 0);
	const long i = integer(c, 1);

	if (v->u.list.n == 0 || i < 0)
		bad(c, "the list is empty, or the index is negative");
	return v->u.list.items[(size_t) i % v->u.list.n];
}

static void
flatten(Call *c, const HclValue *v, HclVec *out)
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
f_flatten(Call *c)
{
	HclVec out = {0};

	flatten(c, list(c, 0), &out);
	return from_vec(c, &out);
}

static HclValue *
f_index(Call *c)
{
	const HclValue *v = list(c, 0);
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
		if (hcl_equal(v->u.list.items[i], c->args[1]))
			return hcl_number(c->ctx, (long double) i);
	bad(c, "the list has no such element");
}

static HclValue *
f_keys(Call *c)
{
	const HclValue *v = object(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.map.n; i++)
		hcl_push(c->ctx, &out, str(c, v->u.map.items[i].key));
	return from_vec(c, &out);
}

static HclValue *
f_values(Call *c)
{
	const HclValue *v = object(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = 0; i < v->u.map.n; i++)
		hcl_push(c->ctx, &out, v->u.map.items[i].value);
	return from_vec(c, &out);
}

static HclValue *
f_lookup(Call *c)
{
	HclValue *found = hcl_get(object(c, 0), text(c, 1)->u.str.data);

	if (found != NULL)
		return found;
	if (c->n < 3)
		bad(c, "the map has no such key");
	return c->args[2];
}

static HclValue *
f_merge(Call *c)
{
	HclVec members = {0};
	HclMember *items;
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; c->args[i]->kind != HCL_NULL && j < object(c, i)->u.map.n; j++)
			hcl_push(c->ctx, &members, &c->args[i]->u.map.items[j]);
	items = hcl_alloc(c->ctx, (members.n + 1) * sizeof(*items));
	for (i = 0; i < members.n; i++)
		items[i] = *(HclMember *) members.items[i];
	return hcl_object(c->ctx, items, members.n);
}

static HclValue *
f_map(Call *c)
{
	HclMember *items = hcl_alloc(c->ctx, (c->n / 2 + 1) * sizeof(*items));
	size_t i;

	if (c->n % 2 != 0)
		bad(c, "every key needs a value");
	for (i = 0; i < c->n; i += 2)
		items[i / 2] = (HclMember){text(c, i)->u.str.data, c->args[i + 1]};
	return hcl_object(c->ctx, items, c->n / 2);
}

static HclValue *
f_list(Call *c)
{
	return hcl_list(c->ctx, c->args, c->n);
}

static HclValue *
f_matchkeys(Call *c)
{
	const HclValue *values = list(c, 0);
	const HclValue *keys = list(c, 1);
	HclVec out = {0};
	size_t i;

	if (values->u.list.n != keys->u.list.n)
		bad(c, "values and keys differ in length");
	for (i = 0; i < keys->u.list.n; i++)
		if (member_of(list(c, 2), keys->u.list.items[i]))
			hcl_push(c->ctx, &out, values->u.list.items[i]);
	return from_vec(c, &out);
}

static HclValue *
f_one(Call *c)
{
	const HclValue *v = list(c, 0);

	if (v->u.list.n > 1)
		bad(c, "the list has more than one element");
	return v->u.list.n == 1 ? v->u.list.items[0] : hcl_null(c->ctx);
}

static HclValue *
f_reverse(Call *c)
{
	const HclValue *v = list(c, 0);
	HclVec out = {0};
	size_t i;

	for (i = v->u.list.n; i-- > 0;)
		hcl_push(c->ctx, &out, v->u.list.items[i]);
	return from_vec(c, &out);
}

static HclValue *
f_slice(Call *c)
{
	const HclValue *v = list(c, 0);
	const long from = integer(c, 1);
	const long to = integer(c, 2);

	if (from < 0 || to < from || (size_t) to > v->u.list.n)
		bad(c, "the range is outside of the list");
	return hcl_list(c->ctx, v->u.list.items + from, (size_t) (to - from));
}

static HclValue *
f_chunklist(Call *c)
{
	const HclValue *v = list(c, 0);
	const long size = integer(c, 1);
	HclVec out = {0};
	size_t i;

	if (size < 1)
		bad(c, "the size must be 1 or more");
	for (i = 0; i < v->u.list.n; i += (size_t) size)
		hcl_push(c->ctx,
				 &out,
				 hcl_list(c->ctx,
						  v->u.list.items + i,
						  v->u.list.n - i < (size_t) size ? v->u.list.n - i : (size_t) size));
	return from_vec(c, &out);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp((*(HclValue *const *) a)->u.str.data, (*(HclValue *const *) b)->u.str.data);
}

static HclValue *
f_sort(Call *c)
{
	const HclValue *v = list(c, 0);
	HclValue **items = hcl_alloc(c->ctx, (v->u.list.n + 1) * sizeof(*items));
	size_t i;

	for (i = 0; i < v->u.list.n; i++)
	{
		items[i] = hcl_to_string(c->ctx, v->u.list.items[i]);
		if (items[i] == NULL || items[i]->kind != HCL_STRING)
			bad(c, "an element is not text");
	}
	qsort(items, v->u.list.n, sizeof(*items), by_text);
	return hcl_list(c->ctx, items, v->u.list.n);
}

static HclValue *
f_transpose(Call *c)
{
	const HclValue *v = object(c, 0);
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
				bad(c, "an element is not text");
			old = hcl_get(out, key->u.str.data);
			for (k = 0; old != NULL && k < old->u.list.n; k++)
				hcl_push(c->ctx, &vec, old->u.list.items[k]);
			hcl_push(c->ctx, &vec, str(c, v->u.map.items[i].key));
			out = hcl_with(c->ctx, out, key->u.str.data, from_vec(c, &vec));
		}
	}
	return out;
}

static HclValue *
f_zipmap(Call *c)
{
	const HclValue *keys = list(c, 0);
	const HclValue *values = list(c, 1);
	HclMember *items = hcl_alloc(c->ctx, (keys->u.list.n + 1) * sizeof(*items));
	size_t i;

	if (keys->u.list.n != values->u.list.n)
		bad(c, "keys and values differ in length");
	for (i = 0; i < keys->u.list.n; i++)
	{
		HclValue *key = hcl_to_string(c->ctx, keys->u.list.items[i]);

		if (key == NULL || key->kind != HCL_STRING)
			bad(c, "a key is not text");
		items[i] = (HclMember){key->u.str.data, values->u.list.items[i]};
	}
	return hcl_object(c->ctx, items, keys->u.list.n);
}

static HclValue *
f_setunion(Call *c)
{
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < c->n; i++)
		for (j = 0; j < list(c, i)->u.list.n; j++)
			hcl_push(c->ctx, &out, c->args[i]->u.list.items[j]);
	return hcl_set(c->ctx, (HclValue **) out.items, out.n);
}

static HclValue *
set_filter(Call *c, bool keep)
{
	const HclValue *v = list(c, 0);
	HclVec out = {0};
	size_t i;
	size_t j;

	for (i = 0; i < v->u.list.n; i++)
	{
		bool in = true;

		for (j = 1; j < c->n; j++)
			in = member_of(list(c, j), v->u.list.items[i]) && in;
		if (in == keep)
			hcl_push(c->ctx, &out, v->u.list.items[i]);
	}
	return hcl_set(c->ctx, (HclValue **) out.items, out.n);
}

static HclValue *
f_setintersection(Call *c)
{
	return set_filter(c, true);
}

static HclValue *
f_setsubtract(Call *c)
{
	return set_filter(c, false);
}

static HclValue *
f_setproduct(Call *c)
{
	size_t total = 1;
	HclVec out = {0};
	size_t i;
	size_t k;

	for (i = 0; i < c->n; i++)
	{
		total *= list(c, i)->u.list.n;
		if (total > MAX_RANGE)
			bad(c, "more than 100000 elements");
	}
	for (k = 0; k < total; k++)
	{
		HclValue **row = hcl_alloc(c->ctx, c->n * sizeof(*row));
		size_t left = k;

		for (i = c->n; i-- > 0; left /= c->args[i]->u.list.n)
			row[i] = c->args[i]->u.list.items[left % c->args[i]->u.list.n];
		hcl_push(c->ctx, &out, hcl_list(c->ctx, row, c->n));
	}
	return from_vec(c, &out);
}

/* -- conversions --------------------------------------------------------- */

static HclValue *
converted(Call *c, HclValue *v)
{
	if (v == NULL)
		bad(c, "the value cannot be converted");
	return v;
}

static HclValue *
f_tostring(Call *c)
{
	return converted(c, hcl_to_string(c->ctx, c->args[0]));
}

static HclValue *
f_tonumber(Call *c)
{
	return converted(c, hcl_to_number(c->ctx, c->args[0]));
}

static HclValue *
f_tobool(Call *c)
{
	return converted(c, hcl_to_bool(c->ctx, c->args[0]));
}

static HclValue *
f_tolist(Call *c)
{
	if (c->args[0]->kind == HCL_NULL)
		return c->args[0];
	return hcl_list(c->ctx, list(c, 0)->u.list.items, c->args[0]->u.list.n);
}

static HclValue *
f_toset(Call *c)
{
	if (c->args[0]->kind == HCL_NULL)
		return c->args[0];
	return hcl_set(c->ctx, list(c, 0)->u.list.items, c->args[0]->u.list.n);
}

static HclValue *
f_tomap(Call *c)
{
	return c->args[0]->kind == HCL_NULL ? c->args[0] : object(c, 0);
}

static HclValue *
flagged(Call *c, bool sensitive)
{
	HclValue *v = hcl_alloc(c->ctx, sizeof(*v));

	*v = *c->args[0];
	v->sensitive = sensitive;
	return v;
}

static HclValue *
f_sensitive(Call *c)
{
	return flagged(c, true);
}

static HclValue *
f_nonsensitive(Call *c)
{
	return flagged(c, false);
}

static HclValue *
f_issensitive(Call *c)
{
	return hcl_bool(c->ctx, c->args[0]->sensitive);
}

/* -- encodings ----------------------------------------------------------- */

static HclValue *
f_jsonencode(Call *c)
{
	HclBuf out = {0};

	if (!hcl_is_known(c->args[0]))
		return hcl_unknown(c->ctx);
	format_json(c, &out, c->args[0]);
	return hcl_buf_string(c->ctx, &out);
}

typedef struct JsonDecode
{
	Call *c;
	json_t *j;
	HclValue *out;
} JsonDecode;

static void
json_decode(void *arg)
{
	JsonDecode *d = arg;

	d->out = hcl_from_json(d->c->ctx, d->j);
}

static HclValue *
f_jsondecode(Call *c)
{
	const HclValue *s = text(c, 0);
	json_error_t error;
	JsonDecode d = {c, json_loadb(s->u.str.data, s->u.str.len, JSON_DECODE_ANY, &error), NULL};
	bool ok;

	if (d.j == NULL)
		bad(c, error.text);
	ok = hcl_guard(c->ctx, json_decode, &d);
	json_decref(d.j);
	if (!ok)
		hcl_rethrow(c->ctx);
	return d.out;
}

static HclValue *
base64_of(Call *c, const void *data, size_t len)
{
	char *out = hcl_alloc(c->ctx, len / 3 * 4 + 8);
	const int n = EVP_EncodeBlock((unsigned char *) out, data, (int) len);

	return hcl_stringn(c->ctx, out, (size_t) n);
}

static HclValue *
f_base64encode(Call *c)
{
	const HclValue *s = text(c, 0);

	return base64_of(c, s->u.str.data, s->u.str.len);
}

static HclValue *
f_base64decode(Call *c)
{
	const HclValue *s = text(c, 0);
	unsigned char *out = hcl_alloc(c->ctx, s->u.str.len + 4);
	const int n = EVP_DecodeBlock(out, (const unsigned char *) s->u.str.data, (int) s->u.str.len);
	size_t pad = 0;

	if (n < 0 || s->u.str.len % 4 != 0)
		bad(c, "not base64");
	while (pad < 2 && pad < s->u.str.len && s->u.str.data[s->u.str.len - 1 - pad] == '=')
		pad++;
	if (!hcl_is_utf8((char *) out, (size_t) n - pad))
		bad(c, "the result is not UTF-8 text");
	return hcl_stringn(c->ctx, (char *) out, (size_t) n - pad);
}

static size_t
digest(Call *c, const HclValue *s, const char *algorithm, unsigned char *out)
{
	unsigned int n = 0;

	if (EVP_Digest(s->u.str.data, s->u.str.len, out, &n, EVP_get_digestbyname(algorithm), NULL) !=
		1)
		bad(c, "the digest is not available");
	return n;
}

/* md5, sha1, sha256, sha512, base64sha256, base64sha512 and their file forms: by name. */
static HclValue *
digest_of(Call *c, const HclValue *s)
{
	const char *name = c->e->name;
	unsigned char sum[EVP_MAX_MD_SIZE];
	char hex[EVP_MAX_MD_SIZE * 2 + 1];
	bool base64;
	size_t n;
	size_t i;

	if (strncmp(name, "file", 4) == 0)
		name += 4;
	base64 = strncmp(name, "base64", 6) == 0;
	n = digest(c, s, base64 ? name + 6 : name, sum);
	if (base64)
		return base64_of(c, sum, n);
	for (i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	return str(c, hex);
}

static HclValue *
f_digest(Call *c)
{
	return digest_of(c, text(c, 0));
}

static HclValue *
f_urlencode(Call *c)
{
	const HclValue *s = text(c, 0);
	HclBuf out = {0};
	size_t i;

	for (i = 0; i < s->u.str.len; i++)
	{
		const unsigned char ch = (unsigned char) s->u.str.data[i];
		char hex[4];

		if (isalnum(ch) || in_cutset((char) ch, "-_.~"))
			hcl_append(c->ctx, &out, s->u.str.data + i, 1);
		else if (ch == ' ')
			hcl_append(c->ctx, &out, "+", 1);
		else
		{
			snprintf(hex, sizeof(hex), "%%%02X", ch);
			hcl_append(c->ctx, &out, hex, 3);
		}
	}
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_uuid(Call *c)
{
	unsigned char r[16];

	if (RAND_bytes(r, sizeof(r)) != 1)
		bad(c, "no randomness");
	r[6] = (unsigned char) ((r[6] & 0x0f) | 0x40);
	r[8] = (unsigned char) ((r[8] & 0x3f) | 0x80);
	return str(c,
			   hcl_printf(c->ctx,
						  "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
						  r[0],
						  r[1],
						  r[2],
						  r[3],
						  r[4],
						  r[5],
						  r[6],
						  r[7],
						  r[8],
						  r[9],
						  r[10],
						  r[11],
						  r[12],
						  r[13],
						  r[14],
						  r[15]));
}

/* -- times --------------------------------------------------------------- */

static HclValue *
f_timestamp(Call *c)
{
	char out[32];
	struct tm tm;

	gmtime_r(&c->ctx->now.tv_sec, &tm);
	strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return str(c, out);
}

static time_t
parse_time(Call *c, size_t i)
{
	const HclValue *s = text(c, i);
	struct tm tm = {0};
	const char *rest = strptime(s->u.str.data, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours;
	int minutes;
	long offset = 0;

	if (rest == NULL)
		bad(c, "not a time of RFC 3339");
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if ((*rest == '+' || *rest == '-') && sscanf(rest + 1, "%2d:%2d", &hours, &minutes) == 2)
		offset = (hours * 60L + minutes) * (*rest == '-' ? -60 : 60);
	else if (strcmp(rest, "Z") != 0)
		bad(c, "not a time of RFC 3339");
	return timegm(&tm) - offset;
}

static HclValue *
f_timecmp(Call *c)
{
	const time_t a = parse_time(c, 0);
	const time_t b = parse_time(c, 1);

	return hcl_number(c->ctx, (a > b) - (a < b));
}

static HclValue *
f_timeadd(Call *c)
{
	const char *s = text(c, 1)->u.str.data;
	double seconds = 0;
	double sign = 1;
	char out[32];
	struct tm tm;
	time_t t;

	if (*s == '-' || *s == '+')
		sign = *s++ == '-' ? -1 : 1;
	if (*s == '\0')
		bad(c, "not a duration");
	while (*s != '\0')
	{
		char *end;
		const double n = isdigit((unsigned char) *s) ? strtod(s, &end) : -1;

		if (n < 0 || n > 1e9)
			bad(c, "not a duration");
		s = end;
		if (strncmp(s, "ms", 2) == 0)
			seconds += n / 1000, s += 2;
		else if (*s == 'h')
			seconds += n * 3600, s++;
		else if (*s == 'm')
			seconds += n * 60, s++;
		else if (*s == 's')
			seconds += n, s++;
		else
			bad(c, "not a duration");
	}
	t = parse_time(c, 0) + (time_t) (sign * seconds);
	gmtime_r(&t, &tm);
	strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return str(c, out);
}

/* -- files of the template ----------------------------------------------- */

static bool
find_file(Call *c, const char **data, size_t *len)
{
	const char *path = text(c, 0)->u.str.data;

	while (strncmp(path, "./", 2) == 0)
		path += 2;
	return c->ctx->file != NULL && c->ctx->file(c->ctx->file_arg, path, data, len);
}

static HclValue *
read_file(Call *c)
{
	const char *data;
	size_t len;

	if (!find_file(c, &data, &len))
		hcl_raise(c->ctx,
				  c->e->pos,
				  "%s(): the template has no file \"%.200s\"",
				  c->e->name,
				  text(c, 0)->u.str.data);
	return hcl_stringn(c->ctx, data, len);
}

static HclValue *
f_file(Call *c)
{
	HclValue *s = read_file(c);

	if (!hcl_is_utf8(s->u.str.data, s->u.str.len))
		bad(c, "the file is not UTF-8 text");
	return s;
}

static HclValue *
f_fileexists(Call *c)
{
	const char *data;
	size_t len;

	return hcl_bool(c->ctx, find_file(c, &data, &len));
}

static HclValue *
f_filebase64(Call *c)
{
	const HclValue *s = read_file(c);

	return base64_of(c, s->u.str.data, s->u.str.len);
}

static HclValue *
f_filedigest(Call *c)
{
	return digest_of(c, read_file(c));
}

static HclValue *
f_templatefile(Call *c)
{
	const HclValue *s = f_file(c);
	const HclValue *vars = object(c, 1);
	HclScope *scope = NULL;
	size_t i;

	for (i = 0; i < vars->u.map.n; i++)
	{
		HclScope *inner = hcl_alloc(c->ctx, sizeof(*inner));

		*inner = (HclScope){
			.parent = scope, .name = vars->u.map.items[i].key, .value = vars->u.map.items[i].value};
		scope = inner;
	}
	return hcl_eval(
		c->ctx,
		hcl_parse_template(c->ctx, text(c, 0)->u.str.data, 1, s->u.str.data, s->u.str.len),
		scope);
}

static HclValue *
f_basename(Call *c)
{
	const char *s = text(c, 0)->u.str.data;
	const char *slash = strrchr(s, '/');

	return str(c, slash != NULL ? slash + 1 : s);
}

static HclValue *
f_dirname(Call *c)
{
	const char *s = text(c, 0)->u.str.data;
	const char *slash = strrchr(s, '/');

	if (slash == NULL)
		return str(c, ".");
	return slash == s ? str(c, "/") : hcl_stringn(c->ctx, s, (size_t) (slash - s));
}

static HclValue *
f_abspath(Call *c)
{
	const char *s = text(c, 0)->u.str.data;

	return s[0] == '/' ? text(c, 0) : str(c, hcl_printf(c->ctx, "/%s", s));
}

static HclValue *
f_pathexpand(Call *c)
{
	if (text(c, 0)->u.str.data[0] == '~')
		bad(c, "there is no home folder here");
	return text(c, 0);
}

/* -- table --------------------------------------------------------------- */

typedef struct FunctionRow
{
	const char *name;
	Function fn;
	int min;
	int max;	   /* -1: any number */
	bool unknowns; /* looks at unknown arguments itself */
} FunctionRow;

static const FunctionRow functions[] = {
	{"abs", f_abs, 1, 1, false},
	{"abspath", f_abspath, 1, 1, false},
	{"alltrue", f_alltrue, 1, 1, false},
	{"anytrue", f_anytrue, 1, 1, false},
	{"base64decode", f_base64decode, 1, 1, false},
	{"base64encode", f_base64encode, 1, 1, false},
	{"base64sha256", f_digest, 1, 1, false},
	{"base64sha512", f_digest, 1, 1, false},
	{"basename", f_basename, 1, 1, false},
	{"ceil", f_ceil, 1, 1, false},
	{"chomp", f_chomp, 1, 1, false},
	{"chunklist", f_chunklist, 2, 2, false},
	{"coalesce", f_coalesce, 1, -1, true},
	{"coalescelist", f_coalescelist, 1, -1, false},
	{"compact", f_compact, 1, 1, false},
	{"concat", f_concat, 1, -1, false},
	{"contains", f_contains, 2, 2, false},
	{"dirname", f_dirname, 1, 1, false},
	{"distinct", f_distinct, 1, 1, false},
	{"element", f_element, 2, 2, false},
	{"endswith", f_endswith, 2, 2, false},
	{"file", f_file, 1, 1, false},
	{"filebase64", f_filebase64, 1, 1, false},
	{"filebase64sha256", f_filedigest, 1, 1, false},
	{"filebase64sha512", f_filedigest, 1, 1, false},
	{"fileexists", f_fileexists, 1, 1, false},
	{"filemd5", f_filedigest, 1, 1, false},
	{"filesha1", f_filedigest, 1, 1, false},
	{"filesha256", f_filedigest, 1, 1, false},
	{"filesha512", f_filedigest, 1, 1, false},
	{"flatten", f_flatten, 1, 1, false},
	{"floor", f_floor, 1, 1, false},
	{"format", format, 1, -1, false},
	{"formatlist", f_formatlist, 1, -1, false},
	{"indent", f_indent, 2, 2, false},
	{"index", f_index, 2, 2, false},
	{"issensitive", f_issensitive, 1, 1, true},
	{"join", f_join, 2, -1, false},
	{"jsondecode", f_jsondecode, 1, 1, false},
	{"jsonencode", f_jsonencode, 1, 1, true},
	{"keys", f_keys, 1, 1, false},
	{"length", f_length, 1, 1, true},
	{"list", f_list, 0, -1, true},
	{"log", f_log, 2, 2, false},
	{"lookup", f_lookup, 2, 3, false},
	{"lower", f_lower, 1, 1, false},
	{"map", f_map, 0, -1, false},
	{"matchkeys", f_matchkeys, 3, 3, false},
	{"max", f_max, 1, -1, false},
	{"md5", f_digest, 1, 1, false},
	{"merge", f_merge, 0, -1, false},
	{"min", f_min, 1, -1, false},
	{"nonsensitive", f_nonsensitive, 1, 1, true},
	{"one", f_one, 1, 1, false},
	{"parseint", f_parseint, 2, 2, false},
	{"pathexpand", f_pathexpand, 1, 1, false},
	{"pow", f_pow, 2, 2, false},
	{"range", f_range, 1, 3, false},
	{"regex", f_regex, 2, 2, false},
	{"regexall", f_regexall, 2, 2, false},
	{"replace", f_replace, 3, 3, false},
	{"reverse", f_reverse, 1, 1, false},
	{"sensitive", f_sensitive, 1, 1, true},
	{"setintersection", f_setintersection, 1, -1, false},
	{"setproduct", f_setproduct, 1, -1, false},
	{"setsubtract", f_setsubtract, 2, 2, false},
	{"setunion", f_setunion, 1, -1, false},
	{"sha1", f_digest, 1, 1, false},
	{"sha256", f_digest, 1, 1, false},
	{"sha512", f_digest, 1, 1, false},
	{"signum", f_signum, 1, 1, false},
	{"slice", f_slice, 3, 3, false},
	{"sort", f_sort, 1, 1, false},
	{"split", f_split, 2, 2, false},
	{"startswith", f_startswith, 2, 2, false},
	{"strcontains", f_strcontains, 2, 2, false},
	{"strrev", f_strrev, 1, 1, false},
	{"substr", f_substr, 3, 3, false},
	{"sum", f_sum, 1, 1, false},
	{"templatefile", f_templatefile, 2, 2, false},
	{"timeadd", f_timeadd, 2, 2, false},
	{"timecmp", f_timecmp, 2, 2, false},
	{"timestamp", f_timestamp, 0, 0, false},
	{"title", f_title, 1, 1, false},
	{"tobool", f_tobool, 1, 1, false},
	{"tolist", f_tolist, 1, 1, false},
	{"tomap", f_tomap, 1, 1, false},
	{"tonumber", f_tonumber, 1, 1, false},
	{"toset", f_toset, 1, 1, false},
	{"tostring", f_tostring, 1, 1, false},
	{"transpose", f_transpose, 1, 1, false},
	{"trim", f_trim, 2, 2, false},
	{"trimprefix", f_trimprefix, 2, 2, false},
	{"trimspace", f_trimspace, 1, 1, false},
	{"trimsuffix", f_trimsuffix, 2, 2, false},
	{"upper", f_upper, 1, 1, false},
	{"urlencode", f_urlencode, 1, 1, false},
	{"uuid", f_uuid, 0, 0, false},
	{"values", f_values, 1, 1, false},
	{"zipmap", f_zipmap, 2, 2, false},
};

static int
by_name(const void *key, const void *row)
{
	return strcmp(key, ((const FunctionRow *) row)->name);
}

HclValue *
hcl_call(HclCtx *ctx, const HclExpr *e, HclValue **args, size_t n)
{
	const FunctionRow *row = bsearch(e->name,
									 functions,
									 sizeof(functions) / sizeof(functions[0]),
									 sizeof(functions[0]),
									 by_name);
	Call c = {ctx, e, args, n};
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
	if (sensitive && !v->sensitive && row->fn != f_nonsensitive && row->fn != f_issensitive)
	{
		HclValue *copy = hcl_alloc(ctx, sizeof(*copy));

		*copy = *v;
		copy->sensitive = true;
		return copy;
	}
	return v;
}
