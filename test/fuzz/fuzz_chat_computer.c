/*
 * fuzz_chat_computer.c -- films that an agent gives, and calls of models that use a desktop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>

#include "chat/computer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *) data;
	json_t *args = json_loadb(text, size, 0, NULL);
	ComputerPart parts[2];
	long ms;

	if (computer_film(text, size, &parts[0], &parts[1]) != (parts[0].data != NULL))
		abort();
	for (int i = 0; i < 2; i++)
		if (parts[i].data != NULL && (parts[i].data < text || parts[i].data + parts[i].len > text + size))
			abort();
	if (args != NULL)
	{
		json_t *action = computer_action(args, &ms);

		if (ms < 0 || ms > 60000 || !json_is_string(json_object_get(action, "action")))
			abort();
		json_decref(action);
	}
	json_decref(args);
	return 0;
}
