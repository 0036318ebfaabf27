/*
 * derp.c -- the relay: opaque packets between clients, addressed by public key.
 *
 * A client is a raw stream after "Upgrade: DERP", or a WebSocket with protocol
 * "derp" that carries the same bytes.  It lives on its loop; others reach it
 * by its queues, which have a lock, and a message that wakes its loop.  So a
 * packet is copied once into the receiver's queue, and frames that came together
 * leave in one write.
 *
 * Queues are bounded and drop their oldest packet: the endpoints' protocols know
 * loss, and old packets are worth least.
 *
 * Lock order: table, then a client.
 *
 * SPDX-License-Identifier: MIT
 */
#include "derp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../header.h"
#include "../reply.h"
#include "../request.h"
#include "../websocket.h"
#include "mesh.h"
#include "stream.h"
#include "wire/derp.h"
#include "wire/disco.h"

#include <h2o/http1.h> /* needs h2o.h before it */

#define MAX_QUEUED 2048 /* packets in a queue: more than one TCP window of the tunnel, or each large upload stalls */
#define WRITE_SIZE 65536		/* bytes that leave together; one frame may exceed it */
#define MAX_UNSENT (256u << 10) /* bytes in a WebSocket's own queue */
#define LOGIN_MS 10000
#define KEEPALIVE_MS 60000
#define STALL_MS 10000 /* for one write to end */
#define MAX_CONTACTS 65536
#define BUCKETS 16384
#define SAMPLED 16	 /* one packet of so many says how long it waited */
#define HOME_AGE_MS 5000 /* what a connection says of its home before is no move */
#define GONE_BURST 3 /* answers "not here", one more a second */

typedef struct Packet
{
	struct Packet *next;
	uint64_t at; /* gw_micros(), of one of SAMPLED; 0 */
	size_t size;
	uint8_t frame[];
} Packet;

typedef struct Queue
{
	Packet *first;
	Packet **last;
	int n;
} Queue;

/* In the order in which they are emptied. */
enum
{
	QUEUE_CONTROL,
	QUEUE_DISCO,
	QUEUE_DATA,
	N_QUEUES
};

typedef struct DerpClient DerpClient;

/* All connections with one key; the first receives. */
typedef struct DerpKey
{
	struct DerpKey *next;
	uint8_t key[WIRE_KEY_LEN];
	DerpClient *clients;
} DerpKey;

struct DerpClient
{
	GwStream stream;
	atomic_int refs; /* the connection, wake-ups on their way, senders at work */
	GwLoop *loop;
	h2o_socket_t *sock; /* a raw stream; or … */
	GwWs *ws;
	bool upgrading; /* a raw stream whose 101 is on its way: on_upgraded() follows */
	bool closed;
	bool known; /* its key is proven */
	uint8_t key[WIRE_KEY_LEN];
	GwTimer timer; /* login, then keep alive */

	/* Under the table's lock. */
	DerpKey *entry;
	DerpClient *next_same;

	/* Under lock. */
	pthread_mutex_t lock;
	Queue queues[N_QUEUES];
	bool waking;
	bool gone;

	/* Writing. */
	bool writing;
	uint8_t *out;
	size_t out_size;
	size_t out_room;
	GwTimer stall;

	/* A WebSocket's bytes that are no whole frame yet. */
	uint8_t *in;
	size_t in_size;
	size_t in_room;

	/* Keys that got packets from this one: they learn when it goes. */
	uint8_t (*contacts)[WIRE_KEY_LEN];
	size_t ncontacts;
	size_t contact_room; /* a power of two; empty places are zero */

	int gone_tokens;
	uint64_t gone_refill; /* begins with the login */
	uint64_t since;
	bool home;
};

static struct
{
	pthread_mutex_t lock;
	DerpKey *buckets[BUCKETS];
	GwDerpWatch *watches;
	uint8_t hash_key[crypto_shorthash_KEYBYTES];
	uint8_t public_key[crypto_box_PUBLICKEYBYTES];
	uint8_t private_key[crypto_box_SECRETKEYBYTES];
	char public_hex[2 * crypto_box_PUBLICKEYBYTES + 1];
} derp = {.lock = PTHREAD_MUTEX_INITIALIZER};

