/*
 * mcpsession.c -- an MCP server: initialize -> initialized -> tools/list ..., and what it says.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "mcpset.h"

void
mcp_server_free(McpServer *server)
{
	config_cancel(server->wait);
	json_decref(server->config);
	json_decref(server->inbox);
	json_decref(server->tools);
	free(server->authorization);
	free(server->session);
	free(server->endpoint);
}

/* The server is told, if it was there, and everything of it ends. */
void
mcp_end_session(McpServer *server)
{
	McpPost *post;

	if (server->session == NULL || server->is_sse || server->endpoint == NULL)
		return;
	post = mcp_post_begin(server, server->endpoint, "DELETE", NULL, false, MCP_NOTE_MS);
	if (post != NULL)
		mcp_post_let_go(post);
}

/* The server cannot be used in this turn. */
void
mcp_server_out(McpServer *server, const char *why)
{
	McpSet *set = server->set;
	McpCall *next;

	if (server->state == MCP_OUT || set->closed)
		return;
	server->state = MCP_OUT;
	if (server->why[0] == '\0')
		snprintf(server->why, sizeof(server->why), "%s", why);
	gw_log(GW_INFO, "MCP server %s: %s", server->slug != NULL ? server->slug : server->id, server->why);
	mcp_enter(set);
	for (McpCall *call = set->calls; call != NULL && !set->closed; call = next)
	{
		next = call->next;
		if (call->server != server)
			continue;
		mcp_call_fail(call, server->why);
		next = set->calls; /* anything may have ended */
	}
	if (server->stream != NULL && !set->closed)
		mcp_post_free(server->stream);
	mcp_leave(set);
}

/* The handshake --------------------------------------------------------------------------- */

static void
list_tools(McpServer *server, const char *cursor)
{
	json_t *params = cursor != NULL ? json_pack("{s:s}", "cursor", cursor) : NULL;
	McpCall *call = mcp_new_call(server, MCP_STEP_LIST, "tools/list", params);

	if (call == NULL)
		mcp_server_out(server, "could not be asked for its tools");
	else
		mcp_begin_call(call);
}

/* The server knows that we know its version: now it may be asked. */
static void
after_initialized(McpServer *server, long status)
{
	McpSet *set = server->set;

	if (status < 200 || status > 299)
		mcp_server_out(server, "did not end its handshake");
	else if (server->tools == NULL)
	{
		server->tools = json_array();
		list_tools(server, NULL);
	}
	else
	{
		server->state = MCP_READY;
		for (McpCall *call = set->calls; call != NULL; call = call->next)
			if (call->server == server && call->parked)
			{
				call->parked = false;
				mcp_begin_call(call);
			}
	}
}

static void
initialized(McpServer *server, const json_t *result)
{
	const char *version = json_string_value(json_object_get(result, "protocolVersion"));
	McpPost *post;

	if (version == NULL || strlen(version) >= sizeof(server->version) || strspn(version, "0123456789-") != strlen(version))
	{
		mcp_server_out(server, "speaks an unknown version of the protocol");
		return;
	}
	strcpy(server->version, version);
	post = mcp_post_begin(server, server->endpoint, NULL, mcp_notification("notifications/initialized", NULL), false, MCP_NOTE_MS);
	if (post == NULL)
		mcp_server_out(server, "could not be reached");
	else
		post->then = after_initialized;
}

static void
listed(McpServer *server, const json_t *result)
{
	const char *cursor = mcp_take_tools(server->tools, server->config, result);

	if (cursor != NULL && ++server->pages < MCP_MAX_PAGES && json_array_size(server->tools) < MCP_MAX_TOOLS)
		list_tools(server, cursor);
	else
		server->state = MCP_READY;
}

/* What it says ---------------------------------------------------------------------------- */

static void
call_answered(McpCall *call, const McpMessage *message)
{
	McpServer *server = call->server;
	McpStep step = call->step;
	unsigned flags = 0;
	char why[MCP_MAX_WHY];

	if (message->error != NULL)
	{
		snprintf(why, sizeof(why), "answered with an error: %.150s", message->error);
		if (step == MCP_STEP_TOOL)
			mcp_call_fail(call, why);
		else
		{
			mcp_call_free(call);
			mcp_server_out(server, why);
		}
		return;
	}
	if (step == MCP_STEP_TOOL)
	{
		json_t *result = mcp_result(message->result, &flags);

		mcp_call_end(call, result, flags);
		return;
	}
	mcp_call_free(call);
	if (step == MCP_STEP_INITIALIZE)
		initialized(server, message->result);
	else
		listed(server, message->result);
}

static void
deliver(McpServer *server, const json_t *value)
{
	McpMessage message;
	McpCall *call;
	int64_t now = turn_env.now_ms();
	size_t i;
	json_t *one;

	/* Earlier versions of the protocol knew batches. */
	json_array_foreach(value, i, one)
	{
		if (!json_is_array(one) && !server->set->closed)
			deliver(server, one);
	}
	if (!mcp_message(&message, value))
		return;
	if (message.kind == MCP_REQUEST)
	{
		mcp_send_note(server, mcp_reply(&message));
		return;
	}
	call = mcp_find_call(server, mcp_message_for(&message));
	if (call != NULL && message.kind == MCP_RESPONSE)
		call_answered(call, &message);
	else if (call != NULL)
		call->until = now + MCP_CALL_MS < call->last ? now + MCP_CALL_MS : call->last;
}

