/*
 * turnstate.h -- a turn as the files see it that run it (turn*.c).
 *
 * Whatever ends a turn frees it: turn_end(), turn_finish() and all that may lead to them.  Callers return behind it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_TURNSTATE_H
#define GATEWAY_CHAT_TURNSTATE_H

#include "agenttool.h"
#include "db.h"
#include "debug.h"
#include "exchange.h"
#include "grant.h"
#include "tool.h"
#include "turn.h"

typedef enum TurnState
{
	TURN_PREPARING, /* configuration, history */
	TURN_ASKING,
	TURN_WAITING, /* to ask again */
	TURN_TOOLS,
	TURN_STORING,
	TURN_SUMMING_UP, /* what was said becomes a summary, where the model's context is nearly full */
	TURN_FINISHING
} TurnState;

typedef struct Turn Turn;

typedef struct RunningTool
{
	Turn *turn;
	ToolCall *call;
	json_t *result; /* NULL: not yet */
	unsigned flags; /* of the result */
	bool is_dynamic;
	bool waits; /* for another that uses the screen */
	char ended_at[40];
} RunningTool;

struct Turn
{
	Turn *next;
	Turn **link;
	TurnState state;
	json_t *taken;
	const json_t *chat;	 /* of taken */
	const char *id;		 /* of chat */
	const char *owner;	 /* of chat */
	bool armed;			 /* our own "running" was seen */
	bool beaten;		 /* it is in the heartbeat that is under way */
	int64_t beat_at;	 /* when it is to be in the next */
	bool interrupted;	 /* while a step is being stored */
	Grant grant;
	GrantWait *grant_wait;
	ConfigWait *wait;
	AgentTool *context; /* what the workspace tells, while it is read */
	json_t *history;
	json_t *tools;
	ToolKit kit;
	AgentTool *listing; /* of the workspace's MCP servers, while it is read */
	bool mcp_ready;
	DbCall *call;
	int steps;
	int summaries;
	bool ends; /* after the summary */
	Debug debug;
	Debug summing; /* the same of a summary */
	bool unchained; /* the provider does not know its last answer any more */
	int attempt; /* retries of this step so far */
	int64_t retry_at;
	int64_t step_began;
	int64_t first_part_by;
	Exchange exchange;
	RunningTool *running; /* one for each call of the step, once they run */
	int n_running;
	int n_tools_left;
	json_t *said; /* events that wait to be sent; NULL: none, then it is not in the list of those who speak */
	Turn *next_speaker;
	Turn **speaker_link;
	uint64_t said_in;			/* the last statement with its words */
	void (*when_said)(Turn *t); /* NULL: it does not wait for that, then it is not in the list of those who do */
	Turn *next_waiter;
	Turn **waiter_link;
	char *step; /* messages that wait to be stored */
	DbDone stored;
	const char *end; /* the status that it waits to end with, static */
	char *error;
};

/* All of them. */
extern Turn *turns;

/* turn.c: life ------------------------------------------------------------------ */

void turn_end(Turn *t);

/* A statement of this turn; where the connection is down the turn ends, since its chat will be taken again. */
bool turn_call_db(Turn *t, const char *sql, int n, const char *const *params, DbDone done);

/* Is there a row?  Else the turn ends: its connection is lost, or the statement has failed, which the user is told. */
bool turn_have_row(Turn *t, PGresult *result);

/* The chat gets this status. */
/* When this runner took the chat, as the database wrote it: what comes of an older lease is void. */
const char *turn_lease(const Turn *t);
void turn_finish(Turn *t, const char *status, const char *error);

/* The turn has failed: the user is told by an event, and by the chat's last_error. */
void turn_fail(Turn *t, const Failure *failure, const char *message);
void turn_fail_plainly(Turn *t, const char *message);

/* turnprepare.c: what must be known before the model is asked ---------------------- */

void turn_prepare(Turn *t);

/* The history is read again, and what there is of a workspace. */
void turn_begin_anew(Turn *t);

/* turnask.c: the model ---------------------------------------------------------- */

void turn_ask(Turn *t);

/* Asks again where a wait is over, and where no answer has begun in time; ms until the next such time, at most most. */
int64_t turn_ask_tick(int64_t now, int64_t most);

/* turntools.c: what the model has called ------------------------------------------ */

void turn_run_tools(Turn *t);

/* The results so far, where there are any, are dropped; what runs is cancelled. */
void turn_close_tools(Turn *t);

/* Calls without a result fail: the user has stopped them.  False: no memory. */
bool turn_stop_tools(Turn *t);

/* Parts of a call tell whose tool it is, where an MCP server has it. */
void turn_tell_server(const Turn *t, json_t *part, const char *tool);

/* The message with a call's result. */
json_t *turn_tool_message(const RunningTool *tool, const StreamCall *call);

/* turnstep.c: what is stored ------------------------------------------------------ */

/* The messages of the step that has ended; a new reference. */
json_t *turn_step_messages(Turn *t);

/* Stores messages; done decides how it goes on. */
void turn_store(Turn *t, const json_t *messages, DbDone done);

/* Stores the step, and goes on with the next, or ends. */
void turn_store_step(Turn *t);

/* turnsummary.c ------------------------------------------------------------------- */

/* Is the model's context nearly full, and may it be summed up once more? */
bool turn_is_nearly_full(const Turn *t);

/* Asks for a summary of the history; ends: it was the last step. */
void turn_sum_up(Turn *t, bool ends);

/* turnsay.c: what is streamed ----------------------------------------------------- */

/* An event for all who watch (taken over), sent soon, together with others'. */
void turn_say(Turn *t, json_t *event);
void turn_say_part(Turn *t, const char *role, json_t *part);

/* Sends what this turn has to say at once, and goes on where all of it is committed; at once where it is. */
void turn_when_said(Turn *t, void (*then)(Turn *t));

/* What it has to say is dropped, and it does not go on. */
void turn_hush(Turn *t);

/* Sends what is due; ms until something will be, at most most. */
int64_t turn_say_tick(int64_t now, int64_t most);

#endif
