/*
 * transfer.h -- libcurl's transfers of this process, waited for together with other sockets.
 *
 * One thread.  However many transfers there are, a wait costs what those need that have something.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_TRANSFER_H
#define GATEWAY_CHAT_TRANSFER_H

#include <stdint.h>

#include <curl/curl.h>
#include <poll.h>

/* What a libcurl handle's private pointer is: who is told of its end. */
typedef struct Transfer
{
	void (*done)(struct Transfer *transfer, CURL *easy, CURLcode code);
} Transfer;

/* What transfers are added to; at most this many connections.  NULL: no memory, or no descriptor. */
CURLM *transfers_open(long most);

/*
 * Waits until a transfer can go on, one of the n descriptors (at most 8) is ready, or ms have passed; then goes on with the
 * transfers, and tells those whose have ended.
 */
void transfers_wait(const struct pollfd *fds, int n, int64_t ms);

void transfers_close(void);

#endif