static atomic_uint_fast64_t packets_relayed;
static atomic_uint_fast64_t packets_dropped;
static atomic_uint_fast64_t packets_received;
static atomic_uint_fast64_t packets_unknown;
static atomic_uint_fast64_t bytes_received;
static atomic_uint_fast64_t bytes_relayed;
static atomic_uint_fast64_t accepts;
static atomic_uint_fast64_t received_disco;
static atomic_uint_fast64_t dropped_disco;
static atomic_uint_fast64_t forwarded_in;
static atomic_uint_fast64_t forwarded_out;
static atomic_uint_fast64_t gone_frames[2]; /* by WIRE_DERP_GONE_ */
static atomic_uint_fast64_t pings;
static atomic_uint_fast64_t pongs;
static atomic_uint_fast64_t unknown_frames;
static atomic_int homes;
static atomic_uint_fast64_t home_moves[2]; /* away, here */
static atomic_uint_fast64_t queue_us; /* thousandths of a microsecond */
static atomic_uint sampled;
static atomic_int clients_now;

static void drop_client(DerpClient *client);
static void flush(DerpClient *client);

/* Memory --------------------------------------------------------------------- */

static void
empty_queue(Queue *queue)
{
	while (queue->first != NULL)
	{
		Packet *packet = queue->first;

		queue->first = packet->next;
		free(packet);
	}
	queue->last = &queue->first;
	queue->n = 0;
}

static void
release(DerpClient *client)
{
	if (atomic_fetch_sub(&client->refs, 1) != 1)
		return;
	for (int i = 0; i < N_QUEUES; i++)
		empty_queue(&client->queues[i]);
	pthread_mutex_destroy(&client->lock);
	free(client->out);
	free(client->in);
	free(client->contacts);
	free(client);
}

static DerpClient *
new_client(GwLoop *loop)
{
	DerpClient *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return NULL;
	atomic_init(&client->refs, 1);
	pthread_mutex_init(&client->lock, NULL);
	for (int i = 0; i < N_QUEUES; i++)
		client->queues[i].last = &client->queues[i].first;
	client->loop = loop;
	client->gone_tokens = GONE_BURST;
	return client;
}

static uint64_t
hash_of(const uint8_t key[static WIRE_KEY_LEN])
{
	uint64_t h;

	crypto_shorthash((uint8_t *) &h, key, WIRE_KEY_LEN, derp.hash_key);
	return h;
}

/* Contacts ------------------------------------------------------------------- */

static bool
put_contact(uint8_t (*set)[WIRE_KEY_LEN], size_t room, const uint8_t key[static WIRE_KEY_LEN])
{
	size_t i = hash_of(key) & (room - 1);

	while (!sodium_is_zero(set[i], WIRE_KEY_LEN))
	{
		if (memcmp(set[i], key, WIRE_KEY_LEN) == 0)
			return false;
		i = (i + 1) & (room - 1);
	}
	memcpy(set[i], key, WIRE_KEY_LEN);
	return true;
}

static void
note_contact(DerpClient *client, const uint8_t key[static WIRE_KEY_LEN])
{
	if (client->ncontacts >= MAX_CONTACTS)
		return;
	if (2 * (client->ncontacts + 1) > client->contact_room)
	{
		size_t room = client->contact_room == 0 ? 8 : 2 * client->contact_room;
		uint8_t(*set)[WIRE_KEY_LEN] = calloc(room, WIRE_KEY_LEN);

		if (set == NULL)
			return;
		for (size_t i = 0; i < client->contact_room; i++)
			if (!sodium_is_zero(client->contacts[i], WIRE_KEY_LEN))
				put_contact(set, room, client->contacts[i]);
		free(client->contacts);
		client->contacts = set;
		client->contact_room = room;
	}
	client->ncontacts += put_contact(client->contacts, client->contact_room, key);
}

/* Queues --------------------------------------------------------------------- */

static Packet *
new_packet(size_t room)
{
	Packet *packet = malloc(sizeof(*packet) + room);

	if (packet != NULL)
	{
		packet->next = NULL;
		packet->at = 0;
	}
	return packet;
}

static void
on_wake(GwLoop *loop, void *arg)
{
	DerpClient *client = arg;

	(void) loop;
	pthread_mutex_lock(&client->lock);
	client->waking = false;
	pthread_mutex_unlock(&client->lock);
	flush(client);
	release(client);
}

