/*
 * report.h -- reports of boundaries, sent to the database together.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_STREAM_REPORT_H
#define GATEWAY_STREAM_REPORT_H

#include "../db.h"

typedef struct GwReport GwReport;

/*
 * Once, unless detached.  status OK: it is committed (who: its agent, borrowed),
 * or refused with the reason; another status: as of a query.
 */
typedef void (*GwReportDone)(void *arg, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal);

/* request: JSON of a ReportBoundaryLogsRequest, copied.  NULL when out of memory.  Never calls back before it returns. */
GwReport *gw_report_send(GwLoop *loop, const char *agent, const char *request, GwReportDone done, void *arg);

/* The caller is gone: no callback.  What was not sent is dropped. */
void gw_report_detach(GwReport *report);

#endif
