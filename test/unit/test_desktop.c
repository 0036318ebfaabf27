/*
 * test_desktop.c -- the desktop: keys by name, actions as steps, RFB from any server, pictures.
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

#include "../../agent/serve/deskaction.c"
#include "../../agent/serve/screen.c"

/* Keys ---------------------------------------------------------------------------- */

static uint32_t
named(const char *name)
{
	return keysym_of_name(name, strlen(name));
}

static void
keys(void **state)
{
	uint32_t chord[KEYSYM_MAX_CHORD];

	(void) state;
	assert_int_equal(named("Return"), 0xff0d);
	assert_int_equal(named("a"), 'a');
	assert_int_equal(named("A"), 'A');
	assert_int_equal(named("F5"), 0xffc2);
	assert_int_equal(named("f"), 'f');
	assert_int_equal(named("F99"), 0);
	assert_int_equal(named("KP_7"), 0xffb7);
	assert_int_equal(named("é"), 0xe9);
	assert_int_equal(named("€"), 0x010020ac);
	assert_int_equal(named("U20AC"), 0x010020ac);
	assert_int_equal(named("0xff1b"), 0xff1b);
	assert_int_equal(named("NoSuchKey"), 0);
	assert_int_equal(named("U110000"), 0);
	assert_int_equal(named("\xc3"), 0);
	assert_int_equal(keysym_of_char(0xd800), 0);
	assert_int_equal(keysym_of_char(7), 0);
	assert_int_equal(keysym_chord("ctrl+shift+T", 12, chord), 3);
	assert_int_equal(chord[0], 0xffe3);
	assert_int_equal(chord[2], 'T');
	assert_int_equal(keysym_chord("ctrl++", 6, chord), 2);
	assert_int_equal(chord[1], '+');
	assert_int_equal(keysym_chord("+", 1, chord), 1);
	assert_int_equal(keysym_chord("ctrl+", 5, chord), 0);
	assert_int_equal(keysym_chord("a+b+c+d+e+f+g+h+i", 17, chord), 0);
	assert_int_equal(keysym_chord("", 0, chord), 0);
}

static void
utf8(void **state)
{
	static const char *const bad[] = {"\xc0\x80", "\xe2\x82", "\x80", "\xf8\x88\x80\x80\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80"};
	uint32_t c;

	(void) state;
	assert_int_equal(keysym_utf8("\xf0\x9f\x98\x80", 4, &c), 4);
	assert_int_equal(c, 0x1f600);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(keysym_utf8(bad[i], strlen(bad[i]), &c), 0);
}

/* Actions -------------------------------------------------------------------------- */

static DeskAction
parsed(const char *text)
{
	json_t *body = json_loads(text, 0, NULL);
	DeskAction action;
	char error[256] = "";

	assert_non_null(body);
	if (!deskaction_parse(&action, body, error, sizeof(error)))
		fail_msg("%s: %s", text, error);
	json_decref(body);
	return action;
}

static void
refused(const char *text, const char *why)
{
	json_t *body = json_loads(text, 0, NULL);
	DeskAction action;
	char error[256] = "";

	assert_non_null(body);
	assert_false(deskaction_parse(&action, body, error, sizeof(error)));
	assert_string_equal(error, why);
	assert_null(action.steps);
	json_decref(body);
}

static void
clicks(void **state)
{
	DeskAction action = parsed("{\"action\": \"left_click\", \"coordinate\": [640, 360], \"scaled_width\": 1280, \"scaled_height\": 720, \"text\": \"ctrl\"}");

	(void) state;
	deskaction_fit(&action, 1920, 1080);
	assert_int_equal(action.steps[0].kind, DESK_MOVE);
	assert_int_equal(action.steps[0].x, 960);
	assert_int_equal(action.steps[0].y, 540);
	assert_int_equal(action.steps[2].kind, DESK_KEY_DOWN);
	assert_int_equal(action.steps[3].kind, DESK_PRESS);
	assert_int_equal(action.steps[action.n_steps - 1].kind, DESK_KEY_UP);
	assert_true(action.ms > 0);
	deskaction_free(&action);
}

