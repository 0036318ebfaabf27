/*
 * hcl_parse.h -- what the files of the parser share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_HCL_PARSE_H
#define CODER_HCL_PARSE_H

#include "provisioner/hcl.h"

#include <ctype.h>

typedef struct HclParser
{
	HclCtx *ctx;
	const char *file;
	const char *src;
	size_t len;
	size_t at;
	int line;
	int paren; /* open brackets, parentheses and interpolations: a newline means nothing there */
} HclParser;

static inline HclPos
hcl_here(const HclParser *p)
{
	return (HclPos){p->file, p->line};
}

static inline int
hcl_peek(const HclParser *p, size_t ahead)
{
	return p->at + ahead < p->len ? (unsigned char) p->src[p->at + ahead] : -1;
}

static inline int
hcl_take(HclParser *p)
{
	int c = hcl_peek(p, 0);

	if (c >= 0)
		p->at++;
	if (c == '\n')
		p->line++;
	return c;
}

static inline bool
hcl_ident_start(int c)
{
	return c >= 0 && (isalpha(c) || c == '_' || c >= 0x80);
}

static inline bool
hcl_ident_part(int c)
{
	return c >= 0 && (isalnum(c) || c == '_' || c == '-' || c >= 0x80);
}

bool hcl_looking_at(const HclParser *p, const char *word);

/* Blanks and comments; newlines too where they mean nothing. */
void hcl_skip(HclParser *p, bool newlines);

/* A name, or NULL where none stands. */
const char *hcl_read_ident(HclParser *p);

/* Raises: says what stands where something else was expected. */
_Noreturn void hcl_unexpected(HclParser *p, const char *wanted);

void hcl_expect(HclParser *p, int c, const char *wanted);

HclExpr *hcl_node(HclParser *p, HclExprKind kind);
void hcl_set_kids(HclExpr *e, const HclVec *vec);
HclExpr *hcl_literal(HclParser *p, HclValue *v);

/* The names behind "for", up to and with "in". */
void hcl_read_for_names(HclParser *p, HclExpr *e);

HclExpr *hcl_read_expr(HclParser *p);

/* Text with its sequences up to end, which is taken; -1: up to the end of the source. */
HclExpr *hcl_read_template(HclParser *p, int end);
HclExpr *hcl_read_heredoc(HclParser *p);

#endif
