/*
 * rules.h -- what a boundary lets through: "method=GET,HEAD domain=*.github.com path=/x/y".
 *
 * A rule is pairs key=value, separated by blanks; a key that is missing matches
 * everything.  A request is allowed where any rule matches.
 *
 *	method	names separated by commas, or *
 *	domain	labels: exactly these; a first label * stands for one or more, any other for one; * alone: every host
 *	path	patterns separated by commas: segments, * is one segment, and at the end any number
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_RULES_H
#define AGENT_BOUNDARY_RULES_H

#include <stdbool.h>
#include <stddef.h>

#define BOUNDARY_RULE_MAX 4096 /* length of a rule */
#define BOUNDARY_RULES_MAX 4096

typedef struct BoundaryRule
{
	char *text; /* as it was given */
	char *methods; /* NULL: all */
	char *domain; /* in lower case; NULL: all */
	char *paths; /* NULL: all */
} BoundaryRule;

typedef struct BoundaryRules
{
	BoundaryRule *list;
	size_t n;
} BoundaryRules;

/* Adds a rule; false with the reason in error where text is none. */
bool boundary_rules_add(BoundaryRules *rules, const char *text, char *error, size_t error_size);
void boundary_rules_free(BoundaryRules *rules);

/* The first rule that matches, or NULL.  target: path and query as in the request. */
const BoundaryRule *boundary_rules_match(const BoundaryRules *rules, const char *method, const char *host, const char *target);

#endif
