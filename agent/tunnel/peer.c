/*
 * peer.c -- WireGuard's sessions.
 *
 * Keypairs: current sends; previous still receives; next is a responder's new
 * one, which becomes current with the first packet the initiator sends under
 * it.  A local index is the peer's slot (low 16 bits) and 16 random bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/peer.h"

#include <sodium.h>
#include <stdlib.h>
#include <time.h>

#define REKEY_AFTER_TIME (120 * WG_SECOND)
#define REJECT_AFTER_TIME (180 * WG_SECOND)
#define REKEY_TIMEOUT (5 * WG_SECOND)
#define REKEY_ATTEMPT_TIME (90 * WG_SECOND)
#define KEEPALIVE_TIMEOUT (10 * WG_SECOND)
#define REKEY_AFTER_MESSAGES (UINT64_C(1) << 60)
#define REJECT_AFTER_MESSAGES (UINT64_MAX - (UINT64_C(1) << 13))
#define COOKIE_LIFETIME (120 * WG_SECOND)
#define INITIATION_GAP (WG_SECOND / 50)
#define LOAD_HANDSHAKES 128 /* in one second: more is load, and needs cookies */

typedef struct Keypair
{
	uint8_t send_key[NOISE_KEY_LEN];
	uint8_t recv_key[NOISE_KEY_LEN];
	uint32_t local_index;
	uint32_t remote_index;
	int64_t created;
	bool initiator;
	uint64_t counter;
	WgWindow window;
} Keypair;

typedef struct Waiting
{
	struct Waiting *next;
	size_t n;
	uint8_t packet[];
} Waiting;

struct WgPeer
{
	WgDevice *device;
	uint16_t slot;
	void *owner;
	NoisePeer noise;
	WgStats stats;

	Keypair *current, *previous, *next;

	bool initiating; /* hs is ours and unanswered */
	NoiseHandshake hs;
	int64_t attempts_since; /* of this row of initiations */
	int64_t last_sent_initiation; /* 0: none yet */
	int64_t last_got_initiation;
	uint8_t newest_timestamp[WIRE_WG_TIMESTAMP_LEN];

	uint8_t last_mac1[WIRE_WG_MAC_LEN];
	uint8_t cookie[NOISE_COOKIE_LEN];
	int64_t cookie_until;

	Waiting *queue;
	Waiting **queue_tail;
	size_t nqueue;

	int64_t keepalive; /* persistent, ns; 0: off */
	int64_t retransmit_at; /* deadlines; WG_NEVER: off */
	int64_t passive_keepalive_at;
	int64_t new_handshake_at;
	int64_t persistent_at;
	int64_t zero_at;
};

struct WgDevice
{
	WgConfig config;
	NoiseIdentity self;
	WgPeer **peers; /* by slot; holes are NULL */
	size_t cap;
	uint8_t cookie_secret[NOISE_KEY_LEN];
	int64_t cookie_secret_since;
	int64_t load_since;
	int load_count;
	int64_t deadline;
};

bool
wg_window_accept(WgWindow *window, uint64_t counter)
{
	uint64_t word = counter / 64;
	uint64_t mask = UINT64_C(1) << (counter % 64);
	uint64_t *bits = &window->bits[word % WG_WINDOW_WORDS];

	if (counter >= REJECT_AFTER_MESSAGES)
		return false;
	if (counter >= window->next)
	{
		uint64_t last = window->next == 0 ? 0 : (window->next - 1) / 64;
		uint64_t fresh = word - last;

		/* Words between the old highest and the new one are of counters not seen yet. */
		if (fresh > WG_WINDOW_WORDS)
			fresh = WG_WINDOW_WORDS;
		for (uint64_t i = 0; i < fresh; i++)
			window->bits[(word - i) % WG_WINDOW_WORDS] = 0;
		window->next = counter + 1;
		*bits |= mask;
		return true;
	}
	if (window->next - 1 - counter > WG_WINDOW_WORDS * 64 - 64 || (*bits & mask) != 0)
		return false;
	*bits |= mask;
	return true;
}

