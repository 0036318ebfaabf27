/*
 * rate.c -- requests a minute of each user, or address, on a path.
 *
 * A token that nobody has ever signed in with here counts as its address, so
 * that made-up tokens are no way around.  Those who come near a limit are told
 * to the database once a second, and it tells what other gateways, and the
 * same user's other tokens, have counted.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "rate.h"
#include "reply.h"

#define SHARDS 16
#define SLOTS 8192 /* per shard; the oldest of a probe window is overwritten */
#define PROBES 8
#define WINDOW 60
#define WHO_MAX 47
#define HOT 256			 /* slots of a shard that are told in a minute */
#define KNOWN (1u << 16) /* tokens that are remembered as somebody's */
#define KNOWN_WAYS 4
#define EXCHANGE_MS 1000
#define RETRY_MS 5000
#define ROWS 2048

typedef struct Slot
{
	uint64_t key;
	uint64_t window; /* number of the minute that count is of */
	uint64_t path;	 /* the same in every gateway */
	uint32_t count;
	uint32_t before; /* of the minute before */
	uint32_t others; /* the same two, of elsewhere */
	uint32_t others_before;
	uint32_t told;
	char who[WHO_MAX + 1]; /* "k" and a key's id, or "a" and an address */
} Slot;

typedef struct Shard
{
	pthread_mutex_t lock;
	Slot *slots;
	uint64_t hot_window;
	uint16_t hot[HOT];
	int n_hot;
} Shard;

typedef struct Row
{
	uint64_t key;
	uint64_t window;
	uint64_t path;
	uint32_t count;
	char who[WHO_MAX + 1];
} Row;

static Shard shards[SHARDS];
static _Atomic uint64_t *known;
static uint8_t hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct
{
	pthread_t thread;
	bool running;
	int wake_fd;
	char name[17]; /* of this gateway */
	PGconn *pg;
} exchange = {.wake_fd = -1};

static void
init_shards(void)
{
	randombytes_buf(hash_key, sizeof(hash_key));
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&shards[i].lock, NULL);
	known = calloc(KNOWN, sizeof(*known));
}

static uint64_t
hash(const void *data, size_t len)
{
	uint64_t value;

	crypto_shorthash((unsigned char *) &value, data, len, hash_key);
	return value;
}

/* Tokens that are somebody's -------------------------------------------------- */

static bool
is_known(uint64_t token)
{
	size_t at = (size_t) (token % (KNOWN / KNOWN_WAYS)) * KNOWN_WAYS;

	for (size_t i = 0; i < KNOWN_WAYS; i++)
		if (atomic_load_explicit(&known[at + i], memory_order_relaxed) == token)
			return true;
	return false;
}

void
gw_rate_known(uint64_t token)
{
	size_t at = (size_t) (token % (KNOWN / KNOWN_WAYS)) * KNOWN_WAYS;

	if (!is_known(token))
		atomic_store_explicit(
			&known[at + randombytes_uniform(KNOWN_WAYS)], token, memory_order_relaxed);
}

/* Counting -------------------------------------------------------------------- */

static Slot *
find_slot(Slot *slots, uint64_t key)
{
	Slot *oldest = NULL;

	for (size_t i = 0; i < PROBES; i++)
	{
		Slot *slot = &slots[(key + i) % SLOTS];

		if (slot->key == key)
			return slot;
		if (oldest == NULL || slot->window < oldest->window)
			oldest = slot;
	}
	*oldest = (Slot){.key = key};
	return oldest;
}

static void
next_window(Slot *slot, uint64_t window)
{
	bool last = slot->window + 1 == window;

	slot->before = last ? slot->count : 0;
	slot->others_before = last ? slot->others : 0;
	slot->count = slot->others = slot->told = 0;
	slot->window = window;
}

/* Who comes near the limit is told to the database. */
static void
note_hot(Shard *shard, const Slot *slot)
{
	if (shard->hot_window != slot->window)
	{
		shard->hot_window = slot->window;
		shard->n_hot = 0;
	}
	if (shard->n_hot < HOT)
		shard->hot[shard->n_hot++] = (uint16_t) (slot - shard->slots);
}

typedef struct Who
{
	char text[WHO_MAX + 1];
	uint64_t key;
	uint64_t path;
} Who;

/*
 * Counts a request; returns how many there were in the sliding minute, without
 * it, the last window weighted by how much of it still counts.
 */
static unsigned
count_request(const Who *who, unsigned limit, uint64_t now)
{
	Shard *shard = &shards[who->key % SHARDS];
	uint64_t window = now / WINDOW;
	unsigned hot = limit / 16 > 3 ? limit / 16 : 3;
	unsigned seen;
	Slot *slot;

	pthread_mutex_lock(&shard->lock);
	if (shard->slots == NULL)
		shard->slots = calloc(SLOTS, sizeof(Slot));
	slot = find_slot(shard->slots, who->key / SHARDS);
	if (slot->who[0] == '\0')
	{
		memcpy(slot->who, who->text, sizeof(slot->who));
		slot->path = who->path;
	}
	if (slot->window != window)
		next_window(slot, window);
	seen = slot->count + slot->others +
		   (unsigned) ((uint64_t) (slot->before + slot->others_before) * (WINDOW - now % WINDOW) /
					   WINDOW);
	if (++slot->count == hot)
		note_hot(shard, slot);
	pthread_mutex_unlock(&shard->lock);
	return seen;
}

