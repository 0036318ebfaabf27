/*
 * db.c -- the runner's connections.
 *
 * say, work: libpq's pipeline, a sync point behind each statement, so that one that fails takes no other with it.  say comes
 * first and goes last, so that its lock tells that nothing of this worker is to be said any more; both end together.
 * events: coder.events_after() again and again.  listen: LISTEN chat:config_change.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "gateway.h"
#include "request.h"
#include "secret.h"

#define RETRY_MS 500
#define CONNECT_MS 10000
/* coder.events_after() answers within 10 s; later the connection is dead. */
#define SILENCE_MS 25000
/* More are planned each time. */
#define MAX_STATEMENTS 128

/* Prepared on the work connection when it is first called there. */
typedef struct Statement
{
	const char *sql; /* static */
	unsigned name;	 /* of the preparation; 0: there is none */
} Statement;

struct DbCall
{
	DbCall *next;
	DbDone done; /* NULL: forgotten */
	void *arg;
	Statement *statement;
	bool prepares; /* the first answer is that of the preparation */
	bool prepared; /* it has come, its end has not */
	bool answered;
};

typedef enum ConnState
{
	CONN_DOWN,
	CONN_CONNECTING,
	CONN_BEGINNING, /* its first statement runs */
	CONN_UP
} ConnState;

typedef struct Conn
{
	const char *name;
	PGconn *pg;
	ConnState state;
	PostgresPollingStatusType want;
	int64_t due; /* to connect again, or to give up by */
	bool flush;	 /* libpq has more to send */
	/* Of say and work. */
	const char *begin; /* statements that it begins with */
	DbCall *first;	   /* statements without an answer, oldest first */
	DbCall **last;
	Statement statements[MAX_STATEMENTS];
	int n_statements;
	unsigned names; /* given so far */
} Conn;

static struct
{
	char *conninfo;
	DbHooks hooks;
	Conn say;
	Conn work;
	Conn events;
	Conn listen;
	bool up;		   /* say and work are */
	char position[24]; /* of the events; "" at the beginning */
} db = {.say = {.name = "say"}, .work = {.name = "work"}, .events = {.name = "events"}, .listen = {.name = "listen"}};

static Conn *const conns[DB_FDS] = {&db.say, &db.work, &db.events, &db.listen};

static int64_t
clock_ms(void)
{
	return (int64_t) (gw_micros() / 1000);
}

/* Connections ---------------------------------------------------------------- */

static void
conn_open(Conn *conn, int64_t now)
{
	char *secrets = gw_secrets_read();
	const char *const keys[] = {"dbname", "application_name", "connect_timeout", "options", NULL};
	const char *const values[] = {db.conninfo, "coder chat runner", "10", secrets != NULL && *secrets != '\0' ? secrets : NULL, NULL};

	conn->pg = PQconnectStartParams(keys, values, 1);
	free(secrets);
	conn->due = now + CONNECT_MS;
	conn->want = PGRES_POLLING_WRITING;
	conn->state = CONN_CONNECTING;
	if (conn->pg != NULL && PQstatus(conn->pg) != CONNECTION_BAD)
		return;
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->state = CONN_DOWN;
	conn->due = now + RETRY_MS;
}

static void
answer_all_lost(Conn *conn)
{
	DbCall *calls = conn->first;

	conn->first = NULL;
	conn->last = &conn->first;
	while (calls != NULL)
	{
		DbCall *call = calls;

		calls = call->next;
		if (call->done != NULL && !call->answered)
			call->done(call->arg, NULL);
		free(call);
	}
}

static void
conn_close(Conn *conn, int64_t now)
{
	PQfinish(conn->pg);
	conn->pg = NULL;
	conn->state = CONN_DOWN;
	conn->due = now + RETRY_MS;
	conn->flush = false;
	for (int i = 0; i < conn->n_statements; i++)
		conn->statements[i].name = 0;
}

