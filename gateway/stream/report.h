/*
 * report.h -- messages of agents that are sent to the database together.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_STREAM_REPORT_H
#define GATEWAY_STREAM_REPORT_H

#include "../db.h"

typedef struct GwReport GwReport;

typedef enum GwReportKind
{
	GW_REPORT_BOUNDARY,			/* ReportBoundaryLogsRequest; who: its agent */
	GW_REPORT_SAMPLE,			/* UpdateStatsRequest; who: the response */
	GW_REPORT_LIFE,				/* a sign of life, gw_report_life */
	GW_REPORT_KINDS
} GwReportKind;

/*
 * Once, unless detached.  status OK: it is committed (who: borrowed), or refused
 * with the reason; another status: as of a query.
 */
typedef void (*GwReportDone)(void *arg, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal);

/* request: JSON of the kind's message, copied.  NULL when out of memory.  Never calls back before it returns. */
GwReport *gw_report_send(GwLoop *loop, GwReportKind kind, const char *agent, const char *request, GwReportDone done, void *arg);

/* An agent's connection is up, its agent answers, or it is gone (left out where the agent is here again by then). */
typedef enum GwLife
{
	GW_LIFE_HERE,
	GW_LIFE_BEAT,
	GW_LIFE_GONE
} GwLife;

/* A report of kind GW_REPORT_LIFE; who: {"over": true}, {"again": true} or {}, as of coder.agents_life(). */
GwReport *gw_report_life(GwLoop *loop, GwLife life, const char *agent, GwReportDone done, void *arg);

/* The caller is gone: no callback.  What was not sent is dropped. */
void gw_report_detach(GwReport *report);

#endif
