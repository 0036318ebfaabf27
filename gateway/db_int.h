/*
 * db_int.h -- what the files behind db.h share: queries, connections, pools.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_DB_INT_H
#define GATEWAY_DB_INT_H

#include "db.h"

#define MAX_PARAMS 16
#define MAX_STATEMENTS 64
#define BACKOFF_MIN_MS 50

typedef struct DbConn DbConn;

struct GwQuery
{
	h2o_linklist_t link; /* in a pool's pending list or a connection's queue */
	GwDb *db;
	DbConn *conn; /* NULL: pending */
	const GwStatement *statement;
	const char *values[MAX_PARAMS];
	int lengths[MAX_PARAMS];
	int formats[MAX_PARAMS];
	GwDbPool pool;
	bool text_result;
	bool reads;		 /* and writes nothing */
	int retries;	 /* how often it may still be sent again */
	bool preparing;	 /* the Prepare's result comes first */
	GwDbRow row;	 /* NULL: the answer comes as a whole */
	GwDbCallback cb; /* NULL: detached */
	void *arg;
	PGresult *result;
	uint64_t since;
	uint64_t sent_us; /* gw_micros() */
	bool resent;
	char *copies; /* the values, in one block of ours */
	GwTimer fail; /* calls back later where gw_db_send() could not queue it */
};

struct DbConn
{
	GwDb *db;
	GwDbPool pool;
	PGconn *pg;
	h2o_socket_t *sock;
	bool up;
	bool retiring;	 /* nothing new until it has been opened again */
	bool cancelling; /* a thread sends a cancel: nothing new until it is back */
	bool in_results;
	bool paused;	 /* nothing is read */
	int running;
	unsigned service_us; /* of one statement, the mean of late */
	uint64_t moved;		 /* when results last came, or work for an idle connection */
	unsigned backoff_ms;
	uint64_t prepared; /* bit = index of the statement */
	h2o_linklist_t queue;
	GwTimer timer;
	GwTimer resume; /* what libpq has read already is looked at again */
};

struct GwDb
{
	GwLoop *loop;
	char *conninfo;
	int n_conns[2];
	int n_readers; /* so many of the fast ones are for what only reads too */
	DbConn *conns[2];
	int slow_wanted; /* slow connections are opened when needed */
	h2o_linklist_t pending[2];
	int n_pending[2];
	const GwStatement *statements[MAX_STATEMENTS];
	int n_statements;
	GwDbTimes times[MAX_STATEMENTS];
	bool closing;
	GwTimer sweep;
	GwDbStats stats;
};

/* db.c */

/* The end of a query that is in no list any more. */
void gw_query_done(GwQuery *query, GwDbStatus status);

/* Waiting queries to free connections. */
void gw_db_dispatch(GwDb *db, GwDbPool pool);

/* Of a connection that is up: results have come. */
void gw_conn_readable(h2o_socket_t *sock, const char *err);

/* db_conn.c */

void gw_conn_close(DbConn *conn);

/* Opens a connection that is closed; a timer's function. */
void gw_conn_connect(void *arg);

/* Opens an idle connection again, with the secrets of now. */
void gw_conn_renew(DbConn *conn);

/* The connection is gone, and with it what ran there; it is opened again. */
void gw_conn_lost(DbConn *conn, const char *why);

#endif
