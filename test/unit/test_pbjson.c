/*
 * test_pbjson.c -- messages as JSON: golden bytes both ways, every truncation,
 * what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "wire/pbjson.c"

#include <cmocka.h> /* its fail() is not pbjson.c's */

#include "wire/proto/agent.pb-c.h"
#include "wire/proto/tailnet.pb-c.h"

typedef struct Golden
{
	const ProtobufCMessageDescriptor *type;
	const char *hex;
	const char *json;
} Golden;

static const Golden golden[] = {
	{&coder__agent__v2__lifecycle__descriptor, "0802120608 80cd80cf06",
	 "{\"state\":\"STARTING\",\"changed_at\":\"2026-04-16T00:00:00.000000000Z\"}"},
	{&coder__agent__v2__update_stats_response__descriptor, "0a02081e", "{\"report_interval\":30000000000}"},
	{&coder__tailnet__v2__coordinate_request__descriptor, "1200", "{\"disconnect\":{},\"ready_for_handshake\":[]}"},
	{&coder__tailnet__v2__coordinate_request__descriptor, "1a120a1000112233445566778899aabbccddeeff",
	 "{\"add_tunnel\":{\"id\":\"00112233445566778899aabbccddeeff\"},\"ready_for_handshake\":[]}"},
	{&coder__tailnet__v2__derpmap__descriptor, "0a00", "{\"home_params\":{\"region_score\":{}},\"regions\":{}}"},
	{&coder__tailnet__v2__derpmap__descriptor, "0a0d0a0b0807110000000000000040",
	 "{\"home_params\":{\"region_score\":{\"7\":2.0}},\"regions\":{}}"},
};

#define N_GOLDEN (sizeof(golden) / sizeof(golden[0]))

static size_t
from_hex(uint8_t *out, const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		if (*text != ' ')
		{
			unsigned value;

			assert_int_equal(sscanf(text, "%2x", &value), 1);
			out[n++] = (uint8_t) value;
			text++;
		}
	return n;
}

static void
test_golden(void **state)
{
	(void) state;
	for (size_t i = 0; i < N_GOLDEN; i++)
	{
		uint8_t bytes[256];
		char error[128] = "";
		size_t n = from_hex(bytes, golden[i].hex);
		size_t size = 0;
		json_t *want = json_loads(golden[i].json, 0, NULL);
		json_t *got = pbjson_decode(golden[i].type, bytes, n);
		uint8_t *again;
		char *text = json_dumps(got, JSON_COMPACT | JSON_SORT_KEYS);

		assert_non_null(want);
		if (!json_equal(want, got))
			fail_msg("%zu: %s", i, text);
		again = pbjson_encode(golden[i].type, want, &size, error, sizeof(error));
		assert_string_equal(error, "");
		assert_int_equal(size, n);
		assert_memory_equal(again, bytes, n);
		free(again);
		free(text);
		json_decref(want);
		json_decref(got);
	}
}

/* Whatever part of a message comes, nothing beyond it is read. */
static void
test_truncated(void **state)
{
	(void) state;
	for (size_t i = 0; i < N_GOLDEN; i++)
	{
		uint8_t bytes[256];
		size_t n = from_hex(bytes, golden[i].hex);

		for (size_t cut = 0; cut < n; cut++)
		{
			uint8_t *block = malloc(cut > 0 ? cut : 1);

			memcpy(block, bytes, cut);
			json_decref(pbjson_decode(golden[i].type, block, cut));
			free(block);
		}
	}
}

static void
refused(const ProtobufCMessageDescriptor *type, const char *json)
{
	char error[128] = "";
	size_t size;
	json_t *object = json_loads(json, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
	uint8_t *bytes = pbjson_encode(type, object, &size, error, sizeof(error));

	if (bytes != NULL)
		fail_msg("accepted: %s", json);
	assert_string_not_equal(error, "");
	json_decref(object);
}

static void
test_refused(void **state)
{
	const ProtobufCMessageDescriptor *request = &coder__tailnet__v2__coordinate_request__descriptor;
	const ProtobufCMessageDescriptor *lifecycle = &coder__agent__v2__lifecycle__descriptor;
	static const uint8_t latin1[] = {0x12, 0x02, 0xe4, 'x'};

	(void) state;
	refused(request, "[]");
	refused(request, "{\"add_tunnel\":7}");
	refused(request, "{\"add_tunnel\":{\"id\":\"0g\"}}");
	refused(request, "{\"add_tunnel\":{\"id\":\"abc\"}}");
	refused(request, "{\"ready_for_handshake\":{}}");
	refused(lifecycle, "{\"state\":\"NO SUCH\"}");
	refused(lifecycle, "{\"changed_at\":\"yesterday\"}");
	/* Text that is not UTF-8 is no JSON. */
	assert_null(pbjson_decode(&coder__tailnet__v2__coordinate_response__descriptor, latin1, sizeof(latin1)));
}

/* A UUID may have its dashes; what the message does not have is skipped; null is unset. */
static void
test_lenient(void **state)
{
	json_t *object = json_loads("{\"add_tunnel\":{\"id\":\"00112233-4455-6677-8899-aabbccddeeff\"},"
								"\"update_self\":null,\"unknown\":[1]}", 0, NULL);
	uint8_t want[64];
	size_t n = from_hex(want, golden[3].hex);
	char error[128] = "";
	size_t size = 0;
	uint8_t *bytes = pbjson_encode(golden[3].type, object, &size, error, sizeof(error));

	(void) state;
	assert_string_equal(error, "");
	assert_int_equal(size, n);
	assert_memory_equal(bytes, want, n);
	free(bytes);
	json_decref(object);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_truncated),
									   cmocka_unit_test(test_refused), cmocka_unit_test(test_lenient)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