/* The corners of the one screen are those of the other, and what is beyond is at its edge. */
static void
corners(void **state)
{
	static const int places[][2] = {{0, 0}, {1279, 1919}, {1280, 1919}, {-7, 0}, {99999, 1919}};
	DeskAction action = {.width = 1280, .height = 720};

	(void) state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		assert_int_equal(fit(places[i][0], 1280, 1920), places[i][1]);
	for (int x = 0; x < 1280; x++)
	{
		int there = fit(x, 1280, 1920);
		int y = 0;

		deskaction_told(&action, 1920, 1080, &there, &y);
		assert_int_equal(there, x);
	}
}

static void
typing(void **state)
{
	DeskAction action = parsed("{\"action\": \"type\", \"text\": \"a\\n\\u20ac\\u0007\"}");

	(void) state;
	assert_int_equal(action.n_steps, 7);
	assert_int_equal(action.steps[2].value, 0xff0d);
	assert_int_equal(action.steps[4].value, 0x010020ac);
	assert_int_equal(action.steps[6].kind, DESK_WAIT);
	deskaction_free(&action);
	action = parsed("{\"action\": \"key\", \"text\": \"ctrl+a  Delete\"}");
	assert_int_equal(action.n_steps, 8);
	deskaction_free(&action);
	action = parsed("{\"action\": \"key\", \"text\": \" \"}");
	assert_int_equal(action.steps[0].value, ' ');
	deskaction_free(&action);
	action = parsed("{\"action\": \"hold_key\", \"text\": \"shift\", \"duration\": 250}");
	assert_int_equal(action.ms, 250);
	deskaction_free(&action);
}

static void
no_actions(void **state)
{
	char *long_text = malloc(DESKACTION_MAX_TEXT + 100);
	int n;

	(void) state;
	refused("{}", "Unknown action: ");
	refused("{\"action\": 7}", "Unknown action: ");
	refused("[]", "Unknown action: ");
	refused("{\"action\": \"type\"}", "Missing \"text\" for type action.");
	refused("{\"action\": \"type\", \"text\": null}", "Missing \"text\" for type action.");
	refused("{\"action\": \"type\", \"text\": 7}", "Invalid \"text\" for type action.");
	refused("{\"action\": \"key\", \"text\": \"\"}", "Missing \"text\" for key action.");
	refused("{\"action\": \"mouse_move\", \"coordinate\": [1]}", "Invalid \"coordinate\" for mouse_move action.");
	refused("{\"action\": \"mouse_move\", \"coordinate\": [1, 1e300]}", "Invalid \"coordinate\" for mouse_move action.");
	refused("{\"action\": \"left_click_drag\", \"coordinate\": [1, 1]}", "Missing \"start_coordinate\" for left_click_drag action.");
	refused("{\"action\": \"hold_key\", \"text\": \"a\", \"duration\": -1}", "Invalid \"duration\" for hold_key action.");
	refused("{\"action\": \"scroll\", \"coordinate\": [1, 1], \"scroll_direction\": 1}", "Invalid scroll direction: ");
	assert_non_null(long_text);
	n = sprintf(long_text, "{\"action\": \"type\", \"text\": \"");
	memset(long_text + n, 'x', DESKACTION_MAX_TEXT + 1);
	strcpy(long_text + n + DESKACTION_MAX_TEXT + 1, "\"}");
	refused(long_text, "Invalid \"text\" for type action.");
	free(long_text);
}

/* RFB ------------------------------------------------------------------------------- */

#define HELLO "RFB 003.008\n\1\1\0\0\0\0"
#define SCREEN "\0\2\0\2\40\30\0\1\0\377\0\377\0\377\20\10\0\0\0\0\0\0\0\4name"

/* Fed whole, or byte by byte. */
static bool
feed(Rfb *rfb, const char *bytes, size_t len, bool whole)
{
	if (whole)
		return rfb_feed(rfb, (const uint8_t *) bytes, len);
	for (size_t i = 0; i < len; i++)
		if (!rfb_feed(rfb, (const uint8_t *) bytes + i, 1))
			return false;
	return true;
}

