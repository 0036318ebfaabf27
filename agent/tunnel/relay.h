/*
 * relay.h -- a DERP client: one connection to one relay, kept up by itself.
 *
 * TCP, or TLS by OpenSSL; HTTP upgrade, then frames.  Where something on the way
 * answers the upgrade with 4xx, and from then on, they go in a WebSocket.  A lost
 * connection is made anew, with pauses that grow to 5 s.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_RELAY_H
#define TUNNEL_RELAY_H

#include "loop.h"
#include "wire/derp.h"

typedef struct Relay Relay;

typedef struct RelayConfig
{
	int region;
	const char *host; /* strings are copied */
	const char *ip; /* instead of DNS, or NULL */
	const char *cert_name; /* instead of host, or NULL */
	const char *ca_file; /* NULL: the system's roots */
	const char *headers; /* more request lines, each with CRLF, or NULL */
	uint16_t port;
	bool tls;
	bool insecure;
	bool websocket; /* from the start */
	uint8_t private_key[WIRE_KEY_LEN];
	uint8_t public_key[WIRE_KEY_LEN];
	void *arg;

	/* Logged in; latency is the time from the request to the answer.  Both may not destroy the relay. */
	void (*up)(void *arg, Relay *relay, int64_t latency_ns);
	void (*down)(void *arg, Relay *relay, const char *reason);

	/* A packet; valid during the call. */
	void (*packet)(void *arg, Relay *relay, const uint8_t source[static WIRE_KEY_LEN],
				   const uint8_t *packet, size_t n);
} RelayConfig;

/* Starts to connect.  NULL when out of memory. */
Relay *relay_create(Loop *loop, const RelayConfig *config);
void relay_destroy(Relay *relay);
int relay_region(const Relay *relay);
bool relay_is_up(const Relay *relay);

/* Why it uses a WebSocket; NULL where it does not, or was told to. */
const char *relay_websocket_reason(const Relay *relay);

/* Queues a packet, also (up to 64 KiB) while the connection is on its way; dropped when the queue is full. */
void relay_send(Relay *relay, const uint8_t to[static WIRE_KEY_LEN], const uint8_t *packet,
				size_t n);

/* Tells the relay that it is the home, or no longer; repeated after a reconnect. */
void relay_set_home(Relay *relay, bool home);

/* Monotonic ns of the last relay_send; 0: never. */
int64_t relay_last_used(const Relay *relay);

#endif
