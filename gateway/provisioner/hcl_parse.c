/*
 * hcl_parse.c -- source text of the configuration language to syntax trees
 *
 * Recursive descent over bytes.  A newline ends an expression unless a
 * bracket, a parenthesis or an interpolation is open: HclParser.paren counts them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* -- expressions --------------------------------------------------------- */

static HclExpr *
node_of(HclParser *p, HclExprKind kind, HclExpr *a, HclExpr *b)
{
	HclExpr *e = hcl_node(p, kind);
	HclVec kids = {0};

	hcl_push(p->ctx, &kids, a);
	if (b != NULL)
		hcl_push(p->ctx, &kids, b);
	hcl_set_kids(e, &kids);
	e->pos = a->pos;
	return e;
}

static HclExpr *
parse_number(HclParser *p)
{
	const size_t start = p->at;
	long double n;

	while (hcl_peek(p, 0) >= 0 && isdigit(hcl_peek(p, 0)))
		p->at++;
	if (hcl_peek(p, 0) == '.' && hcl_peek(p, 1) >= 0 && isdigit(hcl_peek(p, 1)))
		for (p->at++; hcl_peek(p, 0) >= 0 && isdigit(hcl_peek(p, 0));)
			p->at++;
	if (hcl_peek(p, 0) == 'e' || hcl_peek(p, 0) == 'E')
	{
		const size_t digit = hcl_peek(p, 1) == '+' || hcl_peek(p, 1) == '-' ? 2 : 1;

		if (hcl_peek(p, digit) >= 0 && isdigit(hcl_peek(p, digit)))
			for (p->at += digit; hcl_peek(p, 0) >= 0 && isdigit(hcl_peek(p, 0));)
				p->at++;
	}
	if (!hcl_parse_number(p->src + start, p->at - start, &n))
		hcl_raise(p->ctx, hcl_here(p), "number is out of range");
	return hcl_literal(p, hcl_number(p->ctx, n));
}

/* [for …] and {for …}, behind the opening bracket and the word. */
void
hcl_read_for_names(HclParser *p, HclExpr *e)
{
	hcl_skip(p, false);
	e->name2 = hcl_read_ident(p);
	if (e->name2 == NULL)
		hcl_unexpected(p, "a name behind \"for\"");
	hcl_skip(p, false);
	if (hcl_peek(p, 0) == ',')
	{
		hcl_take(p);
		hcl_skip(p, false);
		e->name = e->name2;
		e->name2 = hcl_read_ident(p);
		hcl_skip(p, false);
	}
	if (e->name2 == NULL || !hcl_looking_at(p, "in") || hcl_ident_part(hcl_peek(p, 2)))
		hcl_unexpected(p, "\"in\"");
	p->at += 2;
}

static HclExpr *
parse_for(HclParser *p, int open)
{
	HclExpr *e = hcl_node(p, HX_FOR);
	HclVec kids = {0};
	HclExpr *first;

	e->op = open;
	hcl_read_for_names(p, e);
	hcl_push(p->ctx, &kids, hcl_read_expr(p));
	hcl_skip(p, true);
	hcl_expect(p, ':', "\":\" behind the collection of for");
	first = hcl_read_expr(p);
	hcl_skip(p, true);
	if (open == '{')
	{
		if (!hcl_looking_at(p, "=>"))
			hcl_unexpected(p, "\"=>\"");
		p->at += 2;
		hcl_push(p->ctx, &kids, first);
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
	}
	else
	{
		hcl_push(p->ctx, &kids, NULL);
		hcl_push(p->ctx, &kids, first);
	}
	hcl_skip(p, true);
	if (hcl_looking_at(p, "..."))
	{
		e->flag = true;
		p->at += 3;
		hcl_skip(p, true);
	}
	first = NULL;
	if (hcl_looking_at(p, "if") && !hcl_ident_part(hcl_peek(p, 2)))
	{
		p->at += 2;
		first = hcl_read_expr(p);
		hcl_skip(p, true);
	}
	hcl_push(p->ctx, &kids, first);
	hcl_set_kids(e, &kids);
	hcl_expect(p, open == '{' ? '}' : ']', open == '{' ? "\"}\"" : "\"]\"");
	return e;
}

