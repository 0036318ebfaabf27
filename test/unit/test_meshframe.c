/*
 * test_meshframe.c -- frames between gateways: what is written is read, and what is none is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "stream/meshframe.c"

static const uint8_t key[32] = {1, 2, 3};
static const uint8_t other[32] = {4, 5, 6};

static void
test_round(void **state)
{
	uint8_t out[256];
	MeshFrame frame;
	size_t n = mesh_put(out, MESH_PACKET, key, 32, other, 32, "data", 4);

	(void) state;
	assert_int_equal(n, MESH_HEADER + 68);
	assert_int_equal(mesh_get(&frame, out, n), n);
	assert_int_equal(frame.type, MESH_PACKET);
	assert_memory_equal(frame.id, key, 32);
	assert_memory_equal(frame.data, other, 32);
	assert_int_equal(frame.size, 36);
	assert_memory_equal(frame.data + 32, "data", 4);

	n = mesh_put(out, MESH_REQUEST, key, 16, NULL, 0, "r", 1);
	assert_int_equal(mesh_get(&frame, out, n), n);
	assert_memory_equal(frame.id, key, 16);
	assert_int_equal(frame.size, 1);
	assert_int_equal(frame.data[0], 'r');
}

static void
test_none(void **state)
{
	static const size_t sizes[][2] = {{MESH_JOIN, 15}, {MESH_JOIN, 17}, {MESH_REQUEST, 15}, {MESH_LEAVE, 16},
									  {MESH_LEAVE, 18}, {MESH_KEY, 31}, {MESH_NO_KEY, 33}, {MESH_PACKET, 64}};
	uint8_t out[256];
	uint8_t data[128] = {0};
	MeshFrame frame;
	size_t n = mesh_put(out, MESH_KEY, key, 32, NULL, 0, NULL, 0);

	(void) state;
	for (size_t i = 0; i < n; i++)
		assert_int_equal(mesh_get(&frame, out, i), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		n = mesh_put(out, (MeshType) sizes[i][0], data, sizes[i][1], NULL, 0, NULL, 0);
		assert_int_equal(mesh_get(&frame, out, n), 0);
	}
	memcpy(out, "\x06\xff\xff\xff\xff", 5);
	assert_int_equal(mesh_get(&frame, out, sizeof(out)), 0);
}

/* A later version may say more. */
static void
test_unknown(void **state)
{
	uint8_t out[64];
	MeshFrame frame;
	size_t n = mesh_put(out, (MeshType) 99, key, 10, NULL, 0, NULL, 0);

	(void) state;
	assert_int_equal(mesh_get(&frame, out, n), n);
	assert_int_equal(frame.type, 0);
	n = mesh_put(out, (MeshType) 0, NULL, 0, NULL, 0, NULL, 0);
	assert_int_equal(mesh_get(&frame, out, n), n);
	assert_int_equal(frame.type, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_round), cmocka_unit_test(test_none), cmocka_unit_test(test_unknown)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
