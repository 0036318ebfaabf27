/*
 * metrics.h -- lines in Prometheus' text format, for those who count in this process.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* HELP and TYPE of a family. */
void gw_metrics_head(FILE *out, const char *name, const char *type, const char *help);
/* Lines of a histogram: n[] is of each bucket alone, n[n_limits] of what is above; labels without braces, may be "". */
void gw_metrics_histogram(FILE *out, const char *name, const char *labels, const double *limits, size_t n_limits,
						  const unsigned long long *n, double sum);

/* metrics.c: sums over routes and threads since the start; errors: answers of 500 and above. */
typedef struct GwMetricsTotals
{
	unsigned long long requests, errors;
	long long websockets; /* open now */
} GwMetricsTotals;

void gw_metrics_totals(GwMetricsTotals *totals);

/* report.c: what this process tells the database of itself, as JSON; to be freed, NULL when out of memory. */
char *gw_report_stats(void);

unsigned long gw_metrics_resident(void); /* bytes of memory */

/* gauges.c: the process, its statements, events, relay and tunnels. */
void gw_metrics_gauges(FILE *out);
void gw_metrics_collected(uint64_t us); /* so long did the database take to collect its metrics */
void gw_metrics_scraped(int code);

/* latency.c: from an event's sending to its arrival, measured anew by each scrape. */
typedef struct GwLatencyStats
{
	uint64_t measures, errors;
	double send_seconds, receive_seconds; /* of the last that arrived */
} GwLatencyStats;

void gw_latency_start(void); /* any thread; returns at once */
void gw_latency_stats(GwLatencyStats *stats);

#endif
