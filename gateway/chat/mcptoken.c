/*
 * mcptoken.c -- tokens with which the owner of a chat is known to MCP servers; those that have expired are refreshed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mcpset.h"

#define WAIT_MS 150 /* until it is asked again whether somebody else has refreshed a token */

static void
on_refresh_stored(void *arg, PGresult *result)
{
	McpSet *set = arg;

	(void) result;
	set->call = NULL;
	mcp_ask_tokens(set);
}

static void
on_refreshed(void *arg, json_t *results)
{
	McpSet *set = arg;
	char *links = json_dumps(set->links, JSON_COMPACT);
	char *text = json_dumps(results, JSON_COMPACT);
	const char *const params[] = {set->owner, links, text};

	set->errand = NULL;
	set->call = db_call("SELECT coder.mcp_refresh_done($1, $2::jsonb, $3::jsonb)", 3, params, on_refresh_stored, set);
	json_decref(results);
	free(links);
	free(text);
}

/* Those that have a token, or will have none, are connected to. */
static void
take_tokens(McpSet *set, const json_t *tokens)
{
	for (int i = 0; i < set->n && !set->closed; i++)
	{
		McpServer *server = &set->servers[i];
		const json_t *token = json_object_get(tokens, server->id);

		if (server->state != MCP_WAITING || server->config == NULL)
			continue;
		if (!json_is_string(token))
			mcp_server_out(server, "wants the owner of this chat to sign in: it can be connected in the settings of the chat");
		else
		{
			server->authorization = strdup(json_string_value(token));
			mcp_connect(server);
		}
	}
}

static void
on_tokens(void *arg, PGresult *result)
{
	McpSet *set = arg;
	json_t *answer = NULL;
	const json_t *requests;

	set->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		answer = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	requests = json_object_get(answer, "requests");
	mcp_enter(set);
	if (json_array_size(requests) > 0)
	{
		json_decref(set->links);
		set->links = json_incref(json_object_get(answer, "links"));
		set->refreshed = true;
		set->errand = errand_begin(requests, on_refreshed, set);
	}
	if (set->errand != NULL)
		;
	else if (json_is_true(json_object_get(answer, "busy")) && turn_env.now_ms() + WAIT_MS < set->connect_by)
		set->ask_at = turn_env.now_ms() + WAIT_MS;
	else
		take_tokens(set, json_object_get(answer, "tokens"));
	mcp_leave(set);
	json_decref(answer);
}

/* Of the servers that wait for one. */
void
mcp_ask_tokens(McpSet *set)
{
	char ids[MCP_MAX_SERVERS * 40 + 3] = "{";
	size_t len = 1;
	const char *const params[] = {set->owner, ids, set->refreshed ? "false" : "true"};

	set->ask_at = 0;
	for (int i = 0; i < set->n; i++)
		if (set->servers[i].state == MCP_WAITING && set->servers[i].config != NULL)
			len += (size_t) snprintf(ids + len, sizeof(ids) - len, "%s%s", len > 1 ? "," : "", set->servers[i].id);
	snprintf(ids + len, sizeof(ids) - len, "}");
	if (len > 1)
		set->call = db_call("SELECT coder.chat_mcp_tokens($1, $2, $3)", 3, params, on_tokens, set);
}
