/*
 * graph.c -- the dependency graph of a template
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/plan_int.h"

#include <stdlib.h>
#include <string.h>

Graph *
graph_create(void)
{
	Graph *g = calloc(1, sizeof(*g));

	if (g == NULL)
		abort();
	g->index = json_object();
	return g;
}

void
graph_free(Graph *g)
{
	size_t i;

	if (g == NULL)
		return;
	for (i = 0; i < g->n; i++)
	{
		free(g->nodes[i].name);
		free(g->nodes[i].label);
		free(g->nodes[i].out);
		free(g->nodes[i].in);
	}
	free(g->nodes);
	json_decref(g->index);
	free(g);
}

static size_t
node_of(Graph *g, const char *name)
{
	const json_t *known = json_object_get(g->index, name);

	if (known != NULL)
		return (size_t) json_integer_value(known);
	if (g->n == g->cap)
	{
		g->cap = g->cap == 0 ? 64 : g->cap * 2;
		g->nodes = realloc(g->nodes, g->cap * sizeof(*g->nodes));
		if (g->nodes == NULL)
			abort();
	}
	g->nodes[g->n] = (Node){.name = strdup(name)};
	json_object_set_new(g->index, name, json_integer((json_int_t) g->n));
	return g->n++;
}

static void
push(size_t **list, size_t *n, size_t item)
{
	if ((*n & (*n - 1)) == 0) /* grow at powers of two */
	{
		*list = realloc(*list, (*n == 0 ? 1 : *n * 2) * sizeof(**list));
		if (*list == NULL)
			abort();
	}
	(*list)[(*n)++] = item;
}

static void
connect_nodes(Graph *g, size_t from, size_t to)
{
	push(&g->nodes[from].out, &g->nodes[from].n_out, to);
	push(&g->nodes[to].in, &g->nodes[to].n_in, from);
}

static size_t
node_of_label(Graph *g, const char *label)
{
	char name[1024];
	size_t i;

	snprintf(name, sizeof(name), "[root] %.1000s (expand)", label);
	i = node_of(g, name);
	if (g->nodes[i].label == NULL)
		g->nodes[i].label = strdup(label);
	return i;
}

void
graph_node(Graph *g, const char *label)
{
	node_of_label(g, label);
}

void
graph_edge(Graph *g, const char *from_label, const char *to_label)
{
	const size_t from = node_of_label(g, from_label);

	connect_nodes(g, from, node_of_label(g, to_label));
}

/* The quoted text at *at with its escapes undone, *at behind it; NULL if there is none. */
static char *
quoted(const char **at, const char *end)
{
	const char *s = *at;
	char *out;
	size_t n = 0;

	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	if (s >= end || *s != '"')
		return NULL;
	out = malloc((size_t) (end - s) + 1);
	for (s++; out != NULL && s < end && *s != '"'; s++)
	{
		if (*s == '\\' && s + 1 < end)
			s++;
		out[n++] = *s;
	}
	if (out != NULL)
		out[n] = '\0';
	*at = s < end ? s + 1 : end;
	return out;
}

static void
parse_line(Graph *g, const char *at, const char *end)
{
	char *name = quoted(&at, end);
	char *other;
	const char *label;
	size_t i;

	if (name == NULL)
		return;
	while (at < end && *at == ' ')
		at++;
	if (end - at > 2 && memcmp(at, "->", 2) == 0)
	{
		at += 2;
		other = quoted(&at, end);
		if (other != NULL)
		{
			i = node_of(g, name);
			connect_nodes(g, i, node_of(g, other));
		}
		free(other);
	}
	else if (at < end && *at == '[' &&
			 (label = memmem(at, (size_t) (end - at), "label", 5)) != NULL)
	{
		at = memchr(label, '"', (size_t) (end - label));
		i = node_of(g, name);
		free(g->nodes[i].label);
		g->nodes[i].label = at != NULL ? quoted(&at, end) : NULL;
	}
	free(name);
}

Graph *
graph_parse(const char *dot, size_t len)
{
	Graph *g = graph_create();
	const char *at = dot;
	const char *end = dot + len;

	while (at < end)
	{
		const char *nl = memchr(at, '\n', (size_t) (end - at));

		parse_line(g, at, nl != NULL ? nl : end);
		at = nl != NULL ? nl + 1 : end;
	}
	return g;
}

bool
graph_has_type(const Graph *g, const char *type)
{
	const size_t n = strlen(type);
	size_t i;

	for (i = 0; i < g->n; i++)
	{
		const char *label = g->nodes[i].label;
		const char *hit = label != NULL ? strstr(label, type) : NULL;

		if (hit != NULL && hit[n] == '.' && (hit == label || hit[-1] == '.'))
			return true;
	}
	return false;
}

bool
graph_has_label(const Graph *g, const char *label)
{
	size_t i;

	for (i = 0; i < g->n; i++)
		if (g->nodes[i].label != NULL && strcmp(g->nodes[i].label, label) == 0)
			return true;
	return false;
}
