/*
 * turn.c -- one chat while it runs: its life, and what happens to it meanwhile.
 *
 * turnprepare: config -> history -> turnask: ask -> (retry ->) ask -> turntools -> turnstep: store ->
 * (turnsummary -> history ->) ask ... -> finish.  What is streamed meanwhile: turnsay.
 *
 * What happens to the chat is told by events of its status.  Events of before this worker took the chat may still
 * come: nothing is heeded until the worker's own "running" has.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "lease.h"
#include "push.h"
#include "turnstate.h"

#define HAND_OVER_MS 2000
#define BEAT_MS 30000
#define BEAT_MOST 100 /* turns of one heartbeat */

TurnEnv turn_env;
Turn *turns;

static int n_turns;

/* Beginning and end ----------------------------------------------------------- */

static void
close_context(Turn *t)
{
	if (t->context != NULL)
		agenttool_cancel(t->context);
	t->context = NULL;
	if (t->listing != NULL)
		agenttool_cancel(t->listing);
	t->listing = NULL;
}

void
turn_end(Turn *t)
{
	*t->link = t->next;
	if (t->next != NULL)
		t->next->link = t->link;
	n_turns--;
	grant_cancel(t->grant_wait);
	config_cancel(t->wait);
	db_forget(t->call);
	close_context(t);
	turn_close_tools(t);
	mcp_close(t->kit.mcp);
	json_decref(t->kit.workspace);
	exchange_free(&t->exchange);
	json_decref(t->taken);
	grant_free(&t->grant);
	json_decref(t->history);
	json_decref(t->tools);
	turn_hush(t);
	free(t->step);
	free(t->error);
	debug_free(&t->debug);
	debug_free(&t->summing);
	free(t);
}

/* A statement of this turn; where the connection is down the turn ends, since its chat will be taken again. */
bool
turn_call_db(Turn *t, const char *sql, int n, const char *const *params, DbDone done)
{
	t->call = db_call(sql, n, params, done, t);
	if (t->call != NULL)
		return true;
	turn_end(t);
	return false;
}

/* Is there a row?  Else the turn ends: its connection is lost, or the statement has failed, which the user is told. */
bool
turn_have_row(Turn *t, PGresult *result)
{
	t->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		return true;
	if (result == NULL)
		turn_end(t);
	else
		turn_fail_plainly(t, "The server could not read or store the chat.");
	return false;
}

static void
on_finished(void *arg, PGresult *result)
{
	Turn *t = arg;

	t->call = NULL;
	turn_end(t);
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && !PQgetisnull(result, 0, 0))
		push_send(PQgetvalue(result, 0, 0));
}

static void
send_end(Turn *t)
{
	const char *const params[] = {turn_env.worker, t->id, t->end, t->error, turn_lease(t)};

	turn_call_db(t, "SELECT coder.chat_end($1, $2, $3::coder.chat_status, $4, $5)", 5, params, on_finished);
}

void
turn_finish(Turn *t, const char *status, const char *error)
{
	t->state = TURN_FINISHING;
	grant_cancel(t->grant_wait);
	config_cancel(t->wait);
	t->wait = NULL;
	db_forget(t->call);
	t->call = NULL;
	close_context(t);
	turn_close_tools(t);
	exchange_free(&t->exchange);
	debug_end(&t->summing, "interrupted");
	debug_end(&t->debug, error != NULL ? "error" : "completed");
	t->end = status;
	free(t->error);
	t->error = error != NULL ? strdup(error) : NULL;
	turn_when_said(t, send_end);
}

/* The turn has failed: the user is told by an event, and by the chat's last_error. */
void
turn_fail(Turn *t, const Failure *failure, const char *message)
{
	json_t *error = json_pack("{s:s, s:s, s:b}", "message", message, "kind", failure_kind_name(failure->kind), "retryable",
							  (int) failure->retryable);
	const char *provider = json_string_value(json_object_get(t->grant.provider, "provider"));

	if (provider != NULL)
		json_object_set_new(error, "provider", json_string(provider));
	if (failure->status > 0)
		json_object_set_new(error, "status_code", json_integer(failure->status));
	turn_say(t, json_pack("{s:s, s:o}", "type", "error", "error", error));
	turn_finish(t, "error", message);
}

void
turn_fail_plainly(Turn *t, const char *message)
{
	Failure failure = {FAILURE_CONFIG, false, 0};

	turn_fail(t, &failure, message);
}

/* What was told of this lease before the turn was there. */
static void
heed_early_news(Turn *t)
{
	const char *began = json_string_value(json_object_get(t->chat, "started_at"));
	const Lease *lease = began != NULL ? lease_find(t->id, began) : NULL;

	t->armed = lease != NULL;
	if (lease != NULL && lease->since[0] != '\0')
		turn_status(t->id, lease->since);
}

static Turn *
find_turn(const char *chat)
{
	for (Turn *t = turns; t != NULL; t = t->next)
		if (strcmp(t->id, chat) == 0)
			return t;
	return NULL;
}

