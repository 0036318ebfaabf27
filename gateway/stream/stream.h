/*
 * stream.h -- the long-lived connections behind stream routes and DERP.
 *
 * A stream route's function has answered 101 with a plan (docs/ARCHITECTURE.md,
 * section 3).  Each opener takes over the request: it upgrades it, or answers
 * it with an error.  It runs on the request's loop, within the call that
 * completed the database answer; plan is borrowed for the time of the call.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_STREAM_H
#define GATEWAY_STREAM_H

#include "../gateway.h"

/* Formats "rpc", "pty", "app", "ports", "parameters", "echo", "coordinator", "mesh".  Weak: a missing one answers 501. */
void gw_stream_rpc(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_pty(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_app(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_ports(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_parameters(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_echo(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_coordinator(h2o_req_t *req, json_t *plan) __attribute__((weak));
void gw_stream_mesh(h2o_req_t *req, json_t *plan) __attribute__((weak));

/* GET /derp: both the raw upgrade (Upgrade: DERP) and WebSocket with protocol "derp". */
void gw_derp_open(h2o_req_t *req) __attribute__((weak));

/* Once per process before, and after, the loops run.  The tunnel thread lives between. */
void gw_stream_start(void) __attribute__((weak));
void gw_stream_stop(void) __attribute__((weak));

#endif
