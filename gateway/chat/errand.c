/*
 * errand.c -- planned requests on the runner's multi handle.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "../outbound/transfer.h"
#include "errand.h"
#include "exchange.h"
#include "turn.h"

typedef struct Leg
{
	Transfer transfer; /* first */
	Errand *errand;
	OutboundTransfer curl;
} Leg;

struct Errand
{
	Errand *next;
	Errand **link;
	OutboundPlan plan;
	Leg *legs;
	int left;
	ErrandDone done;
	void *arg;
};

static Errand *errands;

void
errand_cancel(Errand *errand)
{
	if (errand == NULL)
		return;
	*errand->link = errand->next;
	if (errand->next != NULL)
		errand->next->link = errand->link;
	for (int i = 0; errand->legs != NULL && i < errand->plan.n; i++)
		if (errand->legs[i].curl.easy != NULL)
		{
			curl_multi_remove_handle(turn_env.multi, errand->legs[i].curl.easy);
			outbound_transfer_end(&errand->legs[i].curl, CURLE_ABORTED_BY_CALLBACK);
		}
	free(errand->legs);
	outbound_plan_free(&errand->plan);
	free(errand);
}

/* What came of them, as the gateway's own requests are told of. */
static json_t *
results_of(const OutboundPlan *plan)
{
	char *cursor = outbound_cursor(plan);
	char *line = cursor != NULL ? strchr(cursor, '\n') : NULL;
	json_t *all = line != NULL ? json_loads(line + 1, 0, NULL) : NULL;
	json_t *results = json_incref(json_object_get(all, "results"));

	json_decref(all);
	free(cursor);
	return results != NULL ? results : json_array();
}

static void
on_done(Transfer *transfer, CURL *easy, CURLcode code)
{
	Leg *leg = (Leg *) transfer;
	Errand *errand = leg->errand;
	ErrandDone done = errand->done;
	void *arg = errand->arg;
	json_t *results;

	curl_multi_remove_handle(turn_env.multi, easy);
	outbound_transfer_end(&leg->curl, code);
	if (--errand->left > 0)
		return;
	results = results_of(&errand->plan);
	errand_cancel(errand);
	done(arg, results);
}

static bool
open_legs(Errand *errand)
{
	errand->legs = calloc((size_t) errand->plan.n, sizeof(Leg));
	if (errand->legs == NULL)
		return false;
	for (int i = 0; i < errand->plan.n; i++)
	{
		Leg *leg = &errand->legs[i];

		leg->transfer.done = on_done;
		leg->errand = errand;
		if (errand->plan.requests[i].probe || !outbound_transfer_begin(&leg->curl, &errand->plan.requests[i], turn_env.ca_file))
			return false;
		curl_easy_setopt(leg->curl.easy, CURLOPT_PRIVATE, &leg->transfer);
		curl_multi_add_handle(turn_env.multi, leg->curl.easy);
		errand->left++;
	}
	return errand->left > 0;
}

Errand *
errand_begin(const json_t *requests, ErrandDone done, void *arg)
{
	json_t *plan = json_pack("{s:O, s:s, s:n}", "requests", requests, "continue", "results", "state");
	char *text = plan != NULL ? json_dumps(plan, JSON_COMPACT) : NULL;
	Errand *errand = text != NULL ? calloc(1, sizeof(*errand)) : NULL;

	json_decref(plan);
	if (errand == NULL || outbound_plan_parse(&errand->plan, text, strlen(text)) != NULL)
	{
		free(text);
		free(errand);
		return NULL;
	}
	free(text);
	errand->done = done;
	errand->arg = arg;
	errand->next = errands;
	errand->link = &errands;
	if (errands != NULL)
		errands->link = &errand->next;
	errands = errand;
	if (open_legs(errand))
		return errand;
	errand_cancel(errand);
	return NULL;
}

void
errand_drop_all(void)
{
	while (errands != NULL)
		errand_cancel(errands);
}