static void
handshake(void **state)
{
	(void) state;
	for (int whole = 0; whole < 2; whole++)
	{
		static const char update[] = "\2" /* a bell */ "\3\0\0\0\0\0\0\3abc" /* a clipboard */
									 "\0\0\0\2" "\0\0\0\0\0\2\0\1\0\0\0\0" "12345678" "\0\1\0\1\0\0\0\0\127\115\126\146";
		static const char rest[] = "\0\0\0\1" "\0\0\0\1\0\2\0\1\0\0\0\0" "abcdefgh";
		Rfb rfb;

		rfb_init(&rfb);
		assert_true(feed(&rfb, HELLO, sizeof(HELLO) - 1, whole));
		assert_false(rfb_ready(&rfb));
		assert_true(feed(&rfb, SCREEN, sizeof(SCREEN) - 1, whole));
		assert_true(rfb_ready(&rfb));
		assert_int_equal(rfb.width, 2);
		assert_int_equal(rfb.out_len, 12 + 1 + 1 + 20 + 4 + 12);
		assert_true(rfb_ask(&rfb, true));
		assert_true(feed(&rfb, update, sizeof(update) - 1, whole));
		assert_true(rfb.pending);
		assert_int_equal(rfb.pointer_x, 1);
		assert_true(feed(&rfb, rest, sizeof(rest) - 1, whole));
		assert_false(rfb.pending);
		assert_memory_equal(rfb.pixels, "12345678abcdefgh", 16);
		rfb_free(&rfb);
	}
}

/* The screen becomes another while it is painted. */
static void
resized(void **state)
{
	static const char update[] = "\0\0\0\1" "\0\0\0\0\0\3\0\1\377\377\377\41";
	static const char all[] = "\0\0\0\1" "\0\0\0\0\0\3\0\1\0\0\0\0" "abcdefghijkl";
	Rfb rfb;

	(void) state;
	rfb_init(&rfb);
	assert_true(feed(&rfb, HELLO SCREEN, sizeof(HELLO SCREEN) - 1, true));
	assert_true(rfb_ask(&rfb, true));
	assert_true(feed(&rfb, update, sizeof(update) - 1, true));
	assert_int_equal(rfb.width, 3);
	assert_true(rfb.pending);
	assert_true(feed(&rfb, all, sizeof(all) - 1, true));
	assert_false(rfb.pending);
	assert_memory_equal(rfb.pixels, "abcdefghijkl", 12);
	rfb_free(&rfb);
}

static void
bad_servers(void **state)
{
	static const struct
	{
		const char *bytes;
		size_t len;
		const char *why;
	} bad[] = {
#define BAD(bytes, why) {bytes, sizeof(bytes) - 1, why}
		BAD("HTTP/1.1 400 Bad", "the VNC server speaks no RFB 3.8"),
		BAD("RFB 003.003\n", "the VNC server speaks no RFB 3.8"),
		BAD("RFB 003.008\n\1\2", "the VNC server wants a password"),
		BAD("RFB 003.008\n\0\0\0\0\4full", "the VNC server refuses: full"),
		BAD("RFB 003.008\n\0\0\0\0\0", "the VNC server refuses"),
		BAD("RFB 003.008\n\1\1\0\0\0\1\0\0\0\2no", "the VNC server refuses: no"),
		BAD(HELLO "\0\0\0\2\40\30\0\1\0\377\0\377\0\377\20\10\0\0\0\0\0\0\0\0", "the VNC server's screen has no size"),
		BAD(HELLO "\377\377\0\2\40\30\0\1\0\377\0\377\0\377\20\10\0\0\0\0\0\0\0\0", "the VNC server's screen has no size"),
		BAD(HELLO SCREEN "\7", "the VNC server sends what was not asked for"),
		BAD(HELLO SCREEN "\0\0\0\1\0\1\0\0\0\2\0\1\0\0\0\0", "the VNC server paints beyond its screen"),
		BAD(HELLO SCREEN "\0\0\0\1\0\0\0\0\0\2\0\1\0\0\0\7", "the VNC server sends what was not asked for"),
		BAD(HELLO SCREEN "\3\0\0\0\377\377\377\377", "a message of the VNC server is too long"),
#undef BAD
	};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (int whole = 0; whole < 2; whole++)
		{
			Rfb rfb;

			rfb_init(&rfb);
			assert_false(feed(&rfb, bad[i].bytes, bad[i].len, whole));
			assert_string_equal(rfb.error, bad[i].why);
			assert_false(rfb_ready(&rfb));
			rfb_free(&rfb);
		}
}

