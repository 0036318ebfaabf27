/*
 * db.h -- the runner's connections: statements in a pipeline, events, notifications.
 *
 * One thread; nothing blocks.  A statement is answered once: with its result, or with NULL where the connection was lost
 * before the answer came (its effect is then unknown).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_DB_H
#define GATEWAY_CHAT_DB_H

#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>
#include <poll.h>

typedef struct DbCall DbCall;

/* result: NULL where the connection was lost; PGRES_FATAL_ERROR where the statement failed. */
typedef void (*DbDone)(void *arg, PGresult *result);

typedef struct DbHooks
{
	void (*up)(void *arg);	 /* say and work are there (again) */
	void (*down)(void *arg); /* one was lost, both are closed; all calls have been answered */
	void (*event)(void *arg, const char *channel, const char *payload);
	void (*events_lost)(void *arg); /* some events may have been missed */
	void (*notified)(void *arg, const char *payload); /* chat:config_change */
	void (*deaf)(void *arg); /* the listening connection was lost: anything may have changed */
	void *arg;
} DbHooks;

/*
 * conninfo: how to connect; lock, begin: static statements that say and, when those are done, work begin with.  Two connections, so that what
 * is said waits for no disk: an answer of one tells nothing of the other's statements.
 */
void db_start(const char *conninfo, const char *lock, const char *begin, const DbHooks *hooks);

bool db_is_up(void);

/* sql is static: it is prepared when it is first called.  params are copied.  NULL where the connection is down: done is not called then. */
DbCall *db_call(const char *sql, int n, const char *const *params, DbDone done, void *arg);

/* The caller does not want the answer any more; the statement runs all the same. */
void db_forget(DbCall *call);

/* The same on the connection for what is said; answers come in the order of the calls.  False where it is down. */
bool db_say(const char *sql, const char *param, DbDone done);

#define DB_FDS 4

/* What to wait for; how many. */
int db_poll_fds(struct pollfd fds[DB_FDS]);

/* Reads, writes and connects as far as that goes without waiting. */
void db_work(int64_t now_ms);

/* Waits until all statements are answered, or the time is over.  False: some are not. */
bool db_drain(int64_t timeout_ms);

/* The same of what was said. */
bool db_drain_say(int64_t timeout_ms);

void db_stop(void);

#endif
