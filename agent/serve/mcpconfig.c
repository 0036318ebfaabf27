/*
 * mcpconfig.c -- {"mcpServers": {name: {"command", "args", "env"} or {"type", "url", "headers"}}}, and the tools of these servers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/mcpconfig.h"

#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
#define MAX_COMMAND ((size_t) 65536)

/* Two underscores stand between a server and its tool. */
static bool
is_server_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= 32 && strspn(name, NAME_CHARACTERS) == len && strstr(name, "__") == NULL && name[len - 1] != '_';
}

/* One word of a shell's command; buf has room for four times its length and three more. */
static char *
quote(char *buf, const char *word)
{
	*buf++ = '\'';
	for (; *word != '\0'; word++)
	{
		if (*word == '\'')
		{
			memcpy(buf, "'\\''", 4);
			buf += 4;
		}
		else
			*buf++ = *word;
	}
	*buf++ = '\'';
	*buf = '\0';
	return buf;
}

/* "exec 'program' 'argument' ... 2>/dev/null"; malloc'ed, NULL where it is none. */
static char *
command_of(const json_t *server)
{
	static const char last[] = " 2>/dev/null";
	const char *program = json_string_value(json_object_get(server, "command"));
	const json_t *args = json_object_get(server, "args");
	size_t room = 5 + (program != NULL ? 4 * strlen(program) + 3 : 0) + sizeof(last);
	char *text;
	char *p;
	size_t i;
	json_t *arg;

	if (program == NULL || *program == '\0')
		return NULL;
	json_array_foreach(args, i, arg)
	{
		if (!json_is_string(arg))
			return NULL;
		room += 4 * json_string_length(arg) + 4;
	}
	text = room <= 4 * MAX_COMMAND ? malloc(room) : NULL;
	if (text == NULL)
		return NULL;
	strcpy(text, "exec ");
	p = quote(text + 5, program);
	json_array_foreach(args, i, arg)
	{
		*p++ = ' ';
		p = quote(p, json_string_value(arg));
	}
	strcpy(p, last);
	return text;
}

/* Letters, digits and what else a header's name may have; its value begins no other header. */
static bool
is_header(const char *name, const json_t *value)
{
	return *name != '\0' && strspn(name, NAME_CHARACTERS "!#$%&'*+.^`|~") == strlen(name) && json_is_string(value) &&
		   strpbrk(json_string_value(value), "\r\n") == NULL;
}

/* A server at an address: {"name", "url", "sse", "headers"}; NULL where it is none. */
static json_t *
remote_of(const char *name, const json_t *server)
{
	const char *type = json_string_value(json_object_get(server, "type"));
	const char *url = json_string_value(json_object_get(server, "url"));
	json_t *headers = json_object();
	const char *header;
	json_t *value;

	/* Without a type an address is one of the newer transport. */
	if (url == NULL || strlen(url) > MCPCONFIG_MAX_URL || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
		(type != NULL && strcmp(type, "http") != 0 && strcmp(type, "streamable-http") != 0 && strcmp(type, "sse") != 0))
	{
		json_decref(headers);
		return NULL;
	}
	json_object_foreach(json_object_get(server, "headers"), header, value)
	{
		if (is_header(header, value))
			json_object_set(headers, header, value);
	}
	return json_pack("{s:s, s:s, s:b, s:o}", "name", name, "url", url, "sse", type != NULL && strcmp(type, "sse") == 0, "headers", headers);
}

/* A program: {"name", "command", "env"}; NULL where it is none. */
static json_t *
program_of(const char *name, const json_t *server)
{
	const char *type = json_string_value(json_object_get(server, "type"));
	char *command = type == NULL || strcmp(type, "stdio") == 0 ? command_of(server) : NULL;
	json_t *env = json_object_get(server, "env");
	json_t *made = command != NULL ? json_pack("{s:s, s:s, s:o}", "name", name, "command", command, "env",
											   json_is_object(env) ? json_incref(env) : json_object())
								   : NULL;

	free(command);
	return made;
}

