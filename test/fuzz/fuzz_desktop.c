/*
 * fuzz_desktop.c -- what a VNC server says, in pieces of any size; what clients ask to be done; names of keys.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "serve/deskaction.h"
#include "serve/keysym.h"
#include "serve/rfb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
server(const uint8_t *data, size_t size, size_t piece)
{
	Rfb rfb;
	bool asked = false;

	rfb_init(&rfb);
	while (size > 0)
	{
		size_t n = piece < size ? piece : size;

		if (!rfb_feed(&rfb, data, n))
		{
			if (rfb.error[0] == '\0')
				abort();
			break;
		}
		if (rfb_ready(&rfb) && !asked && (int64_t) rfb.width * rfb.height < 1000000)
		{
			asked = true;
			rfb_key(&rfb, 'a', true);
			rfb_pointer(&rfb, 1, 1, 1);
			if (!rfb_ask(&rfb, true))
				abort();
		}
		data += n;
		size -= n;
	}
	if (rfb.out_len > RFB_MAX_OUT)
		abort();
	rfb_free(&rfb);
}

static void
client(const uint8_t *data, size_t size)
{
	json_t *body = json_loadb((const char *) data, size, 0, NULL);
	DeskAction action;
	char error[256] = "";

	if (body != NULL && deskaction_parse(&action, body, error, sizeof(error)))
	{
		deskaction_fit(&action, 1920, 1080);
		for (size_t i = 0; i < action.n_steps; i++)
			if (action.steps[i].kind == DESK_MOVE &&
				(action.steps[i].x < 0 || action.steps[i].x >= 1920 || action.steps[i].y < 0 || action.steps[i].y >= 1080))
				abort();
		deskaction_free(&action);
	}
	else if (body != NULL && *error == '\0')
		abort();
	json_decref(body);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t keys[KEYSYM_MAX_CHORD];

	if (size < 1)
		return 0;
	server(data + 1, size - 1, data[0] + 1u);
	client(data, size);
	if (keysym_chord((const char *) data, size, keys) > KEYSYM_MAX_CHORD)
		abort();
	return 0;
}
