/*
 * converse.h -- the Converse API of AWS Bedrock, which models of every vendor speak.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_CONVERSE_H
#define GATEWAY_CHAT_CONVERSE_H

#include "provider.h"

/* The body of POST /model/<model>/converse-stream. */
json_t *converse_body(const ProviderAsk *ask);

/* One event of the answer that is no exception. */
void converse_event(Stream *stream, const char *name, const char *data, size_t len);

#endif
