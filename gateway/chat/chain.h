/*
 * chain.h -- going on from an answer that the provider has kept, instead of telling it all again.
 *
 * That is done with the first question of a turn, where the last answer is of the same model, was whole, and was given to
 * the same instructions.  No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_CHAIN_H
#define GATEWAY_CHAT_CHAIN_H

#include <stdbool.h>

#include <jansson.h>

#define CHAIN_CONTEXT 33

/* What stands for the instructions of a history: its system messages. */
void chain_context(const json_t *history, char context[CHAIN_CONTEXT]);

/* Notes in an answer's content to which instructions it was given. */
void chain_mark(json_t *content, const char *context);

/*
 * The provider's id of the answer to go on from (borrowed), and in *from the place in history of the first message behind
 * it; NULL: it has to be told all.
 */
const char *chain_find(const json_t *history, const char *model_id, const char *context, size_t *from);

#endif
