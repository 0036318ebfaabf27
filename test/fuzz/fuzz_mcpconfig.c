/*
 * fuzz_mcpconfig.c -- the file that names a workspace's MCP servers, and what these say of their tools.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../agent/serve/mcpconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *servers = mcpconfig_servers((const char *) data, size);
	json_t *value = json_loadb((const char *) data, size, 0, NULL);
	json_t *tools = json_array();
	size_t i;
	json_t *one;

	json_array_foreach(servers, i, one)
	{
		const char *command = json_string_value(json_object_get(one, "command"));

		if (command == NULL || strncmp(command, "exec '", 6) != 0 || strlen(command) < 18)
			abort();
	}
	mcpconfig_add_tools(tools, "server", value);
	json_array_foreach(tools, i, one)
	{
		if (strlen(json_string_value(json_object_get(one, "name"))) > MCPCONFIG_MAX_NAME)
			abort();
	}
	json_decref(mcpconfig_answer(value));
	json_decref(tools);
	json_decref(value);
	json_decref(servers);
	return 0;
}
