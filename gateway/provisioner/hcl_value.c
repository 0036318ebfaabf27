/*
 * hcl_value.c -- arena, errors and values of the configuration language
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE 32768u

struct HclArenaChunk
{
	HclArenaChunk *next;
	size_t used;
	size_t size;
	max_align_t data[];
};

HclCtx *
hcl_create(void)
{
	HclCtx *ctx = calloc(1, sizeof(*ctx));

	return ctx;
}

void
hcl_destroy(HclCtx *ctx)
{
	HclArenaChunk *chunk;

	if (ctx == NULL)
		return;
	while ((chunk = ctx->chunks) != NULL)
	{
		ctx->chunks = chunk->next;
		free(chunk);
	}
	free(ctx);
}

/* Zeroed memory that lives as long as ctx. */
void *
hcl_alloc(HclCtx *ctx, size_t size)
{
	HclArenaChunk *chunk = ctx->chunks;
	size_t want = (size + 15) & ~(size_t) 15;
	void *p;

	if (size > HCL_MAX_MEMORY || ctx->used + want > HCL_MAX_MEMORY)
		hcl_raise(ctx,
				  (HclPos){0},
				  "the template needs more than %u MiB of memory",
				  HCL_MAX_MEMORY >> 20);
	if (chunk == NULL || chunk->size - chunk->used < want)
	{
		size_t cap = want > CHUNK_SIZE ? want : CHUNK_SIZE;

		chunk = calloc(1, sizeof(*chunk) + cap);
		if (chunk == NULL)
			hcl_raise(ctx, (HclPos){0}, "out of memory");
		chunk->size = cap;
		chunk->next = ctx->chunks;
		ctx->chunks = chunk;
	}
	p = (char *) chunk->data + chunk->used;
	chunk->used += want;
	ctx->used += want;
	return p;
}

char *
hcl_strndup(HclCtx *ctx, const char *s, size_t n)
{
	char *copy = hcl_alloc(ctx, n + 1);

	if (n > 0)
		memcpy(copy, s, n);
	return copy;
}

char *
hcl_printf(HclCtx *ctx, const char *fmt, ...)
{
	va_list ap;
	va_list again;
	char *text;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	text = hcl_alloc(ctx, (size_t) n + 1);
	vsnprintf(text, (size_t) n + 1, fmt, again);
	va_end(again);
	return text;
}

void
hcl_raise(HclCtx *ctx, HclPos pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ctx->error.message, sizeof(ctx->error.message), fmt, ap);
	va_end(ap);
	ctx->error.pos = pos;
	hcl_rethrow(ctx);
}

void
hcl_rethrow(HclCtx *ctx)
{
	if (ctx->handler == NULL)
		abort(); /* a caller without hcl_guard() */
	longjmp(*ctx->handler, 1);
}

/* Runs fn(arg); false if it raised: ctx->error then says what. */
bool
hcl_guard(HclCtx *ctx, void (*fn)(void *), void *arg)
{
	jmp_buf *const outer = ctx->handler;
	const int depth = ctx->depth;
	jmp_buf here;

	if (setjmp(here) != 0)
	{
		ctx->handler = outer;
		ctx->depth = depth;
		return false;
	}
	ctx->handler = &here;
	fn(arg);
	ctx->handler = outer;
	return true;
}

void
hcl_enter(HclCtx *ctx, HclPos pos)
{
	if (++ctx->depth > HCL_MAX_DEPTH)
		hcl_raise(ctx, pos, "nested more than %d levels deep", HCL_MAX_DEPTH);
}

void
hcl_step(HclCtx *ctx, HclPos pos)
{
	if (++ctx->steps > HCL_MAX_STEPS)
		hcl_raise(ctx, pos, "the template takes more than %ld steps to evaluate", HCL_MAX_STEPS);
}

/* "file:line: message" of the last error. */
char *
hcl_error_text(HclCtx *ctx)
{
	char *text;

	if (ctx->error.pos.file == NULL)
		return strdup(ctx->error.message);
	if (asprintf(&text, "%s:%d: %s", ctx->error.pos.file, ctx->error.pos.line, ctx->error.message) <
		0)
		return NULL;
	return text;
}

