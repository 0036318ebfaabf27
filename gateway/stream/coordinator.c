/*
 * coordinator.c -- who is on the tailnet, and who is told of whom.
 *
 * A Place is an id that someone has named: it has a peer when a stream of that
 * id is open, and ends of tunnels, which are directed (source to destination)
 * and belong to the source: they go with it, while those that lead to a peer
 * survive its absence.  News flows both ways along a tunnel.
 *
 * Each peer remembers the last Node it was sent of every other, so the same
 * Node is not sent twice, and nobody is reported gone who was never announced.
 *
 * One mutex guards all of it.  Messages are small and rare (a few per client
 * and reconnect), so the lock is held for microseconds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "coordinator.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 16384
#define KIND(name) CODER__TAILNET__V2__COORDINATE_RESPONSE__PEER_UPDATE__KIND__##name

typedef Coder__Tailnet__V2__CoordinateResponse Response;
typedef Coder__Tailnet__V2__CoordinateResponse__PeerUpdate Update;
typedef Coder__Tailnet__V2__Node Node;

typedef struct Place Place;

typedef struct Tunnel
{
	Place *src;
	Place *dst;
	struct Tunnel *next_out, **prev_out; /* of src */
	struct Tunnel *next_in, **prev_in;	 /* of dst */
} Tunnel;

struct Place
{
	Place *next; /* in its bucket */
	uint8_t id[COORD_ID_LEN];
	CoordPeer *peer; /* NULL: nobody is connected */
	Tunnel *out;
	Tunnel *in;
};

typedef struct Blob
{
	struct Blob *next;
	size_t size;
	uint8_t data[];
} Blob;

/* What a peer was last told of another. */
typedef struct Sent
{
	uint8_t id[COORD_ID_LEN];
	size_t size;
	uint8_t *node;
} Sent;

struct CoordPeer
{
	Place *place; /* NULL: over */
	void (*wake)(void *arg);
	void *arg;
	Node *node; /* NULL: not told yet */
	uint8_t *packed;
	size_t packed_size;
	Sent *sent;
	size_t nsent;
	size_t sent_room;
	Blob *first;
	Blob **last;
	size_t queued;
	bool failed; /* in the list of those that did not keep up */
	CoordPeer *next_failed;
	CoordRemote *remote; /* it stands for a stream of another gateway: nothing is queued */
	CoordPeer *next_remote, **prev_remote;
};

struct CoordRemote
{
	CoordPeer *peers;
};

static struct
{
	pthread_mutex_t lock;
	Place *buckets[BUCKETS];
	CoordStats stats;
	CoordPeer *failed; /* empty between operations: settle() */
	CoordWatch *watches;
} coord = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Places --------------------------------------------------------------------- */

static Place **
bucket_of(const uint8_t *id)
{
	uint32_t h = 2166136261u;

	for (int i = 0; i < COORD_ID_LEN; i++)
		h = (h ^ id[i]) * 16777619u;
	return &coord.buckets[h % BUCKETS];
}

static Place *
find_place(const uint8_t *id)
{
	Place *place = *bucket_of(id);

	while (place != NULL && memcmp(place->id, id, COORD_ID_LEN) != 0)
		place = place->next;
	return place;
}

static Place *
make_place(const uint8_t *id)
{
	Place **bucket = bucket_of(id);
	Place *place = find_place(id);

	if (place != NULL)
		return place;
	place = calloc(1, sizeof(*place));
	if (place == NULL)
		return NULL;
	memcpy(place->id, id, COORD_ID_LEN);
	place->next = *bucket;
	*bucket = place;
	return place;
}

/* Frees the place when nothing refers to it any more. */
static void
drop_place(Place *place)
{
	Place **link = bucket_of(place->id);

	if (place->peer != NULL || place->out != NULL || place->in != NULL)
		return;
	while (*link != place)
		link = &(*link)->next;
	*link = place->next;
	free(place);
}

/* Tunnels -------------------------------------------------------------------- */

