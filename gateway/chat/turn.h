/*
 * turn.h -- one chat while it runs: ask the model, run what it calls, store each step, until it has nothing more to do.
 *
 * One thread.  A turn holds no database transaction; each step is one statement.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_TURN_H
#define GATEWAY_CHAT_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include <curl/curl.h>
#include <jansson.h>

#include "config.h"

#define TURN_MAX_STEPS 1200

/* Of the whole process; set before the first turn. */
typedef struct TurnEnv
{
	CURLM *multi;
	ConfigCache *config;
	char worker[37];
	const char *ca_file; /* NULL: the system's */
	int64_t first_part_ms; /* in which a model must begin to answer */
	int64_t (*now_ms)(void);
} TurnEnv;

extern TurnEnv turn_env;

/* Runs a chat that chat_acquire has given: {"chat": ..., "owner": ...}; takes over the reference. */
void turn_start(json_t *taken);

/* An event of the chat: its status is now this one. */
void turn_status(const char *chat, const char *status);

/* The heartbeat's answer, "{uuid,...}": turns that it asked for and that are not there are others' by now, and end. */
void turn_keep_only(const char *ids);

/*
 * For a heartbeat: "{uuid,...}" of turns whose last is half a minute ago, some of them where there are many, so that no
 * statement takes long; malloc'ed, NULL where there are none.
 */
char *turn_ids(void);

/* The next heartbeats are for all turns. */
void turn_beat_all(void);

int turn_count(void);

/* Sends what is due to be said, and asks again where a wait is over; ms until the next such time, at most most. */
int64_t turn_tick(int64_t most);

/* The database connection is lost: turns end where they are; the chats will be taken again. */
void turn_drop_all(void);

/* The process ends: all turns are given back. */
void turn_hand_over(void);

#endif
