/*
 * listen.h -- NOTIFY from the database: routes that changed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_LISTEN_H
#define GATEWAY_LISTEN_H

#include "gateway.h"

/* Reads coder.routes into a new table; NULL after a message. */
struct GwRouteTable *gw_listen_read_routes(PGconn *pg);

/* The thread that listens, and gives each loop the new table. */
void gw_listen_start(void);
void gw_listen_stop(void);

#endif
