/*
 * turnask.c -- a turn asks the model: once a step, and again where that failed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "computer.h"
#include "failure.h"
#include "turnstate.h"

static int64_t look_at = INT64_MAX; /* when a turn may be due */

static void on_answered(void *arg, const Failure *failure);

static void
look_by(int64_t at)
{
	if (at < look_at)
		look_at = at;
}

static void
on_part(void *arg, json_t *part)
{
	turn_say_part(arg, "assistant", part);
}

/* The user's own words stand behind all other instructions. */
static void
add_user_prompt(Turn *t, const char *prompt)
{
	size_t at = 0;
	const char *role;

	if (*prompt == '\0')
		return;
	while ((role = json_string_value(json_object_get(json_array_get(t->history, at), "role"))) != NULL && strcmp(role, "system") == 0)
		at++;
	json_array_insert_new(t->history, at,
						  json_pack("{s:s, s:[{s:s, s:o}]}", "role", "system", "content", "type", "text", "text",
									json_sprintf("<user-instructions>\n%s\n</user-instructions>", prompt)));
}

void
turn_ask(Turn *t)
{
	ExchangeAsk wanted = {.grant = &t->grant, .chat = t->chat, .history = t->history};
	const char *error = NULL;

	if (t->tools == NULL)
	{
		t->tools = tool_list(&t->kit);
		add_user_prompt(t, json_string_value(json_object_get(t->taken, "user_prompt")));
	}
	computer_forget(t->history);
	wanted.tools = t->tools;
	wanted.chain = t->steps == 0 && t->attempt == 0 && !t->unchained && t->summaries == 0;
	t->state = TURN_ASKING;
	t->step_began = turn_env.now_ms();
	t->first_part_by = t->step_began + turn_env.first_part_ms;
	look_by(t->first_part_by);
	if (json_is_true(json_object_get(t->taken, "debug")) && t->debug.run == NULL)
		debug_begin(&t->debug, t->chat, &t->grant, "chat_turn");
	debug_asked(&t->debug, &t->grant, t->history, t->tools, "stream");
	if (!exchange_begin(&t->exchange, turn_env.multi, turn_env.ca_file, &wanted, on_part, on_answered, t, &error))
		turn_fail_plainly(t, error);
}

/* Those who watch are told when it will be asked again. */
static void
tell_retry(Turn *t, const Failure *failure, int64_t delay)
{
	const char *provider = json_string_value(json_object_get(t->grant.provider, "provider"));
	time_t when = time(NULL) + (time_t) (delay / 1000);
	char message[512];
	char at[40];
	struct tm tm;
	json_t *retry;

	gmtime_r(&when, &tm);
	strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
	failure_retry_message(failure, provider != NULL ? provider_display_name(provider) : NULL, message, sizeof(message));
	retry = json_pack("{s:i, s:I, s:s, s:s, s:s, s:s}", "attempt", t->attempt, "delay_ms", (json_int_t) delay, "error", message, "kind",
					  failure_kind_name(failure->kind), "provider", provider != NULL ? provider : "", "retrying_at", at);
	if (failure->status > 0)
		json_object_set_new(retry, "status_code", json_integer(failure->status));
	turn_say(t, json_pack("{s:s, s:o}", "type", "retry", "retry", retry));
}

/* The provider does not know its last answer any more: it is asked without it. */
static void
ask_unchained(Turn *t, const Failure *failure)
{
	debug_failed(&t->debug, &t->grant, failure, t->exchange.why, 0);
	exchange_free(&t->exchange);
	t->unchained = true;
	turn_ask(t);
}

static void
give_up(Turn *t, const Failure *failure)
{
	const char *provider = json_string_value(json_object_get(t->grant.provider, "provider"));
	char message[512];

	failure_message(failure, provider != NULL ? provider_display_name(provider) : NULL, message, sizeof(message));
	debug_failed(&t->debug, &t->grant, failure, t->exchange.why, 0);
	turn_fail(t, failure, message);
}

static void
ask_failed(Turn *t, Failure failure)
{
	int64_t delay;

	if (t->exchange.chained && (failure.status == 400 || failure.status == 404))
	{
		ask_unchained(t, &failure);
		return;
	}
	if (!failure.retryable || t->attempt + 1 >= FAILURE_MAX_ATTEMPTS)
	{
		give_up(t, &failure);
		return;
	}
	t->attempt++;
	delay = failure_delay_ms(t->attempt, t->exchange.retry_after_ms);
	debug_failed(&t->debug, &t->grant, &failure, t->exchange.why, delay);
	tell_retry(t, &failure, delay);
	exchange_free(&t->exchange);
	t->state = TURN_WAITING;
	t->retry_at = turn_env.now_ms() + delay;
	look_by(t->retry_at);
}

static void
on_answered(void *arg, const Failure *failure)
{
	Turn *t = arg;

	if (failure != NULL)
	{
		ask_failed(t, *failure);
		return;
	}
	t->attempt = 0;
	debug_step(&t->debug, &t->exchange.stream, "completed");
	if (t->exchange.stream.n_calls > 0)
		turn_run_tools(t);
	else
		turn_store_step(t);
}

/* What a turn waits for in this moment: to ask again, or the first part of an answer; INT64_MAX: neither. */
static int64_t
due_at(const Turn *t)
{
	if (t->state == TURN_WAITING)
		return t->retry_at;
	return t->state == TURN_ASKING && !t->exchange.stream.began ? t->first_part_by : INT64_MAX;
}

static void
go_on_late(Turn *t)
{
	if (t->state == TURN_WAITING)
		turn_ask(t);
	else
		ask_failed(t, (Failure){FAILURE_STARTUP_TIMEOUT, true, 0});
}

int64_t
turn_ask_tick(int64_t now, int64_t most)
{
	Turn *next;

	if (look_at <= now)
	{
		look_at = INT64_MAX;
		for (Turn *t = turns; t != NULL; t = next)
		{
			next = t->next;
			if (due_at(t) <= now)
				go_on_late(t);
			else
				look_by(due_at(t));
		}
	}
	return look_at - now < most ? look_at - now : most;
}
