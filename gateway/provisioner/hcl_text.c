/*
 * hcl_text.c -- quoted text and heredocs with their ${ } and %{ }
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_parse.h"

#include <ctype.h>
#include <string.h>

static HclExpr *parse_parts(HclParser *p, int end, const char **stop);

static void
put_utf8(HclParser *p, HclBuf *buf, unsigned long c)
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
parse_escape(HclParser *p, HclBuf *buf)
{
	unsigned long code = 0;
	int digits;
	int c;
	int i;

	p->at++; /* the backslash */
	c = hcl_take(p);
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
				c = hcl_take(p);
				if (c < 0 || !isxdigit(c))
					hcl_raise(p->ctx, hcl_here(p), "\\u needs four hexadecimal digits, \\U eight");
				code = code << 4 | (unsigned long) (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
			}
			if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
				hcl_raise(p->ctx, hcl_here(p), "escape is not a character of Unicode");
			put_utf8(p, buf, code);
			return;
		default:
			hcl_raise(p->ctx,
					  hcl_here(p),
					  "a backslash must be followed by n, r, t, u, U, a quote or a backslash");
	}
}

/* Literal text gathered so far becomes a part; ~ behind it cuts its white space. */
static void
flush_literal(HclParser *p, HclVec *parts, HclBuf *buf, bool trim)
{
	while (trim && buf->len > 0 && isspace((unsigned char) buf->data[buf->len - 1]))
		buf->len--;
	if (buf->len > 0)
		hcl_push(p->ctx, parts, hcl_literal(p, hcl_buf_string(p->ctx, buf)));
	*buf = (HclBuf){0};
}

static void
skip_space(HclParser *p)
{
	while (hcl_peek(p, 0) >= 0 && isspace(hcl_peek(p, 0)))
		hcl_take(p);
}

/* The end of ${ } or %{ }; ~ before it cuts the white space that follows. */
static void
close_sequence(HclParser *p)
{
	bool trim;

	hcl_skip(p, true);
	trim = hcl_peek(p, 0) == '~';
	if (trim)
		hcl_take(p);
	hcl_expect(p, '}', "\"}\"");
	p->paren--;
	if (trim)
		skip_space(p);
}

static HclExpr *
parse_if_directive(HclParser *p, int end)
{
	HclExpr *e = hcl_node(p, HX_TPL_IF);
	const char *stop = NULL;
	HclVec kids = {0};

	hcl_push(p->ctx, &kids, hcl_read_expr(p));
	close_sequence(p);
	hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	if (stop != NULL && strcmp(stop, "else") == 0)
		hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	else
		hcl_push(p->ctx, &kids, NULL);
	if (stop == NULL || strcmp(stop, "endif") != 0)
		hcl_raise(p->ctx, e->pos, "%%{ if } has no %%{ endif }");
	hcl_set_kids(e, &kids);
	return e;
}

static HclExpr *
parse_for_directive(HclParser *p, int end)
{
	HclExpr *e = hcl_node(p, HX_TPL_FOR);
	const char *stop = NULL;
	HclVec kids = {0};

	hcl_read_for_names(p, e);
	hcl_push(p->ctx, &kids, hcl_read_expr(p));
	close_sequence(p);
	hcl_push(p->ctx, &kids, parse_parts(p, end, &stop));
	if (stop == NULL || strcmp(stop, "endfor") != 0)
		hcl_raise(p->ctx, e->pos, "%%{ for } has no %%{ endfor }");
	hcl_set_kids(e, &kids);
	return e;
}

