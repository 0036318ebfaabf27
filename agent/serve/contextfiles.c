/*
 * contextfiles.c -- the instruction files and skills of a workspace.
 *
 *	~/.coder/AGENTS.md, <directory>/AGENTS.md			instructions
 *	~/.coder/skills/<name>/SKILL.md, .agents/skills/...	skills; the first of a name counts
 *
 * SPDX-License-Identifier: MIT
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/agent.h"
#include "serve/context.h"
#include "serve/http.h"

#define MAX_ENTRIES 1000 /* of a folder of skills */

static ContextPlaces places;

/* The setting, or what it is by itself; out of the environment. */
static char *
take(const char *name, const char *def)
{
	const char *value = getenv(name);
	char *copy = strdup(value != NULL && *value != '\0' ? value : def);

	unsetenv(name);
	return copy;
}

void
context_take_settings(void)
{
	places.instruction_dirs = take("CODER_AGENT_EXP_INSTRUCTIONS_DIRS", "~/.coder");
	places.instruction_file = take("CODER_AGENT_EXP_INSTRUCTIONS_FILE", "AGENTS.md");
	places.skill_dirs = take("CODER_AGENT_EXP_SKILLS_DIRS", "~/.coder/skills,.agents/skills");
	places.skill_file = take("CODER_AGENT_EXP_SKILL_META_FILE", "SKILL.md");
	places.mcp_files = take("CODER_AGENT_EXP_MCP_CONFIG_FILES", ".mcp.json");
}

const char *
context_mcp_files(void)
{
	return places.mcp_files != NULL ? places.mcp_files : "";
}

/* At most CONTEXT_MAX_FILE bytes of a regular file; malloc'ed, NULL where it cannot be read. */
static char *
read_text(const char *path, size_t *len, bool *truncated)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *data = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? malloc(CONTEXT_MAX_FILE + 1) : NULL;
	ssize_t n = 1;

	*len = 0;
	while (data != NULL && n > 0 && *len <= CONTEXT_MAX_FILE)
	{
		n = read(fd, data + *len, CONTEXT_MAX_FILE + 1 - *len);
		if (n < 0 && errno != EINTR)
		{
			free(data);
			data = NULL;
		}
		else if (n > 0)
			*len += (size_t) n;
	}
	if (fd >= 0)
		close(fd);
	*truncated = *len > CONTEXT_MAX_FILE;
	if (*truncated)
		*len = CONTEXT_MAX_FILE;
	return data;
}

static void
add_instructions(json_t *parts, const char *directory, const char *file)
{
	char path[PATH_MAX];
	size_t len;
	bool truncated;
	char *data;
	char *text;

	if (snprintf(path, sizeof(path), "%s/%s", directory, file) >= (int) sizeof(path) || json_array_size(parts) >= CONTEXT_MAX_PARTS)
		return;
	data = read_text(path, &len, &truncated);
	text = data != NULL ? context_clean(data, len) : NULL;
	if (text != NULL && *text != '\0')
	{
		json_t *part = json_pack("{s:s, s:s, s:s, s:n, s:s, s:s}", "type", "context-file", "context_file_path", path, "context_file_content", text,
								 "context_file_agent_id", "context_file_os", "linux", "context_file_directory", directory);

		if (part != NULL && truncated)
			json_object_set_new(part, "context_file_truncated", json_true());
		json_array_append_new(parts, part);
	}
	free(text);
	free(data);
}

/* Is there a part whose member has that value? */
static bool
has_part(const json_t *parts, const char *member, const char *value)
{
	size_t i;
	json_t *part;

	json_array_foreach(parts, i, part)
	{
		const char *own = json_string_value(json_object_get(part, member));

		if (own != NULL && strcmp(own, value) == 0)
			return true;
	}
	return false;
}

/* A skill's folder has its name. */
static void
add_skill(json_t *parts, const char *directory, const char *entry, const char *file)
{
	char folder[PATH_MAX];
	char path[PATH_MAX];
	size_t len;
	bool truncated;
	char *data;
	char *name = NULL;
	char *description = NULL;
	const char *body;

	if (!context_is_skill_name(entry) || has_part(parts, "skill_name", entry) || json_array_size(parts) >= CONTEXT_MAX_PARTS ||
		snprintf(folder, sizeof(folder), "%s/%s", directory, entry) >= (int) sizeof(folder) ||
		snprintf(path, sizeof(path), "%s/%s", folder, file) >= (int) sizeof(path))
		return;
	data = read_text(path, &len, &truncated);
	if (data != NULL && context_skill(data, len, &name, &description, &body))
	{
		if (strcmp(name, entry) == 0)
			json_array_append_new(parts, json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", "skill", "skill_name", name, "skill_description", description,
												   "skill_dir", folder, "context_file_skill_meta_file", file));
		free(name);
		free(description);
	}
	free(data);
}

static int
is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void
add_skills(json_t *parts, const char *directory, const char *file)
{
	struct dirent **entries;
	int n = scandir(directory, &entries, is_visible, alphasort);

	for (int i = 0; i < n; i++)
	{
		if (i < MAX_ENTRIES)
			add_skill(parts, directory, entries[i]->d_name, file);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* "~/a,b" with b below directory; found is called for each that there may be. */
static void
each_directory(const char *list, const char *directory, const char *file, json_t *parts, void (*found)(json_t *, const char *, const char *))
{
	char *copy = strdup(list);
	char *rest;

	for (char *one = copy != NULL ? strtok_r(copy, ",", &rest) : NULL; one != NULL; one = strtok_r(NULL, ",", &rest))
	{
		char *path = NULL;

		one += strspn(one, " \t");
		one[strcspn(one, " \t")] = '\0';
		if (*one == '~' || *one == '/')
			path = agent_expand(one, true);
		else if (*one == '\0' || directory == NULL || *directory == '\0' || asprintf(&path, "%s/%s", directory, one) < 0)
			path = NULL;
		if (path != NULL)
			found(parts, path, file);
		free(path);
	}
	free(copy);
}

json_t *
context_parts(const char *directory)
{
	json_t *parts = json_array();

	each_directory(places.instruction_dirs, directory, places.instruction_file, parts, add_instructions);
	if (directory != NULL && *directory != '\0' && !has_part(parts, "context_file_directory", directory))
		add_instructions(parts, directory, places.instruction_file);
	each_directory(places.skill_dirs, directory, places.skill_file, parts, add_skills);
	return parts;
}

json_t *
context_parts_of(const char *directory)
{
	json_t *parts = json_array();
	char skills[PATH_MAX];

	add_instructions(parts, directory, "AGENTS.md");
	if (snprintf(skills, sizeof(skills), "%s/.agents/skills", directory) < (int) sizeof(skills))
		add_skills(parts, skills, "SKILL.md");
	if (snprintf(skills, sizeof(skills), "%s/skills", directory) < (int) sizeof(skills))
		add_skills(parts, skills, "SKILL.md");
	return parts;
}

/* GET /api/v0/context-config */
void
context_get(Request *request)
{
	Agent *agent = http_agent(request);
	char *directory;

	pthread_mutex_lock(&agent->env_lock);
	directory = strdup(agent->directory != NULL ? agent->directory : "");
	pthread_mutex_unlock(&agent->env_lock);
	http_reply_json(request, 200, json_pack("{s:o}", "parts", context_parts(directory)));
	free(directory);
}
