/*
 * gitdiff.c -- the output of a scan of a repository: branch NUL origin NUL diff.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "serve/edit.h"
#include "serve/gitdiff.h"

static const char rest_left_out[] = "# More files have changed; the rest of the changes is too long to be shown.\n";

void
git_clean_origin(char *url)
{
	char *host = strstr(url, "://");
	char *end;
	char *at;

	if (host == NULL || strncmp(url, "ssh://", 6) == 0)
		return;
	host += 3;
	end = host + strcspn(host, "/?#");
	at = memrchr(host, '@', (size_t) (end - host));
	if (at != NULL)
		memmove(host, at + 1, strlen(at + 1) + 1);
}

/* The bytes of a diff that are whole files and no more than max. */
static size_t
whole_files(const char *diff, size_t len, size_t max)
{
	static const char head[] = "diff --git ";
	size_t keep = 0;

	if (len <= max)
		return len;
	for (size_t at = 0; at <= max;)
	{
		const char *feed = memchr(diff + at, '\n', len - at);

		if (len - at >= sizeof(head) - 1 && memcmp(diff + at, head, sizeof(head) - 1) == 0)
			keep = at;
		if (feed == NULL)
			break;
		at = (size_t) (feed - diff) + 1;
	}
	return keep;
}

/* One field up to its NUL; what is behind it is what remains. */
static char *
take_field(const char **p, const char *end)
{
	const char *stop = memchr(*p, '\0', (size_t) (end - *p));
	char *field;

	if (stop == NULL)
		return NULL;
	field = edit_clean(*p, (size_t) (stop - *p), 0);
	*p = stop + 1;
	return field;
}

static char *
take_diff(const char *diff, size_t len, size_t max)
{
	size_t keep = whole_files(diff, len, max);
	char *text = edit_clean(diff, keep, 0);
	char *longer;

	if (keep == len || text == NULL)
		return text;
	longer = realloc(text, strlen(text) + sizeof(rest_left_out));
	if (longer == NULL)
	{
		free(text);
		return NULL;
	}
	return strcat(longer, rest_left_out);
}

bool
git_parse_scan(const char *output, size_t len, size_t max, GitScan *scan)
{
	const char *p = output;
	const char *end = output + len;

	memset(scan, 0, sizeof(*scan));
	if ((scan->branch = take_field(&p, end)) != NULL && (scan->origin = take_field(&p, end)) != NULL &&
		(scan->diff = take_diff(p, (size_t) (end - p), max)) != NULL)
	{
		git_clean_origin(scan->origin);
		return true;
	}
	git_free_scan(scan);
	return false;
}

void
git_free_scan(GitScan *scan)
{
	free(scan->branch);
	free(scan->origin);
	free(scan->diff);
	memset(scan, 0, sizeof(*scan));
}
