/* SPDX-License-Identifier: MIT */
/*
 * metrictext.h
 *	  Prometheus' text format (metrictext.c).
 */
#ifndef CODER_METRICTEXT_H
#define CODER_METRICTEXT_H

#include "lib/stringinfo.h"

/* What is longer than this of a label's value is cut off, between two characters. */
#define METRIC_MAX_LABEL 512

#define METRIC_MAX_BOUNDS 24

/* A histogram's observations so far; negative ones and NaN are none. */
typedef struct MetricHistogram
{
	int64		counts[METRIC_MAX_BOUNDS + 1];
	int64		total;
	double		sum;
} MetricHistogram;

typedef struct MetricBounds
{
	int			n;
	const double *values;		/* rising; +Inf is not one of them */
} MetricBounds;

/* "# HELP" and "# TYPE"; type: gauge, counter or histogram. */
extern void metric_head(StringInfo out, const char *name, const char *type, const char *help);
/* Bytes of a label's value: escaped, cut off where it is too long. */
extern bool metric_label_is_plain(const char *text, size_t len); /* is it as it is? */
extern void metric_label(StringInfo out, const char *text, size_t len);
extern void metric_double(StringInfo out, double value);
/* A line up to its value; labels: without braces, may be empty; le: the border of a bucket, or NULL. */
extern void metric_series(StringInfo out, const char *name, const char *suffix, const char *labels, int len, const double *le);
extern void metric_observe(MetricHistogram *histogram, const MetricBounds *bounds, double value);
/* The lines of a histogram. */
extern void metric_histogram(StringInfo out, const char *name, const char *labels, int len, const MetricHistogram *histogram,
							 const MetricBounds *bounds);

#endif							/* CODER_METRICTEXT_H */