static int
limit_of(int rate)
{
	switch ((GwRate) rate)
	{
		case GW_RATE_API:
			return gw_server.options.api_rate_limit;
		case GW_RATE_LOGIN:
			return 60;
		case GW_RATE_FILES:
			return 12;
		case GW_RATE_NONE:
			break;
	}
	return 0;
}

/* Whoever has one address of IPv6 has 2^64 of them: they count as one. */
static size_t
network_of(const char *address, char network[INET6_ADDRSTRLEN])
{
	struct in6_addr bytes;

	if (inet_pton(AF_INET6, address, &bytes) != 1)
		return (size_t) snprintf(network, INET6_ADDRSTRLEN, "%s", address);
	memset(bytes.s6_addr + 8, 0, 8);
	inet_ntop(AF_INET6, &bytes, network, INET6_ADDRSTRLEN);
	return strlen(network);
}

/* The key's id where the token is somebody's, else the address; and the path. */
static void
who_asks(GwRequest *request, int rate, Who *who)
{
	static const uint8_t shared_key[crypto_shorthash_KEYBYTES] = {0};
	char network[INET6_ADDRSTRLEN];
	const char *text = network;
	size_t n = network_of(request->remote, network);
	char path[512];
	char both[sizeof(who->text) + sizeof(who->path)];
	size_t len = request->path.len < sizeof(path) - 1 ? request->path.len : sizeof(path) - 1;
	char kind = 'a';

	if (rate != GW_RATE_LOGIN && request->token.base != NULL)
	{
		uint64_t token = hash(request->token.base, request->token.len);

		if (is_known(token))
		{
			kind = 'k';
			text = request->token.base;
			n = request->token.len < 10 ? request->token.len : 10;
		}
		else
			request->unknown_token = token;
	}
	memset(who, 0, sizeof(*who));
	who->text[0] = kind;
	for (size_t i = 0; i < n && i < WHO_MAX - 1; i++)
		who->text[i + 1] =
			isalnum((unsigned char) text[i]) || strchr(".:%-", text[i]) != NULL ? text[i] : '_';
	path[0] = (char) rate;
	memcpy(path + 1, request->path.base, len);
	crypto_shorthash((unsigned char *) &who->path, (unsigned char *) path, len + 1, shared_key);
	memcpy(both, who->text, sizeof(who->text));
	memcpy(both + sizeof(who->text), &who->path, sizeof(who->path));
	who->key = hash(both, sizeof(both));
}

static void
add_number_header(h2o_req_t *req, const char *name, unsigned long value)
{
	char *text = h2o_mem_alloc_pool(&req->pool, 24);
	int n = snprintf(text, 24, "%lu", value);

	gw_add_header(req, name, text, (size_t) n);
}

bool
gw_limit_rate(GwRequest *request, int rate)
{
	int limit = gw_server.options.disable_rate_limits ? 0 : limit_of(rate);
	uint64_t now = (uint64_t) time(NULL);
	uint64_t reset = (now / WINDOW + 1) * WINDOW;
	h2o_req_t *req = request->req;
	char message[100];
	unsigned seen;
	Who who;

	if (limit <= 0)
		return true;
	pthread_once(&once, init_shards);
	who_asks(request, rate, &who);
	seen = count_request(&who, (unsigned) limit, now);
	add_number_header(req, "x-ratelimit-limit", (unsigned) limit);
	add_number_header(req,
					  "x-ratelimit-remaining",
					  seen + 1 < (unsigned) limit ? (unsigned) limit - seen - 1 : 0);
	add_number_header(req, "x-ratelimit-reset", reset);
	/* An owner's token turns the limit off; whether it is an owner's, the function's caller looks.
	 */
	if (seen < (unsigned) limit ||
		(who.text[0] == 'k' && seen / 100 < (unsigned) limit &&
		 gw_iovec_is(gw_header(req, "x-coder-bypass-ratelimit"), "true")))
		return true;
	add_number_header(req, "retry-after", reset - now);
	snprintf(message,
			 sizeof(message),
			 "You've been rate limited for sending more than %d requests in 1m0s.",
			 limit);
	gw_reply_error(req, 429, message, NULL);
	return false;
}

/* Exchange -------------------------------------------------------------------- */

