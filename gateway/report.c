/*
 * report.c -- what this process tells of itself, for coder.stat_gateway.
 *
 * Told with the heartbeat (stream/replica.c), on the first loop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "db.h"
#include "event.h"
#include "metrics.h"
#include "request.h"
#include "stream/coordinator.h"
#include "stream/derp.h"

static void
add_traffic(json_t *stats)
{
	GwMetricsTotals totals;
	long long connections = 0;
	int subscribers = 0;

	gw_metrics_totals(&totals);
	for (int i = 0; i < gw_server.n_loops; i++)
	{
		connections += atomic_load(&gw_server.loops[i]->connections);
		subscribers += gw_event_count(gw_server.loops[i]);
	}
	json_object_set_new(stats, "connections", json_integer(connections));
	json_object_set_new(stats, "requests", json_integer((json_int_t) totals.requests));
	json_object_set_new(stats, "errors", json_integer((json_int_t) totals.errors));
	json_object_set_new(stats, "websockets", json_integer(totals.websockets > 0 ? totals.websockets : 0));
	json_object_set_new(stats, "subscribers", json_integer(subscribers));
}

static void
add_database(json_t *stats)
{
	GwDbStats sum = {0};
	GwEventStats events;

	for (int i = 0; i < gw_server.n_loops; i++)
	{
		GwDbStats one;

		gw_db_stats(gw_server.loops[i]->db, &one);
		sum.sent += one.sent;
		sum.failed += one.failed;
		sum.lost += one.lost;
		sum.queued += one.queued;
		sum.fast_up += one.fast_up + one.slow_up;
	}
	gw_event_stats(&events);
	json_object_set_new(stats, "statements", json_integer((json_int_t) sum.sent));
	json_object_set_new(stats, "statements_failed", json_integer((json_int_t) sum.failed));
	json_object_set_new(stats, "statements_lost", json_integer((json_int_t) sum.lost));
	json_object_set_new(stats, "statements_waiting", json_integer(sum.queued));
	json_object_set_new(stats, "database_connections", json_integer(sum.fast_up));
	json_object_set_new(stats, "events", json_integer((json_int_t) (events.messages[0] + events.messages[1])));
}

static void
add_network(json_t *stats)
{
	GwDerpStats derp;
	CoordStats coordinator;

	gw_derp_stats(&derp);
	coord_stats(&coordinator);
	json_object_set_new(stats, "relay_clients", json_integer(derp.clients));
	json_object_set_new(stats, "relay_packets", json_integer((json_int_t) derp.relayed));
	json_object_set_new(stats, "relay_dropped", json_integer((json_int_t) derp.dropped));
	json_object_set_new(stats, "tunnels", json_integer((json_int_t) coordinator.tunnels));
}

char *
gw_report_stats(void)
{
	json_t *stats = json_object();
	char host[65] = "";
	struct rusage usage;
	char *text;

	gethostname(host, sizeof(host) - 1);
	json_object_set_new(stats, "hostname", json_string(host));
	json_object_set_new(stats, "pid", json_integer(getpid()));
	json_object_set_new(stats, "version", json_string(GW_VERSION));
	add_traffic(stats);
	add_database(stats);
	add_network(stats);
	json_object_set_new(stats, "resident_bytes", json_integer((json_int_t) gw_metrics_resident()));
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		json_object_set_new(stats, "cpu_seconds", json_real((double) (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
															(double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6));
	text = json_dumps(stats, JSON_COMPACT);
	json_decref(stats);
	return text;
}
