/*
 * hcl_func_text.c -- functions of text: pieces, regular expressions, format
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_func.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define FORMAT_MAX_WIDTH 1024

/* -- text ---------------------------------------------------------------- */

static HclValue *
map_bytes(HclCall *c, int (*fn)(int))
{
	const HclValue *s = hcl_arg_text(c, 0);
	HclValue *out = hcl_stringn(c->ctx, s->u.str.data, s->u.str.len);
	char *data = (char *) (uintptr_t) out->u.str.data;
	size_t i;

	for (i = 0; i < out->u.str.len; i++)
		if ((unsigned char) data[i] < 0x80)
			data[i] = (char) fn((unsigned char) data[i]);
	return out;
}

static HclValue *
f_upper(HclCall *c)
{
	return map_bytes(c, toupper);
}

static HclValue *
f_lower(HclCall *c)
{
	return map_bytes(c, tolower);
}

static HclValue *
f_title(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	HclValue *out = hcl_stringn(c->ctx, s->u.str.data, s->u.str.len);
	char *data = (char *) (uintptr_t) out->u.str.data;
	size_t i;

	for (i = 0; i < out->u.str.len; i++)
		if (i == 0 || isspace((unsigned char) data[i - 1]))
			data[i] = (char) toupper((unsigned char) data[i]);
	return out;
}

static HclValue *
trimmed(HclCall *c, const char *set)
{
	const HclValue *s = hcl_arg_text(c, 0);
	size_t from = 0;
	size_t to = s->u.str.len;

	while (from < to && hcl_in_cutset(s->u.str.data[from], set))
		from++;
	while (to > from && hcl_in_cutset(s->u.str.data[to - 1], set))
		to--;
	return hcl_stringn(c->ctx, s->u.str.data + from, to - from);
}

static HclValue *
f_trim(HclCall *c)
{
	return trimmed(c, hcl_arg_text(c, 1)->u.str.data);
}

static HclValue *
f_trimspace(HclCall *c)
{
	return trimmed(c, " \t\r\n\v\f");
}