const char *
turn_lease(const Turn *t)
{
	return json_string_value(json_object_get(t->chat, "started_at"));
}

void
turn_start(json_t *taken)
{
	Turn *t = calloc(1, sizeof(*t));
	const char *id = json_string_value(json_object_get(json_object_get(taken, "chat"), "id"));
	Turn *before = id != NULL ? find_turn(id) : NULL;

	/* Its lease is over, though the word of it has not come yet. */
	if (before != NULL)
		turn_end(before);
	if (t == NULL)
	{
		json_decref(taken);
		return;
	}
	t->taken = taken;
	t->chat = json_object_get(taken, "chat");
	t->kit.chat = t->chat;
	t->id = json_string_value(json_object_get(t->chat, "id"));
	t->owner = json_string_value(json_object_get(t->chat, "owner_id"));
	t->next = turns;
	t->link = &turns;
	if (turns != NULL)
		turns->link = &t->next;
	turns = t;
	t->beat_at = turn_env.now_ms() + BEAT_MS;
	n_turns++;
	turn_prepare(t);
	/* The configuration may have been at hand, and the turn may have failed already. */
	if (turns == t)
		heed_early_news(t);
}

/* What happens meanwhile ------------------------------------------------------ */

static void
on_partial_stored(void *arg, PGresult *result)
{
	Turn *t = arg;

	if (turn_have_row(t, result))
		turn_finish(t, "waiting", NULL);
}

/* The user stopped it: what was said so far is kept, open calls end. */
static void
interrupt(Turn *t)
{
	json_t *messages;

	if (t->state == TURN_SUMMING_UP)
	{
		turn_finish(t, "waiting", NULL);
		return;
	}
	if (t->state == TURN_STORING || t->state == TURN_FINISHING)
	{
		t->interrupted = true;
		return;
	}
	exchange_stop(&t->exchange);
	debug_interrupted(&t->debug, t->exchange.stream_open ? &t->exchange.stream : NULL);
	if (t->exchange.stream_open && turn_stop_tools(t))
	{
		messages = turn_step_messages(t);
		if (json_array_size(messages) > 0)
		{
			turn_store(t, messages, on_partial_stored);
			json_decref(messages);
			return;
		}
		json_decref(messages);
	}
	turn_finish(t, "waiting", NULL);
}

void
turn_status(const char *chat, const char *status)
{
	Turn *t = find_turn(chat);
	const char *began = t != NULL ? json_string_value(json_object_get(t->chat, "started_at")) : NULL;

	lease_told(chat, status);
	if (t == NULL)
		return;
	if (strncmp(status, "running ", 8) == 0)
		t->armed |= began != NULL && strcmp(status + 8, began) == 0;
	else if (!t->armed || t->state == TURN_FINISHING)
		return;
	else if (strcmp(status, "waiting") == 0)
		interrupt(t);
	else
		turn_end(t);
}

void
turn_keep_only(const char *ids)
{
	Turn *next;

	for (Turn *t = turns; t != NULL; t = next)
	{
		next = t->next;
		if (t->beaten && strstr(ids, t->id) == NULL && t->state != TURN_FINISHING)
			interrupt(t);
	}
}

char *
turn_ids(void)
{
	char *text = malloc(BEAT_MOST * 37 + 3);
	int64_t now = turn_env.now_ms();
	char *p = text;
	int n = 0;

	for (Turn *t = turns; t != NULL && text != NULL; t = t->next)
	{
		t->beaten = t->beat_at <= now && n < BEAT_MOST;
		if (!t->beaten)
			continue;
		p += sprintf(p, "%c%s", n++ == 0 ? '{' : ',', t->id);
		t->beat_at = now + BEAT_MS;
	}
	if (n == 0)
	{
		free(text);
		return NULL;
	}
	strcpy(p, "}");
	return text;
}

void
turn_beat_all(void)
{
	for (Turn *t = turns; t != NULL; t = t->next)
		t->beat_at = 0;
}

int
turn_count(void)
{
	return n_turns;
}

int64_t
turn_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();

	most = turn_ask_tick(now, turn_say_tick(now, most));
	return most > 0 ? most : 0;
}

void
turn_drop_all(void)
{
	while (turns != NULL)
		turn_end(turns);
}

void
turn_hand_over(void)
{
	/* Who goes on with a chat hears nothing of this runner any more. */
	db_drain_say(HAND_OVER_MS);
	while (turns != NULL)
	{
		Turn *t = turns;
		const char *const params[] = {turn_env.worker, t->id, turn_lease(t)};
		bool has_ended = t->state == TURN_FINISHING && t->when_said == NULL;

		turn_hush(t);
		if (!has_ended)
			db_call("SELECT coder.chat_finish($1, $2, 'pending', NULL, $3)", 3, params, NULL, NULL);
		turn_end(t);
	}
}
