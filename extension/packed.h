/*
 * packed.h -- a request as one byte string.
 *
 *	i32 route, then method, path, params, query, headers, body, token, remote,
 *	request_id, cursor: i32 size (-1: NULL) and the bytes; params holds its
 *	values in that same form.  All in network byte order.
 *
 * One parameter in place of eleven: the server looks up and calls an input
 * function for each, which costs more than the answer of a short request.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_PACKED_H
#define CODER_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKED_MAX_PARAMS 16

typedef enum PackedField
{
	PACKED_METHOD,
	PACKED_PATH,
	PACKED_PARAMS,
	PACKED_QUERY,
	PACKED_HEADERS,
	PACKED_BODY,
	PACKED_TOKEN,
	PACKED_REMOTE,
	PACKED_REQUEST_ID,
	PACKED_CURSOR,
	PACKED_FIELDS
} PackedField;

typedef struct PackedSlice
{
	const char *bytes; /* NULL: NULL */
	int32_t len;
} PackedSlice;

typedef struct PackedRequest
{
	int32_t route;
	PackedSlice fields[PACKED_FIELDS];
	int nparams;
	PackedSlice params[PACKED_MAX_PARAMS];
} PackedRequest;

/* False where the bytes are not a request, to the last of them.  The slices point into the bytes.
 */
extern bool packed_read(const char *bytes, size_t len, PackedRequest *request);

#endif
