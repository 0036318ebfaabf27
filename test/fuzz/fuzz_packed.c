/*
 * fuzz_packed.c -- any bytes as a packed request: what is read lies inside
 *
 * SPDX-License-Identifier: MIT
 */
#include "packed.h"

#include <stdlib.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const PackedSlice *slice, const char *bytes, size_t size)
{
	if (slice->bytes != NULL &&
		(slice->bytes < bytes || slice->len < 0 || slice->bytes + slice->len > bytes + size))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *) data;
	PackedRequest request;

	if (!packed_read(bytes, size, &request))
		return 0;
	for (int i = 0; i < PACKED_FIELDS; i++)
		check(&request.fields[i], bytes, size);
	for (int i = 0; i < request.nparams; i++)
		check(&request.params[i], bytes, size);
	return 0;
}