static Tunnel *
find_tunnel(const Place *src, const Place *dst)
{
	Tunnel *tunnel = src != NULL && dst != NULL ? src->out : NULL;

	while (tunnel != NULL && tunnel->dst != dst)
		tunnel = tunnel->next_out;
	return tunnel;
}

static bool
make_tunnel(Place *src, Place *dst)
{
	Tunnel *tunnel;

	if (find_tunnel(src, dst) != NULL)
		return true;
	tunnel = calloc(1, sizeof(*tunnel));
	if (tunnel == NULL)
		return false;
	*tunnel = (Tunnel){src, dst, src->out, &src->out, dst->in, &dst->in};
	if (src->out != NULL)
		src->out->prev_out = &tunnel->next_out;
	src->out = tunnel;
	if (dst->in != NULL)
		dst->in->prev_in = &tunnel->next_in;
	dst->in = tunnel;
	coord.stats.tunnels++;
	return true;
}

/* src must still be in use; dst may go with its last tunnel. */
static void
drop_tunnel(Tunnel *tunnel)
{
	Place *dst = tunnel->dst;

	*tunnel->prev_out = tunnel->next_out;
	if (tunnel->next_out != NULL)
		tunnel->next_out->prev_out = tunnel->prev_out;
	*tunnel->prev_in = tunnel->next_in;
	if (tunnel->next_in != NULL)
		tunnel->next_in->prev_in = tunnel->prev_in;
	if (dst->peer == NULL && dst != tunnel->src)
		drop_place(dst);
	free(tunnel);
	coord.stats.tunnels--;
}

/* Queues --------------------------------------------------------------------- */

static bool
queue_full(const CoordPeer *peer)
{
	return peer->queued >= COORD_QUEUE;
}

/* False: out of memory, or the queue is full. */
static bool
push(CoordPeer *peer, const Response *response)
{
	size_t size = protobuf_c_message_get_packed_size(&response->base);
	Blob *blob;

	if (peer->remote != NULL)
		return true;
	blob = queue_full(peer) ? NULL : malloc(sizeof(*blob) + size);
	if (blob == NULL)
		return false;
	blob->next = NULL;
	blob->size = size;
	protobuf_c_message_pack(&response->base, blob->data);
	*peer->last = blob;
	peer->last = &blob->next;
	if (peer->queued++ == 0)
		peer->wake(peer->arg);
	return true;
}

static void
push_error(CoordPeer *peer, const char *text)
{
	Response response = CODER__TAILNET__V2__COORDINATE_RESPONSE__INIT;

	response.error = (char *) text;
	push(peer, &response);
}

/* What was sent -------------------------------------------------------------- */

static Sent *
find_sent(CoordPeer *peer, const uint8_t *id)
{
	for (size_t i = 0; i < peer->nsent; i++)
		if (memcmp(peer->sent[i].id, id, COORD_ID_LEN) == 0)
			return &peer->sent[i];
	return NULL;
}

static void
forget_sent(CoordPeer *peer, Sent *sent)
{
	free(sent->node);
	*sent = peer->sent[--peer->nsent];
}

static bool
remember_sent(CoordPeer *peer, const CoordPeer *of)
{
	Sent *sent = find_sent(peer, of->place->id);
	uint8_t *copy = malloc(of->packed_size + 1);

	if (copy != NULL && sent == NULL && peer->nsent == peer->sent_room)
	{
		size_t room = peer->sent_room == 0 ? 4 : 2 * peer->sent_room;
		Sent *more = realloc(peer->sent, room * sizeof(*more));

		if (more != NULL)
		{
			peer->sent = more;
			peer->sent_room = room;
		}
	}
	if (copy == NULL || (sent == NULL && peer->nsent == peer->sent_room))
	{
		free(copy);
		return false;
	}
	if (sent == NULL)
	{
		sent = &peer->sent[peer->nsent++];
		memcpy(sent->id, of->place->id, COORD_ID_LEN);
	}
	else
		free(sent->node);
	sent->node = copy;
	sent->size = of->packed_size;
	memcpy(copy, of->packed, of->packed_size);
	return true;
}

/* News ----------------------------------------------------------------------- */

