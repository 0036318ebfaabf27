/*
 * push.h -- tells the browsers of a chat's owner that its turn is over.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_PUSH_H
#define GATEWAY_CHAT_PUSH_H

/* {"ids", "requests"} of coder.chat_end; nobody waits for what comes of it. */
void push_send(const char *plan);

#endif
