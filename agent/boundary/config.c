/*
 * config.c -- a boundary's configuration file, read by libyaml.  No I/O.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

static const struct Key
{
	const char *name;
	size_t offset;
} keys[] = {
	{"log_level", offsetof(BoundaryConfig, log_level)},
	{"log_dir", offsetof(BoundaryConfig, log_dir)},
	{"proxy_port", offsetof(BoundaryConfig, proxy_port)},
	{"jail_type", offsetof(BoundaryConfig, jail_type)},
	{"use_real_dns", offsetof(BoundaryConfig, use_real_dns)},
	{"no_user_namespace", offsetof(BoundaryConfig, no_user_namespace)},
	{"disable_audit_logs", offsetof(BoundaryConfig, disable_audit_logs)},
	{"log_proxy_socket_path", offsetof(BoundaryConfig, log_proxy_socket_path)},
};
#define NKEYS (sizeof(keys) / sizeof(keys[0]))

/* Known to the public tool; they mean nothing here. */
static const char *const ignored[] = {"pprof_enabled", "pprof_port"};

typedef struct Reader
{
	yaml_parser_t parser;
	BoundaryConfig *config;
	BoundaryRules *rules;
	char *error;
	size_t error_size;
} Reader;

static bool
problem_at(Reader *reader, const yaml_event_t *event, const char *what)
{
	snprintf(reader->error, reader->error_size, "line %zu: %s", event != NULL ? event->start_mark.line + 1 : reader->parser.problem_mark.line + 1, what);
	return false;
}

static bool
next(Reader *reader, yaml_event_t *event)
{
	if (yaml_parser_parse(&reader->parser, event))
		return true;
	memset(event, 0, sizeof(*event));
	return problem_at(reader, NULL, reader->parser.problem != NULL ? reader->parser.problem : "not YAML");
}

static const char *
scalar(const yaml_event_t *event)
{
	const char *text = (const char *) event->data.scalar.value;

	return event->type == YAML_SCALAR_EVENT && strlen(text) == event->data.scalar.length ? text : NULL;
}

static bool
read_rules(Reader *reader)
{
	yaml_event_t event;
	bool ok, more = true;
	char problem[512];

	if (!next(reader, &event))
		return false;
	ok = event.type == YAML_SEQUENCE_START_EVENT;
	if (!ok && event.type == YAML_SCALAR_EVENT && event.data.scalar.length == 0) /* "allowlist:" and nothing */
		more = !(ok = true);
	else if (!ok)
		problem_at(reader, &event, "allowlist is a list of rules");
	yaml_event_delete(&event);
	while (ok && more)
	{
		if (!next(reader, &event))
			return false;
		if (event.type == YAML_SEQUENCE_END_EVENT)
			more = false;
		else if (scalar(&event) == NULL)
			ok = problem_at(reader, &event, "a rule is a text");
		else if (!boundary_rules_add(reader->rules, scalar(&event), problem, sizeof(problem)))
			ok = problem_at(reader, &event, problem);
		yaml_event_delete(&event);
	}
	return ok;
}

static bool
read_value(Reader *reader, const char *name)
{
	yaml_event_t event;
	bool ok = false, known = false;

	if (!next(reader, &event))
		return false;
	for (size_t i = 0; i < NKEYS; i++)
		if (strcmp(keys[i].name, name) == 0 && scalar(&event) != NULL)
		{
			char **value = (char **) (void *) ((char *) reader->config + keys[i].offset);

			free(*value);
			*value = strdup(scalar(&event));
			ok = known = true;
		}
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		if (strcmp(ignored[i], name) == 0 && event.type == YAML_SCALAR_EVENT)
			ok = known = true;
	if (!known)
	{
		char what[160];

		snprintf(what, sizeof(what), "\"%.80s\" is no setting of a boundary, or its value is no text", name);
		problem_at(reader, &event, what);
	}
	yaml_event_delete(&event);
	return ok;
}

/* The mapping of the document; an empty file has none. */
static bool
read_document(Reader *reader)
{
	yaml_event_t event;
	bool ok = true, inside = false, more = true;

	while (ok && more)
	{
		char name[128] = "";

		if (!next(reader, &event))
			return false;
		if (event.type == YAML_STREAM_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
			more = false;
		else if (!inside && event.type == YAML_MAPPING_START_EVENT)
			inside = true;
		else if (inside && scalar(&event) != NULL)
			snprintf(name, sizeof(name), "%s", scalar(&event));
		else if (inside || (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT &&
							event.type != YAML_DOCUMENT_END_EVENT && !(scalar(&event) != NULL && *scalar(&event) == '\0')))
			ok = problem_at(reader, &event, "expected \"name: value\"");
		yaml_event_delete(&event);
		if (ok && inside && *name != '\0')
			ok = strcmp(name, "allowlist") == 0 ? read_rules(reader) : read_value(reader, name);
	}
	return ok;
}

bool
boundary_config_read(BoundaryConfig *config, BoundaryRules *rules, const char *text, size_t size, char *error, size_t error_size)
{
	Reader reader = {.config = config, .rules = rules, .error = error, .error_size = error_size};
	bool ok;

	*config = (BoundaryConfig) {0};
	if (size > BOUNDARY_CONFIG_MAX || !yaml_parser_initialize(&reader.parser))
	{
		snprintf(error, error_size, "the file is too large");
		return false;
	}
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *) text, size);
	ok = read_document(&reader);
	yaml_parser_delete(&reader.parser);
	if (!ok)
		boundary_config_free(config);
	return ok;
}

void
boundary_config_free(BoundaryConfig *config)
{
	for (size_t i = 0; i < NKEYS; i++)
	{
		char **value = (char **) (void *) ((char *) config + keys[i].offset);

		free(*value);
		*value = NULL;
	}
}
