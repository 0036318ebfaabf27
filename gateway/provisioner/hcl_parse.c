/*
 * hcl_parse.c -- source text of the configuration language to syntax trees
 *
 * Recursive descent over bytes.  A newline ends an expression unless a
 * bracket, a parenthesis or an interpolation is open: Parser.paren counts them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef struct Parser
{
	HclCtx *ctx;
	const char *file;
	const char *src;
	size_t len;
	size_t at;
	int line;
	int paren;
} Parser;

static HclExpr *parse_expr(Parser *p);
static HclExpr *parse_parts(Parser *p, int end, const char **stop);

static HclPos
here(const Parser *p)
{
	return (HclPos){p->file, p->line};
}

static int
peek(const Parser *p, size_t ahead)
{
	return p->at + ahead < p->len ? (unsigned char) p->src[p->at + ahead] : -1;
}

static int
take(Parser *p)
{
	int c = peek(p, 0);

	if (c >= 0)
		p->at++;
	if (c == '\n')
		p->line++;
	return c;
}

static bool
looking_at(const Parser *p, const char *word)
{
	size_t n = strlen(word);

	return p->len - p->at >= n && memcmp(p->src + p->at, word, n) == 0;
}

static void
skip_comment(Parser *p)
{
	if (looking_at(p, "/*"))
	{
		const HclPos start = here(p);

		p->at += 2;
		while (!looking_at(p, "*/"))
			if (take(p) < 0)
				hcl_raise(p->ctx, start, "comment is not closed");
		p->at += 2;
		return;
	}
	while (peek(p, 0) >= 0 && peek(p, 0) != '\n')
		p->at++;
}

/* Blanks and comments; newlines too where they mean nothing. */
static void
skip(Parser *p, bool newlines)
{
	for (;;)
	{
		int c = peek(p, 0);

		if (c == ' ' || c == '\t' || c == '\r' || (c == '\n' && (newlines || p->paren > 0)))
			take(p);
		else if (c == '#' || looking_at(p, "//") || looking_at(p, "/*"))
			skip_comment(p);
		else
			return;
	}
}

static bool
ident_start(int c)
{
	return c >= 0 && (isalpha(c) || c == '_' || c >= 0x80);
}

static bool
ident_part(int c)
{
	return c >= 0 && (isalnum(c) || c == '_' || c == '-' || c >= 0x80);
}

static const char *
parse_ident(Parser *p)
{
	const size_t start = p->at;

	if (!ident_start(peek(p, 0)))
		return NULL;
	while (ident_part(peek(p, 0)))
		p->at++;
	return hcl_strndup(p->ctx, p->src + start, p->at - start);
}

/* Says what stands where something else was expected. */
static _Noreturn void
unexpected(Parser *p, const char *wanted)
{
	int c = peek(p, 0);

	if (c < 0)
		hcl_raise(p->ctx, here(p), "expected %s, found the end of the file", wanted);
	if (c == '\n')
		hcl_raise(p->ctx, here(p), "expected %s, found the end of the line", wanted);
	if (c < 0x20)
		hcl_raise(p->ctx, here(p), "expected %s, found byte 0x%02x", wanted, (unsigned) c);
	hcl_raise(p->ctx, here(p), "expected %s, found \"%.*s\"", wanted, 1, p->src + p->at);
}

static void
expect(Parser *p, int c, const char *wanted)
{
	if (peek(p, 0) != c)
		unexpected(p, wanted);
	take(p);
}

static HclExpr *
node(Parser *p, HclExprKind kind)
{
	HclExpr *e = hcl_alloc(p->ctx, sizeof(*e));

	e->kind = kind;
	e->pos = here(p);
	return e;
}

static void
set_kids(HclExpr *e, const HclVec *vec)
{
	e->kids = (HclExpr **) vec->items;
	e->n = vec->n;
}

static HclExpr *
node_of(Parser *p, HclExprKind kind, HclExpr *a, HclExpr *b)
{
	HclExpr *e = node(p, kind);
	HclVec kids = {0};

	hcl_push(p->ctx, &kids, a);
	if (b != NULL)
		hcl_push(p->ctx, &kids, b);
	set_kids(e, &kids);
	e->pos = a->pos;
	return e;
}

static HclExpr *
literal(Parser *p, HclValue *v)
{
	HclExpr *e = node(p, HX_LITERAL);

	e->value = v;
	return e;
}

/* -- templates ----------------------------------------------------------- */

