/*
 * turnsummary.c -- what was said becomes a summary, where the model's context is nearly full.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>

#include <sodium.h>

#include "gateway.h"
#include "turnstate.h"

#define MAX_SUMMARIES 3 /* a turn */
#define DEFAULT_THRESHOLD 70
#define SUMMARY_MS 90000L

static const char summary_instruction[] =
	"The conversation is getting too long to be kept whole. Write down everything that somebody needs who goes on with it without "
	"having read it: what the user wants, in their own words where they matter; what was decided and why; what was done, with "
	"paths, names, commands and their results; what was found out, also what did not work; what is under way, and the next "
	"step. Keep exact what must be exact: identifiers, error messages, numbers. Leave out politeness and what is over. "
	"Answer with the summary alone, and call no tool.";

static int64_t
context_tokens(const Turn *t)
{
	const StreamUsage *u = &t->exchange.stream.usage;
	int64_t tokens = u->input + u->cache_read + u->cache_creation;

	return tokens > 0 ? tokens : u->total;
}

/* Percent of the context from which on it is summed up: the owner's for this model, else the model's. */
static int64_t
threshold(const Turn *t)
{
	const json_t *own = json_object_get(t->taken, "compaction_threshold");
	const json_t *models = json_object_get(t->grant.model, "compression_threshold");
	const json_t *chosen = json_is_integer(own) ? own : models;
	json_int_t percent = json_is_integer(chosen) ? json_integer_value(chosen) : DEFAULT_THRESHOLD;

	return percent < 0 || percent > 100 ? DEFAULT_THRESHOLD : percent;
}

bool
turn_is_nearly_full(const Turn *t)
{
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	int64_t percent = threshold(t);

	return percent < 100 && limit > 0 && t->summaries < MAX_SUMMARIES && context_tokens(t) * 100 >= limit * percent;
}

static void
on_summary_stored(void *arg, PGresult *result)
{
	Turn *t = arg;

	if (!turn_have_row(t, result))
		return;
	if (PQgetisnull(result, 0, 0))
	{
		turn_end(t);
		return;
	}
	exchange_free(&t->exchange);
	if (t->interrupted || t->ends)
	{
		turn_finish(t, "waiting", NULL);
		return;
	}
	turn_begin_anew(t);
}

/* For the model the summary, for people a call that tells of it. */
static json_t *
summary_messages(Turn *t, const char *summary)
{
	json_t *result = json_object_get(t->taken, "summary");
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	char now[40];
	char call[64];

	stream_now(now);
	snprintf(call, sizeof(call), "chat_summarized_%s", json_string_value(json_object_get(result, "id")));
	json_object_del(result, "id");
	json_object_set_new(result, "summary", json_string(summary));
	json_object_set_new(result, "source", json_string("automatic"));
	json_object_set_new(result, "context_limit_tokens", json_integer(limit));
	return json_pack("[{s:s, s:s, s:b, s:[{s:s, s:o}]}, {s:s, s:s, s:b, s:o, s:[{s:s, s:s, s:s, s:{}, s:s}]},"
					 " {s:s, s:s, s:b, s:[{s:s, s:s, s:s, s:n, s:O, s:s}]}]",
					 "role", "user", "visibility", "model", "compressed", 1, "content", "type", "text", "text",
					 json_sprintf("This is a summary of the conversation so far, which is not shown to you any more:\n\n%s", summary), "role",
					 "assistant", "visibility", "user", "compressed", 1, "usage", stream_usage_json(&t->exchange.stream), "content", "type",
					 "tool-call", "tool_call_id", call, "tool_name", "chat_summarized", "args", "created_at", now, "role", "tool", "visibility",
					 "both", "compressed", 1, "content", "type", "tool-result", "tool_call_id", call, "tool_name", "chat_summarized",
					 "mcp_server_config_id", "result", result, "created_at", now);
}

/* Without a summary it goes on as it was: the provider says when it is really too much. */
static void
go_on_without(Turn *t)
{
	exchange_free(&t->exchange);
	t->summaries = MAX_SUMMARIES;
	if (t->ends)
		turn_finish(t, "waiting", NULL);
	else
		turn_ask(t);
}

static void
on_summary(void *arg, const Failure *failure)
{
	Turn *t = arg;
	json_t *messages;
	char *text;

	if (failure != NULL)
		debug_failed(&t->summing, &t->grant, failure, t->exchange.why, 0);
	debug_step(&t->summing, &t->exchange.stream, failure != NULL ? "error" : "completed");
	debug_end(&t->summing, failure != NULL ? "error" : "completed");
	text = failure == NULL ? stream_said(&t->exchange.stream) : NULL;
	if (text == NULL || *text == '\0')
	{
		free(text);
		gw_log(GW_INFO, "chat %s: no summary could be made", t->id);
		go_on_without(t);
		return;
	}
	messages = summary_messages(t, text);
	free(text);
	if (messages == NULL)
	{
		go_on_without(t);
		return;
	}
	turn_store(t, messages, on_summary_stored);
	json_decref(messages);
}

static void
drop_part(void *arg, json_t *part)
{
	(void) arg;
	json_decref(part);
}

/* An id for the call, from what is random anyway. */
static void
new_summary(Turn *t, int64_t tokens)
{
	json_int_t limit = json_integer_value(json_object_get(t->grant.model, "context_limit"));
	unsigned char b[16];
	char id[33];

	randombytes_buf(b, sizeof(b));
	sodium_bin2hex(id, sizeof(id), b, sizeof(b));
	json_object_set_new(t->taken, "summary",
						json_pack("{s:o, s:I, s:f, s:I}", "id",
								  json_sprintf("%.8s-%.4s-4%.3s-a%.3s-%.12s", id, id + 8, id + 13, id + 17, id + 20), "threshold_percent",
								  (json_int_t) threshold(t), "usage_percent", (double) tokens * 100 / (double) limit, "context_tokens",
								  (json_int_t) tokens));
}

/* Asks for a summary of the history; ends: it was the last step. */
void
turn_sum_up(Turn *t, bool ends)
{
	ExchangeAsk wanted = {.grant = &t->grant, .chat = t->chat, .tools = t->tools, .no_calls = true, .limit_ms = SUMMARY_MS};
	json_t *history = json_copy(t->history);
	const char *error = NULL;
	bool ok;

	new_summary(t, context_tokens(t));
	turn_close_tools(t);
	exchange_free(&t->exchange);
	t->state = TURN_SUMMING_UP;
	t->summaries++;
	t->ends = ends;
	json_array_append_new(history, json_pack("{s:s, s:[{s:s, s:s}]}", "role", "user", "content", "type", "text", "text", summary_instruction));
	wanted.history = history;
	if (t->debug.run != NULL)
		debug_begin(&t->summing, t->chat, &t->grant, "compaction");
	debug_asked(&t->summing, &t->grant, history, t->tools, "generate");
	ok = exchange_begin(&t->exchange, turn_env.multi, turn_env.ca_file, &wanted, drop_part, on_summary, t, &error);
	json_decref(history);
	if (!ok)
		go_on_without(t);
}
