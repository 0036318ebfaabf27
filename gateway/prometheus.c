/*
 * prometheus.c -- the address for Prometheus: what the database knows, then what this process counts.
 *
 * The database's part is one statement, of one snapshot; its rows go to the
 * socket as they come, and the database waits for a client that is slower.  An
 * answer of up to KEEP_BYTES is kept for a moment, so that scrapers at once cost
 * what one does; no longer, as what is scraped is what is.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "header.h"
#include "metrics.h"
#include "reply.h"
#include "request.h"

#define KEEP_MS 500
#define KEEP_BYTES ((size_t) 16 * 1024 * 1024)
#define AHEAD_BYTES ((size_t) 4 * 1024 * 1024) /* of a longer one, not yet sent */
#define SEND_PIECES 4
#define GIVE_UP_MS 30000

static const GwStatement metrics_statement = {"metrics", "SELECT coder.metrics()", 0, NULL};

/* The database's answer as it comes; scrapes share one that is whole. */
typedef struct Answer
{
	atomic_int refs;
	uint64_t at;
	bool too_long; /* to be kept: what was sent is freed */
	size_t n, room, bytes;
	PGresult **rows;
} Answer;

static struct
{
	pthread_mutex_t lock;
	Answer *last;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

typedef enum ScrapeState
{
	SCRAPE_COMES,
	SCRAPE_WHOLE,
	SCRAPE_NONE,  /* there are no metrics of the database */
	SCRAPE_BROKEN /* there was a part of them */
} ScrapeState;

typedef struct Scrape
{
	h2o_generator_t generator;
	h2o_req_t *req;
	GwLoop *loop;
	GwQuery *query;	/* NULL: answered */
	GwTimer limit;
	uint64_t began; /* gw_micros() */
	Answer *answer;
	ScrapeState state;
	bool begun;	  /* the head is sent */
	bool sending; /* until proceed() */
	bool over;
	size_t sent;   /* rows */
	size_t freed;  /* of those */
	size_t unsent; /* bytes */
} Scrape;

static void
drop(Answer *answer)
{
	if (answer == NULL || atomic_fetch_sub(&answer->refs, 1) != 1)
		return;
	for (size_t i = 0; i < answer->n; i++)
		PQclear(answer->rows[i]);
	free(answer->rows);
	free(answer);
}

/* The database's answer of a moment ago, or NULL. */
static Answer *
take_kept(uint64_t now)
{
	Answer *answer;

	pthread_mutex_lock(&kept.lock);
	answer = kept.last;
	if (answer != NULL && now - answer->at < KEEP_MS)
		atomic_fetch_add(&answer->refs, 1);
	else
		answer = NULL;
	pthread_mutex_unlock(&kept.lock);
	return answer;
}

/* A whole one, for those who come. */
static void
keep(Answer *answer, uint64_t now)
{
	Answer *old;

	answer->at = now;
	atomic_fetch_add(&answer->refs, 1);
	pthread_mutex_lock(&kept.lock);
	old = kept.last;
	kept.last = answer;
	pthread_mutex_unlock(&kept.lock);
	drop(old);
}

static Answer *
answer_new(void)
{
	Answer *answer = h2o_mem_alloc(sizeof(*answer));

	memset(answer, 0, sizeof(*answer));
	atomic_store(&answer->refs, 1);
	return answer;
}

static void
answer_add(Answer *answer, PGresult *row)
{
	if (answer->n == answer->room)
	{
		answer->room = answer->room > 0 ? 2 * answer->room : 64;
		answer->rows = h2o_mem_realloc(answer->rows, answer->room * sizeof(*answer->rows));
	}
	answer->rows[answer->n++] = row;
	answer->bytes += (size_t) PQgetlength(row, 0, 0);
}

static void
on_dispose(void *arg)
{
	Scrape *scrape = arg;

	gw_timer_stop(&scrape->limit);
	if (scrape->query != NULL)
		gw_db_detach(scrape->query);
	drop(scrape->answer);
}

/* The head; how long the answer is, is not known. */
static void
begin(Scrape *scrape)
{
	h2o_req_t *req = scrape->req;

	scrape->begun = true;
	req->res.status = 200;
	req->res.reason = "OK";
	req->res.content_length = SIZE_MAX;
	h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, H2O_STRLIT("text/plain; version=0.0.4; charset=utf-8"));
	h2o_start_response(req, &scrape->generator);
}

/* The gateway's own figures come last: they say whether the database's are there. */
static size_t
last_parts(Scrape *scrape, h2o_iovec_t *parts)
{
	static const char up[] = "# HELP coder_gateway_db_metrics_up Are the database's metrics in this answer?\n"
							 "# TYPE coder_gateway_db_metrics_up gauge\ncoder_gateway_db_metrics_up ";
	size_t len = 0;
	char *own = gw_metrics_text(scrape->loop, &len);

	parts[0] = h2o_strdup(&scrape->req->pool, own, len);
	parts[1] = h2o_iovec_init(up, sizeof(up) - 1);
	parts[2] = scrape->state == SCRAPE_WHOLE ? h2o_iovec_init(H2O_STRLIT("1\n")) : h2o_iovec_init(H2O_STRLIT("0\n"));
	free(own);
	return 3;
}

