/*
 * rate.h -- requests a minute of each user, or address, on a path.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_RATE_H
#define GATEWAY_RATE_H

#include "request.h"
#include "route.h"

/* The thread that tells other gateways, by the database, what was counted here. */
void gw_rate_start(void);
void gw_rate_stop(void);

/* The token, as request->unknown_token has it, is somebody's: it counts for itself from now on. */
void gw_rate_known(uint64_t token);

#endif
