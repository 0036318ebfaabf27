/*
 * coord.h -- a tunnel's connection to the coordinator: the streams Coordinate
 * and StreamDERPMaps of the tailnet service on an RPC session.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_COORD_H
#define AGENT_COORD_H

#include "tailnet.pb-c.h"
#include "tunnel/tunnel.h"
#include "wire/rpc.h"

typedef struct Coord Coord;

typedef struct CoordConfig
{
	Tunnel *tunnel;
	const char *server_url; /* replaces host and port of embedded relays */
	bool is_agent;			/* answers NODE with ready_for_handshake */
	const uint8_t *destination; /* client: the agent's id, 16 bytes; NULL for an agent */
	void *arg;
	/* One of the two streams ended: the connection must be made anew.  Not after coord_free(). */
	void (*on_end)(void *arg, const char *reason);
	/*
	 * Answer to coord_ask_resume(): a token that gives a later connection this one's
	 * peer id until expires_at (seconds since 1970), and when to ask for the next.
	 * Not called where the server has none.
	 */
	void (*on_resume_token)(void *arg, const char *token, int64_t expires_at, int64_t refresh_ms);
} CoordConfig;

/* Opens both streams.  NULL where the session takes no more calls. */
Coord *coord_start(RpcSession *rpc, const CoordConfig *config);

/* To be called from the tunnel's node_changed. */
void coord_node_changed(Coord *coord, const TunnelNode *self);

/* Client: asks for a token to resume with. */
void coord_ask_resume(Coord *coord);

/* Graceful end: peers forget this one at once. */
void coord_disconnect(Coord *coord);

/* Call before rpc_free(). */
void coord_free(Coord *coord);

/* Applies a map from anywhere (manifest, stream) to the tunnel. */
void coord_set_derp_map(Tunnel *tunnel, const Coder__Tailnet__V2__DERPMap *map, const char *server_url);

#endif
