/*
 * fuzz_ws_server.c -- a client's WebSocket bytes, in chunks; the first byte says how large.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../../gateway/wsframe.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WsReader reader = {.max_message = 4096};
	uint8_t *buffer;
	size_t have = 0;
	size_t chunk;
	bool done = false;

	if (size < 2)
		return 0;
	chunk = data[0] + 1u;
	data++;
	size--;
	buffer = malloc(size);
	while (size > 0 && !done)
	{
		size_t n = chunk < size ? chunk : size;
		size_t used;
		WsEvent event;

		memcpy(buffer + have, data, n);
		have += n;
		data += n;
		size -= n;
		do
		{
			event = ws_read(&reader, buffer, have, &used);
			if (event == WS_MESSAGE && (reader.len > reader.max_message ||
										(reader.opcode == WS_TEXT && !ws_is_utf8(reader.data, reader.len))))
				abort();
			memmove(buffer, buffer + used, have - used);
			have -= used;
			done = event == WS_ERROR;
		} while (event == WS_MESSAGE || event == WS_CONTROL);
	}
	ws_reader_free(&reader);
	free(buffer);
	return 0;
}