static Update
make_update(Place *of, int kind, const char *reason)
{
	Update update = CODER__TAILNET__V2__COORDINATE_RESPONSE__PEER_UPDATE__INIT;

	update.id.data = of->id;
	update.id.len = COORD_ID_LEN;
	update.kind = (Coder__Tailnet__V2__CoordinateResponse__PeerUpdate__Kind) kind;
	update.reason = (char *) reason;
	if (kind == (int) KIND(NODE))
		update.node = of->peer->node;
	return update;
}

/* Does to need this news of that place?  Keeps the record of what was sent. */
static bool
is_news(CoordPeer *to, Place *of, int kind)
{
	Sent *sent = find_sent(to, of->id);

	if (kind == (int) KIND(READY_FOR_HANDSHAKE))
		return true;
	if (kind != (int) KIND(NODE))
	{
		if (sent != NULL)
			forget_sent(to, sent);
		return sent != NULL;
	}
	if (of->peer == NULL || of->peer->node == NULL)
		return false;
	if (sent != NULL && sent->size == of->peer->packed_size &&
		memcmp(sent->node, of->peer->packed, sent->size) == 0)
		return false;
	return remember_sent(to, of->peer);
}

/*
 * Tells to (a place that may have no peer) about of.  A peer that does not keep
 * up is removed by settle(), so that no place or tunnel goes while it is in use.
 */
static void
tell(Place *to, Place *of, int kind, const char *reason)
{
	Response response = CODER__TAILNET__V2__COORDINATE_RESPONSE__INIT;
	Update update;
	Update *updates[1] = {&update};

	if (to->peer == NULL || to->peer->remote != NULL || to == of || !is_news(to->peer, of, kind))
		return;
	update = make_update(of, kind, reason);
	response.n_peer_updates = 1;
	response.peer_updates = updates;
	if (!push(to->peer, &response) && !to->peer->failed)
	{
		to->peer->failed = true;
		to->peer->next_failed = coord.failed;
		coord.failed = to->peer;
	}
}

/* Tells everyone at the other ends of of's tunnels. */
static void
tell_all(Place *of, int kind, const char *reason)
{
	for (Tunnel *t = of->out; t != NULL; t = t->next_out)
		tell(t->dst, of, kind, reason);
	for (Tunnel *t = of->in; t != NULL; t = t->next_in)
		tell(t->src, of, kind, reason);
}

/* Where the peer stands. */
static void
take_place(CoordPeer *peer, Place *place)
{
	place->peer = peer;
	peer->place = place;
	if (peer->remote != NULL)
		coord.stats.remote_peers++;
	else
		coord.stats.peers++;
}

static void
give_up_place(CoordPeer *peer)
{
	peer->place->peer = NULL;
	peer->place = NULL;
	if (peer->remote != NULL)
		coord.stats.remote_peers--;
	else
		coord.stats.peers--;
}

/* The stream is over: its peers are told kind, its own tunnels go. */
static void
end_stream(CoordPeer *peer, int kind, const char *reason)
{
	Place *place = peer->place;

	if (place == NULL)
		return;
	give_up_place(peer);
	for (CoordWatch *watch = peer->remote == NULL ? coord.watches : NULL; watch != NULL; watch = watch->next)
		watch->left(watch->arg, place->id, kind == (int) KIND(LOST));
	tell_all(place, kind, reason);
	while (place->out != NULL)
		drop_tunnel(place->out);
	drop_place(place);
	if (peer->remote == NULL && peer->queued == 0)
		peer->wake(peer->arg);
}

/* Removes those that did not keep up, which may fill the queues of others.  Ends every operation. */
static void
settle(void)
{
	while (coord.failed != NULL)
	{
		CoordPeer *peer = coord.failed;

		coord.failed = peer->next_failed;
		end_stream(peer, KIND(DISCONNECTED), "failed update");
	}
}

static void
free_peer(CoordPeer *peer)
{
	while (peer->first != NULL)
	{
		Blob *blob = peer->first;

		peer->first = blob->next;
		free(blob);
	}
	while (peer->nsent > 0)
		forget_sent(peer, &peer->sent[0]);
	free(peer->sent);
	if (peer->node != NULL)
		coder__tailnet__v2__node__free_unpacked(peer->node, NULL);
	free(peer->packed);
	free(peer);
}