/* Reads the inbox; the set may be closed behind it. */
static void
read_inbox(McpServer *server)
{
	McpSet *set = server->set;

	mcp_enter(set);
	while (json_array_size(server->inbox) > 0 && !set->closed)
	{
		json_t *value = json_incref(json_array_get(server->inbox, 0));

		json_array_remove(server->inbox, 0);
		deliver(server, value);
		json_decref(value);
	}
	mcp_leave(set);
}

/* Why a request failed, for people. */
static void
say_why(char why[MCP_MAX_WHY], const McpServer *server, CURLcode code, long status)
{
	if (code == CURLE_OPERATION_TIMEDOUT)
		snprintf(why, MCP_MAX_WHY, "did not answer in time");
	else if (status == 401 && strcmp(json_string_value(json_object_get(server->config, "auth_type")), "oauth2") == 0)
		snprintf(why, MCP_MAX_WHY, "wants the owner of this chat to sign in: it can be connected in the settings of the chat");
	else if (status == 401 || status == 403)
		snprintf(why, MCP_MAX_WHY, "does not let this chat in (HTTP %ld)", status);
	else if (status >= 300)
		snprintf(why, MCP_MAX_WHY, "answered with HTTP %ld", status);
	else if (code == CURLE_WRITE_ERROR)
		snprintf(why, MCP_MAX_WHY, "gave an answer that is too long");
	else if (code != CURLE_OK)
		snprintf(why, MCP_MAX_WHY, "cannot be reached: %s", curl_easy_strerror(code));
	else
		snprintf(why, MCP_MAX_WHY, "gave no answer that can be read");
}

/* The server has forgotten the session: a new one, in which the call is sent again, once. */
static bool
renew_session(McpCall *call, long status)
{
	McpServer *server = call->server;
	McpCall *first;

	if (status != 404 || call->step != MCP_STEP_TOOL || call->again || server->is_sse || server->session == NULL)
		return false;
	call->again = true;
	call->parked = true;
	if (server->state == MCP_CONNECTING)
		return true;
	server->state = MCP_CONNECTING;
	free(server->session);
	server->session = NULL;
	server->version[0] = '\0';
	first = mcp_new_call(server, MCP_STEP_INITIALIZE, "initialize", mcp_initialize_params(GW_VERSION));
	if (first == NULL)
		return false;
	mcp_begin_call(first);
	return true;
}

/* The post of a call is over, and its answer has not come. */
static void
call_unanswered(McpCall *call, CURLcode code, long status)
{
	McpServer *server = call->server;
	char why[MCP_MAX_WHY];

	/* The older transport answers on its stream. */
	if (server->is_sse && code == CURLE_OK && status >= 200 && status <= 299)
		return;
	if (renew_session(call, status))
		return;
	say_why(why, server, code, status);
	if (call->step == MCP_STEP_TOOL)
		mcp_call_fail(call, why);
	else
	{
		mcp_call_free(call);
		mcp_server_out(server, why);
	}
}

void
mcp_post_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	McpPost *post = (McpPost *) transfer;
	McpServer *server = post->server;
	McpCall *call = post->call;
	int64_t id = call != NULL ? call->id : -1;
	bool was_stream = post->is_stream;
	void (*then)(McpServer *, long) = post->then;
	char why[MCP_MAX_WHY];
	long status = 0;
	McpSet *set;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (server == NULL)
	{
		mcp_post_free(post);
		return;
	}
	set = server->set;
	if (!post->is_events && code == CURLE_OK && status == 200 && post->answer != NULL)
		mcp_take_text(server, post->answer, post->len);
	mcp_enter(set);
	mcp_post_free(post);
	read_inbox(server);
	if (!set->closed && call != NULL && mcp_find_call(server, id) == call && call->post == NULL && !call->parked)
		call_unanswered(call, code, status);
	if (!set->closed && then != NULL && server->state != MCP_OUT)
		then(server, code == CURLE_OK ? status : 0);
	if (!set->closed && was_stream)
	{
		say_why(why, server, code, status);
		mcp_server_out(server, server->state == MCP_READY ? "has closed the connection" : why);
	}
	mcp_leave(set);
}

/* Connecting ------------------------------------------------------------------------------ */

/* Where messages go is known: the handshake begins. */
static void
shake_hands(McpServer *server)
{
	McpCall *call = mcp_new_call(server, MCP_STEP_INITIALIZE, "initialize", mcp_initialize_params(GW_VERSION));

	if (call != NULL)
		mcp_begin_call(call);
	else
		mcp_server_out(server, "could not be reached");
}

void
mcp_connect(McpServer *server)
{
	server->state = MCP_CONNECTING;
	if (!server->is_sse)
	{
		server->endpoint = strdup(server->url);
		shake_hands(server);
		return;
	}
	server->stream = mcp_post_begin(server, server->url, NULL, NULL, true, 0);
	if (server->stream == NULL)
		mcp_server_out(server, "could not be reached");
}

/* What a server has come to by itself.  True: anything may have changed. */
bool
mcp_work_server(McpServer *server, int64_t now)
{
	if (json_array_size(server->inbox) > 0)
	{
		read_inbox(server);
		return true;
	}
	if (server->state == MCP_CONNECTING && server->is_sse && server->why[0] != '\0')
	{
		mcp_server_out(server, server->why);
		return true;
	}
	if (server->state == MCP_CONNECTING && server->is_sse && server->endpoint != NULL && server->tools == NULL && server->pages == 0)
	{
		server->pages = 1; /* once */
		shake_hands(server);
		return true;
	}
	if (!server->set->told && server->set->connect_by <= now && (server->state == MCP_WAITING || server->state == MCP_CONNECTING))
	{
		mcp_server_out(server, "did not answer in time");
		return true;
	}
	return false;
}
