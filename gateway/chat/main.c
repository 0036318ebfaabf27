/*
 * main.c -- coder-server chat-runner: takes chats that wait, and runs their turns.
 *
 * One thread: libcurl's transfers and the database's connections are waited for together.  Any number of runners may work on
 * one database; a chat is one's as long as its heartbeat is fresh and its connection stands.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <sodium.h>

#include "awskey.h"
#include "chat.h"
#include "config.h"
#include "db.h"
#include "errand.h"
#include "exchange.h"
#include "gateway.h"
#include "gitsync.h"
#include "mcp.h"
#include "mcplist.h"
#include "request.h"
#include "title.h"
#include "tool.h"
#include "transfer.h"
#include "turn.h"

#define HEARTBEAT_MS 1000 /* from a look for turns that want one to the next */
#define COUNTS_MS 2000
#define N_COUNTS 4
#define ACQUIRE_MS 1000
#define PAUSES 8 /* as long as it took to take some */
#define MOST_PAUSE_MS 250
#define QUIET_MS 100 /* after the last chat that came: who waits then is all who wait */
#define MAX_TURNS 4000
#define DRAIN_MS 5000

static volatile sig_atomic_t stopping;

static struct
{
	int batch;
	bool acquiring;
	bool again; /* more came while one was under way */
	int64_t acquire_at;
	int64_t pending_at; /* the last word of a chat that waits */
	int64_t acquire_after; /* not sooner, where many chats wait */
	int64_t heartbeat_at;
	bool beating;
	int64_t counts_at;
	ConfigStats counted; /* what the database has been told of the cache */
	char position[24]; /* up to where changes of configuration are known; "" at the beginning */
} runner;

static void
on_signal(int sig)
{
	(void) sig;
	stopping = 1;
}

static int64_t
now_ms(void)
{
	return (int64_t) (gw_micros() / 1000);
}

/* Taking chats ---------------------------------------------------------------- */

static void acquire(void);

/* What was committed before these chats were taken counts for them. */
static void
take_changes(const json_t *answer)
{
	const char *next = json_string_value(json_object_get(answer, "next"));
	size_t i;
	json_t *change;

	if (next == NULL)
		return;
	json_array_foreach(json_object_get(answer, "changes"), i, change)
	{
		config_changed(turn_env.config, change);
	}
	/* The first answer knows of nothing that came before it. */
	if (runner.position[0] == '\0')
		config_invalidate_all(turn_env.config);
	snprintf(runner.position, sizeof(runner.position), "%s", next);
	config_confirmed(turn_env.config, now_ms());
}

/* Many wait, and more come: the busier the database is, the longer it is left to those who ask it something meanwhile. */
static int64_t
pause_of(const json_t *answer)
{
	int64_t pause = (int64_t) (PAUSES * json_number_value(json_object_get(answer, "took")));

	if (now_ms() - runner.pending_at > QUIET_MS)
		return 0;
	return pause < MOST_PAUSE_MS ? pause : MOST_PAUSE_MS;
}

static void
on_acquired(void *arg, PGresult *result)
{
	bool ok = result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
	json_t *answer = ok ? json_loads(PQgetvalue(result, 0, 0), 0, NULL) : NULL;
	const json_t *chats = json_object_get(answer, "chats");
	bool full = (int) json_array_size(chats) >= runner.batch;
	bool more = full || runner.again;
	size_t i;
	json_t *taken;

	(void) arg;
	runner.acquiring = false;
	runner.again = false;
	take_changes(answer);
	json_array_foreach(chats, i, taken)
	{
		turn_start(json_incref(taken));
	}
	runner.acquire_after = full ? now_ms() + pause_of(answer) : 0;
	json_decref(answer);
	if (more)
		acquire();
}

static void
acquire(void)
{
	char n[16];
	const char *const params[] = {turn_env.worker, n, runner.position};

	runner.again = runner.acquiring;
	if (runner.acquiring || stopping || turn_count() >= MAX_TURNS)
		return;
	if (now_ms() < runner.acquire_after)
	{
		runner.acquire_at = runner.acquire_after;
		return;
	}
	snprintf(n, sizeof(n), "%d", runner.batch);
	runner.acquiring = db_call("SELECT coder.chat_take($1, $2, $3)", 3, params, on_acquired, NULL) != NULL;
	runner.acquire_at = now_ms() + ACQUIRE_MS;
}

static void heartbeat(void);

static void
on_heartbeat(void *arg, PGresult *result)
{
	(void) arg;
	runner.beating = false;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		turn_keep_only(PQgetvalue(result, 0, 0));
	if (result != NULL)
		heartbeat();
}

static void
heartbeat(void)
{
	char *ids = runner.beating ? NULL : turn_ids();
	const char *const params[] = {turn_env.worker, ids};

	runner.heartbeat_at = now_ms() + HEARTBEAT_MS;
	if (ids != NULL)
		runner.beating = db_call("SELECT coder.chat_heartbeat($1, $2)", 2, params, on_heartbeat, NULL) != NULL;
	free(ids);
}

