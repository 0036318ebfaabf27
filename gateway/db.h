/*
 * db.h -- statements to the database from an event loop.
 *
 * Each loop has two pools.  FAST: few connections, deep pipelines, statements
 * of milliseconds, never cancelled.  SLOW: one statement at a time on a
 * connection, cancelled when nobody waits for it any more.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_DB_H
#define GATEWAY_DB_H

#include "gateway.h"

/* A statement, prepared on each connection when first used there.  Static storage. */
typedef struct GwStatement
{
	const char *name; /* unique */
	const char *sql;
	int n_params;
	const Oid *types; /* NULL: the server infers */
} GwStatement;

/* Type ids of parameters (pg_type.dat; they never change). */
#define GW_BOOL 16
#define GW_BYTEA 17
#define GW_INT8 20
#define GW_INT4 23
#define GW_TEXT 25
#define GW_JSONB 3802
#define GW_UUID 2950
#define GW_TEXTARRAY 1009

typedef enum GwDbPool
{
	GW_DB_FAST,
	GW_DB_SLOW
} GwDbPool;

typedef enum GwDbStatus
{
	GW_DB_OK,	   /* result has tuples or a command status */
	GW_DB_FAILED,  /* result is the server's error */
	GW_DB_LOST,	   /* sent, and the connection died: the outcome is unknown */
	GW_DB_UNSENT   /* never sent: no database within the time, or the queue is full */
} GwDbStatus;

typedef struct GwDb GwDb;
typedef struct GwQuery GwQuery;

/* Runs once unless detached.  The callee owns result (NULL if LOST or UNSENT): PQclear. */
typedef void (*GwDbCallback)(void *arg, GwDbStatus status, PGresult *result);

typedef struct GwParams
{
	const char *const *values; /* NULL element: SQL NULL */
	const int *lengths;
	const int *formats; /* NULL: all binary (text and bytea are the same either way) */
} GwParams;

/*
 * Sends a statement; results are binary.  The parameters must live until the
 * callback or gw_db_detach().  retry: the statement only reads, so it is sent
 * again when its connection dies.  Never calls back before it returns.
 */
GwQuery *gw_db_send(GwDb *db, GwDbPool pool, const GwStatement *statement, const GwParams *params,
					bool retry, GwDbCallback cb, void *arg);

/* The same with one binary parameter, malloc'ed, which the query frees. */
GwQuery *gw_db_send_owned(GwDb *db, GwDbPool pool, const GwStatement *statement, char *value, size_t len,
						  bool retry, GwDbCallback cb, void *arg);

/*
 * The same with text-format parameters that are copied; for calls that are not
 * on the hot path.  Results are text when text_result.
 */
GwQuery *gw_db_send_copy(GwDb *db, GwDbPool pool, const GwStatement *statement, int n,
						 const char *const *values, bool retry, GwDbCallback cb, void *arg);

/* A row of an answer, as it comes; the callee owns it. */
typedef void (*GwDbRow)(void *arg, PGresult *row);

/*
 * A statement without parameters that only reads, in the slow pool, whose rows
 * are given one by one; cb's result has none.  It is not prepared, and not sent
 * again once a row has been given.
 */
GwQuery *gw_db_stream(GwDb *db, const GwStatement *statement, GwDbRow row, GwDbCallback cb, void *arg);

/*
 * No rows for now (the server waits when what is under way has no room), or
 * again: then rows, and the end, may be given before it returns.
 */
void gw_db_pause(GwQuery *query, bool paused);

/* The caller is gone: no callback.  Cancels in the slow pool; drops what was not sent. */
void gw_db_detach(GwQuery *query);

/* n_readers of the fast connections are opened at once; the others when writes wait, and only for those. */
GwDb *gw_db_create(GwLoop *loop, const char *conninfo, int n_readers, int n_fast, int n_slow);
void gw_db_close(GwDb *db);
/* Every connection is opened again, with the secrets of now, when it has done what it has begun. */
void gw_db_renew(GwDb *db);
bool gw_db_idle(const GwDb *db);  /* nothing queued or running */
bool gw_db_ready(const GwDb *db); /* at least one fast connection is up */

typedef struct GwDbStats
{
	int fast_up, slow_up, queued, running;
	uint64_t sent, failed, lost, reconnects;
} GwDbStats;

void gw_db_stats(const GwDb *db, GwDbStats *stats);

#define GW_DB_BUCKETS 11

/* From a statement's sending to its answer; each is a transaction. */
typedef struct GwDbTimes
{
	uint64_t buckets[2][GW_DB_BUCKETS + 1]; /* of those that failed, of those that did not */
	uint64_t micros[2];
	uint64_t retried[2];
} GwDbTimes;

extern const double gw_db_bounds[GW_DB_BUCKETS];

/* Of the i-th statement that this pool knows; NULL: there is none.  *name is static. */
const GwDbTimes *gw_db_times(const GwDb *db, int i, const char **name);

#endif
