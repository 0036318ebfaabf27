/*
 * plan.h -- plan or state JSON and the dependency graph to resources and agents
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_PLAN_H
#define CODER_PLAN_H

#include <jansson.h>

typedef struct Graph Graph;

extern Graph *graph_create(void);
extern void graph_node(Graph *g, const char *label);
extern void graph_edge(Graph *g, const char *from_label, const char *to_label);
extern Graph *graph_parse(const char *dot, size_t len); /* of terraform graph */
extern void graph_free(Graph *g);

/*
 * Resources of plan JSON (prior_state, planned_values) or state JSON (values),
 * in walk order: child modules before their parent.  A new array.
 */
extern json_t *plan_resources(const json_t *plan_or_state);

/*
 * Fields of provisioner.GraphComplete: resources, parameters, presets,
 * external_auth_providers, ai_tasks, has_ai_tasks, has_external_agents.
 * NULL with an error text (to be freed) where the template breaks a rule.
 */
extern json_t *plan_map(const json_t *resources, const Graph *graph, char **error);

#endif /* CODER_PLAN_H */
