/*
 * debug.h -- what was asked and answered, written down where debug logging is on (coder.chat_debug_runs, _steps).
 *
 * Nothing here waits or fails for its caller.  Keys are taken out of all texts of providers.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_DEBUG_H
#define GATEWAY_CHAT_DEBUG_H

#include <jansson.h>

#include "exchange.h"
#include "failure.h"
#include "grant.h"
#include "stream.h"

typedef struct Debug
{
	json_t *run; /* what is told with each note; NULL: nothing is written down */
	int step;
	bool open; /* the step */
	bool interrupted;
	json_t *attempts; /* of the step, that failed */
} Debug;

/* kind: "chat_turn", "title_generation", "compaction". */
void debug_begin(Debug *debug, const json_t *chat, const Grant *grant, const char *kind);
/* The model is asked; again where a step is open. */
void debug_asked(Debug *debug, const Grant *grant, const json_t *history, const json_t *tools, const char *operation);
/* It has failed; said: the provider's text, or NULL. */
void debug_failed(Debug *debug, const Grant *grant, const Failure *failure, const char *said, int64_t delay_ms);
/* The step is over: status as in the tables; stream: what was answered, or NULL. */
void debug_step(Debug *debug, const Stream *stream, const char *status);
/* Its messages are stored: "{id,...}", the assistant's first. */
void debug_stored(Debug *debug, const char *ids);
/* The user stopped it. */
void debug_interrupted(Debug *debug, const Stream *stream);
void debug_end(Debug *debug, const char *status);
void debug_free(Debug *debug);

#endif
