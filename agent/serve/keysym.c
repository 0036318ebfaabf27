/*
 * keysym.c -- names of keys, by the numbers of the X protocol's appendix A.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/keysym.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEY_RETURN 0xff0d
#define KEY_TAB 0xff09
#define KEY_BACKSPACE 0xff08
#define KEY_F1 0xffbe
#define UNICODE 0x01000000u
#define MAX_UNICODE 0x10ffffu

static const struct
{
	const char *name;
	uint32_t keysym;
} names[] = {
	{"return", KEY_RETURN},		 {"enter", KEY_RETURN},		  {"kp_enter", 0xff8d},		   {"tab", KEY_TAB},
	{"backspace", KEY_BACKSPACE}, {"delete", 0xffff},		  {"del", 0xffff},			   {"insert", 0xff63},
	{"ins", 0xff63},			 {"escape", 0xff1b},		  {"esc", 0xff1b},			   {"space", ' '},
	{"home", 0xff50},			 {"left", 0xff51},			  {"up", 0xff52},			   {"right", 0xff53},
	{"down", 0xff54},			 {"arrowleft", 0xff51},		  {"arrowup", 0xff52},		   {"arrowright", 0xff53},
	{"arrowdown", 0xff54},		 {"page_up", 0xff55},		  {"pageup", 0xff55},		   {"prior", 0xff55},
	{"page_down", 0xff56},		 {"pagedown", 0xff56},		  {"next", 0xff56},			   {"end", 0xff57},
	{"begin", 0xff58},			 {"pause", 0xff13},			  {"scroll_lock", 0xff14},	   {"sys_req", 0xff15},
	{"print", 0xff61},			 {"printscreen", 0xff61},	  {"undo", 0xff65},			   {"redo", 0xff66},
	{"menu", 0xff67},			 {"find", 0xff68},			  {"help", 0xff6a},			   {"break", 0xff6b},
	{"num_lock", 0xff7f},		 {"multi_key", 0xff20},		  {"shift", 0xffe1},		   {"shift_l", 0xffe1},
	{"shift_r", 0xffe2},		 {"ctrl", 0xffe3},			  {"control", 0xffe3},		   {"control_l", 0xffe3},
	{"ctrl_l", 0xffe3},			 {"control_r", 0xffe4},		  {"ctrl_r", 0xffe4},		   {"caps_lock", 0xffe5},
	{"capslock", 0xffe5},		 {"meta", 0xffe7},			  {"meta_l", 0xffe7},		   {"meta_r", 0xffe8},
	{"alt", 0xffe9},			 {"option", 0xffe9},		  {"alt_l", 0xffe9},		   {"alt_r", 0xffea},
	{"altgr", 0xfe03},			 {"iso_level3_shift", 0xfe03}, {"iso_left_tab", 0xfe20},   {"super", 0xffeb},
	{"super_l", 0xffeb},		 {"win", 0xffeb},			  {"cmd", 0xffeb},			   {"command", 0xffeb},
	{"super_r", 0xffec},		 {"hyper", 0xffed},			  {"hyper_l", 0xffed},		   {"hyper_r", 0xffee},
	{"exclam", '!'},			 {"quotedbl", '"'},			  {"numbersign", '#'},		   {"dollar", '$'},
	{"percent", '%'},			 {"ampersand", '&'},		  {"apostrophe", '\''},		   {"quoteright", '\''},
	{"parenleft", '('},			 {"parenright", ')'},		  {"asterisk", '*'},		   {"plus", '+'},
	{"comma", ','},				 {"minus", '-'},			  {"hyphen", '-'},			   {"period", '.'},
	{"dot", '.'},				 {"slash", '/'},			  {"colon", ':'},			   {"semicolon", ';'},
	{"less", '<'},				 {"equal", '='},			  {"greater", '>'},			   {"question", '?'},
	{"at", '@'},				 {"bracketleft", '['},		  {"backslash", '\\'},		   {"bracketright", ']'},
	{"asciicircum", '^'},		 {"underscore", '_'},		  {"grave", '`'},			   {"quoteleft", '`'},
	{"braceleft", '{'},			 {"bar", '|'},				  {"braceright", '}'},		   {"asciitilde", '~'},
	{"kp_add", 0xffab},			 {"kp_subtract", 0xffad},	  {"kp_multiply", 0xffaa},	   {"kp_divide", 0xffaf},
	{"kp_decimal", 0xffae},		 {"kp_equal", 0xffbd},		  {"volumedown", 0x1008ff11},  {"volumemute", 0x1008ff12},
	{"volumeup", 0x1008ff13},	 {"xf86audiolowervolume", 0x1008ff11}, {"xf86audiomute", 0x1008ff12},
	{"xf86audioraisevolume", 0x1008ff13}, {"xf86back", 0x1008ff26}, {"xf86forward", 0x1008ff27}, {"xf86reload", 0x1008ff29},
};

uint32_t
keysym_of_char(uint32_t c)
{
	if (c == '\n' || c == '\r')
		return KEY_RETURN;
	if (c == '\t')
		return KEY_TAB;
	if (c == '\b')
		return KEY_BACKSPACE;
	if (c < ' ' || (c >= 0x7f && c < 0xa0) || c > MAX_UNICODE || (c >= 0xd800 && c < 0xe000))
		return 0;
	return c < 0x100 ? c : UNICODE | c;
}

size_t
keysym_utf8(const char *text, size_t len, uint32_t *c)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *) text;
	size_t n = len == 0 ? 0 : p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : p[0] >= 0xc0 ? 2 : 0;

	if (n == 0 || n > len || p[0] >= 0xf8)
		return 0;
	*c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++)
	{
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (p[i] & 0x3fu);
	}
	return *c >= least[n] && *c <= MAX_UNICODE ? n : 0;
}

/* The number behind a letter: "F5", "U20AC", "0x61", "KP_7"; false where there is none. */
static bool
number(const char *text, size_t len, int base, unsigned long *n)
{
	char digits[9];
	char *end;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	if (strspn(digits, base == 16 ? "0123456789abcdefABCDEF" : "0123456789") != len)
		return false;
	*n = strtoul(digits, &end, base);
	return true;
}

