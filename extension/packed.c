/*
 * packed.c -- a request out of one byte string; no memory, no errors but false.
 *
 * SPDX-License-Identifier: MIT
 */
#include "packed.h"

static bool
read_int(const char **p, const char *end, int32_t *value)
{
	const unsigned char *b = (const unsigned char *) *p;

	if (end - *p < 4)
		return false;
	*value =
		(int32_t) ((uint32_t) b[0] << 24 | (uint32_t) b[1] << 16 | (uint32_t) b[2] << 8 | b[3]);
	*p += 4;
	return true;
}

static bool
read_slice(const char **p, const char *end, PackedSlice *slice)
{
	if (!read_int(p, end, &slice->len) || slice->len < -1 || slice->len > end - *p)
		return false;
	slice->bytes = slice->len < 0 ? NULL : *p;
	if (slice->len < 0)
		slice->len = 0;
	*p += slice->len;
	return true;
}

static bool
read_params(PackedRequest *request)
{
	const PackedSlice *all = &request->fields[PACKED_PARAMS];
	const char *p = all->bytes;
	const char *end = p + all->len;

	while (p < end)
	{
		if (request->nparams == PACKED_MAX_PARAMS ||
			!read_slice(&p, end, &request->params[request->nparams]) ||
			request->params[request->nparams].bytes == NULL)
			return false;
		request->nparams++;
	}
	return true;
}

bool
packed_read(const char *bytes, size_t len, PackedRequest *request)
{
	const char *p = bytes;
	const char *end = bytes + len;
	const PackedSlice *id;

	request->nparams = 0;
	if (!read_int(&p, end, &request->route))
		return false;
	for (int i = 0; i < PACKED_FIELDS; i++)
		if (!read_slice(&p, end, &request->fields[i]))
			return false;
	if (p != end || request->fields[PACKED_PARAMS].bytes == NULL)
		return false;
	id = &request->fields[PACKED_REQUEST_ID];
	return (id->bytes == NULL || id->len == 16) && read_params(request);
}