static void
conn_lost(Conn *conn, int64_t now)
{
	bool was_up = conn->state == CONN_UP || conn->state == CONN_BEGINNING;

	gw_log(GW_WARN, "the %s connection is lost: %s", conn->name,
			 conn->pg != NULL ? PQerrorMessage(conn->pg) : "no memory\n");
	conn_close(conn, now);
	if (!was_up)
		return;
	if (conn == &db.listen)
		db.hooks.deaf(db.hooks.arg);
	else if (conn != &db.events)
	{
		db.up = false;
		conn_close(&db.work, now);
		conn_close(&db.say, now);
		answer_all_lost(&db.say);
		answer_all_lost(&db.work);
		db.hooks.down(db.hooks.arg);
	}
}

static bool
send_events_after(void)
{
	const char *const params[] = {db.position};

	if (db.position[0] == '\0')
		return PQsendQuery(db.events.pg, "SELECT pg_snapshot_xmin(pg_current_snapshot()) AS next, 0 AS seq, '' AS channel, '' AS payload");
	return PQsendQueryParams(db.events.pg, "SELECT * FROM coder.events_after($1, 10000)", 1, NULL, params, NULL, NULL, 0);
}

static bool
send_begin(Conn *conn)
{
	if (conn == &db.listen)
		return PQsendQuery(conn->pg, "LISTEN \"chat:config_change\"");
	if (conn == &db.events)
	{
		db.position[0] = '\0';
		return send_events_after();
	}
	return PQsendQuery(conn->pg, conn->begin);
}

static void
conn_connect(Conn *conn, int64_t now)
{
	conn->want = PQconnectPoll(conn->pg);
	if (conn->want == PGRES_POLLING_FAILED || (conn->want != PGRES_POLLING_OK && now > conn->due))
	{
		conn_lost(conn, now);
		return;
	}
	if (conn->want != PGRES_POLLING_OK)
		return;
	if (PQsetnonblocking(conn->pg, 1) != 0 || !send_begin(conn))
	{
		conn_lost(conn, now);
		return;
	}
	conn->state = CONN_BEGINNING;
	conn->due = now + SILENCE_MS;
	conn->flush = PQflush(conn->pg) > 0;
}

/* Answers -------------------------------------------------------------------- */

static void
take_events(PGresult *result)
{
	int n = PQntuples(result);

	if (n == 0)
		return;
	snprintf(db.position, sizeof(db.position), "%s", PQgetvalue(result, 0, 0));
	for (int i = 0; i < n; i++)
		if (*PQgetvalue(result, i, 2) != '\0')
			db.hooks.event(db.hooks.arg, PQgetvalue(result, i, 2), PQgetvalue(result, i, 3));
}

/* Events: each answer leads to the next question. */
static bool
read_events(Conn *conn, int64_t now)
{
	PGresult *result;

	while (!PQisBusy(conn->pg))
	{
		result = PQgetResult(conn->pg);
		if (result == NULL)
		{
			if (conn->state == CONN_BEGINNING)
			{
				conn->state = CONN_UP;
				db.hooks.events_lost(db.hooks.arg);
			}
			conn->due = now + SILENCE_MS;
			if (!send_events_after())
				return false;
			conn->flush = PQflush(conn->pg) > 0;
			return true;
		}
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			gw_log(GW_WARN, "events: %s", PQresultErrorMessage(result));
			PQclear(result);
			return false;
		}
		take_events(result);
		PQclear(result);
	}
	return now < conn->due;
}

static bool
read_listen(Conn *conn)
{
	PGnotify *notify;

	while (!PQisBusy(conn->pg))
	{
		PGresult *result = PQgetResult(conn->pg);

		if (result == NULL)
			break;
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
		{
			PQclear(result);
			return false;
		}
		PQclear(result);
		/* From here on nothing is missed; what came before may have been. */
		conn->state = CONN_UP;
		db.hooks.deaf(db.hooks.arg);
	}
	while ((notify = PQnotifies(conn->pg)) != NULL)
	{
		db.hooks.notified(db.hooks.arg, notify->extra);
		PQfreemem(notify);
	}
	return true;
}

