/*
 * fuzz_pty.c -- a terminal's client: the init and the messages behind it, as they come
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include "serve/ptymsg.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
fuzz_init(const uint8_t *data, size_t size)
{
	PtyInit init;
	size_t used;

	if (ptymsg_init(&init, data, size, &used) != PTYMSG_OK)
		return 0;
	if (used < 2 || used > size || strlen(init.id) != PTYMSG_ID_LEN)
		abort();
	json_decref(init.json);
	return used;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = fuzz_init(data, size);
	PtyMsgResult result;
	PtyKeys keys;
	size_t used;

	while ((result = ptymsg_keys(&keys, data + at, size - at, &used)) == PTYMSG_OK)
	{
		if (used == 0 || used > size - at || (keys.size > 0) != (keys.data != NULL && keys.data + keys.size != keys.data))
			abort();
		json_decref(keys.json);
		at += used;
	}
	if (result == PTYMSG_SHORT && used > size - at)
		abort();
	return 0;
}
