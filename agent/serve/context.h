/*
 * context.h -- what is told to models of a workspace: instruction files and skills.
 *
 * context.c has the texts, without I/O; contextfiles.c finds the files.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_CONTEXT_H
#define AGENT_SERVE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define CONTEXT_MAX_FILE ((size_t) 65536)
#define CONTEXT_MAX_PARTS 100

/*
 * A text as a model may read it: UTF-8, line feeds only, without HTML comments and without characters that people do not
 * see, trimmed.  malloc'ed; NULL when out of memory.
 */
char *context_clean(const char *bytes, size_t len);

/*
 * The front matter of a skill: YAML between two lines "---".  name and description are malloc'ed, description "" where there
 * is none; body points into text, behind the front matter.  False where it is no skill.
 */
bool context_skill(const char *text, size_t len, char **name, char **description, const char **body);

/* Letters, digits and single hyphens between them, all in lower case. */
bool context_is_skill_name(const char *name);

/* Settings of the environment, resolved against directory: where files are looked for. */
typedef struct ContextPlaces
{
	char *instruction_dirs; /* comma separated, as all dirs here */
	char *instruction_file;
	char *skill_dirs;
	char *skill_file;
	char *mcp_files;
} ContextPlaces;

/* Takes the settings out of the environment, so that commands do not see them; once, before any other thread. */
void context_take_settings(void);

/* The files that name MCP servers, comma separated. */
const char *context_mcp_files(void);

/* The parts of a workspace whose agent works in directory (NULL or "": none). */
json_t *context_parts(const char *directory);

/* Those of a folder that somebody named: its instruction file, and its skills. */
json_t *context_parts_of(const char *directory);

#endif