/* One that stands for another gateway's has no owner but its list. */
static void
free_remote_peer(CoordPeer *peer)
{
	*peer->prev_remote = peer->next_remote;
	if (peer->next_remote != NULL)
		peer->next_remote->prev_remote = peer->prev_remote;
	free_peer(peer);
}

/* A new stream has the id: nobody else is told, tunnels of the old one stay. */
static void
overwrite(CoordPeer *peer)
{
	push_error(peer, "peer ID overwritten by new connection");
	give_up_place(peer);
	if (peer->remote != NULL)
		free_remote_peer(peer);
	else if (peer->queued == 0)
		peer->wake(peer->arg);
}

/* All that a new stream should know: one answer with every node at the ends of its tunnels. */
static void
send_init(Place *place)
{
	Response response = CODER__TAILNET__V2__COORDINATE_RESPONSE__INIT;
	size_t room = 0;
	Update *updates;
	Update **pointers;

	for (Tunnel *t = place->in; t != NULL; t = t->next_in)
		room++;
	for (Tunnel *t = place->out; t != NULL; t = t->next_out)
		room++;
	updates = room > 0 ? calloc(room, sizeof(*updates)) : NULL;
	pointers = room > 0 ? calloc(room, sizeof(*pointers)) : NULL;
	if (updates != NULL && pointers != NULL)
	{
		size_t n = 0;

		for (Tunnel *t = place->in; t != NULL; t = t->next_in)
			if (is_news(place->peer, t->src, KIND(NODE)))
				updates[n++] = make_update(t->src, KIND(NODE), "init");
		for (Tunnel *t = place->out; t != NULL; t = t->next_out)
			if (is_news(place->peer, t->dst, KIND(NODE)))
				updates[n++] = make_update(t->dst, KIND(NODE), "init");
		for (size_t i = 0; i < n; i++)
			pointers[i] = &updates[i];
		response.n_peer_updates = n;
		response.peer_updates = pointers;
		if (n > 0)
			push(place->peer, &response);
	}
	free(updates);
	free(pointers);
}

/* Requests ------------------------------------------------------------------- */

static bool
update_self(CoordPeer *peer, const Node *node)
{
	size_t size = protobuf_c_message_get_packed_size(&node->base);
	uint8_t *packed;
	Node *copy;

	if (size > COORD_MAX_NODE)
	{
		push_error(peer, "node is too large");
		return false;
	}
	packed = malloc(size + 1);
	if (packed == NULL)
		return false;
	protobuf_c_message_pack(&node->base, packed);
	copy = coder__tailnet__v2__node__unpack(NULL, size, packed);
	if (copy == NULL)
	{
		free(packed);
		return false;
	}
	if (peer->node != NULL)
		coder__tailnet__v2__node__free_unpacked(peer->node, NULL);
	free(peer->packed);
	peer->node = copy;
	peer->packed = packed;
	peer->packed_size = size;
	tell_all(peer->place, KIND(NODE), "node update");
	return true;
}

static bool
is_id(CoordPeer *peer, const ProtobufCBinaryData *id)
{
	if (id->len == COORD_ID_LEN)
		return true;
	push_error(peer, "id is not 16 bytes");
	return false;
}

static bool
add_tunnel(CoordPeer *peer, const ProtobufCBinaryData *id)
{
	Place *dst;

	if (!is_id(peer, id))
		return false;
	dst = make_place(id->data);
	if (dst == NULL)
		return false;
	if (!make_tunnel(peer->place, dst))
	{
		drop_place(dst);
		return false;
	}
	tell(peer->place, dst, KIND(NODE), "add tunnel");
	tell(dst, peer->place, KIND(NODE), "add tunnel");
	return true;
}

