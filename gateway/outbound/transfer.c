/*
 * transfer.c -- libcurl's side of an outbound request.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "../gateway.h"
#include "transfer.h"

#define MAX_HEAD 65536
#define CONNECT_TIMEOUT_MS 10000

void
outbound_fail(OutboundRequest *request, const char *error, const char *text)
{
	request->status = 0;
	request->error = error;
	snprintf(request->error_text, sizeof(request->error_text), "%s", text);
}

static const char *
error_of(CURLcode code, const OutboundTransfer *transfer)
{
	if (transfer->too_long)
		return "too_large";
	switch (code)
	{
		case CURLE_OPERATION_TIMEDOUT:
			return "timeout";
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return "resolve";
		case CURLE_COULDNT_CONNECT:
			return "connect";
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CACERT_BADFILE:
			return "tls";
		case CURLE_FILESIZE_EXCEEDED:
			return "too_large";
		case CURLE_ABORTED_BY_CALLBACK:
			return "cancelled";
		default:
			return "protocol";
	}
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	OutboundTransfer *transfer = arg;

	transfer->too_long = !outbound_take(transfer->request, data, size * n);
	return transfer->too_long ? 0 : size * n;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	OutboundTransfer *transfer = arg;

	transfer->head += size * n;
	if (transfer->head > MAX_HEAD)
	{
		transfer->too_long = true;
		return 0;
	}
	outbound_take_header(transfer->request, data, size * n);
	if (size * n == 2 && memcmp(data, "\r\n", 2) == 0)
	{
		long status = 0;

		/* Whether another protocol is to be had was the question; nobody speaks it. */
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
		transfer->switched = status == 101;
	}
	return transfer->switched ? 0 : size * n;
}

static curl_socket_t
open_public(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void) arg;
	(void) purpose;
	if (!outbound_is_public(&address->addr))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void
set_limits(CURL *easy, const OutboundRequest *request, const char *ca)
{
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 request->timeout_ms < CONNECT_TIMEOUT_MS ? request->timeout_ms : CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) request->max_size);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (ca != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
	if (request->public_only)
	{
		/* Neither an open connection nor a proxy is a way around. */
		curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_public);
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	}
}

static void
set_request(OutboundTransfer *transfer)
{
	const OutboundRequest *request = transfer->request;
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "coder-server/" GW_VERSION);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	if (request->body != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
	}
	else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 ||
			 strcmp(request->method, "PATCH") == 0)
	{
		/* Servers want to be told that there is no body. */
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) 0);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
	}
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	transfer->headers = curl_slist_append(NULL, "Expect:");
	for (int i = 0; i < request->n_headers; i++)
	{
		/* HTTP/2 knows no upgrade. */
		if (strncasecmp(request->headers[i], "Upgrade:", 8) == 0)
			curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
		transfer->headers = curl_slist_append(transfer->headers, request->headers[i]);
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
}

bool
outbound_transfer_begin(OutboundTransfer *transfer, OutboundRequest *request, const char *ca_file)
{
	memset(transfer, 0, sizeof(*transfer));
	transfer->request = request;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
		return false;
	set_limits(transfer->easy, request, ca_file);
	set_request(transfer);
	return true;
}

void
outbound_transfer_end(OutboundTransfer *transfer, CURLcode code)
{
	OutboundRequest *request = transfer->request;

	if (code == CURLE_OK || transfer->switched)
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	else
		outbound_fail(request, error_of(code, transfer), curl_easy_strerror(code));
	curl_easy_cleanup(transfer->easy);
	curl_slist_free_all(transfer->headers);
	transfer->easy = NULL;
	transfer->headers = NULL;
}
