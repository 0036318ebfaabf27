/*
 * apphost.c -- hosts of workspace apps, each a name below the wildcard host.
 *
 * SPDX-License-Identifier: MIT
 */
#include "apphost.h"

#include <ctype.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static struct
{
	char suffix[256]; /* behind the asterisk; empty: there is no wildcard host */
	char access[256]; /* the server's own host, which is none of them */
	char cookie[80];
} apphost;

/* The host of "[scheme://]host[:port][/…]". */
static void
host_of(char *dst, size_t cap, const char *url)
{
	const char *host = strstr(url, "://");
	size_t n;

	host = host != NULL ? host + 3 : url;
	n = *host == '[' ? strcspn(host, "]/") + 1 : strcspn(host, ":/?#");
	snprintf(dst, cap, "%.*s", (int) n, host);
}

void
gw_apphost_init(const char *wildcard, const char *access_url)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char host[256] = "";
	int n;

	memset(&apphost, 0, sizeof(apphost));
	host_of(apphost.access, sizeof(apphost.access), access_url);
	if (wildcard != NULL)
		host_of(host, sizeof(host), wildcard);
	if (host[0] != '*' || host[1] == '\0')
		return;
	snprintf(apphost.suffix, sizeof(apphost.suffix), "%s", host + 1);
	SHA256((const unsigned char *) host, strlen(host), digest);
	n = snprintf(apphost.cookie, sizeof(apphost.cookie), "coder_subdomain_app_session_token_");
	for (int i = 0; i < 16; i++)
		n += snprintf(apphost.cookie + n, sizeof(apphost.cookie) - (size_t) n, "%02x", digest[i]);
}

size_t
gw_apphost_label(char label[static GW_APPHOST_LABEL_MAX + 1], const char *host, size_t len)
{
	size_t suffix = strlen(apphost.suffix);
	const char *colon;
	size_t n;

	if (suffix == 0)
		return 0;
	colon = memchr(host, ':', len);
	if (colon != NULL)
		len = (size_t) (colon - host);
	if (len <= suffix || len - suffix > GW_APPHOST_LABEL_MAX ||
		strncasecmp(host + len - suffix, apphost.suffix, suffix) != 0 ||
		(len == strlen(apphost.access) && strncasecmp(host, apphost.access, len) == 0))
		return 0;
	n = len - suffix;
	for (size_t i = 0; i < n; i++)
	{
		if (!isalnum((unsigned char) host[i]) && host[i] != '-')
			return 0;
		label[i] = (char) tolower((unsigned char) host[i]);
	}
	label[n] = '\0';
	return n;
}

const char *
gw_apphost_cookie(void)
{
	return apphost.cookie;
}