/* A server that reads nothing does not fill the memory. */
static void
deaf_server(void **state)
{
	Rfb rfb;

	(void) state;
	rfb_init(&rfb);
	for (int i = 0; i < 200000; i++)
		rfb_key(&rfb, 'a', true);
	assert_int_equal(rfb.state, RFB_FAILED);
	assert_true(rfb.out_len <= RFB_MAX_OUT);
	rfb_free(&rfb);
}

/* Pictures -------------------------------------------------------------------------- */

static void
scaled(void **state)
{
	/* Two pixels black, two white: of three, the middle one is grey. */
	static const uint8_t line[] = {0, 0, 0, 9, 0, 0, 0, 9, 255, 255, 255, 9, 255, 255, 255, 9};
	static const uint8_t colours[] = {1, 2, 3, 0};
	uint8_t *rgb = screen_scale(line, 4, 1, 3, 1);

	(void) state;
	assert_memory_equal(rgb, "\0\0\0\177\177\177\377\377\377", 9);
	free(rgb);
	rgb = screen_scale(colours, 1, 1, 2, 2);
	assert_memory_equal(rgb, "\3\2\1\3\2\1\3\2\1\3\2\1", 12);
	free(rgb);
	for (int to = 1; to < 40; to++)
	{
		int covered = 0;

		for (int i = 0; i < to; i++)
		{
			Span span = span_of(i, 23, to);

			assert_true(span.first >= 0 && span.first + span.n <= 23);
			for (int k = 0; k < span.n; k++)
				covered += weight(&span, k);
		}
		assert_int_equal(covered, 23 * ONE);
	}
}

static void
png(void **state)
{
	uint8_t rgb[6 * 3];
	uint8_t lines[2 * 10];
	uLongf len = sizeof(lines);
	size_t size;
	uint8_t *data;
	char *text;

	(void) state;
	for (size_t i = 0; i < sizeof(rgb); i++)
		rgb[i] = (uint8_t) (i * 7);
	data = screen_png(rgb, 3, 2, &size);
	assert_memory_equal(data, "\x89PNG\r\n\x1a\n\0\0\0\15IHDR\0\0\0\3\0\0\0\2\10\2\0\0\0", 29);
	assert_int_equal(uncompress(lines, &len, data + 41, wire_get32be(data + 33)), Z_OK);
	assert_int_equal(len, sizeof(lines));
	assert_memory_equal(lines + 1, rgb, 9);
	for (int i = 0; i < 9; i++)
		assert_int_equal((uint8_t) (lines[11 + i] + rgb[i]), rgb[9 + i]);
	assert_memory_equal(data + size - 12, "\0\0\0\0IEND\xae\x42\x60\x82", 12);
	text = screen_base64(data, 3);
	assert_string_equal(text, "iVBO");
	free(text);
	free(data);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),		   cmocka_unit_test(utf8),		cmocka_unit_test(clicks),	   cmocka_unit_test(corners),
		cmocka_unit_test(typing),	   cmocka_unit_test(no_actions), cmocka_unit_test(handshake),  cmocka_unit_test(resized),
		cmocka_unit_test(bad_servers), cmocka_unit_test(deaf_server), cmocka_unit_test(scaled),	   cmocka_unit_test(png),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