static int64_t
min_time(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void
note_deadline(WgDevice *device, int64_t when)
{
	device->deadline = min_time(device->deadline, when);
}

static void
set_timer(WgPeer *peer, int64_t *timer, int64_t when)
{
	*timer = when;
	note_deadline(peer->device, when);
}

WgDevice *
wg_device_create(const WgConfig *config, int64_t now)
{
	WgDevice *device;

	if (sodium_init() < 0 || (device = calloc(1, sizeof(*device))) == NULL)
		return NULL;
	device->config = *config;
	noise_identity_init(&device->self, config->private_key);
	randombytes_buf(device->cookie_secret, sizeof(device->cookie_secret));
	device->cookie_secret_since = now;
	device->deadline = WG_NEVER;
	return device;
}

const NoiseIdentity *
wg_device_identity(const WgDevice *device)
{
	return &device->self;
}

static void
keypair_free(Keypair **pair)
{
	if (*pair != NULL)
	{
		sodium_memzero(*pair, sizeof(**pair));
		free(*pair);
		*pair = NULL;
	}
}

static void
queue_drop(WgPeer *peer)
{
	while (peer->queue != NULL)
	{
		Waiting *waiting = peer->queue;

		peer->queue = waiting->next;
		free(waiting);
	}
	peer->queue_tail = &peer->queue;
	peer->nqueue = 0;
}

static void
queue_add(WgPeer *peer, const uint8_t *packet, size_t n)
{
	Waiting *waiting = peer->nqueue < WG_MAX_QUEUE ? malloc(sizeof(*waiting) + n) : NULL;

	if (waiting == NULL)
		return; /* TCP sends it again */
	waiting->next = NULL;
	waiting->n = n;
	memcpy(waiting->packet, packet, n);
	*peer->queue_tail = waiting;
	peer->queue_tail = &waiting->next;
	peer->nqueue++;
}

/* A free slot; the array grows as needed. */
static bool
find_slot(WgDevice *device, size_t *slot)
{
	size_t cap = device->cap == 0 ? 4 : 2 * device->cap;
	WgPeer **peers;

	for (*slot = 0; *slot < device->cap; (*slot)++)
		if (device->peers[*slot] == NULL)
			return true;
	if (device->cap >= WG_MAX_PEERS)
		return false;
	peers = realloc(device->peers, cap * sizeof(*peers));
	if (peers == NULL)
		return false;
	memset(peers + device->cap, 0, (cap - device->cap) * sizeof(*peers));
	device->peers = peers;
	device->cap = cap;
	return true;
}

WgPeer *
wg_peer_add(WgDevice *device, const uint8_t public_key[static NOISE_KEY_LEN], void *owner)
{
	size_t slot;
	WgPeer *peer;

	if (!find_slot(device, &slot) || (peer = calloc(1, sizeof(*peer))) == NULL)
		return NULL;
	if (!noise_peer_init(&peer->noise, &device->self, public_key))
	{
		free(peer);
		return NULL;
	}
	peer->device = device;
	peer->slot = (uint16_t) slot;
	peer->owner = owner;
	peer->queue_tail = &peer->queue;
	peer->retransmit_at = peer->passive_keepalive_at = peer->new_handshake_at = WG_NEVER;
	peer->persistent_at = peer->zero_at = WG_NEVER;
	device->peers[slot] = peer;
	return peer;
}

static void
drop_keys(WgPeer *peer)
{
	keypair_free(&peer->current);
	keypair_free(&peer->previous);
	keypair_free(&peer->next);
	sodium_memzero(&peer->hs, sizeof(peer->hs));
	peer->initiating = false;
}

void
wg_peer_remove(WgPeer *peer)
{
	if (peer == NULL)
		return;
	peer->device->peers[peer->slot] = NULL;
	drop_keys(peer);
	queue_drop(peer);
	sodium_memzero(peer, sizeof(*peer));
	free(peer);
}

void
wg_device_destroy(WgDevice *device)
{
	if (device == NULL)
		return;
	for (size_t i = 0; i < device->cap; i++)
		wg_peer_remove(device->peers[i]);
	free(device->peers);
	sodium_memzero(device, sizeof(*device));
	free(device);
}

void *
wg_peer_owner(const WgPeer *peer)
{
	return peer->owner;
}

const WgStats *
wg_peer_stats(const WgPeer *peer)
{
	return &peer->stats;
}

static uint32_t
new_index(const WgPeer *peer)
{
	return (randombytes_random() & 0xffff0000u) | peer->slot;
}

/* Something authenticated went out. */
static void
on_sent(WgPeer *peer, int64_t now)
{
	peer->passive_keepalive_at = WG_NEVER;
	if (peer->keepalive > 0)
		set_timer(peer, &peer->persistent_at, now + peer->keepalive);
}

/* Something authenticated came in. */
static void
on_received(WgPeer *peer, int64_t now)
{
	peer->new_handshake_at = WG_NEVER;
	if (peer->keepalive > 0)
		set_timer(peer, &peer->persistent_at, now + peer->keepalive);
}

static void
send_datagram(WgPeer *peer, const uint8_t *datagram, size_t n)
{
	peer->device->config.send(peer->device->config.arg, peer, datagram, n);
}

/* Sends a handshake message: adds the MACs and remembers mac1 for a cookie that may answer. */
static void
send_handshake(WgPeer *peer, uint8_t *message, size_t n, int64_t now)
{
	noise_put_macs(
		message, n, peer->noise.mac1_key, peer->cookie_until > now ? peer->cookie : NULL);
	memcpy(peer->last_mac1, message + n - 2 * WIRE_WG_MAC_LEN, WIRE_WG_MAC_LEN);
	send_datagram(peer, message, n);
	on_sent(peer, now);
}

static int64_t
unix_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t) ts.tv_sec * WG_SECOND + ts.tv_nsec;
}