/* Tells the database what the cache has counted since; what is lost with a connection is not told again. */
static void
tell_counts(void)
{
	const ConfigStats *now = config_stats(turn_env.config);
	const int64_t more[N_COUNTS] = {now->hits - runner.counted.hits, now->misses - runner.counted.misses,
							now->invalidations - runner.counted.invalidations, now->emptied - runner.counted.emptied};
	char texts[N_COUNTS][24];
	const char *params[N_COUNTS];
	bool any = false;

	for (int i = 0; i < N_COUNTS; i++)
	{
		snprintf(texts[i], sizeof(texts[i]), "%lld", (long long) more[i]);
		params[i] = texts[i];
		any |= more[i] > 0;
	}
	runner.counts_at = now_ms() + COUNTS_MS;
	if (any && db_call("SELECT coder.stat_count('chat_hit', $1::bigint), coder.stat_count('chat_miss', $2::bigint),"
					   " coder.stat_count('chat_invalidation', $3::bigint), coder.stat_count('chat_emptied', $4::bigint)",
					   N_COUNTS, params, NULL, NULL) != NULL)
		runner.counted = *now;
}

/* Configuration --------------------------------------------------------------- */

/* What one statement reads: a model, and the providers with it where they are not known. */
typedef struct ConfigRead
{
	ConfigFill *fill;
	ConfigFill *providers;
} ConfigRead;

static const char unread[] = "the configuration cannot be read";

static void
on_config(void *arg, PGresult *result)
{
	ConfigRead *read = arg;
	json_t *value = NULL;
	json_t *providers = NULL;

	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		value = PQgetisnull(result, 0, 0) ? json_null() : json_loads(PQgetvalue(result, 0, 0), JSON_DECODE_ANY, NULL);
	if (read->providers != NULL)
	{
		json_t *both = value;

		value = json_incref(json_object_get(both, "model"));
		providers = json_incref(json_object_get(both, "providers"));
		json_decref(both);
		config_filled(read->providers, providers, providers == NULL ? unread : NULL, now_ms());
	}
	config_filled(read->fill, value, value == NULL ? unread : NULL, now_ms());
	free(read);
}

static bool
load_config(void *arg, ConfigFill *fill, ConfigKind kind, const char *key)
{
	static const char *const statements[] = {
		[CONFIG_PROVIDERS] = "SELECT coder.chat_run_providers()",
		[CONFIG_MODEL] = "SELECT coder.chat_run_model($1)",
		[CONFIG_DEFAULT_MODEL] = "SELECT coder.chat_run_default_model()",
		[CONFIG_PROMPT] = "SELECT to_json(coder.chat_run_prompt($1))",
		[CONFIG_MCP_SERVER] = "SELECT coder.chat_run_mcp_server($1)",
	};
	const char *const params[] = {key};
	const char *statement = statements[kind];
	ConfigRead *read = calloc(1, sizeof(*read));

	(void) arg;
	if (read == NULL)
		return false;
	read->fill = fill;
	/* Who has found its model asks for the providers next. */
	if (kind == CONFIG_MODEL && (read->providers = config_also(fill, CONFIG_PROVIDERS, "", now_ms())) != NULL)
		statement = "SELECT coder.chat_run_model_and_providers($1)";
	if (db_call(statement, *key != '\0', params, on_config, read) != NULL)
		return true;
	if (read->providers != NULL)
		config_filled(read->providers, NULL, unread, now_ms());
	free(read);
	return false;
}

/* The database ---------------------------------------------------------------- */

static void
on_up(void *arg)
{
	(void) arg;
	runner.acquiring = false;
	runner.beating = false;
	gw_log(GW_INFO, "the chat runner is ready");
	acquire();
	title_claim();
}

static void
on_down(void *arg)
{
	(void) arg;
	turn_drop_all();
	title_drop_all();
	gitsync_drop_all();
	runner.position[0] = '\0';
	config_invalidate_all(turn_env.config);
}

static void
on_event(void *arg, const char *channel, const char *payload)
{
	static const char prefix[] = "chat:stream:";
	static const char words[] = "tail "; /* what this runner or another has said itself */

	(void) arg;
	if (strcmp(channel, "chat:pending") == 0)
	{
		runner.pending_at = now_ms();
		acquire();
	}
	else if (strcmp(channel, "chat:title") == 0)
		title_claim();
	else if (strcmp(channel, "chat:git") == 0)
		gitsync_wake();
	else if (*payload != '\0' && strncmp(payload, words, sizeof(words) - 1) != 0 && strncmp(channel, prefix, sizeof(prefix) - 1) == 0)
		turn_status(channel + sizeof(prefix) - 1, payload);
}

static void
on_events_lost(void *arg)
{
	(void) arg;
	turn_beat_all();
	heartbeat();
	acquire();
	title_claim();
}

