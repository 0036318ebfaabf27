/*
 * awsprofile.c -- keys of AWS as files and services tell them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "awsprofile.h"

#define MAX_SECRET 256
#define MAX_TOKEN 8192

/* What a profile is put together from. */
typedef struct Found
{
	char *id;
	char *secret;
	char *token;
} Found;

bool
aws_is_key(const char *key)
{
	size_t len = strcspn(key, ":");

	if (len < 16 || len > 128 || key[len] != ':' || (strncmp(key, "AKIA", 4) != 0 && strncmp(key, "ASIA", 4) != 0))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isupper((unsigned char) key[i]) && !isdigit((unsigned char) key[i]))
			return false;
	return true;
}

/* Printable, without a blank: it goes into headers. */
static bool
is_plain(const char *text, size_t most)
{
	size_t len = strnlen(text, most + 1);

	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char) text[i]))
			return false;
	return len > 0 && len <= most;
}

char *
aws_key(const char *id, const char *secret, const char *token)
{
	bool has_token = token != NULL && *token != '\0';
	char *key = NULL;

	if (id == NULL || secret == NULL || !is_plain(secret, MAX_SECRET) || strchr(secret, ':') != NULL ||
		(has_token && !is_plain(token, MAX_TOKEN)) || asprintf(&key, "%s:%s%s%s", id, secret, has_token ? ":" : "", has_token ? token : "") < 0)
		return NULL;
	if (aws_is_key(key))
		return key;
	free(key);
	return NULL;
}

/* Shared files ----------------------------------------------------------------- */

/* Of the bytes from *from to *to what is left without blanks around it. */
static void
trim(const char **from, const char **to)
{
	while (*from < *to && isspace((unsigned char) **from))
		(*from)++;
	while (*to > *from && isspace((unsigned char) (*to)[-1]))
		(*to)--;
}

/* Is this what stands in the brackets of the profile's section? */
static bool
is_section(const char *from, const char *to, const char *profile)
{
	static const char word[] = "profile";
	size_t len = sizeof(word) - 1;

	trim(&from, &to);
	if ((size_t) (to - from) > len && memcmp(from, word, len) == 0 && isspace((unsigned char) from[len]))
	{
		from += len;
		trim(&from, &to);
	}
	return (size_t) (to - from) == strlen(profile) && memcmp(from, profile, strlen(profile)) == 0;
}

static void
keep(char **slot, const char *from, const char *to)
{
	free(*slot);
	*slot = strndup(from, (size_t) (to - from));
}

static void
take_setting(Found *found, char region[AWS_REGION_MAX], const char *from, const char *to)
{
	const char *equals = memchr(from, '=', (size_t) (to - from));
	const char *end = equals;
	const char *value = equals != NULL ? equals + 1 : to;
	size_t len;

	if (equals == NULL)
		return;
	trim(&from, &end);
	trim(&value, &to);
	len = (size_t) (end - from);
	if (len == 17 && strncasecmp(from, "aws_access_key_id", len) == 0)
		keep(&found->id, value, to);
	else if (len == 21 && strncasecmp(from, "aws_secret_access_key", len) == 0)
		keep(&found->secret, value, to);
	else if (len == 17 && strncasecmp(from, "aws_session_token", len) == 0)
		keep(&found->token, value, to);
	else if (len == 6 && strncasecmp(from, "region", len) == 0 && to - value < AWS_REGION_MAX)
		snprintf(region, AWS_REGION_MAX, "%.*s", (int) (to - value), value);
}

void
aws_profile_read(const char *text, const char *profile, char **key, char region[AWS_REGION_MAX])
{
	Found found = {0};
	bool inside = false;
	const char *next;
	char *made;

	for (const char *line = text; line != NULL && *line != '\0'; line = next)
	{
		const char *from = line;
		const char *to = line + strcspn(line, "\n");

		next = *to == '\n' ? to + 1 : NULL;
		trim(&from, &to);
		if (from == to || *from == '#' || *from == ';')
			continue;
		if (*from == '[')
			inside = to[-1] == ']' && is_section(from + 1, to - 1, profile);
		else if (inside)
			take_setting(&found, region, from, to);
	}
	made = aws_key(found.id, found.secret, found.token);
	if (made != NULL)
	{
		free(*key);
		*key = made;
	}
	free(found.id);
	free(found.secret);
	free(found.token);
}

/* Services ----------------------------------------------------------------------- */

/* A time as text or in seconds; 0: it is none. */
static time_t
end_of(const json_t *value)
{
	const char *text = json_string_value(value);
	double seconds = json_number_value(value);
	struct tm tm = {0};
	const char *rest = text != NULL ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

	if (rest != NULL)
		return *rest == 'Z' || *rest == '.' ? timegm(&tm) : 0;
	return seconds > 0 && seconds < 1e11 ? (time_t) seconds : 0;
}

char *
aws_answer_read(const char *body, size_t len, time_t *expires)
{
	json_t *root = json_loadb(body, len, 0, NULL);
	const json_t *within = json_object_get(json_object_get(json_object_get(root, "AssumeRoleWithWebIdentityResponse"), "AssumeRoleWithWebIdentityResult"), "Credentials");
	const json_t *found = within != NULL ? within : root;
	const json_t *ends = json_object_get(found, "Expiration");
	char *key = aws_key(json_string_value(json_object_get(found, "AccessKeyId")), json_string_value(json_object_get(found, "SecretAccessKey")),
						json_string_value(json_object_get(found, within != NULL ? "SessionToken" : "Token")));

	*expires = end_of(ends);
	/* An end that cannot be read is none that can be relied on. */
	if (ends != NULL && *expires <= 0)
	{
		free(key);
		key = NULL;
	}
	json_decref(root);
	return key;
}

bool
aws_container_url(const char *url)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
	size_t len;

	if (strncasecmp(url, "https://", 8) == 0)
		return url[8] != '\0' && url[8] != '/';
	if (strncasecmp(url, "http://", 7) != 0)
		return false;
	url += 7;
	len = *url == '[' ? strcspn(url, "]/") + 1 : strcspn(url, ":/?#@");
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
	{
		if (strlen(hosts[i]) != len || strncasecmp(url, hosts[i], len) != 0)
			continue;
		url += len;
		/* No name and password before another host. */
		if (*url == ':')
			url += 1 + strspn(url + 1, "0123456789");
		return *url == '/' || *url == '\0';
	}
	return false;
}
