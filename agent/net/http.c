/*
 * http.c -- one HTTP/1.1 exchange, parsed by http_parser.
 *
 * SPDX-License-Identifier: MIT
 */
#include "net/net.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct Exchange
{
	NetResponse *response;
	size_t room;
	size_t header_bytes;
	char name[64];
	size_t name_len;
	char value[2048];
	size_t value_len;
	bool in_value;
	bool done;
	bool head; /* the request was HEAD: no body follows */
	const NetSink *sink; /* NULL: the body is kept */
	bool enough; /* the sink wants nothing more */
} Exchange;

/* A header is complete: keep it if it is one of the few that anybody asks for. */
static void
take_header(Exchange *x)
{
	x->name[x->name_len] = '\0';
	x->value[x->value_len] = '\0';
	if (strcasecmp(x->name, "x-coder-build-version") == 0)
	{
		free(x->response->build_version);
		x->response->build_version = strdup(x->value);
	}
	else if (strcasecmp(x->name, "location") == 0)
	{
		free(x->response->location);
		x->response->location = strdup(x->value);
	}
	if (x->sink != NULL)
		x->sink->header(x->sink->arg, x->name, x->value);
	x->name_len = 0;
	x->value_len = 0;
	x->in_value = false;
}

static int
on_header_field(http_parser *parser, const char *at, size_t length)
{
	Exchange *x = parser->data;

	if (x->in_value)
		take_header(x);
	x->header_bytes += length;
	if (length > sizeof(x->name) - 1 - x->name_len)
		length = sizeof(x->name) - 1 - x->name_len;
	memcpy(x->name + x->name_len, at, length);
	x->name_len += length;
	return x->header_bytes > NET_MAX_HEADERS;
}

static int
on_header_value(http_parser *parser, const char *at, size_t length)
{
	Exchange *x = parser->data;

	x->in_value = true;
	x->header_bytes += length;
	if (length > sizeof(x->value) - 1 - x->value_len)
		length = sizeof(x->value) - 1 - x->value_len;
	memcpy(x->value + x->value_len, at, length);
	x->value_len += length;
	return x->header_bytes > NET_MAX_HEADERS;
}

static int
on_headers_complete(http_parser *parser)
{
	Exchange *x = parser->data;

	if (x->in_value)
		take_header(x);
	x->response->status = (int) parser->status_code;
	return x->head ? 1 : 0;
}

static int
on_body(http_parser *parser, const char *at, size_t length)
{
	Exchange *x = parser->data;
	NetResponse *r = x->response;

	if (x->sink != NULL)
	{
		x->enough = !x->sink->body(x->sink->arg, r->status, at, length);
		return x->enough;
	}
	if (length > NET_MAX_BODY - r->size)
		return 1;
	if (r->size + length + 1 > x->room)
	{
		size_t room = (r->size + length + 1) * 2;
		char *bigger = realloc(r->body, room);

		if (bigger == NULL)
			return 1;
		r->body = bigger;
		x->room = room;
	}
	memcpy(r->body + r->size, at, length);
	r->size += length;
	return 0;
}

static int
on_message_complete(http_parser *parser)
{
	Exchange *x = parser->data;

	x->done = true;
	x->response->keep = http_should_keep_alive(parser) != 0;
	return 0;
}

