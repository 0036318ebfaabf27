/*
 * mcpset.h -- what the files of MCP share: sets, their servers, calls and requests of HTTP.
 *
 * mcp.c		the servers of a chat, from its beginning to its end
 * mcpsession.c	a server: handshake, tools, what it says
 * mcpcall.c	what is asked of a server, until it is answered
 * mcptoken.c	tokens of the chat's owner
 * mcphttp.c	requests of HTTP
 * mcpwire.c	what the messages say; no I/O
 *
 * A message may come while libcurl calls back, where no transfer may begin or end: it is put into its server's inbox, and
 * read when the transfer is over or at the next tick.  What a message leads to may close the set: it is freed when nobody
 * is at work in it any more.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_MCPSET_H
#define GATEWAY_CHAT_MCPSET_H

#include "db.h"
#include "errand.h"
#include "exchange.h"
#include "mcp.h"
#include "mcpwire.h"
#include "turn.h"

#define MCP_NOTE_MS 10000L /* for what nobody waits for */
#define MCP_MAX_SERVERS 32
#define MCP_MAX_WHY 200

typedef struct McpServer McpServer;

/* A request of HTTP: the post of a message, or the stream that the older transport answers on. */
typedef struct McpPost
{
	Transfer transfer; /* first */
	struct McpPost *next;
	struct McpPost **link;
	McpServer *server; /* NULL: nobody waits for it */
	McpCall *call;	/* that it carries */
	CURL *easy;
	struct curl_slist *headers;
	char *body;
	char *answer;
	size_t len;
	size_t all;
	Sse sse;
	bool is_events;
	bool is_stream;
	bool typed;	   /* the head of the answer was looked at */
	bool answered; /* what it was sent for has come */
	void (*then)(McpServer *server, long status);
} McpPost;

typedef enum McpState
{
	MCP_WAITING, /* for its configuration, or its user's token */
	MCP_CONNECTING,
	MCP_READY,
	MCP_OUT
} McpState;

typedef enum McpStep
{
	MCP_STEP_INITIALIZE,
	MCP_STEP_LIST,
	MCP_STEP_TOOL
} McpStep;

struct McpCall
{
	McpCall *next;
	McpCall **link;
	McpServer *server;
	McpStep step;
	int64_t id;
	char *text; /* as it is sent, to be sent again */
	McpPost *post;
	bool parked; /* until there is a session again */
	bool again;	 /* it was sent again */
	int64_t until;
	int64_t last; /* not after this, whatever it says */
	McpDone done;
	void *arg;
};

struct McpServer
{
	McpSet *set;
	McpState state;
	char id[40];
	ConfigWait *wait;
	json_t *config;
	const char *slug; /* of the configuration */
	const char *url;
	bool is_sse;
	char *authorization;
	char *session;
	char version[32];
	char *endpoint; /* that messages are posted to */
	McpPost *stream;
	json_t *inbox;
	json_t *tools;
	int pages;
	char why[MCP_MAX_WHY];
};

struct McpSet
{
	McpSet *next;
	McpSet **link;
	char owner[40];
	McpServer servers[MCP_MAX_SERVERS];
	int n;
	int64_t connect_by;
	McpCall *calls;
	McpPost *posts;
	int64_t next_id;
	DbCall *call;
	Errand *errand;
	json_t *links; /* tokens that are being refreshed */
	int64_t ask_at; /* for tokens; 0: not */
	bool refreshed; /* once is enough */
	int depth;	   /* who is at work in it */
	bool closed;
	bool told;
	McpReady ready;
	void *arg;
};

/* Requests of HTTP ------------------------------------------------------------------ */

/* body: taken over; NULL for a GET.  method: NULL for those two.  NULL: out of memory. */
McpPost *mcp_post_begin(McpServer *server, const char *url, const char *method, char *body, bool is_stream, long limit_ms);
/* Not while libcurl calls back. */
void mcp_post_free(McpPost *post);
/* Goes on by itself, whatever becomes of its server. */
void mcp_post_let_go(McpPost *post);
/* Those that go on by themselves end. */
void mcp_post_drop_all(void);
/* A notification or an answer (taken over) that nobody waits for. */
void mcp_send_note(McpServer *server, char *text);
/* Puts a message into the server's inbox. */
void mcp_take_text(McpServer *server, const char *text, size_t len);

/* Servers ----------------------------------------------------------------------------- */

void mcp_connect(McpServer *server);
/* The server is told, if it was there, and everything of it ends. */
void mcp_end_session(McpServer *server);
/* The server cannot be used in this turn. */
void mcp_server_out(McpServer *server, const char *why);
/* A request of HTTP is over. */
void mcp_post_done(Transfer *transfer, CURL *easy, CURLcode code);
/* What a server has come to by itself.  True: anything may have changed. */
bool mcp_work_server(McpServer *server, int64_t now);
void mcp_server_free(McpServer *server);

/* Calls ------------------------------------------------------------------------------- */

/* params: taken over.  NULL: out of memory. */
McpCall *mcp_new_call(McpServer *server, McpStep step, const char *method, json_t *params);
void mcp_begin_call(McpCall *call);
McpCall *mcp_find_call(const McpServer *server, int64_t id);
/* A call has ended (result: taken over); the set may be closed by what that leads to. */
void mcp_call_end(McpCall *call, json_t *result, unsigned flags);
void mcp_call_fail(McpCall *call, const char *why);
void mcp_call_free(McpCall *call);
/* Ends a call whose time is over.  True: anything may have changed. */
bool mcp_work_calls(McpSet *set, int64_t now);

/* Sets -------------------------------------------------------------------------------- */

/* Nothing of a set is freed between the two. */
void mcp_enter(McpSet *set);
void mcp_leave(McpSet *set);
/* The tool of this name that models know it by, of a server that can be used or of any; NULL: there is none. */
const json_t *mcp_find_tool(const McpSet *set, const char *name, bool usable, McpServer **server);
/* Tokens of the servers that wait for one. */
void mcp_ask_tokens(McpSet *set);

#endif
