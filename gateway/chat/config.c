/*
 * config.c -- the cache of what turns are configured by.
 *
 * Entries and fills live in one hash table by kind and key.  A fill that an invalidation overtook is taken out of the table:
 * those who wait for it still have it, nobody else finds it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define BUCKETS 4096

typedef struct Entry Entry;

struct ConfigWait
{
	ConfigWait *next;
	ConfigFill *fill;
	ConfigDone done; /* NULL: cancelled */
	void *arg;
};

struct ConfigFill
{
	ConfigFill *next; /* of the cache's fills */
	ConfigCache *cache;
	ConfigKind kind;
	bool stale; /* overtaken by an invalidation */
	ConfigWait *waits;
	ConfigWait **last;
	char key[];
};

struct Entry
{
	Entry *next; /* in the bucket */
	Entry *older; /* of the prompts, by last use */
	Entry *newer;
	ConfigKind kind;
	int64_t until;
	json_t *value;
	char key[];
};

struct ConfigCache
{
	ConfigLoad load;
	void *arg;
	Entry *buckets[BUCKETS];
	ConfigFill *fills;
	Entry *oldest; /* prompts */
	Entry *newest;
	int n_prompts;
	int64_t confirmed; /* when all entries were known to hold; 0: never */
	int64_t seen[CONFIG_SEEN_CHANGES]; /* numbers of the latest changes */
	int n_seen;
	ConfigStats stats;
};

static unsigned
bucket_of(ConfigKind kind, const char *key)
{
	unsigned hash = 2166136261u ^ (unsigned) kind;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char) *key) * 16777619u;
	return hash % BUCKETS;
}

ConfigCache *
config_new(ConfigLoad load, void *arg)
{
	ConfigCache *cache = calloc(1, sizeof(*cache));

	if (cache != NULL)
	{
		cache->load = load;
		cache->arg = arg;
	}
	return cache;
}

/* Entries -------------------------------------------------------------------- */

static void
prompt_unlink(ConfigCache *cache, Entry *e)
{
	if (e->kind != CONFIG_PROMPT)
		return;
	*(e->older != NULL ? &e->older->newer : &cache->oldest) = e->newer;
	*(e->newer != NULL ? &e->newer->older : &cache->newest) = e->older;
	cache->n_prompts--;
}

