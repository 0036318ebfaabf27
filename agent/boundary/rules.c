/*
 * rules.c -- what a boundary lets through.  No I/O.
 *
 * Servers differ in what they make of "..", of an encoded slash and of a
 * backslash in a path.  A rule that names a path therefore matches only where
 * every reading matches, and never a path with dot segments.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/rules.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BLANKS " \t\n"
#define MAX_TARGET 16384

static bool
is_token(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) text[i]) && strchr("!#$%&'*+-.^_`|~", text[i]) == NULL)
			return false;
	return len > 0;
}

static bool
check_methods(const char *value)
{
	for (;; value++)
	{
		size_t len = strcspn(value, ",");

		if (!is_token(value, len))
			return false;
		value += len;
		if (*value == '\0')
			return true;
	}
}

static bool
is_label(const char *text, size_t len)
{
	if (len == 1 && *text == '*')
		return true;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) text[i]) && text[i] != '-')
			return false;
	return len > 0 && len < 64 && text[0] != '-' && text[len - 1] != '-';
}

static bool
check_domain(const char *value)
{
	if (strcmp(value, "*") == 0)
		return true;
	for (;; value++)
	{
		size_t len = strcspn(value, ".");

		if (!is_label(value, len))
			return false;
		if (value[len] == '\0')
			return *value != '*';
		value += len;
	}
}

/* A star is a whole segment, and what is encoded is encoded well. */
static bool
check_paths(const char *value)
{
	for (const char *p = value; *p != '\0'; p++)
	{
		bool begins = p == value || p[-1] == '/' || p[-1] == ',';

		if (*p == '%' && !(isxdigit((unsigned char) p[1]) && isxdigit((unsigned char) p[2])))
			return false;
		if (*p == '*' && !(begins && (p[1] == '\0' || p[1] == '/' || p[1] == ',')))
			return false;
		if (!isalnum((unsigned char) *p) && strchr("-._~!$&'()*+;=:@%/,", *p) == NULL)
			return false;
	}
	return true;
}

/* Adds to a list separated by commas. */
static bool
add_to(char **list, const char *value)
{
	char *both;

	if (*list == NULL)
		return (*list = strdup(value)) != NULL;
	if (asprintf(&both, "%s,%s", *list, value) < 0)
		return false;
	free(*list);
	*list = both;
	return true;
}

/* One pair; NULL, or what is wrong with it. */
static const char *
add_pair(BoundaryRule *rule, const char *pair)
{
	const char *value = strchr(pair, '=');
	size_t len = value != NULL ? (size_t) (value - pair) : 0;

	if (value == NULL)
		return "expected key=value with key method, domain or path";
	value++;
	if (len == 6 && strncmp(pair, "method", 6) == 0)
		return check_methods(value) && add_to(&rule->methods, value) ? NULL : "not a list of methods";
	if (len == 4 && strncmp(pair, "path", 4) == 0)
		return check_paths(value) && add_to(&rule->paths, value) ? NULL : "not a list of paths (* stands for a whole segment)";
	if (len != 6 || strncmp(pair, "domain", 6) != 0)
		return "unknown key: expected method, domain or path";
	if (rule->domain != NULL)
		return "a rule has one domain; write two rules";
	if (!check_domain(value))
		return "not a domain (* stands for a whole label, and not for the last)";
	rule->domain = strdup(value);
	for (char *p = rule->domain; p != NULL && *p != '\0'; p++)
		*p = (char) tolower((unsigned char) *p);
	return NULL;
}

static void
rule_clear(BoundaryRule *rule)
{
	free(rule->text);
	free(rule->methods);
	free(rule->domain);
	free(rule->paths);
}

bool
boundary_rules_add(BoundaryRules *rules, const char *text, char *error, size_t error_size)
{
	BoundaryRule rule = {.text = strdup(text)};
	BoundaryRule *list = realloc(rules->list, (rules->n + 1) * sizeof(*list));
	const char *problem = NULL;
	char *copy = strdup(text);
	char *rest = NULL;

	if (list != NULL)
		rules->list = list;
	if (list == NULL || copy == NULL || rule.text == NULL)
		problem = "out of memory";
	else if (strlen(text) > BOUNDARY_RULE_MAX || rules->n == BOUNDARY_RULES_MAX)
		problem = "too long, or too many rules";
	else
		for (char *pair = strtok_r(copy, BLANKS, &rest); pair != NULL && problem == NULL; pair = strtok_r(NULL, BLANKS, &rest))
			problem = add_pair(&rule, pair);
	if (problem == NULL && rule.methods == NULL && rule.domain == NULL && rule.paths == NULL)
		problem = "an empty rule would allow everything; write domain=* for that";
	free(copy);
	if (problem != NULL)
	{
		snprintf(error, error_size, "rule \"%.200s\": %s", text, problem);
		rule_clear(&rule);
		return false;
	}
	rules->list[rules->n++] = rule;
	return true;
}

