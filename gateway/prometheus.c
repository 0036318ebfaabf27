/*
 * prometheus.c -- the address for Prometheus: what this process counts, then what the database knows.
 *
 * The database's part is one statement, of one snapshot; its rows go to the
 * socket as they are.  It is kept for a while, so that several scrapers cost
 * what one does.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdlib.h>

#include "db.h"
#include "header.h"
#include "metrics.h"
#include "reply.h"
#include "request.h"

#define KEEP_MS 10000

static const GwStatement metrics_statement = {"metrics", "SELECT coder.metrics()", 0, NULL};

/* An answer of the database that scrapes share. */
typedef struct Kept
{
	atomic_int refs;
	uint64_t at;
	PGresult *result;
} Kept;

static struct
{
	pthread_mutex_t lock;
	Kept *last;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef struct Scrape
{
	h2o_generator_t generator;
	h2o_req_t *req;
	GwLoop *loop;
	GwQuery *query; /* NULL: answered */
	uint64_t began; /* gw_micros() */
	Kept *kept;
} Scrape;

static void
drop(Kept *one)
{
	if (one == NULL || atomic_fetch_sub(&one->refs, 1) != 1)
		return;
	PQclear(one->result);
	free(one);
}

/* The database's answer of a moment ago, or NULL. */
static Kept *
take_kept(uint64_t now)
{
	Kept *one;

	pthread_mutex_lock(&kept.lock);
	one = kept.last;
	if (one != NULL && now - one->at < KEEP_MS)
		atomic_fetch_add(&one->refs, 1);
	else
		one = NULL;
	pthread_mutex_unlock(&kept.lock);
	return one;
}

/* The new one, for the caller and for those who come. */
static Kept *
keep(PGresult *result, uint64_t now)
{
	Kept *one = malloc(sizeof(*one));
	Kept *old;

	if (one == NULL)
		h2o_fatal("out of memory");
	*one = (Kept){.at = now, .result = result};
	atomic_store(&one->refs, 2);
	pthread_mutex_lock(&kept.lock);
	old = kept.last;
	kept.last = one;
	pthread_mutex_unlock(&kept.lock);
	drop(old);
	return one;
}

static void
on_dispose(void *arg)
{
	Scrape *scrape = arg;

	if (scrape->query != NULL)
		gw_db_detach(scrape->query);
	drop(scrape->kept);
}

static void
no_more(h2o_generator_t *generator, h2o_req_t *req)
{
	(void) generator;
	(void) req;
}

/* The gateway's own figures come last: they say whether the database's are there. */
static void
answer(Scrape *scrape)
{
	static const char up[] = "# HELP coder_gateway_db_metrics_up Are the database's metrics in this answer?\n"
							 "# TYPE coder_gateway_db_metrics_up gauge\ncoder_gateway_db_metrics_up ";
	h2o_req_t *req = scrape->req;
	int n = scrape->kept != NULL ? PQntuples(scrape->kept->result) : 0;
	h2o_iovec_t *parts = h2o_mem_alloc_pool(&req->pool, (size_t) (n + 3) * sizeof(*parts));
	size_t len = 0;
	char *own = gw_metrics_text(scrape->loop, &len);

	for (int i = 0; i < n; i++)
		parts[i] = h2o_iovec_init(PQgetvalue(scrape->kept->result, i, 0), (size_t) PQgetlength(scrape->kept->result, i, 0));
	parts[n] = h2o_strdup(&req->pool, own, len);
	parts[n + 1] = h2o_iovec_init(up, sizeof(up) - 1);
	parts[n + 2] = scrape->kept != NULL ? h2o_iovec_init(H2O_STRLIT("1\n")) : h2o_iovec_init(H2O_STRLIT("0\n"));
	free(own);
	gw_metrics_scraped(200);
	req->res.status = 200;
	req->res.reason = "OK";
	req->res.content_length = 0;
	for (int i = 0; i < n + 3; i++)
		req->res.content_length += parts[i].len;
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("text/plain; version=0.0.4; charset=utf-8"));
	scrape->generator.proceed = no_more;
	h2o_start_response(req, &scrape->generator);
	h2o_send(req, parts, (size_t) (n + 3), H2O_SEND_STATE_FINAL);
}

static void
on_metrics(void *arg, GwDbStatus status, PGresult *result)
{
	Scrape *scrape = arg;

	scrape->query = NULL;
	if (status == GW_DB_OK)
		gw_metrics_collected(gw_micros() - scrape->began);
	if (status == GW_DB_OK)
		scrape->kept = keep(result, h2o_now(scrape->loop->ctx.loop));
	else
	{
		gw_log(GW_WARN, "no metrics of the database: %s", result != NULL ? PQresultErrorMessage(result) : "it is not available");
		PQclear(result);
	}
	answer(scrape);
}

int
gw_metrics_scrape(h2o_handler_t *handler, h2o_req_t *req)
{
	static const GwParams none = {NULL, NULL, NULL};
	h2o_iovec_t path = h2o_iovec_init(req->path.base, req->query_at == SIZE_MAX ? req->path.len : req->query_at);
	Scrape *scrape;

	(void) handler;
	if (!gw_iovec_is(req->method, "GET") || !(gw_iovec_is(path, "/metrics") || gw_iovec_is(path, "/")))
	{
		gw_reply_error(req, 404, "Route not found.", NULL);
		return 0;
	}
	scrape = h2o_mem_alloc_shared(&req->pool, sizeof(*scrape), on_dispose);
	memset(scrape, 0, sizeof(*scrape));
	scrape->req = req;
	scrape->loop = gw_loop_of(req);
	scrape->began = gw_micros();
	gw_latency_start();
	scrape->kept = take_kept(h2o_now(scrape->loop->ctx.loop));
	if (scrape->kept != NULL)
		answer(scrape);
	else
		scrape->query = gw_db_send(scrape->loop->db, GW_DB_SLOW, &metrics_statement, &none, true, on_metrics, scrape);
	return 0;
}
