/*
 * request.h -- a request as SQL sees it, and its query string.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_REQUEST_H
#define CODER_REQUEST_H

#include "access/tupdesc.h"

#include "coder.h"

/* The request being served, for what is not in coder.request's reach (audit); NULL outside. */
extern const CoderRequest *coder_current_request;

/* coder.request of a request. */
extern Datum coder_request_datum(const CoderRequest *request, TupleDesc desc, bool raw_body);

/* The value of a header, by its lower-case name, or NULL; also without a request. */
extern text *coder_request_header(const CoderRequest *request, const char *name);

/* Values of n query parameters, decoded, NULL where there is none; how many others or repeated ones there are. */
extern int coder_request_query(const CoderRequest *request, const char *const *names, char **values, int n);

#endif
