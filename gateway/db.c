/*
 * db.c -- statements to the database from an event loop, by libpq's pipeline mode.
 *
 * Every statement ends with its own Sync, so each is a transaction of its own
 * and an error stays with its request.  A connection answers in order; the head
 * of its queue is the one whose results arrive.  When a connection dies, libpq
 * gives the queued statements no result: they are failed here, or sent again
 * when they only read.  Connections come and go in db_conn.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db_int.h"
#include "request.h"

#define MAX_PIPELINE 128 /* statements in flight on a fast connection */
#define SPILL_US 2000	 /* work ahead on a fast connection that opens the next one */
#define MAX_PENDING 4096 /* waiting for a connection, per pool */
/* More than there are connections: when all have died, each is met once before it is noticed. */
#define MAX_RETRIES 6
#define FAST_WAIT_MS 5000 /* for a connection */
#define SLOW_WAIT_MS 30000

static const int all_binary[MAX_PARAMS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

static int
statement_index(GwDb *db, const GwStatement *statement)
{
	for (int i = 0; i < db->n_statements; i++)
		if (db->statements[i] == statement)
			return i;
	if (db->n_statements == MAX_STATEMENTS)
		h2o_fatal("too many statements");
	db->statements[db->n_statements] = statement;
	return db->n_statements++;
}

static void
query_free(GwQuery *query)
{
	gw_timer_stop(&query->fail);
	PQclear(query->result);
	free(query->copies);
	free(query);
}

/* The end of a query that is in no list any more. */
void
gw_query_done(GwQuery *query, GwDbStatus status)
{
	GwDbCallback cb = query->cb;
	void *arg = query->arg;
	PGresult *result = query->result;

	query->result = NULL;
	if (status == GW_DB_FAILED)
		query->db->stats.failed++;
	else if (status == GW_DB_LOST)
		query->db->stats.lost++;
	query_free(query);
	if (cb == NULL)
		PQclear(result);
	else
	{
		if (status == GW_DB_LOST || status == GW_DB_UNSENT)
		{
			PQclear(result);
			result = NULL;
		}
		cb(arg, status, result);
	}
}

/* Sending -------------------------------------------------------------------- */

static void
on_writable(h2o_socket_t *sock, const char *err)
{
	DbConn *conn = sock->data;
	int left = err == NULL ? PQflush(conn->pg) : -1;

	if (left < 0)
		gw_conn_lost(conn, "could not send");
	else if (left > 0 && !h2o_socket_is_writing(conn->sock))
		h2o_socket_notify_write(conn->sock, on_writable);
}

/* Row by row: that must be said before anything has come. */
static bool
send_stream(DbConn *conn, const GwQuery *query)
{
	return PQsendQueryParams(conn->pg, query->statement->sql, 0, NULL, NULL, NULL, NULL, 1) && PQsetSingleRowMode(conn->pg);
}

static bool
send_prepared(DbConn *conn, GwQuery *query)
{
	const GwStatement *st = query->statement;
	uint64_t bit = (uint64_t) 1 << statement_index(conn->db, st);

	query->preparing = (conn->prepared & bit) == 0;
	conn->prepared |= bit;
	if (query->preparing && !PQsendPrepare(conn->pg, st->name, st->sql, st->types ? st->n_params : 0, st->types))
		return false;
	return PQsendQueryPrepared(conn->pg,
							   st->name,
							   st->n_params,
							   query->values,
							   query->lengths,
							   query->formats,
							   query->text_result ? 0 : 1);
}

/* Puts a query on a connection.  False: the connection is lost (and has been dealt with). */
static bool
conn_send(DbConn *conn, GwQuery *query)
{
	GwDb *db = conn->db;
	bool ok;
	int left;

	query->resent = query->sent_us != 0;
	query->sent_us = gw_micros();
	ok = query->row != NULL ? send_stream(conn, query) : send_prepared(conn, query);
	ok = ok && PQpipelineSync(conn->pg);
	query->conn = conn;
	h2o_linklist_insert(&conn->queue, &query->link);
	if (conn->running++ == 0)
		conn->moved = gw_micros();
	db->stats.sent++;
	left = ok ? PQflush(conn->pg) : -1;
	if (left < 0)
	{
		/* Nobody reads results here; the readable callback or this timer finds the end. */
		gw_timer_start(&conn->timer, db->loop, 0, gw_conn_connect, conn);
		return false;
	}
	if (left > 0 && !h2o_socket_is_writing(conn->sock))
		h2o_socket_notify_write(conn->sock, on_writable);
	return true;
}

/* Microseconds until a new statement would begin: those before it, and how long the first has taken
 * already. */
static uint64_t
work_ahead(const DbConn *conn, uint64_t now)
{
	uint64_t estimate = (uint64_t) conn->running * conn->service_us;
	uint64_t stuck = conn->running > 0 && now > conn->moved ? now - conn->moved : 0;

	return estimate > stuck ? estimate : stuck;
}

/* Opens one more connection of a pool, where there is one that has never been needed. */
static void
open_one(GwDb *db, GwDbPool pool)
{
	for (int i = 0; i < db->n_conns[pool]; i++)
	{
		DbConn *conn = &db->conns[pool][i];

		if (conn->pg != NULL || conn->backoff_ms != 0)
			continue;
		conn->backoff_ms = BACKOFF_MIN_MS;
		gw_conn_connect(conn);
		return;
	}
}

/*
 * A connection for a statement, or NULL.  Each wake-up of a backend should serve
 * many short statements, so a fast connection is filled before the next one is
 * used, until what waits on it is worth more than a wake-up.  What writes waits
 * for the disk, so it may have more connections, whose commits share a sync.
 */
static DbConn *
pick(GwDb *db, const GwQuery *query)
{
	GwDbPool pool = query->pool;
	int cap = pool == GW_DB_FAST ? MAX_PIPELINE : 1;
	int n = pool == GW_DB_FAST && query->reads ? db->n_readers : db->n_conns[pool];
	uint64_t now = pool == GW_DB_FAST ? gw_micros() : 0;
	uint64_t least = UINT64_MAX;
	DbConn *best = NULL;

	for (int i = 0; i < n; i++)
	{
		DbConn *conn = &db->conns[pool][i];
		uint64_t ahead;

		if (!conn->up || conn->retiring || conn->cancelling || conn->running >= cap)
			continue;
		ahead = pool == GW_DB_FAST ? work_ahead(conn, now) : 0;
		if (ahead < SPILL_US)
			return conn;
		if (ahead < least)
		{
			least = ahead;
			best = conn;
		}
	}
	if (pool == GW_DB_FAST && !query->reads && !db->closing)
		open_one(db, pool);
	return best;
}

/* Results came: how long does a statement take?  done of them, since the last ones or since there
 * was work. */
static void
note_service(DbConn *conn, int done)
{
	uint64_t now = gw_micros();
	uint64_t each = (now - conn->moved) / (unsigned) done;

	if (each > 1000000)
		each = 1000000;
	conn->service_us = (unsigned) ((conn->service_us * 7 + each) / 8);
	conn->moved = now;
}

/* Waiting queries to free connections. */
void
gw_db_dispatch(GwDb *db, GwDbPool pool)
{
	while (!h2o_linklist_is_empty(&db->pending[pool]))
	{
		GwQuery *query = H2O_STRUCT_FROM_MEMBER(GwQuery, link, db->pending[pool].next);
		DbConn *conn = pick(db, query);

		if (conn == NULL)
			break;
		h2o_linklist_unlink(&query->link);
		db->n_pending[pool]--;
		conn_send(conn, query);
	}
	/* More slow work than connections: open one more, up to the limit. */
	if (pool == GW_DB_SLOW && db->n_pending[pool] > 0 && !db->closing)
		open_one(db, pool);
}

/* Queries that have waited too long for a connection. */
static void
on_sweep(void *arg)
{
	GwDb *db = arg;
	uint64_t now = h2o_now(db->loop->ctx.loop);

	for (int pool = 0; pool < 2; pool++)
	{
		uint64_t limit = pool == GW_DB_FAST ? FAST_WAIT_MS : SLOW_WAIT_MS;

		while (!h2o_linklist_is_empty(&db->pending[pool]))
		{
			GwQuery *query = H2O_STRUCT_FROM_MEMBER(GwQuery, link, db->pending[pool].next);

			if (now < query->since + limit)
				break;
			h2o_linklist_unlink(&query->link);
			db->n_pending[pool]--;
			gw_query_done(query, GW_DB_UNSENT);
		}
	}
	if (!db->closing)
		gw_timer_start(&db->sweep, db->loop, 250, on_sweep, db);
}

static void
fail_later(void *arg)
{
	gw_query_done(arg, GW_DB_UNSENT);
}

static GwQuery *
query_new(GwDb *db, GwDbPool pool, const GwStatement *statement, bool retry, GwDbCallback cb,
		  void *arg)
{
	GwQuery *query = h2o_mem_alloc(sizeof(*query));

	memset(query, 0, sizeof(*query));
	query->db = db;
	query->pool = pool;
	query->statement = statement;
	query->reads = retry;
	query->retries = retry ? MAX_RETRIES : 0;
	query->cb = cb;
	query->arg = arg;
	query->since = h2o_now(db->loop->ctx.loop);
	return query;
}

static void
query_enqueue(GwQuery *query)
{
	GwDb *db = query->db;
	DbConn *conn = h2o_linklist_is_empty(&db->pending[query->pool]) ? pick(db, query) : NULL;

	if (conn != NULL)
		conn_send(conn, query);
	else if (db->n_pending[query->pool] >= MAX_PENDING)
		gw_timer_start(&query->fail, db->loop, 0, fail_later, query);
	else
	{
		h2o_linklist_insert(&db->pending[query->pool], &query->link);
		db->n_pending[query->pool]++;
		gw_db_dispatch(db, query->pool);
	}
}

GwQuery *
gw_db_send(GwDb *db, GwDbPool pool, const GwStatement *statement, const GwParams *params,
		   bool retry, GwDbCallback cb, void *arg)
{
	GwQuery *query = query_new(db, pool, statement, retry, cb, arg);
	size_t n = (size_t) statement->n_params;

	if (n > MAX_PARAMS)
		h2o_fatal("too many parameters");
	memcpy(query->values, params->values, n * sizeof(*params->values));
	memcpy(query->lengths, params->lengths, n * sizeof(int));
	memcpy(query->formats, params->formats != NULL ? params->formats : all_binary, n * sizeof(int));
	query_enqueue(query);
	return query;
}

GwQuery *
gw_db_send_owned(GwDb *db, GwDbPool pool, const GwStatement *statement, char *value, size_t len,
				 bool retry, GwDbCallback cb, void *arg)
{
	GwQuery *query = query_new(db, pool, statement, retry, cb, arg);

	query->copies = value;
	query->values[0] = value;
	query->lengths[0] = (int) len;
	query->formats[0] = 1;
	query_enqueue(query);
	return query;
}

GwQuery *
gw_db_send_copy(GwDb *db, GwDbPool pool, const GwStatement *statement, int n,
				const char *const *values, bool retry, GwDbCallback cb, void *arg)
{
	GwQuery *query = query_new(db, pool, statement, retry, cb, arg);
	size_t total = 1;
	char *p;

	if (n > MAX_PARAMS || n != statement->n_params)
		h2o_fatal("wrong number of parameters");
	for (int i = 0; i < n; i++)
		total += values[i] != NULL ? strlen(values[i]) + 1 : 0;
	p = query->copies = h2o_mem_alloc(total);
	for (int i = 0; i < n; i++)
	{
		if (values[i] == NULL)
			continue;
		query->values[i] = strcpy(p, values[i]);
		query->lengths[i] = (int) strlen(p);
		p += query->lengths[i] + 1;
	}
	query->text_result = true;
	query_enqueue(query);
	return query;
}

GwQuery *
gw_db_stream(GwDb *db, const GwStatement *statement, GwDbRow row, GwDbCallback cb, void *arg)
{
	GwQuery *query = query_new(db, GW_DB_SLOW, statement, true, cb, arg);

	query->row = row;
	query_enqueue(query);
	return query;
}

static void
resume(void *arg)
{
	DbConn *conn = arg;

	gw_conn_readable(conn->sock, NULL);
}

static bool
conn_read_again(DbConn *conn)
{
	if (!conn->paused || conn->sock == NULL)
		return false;
	conn->paused = false;
	h2o_socket_read_start(conn->sock, gw_conn_readable);
	return true;
}

void
gw_db_pause(GwQuery *query, bool paused)
{
	DbConn *conn = query->conn;

	if (conn == NULL || conn->sock == NULL || conn->paused == paused)
		return;
	if (paused)
	{
		conn->paused = true;
		h2o_socket_read_stop(conn->sock);
	}
	else if (conn_read_again(conn))
		gw_conn_readable(conn->sock, NULL); /* what libpq has already */
}

/* Cancelling ------------------------------------------------------------------ */

typedef struct Cancel
{
	DbConn *conn;
	PGcancel *cancel;
} Cancel;

static void
cancel_done(GwLoop *loop, void *arg)
{
	DbConn *conn = arg;

	(void) loop;
	conn->cancelling = false;
	if (conn->retiring && conn->up && conn->running == 0 && !conn->db->closing)
		gw_conn_renew(conn);
	else if (!conn->db->closing)
		gw_db_dispatch(conn->db, conn->pool);
}

/* PQcancel opens a connection and blocks, so it has a thread for its moment. */
static void *
cancel_main(void *arg)
{
	Cancel *job = arg;
	char error[256];

	(void) PQcancel(job->cancel, error, sizeof(error));
	PQfreeCancel(job->cancel);
	gw_loop_post(job->conn->db->loop, cancel_done, job->conn);
	free(job);
	return NULL;
}

static void
conn_cancel(DbConn *conn)
{
	PGcancel *cancel = conn->cancelling ? NULL : PQgetCancel(conn->pg);
	Cancel *job;
	pthread_t thread;

	if (cancel == NULL)
		return;
	job = h2o_mem_alloc(sizeof(*job));
	job->conn = conn;
	job->cancel = cancel;
	conn->cancelling = true;
	if (pthread_create(&thread, NULL, cancel_main, job) == 0)
		pthread_detach(thread);
	else
	{
		conn->cancelling = false;
		PQfreeCancel(cancel);
		free(job);
	}
}

void
gw_db_detach(GwQuery *query)
{
	query->cb = NULL;
	if (query->conn != NULL)
	{
		if (conn_read_again(query->conn)) /* for the end of what it sends; not now, as it might be the query's end */
			gw_timer_start(&query->conn->resume, query->db->loop, 0, resume, query->conn);
		if (query->pool == GW_DB_SLOW)
			conn_cancel(query->conn);
		/* What lives in the caller's memory has been copied into libpq's buffer. */
		query->retries = 0;
		return;
	}
	if (h2o_linklist_is_linked(&query->link))
	{
		h2o_linklist_unlink(&query->link);
		query->db->n_pending[query->pool]--;
	}
	query_free(query);
}

/* Receiving ------------------------------------------------------------------- */

/* A result of the head query that is not the Sync. */
static void
take_result(DbConn *conn, GwQuery *query, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (query->preparing)
	{
		query->preparing = false;
		if (status == PGRES_COMMAND_OK)
		{
			PQclear(result);
			return;
		}
	}
	if (status == PGRES_SINGLE_TUPLE && query->cb != NULL)
	{
		query->retries = 0;
		query->row(query->arg, result);
		return;
	}
	if (status == PGRES_PIPELINE_ABORTED || status == PGRES_SINGLE_TUPLE || query->result != NULL)
	{
		PQclear(result);
		return;
	}
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		/* Not prepared after all, or its plan's types changed: prepare again next time. */
		if (state == NULL || strncmp(state, "ZC", 2) != 0)
			if (strcmp(state != NULL ? state : "", "26000") == 0 ||
				PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION))
				conn->prepared &= ~((uint64_t) 1 << statement_index(conn->db, query->statement));
	}
	query->result = result;
}

