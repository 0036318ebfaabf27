/*
 * mesh.c -- links between gateways: see mesh.h, and meshframe.h for what they carry.
 *
 * Going out: one thread runs a loop with a WebSocket client for each neighbour.
 * Any thread queues frames for it: news of peers and keys is never dropped (a
 * link that cannot keep up is begun anew), of packets the oldest goes.
 *
 * Coming in: a WebSocket on a request's loop.  What it told of goes with it.
 *
 * Lock order: the coordinator's or the relay's, then mesh.lock, then a link's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "mesh.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../reply.h"
#include "../request.h"
#include "../websocket.h"
#include "coordinator.h"
#include "derp.h"
#include "net/net.h"
#include "stream.h"

#define ROUTE "/api/v2/replicas/mesh"
#define RETRY_MS 2000
#define MAX_PACKETS 4096
#define MAX_NEWS ((size_t) 64 << 20) /* bytes */
#define MESSAGE_SIZE 65536			 /* frames that leave together; one may exceed it */
#define MAX_UNSENT (256u << 10)
#define MAX_MESSAGE (2u << 20)
#define BUCKETS 4096
#define N_WAITING 64 /* first packets for keys that nobody has told of yet */
#define WAIT_MS 2000
#define FIRST_SIZE 148 /* of a handshake initiation of WireGuard, whose type is 1 */

typedef struct Item
{
	struct Item *next;
	size_t size;
	uint8_t frame[];
} Item;

typedef struct Queue
{
	Item *first;
	Item **last;
	int n;
	size_t bytes;
} Queue;

/* The way to another gateway.  The mesh's thread alone makes, changes and frees it. */
typedef struct Link
{
	struct Link *next; /* under mesh.lock */
	char id[37];
	char hostname[256];
	char *url;
	char *token;
	bool named; /* in the last list */
	NetWs *ws;
	bool told; /* its failure is in the log */
	LoopTimer retry;
	CoordWatch peers;
	GwDerpWatch keys;

	pthread_mutex_t lock;
	bool open; /* frames may be queued */
	atomic_bool broken; /* too much news */
	Queue news;
	Queue packets;
} Link;

typedef struct Inbound Inbound;

/* A key that another gateway's relay reaches. */
typedef struct Key
{
	struct Key *next; /* in its bucket, the newest first */
	struct Key *next_of, **prev_of; /* of its origin */
	Inbound *origin;
	uint8_t key[MESH_KEY_SIZE];
} Key;

/*
 * The first packet of a tunnel may be faster than the word that its key has
 * come to another relay, and would be said again after five seconds only.
 */
typedef struct Waiting
{
	int64_t until; /* ns */
	uint8_t source[MESH_KEY_SIZE];
	uint8_t key[MESH_KEY_SIZE];
	uint8_t data[FIRST_SIZE];
} Waiting;

struct Inbound
{
	GwWs *ws;
	char id[37]; /* of the gateway */
	CoordRemote *remote;
	Key *keys;
};

static struct
{
	pthread_mutex_t lock;
	bool running;
	pthread_t thread;
	Loop *loop;
	Link *links;
	Key *buckets[BUCKETS];
	Waiting waiting[N_WAITING]; /* a ring */
	int next_waiting;
	int n_keys;
	int n_inbound;
	atomic_bool waking;
} mesh = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void connect_link(void *arg);

/* Queues --------------------------------------------------------------------- */

static void
append(Queue *queue, Item *item)
{
	*queue->last = item;
	queue->last = &item->next;
	queue->n++;
	queue->bytes += item->size;
}

static Item *
take(Queue *queue)
{
	Item *item = queue->first;

	queue->first = item->next;
	if (queue->first == NULL)
		queue->last = &queue->first;
	queue->n--;
	queue->bytes -= item->size;
	return item;
}

static void
empty(Queue *queue)
{
	while (queue->first != NULL)
		free(take(queue));
}

static void flush(Link *link);

static void
on_wake(void *arg)
{
	(void) arg;
	atomic_store(&mesh.waking, false);
	for (Link *link = mesh.links; link != NULL; link = link->next)
		flush(link);
}

static void
wake(void)
{
	if (!atomic_exchange(&mesh.waking, true))
		loop_post(mesh.loop, on_wake, NULL);
}

