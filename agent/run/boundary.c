/*
 * boundary.c -- what boundaries in the workspace decided: from their socket to the server.
 *
 * A frame waits in a queue of a hundred (and of 20,000 entries); one that does not fit is dropped and
 * counted.  Frames that wait are sent together as one batch, whose id lets it be
 * sent again after a connection was lost: the server counts it once.  A server
 * that does not say that it does so (Manifest.boundary_batches) gets each batch
 * once, and a lost one is counted as dropped.
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/frame.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "run/agent.h"

#define QUEUE_FRAMES 100
#define QUEUE_ENTRIES 20000 /* a frame may have 16,000, of two bytes each */
#define BATCH_BYTES ((size_t) 128 << 10) /* with its frame well within a stream's window */
#define BATCH_ENTRIES 4096
#define MAX_CLIENTS 256
#define ATTEMPTS 8 /* refusals of a batch; lost connections do not count */
#define RETRY_MS 250
#define RETRY_MAX_MS 10000
#define BATCH_ID 16

typedef struct Frame
{
	struct Frame *next;
	BoundaryLogs *logs;
	size_t bytes;
} Frame;

typedef struct Client
{
	struct Client *next;
	struct BoundaryRelay *relay;
	LoopFd *watch;
	int fd;
	size_t used;
	uint8_t buffer[BOUNDARY_FRAME_HEAD + BOUNDARY_FRAME_MAX];
} Client;

struct BoundaryRelay
{
	Agent *agent;
	int fd;
	LoopFd *watch;
	struct sockaddr_un address;
	ino_t inode; /* of the socket's file: another agent may have put its own there */
	Client *clients;
	int nclients;
	Frame *first;
	Frame **last;
	int nframes;
	size_t nentries;
	Frame *batch; /* what is being sent, NULL: nothing */
	bool has_batch; /* it may have no frames, only drops to tell of */
	bool asked; /* and waits for its answer */
	uint8_t id[BATCH_ID];
	int64_t told; /* drops that the batch tells of */
	int64_t untold; /* drops that no acknowledged batch has told of */
	int attempts;
	LoopTimer retry;
	BoundaryCounts counts;
};

static void send_batch(struct BoundaryRelay *relay);

static void
frame_free(Frame *frame)
{
	coder__agent__v2__report_boundary_logs_request__free_unpacked(frame->logs, NULL);
	free(frame);
}

static void
drop(struct BoundaryRelay *relay, const Frame *frame, uint64_t *batches, uint64_t *logs)
{
	++*batches;
	*logs += frame->logs->n_logs;
	relay->untold += (int64_t) frame->logs->n_logs;
}

static void
on_logs(struct BoundaryRelay *relay, BoundaryLogs *logs, size_t bytes)
{
	Frame *frame = calloc(1, sizeof(*frame));

	if (frame == NULL)
	{
		coder__agent__v2__report_boundary_logs_request__free_unpacked(logs, NULL);
		return;
	}
	frame->logs = logs;
	frame->bytes = bytes;
	if (logs->n_logs == 0 || relay->nframes == QUEUE_FRAMES || relay->nentries + logs->n_logs > QUEUE_ENTRIES)
	{
		if (logs->n_logs > 0)
			drop(relay, frame, &relay->counts.batches_full, &relay->counts.logs_full);
		frame_free(frame);
		return;
	}
	*relay->last = frame;
	relay->last = &frame->next;
	relay->nframes++;
	relay->nentries += logs->n_logs;
}

/* Takes the whole frames out of the buffer; false: the rest cannot be read. */
static bool
take_frames(Client *client)
{
	struct BoundaryRelay *relay = client->relay;
	size_t at = 0;
	BoundaryFrameResult result;
	BoundaryFrame frame;
	BoundaryNews news;

	while ((result = boundary_frame_read(&frame, client->buffer + at, client->used - at)) == BOUNDARY_FRAME_OK)
	{
		at += BOUNDARY_FRAME_HEAD + frame.size;
		if (!boundary_frame_news(&news, &frame))
		{
			relay->counts.unreadable++;
			agent_log(relay->agent, "a boundary sent a message that cannot be read");
			continue;
		}
		relay->counts.channel_full += (uint64_t) news.channel_full;
		relay->counts.batch_full += (uint64_t) news.batch_full;
		relay->untold += news.channel_full + news.batch_full;
		if (news.logs != NULL)
			on_logs(relay, news.logs, frame.size);
	}
	client->used -= at;
	memmove(client->buffer, client->buffer + at, client->used);
	return result == BOUNDARY_FRAME_SHORT;
}

