/*
 * probe.h -- requests of the schemes derp, derps and stun: does a relay pass messages on, does a server tell addresses?
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OUTBOUND_PROBE_H
#define GATEWAY_OUTBOUND_PROBE_H

#include "plan.h"

/* Runs on a thread of the probe's own, when its answer is in the request. */
typedef void (*ProbeDone)(void *arg);

/* False where no thread could be had, or too many run: then there is no callback. */
bool gw_probe_start(OutboundRequest *request, const char *ca_file, ProbeDone done, void *arg);

/* Ends all, and waits until every callback has been. */
void gw_probe_stop(void);

#endif