const double gw_db_bounds[GW_DB_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

static void
note_time(const GwQuery *query, bool ok)
{
	GwDbTimes *times = &query->db->times[statement_index(query->db, query->statement)];
	uint64_t us = gw_micros() - query->sent_us;
	int b = 0;

	while (b < GW_DB_BUCKETS && (double) us > gw_db_bounds[b] * 1e6)
		b++;
	times->buckets[ok][b]++;
	times->micros[ok] += us;
	times->retried[ok] += query->resent;
}

const GwDbTimes *
gw_db_times(const GwDb *db, int i, const char **name)
{
	if (i >= db->n_statements)
		return NULL;
	*name = db->statements[i]->name;
	return &db->times[i];
}

static void
complete_head(DbConn *conn, GwQuery *query)
{
	ExecStatusType status = PQresultStatus(query->result);

	bool ok = query->result != NULL && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK);

	h2o_linklist_unlink(&query->link);
	conn->running--;
	note_time(query, ok);
	gw_query_done(query, ok ? GW_DB_OK : GW_DB_FAILED);
}

void
gw_conn_readable(h2o_socket_t *sock, const char *err)
{
	DbConn *conn = sock->data;
	PGconn *pg = conn->pg;
	int nothing = 0;
	int done = 0;

	if (err != NULL || !PQconsumeInput(pg))
	{
		gw_conn_lost(conn, err != NULL ? err : PQerrorMessage(pg));
		return;
	}
	conn->in_results = true;
	while (!h2o_linklist_is_empty(&conn->queue) && nothing < 3 && !conn->paused && !PQisBusy(pg))
	{
		GwQuery *query = H2O_STRUCT_FROM_MEMBER(GwQuery, link, conn->queue.next);
		PGresult *result = PQgetResult(pg);

		if (result == NULL)
		{
			nothing++;
			continue;
		}
		nothing = 0;
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			complete_head(conn, query);
			done++;
		}
		else
			take_result(conn, query, result);
	}
	conn->in_results = false;
	if (done > 0)
		note_service(conn, done);
	if (PQstatus(pg) != CONNECTION_OK)
		gw_conn_lost(conn, PQerrorMessage(pg));
	else if (conn->retiring && conn->running == 0)
		gw_conn_renew(conn);
	else
		gw_db_dispatch(conn->db, conn->pool);
}