void
hcl_push(HclCtx *ctx, HclVec *vec, void *item)
{
	if (vec->n == vec->cap)
	{
		size_t cap = vec->cap == 0 ? 8 : vec->cap * 2;
		void **items = hcl_alloc(ctx, cap * sizeof(void *));

		if (vec->n > 0)
			memcpy(items, vec->items, vec->n * sizeof(void *));
		vec->items = items;
		vec->cap = cap;
	}
	vec->items[vec->n++] = item;
}

void
hcl_append(HclCtx *ctx, HclBuf *buf, const char *s, size_t n)
{
	if (n > HCL_MAX_MEMORY)
		hcl_raise(ctx, (HclPos){0}, "text is too long");
	if (buf->cap - buf->len < n)
	{
		size_t cap = (buf->len + n) * 2 + 32;
		char *data = hcl_alloc(ctx, cap);

		if (buf->len > 0)
			memcpy(data, buf->data, buf->len);
		buf->data = data;
		buf->cap = cap;
	}
	if (n > 0)
		memcpy(buf->data + buf->len, s, n);
	buf->len += n;
}

HclValue *
hcl_buf_string(HclCtx *ctx, const HclBuf *buf)
{
	return hcl_stringn(ctx, buf->data, buf->len);
}

/* Is this text UTF-8, as JSON needs it? */
bool
hcl_is_utf8(const char *s, size_t len)
{
	size_t i = 0;

	while (i < len)
	{
		const unsigned char c = (unsigned char) s[i];
		const size_t n = c < 0x80				 ? 1
						 : c >= 0xc2 && c < 0xe0 ? 2
						 : c >= 0xe0 && c < 0xf0 ? 3
						 : c >= 0xf0 && c < 0xf5 ? 4
												 : 0;
		size_t k;

		if (n == 0 || len - i < n)
			return false;
		for (k = 1; k < n; k++)
			if (((unsigned char) s[i + k] & 0xc0) != 0x80)
				return false;
		if ((c == 0xe0 && (unsigned char) s[i + 1] < 0xa0) ||
			(c == 0xed && (unsigned char) s[i + 1] > 0x9f) ||
			(c == 0xf0 && (unsigned char) s[i + 1] < 0x90) ||
			(c == 0xf4 && (unsigned char) s[i + 1] > 0x8f))
			return false;
		i += n;
	}
	return true;
}

static HclValue *
make(HclCtx *ctx, HclKind kind)
{
	HclValue *v = hcl_alloc(ctx, sizeof(*v));

	v->kind = kind;
	return v;
}

HclValue *
hcl_null(HclCtx *ctx)
{
	return make(ctx, HCL_NULL);
}

HclValue *
hcl_unknown(HclCtx *ctx)
{
	return make(ctx, HCL_UNKNOWN);
}

HclValue *
hcl_bool(HclCtx *ctx, bool b)
{
	HclValue *v = make(ctx, HCL_BOOL);

	v->u.boolean = b;
	return v;
}

HclValue *
hcl_number(HclCtx *ctx, long double n)
{
	HclValue *v = make(ctx, HCL_NUMBER);

	v->u.number = n;
	return v;
}

HclValue *
hcl_stringn(HclCtx *ctx, const char *s, size_t n)
{
	HclValue *v = make(ctx, HCL_STRING);

	v->u.str.data = hcl_strndup(ctx, s, n);
	v->u.str.len = n;
	return v;
}

HclValue *
hcl_string(HclCtx *ctx, const char *s)
{
	return hcl_stringn(ctx, s, strlen(s));
}

HclValue *
hcl_list(HclCtx *ctx, HclValue **items, size_t n)
{
	HclValue *v = make(ctx, HCL_LIST);

	v->u.list.items = items;
	v->u.list.n = n;
	return v;
}

