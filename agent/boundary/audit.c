/*
 * audit.c -- what a boundary decided: lines of a log, and frames for the agent.
 *
 * Frames go out from a thread of their own: ten entries at a time, or what there
 * is after a second.  While the agent does not take them a thousand entries wait;
 * the next are dropped and counted, and the agent is told how many.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/audit.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "boundary/frame.h"

#define QUEUE 1024
#define BATCH 10
#define WAIT_MS 1000
#define STOP_MS 2000
#define URL_MAX 2048 /* ten of them, and their rules, fit in a frame */
#define RULE_MAX 512
#define METHOD_MAX 64

typedef struct Entry
{
	bool allowed;
	struct timespec at;
	char *method;
	char *url;
	char *rule;
} Entry;

/* A ring. Apart from the rest, which is not all zero: the program's file needs no room for it. */
static Entry queue[QUEUE];

static struct
{
	AuditLevel level;
	FILE *log;
	char socket_path[108];
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread;
	bool running;
	bool stopping;
	struct timespec deadline; /* of the last attempt */
	size_t first, count; /* of the queue */
	int64_t dropped;
	int fd;
} audit = {.level = AUDIT_WARN, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .fd = -1};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

bool
audit_level(AuditLevel *level, const char *text)
{
	for (int i = 0; i <= AUDIT_DEBUG; i++)
		if (strcmp(text, level_names[i]) == 0)
		{
			*level = (AuditLevel) i;
			return true;
		}
	return false;
}

