/*
 * askpass.c -- the question that git asks a helper.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/askpass.h"

#define MAX_URL 4096

bool
askpass_parse(const char *prompt, AskpassQuestion *question)
{
	const char *url = prompt;
	const char *end;
	const char *host;
	const char *at;

	if (strncmp(prompt, "Username ", 9) != 0 && strncmp(prompt, "Password ", 9) != 0)
		return false;
	for (int words = 0; words < 2; words++)
	{
		url += strcspn(url, " ");
		url += strspn(url, " ");
	}
	url += strspn(url, "'\"");
	end = url + strcspn(url, " ");
	while (end > url && strchr("'\":", end[-1]) != NULL)
		end--;
	host = strncasecmp(url, "https://", 8) == 0 ? url + 8 : strncasecmp(url, "http://", 7) == 0 ? url + 7 : NULL;
	if (host == NULL || host >= end || end - url > MAX_URL)
		return false;
	at = memrchr(host, '@', strcspn(host, "/?#") < (size_t) (end - host) ? strcspn(host, "/?#") : (size_t) (end - host));
	question->password = at != NULL && at > host;
	question->url = calloc(1, (size_t) (end - url) + 1);
	if (question->url == NULL)
		return false;
	memcpy(question->url, url, (size_t) (host - url));
	if (at != NULL)
		host = at + 1;
	strncat(question->url, host, (size_t) (end - host));
	return true;
}