/* An initiation, at most one in REKEY_TIMEOUT; retry: the next of a row. */
static void
initiate(WgPeer *peer, bool retry, int64_t now)
{
	uint8_t message[WIRE_WG_INITIATION_LEN];
	uint8_t timestamp[WIRE_WG_TIMESTAMP_LEN];

	if (!retry && peer->retransmit_at == WG_NEVER)
		peer->attempts_since = now;
	if (peer->last_sent_initiation != 0 && now - peer->last_sent_initiation < REKEY_TIMEOUT)
	{
		if (peer->retransmit_at == WG_NEVER)
			set_timer(peer, &peer->retransmit_at, peer->last_sent_initiation + REKEY_TIMEOUT);
		return;
	}
	peer->last_sent_initiation = now;
	peer->hs.local_index = new_index(peer);
	noise_timestamp(timestamp,
					peer->device->config.unix_ns != NULL ? peer->device->config.unix_ns()
														 : unix_now());
	peer->initiating =
		noise_put_initiation(&peer->hs, &peer->device->self, &peer->noise, timestamp, message);
	if (peer->initiating)
		send_handshake(peer, message, sizeof(message), now);
	set_timer(peer,
			  &peer->retransmit_at,
			  now + REKEY_TIMEOUT + (int64_t) randombytes_uniform(333) * 1000000);
}

static bool
usable(const Keypair *pair, int64_t now)
{
	return pair != NULL && now - pair->created < REJECT_AFTER_TIME &&
		   pair->counter < REJECT_AFTER_MESSAGES;
}

static void
data_nonce(uint8_t nonce[static 12], uint64_t counter)
{
	wire_put64le(wire_put32le(nonce, 0), counter);
}