/* False: the link is not open. */
static bool
enqueue(Link *link, MeshType type, const uint8_t *first, size_t first_size, const uint8_t *second, size_t second_size,
		const void *data, size_t size)
{
	size_t total = MESH_HEADER + first_size + second_size + size;
	Item *item = malloc(sizeof(*item) + total);
	Queue *queue = type == MESH_PACKET ? &link->packets : &link->news;
	bool open;

	if (item == NULL)
		return false;
	item->next = NULL;
	item->size = mesh_put(item->frame, type, first, first_size, second, second_size, data, size);
	pthread_mutex_lock(&link->lock);
	open = link->open;
	if (open && type == MESH_PACKET && queue->n >= MAX_PACKETS)
		free(take(queue));
	if (open && queue->bytes + total > MAX_NEWS)
	{
		link->broken = true;
		link->open = open = false;
	}
	if (open)
		append(queue, item);
	pthread_mutex_unlock(&link->lock);
	if (!open)
		free(item);
	wake();
	return open;
}

/* What is queued, up to MESSAGE_SIZE, into buffer (made by it); the size, 0 for nothing. */
static size_t
collect(Link *link, uint8_t **buffer)
{
	Queue *queues[] = {&link->news, &link->packets};
	size_t room = 0;
	size_t n = 0;

	pthread_mutex_lock(&link->lock);
	for (int i = 0; i < 2; i++)
		while (queues[i]->first != NULL && (n == 0 || n + queues[i]->first->size <= MESSAGE_SIZE))
		{
			Item *item = take(queues[i]);

			if (n + item->size > room)
			{
				uint8_t *more;

				room = item->size > MESSAGE_SIZE ? item->size : MESSAGE_SIZE;
				more = realloc(*buffer, room);
				if (more == NULL)
				{
					link->broken = true;
					free(item);
					break;
				}
				*buffer = more;
			}
			memcpy(*buffer + n, item->frame, item->size);
			n += item->size;
			free(item);
		}
	pthread_mutex_unlock(&link->lock);
	return n;
}

static void
flush(Link *link)
{
	uint8_t *buffer = NULL;
	size_t n;

	if (link->ws == NULL)
		return;
	while (!link->broken && net_ws_queued(link->ws) < MAX_UNSENT && (n = collect(link, &buffer)) > 0)
		if (!net_ws_send(link->ws, false, buffer, n))
			link->broken = true;
	free(buffer);
	if (link->broken)
		net_ws_close(link->ws, 1008, "too much news");
}

/* What is told --------------------------------------------------------------- */

static void
on_peer_joined(void *arg, const uint8_t id[static COORD_ID_LEN])
{
	enqueue(arg, MESH_JOIN, id, MESH_ID, NULL, 0, NULL, 0);
}

static void
on_peer_requested(void *arg, const uint8_t id[static COORD_ID_LEN], const uint8_t *request, size_t size)
{
	enqueue(arg, MESH_REQUEST, id, MESH_ID, NULL, 0, request, size);
}

static void
on_peer_left(void *arg, const uint8_t id[static COORD_ID_LEN], bool lost)
{
	uint8_t byte = lost;

	enqueue(arg, MESH_LEAVE, id, MESH_ID, NULL, 0, &byte, 1);
}

static void
on_key(void *arg, const uint8_t key[static WIRE_KEY_LEN], bool here)
{
	enqueue(arg, here ? MESH_KEY : MESH_NO_KEY, key, MESH_KEY_SIZE, NULL, 0, NULL, 0);
}

/* Links ---------------------------------------------------------------------- */

static void
on_link_open(void *arg, NetWs *ws)
{
	Link *link = arg;

	(void) ws;
	gw_log(GW_INFO, "mesh: the gateway %s (%s) is told of this one's peers", link->hostname, link->url);
	link->told = false;
	pthread_mutex_lock(&link->lock);
	link->open = true;
	link->broken = false;
	pthread_mutex_unlock(&link->lock);
	link->peers = (CoordWatch){NULL, on_peer_joined, on_peer_requested, on_peer_left, link};
	link->keys = (GwDerpWatch){NULL, on_key, link};
	coord_watch(&link->peers);
	gw_derp_watch(&link->keys);
}

static void
on_link_message(void *arg, NetWs *ws, bool text, const uint8_t *data, size_t size)
{
	(void) arg;
	(void) ws;
	(void) text;
	(void) data;
	(void) size; /* nothing is said this way */
}

static void
on_link_close(void *arg, NetWs *ws, int status, int code, const char *reason)
{
	Link *link = arg;

	(void) ws;
	coord_unwatch(&link->peers);
	gw_derp_unwatch(&link->keys);
	pthread_mutex_lock(&link->lock);
	link->open = false;
	empty(&link->news);
	empty(&link->packets);
	pthread_mutex_unlock(&link->lock);
	link->ws = NULL;
	if (!link->told)
		gw_log(GW_WARN, "mesh: the gateway %s (%s) cannot be told: %d %s", link->hostname, link->url,
			   status != 0 ? status : code, reason);
	link->told = true;
	loop_timer_start(&link->retry, RETRY_MS);
}

