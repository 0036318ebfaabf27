/*
 * metrics.c -- what the agent counts of itself.
 *
 * Series are made when they are counted first.  There are few, as no label has
 * a value that comes of a user; where there were more than room, new ones are
 * not counted.
 *
 * SPDX-License-Identifier: MIT
 */
#include "run/metrics.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Family
{
	const char *name;
	bool gauge;
	const char *labels[METRIC_LABELS];
	const char *help;
} Family;

static const Family families[METRIC_FAMILIES] = {
	[METRIC_BOUNDARY_BATCHES_DROPPED] = {"agent_boundary_log_proxy_batches_dropped_total", false, {"reason"}, "Batches of boundaries' logs that were dropped."},
	[METRIC_BOUNDARY_BATCHES_FORWARDED] = {"agent_boundary_log_proxy_batches_forwarded_total", false, {NULL}, "Batches of boundaries' logs that the server took."},
	[METRIC_BOUNDARY_LOGS_DROPPED] = {"agent_boundary_log_proxy_logs_dropped_total", false, {"reason"}, "Entries of boundaries' logs that were dropped."},
	[METRIC_PTY_CONNECTIONS] = {"agent_reconnecting_pty_connections_total", false, {NULL}, "Connections to terminals of browsers."},
	[METRIC_PTY_ERRORS] = {"agent_reconnecting_pty_errors_total", false, {"error_type"}, "Terminals of browsers that failed."},
	[METRIC_SCRIPTS] = {"agent_scripts_executed_total", false, {"success"}, "Scripts that have ended."},
	[METRIC_SESSION_ERRORS] = {"agent_sessions_errors_total", false, {"magic_type", "pty", "error_type"}, "SSH sessions that could not begin."},
	[METRIC_SESSIONS] = {"agent_sessions_total", false, {"magic_type", "pty"}, "SSH sessions that have begun."},
	[METRIC_SSH_FAILED] = {"agent_ssh_server_failed_connections_total", false, {NULL}, "SSH connections that failed before a session."},
	[METRIC_SFTP] = {"agent_ssh_server_sftp_connections_total", false, {NULL}, "SFTP sessions."},
	[METRIC_SFTP_ERRORS] = {"agent_ssh_server_sftp_server_errors_total", false, {NULL}, "SFTP sessions that failed."},
	[METRIC_PEERS] = {"coderd_agentstats_currently_reachable_peers", true, {"connection_type"}, "Peers that answered last, directly (p2p) or through a relay (derp)."},
	[METRIC_STARTUP_SECONDS] = {"coderd_agentstats_startup_script_seconds", true, {"success"}, "How long the scripts of the start took."},
};

static struct
{
	pthread_mutex_t lock;
	size_t n;
	MetricSeries list[METRIC_MAX_SERIES];
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

const char *
metric_name(MetricFamily family)
{
	return families[family].name;
}

bool
metric_is_gauge(MetricFamily family)
{
	return families[family].gauge;
}

const char *
metric_label(MetricFamily family, size_t i)
{
	return i < METRIC_LABELS ? families[family].labels[i] : NULL;
}

/* The place of a series, or where it belongs: in the order of families, then of values. */
static size_t
place_of(const MetricSeries *wanted, bool *found)
{
	*found = false;
	for (size_t i = 0; i < all.n; i++)
	{
		int order = (int) all.list[i].family - (int) wanted->family;

		for (size_t j = 0; order == 0 && j < METRIC_LABELS && wanted->labels[j] != NULL; j++)
			order = strcmp(all.list[i].labels[j], wanted->labels[j]);
		*found = order == 0;
		if (order >= 0)
			return i;
	}
	return all.n;
}

static void
change(MetricFamily family, bool add, double value, va_list labels)
{
	MetricSeries wanted = {.family = family};
	size_t at;
	bool found;

	for (size_t i = 0; metric_label(family, i) != NULL; i++)
		wanted.labels[i] = va_arg(labels, const char *);
	pthread_mutex_lock(&all.lock);
	at = place_of(&wanted, &found);
	if (!found && all.n < METRIC_MAX_SERIES)
	{
		memmove(&all.list[at + 1], &all.list[at], (all.n - at) * sizeof(all.list[0]));
		all.list[at] = wanted;
		all.n++;
		found = true;
	}
	if (found)
		all.list[at].value = value + (add ? all.list[at].value : 0);
	pthread_mutex_unlock(&all.lock);
}

void
metric_add(MetricFamily family, double by, ...)
{
	va_list labels;

	va_start(labels, by);
	change(family, true, by, labels);
	va_end(labels);
}

void
metric_set(MetricFamily family, double value, ...)
{
	va_list labels;

	va_start(labels, value);
	change(family, false, value, labels);
	va_end(labels);
}

void
metric_start(void)
{
	for (MetricFamily family = 0; family < METRIC_FAMILIES; family++)
		if (metric_label(family, 0) == NULL)
			metric_add(family, 0);
}

size_t
metric_series(MetricSeries *series, size_t room)
{
	size_t n;

	pthread_mutex_lock(&all.lock);
	n = all.n < room ? all.n : room;
	memcpy(series, all.list, n * sizeof(series[0]));
	pthread_mutex_unlock(&all.lock);
	return n;
}

char *
metric_text(size_t *size)
{
	MetricSeries series[METRIC_MAX_SERIES];
	size_t n = metric_series(series, METRIC_MAX_SERIES);
	char *text = NULL;
	FILE *out = open_memstream(&text, size);

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
	{
		const Family *family = &families[series[i].family];

		if (i == 0 || series[i].family != series[i - 1].family)
			fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name, family->gauge ? "gauge" : "counter");
		fputs(family->name, out);
		for (size_t j = 0; j < METRIC_LABELS && family->labels[j] != NULL; j++)
			fprintf(out, "%c%s=\"%s\"", j == 0 ? '{' : ',', family->labels[j], series[i].labels[j]);
		fprintf(out, "%s %.17g\n", family->labels[0] != NULL ? "}" : "", series[i].value);
	}
	if (fclose(out) != 0)
	{
		free(text);
		return NULL;
	}
	return text;
}
