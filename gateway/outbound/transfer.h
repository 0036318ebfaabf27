/*
 * transfer.h -- one outbound request as a handle of libcurl, with all its limits.
 *
 * Who has a multi handle adds it there; nothing here waits or has a thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OUTBOUND_TRANSFER_H
#define GATEWAY_OUTBOUND_TRANSFER_H

#include <curl/curl.h>

#include "plan.h"

typedef struct OutboundTransfer
{
	OutboundRequest *request;
	CURL *easy;
	struct curl_slist *headers;
	size_t head; /* bytes of the answer's head so far */
	bool too_long;
	bool switched; /* the answer is 101: it ends with its head */
} OutboundTransfer;

/* transfer stays where it is until it ends.  ca_file: NULL for the system's certificates.  False: no memory. */
bool outbound_transfer_begin(OutboundTransfer *transfer, OutboundRequest *request, const char *ca_file);

/* Frees the handle, which is in no multi handle any more; the request has a status or an error. */
void outbound_transfer_end(OutboundTransfer *transfer, CURLcode code);

void outbound_fail(OutboundRequest *request, const char *error, const char *text);

#endif
