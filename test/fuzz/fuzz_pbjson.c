/*
 * fuzz_pbjson.c -- bytes of a peer as JSON, and JSON as messages.
 *
 * The first byte chooses the message.  What decodes must encode again, and then
 * decode to the same JSON.
 */
#include <stddef.h>
#include <stdint.h>

#include "wire/pbjson.c"
#include "wire/proto/agent.pb-c.h"
#include "wire/proto/tailnet.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const ProtobufCMessageDescriptor *const types[] = {
		&coder__tailnet__v2__coordinate_request__descriptor, &coder__tailnet__v2__coordinate_response__descriptor,
		&coder__tailnet__v2__derpmap__descriptor, &coder__tailnet__v2__telemetry_request__descriptor,
		&coder__agent__v2__manifest__descriptor, &coder__agent__v2__update_stats_request__descriptor,
		&coder__agent__v2__batch_create_logs_request__descriptor, &coder__agent__v2__create_sub_agent_request__descriptor};
	const ProtobufCMessageDescriptor *type;
	char error[128];
	json_t *object;

	if (size < 1)
		return 0;
	type = types[data[0] % 8];
	object = data[0] < 128 ? pbjson_decode(type, data + 1, size - 1)
						   : json_loadb((const char *) data + 1, size - 1, JSON_ALLOW_NUL, NULL);
	if (object != NULL)
	{
		size_t n;
		uint8_t *bytes = pbjson_encode(type, object, &n, error, sizeof(error));

		if (bytes != NULL)
			json_decref(pbjson_decode(type, bytes, n));
		free(bytes);
	}
	json_decref(object);
	return 0;
}