static bool
at_for(HclParser *p)
{
	hcl_skip(p, true);
	if (!hcl_looking_at(p, "for") || hcl_ident_part(hcl_peek(p, 3)))
		return false;
	if (hcl_peek(p, 3) != ' ' && hcl_peek(p, 3) != '\t')
		return false;
	/* { for = 1 } is an object */
	{
		size_t at = 3;

		while (hcl_peek(p, at) == ' ' || hcl_peek(p, at) == '\t')
			at++;
		if (hcl_peek(p, at) == '=' || hcl_peek(p, at) == ':')
			return false;
	}
	p->at += 3;
	return true;
}

static HclExpr *
parse_tuple(HclParser *p)
{
	HclExpr *e;
	HclVec kids = {0};

	hcl_take(p);
	p->paren++;
	if (at_for(p))
	{
		e = parse_for(p, '[');
		p->paren--;
		return e;
	}
	e = hcl_node(p, HX_TUPLE);
	for (;;)
	{
		hcl_skip(p, true);
		if (hcl_peek(p, 0) == ']')
			break;
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
		hcl_skip(p, true);
		if (hcl_peek(p, 0) == ',')
			hcl_take(p);
		else if (hcl_peek(p, 0) != ']')
			hcl_unexpected(p, "\",\" or \"]\"");
	}
	hcl_take(p);
	p->paren--;
	hcl_set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_object_key(HclParser *p)
{
	HclExpr *key = hcl_read_expr(p);

	if (key->kind == HX_VAR) /* a bare word is its own text */
		key->value = hcl_string(p->ctx, key->name), key->kind = HX_LITERAL;
	else if (key->kind == HX_LITERAL && key->flag && key->name != NULL)
		key->value = hcl_string(p->ctx, key->name); /* true, false, null as keys */
	return key;
}

static HclExpr *
parse_object(HclParser *p)
{
	const int paren = p->paren;
	HclVec kids = {0};
	HclExpr *e;

	hcl_take(p);
	p->paren = paren + 1;
	if (at_for(p))
	{
		e = parse_for(p, '{');
		p->paren = paren;
		return e;
	}
	p->paren = 0;
	e = hcl_node(p, HX_OBJECT);
	for (;;)
	{
		hcl_skip(p, true);
		if (hcl_peek(p, 0) == '}')
			break;
		hcl_push(p->ctx, &kids, parse_object_key(p));
		hcl_skip(p, false);
		if (hcl_peek(p, 0) != '=' && hcl_peek(p, 0) != ':')
			hcl_unexpected(p, "\"=\" behind the key");
		hcl_take(p);
		hcl_skip(p, true);
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
		hcl_skip(p, false);
		if (hcl_peek(p, 0) == ',' || hcl_peek(p, 0) == '\n')
			hcl_take(p);
		else if (hcl_peek(p, 0) != '}')
			hcl_unexpected(p, "\",\", a new line or \"}\"");
	}
	hcl_take(p);
	p->paren = paren;
	hcl_set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_call(HclParser *p, const char *name)
{
	HclExpr *e = hcl_node(p, HX_CALL);
	HclVec kids = {0};

	e->name = name;
	hcl_take(p);
	p->paren++;
	for (;;)
	{
		hcl_skip(p, true);
		if (hcl_peek(p, 0) == ')')
			break;
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
		hcl_skip(p, true);
		if (hcl_looking_at(p, "..."))
		{
			p->at += 3;
			e->flag = true;
			hcl_skip(p, true);
		}
		if (hcl_peek(p, 0) == ',' && !e->flag)
			hcl_take(p);
		else if (hcl_peek(p, 0) != ')')
			hcl_unexpected(p, "\",\" or \")\"");
	}
	hcl_take(p);
	p->paren--;
	hcl_set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_name(HclParser *p)
{
	HclExpr *e = hcl_node(p, HX_VAR);
	HclValue *v = NULL;

	e->name = hcl_read_ident(p);
	while (hcl_looking_at(p, "::")) /* provider::name::function */
	{
		p->at += 2;
		e->name = hcl_printf(p->ctx, "%s::%s", e->name, hcl_read_ident(p));
	}
	if (hcl_peek(p, 0) == '(')
		return parse_call(p, e->name);
	if (strcmp(e->name, "true") == 0 || strcmp(e->name, "false") == 0)
		v = hcl_bool(p->ctx, e->name[0] == 't');
	else if (strcmp(e->name, "null") == 0)
		v = hcl_null(p->ctx);
	if (v != NULL)
	{
		e->kind = HX_LITERAL;
		e->value = v;
		e->flag = true;
	}
	return e;
}

static HclExpr *
parse_primary(HclParser *p)
{
	HclExpr *e;
	int c;

	hcl_skip(p, false);
	c = hcl_peek(p, 0);
	if (c == '(')
	{
		hcl_take(p);
		p->paren++;
		e = hcl_read_expr(p);
		hcl_skip(p, true);
		hcl_expect(p, ')', "\")\"");
		p->paren--;
		if (e->kind == HX_VAR) /* (name) as a key is its value */
		{
			HclExpr *wrapped = hcl_node(p, HX_TEMPLATE);
			HclVec kids = {0};

			hcl_push(p->ctx, &kids, e);
			hcl_set_kids(wrapped, &kids);
			return wrapped;
		}
		return e;
	}
	if (c == '[')
		return parse_tuple(p);
	if (c == '{')
		return parse_object(p);
	if (c == '"')
	{
		hcl_take(p);
		return hcl_read_template(p, '"');
	}
	if (hcl_looking_at(p, "<<"))
		return hcl_read_heredoc(p);
	if (c >= 0 && isdigit(c))
		return parse_number(p);
	if (hcl_ident_start(c))
		return parse_name(p);
	hcl_unexpected(p, "a value");
}

static HclExpr *parse_suffixes(HclParser *p, HclExpr *e, bool attrs_only);

static HclExpr *
parse_dot(HclParser *p, HclExpr *e)
{
	HclExpr *out;

	p->at++;
	hcl_skip(p, false);
	if (hcl_peek(p, 0) == '*')
	{
		p->at++;
		return node_of(p, HX_SPLAT, e, parse_suffixes(p, hcl_node(p, HX_ITEM), true));
	}
	if (hcl_peek(p, 0) >= 0 && isdigit(hcl_peek(p, 0)))
	{
		long double n = 0;

		while (hcl_peek(p, 0) >= 0 && isdigit(hcl_peek(p, 0)) && n < 1e9L)
			n = n * 10 + (hcl_take(p) - '0');
		return node_of(p, HX_INDEX, e, hcl_literal(p, hcl_number(p->ctx, n)));
	}
	out = node_of(p, HX_ATTR, e, NULL);
	out->name = hcl_read_ident(p);
	if (out->name == NULL)
		hcl_unexpected(p, "an attribute's name behind \".\"");
	return out;
}

static HclExpr *
parse_bracket(HclParser *p, HclExpr *e)
{
	HclExpr *key;

	hcl_take(p);
	p->paren++;
	hcl_skip(p, true);
	if (hcl_peek(p, 0) == '*')
	{
		p->at++;
		hcl_skip(p, true);
		hcl_expect(p, ']', "\"]\"");
		p->paren--;
		return node_of(p, HX_SPLAT, e, parse_suffixes(p, hcl_node(p, HX_ITEM), false));
	}
	key = hcl_read_expr(p);
	hcl_skip(p, true);
	hcl_expect(p, ']', "\"]\"");
	p->paren--;
	return node_of(p, HX_INDEX, e, key);
}

static HclExpr *
parse_suffixes(HclParser *p, HclExpr *e, bool attrs_only)
{
	int levels = 0;

	for (;;)
	{
		if (++levels > HCL_MAX_DEPTH)
			hcl_raise(p->ctx, hcl_here(p), "reference has more than %d parts", HCL_MAX_DEPTH);
		if (p->paren > 0)
			hcl_skip(p, true);
		if (hcl_peek(p, 0) == '.' && hcl_peek(p, 1) != '.')
			e = parse_dot(p, e);
		else if (hcl_peek(p, 0) == '[' && !attrs_only)
			e = parse_bracket(p, e);
		else
			return e;
		if (e->kind == HX_SPLAT)
			return e; /* what follows belongs to its element */
	}
}

static HclExpr *
parse_unary(HclParser *p)
{
	HclExpr *e;
	int c;

	hcl_enter(p->ctx, hcl_here(p));
	hcl_skip(p, false);
	c = hcl_peek(p, 0);
	if (c == '-' || (c == '!' && hcl_peek(p, 1) != '='))
	{
		p->at++;
		e = node_of(p, HX_UNARY, parse_unary(p), NULL);
		e->op = c;
	}
	else
		e = parse_suffixes(p, parse_primary(p), false);
	p->ctx->depth--;
	return e;
}

typedef struct Operator
{
	const char *text;
	int op;
	int level;
} Operator;

static const Operator operators[] = {{"||", '|', 1},
									 {"&&", '&', 2},
									 {"==", 'e', 3},
									 {"!=", 'n', 3},
									 {"<=", 'l', 4},
									 {">=", 'g', 4},
									 {"<", '<', 4},
									 {">", '>', 4},
									 {"+", '+', 5},
									 {"-", '-', 5},
									 {"*", '*', 6},
									 {"/", '/', 6},
									 {"%", '%', 6}};

static const Operator *
find_operator(const HclParser *p, int level)
{
	size_t i;

	for (i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (hcl_looking_at(p, operators[i].text))
		{
			if (operators[i].op == '%' && hcl_peek(p, 1) == '{')
				return NULL;
			return operators[i].level == level ? &operators[i] : NULL;
		}
	return NULL;
}

static HclExpr *
parse_binary(HclParser *p, int level)
{
	const Operator *operator;
	HclExpr *e;
	int chain = 0;

	if (level > 6)
		return parse_unary(p);
	e = parse_binary(p, level + 1);
	for (;;)
	{
		hcl_skip(p, false);
		operator= find_operator(p, level);
		if (operator== NULL)
			return e;
		if (++chain > HCL_MAX_DEPTH)
			hcl_raise(p->ctx,
					  hcl_here(p),
					  "expression has more than %d operators in a row",
					  HCL_MAX_DEPTH);
		p->at += strlen(operator->text);
		e = node_of(p, HX_BINARY, e, parse_binary(p, level + 1));
		e->op = operator->op;
	}
}

HclExpr *
hcl_read_expr(HclParser *p)
{
	HclVec kids = {0};
	HclExpr *e;
	HclExpr *cond;
	size_t start;

	hcl_skip(p, false);
	hcl_enter(p->ctx, hcl_here(p));
	start = p->at;
	e = parse_binary(p, 1);
	hcl_skip(p, false);
	if (hcl_peek(p, 0) == '?')
	{
		hcl_take(p);
		cond = hcl_node(p, HX_COND);
		cond->pos = e->pos;
		hcl_push(p->ctx, &kids, e);
		hcl_skip(p, true);
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
		hcl_skip(p, true);
		hcl_expect(p, ':', "\":\" of a conditional");
		hcl_skip(p, true);
		hcl_push(p->ctx, &kids, hcl_read_expr(p));
		hcl_set_kids(cond, &kids);
		e = cond;
	}
	e->text = p->src + start;
	e->text_len = p->at - start;
	while (e->text_len > 0 && isspace((unsigned char) e->text[e->text_len - 1]))
		e->text_len--;
	p->ctx->depth--;
	return e;
}

HclExpr *
hcl_parse_expr(HclCtx *ctx, const char *file, const char *src, size_t len)
{
	HclParser p = {ctx, file, src, len, 0, 1, 1};
	HclExpr *e = hcl_read_expr(&p);

	hcl_skip(&p, true);
	if (p.at < p.len)
		hcl_unexpected(&p, "the end of the expression");
	return e;
}

/* -- bodies -------------------------------------------------------------- */

static void parse_body(HclParser *p, HclBody *body, bool nested);

static void
end_of_item(HclParser *p)
{
	hcl_skip(p, false);
	if (hcl_peek(p, 0) >= 0 && hcl_peek(p, 0) != '\n' && hcl_peek(p, 0) != '}')
		hcl_unexpected(p, "the end of the line");
}

static void
parse_attribute(HclParser *p, HclVec *attrs, const char *name, HclPos pos)
{
	HclAttr *attr = hcl_alloc(p->ctx, sizeof(*attr));
	size_t i;

	hcl_take(p);
	attr->name = name;
	attr->pos = pos;
	for (i = 0; i < attrs->n; i++)
		if (strcmp(((HclAttr *) attrs->items[i])->name, name) == 0)
			hcl_raise(p->ctx, pos, "attribute \"%s\" is set twice", name);
	attr->expr = hcl_read_expr(p);
	end_of_item(p);
	hcl_push(p->ctx, attrs, attr);
}

static const char *
parse_label(HclParser *p)
{
	HclExpr *e;

	if (hcl_peek(p, 0) != '"')
		return hcl_read_ident(p);
	hcl_take(p);
	e = hcl_read_template(p, '"');
	if (e->kind != HX_LITERAL)
		hcl_raise(p->ctx, e->pos, "a block's label cannot have an interpolation");
	return e->value->u.str.data;
}

static HclBlock *
parse_block(HclParser *p, const char *type, HclPos pos)
{
	HclBlock *block = hcl_alloc(p->ctx, sizeof(*block));
	HclVec labels = {0};
	const char *label;

	block->type = type;
	block->pos = pos;
	while (hcl_peek(p, 0) != '{')
	{
		if ((label = parse_label(p)) == NULL)
			hcl_unexpected(p, "\"=\", a label or \"{\"");
		hcl_push(p->ctx, &labels, (void *) (uintptr_t) label);
		hcl_skip(p, false);
	}
	block->labels = (const char **) labels.items;
	block->nlabels = labels.n;
	hcl_take(p);
	parse_body(p, &block->body, true);
	return block;
}

static void
parse_body(HclParser *p, HclBody *body, bool nested)
{
	const HclPos start = hcl_here(p);
	HclVec attrs = {0};
	HclVec blocks = {0};
	size_t i;

	hcl_enter(p->ctx, start);
	for (;;)
	{
		const char *name;
		HclPos pos;

		hcl_skip(p, true);
		pos = hcl_here(p);
		if (hcl_peek(p, 0) < 0 && nested)
			hcl_raise(p->ctx, start, "block is not closed");
		if (hcl_peek(p, 0) < 0 || (nested && hcl_peek(p, 0) == '}'))
			break;
		if ((name = hcl_read_ident(p)) == NULL)
			hcl_unexpected(p, "an attribute or a block");
		hcl_skip(p, false);
		if (hcl_peek(p, 0) == '=' && hcl_peek(p, 1) != '=')
			parse_attribute(p, &attrs, name, pos);
		else
		{
			hcl_push(p->ctx, &blocks, parse_block(p, name, pos));
			end_of_item(p);
		}
	}
	if (nested)
		hcl_take(p);
	body->attrs = hcl_alloc(p->ctx, (attrs.n + 1) * sizeof(HclAttr));
	for (i = 0; i < attrs.n; i++)
		body->attrs[i] = *(HclAttr *) attrs.items[i];
	body->nattrs = attrs.n;
	body->blocks = (HclBlock **) blocks.items;
	body->nblocks = blocks.n;
	p->ctx->depth--;
}

HclBody *
hcl_parse(HclCtx *ctx, const char *file, const char *src, size_t len)
{
	HclParser p = {ctx, file, src, len, 0, 1, 0};
	HclBody *body = hcl_alloc(ctx, sizeof(*body));

	if (len > HCL_MAX_SOURCE)
		hcl_raise(ctx, hcl_here(&p), "file is larger than %zu MiB", HCL_MAX_SOURCE >> 20);
	if (len >= 3 && memcmp(src, "\xef\xbb\xbf", 3) == 0)
		p.at = 3;
	if (memchr(src, '\0', len) != NULL)
		hcl_raise(ctx, hcl_here(&p), "file has a zero byte");
	if (!hcl_is_utf8(src, len))
		hcl_raise(ctx, hcl_here(&p), "file is not UTF-8");
	parse_body(&p, body, false);
	return body;
}

const HclAttr *
hcl_attr(const HclBody *body, const char *name)
{
	size_t i;

	for (i = 0; i < body->nattrs; i++)
		if (strcmp(body->attrs[i].name, name) == 0)
			return &body->attrs[i];
	return NULL;
}