void
boundary_rules_free(BoundaryRules *rules)
{
	for (size_t i = 0; i < rules->n; i++)
		rule_clear(&rules->list[i]);
	free(rules->list);
	*rules = (BoundaryRules) {0};
}

static bool
match_method(const char *list, const char *method)
{
	size_t want = strlen(method);

	for (;; list++)
	{
		size_t len = strcspn(list, ",");

		if ((len == 1 && *list == '*') || (len == want && strncmp(list, method, len) == 0))
			return true;
		list += len;
		if (*list == '\0')
			return false;
	}
}

static size_t
count_of(const char *text, char c)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == c;
	return n;
}

/* Label by label from the left, after what a first star stands for. */
static bool
match_domain(const char *pattern, const char *host)
{
	size_t labels = count_of(host, '.') + 1;
	size_t wanted = count_of(pattern, '.') + 1;

	if (strcmp(pattern, "*") == 0)
		return true;
	if (wanted > labels || (labels > wanted && pattern[0] != '*'))
		return false;
	for (; labels > wanted; labels--)
		host = strchr(host, '.') + 1;
	for (;;)
	{
		size_t p = strcspn(pattern, ".");
		size_t h = strcspn(host, ".");

		if (h == 0 || (!(p == 1 && *pattern == '*') && (p != h || strncasecmp(pattern, host, p) != 0)))
			return false;
		if (pattern[p] == '\0')
			return true;
		pattern += p + 1;
		host += h + 1;
	}
}

static int
hex(char c)
{
	return isdigit((unsigned char) c) ? c - '0' : tolower((unsigned char) c) - 'a' + 10;
}

/* Decodes len bytes of a path; slashes: encoded ones too.  False where it has what no path should. */
static bool
decode(char *out, const char *text, size_t len, bool slashes)
{
	for (size_t i = 0; i < len; i++)
	{
		char c = text[i];

		if (c == '%')
		{
			if (len - i < 3 || !isxdigit((unsigned char) text[i + 1]) || !isxdigit((unsigned char) text[i + 2]))
				return false;
			c = (char) (hex(text[i + 1]) << 4 | hex(text[i + 2]));
			if (c == '/' && !slashes)
				c = '%';
			else
				i += 2;
		}
		if ((unsigned char) c < 0x20 || c == 0x7f || c == '\\')
			return false;
		*out++ = c;
	}
	*out = '\0';
	return true;
}

static bool
has_dots(const char *path)
{
	for (const char *p = path; (p = strchr(p, '/')) != NULL;)
	{
		size_t dots = strspn(++p, ".");

		if ((dots == 1 || dots == 2) && (p[dots] == '\0' || p[dots] == '/' || p[dots] == ';'))
			return true;
	}
	return false;
}

/* One pattern of len bytes against a decoded path. */
static bool
match_path(const char *pattern, size_t len, const char *path)
{
	const char *end = pattern + len;
	char wanted[BOUNDARY_RULE_MAX + 1];

	if (pattern < end && *pattern == '/')
		pattern++;
	if (pattern == end)
		return true;
	path++;
	for (;;)
	{
		size_t p = 0, s = strcspn(path, "/");
		bool star;

		while (pattern + p < end && pattern[p] != '/')
			p++;
		star = p == 1 && *pattern == '*';
		if (!star && (!decode(wanted, pattern, p, true) || strlen(wanted) != s || strncmp(wanted, path, s) != 0))
			return false;
		pattern += p;
		path += s;
		if (pattern < end)
			pattern++;
		if (pattern == end)
			return *path == '\0' || star;
		if (*path == '\0')
			return false;
		path++;
	}
}

static bool
match_paths(const char *list, const char *path)
{
	for (;; list++)
	{
		size_t len = strcspn(list, ",");

		if (match_path(list, len, path))
			return true;
		list += len;
		if (*list == '\0')
			return false;
	}
}

static bool
match_target(const char *list, const char *target)
{
	char one[MAX_TARGET], other[MAX_TARGET];
	size_t len = strcspn(target, "?#");

	if (len >= MAX_TARGET || *target != '/' || !decode(one, target, len, true) || !decode(other, target, len, false) ||
		has_dots(one) || has_dots(other))
		return false;
	return match_paths(list, one) && match_paths(list, other);
}

const BoundaryRule *
boundary_rules_match(const BoundaryRules *rules, const char *method, const char *host, const char *target)
{
	for (size_t i = 0; i < rules->n; i++)
	{
		const BoundaryRule *rule = &rules->list[i];

		if ((rule->methods == NULL || match_method(rule->methods, method)) &&
			(rule->domain == NULL || match_domain(rule->domain, host)) &&
			(rule->paths == NULL || match_target(rule->paths, target)))
			return rule;
	}
	return NULL;
}
