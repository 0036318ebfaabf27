/*
 * peer.h -- WireGuard's sessions: peers, keypairs, replay windows, timers.
 *
 * A WgDevice is one identity with its peers.  It does no I/O and reads no
 * clock: the owner brings datagrams, packets and the time (monotonic ns), and
 * calls wg_device_tick when the time that it answered has come.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_PEER_H
#define TUNNEL_PEER_H

#include "tunnel/noise.h"

#define WG_SECOND INT64_C(1000000000)
#define WG_NEVER INT64_MAX
#define WG_MAX_PEERS 65536
#define WG_MAX_QUEUE 128 /* packets that wait for a session */
#define WG_MAX_PACKET 1504
#define WG_WINDOW_WORDS 128 /* of 64 bits: the replay window */

typedef struct WgDevice WgDevice;
typedef struct WgPeer WgPeer;

/* Counters seen: those at most WG_WINDOW_WORDS * 64 - 64 behind the highest can still be new. */
typedef struct WgWindow
{
	uint64_t next; /* highest seen plus one */
	uint64_t bits[WG_WINDOW_WORDS];
} WgWindow;

/* True if counter is new, and notes it.  Only for packets whose tag was right. */
bool wg_window_accept(WgWindow *window, uint64_t counter);

typedef struct WgStats
{
	uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets;
	int64_t last_handshake; /* monotonic ns; 0: never */
} WgStats;

typedef struct WgConfig
{
	uint8_t private_key[NOISE_KEY_LEN];
	void *arg;

	/* A datagram for peer. */
	void (*send)(void *arg, WgPeer *peer, const uint8_t *datagram, size_t n);

	/* A packet that came out of peer's tunnel; never empty. */
	void (*receive)(void *arg, WgPeer *peer, const uint8_t *packet, size_t n);

	/* Wall clock for the timestamps of initiations; NULL: the system's. */
	int64_t (*unix_ns)(void);

	/* A handshake completed.  May be NULL. */
	void (*up)(void *arg, WgPeer *peer);
} WgConfig;

WgDevice *wg_device_create(const WgConfig *config, int64_t now);
void wg_device_destroy(WgDevice *device);
const NoiseIdentity *wg_device_identity(const WgDevice *device);

/* NULL when there are too many, or the key is unusable.  owner is the caller's. */
WgPeer *wg_peer_add(WgDevice *device, const uint8_t public_key[static NOISE_KEY_LEN], void *owner);
void wg_peer_remove(WgPeer *peer);
void *wg_peer_owner(const WgPeer *peer);
const WgStats *wg_peer_stats(const WgPeer *peer);

/* seconds 0: off.  Turning it on sends a packet at once, and so starts a handshake. */
void wg_peer_keepalive(WgPeer *peer, int seconds, int64_t now);

/* Sends a packet into peer's tunnel; it waits if there is no session yet. */
void wg_peer_send(WgPeer *peer, const uint8_t *packet, size_t n, int64_t now);

/*
 * A datagram that came in.  source is what cookies are bound to.  from is the
 * peer of that path for replies (cookie) to messages nobody is known for.
 */
void wg_device_receive(WgDevice *device, WgPeer *from, const uint8_t *datagram, size_t n,
					   int64_t now);

/* Does what is due; answers when to call again at the latest (WG_NEVER: nothing runs). */
int64_t wg_device_tick(WgDevice *device, int64_t now);
int64_t wg_device_deadline(const WgDevice *device);

#endif
