/*
 * config.h -- what turns are configured by, read from the database once and then from here.
 *
 * Five kinds of entries: the providers that are on, a model by its id, the default model, a user's own prompt, an MCP
 * server by its id.  A fill is shared by all who wait for it.  An invalidation drops entries and begins a new epoch: a fill that began before it answers
 * those who waited for it and is not kept, and who asks afterwards does not join it.  Lifetimes are a second net: ten
 * seconds, five for prompts.  Nothing here is written by those who read: they get a reference and must not change it.
 *
 * A change comes here twice: by a notification, and with the answer that gives this process its chats (coder.chat_take), so
 * that no turn begins before what was committed before it is known.  The number of a change tells that it is the same.  An
 * answer without changes says that all entries still hold: their lifetimes begin anew (config_confirmed).
 *
 * No I/O and no clock: the owner passes both.  One thread.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_CONFIG_H
#define GATEWAY_CHAT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

typedef enum ConfigKind
{
	CONFIG_PROVIDERS,
	CONFIG_MODEL,
	CONFIG_DEFAULT_MODEL,
	CONFIG_PROMPT,
	CONFIG_MCP_SERVER
} ConfigKind;

#define CONFIG_PROVIDERS_MS 10000
#define CONFIG_MODEL_MS 10000
#define CONFIG_PROMPT_MS 5000
#define CONFIG_MAX_PROMPTS 65536
#define CONFIG_SEEN_CHANGES 1024

typedef struct ConfigCache ConfigCache;
typedef struct ConfigFill ConfigFill;
typedef struct ConfigWait ConfigWait;

/* Begins a read of an entry; its owner answers with config_filled, but not before this returns.  False: it cannot be read now. */
typedef bool (*ConfigLoad)(void *arg, ConfigFill *fill, ConfigKind kind, const char *key);

/* value: borrowed, JSON null where there is none (no model, no prompt); NULL with an error. */
typedef void (*ConfigDone)(void *arg, const json_t *value, const char *error);

typedef struct ConfigStats
{
	int64_t hits;
	int64_t misses; /* who asks waits for a fill */
	int64_t loads;
	int64_t invalidations; /* changes that dropped entries */
	int64_t emptied; /* all were dropped */
	int64_t dropped; /* fills that were not kept */
} ConfigStats;

ConfigCache *config_new(ConfigLoad load, void *arg);
/* Who still waits is answered with an error. */
void config_free(ConfigCache *cache);

/*
 * The entry, from the cache (done is called before this returns; NULL is answered) or by a fill (done is called later,
 * unless cancelled).  key: the model's or user's id, "" for the others; now_ms: a clock that only goes forward.
 */
ConfigWait *config_get(ConfigCache *cache, ConfigKind kind, const char *key, int64_t now_ms, ConfigDone done, void *arg);

/*
 * For a load: another entry that the same read brings, to be answered like the first.  NULL where it is at hand, or is being
 * read already.
 */
ConfigFill *config_also(ConfigFill *fill, ConfigKind kind, const char *key, int64_t now_ms);

/* Who waited does not any more; the fill goes on for the others and the cache. */
void config_cancel(ConfigWait *wait);

/* The answer of a read: value (JSON null: none) is taken over; NULL with an error, which is never kept. */
void config_filled(ConfigFill *fill, json_t *value, const char *error, int64_t now_ms);

/*
 * A change: {"kind": "providers" | "model_config" | "user_prompt" | "user_prompts" (all) |
 * "mcp_server" | "mcp_servers" (all), "entity_id", "change"?: number}; others are ignored, and
 * one whose number has come before.
 */
void config_changed(ConfigCache *cache, const json_t *change);
void config_notified(ConfigCache *cache, const char *payload); /* the same as text, from chat:config_change */

/* All changes that were committed before this moment have come. */
void config_confirmed(ConfigCache *cache, int64_t now_ms);

void config_invalidate_providers(ConfigCache *cache); /* and all models and the default */
void config_invalidate_model(ConfigCache *cache, const char *id); /* and the default */
void config_invalidate_prompt(ConfigCache *cache, const char *user);
void config_invalidate_mcp_server(ConfigCache *cache, const char *id);
/* The listening connection was lost: anything may have changed. */
void config_invalidate_all(ConfigCache *cache);

const ConfigStats *config_stats(const ConfigCache *cache);

#endif
