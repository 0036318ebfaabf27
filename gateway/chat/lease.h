/*
 * lease.h -- what was told lately of chats that were taken: news may overtake the answer that gives the chat.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_LEASE_H
#define GATEWAY_CHAT_LEASE_H

typedef struct Lease
{
	char chat[40];
	char began[48];
	char since[24]; /* the status that was told of it last; "": none */
} Lease;

/* An event of the chat: "running <since when>", or another status. */
void lease_told(const char *chat, const char *status);

/* The chat's last lease; NULL where none was told, or another than the one that began then (NULL: any). */
const Lease *lease_find(const char *chat, const char *began);

#endif
