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

#include "outbound.h"
#include "probe.h"

#define MAX_RUNNING 512 /* requests under way or waiting for a connection */
#define MAX_CONNECTIONS 128
#define MAX_PER_HOST 32
#define MAX_HEAD 65536
#define TICK_MS 500 /* the longest time until a cancelled request ends */
#define CONNECT_TIMEOUT_MS 10000

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
	OutboundRequest *request;
	CURL *easy;
	struct curl_slist *headers;
	size_t head; /* bytes of the answer's head so far */
	bool too_long;
	bool switched; /* the answer is 101: it ends with its head */
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
	request->error = error;
	atomic_fetch_add(&outbound.failed, 1);
	snprintf(request->error_text, sizeof(request->error_text), "%s", text);
}

static const char *
error_of(CURLcode code, const Transfer *transfer)
{
	if (transfer->too_long)
		return "too_large";
	switch (code)
	{
		case CURLE_OPERATION_TIMEDOUT:
			return "timeout";
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return "resolve";
		case CURLE_COULDNT_CONNECT:
			return "connect";
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CACERT_BADFILE:
			return "tls";
		case CURLE_FILESIZE_EXCEEDED:
			return "too_large";
		case CURLE_ABORTED_BY_CALLBACK:
			return "cancelled";
		default:
			return "protocol";
	}
}

/* Takes a transfer out; where it has no answer, error says why. */
static void
end_transfer(Transfer *transfer, const char *error, const char *text)
{
	Transfer **link = &outbound.running;
	OutboundRequest *request = transfer->request;

	while (*link != transfer)
		link = &(*link)->next;
	*link = transfer->next;
	outbound.n_running--;
	if (error != NULL)
		fail_request(request, error, text);
	else
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
		atomic_fetch_add(&outbound.answered, 1);
	}
	curl_multi_remove_handle(outbound.multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	curl_slist_free_all(transfer->headers);
	request_ended(transfer->fetch);
	free(transfer);
}

/* Beginning ------------------------------------------------------------------ */

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	Transfer *transfer = arg;

	transfer->too_long = !outbound_take(transfer->request, data, size * n);
	return transfer->too_long ? 0 : size * n;
}

static size_t
on_header(char *data, size_t size, size_t n, void *arg)
{
	Transfer *transfer = arg;

	transfer->head += size * n;
	if (transfer->head > MAX_HEAD)
	{
		transfer->too_long = true;
		return 0;
	}
	outbound_take_header(transfer->request, data, size * n);
	if (size * n == 2 && memcmp(data, "\r\n", 2) == 0)
	{
		long status = 0;

		/* Whether another protocol is to be had was the question; nobody speaks it. */
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
		transfer->switched = status == 101;
	}
	return transfer->switched ? 0 : size * n;
}

static curl_socket_t
open_public(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void) arg;
	(void) purpose;
	if (!outbound_is_public(&address->addr))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void
set_limits(CURL *easy, const OutboundRequest *request)
{
	const char *ca = gw_server.options.outbound_ca_file;

	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 request->timeout_ms < CONNECT_TIMEOUT_MS ? request->timeout_ms : CONNECT_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) request->max_size);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (ca != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
	if (request->public_only)
	{
		/* Neither an open connection nor a proxy is a way around. */
		curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_public);
		curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	}
}

static void
set_request(Transfer *transfer)
{
	const OutboundRequest *request = transfer->request;
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "coder-server/" GW_VERSION);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	if (request->body != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body);
	}
	else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0 ||
			 strcmp(request->method, "PATCH") == 0)
	{
		/* Servers want to be told that there is no body. */
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) 0);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, "");
	}
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	transfer->headers = curl_slist_append(NULL, "Expect:");
	for (int i = 0; i < request->n_headers; i++)
	{
		/* HTTP/2 knows no upgrade. */
		if (strncasecmp(request->headers[i], "Upgrade:", 8) == 0)
			curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
		transfer->headers = curl_slist_append(transfer->headers, request->headers[i]);
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
}

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
	CURL *easy = outbound.n_running < MAX_RUNNING ? curl_easy_init() : NULL;

	if (transfer == NULL || easy == NULL)
	{
		free(transfer);
		fail_request(request, "busy", "too many outbound requests are under way");
		request_ended(fetch);
		return;
	}
	transfer->fetch = fetch;
	transfer->request = request;
	transfer->easy = easy;
	set_limits(easy, request);
	set_request(transfer);
	transfer->next = outbound.running;
	outbound.running = transfer;
	outbound.n_running++;
	curl_multi_add_handle(outbound.multi, easy);
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
			end_transfer(transfer, "cancelled", "the server stops, or nobody waits any more");
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
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &transfer);
		if (code == CURLE_OK || transfer->switched)
			end_transfer(transfer, NULL, NULL);
		else
			end_transfer(transfer, error_of(code, transfer), curl_easy_strerror(code));
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
