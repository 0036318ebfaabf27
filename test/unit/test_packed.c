/*
 * test_packed.c -- a request as one byte string: every truncation, sizes that lie, too many
 * parameters
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "packed.h"

static size_t
put(char *dst, size_t at, const char *bytes, int32_t len)
{
	uint32_t n = (uint32_t) len;

	for (int i = 0; i < 4; i++)
		dst[at + (size_t) i] = (char) (n >> (24 - 8 * i));
	if (len > 0)
		memcpy(dst + at + 4, bytes, (size_t) len);
	return at + 4 + (size_t) (len > 0 ? len : 0);
}

/* A request with that many parameters "abc" and an id of that size. */
static size_t
make(char *dst, int nparams, int id_len)
{
	char params[400];
	size_t n = 0;
	size_t at = put(dst, 0, NULL, 0);

	dst[3] = 42; /* the route: what put() took for a size */
	for (int i = 0; i < nparams; i++)
		n = put(params, n, "abc", 3);
	at = put(dst, at, "GET", 3);
	at = put(dst, at, "/x", 2);
	at = put(dst, at, params, (int32_t) n);
	at = put(dst, at, "", 0);
	at = put(dst, at, "a: b\n", 5);
	at = put(dst, at, NULL, -1);
	at = put(dst, at, "token", 5);
	at = put(dst, at, "::1", 3);
	at = put(dst, at, "0123456789abcdef", id_len);
	return put(dst, at, NULL, -1);
}

/* In memory of exactly its size, so that a read beyond it is seen. */
static int
reads(const char *bytes, size_t len, PackedRequest *request)
{
	char *copy = malloc(len > 0 ? len : 1);
	int ok;

	memcpy(copy, bytes, len);
	ok = packed_read(copy, len, request);
	free(copy);
	return ok;
}

static void
test_fields(void **state)
{
	char buf[1024];
	size_t len = make(buf, 2, 16);
	PackedRequest request;

	(void) state;
	assert_true(packed_read(buf, len, &request));
	assert_int_equal(request.route, 42);
	assert_int_equal(request.nparams, 2);
	assert_memory_equal(request.params[1].bytes, "abc", 3);
	assert_memory_equal(request.fields[PACKED_TOKEN].bytes, "token", 5);
	assert_int_equal(request.fields[PACKED_QUERY].len, 0);
	assert_non_null(request.fields[PACKED_QUERY].bytes);
	assert_null(request.fields[PACKED_BODY].bytes);
	assert_null(request.fields[PACKED_CURSOR].bytes);
}

static void
test_truncations(void **state)
{
	char buf[1024];
	size_t len = make(buf, 3, 16);
	PackedRequest request;

	(void) state;
	for (size_t i = 0; i < len; i++)
		assert_false(reads(buf, i, &request));
	buf[len] = 0;
	assert_false(reads(buf, len + 1, &request)); /* nor may anything follow */
}

static void
test_limits(void **state)
{
	char buf[1024];
	PackedRequest request;

	(void) state;
	assert_true(reads(buf, make(buf, PACKED_MAX_PARAMS, -1), &request));
	assert_false(reads(buf, make(buf, PACKED_MAX_PARAMS + 1, -1), &request));
	assert_false(reads(buf, make(buf, 1, 15), &request));
}

/* A size that is negative, or larger than what is there. */
static void
test_sizes(void **state)
{
	static const int32_t sizes[] = {-2, INT32_MIN, INT32_MAX, 1000};
	PackedRequest request;

	(void) state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		char buf[1024];
		size_t len = make(buf, 1, 16);

		for (int j = 0; j < 4; j++)
			buf[4 + j] = (char) ((uint32_t) sizes[i] >> (24 - 8 * j));
		assert_false(reads(buf, len, &request));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields),
									   cmocka_unit_test(test_truncations),
									   cmocka_unit_test(test_limits),
									   cmocka_unit_test(test_sizes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
