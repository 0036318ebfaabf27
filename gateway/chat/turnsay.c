/*
 * turnsay.c -- what a turn tells those who watch, while it runs.
 *
 * What is said is gathered for some milliseconds, so that one statement has the words of many chats.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "turnstate.h"

#define SAY_MS 4	  /* from one statement with parts to the next, at least */
#define SAY_MOST_MS 20 /* where many chats speak, so that one statement has the parts of many */

static int64_t last_said; /* by all together */

/* Sends the gathered events of one turn, or of all (NULL), in one statement. */
static void
send_said(Turn *only)
{
	json_t *all = json_array();
	char *text;

	for (Turn *t = only != NULL ? only : turns; t != NULL; t = only != NULL ? NULL : t->next)
	{
		if (t->said == NULL)
			continue;
		json_array_append_new(all, json_pack("{s:s, s:o}", "chat", t->id, "events", t->said));
		t->said = NULL;
	}
	if (json_array_size(all) > 0 && (text = json_dumps(all, JSON_COMPACT)) != NULL)
	{
		const char *const params[] = {text};

		db_call("SELECT coder.chat_say($1::jsonb)", 1, params, NULL, NULL);
		free(text);
	}
	json_decref(all);
}

void
turn_say_now(Turn *t)
{
	send_said(t);
}

/* When what comes now is to be sent: at once, unless the last has only just been. */
static int64_t
say_time(void)
{
	int64_t pace = SAY_MS + turn_count() / 20;
	int64_t next = last_said + (pace < SAY_MOST_MS ? pace : SAY_MOST_MS);
	int64_t now = turn_env.now_ms();

	return next > now ? next : now;
}

/* Two deltas of one kind in a row are one. */
static bool
merge(json_t *said, const json_t *part)
{
	json_t *last = json_object_get(json_object_get(json_array_get(said, json_array_size(said) - 1), "message_part"), "part");
	const char *type = json_string_value(json_object_get(part, "type"));
	const char *last_type = json_string_value(json_object_get(last, "type"));
	const json_t *a = json_object_get(last, "text");
	const json_t *b = json_object_get(part, "text");

	if (type == NULL || last_type == NULL || strcmp(type, last_type) != 0 || !json_is_string(a) || !json_is_string(b))
		return false;
	json_object_set_new(last, "text", json_sprintf("%s%s", json_string_value(a), json_string_value(b)));
	return true;
}

void
turn_say(Turn *t, json_t *event)
{
	if (t->said == NULL)
	{
		t->said = json_array();
		t->say_at = say_time();
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
	bool due = false;

	for (Turn *t = turns; t != NULL; t = t->next)
		due |= t->said != NULL && t->say_at <= now;
	if (due)
	{
		send_said(NULL);
		last_said = now;
	}
	for (Turn *t = turns; t != NULL; t = t->next)
		if (t->said != NULL && t->say_at - now < most)
			most = t->say_at - now;
	return most;
}