/* Seals one packet (none: a keepalive) under the current keypair. */
static void
send_sealed(WgPeer *peer, const uint8_t *packet, size_t n, int64_t now)
{
	Keypair *pair = peer->current;
	size_t padded = (n + 15) & ~(size_t) 15;
	uint8_t plain[WG_MAX_PACKET + 16];
	uint8_t out[WIRE_WG_DATA_HEADER_LEN + sizeof(plain) + WIRE_WG_TAG_LEN];
	uint8_t nonce[12];
	WireWgMessage m = {.type = WIRE_WG_DATA,
					   .receiver = pair->remote_index,
					   .counter = pair->counter++,
					   .nsealed = padded + WIRE_WG_TAG_LEN};
	size_t size = wire_wg_put(out, sizeof(out), &m);

	wire_put_bytes(plain, packet, n);
	memset(plain + n, 0, padded - n);
	data_nonce(nonce, m.counter);
	crypto_aead_chacha20poly1305_ietf_encrypt(
		out + WIRE_WG_DATA_HEADER_LEN, NULL, plain, padded, NULL, 0, NULL, nonce, pair->send_key);
	send_datagram(peer, out, size);
	on_sent(peer, now);
	if (n > 0)
	{
		peer->stats.tx_packets++;
		peer->stats.tx_bytes += n;
		if (peer->new_handshake_at == WG_NEVER)
			set_timer(peer, &peer->new_handshake_at, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT);
	}
	if (pair->counter >= REKEY_AFTER_MESSAGES ||
		(pair->initiator && now - pair->created >= REKEY_AFTER_TIME))
		initiate(peer, false, now);
}

void
wg_peer_send(WgPeer *peer, const uint8_t *packet, size_t n, int64_t now)
{
	if (n > WG_MAX_PACKET)
		return;
	if (usable(peer->current, now))
	{
		send_sealed(peer, packet, n, now);
		return;
	}
	if (n > 0)
		queue_add(peer, packet, n);
	initiate(peer, false, now);
}

/* The session is there: what waited goes out, or a keepalive that confirms it. */
static void
queue_flush(WgPeer *peer, bool confirm, int64_t now)
{
	Waiting *waiting = peer->queue;

	if (waiting == NULL && confirm)
		send_sealed(peer, NULL, 0, now);
	peer->queue = NULL;
	queue_drop(peer);
	while (waiting != NULL)
	{
		Waiting *next = waiting->next;

		send_sealed(peer, waiting->packet, waiting->n, now);
		free(waiting);
		waiting = next;
	}
}

void
wg_peer_keepalive(WgPeer *peer, int seconds, int64_t now)
{
	bool was = peer->keepalive > 0;

	peer->keepalive = seconds * WG_SECOND;
	if (seconds == 0)
		peer->persistent_at = WG_NEVER;
	else if (!was)
		wg_peer_send(peer, NULL, 0, now);
}

static Keypair *
keypair_new(WgPeer *peer, bool initiator, int64_t now)
{
	Keypair *pair = calloc(1, sizeof(*pair));

	if (pair == NULL)
		return NULL;
	pair->local_index = peer->hs.local_index;
	pair->remote_index = peer->hs.remote_index;
	pair->created = now;
	pair->initiator = initiator;
	noise_split(&peer->hs, initiator, pair->send_key, pair->recv_key);
	peer->initiating = false;
	set_timer(peer, &peer->zero_at, now + 3 * REJECT_AFTER_TIME);
	return pair;
}

static void
completed(WgPeer *peer, int64_t now)
{
	WgDevice *device = peer->device;

	peer->retransmit_at = WG_NEVER;
	peer->stats.last_handshake = now;
	if (device->config.up != NULL)
		device->config.up(device->config.arg, peer);
}

static WgPeer *
peer_by_key(const WgDevice *device, const uint8_t *key)
{
	for (size_t i = 0; i < device->cap; i++)
		if (device->peers[i] != NULL &&
			memcmp(device->peers[i]->noise.public_key, key, NOISE_KEY_LEN) == 0)
			return device->peers[i];
	return NULL;
}

static WgPeer *
peer_by_index(const WgDevice *device, uint32_t index)
{
	size_t slot = index & 0xffff;

	return slot < device->cap ? device->peers[slot] : NULL;
}

/*
 * A handshake message with a right mac1: may it cost us X25519?  Under load it
 * must prove with mac2 that its sender hears us; else a cookie is the answer.
 */