static void
prompt_link(ConfigCache *cache, Entry *e)
{
	if (e->kind != CONFIG_PROMPT)
		return;
	e->newer = NULL;
	e->older = cache->newest;
	*(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = e;
	cache->newest = e;
	cache->n_prompts++;
}

static Entry **
find(ConfigCache *cache, ConfigKind kind, const char *key)
{
	Entry **link = &cache->buckets[bucket_of(kind, key)];

	while (*link != NULL && ((*link)->kind != kind || strcmp((*link)->key, key) != 0))
		link = &(*link)->next;
	return link;
}

static void
drop(ConfigCache *cache, Entry **link)
{
	Entry *e = *link;

	if (e == NULL)
		return;
	*link = e->next;
	prompt_unlink(cache, e);
	json_decref(e->value);
	free(e);
}

/* Drops all entries of a kind. */
static void
drop_kind(ConfigCache *cache, ConfigKind kind)
{
	for (int i = 0; i < BUCKETS; i++)
	{
		Entry **link = &cache->buckets[i];

		while (*link != NULL)
		{
			if ((*link)->kind == kind)
				drop(cache, link);
			else
				link = &(*link)->next;
		}
	}
}

static int64_t
life_of(ConfigKind kind)
{
	return kind == CONFIG_PROMPT ? CONFIG_PROMPT_MS : kind == CONFIG_MODEL ? CONFIG_MODEL_MS : CONFIG_PROVIDERS_MS;
}

/* Does it hold: by its own age, or by the word that nothing has changed since? */
static bool
holds(const ConfigCache *cache, const Entry *e, int64_t now_ms)
{
	return e->until > now_ms || (cache->confirmed != 0 && cache->confirmed + life_of(e->kind) > now_ms);
}

static void
store(ConfigCache *cache, ConfigKind kind, const char *key, json_t *value, int64_t until)
{
	Entry *e;
	size_t len = strlen(key) + 1;

	drop(cache, find(cache, kind, key));
	if (kind == CONFIG_PROMPT && cache->n_prompts >= CONFIG_MAX_PROMPTS)
		drop(cache, find(cache, CONFIG_PROMPT, cache->oldest->key));
	e = calloc(1, sizeof(*e) + len);
	if (e == NULL)
		return;
	memcpy(e->key, key, len);
	e->kind = kind;
	e->until = until;
	e->value = json_incref(value);
	*find(cache, kind, key) = e;
	prompt_link(cache, e);
}

/* Fills ---------------------------------------------------------------------- */

static void
end_fill(ConfigFill *fill)
{
	ConfigFill **link = &fill->cache->fills;

	while (*link != NULL && *link != fill)
		link = &(*link)->next;
	if (*link != NULL)
		*link = fill->next;
	while (fill->waits != NULL)
	{
		ConfigWait *wait = fill->waits;

		fill->waits = wait->next;
		free(wait);
	}
	free(fill);
}

static ConfigFill *
begin_fill(ConfigCache *cache, ConfigKind kind, const char *key)
{
	size_t len = strlen(key) + 1;
	ConfigFill *fill = calloc(1, sizeof(*fill) + len);

	if (fill == NULL)
		return NULL;
	memcpy(fill->key, key, len);
	fill->cache = cache;
	fill->kind = kind;
	fill->last = &fill->waits;
	fill->next = cache->fills;
	cache->fills = fill;
	cache->stats.loads++;
	return fill;
}

static ConfigFill *
find_fill(ConfigCache *cache, ConfigKind kind, const char *key)
{
	for (ConfigFill *fill = cache->fills; fill != NULL; fill = fill->next)
		if (!fill->stale && fill->kind == kind && strcmp(fill->key, key) == 0)
			return fill;
	return NULL;
}

static void
overtake(ConfigCache *cache, ConfigKind kind, const char *key)
{
	for (ConfigFill *fill = cache->fills; fill != NULL; fill = fill->next)
		if (fill->kind == kind && (key == NULL || strcmp(fill->key, key) == 0))
			fill->stale = true;
}

ConfigWait *
config_get(ConfigCache *cache, ConfigKind kind, const char *key, int64_t now_ms, ConfigDone done, void *arg)
{
	Entry **link = find(cache, kind, key);
	ConfigFill *fill;
	ConfigWait *wait;
	bool begun = false;

	if (*link != NULL && holds(cache, *link, now_ms))
	{
		Entry *e = *link;
		json_t *value = json_incref(e->value);

		prompt_unlink(cache, e);
		prompt_link(cache, e);
		cache->stats.hits++;
		done(arg, value, NULL);
		json_decref(value);
		return NULL;
	}
	cache->stats.misses++;
	fill = find_fill(cache, kind, key);
	if (fill == NULL)
	{
		fill = begin_fill(cache, kind, key);
		begun = true;
	}
	wait = fill != NULL ? calloc(1, sizeof(*wait)) : NULL;
	if (wait == NULL)
	{
		done(arg, NULL, "out of memory");
		return NULL;
	}
	wait->fill = fill;
	wait->done = done;
	wait->arg = arg;
	*fill->last = wait;
	fill->last = &wait->next;
	if (!begun || cache->load(cache->arg, fill, kind, key))
		return wait;
	end_fill(fill);
	done(arg, NULL, "it cannot be read now");
	return NULL;
}

ConfigFill *
config_also(ConfigFill *fill, ConfigKind kind, const char *key, int64_t now_ms)
{
	ConfigCache *cache = fill->cache;
	Entry *e = *find(cache, kind, key);

	if ((e != NULL && holds(cache, e, now_ms)) || find_fill(cache, kind, key) != NULL)
		return NULL;
	return begin_fill(cache, kind, key);
}

void
config_cancel(ConfigWait *wait)
{
	if (wait != NULL)
		wait->done = NULL;
}

void
config_filled(ConfigFill *fill, json_t *value, const char *error, int64_t now_ms)
{
	ConfigCache *cache = fill->cache;
	bool missing_model = json_is_null(value) && fill->kind == CONFIG_MODEL;

	/* Who asks from a callback must find the entry, or begin a fill of its own. */
	if (value != NULL && !fill->stale && !missing_model)
		store(cache, fill->kind, fill->key, value, now_ms + life_of(fill->kind));
	else if (value != NULL && fill->stale)
		cache->stats.dropped++;
	fill->stale = true;
	for (ConfigWait *wait = fill->waits; wait != NULL; wait = wait->next)
		if (wait->done != NULL)
		{
			ConfigDone done = wait->done;

			wait->done = NULL;
			done(wait->arg, value, value == NULL && error == NULL ? "it cannot be read" : error);
		}
	end_fill(fill);
	json_decref(value);
}

/* Invalidation --------------------------------------------------------------- */

void
config_invalidate_providers(ConfigCache *cache)
{
	static const ConfigKind kinds[] = {CONFIG_PROVIDERS, CONFIG_MODEL, CONFIG_DEFAULT_MODEL};

	cache->stats.invalidations++;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
	{
		drop_kind(cache, kinds[i]);
		overtake(cache, kinds[i], NULL);
	}
}

void
config_invalidate_model(ConfigCache *cache, const char *id)
{
	cache->stats.invalidations++;
	drop(cache, find(cache, CONFIG_MODEL, id));
	drop(cache, find(cache, CONFIG_DEFAULT_MODEL, ""));
	overtake(cache, CONFIG_MODEL, NULL);
	overtake(cache, CONFIG_DEFAULT_MODEL, NULL);
}

void
config_invalidate_prompt(ConfigCache *cache, const char *user)
{
	cache->stats.invalidations++;
	drop(cache, find(cache, CONFIG_PROMPT, user));
	overtake(cache, CONFIG_PROMPT, NULL);
}

/* Of all users. */
static void
config_invalidate_prompts(ConfigCache *cache)
{
	cache->stats.invalidations++;
	drop_kind(cache, CONFIG_PROMPT);
	overtake(cache, CONFIG_PROMPT, NULL);
}

void
config_invalidate_mcp_server(ConfigCache *cache, const char *id)
{
	cache->stats.invalidations++;
	drop(cache, find(cache, CONFIG_MCP_SERVER, id));
	overtake(cache, CONFIG_MCP_SERVER, id);
}

static void
config_invalidate_mcp_servers(ConfigCache *cache)
{
	cache->stats.invalidations++;
	drop_kind(cache, CONFIG_MCP_SERVER);
	overtake(cache, CONFIG_MCP_SERVER, NULL);
}

void
config_invalidate_all(ConfigCache *cache)
{
	int64_t changes = cache->stats.invalidations;

	cache->confirmed = 0;
	config_invalidate_mcp_servers(cache);
	config_invalidate_providers(cache);
	config_invalidate_prompts(cache);
	cache->stats.invalidations = changes;
	cache->stats.emptied++;
}

/* Has the database told a change of this number before? */
static bool
seen(const ConfigCache *cache, int64_t number)
{
	int n = cache->n_seen < CONFIG_SEEN_CHANGES ? cache->n_seen : CONFIG_SEEN_CHANGES;

	for (int i = 0; i < n; i++)
		if (cache->seen[i] == number)
			return true;
	return false;
}

static void
remember(ConfigCache *cache, int64_t number)
{
	cache->seen[cache->n_seen % CONFIG_SEEN_CHANGES] = number;
	cache->n_seen = cache->n_seen == 2 * CONFIG_SEEN_CHANGES - 1 ? CONFIG_SEEN_CHANGES : cache->n_seen + 1;
}

static void
forget_what_changed(ConfigCache *cache, const json_t *change)
{
	const char *kind = json_string_value(json_object_get(change, "kind"));
	const char *id = json_string_value(json_object_get(change, "entity_id"));
	const json_t *number = json_object_get(change, "change");

	if (kind == NULL || (json_is_integer(number) && seen(cache, json_integer_value(number))))
		return;
	if (strcmp(kind, "providers") == 0)
		config_invalidate_providers(cache);
	else if (id != NULL && strcmp(kind, "model_config") == 0)
		config_invalidate_model(cache, id);
	else if (id != NULL && strcmp(kind, "user_prompt") == 0)
		config_invalidate_prompt(cache, id);
	else if (strcmp(kind, "user_prompts") == 0)
		config_invalidate_prompts(cache);
	else if (id != NULL && strcmp(kind, "mcp_server") == 0)
		config_invalidate_mcp_server(cache, id);
	else if (strcmp(kind, "mcp_servers") == 0)
		config_invalidate_mcp_servers(cache);
}

void
config_changed(ConfigCache *cache, const json_t *change)
{
	const json_t *number = json_object_get(change, "change");

	forget_what_changed(cache, change);
	if (json_is_integer(number) && !seen(cache, json_integer_value(number)))
		remember(cache, json_integer_value(number));
}

/* Anybody who is connected to the database can NOTIFY: its number does not make the change itself old news. */
void
config_notified(ConfigCache *cache, const char *payload)
{
	json_t *change = json_loads(payload, 0, NULL);

	forget_what_changed(cache, change);
	json_decref(change);
}

void
config_confirmed(ConfigCache *cache, int64_t now_ms)
{
	cache->confirmed = now_ms;
}

const ConfigStats *
config_stats(const ConfigCache *cache)
{
	return &cache->stats;
}

void
config_free(ConfigCache *cache)
{
	if (cache == NULL)
		return;
	while (cache->fills != NULL)
		config_filled(cache->fills, NULL, "canceled", 0);
	for (int i = 0; i < BUCKETS; i++)
		while (cache->buckets[i] != NULL)
			drop(cache, &cache->buckets[i]);
	free(cache);
}