static HclValue *
f_chomp(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
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
f_startswith(HclCall *c)
{
	return hcl_bool(c->ctx, has_prefix(hcl_arg_text(c, 0), hcl_arg_text(c, 1)));
}

static HclValue *
f_endswith(HclCall *c)
{
	return hcl_bool(c->ctx, has_suffix(hcl_arg_text(c, 0), hcl_arg_text(c, 1)));
}

static HclValue *
f_strcontains(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	const HclValue *part = hcl_arg_text(c, 1);

	return hcl_bool(c->ctx,
					memmem(s->u.str.data, s->u.str.len, part->u.str.data, part->u.str.len) != NULL);
}

static HclValue *
f_trimprefix(HclCall *c)
{
	HclValue *s = hcl_arg_text(c, 0);
	const HclValue *part = hcl_arg_text(c, 1);

	return has_prefix(s, part) ? hcl_stringn(c->ctx,
											 s->u.str.data + part->u.str.len,
											 s->u.str.len - part->u.str.len)
							   : s;
}

static HclValue *
f_trimsuffix(HclCall *c)
{
	HclValue *s = hcl_arg_text(c, 0);
	const HclValue *part = hcl_arg_text(c, 1);

	return has_suffix(s, part) ? hcl_stringn(c->ctx, s->u.str.data, s->u.str.len - part->u.str.len)
							   : s;
}

static HclValue *
f_strrev(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	char *out = hcl_alloc(c->ctx, s->u.str.len + 1);
	size_t at = 0;

	while (at < s->u.str.len)
	{
		const size_t n = hcl_char_len(s->u.str.data + at, s->u.str.len - at);

		memcpy(out + s->u.str.len - at - n, s->u.str.data + at, n);
		at += n;
	}
	return hcl_stringn(c->ctx, out, s->u.str.len);
}

static HclValue *
f_substr(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	const long total = (long) hcl_count_chars(s);
	long offset = hcl_arg_integer(c, 1);
	long length = hcl_arg_integer(c, 2);
	size_t at = 0;
	size_t from;

	if (offset < 0)
		offset = offset + total < 0 ? 0 : offset + total;
	if (offset > total)
		offset = total;
	if (length < 0 || length > total - offset)
		length = total - offset;
	while (offset-- > 0)
		at += hcl_char_len(s->u.str.data + at, s->u.str.len - at);
	from = at;
	while (length-- > 0)
		at += hcl_char_len(s->u.str.data + at, s->u.str.len - at);
	return hcl_stringn(c->ctx, s->u.str.data + from, at - from);
}

static HclValue *
f_indent(HclCall *c)
{
	const long n = hcl_arg_integer(c, 0);
	const HclValue *s = hcl_arg_text(c, 1);
	HclBuf out = {0};
	size_t i;
	long k;

	if (n < 0 || n > FORMAT_MAX_WIDTH)
		hcl_bad_call(c, "the number of spaces is out of range");
	for (i = 0; i < s->u.str.len; i++)
	{
		hcl_append(c->ctx, &out, s->u.str.data + i, 1);
		for (k = 0; s->u.str.data[i] == '\n' && k < n; k++)
			hcl_append(c->ctx, &out, " ", 1);
	}
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_join(HclCall *c)
{
	const HclValue *sep = hcl_arg_text(c, 0);
	HclBuf out = {0};
	bool first = true;
	size_t i;
	size_t j;

	for (i = 1; i < c->n; i++)
	{
		const HclValue *v = hcl_arg_list(c, i);

		for (j = 0; j < v->u.list.n; j++)
		{
			HclValue *s = hcl_to_string(c->ctx, v->u.list.items[j]);

			if (s == NULL || s->kind != HCL_STRING)
				hcl_bad_call(c, "an element is not text");
			if (!first)
				hcl_append(c->ctx, &out, sep->u.str.data, sep->u.str.len);
			first = false;
			hcl_append(c->ctx, &out, s->u.str.data, s->u.str.len);
		}
	}
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_split(HclCall *c)
{
	const HclValue *sep = hcl_arg_text(c, 0);
	const HclValue *s = hcl_arg_text(c, 1);
	const char *at = s->u.str.data;
	const char *end = at + s->u.str.len;
	HclVec out = {0};

	for (;;)
	{
		const char *hit = NULL;

		if (sep->u.str.len > 0)
			hit = memmem(at, (size_t) (end - at), sep->u.str.data, sep->u.str.len);
		else if (at < end && (size_t) (end - at) > hcl_char_len(at, (size_t) (end - at)))
			hit = at + hcl_char_len(at, (size_t) (end - at));
		hcl_push(c->ctx, &out, hcl_stringn(c->ctx, at, (size_t) ((hit != NULL ? hit : end) - at)));
		if (hit == NULL)
			return hcl_answer_list(c, &out);
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
regex_compile(HclCall *c, Regex *r, const char *pattern, size_t len)
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
regex_value(HclCall *c, const Regex *r, const char *s)
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
		return hcl_answer_list(c, &out);
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
	HclCall *c;
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
		hcl_bad_call(run->c, "the replacement failed");
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
			hcl_bad_call(run->c,
						 "the regular expression is too expensive, or the text is not UTF-8");
		hcl_push(run->c->ctx, &out, regex_value(run->c, &run->regex, run->s->u.str.data));
		if (!run->all)
			break;
		from = at[1] > at[0] ? at[1]
							 : at[1] + (at[1] < run->s->u.str.len
											? hcl_char_len(run->s->u.str.data + at[1], 4)
											: 1);
	}
	if (!run->all && out.n == 0)
		hcl_bad_call(run->c, "the text does not match");
	run->out = run->all ? hcl_answer_list(run->c, &out) : out.items[0];
}

static HclValue *
regex_apply(HclCall *c, const char *pattern, size_t len, const HclValue *s, const HclValue *with,
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
f_regex(HclCall *c)
{
	const HclValue *pattern = hcl_arg_text(c, 0);

	return regex_apply(c, pattern->u.str.data, pattern->u.str.len, hcl_arg_text(c, 1), NULL, false);
}

static HclValue *
f_regexall(HclCall *c)
{
	const HclValue *pattern = hcl_arg_text(c, 0);

	return regex_apply(c, pattern->u.str.data, pattern->u.str.len, hcl_arg_text(c, 1), NULL, true);
}

static HclValue *
f_replace(HclCall *c)
{
	const HclValue *s = hcl_arg_text(c, 0);
	const HclValue *from = hcl_arg_text(c, 1);
	const HclValue *to = hcl_arg_text(c, 2);
	const char *at = s->u.str.data;
	const char *end = at + s->u.str.len;
	const char *hit;
	HclBuf out = {0};

	if (from->u.str.len > 1 && from->u.str.data[0] == '/' &&
		from->u.str.data[from->u.str.len - 1] == '/')
		return regex_apply(c, from->u.str.data + 1, from->u.str.len - 2, s, to, false);
	if (from->u.str.len == 0)
		return hcl_arg_text(c, 0);
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

/* One verb: flags and width have been checked to be few and small. */
static void
format_verb(HclCall *c, HclBuf *out, const char *spec, char verb, size_t arg)
{
	char fmt[48];
	HclBuf quoted = {0};

	if (arg >= c->n)
		hcl_bad_call(c, "there are fewer arguments than verbs");
	switch (verb)
	{
		case 'd':
		case 'x':
		case 'X':
		case 'o':
			snprintf(fmt, sizeof(fmt), "%%%sl%c", spec, verb);
			{
				const char *s = hcl_printf(c->ctx, (const char *) fmt, hcl_arg_integer(c, arg));

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 'e':
		case 'f':
		case 'g':
			snprintf(fmt, sizeof(fmt), "%%%sL%c", spec, verb);
			{
				const char *s = hcl_printf(c->ctx, (const char *) fmt, hcl_arg_number(c, arg));

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 't':
		case 's':
			snprintf(fmt, sizeof(fmt), "%%%ss", spec);
			{
				const char *s =
					hcl_printf(c->ctx, (const char *) fmt, hcl_arg_text(c, arg)->u.str.data);

				hcl_append(c->ctx, out, s, strlen(s));
			}
			return;
		case 'q':
			hcl_append_json(c, &quoted, hcl_arg_text(c, arg));
			hcl_append(c->ctx, out, quoted.data, quoted.len);
			return;
		case 'v':
			if (c->args[arg]->kind == HCL_STRING || c->args[arg]->kind == HCL_NUMBER ||
				c->args[arg]->kind == HCL_BOOL)
				format_verb(c, out, spec, 's', arg);
			else
				hcl_append_json(c, out, c->args[arg]);
			return;
		default:
			hcl_bad_call(c, "there is no such verb");
	}
}

static HclValue *
format(HclCall *c)
{
	const HclValue *f = hcl_arg_text(c, 0);
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
		while (hcl_in_cutset(f->u.str.data[i], "+-# 0123456789.[]"))
		{
			if (f->u.str.data[i] == '[')
			{
				arg = (size_t) strtoul(f->u.str.data + i + 1, NULL, 10);
				if (arg == 0)
					hcl_bad_call(c, "an argument's number must be 1 or more");
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
			hcl_bad_call(c, "the width is too large");
		if (strchr(spec, '.') != NULL &&
			strtoul(strchr(spec, '.') + 1, NULL, 10) > FORMAT_MAX_WIDTH)
			hcl_bad_call(c, "the precision is too large");
		if (i >= f->u.str.len)
			hcl_bad_call(c, "a verb is missing");
		format_verb(c, &out, spec, f->u.str.data[i], arg++);
		i++;
	}
	if (!hcl_is_utf8(out.data, out.len))
		hcl_bad_call(c, "the precision cuts a character");
	return hcl_buf_string(c->ctx, &out);
}

static HclValue *
f_formatlist(HclCall *c)
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
		HclCall one = {c->ctx, c->e, args, c->n};

		for (i = 0; i < c->n; i++)
		{
			args[i] = c->args[i];
			if (i > 0 && (args[i]->kind == HCL_LIST || args[i]->kind == HCL_SET))
			{
				if (args[i]->u.list.n != count)
					hcl_bad_call(c, "the lists differ in length");
				args[i] = args[i]->u.list.items[k];
			}
		}
		hcl_push(c->ctx, &out, format(&one));
	}
	return hcl_answer_list(c, &out);
}

/* -- table --------------------------------------------------------------- */

static const HclFunction functions[] = {
	{"chomp", f_chomp, 1, 1, false, false},
	{"endswith", f_endswith, 2, 2, false, false},
	{"format", format, 1, -1, false, false},
	{"formatlist", f_formatlist, 1, -1, false, false},
	{"indent", f_indent, 2, 2, false, false},
	{"join", f_join, 2, -1, false, false},
	{"lower", f_lower, 1, 1, false, false},
	{"regex", f_regex, 2, 2, false, false},
	{"regexall", f_regexall, 2, 2, false, false},
	{"replace", f_replace, 3, 3, false, false},
	{"split", f_split, 2, 2, false, false},
	{"startswith", f_startswith, 2, 2, false, false},
	{"strcontains", f_strcontains, 2, 2, false, false},
	{"strrev", f_strrev, 1, 1, false, false},
	{"substr", f_substr, 3, 3, false, false},
	{"title", f_title, 1, 1, false, false},
	{"trim", f_trim, 2, 2, false, false},
	{"trimprefix", f_trimprefix, 2, 2, false, false},
	{"trimspace", f_trimspace, 1, 1, false, false},
	{"trimsuffix", f_trimsuffix, 2, 2, false, false},
	{"upper", f_upper, 1, 1, false, false},
};

const HclFunctions hcl_text_functions = HCL_FUNCTIONS(functions);
