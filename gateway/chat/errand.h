/*
 * errand.h -- requests to other servers that the database has planned (docs/ARCHITECTURE.md section 2.2) and a runner sends.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_ERRAND_H
#define GATEWAY_CHAT_ERRAND_H

#include <jansson.h>

typedef struct Errand Errand;

/* results: as the database takes them, in the order of the requests; taken over. */
typedef void (*ErrandDone)(void *arg, json_t *results);

/* requests: up to 16; borrowed.  done is called later, once, unless it is cancelled.  NULL: they are none that can be sent. */
Errand *errand_begin(const json_t *requests, ErrandDone done, void *arg);

void errand_cancel(Errand *errand);

/* The process ends. */
void errand_drop_all(void);

#endif
