/*
 * http.c -- the HTTP/1.1 of a boundary's proxy.  No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/http.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool
http_buffer_add(HttpBuffer *buffer, const void *data, size_t size)
{
	if (buffer->room - buffer->size <= size)
	{
		size_t room = (buffer->size + size + 256) * 2;
		char *more = realloc(buffer->data, room);

		if (more == NULL)
		{
			buffer->failed = true;
			return false;
		}
		buffer->data = more;
		buffer->room = room;
	}
	if (size > 0)
		memcpy(buffer->data + buffer->size, data, size);
	buffer->size += size;
	buffer->data[buffer->size] = '\0';
	return true;
}

static void
add_text(HttpBuffer *buffer, const char *text)
{
	http_buffer_add(buffer, text, strlen(text));
}

void
http_buffer_take(HttpBuffer *buffer, size_t size)
{
	if (size == 0)
		return;
	buffer->size -= size;
	memmove(buffer->data, buffer->data + size, buffer->size + 1);
}

void
http_buffer_free(HttpBuffer *buffer)
{
	free(buffer->data);
	*buffer = (HttpBuffer) {0};
}

/* Headers that speak of this one connection; the body's framing is told anew. */
static bool
is_hop(const HttpMessage *message, const char *name)
{
	static const char *const hops[] = {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "transfer-encoding", "http2-settings"};

	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++)
		if (strcasecmp(name, hops[i]) == 0)
			return true;
	return (!message->is_answer && strcasecmp(name, "host") == 0) || strcasecmp(name, "upgrade") == 0;
}

static bool
is_name(const char *name)
{
	for (; *name != '\0'; name++)
		if (!isalnum((unsigned char) *name) && strchr("!#$%&'*+-.^_`|~", *name) == NULL)
			return false;
	return true;
}

static void
take_host(HttpMessage *message, const char *value)
{
	message->nhosts++;
	if (strlen(value) < sizeof(message->host))
		snprintf(message->host, sizeof(message->host), "%s", value);
	else
		message->problem = "a host name that is too long";
}

/* A header is whole. */
static void
end_header(HttpMessage *message)
{
	const char *name = message->name.data, *value = message->value.data != NULL ? message->value.data : "";

	if (message->name.size == 0)
		return;
	if (memchr(name, '\0', message->name.size) != NULL || !is_name(name) || strlen(value) != message->value.size || strpbrk(value, "\r\n") != NULL)
		message->problem = "a header with control characters";
	else if (!message->is_answer && strcasecmp(name, "host") == 0)
		take_host(message, value);
	else if (strcasecmp(name, "transfer-encoding") == 0 && strcasecmp(value, "chunked") != 0)
		message->problem = "a transfer encoding other than chunked";
	else if (strcasecmp(name, "upgrade") == 0 && !message->wants_upgrade && message->is_answer == (message->parser.status_code == 101))
	{
		/* Another protocol, where both agree; never HTTP/2, which nobody could judge. */
		message->wants_upgrade = strncasecmp(value, "h2", 2) != 0;
		if (message->wants_upgrade)
		{
			add_text(&message->head, "Connection: Upgrade\r\nUpgrade: ");
			add_text(&message->head, value);
			add_text(&message->head, "\r\n");
		}
	}
	else if (!is_hop(message, name))
	{
		add_text(&message->head, name);
		add_text(&message->head, ": ");
		add_text(&message->head, value);
		add_text(&message->head, "\r\n");
	}
	message->name.size = message->value.size = 0;
}

static bool
within_head(HttpMessage *message)
{
	if (message->url.size + message->head.size + message->name.size + message->value.size <= HTTP_HEAD_MAX)
		return true;
	message->problem = "a head that is too long";
	return false;
}

static int
on_url(http_parser *parser, const char *at, size_t length)
{
	HttpMessage *message = parser->data;

	http_buffer_add(&message->url, at, length);
	return within_head(message) ? 0 : 1;
}

