/*
 * route.c -- coder.routes in memory.
 *
 * A tree of path segments.  At each node a literal child is tried before the
 * patterns ("{name}", "@{name}"), the pattern with the longer literal part
 * first, and "{name...}" last; a branch that leads nowhere is left again.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "route.h"
#include "wire/hex.h"

typedef struct Node Node;

struct Node
{
	char *text;		/* literal segment, or the literal part before "{" */
	size_t len;
	bool param;		/* {name} */
	bool rest;		/* {name...} */
	Node **children;
	int n_children;
	GwRoute **routes; /* that end here */
	int n_routes;
};

struct GwRouteTable
{
	atomic_int refs;
	size_t count;
	Node root;
};

/* Literals by text, then patterns by the length of their literal part, the rest last. */
static int
node_order(const Node *a, const Node *b)
{
	size_t len;
	int diff;

	if (a->param != b->param)
		return a->param ? 1 : -1;
	if (a->rest != b->rest)
		return a->rest ? 1 : -1;
	if (a->param && a->len != b->len)
		return a->len > b->len ? -1 : 1;
	len = a->len < b->len ? a->len : b->len;
	diff = memcmp(a->text, b->text, len);
	return diff != 0 ? diff : (a->len > b->len) - (a->len < b->len);
}

static Node *
child_of(Node *node, const Node *wanted)
{
	Node *child;
	int i;

	for (i = 0; i < node->n_children; i++)
	{
		int order = node_order(wanted, node->children[i]);

		if (order == 0)
			return node->children[i];
		if (order < 0)
			break;
	}
	node->children = realloc(node->children, (size_t) (node->n_children + 1) * sizeof(Node *));
	memmove(&node->children[i + 1], &node->children[i], (size_t) (node->n_children - i) * sizeof(Node *));
	child = calloc(1, sizeof(*child));
	if (node->children == NULL || child == NULL)
		abort();
	*child = (Node){.text = strndup(wanted->text, wanted->len), .len = wanted->len, .param = wanted->param,
					.rest = wanted->rest};
	node->children[i] = child;
	node->n_children++;
	return child;
}

GwRouteTable *
gw_routes_new(void)
{
	GwRouteTable *table = calloc(1, sizeof(*table));

	if (table == NULL)
		abort();
	atomic_store(&table->refs, 1);
	return table;
}

/* One segment of a pattern.  False: braces that do not end it, or an empty name. */
static bool
parse_segment(const char *text, size_t len, Node *node)
{
	const char *brace = memchr(text, '{', len);

	*node = (Node){.text = (char *) text, .len = len};
	if (brace == NULL)
		return memchr(text, '}', len) == NULL;
	node->len = (size_t) (brace - text);
	node->param = true;
	if (text[len - 1] != '}' || len - node->len < 3)
		return false;
	node->rest = len - node->len > 5 && memcmp(text + len - 4, "...}", 4) == 0;
	return true;
}

bool
gw_routes_add(GwRouteTable *table, const GwRoute *route)
{
	const char *p = route->pattern;
	Node *node = &table->root;
	GwRoute *copy;
	int n_params = 0;
	int n_segments = 0;

	if (*p != '/')
		return false;
	while (*p == '/' && p[1] != '\0')
	{
		size_t len = strcspn(++p, "/");
		Node wanted;

		if (len == 0 || ++n_segments > GW_MAX_SEGMENTS || !parse_segment(p, len, &wanted) ||
			(wanted.rest && p[len] != '\0') || (wanted.param && ++n_params > GW_MAX_ROUTE_PARAMS))
			return false;
		node = child_of(node, &wanted);
		p += len;
	}
	copy = malloc(sizeof(*copy));
	node->routes = realloc(node->routes, (size_t) (node->n_routes + 1) * sizeof(GwRoute *));
	if (copy == NULL || node->routes == NULL)
		abort();
	*copy = *route;
	copy->method = strdup(route->method);
	copy->pattern = strdup(route->pattern);
	copy->n_params = n_params;
	node->routes[node->n_routes++] = copy;
	table->count++;
	return true;
}

static void
node_free(Node *node)
{
	for (int i = 0; i < node->n_children; i++)
	{
		node_free(node->children[i]);
		free(node->children[i]);
	}
	for (int i = 0; i < node->n_routes; i++)
	{
		free(node->routes[i]->method);
		free(node->routes[i]->pattern);
		free(node->routes[i]);
	}
	free(node->children);
	free(node->routes);
	free(node->text);
}

GwRouteTable *
gw_routes_ref(GwRouteTable *table)
{
	atomic_fetch_add(&table->refs, 1);
	return table;
}

