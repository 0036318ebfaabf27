/*
 * chat.h -- the runner of chats, a process of its own.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_H
#define GATEWAY_CHAT_H

/* coder-server chat-runner [flags]; the exit status. */
int chat_main(int argc, char **argv);

#endif
