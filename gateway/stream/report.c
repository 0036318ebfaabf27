/*
 * report.c -- messages of agents, sent to the database together.
 *
 * While a loop's statements of a kind are under way, more messages wait, and
 * then go as one statement and one commit.  The busier the server, the larger
 * the groups; where it is not, a boundary's report goes at once and alone.  A
 * sample or a heartbeat, for whose answer nobody waits, lets others of the next
 * tenths of a second come along.  Nobody is answered before the commit.
 *
 * Signs of life keep their order: one statement of them is under way at a time.
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
#include "mesh.h"
#include "rpc.h"

#define GROUP 128				/* reports of a statement */
#define WAITING_LOOPS 5			/* that make a wait longer, at most */
#define GROUP_BYTES ((size_t) 1 << 20)

struct GwReport
{
	GwReport *next;
	GwReportKind kind;
	char agent[37];
	char *request;
	size_t size;
	bool alone;					/* it may not be what the database takes */
	bool sent;
	bool urgent;				/* waits for no others */
	bool gone;					/* not to be sent where the agent is here by then; the only one to be sent where it is not */
	GwReportDone done;			/* NULL: detached */
	void *arg;
};

typedef struct Group
{
	GwLoop *loop;
	GwReportKind kind;
	int n;
	GwReport *list[GROUP];
} Group;

typedef struct Queue
{
	GwReport *first;
	GwReport **last;
	int n;
	int under_way;
	GwTimer timer;				/* runs while the first waits for others */
	bool due;					/* they may go */
} Queue;

/* Of this thread's loop. */
static _Thread_local Queue queues[GW_REPORT_KINDS];

static const struct
{
	GwStatement statement;
	uint64_t wait_ms;			/* that others may come along; of one loop: where more share the agents, each waits longer */
	int under_way;				/* statements of a loop at a time */
} kinds[GW_REPORT_KINDS] = {
	[GW_REPORT_BOUNDARY] = {{"boundary_reports", "SELECT coder.boundary_reports($1::jsonb)", 1, NULL}, 0, 2},
	[GW_REPORT_SAMPLE] = {{"agent_samples", "SELECT coder.agent_samples($1::jsonb)", 1, NULL}, 100, 2},
	[GW_REPORT_LIFE] = {{"agents_life", "SELECT coder.agents_life($1::jsonb)", 1, NULL}, 100, 1},
};

static void send_waiting(GwLoop *loop, GwReportKind kind);

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
	Queue *queue = &queues[report->kind];

	if (queue->first == NULL)
		queue->last = &queue->first;
	report->next = NULL;
	*queue->last = report;
	queue->last = &report->next;
	queue->n++;
	queue->due |= report->urgent;
}

/* Has the agent come back, or gone, since this was told? */
static bool
is_over(const GwReport *report)
{
	return report->kind == GW_REPORT_LIFE && stream_agent_is_here(report->agent) == report->gone;
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
	GwReportKind kind = group->kind;
	json_t *answers = NULL;

	queues[kind].under_way--;
	if (status == GW_DB_OK && PQntuples(result) == 1)
		answers = json_loadb(PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0), 0, NULL);
	if (status == GW_DB_OK && json_array_size(answers) == (size_t) group->n)
		finish_all(group, answers);
	else if (status == GW_DB_FAILED && group->n > 1)
	{
		queues[kind].due = true;
		for (int i = 0; i < group->n; i++)
		{
			group->list[i]->alone = true;
			group->list[i]->sent = false;
			if (group->list[i]->done != NULL)
				append(group->list[i]);
			else
				report_free(group->list[i]);
		}
	}
	else
		for (int i = 0; i < group->n; i++)
			finish(group->list[i], status == GW_DB_OK ? GW_DB_FAILED : status, status == GW_DB_FAILED ? result : NULL, NULL, NULL);
	json_decref(answers);
	PQclear(result);
	free(group);
	send_waiting(loop, kind);
}