/* Takes the packet; from any thread that has a reference, or the table's lock. */
static void
enqueue(DerpClient *client, int which, Packet *packet)
{
	Queue *queue = &client->queues[which];
	Packet *dropped = NULL;
	bool wake;

	if (packet == NULL)
		return;
	pthread_mutex_lock(&client->lock);
	if (client->gone)
	{
		pthread_mutex_unlock(&client->lock);
		free(packet);
		return;
	}
	if (queue->n >= MAX_QUEUED)
	{
		dropped = queue->first;
		queue->first = dropped->next;
		queue->n--;
		if (queue->first == NULL)
			queue->last = &queue->first;
	}
	*queue->last = packet;
	queue->last = &packet->next;
	queue->n++;
	wake = !client->waking;
	client->waking = true;
	pthread_mutex_unlock(&client->lock);
	if (dropped != NULL)
	{
		free(dropped);
		atomic_fetch_add(&packets_dropped, 1);
		if (which == QUEUE_DISCO)
			atomic_fetch_add(&dropped_disco, 1);
	}
	if (wake)
	{
		atomic_fetch_add(&client->refs, 1);
		gw_loop_post(client->loop, on_wake, client);
	}
}

static void
enqueue_control(DerpClient *client, uint8_t type, const void *payload, size_t n)
{
	Packet *packet = new_packet(WIRE_DERP_HEADER_LEN + n);

	if (packet != NULL)
		packet->size = wire_derp_put(packet->frame, WIRE_DERP_HEADER_LEN + n, type, payload, n);
	enqueue(client, QUEUE_CONTROL, packet);
}

static void
enqueue_gone(DerpClient *client, const uint8_t key[static WIRE_KEY_LEN], uint8_t reason)
{
	Packet *packet = new_packet(WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + 1);

	if (packet != NULL)
		packet->size = wire_derp_put_peer_gone(packet->frame, WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + 1, key, reason);
	enqueue(client, QUEUE_CONTROL, packet);
	atomic_fetch_add(&gone_frames[reason], 1);
}

/* Writing -------------------------------------------------------------------- */

/* The mean of late moves a tenth of the way; of two threads at once one may be lost. */
static void
note_wait(uint64_t us)
{
	uint64_t mean = atomic_load_explicit(&queue_us, memory_order_relaxed);

	atomic_store_explicit(&queue_us, mean - mean / 10 + us * 100, memory_order_relaxed);
}

/* Moves what waits into client->out, up to WRITE_SIZE. */
static bool
collect(DerpClient *client)
{
	Packet *taken = NULL;
	Packet **last = &taken;
	size_t size = 0;
	uint8_t *p;

	pthread_mutex_lock(&client->lock);
	for (int i = 0; i < N_QUEUES; i++)
	{
		Queue *queue = &client->queues[i];

		while (queue->first != NULL && (size == 0 || size + queue->first->size <= WRITE_SIZE))
		{
			Packet *packet = queue->first;

			queue->first = packet->next;
			queue->n--;
			size += packet->size;
			*last = packet;
			last = &packet->next;
			*last = NULL;
		}
		if (queue->first == NULL)
			queue->last = &queue->first;
	}
	pthread_mutex_unlock(&client->lock);
	if (size > client->out_room)
	{
		free(client->out);
		client->out_room = size;
		client->out = h2o_mem_alloc(size);
	}
	p = client->out;
	while (taken != NULL)
	{
		Packet *packet = taken;

		taken = packet->next;
		p = wire_put_bytes(p, packet->frame, packet->size);
		if (packet->at != 0)
			note_wait(gw_micros() - packet->at);
		free(packet);
	}
	client->out_size = size;
	return size > 0;
}

static void
on_stall(void *arg)
{
	drop_client(arg);
}

static void
on_written(h2o_socket_t *sock, const char *err)
{
	DerpClient *client = sock->data;

	client->writing = false;
	gw_timer_stop(&client->stall);
	if (err != NULL)
		drop_client(client);
	else
		flush(client);
}

static void
flush(DerpClient *client)
{
	h2o_iovec_t vec;

	if (client->ws != NULL)
	{
		while (!client->closed && gw_ws_queued(client->ws) < MAX_UNSENT && collect(client))
			gw_ws_send(client->ws, GW_WS_BINARY, client->out, client->out_size);
		return;
	}
	if (client->closed || client->sock == NULL || client->writing || !collect(client))
		return;
	client->writing = true;
	gw_timer_start(&client->stall, client->loop, STALL_MS, on_stall, client);
	vec = h2o_iovec_init(client->out, client->out_size);
	h2o_socket_write(client->sock, &vec, 1, on_written);
}

/* The table ------------------------------------------------------------------ */

