/*
 * event.c -- coder.events to whoever waits in this process.
 *
 * The polling connection lives on one loop.  A batch of events is posted to
 * every loop, where it is given to the subscribers; each loop also keeps the last
 * events, for subscriptions from a position: a stream learns its channels from
 * the answer of a statement, and an event may come between the two.  Positions
 * in this process are numbers of its own, counted as events arrive: the
 * database's order is one of transactions (extension/event.c).
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "event.h"

#define POLL_MS "10000"
#define RECENT 4096
#define BUCKETS 1024
#define RETRY_MS 250
/* coder.events_after() answers within 10 s; later the connection is dead. */
#define SILENCE_MS 25000

typedef struct Event
{
	int64_t number;
	char *channel;
	char *payload;
	size_t len;
} Event;

typedef struct Batch
{
	atomic_int refs; /* loops that have not yet let go */
	int64_t reset;	 /* not 0: events may be missing before this number */
	int n;
	Event *events;
	char *text;
} Batch;

struct GwSubscription
{
	h2o_linklist_t link;
	GwLoop *loop;
	GwEventCallback cb;
	void *arg;
	int64_t after; /* events up to here are not for it */
	GwTimer replay;
	char channel[];
};

typedef struct GwEvents GwEvents;

struct GwEvents
{
	int64_t position;
	int64_t reset; /* the last number that stands for missing events */
	int count;
	h2o_linklist_t buckets[BUCKETS];
	struct
	{
		Batch *batch;
		int index;
	} recent[RECENT];
	unsigned n_recent; /* ever; the slot is its remainder */
	h2o_linklist_t *cursor; /* of the delivery that is running: what an unsubscription moves on */
};

/* The polling connection. */
static struct
{
	GwLoop *loop;
	PGconn *pg;
	h2o_socket_t *sock;
	bool started;  /* position is known */
	bool starting; /* the statement asks for it */
	bool stopping;
	uint64_t after;	 /* the database's position: a transaction */
	int64_t history; /* in which it has a meaning */
	int64_t number;	 /* of the last event that was posted */
	GwTimer timer;
} poller;

/* For the metrics. */
static struct
{
	atomic_int connected;
	atomic_int channels;
	atomic_ullong subscribes;
	atomic_ullong messages[2];
	atomic_ullong bytes;
	atomic_ullong disconnections;
} stats;

#define COLOSSAL 7600

static void poller_connect(void *arg);

static unsigned
bucket_of(const char *channel)
{
	unsigned hash = 2166136261u;

	for (; *channel != '\0'; channel++)
		hash = (hash ^ (unsigned char) *channel) * 16777619u;
	return hash % BUCKETS;
}

void
gw_event_init(GwLoop *loop)
{
	loop->events = calloc(1, sizeof(*loop->events));
	for (int i = 0; i < BUCKETS; i++)
		h2o_linklist_init_anchor(&loop->events->buckets[i]);
}

int64_t
gw_event_position(const GwLoop *loop)
{
	return loop->events->position;
}

int
gw_event_count(const GwLoop *loop)
{
	return loop->events->count;
}

static void
batch_unref(Batch *batch)
{
	if (batch == NULL || atomic_fetch_sub(&batch->refs, 1) != 1)
		return;
	free(batch->events);
	free(batch->text);
	free(batch);
}

/* Delivery ------------------------------------------------------------------- */

static void
deliver(GwEvents *events, h2o_linklist_t *bucket, const Event *event)
{
	h2o_linklist_t *node = bucket->next;

	while (node != bucket)
	{
		GwSubscription *sub = H2O_STRUCT_FROM_MEMBER(GwSubscription, link, node);

		events->cursor = node->next;
		if (event == NULL)
			sub->cb(sub->arg, 0, NULL, 0);
		else if (sub->after < event->number && strcmp(sub->channel, event->channel) == 0)
		{
			sub->after = event->number;
			sub->cb(sub->arg, event->number, event->payload, event->len);
		}
		node = events->cursor;
	}
	events->cursor = NULL;
}

