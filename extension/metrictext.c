/* SPDX-License-Identifier: MIT */
/*
 * metrictext.c
 *	  Prometheus' text format: see metrictext.h.
 */
#include "postgres.h"

#include <math.h>

#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"

#include "metrictext.h"

/* Backslash, newline and, in a label, the double quote are escaped. */
static void
append_escaped(StringInfo out, const char *text, size_t len, bool label)
{
	size_t		from = 0;

	for (size_t i = 0; i < len; i++)
	{
		if (text[i] != '\\' && text[i] != '\n' && !(label && text[i] == '"'))
			continue;
		appendBinaryStringInfo(out, text + from, (int) (i - from));
		appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, text[i] == '\n' ? 'n' : text[i]);
		from = i + 1;
	}
	appendBinaryStringInfo(out, text + from, (int) (len - from));
}

void
metric_head(StringInfo out, const char *name, const char *type, const char *help)
{
	appendStringInfo(out, "# HELP %s ", name);
	append_escaped(out, help, strlen(help), false);
	appendStringInfo(out, "\n# TYPE %s %s\n", name, type);
}

bool
metric_label_is_plain(const char *text, size_t len)
{
	if (len > METRIC_MAX_LABEL)
		return false;
	for (size_t i = 0; i < len; i++)
		if (text[i] == '\\' || text[i] == '\n' || text[i] == '"')
			return false;
	return true;
}

void
metric_label(StringInfo out, const char *text, size_t len)
{
	if (len > METRIC_MAX_LABEL)
		len = (size_t) pg_mbcliplen(text, (int) len, METRIC_MAX_LABEL);
	append_escaped(out, text, len, true);
}

void
metric_double(StringInfo out, double value)
{
	if (isnan(value))
		appendStringInfoString(out, "NaN");
	else if (isinf(value))
		appendStringInfoString(out, value > 0 ? "+Inf" : "-Inf");
	else
	{
		char		text[64];
		int			n = double_to_shortest_decimal_buf(value, text);

		appendBinaryStringInfo(out, text, n);
	}
}

void
metric_series(StringInfo out, const char *name, const char *suffix, const char *labels, int len, const double *le)
{
	appendStringInfoString(out, name);
	appendStringInfoString(out, suffix);
	if (len > 0 || le != NULL)
	{
		appendStringInfoChar(out, '{');
		appendBinaryStringInfo(out, labels, len);
		if (le != NULL)
		{
			appendStringInfoString(out, len > 0 ? ",le=\"" : "le=\"");
			metric_double(out, *le);
			appendStringInfoChar(out, '"');
		}
		appendStringInfoChar(out, '}');
	}
	appendStringInfoChar(out, ' ');
}

void
metric_observe(MetricHistogram *histogram, const MetricBounds *bounds, double value)
{
	int			b = 0;

	/* A clock that went back has measured nothing. */
	if (isnan(value) || value < 0)
		return;
	while (b < bounds->n && value > bounds->values[b])
		b++;
	histogram->counts[b]++;
	histogram->total++;
	histogram->sum += value;
}

void
metric_histogram(StringInfo out, const char *name, const char *labels, int len, const MetricHistogram *histogram,
				 const MetricBounds *bounds)
{
	const double all = INFINITY;
	int64		total = 0;

	for (int b = 0; b <= bounds->n; b++)
	{
		total += histogram->counts[b];
		metric_series(out, name, "_bucket", labels, len, b < bounds->n ? &bounds->values[b] : &all);
		appendStringInfo(out, INT64_FORMAT "\n", total);
	}
	metric_series(out, name, "_sum", labels, len, NULL);
	metric_double(out, histogram->sum);
	appendStringInfoChar(out, '\n');
	metric_series(out, name, "_count", labels, len, NULL);
	appendStringInfo(out, INT64_FORMAT "\n", histogram->total);
}