/* The pools ------------------------------------------------------------------- */

GwDb *
gw_db_create(GwLoop *loop, const char *conninfo, int n_readers, int n_fast, int n_slow)
{
	GwDb *db = h2o_mem_alloc(sizeof(*db));
	int n[2] = {n_fast, n_slow};
	int at_once[2] = {n_readers, 1}; /* the others when they are needed */

	memset(db, 0, sizeof(*db));
	db->loop = loop;
	db->conninfo = strdup(conninfo);
	db->n_readers = n_readers;
	for (int pool = 0; pool < 2; pool++)
	{
		h2o_linklist_init_anchor(&db->pending[pool]);
		db->n_conns[pool] = n[pool];
		db->conns[pool] = calloc((size_t) n[pool], sizeof(DbConn));
		for (int i = 0; i < n[pool]; i++)
		{
			DbConn *conn = &db->conns[pool][i];

			conn->db = db;
			conn->pool = (GwDbPool) pool;
			h2o_linklist_init_anchor(&conn->queue);
			if (i >= at_once[pool])
				continue;
			conn->backoff_ms = BACKOFF_MIN_MS;
			gw_conn_connect(conn);
		}
	}
	gw_timer_start(&db->sweep, loop, 250, on_sweep, db);
	return db;
}

void
gw_db_close(GwDb *db)
{
	db->closing = true;
	gw_timer_stop(&db->sweep);
	for (int pool = 0; pool < 2; pool++)
		for (int i = 0; i < db->n_conns[pool]; i++)
			gw_conn_lost(&db->conns[pool][i], "");
	for (int pool = 0; pool < 2; pool++)
		while (!h2o_linklist_is_empty(&db->pending[pool]))
		{
			GwQuery *query = H2O_STRUCT_FROM_MEMBER(GwQuery, link, db->pending[pool].next);

			h2o_linklist_unlink(&query->link);
			gw_query_done(query, GW_DB_UNSENT);
		}
}

