/*
 * report.c -- reports of boundaries, sent to the database together.
 *
 * While a loop's statements are under way, more reports wait, and then go as
 * one statement and one commit (coder.boundary_reports).  The busier the server,
 * the larger the groups; where it is not, a report goes at once and alone.
 * Nobody is answered before the commit.
 *
 * A statement that fails has counted nothing: its reports are sent again, each
 * alone, so that one that the database does not take cannot harm the others.
 * Where the connection is lost nobody knows, and all hear so.
 *
 * SPDX-License-Identifier: MIT
 */
#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "../gateway.h"

#define UNDER_WAY 2				/* statements of a loop */
#define GROUP 128				/* reports of a statement */
#define GROUP_BYTES ((size_t) 1 << 20)

struct GwReport
{
	GwReport *next;
	GwLoop *loop;
	char agent[37];
	char *request;
	size_t size;
	bool alone;					/* it may not be what the database takes */
	bool sent;
	GwReportDone done;			/* NULL: detached */
	void *arg;
};

typedef struct Group
{
	GwLoop *loop;
	int n;
	GwReport *list[GROUP];
} Group;

/* Of this thread's loop. */
static _Thread_local GwReport *first;
static _Thread_local GwReport **last;
static _Thread_local int under_way;

static const GwStatement reports_statement = {"boundary_reports", "SELECT coder.boundary_reports($1::jsonb)", 1, NULL};

static void send_waiting(GwLoop *loop);

static void
report_free(GwReport *report)
{
	free(report->request);
	free(report);
}

static void
finish(GwReport *report, GwDbStatus status, const PGresult *result, json_t *who, const char *refusal)
{
	if (report->done != NULL)
		report->done(report->arg, status, result, who, refusal);
	report_free(report);
}

static void
append(GwReport *report)
{
	if (first == NULL)
		last = &first;
	report->next = NULL;
	*last = report;
	last = &report->next;
}

static void
finish_all(Group *group, json_t *answers)
{
	for (int i = 0; i < group->n; i++)
	{
		json_t *who = json_array_get(answers, (size_t) i);

		finish(group->list[i], GW_DB_OK, NULL, who, json_string_value(json_object_get(who, "error")));
	}
}

static void
on_answer(void *arg, GwDbStatus status, PGresult *result)
{
	Group *group = arg;
	GwLoop *loop = group->loop;
	json_t *answers = NULL;

	under_way--;
	if (status == GW_DB_OK && PQntuples(result) == 1)
		answers = json_loadb(PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0), 0, NULL);
	if (status == GW_DB_OK && json_array_size(answers) == (size_t) group->n)
		finish_all(group, answers);
	else if (status == GW_DB_FAILED && group->n > 1)
		for (int i = 0; i < group->n; i++)
		{
			group->list[i]->alone = true;
			group->list[i]->sent = false;
			if (group->list[i]->done != NULL)
				append(group->list[i]);
			else
				report_free(group->list[i]);
		}
	else
		for (int i = 0; i < group->n; i++)
			finish(group->list[i], status == GW_DB_OK ? GW_DB_FAILED : status, status == GW_DB_FAILED ? result : NULL, NULL, NULL);
	json_decref(answers);
	PQclear(result);
	free(group);
	send_waiting(loop);
}

/* The first that wait, as many as go together. */
static Group *
take_group(GwLoop *loop, size_t *size)
{
	Group *group = calloc(1, sizeof(*group));

	*size = 0;
	if (group == NULL)
		return NULL;
	group->loop = loop;
	while (first != NULL && group->n < GROUP)
	{
		GwReport *report = first;

		if (group->n > 0 && (report->alone || group->list[0]->alone || *size + report->size > GROUP_BYTES))
			break;
		first = report->next;
		report->sent = true;
		*size += report->size + sizeof("{\"agent\":\"\",\"request\":},") + 36;
		group->list[group->n++] = report;
	}
	return group;
}

static void
send_group(Group *group, size_t size)
{
	char *text = h2o_mem_alloc(size + 3);
	const char *values[1] = {text};
	char *at = text;

	*at++ = '[';
	for (int i = 0; i < group->n; i++)
	{
		at += sprintf(at, "%s{\"agent\":\"%s\",\"request\":", i > 0 ? "," : "", group->list[i]->agent);
		memcpy(at, group->list[i]->request, group->list[i]->size);
		at += group->list[i]->size;
		*at++ = '}';
	}
	strcpy(at, "]");
	under_way++;
	gw_db_send_copy(group->loop->db, GW_DB_FAST, &reports_statement, 1, values, false, on_answer, group);
	free(text);
}

static void
send_waiting(GwLoop *loop)
{
	while (first != NULL && under_way < UNDER_WAY)
	{
		size_t size;
		Group *group = take_group(loop, &size);

		if (group == NULL)
			return;
		send_group(group, size);
	}
}

GwReport *
gw_report_send(GwLoop *loop, const char *agent, const char *request, GwReportDone done, void *arg)
{
	GwReport *report = calloc(1, sizeof(*report));

	if (report == NULL || (report->request = strdup(request)) == NULL)
	{
		free(report);
		return NULL;
	}
	report->loop = loop;
	report->size = strlen(request);
	snprintf(report->agent, sizeof(report->agent), "%s", agent);
	report->alone = strstr(request, "\\u0000") != NULL; /* no text of PostgreSQL's has it */
	report->done = done;
	report->arg = arg;
	append(report);
	send_waiting(loop);
	return report;
}

void
gw_report_detach(GwReport *report)
{
	report->done = NULL;
	if (report->sent)
		return;
	for (GwReport **at = &first; *at != NULL; at = &(*at)->next)
		if (*at == report)
		{
			*at = report->next;
			if (last == &report->next)
				last = at;
			report_free(report);
			return;
		}
}