static void
on_batch(GwLoop *loop, void *arg)
{
	GwEvents *events = loop->events;
	Batch *batch = arg;

	if (batch->reset != 0)
	{
		events->position = events->reset = batch->reset;
		for (int i = 0; i < BUCKETS; i++)
		{
			for (h2o_linklist_t *n = events->buckets[i].next; n != &events->buckets[i]; n = n->next)
				H2O_STRUCT_FROM_MEMBER(GwSubscription, link, n)->after = batch->reset;
			deliver(events, &events->buckets[i], NULL);
		}
	}
	for (int i = 0; i < batch->n; i++)
	{
		unsigned slot = events->n_recent++ % RECENT;

		if (events->recent[slot].batch != NULL)
			batch_unref(events->recent[slot].batch);
		atomic_fetch_add(&batch->refs, 1);
		events->recent[slot].batch = batch;
		events->recent[slot].index = i;
		events->position = batch->events[i].number;
		deliver(events, &events->buckets[bucket_of(batch->events[i].channel)], &batch->events[i]);
	}
	batch_unref(batch);
}

/* The event of a slot of the ring. */
static const Event *
recent_event(const GwEvents *events, unsigned i)
{
	return &events->recent[i % RECENT].batch->events[events->recent[i % RECENT].index];
}

/* Gives a new subscription what came after its position, apart from the subscriber's own call. */
static void
on_replay(void *arg)
{
	GwSubscription *sub = arg;
	GwEvents *events = sub->loop->events;
	unsigned n = events->n_recent < RECENT ? events->n_recent : RECENT;
	h2o_linklist_t *bucket = &events->buckets[bucket_of(sub->channel)];
	bool alive = true;

	if (sub->after < events->reset ||
		(n == RECENT && recent_event(events, events->n_recent)->number > sub->after + 1))
	{
		/* Missing, or older than what is kept: the subscriber must look for itself. */
		sub->after = events->position;
		sub->cb(sub->arg, 0, NULL, 0);
		return;
	}
	for (unsigned i = events->n_recent - n; i != events->n_recent && alive; i++)
	{
		const Event *event = recent_event(events, i);

		if (event->number <= sub->after || strcmp(event->channel, sub->channel) != 0)
			continue;
		sub->after = event->number;
		sub->cb(sub->arg, event->number, event->payload, event->len);
		alive = false;
		for (h2o_linklist_t *node = bucket->next; node != bucket && !alive; node = node->next)
			alive = node == &sub->link;
	}
}

/* Has the channel a watcher on this loop? */
static bool
has_channel(GwEvents *events, const char *channel)
{
	h2o_linklist_t *bucket = &events->buckets[bucket_of(channel)];

	for (h2o_linklist_t *node = bucket->next; node != bucket; node = node->next)
		if (strcmp(H2O_STRUCT_FROM_MEMBER(GwSubscription, link, node)->channel, channel) == 0)
			return true;
	return false;
}

GwSubscription *
gw_event_subscribe_from(GwLoop *loop, const char *channel, int64_t position, GwEventCallback cb, void *arg)
{
	GwSubscription *sub = calloc(1, sizeof(*sub) + strlen(channel) + 1);

	if (sub == NULL)
		abort();
	strcpy(sub->channel, channel);
	sub->loop = loop;
	sub->cb = cb;
	sub->arg = arg;
	sub->after = position >= 0 ? position : loop->events->position;
	if (!has_channel(loop->events, channel))
		atomic_fetch_add(&stats.channels, 1);
	atomic_fetch_add(&stats.subscribes, 1);
	h2o_linklist_insert(&loop->events->buckets[bucket_of(channel)], &sub->link);
	loop->events->count++;
	if (sub->after < loop->events->position)
		gw_timer_start(&sub->replay, loop, 0, on_replay, sub);
	return sub;
}