json_t *
mcpconfig_servers(const char *text, size_t len)
{
	json_t *all = json_loadb(text, len, 0, NULL);
	json_t *named = json_object_get(all, "mcpServers");
	json_t *servers = json_is_object(named) ? json_array() : NULL;
	const char *name;
	json_t *server;

	json_object_foreach(named, name, server)
	{
		json_t *made = is_server_name(name) && json_array_size(servers) < MCPCONFIG_MAX_SERVERS ? program_of(name, server) : NULL;

		if (made == NULL && is_server_name(name) && json_array_size(servers) < MCPCONFIG_MAX_SERVERS)
			made = remote_of(name, server);
		if (made != NULL)
			json_array_append_new(servers, made);
	}
	json_decref(all);
	return servers;
}

static bool
take_name(char whole[MCPCONFIG_MAX_NAME + 1], const char *server, const char *tool)
{
	size_t len = tool != NULL ? strlen(tool) : 0;

	if (len == 0 || strspn(tool, NAME_CHARACTERS) != len || strlen(server) + 2 + len > MCPCONFIG_MAX_NAME)
		return false;
	strcpy(whole, server);
	strcat(whole, "__");
	strcat(whole, tool);
	return true;
}

void
mcpconfig_add_tools(json_t *tools, const char *server, const json_t *result)
{
	char name[MCPCONFIG_MAX_NAME + 1];
	size_t i;
	json_t *tool;

	json_array_foreach(json_object_get(result, "tools"), i, tool)
	{
		const char *description = json_string_value(json_object_get(tool, "description"));
		const json_t *schema = json_object_get(tool, "inputSchema");
		json_t *properties = json_object_get(schema, "properties");
		json_t *required = json_object_get(schema, "required");

		if (take_name(name, server, json_string_value(json_object_get(tool, "name"))) && json_array_size(tools) < MCPCONFIG_MAX_TOOLS)
			json_array_append_new(tools, json_pack("{s:s, s:s, s:s, s:o, s:o}", "server_name", server, "name", name, "description",
												   description != NULL ? description : "", "schema",
												   json_is_object(properties) ? json_incref(properties) : json_object(), "required",
												   json_is_array(required) ? json_incref(required) : json_array()));
	}
}

static json_t *
answer_item(const json_t *item)
{
	const char *type = json_string_value(json_object_get(item, "type"));
	json_t *data = json_object_get(item, "data");
	json_t *media = json_object_get(item, "mimeType");
	json_t *text = json_object_get(item, "text");
	const json_t *resource = json_object_get(item, "resource");
	json_t *made;

	if (type == NULL)
		return NULL;
	if (strcmp(type, "resource") == 0)
		text = json_object_get(resource, "text");
	else if (strcmp(type, "resource_link") == 0)
		text = json_object_get(item, "uri");
	if (json_is_string(data) && json_is_string(media) && (strcmp(type, "image") == 0 || strcmp(type, "audio") == 0))
		return json_pack("{s:s, s:O, s:O}", "type", type, "data", data, "media_type", media);
	made = json_pack("{s:s}", "type", "text");
	json_object_set_new(made, "text", json_is_string(text) ? json_incref(text) : json_sprintf("[%s]", type));
	return made;
}

json_t *
mcpconfig_answer(const json_t *result)
{
	json_t *content = json_array();
	const json_t *structured = json_object_get(result, "structuredContent");
	size_t i;
	json_t *item;

	json_array_foreach(json_object_get(result, "content"), i, item)
	{
		json_t *made = answer_item(item);

		if (made != NULL)
			json_array_append_new(content, made);
	}
	if (json_array_size(content) == 0 && json_is_object(structured))
	{
		char *text = json_dumps(structured, JSON_COMPACT);

		json_array_append_new(content, json_pack("{s:s, s:s}", "type", "text", "text", text != NULL ? text : ""));
		free(text);
	}
	return json_pack("{s:o, s:b}", "content", content, "is_error", (int) json_is_true(json_object_get(result, "isError")));
}
