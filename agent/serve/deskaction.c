/*
 * deskaction.c -- actions of POST /api/v0/desktop/action.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/deskaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/keysym.h"
#include "serve/rfb.h"

#define HOLD_MS 1000
#define SCROLL 3
#define MAX_SCROLL 100
#define MAX_CHORDS 64
#define CLICK_MS 20		 /* down, and up again */
#define BETWEEN_MS 60	 /* two clicks of a double one */
#define WHEEL_MS 10
#define KEY_MS 10
#define TYPE_AT_ONCE 16	 /* keys, and then a pause of KEY_MS, so that no program's queue runs over */
#define UNUSUAL_MS 40	 /* for a character that the server gives a key first */
#define DRAG_STEPS 12
#define MAX_PLACE 100000

typedef struct Parse
{
	DeskAction *action;
	const json_t *body;
	int x, y;
	uint32_t held[KEYSYM_MAX_CHORD]; /* while a mouse button is used */
	size_t n_held;
	bool failed; /* out of memory */
	char *error;
	size_t error_size;
} Parse;

static void
step(Parse *p, DeskStepKind kind, uint32_t value, int x, int y)
{
	DeskAction *action = p->action;

	if (action->n_steps == action->room)
	{
		size_t room = 2 * action->room + 16;
		DeskStep *grown = realloc(action->steps, room * sizeof(*grown));

		if (grown == NULL)
		{
			p->failed = true;
			return;
		}
		action->steps = grown;
		action->room = room;
	}
	action->steps[action->n_steps++] = (DeskStep){kind, value, x, y};
	if (kind == DESK_WAIT)
		action->ms += value;
}

static void
pause_for(Parse *p, uint32_t ms)
{
	step(p, DESK_WAIT, ms, 0, 0);
}

static bool
missing(Parse *p, const char *field)
{
	snprintf(p->error, p->error_size, "Missing \"%s\" for %s action.", field, p->action->name);
	return false;
}

static bool
invalid(Parse *p, const char *field)
{
	snprintf(p->error, p->error_size, "Invalid \"%s\" for %s action.", field, p->action->name);
	return false;
}

static bool
is_given(const json_t *value)
{
	return value != NULL && !json_is_null(value);
}

/* [x, y], whole numbers. */
static bool
place(Parse *p, const char *field, int *x, int *y)
{
	const json_t *value = json_object_get(p->body, field);
	const json_t *a = json_array_get(value, 0);
	const json_t *b = json_array_get(value, 1);

	if (!is_given(value))
		return missing(p, field);
	if (json_array_size(value) != 2 || !json_is_number(a) || !json_is_number(b) || !(json_number_value(a) > -MAX_PLACE && json_number_value(a) < MAX_PLACE) ||
		!(json_number_value(b) > -MAX_PLACE && json_number_value(b) < MAX_PLACE))
		return invalid(p, field);
	*x = (int) json_number_value(a);
	*y = (int) json_number_value(b);
	return true;
}

/* A number from 0 to most. */
static bool
amount(Parse *p, const char *field, json_int_t def, json_int_t most, json_int_t *n)
{
	const json_t *value = json_object_get(p->body, field);

	*n = def;
	if (!is_given(value))
		return true;
	if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > most)
		return invalid(p, field);
	*n = json_integer_value(value);
	return true;
}

static bool
text_of(Parse *p, const char **text, size_t *len)
{
	const json_t *value = json_object_get(p->body, "text");

	if (!is_given(value))
		return missing(p, "text");
	*text = json_string_value(value);
	*len = json_string_length(value);
	return *text != NULL && *len <= DESKACTION_MAX_TEXT ? true : invalid(p, "text");
}

/* Keys ----------------------------------------------------------------------------- */

static void
keys_down(Parse *p, const uint32_t *keys, size_t n)
{
	for (size_t i = 0; i < n; i++)
		step(p, DESK_KEY_DOWN, keys[i], 0, 0);
}

static void
keys_up(Parse *p, const uint32_t *keys, size_t n)
{
	while (n-- > 0)
		step(p, DESK_KEY_UP, keys[n], 0, 0);
}

/* Chords with blanks between them, each held for ms: down says whether they are pressed, up whether they are let go. */
static bool
chords(Parse *p, bool down, bool up, uint32_t ms)
{
	const char *text;
	size_t len;
	int n = 0;

	if (!text_of(p, &text, &len))
		return false;
	if (len == 1 && *text == ' ')
	{
		text = "space";
		len = strlen(text);
	}
	for (size_t at = 0; at < len;)
	{
		uint32_t keys[KEYSYM_MAX_CHORD];
		size_t word = strcspn(text + at, " ");
		size_t n_keys = word > 0 ? keysym_chord(text + at, word, keys) : 0;

		if (word > 0 && (n_keys == 0 || ++n > MAX_CHORDS))
		{
			snprintf(p->error, p->error_size, "There is no key \"%.*s\".", (int) (word < 60 ? word : 60), text + at);
			return false;
		}
		if (down)
			keys_down(p, keys, n_keys);
		if (n_keys > 0)
			pause_for(p, ms);
		if (up)
			keys_up(p, keys, n_keys);
		at += word > 0 ? word : 1;
	}
	return n > 0 || missing(p, "text");
}

