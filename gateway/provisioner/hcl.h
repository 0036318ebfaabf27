/*
 * hcl.h -- the HashiCorp configuration language: values, parser, evaluator
 *
 * A pure library: no files, no clock but the one given, no environment.  All
 * memory belongs to an HclCtx and goes with it.  What is wrong with the input
 * is raised with hcl_raise(), which jumps to the nearest hcl_guard(); there is
 * nothing to clean up on the way, since everything sits in the arena.
 *
 * Tuples and lists are one kind here, objects and maps another.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_HCL_H
#define CODER_HCL_H

#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define HCL_MAX_DEPTH 128				   /* nesting of expressions, blocks, values, templates */
#define HCL_MAX_MEMORY (64u << 20)		   /* arena of one evaluation */
#define HCL_MAX_STEPS 4000000L			   /* expressions evaluated, elements visited */
#define HCL_MAX_SOURCE ((size_t) 4u << 20) /* one file */

typedef enum HclKind
{
	HCL_NULL,
	HCL_BOOL,
	HCL_NUMBER,
	HCL_STRING,
	HCL_LIST,
	HCL_SET,
	HCL_OBJECT,
	HCL_UNKNOWN
} HclKind;

typedef struct HclValue HclValue;

typedef struct HclMember
{
	const char *key;
	HclValue *value;
} HclMember;

struct HclValue
{
	HclKind kind;
	bool sensitive;
	bool open; /* object: attributes that are not listed are unknown, not missing */
	union
	{
		bool boolean;
		long double number;
		struct
		{
			const char *data; /* NUL-terminated, too */
			size_t len;
		} str;
		struct
		{
			HclValue **items;
			size_t n;
		} list; /* sets hold no equal elements, in a fixed order */
		struct
		{
			HclMember *items;
			size_t n;
		} map; /* sorted by key */
	} u;
};

typedef struct HclPos
{
	const char *file;
	int line;
} HclPos;

typedef enum HclExprKind
{
	HX_LITERAL,
	HX_TEMPLATE, /* kids: parts */
	HX_TUPLE,
	HX_OBJECT, /* kids: key, value, key, value, … */
	HX_VAR,
	HX_ATTR,  /* kids[0].name */
	HX_INDEX, /* kids[0][kids[1]] */
	HX_SPLAT, /* kids[1] over every element of kids[0] */
	HX_ITEM,  /* the element of the innermost splat */
	HX_CALL,  /* flag: the last argument is expanded */
	HX_COND,
	HX_FOR, /* kids: collection, key or NULL, value, condition or NULL; flag: grouping */
	HX_BINARY,
	HX_UNARY,
	HX_TPL_IF, /* kids: condition, then, else or NULL */
	HX_TPL_FOR /* kids: collection, body */
} HclExprKind;

typedef struct HclExpr HclExpr;
struct HclExpr
{
	HclExprKind kind;
	HclPos pos;
	int op; /* operator; for HX_FOR '[' or '{' */
	bool flag;
	const char *name;
	const char *name2;
	HclValue *value;
	HclExpr **kids;
	size_t n;
	const char *text; /* source text, for tags and messages */
	size_t text_len;
};

typedef struct HclAttr
{
	const char *name;
	HclExpr *expr;
	HclPos pos;
} HclAttr;

typedef struct HclBlock HclBlock;

typedef struct HclBody
{
	HclAttr *attrs;
	size_t nattrs;
	HclBlock **blocks;
	size_t nblocks;
} HclBody;

struct HclBlock
{
	const char *type;
	const char **labels;
	size_t nlabels;
	HclBody body;
	HclPos pos;
};

typedef struct HclArenaChunk HclArenaChunk;

typedef struct HclError
{
	char message[768];
	HclPos pos;
} HclError;

/* Reads a file of the template; false where there is none. */
typedef bool (*HclFileFn)(void *arg, const char *path, const char **data, size_t *len);

typedef struct HclCtx
{
	HclArenaChunk *chunks;
	size_t used;
	jmp_buf *handler;
	HclError error;
	int depth;
	long steps;
	HclFileFn file;
	void *file_arg;
	struct timespec now; /* what timestamp() answers */
} HclCtx;

/* Names that an expression may use.  Lookup goes outwards; the outermost scope resolves the rest.
 */
typedef struct HclScope HclScope;

/*
 * Answers the value that names[0..n) starts with, and how many names it took;
 * NULL where there is no such thing.
 */
typedef HclValue *(*HclResolveFn)(void *arg, const HclExpr *at, const char *const *names, size_t n,
								  size_t *taken);

struct HclScope
{
	const HclScope *parent;
	const char *name;
	HclValue *value;
	HclResolveFn resolve; /* outermost scope only */
	void *arg;
};

