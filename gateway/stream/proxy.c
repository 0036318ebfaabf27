/*
 * proxy.c -- heads of HTTP/1.1 on their way through.
 *
 * SPDX-License-Identifier: MIT
 */
#include "proxy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Reading a response --------------------------------------------------------- */

static int
on_begin(http_parser *parser)
{
	ProxyResponse *response = parser->data;

	response->nfields = 0;
	response->text_len = 0;
	response->in_value = false;
	return 0;
}

/* Appends to the text of the head; false: it would be too long. */
static bool
add_text(ProxyResponse *response, const char *at, size_t len)
{
	if (len > PROXY_MAX_HEAD - response->text_len)
		return false;
	if (response->text_len + len > response->text_room)
	{
		size_t room = 2 * (response->text_len + len) + 512;
		char *text = realloc(response->text, room);

		if (text == NULL)
			return false;
		response->text = text;
		response->text_room = room;
	}
	memcpy(response->text + response->text_len, at, len);
	response->text_len += len;
	return true;
}

static int
on_field(http_parser *parser, const char *at, size_t len)
{
	ProxyResponse *response = parser->data;

	if (response->head_done) /* a trailer */
		return 0;
	if (response->nfields == 0 || response->in_value)
	{
		if (response->nfields == PROXY_MAX_FIELDS)
			return 1;
		response->fields[response->nfields++] = (ProxyField){.name = response->text_len};
		response->in_value = false;
	}
	response->fields[response->nfields - 1].name_len += len;
	return add_text(response, at, len) ? 0 : 1;
}

static int
on_value(http_parser *parser, const char *at, size_t len)
{
	ProxyResponse *response = parser->data;
	ProxyField *field;

	if (response->head_done)
		return 0;
	field = &response->fields[response->nfields - 1];
	if (!response->in_value)
		field->value = response->text_len;
	response->in_value = true;
	field->value_len += len;
	return add_text(response, at, len) ? 0 : 1;
}

/* 100 Continue and the like come before the answer. */
static bool
is_interim(const http_parser *parser)
{
	return parser->status_code < 200 && parser->status_code != HTTP_STATUS_SWITCHING_PROTOCOLS;
}

/* The library lets blanks be in names; whoever reads the answer next may not see the same field. */
static bool
names_ok(const ProxyResponse *response)
{
	for (size_t i = 0; i < response->nfields; i++)
	{
		ProxyText name = proxy_name(response, i);

		if (name.len == 0)
			return false;
		for (size_t j = 0; j < name.len; j++)
			if ((unsigned char) name.base[j] <= ' ' || (unsigned char) name.base[j] >= 0x7f || name.base[j] == ':')
				return false;
	}
	return true;
}

static int
on_head(http_parser *parser)
{
	ProxyResponse *response = parser->data;

	if (!names_ok(response))
		return -1;
	if (is_interim(parser))
		return 1;
	response->head_done = true;
	response->status = (int) parser->status_code;
	if ((parser->flags & F_CHUNKED) == 0 && parser->content_length <= INT64_MAX)
		response->content_length = (int64_t) parser->content_length;
	/* 1: no body follows, whatever its size is said to be. */
	return response->to_head || parser->status_code == 204 || parser->status_code == 304;
}

static int
on_body(http_parser *parser, const char *at, size_t len)
{
	ProxyResponse *response = parser->data;

	response->body(response->arg, at, len);
	return 0;
}

