/*
 * fuzz_archive.c -- any bytes as a template archive
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/archive.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Archive archive;
	char *error = NULL;

	if (arc_read(&archive, data, size, &error))
		for (size_t i = 0; i < archive.n; i++)
			if (archive.files[i].path[0] == '/' || strncmp(archive.files[i].path, "../", 3) == 0 ||
				strstr(archive.files[i].path, "/../") != NULL)
				abort();
	free(error);
	arc_free(&archive);
	return 0;
}
