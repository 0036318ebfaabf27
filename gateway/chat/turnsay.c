/*
 * turnsay.c -- what a turn tells those who watch, while it runs.
 *
 * What is said is gathered for some milliseconds, so that one statement has the words of many chats.  It has a connection of its
 * own, so that words do not wait for the disk behind others' steps; a step is stored when its words are committed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "turnstate.h"

#define SAY_MS 4 /* from one statement with parts to the next, at least */

static Turn *speakers; /* who has something to say, the last first */
static Turn *waiters;  /* who goes on when their words are committed */
static uint64_t n_sent; /* statements */
static uint64_t n_answered;
static int64_t last_said;
static int64_t say_at; /* where there are any */

/* Its events, which nobody has any more. */
static json_t *
take_said(Turn *t)
{
	json_t *said = t->said;

	if (said == NULL)
		return NULL;
	t->said = NULL;
	*t->speaker_link = t->next_speaker;
	if (t->next_speaker != NULL)
		t->next_speaker->speaker_link = t->speaker_link;
	return said;
}

/* What it waits for is done by somebody; NULL where it does not wait. */
static void (*take_waiter(Turn *t))(Turn *t)
{
	void (*then)(Turn *t) = t->when_said;

	if (then == NULL)
		return NULL;
	t->when_said = NULL;
	*t->waiter_link = t->next_waiter;
	if (t->next_waiter != NULL)
		t->next_waiter->waiter_link = t->waiter_link;
	return then;
}

void
turn_hush(Turn *t)
{
	json_decref(take_said(t));
	take_waiter(t);
}

/* A statement is committed, or has failed: its words are not said once more.  Who waits for it goes on. */
static void
on_said(void *arg, PGresult *result)
{
	Turn *next;

	(void) arg;
	n_answered++;
	/* Where the connection is lost, all turns end. */
	for (Turn *t = result != NULL ? waiters : NULL; t != NULL; t = next)
	{
		next = t->next_waiter;
		if (t->said_in <= n_answered)
			take_waiter(t)(t);
	}
}

static void
add_said(json_t *all, Turn *t)
{
	json_array_append_new(all, json_pack("{s:s, s:o}", "chat", t->id, "events", take_said(t)));
	t->said_in = n_sent + 1;
}

static void
send_said(json_t *all)
{
	char *text = json_dumps(all, JSON_COMPACT);

	if (text != NULL && db_say("SELECT coder.chat_say($1::jsonb)", text, on_said))
		n_sent++;
	free(text);
	json_decref(all);
}

static void
say_now(Turn *t)
{
	json_t *all;

	if (t->said == NULL)
		return;
	all = json_array();
	add_said(all, t);
	send_said(all);
}

void
turn_when_said(Turn *t, void (*then)(Turn *t))
{
	say_now(t);
	take_waiter(t);
	/* What could not be sent is not waited for. */
	if (t->said_in <= n_answered || t->said_in > n_sent)
	{
		then(t);
		return;
	}
	t->when_said = then;
	t->next_waiter = waiters;
	t->waiter_link = &waiters;
	if (waiters != NULL)
		waiters->waiter_link = &t->next_waiter;
	waiters = t;
}

/* When what comes now is to be sent: at once, unless the last has only just been. */
static int64_t
say_time(void)
{
	int64_t next = last_said + SAY_MS;
	int64_t now = turn_env.now_ms();

	return next > now ? next : now;
}

static bool
is_same(const json_t *a, const json_t *b, const char *key)
{
	const json_t *x = json_object_get(a, key);
	const json_t *y = json_object_get(b, key);

	return x == y || json_equal(x, y);
}

/* Two deltas in a row of one text, of one thought, of one call's arguments are one. */
static bool
merge(json_t *said, const json_t *part)
{
	json_t *last = json_object_get(json_object_get(json_array_get(said, json_array_size(said) - 1), "message_part"), "part");
	const char *key = json_object_get(part, "args_delta") != NULL ? "args_delta" : "text";
	const json_t *a = json_object_get(last, key);
	const json_t *b = json_object_get(part, key);

	if (!json_is_string(a) || !json_is_string(b) || !is_same(last, part, "type") || !is_same(last, part, "tool_call_id"))
		return false;
	json_object_set_new(last, key, json_sprintf("%s%s", json_string_value(a), json_string_value(b)));
	return true;
}

void
turn_say(Turn *t, json_t *event)
{
	if (t->said == NULL)
	{
		if (speakers == NULL)
			say_at = say_time();
		t->said = json_array();
		t->next_speaker = speakers;
		t->speaker_link = &speakers;
		if (speakers != NULL)
			speakers->speaker_link = &t->next_speaker;
		speakers = t;
	}
	json_array_append_new(t->said, event);
}

void
turn_say_part(Turn *t, const char *role, json_t *part)
{
	if (t->said != NULL && merge(t->said, part))
		json_decref(part);
	else
		turn_say(t, json_pack("{s:s, s:{s:s, s:o}}", "type", "message_part", "message_part", "role", role, "part", part));
}

int64_t
turn_say_tick(int64_t now, int64_t most)
{
	json_t *all;

	if (speakers == NULL)
		return most;
	if (say_at > now)
		return say_at - now < most ? say_at - now : most;
	all = json_array();
	while (speakers != NULL)
		add_said(all, speakers);
	send_said(all);
	last_said = now;
	return most;
}
