/*
 * fuzz_route.c -- a pattern and a path, separated by a newline: neither may hurt.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../../gateway/route.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const fixed[] = {"/api/v2/users/{user}", "/api/v2/users/first", "/@{user}/{ws}/apps/{app}/{path...}"};
	const uint8_t *newline = memchr(data, '\n', size);
	GwRouteTable *table = gw_routes_new();
	GwRoute route = {.id = 1, .method = (char *) "GET"};
	GwMatch match;
	size_t len;
	char *path;
	char *out;

	for (size_t i = 0; i < 3; i++)
	{
		route.pattern = (char *) fixed[i];
		if (!gw_routes_add(table, &route))
			abort();
	}
	if (newline != NULL)
	{
		route.pattern = strndup((const char *) data, (size_t) (newline - data));
		gw_routes_add(table, &route);
		free(route.pattern);
		size -= (size_t) (newline + 1 - data);
		data = newline + 1;
	}
	path = malloc(size + 1);
	out = malloc(size + 1);
	len = gw_path_collapse(path, (const char *) data, size);
	gw_routes_find(table, "GET", 3, path, len, &match);
	for (int i = 0; match.route != NULL && i < match.n_params; i++)
	{
		size_t n;

		if (match.params[i].base < path || match.params[i].base + match.params[i].len > path + len)
			abort();
		if (gw_percent_decode(out, &n, match.params[i].base, match.params[i].len, i % 2) && memchr(out, 0, n) != NULL)
			abort();
	}
	free(path);
	free(out);
	gw_routes_unref(table);
	return 0;
}