uint32_t
keysym_of_name(const char *name, size_t len)
{
	uint32_t c;
	unsigned long n;

	if (len > 0 && keysym_utf8(name, len, &c) == len)
		return keysym_of_char(c);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == len && strncasecmp(names[i].name, name, len) == 0)
			return names[i].keysym;
	if ((name[0] == 'f' || name[0] == 'F') && number(name + 1, len - 1, 10, &n) && n >= 1 && n <= 35)
		return (uint32_t) (KEY_F1 + n - 1);
	if (len == 4 && strncasecmp(name, "kp_", 3) == 0 && number(name + 3, 1, 10, &n))
		return (uint32_t) (0xffb0 + n);
	if ((name[0] == 'U' || name[0] == 'u') && len >= 5 && number(name + 1, len - 1, 16, &n))
		return keysym_of_char((uint32_t) n);
	if (len > 2 && strncmp(name, "0x", 2) == 0 && number(name + 2, len - 2, 16, &n) && n < 0x20000000)
		return (uint32_t) n;
	return 0;
}

size_t
keysym_chord(const char *text, size_t len, uint32_t keys[static KEYSYM_MAX_CHORD])
{
	size_t n = 0;
	size_t at = 0;

	while (at < len)
	{
		size_t end = at + 1; /* a plus sign may be a key itself */

		while (end < len && text[end] != '+')
			end++;
		if (n == KEYSYM_MAX_CHORD || (keys[n++] = keysym_of_name(text + at, end - at)) == 0)
			return 0;
		at = end + 1;
		if (at == len)
			return 0; /* "ctrl+" */
	}
	return n;
}