void
gw_routes_unref(GwRouteTable *table)
{
	if (table == NULL || atomic_fetch_sub(&table->refs, 1) != 1)
		return;
	node_free(&table->root);
	free(table);
}

size_t
gw_routes_count(const GwRouteTable *table)
{
	return table->count;
}

static const GwRoute *
node_by_id(const Node *node, int id)
{
	const GwRoute *found = NULL;

	for (int i = 0; i < node->n_routes && found == NULL; i++)
		if (node->routes[i]->id == id)
			found = node->routes[i];
	for (int i = 0; i < node->n_children && found == NULL; i++)
		found = node_by_id(node->children[i], id);
	return found;
}

const GwRoute *
gw_routes_by_id(const GwRouteTable *table, int id)
{
	return node_by_id(&table->root, id);
}

typedef struct Search
{
	const char *method;
	size_t method_len;
	GwMatch *match;
} Search;

static const GwRoute *
route_of(const Node *node, const char *method, size_t len)
{
	for (int i = 0; i < node->n_routes; i++)
	{
		const char *m = node->routes[i]->method;

		if (strcmp(m, "*") == 0 || (strlen(m) == len && memcmp(m, method, len) == 0))
			return node->routes[i];
	}
	return NULL;
}

static bool
accept_node(const Node *node, Search *search)
{
	const GwRoute *route = route_of(node, search->method, search->method_len);

	if (route == NULL && search->method_len == 4 && memcmp(search->method, "HEAD", 4) == 0)
		route = route_of(node, "GET", 3);
	if (node->n_routes > 0)
		search->match->path_known = true;
	search->match->route = route;
	return route != NULL;
}

static const Node *
find_literal(const Node *node, const char *text, size_t len)
{
	int low = 0;
	int high = node->n_children;
	Node wanted = {.text = (char *) text, .len = len};

	while (low < high)
	{
		int mid = (low + high) / 2;
		int order = node_order(&wanted, node->children[mid]);

		if (order == 0)
			return node->children[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

/* path is what follows node: empty, "/" or "/segment...". */
static bool
walk(const Node *node, const char *path, size_t len, int n_params, int depth, Search *search)
{
	const Node *child;
	const char *slash;
	size_t seg;

	if (len <= 1)
	{
		search->match->n_params = n_params;
		return accept_node(node, search);
	}
	if (depth > GW_MAX_SEGMENTS)
		return false;
	path++;
	len--;
	slash = memchr(path, '/', len);
	seg = slash != NULL ? (size_t) (slash - path) : len;
	child = find_literal(node, path, seg);
	if (child != NULL && walk(child, path + seg, len - seg, n_params, depth + 1, search))
		return true;
	for (int i = node->n_children - 1; i >= 0 && node->children[i]->param; i--)
		if (i == 0 || !node->children[i - 1]->param)
		{
			/* i is the first pattern: they are tried in their order. */
			for (; i < node->n_children; i++)
			{
				child = node->children[i];
				if (seg <= child->len || memcmp(path, child->text, child->len) != 0 || n_params >= GW_MAX_ROUTE_PARAMS)
					continue;
				search->match->params[n_params] =
					(GwSlice){path + child->len, (child->rest ? len : seg) - child->len};
				if (child->rest)
				{
					search->match->n_params = n_params + 1;
					if (accept_node(child, search))
						return true;
				}
				else if (walk(child, path + seg, len - seg, n_params + 1, depth + 1, search))
					return true;
			}
			break;
		}
	return false;
}

void
gw_routes_find(const GwRouteTable *table, const char *method, size_t method_len, const char *path, size_t len,
			   GwMatch *match)
{
	Search search = {method, method_len, match};

	match->route = NULL;
	match->path_known = false;
	match->n_params = 0;
	if (len > 0 && path[0] == '/')
		walk(&table->root, path, len, 0, 0, &search);
}

size_t
gw_path_collapse(char *dst, const char *path, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (path[i] != '/' || n == 0 || dst[n - 1] != '/')
			dst[n++] = path[i];
	return n;
}

bool
gw_percent_decode(char *dst, size_t *dst_len, const char *src, size_t len, bool plus)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		char c = src[i];

		if (c == '%')
		{
			int high = i + 2 < len ? wire_hex_value(src[i + 1]) : -1;
			int low = i + 2 < len ? wire_hex_value(src[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char) (high << 4 | low);
			i += 2;
		}
		else if (c == '+' && plus)
			c = ' ';
		if (c == '\0')
			return false;
		dst[n++] = c;
	}
	*dst_len = n;
	return true;
}
