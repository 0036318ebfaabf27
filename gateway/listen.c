/*
 * listen.c -- NOTIFY from the database: routes that changed.
 *
 * A thread of its own with plain blocking libpq: what it hears is rare, and
 * reading the table takes longer than a loop should stand still.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "listen.h"
#include "route.h"

#define MIN_RELOAD_MS 100 /* between two readings of the table */

static pthread_t thread;
static int wake_fd = -1;
static bool running;

static GwRate
rate_of(const char *text)
{
	if (strcmp(text, "login") == 0)
		return GW_RATE_LOGIN;
	if (strcmp(text, "files") == 0)
		return GW_RATE_FILES;
	return strcmp(text, "none") == 0 ? GW_RATE_NONE : GW_RATE_API;
}

GwRouteTable *
gw_listen_read_routes(PGconn *pg)
{
	PGresult *result = PQexec(pg, "SELECT id, method, pattern, pool, rate, raw_body, max_body, read_only,"
								  "       auth IN ('session', 'agent', 'session_or_agent')"
								  "  FROM coder.routes ORDER BY id");
	GwRouteTable *table;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		gw_log(GW_ERROR, "could not read the routes: %s", PQresultErrorMessage(result));
		PQclear(result);
		return NULL;
	}
	table = gw_routes_new();
	for (int i = 0; i < PQntuples(result); i++)
	{
		GwRoute route = {
			.id = atoi(PQgetvalue(result, i, 0)),
			.method = PQgetvalue(result, i, 1),
			.pattern = PQgetvalue(result, i, 2),
			.slow = strcmp(PQgetvalue(result, i, 3), "slow") == 0,
			.rate = rate_of(PQgetvalue(result, i, 4)),
			.raw_body = PQgetvalue(result, i, 5)[0] == 't',
			.max_body = strtoul(PQgetvalue(result, i, 6), NULL, 10),
			.read_only = PQgetvalue(result, i, 7)[0] == 't',
			.needs_token = PQgetvalue(result, i, 8)[0] == 't',
		};

		if (!gw_routes_add(table, &route))
			gw_log(GW_WARN, "route %d has a malformed pattern: %s", route.id, route.pattern);
	}
	PQclear(result);
	return table;
}

static void
take_table(GwLoop *loop, void *arg)
{
	gw_routes_unref(loop->routes);
	loop->routes = arg;
}

static void
reload(PGconn *pg)
{
	GwRouteTable *table = gw_listen_read_routes(pg);

	if (table == NULL)
		return;
	gw_log(GW_DEBUG, "%zu routes", gw_routes_count(table));
	for (int i = 0; i < gw_server.n_loops; i++)
		gw_loop_post(gw_server.loops[i], take_table, gw_routes_ref(table));
	gw_routes_unref(table);
}

/* Until the connection breaks or the server stops. */
static void
listen_on(PGconn *pg)
{
	PGnotify *notify;
	bool changed = true; /* what was notified while nobody listened is lost */

	PQclear(PQexec(pg, "LISTEN routes"));
	/* PostgreSQL may have been restarted, and a worker that was not preloaded does not come back by itself. */
	PQclear(PQexec(pg, "SELECT coder.ensure_worker()"));
	while (!atomic_load(&gw_server.stopping) && PQstatus(pg) == CONNECTION_OK)
	{
		struct pollfd fds[2] = {{.fd = PQsocket(pg), .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};

		if (changed)
		{
			reload(pg);
			/* Anybody who is connected to the database can NOTIFY, as often as they like. */
			(void) poll(&fds[1], 1, MIN_RELOAD_MS);
		}
		changed = false;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents != 0 || !PQconsumeInput(pg))
			break;
		while ((notify = PQnotifies(pg)) != NULL)
		{
			changed |= strcmp(notify->relname, "routes") == 0;
			PQfreemem(notify);
		}
	}
}

static void *
listen_main(void *arg)
{
	(void) arg;
	while (!atomic_load(&gw_server.stopping))
	{
		const char *keys[] = {"dbname", "application_name", "connect_timeout", NULL};
		const char *values[] = {gw_server.conninfo, "coder-server listen", "10", NULL};
		PGconn *pg = PQconnectdbParams(keys, values, 1);
		struct pollfd fd = {.fd = wake_fd, .events = POLLIN};

		if (PQstatus(pg) == CONNECTION_OK)
			listen_on(pg);
		PQfinish(pg);
		if (!atomic_load(&gw_server.stopping))
			poll(&fd, 1, 500);
	}
	return NULL;
}

void
gw_listen_start(void)
{
	wake_fd = eventfd(0, EFD_CLOEXEC);
	running = pthread_create(&thread, NULL, listen_main, NULL) == 0;
}

void
gw_listen_stop(void)
{
	uint64_t one = 1;

	if (!running)
		return;
	if (write(wake_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(thread, NULL);
	running = false;
}