void
audit_log(AuditLevel level, const char *format, ...)
{
	FILE *log = audit.log != NULL ? audit.log : stderr;
	char text[8192], when[40];
	struct timespec now;
	struct tm tm;
	va_list args;

	if (level > audit.level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (unsigned char *p = (unsigned char *) text; *p != '\0'; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(log, "%s.%03ldZ %s boundary: %s\n", when, now.tv_nsec / 1000000, level_names[level], text);
	fflush(log);
}

static char *
copy_text(const char *text, size_t max)
{
	char *copy = strndup(text, max);

	if (copy != NULL)
		boundary_make_text(copy);
	return copy;
}

static void
entry_clear(Entry *entry)
{
	free(entry->method);
	free(entry->url);
	free(entry->rule);
}

void
audit_request(const char *method, const char *url, const char *rule, const char *why)
{
	Entry entry = {.allowed = rule != NULL};

	if (rule != NULL)
		audit_log(AUDIT_INFO, "ALLOW method=%s url=%s rule=\"%s\"", method, url, rule);
	else
		audit_log(AUDIT_WARN, "DENY method=%s url=%s%s%s", method, url, why != NULL ? " reason=" : "", why != NULL ? why : "");
	if (!audit.running)
		return;
	clock_gettime(CLOCK_REALTIME, &entry.at);
	entry.method = copy_text(method, METHOD_MAX);
	entry.url = copy_text(url, URL_MAX);
	entry.rule = copy_text(rule != NULL ? rule : "", RULE_MAX);
	pthread_mutex_lock(&audit.lock);
	if (audit.count == QUEUE || entry.method == NULL || entry.url == NULL || entry.rule == NULL)
	{
		audit.dropped++;
		entry_clear(&entry);
	}
	else
	{
		queue[(audit.first + audit.count++) % QUEUE] = entry;
		pthread_cond_signal(&audit.more);
	}
	pthread_mutex_unlock(&audit.lock);
}

static bool
connect_agent(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {1, 0};

	if (audit.fd >= 0)
		return true;
	memcpy(address.sun_path, audit.socket_path, sizeof(address.sun_path));
	audit.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (audit.fd < 0)
		return false;
	setsockopt(audit.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(audit.fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		return true;
	close(audit.fd);
	audit.fd = -1;
	return false;
}

/* A whole frame, or the connection is given up: the agent then drops the part that it has. */
static bool
send_message(const Coder__Boundary__V1__BoundaryMessage *message)
{
	size_t size = coder__boundary__v1__boundary_message__get_packed_size(message);
	uint8_t frame[BOUNDARY_FRAME_HEAD + BOUNDARY_FRAME_MAX];
	size_t sent = 0;

	if (size > BOUNDARY_FRAME_MAX || !connect_agent())
		return false;
	boundary_frame_head(frame, BOUNDARY_TAG_MESSAGE, size);
	coder__boundary__v1__boundary_message__pack(message, frame + BOUNDARY_FRAME_HEAD);
	size += BOUNDARY_FRAME_HEAD;
	while (sent < size)
	{
		ssize_t n = send(audit.fd, frame + sent, size - sent, MSG_NOSIGNAL);

		if (n <= 0)
		{
			close(audit.fd);
			audit.fd = -1;
			return false;
		}
		sent += (size_t) n;
	}
	return true;
}

static bool
send_entries(Entry *const *entries, size_t n)
{
	Coder__Boundary__V1__BoundaryMessage message = CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__INIT;
	BoundaryLogs logs = CODER__AGENT__V2__REPORT_BOUNDARY_LOGS_REQUEST__INIT;
	BoundaryLog list[BATCH];
	BoundaryLog *pointers[BATCH];
	Coder__Agent__V2__BoundaryLog__HttpRequest requests[BATCH];
	Google__Protobuf__Timestamp times[BATCH];

	for (size_t i = 0; i < n; i++)
	{
		coder__agent__v2__boundary_log__init(&list[i]);
		coder__agent__v2__boundary_log__http_request__init(&requests[i]);
		google__protobuf__timestamp__init(&times[i]);
		times[i].seconds = entries[i]->at.tv_sec;
		times[i].nanos = (int32_t) entries[i]->at.tv_nsec;
		requests[i].method = entries[i]->method;
		requests[i].url = entries[i]->url;
		requests[i].matched_rule = entries[i]->rule;
		list[i].allowed = entries[i]->allowed;
		list[i].time = &times[i];
		list[i].resource_case = CODER__AGENT__V2__BOUNDARY_LOG__RESOURCE_HTTP_REQUEST;
		list[i].http_request = &requests[i];
		pointers[i] = &list[i];
	}
	logs.logs = pointers;
	logs.n_logs = n;
	message.msg_case = CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__MSG_LOGS;
	message.logs = &logs;
	return send_message(&message);
}

static bool
send_dropped(int64_t n)
{
	Coder__Boundary__V1__BoundaryMessage message = CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__INIT;
	Coder__Boundary__V1__BoundaryStatus status = CODER__BOUNDARY__V1__BOUNDARY_STATUS__INIT;

	status.dropped_channel_full = n;
	message.msg_case = CODER__BOUNDARY__V1__BOUNDARY_MESSAGE__MSG_STATUS;
	message.status = &status;
	return send_message(&message);
}

/* One batch and what was dropped before it; the lock is held, but not while sending. */
static bool
flush_some(void)
{
	Entry *entries[BATCH];
	size_t n = audit.count < BATCH ? audit.count : BATCH;
	int64_t dropped = audit.dropped;
	bool ok;

	/* They stay in the queue until they are sent: only this thread takes any out. */
	for (size_t i = 0; i < n; i++)
		entries[i] = &queue[(audit.first + i) % QUEUE];
	pthread_mutex_unlock(&audit.lock);
	ok = n == 0 || send_entries(entries, n);
	pthread_mutex_lock(&audit.lock);
	if (!ok)
		return false;
	for (size_t i = 0; i < n; i++)
		entry_clear(entries[i]);
	audit.first = (audit.first + n) % QUEUE;
	audit.count -= n;
	if (dropped > 0)
	{
		pthread_mutex_unlock(&audit.lock);
		ok = send_dropped(dropped);
		pthread_mutex_lock(&audit.lock);
		if (ok)
			audit.dropped -= dropped;
	}
	return ok;
}

static struct timespec
after_ms(long ms)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	at.tv_nsec += ms % 1000 * 1000000;
	at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

static bool
is_past(const struct timespec *at)
{
	struct timespec now = after_ms(0);

	return now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec > at->tv_nsec);
}

static void *
sender_main(void *arg)
{
	(void) arg;
	pthread_mutex_lock(&audit.lock);
	for (;;)
	{
		struct timespec until = after_ms(WAIT_MS);
		bool ok = true;

		while (audit.count < BATCH && !audit.stopping && pthread_cond_timedwait(&audit.more, &audit.lock, &until) == 0)
			;
		while ((audit.count > 0 || audit.dropped > 0) && (ok = flush_some()))
			;
		if (audit.stopping && (ok || is_past(&audit.deadline)))
			break;
		if (!ok)
		{
			pthread_mutex_unlock(&audit.lock);
			usleep(200000);
			pthread_mutex_lock(&audit.lock);
		}
	}
	pthread_mutex_unlock(&audit.lock);
	return NULL;
}

bool
audit_start(AuditLevel level, const char *log_dir, const char *socket_path)
{
	struct stat st;
	char path[4200];

	audit.level = level;
	if (log_dir != NULL && *log_dir != '\0')
	{
		snprintf(path, sizeof(path), "%s/boundary.log", log_dir);
		mkdir(log_dir, 0755);
		audit.log = fopen(path, "ae");
		if (audit.log == NULL)
			return false;
	}
	if (socket_path == NULL)
		return true;
	if (strlen(socket_path) >= sizeof(audit.socket_path) || stat(socket_path, &st) != 0 || !S_ISSOCK(st.st_mode))
	{
		audit_log(AUDIT_WARN, "no agent listens at %s: requests are logged here only", socket_path);
		return true;
	}
	snprintf(audit.socket_path, sizeof(audit.socket_path), "%s", socket_path);
	audit.running = pthread_create(&audit.thread, NULL, sender_main, NULL) == 0;
	return true;
}

void
audit_stop(void)
{
	if (!audit.running)
		return;
	pthread_mutex_lock(&audit.lock);
	audit.stopping = true;
	audit.deadline = after_ms(STOP_MS);
	pthread_cond_signal(&audit.more);
	pthread_mutex_unlock(&audit.lock);
	pthread_join(audit.thread, NULL);
	audit.running = false;
	if (audit.count > 0 || audit.dropped > 0)
		audit_log(AUDIT_WARN, "%lld entries did not reach the agent", (long long) audit.dropped + (long long) audit.count);
}
