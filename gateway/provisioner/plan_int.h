/*
 * plan_int.h -- what the files behind plan.h share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_PLAN_INT_H
#define CODER_PLAN_INT_H

#include "provisioner/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Node
{
	char *name;
	char *label; /* NULL: providers, outputs and the like */
	size_t *out;
	size_t n_out;
	size_t *in;
	size_t n_in;
} Node;

struct Graph
{
	Node *nodes;
	size_t n;
	size_t cap;
	json_t *index; /* name -> position */
};

extern bool graph_has_label(const Graph *g, const char *label);
extern bool graph_has_type(const Graph *g, const char *type);

typedef struct Map
{
	const json_t *resources;
	const Graph *graph;
	json_t *agents;	  /* label -> {"agent": …, "id": …, "owner": label} */
	json_t *metadata; /* target label -> values */
	char *error;
} Map;

/* Why the template cannot be; the first one stays.  False. */
extern bool plan_problem(Map *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A member as text ("" where there is none), number, truth; the first of a block's values. */
extern const char *plan_str(const json_t *j, const char *key);
extern json_int_t plan_num(const json_t *j, const char *key);
extern bool plan_flag(const json_t *j, const char *key);
extern const json_t *plan_first(const json_t *values, const char *block);

extern const json_t *plan_values(const json_t *resource);
extern bool plan_is_type(const json_t *resource, const char *type);
extern bool plan_is_managed(const json_t *resource);
extern bool plan_is_compute(const json_t *resource);
/* The address up to the first index. */
extern char *plan_label(const json_t *resource);

/* sorted: the managed resources by address. */
extern bool plan_map_agents(Map *m, const json_t *sorted);
extern bool plan_map_data(Map *m, json_t *parameters, json_t *presets);
extern json_t *plan_external_auth(const Map *m);
extern json_t *plan_ai_tasks(const Map *m);

#endif
