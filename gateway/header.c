/*
 * header.c -- values of headers in parts: see header.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "header.h"

#include <string.h>

h2o_iovec_t
gw_cookie(h2o_iovec_t cookies, const char *name)
{
	const char *p = cookies.base;
	const char *end = p != NULL ? p + cookies.len : NULL;
	size_t len = strlen(name);

	while (p != NULL && p < end)
	{
		const char *stop = memchr(p, ';', (size_t) (end - p));

		if (stop == NULL)
			stop = end;
		while (p < stop && *p == ' ')
			p++;
		if ((size_t) (stop - p) > len && memcmp(p, name, len) == 0 && p[len] == '=')
		{
			p += len + 1;
			while (stop > p && stop[-1] == ' ')
				stop--;
			if (stop - p >= 2 && *p == '"' && stop[-1] == '"')
			{
				p++;
				stop--;
			}
			return h2o_iovec_init(p, (size_t) (stop - p));
		}
		p = stop + 1;
	}
	return (h2o_iovec_t){NULL, 0};
}

bool
gw_list_has(h2o_iovec_t list, const char *token)
{
	const char *p = list.base;
	const char *end = p != NULL ? p + list.len : NULL;

	while (p != NULL && p < end)
	{
		const char *comma = memchr(p, ',', (size_t) (end - p));
		const char *stop = comma != NULL ? comma : end;
		const char *q = stop;

		while (p < q && (*p == ' ' || *p == '\t'))
			p++;
		while (q > p && (q[-1] == ' ' || q[-1] == '\t'))
			q--;
		if ((size_t) (q - p) == strlen(token) && memcmp(p, token, (size_t) (q - p)) == 0)
			return true;
		p = stop + 1;
	}
	return false;
}
