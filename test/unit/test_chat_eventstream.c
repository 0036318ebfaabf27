/*
 * test_chat_eventstream.c -- AWS event streams, however they are cut, and what is none.
 *
 * SPDX-License-Identifier: MIT
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../gateway/chat/eventstream.c"

static char got[4096];

static void
on_event(void *arg, const char *name, const char *data, size_t len)
{
	size_t n = strlen(got);

	assert_ptr_equal(arg, got);
	assert_int_equal(strlen(data), len);
	snprintf(got + n, sizeof(got) - n, "<%s|%s>", name, data);
}

static void
put(unsigned char *at, size_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (unsigned char) (value >> (24 - 8 * i));
}

/* A header of text behind those of len bytes; the new length. */
static size_t
text_header(unsigned char *headers, size_t len, const char *name, const char *value)
{
	unsigned char *p = headers + len;
	size_t n = strlen(name);
	size_t v = strlen(value);

	*p++ = (unsigned char) n;
	memcpy(p, name, n);
	p += n;
	*p++ = 7;
	*p++ = (unsigned char) (v >> 8);
	*p++ = (unsigned char) v;
	memcpy(p, value, v);
	return len + n + v + 4;
}

static size_t
message(unsigned char *to, const unsigned char *headers, size_t headers_len, const char *payload)
{
	size_t total = PRELUDE + headers_len + strlen(payload) + CHECKSUM;

	put(to, total);
	put(to + 4, headers_len);
	put(to + 8, checksum(to, 8));
	memcpy(to + PRELUDE, headers, headers_len);
	memcpy(to + PRELUDE + headers_len, payload, strlen(payload));
	put(to + total - CHECKSUM, checksum(to, total - CHECKSUM));
	return total;
}

static size_t
simple(unsigned char *to, const char *type, const char *key, const char *value, const char *payload)
{
	unsigned char headers[256];
	size_t len = text_header(headers, 0, ":message-type", type);

	len = text_header(headers, len, key, value);
	return message(to, headers, len, payload);
}

/* In two pieces at each place, and byte by byte. */
static void
assert_events(const unsigned char *bytes, size_t len, bool stands, const char *events)
{
	for (size_t cut = 0; cut <= len + 1; cut++)
	{
		EventStream stream;
		bool ok = true;

		got[0] = '\0';
		eventstream_init(&stream, on_event, got);
		if (cut <= len)
			ok = eventstream_feed(&stream, (const char *) bytes, cut) && eventstream_feed(&stream, (const char *) bytes + cut, len - cut);
		for (size_t i = 0; cut > len && i < len; i++)
			ok &= eventstream_feed(&stream, (const char *) bytes + i, 1);
		assert_int_equal(ok, stands);
		assert_int_equal(stream.broken, !stands);
		assert_string_equal(got, events);
		/* what is broken stays so */
		if (!stands)
			assert_false(eventstream_feed(&stream, "x", 1));
		eventstream_free(&stream);
	}
}

/* The empty message, as the format's description has it. */
static void
test_known_bytes(void **state)
{
	static const unsigned char empty[] = {0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff};

	(void) state;
	assert_events(empty, sizeof(empty), true, "<|>");
}

static void
test_messages(void **state)
{
	unsigned char bytes[1024];
	size_t n = simple(bytes, "event", ":event-type", "chunk", "{\"bytes\":\"\"}");

	(void) state;
	assert_events(bytes, n, true, "<chunk|{\"bytes\":\"\"}>");
	n += simple(bytes + n, "exception", ":exception-type", "throttlingException", "{\"message\":\"slow\"}");
	n += simple(bytes + n, "error", ":error-code", "Bad", "");
	assert_events(bytes, n, true, "<chunk|{\"bytes\":\"\"}><!throttlingException|{\"message\":\"slow\"}><!Bad|>");
	/* what is not whole yet is nothing, and no error */
	assert_events(bytes, n - 1, true, "<chunk|{\"bytes\":\"\"}><!throttlingException|{\"message\":\"slow\"}>");
}

/* Headers of all types are passed over; a name that is too long is cut. */
static void
test_headers(void **state)
{
	static const size_t sizes[] = {0, 0, 1, 2, 4, 8, 0, 0, 8, 16};
	unsigned char headers[1024] = {0};
	unsigned char bytes[2048];
	char name[200];
	char wanted[300];
	size_t len = 0;

	(void) state;
	for (unsigned char type = 0; type < 10; type++)
	{
		if (type == 6 || type == 7)
			continue;
		headers[len++] = 1;
		headers[len++] = 'x';
		headers[len++] = type;
		len += sizes[type];
	}
	len = text_header(headers, len, ":event-type", "e");
	assert_events(bytes, message(bytes, headers, len, "p"), true, "<e|p>");
	/* a number where text should be counts for nothing */
	memcpy(headers, "\x0b:event-type\x00", 13);
	assert_events(bytes, message(bytes, headers, 13, "p"), true, "<|p>");
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(wanted, sizeof(wanted), "<%.63s|p>", name);
	assert_events(bytes, message(bytes, headers, text_header(headers, 0, ":event-type", name), "p"), true, wanted);
}

static void
test_broken(void **state)
{
	static const char *const bad[] = {"\x05nam", "\x01x\x0a", "\x01x\x07", "\x01x\x07\x00", "\x01x\x07\x00\x05" "abc", "\x01x\x09short", "\x00"};
	static const size_t sizes[] = {4, 3, 3, 4, 8, 8, 1};
	unsigned char bytes[1024];
	size_t n;

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		n = message(bytes, (const unsigned char *) bad[i], sizes[i], "p");
		assert_events(bytes, n, false, "");
	}
	for (size_t at = 0; at < 20; at++)
	{
		n = simple(bytes, "event", ":event-type", "e", "payload");
		bytes[at] ^= 1;
		got[0] = '\0';
		/* the size is in the first checksum, all else in the second */
		assert_events(bytes, n, false, "");
	}
	/* sizes beyond the limits, or of less than a message, with a good checksum */
	for (int i = 0; i < 4; i++)
	{
		static const size_t totals[] = {EVENTSTREAM_MAX_MESSAGE + 1, EVENTSTREAM_MAX_MESSAGE, 15, 40};
		static const size_t headers[] = {0, EVENTSTREAM_MAX_HEADERS + 1, 0, 25};

		put(bytes, totals[i]);
		put(bytes + 4, headers[i]);
		put(bytes + 8, checksum(bytes, 8));
		assert_events(bytes, PRELUDE, false, "");
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_bytes),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_broken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