GwSubscription *
gw_event_subscribe(GwLoop *loop, const char *channel, GwEventCallback cb, void *arg)
{
	return gw_event_subscribe_from(loop, channel, -1, cb, arg);
}

void
gw_event_unsubscribe(GwSubscription *sub)
{
	GwEvents *events = sub->loop->events;

	if (events->cursor == &sub->link)
		events->cursor = sub->link.next;
	gw_timer_stop(&sub->replay);
	h2o_linklist_unlink(&sub->link);
	events->count--;
	if (!has_channel(events, sub->channel))
		atomic_fetch_sub(&stats.channels, 1);
	free(sub);
}

void
gw_event_stats(GwEventStats *to)
{
	to->connected = atomic_load(&stats.connected);
	to->channels = atomic_load(&stats.channels);
	to->subscribes = atomic_load(&stats.subscribes);
	for (int i = 0; i < 2; i++)
		to->messages[i] = atomic_load(&stats.messages[i]);
	to->bytes = atomic_load(&stats.bytes);
	to->disconnections = atomic_load(&stats.disconnections);
}

/* Polling -------------------------------------------------------------------- */

static void
poller_fail(const char *why)
{
	if (why != NULL && !poller.stopping)
		gw_log(GW_DEBUG, "events: %.*s", (int) strcspn(why, "\n"), why);
	gw_timer_stop(&poller.timer);
	if (atomic_exchange(&stats.connected, 0) == 1 && !poller.stopping)
		atomic_fetch_add(&stats.disconnections, 1);
	if (poller.sock != NULL)
		h2o_socket_close(poller.sock);
	poller.sock = NULL;
	PQfinish(poller.pg);
	poller.pg = NULL;
	if (!poller.stopping)
		gw_timer_start(&poller.timer, poller.loop, RETRY_MS, poller_connect, NULL);
}

static void
on_silence(void *arg)
{
	(void) arg;
	poller_fail("no answer in time");
}

/* Rows of events_after() to all loops; column formats are text. */
static void
post_rows(PGresult *result)
{
	int n = PQntuples(result);
	Batch *batch = calloc(1, sizeof(*batch));
	size_t total = 1;
	char *p;

	for (int i = 0; i < n; i++)
		total += (size_t) PQgetlength(result, i, 1) + (size_t) PQgetlength(result, i, 2) + 2;
	batch->events = calloc((size_t) n + 1, sizeof(Event));
	p = batch->text = malloc(total);
	for (int i = 0; i < n; i++)
	{
		Event *event = &batch->events[i];

		event->number = ++poller.number;
		event->channel = strcpy(p, PQgetvalue(result, i, 1));
		p += PQgetlength(result, i, 1) + 1;
		event->payload = strcpy(p, PQgetvalue(result, i, 2));
		event->len = (size_t) PQgetlength(result, i, 2);
		atomic_fetch_add(&stats.messages[event->len > COLOSSAL], 1);
		atomic_fetch_add(&stats.bytes, event->len);
		p += event->len + 1;
	}
	poller.after = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	batch->n = n;
	atomic_store(&batch->refs, gw_server.n_loops);
	for (int i = 0; i < gw_server.n_loops; i++)
		gw_loop_post(gw_server.loops[i], on_batch, batch);
}

static void
post_reset(void)
{
	Batch *batch = calloc(1, sizeof(*batch));

	batch->reset = ++poller.number;
	atomic_store(&batch->refs, gw_server.n_loops);
	for (int i = 0; i < gw_server.n_loops; i++)
		gw_loop_post(gw_server.loops[i], on_batch, batch);
}

static void
poller_ask(void)
{
	char after[32];
	const char *values[] = {after};
	int ok;

	/* Each start asks where the database stands: what went back, or has crashed, is another history. */
	poller.starting = !poller.starting && PQtransactionStatus(poller.pg) == PQTRANS_IDLE && poller.sock == NULL;
	snprintf(after, sizeof(after), "%llu", (unsigned long long) poller.after);
	if (poller.starting)
		ok = PQsendQuery(poller.pg, "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()), coder.events_history()");
	else
		ok = PQsendQueryParams(poller.pg,
							   "SELECT e.next, e.channel, e.payload FROM coder.events_after($1::pg_catalog.xid8, " POLL_MS ") e",
							   1, NULL, values, NULL, NULL, 0);
	if (ok)
		gw_timer_start(&poller.timer, poller.loop, SILENCE_MS, on_silence, NULL);
}