static DerpKey **
find_key(const uint8_t key[static WIRE_KEY_LEN])
{
	DerpKey **link = &derp.buckets[hash_of(key) % BUCKETS];

	while (*link != NULL && memcmp((*link)->key, key, WIRE_KEY_LEN) != 0)
		link = &(*link)->next;
	return link;
}

static void
tell_watches(const uint8_t key[static WIRE_KEY_LEN], bool here)
{
	for (GwDerpWatch *watch = derp.watches; watch != NULL; watch = watch->next)
		watch->key(watch->arg, key, here);
}

static bool
enter_table(DerpClient *client)
{
	DerpKey **link;
	bool ok;

	pthread_mutex_lock(&derp.lock);
	link = find_key(client->key);
	if (*link == NULL)
	{
		*link = calloc(1, sizeof(**link));
		if (*link != NULL)
			memcpy((*link)->key, client->key, WIRE_KEY_LEN);
	}
	ok = *link != NULL;
	if (ok)
	{
		client->entry = *link;
		client->next_same = client->entry->clients;
		client->entry->clients = client;
		if (client->next_same == NULL)
			tell_watches(client->key, true);
	}
	pthread_mutex_unlock(&derp.lock);
	return ok;
}

static void
unlink_client(DerpClient *client)
{
	DerpClient **link = &client->entry->clients;

	while (*link != client)
		link = &(*link)->next_same;
	*link = client->next_same;
}

/* The last connection of a key: those it has written to must not wait for it. */
static void
tell_contacts(DerpClient *client)
{
	for (size_t i = 0; i < client->contact_room; i++)
	{
		DerpKey *entry;

		if (sodium_is_zero(client->contacts[i], WIRE_KEY_LEN))
			continue;
		entry = *find_key(client->contacts[i]);
		for (DerpClient *to = entry != NULL ? entry->clients : NULL; to != NULL; to = to->next_same)
			enqueue_gone(to, client->key, WIRE_DERP_GONE_DISCONNECTED);
	}
}

static void
leave_table(DerpClient *client)
{
	pthread_mutex_lock(&derp.lock);
	if (client->entry != NULL)
	{
		unlink_client(client);
		if (client->entry->clients == NULL)
		{
			DerpKey **link = find_key(client->key);
			DerpKey *entry = *link;

			*link = entry->next;
			free(entry);
			tell_contacts(client);
			tell_watches(client->key, false);
		}
		client->entry = NULL;
	}
	pthread_mutex_unlock(&derp.lock);
}

/* The one that receives for key, with a reference; NULL: not here. */
static DerpClient *
find_client(DerpClient *sender, const uint8_t key[static WIRE_KEY_LEN])
{
	DerpKey *entry;
	DerpClient *to = NULL;

	pthread_mutex_lock(&derp.lock);
	/* Of several connections with one key, the one that sent last receives. */
	if (sender->entry->clients != sender)
	{
		unlink_client(sender);
		sender->next_same = sender->entry->clients;
		sender->entry->clients = sender;
	}
	entry = *find_key(key);
	if (entry != NULL)
	{
		to = entry->clients;
		atomic_fetch_add(&to->refs, 1);
	}
	pthread_mutex_unlock(&derp.lock);
	return to;
}

/* Frames --------------------------------------------------------------------- */

static void
tell_not_here(DerpClient *client, const uint8_t key[static WIRE_KEY_LEN])
{
	uint64_t now = h2o_now(client->loop->ctx.loop);

	if (now - client->gone_refill >= 1000)
	{
		uint64_t more = (now - client->gone_refill) / 1000;

		client->gone_refill = now;
		client->gone_tokens = more >= GONE_BURST || client->gone_tokens + (int) more > GONE_BURST
								  ? GONE_BURST
								  : client->gone_tokens + (int) more;
	}
	if (client->gone_tokens > 0)
	{
		client->gone_tokens--;
		enqueue_gone(client, key, WIRE_DERP_GONE_NOT_HERE);
	}
}

/* Queues a packet for a client. */
static void
pass_on(DerpClient *to, const uint8_t source[static WIRE_KEY_LEN], const uint8_t *data, size_t n, bool disco)
{
	Packet *packet = new_packet(WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + n);

	if (packet != NULL)
	{
		packet->size = wire_derp_put_recv(packet->frame, WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + n, source, data, n);
		if (atomic_fetch_add_explicit(&sampled, 1, memory_order_relaxed) % SAMPLED == 0)
			packet->at = gw_micros();
	}
	enqueue(to, disco ? QUEUE_DISCO : QUEUE_DATA, packet);
	atomic_fetch_add_explicit(&packets_relayed, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&bytes_relayed, n, memory_order_relaxed);
}