/* A total order: of sets, and of sort(). */
static int
compare(const HclValue *a, const HclValue *b)
{
	size_t i;
	int c;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	switch (a->kind)
	{
		case HCL_BOOL:
			return (int) a->u.boolean - (int) b->u.boolean;
		case HCL_NUMBER:
			return (a->u.number > b->u.number) - (a->u.number < b->u.number);
		case HCL_STRING:
			c = memcmp(a->u.str.data,
					   b->u.str.data,
					   a->u.str.len < b->u.str.len ? a->u.str.len : b->u.str.len);
			return c != 0 ? c : (a->u.str.len > b->u.str.len) - (a->u.str.len < b->u.str.len);
		case HCL_LIST:
		case HCL_SET:
			for (i = 0; i < a->u.list.n && i < b->u.list.n; i++)
				if ((c = compare(a->u.list.items[i], b->u.list.items[i])) != 0)
					return c;
			return (a->u.list.n > b->u.list.n) - (a->u.list.n < b->u.list.n);
		case HCL_OBJECT:
			for (i = 0; i < a->u.map.n && i < b->u.map.n; i++)
			{
				if ((c = strcmp(a->u.map.items[i].key, b->u.map.items[i].key)) != 0)
					return c;
				if ((c = compare(a->u.map.items[i].value, b->u.map.items[i].value)) != 0)
					return c;
			}
			return (a->u.map.n > b->u.map.n) - (a->u.map.n < b->u.map.n);
		default:
			return 0;
	}
}

static int
compare_items(const void *a, const void *b)
{
	return compare(*(HclValue *const *) a, *(HclValue *const *) b);
}

HclValue *
hcl_set(HclCtx *ctx, HclValue **items, size_t n)
{
	HclValue *v = make(ctx, HCL_SET);
	HclValue **copy = hcl_alloc(ctx, (n + 1) * sizeof(*copy));
	size_t kept = 0;
	size_t i;

	if (n > 0)
		memcpy(copy, items, n * sizeof(*copy));
	qsort(copy, n, sizeof(*copy), compare_items);
	for (i = 0; i < n; i++)
		if (kept == 0 || compare(copy[kept - 1], copy[i]) != 0)
			copy[kept++] = copy[i];
	v->u.list.items = copy;
	v->u.list.n = kept;
	return v;
}

typedef struct Ordered
{
	HclMember member;
	size_t order;
} Ordered;

static int
compare_members(const void *a, const void *b)
{
	const Ordered *x = a;
	const Ordered *y = b;
	int c = strcmp(x->member.key, y->member.key);

	return c != 0 ? c : (x->order > y->order) - (x->order < y->order);
}

/* Of equal keys the last one wins. */
HclValue *
hcl_object(HclCtx *ctx, HclMember *items, size_t n)
{
	HclValue *v = make(ctx, HCL_OBJECT);
	Ordered *sorted = hcl_alloc(ctx, (n + 1) * sizeof(*sorted));
	HclMember *kept = hcl_alloc(ctx, (n + 1) * sizeof(*kept));
	size_t count = 0;
	size_t i;

	for (i = 0; i < n; i++)
		sorted[i] = (Ordered){items[i], i};
	qsort(sorted, n, sizeof(*sorted), compare_members);
	for (i = 0; i < n; i++)
	{
		if (count > 0 && strcmp(kept[count - 1].key, sorted[i].member.key) == 0)
			count--;
		kept[count++] = sorted[i].member;
	}
	v->u.map.items = kept;
	v->u.map.n = count;
	return v;
}

/* A copy of object (or of nothing, if NULL) where key has value. */
HclValue *
hcl_with(HclCtx *ctx, const HclValue *object, const char *key, HclValue *value)
{
	size_t n = object != NULL && object->kind == HCL_OBJECT ? object->u.map.n : 0;
	HclMember *items = hcl_alloc(ctx, (n + 1) * sizeof(*items));
	HclValue *v;

	if (n > 0)
		memcpy(items, object->u.map.items, n * sizeof(*items));
	items[n] = (HclMember){hcl_strndup(ctx, key, strlen(key)), value};
	v = hcl_object(ctx, items, n + 1);
	v->open = object != NULL && object->open;
	return v;
}