/* The first statement's results; then the pipeline begins. */
static bool
read_begin(Conn *conn)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult *result = PQgetResult(conn->pg);
		ExecStatusType status;

		if (result == NULL)
		{
			if (!PQenterPipelineMode(conn->pg))
				return false;
			conn->state = CONN_UP;
			if (conn == &db.work)
			{
				db.up = true;
				db.hooks.up(db.hooks.arg);
			}
			return true;
		}
		status = PQresultStatus(result);
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		{
			gw_log(GW_WARN, "%s", PQresultErrorMessage(result));
			PQclear(result);
			return false;
		}
		PQclear(result);
	}
	return true;
}

static void
pop_call(Conn *conn)
{
	DbCall *call = conn->first;

	conn->first = call->next;
	if (conn->first == NULL)
		conn->last = &conn->first;
	free(call);
}

/* A statement has failed: it is prepared anew where it was not, or where what was prepared is stale (another type of result). */
static void
note_failure(const DbCall *call, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (call->statement != NULL && (call->prepares || (state != NULL && strcmp(state, "0A000") == 0)))
		call->statement->name = 0;
	gw_log(GW_WARN, "%s", PQresultErrorMessage(result));
}

/* In a pipeline each statement gives a result, then NULL, then its sync point's. */
static bool
read_calls(Conn *conn)
{
	while (!PQisBusy(conn->pg))
	{
		PGresult *result = PQgetResult(conn->pg);
		DbCall *call = conn->first;

		if (result == NULL)
		{
			if (call == NULL || (!call->answered && !call->prepared))
				return true;
			call->prepared = false;
			continue;
		}
		if (call == NULL)
		{
			PQclear(result);
			continue;
		}
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			pop_call(conn);
			continue;
		}
		if (call->prepares && PQresultStatus(result) == PGRES_COMMAND_OK)
		{
			call->prepares = false;
			call->prepared = true;
		}
		else if (!call->answered)
		{
			call->answered = true;
			if (PQresultStatus(result) == PGRES_FATAL_ERROR)
				note_failure(call, result);
			if (call->done != NULL)
				call->done(call->arg, result);
		}
		PQclear(result);
	}
	return true;
}

/* Work ----------------------------------------------------------------------- */

static void
conn_io(Conn *conn, int64_t now)
{
	bool ok;

	if (conn->flush)
		conn->flush = PQflush(conn->pg) > 0;
	if (!PQconsumeInput(conn->pg))
	{
		conn_lost(conn, now);
		return;
	}
	if (conn == &db.events)
		ok = read_events(conn, now);
	else if (conn == &db.listen)
		ok = read_listen(conn);
	else if (conn->state == CONN_BEGINNING)
		ok = read_begin(conn);
	else
		ok = read_calls(conn);
	if (!ok || PQstatus(conn->pg) == CONNECTION_BAD)
		conn_lost(conn, now);
}

void
db_work(int64_t now_ms)
{
	for (int i = 0; i < DB_FDS; i++)
	{
		bool waits = conns[i] == &db.work && db.say.state != CONN_UP;

		if (conns[i]->state == CONN_DOWN && now_ms >= conns[i]->due && !waits)
			conn_open(conns[i], now_ms);
		if (conns[i]->state == CONN_CONNECTING)
			conn_connect(conns[i], now_ms);
		else if (conns[i]->state != CONN_DOWN)
			conn_io(conns[i], now_ms);
	}
}

int
db_poll_fds(struct pollfd fds[DB_FDS])
{
	int n = 0;

	for (int i = 0; i < DB_FDS; i++)
	{
		short events = POLLIN;

		if (conns[i]->state == CONN_DOWN || PQsocket(conns[i]->pg) < 0)
			continue;
		if (conns[i]->state == CONN_CONNECTING)
			events = conns[i]->want == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
		else if (conns[i]->flush)
			events |= POLLOUT;
		fds[n++] = (struct pollfd){PQsocket(conns[i]->pg), events, 0};
	}
	return n;
}

