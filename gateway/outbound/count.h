/*
 * count.h -- requests to identity and git providers: how many by provider, purpose and answer, and their rate limits.
 *
 * No I/O but the lines that are printed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OUTBOUND_COUNT_H
#define GATEWAY_OUTBOUND_COUNT_H

#include <stdint.h>
#include <stdio.h>

#include "plan.h"

/* One that has ended, where its plan names it.  Any thread. */
void outbound_count(const OutboundRequest *request);

/* The families in Prometheus' text format; now: of the clock, in seconds. */
void outbound_count_print(FILE *out, int64_t now);

#endif