/* context and errors */
extern HclCtx *hcl_create(void);
extern void hcl_destroy(HclCtx *ctx);
extern void *hcl_alloc(HclCtx *ctx, size_t size);
extern char *hcl_strndup(HclCtx *ctx, const char *s, size_t n);
extern char *hcl_printf(HclCtx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern _Noreturn void hcl_raise(HclCtx *ctx, HclPos pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
extern _Noreturn void hcl_rethrow(HclCtx *ctx);
extern bool hcl_guard(HclCtx *ctx, void (*fn)(void *), void *arg);
extern void hcl_enter(HclCtx *ctx, HclPos pos);
extern void hcl_step(HclCtx *ctx, HclPos pos);
extern char *hcl_error_text(HclCtx *ctx);

/* values */
extern HclValue *hcl_null(HclCtx *ctx);
extern HclValue *hcl_unknown(HclCtx *ctx);
extern HclValue *hcl_bool(HclCtx *ctx, bool b);
extern HclValue *hcl_number(HclCtx *ctx, long double n);
extern HclValue *hcl_string(HclCtx *ctx, const char *s);
extern HclValue *hcl_stringn(HclCtx *ctx, const char *s, size_t n);
extern HclValue *hcl_list(HclCtx *ctx, HclValue **items, size_t n);
extern HclValue *hcl_set(HclCtx *ctx, HclValue **items, size_t n);
extern HclValue *hcl_object(HclCtx *ctx, HclMember *items, size_t n);
extern HclValue *hcl_with(HclCtx *ctx, const HclValue *object, const char *key, HclValue *value);
extern HclValue *hcl_get(const HclValue *object, const char *key);
extern const char *hcl_get_string(HclCtx *ctx, const HclValue *object, const char *key);
extern bool hcl_get_bool(const HclValue *object, const char *key, bool def);
extern bool hcl_equal(const HclValue *a, const HclValue *b);
extern bool hcl_is_known(const HclValue *v);			  /* wholly */
extern HclValue *hcl_to_string(HclCtx *ctx, HclValue *v); /* NULL where it has no text */
extern HclValue *hcl_to_number(HclCtx *ctx, HclValue *v);
extern HclValue *hcl_to_bool(HclCtx *ctx, HclValue *v);
extern const char *hcl_kind_name(const HclValue *v);
extern char *hcl_number_text(HclCtx *ctx, long double n);
extern json_t *hcl_to_json(const HclValue *v); /* unknown is left out of objects, null elsewhere */
extern HclValue *hcl_from_json(HclCtx *ctx, const json_t *j);
extern bool hcl_is_utf8(const char *s, size_t len);
extern bool hcl_parse_number(const char *s, size_t len, long double *n);

/* growing arrays in the arena */
typedef struct HclVec
{
	void **items;
	size_t n;
	size_t cap;
} HclVec;
extern void hcl_push(HclCtx *ctx, HclVec *vec, void *item);

typedef struct HclBuf
{
	char *data;
	size_t len;
	size_t cap;
} HclBuf;
extern void hcl_append(HclCtx *ctx, HclBuf *buf, const char *s, size_t n);
extern HclValue *hcl_buf_string(HclCtx *ctx, const HclBuf *buf);

/* A random UUID; NULL where there is no randomness. */
extern const char *hcl_uuid(HclCtx *ctx);

/* parser: both raise on error */
extern HclBody *hcl_parse(HclCtx *ctx, const char *file, const char *src, size_t len);
extern HclBody *hcl_parse_json(HclCtx *ctx, const char *file, const char *src, size_t len);
extern HclExpr *hcl_parse_expr(HclCtx *ctx, const char *file, const char *src, size_t len);
extern HclExpr *hcl_parse_template(HclCtx *ctx, const char *file, int line, const char *src,
								   size_t len);
extern const HclAttr *hcl_attr(const HclBody *body, const char *name);

/* evaluator: raises on error */
extern HclValue *hcl_eval(HclCtx *ctx, const HclExpr *expr, const HclScope *scope);
extern HclValue *hcl_eval_body(HclCtx *ctx, const HclBody *body, const HclScope *scope);
extern HclValue *hcl_convert(HclCtx *ctx, HclValue *v, const HclExpr *type, HclPos pos);
extern HclValue *hcl_index(HclCtx *ctx, HclValue *v, HclValue *key, HclPos pos);
extern HclValue *hcl_getattr(HclCtx *ctx, HclValue *v, const char *name, HclPos pos);

/* functions: raises where there is no such function, or it fails */
extern HclValue *hcl_call(HclCtx *ctx, const HclExpr *call, HclValue **args, size_t n);

#endif /* CODER_HCL_H */