static void
take_start(PGresult *result)
{
	uint64_t position = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	int64_t history = strtoll(PQgetvalue(result, 0, 1), NULL, 10);

	if (!poller.started || position < poller.after || history != poller.history)
	{
		if (poller.started)
			post_reset();
		poller.after = position;
		poller.history = history;
		poller.started = true;
	}
}

static void
on_readable(h2o_socket_t *sock, const char *err)
{
	PGresult *result;

	(void) sock;
	if (err != NULL || !PQconsumeInput(poller.pg))
	{
		poller_fail(err != NULL ? err : PQerrorMessage(poller.pg));
		return;
	}
	while (!PQisBusy(poller.pg))
	{
		result = PQgetResult(poller.pg);
		if (result == NULL)
		{
			poller_ask();
			if (PQflush(poller.pg) < 0)
				poller_fail(PQerrorMessage(poller.pg));
			return;
		}
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			poller_fail(PQresultErrorMessage(result));
			PQclear(result);
			return;
		}
		if (poller.starting)
			take_start(result);
		else if (PQntuples(result) > 0)
			post_rows(result);
		PQclear(result);
	}
}

static void on_connecting(h2o_socket_t *sock, const char *err);

static void
poller_poll(void)
{
	PostgresPollingStatusType next = PQconnectPoll(poller.pg);

	if (poller.sock != NULL)
		h2o_socket_close(poller.sock);
	poller.sock = NULL;
	if (next == PGRES_POLLING_FAILED)
	{
		poller_fail(PQerrorMessage(poller.pg));
		return;
	}
	if (next == PGRES_POLLING_OK)
	{
		PQsetnonblocking(poller.pg, 1);
		atomic_store(&stats.connected, 1);
		poller.starting = false;
		poller_ask();
		PQflush(poller.pg);
	}
	poller.sock = h2o_evloop_socket_create(poller.loop->ctx.loop, dup(PQsocket(poller.pg)), H2O_SOCKET_FLAG_DONT_READ);
	if (next == PGRES_POLLING_WRITING)
		h2o_socket_notify_write(poller.sock, on_connecting);
	else
		h2o_socket_read_start(poller.sock, next == PGRES_POLLING_OK ? on_readable : on_connecting);
}

static void
on_connecting(h2o_socket_t *sock, const char *err)
{
	(void) sock;
	(void) err;
	poller_poll();
}

static void
poller_connect(void *arg)
{
	const char *keys[] = {"dbname", "application_name", "client_encoding", "gssencmode", "options", NULL};
	const char *values[] = {gw_server.conninfo, "coder-server events", "UTF8", "disable", "-c timezone=UTC", NULL};

	(void) arg;
	poller.pg = PQconnectStartParams(keys, values, 1);
	if (poller.pg == NULL || PQstatus(poller.pg) == CONNECTION_BAD)
	{
		poller_fail(poller.pg != NULL ? PQerrorMessage(poller.pg) : "out of memory");
		return;
	}
	gw_timer_start(&poller.timer, poller.loop, SILENCE_MS, on_silence, NULL);
	poller.sock = h2o_evloop_socket_create(poller.loop->ctx.loop, dup(PQsocket(poller.pg)), H2O_SOCKET_FLAG_DONT_READ);
	h2o_socket_notify_write(poller.sock, on_connecting);
}

void
gw_event_start(GwLoop *loop)
{
	poller.loop = loop;
	poller_connect(NULL);
}

void
gw_event_stop(void)
{
	poller.stopping = true;
	if (poller.loop != NULL)
		poller_fail(NULL);
}