void
gw_derp_deliver(const uint8_t source[static WIRE_KEY_LEN], const uint8_t key[static WIRE_KEY_LEN], const uint8_t *data,
				size_t size)
{
	DerpKey *entry;
	DerpClient *to = NULL;

	if (size > WIRE_DERP_MAX_PACKET)
		return;
	atomic_fetch_add_explicit(&forwarded_in, 1, memory_order_relaxed);
	pthread_mutex_lock(&derp.lock);
	entry = *find_key(key);
	if (entry != NULL)
	{
		to = entry->clients;
		atomic_fetch_add(&to->refs, 1);
	}
	pthread_mutex_unlock(&derp.lock);
	if (to == NULL)
	{
		atomic_fetch_add(&packets_dropped, 1);
		atomic_fetch_add(&packets_unknown, 1);
		if (wire_disco_looks_like(data, size))
			atomic_fetch_add(&dropped_disco, 1);
		return;
	}
	pass_on(to, source, data, size, wire_disco_looks_like(data, size));
	release(to);
}

static bool
take_packet(DerpClient *client, const WireDerpFrame *frame)
{
	const uint8_t *key;
	const uint8_t *data;
	size_t n;
	bool disco;
	DerpClient *to;

	if (wire_derp_get_packet(&key, &data, &n, frame) != WIRE_OK || n > WIRE_DERP_MAX_PACKET)
		return false;
	atomic_fetch_add_explicit(&packets_received, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&bytes_received, n, memory_order_relaxed);
	disco = wire_disco_looks_like(data, n);
	if (disco)
		atomic_fetch_add_explicit(&received_disco, 1, memory_order_relaxed);
	to = find_client(client, key);
	if (to != NULL)
	{
		pass_on(to, client->key, data, n, disco);
		release(to);
		note_contact(client, key);
	}
	else if (gw_mesh_forward(client->key, key, data, n))
	{
		atomic_fetch_add_explicit(&packets_relayed, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&bytes_relayed, n, memory_order_relaxed);
		atomic_fetch_add_explicit(&forwarded_out, 1, memory_order_relaxed);
	}
	else
	{
		atomic_fetch_add(&packets_dropped, 1);
		atomic_fetch_add(&packets_unknown, 1);
		if (disco)
		{
			atomic_fetch_add(&dropped_disco, 1);
			tell_not_here(client, key);
		}
	}
	return true;
}

static void
on_keepalive(void *arg)
{
	DerpClient *client = arg;
	uint16_t jitter;

	gw_random(client->loop, &jitter, sizeof(jitter));
	enqueue_control(client, WIRE_DERP_KEEP_ALIVE, NULL, 0);
	gw_timer_start(&client->timer, client->loop, KEEPALIVE_MS + jitter % 5000, on_keepalive, client);
}

static void
send_server_info(DerpClient *client)
{
	static const char info[] = "{\"version\":2}";
	uint8_t nonce[WIRE_DERP_NONCE_LEN];
	uint8_t box[sizeof(info) - 1 + WIRE_DERP_BOX_MAC];
	size_t room = WIRE_DERP_HEADER_LEN + sizeof(nonce) + sizeof(box);
	Packet *packet = new_packet(room);

	gw_random(client->loop, nonce, sizeof(nonce));
	if (packet == NULL ||
		crypto_box_easy(box, (const uint8_t *) info, sizeof(info) - 1, nonce, client->key, derp.private_key) != 0)
	{
		free(packet);
		return;
	}
	packet->size = wire_derp_put_server_info(packet->frame, room, nonce, box, sizeof(box));
	enqueue(client, QUEUE_CONTROL, packet);
}

/* The first frame: the key, and by the box that it is the client's own. */
static bool
take_login(DerpClient *client, const WireDerpFrame *frame)
{
	const uint8_t *key;
	const uint8_t *nonce;
	const uint8_t *box;
	size_t n;
	uint8_t *text;
	json_t *info = NULL;

	if (wire_derp_get_client_info(&key, &nonce, &box, &n, frame) != WIRE_OK || n < WIRE_DERP_BOX_MAC)
		return false;
	text = malloc(n);
	if (text != NULL && crypto_box_open_easy(text, box, n, nonce, key, derp.private_key) == 0)
		info = json_loadb((char *) text, n - WIRE_DERP_BOX_MAC, 0, NULL);
	free(text);
	if (!json_is_object(info))
	{
		json_decref(info);
		return false;
	}
	json_decref(info);
	memcpy(client->key, key, WIRE_KEY_LEN);
	if (!enter_table(client))
		return false;
	client->known = true;
	client->since = client->gone_refill = h2o_now(client->loop->ctx.loop);
	send_server_info(client);
	gw_timer_start(&client->timer, client->loop, KEEPALIVE_MS, on_keepalive, client);
	return true;
}

