/*
 * metrics.h -- what the agent counts of itself: for its own Prometheus address
 * and, with its statistics, for the server.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_RUN_METRICS_H
#define AGENT_RUN_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#define METRIC_LABELS 3

typedef enum MetricFamily
{
	METRIC_BOUNDARY_BATCHES_DROPPED,
	METRIC_BOUNDARY_BATCHES_FORWARDED,
	METRIC_BOUNDARY_LOGS_DROPPED,
	METRIC_PTY_CONNECTIONS,
	METRIC_PTY_ERRORS,
	METRIC_SCRIPTS,
	METRIC_SESSION_ERRORS,
	METRIC_SESSIONS,
	METRIC_SSH_FAILED,
	METRIC_SFTP,
	METRIC_SFTP_ERRORS,
	METRIC_PEERS,
	METRIC_STARTUP_SECONDS,
	METRIC_FAMILIES
} MetricFamily;

/* A series: labels[i] is the value of the family's i-th label, a text that stays. */
typedef struct MetricSeries
{
	MetricFamily family;
	const char *labels[METRIC_LABELS];
	double value;
} MetricSeries;

/* Values of the family's labels, in order; as many as it has.  Any thread. */
void metric_add(MetricFamily family, double by, ...);
void metric_set(MetricFamily family, double value, ...);

/* Series without labels begin at 0. */
void metric_start(void);

/* Copies of all series that there are, in the order of families; how many. */
size_t metric_series(MetricSeries *series, size_t room);
#define METRIC_MAX_SERIES 64

const char *metric_name(MetricFamily family);
bool metric_is_gauge(MetricFamily family);
/* The name of its i-th label, NULL behind the last. */
const char *metric_label(MetricFamily family, size_t i);

/* All series as Prometheus' text; malloc'ed, NULL when out of memory. */
char *metric_text(size_t *size);

#endif