static void
on_link_drain(void *arg, NetWs *ws)
{
	(void) ws;
	flush(arg);
}

static void
connect_link(void *arg)
{
	static const NetWsHandlers handlers = {on_link_open, on_link_message, on_link_close, on_link_drain};
	Link *link = arg;
	char url[4096];
	char headers[4096];

	snprintf(url, sizeof(url), "%s" ROUTE, link->url);
	snprintf(headers, sizeof(headers), "Coder-Replica-Token: %s\r\n", link->token);
	link->ws = net_ws_connect(mesh.loop, url, headers, &handlers, link);
	if (link->ws == NULL && !link->told)
	{
		gw_log(GW_WARN, "mesh: \"%s\" of the gateway %s is no URL of a gateway", link->url, link->hostname);
		link->told = true;
	}
	if (link->ws == NULL)
		loop_timer_start(&link->retry, RETRY_MS);
}

static Link *
make_link(const char *id, const char *hostname)
{
	Link *link = calloc(1, sizeof(*link));

	if (link == NULL)
		return NULL;
	snprintf(link->id, sizeof(link->id), "%s", id);
	snprintf(link->hostname, sizeof(link->hostname), "%s", hostname);
	pthread_mutex_init(&link->lock, NULL);
	link->news.last = &link->news.first;
	link->packets.last = &link->packets.first;
	loop_timer_init(&link->retry, mesh.loop, connect_link, link);
	pthread_mutex_lock(&mesh.lock);
	link->next = mesh.links;
	mesh.links = link;
	pthread_mutex_unlock(&mesh.lock);
	return link;
}

static Link *
find_link(const char *id)
{
	Link *link = mesh.links;

	while (link != NULL && strcmp(link->id, id) != 0)
		link = link->next;
	return link;
}

static void
free_link(Link *link)
{
	loop_timer_stop(&link->retry);
	pthread_mutex_destroy(&link->lock);
	free(link->url);
	free(link->token);
	free(link);
}

/* Removes what is not named any more and has no connection. */
static void
prune_links(void)
{
	Link **place = &mesh.links;
	Link *gone = NULL;

	pthread_mutex_lock(&mesh.lock);
	while (*place != NULL)
	{
		Link *link = *place;

		if (link->named || link->ws != NULL)
		{
			place = &link->next;
			continue;
		}
		*place = link->next;
		link->next = gone;
		gone = link;
	}
	pthread_mutex_unlock(&mesh.lock);
	while (gone != NULL)
	{
		Link *link = gone;

		gone = link->next;
		free_link(link);
	}
}

static void
set_text(char **field, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return;
	free(*field);
	*field = copy;
}

static void
take_neighbour(const json_t *neighbour)
{
	const char *id = json_string_value(json_object_get(neighbour, "id"));
	const char *hostname = json_string_value(json_object_get(neighbour, "hostname"));
	const char *url = json_string_value(json_object_get(neighbour, "url"));
	const char *token = json_string_value(json_object_get(neighbour, "token"));
	Link *link;
	bool is_new;

	if (id == NULL || hostname == NULL || url == NULL || token == NULL)
		return;
	link = find_link(id);
	is_new = link == NULL;
	if (is_new)
		link = make_link(id, hostname);
	if (link == NULL)
		return;
	link->named = true;
	set_text(&link->url, url);
	set_text(&link->token, token);
	if (is_new && link->url != NULL && link->token != NULL)
		connect_link(link);
}

static void
on_neighbours(void *arg)
{
	json_t *list = arg;
	const json_t *neighbour;
	size_t i;

	for (Link *link = mesh.links; link != NULL; link = link->next)
		link->named = false;
	json_array_foreach(list, i, neighbour)
	{
		take_neighbour(neighbour);
	}
	json_decref(list);
	prune_links();
}

/* The thread ----------------------------------------------------------------- */

static void *
thread_main(void *arg)
{
	(void) arg;
	loop_run(mesh.loop);
	return NULL;
}

static bool
start_thread(void)
{
	if (mesh.running)
		return true;
	mesh.loop = loop_create();
	if (mesh.loop == NULL)
		return false;
	mesh.running = pthread_create(&mesh.thread, NULL, thread_main, NULL) == 0;
	if (!mesh.running)
		loop_destroy(mesh.loop);
	return mesh.running;
}

void
gw_mesh_neighbours(json_t *list)
{
	if ((json_array_size(list) == 0 && !mesh.running) || !start_thread() || !loop_post(mesh.loop, on_neighbours, list))
		json_decref(list);
}