static bool
admit(WgDevice *device, WgPeer *from, const WireWgMessage *m, const uint8_t *datagram, size_t n,
	  int64_t now)
{
	uint8_t cookie[NOISE_COOKIE_LEN];
	uint8_t reply[WIRE_WG_COOKIE_LEN];

	if (now - device->load_since >= WG_SECOND)
	{
		device->load_since = now;
		device->load_count = 0;
	}
	if (++device->load_count <= LOAD_HANDSHAKES)
		return true;
	if (from == NULL)
		return false;
	if (now - device->cookie_secret_since >= COOKIE_LIFETIME)
	{
		randombytes_buf(device->cookie_secret, sizeof(device->cookie_secret));
		device->cookie_secret_since = now;
	}
	noise_cookie(cookie, device->cookie_secret, from->noise.public_key, NOISE_KEY_LEN);
	if (noise_check_mac2(cookie, datagram, n))
		return true;
	noise_put_cookie(reply, &device->self, m->sender, m->mac1, cookie);
	send_datagram(from, reply, sizeof(reply));
	return false;
}

static void
receive_initiation(WgDevice *device, const WireWgMessage *m, int64_t now)
{
	NoiseHandshake hs = {0};
	uint8_t key[NOISE_KEY_LEN];
	uint8_t timestamp[WIRE_WG_TIMESTAMP_LEN];
	uint8_t message[WIRE_WG_RESPONSE_LEN];
	WgPeer *peer;

	if (!noise_get_initiation_static(&hs, &device->self, m, key) ||
		(peer = peer_by_key(device, key)) == NULL ||
		!noise_get_initiation_timestamp(&hs, &peer->noise, m, timestamp))
		return;
	if (memcmp(timestamp, peer->newest_timestamp, sizeof(timestamp)) <= 0 ||
		(peer->last_got_initiation != 0 && now - peer->last_got_initiation < INITIATION_GAP))
		return;
	memcpy(peer->newest_timestamp, timestamp, sizeof(timestamp));
	peer->last_got_initiation = now;
	hs.local_index = new_index(peer);
	if (!noise_put_response(&hs, &peer->noise, message))
		return;
	peer->hs = hs;
	keypair_free(&peer->next);
	peer->next = keypair_new(peer, false, now);
	if (peer->next == NULL)
		return;
	on_received(peer, now);
	send_handshake(peer, message, sizeof(message), now);
}

static void
receive_response(WgDevice *device, const WireWgMessage *m, int64_t now)
{
	WgPeer *peer = peer_by_index(device, m->receiver);
	NoiseHandshake hs;
	Keypair *pair;

	if (peer == NULL || !peer->initiating || peer->hs.local_index != m->receiver)
		return;
	hs = peer->hs; /* a forged response must not spoil the real one's */
	if (!noise_get_response(&hs, &device->self, m))
		return;
	peer->hs = hs;
	pair = keypair_new(peer, true, now);
	if (pair == NULL)
		return;
	keypair_free(&peer->previous);
	if (peer->next != NULL)
	{
		peer->previous = peer->next;
		peer->next = NULL;
		keypair_free(&peer->current);
	}
	else
		peer->previous = peer->current;
	peer->current = pair;
	on_received(peer, now);
	queue_flush(peer, true, now);
	completed(peer, now);
}

static void
receive_cookie(WgDevice *device, const WireWgMessage *m, int64_t now)
{
	WgPeer *peer = peer_by_index(device, m->receiver);

	if (peer != NULL && peer->initiating && peer->hs.local_index == m->receiver &&
		noise_get_cookie(peer->cookie, &peer->noise, m, peer->last_mac1))
		peer->cookie_until = now + COOKIE_LIFETIME - REKEY_TIMEOUT;
}

static Keypair *
keypair_by_index(const WgPeer *peer, uint32_t index)
{
	Keypair *const pairs[] = {peer->current, peer->next, peer->previous};

	for (int i = 0; i < 3; i++)
		if (pairs[i] != NULL && pairs[i]->local_index == index)
			return pairs[i];
	return NULL;
}

/* The initiator has used the new keypair: now it is ours too. */
static void
confirm_next(WgPeer *peer, int64_t now)
{
	keypair_free(&peer->previous);
	peer->previous = peer->current;
	peer->current = peer->next;
	peer->next = NULL;
	completed(peer, now);
	queue_flush(peer, false, now);
}

/* The packet's own length, which the padding hides; 0 if it is none. */
static size_t
inner_length(const uint8_t *packet, size_t n)
{
	size_t length = 0;

	if (n >= 40 && packet[0] >> 4 == 6)
		length = 40 + (size_t) wire_get16be(packet + 4);
	else if (n >= 20 && packet[0] >> 4 == 4)
		length = wire_get16be(packet + 2);
	return length <= n ? length : 0;
}