static bool
type(Parse *p)
{
	const char *text;
	size_t len;
	int in_row = 0;
	uint32_t c;
	size_t n;

	if (!text_of(p, &text, &len))
		return false;
	for (size_t at = 0; at < len; at += n)
	{
		uint32_t keysym;

		n = keysym_utf8(text + at, len - at, &c);
		if (n == 0)
			return invalid(p, "text");
		keysym = keysym_of_char(c);
		if (keysym == 0)
			continue;
		step(p, DESK_KEY_DOWN, keysym, 0, 0);
		step(p, DESK_KEY_UP, keysym, 0, 0);
		if ((keysym > 0x7e && keysym < 0xff00) || keysym > 0x00ffffff)
			pause_for(p, UNUSUAL_MS);
		else if (++in_row % TYPE_AT_ONCE == 0)
			pause_for(p, KEY_MS);
	}
	return true;
}

static bool
hold(Parse *p)
{
	json_int_t ms;

	return amount(p, "duration", HOLD_MS, DESKACTION_MAX_MS, &ms) && chords(p, true, true, (uint32_t) ms);
}

/* The mouse ------------------------------------------------------------------------- */

/* Keys that are held while the mouse is used: what "text" is to clicks and scrolling. */
static bool
take_held(Parse *p)
{
	const json_t *value = json_object_get(p->body, "text");

	if (!is_given(value) || json_string_length(value) == 0)
		return true;
	p->n_held = json_string_length(value) <= 100 ? keysym_chord(json_string_value(value), json_string_length(value), p->held) : 0;
	return p->n_held > 0 ? true : invalid(p, "text");
}

static void
press(Parse *p, uint32_t button, uint32_t ms)
{
	step(p, DESK_PRESS, button, 0, 0);
	pause_for(p, ms);
	step(p, DESK_RELEASE, button, 0, 0);
}

static bool
click(Parse *p, uint32_t button, int times)
{
	if (!place(p, "coordinate", &p->x, &p->y) || !take_held(p))
		return false;
	step(p, DESK_MOVE, 0, p->x, p->y);
	pause_for(p, CLICK_MS);
	keys_down(p, p->held, p->n_held);
	for (int i = 0; i < times; i++)
	{
		if (i > 0)
			pause_for(p, BETWEEN_MS);
		press(p, button, CLICK_MS);
	}
	keys_up(p, p->held, p->n_held);
	return true;
}

static bool
drag(Parse *p)
{
	int x, y;

	if (!place(p, "coordinate", &p->x, &p->y) || !place(p, "start_coordinate", &x, &y) || !take_held(p))
		return false;
	step(p, DESK_MOVE, 0, x, y);
	pause_for(p, CLICK_MS);
	keys_down(p, p->held, p->n_held);
	step(p, DESK_PRESS, RFB_LEFT, 0, 0);
	for (int i = 1; i <= DRAG_STEPS; i++)
	{
		pause_for(p, CLICK_MS);
		step(p, DESK_MOVE, 0, x + (p->x - x) * i / DRAG_STEPS, y + (p->y - y) * i / DRAG_STEPS);
	}
	pause_for(p, CLICK_MS);
	step(p, DESK_RELEASE, RFB_LEFT, 0, 0);
	keys_up(p, p->held, p->n_held);
	return true;
}

static bool
scroll(Parse *p)
{
	static const struct
	{
		const char *name;
		uint32_t wheel;
	} directions[] = {{"up", RFB_WHEEL_UP}, {"down", RFB_WHEEL_DOWN}, {"left", RFB_WHEEL_LEFT}, {"right", RFB_WHEEL_RIGHT}};
	const json_t *given = json_object_get(p->body, "scroll_direction");
	const char *direction = is_given(given) ? json_string_value(given) : "down";
	json_int_t n;
	size_t i = 0;

	if (!place(p, "coordinate", &p->x, &p->y) || !amount(p, "scroll_amount", SCROLL, MAX_SCROLL, &n) || !take_held(p))
		return false;
	while (i < 4 && (direction == NULL || strcmp(directions[i].name, direction) != 0))
		i++;
	if (i == 4)
	{
		snprintf(p->error, p->error_size, "Invalid scroll direction: %.40s", direction != NULL ? direction : "");
		return false;
	}
	step(p, DESK_MOVE, 0, p->x, p->y);
	keys_down(p, p->held, p->n_held);
	while (n-- > 0)
		press(p, directions[i].wheel, WHEEL_MS);
	keys_up(p, p->held, p->n_held);
	return true;
}

