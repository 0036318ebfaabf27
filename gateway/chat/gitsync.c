/*
 * gitsync.c -- takes branches that are due, and has a gateway ask their git servers.
 *
 * The requests to git servers, the owners' tokens and what the answers mean are the database's and the gateways' business: the
 * runner only sees to it that it happens, a few at a time.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "db.h"
#include "exchange.h"
#include "gateway.h"
#include "gitsync.h"
#include "turn.h"

#define EVERY_MS 10000
#define CONNECT_MS 5000L
#define LIMIT_MS 90000L
#define AT_ONCE 10

typedef struct Job
{
	Transfer transfer; /* first */
	CURL *easy;		   /* NULL: this place is free */
	struct curl_slist *headers;
} Job;

static struct
{
	Job jobs[AT_ONCE];
	json_t *waiting; /* [{url, ticket}], in order */
	size_t next;
	DbCall *call;
	int64_t due;
} self;

static void start_jobs(void);

static void
close_job(Job *job)
{
	if (job->easy != NULL)
		curl_multi_remove_handle(turn_env.multi, job->easy);
	curl_easy_cleanup(job->easy);
	curl_slist_free_all(job->headers);
	memset(job, 0, sizeof(*job));
}

static void
on_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK || status != 204)
		gw_log(GW_INFO, "a branch was not looked at: %s, status %ld", curl_easy_strerror(code), status);
	close_job((Job *) transfer);
	start_jobs();
}

static size_t
drop(char *data, size_t size, size_t n, void *arg)
{
	(void) data;
	(void) arg;
	return size * n;
}

static void
start_job(Job *job, const char *url, const char *ticket)
{
	char line[128];

	snprintf(line, sizeof(line), "Coder-Chat-Ticket: %s", ticket);
	job->easy = curl_easy_init();
	job->headers = curl_slist_append(NULL, line);
	if (job->easy == NULL || job->headers == NULL)
	{
		close_job(job);
		return;
	}
	job->transfer.done = on_done;
	curl_easy_setopt(job->easy, CURLOPT_URL, url);
	curl_easy_setopt(job->easy, CURLOPT_POSTFIELDS, "");
	curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, job->headers);
	curl_easy_setopt(job->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(job->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(job->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(job->easy, CURLOPT_TIMEOUT_MS, LIMIT_MS);
	curl_easy_setopt(job->easy, CURLOPT_WRITEFUNCTION, drop);
	curl_easy_setopt(job->easy, CURLOPT_PRIVATE, &job->transfer);
	if (turn_env.ca_file != NULL)
		curl_easy_setopt(job->easy, CURLOPT_CAINFO, turn_env.ca_file);
	curl_multi_add_handle(turn_env.multi, job->easy);
}

static void
start_jobs(void)
{
	for (int i = 0; i < AT_ONCE && self.next < json_array_size(self.waiting); i++)
	{
		const json_t *one = json_array_get(self.waiting, self.next);
		const char *url = json_string_value(json_object_get(one, "url"));
		const char *ticket = json_string_value(json_object_get(one, "ticket"));

		if (self.jobs[i].easy != NULL)
			continue;
		self.next++;
		if (url != NULL && ticket != NULL)
			start_job(&self.jobs[i], url, ticket);
	}
}

static void
on_claimed(void *arg, PGresult *result)
{
	(void) arg;
	self.call = NULL;
	if (result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
		return;
	json_decref(self.waiting);
	self.waiting = json_loads(PQgetvalue(result, 0, 0), 0, NULL);
	self.next = 0;
	start_jobs();
}

void
gitsync_wake(void)
{
	self.due = turn_env.now_ms();
}

int64_t
gitsync_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();

	if (self.due == 0)
		self.due = now + EVERY_MS;
	if (now >= self.due)
	{
		self.due = now + EVERY_MS;
		/* What was taken before comes first. */
		if (self.call == NULL && self.next >= json_array_size(self.waiting) && db_is_up())
			self.call = db_call("SELECT coder.chat_git_claim()", 0, NULL, on_claimed, NULL);
	}
	return self.due - now < most ? self.due - now : most;
}

void
gitsync_drop_all(void)
{
	db_forget(self.call);
	self.call = NULL;
	for (int i = 0; i < AT_ONCE; i++)
		if (self.jobs[i].easy != NULL)
			close_job(&self.jobs[i]);
	json_decref(self.waiting);
	self.waiting = NULL;
	self.next = 0;
}