bool
db_is_up(void)
{
	return db.up;
}

/* NULL where there is no room. */
static Statement *
find_statement(Conn *conn, const char *sql)
{
	for (int i = 0; i < conn->n_statements; i++)
		if (conn->statements[i].sql == sql)
			return &conn->statements[i];
	if (conn->n_statements == MAX_STATEMENTS)
		return NULL;
	conn->statements[conn->n_statements] = (Statement){sql, 0};
	return &conn->statements[conn->n_statements++];
}

static bool
send_call(Conn *conn, DbCall *call, const char *sql, int n, const char *const *params)
{
	Statement *statement = call->statement = find_statement(conn, sql);
	char name[16];

	if (statement == NULL)
		return PQsendQueryParams(conn->pg, sql, n, NULL, params, NULL, NULL, 0);
	call->prepares = statement->name == 0;
	if (call->prepares)
		statement->name = ++conn->names;
	snprintf(name, sizeof(name), "s%u", statement->name);
	return (!call->prepares || PQsendPrepare(conn->pg, name, sql, n, NULL)) &&
		   PQsendQueryPrepared(conn->pg, name, n, params, NULL, NULL, 0);
}

static DbCall *
call_on(Conn *conn, const char *sql, int n, const char *const *params, DbDone done, void *arg)
{
	DbCall *call = db.up ? calloc(1, sizeof(*call)) : NULL;

	if (call == NULL)
		return NULL;
	if (!send_call(conn, call, sql, n, params) || !PQpipelineSync(conn->pg))
	{
		/* The connection is broken: db_work will see it. */
		free(call);
		return NULL;
	}
	call->done = done;
	call->arg = arg;
	*conn->last = call;
	conn->last = &call->next;
	conn->flush = PQflush(conn->pg) > 0;
	return call;
}

DbCall *
db_call(const char *sql, int n, const char *const *params, DbDone done, void *arg)
{
	return call_on(&db.work, sql, n, params, done, arg);
}

bool
db_say(const char *sql, const char *param, DbDone done)
{
	return call_on(&db.say, sql, 1, &param, done, NULL) != NULL;
}

void
db_forget(DbCall *call)
{
	if (call != NULL)
		call->done = NULL;
}

void
db_start(const char *conninfo, const char *lock, const char *begin, const DbHooks *hooks)
{
	db.conninfo = strdup(conninfo);
	db.say.begin = lock;
	db.work.begin = begin;
	db.hooks = *hooks;
	db.say.last = &db.say.first;
	db.work.last = &db.work.first;
}

/* Does what can be done with the statements of one, within some time. */
static void
drain_some(Conn *conn)
{
	struct pollfd fd = {PQsocket(conn->pg), (short) (POLLIN | (conn->flush ? POLLOUT : 0)), 0};

	poll(&fd, 1, 50);
	conn_io(conn, clock_ms());
}

bool
db_drain(int64_t timeout_ms)
{
	int64_t end = clock_ms() + timeout_ms;

	while (db.up && (db.say.first != NULL || db.work.first != NULL) && clock_ms() < end)
		drain_some(db.say.first != NULL ? &db.say : &db.work);
	return db.say.first == NULL && db.work.first == NULL;
}

bool
db_drain_say(int64_t timeout_ms)
{
	int64_t end = clock_ms() + timeout_ms;

	while (db.up && db.say.first != NULL && clock_ms() < end)
		drain_some(&db.say);
	return db.say.first == NULL;
}

void
db_stop(void)
{
	for (int i = DB_FDS - 1; i >= 0; i--)
	{
		PQfinish(conns[i]->pg);
		conns[i]->pg = NULL;
		conns[i]->state = CONN_DOWN;
	}
	free(db.conninfo);
}
