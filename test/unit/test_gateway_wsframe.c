/*
 * test_gateway_wsframe.c -- WebSocket frames: known bytes, every truncation, what must be refused.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../gateway/wsframe.c"

/* RFC 6455, section 5.7: "Hello", masked, whole and in two fragments with a ping between. */
static const uint8_t hello[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
static const uint8_t pieces[] = {0x01, 0x83, 0, 0, 0, 0, 'H', 'e', 'l',	 0x89, 0x84, 0, 0,
								 0,	   0,	 'p', 'i', 'n', 'g', 0x80, 0x82, 0, 0, 0, 0, 'l', 'o'};

static WsEvent
read_exact(WsReader *reader, const uint8_t *bytes, size_t len, size_t *used, uint8_t **block)
{
	*block = malloc(len > 0 ? len : 1);
	memcpy(*block, bytes, len);
	return ws_read(reader, *block, len, used);
}

static void
test_whole(void **state)
{
	WsReader reader = {.max_message = 100};
	uint8_t *block;
	size_t used;

	(void) state;
	assert_int_equal(read_exact(&reader, hello, sizeof(hello), &used, &block), WS_MESSAGE);
	assert_int_equal(used, sizeof(hello));
	assert_int_equal(reader.opcode, WS_TEXT);
	assert_int_equal(reader.len, 5);
	assert_memory_equal(reader.data, "Hello", 5);
	free(block);
}

static void
test_truncated(void **state)
{
	(void) state;
	for (size_t n = 0; n < sizeof(hello); n++)
	{
		WsReader reader = {.max_message = 100};
		uint8_t *block;
		size_t used;

		assert_int_equal(read_exact(&reader, hello, n, &used, &block), WS_NEED_MORE);
		assert_int_equal(used, 0);
		free(block);
	}
}

static void
test_fragments(void **state)
{
	WsReader reader = {.max_message = 100};
	uint8_t bytes[sizeof(pieces)];
	size_t at = 0;
	size_t used;

	(void) state;
	memcpy(bytes, pieces, sizeof(pieces));
	assert_int_equal(ws_read(&reader, bytes, sizeof(bytes), &used), WS_CONTROL);
	assert_int_equal(reader.opcode, WS_PING);
	assert_memory_equal(reader.data, "ping", 4);
	at += used;
	assert_int_equal(ws_read(&reader, bytes + at, sizeof(bytes) - at, &used), WS_MESSAGE);
	assert_int_equal(at + used, sizeof(bytes));
	assert_int_equal(reader.opcode, WS_TEXT);
	assert_int_equal(reader.len, 5);
	assert_memory_equal(reader.data, "Hello", 5);
	ws_reader_free(&reader);
}

static void
refuse(int code, const uint8_t *bytes, size_t len)
{
	WsReader reader = {.max_message = 100};
	uint8_t *block;
	size_t used;

	assert_int_equal(read_exact(&reader, bytes, len, &used, &block), WS_ERROR);
	assert_int_equal(reader.code, code);
	free(block);
	ws_reader_free(&reader);
}

#define REFUSE(code, ...) \
	do \
	{ \
		const uint8_t bytes_[] = {__VA_ARGS__}; \
		refuse(code, bytes_, sizeof(bytes_)); \
	} while (0)

static void
test_refused(void **state)
{
	(void) state;
	REFUSE(1002, 0x81, 0x05);							   /* no mask */
	REFUSE(1002, 0xc1, 0x80);							   /* a reserved bit */
	REFUSE(1002, 0x83, 0x80);							   /* unknown opcodes */
	REFUSE(1002, 0x8b, 0x80);
	REFUSE(1002, 0x09, 0x80);							   /* a fragmented ping */
	REFUSE(1002, 0x89, 0xfe);							   /* a long ping */
	REFUSE(1002, 0x80, 0x80, 0, 0, 0, 0);				   /* a continuation of nothing */
	REFUSE(1002, 0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0); /* a message within a message */
	REFUSE(1009, 0x82, 0xe5, 0, 0, 0, 0);				   /* 101 bytes of at most 100 */
	REFUSE(1009, 0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);
	REFUSE(1002, 0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);
	REFUSE(1007, 0x81, 0x82, 0, 0, 0, 0, 0xc0, 0x80);	   /* not UTF-8 */
}

static void
test_headers(void **state)
{
	uint8_t h[WS_MAX_HEADER];

	(void) state;
	assert_int_equal(ws_put_header(h, WS_TEXT, 125), 2);
	assert_int_equal(h[0], 0x81);
	assert_int_equal(ws_put_header(h, WS_BINARY, 126), 4);
	assert_int_equal(h[1], 126);
	assert_int_equal(h[3], 126);
	assert_int_equal(ws_put_header(h, WS_BINARY, 65536), 10);
	assert_int_equal(h[7], 1);
}

static void
test_utf8(void **state)
{
	(void) state;
	assert_true(ws_is_utf8((const uint8_t *) "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
	assert_false(ws_is_utf8((const uint8_t *) "\xe2\x82", 2));
	assert_false(ws_is_utf8((const uint8_t *) "\xed\xa0\x80", 3));
	assert_false(ws_is_utf8((const uint8_t *) "\xf4\x90\x80\x80", 4));
	assert_false(ws_is_utf8((const uint8_t *) "\xe0\x80\x80", 3));
	assert_false(ws_is_utf8((const uint8_t *) "\x80", 1));
	assert_true(ws_close_code_ok(1000));
	assert_false(ws_close_code_ok(1005));
	assert_false(ws_close_code_ok(2999));
	assert_true(ws_close_code_ok(4000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),	cmocka_unit_test(test_truncated), cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_headers),	  cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests_name("gateway wsframe", tests, NULL, NULL);
}
