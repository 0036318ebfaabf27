/*
 * hcl_lex.c -- what every rule of the parser reads with: words, blanks, nodes
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_parse.h"

#include <string.h>

bool
hcl_looking_at(const HclParser *p, const char *word)
{
	size_t n = strlen(word);

	return p->len - p->at >= n && memcmp(p->src + p->at, word, n) == 0;
}

static void
skip_comment(HclParser *p)
{
	if (hcl_looking_at(p, "/*"))
	{
		const HclPos start = hcl_here(p);

		p->at += 2;
		while (!hcl_looking_at(p, "*/"))
			if (hcl_take(p) < 0)
				hcl_raise(p->ctx, start, "comment is not closed");
		p->at += 2;
		return;
	}
	while (hcl_peek(p, 0) >= 0 && hcl_peek(p, 0) != '\n')
		p->at++;
}

/* Blanks and comments; newlines too where they mean nothing. */
void
hcl_skip(HclParser *p, bool newlines)
{
	for (;;)
	{
		int c = hcl_peek(p, 0);

		if (c == ' ' || c == '\t' || c == '\r' || (c == '\n' && (newlines || p->paren > 0)))
			hcl_take(p);
		else if (c == '#' || hcl_looking_at(p, "//") || hcl_looking_at(p, "/*"))
			skip_comment(p);
		else
			return;
	}
}

const char *
hcl_read_ident(HclParser *p)
{
	const size_t start = p->at;

	if (!hcl_ident_start(hcl_peek(p, 0)))
		return NULL;
	while (hcl_ident_part(hcl_peek(p, 0)))
		p->at++;
	return hcl_strndup(p->ctx, p->src + start, p->at - start);
}

/* Says what stands where something else was expected. */
void
hcl_unexpected(HclParser *p, const char *wanted)
{
	int c = hcl_peek(p, 0);

	if (c < 0)
		hcl_raise(p->ctx, hcl_here(p), "expected %s, found the end of the file", wanted);
	if (c == '\n')
		hcl_raise(p->ctx, hcl_here(p), "expected %s, found the end of the line", wanted);
	if (c < 0x20)
		hcl_raise(p->ctx, hcl_here(p), "expected %s, found byte 0x%02x", wanted, (unsigned) c);
	hcl_raise(p->ctx, hcl_here(p), "expected %s, found \"%.*s\"", wanted, 1, p->src + p->at);
}

void
hcl_expect(HclParser *p, int c, const char *wanted)
{
	if (hcl_peek(p, 0) != c)
		hcl_unexpected(p, wanted);
	hcl_take(p);
}

HclExpr *
hcl_node(HclParser *p, HclExprKind kind)
{
	HclExpr *e = hcl_alloc(p->ctx, sizeof(*e));

	e->kind = kind;
	e->pos = hcl_here(p);
	return e;
}

void
hcl_set_kids(HclExpr *e, const HclVec *vec)
{
	e->kids = (HclExpr **) vec->items;
	e->n = vec->n;
}

HclExpr *
hcl_literal(HclParser *p, HclValue *v)
{
	HclExpr *e = hcl_node(p, HX_LITERAL);

	e->value = v;
	return e;
}
