/*
 * gitsync.h -- keeps fresh what is known of chats' branches and pull requests.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_GITSYNC_H
#define GATEWAY_CHAT_GITSYNC_H

#include <stdint.h>

/* Looks for what is due, each ten seconds; ms until the next such time, at most most. */
int64_t gitsync_tick(int64_t most);

/* There is something due. */
void gitsync_wake(void);

/* The connection to the database is lost, or the process ends: what was taken others will take. */
void gitsync_drop_all(void);

#endif