static const http_parser_settings settings = {
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

static bool
write_all(NetConn *conn, const char *data, size_t size)
{
	while (size > 0)
	{
		ssize_t n = net_write(conn, data, size);

		if (n <= 0)
			return false;
		data += n;
		size -= (size_t) n;
	}
	return true;
}

static bool
send_request(NetConn *conn, const NetUrl *url, const char *method, const char *headers, const void *body, size_t size)
{
	char head[8192];
	int n = snprintf(head,
					 sizeof(head),
					 "%s %s HTTP/1.1\r\nHost: %s\r\n%s",
					 method,
					 url->path,
					 url->authority,
					 headers ? headers : "");

	if (n < 0 || (size_t) n >= sizeof(head) - 64)
		return false;
	if (body != NULL || strcmp(method, "GET") != 0)
		n += snprintf(head + n, sizeof(head) - (size_t) n, "Content-Length: %zu\r\n", size);
	n += snprintf(head + n, sizeof(head) - (size_t) n, "\r\n");
	return write_all(conn, head, (size_t) n) && (size == 0 || write_all(conn, body, size));
}

/* 0; -1: broken; 1: the connection was closed before the first byte of an answer. */
static int
read_response(NetConn *conn, const char *method, NetResponse *response, const NetSink *sink, char *error, size_t error_size)
{
	Exchange x = {.response = response, .head = strcmp(method, "HEAD") == 0, .sink = sink};
	http_parser parser;
	char buffer[16384];
	bool first = true;

	http_parser_init(&parser, HTTP_RESPONSE);
	parser.data = &x;
	while (!x.done)
	{
		ssize_t n = net_read(conn, buffer, sizeof(buffer));
		size_t used;

		if (n == -2)
		{
			snprintf(error, error_size, "the server did not answer in time");
			return -1;
		}
		if (n <= 0 && first)
			return 1;
		first = false;
		used = http_parser_execute(&parser, &settings, buffer, n > 0 ? (size_t) n : 0);
		if (x.enough)
			return 0;
		if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || (n > 0 && used != (size_t) n && !x.done))
		{
			snprintf(error, error_size, "the server's answer is not HTTP: %s", http_errno_description(HTTP_PARSER_ERRNO(&parser)));
			return -1;
		}
		if (n <= 0 && !x.done)
		{
			snprintf(error, error_size, "the connection ended within the answer");
			return -1;
		}
	}
	if (response->body == NULL)
		response->body = calloc(1, 1);
	if (response->body == NULL)
		return -1;
	response->body[response->size] = '\0';
	return 0;
}

int
net_request(NetConn *conn,
			const NetUrl *url,
			const char *method,
			const char *headers,
			const void *body,
			size_t body_size,
			int timeout_ms,
			NetResponse *response,
			char *error,
			size_t error_size)
{
	bool reused = conn->fd >= 0;
	int result;

	memset(response, 0, sizeof(*response));
	for (;;)
	{
		if (conn->fd < 0 && net_connect(conn, url, timeout_ms, error, error_size) != 0)
			return -1;
		result = send_request(conn, url, method, headers, body, body_size) ? read_response(conn, method, response, NULL, error, error_size) : 1;
		if (result == 0 && response->keep)
			return 0;
		net_close(conn);
		if (result == 0)
			return 0;
		net_response_free(response);
		if (result < 0)
			return -1;
		/* A kept connection that the server closed meanwhile: the request did not arrive. */
		if (!reused)
			break;
		reused = false;
	}
	snprintf(error, error_size, "the connection ended without an answer");
	return -1;
}

int
net_stream(const NetUrl *url,
		   const char *method,
		   const char *headers,
		   const void *body,
		   size_t body_size,
		   int timeout_ms,
		   int silence_ms,
		   const NetSink *sink,
		   char *error,
		   size_t error_size)
{
	NetConn conn;
	NetResponse response = {0};
	int result;
	int status;

	if (net_connect(&conn, url, timeout_ms, error, error_size) != 0)
		return -1;
	net_timeout(&conn, silence_ms);
	result = send_request(&conn, url, method, headers, body, body_size) ? read_response(&conn, method, &response, sink, error, error_size) : 1;
	if (result == 1)
		snprintf(error, error_size, "the connection ended without an answer");
	status = response.status;
	net_close(&conn);
	net_response_free(&response);
	return result == 0 ? status : -1;
}

void
net_response_free(NetResponse *response)
{
	free(response->body);
	free(response->build_version);
	free(response->location);
	memset(response, 0, sizeof(*response));
}