static bool
remove_tunnel(CoordPeer *peer, const ProtobufCBinaryData *id)
{
	Place *src = peer->place;
	Tunnel *tunnel;

	if (!is_id(peer, id))
		return false;
	tunnel = find_tunnel(src, find_place(id->data));
	if (tunnel == NULL)
		return true;
	tell(src, tunnel->dst, KIND(DISCONNECTED), "remove tunnel");
	tell(tunnel->dst, src, KIND(DISCONNECTED), "remove tunnel");
	drop_tunnel(tunnel);
	return true;
}

static void
format_id(char text[static 37], const uint8_t *id)
{
	char *p = text;

	for (int i = 0; i < COORD_ID_LEN; i++)
		p += sprintf(p, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
}

static bool
ready_for_handshake(CoordPeer *peer, const ProtobufCBinaryData *id)
{
	Place *to;

	if (!is_id(peer, id))
		return false;
	to = find_place(id->data);
	if (find_tunnel(peer->place, to) == NULL && find_tunnel(to, peer->place) == NULL)
	{
		char uuid[37];
		char text[128];

		format_id(uuid, id->data);
		snprintf(text, sizeof(text), "ready for handshake error: you do not share a tunnel with \"%s\"", uuid);
		push_error(peer, text);
		return true;
	}
	tell(to, peer->place, KIND(READY_FOR_HANDSHAKE), "");
	return true;
}

/* The parts of a message in the order that the protocol gives; false ends the stream. */
static bool
take_request(CoordPeer *peer, const Coder__Tailnet__V2__CoordinateRequest *request)
{
	if (request->update_self != NULL && request->update_self->node != NULL &&
		!update_self(peer, request->update_self->node))
		return false;
	if (request->add_tunnel != NULL && !add_tunnel(peer, &request->add_tunnel->id))
		return false;
	if (request->remove_tunnel != NULL && !remove_tunnel(peer, &request->remove_tunnel->id))
		return false;
	if (request->disconnect != NULL)
	{
		end_stream(peer, KIND(DISCONNECTED), "graceful disconnect");
		return false;
	}
	for (size_t i = 0; i < request->n_ready_for_handshake; i++)
		if (!ready_for_handshake(peer, &request->ready_for_handshake[i]->id))
			return false;
	return true;
}

/*
 * Tells these watches.  Where memory is short they miss it: that is of no more
 * harm than a lost connection.
 */
static void
tell_request(CoordWatch *first, bool others, const uint8_t id[static COORD_ID_LEN],
			 const Coder__Tailnet__V2__CoordinateRequest *request)
{
	size_t size = first != NULL ? protobuf_c_message_get_packed_size(&request->base) : 0;
	uint8_t *packed = first != NULL ? malloc(size + 1) : NULL;

	if (packed == NULL)
		return;
	protobuf_c_message_pack(&request->base, packed);
	for (CoordWatch *watch = first; watch != NULL; watch = others ? watch->next : NULL)
		watch->requested(watch->arg, id, packed, size);
	free(packed);
}

bool
coord_request(CoordPeer *peer, const Coder__Tailnet__V2__CoordinateRequest *request)
{
	bool ok;

	pthread_mutex_lock(&coord.lock);
	if (peer->place != NULL)
		tell_request(coord.watches, true, peer->place->id, request);
	ok = peer->place != NULL && take_request(peer, request);
	if (!ok)
		end_stream(peer, KIND(LOST), "lost");
	settle();
	ok = peer->place != NULL;
	pthread_mutex_unlock(&coord.lock);
	return ok;
}

/* Streams -------------------------------------------------------------------- */

CoordPeer *
coord_join(const uint8_t id[static COORD_ID_LEN], void (*wake)(void *arg), void *arg)
{
	CoordPeer *peer = calloc(1, sizeof(*peer));
	Place *place;

	if (peer == NULL)
		return NULL;
	peer->wake = wake;
	peer->arg = arg;
	peer->last = &peer->first;
	pthread_mutex_lock(&coord.lock);
	place = make_place(id);
	if (place != NULL)
	{
		if (place->peer != NULL)
			overwrite(place->peer);
		take_place(peer, place);
		for (CoordWatch *watch = coord.watches; watch != NULL; watch = watch->next)
			watch->joined(watch->arg, id);
		send_init(place);
	}
	pthread_mutex_unlock(&coord.lock);
	if (place != NULL)
		return peer;
	free(peer);
	return NULL;
}

uint8_t *
coord_take(CoordPeer *peer, size_t *size, bool *over)
{
	uint8_t *data = NULL;
	Blob *blob;

	pthread_mutex_lock(&coord.lock);
	blob = peer->first;
	*over = blob == NULL && peer->place == NULL;
	if (blob != NULL)
	{
		peer->first = blob->next;
		if (peer->first == NULL)
			peer->last = &peer->first;
		peer->queued--;
	}
	pthread_mutex_unlock(&coord.lock);
	if (blob == NULL)
		return NULL;
	/* The block that was queued is what the caller frees. */
	data = (uint8_t *) blob;
	*size = blob->size;
	memmove(data, blob->data, *size);
	return data;
}

void
coord_refuse(CoordPeer *peer, const char *error)
{
	pthread_mutex_lock(&coord.lock);
	if (peer->place != NULL)
	{
		push_error(peer, error);
		end_stream(peer, KIND(LOST), "lost");
		settle();
	}
	pthread_mutex_unlock(&coord.lock);
}

static void
ignore(void *arg)
{
	(void) arg;
}

void
coord_leave(CoordPeer *peer)
{
	pthread_mutex_lock(&coord.lock);
	peer->wake = ignore;
	end_stream(peer, KIND(LOST), "lost");
	settle();
	pthread_mutex_unlock(&coord.lock);
	free_peer(peer);
}

void
coord_stats(CoordStats *stats)
{
	pthread_mutex_lock(&coord.lock);
	*stats = coord.stats;
	pthread_mutex_unlock(&coord.lock);
}

/* Other gateways --------------------------------------------------------------- */

/* What made a place what it is. */
static void
replay(CoordWatch *watch, const Place *place)
{
	Coder__Tailnet__V2__CoordinateRequest__UpdateSelf update = CODER__TAILNET__V2__COORDINATE_REQUEST__UPDATE_SELF__INIT;

	watch->joined(watch->arg, place->id);
	update.node = place->peer->node;
	if (update.node != NULL)
	{
		Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;

		request.update_self = &update;
		tell_request(watch, false, place->id, &request);
	}
	for (const Tunnel *t = place->out; t != NULL; t = t->next_out)
	{
		Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
		Coder__Tailnet__V2__CoordinateRequest__Tunnel add = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

		add.id = (ProtobufCBinaryData){COORD_ID_LEN, t->dst->id};
		request.add_tunnel = &add;
		tell_request(watch, false, place->id, &request);
	}
}

void
coord_watch(CoordWatch *watch)
{
	pthread_mutex_lock(&coord.lock);
	for (int i = 0; i < BUCKETS; i++)
		for (const Place *place = coord.buckets[i]; place != NULL; place = place->next)
			if (place->peer != NULL && place->peer->remote == NULL)
				replay(watch, place);
	watch->next = coord.watches;
	coord.watches = watch;
	pthread_mutex_unlock(&coord.lock);
}

void
coord_unwatch(CoordWatch *watch)
{
	CoordWatch **link = &coord.watches;

	pthread_mutex_lock(&coord.lock);
	while (*link != NULL && *link != watch)
		link = &(*link)->next;
	if (*link != NULL)
		*link = watch->next;
	pthread_mutex_unlock(&coord.lock);
}

CoordRemote *
coord_remote_open(void)
{
	return calloc(1, sizeof(CoordRemote));
}

bool
coord_remote_join(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN])
{
	CoordPeer *peer = calloc(1, sizeof(*peer));
	Place *place;

	if (peer == NULL)
		return false;
	pthread_mutex_lock(&coord.lock);
	place = make_place(id);
	if (place != NULL)
	{
		if (place->peer != NULL)
			overwrite(place->peer);
		peer->last = &peer->first;
		peer->remote = remote;
		peer->next_remote = remote->peers;
		peer->prev_remote = &remote->peers;
		if (remote->peers != NULL)
			remote->peers->prev_remote = &peer->next_remote;
		remote->peers = peer;
		take_place(peer, place);
	}
	pthread_mutex_unlock(&coord.lock);
	if (place == NULL)
		free(peer);
	return place != NULL;
}