static void
client_free(Client *client)
{
	struct BoundaryRelay *relay = client->relay;

	for (Client **at = &relay->clients; *at != NULL; at = &(*at)->next)
		if (*at == client)
		{
			*at = client->next;
			break;
		}
	relay->nclients--;
	loop_fd_del(client->watch);
	close(client->fd);
	free(client);
}

static void
on_client(void *arg, uint32_t events)
{
	Client *client = arg;
	struct BoundaryRelay *relay = client->relay;
	ssize_t n = read(client->fd, client->buffer + client->used, sizeof(client->buffer) - client->used);

	(void) events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		client->used += (size_t) n;
	if (n <= 0)
		client_free(client);
	else if (!take_frames(client))
	{
		relay->counts.unreadable++;
		agent_log(relay->agent, "a boundary sent no frame: closing its connection");
		client_free(client);
	}
	send_batch(relay);
}

static void
on_listen(void *arg, uint32_t events)
{
	struct BoundaryRelay *relay = arg;
	int fd = accept4(relay->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	Client *client;

	(void) events;
	if (fd < 0)
		return;
	client = relay->nclients < MAX_CLIENTS ? calloc(1, sizeof(*client)) : NULL;
	if (client != NULL)
		client->watch = loop_fd_add(relay->agent->loop, fd, EPOLLIN, on_client, client);
	if (client == NULL || client->watch == NULL)
	{
		free(client);
		close(fd);
		return;
	}
	client->relay = relay;
	client->fd = fd;
	client->next = relay->clients;
	relay->clients = client;
	relay->nclients++;
}

/* What waits becomes the batch, as much as fits. */
static void
make_batch(struct BoundaryRelay *relay)
{
	Frame **end = &relay->first;
	size_t bytes = 0, entries = 0;

	while (*end != NULL && (bytes == 0 || (bytes + (*end)->bytes <= BATCH_BYTES && entries + (*end)->logs->n_logs <= BATCH_ENTRIES)))
	{
		bytes += (*end)->bytes;
		entries += (*end)->logs->n_logs;
		relay->nframes--;
		relay->nentries -= (*end)->logs->n_logs;
		end = &(*end)->next;
	}
	relay->batch = bytes > 0 ? relay->first : NULL;
	relay->first = *end;
	*end = NULL;
	if (relay->first == NULL)
		relay->last = &relay->first;
	randombytes_buf(relay->id, sizeof(relay->id));
	relay->told = relay->untold;
	relay->attempts = 0;
	relay->has_batch = true;
}

/* It arrived, or is given up. */
static void
end_batch(struct BoundaryRelay *relay, bool arrived)
{
	if (arrived)
		relay->untold -= relay->told;
	while (relay->batch != NULL)
	{
		Frame *frame = relay->batch;

		relay->batch = frame->next;
		if (arrived)
			relay->counts.forwarded++;
		else
			drop(relay, frame, &relay->counts.batches_failed, &relay->counts.logs_failed);
		frame_free(frame);
	}
	relay->has_batch = false;
}

static bool
server_knows_batches(const Agent *agent)
{
	return agent->manifest != NULL && agent->manifest->boundary_batches;
}

static void
on_sent(void *arg, const uint8_t *data, size_t size, const char *error)
{
	struct BoundaryRelay *relay = arg;
	int64_t wait = RETRY_MS;

	(void) data;
	(void) size;
	relay->asked = false;
	if (error == NULL)
		end_batch(relay, true);
	else if (!server_knows_batches(relay->agent) || (relay->agent->rpc != NULL && ++relay->attempts == ATTEMPTS))
	{
		agent_log(relay->agent, "boundary logs are lost: %s", error);
		end_batch(relay, false);
	}
	else
	{
		for (int i = 1; i < relay->attempts && wait < RETRY_MAX_MS; i++)
			wait *= 2;
		loop_timer_start(&relay->retry, wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS);
		return;
	}
	send_batch(relay);
}

static bool
ask(struct BoundaryRelay *relay)
{
	BoundaryLogs request = CODER__AGENT__V2__REPORT_BOUNDARY_LOGS_REQUEST__INIT;
	bool ok;

	for (const Frame *frame = relay->batch; frame != NULL; frame = frame->next)
		request.n_logs += frame->logs->n_logs;
	request.logs = calloc(request.n_logs + 1, sizeof(*request.logs));
	if (request.logs == NULL)
		return false;
	request.n_logs = 0;
	for (const Frame *frame = relay->batch; frame != NULL; frame = frame->next)
	{
		memcpy(request.logs + request.n_logs, frame->logs->logs, frame->logs->n_logs * sizeof(*request.logs));
		request.n_logs += frame->logs->n_logs;
	}
	if (server_knows_batches(relay->agent))
	{
		request.batch_id = (ProtobufCBinaryData) {sizeof(relay->id), relay->id};
		request.dropped = relay->told;
	}
	ok = agent_call(relay->agent, "ReportBoundaryLogs", &request.base, on_sent, relay);
	free(request.logs);
	return ok;
}

static void
send_batch(struct BoundaryRelay *relay)
{
	Agent *agent = relay->agent;

	if (relay->asked || agent->rpc == NULL || agent->manifest == NULL || loop_timer_running(&relay->retry))
		return;
	if (!relay->has_batch)
	{
		if (relay->first == NULL && (relay->untold == 0 || !server_knows_batches(agent)))
			return;
		make_batch(relay);
	}
	relay->asked = ask(relay);
}

static void
on_retry(void *arg)
{
	send_batch(arg);
}

void
boundary_flush(Agent *agent)
{
	struct BoundaryRelay *relay = agent->boundary;

	if (relay == NULL)
		return;
	loop_timer_stop(&relay->retry);
	send_batch(relay);
}

bool
boundary_empty(const Agent *agent)
{
	return agent->boundary == NULL || (agent->boundary->first == NULL && !agent->boundary->has_batch);
}

BoundaryCounts
boundary_counts(const Agent *agent)
{
	return agent->boundary != NULL ? agent->boundary->counts : (BoundaryCounts) {0};
}

/* A file of another kind is not ours to remove. */
static bool
listen_at(struct BoundaryRelay *relay)
{
	const char *path = relay->address.sun_path;
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	relay->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (relay->fd < 0 || bind(relay->fd, (struct sockaddr *) &relay->address, sizeof(relay->address)) != 0 || listen(relay->fd, 64) != 0)
		return false;
	relay->inode = lstat(path, &st) == 0 ? st.st_ino : 0;
	relay->watch = loop_fd_add(relay->agent->loop, relay->fd, EPOLLIN, on_listen, relay);
	return relay->watch != NULL;
}

void
boundary_start(Agent *agent, const char *path)
{
	struct BoundaryRelay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return;
	relay->agent = agent;
	relay->last = &relay->first;
	relay->address.sun_family = AF_UNIX;
	loop_timer_init(&relay->retry, agent->loop, on_retry, relay);
	if (strlen(path) >= sizeof(relay->address.sun_path))
		errno = ENAMETOOLONG;
	else
	{
		memcpy(relay->address.sun_path, path, strlen(path) + 1);
		if (listen_at(relay))
		{
			agent->boundary = relay;
			return;
		}
	}
	agent_log(agent, "no boundary logs: could not listen at %s: %s", path, strerror(errno));
	if (relay->fd > 0)
		close(relay->fd);
	free(relay);
}

void
boundary_stop(Agent *agent)
{
	struct BoundaryRelay *relay = agent->boundary;
	struct stat st;

	if (relay != NULL && lstat(relay->address.sun_path, &st) == 0 && st.st_ino == relay->inode)
		unlink(relay->address.sun_path);
	if (relay != NULL && !boundary_empty(agent))
		agent_log(agent, "boundary logs are lost: %d that waited, %s under way", relay->nframes, relay->has_batch ? "a batch" : "none");
}