/* On the thread: it ends when all links have. */
static void
on_stop(void *arg)
{
	static LoopTimer again;
	bool busy = false;

	for (Link *link = mesh.links; link != NULL; link = link->next)
	{
		loop_timer_stop(&link->retry);
		if (link->ws != NULL)
			net_ws_close(link->ws, 1001, "the server stops");
		busy = busy || link->ws != NULL;
	}
	if (!busy)
	{
		loop_stop(mesh.loop);
		return;
	}
	if (arg == NULL)
		loop_timer_init(&again, mesh.loop, on_stop, &again);
	loop_timer_start(&again, 20);
}

void
gw_mesh_stop(void)
{
	if (!mesh.running)
		return;
	loop_post(mesh.loop, on_stop, NULL);
	pthread_join(mesh.thread, NULL);
	for (Link *link = mesh.links; link != NULL; link = link->next)
		link->named = false;
	prune_links();
	mesh.running = false; /* the loop stays: a thread that still connects posts to it */
}

/* Keys elsewhere --------------------------------------------------------------- */

static Key **
bucket_of(const uint8_t key[static MESH_KEY_SIZE])
{
	/* Keys of Curve25519 are as good as random. */
	return &mesh.buckets[(key[0] | key[1] << 8) % BUCKETS];
}

/* Passes a packet on, under mesh.lock; false: nobody has told of the key, or the way there is not open. */
static bool
forward(const uint8_t source[static MESH_KEY_SIZE], const uint8_t key[static MESH_KEY_SIZE], const uint8_t *data, size_t size)
{
	Key *entry = *bucket_of(key);
	Link *link;

	while (entry != NULL && memcmp(entry->key, key, MESH_KEY_SIZE) != 0)
		entry = entry->next;
	link = entry != NULL ? find_link(entry->origin->id) : NULL;
	return link != NULL && enqueue(link, MESH_PACKET, source, MESH_KEY_SIZE, key, MESH_KEY_SIZE, data, size);
}

/* Keeps a handshake's first packet for a moment, if it is one.  Under mesh.lock. */
static bool
keep_waiting(const uint8_t source[static MESH_KEY_SIZE], const uint8_t key[static MESH_KEY_SIZE], const uint8_t *data,
			 size_t size)
{
	Waiting *waiting = &mesh.waiting[mesh.next_waiting];

	if (mesh.links == NULL || size != FIRST_SIZE || data[0] != 1)
		return false;
	mesh.next_waiting = (mesh.next_waiting + 1) % N_WAITING;
	waiting->until = loop_clock() + WAIT_MS * INT64_C(1000000);
	memcpy(waiting->source, source, MESH_KEY_SIZE);
	memcpy(waiting->key, key, MESH_KEY_SIZE);
	memcpy(waiting->data, data, FIRST_SIZE);
	return true;
}

/* Under mesh.lock. */
static void
send_waiting(const uint8_t key[static MESH_KEY_SIZE])
{
	int64_t now = loop_clock();

	for (int i = 0; i < N_WAITING; i++)
	{
		Waiting *waiting = &mesh.waiting[i];

		if (waiting->until < now || memcmp(waiting->key, key, MESH_KEY_SIZE) != 0)
			continue;
		waiting->until = 0;
		forward(waiting->source, key, waiting->data, FIRST_SIZE);
	}
}

bool
gw_mesh_forward(const uint8_t source[static MESH_KEY_SIZE], const uint8_t key[static MESH_KEY_SIZE], const uint8_t *data,
				size_t size)
{
	bool sent;

	pthread_mutex_lock(&mesh.lock);
	sent = forward(source, key, data, size) || keep_waiting(source, key, data, size);
	pthread_mutex_unlock(&mesh.lock);
	return sent;
}

static void
add_key(Inbound *inbound, const uint8_t key[static MESH_KEY_SIZE])
{
	Key **bucket = bucket_of(key);
	Key *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return;
	memcpy(entry->key, key, MESH_KEY_SIZE);
	entry->origin = inbound;
	pthread_mutex_lock(&mesh.lock);
	entry->next = *bucket;
	*bucket = entry;
	entry->next_of = inbound->keys;
	entry->prev_of = &inbound->keys;
	if (inbound->keys != NULL)
		inbound->keys->prev_of = &entry->next_of;
	inbound->keys = entry;
	mesh.n_keys++;
	send_waiting(key);
	pthread_mutex_unlock(&mesh.lock);
}

