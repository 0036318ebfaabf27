/*
 * fuzz_hcl.c -- any text as a template: parsed, evaluated as a form and as a build
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/template.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
run(const Archive *archive, bool dynamic)
{
	TplInput in = {.dynamic = dynamic};
	char *error = NULL;
	json_t *edges = NULL;
	Tpl *tpl = tpl_open(archive, &in, &error);

	free(error);
	error = NULL;
	if (tpl == NULL)
		return;
	json_decref(tpl_variables(tpl));
	if (dynamic)
		json_decref(tpl_parameters(tpl, &error));
	else
		json_decref(tpl_state(tpl, &edges, &error));
	json_decref(edges);
	free(error);
	tpl_close(tpl);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Archive archive = {.files = calloc(1, sizeof(ArchiveFile)), .n = 1, .cap = 1};
	const bool json = size > 0 && data[0] == '{';
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	archive.files[0] = (ArchiveFile){strdup(json ? "main.tf.json" : "main.tf"), text, size, 0};
	run(&archive, true);
	run(&archive, false);
	arc_free(&archive);
	return 0;
}