/* What there is to send, unless something is under way.  May free the scrape. */
static void
send_some(Scrape *scrape)
{
	Answer *answer = scrape->answer;
	h2o_iovec_t parts[SEND_PIECES + 3];
	size_t n = 0;

	if (scrape->sending || scrape->over)
		return;
	if (scrape->state == SCRAPE_BROKEN)
	{
		/* Half an answer must not look like one. */
		scrape->over = true;
		h2o_send(scrape->req, NULL, 0, H2O_SEND_STATE_ERROR);
		return;
	}
	for (; n < SEND_PIECES && scrape->sent < answer->n; n++, scrape->sent++)
	{
		PGresult *row = answer->rows[scrape->sent];

		parts[n] = h2o_iovec_init(PQgetvalue(row, 0, 0), (size_t) PQgetlength(row, 0, 0));
		scrape->unsent -= parts[n].len;
	}
	scrape->over = scrape->sent == answer->n && scrape->state != SCRAPE_COMES;
	if (scrape->over)
		n += last_parts(scrape, &parts[n]);
	if (n == 0)
		return;
	if (!scrape->begun)
		begin(scrape);
	if (scrape->over)
		gw_metrics_scraped(200);
	scrape->sending = true;
	h2o_send(scrape->req, parts, n, scrape->over ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* The client has taken what was sent. */
static void
proceed(h2o_generator_t *generator, h2o_req_t *req)
{
	Scrape *scrape = H2O_STRUCT_FROM_MEMBER(Scrape, generator, generator);
	Answer *answer = scrape->answer;

	(void) req;
	scrape->sending = false;
	for (; answer->too_long && scrape->freed < scrape->sent; scrape->freed++)
	{
		PQclear(answer->rows[scrape->freed]);
		answer->rows[scrape->freed] = NULL;
	}
	if (scrape->state != SCRAPE_COMES)
	{
		send_some(scrape);
		return;
	}
	send_some(scrape);
	if (scrape->unsent < AHEAD_BYTES / 2)
		gw_db_pause(scrape->query, false);
}

static void
on_row(void *arg, PGresult *row)
{
	Scrape *scrape = arg;
	Answer *answer = scrape->answer;

	scrape->unsent += (size_t) PQgetlength(row, 0, 0);
	answer_add(answer, row);
	answer->too_long |= answer->bytes > KEEP_BYTES;
	if (answer->too_long && scrape->unsent > AHEAD_BYTES)
		gw_db_pause(scrape->query, true);
	send_some(scrape);
}

static void
on_metrics(void *arg, GwDbStatus status, PGresult *result)
{
	Scrape *scrape = arg;

	scrape->query = NULL;
	gw_timer_stop(&scrape->limit);
	if (status == GW_DB_OK)
	{
		scrape->state = SCRAPE_WHOLE;
		gw_metrics_collected(gw_micros() - scrape->began);
		if (!scrape->answer->too_long)
			keep(scrape->answer, h2o_now(scrape->loop->ctx.loop));
	}
	else
	{
		scrape->state = scrape->answer->n > 0 ? SCRAPE_BROKEN : SCRAPE_NONE;
		gw_log(GW_WARN, "no metrics of the database: %s", result != NULL ? PQresultErrorMessage(result) : "it is not available");
	}
	PQclear(result);
	send_some(scrape);
}

/* The client does not take what it has asked for: the database need not keep its snapshot for it. */
static void
give_up(void *arg)
{
	Scrape *scrape = arg;

	gw_log(GW_WARN, "metrics of the database were not taken within %d seconds", GIVE_UP_MS / 1000);
	gw_db_detach(scrape->query);
	scrape->query = NULL;
	scrape->state = scrape->answer->n > 0 ? SCRAPE_BROKEN : SCRAPE_NONE;
	send_some(scrape);
}

int
gw_metrics_scrape(h2o_handler_t *handler, h2o_req_t *req)
{
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
	scrape->generator.proceed = proceed;
	scrape->req = req;
	scrape->loop = gw_loop_of(req);
	scrape->began = gw_micros();
	gw_latency_start();
	scrape->answer = take_kept(h2o_now(scrape->loop->ctx.loop));
	if (scrape->answer != NULL)
	{
		scrape->state = SCRAPE_WHOLE;
		send_some(scrape);
		return 0;
	}
	scrape->answer = answer_new();
	gw_timer_start(&scrape->limit, scrape->loop, GIVE_UP_MS, give_up, scrape);
	scrape->query = gw_db_stream(scrape->loop->db, &metrics_statement, on_row, on_metrics, scrape);
	return 0;
}
