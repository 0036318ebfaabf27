/*
 * accept.h -- listening sockets, connections per address, slow clients.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_ACCEPT_H
#define GATEWAY_ACCEPT_H

#include "gateway.h"

/* Binds "host:port"; -1 after a message. */
int gw_accept_bind(const char *address);
bool gw_accept_listen(int fd);

/* The loop takes connections of fd (which is duplicated); ctx: one of the loop's, by what they may ask for. */
void gw_accept_start(GwLoop *loop, int fd, h2o_accept_ctx_t *ctx);
void gw_accept_stop(GwLoop *loop);

/* Once a second: connections that are idle, or slower than they may be, end. */
void gw_accept_sweep(GwLoop *loop);

#endif