void
gw_db_renew(GwDb *db)
{
	for (int pool = 0; pool < 2; pool++)
		for (int i = 0; i < db->n_conns[pool]; i++)
		{
			DbConn *conn = &db->conns[pool][i];

			/* One that connects now may have the old ones. */
			conn->retiring = conn->pg != NULL;
			if (conn->up && conn->running == 0 && !conn->cancelling)
				gw_conn_renew(conn);
		}
}

bool
gw_db_idle(const GwDb *db)
{
	for (int pool = 0; pool < 2; pool++)
	{
		if (db->n_pending[pool] > 0)
			return false;
		for (int i = 0; i < db->n_conns[pool]; i++)
			if (db->conns[pool][i].running > 0)
				return false;
	}
	return true;
}

bool
gw_db_ready(const GwDb *db)
{
	for (int i = 0; i < db->n_conns[GW_DB_FAST]; i++)
		if (db->conns[GW_DB_FAST][i].up)
			return true;
	return false;
}

void
gw_db_stats(const GwDb *db, GwDbStats *stats)
{
	*stats = db->stats;
	stats->queued = db->n_pending[0] + db->n_pending[1];
	stats->running = stats->fast_up = stats->slow_up = 0;
	for (int pool = 0; pool < 2; pool++)
		for (int i = 0; i < db->n_conns[pool]; i++)
		{
			const DbConn *conn = &db->conns[pool][i];

			stats->running += conn->running;
			stats->fast_up += pool == GW_DB_FAST && conn->up;
			stats->slow_up += pool == GW_DB_SLOW && conn->up;
		}
}
