/*
 * mcpcall.c -- what is asked of an MCP server, until it is answered or its time is over.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "mcpset.h"

void
mcp_call_free(McpCall *call)
{
	*call->link = call->next;
	if (call->next != NULL)
		call->next->link = call->link;
	if (call->post != NULL)
		mcp_post_free(call->post);
	free(call->text);
	free(call);
}

/* A call has ended; the set may be closed by what that leads to. */
void
mcp_call_end(McpCall *call, json_t *result, unsigned flags)
{
	McpDone done = call->done;
	void *arg = call->arg;

	mcp_call_free(call);
	if (done != NULL)
		done(arg, result, flags);
	else
		json_decref(result);
}

void
mcp_call_fail(McpCall *call, const char *why)
{
	McpServer *server = call->server;

	mcp_call_end(call, json_pack("{s:o}", "error", json_sprintf("The MCP server %s %s.", server->slug, why)), MCP_FAILED);
}

McpCall *
mcp_new_call(McpServer *server, McpStep step, const char *method, json_t *params)
{
	McpCall *call = calloc(1, sizeof(*call));
	McpSet *set = server->set;
	int64_t now = turn_env.now_ms();

	if (call == NULL)
	{
		json_decref(params);
		return NULL;
	}
	call->server = server;
	call->step = step;
	call->id = set->next_id++;
	if (step == MCP_STEP_TOOL)
		json_object_set_new(params, "_meta", json_pack("{s:I}", "progressToken", (json_int_t) call->id));
	call->text = mcp_request(call->id, method, params);
	call->until = step == MCP_STEP_TOOL ? now + MCP_CALL_MS : set->connect_by;
	call->last = step == MCP_STEP_TOOL ? now + MCP_LONGEST_CALL_MS : set->connect_by;
	if (step != MCP_STEP_TOOL && call->until < now + 1000)
		call->until = call->last = now + MCP_CONNECT_MS; /* a session that was lost later */
	call->next = set->calls;
	call->link = &set->calls;
	if (set->calls != NULL)
		set->calls->link = &call->next;
	set->calls = call;
	return call;
}

McpCall *
mcp_find_call(const McpServer *server, int64_t id)
{
	for (McpCall *call = server->set->calls; call != NULL; call = call->next)
		if (call->id == id && call->server == server)
			return call;
	return NULL;
}

void
mcp_begin_call(McpCall *call)
{
	McpServer *server = call->server;
	int64_t left = call->last - turn_env.now_ms();

	call->post = call->text != NULL ? mcp_post_begin(server, server->endpoint, NULL, strdup(call->text), false, left > 1 ? (long) left : 1) : NULL;
	if (call->post != NULL)
		call->post->call = call;
	else
		call->until = 0; /* the next tick tells of it */
}

McpCall *
mcp_call(McpSet *set, const char *tool, const json_t *args, McpDone done, void *arg)
{
	McpServer *server = NULL;
	const json_t *found = mcp_find_tool(set, tool, true, &server);
	McpCall *call;

	if (found == NULL)
		return NULL;
	call = mcp_new_call(server, MCP_STEP_TOOL, "tools/call",
					json_pack("{s:O, s:o}", "name", json_object_get(found, "tool"), "arguments", mcp_arguments(server->config, args)));
	if (call == NULL)
		return NULL;
	call->done = done;
	call->arg = arg;
	if (server->state == MCP_CONNECTING)
		call->parked = true;
	else
		mcp_begin_call(call);
	return call;
}

/* Nobody waits any more; the server is told so that it stops. */
void
mcp_cancel(McpCall *call)
{
	McpServer *server = call->server;

	if (call->step == MCP_STEP_TOOL && !call->parked && server->state == MCP_READY)
		mcp_send_note(server, mcp_notification("notifications/cancelled", json_pack("{s:I, s:s}", "requestId", (json_int_t) call->id, "reason",
																			   "the user has stopped it")));
	mcp_call_free(call);
}

bool
mcp_work_calls(McpSet *set, int64_t now)
{
	for (McpCall *call = set->calls; call != NULL; call = call->next)
	{
		McpServer *server = call->server;

		if (call->until > now)
			continue;
		if (call->step == MCP_STEP_TOOL)
		{
			if (server->state == MCP_READY && call->post != NULL)
				mcp_send_note(server, mcp_notification("notifications/cancelled", json_pack("{s:I, s:s}", "requestId", (json_int_t) call->id,
																					   "reason", "it takes too long")));
			mcp_call_fail(call, "did not answer in time");
		}
		else
		{
			mcp_call_free(call);
			mcp_server_out(server, "did not answer in time");
		}
		return true;
	}
	return false;
}