/* Is this relay the client's home? */
static void
set_home(DerpClient *client, bool home)
{
	if (client->home == home)
		return;
	client->home = home;
	atomic_fetch_add(&homes, home ? 1 : -1);
	if (h2o_now(client->loop->ctx.loop) - client->since > HOME_AGE_MS)
		atomic_fetch_add(&home_moves[home], 1);
}

/* False: the connection ends. */
static bool
take_frame(DerpClient *client, const WireDerpFrame *frame)
{
	if (!client->known)
		return frame->type == WIRE_DERP_CLIENT_INFO && take_login(client, frame);
	switch (frame->type)
	{
		case WIRE_DERP_SEND_PACKET:
			return take_packet(client, frame);
		case WIRE_DERP_NOTE_PREFERRED:
			if (frame->n != 1)
				return false;
			set_home(client, frame->payload[0] != 0);
			return true;
		case WIRE_DERP_PING:
			if (frame->n < 8 || frame->n > 1000)
				return false;
			atomic_fetch_add(&pings, 1);
			enqueue_control(client, WIRE_DERP_PONG, frame->payload, 8);
			atomic_fetch_add(&pongs, 1);
			return true;
		case WIRE_DERP_FORWARD_PACKET:
		case WIRE_DERP_WATCH_CONNS:
		case WIRE_DERP_CLOSE_PEER:
			return false; /* for other relays of a mesh only */
		default:
			atomic_fetch_add(&unknown_frames, 1);
			return true;
	}
}

/* Sizes beyond which waiting for the rest of a frame makes no sense. */
static bool
size_ok(const DerpClient *client, const uint8_t *in, size_t need)
{
	if (!client->known)
		return need <= WIRE_DERP_HEADER_LEN + WIRE_DERP_MAX_INFO;
	return in[0] != WIRE_DERP_SEND_PACKET || need <= WIRE_DERP_HEADER_LEN + WIRE_KEY_LEN + WIRE_DERP_MAX_PACKET;
}

/* How much of in[0..n) was used; false: the connection ends. */
static bool
take_bytes(DerpClient *client, const uint8_t *in, size_t n, size_t *used)
{
	*used = 0;
	while (n - *used > 0)
	{
		WireDerpFrame frame;
		size_t need;
		WireResult result = wire_derp_get(&frame, &need, in + *used, n - *used);

		if (result == WIRE_SHORT)
			return size_ok(client, in + *used, need);
		if (result != WIRE_OK || !size_ok(client, in + *used, wire_derp_size(&frame)) || !take_frame(client, &frame))
			return false;
		*used += wire_derp_size(&frame);
	}
	return true;
}

/* Connections ---------------------------------------------------------------- */

/* Ends the connection.  Of a WebSocket, on_ws_close() releases the client. */
static void
drop_client(DerpClient *client)
{
	if (client->closed)
		return;
	client->closed = true;
	atomic_fetch_sub(&clients_now, 1);
	if (client->home)
		atomic_fetch_sub(&homes, 1);
	gw_timer_stop(&client->timer);
	gw_timer_stop(&client->stall);
	leave_table(client);
	pthread_mutex_lock(&client->lock);
	client->gone = true;
	for (int i = 0; i < N_QUEUES; i++)
		empty_queue(&client->queues[i]);
	pthread_mutex_unlock(&client->lock);
	if (client->ws != NULL)
	{
		gw_ws_close(client->ws, 1002, "the relay's protocol was not followed");
		return;
	}
	gw_stream_remove(&client->stream);
	if (client->sock != NULL)
		h2o_socket_close(client->sock);
	client->sock = NULL;
	if (!client->upgrading)
		release(client);
}

static void
on_login_timeout(void *arg)
{
	drop_client(arg);
}

/* The stream is open: the server's key is its first word. */
static void
start_client(DerpClient *client)
{
	Packet *packet = new_packet(128);

	if (packet != NULL)
		packet->size = wire_derp_put_server_key(packet->frame, 128, derp.public_key);
	enqueue(client, QUEUE_CONTROL, packet);
	gw_timer_start(&client->timer, client->loop, LOGIN_MS, on_login_timeout, client);
}

