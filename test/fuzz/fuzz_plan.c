/*
 * fuzz_plan.c -- any JSON as Terraform's resources, any text as its graph
 *
 * The input is the JSON, a zero byte, the graph.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *zero = size > 0 ? memchr(data, 0, size) : NULL;
	const size_t n = zero != NULL ? (size_t) (zero - data) : size;
	json_t *j = json_loadb((const char *) data, n, 0, NULL);
	Graph *graph =
		zero != NULL ? graph_parse((const char *) zero + 1, size - n - 1) : graph_create();
	char *error = NULL;

	if (j != NULL)
	{
		json_t *resources = plan_resources(j);

		json_decref(plan_map(json_is_array(j) ? j : resources, graph, &error));
		json_decref(resources);
	}
	free(error);
	json_decref(j);
	graph_free(graph);
	return 0;
}
