/*
 * conn.c -- connecting, with and without TLS.
 *
 * SPDX-License-Identifier: MIT
 */
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

bool
net_url_parse(NetUrl *url, const char *text)
{
	const char *host;
	const char *end;
	const char *port = NULL;
	size_t len;

	memset(url, 0, sizeof(*url));
	if (strncasecmp(text, "https://", 8) == 0 || strncasecmp(text, "wss://", 6) == 0)
		url->tls = true;
	else if (strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "ws://", 5) != 0)
		return false;
	host = strstr(text, "://") + 3;
	end = host + strcspn(host, "/?#");
	url->port = url->tls ? 443 : 80;
	len = (size_t) (end - host);
	if (len == 0 || len >= sizeof(url->authority) || memchr(host, '@', len) != NULL)
		return false;
	memcpy(url->authority, host, len);
	if (*host == '[')
	{
		const char *close = memchr(host, ']', len);

		if (close == NULL)
			return false;
		if (close[1] == ':' && close + 1 < end)
			port = close + 2;
		host++;
		len = (size_t) (close - host);
	}
	else
	{
		const char *colon = memchr(host, ':', len);

		if (colon != NULL)
		{
			port = colon + 1;
			len = (size_t) (colon - host);
		}
	}
	if (len == 0 || len >= sizeof(url->host))
		return false;
	memcpy(url->host, host, len);
	if (port != NULL)
	{
		char *rest;
		long value = strtol(port, &rest, 10);

		if (rest != end || value < 1 || value > 65535)
			return false;
		url->port = (int) value;
	}
	len = strcspn(end, "#");
	if (len + 2 > sizeof(url->path))
		return false;
	snprintf(url->path, sizeof(url->path), "%s%.*s", *end == '/' ? "" : "/", (int) len, end);
	return true;
}

static void
set_timeouts(int fd, int ms)
{
	struct timeval tv = {ms / 1000, (ms % 1000) * 1000};
	int yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

/* One address; a connected blocking socket, or -1 with errno. */
static int
connect_address(const struct addrinfo *address, int timeout_ms)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd out = {fd, POLLOUT, 0};
	int error = 0;
	socklen_t len = sizeof(error);

	if (fd < 0)
		return -1;
	if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
		error = errno;
	else if (poll(&out, 1, timeout_ms) <= 0)
		error = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error != 0)
	{
		close(fd);
		errno = error;
		return -1;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static SSL_CTX *client_context;

static void
make_context(void)
{
	client_context = SSL_CTX_new(TLS_client_method());
	if (client_context == NULL)
		return;
	SSL_CTX_set_min_proto_version(client_context, TLS1_2_VERSION);
	SSL_CTX_set_default_verify_paths(client_context);
	/* A static binary in a foreign image: the usual places of its roots. */
	SSL_CTX_load_verify_locations(client_context, "/etc/ssl/certs/ca-certificates.crt", NULL);
	SSL_CTX_load_verify_locations(client_context, "/etc/pki/tls/certs/ca-bundle.crt", NULL);
	SSL_CTX_set_verify(client_context, SSL_VERIFY_PEER, NULL);
	ERR_clear_error();
}

static int
start_tls(NetConn *conn, const NetUrl *url, char *error, size_t error_size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static const unsigned char alpn[] = "\x08http/1.1";
	long verified;

	pthread_once(&once, make_context);
	conn->ssl = client_context != NULL ? SSL_new(client_context) : NULL;
	if (conn->ssl == NULL)
	{
		snprintf(error, error_size, "could not start TLS");
		return -1;
	}
	SSL_set_fd(conn->ssl, conn->fd);
	SSL_set_tlsext_host_name(conn->ssl, url->host);
	SSL_set_alpn_protos(conn->ssl, alpn, sizeof(alpn) - 1);
	if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(conn->ssl), url->host) != 1)
		SSL_set1_host(conn->ssl, url->host);
	if (SSL_connect(conn->ssl) == 1)
		return 0;
	verified = SSL_get_verify_result(conn->ssl);
	if (verified != X509_V_OK)
		snprintf(error, error_size, "the certificate of %s is not trusted: %s", url->host, X509_verify_cert_error_string(verified));
	else
		snprintf(error, error_size, "TLS with %s failed: %s", url->authority, ERR_reason_error_string(ERR_peek_error()) ? ERR_reason_error_string(ERR_peek_error()) : "connection lost");
	return -1;
}

int
net_connect(NetConn *conn, const NetUrl *url, int timeout_ms, char *error, size_t error_size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
	struct addrinfo *list = NULL;
	char port[8];
	int problem;

	conn->fd = -1;
	conn->ssl = NULL;
	snprintf(port, sizeof(port), "%d", url->port);
	problem = getaddrinfo(url->host, port, &hints, &list);
	if (problem == EAI_NONAME || problem == EAI_BADFLAGS)
	{
		/* Only loopback may be up: addresses of it are no "configured" family. */
		hints.ai_flags = 0;
		problem = getaddrinfo(url->host, port, &hints, &list);
	}
	if (problem != 0)
	{
		snprintf(error, error_size, "could not resolve %s: %s", url->host, gai_strerror(problem));
		return -1;
	}
	for (struct addrinfo *a = list; a != NULL && conn->fd < 0; a = a->ai_next)
		conn->fd = connect_address(a, timeout_ms);
	problem = errno;
	freeaddrinfo(list);
	if (conn->fd < 0)
	{
		snprintf(error, error_size, "could not connect to %s: %s", url->authority, strerror(problem));
		return -1;
	}
	set_timeouts(conn->fd, timeout_ms);
	if (url->tls && start_tls(conn, url, error, error_size) != 0)
	{
		net_close(conn);
		return -1;
	}
	return 0;
}

void
net_timeout(const NetConn *conn, int ms)
{
	set_timeouts(conn->fd, ms);
}

void
net_close(NetConn *conn)
{
	if (conn->ssl != NULL)
		SSL_free(conn->ssl);
	if (conn->fd >= 0)
		close(conn->fd);
	conn->ssl = NULL;
	conn->fd = -1;
}

ssize_t
net_read(NetConn *conn, void *data, size_t size)
{
	ssize_t n;

	if (conn->ssl != NULL)
	{
		int got;

		ERR_clear_error();
		got = SSL_read(conn->ssl, data, size > INT32_MAX ? INT32_MAX : (int) size);
		if (got > 0)
			return got;
		switch (SSL_get_error(conn->ssl, got))
		{
			case SSL_ERROR_WANT_READ:
			case SSL_ERROR_WANT_WRITE:
				return -2;
			case SSL_ERROR_ZERO_RETURN:
				return 0;
			default:
				return -1;
		}
	}
	do
		n = read(conn->fd, data, size);
	while (n < 0 && errno == EINTR);
	return n < 0 && errno == EAGAIN ? -2 : n;
}

ssize_t
net_write(NetConn *conn, const void *data, size_t size)
{
	ssize_t n;

	if (size == 0)
		return 0;
	if (conn->ssl != NULL)
	{
		int put;

		ERR_clear_error();
		put = SSL_write(conn->ssl, data, size > INT32_MAX ? INT32_MAX : (int) size);
		if (put > 0)
			return put;
		put = SSL_get_error(conn->ssl, put);
		return put == SSL_ERROR_WANT_READ || put == SSL_ERROR_WANT_WRITE ? -2 : -1;
	}
	do
		n = send(conn->fd, data, size, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 && errno == EAGAIN ? -2 : n;
}
