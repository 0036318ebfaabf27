/*
 * outbound.c -- the thread that runs the outbound requests.
 *
 * A loop hands over a GwFetch; the thread adds its requests to libcurl's multi
 * handle and posts the fetch back to the loop when the last one has ended.  Only
 * one side has it at a time, but for the mark that nobody waits any more.
 *
 * SPDX-License-Identifier: MIT
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "count.h"
#include "outbound.h"
#include "probe.h"
#include "transfer.h"

#define MAX_RUNNING 512 /* requests under way or waiting for a connection */
#define MAX_CONNECTIONS 128
#define MAX_PER_HOST 32
#define TICK_MS 500 /* the longest time until a cancelled request ends */

typedef struct Transfer Transfer;

struct GwFetch
{
	GwFetch *next; /* in the queue */
	GwLoop *loop;
	OutboundPlan plan;
	GwFetchDone done;
	void *arg;
	atomic_bool cancelled;
	int left; /* requests that have not ended */
};

/* A request that runs. */
struct Transfer
{
	Transfer *next;
	GwFetch *fetch;
	OutboundTransfer curl;
};

/* A probe; its thread has it until it has ended. */
typedef struct Tried Tried;
struct Tried
{
	Tried *next;
	GwFetch *fetch;
	OutboundRequest *request;
};

static struct
{
	pthread_t thread;
	bool started;
	CURLM *multi;
	pthread_mutex_t lock;
	GwFetch *queue; /* under the lock; the newest first */
	Tried *tried;	/* under the lock: probes that have ended */
	bool stopping;	/* under the lock */
	Transfer *running;
	atomic_int n_running;
	atomic_ullong answered;
	atomic_ullong failed;
} outbound = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Ending --------------------------------------------------------------------- */

static void
fetch_free(GwFetch *fetch)
{
	outbound_plan_free(&fetch->plan);
	free(fetch);
}

/* On the loop. */
static void
on_fetched(GwLoop *loop, void *arg)
{
	GwFetch *fetch = arg;

	(void) loop;
	if (!atomic_load(&fetch->cancelled))
		fetch->done(fetch->arg, &fetch->plan);
	fetch_free(fetch);
}

static void
request_ended(GwFetch *fetch)
{
	if (--fetch->left == 0)
		gw_loop_post(fetch->loop, on_fetched, fetch);
}

static void
fail_request(OutboundRequest *request, const char *error, const char *text)
{
	outbound_fail(request, error, text);
	outbound_count(request);
	atomic_fetch_add(&outbound.failed, 1);
}

/* Takes a transfer out; error: it was stopped, else libcurl has ended it with code. */
static void
end_transfer(Transfer *transfer, CURLcode code, const char *error)
{
	Transfer **link = &outbound.running;
	OutboundRequest *request = transfer->curl.request;

	while (*link != transfer)
		link = &(*link)->next;
	*link = transfer->next;
	outbound.n_running--;
	curl_multi_remove_handle(outbound.multi, transfer->curl.easy);
	outbound_transfer_end(&transfer->curl, code);
	if (error != NULL)
		outbound_fail(request, error, "the server stops, or nobody waits any more");
	outbound_count(request);
	if (request->status != 0)
		atomic_fetch_add(&outbound.answered, 1);
	else
		atomic_fetch_add(&outbound.failed, 1);
	request_ended(transfer->fetch);
	free(transfer);
}

/* Beginning ------------------------------------------------------------------ */

/* On the probe's thread. */
static void
on_tried(void *arg)
{
	Tried *tried = arg;

	pthread_mutex_lock(&outbound.lock);
	tried->next = outbound.tried;
	outbound.tried = tried;
	pthread_mutex_unlock(&outbound.lock);
	curl_multi_wakeup(outbound.multi);
}

static void
begin_probe(GwFetch *fetch, OutboundRequest *request)
{
	Tried *tried = calloc(1, sizeof(*tried));

	if (tried != NULL)
		*tried = (Tried){.fetch = fetch, .request = request};
	if (tried == NULL || !gw_probe_start(request, gw_server.options.outbound_ca_file, on_tried, tried))
	{
		free(tried);
		fail_request(request, "busy", "too many probes are under way");
		request_ended(fetch);
	}
}

static void
finish_probes(void)
{
	Tried *tried, *next;

	pthread_mutex_lock(&outbound.lock);
	tried = outbound.tried;
	outbound.tried = NULL;
	pthread_mutex_unlock(&outbound.lock);
	for (; tried != NULL; tried = next)
	{
		next = tried->next;
		if (tried->request->error != NULL)
			fail_request(tried->request, tried->request->error, "the probe failed");
		else
			atomic_fetch_add(&outbound.answered, 1);
		request_ended(tried->fetch);
		free(tried);
	}
}