HclValue *
hcl_get(const HclValue *object, const char *key)
{
	size_t lo = 0;
	size_t hi;

	if (object == NULL || object->kind != HCL_OBJECT)
		return NULL;
	hi = object->u.map.n;
	while (lo < hi)
	{
		size_t mid = (lo + hi) / 2;
		int c = strcmp(object->u.map.items[mid].key, key);

		if (c == 0)
			return object->u.map.items[mid].value;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* The text of a member, or NULL where it is missing, null, unknown or has none. */
const char *
hcl_get_string(HclCtx *ctx, const HclValue *object, const char *key)
{
	HclValue *v = hcl_get(object, key);

	if (v == NULL || (v = hcl_to_string(ctx, v)) == NULL || v->kind != HCL_STRING)
		return NULL;
	return v->u.str.data;
}

bool
hcl_get_bool(const HclValue *object, const char *key, bool def)
{
	const HclValue *v = hcl_get(object, key);

	if (v == NULL)
		return def;
	if (v->kind == HCL_BOOL)
		return v->u.boolean;
	if (v->kind == HCL_STRING)
		return strcmp(v->u.str.data, "true") == 0;
	return def;
}

bool
hcl_equal(const HclValue *a, const HclValue *b)
{
	return compare(a, b) == 0;
}

bool
hcl_is_known(const HclValue *v)
{
	size_t i;

	switch (v->kind)
	{
		case HCL_UNKNOWN:
			return false;
		case HCL_LIST:
		case HCL_SET:
			for (i = 0; i < v->u.list.n; i++)
				if (!hcl_is_known(v->u.list.items[i]))
					return false;
			return true;
		case HCL_OBJECT:
			for (i = 0; i < v->u.map.n; i++)
				if (!hcl_is_known(v->u.map.items[i].value))
					return false;
			return true;
		default:
			return true;
	}
}

/* Decimal text: the shortest that gives the number back. */
char *
hcl_number_text(HclCtx *ctx, long double n)
{
	char text[64];
	int precision;

	if (n == floorl(n) && fabsl(n) < 1e19L)
		return hcl_printf(ctx, "%.0Lf", n == 0 ? 0.0L : n);
	for (precision = 1; precision <= 17; precision++)
	{
		snprintf(text, sizeof(text), "%.*g", precision, (double) n);
		if (strtod(text, NULL) == (double) n)
			break;
	}
	if (strchr(text, 'e') != NULL && fabsl(n) < 1e40L && fabsl(n) > 1e-20L)
	{
		int digits = fabsl(n) >= 1 ? 0 : precision + (int) ceill(-log10l(fabsl(n)));

		return hcl_printf(ctx, "%.*Lf", digits, n);
	}
	return hcl_strndup(ctx, text, strlen(text));
}

bool
hcl_parse_number(const char *s, size_t len, long double *n)
{
	char text[512];
	char *end;
	size_t i;

	if (len == 0 || len >= sizeof(text))
		return false;
	for (i = 0; i < len; i++)
		if (strchr("0123456789+-.eE", s[i]) == NULL || s[i] == '\0')
			return false;
	memcpy(text, s, len);
	text[len] = '\0';
	*n = strtold(text, &end);
	return *end == '\0' && isfinite(*n);
}

HclValue *
hcl_to_string(HclCtx *ctx, HclValue *v)
{
	HclValue *out;

	switch (v->kind)
	{
		case HCL_STRING:
		case HCL_UNKNOWN:
		case HCL_NULL:
			return v;
		case HCL_BOOL:
			out = hcl_string(ctx, v->u.boolean ? "true" : "false");
			break;
		case HCL_NUMBER:
			out = hcl_string(ctx, hcl_number_text(ctx, v->u.number));
			break;
		default:
			return NULL;
	}
	out->sensitive = v->sensitive;
	return out;
}

HclValue *
hcl_to_number(HclCtx *ctx, HclValue *v)
{
	long double n;

	if (v->kind == HCL_NUMBER || v->kind == HCL_UNKNOWN || v->kind == HCL_NULL)
		return v;
	if (v->kind == HCL_STRING && hcl_parse_number(v->u.str.data, v->u.str.len, &n))
		return hcl_number(ctx, n);
	return NULL;
}

HclValue *
hcl_to_bool(HclCtx *ctx, HclValue *v)
{
	if (v->kind == HCL_BOOL || v->kind == HCL_UNKNOWN || v->kind == HCL_NULL)
		return v;
	if (v->kind == HCL_STRING &&
		(strcmp(v->u.str.data, "true") == 0 || strcmp(v->u.str.data, "1") == 0))
		return hcl_bool(ctx, true);
	if (v->kind == HCL_STRING &&
		(strcmp(v->u.str.data, "false") == 0 || strcmp(v->u.str.data, "0") == 0))
		return hcl_bool(ctx, false);
	return NULL;
}

const char *
hcl_kind_name(const HclValue *v)
{
	static const char *const names[] = {
		"null", "bool", "number", "string", "list", "set", "object", "unknown"};

	return names[v->kind];
}

json_t *
hcl_to_json(const HclValue *v)
{
	json_t *j;
	size_t i;

	switch (v->kind)
	{
		case HCL_BOOL:
			return json_boolean(v->u.boolean);
		case HCL_NUMBER:
			if (v->u.number == floorl(v->u.number) && fabsl(v->u.number) < 9.2e18L)
				return json_integer((json_int_t) v->u.number);
			return isfinite((double) v->u.number) ? json_real((double) v->u.number) : json_null();
		case HCL_STRING:
			j = json_stringn(v->u.str.data, v->u.str.len);
			return j != NULL ? j : json_string("\xef\xbf\xbd"); /* not UTF-8 */
		case HCL_LIST:
		case HCL_SET:
			j = json_array();
			for (i = 0; i < v->u.list.n; i++)
				json_array_append_new(j, hcl_to_json(v->u.list.items[i]));
			return j;
		case HCL_OBJECT:
			j = json_object();
			for (i = 0; i < v->u.map.n; i++)
				if (v->u.map.items[i].value->kind != HCL_UNKNOWN)
					json_object_set_new(
						j, v->u.map.items[i].key, hcl_to_json(v->u.map.items[i].value));
			return j;
		default:
			return json_null();
	}
}

static HclValue *
object_from_json(HclCtx *ctx, const json_t *j)
{
	HclMember *items = hcl_alloc(ctx, (json_object_size(j) + 1) * sizeof(*items));
	const char *key;
	json_t *item;
	size_t n = 0;

	json_object_foreach((json_t *) (uintptr_t) j, key, item)
	{
		items[n].key = hcl_strndup(ctx, key, strlen(key));
		items[n++].value = hcl_from_json(ctx, item);
	}
	return hcl_object(ctx, items, n);
}

HclValue *
hcl_from_json(HclCtx *ctx, const json_t *j)
{
	HclValue **items;
	HclValue *v;
	size_t i;

	hcl_enter(ctx, (HclPos){0});
	switch (json_typeof(j))
	{
		case JSON_STRING:
			v = hcl_stringn(ctx, json_string_value(j), json_string_length(j));
			break;
		case JSON_INTEGER:
			v = hcl_number(ctx, (long double) json_integer_value(j));
			break;
		case JSON_REAL:
			v = hcl_number(ctx, (long double) json_real_value(j));
			break;
		case JSON_TRUE:
		case JSON_FALSE:
			v = hcl_bool(ctx, json_is_true(j));
			break;
		case JSON_ARRAY:
			items = hcl_alloc(ctx, (json_array_size(j) + 1) * sizeof(*items));
			for (i = 0; i < json_array_size(j); i++)
				items[i] = hcl_from_json(ctx, json_array_get(j, i));
			v = hcl_list(ctx, items, json_array_size(j));
			break;
		case JSON_OBJECT:
			v = object_from_json(ctx, j);
			break;
		default:
			v = hcl_null(ctx);
			break;
	}
	ctx->depth--;
	return v;
}