static void
on_notified(void *arg, const char *payload)
{
	(void) arg;
	config_notified(turn_env.config, payload);
}

static void
on_deaf(void *arg)
{
	(void) arg;
	config_invalidate_all(turn_env.config);
}

/* The process ----------------------------------------------------------------- */

static void
usage(void)
{
	puts("Usage: coder-server chat-runner [flags]\n\n"
		 "Runs the turns of chats.  coder-server starts one by itself; more may run on any machine.\n\n"
		 "  --postgres-url URL        CODER_PG_CONNECTION_URL         the database\n"
		 "  --acquire-batch-size N    CODER_CHAT_ACQUIRE_BATCH_SIZE   chats taken at once (10)\n"
		 "  --help");
}

static void
new_worker(char id[37])
{
	unsigned char b[16];

	randombytes_buf(b, sizeof(b));
	b[6] = (unsigned char) ((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char) ((b[8] & 0x3f) | 0x80);
	snprintf(id, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4], b[5], b[6],
			 b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* A number of seconds from the environment, where it is one of 1 to a day. */
static long
seconds_of(const char *name, long def)
{
	const char *text = getenv(name);
	long seconds = text != NULL ? atol(text) : 0;

	return seconds >= 1 && seconds <= 86400 ? seconds : def;
}

static bool
parse_options(int argc, char **argv, const char **conninfo)
{
	static const struct option options[] = {{"postgres-url", required_argument, NULL, 'p'},
											{"acquire-batch-size", required_argument, NULL, 'b'},
											{"help", no_argument, NULL, 'h'},
											{NULL, 0, NULL, 0}};
	const char *batch = getenv("CODER_CHAT_ACQUIRE_BATCH_SIZE");
	int c;

	*conninfo = getenv("CODER_PG_CONNECTION_URL");
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1)
	{
		if (c == 'h')
		{
			usage();
			exit(0);
		}
		if (c == 'p')
			*conninfo = optarg;
		else if (c == 'b')
			batch = optarg;
		else
			return false;
	}
	runner.batch = batch != NULL && *batch != '\0' ? atoi(batch) : 10;
	if (*conninfo == NULL || runner.batch < 1 || runner.batch > 1000)
	{
		fprintf(stderr, "coder-server chat-runner: %s\n",
				*conninfo == NULL ? "CODER_PG_CONNECTION_URL is not set" : "the batch size is a number of 1 to 1000");
		return false;
	}
	return true;
}

static void
run(void)
{
	while (!stopping)
	{
		struct pollfd fds[DB_FDS];
		int64_t now = now_ms();
		int64_t wait = awskey_tick(gitsync_tick(mcp_tick(tool_tick(turn_tick(250)))));

		if (db_is_up() && now >= runner.acquire_at)
			acquire();
		else if (db_is_up() && runner.acquire_at - now < wait)
			wait = runner.acquire_at - now;
		if (db_is_up() && now >= runner.heartbeat_at)
			heartbeat();
		if (db_is_up() && now >= runner.counts_at)
			tell_counts();
		transfers_wait(fds, db_poll_fds(fds), wait);
		db_work(now_ms());
	}
}

int
chat_main(int argc, char **argv)
{
	const char *conninfo;
	static char lock[96];
	static char begin[96];
	DbHooks hooks = {on_up, on_down, on_event, on_events_lost, on_notified, on_deaf, NULL};
	struct sigaction action = {.sa_handler = on_signal};

	if (!parse_options(argc, argv, &conninfo) || sodium_init() < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return 2;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	new_worker(turn_env.worker);
	turn_env.now_ms = now_ms;
	turn_env.ca_file = getenv("CODER_OUTBOUND_CA_FILE");
	turn_env.first_part_ms = 1000 * seconds_of("CODER_CHAT_FIRST_PART_SECONDS", 60);
	exchange_silence_s = seconds_of("CODER_CHAT_SILENCE_SECONDS", 300);
	turn_env.multi = transfers_open(MAX_TURNS);
	turn_env.config = config_new(load_config, NULL);
	if (turn_env.multi == NULL)
		return 1;
	/* The lock says that this worker lives: it ends with the connection.  What it had before it broke is to be run again. */
	snprintf(lock, sizeof(lock), "SELECT coder.hold_lock('coder.chat_worker:%s')", turn_env.worker);
	snprintf(begin, sizeof(begin), "SELECT coder.chat_release('%s')", turn_env.worker);
	db_start(conninfo, lock, begin, &hooks);
	run();
	turn_hand_over();
	title_drop_all();
	mcp_drop_all();
	mcplist_free();
	awskey_drop_all();
	errand_drop_all();
	tool_free_types();
	gitsync_drop_all();
	if (db_is_up())
		tell_counts();
	db_drain(DRAIN_MS);
	db_stop();
	config_free(turn_env.config);
	transfers_close();
	curl_global_cleanup();
	return 0;
}