static void
begin_request(GwFetch *fetch, OutboundRequest *request)
{
	Transfer *transfer = calloc(1, sizeof(*transfer));

	if (transfer == NULL || outbound.n_running >= MAX_RUNNING ||
		!outbound_transfer_begin(&transfer->curl, request, gw_server.options.outbound_ca_file))
	{
		free(transfer);
		fail_request(request, "busy", "too many outbound requests are under way");
		request_ended(fetch);
		return;
	}
	transfer->fetch = fetch;
	curl_easy_setopt(transfer->curl.easy, CURLOPT_PRIVATE, transfer);
	transfer->next = outbound.running;
	outbound.running = transfer;
	outbound.n_running++;
	curl_multi_add_handle(outbound.multi, transfer->curl.easy);
}

/* The fetch may be gone when this returns. */
static void
begin_fetch(GwFetch *fetch)
{
	int n = fetch->plan.n;

	/* One more, so that it cannot end before all have begun. */
	fetch->left = n + 1;
	for (int i = 0; i < n; i++)
	{
		if (fetch->plan.requests[i].probe)
			begin_probe(fetch, &fetch->plan.requests[i]);
		else
			begin_request(fetch, &fetch->plan.requests[i]);
	}
	request_ended(fetch);
}

/* The thread ----------------------------------------------------------------- */

/* What came since, the oldest first; false when the server stops. */
static bool
take_queue(void)
{
	GwFetch *list;
	GwFetch *ordered = NULL;
	bool stopping;

	pthread_mutex_lock(&outbound.lock);
	list = outbound.queue;
	outbound.queue = NULL;
	stopping = outbound.stopping;
	pthread_mutex_unlock(&outbound.lock);
	while (list != NULL)
	{
		GwFetch *next = list->next;

		list->next = ordered;
		ordered = list;
		list = next;
	}
	while (ordered != NULL)
	{
		GwFetch *next = ordered->next;

		begin_fetch(ordered);
		ordered = next;
	}
	return !stopping;
}

static void
drop_cancelled(bool all)
{
	Transfer *next;

	for (Transfer *transfer = outbound.running; transfer != NULL; transfer = next)
	{
		next = transfer->next;
		if (all || atomic_load(&transfer->fetch->cancelled))
			end_transfer(transfer, CURLE_ABORTED_BY_CALLBACK, "cancelled");
	}
}

static void
finish_transfers(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(outbound.multi, &left)) != NULL)
	{
		Transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		end_transfer(transfer, message->data.result, NULL);
	}
}

static void *
outbound_main(void *arg)
{
	int running;

	(void) arg;
	while (take_queue())
	{
		drop_cancelled(false);
		curl_multi_perform(outbound.multi, &running);
		finish_transfers();
		finish_probes();
		curl_multi_poll(outbound.multi, NULL, 0, TICK_MS, NULL);
	}
	drop_cancelled(true);
	gw_probe_stop();
	finish_probes();
	return NULL;
}

/* Interface ------------------------------------------------------------------ */

GwFetch *
gw_outbound_fetch(GwLoop *loop, OutboundPlan *plan, GwFetchDone done, void *arg)
{
	GwFetch *fetch = h2o_mem_alloc(sizeof(*fetch));
	bool stopping;

	memset(fetch, 0, sizeof(*fetch));
	fetch->loop = loop;
	fetch->plan = *plan;
	fetch->done = done;
	fetch->arg = arg;
	memset(plan, 0, sizeof(*plan));
	pthread_mutex_lock(&outbound.lock);
	stopping = outbound.stopping || !outbound.started;
	if (!stopping)
	{
		fetch->next = outbound.queue;
		outbound.queue = fetch;
	}
	pthread_mutex_unlock(&outbound.lock);
	if (!stopping)
		curl_multi_wakeup(outbound.multi);
	else
	{
		for (int i = 0; i < fetch->plan.n; i++)
			fail_request(&fetch->plan.requests[i], "cancelled", "the server stops");
		gw_loop_post(loop, on_fetched, fetch);
	}
	return fetch;
}

void
gw_outbound_cancel(GwFetch *fetch)
{
	atomic_store(&fetch->cancelled, true);
	curl_multi_wakeup(outbound.multi);
}

void
gw_outbound_stats(GwOutboundStats *stats)
{
	stats->running = atomic_load(&outbound.n_running);
	stats->answered = atomic_load(&outbound.answered);
	stats->failed = atomic_load(&outbound.failed);
}

bool
gw_outbound_start(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return false;
	outbound.multi = curl_multi_init();
	if (outbound.multi == NULL)
		return false;
	curl_multi_setopt(outbound.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) MAX_CONNECTIONS);
	curl_multi_setopt(outbound.multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long) MAX_PER_HOST);
	outbound.started = pthread_create(&outbound.thread, NULL, outbound_main, NULL) == 0;
	return outbound.started;
}

void
gw_outbound_stop(void)
{
	if (!outbound.started)
		return;
	pthread_mutex_lock(&outbound.lock);
	outbound.stopping = true;
	pthread_mutex_unlock(&outbound.lock);
	curl_multi_wakeup(outbound.multi);
	pthread_join(outbound.thread, NULL);
	curl_multi_cleanup(outbound.multi);
	curl_global_cleanup();
	outbound.started = false;
}
