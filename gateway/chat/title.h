/*
 * title.h -- titles of chats, made by a model beside the turns.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_TITLE_H
#define GATEWAY_CHAT_TITLE_H

#include <jansson.h>

/* The first title of a chat (a row of coder.chats); where that fails it keeps the user's words. */
void title_first(const json_t *chat);

/* Takes the titles that were asked for. */
void title_claim(void);

/* The database connection is lost, or the process ends. */
void title_drop_all(void);

#endif
