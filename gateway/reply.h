/*
 * reply.h -- answers: headers that every one carries, the error envelope.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_REPLY_H
#define GATEWAY_REPLY_H

#include "gateway.h"

/* The headers of every answer; once per request, first thing. */
void gw_reply_begin(h2o_req_t *req);

/* {"message": ..., "detail": ...}; detail may be NULL. */
void gw_reply_error(h2o_req_t *req, int status, const char *message, const char *detail);

/* The envelope with a ready-made validations array (JSON text) or NULL. */
void gw_reply_envelope(h2o_req_t *req, int status, const char *message, const char *detail,
					   const char *validations);

/* A plain body; type NULL: no Content-Type.  body must live as long as the pool. */
void gw_reply_body(h2o_req_t *req, int status, const char *type, const char *body, size_t len);

/* A server's error as an answer: class ZC by its number, others by kind.  Does not clear. */
void gw_reply_pg_error(h2o_req_t *req, const PGresult *result);

const char *gw_reason(int status);

/* JSON string literal of text (with quotes) from the request's pool. */
h2o_iovec_t gw_json_string(h2o_mem_pool_t *pool, const char *text, size_t len);

#endif