static void
on_read(h2o_socket_t *sock, const char *err)
{
	DerpClient *client = sock->data;
	size_t used;

	if (err != NULL || !take_bytes(client, (uint8_t *) sock->input->bytes, sock->input->size, &used))
		drop_client(client);
	else if (used > 0)
		h2o_buffer_consume(&sock->input, used);
}

static void
on_stop(GwStream *stream)
{
	drop_client(H2O_STRUCT_FROM_MEMBER(DerpClient, stream, stream));
}

static void
on_upgraded(void *arg, h2o_socket_t *sock, size_t reqsize)
{
	DerpClient *client = arg;

	client->upgrading = false;
	if (client->closed)
	{
		/* The server began to stop meanwhile. */
		if (sock != NULL)
			h2o_socket_close(sock);
		release(client);
		return;
	}
	if (sock == NULL)
	{
		drop_client(client);
		return;
	}
	client->sock = sock;
	sock->data = client;
	h2o_buffer_consume(&sock->input, reqsize);
	start_client(client);
	h2o_socket_read_start(sock, on_read);
	if (sock->input->size > 0)
		on_read(sock, NULL);
}

static void
on_ws_open(GwWs *ws, void *arg)
{
	(void) ws;
	start_client(arg);
}

static void
on_ws_drain(GwWs *ws, void *arg)
{
	(void) ws;
	flush(arg);
}

/* Bytes of frames; message borders mean nothing. */
static void
on_ws_message(GwWs *ws, void *arg, int opcode, const uint8_t *data, size_t len)
{
	DerpClient *client = arg;
	size_t used;

	(void) ws;
	if (client->closed)
		return;
	if (opcode != GW_WS_BINARY)
	{
		drop_client(client);
		return;
	}
	if (client->in_size > 0)
	{
		if (client->in_size + len > client->in_room)
		{
			client->in_room = client->in_size + len;
			client->in = h2o_mem_realloc(client->in, client->in_room);
		}
		memcpy(client->in + client->in_size, data, len);
		client->in_size += len;
		data = client->in;
		len = client->in_size;
	}
	if (!take_bytes(client, data, len, &used))
	{
		drop_client(client);
		return;
	}
	if (len - used > client->in_room)
	{
		/* Only where data is not client->in. */
		client->in_room = len - used;
		client->in = h2o_mem_realloc(client->in, client->in_room);
	}
	if (len > used)
		memmove(client->in, data + used, len - used);
	client->in_size = len - used;
}

static void
on_ws_close(GwWs *ws, void *arg, int code, const char *reason, size_t len)
{
	DerpClient *client = arg;

	(void) ws;
	(void) code;
	(void) reason;
	(void) len;
	drop_client(client);
	client->ws = NULL;
	release(client);
}

static bool
is_upgrade(const h2o_req_t *req, const char *to)
{
	return req->version == 0x101 && req->upgrade.base != NULL && req->upgrade.len == strlen(to) &&
		   strncasecmp(req->upgrade.base, to, req->upgrade.len) == 0;
}

static void
open_websocket(h2o_req_t *req, DerpClient *client)
{
	static const GwWsHandlers handlers = {on_ws_open, on_ws_message, on_ws_drain, on_ws_close};
	static const GwWsOptions options = {.max_message = 2u << 20, .protocol = "derp"};

	client->ws = gw_ws_upgrade(req, &options, &handlers, client);
	if (client->ws != NULL)
	{
		atomic_fetch_add(&clients_now, 1);
		atomic_fetch_add(&accepts, 1);
	}
	else
		release(client);
}

static void
open_raw(h2o_req_t *req, DerpClient *client)
{
	atomic_fetch_add(&clients_now, 1);
	atomic_fetch_add(&accepts, 1);
	client->upgrading = true;
	gw_stream_add(client->loop, &client->stream, on_stop);
	req->res.status = 101;
	req->res.reason = "Switching Protocols";
	gw_add_header(req, "upgrade", H2O_STRLIT("DERP"));
	gw_add_header(req, "derp-version", H2O_STRLIT("2"));
	gw_add_header(req, "derp-public-key", derp.public_hex, strlen(derp.public_hex));
	h2o_http1_upgrade(req, NULL, 0, on_upgraded, client);
}

