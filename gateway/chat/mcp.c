/*
 * mcp.c -- the MCP servers of a chat: configuration -> token -> session -> calls.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcpset.h"

#define MAX_TOOLS 256 /* of all servers */

static McpSet *sets;

static void
set_free(McpSet *set)
{
	*set->link = set->next;
	if (set->next != NULL)
		set->next->link = set->link;
	for (int i = 0; i < set->n; i++)
		mcp_server_free(&set->servers[i]);
	json_decref(set->links);
	free(set);
}

void
mcp_enter(McpSet *set)
{
	set->depth++;
}

void
mcp_leave(McpSet *set)
{
	if (--set->depth == 0 && set->closed)
		set_free(set);
}

void
mcp_close(McpSet *set)
{
	if (set == NULL || set->closed)
		return;
	set->closed = true;
	while (set->calls != NULL)
		mcp_cancel(set->calls);
	for (int i = 0; i < set->n; i++)
		mcp_end_session(&set->servers[i]);
	while (set->posts != NULL)
		mcp_post_free(set->posts);
	db_forget(set->call);
	errand_cancel(set->errand);
	set->call = NULL;
	set->errand = NULL;
	if (set->depth == 0)
		set_free(set);
}

const json_t *
mcp_find_tool(const McpSet *set, const char *name, bool usable, McpServer **server)
{
	size_t j;
	json_t *tool;

	for (int i = 0; set != NULL && i < set->n; i++)
	{
		if (usable && set->servers[i].state == MCP_OUT)
			continue;
		json_array_foreach(set->servers[i].tools, j, tool)
		{
			if (strcmp(json_string_value(json_object_get(tool, "name")), name) != 0)
				continue;
			if (server != NULL)
				*server = (McpServer *) &set->servers[i];
			return tool;
		}
	}
	return NULL;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(json_string_value(json_object_get(*(json_t *const *) a, "name")), json_string_value(json_object_get(*(json_t *const *) b, "name")));
}

void
mcp_add_tools(const McpSet *set, json_t *tools)
{
	json_t *all[MAX_TOOLS];
	size_t n = 0;
	size_t j;
	json_t *tool;

	for (int i = 0; set != NULL && i < set->n; i++)
	{
		if (set->servers[i].state == MCP_OUT)
			continue;
		json_array_foreach(set->servers[i].tools, j, tool)
		{
			/* Of two tools that have one name in the end the first server's is there. */
			if (n < MAX_TOOLS && mcp_find_tool(set, json_string_value(json_object_get(tool, "name")), true, NULL) == tool)
				all[n++] = tool;
		}
	}
	qsort(all, n, sizeof(all[0]), by_name);
	for (size_t i = 0; i < n; i++)
	{
		json_t *shown = json_copy(all[i]);

		json_object_del(shown, "tool");
		json_array_append_new(tools, shown);
	}
}

const char *
mcp_server_of(const McpSet *set, const char *tool)
{
	McpServer *server = NULL;

	return mcp_find_tool(set, tool, false, &server) != NULL ? server->id : NULL;
}

const char *
mcp_why_not(const McpSet *set, const char *tool)
{
	for (int i = 0; set != NULL && i < set->n; i++)
	{
		const McpServer *server = &set->servers[i];
		size_t len = server->slug != NULL ? strlen(server->slug) : 0;

		if (server->state == MCP_OUT && len > 0 && strncmp(tool, server->slug, len) == 0 && strncmp(tool + len, "__", 2) == 0)
			return server->why;
	}
	return NULL;
}

static void
on_config(void *arg, const json_t *value, const char *error)
{
	McpServer *server = arg;
	const char *transport = json_string_value(json_object_get(value, "transport"));
	const char *auth = json_string_value(json_object_get(value, "auth_type"));
	McpSet *set = server->set;

	server->wait = NULL;
	if (error != NULL || transport == NULL || auth == NULL)
	{
		/* Gone or turned off: no news. */
		server->state = MCP_OUT;
		snprintf(server->why, sizeof(server->why), "is not there");
		return;
	}
	server->config = json_incref((json_t *) value);
	server->slug = json_string_value(json_object_get(value, "slug"));
	server->url = json_string_value(json_object_get(value, "url"));
	server->is_sse = strcmp(transport, "sse") == 0;
	if (strcmp(auth, "oauth2") != 0)
		mcp_connect(server);
	else
		set->ask_at = 1; /* at the next tick, for all of them */
}

McpSet *
mcp_open(const json_t *chat, McpReady ready, void *arg)
{
	const json_t *ids = json_object_get(chat, "mcp_server_ids");
	const char *owner = json_string_value(json_object_get(chat, "owner_id"));
	McpSet *set = json_array_size(ids) > 0 && owner != NULL ? calloc(1, sizeof(*set)) : NULL;
	size_t i;
	json_t *id;

	if (set == NULL)
		return NULL;
	snprintf(set->owner, sizeof(set->owner), "%s", owner);
	set->ready = ready;
	set->arg = arg;
	set->connect_by = turn_env.now_ms() + MCP_CONNECT_MS;
	set->next = sets;
	set->link = &sets;
	if (sets != NULL)
		sets->link = &set->next;
	sets = set;
	json_array_foreach(ids, i, id)
	{
		McpServer *server = &set->servers[set->n];
		ConfigWait *wait;

		if (set->n == MCP_MAX_SERVERS || !json_is_string(id))
			break;
		set->n++;
		server->set = set;
		server->inbox = json_array();
		snprintf(server->id, sizeof(server->id), "%s", json_string_value(id));
		wait = config_get(turn_env.config, CONFIG_MCP_SERVER, server->id, turn_env.now_ms(), on_config, server);
		if (wait != NULL)
			server->wait = wait;
	}
	return set;
}

static bool
is_settled(const McpSet *set)
{
	for (int i = 0; i < set->n; i++)
		if (set->servers[i].state == MCP_WAITING || set->servers[i].state == MCP_CONNECTING)
			return false;
	return true;
}

/* One thing; true: the set may be gone, and another one too. */
static bool
work(McpSet *set, int64_t now)
{
	for (int i = 0; i < set->n; i++)
		if (mcp_work_server(&set->servers[i], now))
			return true;
	if (mcp_work_calls(set, now))
		return true;
	if (set->ask_at != 0 && set->ask_at <= now)
	{
		mcp_ask_tokens(set);
		return true;
	}
	if (!set->told && is_settled(set))
	{
		set->told = true;
		set->ready(set->arg);
		return true;
	}
	return false;
}

int64_t
mcp_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();
	McpSet *set = sets;

	while (set != NULL)
		set = !set->closed && work(set, now) ? sets : set->next;
	for (set = sets; set != NULL; set = set->next)
	{
		if (set->ask_at != 0 && set->ask_at - now < most)
			most = set->ask_at - now;
		for (McpCall *call = set->calls; call != NULL; call = call->next)
			if (call->until - now < most)
				most = call->until - now;
	}
	return most > 0 ? most : 0;
}

void
mcp_drop_all(void)
{
	while (sets != NULL)
		mcp_close(sets);
	mcp_post_drop_all();
}