static void
put_utf8(Parser *p, HclBuf *buf, unsigned long c)
{
	char out[4];
	size_t n;

	if (c < 0x80)
		n = 1, out[0] = (char) c;
	else if (c < 0x800)
		n = 2, out[0] = (char) (0xc0 | c >> 6), out[1] = (char) (0x80 | (c & 63));
	else if (c < 0x10000)
		n = 3, out[0] = (char) (0xe0 | c >> 12), out[1] = (char) (0x80 | (c >> 6 & 63)),
		out[2] = (char) (0x80 | (c & 63));
	else
		n = 4, out[0] = (char) (0xf0 | c >> 18), out[1] = (char) (0x80 | (c >> 12 & 63)),
		out[2] = (char) (0x80 | (c >> 6 & 63)), out[3] = (char) (0x80 | (c & 63));
	hcl_append(p->ctx, buf, out, n);
}

static void
parse_escape(Parser *p, HclBuf *buf)
{
	unsigned long code = 0;
	int digits;
	int c;
	int i;

	p->at++; /* the backslash */
	c = take(p);
	switch (c)
	{
		case 'n':
			hcl_append(p->ctx, buf, "\n", 1);
			return;
		case 'r':
			hcl_append(p->ctx, buf, "\r", 1);
			return;
		case 't':
			hcl_append(p->ctx, buf, "\t", 1);
			return;
		case '"':
			hcl_append(p->ctx, buf, "\"", 1);
			return;
		case '\\':
			hcl_append(p->ctx, buf, "\\", 1);
			return;
		case 'u':
		case 'U':
			digits = c == 'u' ? 4 : 8;
			for (i = 0; i < digits; i++)
			{
				c = take(p);
				if (c < 0 || !isxdigit(c))
					hcl_raise(p->ctx, here(p), "\\u needs four hexadecimal digits, \\U eight");
				code = code << 4 | (unsigned long) (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
			}
			if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
				hcl_raise(p->ctx, here(p), "escape is not a character of Unicode");
			put_utf8(p, buf, code);
			return;
		default:
			hcl_raise(p->ctx,
					  here(p),
					  "a backslash must be followed by n, r, t, u, U, a quote or a backslash");
	}
}

/* Literal text gathered so far becomes a part; ~ behind it cuts its white space. */
static void
flush_literal(Parser *p, HclVec *parts, HclBuf *buf, bool trim)
{
	while (trim && buf->len > 0 && isspace((unsigned char) buf->data[buf->len - 1]))
		buf->len--;
	if (buf->len > 0)
		hcl_push(p->ctx, parts, literal(p, hcl_buf_string(p->ctx, buf)));
	*buf = (HclBuf){0};
}

static void
skip_space(Parser *p)
{
	while (peek(p, 0) >= 0 && isspace(peek(p, 0)))
		take(p);
}

/* The end of ${ } or %{ }; ~ before it cuts the white space that follows. */
static void
close_sequence(Parser *p)
{
	bool trim;

	skip(p, true);
	trim = peek(p, 0) == '~';
	if (trim)
		take(p);
	expect(p, '}', "\"}\"");
	p->paren--;
	if (trim)
		skip_space(p);
}

static HclExpr *
parse_if_directive(Parser *p, int end)
{
	HclExpr *e = node(p, HX_TPL_IF);
	const char *stop = NULL;
	HclVec kids = {0};

	hcl_push(p->ctx, &kids, parse_expr(p));
	close_sequence(p);
	hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	if (stop != NULL && strcmp(stop, "else") == 0)
		hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	else
		hcl_push(p->ctx, &kids, NULL);
	if (stop == NULL || strcmp(stop, "endif") != 0)
		hcl_raise(p->ctx, e->pos, "%%{ if } has no %%{ endif }");
	set_kids(e, &kids);
	return e;
}

static void
parse_for_names(Parser *p, HclExpr *e)
{
	skip(p, false);
	e->name2 = parse_ident(p);
	if (e->name2 == NULL)
		unexpected(p, "a name behind \"for\"");
	skip(p, false);
	if (peek(p, 0) == ',')
	{
		take(p);
		skip(p, false);
		e->name = e->name2;
		e->name2 = parse_ident(p);
		skip(p, false);
	}
	if (e->name2 == NULL || !looking_at(p, "in") || ident_part(peek(p, 2)))
		unexpected(p, "\"in\"");
	p->at += 2;
}

static HclExpr *
parse_for_directive(Parser *p, int end)
{
	HclExpr *e = node(p, HX_TPL_FOR);
	const char *stop = NULL;
	HclVec kids = {0};

	parse_for_names(p, e);
	hcl_push(p->ctx, &kids, parse_expr(p));
	close_sequence(p);
	hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	if (stop == NULL || strcmp(stop, "endfor") != 0)
		hcl_raise(p->ctx, e->pos, "%%{ for } has no %%{ endfor }");
	set_kids(e, &kids);
	return e;
}

/* ${ expression } or %{ directive }.  NULL with *stop set at else, endif and endfor. */
static HclExpr *
parse_sequence(Parser *p, HclVec *parts, HclBuf *buf, int end, const char **stop)
{
	const bool directive = peek(p, 0) == '%';
	const char *word;
	HclExpr *e;
	bool trim;

	p->at += 2;
	trim = peek(p, 0) == '~';
	if (trim)
		p->at++;
	flush_literal(p, parts, buf, trim);
	p->paren++;
	skip(p, true);
	if (!directive)
	{
		e = parse_expr(p);
		close_sequence(p);
		return e;
	}
	word = parse_ident(p);
	if (word != NULL && strcmp(word, "if") == 0)
		return parse_if_directive(p, end);
	if (word != NULL && strcmp(word, "for") == 0)
		return parse_for_directive(p, end);
	if (word == NULL ||
		(strcmp(word, "else") != 0 && strcmp(word, "endif") != 0 && strcmp(word, "endfor") != 0))
		hcl_raise(p->ctx, here(p), "%%{ must be followed by if, else, endif, for or endfor");
	*stop = word;
	close_sequence(p);
	return NULL;
}

/*
 * Parts of a template up to end: '"' of a quoted string (escapes are read), or
 * -1, the end of the text.  Stops behind %{ else }, %{ endif } and %{ endfor } too, and says so in
 * *stop.
 */
static HclExpr *
parse_parts(Parser *p, int end, const char **stop)
{
	HclExpr *e = node(p, HX_TEMPLATE);
	HclVec parts = {0};
	HclBuf buf = {0};

	hcl_enter(p->ctx, here(p));
	*stop = NULL;
	for (;;)
	{
		int c = peek(p, 0);

		if (c < 0 && end < 0)
			break;
		if (c < 0 || (c == '\n' && end == '"'))
			hcl_raise(p->ctx, e->pos, "string is not closed on its line");
		if (c == end)
		{
			p->at++;
			break;
		}
		if ((c == '$' || c == '%') && peek(p, 1) == c && peek(p, 2) == '{')
		{
			hcl_append(p->ctx, &buf, p->src + p->at, 1); /* $${ is ${ */
			hcl_append(p->ctx, &buf, "{", 1);
			p->at += 3;
		}
		else if ((c == '$' || c == '%') && peek(p, 1) == '{')
		{
			HclExpr *part = parse_sequence(p, &parts, &buf, end, stop);

			if (part == NULL)
				break;
			hcl_push(p->ctx, &parts, part);
		}
		else if (c == '\\' && end == '"')
			parse_escape(p, &buf);
		else
		{
			hcl_append(p->ctx, &buf, p->src + p->at, 1);
			take(p);
		}
	}
	flush_literal(p, &parts, &buf, false);
	set_kids(e, &parts);
	p->ctx->depth--;
	return e;
}

static HclExpr *
parse_whole_template(Parser *p, int end)
{
	const char *stop;
	const int paren = p->paren;
	HclExpr *e;

	p->paren = 0;
	e = parse_parts(p, end, &stop);
	p->paren = paren;
	if (stop != NULL)
		hcl_raise(p->ctx, e->pos, "%%{ %s } without its beginning", stop);
	if (e->n == 0)
		return literal(p, hcl_string(p->ctx, ""));
	if (e->n == 1 && e->kids[0]->kind == HX_LITERAL)
		return e->kids[0];
	return e;
}

HclExpr *
hcl_parse_template(HclCtx *ctx, const char *file, int line, const char *src, size_t len)
{
	Parser p = {ctx, file, src, len, 0, line, 0};

	return parse_whole_template(&p, -1);
}

/* Least indentation of the lines that are not blank. */
static size_t
heredoc_indent(const char *text, size_t len)
{
	size_t least = SIZE_MAX;
	size_t at = 0;

	while (at < len)
	{
		const char *nl = memchr(text + at, '\n', len - at);
		size_t end = nl != NULL ? (size_t) (nl - text) : len;
		size_t n = 0;

		while (at + n < end && (text[at + n] == ' ' || text[at + n] == '\t'))
			n++;
		if (at + n < end && text[at + n] != '\r' && n < least)
			least = n;
		at = end + 1;
	}
	return least == SIZE_MAX ? 0 : least;
}

static void
strip_indent(Parser *p, HclBuf *out, const char *text, size_t len)
{
	const size_t indent = heredoc_indent(text, len);
	size_t at = 0;

	while (at < len)
	{
		const char *nl = memchr(text + at, '\n', len - at);
		size_t end = nl != NULL ? (size_t) (nl - text) + 1 : len;
		size_t n = 0;

		while (n < indent && at + n < end && (text[at + n] == ' ' || text[at + n] == '\t'))
			n++;
		hcl_append(p->ctx, out, text + at + n, end - at - n);
		at = end;
	}
}

/* Is this line the word that closes a heredoc? */
static bool
closes_heredoc(const Parser *p, const char *word)
{
	size_t at = p->at;
	const size_t n = strlen(word);

	while (at < p->len && (p->src[at] == ' ' || p->src[at] == '\t'))
		at++;
	if (p->len - at < n || memcmp(p->src + at, word, n) != 0)
		return false;
	at += n;
	return at == p->len || p->src[at] == '\n' || p->src[at] == '\r' ||
		   !ident_part((unsigned char) p->src[at]);
}

static HclExpr *
parse_heredoc(Parser *p)
{
	const HclPos start = here(p);
	const char *word;
	HclBuf body = {0};
	bool indented;
	size_t from;
	int line;

	p->at += 2;
	indented = peek(p, 0) == '-';
	if (indented)
		p->at++;
	word = parse_ident(p);
	while (peek(p, 0) == '\r')
		p->at++;
	if (word == NULL || take(p) != '\n')
		hcl_raise(p->ctx, start, "<< must be followed by a word and the end of the line");
	from = p->at;
	line = p->line;
	while (!closes_heredoc(p, word))
	{
		while (peek(p, 0) >= 0 && peek(p, 0) != '\n')
			p->at++;
		if (take(p) < 0)
			hcl_raise(p->ctx, start, "heredoc is not closed by a line \"%s\"", word);
	}
	if (indented)
		strip_indent(p, &body, p->src + from, p->at - from);
	else
		hcl_append(p->ctx, &body, p->src + from, p->at - from);
	while (peek(p, 0) == ' ' || peek(p, 0) == '\t')
		p->at++;
	p->at += strlen(word);
	return hcl_parse_template(p->ctx, p->file, line, body.data != NULL ? body.data : "", body.len);
}

/* -- expressions --------------------------------------------------------- */

static HclExpr *
parse_number(Parser *p)
{
	const size_t start = p->at;
	long double n;

	while (peek(p, 0) >= 0 && isdigit(peek(p, 0)))
		p->at++;
	if (peek(p, 0) == '.' && peek(p, 1) >= 0 && isdigit(peek(p, 1)))
		for (p->at++; peek(p, 0) >= 0 && isdigit(peek(p, 0));)
			p->at++;
	if (peek(p, 0) == 'e' || peek(p, 0) == 'E')
	{
		const size_t digit = peek(p, 1) == '+' || peek(p, 1) == '-' ? 2 : 1;

		if (peek(p, digit) >= 0 && isdigit(peek(p, digit)))
			for (p->at += digit; peek(p, 0) >= 0 && isdigit(peek(p, 0));)
				p->at++;
	}
	if (!hcl_parse_number(p->src + start, p->at - start, &n))
		hcl_raise(p->ctx, here(p), "number is out of range");
	return literal(p, hcl_number(p->ctx, n));
}

/* [for …] and {for …}, behind the opening bracket and the word. */
static HclExpr *
parse_for(Parser *p, int open)
{
	HclExpr *e = node(p, HX_FOR);
	HclVec kids = {0};
	HclExpr *first;

	e->op = open;
	parse_for_names(p, e);
	hcl_push(p->ctx, &kids, parse_expr(p));
	skip(p, true);
	expect(p, ':', "\":\" behind the collection of for");
	first = parse_expr(p);
	skip(p, true);
	if (open == '{')
	{
		if (!looking_at(p, "=>"))
			unexpected(p, "\"=>\"");
		p->at += 2;
		hcl_push(p->ctx, &kids, first);
		hcl_push(p->ctx, &kids, parse_expr(p));
	}
	else
	{
		hcl_push(p->ctx, &kids, NULL);
		hcl_push(p->ctx, &kids, first);
	}
	skip(p, true);
	if (looking_at(p, "..."))
	{
		e->flag = true;
		p->at += 3;
		skip(p, true);
	}
	first = NULL;
	if (looking_at(p, "if") && !ident_part(peek(p, 2)))
	{
		p->at += 2;
		first = parse_expr(p);
		skip(p, true);
	}
	hcl_push(p->ctx, &kids, first);
	set_kids(e, &kids);
	expect(p, open == '{' ? '}' : ']', open == '{' ? "\"}\"" : "\"]\"");
	return e;
}

static bool
at_for(Parser *p)
{
	skip(p, true);
	if (!looking_at(p, "for") || ident_part(peek(p, 3)))
		return false;
	if (peek(p, 3) != ' ' && peek(p, 3) != '\t')
		return false;
	/* { for = 1 } is an object */
	{
		size_t at = 3;

		while (peek(p, at) == ' ' || peek(p, at) == '\t')
			at++;
		if (peek(p, at) == '=' || peek(p, at) == ':')
			return false;
	}
	p->at += 3;
	return true;
}

static HclExpr *
parse_tuple(Parser *p)
{
	HclExpr *e;
	HclVec kids = {0};

	take(p);
	p->paren++;
	if (at_for(p))
	{
		e = parse_for(p, '[');
		p->paren--;
		return e;
	}
	e = node(p, HX_TUPLE);
	for (;;)
	{
		skip(p, true);
		if (peek(p, 0) == ']')
			break;
		hcl_push(p->ctx, &kids, parse_expr(p));
		skip(p, true);
		if (peek(p, 0) == ',')
			take(p);
		else if (peek(p, 0) != ']')
			unexpected(p, "\",\" or \"]\"");
	}
	take(p);
	p->paren--;
	set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_object_key(Parser *p)
{
	HclExpr *key = parse_expr(p);

	if (key->kind == HX_VAR) /* a bare word is its own text */
		key->value = hcl_string(p->ctx, key->name), key->kind = HX_LITERAL;
	else if (key->kind == HX_LITERAL && key->flag && key->name != NULL)
		key->value = hcl_string(p->ctx, key->name); /* true, false, null as keys */
	return key;
}

static HclExpr *
parse_object(Parser *p)
{
	const int paren = p->paren;
	HclVec kids = {0};
	HclExpr *e;

	take(p);
	p->paren = paren + 1;
	if (at_for(p))
	{
		e = parse_for(p, '{');
		p->paren = paren;
		return e;
	}
	p->paren = 0;
	e = node(p, HX_OBJECT);
	for (;;)
	{
		skip(p, true);
		if (peek(p, 0) == '}')
			break;
		hcl_push(p->ctx, &kids, parse_object_key(p));
		skip(p, false);
		if (peek(p, 0) != '=' && peek(p, 0) != ':')
			unexpected(p, "\"=\" behind the key");
		take(p);
		skip(p, true);
		hcl_push(p->ctx, &kids, parse_expr(p));
		skip(p, false);
		if (peek(p, 0) == ',' || peek(p, 0) == '\n')
			take(p);
		else if (peek(p, 0) != '}')
			unexpected(p, "\",\", a new line or \"}\"");
	}
	take(p);
	p->paren = paren;
	set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_call(Parser *p, const char *name)
{
	HclExpr *e = node(p, HX_CALL);
	HclVec kids = {0};

	e->name = name;
	take(p);
	p->paren++;
	for (;;)
	{
		skip(p, true);
		if (peek(p, 0) == ')')
			break;
		hcl_push(p->ctx, &kids, parse_expr(p));
		skip(p, true);
		if (looking_at(p, "..."))
		{
			p->at += 3;
			e->flag = true;
			skip(p, true);
		}
		if (peek(p, 0) == ',' && !e->flag)
			take(p);
		else if (peek(p, 0) != ')')
			unexpected(p, "\",\" or \")\"");
	}
	take(p);
	p->paren--;
	set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_name(Parser *p)
{
	HclExpr *e = node(p, HX_VAR);
	HclValue *v = NULL;

	e->name = parse_ident(p);
	while (looking_at(p, "::")) /* provider::name::function */
	{
		p->at += 2;
		e->name = hcl_printf(p->ctx, "%s::%s", e->name, parse_ident(p));
	}
	if (peek(p, 0) == '(')
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
parse_primary(Parser *p)
{
	HclExpr *e;
	int c;

	skip(p, false);
	c = peek(p, 0);
	if (c == '(')
	{
		take(p);
		p->paren++;
		e = parse_expr(p);
		skip(p, true);
		expect(p, ')', "\")\"");
		p->paren--;
		if (e->kind == HX_VAR) /* (name) as a key is its value */
		{
			HclExpr *wrapped = node(p, HX_TEMPLATE);
			HclVec kids = {0};

			hcl_push(p->ctx, &kids, e);
			set_kids(wrapped, &kids);
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
		take(p);
		return parse_whole_template(p, '"');
	}
	if (looking_at(p, "<<"))
		return parse_heredoc(p);
	if (c >= 0 && isdigit(c))
		return parse_number(p);
	if (ident_start(c))
		return parse_name(p);
	unexpected(p, "a value");
}

static HclExpr *parse_suffixes(Parser *p, HclExpr *e, bool attrs_only);

static HclExpr *
parse_dot(Parser *p, HclExpr *e)
{
	HclExpr *out;

	p->at++;
	skip(p, false);
	if (peek(p, 0) == '*')
	{
		p->at++;
		return node_of(p, HX_SPLAT, e, parse_suffixes(p, node(p, HX_ITEM), true));
	}
	if (peek(p, 0) >= 0 && isdigit(peek(p, 0)))
	{
		long double n = 0;

		while (peek(p, 0) >= 0 && isdigit(peek(p, 0)) && n < 1e9L)
			n = n * 10 + (take(p) - '0');
		return node_of(p, HX_INDEX, e, literal(p, hcl_number(p->ctx, n)));
	}
	out = node_of(p, HX_ATTR, e, NULL);
	out->name = parse_ident(p);
	if (out->name == NULL)
		unexpected(p, "an attribute's name behind \".\"");
	return out;
}

static HclExpr *
parse_bracket(Parser *p, HclExpr *e)
{
	HclExpr *key;

	take(p);
	p->paren++;
	skip(p, true);
	if (peek(p, 0) == '*')
	{
		p->at++;
		skip(p, true);
		expect(p, ']', "\"]\"");
		p->paren--;
		return node_of(p, HX_SPLAT, e, parse_suffixes(p, node(p, HX_ITEM), false));
	}
	key = parse_expr(p);
	skip(p, true);
	expect(p, ']', "\"]\"");
	p->paren--;
	return node_of(p, HX_INDEX, e, key);
}

static HclExpr *
parse_suffixes(Parser *p, HclExpr *e, bool attrs_only)
{
	int levels = 0;

	for (;;)
	{
		if (++levels > HCL_MAX_DEPTH)
			hcl_raise(p->ctx, here(p), "reference has more than %d parts", HCL_MAX_DEPTH);
		if (p->paren > 0)
			skip(p, true);
		if (peek(p, 0) == '.' && peek(p, 1) != '.')
			e = parse_dot(p, e);
		else if (peek(p, 0) == '[' && !attrs_only)
			e = parse_bracket(p, e);
		else
			return e;
		if (e->kind == HX_SPLAT)
			return e; /* what follows belongs to its element */
	}
}

static HclExpr *
parse_unary(Parser *p)
{
	HclExpr *e;
	int c;

	hcl_enter(p->ctx, here(p));
	skip(p, false);
	c = peek(p, 0);
	if (c == '-' || (c == '!' && peek(p, 1) != '='))
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
find_operator(const Parser *p, int level)
{
	size_t i;

	for (i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (looking_at(p, operators[i].text))
		{
			if (operators[i].op == '%' && peek(p, 1) == '{')
				return NULL;
			return operators[i].level == level ? &operators[i] : NULL;
		}
	return NULL;
}

static HclExpr *
parse_binary(Parser *p, int level)
{
	const Operator *operator;
	HclExpr *e;
	int chain = 0;

	if (level > 6)
		return parse_unary(p);
	e = parse_binary(p, level + 1);
	for (;;)
	{
		skip(p, false);
		operator= find_operator(p, level);
		if (operator== NULL)
			return e;
		if (++chain > HCL_MAX_DEPTH)
			hcl_raise(
				p->ctx, here(p), "expression has more than %d operators in a row", HCL_MAX_DEPTH);
		p->at += strlen(operator->text);
		e = node_of(p, HX_BINARY, e, parse_binary(p, level + 1));
		e->op = operator->op;
	}
}

static HclExpr *
parse_expr(Parser *p)
{
	HclVec kids = {0};
	HclExpr *e;
	HclExpr *cond;
	size_t start;

	skip(p, false);
	hcl_enter(p->ctx, here(p));
	start = p->at;
	e = parse_binary(p, 1);
	skip(p, false);
	if (peek(p, 0) == '?')
	{
		take(p);
		cond = node(p, HX_COND);
		cond->pos = e->pos;
		hcl_push(p->ctx, &kids, e);
		skip(p, true);
		hcl_push(p->ctx, &kids, parse_expr(p));
		skip(p, true);
		expect(p, ':', "\":\" of a conditional");
		skip(p, true);
		hcl_push(p->ctx, &kids, parse_expr(p));
		set_kids(cond, &kids);
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
	Parser p = {ctx, file, src, len, 0, 1, 1};
	HclExpr *e = parse_expr(&p);

	skip(&p, true);
	if (p.at < p.len)
		unexpected(&p, "the end of the expression");
	return e;
}

/* -- bodies -------------------------------------------------------------- */

static void parse_body(Parser *p, HclBody *body, bool nested);

static void
end_of_item(Parser *p)
{
	skip(p, false);
	if (peek(p, 0) >= 0 && peek(p, 0) != '\n' && peek(p, 0) != '}')
		unexpected(p, "the end of the line");
}

static void
parse_attribute(Parser *p, HclVec *attrs, const char *name, HclPos pos)
{
	HclAttr *attr = hcl_alloc(p->ctx, sizeof(*attr));
	size_t i;

	take(p);
	attr->name = name;
	attr->pos = pos;
	for (i = 0; i < attrs->n; i++)
		if (strcmp(((HclAttr *) attrs->items[i])->name, name) == 0)
			hcl_raise(p->ctx, pos, "attribute \"%s\" is set twice", name);
	attr->expr = parse_expr(p);
	end_of_item(p);
	hcl_push(p->ctx, attrs, attr);
}

static const char *
parse_label(Parser *p)
{
	HclExpr *e;

	if (peek(p, 0) != '"')
		return parse_ident(p);
	take(p);
	e = parse_whole_template(p, '"');
	if (e->kind != HX_LITERAL)
		hcl_raise(p->ctx, e->pos, "a block's label cannot have an interpolation");
	return e->value->u.str.data;
}

static HclBlock *
parse_block(Parser *p, const char *type, HclPos pos)
{
	HclBlock *block = hcl_alloc(p->ctx, sizeof(*block));
	HclVec labels = {0};
	const char *label;

	block->type = type;
	block->pos = pos;
	while (peek(p, 0) != '{')
	{
		if ((label = parse_label(p)) == NULL)
			unexpected(p, "\"=\", a label or \"{\"");
		hcl_push(p->ctx, &labels, (void *) (uintptr_t) label);
		skip(p, false);
	}
	block->labels = (const char **) labels.items;
	block->nlabels = labels.n;
	take(p);
	parse_body(p, &block->body, true);
	return block;
}

static void
parse_body(Parser *p, HclBody *body, bool nested)
{
	const HclPos start = here(p);
	HclVec attrs = {0};
	HclVec blocks = {0};
	size_t i;

	hcl_enter(p->ctx, start);
	for (;;)
	{
		const char *name;
		HclPos pos;

		skip(p, true);
		pos = here(p);
		if (peek(p, 0) < 0 && nested)
			hcl_raise(p->ctx, start, "block is not closed");
		if (peek(p, 0) < 0 || (nested && peek(p, 0) == '}'))
			break;
		if ((name = parse_ident(p)) == NULL)
			unexpected(p, "an attribute or a block");
		skip(p, false);
		if (peek(p, 0) == '=' && peek(p, 1) != '=')
			parse_attribute(p, &attrs, name, pos);
		else
		{
			hcl_push(p->ctx, &blocks, parse_block(p, name, pos));
			end_of_item(p);
		}
	}
	if (nested)
		take(p);
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
	Parser p = {ctx, file, src, len, 0, 1, 0};
	HclBody *body = hcl_alloc(ctx, sizeof(*body));

	if (len > HCL_MAX_SOURCE)
		hcl_raise(ctx, here(&p), "file is larger than %zu MiB", HCL_MAX_SOURCE >> 20);
	if (len >= 3 && memcmp(src, "\xef\xbb\xbf", 3) == 0)
		p.at = 3;
	if (memchr(src, '\0', len) != NULL)
		hcl_raise(ctx, here(&p), "file has a zero byte");
	if (!hcl_is_utf8(src, len))
		hcl_raise(ctx, here(&p), "file is not UTF-8");
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

/* -- JSON syntax --------------------------------------------------------- */

/* Nested blocks are told from attributes by name: JSON has one form for both. */
static bool
json_is_block(const char *name)
{
	static const char *const names[] = {"option",
										"validation",
										"metadata",
										"display_apps",
										"healthcheck",
										"item",
										"prebuilds",
										"expiration_policy",
										"scheduling",
										"schedule",
										"lifecycle",
										"provisioner",
										"resources_monitoring",
										"memory",
										"volume",
										"dynamic",
										"content",
										"required_providers",
										"backend",
										"connection",
										"sidebar_app"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static HclExpr *
json_expr(Parser *p, const json_t *j)
{
	HclExpr *e;
	HclVec kids = {0};
	const char *key;
	json_t *item;
	size_t i;

	hcl_enter(p->ctx, here(p));
	if (json_is_string(j))
		e = hcl_parse_template(p->ctx,
							   p->file,
							   p->line,
							   hcl_strndup(p->ctx, json_string_value(j), json_string_length(j)),
							   json_string_length(j));
	else if (json_is_array(j))
	{
		e = node(p, HX_TUPLE);
		json_array_foreach(j, i, item) hcl_push(p->ctx, &kids, json_expr(p, item));
		set_kids(e, &kids);
	}
	else if (json_is_object(j))
	{
		e = node(p, HX_OBJECT);
		json_object_foreach((json_t *) (uintptr_t) j, key, item)
		{
			hcl_push(
				p->ctx,
				&kids,
				hcl_parse_template(
					p->ctx, p->file, p->line, hcl_strndup(p->ctx, key, strlen(key)), strlen(key)));
			hcl_push(p->ctx, &kids, json_expr(p, item));
		}
		set_kids(e, &kids);
	}
	else
		e = literal(p, hcl_from_json(p->ctx, j));
	p->ctx->depth--;
	return e;
}

static void json_body(Parser *p, HclBody *body, const json_t *j);

/* Blocks of one type below their labels: {"type": {"name": {…}}}, bodies may be arrays. */
static void
json_blocks(Parser *p, HclVec *blocks, const char *type, const char **labels, size_t n, size_t want,
			const json_t *j)
{
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_array(j))
	{
		json_array_foreach(j, i, item) json_blocks(p, blocks, type, labels, n, want, item);
		return;
	}
	if (!json_is_object(j))
		hcl_raise(p->ctx, here(p), "\"%s\" must be an object or an array of objects", type);
	if (n < want)
	{
		json_object_foreach((json_t *) (uintptr_t) j, key, item)
		{
			labels[n] = hcl_strndup(p->ctx, key, strlen(key));
			json_blocks(p, blocks, type, labels, n + 1, want, item);
		}
		return;
	}
	{
		HclBlock *block = hcl_alloc(p->ctx, sizeof(*block));

		block->type = type;
		block->pos = here(p);
		block->nlabels = n;
		block->labels = hcl_alloc(p->ctx, (n + 1) * sizeof(*labels));
		memcpy(block->labels, labels, n * sizeof(*labels));
		json_body(p, &block->body, j);
		hcl_push(p->ctx, blocks, block);
	}
}

static void
finish_body(Parser *p, HclBody *body, const HclVec *attrs, const HclVec *blocks)
{
	size_t i;

	body->attrs = hcl_alloc(p->ctx, (attrs->n + 1) * sizeof(HclAttr));
	for (i = 0; i < attrs->n; i++)
		body->attrs[i] = *(HclAttr *) attrs->items[i];
	body->nattrs = attrs->n;
	body->blocks = (HclBlock **) blocks->items;
	body->nblocks = blocks->n;
}

static void
json_body(Parser *p, HclBody *body, const json_t *j)
{
	const char *labels[3];
	HclVec attrs = {0};
	HclVec blocks = {0};
	const char *key;
	json_t *item;

	hcl_enter(p->ctx, here(p));
	json_object_foreach((json_t *) (uintptr_t) j, key, item)
	{
		const char *name = hcl_strndup(p->ctx, key, strlen(key));

		if (strcmp(key, "//") == 0)
			continue;
		if (json_is_block(key) && !json_is_string(item))
			json_blocks(p,
						&blocks,
						name,
						labels,
						0,
						strcmp(key, "dynamic") == 0 || strcmp(key, "provisioner") == 0,
						item);
		else
		{
			HclAttr *attr = hcl_alloc(p->ctx, sizeof(*attr));

			*attr = (HclAttr){name, json_expr(p, item), here(p)};
			hcl_push(p->ctx, &attrs, attr);
		}
	}
	finish_body(p, body, &attrs, &blocks);
	p->ctx->depth--;
}

static size_t
json_label_count(const char *type)
{
	if (strcmp(type, "resource") == 0 || strcmp(type, "data") == 0 ||
		strcmp(type, "ephemeral") == 0)
		return 2;
	if (strcmp(type, "variable") == 0 || strcmp(type, "output") == 0 ||
		strcmp(type, "module") == 0 || strcmp(type, "provider") == 0 || strcmp(type, "check") == 0)
		return 1;
	return 0;
}

typedef struct JsonParse
{
	Parser parser;
	const json_t *root;
	HclBody *body;
} JsonParse;

static void
json_top(void *arg)
{
	JsonParse *jp = arg;
	Parser *p = &jp->parser;
	const char *labels[3];
	HclVec attrs = {0};
	HclVec blocks = {0};
	const char *key;
	json_t *item;

	json_object_foreach((json_t *) (uintptr_t) jp->root, key, item) if (strcmp(key, "//") != 0)
		json_blocks(p,
					&blocks,
					hcl_strndup(p->ctx, key, strlen(key)),
					labels,
					0,
					json_label_count(key),
					item);
	jp->body = hcl_alloc(p->ctx, sizeof(*jp->body));
	finish_body(p, jp->body, &attrs, &blocks);
}

HclBody *
hcl_parse_json(HclCtx *ctx, const char *file, const char *src, size_t len)
{
	JsonParse jp = {.parser = {ctx, file, src, len, 0, 1, 0}};
	json_error_t error;
	json_t *root;
	bool ok;

	if (len > HCL_MAX_SOURCE)
		hcl_raise(ctx, here(&jp.parser), "file is larger than %zu MiB", HCL_MAX_SOURCE >> 20);
	root = json_loadb(src, len, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		hcl_raise(ctx, (HclPos){file, error.line}, "not valid JSON: %s", error.text);
	if (!json_is_object(root))
	{
		json_decref(root);
		hcl_raise(ctx, here(&jp.parser), "must be a JSON object");
	}
	jp.root = root;
	ok = hcl_guard(ctx, json_top, &jp);
	json_decref(root);
	if (!ok)
		hcl_rethrow(ctx);
	return jp.body;
}
