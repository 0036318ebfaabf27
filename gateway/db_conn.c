/*
 * db_conn.c -- connections to the database: opened, lost, opened again.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db_int.h"
#include "secret.h"

#define BACKOFF_MAX_MS 1000
#define CONNECT_TIMEOUT_MS 10000

void
gw_conn_close(DbConn *conn)
{
	gw_timer_stop(&conn->timer);
	gw_timer_stop(&conn->resume);
	conn->paused = false;
	if (conn->sock != NULL)
		h2o_socket_close(conn->sock); /* before PQfinish: it removes its fd from epoll */
	conn->sock = NULL;
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->up = false;
	conn->retiring = false;
	conn->prepared = 0;
}

/* Opens an idle connection again, with the secrets of now. */
void
gw_conn_renew(DbConn *conn)
{
	gw_conn_close(conn);
	gw_conn_connect(conn);
}

/*
 * The connection is gone: its queries end with an unknown outcome, those that
 * only read go to the head of the waiting list once, and it is opened again.
 */
void
gw_conn_lost(DbConn *conn, const char *why)
{
	GwDb *db = conn->db;
	h2o_linklist_t lost;
	bool was_up = conn->up;

	if (was_up && !db->closing)
		gw_log(GW_WARN, "lost a database connection: %.*s", (int) strcspn(why, "\n"), why);
	gw_conn_close(conn);
	conn->running = 0;
	if (was_up)
		conn->backoff_ms = BACKOFF_MIN_MS;
	else
		conn->backoff_ms =
			conn->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : conn->backoff_ms * 2;
	if (!db->closing)
		gw_timer_start(&conn->timer, db->loop, conn->backoff_ms, gw_conn_connect, conn);

	h2o_linklist_init_anchor(&lost);
	h2o_linklist_insert_list(&lost, &conn->queue);
	while (!h2o_linklist_is_empty(&lost))
	{
		GwQuery *query =
			H2O_STRUCT_FROM_MEMBER(GwQuery, link, lost.prev); /* last first, to keep the order */

		h2o_linklist_unlink(&query->link);
		query->conn = NULL;
		if (query->retries > 0 && query->cb != NULL && !db->closing)
		{
			query->retries--;
			PQclear(query->result);
			query->result = NULL;
			h2o_linklist_insert(db->pending[query->pool].next, &query->link);
			db->n_pending[query->pool]++;
		}
		else
			gw_query_done(query, GW_DB_LOST);
	}
	gw_db_dispatch(db, conn->pool);
}

static void on_connecting(h2o_socket_t *sock, const char *err);

static void
on_connect_timeout(void *arg)
{
	gw_conn_lost(arg, "the server did not answer in time");
}

static void
conn_up(DbConn *conn)
{
	GwDb *db = conn->db;

	gw_timer_stop(&conn->timer);
	PQsetnonblocking(conn->pg, 1);
	if (!PQenterPipelineMode(conn->pg))
	{
		gw_conn_lost(conn, "could not enter pipeline mode");
		return;
	}
	conn->up = true;
	conn->backoff_ms = BACKOFF_MIN_MS;
	db->stats.reconnects++;
	conn->sock = h2o_evloop_socket_create(
		db->loop->ctx.loop, dup(PQsocket(conn->pg)), H2O_SOCKET_FLAG_DONT_READ);
	conn->sock->data = conn;
	h2o_socket_read_start(conn->sock, gw_conn_readable);
	if (conn->retiring)
		gw_conn_renew(conn);
	else
		gw_db_dispatch(db, conn->pool);
}

/* libpq may change its socket between polls, so each step has a new one of h2o's. */
static void
conn_poll(DbConn *conn)
{
	PostgresPollingStatusType next = PQconnectPoll(conn->pg);

	if (conn->sock != NULL)
		h2o_socket_close(conn->sock);
	conn->sock = NULL;
	if (next == PGRES_POLLING_OK)
	{
		conn_up(conn);
		return;
	}
	if (next == PGRES_POLLING_FAILED)
	{
		gw_log(GW_DEBUG, "could not connect to the database: %s", PQerrorMessage(conn->pg));
		gw_conn_lost(conn, "");
		return;
	}
	conn->sock = h2o_evloop_socket_create(
		conn->db->loop->ctx.loop, dup(PQsocket(conn->pg)), H2O_SOCKET_FLAG_DONT_READ);
	conn->sock->data = conn;
	if (next == PGRES_POLLING_READING)
		h2o_socket_read_start(conn->sock, on_connecting);
	else
		h2o_socket_notify_write(conn->sock, on_connecting);
}

static void
on_connecting(h2o_socket_t *sock, const char *err)
{
	(void) err;
	conn_poll(sock->data);
}

void
gw_conn_connect(void *arg)
{
	DbConn *conn = arg;
	GwDb *db = conn->db;
	const char *keys[] = {
		"dbname", "application_name", "client_encoding", "sslmode", "gssencmode", "options", NULL};
	const char *values[] = {db->conninfo, "coder-server", "UTF8", NULL, "disable", NULL, NULL};
	char *secrets;
	char *options = NULL;

	if (conn->pg != NULL) /* a send failed */
	{
		gw_conn_lost(conn, PQerrorMessage(conn->pg));
		return;
	}
	if (db->closing)
		return;
	secrets = gw_secrets_option();
	if (asprintf(&options, "-c plan_cache_mode=force_generic_plan -c jit=off -c timezone=UTC -c statement_timeout=%d%s",
				 conn->pool == GW_DB_FAST ? 2000 : 30000, secrets) < 0)
		h2o_fatal("out of memory");
	values[5] = options;
	keys[3] = strstr(db->conninfo, "host='/") != NULL ? "sslmode" : "fallback_application_name";
	values[3] = strstr(db->conninfo, "host='/") != NULL ? "disable" : "coder-server";
	conn->pg = PQconnectStartParams(keys, values, 1);
	free(options);
	free(secrets);
	if (conn->pg == NULL || PQstatus(conn->pg) == CONNECTION_BAD)
	{
		gw_conn_lost(conn, "");
		return;
	}
	gw_timer_start(&conn->timer, db->loop, CONNECT_TIMEOUT_MS, on_connect_timeout, conn);
	conn->sock = h2o_evloop_socket_create(
		db->loop->ctx.loop, dup(PQsocket(conn->pg)), H2O_SOCKET_FLAG_DONT_READ);
	conn->sock->data = conn;
	h2o_socket_notify_write(conn->sock, on_connecting);
}