/* Under mesh.lock. */
static void
drop_key(Key *entry)
{
	Key **place = bucket_of(entry->key);

	while (*place != entry)
		place = &(*place)->next;
	*place = entry->next;
	*entry->prev_of = entry->next_of;
	if (entry->next_of != NULL)
		entry->next_of->prev_of = entry->prev_of;
	mesh.n_keys--;
	free(entry);
}

static void
remove_key(const Inbound *inbound, const uint8_t key[static MESH_KEY_SIZE])
{
	Key *entry;

	pthread_mutex_lock(&mesh.lock);
	entry = *bucket_of(key);
	while (entry != NULL && (entry->origin != inbound || memcmp(entry->key, key, MESH_KEY_SIZE) != 0))
		entry = entry->next;
	if (entry != NULL)
		drop_key(entry);
	pthread_mutex_unlock(&mesh.lock);
}

/* Coming in ------------------------------------------------------------------ */

static void
take_request(const Inbound *inbound, const MeshFrame *frame)
{
	Coder__Tailnet__V2__CoordinateRequest *request =
		coder__tailnet__v2__coordinate_request__unpack(NULL, frame->size, frame->data);

	if (request == NULL)
		return;
	coord_remote_request(inbound->remote, frame->id, request);
	coder__tailnet__v2__coordinate_request__free_unpacked(request, NULL);
}

static void
take_frame(Inbound *inbound, const MeshFrame *frame)
{
	switch (frame->type)
	{
		case MESH_JOIN:
			coord_remote_join(inbound->remote, frame->id);
			break;
		case MESH_REQUEST:
			take_request(inbound, frame);
			break;
		case MESH_LEAVE:
			coord_remote_leave(inbound->remote, frame->id, frame->data[0] != 0);
			break;
		case MESH_KEY:
			add_key(inbound, frame->id);
			break;
		case MESH_NO_KEY:
			remove_key(inbound, frame->id);
			break;
		case MESH_PACKET:
			gw_derp_deliver(frame->id, frame->data, frame->data + MESH_KEY_SIZE, frame->size - MESH_KEY_SIZE);
			break;
	}
}

static void
on_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	while (len > 0)
	{
		MeshFrame frame;
		size_t n = opcode == GW_WS_BINARY ? mesh_get(&frame, data, len) : 0;

		if (n == 0)
		{
			gw_ws_close(ws, 1002, "no frames of a gateway");
			return;
		}
		take_frame(arg, &frame);
		data += n;
		len -= n;
	}
}

static void
on_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	Inbound *inbound = arg;

	(void) ws;
	(void) code;
	(void) reason;
	(void) len;
	coord_remote_close(inbound->remote);
	pthread_mutex_lock(&mesh.lock);
	while (inbound->keys != NULL)
		drop_key(inbound->keys);
	mesh.n_inbound--;
	pthread_mutex_unlock(&mesh.lock);
	free(inbound);
}

void
gw_mesh_stats(int *keys, int *relays)
{
	pthread_mutex_lock(&mesh.lock);
	*keys = mesh.n_keys;
	*relays = mesh.n_inbound;
	pthread_mutex_unlock(&mesh.lock);
}

void
gw_stream_mesh(h2o_req_t *req, json_t *plan)
{
	static const GwWsHandlers handlers = {NULL, on_message, NULL, on_close};
	static const GwWsOptions options = {.max_message = MAX_MESSAGE};
	const char *from = json_string_value(json_object_get(plan, "from"));
	const char *to = json_string_value(json_object_get(plan, "to"));
	Inbound *inbound;

	if (from == NULL || to == NULL || strcmp(to, gw_replica_id()) != 0)
	{
		gw_reply_error(req, 409, "Another gateway answers at this address.", "CODER_DERP_SERVER_RELAY_URL must lead to one gateway only.");
		return;
	}
	inbound = calloc(1, sizeof(*inbound));
	if (inbound != NULL)
		inbound->remote = coord_remote_open();
	if (inbound == NULL || inbound->remote == NULL)
	{
		free(inbound);
		gw_reply_error(req, 503, "The server is out of memory.", NULL);
		return;
	}
	snprintf(inbound->id, sizeof(inbound->id), "%s", from);
	pthread_mutex_lock(&mesh.lock);
	mesh.n_inbound++;
	pthread_mutex_unlock(&mesh.lock);
	inbound->ws = gw_ws_upgrade(req, &options, &handlers, inbound);
	if (inbound->ws == NULL)
	{
		coord_remote_close(inbound->remote);
		free(inbound);
		pthread_mutex_lock(&mesh.lock);
		mesh.n_inbound--;
		pthread_mutex_unlock(&mesh.lock);
	}
}
