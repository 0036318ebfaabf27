/*
 * log.c -- lines of scripts to the server, in batches, kept over a lost connection.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "run/agent.h"

#define MAX_QUEUED (1024u * 1024)
#define LINE_OVERHEAD 21 /* of a line in a batch, as the protocol counts */
#define FLUSH_MS 250
#define MAX_BATCH 4096

typedef struct LogLine
{
	struct LogLine *next;
	struct timespec at;
	Coder__Agent__V2__Log__Level level;
	char text[];
} LogLine;

struct LogSource
{
	LogSource *next;
	uint8_t id[16];
	LogLine *first;
	LogLine **last;
	size_t in_flight;
};

static LogSource *
source_of(Agent *agent, const ProtobufCBinaryData *id)
{
	LogSource *source;

	for (source = agent->logs; source != NULL; source = source->next)
		if (id->len == 16 && memcmp(source->id, id->data, 16) == 0)
			return source;
	source = calloc(1, sizeof(*source));
	if (source == NULL)
		return NULL;
	if (id->len == 16)
		memcpy(source->id, id->data, 16);
	source->last = &source->first;
	source->next = agent->logs;
	agent->logs = source;
	return source;
}

/* Length of the UTF-8 character at p, 0 where there is none. */
static size_t
utf8_length(const unsigned char *p, size_t n)
{
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	if (len == 0 || len > n || p[0] == 0)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* Copies text as valid UTF-8: each run of what is not becomes U+274C, as the protocol asks. */
static LogLine *
make_line(const char *text, size_t size)
{
	LogLine *line = malloc(sizeof(*line) + size * 3 + 1);
	char *p;
	bool bad = false;

	if (line == NULL)
		return NULL;
	p = line->text;
	while (size > 0)
	{
		size_t n = utf8_length((const unsigned char *) text, size);

		if (n == 0 && !bad)
		{
			memcpy(p, "\xe2\x9d\x8c", 3);
			p += 3;
		}
		bad = n == 0;
		n = n == 0 ? 1 : n;
		if (!bad)
		{
			memcpy(p, text, n);
			p += n;
		}
		text += n;
		size -= n;
	}
	*p = '\0';
	return line;
}

static void
on_log_time(void *arg)
{
	agent_flush_logs(arg);
}

void
agent_send_log(Agent *agent, const ProtobufCBinaryData *id, Coder__Agent__V2__Log__Level level, const char *text, size_t size)
{
	LogSource *source = source_of(agent, id);
	LogLine *line;

	if (source == NULL || agent->log_full || size + LINE_OVERHEAD > MAX_QUEUED || agent->log_queued > MAX_QUEUED)
		return;
	line = make_line(text, size);
	if (line == NULL)
		return;
	line->next = NULL;
	line->level = level;
	clock_gettime(CLOCK_REALTIME, &line->at);
	*source->last = line;
	source->last = &line->next;
	agent->log_queued += strlen(line->text);
	if (!loop_timer_running(&agent->log_timer))
	{
		loop_timer_init(&agent->log_timer, agent->loop, on_log_time, agent);
		loop_timer_start(&agent->log_timer, FLUSH_MS);
	}
}

static void
drop_sent(Agent *agent, LogSource *source)
{
	for (; source->in_flight > 0; source->in_flight--)
	{
		LogLine *line = source->first;

		source->first = line->next;
		agent->log_queued -= strlen(line->text);
		free(line);
	}
	if (source->first == NULL)
		source->last = &source->first;
}

typedef struct Batch
{
	Agent *agent;
	LogSource *source;
} Batch;

static void
on_sent(void *arg, const uint8_t *data, size_t size, const char *error)
{
	Batch *batch = arg;
	Agent *agent = batch->agent;
	LogSource *source = batch->source;
	Coder__Agent__V2__BatchCreateLogsResponse *response =
		error == NULL ? coder__agent__v2__batch_create_logs_response__unpack(NULL, size, data) : NULL;

	free(batch);
	agent->log_busy = false;
	if (response == NULL)
	{
		source->in_flight = 0; /* sent again on the next connection */
		agent_drop_connection(agent, error ? error : "an answer could not be read");
		return;
	}
	drop_sent(agent, source);
	if (response->log_limit_exceeded)
	{
		agent->log_full = true;
		for (LogSource *s = agent->logs; s != NULL; s = s->next)
		{
			for (const LogLine *l = s->first; l != NULL; l = l->next)
				s->in_flight++;
			drop_sent(agent, s);
		}
	}
	coder__agent__v2__batch_create_logs_response__free_unpacked(response, NULL);
	agent_flush_logs(agent);
}

/* One batch of one source: lines up to the limit of a message. */
static void
send_batch(Agent *agent, LogSource *source)
{
	static Coder__Agent__V2__Log logs[MAX_BATCH];
	static Coder__Agent__V2__Log *list[MAX_BATCH];
	static Google__Protobuf__Timestamp times[MAX_BATCH];
	Coder__Agent__V2__BatchCreateLogsRequest request = CODER__AGENT__V2__BATCH_CREATE_LOGS_REQUEST__INIT;
	Batch *batch = malloc(sizeof(*batch));
	size_t n = 0;
	size_t total = 0;

	if (batch == NULL)
		return;
	for (LogLine *line = source->first; line != NULL && n < MAX_BATCH; line = line->next)
	{
		total += strlen(line->text) + LINE_OVERHEAD;
		if (n > 0 && total > MAX_QUEUED)
			break;
		coder__agent__v2__log__init(&logs[n]);
		google__protobuf__timestamp__init(&times[n]);
		times[n].seconds = line->at.tv_sec;
		times[n].nanos = (int32_t) line->at.tv_nsec;
		logs[n].created_at = &times[n];
		logs[n].output = line->text;
		logs[n].level = line->level;
		list[n] = &logs[n];
		n++;
	}
	request.log_source_id.data = source->id;
	request.log_source_id.len = 16;
	request.n_logs = n;
	request.logs = list;
	batch->agent = agent;
	batch->source = source;
	source->in_flight = n;
	agent->log_busy = agent_call(agent, "BatchCreateLogs", &request.base, on_sent, batch);
	if (!agent->log_busy)
	{
		source->in_flight = 0;
		free(batch);
	}
}

void
agent_flush_logs(Agent *agent)
{
	if (agent->log_busy || agent->rpc == NULL)
		return;
	for (LogSource *source = agent->logs; source != NULL; source = source->next)
		if (source->first != NULL)
		{
			send_batch(agent, source);
			return;
		}
}

bool
agent_logs_empty(const Agent *agent)
{
	return agent->log_queued == 0 && !agent->log_busy;
}
