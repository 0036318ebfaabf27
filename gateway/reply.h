/*
 * reply.h -- answers: bodies, the error envelope, an error of the server as an answer.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_REPLY_H
#define GATEWAY_REPLY_H

#include "gateway.h"

/* {"message": ..., "detail": ...}; detail may be NULL. */
void gw_reply_error(h2o_req_t *req, int status, const char *message, const char *detail);

/* The envelope with a ready-made validations array (JSON text) or NULL. */
void gw_reply_envelope(h2o_req_t *req, int status, const char *message, const char *detail,
					   const char *validations);

/* A body that lives as long as the pool; type NULL: no Content-Type.  Sends none for HEAD. */
void gw_reply_body(h2o_req_t *req, int status, const char *type, const char *body, size_t len);

/* An empty answer. */
void gw_reply_empty(h2o_req_t *req, int status);

/* A server's error as an answer: class ZC by its number, others by kind.  Does not clear. */
void gw_reply_pg_error(h2o_req_t *req, const PGresult *result);

/* The same for code and texts; the parts of gw_reply_pg_error() that a unit test can reach. */
typedef struct GwError
{
	int status;
	const char *message;
	const char *detail;
	const char *validations;
} GwError;

void gw_error_of_sqlstate(GwError *error, const char *sqlstate, const char *message, const char *detail,
						  const char *hint);

const char *gw_reason(int status);

/* A response header; name in lower case. */
void gw_add_header(h2o_req_t *req, const char *name, const char *value, size_t len);

/* JSON string literal of text (with quotes) from the pool. */
h2o_iovec_t gw_json_string(h2o_mem_pool_t *pool, const char *text, size_t len);

#endif