void
gw_derp_open(h2o_req_t *req)
{
	static const char words[] = "DERP requires connection upgrade";
	bool websocket = is_upgrade(req, "websocket");
	DerpClient *client;

	if (!websocket && !is_upgrade(req, "derp"))
	{
		gw_add_header(req, "upgrade", H2O_STRLIT("DERP"));
		gw_reply_body(req, 426, "text/plain; charset=utf-8", words, sizeof(words) - 1);
		return;
	}
	client = new_client(gw_loop_of(req));
	if (client == NULL)
		gw_reply_error(req, 503, "The relay is out of memory.", NULL);
	else if (websocket && gw_list_has(gw_header(req, "sec-websocket-protocol"), "derp"))
		open_websocket(req, client);
	else
		open_raw(req, client);
}

/* The server's key ----------------------------------------------------------- */

static bool
read_key(const char *path)
{
	char text[2 * sizeof(derp.private_key) + 1] = "";
	size_t n;
	FILE *file = fopen(path, "re");
	bool ok;

	if (file == NULL)
		return false;
	ok = fread(text, 1, sizeof(text) - 1, file) == sizeof(text) - 1 &&
		 sodium_hex2bin(derp.private_key, sizeof(derp.private_key), text, sizeof(text) - 1, NULL, &n, NULL) == 0 &&
		 n == sizeof(derp.private_key);
	fclose(file);
	sodium_memzero(text, sizeof(text));
	return ok;
}

static void
write_key(const char *path)
{
	char text[2 * sizeof(derp.private_key) + 1];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	sodium_bin2hex(text, sizeof(text), derp.private_key, sizeof(derp.private_key));
	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t) sizeof(text) - 1)
		gw_log(GW_WARN, "could not keep the relay's key in %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	sodium_memzero(text, sizeof(text));
}

void
gw_derp_start(void)
{
	char path[4096];
	const char *folder = gw_server.options.config_dir;

	randombytes_buf(derp.hash_key, sizeof(derp.hash_key));
	snprintf(path, sizeof(path), "%s/derp.key", folder != NULL ? folder : ".");
	if (!read_key(path))
	{
		crypto_box_keypair(derp.public_key, derp.private_key);
		write_key(path);
	}
	crypto_scalarmult_base(derp.public_key, derp.private_key);
	sodium_bin2hex(derp.public_hex, sizeof(derp.public_hex), derp.public_key, sizeof(derp.public_key));
}

void
gw_derp_watch(GwDerpWatch *watch)
{
	pthread_mutex_lock(&derp.lock);
	for (int i = 0; i < BUCKETS; i++)
		for (const DerpKey *entry = derp.buckets[i]; entry != NULL; entry = entry->next)
			watch->key(watch->arg, entry->key, true);
	watch->next = derp.watches;
	derp.watches = watch;
	pthread_mutex_unlock(&derp.lock);
}

void
gw_derp_unwatch(GwDerpWatch *watch)
{
	GwDerpWatch **link = &derp.watches;

	pthread_mutex_lock(&derp.lock);
	while (*link != NULL && *link != watch)
		link = &(*link)->next;
	if (*link != NULL)
		*link = watch->next;
	pthread_mutex_unlock(&derp.lock);
}

void
gw_derp_stats(GwDerpStats *stats)
{
	/* Parts before their wholes, so that none is larger. */
	stats->received_disco = atomic_load(&received_disco);
	stats->dropped_disco = atomic_load(&dropped_disco);
	stats->unknown = atomic_load(&packets_unknown);
	stats->clients = atomic_load(&clients_now);
	stats->relayed = atomic_load(&packets_relayed);
	stats->dropped = atomic_load(&packets_dropped);
	stats->accepts = atomic_load(&accepts);
	stats->received = atomic_load(&packets_received);
	stats->bytes_received = atomic_load(&bytes_received);
	stats->bytes_sent = atomic_load(&bytes_relayed);
	stats->forwarded_in = atomic_load(&forwarded_in);
	stats->forwarded_out = atomic_load(&forwarded_out);
	stats->gone_disconnected = atomic_load(&gone_frames[WIRE_DERP_GONE_DISCONNECTED]);
	stats->gone_not_here = atomic_load(&gone_frames[WIRE_DERP_GONE_NOT_HERE]);
	stats->pings = atomic_load(&pings);
	stats->pongs = atomic_load(&pongs);
	stats->unknown_frames = atomic_load(&unknown_frames);
	stats->home = atomic_load(&homes);
	stats->home_in = atomic_load(&home_moves[true]);
	stats->home_out = atomic_load(&home_moves[false]);
	stats->queue_ms = (double) atomic_load(&queue_us) / 1e6;
}