static int
on_field(http_parser *parser, const char *at, size_t length)
{
	HttpMessage *message = parser->data;

	if (message->head_done) /* a trailer */
		return 0;
	if (message->in_value)
		end_header(message);
	message->in_value = false;
	http_buffer_add(&message->name, at, length);
	return within_head(message) && message->problem == NULL ? 0 : 1;
}

static int
on_value(http_parser *parser, const char *at, size_t length)
{
	HttpMessage *message = parser->data;

	if (message->head_done)
		return 0;
	message->in_value = true;
	http_buffer_add(&message->value, at, length);
	return within_head(message) ? 0 : 1;
}

static int
on_head(http_parser *parser)
{
	HttpMessage *message = parser->data;

	end_header(message);
	if (message->problem != NULL)
		return -1;
	message->chunked = parser->flags & F_CHUNKED;
	message->close = !http_should_keep_alive(parser);
	message->head_done = true;
	/* http_parser believes a length that only tells of another answer's body. */
	if (message->is_answer && (parser->status_code == 304 || parser->status_code == 204 || parser->status_code < 200))
		message->no_body = true;
	message->upgrade = message->is_answer ? parser->status_code == 101 : parser->method == HTTP_CONNECT;
	http_parser_pause(parser, 1);
	return message->upgrade ? 2 : message->no_body ? 1 : 0;
}

static int
on_body(http_parser *parser, const char *at, size_t length)
{
	HttpMessage *message = parser->data;
	char size[24];

	if (length == 0)
		return 0;
	if (message->chunked)
		http_buffer_add(&message->out, size, (size_t) snprintf(size, sizeof(size), "%zx\r\n", length));
	http_buffer_add(&message->out, at, length);
	if (message->chunked)
		add_text(&message->out, "\r\n");
	return message->out.failed ? 1 : 0;
}