static int
collect_rows(Row *rows, uint64_t window)
{
	int n = 0;

	for (int i = 0; i < SHARDS; i++)
	{
		Shard *shard = &shards[i];

		pthread_mutex_lock(&shard->lock);
		for (int k = 0; shard->hot_window == window && k < shard->n_hot && n < ROWS; k++)
		{
			const Slot *slot = &shard->slots[shard->hot[k]];
			Row *row = &rows[n];

			if (slot->window != window || slot->count == slot->told)
				continue;
			*row = (Row){.key = slot->key * SHARDS + (uint64_t) i,
						 .window = window,
						 .path = slot->path,
						 .count = slot->count};
			memcpy(row->who, slot->who, sizeof(row->who));
			n++;
		}
		pthread_mutex_unlock(&shard->lock);
	}
	return n;
}

static void
take_row(const Row *row, unsigned others, unsigned before)
{
	Shard *shard = &shards[row->key % SHARDS];

	pthread_mutex_lock(&shard->lock);
	for (size_t i = 0; i < PROBES; i++)
	{
		Slot *slot = &shard->slots[(row->key / SHARDS + i) % SLOTS];

		if (slot->key != row->key / SHARDS || slot->window != row->window)
			continue;
		slot->others = others;
		slot->others_before = before;
		slot->told = row->count;
	}
	pthread_mutex_unlock(&shard->lock);
}

/* An array's text of one column: {…,…}. */
static char *
column_text(const Row *rows, int n, char column)
{
	size_t cap = (size_t) n * (WHO_MAX + 4) + 8;
	char *text = malloc(cap);
	size_t len = 0;

	text[len++] = '{';
	for (int i = 0; i < n; i++)
	{
		const char *comma = i > 0 ? "," : "";
		int k = column == 'w' ? snprintf(text + len, cap - len, "%s\"%s\"", comma, rows[i].who)
				: column == 'p'
					? snprintf(text + len, cap - len, "%s%lld", comma, (long long) rows[i].path)
					: snprintf(text + len, cap - len, "%s%u", comma, rows[i].count);

		len += (size_t) k;
	}
	text[len++] = '}';
	text[len] = '\0';
	return text;
}

static bool
exchange_rows(const Row *rows, int n, uint64_t window)
{
	char minute[24];
	char *who = column_text(rows, n, 'w');
	char *path = column_text(rows, n, 'p');
	char *count = column_text(rows, n, 'c');
	const char *params[] = {exchange.name, minute, who, path, count};
	PGresult *result;
	bool ok;

	snprintf(minute, sizeof(minute), "%llu", (unsigned long long) window);
	result = PQexecParams(exchange.pg,
						  "SELECT i, others, before FROM coder.rate_exchange($1, $2, $3, $4, $5)",
						  5,
						  NULL,
						  params,
						  NULL,
						  NULL,
						  0);
	ok = PQresultStatus(result) == PGRES_TUPLES_OK;
	for (int i = 0; ok && i < PQntuples(result); i++)
	{
		int row = atoi(PQgetvalue(result, i, 0)) - 1;

		if (row >= 0 && row < n)
			take_row(&rows[row],
					 (unsigned) strtoul(PQgetvalue(result, i, 1), NULL, 10),
					 (unsigned) strtoul(PQgetvalue(result, i, 2), NULL, 10));
	}
	if (!ok)
		gw_log(GW_WARN, "could not exchange rates: %s", PQresultErrorMessage(result));
	PQclear(result);
	free(who);
	free(path);
	free(count);
	return ok;
}

static bool
is_connected(void)
{
	const char *keys[] = {"dbname", "application_name", "connect_timeout", NULL};
	const char *values[] = {gw_server.conninfo, "coder-server rates", "10", NULL};

	if (exchange.pg == NULL)
		exchange.pg = PQconnectdbParams(keys, values, 1);
	if (PQstatus(exchange.pg) == CONNECTION_OK)
		return true;
	PQfinish(exchange.pg);
	exchange.pg = NULL;
	return false;
}

static void *
exchange_main(void *arg)
{
	struct pollfd fd = {.fd = exchange.wake_fd, .events = POLLIN};
	Row *rows = malloc(sizeof(Row) * ROWS);
	int wait = EXCHANGE_MS;

	(void) arg;
	while (poll(&fd, 1, wait) == 0 && !atomic_load(&gw_server.stopping))
	{
		uint64_t window = (uint64_t) time(NULL) / WINDOW;
		int n = collect_rows(rows, window);

		wait =
			n == 0 || (is_connected() && exchange_rows(rows, n, window)) ? EXCHANGE_MS : RETRY_MS;
	}
	PQfinish(exchange.pg);
	exchange.pg = NULL;
	free(rows);
	return NULL;
}

void
gw_rate_start(void)
{
	uint8_t name[8];

	if (gw_server.options.disable_rate_limits)
		return;
	pthread_once(&once, init_shards);
	randombytes_buf(name, sizeof(name));
	sodium_bin2hex(exchange.name, sizeof(exchange.name), name, sizeof(name));
	exchange.wake_fd = eventfd(0, EFD_CLOEXEC);
	exchange.running = pthread_create(&exchange.thread, NULL, exchange_main, NULL) == 0;
}

void
gw_rate_stop(void)
{
	uint64_t one = 1;

	if (exchange.running && write(exchange.wake_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(exchange.thread, NULL);
	exchange.running = false;
}