/* The gateway's peer of that id, under the lock. */
static CoordPeer *
find_remote(const CoordRemote *remote, const uint8_t id[static COORD_ID_LEN])
{
	const Place *place = find_place(id);

	return place != NULL && place->peer != NULL && place->peer->remote == remote ? place->peer : NULL;
}

void
coord_remote_request(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN],
					 const Coder__Tailnet__V2__CoordinateRequest *request)
{
	CoordPeer *peer;

	pthread_mutex_lock(&coord.lock);
	peer = find_remote(remote, id);
	if (peer != NULL && !take_request(peer, request))
	{
		end_stream(peer, KIND(LOST), "lost");
		free_remote_peer(peer);
	}
	settle();
	pthread_mutex_unlock(&coord.lock);
}

void
coord_remote_leave(CoordRemote *remote, const uint8_t id[static COORD_ID_LEN], bool lost)
{
	CoordPeer *peer;

	pthread_mutex_lock(&coord.lock);
	peer = find_remote(remote, id);
	if (peer != NULL)
	{
		end_stream(peer, lost ? (int) KIND(LOST) : (int) KIND(DISCONNECTED), lost ? "lost" : "graceful disconnect");
		free_remote_peer(peer);
	}
	settle();
	pthread_mutex_unlock(&coord.lock);
}