/* ${ expression } or %{ directive }.  NULL with *stop set at else, endif and endfor. */
static HclExpr *
parse_sequence(HclParser *p, HclVec *parts, HclBuf *buf, int end, const char **stop)
{
	const bool directive = hcl_peek(p, 0) == '%';
	const char *word;
	HclExpr *e;
	bool trim;

	p->at += 2;
	trim = hcl_peek(p, 0) == '~';
	if (trim)
		p->at++;
	flush_literal(p, parts, buf, trim);
	p->paren++;
	hcl_skip(p, true);
	if (!directive)
	{
		e = hcl_read_expr(p);
		close_sequence(p);
		return e;
	}
	word = hcl_read_ident(p);
	if (word != NULL && strcmp(word, "if") == 0)
		return parse_if_directive(p, end);
	if (word != NULL && strcmp(word, "for") == 0)
		return parse_for_directive(p, end);
	if (word == NULL ||
		(strcmp(word, "else") != 0 && strcmp(word, "endif") != 0 && strcmp(word, "endfor") != 0))
		hcl_raise(p->ctx, hcl_here(p), "%%{ must be followed by if, else, endif, for or endfor");
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
parse_parts(HclParser *p, int end, const char **stop)
{
	HclExpr *e = hcl_node(p, HX_TEMPLATE);
	HclVec parts = {0};
	HclBuf buf = {0};

	hcl_enter(p->ctx, hcl_here(p));
	*stop = NULL;
	for (;;)
	{
		int c = hcl_peek(p, 0);

		if (c < 0 && end < 0)
			break;
		if (c < 0 || (c == '\n' && end == '"'))
			hcl_raise(p->ctx, e->pos, "string is not closed on its line");
		if (c == end)
		{
			p->at++;
			break;
		}
		if ((c == '$' || c == '%') && hcl_peek(p, 1) == c && hcl_peek(p, 2) == '{')
		{
			hcl_append(p->ctx, &buf, p->src + p->at, 1); /* $${ is ${ */
			hcl_append(p->ctx, &buf, "{", 1);
			p->at += 3;
		}
		else if ((c == '$' || c == '%') && hcl_peek(p, 1) == '{')
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
			hcl_take(p);
		}
	}
	flush_literal(p, &parts, &buf, false);
	hcl_set_kids(e, &parts);
	p->ctx->depth--;
	return e;
}

HclExpr *
hcl_read_template(HclParser *p, int end)
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
		return hcl_literal(p, hcl_string(p->ctx, ""));
	if (e->n == 1 && e->kids[0]->kind == HX_LITERAL)
		return e->kids[0];
	return e;
}

HclExpr *
hcl_parse_template(HclCtx *ctx, const char *file, int line, const char *src, size_t len)
{
	HclParser p = {ctx, file, src, len, 0, line, 0};

	return hcl_read_template(&p, -1);
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
strip_indent(HclParser *p, HclBuf *out, const char *text, size_t len)
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
closes_heredoc(const HclParser *p, const char *word)
{
	size_t at = p->at;
	const size_t n = strlen(word);

	while (at < p->len && (p->src[at] == ' ' || p->src[at] == '\t'))
		at++;
	if (p->len - at < n || memcmp(p->src + at, word, n) != 0)
		return false;
	at += n;
	return at == p->len || p->src[at] == '\n' || p->src[at] == '\r' ||
		   !hcl_ident_part((unsigned char) p->src[at]);
}

HclExpr *
hcl_read_heredoc(HclParser *p)
{
	const HclPos start = hcl_here(p);
	const char *word;
	HclBuf body = {0};
	bool indented;
	size_t from;
	int line;

	p->at += 2;
	indented = hcl_peek(p, 0) == '-';
	if (indented)
		p->at++;
	word = hcl_read_ident(p);
	while (hcl_peek(p, 0) == '\r')
		p->at++;
	if (word == NULL || hcl_take(p) != '\n')
		hcl_raise(p->ctx, start, "<< must be followed by a word and the end of the line");
	from = p->at;
	line = p->line;
	while (!closes_heredoc(p, word))
	{
		while (hcl_peek(p, 0) >= 0 && hcl_peek(p, 0) != '\n')
			p->at++;
		if (hcl_take(p) < 0)
			hcl_raise(p->ctx, start, "heredoc is not closed by a line \"%s\"", word);
	}
	if (indented)
		strip_indent(p, &body, p->src + from, p->at - from);
	else
		hcl_append(p->ctx, &body, p->src + from, p->at - from);
	while (hcl_peek(p, 0) == ' ' || hcl_peek(p, 0) == '\t')
		p->at++;
	p->at += strlen(word);
	return hcl_parse_template(p->ctx, p->file, line, body.data != NULL ? body.data : "", body.len);
}