/* Moves there first, where a place is given. */
static bool
button(Parse *p, bool down)
{
	if (is_given(json_object_get(p->body, "coordinate")))
	{
		if (!place(p, "coordinate", &p->x, &p->y))
			return false;
		step(p, DESK_MOVE, 0, p->x, p->y);
	}
	step(p, down ? DESK_PRESS : DESK_RELEASE, RFB_LEFT, 0, 0);
	return true;
}

static bool
move(Parse *p)
{
	if (!place(p, "coordinate", &p->x, &p->y))
		return false;
	step(p, DESK_MOVE, 0, p->x, p->y);
	return true;
}

static bool
do_key(Parse *p)
{
	return chords(p, true, true, KEY_MS);
}

static bool
do_key_down(Parse *p)
{
	return chords(p, true, false, 0);
}

static bool
do_key_up(Parse *p)
{
	return chords(p, false, true, 0);
}

static bool
do_click(Parse *p)
{
	return click(p, RFB_LEFT, 1);
}

static bool
do_right(Parse *p)
{
	return click(p, RFB_RIGHT, 1);
}

static bool
do_middle(Parse *p)
{
	return click(p, RFB_MIDDLE, 1);
}

static bool
do_double(Parse *p)
{
	return click(p, RFB_LEFT, 2);
}

static bool
do_triple(Parse *p)
{
	return click(p, RFB_LEFT, 3);
}

static bool
do_mouse_down(Parse *p)
{
	return button(p, true);
}

static bool
do_mouse_up(Parse *p)
{
	return button(p, false);
}


static bool
do_nothing(Parse *p)
{
	json_int_t ms;

	/* What has just been done may take a moment to be seen. */
	if (!amount(p, "duration", 0, DESKACTION_MAX_MS, &ms))
		return false;
	if (ms > 0)
		pause_for(p, (uint32_t) ms);
	p->action->is_screenshot = strcmp(p->action->name, "screenshot") == 0;
	p->action->is_position = !p->action->is_screenshot;
	return true;
}

static const struct
{
	const char *name;
	bool (*parse)(Parse *p);
} actions[] = {
	{"screenshot", do_nothing},	  {"cursor_position", do_nothing}, {"key", do_key},				   {"key_down", do_key_down},
	{"key_up", do_key_up},		  {"type", type},				   {"hold_key", hold},			   {"mouse_move", move},
	{"left_click", do_click},	  {"right_click", do_right},	   {"middle_click", do_middle},	   {"double_click", do_double},
	{"triple_click", do_triple},  {"left_click_drag", drag},	   {"left_mouse_down", do_mouse_down}, {"left_mouse_up", do_mouse_up},
	{"scroll", scroll},
};

bool
deskaction_parse(DeskAction *action, const json_t *body, char *error, size_t error_size)
{
	Parse p = {.action = action, .body = body, .error = error, .error_size = error_size};
	const char *name = json_string_value(json_object_get(body, "action"));
	json_int_t width, height;
	size_t i = 0;

	memset(action, 0, sizeof(*action));
	while (i < sizeof(actions) / sizeof(actions[0]) && (name == NULL || strcmp(actions[i].name, name) != 0))
		i++;
	if (i == sizeof(actions) / sizeof(actions[0]))
	{
		snprintf(error, error_size, "Unknown action: %.60s", name != NULL ? name : "");
		return false;
	}
	snprintf(action->name, sizeof(action->name), "%s", name);
	if (!amount(&p, "scaled_width", 0, RFB_MAX_SIDE, &width) || !amount(&p, "scaled_height", 0, RFB_MAX_SIDE, &height) || !actions[i].parse(&p) || p.failed)
	{
		if (p.failed)
			snprintf(error, error_size, "out of memory");
		deskaction_free(action);
		return false;
	}
	action->width = (int) width;
	action->height = (int) height;
	return true;
}

/* The middle of a pixel of the one screen on the other. */
static int
fit(int at, int from, int to)
{
	int64_t n = from == to ? at : ((int64_t) at * 2 + 1) * to / (2 * (int64_t) from);

	return n < 0 || at < 0 ? 0 : n >= to ? to - 1 : (int) n;
}

void
deskaction_fit(DeskAction *action, int width, int height)
{
	if (action->width == 0)
		action->width = width;
	if (action->height == 0)
		action->height = height;
	for (size_t i = 0; i < action->n_steps; i++)
		if (action->steps[i].kind == DESK_MOVE)
		{
			action->steps[i].x = fit(action->steps[i].x, action->width, width);
			action->steps[i].y = fit(action->steps[i].y, action->height, height);
		}
}

void
deskaction_told(const DeskAction *action, int width, int height, int *x, int *y)
{
	*x = fit(*x, width, action->width);
	*y = fit(*y, height, action->height);
}

void
deskaction_free(DeskAction *action)
{
	free(action->steps);
	action->steps = NULL;
	action->n_steps = action->room = 0;
}
