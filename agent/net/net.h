/*
 * net.h -- HTTP/1.1 and WebSocket, as the agent and the command line need them.
 *
 * Connecting, TLS and the exchange of headers block, with a deadline; a
 * WebSocket is then driven by an event loop.  ws_connect() does its blocking
 * part on a thread of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_NET_H
#define AGENT_NET_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"

#define NET_MAX_BODY ((size_t) 256 << 20)
#define NET_MAX_HEADERS 65536
#define NET_MAX_MESSAGE ((size_t) 8 << 20) /* of a WebSocket */

/* http(s)://host[:port][/path] */
typedef struct NetUrl
{
	bool tls;
	char host[256]; /* without the brackets of an IPv6 address */
	int port;
	char path[4096]; /* with the query; at least "/" */
	char authority[300]; /* for the Host header */
} NetUrl;

/* False where text is not such a URL. */
bool net_url_parse(NetUrl *url, const char *text);

/* A connected socket, with TLS or without. */
typedef struct NetConn
{
	int fd;
	SSL *ssl; /* NULL: plain */
} NetConn;

/*
 * Connects (and does the TLS handshake) before the deadline.  0 or -1 with the
 * reason in error.  The socket stays in blocking mode with the rest of the
 * deadline as its timeouts.
 */
int net_connect(NetConn *conn, const NetUrl *url, int timeout_ms, char *error, size_t error_size);
void net_close(NetConn *conn);
/* Reads and writes of a connected socket fail after so long. */
void net_timeout(const NetConn *conn, int ms);

/* As read(2) and write(2); 0 is the end, -1 an error, -2 "try again" of a non-blocking socket. */
ssize_t net_read(NetConn *conn, void *data, size_t size);
ssize_t net_write(NetConn *conn, const void *data, size_t size);

typedef struct NetResponse
{
	int status;
	char *body; /* NUL-terminated */
	size_t size;
	char *build_version; /* X-Coder-Build-Version, or NULL */
	char *location; /* Location, or NULL */
	bool keep; /* the connection can carry another request */
} NetResponse;

/*
 * One request on a connection (*conn is made where its fd is -1, and made anew
 * where the server has closed it meanwhile).  headers: lines with CRLF.  0 or
 * -1 with the reason in error; the caller frees the response.
 */
int net_request(NetConn *conn,
				const NetUrl *url,
				const char *method,
				const char *headers,
				const void *body,
				size_t body_size,
				int timeout_ms,
				NetResponse *response,
				char *error,
				size_t error_size);
void net_response_free(NetResponse *response);

/* Who is told of an answer as it arrives. */
typedef struct NetSink
{
	/* A header, its value cut at 2,047 bytes. */
	void (*header)(void *arg, const char *name, const char *value);
	/* A piece of the body; false: nothing more is wanted. */
	bool (*body)(void *arg, int status, const char *data, size_t size);
	void *arg;
} NetSink;

/*
 * One request on a connection of its own, whose answer may take its time: connecting takes at most timeout_ms, and after
 * silence_ms without a byte it has failed.  Its status, or -1 with the reason in error; what came before was told.
 */
int net_stream(const NetUrl *url,
			   const char *method,
			   const char *headers,
			   const void *body,
			   size_t body_size,
			   int timeout_ms,
			   int silence_ms,
			   const NetSink *sink,
			   char *error,
			   size_t error_size);

/* A WebSocket client on a loop. */
typedef struct NetWs NetWs;

typedef struct NetWsHandlers
{
	/* The upgrade is done; sending may begin. */
	void (*on_open)(void *arg, NetWs *ws);
	/* A whole message. */
	void (*on_message)(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size);
	/*
	 * Once; ws is gone afterwards.  status: of an HTTP answer that was not 101,
	 * else 0; code: of the close frame, 1006 where there was none.
	 */
	void (*on_close)(void *arg, NetWs *ws, int status, int code, const char *reason);
	/* What was queued is with the kernel; may be NULL. */
	void (*on_drain)(void *arg, NetWs *ws);
} NetWsHandlers;

/* Starts to connect; callbacks come on the loop's thread.  NULL when out of memory. */
NetWs *net_ws_connect(Loop *loop, const char *url, const char *headers, const NetWsHandlers *handlers, void *arg);
/* False: closing, or more than 16 MiB wait. */
bool net_ws_send(NetWs *ws, bool text, const void *data, size_t size);
/* Bytes that wait. */
size_t net_ws_queued(const NetWs *ws);
/* Says goodbye; on_close follows within 2 s. */
void net_ws_close(NetWs *ws, int code, const char *reason);

#endif