static int
on_complete(http_parser *parser)
{
	ProxyResponse *response = parser->data;

	if (is_interim(parser))
		return 0;
	response->state = parser->upgrade ? PROXY_UPGRADED : PROXY_DONE;
	if (!parser->upgrade)
		http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {.on_message_begin = on_begin,
											  .on_header_field = on_field,
											  .on_header_value = on_value,
											  .on_headers_complete = on_head,
											  .on_body = on_body,
											  .on_message_complete = on_complete};

void
proxy_response_init(ProxyResponse *response, bool to_head, void (*body)(void *arg, const char *data, size_t len),
					void *arg)
{
	memset(response, 0, sizeof(*response));
	http_parser_init(&response->parser, HTTP_RESPONSE);
	response->parser.data = response;
	response->to_head = to_head;
	response->content_length = -1;
	response->body = body;
	response->arg = arg;
}

void
proxy_response_free(ProxyResponse *response)
{
	free(response->text);
	response->text = NULL;
	response->text_len = response->text_room = response->nfields = 0;
}

size_t
proxy_response_feed(ProxyResponse *response, const char *data, size_t len)
{
	size_t used = 0;

	if (response->state != PROXY_MORE || len == 0)
		return 0;
	used = http_parser_execute(&response->parser, &settings, data, len);
	/* 101 without an upgrade leads nowhere. */
	if (response->state == PROXY_DONE && response->status == HTTP_STATUS_SWITCHING_PROTOCOLS)
		response->state = PROXY_BAD;
	else if (response->state == PROXY_MORE && HTTP_PARSER_ERRNO(&response->parser) != HPE_OK)
		response->state = PROXY_BAD;
	return used;
}

void
proxy_response_end(ProxyResponse *response)
{
	if (response->state != PROXY_MORE)
		return;
	http_parser_execute(&response->parser, &settings, NULL, 0);
	if (response->state == PROXY_MORE)
		response->state = PROXY_BAD;
}

/* Fields --------------------------------------------------------------------- */

ProxyText
proxy_name(const ProxyResponse *response, size_t i)
{
	return (ProxyText){response->text + response->fields[i].name, response->fields[i].name_len};
}

ProxyText
proxy_value(const ProxyResponse *response, size_t i)
{
	return (ProxyText){response->text + response->fields[i].value, response->fields[i].value_len};
}

bool
proxy_is(ProxyText text, const char *word)
{
	return text.len == strlen(word) && strncasecmp(text.base, word, text.len) == 0;
}

ProxyText
proxy_find(const ProxyResponse *response, const char *name)
{
	for (size_t i = 0; i < response->nfields; i++)
		if (proxy_is(proxy_name(response, i), name))
			return proxy_value(response, i);
	return (ProxyText){NULL, 0};
}

/* Is the word one of the list, which commas divide? */
static bool
is_listed(ProxyText word, ProxyText list)
{
	size_t at = 0;

	while (at < list.len)
	{
		size_t end = at;
		size_t stop;

		while (end < list.len && list.base[end] != ',')
			end++;
		stop = end;
		while (at < stop && (list.base[at] == ' ' || list.base[at] == '\t'))
			at++;
		while (stop > at && (list.base[stop - 1] == ' ' || list.base[stop - 1] == '\t'))
			stop--;
		if (stop - at == word.len && strncasecmp(list.base + at, word.base, word.len) == 0)
			return true;
		at = end + 1;
	}
	return false;
}

bool
proxy_is_hop(ProxyText name, ProxyText connection)
{
	static const char *const names[] = {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
										"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (proxy_is(name, names[i]))
			return true;
	return is_listed(name, connection);
}

/* What is the server's own ---------------------------------------------------- */

#define TOKEN_ID 10
#define TOKEN_SECRET 22

bool
proxy_is_token(const char *text, size_t len)
{
	if (len != TOKEN_ID + 1 + TOKEN_SECRET || text[TOKEN_ID] != '-')
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char c = text[i];

		if (i != TOKEN_ID && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z'))
			return false;
	}
	return true;
}

bool
proxy_is_own_cookie(ProxyText cookie)
{
	static const char *const names[] = {"coder_session_token", "__Host-coder_session_token", "csrf_token", "oauth_state",
										"oauth_redirect", "coder_path_app_session_token", "coder_signed_app_token"};
	static const char subdomain[] = "coder_subdomain_app_session_token";
	ProxyText name = {cookie.base, 0};

	while (name.len < cookie.len && strchr("=; \t", cookie.base[name.len]) == NULL)
		name.len++;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (proxy_is(name, names[i]))
			return true;
	return name.len >= sizeof(subdomain) - 1 && strncasecmp(name.base, subdomain, sizeof(subdomain) - 1) == 0;
}

size_t
proxy_strip_cookies(char *dst, const char *cookies, size_t len)
{
	size_t n = 0;
	size_t at = 0;

	while (at < len)
	{
		size_t end;

		while (at < len && (cookies[at] == ' ' || cookies[at] == '\t'))
			at++;
		for (end = at; end < len && cookies[end] != ';'; end++)
			;
		if (end > at && !proxy_is_own_cookie((ProxyText){cookies + at, end - at}))
		{
			if (n > 0)
			{
				dst[n++] = ';';
				dst[n++] = ' ';
			}
			memcpy(dst + n, cookies + at, end - at);
			n += end - at;
		}
		at = end + 1;
	}
	return n;
}

size_t
proxy_strip_query(char *dst, const char *query, size_t len)
{
	static const char *const names[] = {"coder_session_token", "coder_signed_app_token_23db1dde"};
	size_t n = 0;
	size_t at = 0;

	while (at < len)
	{
		size_t end = at;
		size_t name = at;
		bool own = false;

		while (end < len && query[end] != '&')
			end++;
		while (name < end && query[name] != '=')
			name++;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			own |= proxy_is((ProxyText){query + at, name - at}, names[i]);
		/* Another's access_token is the app's business. */
		if (proxy_is((ProxyText){query + at, name - at}, "access_token") && name < end)
			own = proxy_is_token(query + name + 1, end - name - 1);
		if (!own)
		{
			if (n > 0)
				dst[n++] = '&';
			memcpy(dst + n, query + at, end - at);
			n += end - at;
		}
		at = end + 1;
	}
	return n;
}

ProxyText
proxy_behind(const char *path, size_t len, int n)
{
	size_t at = 0;

	for (; n > 0; n--)
	{
		while (at < len && path[at] == '/')
			at++;
		while (at < len && path[at] != '/' && path[at] != '?')
			at++;
	}
	return at < len && path[at] == '/' ? (ProxyText){path + at, len - at} : (ProxyText){"/", 1};
}
