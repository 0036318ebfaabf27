/*
 * http.h -- the HTTP/1.1 of a boundary's proxy: requests on their way to a server, answers on their way back.
 *
 * Both are taken apart by http_parser and written anew, so that two readers of
 * the same bytes cannot see two different things in them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_HTTP_H
#define AGENT_BOUNDARY_HTTP_H

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 65536
#define HTTP_HOST_MAX 256

typedef struct HttpBuffer
{
	char *data;
	size_t size;
	size_t room;
	bool failed; /* out of memory: what is in it is not whole */
} HttpBuffer;

bool http_buffer_add(HttpBuffer *buffer, const void *data, size_t size);
void http_buffer_take(HttpBuffer *buffer, size_t size); /* from its front */
void http_buffer_free(HttpBuffer *buffer);

/* A message that passes: head, then body. */
typedef struct HttpMessage
{
	http_parser parser;
	HttpBuffer out; /* what is to be sent on */
	HttpBuffer url;
	HttpBuffer head; /* headers as they are sent on: "Name: value\r\n" */
	HttpBuffer name;
	HttpBuffer value;
	char host[HTTP_HOST_MAX + 8]; /* of the Host header, with its port; "" where there is none */
	int nhosts;
	bool in_value;
	bool head_done;
	bool done;
	bool upgrade; /* what follows is another protocol */
	bool chunked;
	bool close; /* this side wants the connection to end */
	bool no_body; /* of an answer to HEAD */
	bool is_answer;
	bool wants_upgrade;
	const char *problem;
} HttpMessage;

void http_message_init(HttpMessage *message, bool is_answer, bool no_body);
void http_message_free(HttpMessage *message);

/*
 * Takes bytes; *used of them belong to this message.  False: problem says why.
 * At the end of the head it returns early, so that a request can be judged
 * before anything is sent on.  size 0: the peer has ended the connection.
 */
bool http_message_input(HttpMessage *message, const char *data, size_t size, size_t *used);

/* The head of a request for a server, or of an answer for the client, goes to out. */
void http_request_head(HttpMessage *message, const char *target, const char *host);
void http_answer_head(HttpMessage *message, bool keep);

/* Where a request wants to go. */
typedef struct HttpTarget
{
	bool tls;
	char host[HTTP_HOST_MAX]; /* in lower case, without brackets and a last dot */
	int port;
	const char *path; /* in the message's url */
	char authority[HTTP_HOST_MAX + 8]; /* for the Host header */
} HttpTarget;

/* tls, port: of the connection, for a request that names none.  False where the request does not say where to. */
bool http_target(HttpTarget *target, const HttpMessage *message, bool tls, int port);

/* "host", "host:port", "[v6]:port"; port stays what it was where none is named. */
bool http_authority(const char *text, size_t len, char host[static HTTP_HOST_MAX], int *port);

#endif