void
coord_remote_close(CoordRemote *remote)
{
	pthread_mutex_lock(&coord.lock);
	while (remote->peers != NULL)
	{
		CoordPeer *peer = remote->peers;

		end_stream(peer, KIND(LOST), "lost");
		free_remote_peer(peer);
	}
	settle();
	pthread_mutex_unlock(&coord.lock);
	free(remote);
}

/* For people ----------------------------------------------------------------- */

static void
print_id(FILE *out, const uint8_t *id)
{
	for (int i = 0; i < COORD_ID_LEN; i++)
		fprintf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
}

static void
print_peer(FILE *out, const Place *place)
{
	fprintf(out, "<tr><td><code>");
	print_id(out, place->id);
	fprintf(out, "</code></td><td>%s</td><td>%s</td><td>%zu</td></tr>\n",
			place->peer->remote == NULL ? "here" : "another gateway", place->peer->node != NULL ? "yes" : "no",
			place->peer->queued);
}

static void
print_tunnels(FILE *out, const Place *place)
{
	for (const Tunnel *tunnel = place->out; tunnel != NULL; tunnel = tunnel->next_out)
	{
		fprintf(out, "<tr><td><code>");
		print_id(out, tunnel->src->id);
		fprintf(out, "</code></td><td><code>");
		print_id(out, tunnel->dst->id);
		fprintf(out, "</code></td></tr>\n");
	}
}

char *
coord_page(size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);
	bool failed;

	if (out == NULL)
		return NULL;
	pthread_mutex_lock(&coord.lock);
	fprintf(out, "<!DOCTYPE html>\n<title>Coordinator</title>\n<h1>Coordinator</h1>\n<h2>%zu peers</h2>\n",
			coord.stats.peers + coord.stats.remote_peers);
	fprintf(out, "<table border=1>\n<tr><th>Id</th><th>Connected to</th><th>Has told its node</th><th>Waiting messages</th></tr>\n");
	for (int i = 0; i < BUCKETS; i++)
		for (const Place *place = coord.buckets[i]; place != NULL; place = place->next)
			if (place->peer != NULL)
				print_peer(out, place);
	fprintf(out, "</table>\n<h2>%zu tunnels</h2>\n<table border=1>\n<tr><th>Source</th><th>Destination</th></tr>\n", coord.stats.tunnels);
	for (int i = 0; i < BUCKETS; i++)
		for (const Place *place = coord.buckets[i]; place != NULL; place = place->next)
			print_tunnels(out, place);
	pthread_mutex_unlock(&coord.lock);
	fprintf(out, "</table>\n");
	failed = ferror(out) != 0;
	if (fclose(out) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}