static int
on_complete(http_parser *parser)
{
	HttpMessage *message = parser->data;

	if (message->chunked && !message->no_body && !message->upgrade)
		add_text(&message->out, "0\r\n\r\n");
	message->done = true;
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

void
http_message_init(HttpMessage *message, bool is_answer, bool no_body)
{
	*message = (HttpMessage) {.is_answer = is_answer, .no_body = no_body};
	http_parser_init(&message->parser, is_answer ? HTTP_RESPONSE : HTTP_REQUEST);
	message->parser.data = message;
}

void
http_message_free(HttpMessage *message)
{
	http_buffer_free(&message->out);
	http_buffer_free(&message->url);
	http_buffer_free(&message->head);
	http_buffer_free(&message->name);
	http_buffer_free(&message->value);
}

bool
http_message_input(HttpMessage *message, const char *data, size_t size, size_t *used)
{
	enum http_errno error;

	*used = 0;
	if (message->done)
		return true;
	if (HTTP_PARSER_ERRNO(&message->parser) == HPE_PAUSED)
		http_parser_pause(&message->parser, 0);
	*used = http_parser_execute(&message->parser, &settings, data, size);
	error = HTTP_PARSER_ERRNO(&message->parser);
	if (error == HPE_PAUSED || error == HPE_OK)
		return true;
	if (message->problem == NULL)
		message->problem = http_errno_description(error);
	return false;
}

static void
add_framing(HttpMessage *message)
{
	/* Content-Length is among the headers. */
	if (message->chunked)
		add_text(&message->head, "Transfer-Encoding: chunked\r\n");
}

void
http_request_head(HttpMessage *message, const char *target, const char *host)
{
	add_framing(message);
	add_text(&message->out, http_method_str((enum http_method) message->parser.method));
	add_text(&message->out, " ");
	add_text(&message->out, target);
	add_text(&message->out, message->parser.http_minor == 0 ? " HTTP/1.0\r\nHost: " : " HTTP/1.1\r\nHost: ");
	add_text(&message->out, host);
	add_text(&message->out, "\r\n");
	if (message->head.data != NULL)
		add_text(&message->out, message->head.data);
	add_text(&message->out, "\r\n");
}

void
http_answer_head(HttpMessage *message, bool keep)
{
	char line[64];

	if (message->parser.status_code != 304 || message->chunked)
		add_framing(message);
	snprintf(line, sizeof(line), "HTTP/1.1 %u %s\r\n", message->parser.status_code, http_status_str((enum http_status) message->parser.status_code));
	add_text(&message->out, line);
	if (message->head.data != NULL)
		add_text(&message->out, message->head.data);
	if (!message->upgrade && message->parser.status_code >= 200)
		add_text(&message->out, keep ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
	add_text(&message->out, "\r\n");
}

static bool
is_host(const char *text, size_t len, bool bracketed)
{
	for (size_t i = 0; i < len; i++)
		if (bracketed ? !isxdigit((unsigned char) text[i]) && text[i] != ':' && text[i] != '.'
					  : !isalnum((unsigned char) text[i]) && strchr("-._", text[i]) == NULL)
			return false;
	return len > 0 && len < HTTP_HOST_MAX;
}

bool
http_authority(const char *text, size_t len, char host[static HTTP_HOST_MAX], int *port)
{
	bool bracketed = len > 0 && *text == '[';
	const char *end = bracketed ? memchr(text, ']', len) : memchr(text, ':', len);
	const char *at = bracketed ? text + 1 : text;
	size_t n = (size_t) ((end != NULL ? end : text + len) - at);
	const char *rest = end == NULL ? text + len : bracketed ? end + 1 : end;

	if (memchr(text, '\0', len) != NULL || (bracketed && end == NULL) || !is_host(at, n, bracketed))
		return false;
	if (rest < text + len)
	{
		size_t digits = (size_t) (text + len - rest) - 1;
		long value = 0;

		if (*rest != ':' || digits < 1 || digits > 5)
			return false;
		for (size_t i = 1; i <= digits; i++)
			if (!isdigit((unsigned char) rest[i]))
				return false;
			else
				value = value * 10 + (rest[i] - '0');
		if (value < 1 || value > 65535)
			return false;
		*port = (int) value;
	}
	for (size_t i = 0; i < n; i++)
		host[i] = (char) tolower((unsigned char) at[i]);
	while (n > 1 && host[n - 1] == '.')
		n--;
	host[n] = '\0';
	return true;
}

/* "http://host/path", as a client says it to a proxy. */
static bool
absolute(HttpTarget *target, const char *url)
{
	const char *at = strstr(url, "://") + 3;
	size_t len = strcspn(at, "/?#");

	target->tls = strncasecmp(url, "https", 5) == 0;
	target->port = target->tls ? 443 : 80;
	if (!http_authority(at, len, target->host, &target->port))
		return false;
	target->path = at[len] == '/' ? at + len : "/";
	return at[len] == '/' || at[len] == '\0';
}

static void
make_authority(HttpTarget *target)
{
	const char *format = strchr(target->host, ':') != NULL ? "[%s]" : "%s";
	int n = snprintf(target->authority, sizeof(target->authority), format, target->host);

	if (target->port != (target->tls ? 443 : 80))
		snprintf(target->authority + n, sizeof(target->authority) - (size_t) n, ":%d", target->port);
}

bool
http_target(HttpTarget *target, const HttpMessage *message, bool tls, int port)
{
	const char *url = message->url.data != NULL ? message->url.data : "";
	bool ok;

	*target = (HttpTarget) {.tls = tls, .port = port, .path = url};
	if (message->nhosts > 1 || strlen(url) != message->url.size)
		return false;
	if (message->parser.method == HTTP_CONNECT)
		ok = http_authority(url, strlen(url), target->host, &target->port);
	else if (strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0)
		ok = absolute(target, url);
	else
		ok = (*url == '/' || (strcmp(url, "*") == 0 && message->parser.method == HTTP_OPTIONS)) &&
			http_authority(message->host, strlen(message->host), target->host, &target->port);
	make_authority(target);
	return ok;
}
