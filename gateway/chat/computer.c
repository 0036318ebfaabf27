/*
 * computer.c -- Anthropic's computer tool, as the agent's desktop does it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "computer.h"

#include <stdlib.h>
#include <string.h>

#define VERSION "computer_20251124"
#define WAIT_MS 1000
#define MAX_WAIT_MS 60000
#define KEEP_PICTURES 10 /* and as many again, so that what the provider has cached is not changed at each step */

json_t *
computer_tool(void)
{
	json_t *action = json_pack("{s:s}", "type", "string");
	json_t *pair = json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "integer");

	return json_pack("{s:s, s:s, s:{s:s, s:{s:o, s:O, s:o, s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}, s:[s]}, s:{s:s, s:s, s:i, s:i}}", "name", COMPUTER_TOOL,
					 "description", "The desktop of the workspace: screenshots, mouse and keyboard.", "input_schema", "type", "object", "properties",
					 "action", action, "coordinate", pair, "start_coordinate", pair, "text", "type", "string", "duration", "type", "number",
					 "scroll_amount", "type", "integer", "scroll_direction", "type", "string", "required", "action", "anthropic", "type", VERSION,
					 "name", COMPUTER_TOOL, "display_width_px", COMPUTER_WIDTH, "display_height_px", COMPUTER_HEIGHT);
}

/* The model counts in seconds. */
static long
ms_of(const json_t *duration, long def, long most)
{
	double ms = json_is_number(duration) ? json_number_value(duration) * 1000 : (double) def;

	return !(ms > 0) ? def : ms > (double) most ? most : (long) ms;
}

json_t *
computer_screenshot(long settle)
{
	json_t *body = json_pack("{s:s, s:i, s:i}", "action", "screenshot", "scaled_width", COMPUTER_WIDTH, "scaled_height", COMPUTER_HEIGHT);

	if (settle > 0)
		json_object_set_new(body, "duration", json_integer(settle));
	return body;
}

json_t *
computer_action(const json_t *args, long *ms)
{
	static const char *const passed[] = {"coordinate", "start_coordinate", "text", "scroll_amount", "scroll_direction"};
	const char *action = json_string_value(json_object_get(args, "action"));
	const json_t *duration = json_object_get(args, "duration");
	json_t *body;

	*ms = 0;
	if (action != NULL && strcmp(action, "wait") == 0)
	{
		*ms = ms_of(duration, WAIT_MS, MAX_WAIT_MS);
		return computer_screenshot(*ms);
	}
	body = json_pack("{s:s, s:i, s:i}", "action", action != NULL ? action : "", "scaled_width", COMPUTER_WIDTH, "scaled_height", COMPUTER_HEIGHT);
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		if (json_object_get(args, passed[i]) != NULL)
			json_object_set(body, passed[i], json_object_get(args, passed[i]));
	if (action != NULL && strcmp(action, "hold_key") == 0)
	{
		*ms = ms_of(duration, WAIT_MS, MAX_WAIT_MS);
		json_object_set_new(body, "duration", json_integer(*ms));
	}
	return body;
}

bool
computer_is_text(const json_t *action)
{
	const char *name = json_string_value(json_object_get(action, "action"));

	return name != NULL && strcmp(name, "cursor_position") == 0;
}

/* Pictures ------------------------------------------------------------------------- */

static bool
is_picture(const json_t *part)
{
	const char *name = json_string_value(json_object_get(part, "tool_name"));

	return name != NULL && strcmp(name, COMPUTER_TOOL) == 0 && json_is_true(json_object_get(part, "is_media"));
}

/* The first so many lose their pictures. */
static void
drop_pictures(json_t *history, size_t drop)
{
	size_t i, k;
	json_t *message;
	json_t *part;

	json_array_foreach(history, i, message)
	{
		json_array_foreach(json_object_get(message, "content"), k, part)
		{
			if (drop == 0)
				return;
			if (!is_picture(part))
				continue;
			drop--;
			json_object_set_new(part, "result", json_pack("{s:s}", "output", "This screenshot is not shown any more."));
			json_object_del(part, "is_media");
		}
	}
}

void
computer_forget(json_t *history)
{
	size_t n = 0;
	size_t i, k;
	json_t *message;
	json_t *part;

	json_array_foreach(history, i, message)
	{
		json_array_foreach(json_object_get(message, "content"), k, part)
			n += is_picture(part);
	}
	if (n > 2 * KEEP_PICTURES)
		drop_pictures(history, n - KEEP_PICTURES);
}

/* Films ---------------------------------------------------------------------------- */

/* The first place of needle; NULL where there is none. */
static const char *
find(const char *text, size_t len, const char *needle, size_t n)
{
	return memmem(text, len, needle, n);
}

/* One part: headers, an empty line, data. */
static void
take_part(const char *part, size_t len, ComputerPart *video, ComputerPart *picture)
{
	const char *data = find(part, len, "\r\n\r\n", 4);
	size_t head;
	ComputerPart found;

	if (data == NULL)
		return;
	head = (size_t) (data - part);
	found.data = data + 4;
	found.len = len - head - 4;
	if (found.len == 0)
		return;
	if (find(part, head, "video/mp4", 9) != NULL && found.len <= COMPUTER_MAX_VIDEO && video->data == NULL)
		*video = found;
	else if (find(part, head, "image/jpeg", 10) != NULL && found.len <= COMPUTER_MAX_PICTURE && picture->data == NULL)
		*picture = found;
}

bool
computer_film(const char *body, size_t len, ComputerPart *video, ComputerPart *picture)
{
	char boundary[80];
	const char *line = find(body, len, "\r\n", 2);
	size_t n = line != NULL ? (size_t) (line - body) : 0;
	const char *at = body;

	*video = *picture = (ComputerPart){NULL, 0};
	/* The body begins with its boundary: "--" and what parts end with, behind a line end. */
	if (n < 3 || n + 3 > sizeof(boundary) || body[0] != '-' || body[1] != '-')
		return false;
	memcpy(boundary, "\r\n", 2);
	memcpy(boundary + 2, body, n);
	at += n + 2;
	for (;;)
	{
		size_t left = len - (size_t) (at - body);
		const char *end = find(at, left, boundary, n + 2);

		if (end == NULL)
			return video->data != NULL;
		take_part(at, (size_t) (end - at), video, picture);
		at = end + n + 2;
		/* "--" is the last. */
		if (len - (size_t) (at - body) < 2 || memcmp(at, "\r\n", 2) != 0)
			return video->data != NULL;
		at += 2;
	}
}