static void
receive_data(WgDevice *device, const WireWgMessage *m, int64_t now)
{
	WgPeer *peer = peer_by_index(device, m->receiver);
	Keypair *pair = peer == NULL ? NULL : keypair_by_index(peer, m->receiver);
	uint8_t plain[WG_MAX_PACKET + 16];
	uint8_t nonce[12];
	unsigned long long n;
	size_t length;

	if (pair == NULL || now - pair->created >= REJECT_AFTER_TIME ||
		m->nsealed > sizeof(plain) + WIRE_WG_TAG_LEN)
		return;
	data_nonce(nonce, m->counter);
	if (crypto_aead_chacha20poly1305_ietf_decrypt(
			plain, &n, NULL, m->sealed, m->nsealed, NULL, 0, nonce, pair->recv_key) != 0 ||
		!wg_window_accept(&pair->window, m->counter))
		return;
	on_received(peer, now);
	if (pair == peer->next)
		confirm_next(peer, now);
	if (pair->initiator && pair == peer->current &&
		now - pair->created >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT)
		initiate(peer, false, now);
	if (n == 0)
		return;
	if (peer->passive_keepalive_at == WG_NEVER)
		set_timer(peer, &peer->passive_keepalive_at, now + KEEPALIVE_TIMEOUT);
	length = inner_length(plain, (size_t) n);
	if (length == 0)
		return;
	peer->stats.rx_packets++;
	peer->stats.rx_bytes += length;
	device->config.receive(device->config.arg, peer, plain, length);
}

void
wg_device_receive(WgDevice *device, WgPeer *from, const uint8_t *datagram, size_t n, int64_t now)
{
	WireWgMessage m;

	if (wire_wg_get(&m, datagram, n) != WIRE_OK)
		return;
	if (m.type == WIRE_WG_DATA)
		receive_data(device, &m, now);
	else if (m.type == WIRE_WG_COOKIE)
		receive_cookie(device, &m, now);
	else if (noise_check_mac1(&device->self, datagram, n) &&
			 admit(device, from, &m, datagram, n, now))
	{
		if (m.type == WIRE_WG_INITIATION)
			receive_initiation(device, &m, now);
		else
			receive_response(device, &m, now);
	}
}

static bool
due(int64_t *timer, int64_t now)
{
	if (*timer > now)
		return false;
	*timer = WG_NEVER;
	return true;
}

static void
peer_tick(WgPeer *peer, int64_t now)
{
	if (due(&peer->retransmit_at, now))
	{
		if (now - peer->attempts_since >= REKEY_ATTEMPT_TIME)
			queue_drop(peer); /* nobody there; the next packet starts over */
		else
			initiate(peer, true, now);
	}
	if (due(&peer->new_handshake_at, now))
		initiate(peer, false, now);
	if (due(&peer->passive_keepalive_at, now))
		wg_peer_send(peer, NULL, 0, now);
	if (due(&peer->persistent_at, now))
	{
		set_timer(peer, &peer->persistent_at, now + peer->keepalive);
		wg_peer_send(peer, NULL, 0, now);
	}
	if (due(&peer->zero_at, now))
		drop_keys(peer);
}

int64_t
wg_device_deadline(const WgDevice *device)
{
	return device->deadline;
}

int64_t
wg_device_tick(WgDevice *device, int64_t now)
{
	int64_t next = WG_NEVER;

	for (size_t i = 0; i < device->cap; i++)
		if (device->peers[i] != NULL)
			peer_tick(device->peers[i], now);
	for (size_t i = 0; i < device->cap; i++)
	{
		const WgPeer *peer = device->peers[i];

		if (peer == NULL)
			continue;
		next = min_time(next, min_time(peer->retransmit_at, peer->new_handshake_at));
		next = min_time(next, min_time(peer->passive_keepalive_at, peer->persistent_at));
		next = min_time(next, peer->zero_at);
	}
	device->deadline = next;
	return next;
}