/* The first that wait, as many as go together. */
static Group *
take_group(GwLoop *loop, GwReportKind kind, size_t *size)
{
	Queue *queue = &queues[kind];
	Group *group = calloc(1, sizeof(*group));

	*size = 0;
	if (group == NULL)
		return NULL;
	group->loop = loop;
	group->kind = kind;
	while (queue->first != NULL && group->n < GROUP)
	{
		GwReport *report = queue->first;

		if (group->n > 0 && (report->alone || group->list[0]->alone || *size + report->size > GROUP_BYTES))
			break;
		queue->first = report->next;
		queue->n--;
		if (is_over(report))
		{
			finish(report, GW_DB_OK, NULL, NULL, NULL);
			continue;
		}
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
	queues[group->kind].under_way++;
	gw_db_send_copy(group->loop->db, GW_DB_FAST, &kinds[group->kind].statement, 1, values, false, on_answer, group);
	free(text);
}

static void
on_due(void *arg)
{
	Queue *queue = arg;

	queue->due = true;
	send_waiting(queue->timer.loop, (GwReportKind) (queue - queues));
}

static void
send_waiting(GwLoop *loop, GwReportKind kind)
{
	Queue *queue = &queues[kind];

	while (queue->first != NULL && queue->under_way < kinds[kind].under_way && (queue->due || queue->n >= GROUP || kinds[kind].wait_ms == 0 || loop->stopping))
	{
		size_t size;
		Group *group = take_group(loop, kind, &size);

		if (group == NULL)
			return;
		if (group->n > 0)
			send_group(group, size);
		else
			free(group);
	}
	if (queue->first == NULL)
	{
		queue->due = false;
		gw_timer_stop(&queue->timer);
	}
	else if (kinds[kind].wait_ms > 0 && !queue->due && !h2o_timeout_is_linked(&queue->timer.entry))
		gw_timer_start(&queue->timer, loop, kinds[kind].wait_ms * (uint64_t) (gw_server.n_loops < WAITING_LOOPS ? gw_server.n_loops : WAITING_LOOPS), on_due, queue);
}

static GwReport *
make_report(GwReportKind kind, const char *agent, const char *request, GwReportDone done, void *arg)
{
	GwReport *report = calloc(1, sizeof(*report));

	if (report == NULL || (report->request = strdup(request)) == NULL)
	{
		free(report);
		return NULL;
	}
	report->kind = kind;
	report->size = strlen(request);
	snprintf(report->agent, sizeof(report->agent), "%s", agent);
	report->alone = strstr(request, "\\u0000") != NULL; /* no text of PostgreSQL's has it */
	report->done = done;
	report->arg = arg;
	return report;
}

GwReport *
gw_report_send(GwLoop *loop, GwReportKind kind, const char *agent, const char *request, GwReportDone done, void *arg)
{
	GwReport *report = make_report(kind, agent, request, done, arg);

	if (report == NULL)
		return NULL;
	append(report);
	send_waiting(loop, kind);
	return report;
}

GwReport *
gw_report_life(GwLoop *loop, GwLife life, const char *agent, GwReportDone done, void *arg)
{
	static const char *const names[] = {[GW_LIFE_HERE] = "here", [GW_LIFE_BEAT] = "beat", [GW_LIFE_GONE] = "gone"};
	char request[80];
	GwReport *report;

	snprintf(request, sizeof(request), "{\"is\":\"%s\",\"gateway\":\"%s\"}", names[life], gw_replica_id());
	report = make_report(GW_REPORT_LIFE, agent, request, done, arg);
	if (report == NULL)
		return NULL;
	report->urgent = life != GW_LIFE_BEAT;
	report->gone = life == GW_LIFE_GONE;
	append(report);
	send_waiting(loop, GW_REPORT_LIFE);
	return report;
}

void
gw_report_detach(GwReport *report)
{
	Queue *queue = &queues[report->kind];

	report->done = NULL;
	if (report->sent)
		return;
	for (GwReport **at = &queue->first; *at != NULL; at = &(*at)->next)
		if (*at == report)
		{
			*at = report->next;
			if (queue->last == &report->next)
				queue->last = at;
			queue->n--;
			report_free(report);
			return;
		}
}
