/*
 * probe.h -- what a report of the network asks of relays and STUN servers.
 *
 * Both block the calling thread, for timeout_ms at most (and the resolver's own time),
 * and end early once *stop is true; stop may be NULL.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_PROBE_H
#define TUNNEL_PROBE_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ProbeTarget
{
	const char *host; /* a name or an address, without brackets */
	uint16_t port;
	bool tls;
	const char *ca_file; /* NULL: the system's roots */
	const char *headers; /* more lines of the request, or NULL */
} ProbeTarget;

/*
 * Two clients log in at a relay, and one sends a message that the other sends back:
 * {"can_exchange_messages", "round_trip_ns", "latency_ns", "ipv6", "uses_websocket",
 *  "client_logs": [[…], […]], "client_errs": [[…], […]]}, and "error" where it failed.
 */
json_t *probe_relay(const ProbeTarget *target, int timeout_ms, const atomic_bool *stop);

/* A binding request: {"can_stun", "latency_ns", "ipv6", "address"}, and "error" where it failed. */
json_t *probe_stun(const ProbeTarget *target, int timeout_ms, const atomic_bool *stop);

#endif
