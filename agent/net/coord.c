/*
 * coord.c -- a tunnel's connection to the coordinator.
 *
 * SPDX-License-Identifier: MIT
 */
#include "net/coord.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/net.h"
#include "tunnel/message.h"

#define MAX_REGIONS 64
#define MAX_NODES 16

struct Coord
{
	RpcSession *rpc;
	CoordConfig config;
	RpcCall *coordinate;
	RpcCall *maps;
	RpcCall *resume;
	bool ended;
};

static void
end(Coord *coord, const char *reason)
{
	if (coord->ended)
		return;
	coord->ended = true;
	coord->config.on_end(coord->config.arg, reason);
}

static void
send_request(Coord *coord, const Coder__Tailnet__V2__CoordinateRequest *request)
{
	size_t size = coder__tailnet__v2__coordinate_request__get_packed_size(request);
	uint8_t *data = malloc(size + 1);

	if (data == NULL || coord->coordinate == NULL)
	{
		free(data);
		return;
	}
	coder__tailnet__v2__coordinate_request__pack(request, data);
	rpc_send(coord->coordinate, data, size);
	free(data);
}

void
coord_node_changed(Coord *coord, const TunnelNode *self)
{
	Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__UpdateSelf update = CODER__TAILNET__V2__COORDINATE_REQUEST__UPDATE_SELF__INIT;
	Coder__Tailnet__V2__Node node = CODER__TAILNET__V2__NODE__INIT;
	Google__Protobuf__Timestamp as_of = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Coder__Tailnet__V2__Node__DerpLatencyEntry latency[TUNNEL_LATENCIES];
	Coder__Tailnet__V2__Node__DerpLatencyEntry *latencies[TUNNEL_LATENCIES];
	Coder__Tailnet__V2__Node__DerpForcedWebsocketEntry forced = CODER__TAILNET__V2__NODE__DERP_FORCED_WEBSOCKET_ENTRY__INIT;
	Coder__Tailnet__V2__Node__DerpForcedWebsocketEntry *forced_list[1] = {&forced};
	uint8_t key[TUNNEL_NODE_KEY_LEN];
	char disco[TUNNEL_DISCO_TEXT];
	char text[2 * TUNNEL_ADDRESSES][64];
	char *addresses[TUNNEL_ADDRESSES];
	char *allowed[TUNNEL_ADDRESSES];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	as_of.seconds = now.tv_sec;
	as_of.nanos = (int32_t) now.tv_nsec;
	tunnel_node_key_put(key, self->key);
	tunnel_disco_text(disco, self->disco);
	node.id = self->id;
	node.as_of = &as_of;
	node.key.data = key;
	node.key.len = sizeof(key);
	node.disco = disco;
	node.preferred_derp = self->preferred_derp;
	for (size_t i = 0; i < self->nlatencies; i++)
	{
		coder__tailnet__v2__node__derp_latency_entry__init(&latency[i]);
		latency[i].key = (char *) self->latencies[i].name;
		latency[i].value = self->latencies[i].seconds;
		latencies[i] = &latency[i];
	}
	node.n_derp_latency = self->nlatencies;
	node.derp_latency = latencies;
	if (self->forced_websocket_region != 0)
	{
		forced.key = self->forced_websocket_region;
		forced.value = (char *) self->forced_websocket_reason;
		node.n_derp_forced_websocket = 1;
		node.derp_forced_websocket = forced_list;
	}
	for (size_t i = 0; i < self->naddresses; i++)
	{
		tunnel_cidr_text(text[i], self->addresses[i]);
		addresses[i] = text[i];
	}
	for (size_t i = 0; i < self->nallowed; i++)
	{
		tunnel_cidr_text(text[TUNNEL_ADDRESSES + i], self->allowed_ips[i]);
		allowed[i] = text[TUNNEL_ADDRESSES + i];
	}
	node.n_addresses = self->naddresses;
	node.addresses = addresses;
	node.n_allowed_ips = self->nallowed;
	node.allowed_ips = allowed;
	node.n_endpoints = self->nendpoints;
	node.endpoints = (char **) (uintptr_t) self->endpoints;
	update.node = &node;
	request.update_self = &update;
	send_request(coord, &request);
}

static void
send_ready(Coord *coord, const uint8_t *peer)
{
	Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__ReadyForHandshake ready = CODER__TAILNET__V2__COORDINATE_REQUEST__READY_FOR_HANDSHAKE__INIT;
	Coder__Tailnet__V2__CoordinateRequest__ReadyForHandshake *list[1] = {&ready};

	ready.id.data = (uint8_t *) (uintptr_t) peer;
	ready.id.len = TUNNEL_ID_LEN;
	request.n_ready_for_handshake = 1;
	request.ready_for_handshake = list;
	send_request(coord, &request);
}

static void
on_peer_update(Coord *coord, const Coder__Tailnet__V2__CoordinateResponse__PeerUpdate *update)
{
	TunnelNode node;

	if (update->id.len != TUNNEL_ID_LEN)
		return;
	if ((int) update->kind == TUNNEL_PEER_NODE)
	{
		if (update->node == NULL || !tunnel_node_of_message(&node, update->node))
			return;
		tunnel_peer_update(coord->config.tunnel, update->id.data, TUNNEL_PEER_NODE, &node);
		if (coord->config.is_agent)
			send_ready(coord, update->id.data);
	}
	else if ((int) update->kind >= TUNNEL_PEER_DISCONNECTED && (int) update->kind <= TUNNEL_PEER_READY_FOR_HANDSHAKE)
		tunnel_peer_update(coord->config.tunnel, update->id.data, (TunnelPeerKind) update->kind, NULL);
}

static void
on_coordinate_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Coord *coord = user;
	Coder__Tailnet__V2__CoordinateResponse *response = coder__tailnet__v2__coordinate_response__unpack(NULL, size, data);

	(void) call;
	if (response == NULL)
	{
		end(coord, "the coordinator sent a message that cannot be read");
		return;
	}
	for (size_t i = 0; i < response->n_peer_updates; i++)
		on_peer_update(coord, response->peer_updates[i]);
	if (response->error[0] != '\0' && strncmp(response->error, "ready for handshake", 19) != 0)
		end(coord, response->error);
	coder__tailnet__v2__coordinate_response__free_unpacked(response, NULL);
}

static void
on_coordinate_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Coord *coord = user;

	(void) call;
	(void) code;
	coord->coordinate = NULL;
	end(coord, error ? error : "the coordinator closed the stream");
}

static void
fill_node(TunnelDerpNode *to, const Coder__Tailnet__V2__DERPMap__Region__Node *from, bool embedded, const NetUrl *server)
{
	to->host = from->host_name;
	to->ip = from->ipv4;
	to->cert_name = from->cert_name;
	to->port = from->derp_port;
	to->stun_only = from->stun_only;
	to->force_http = from->force_http;
	to->insecure = from->insecure_for_tests;
	if (embedded && !from->stun_only && server->port != 0)
	{
		to->host = server->host;
		to->ip = NULL;
		to->port = server->port;
		to->force_http = !server->tls;
	}
}

void
coord_set_derp_map(Tunnel *tunnel, const Coder__Tailnet__V2__DERPMap *map, const char *server_url)
{
	TunnelDerpRegion regions[MAX_REGIONS];
	static TunnelDerpNode nodes[MAX_REGIONS][MAX_NODES];
	TunnelDerpMap out = {regions, 0};
	NetUrl server;

	if (!net_url_parse(&server, server_url))
		memset(&server, 0, sizeof(server));
	for (size_t i = 0; i < map->n_regions && out.nregions < MAX_REGIONS; i++)
	{
		const Coder__Tailnet__V2__DERPMap__Region *from = map->regions[i]->value;
		TunnelDerpRegion *to = &regions[out.nregions];

		if (from == NULL)
			continue;
		to->id = (int) from->region_id;
		to->embedded = from->embedded_relay;
		to->avoid = from->avoid;
		to->nodes = nodes[out.nregions];
		to->nnodes = from->n_nodes < MAX_NODES ? from->n_nodes : MAX_NODES;
		for (size_t n = 0; n < to->nnodes; n++)
			fill_node(&nodes[out.nregions][n], from->nodes[n], from->embedded_relay, &server);
		out.nregions++;
	}
	tunnel_set_derp_map(tunnel, &out);
}

static void
on_map_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Coord *coord = user;
	Coder__Tailnet__V2__DERPMap *map = coder__tailnet__v2__derpmap__unpack(NULL, size, data);

	(void) call;
	if (map == NULL)
		return;
	coord_set_derp_map(coord->config.tunnel, map, coord->config.server_url);
	coder__tailnet__v2__derpmap__free_unpacked(map, NULL);
}

static void
on_map_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Coord *coord = user;

	(void) call;
	(void) code;
	coord->maps = NULL;
	end(coord, error ? error : "the stream of relay maps ended");
}

static void
on_resume_message(void *user, RpcCall *call, const uint8_t *data, size_t size)
{
	Coord *coord = user;
	Coder__Tailnet__V2__RefreshResumeTokenResponse *response =
		coder__tailnet__v2__refresh_resume_token_response__unpack(NULL, size, data);
	int64_t refresh_ms = 0;

	(void) call;
	if (response == NULL)
		return;
	if (response->refresh_in != NULL && response->refresh_in->seconds < INT32_MAX)
		refresh_ms = response->refresh_in->seconds * 1000 + response->refresh_in->nanos / 1000000;
	if (response->token[0] != '\0' && response->expires_at != NULL)
		coord->config.on_resume_token(coord->config.arg, response->token, response->expires_at->seconds, refresh_ms);
	coder__tailnet__v2__refresh_resume_token_response__free_unpacked(response, NULL);
}

/* An error, too: servers may have no tokens. */
static void
on_resume_end(void *user, RpcCall *call, uint64_t code, const char *error)
{
	Coord *coord = user;

	(void) call;
	(void) code;
	(void) error;
	coord->resume = NULL;
}

static const RpcHandlers resume_handlers = {on_resume_message, on_resume_end, NULL};

void
coord_ask_resume(Coord *coord)
{
	if (coord->resume == NULL && coord->config.on_resume_token != NULL)
		coord->resume = rpc_call_unary(coord->rpc, "/coder.tailnet.v2.Tailnet/RefreshResumeToken", NULL, 0, &resume_handlers, coord);
}

static const RpcHandlers coordinate_handlers = {on_coordinate_message, on_coordinate_end, NULL};
static const RpcHandlers map_handlers = {on_map_message, on_map_end, NULL};

Coord *
coord_start(RpcSession *rpc, const CoordConfig *config)
{
	Coord *coord = calloc(1, sizeof(*coord));
	TunnelNode self;

	if (coord == NULL)
		return NULL;
	coord->rpc = rpc;
	coord->config = *config;
	coord->coordinate = rpc_call(rpc, "/coder.tailnet.v2.Tailnet/Coordinate", &coordinate_handlers, coord);
	coord->maps = rpc_call_unary(rpc, "/coder.tailnet.v2.Tailnet/StreamDERPMaps", NULL, 0, &map_handlers, coord);
	if (coord->coordinate == NULL || coord->maps == NULL)
	{
		coord_free(coord);
		return NULL;
	}
	if (config->destination != NULL)
	{
		Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
		Coder__Tailnet__V2__CoordinateRequest__Tunnel tunnel = CODER__TAILNET__V2__COORDINATE_REQUEST__TUNNEL__INIT;

		tunnel.id.data = (uint8_t *) (uintptr_t) config->destination;
		tunnel.id.len = TUNNEL_ID_LEN;
		request.add_tunnel = &tunnel;
		send_request(coord, &request);
	}
	if (tunnel_self(config->tunnel, &self))
		coord_node_changed(coord, &self);
	return coord;
}

void
coord_disconnect(Coord *coord)
{
	Coder__Tailnet__V2__CoordinateRequest request = CODER__TAILNET__V2__COORDINATE_REQUEST__INIT;
	Coder__Tailnet__V2__CoordinateRequest__Disconnect disconnect = CODER__TAILNET__V2__COORDINATE_REQUEST__DISCONNECT__INIT;

	coord->ended = true; /* what ends now was asked for */
	request.disconnect = &disconnect;
	send_request(coord, &request);
}

void
coord_free(Coord *coord)
{
	if (coord == NULL)
		return;
	coord->ended = true;
	if (coord->coordinate != NULL)
		rpc_cancel(coord->coordinate);
	if (coord->maps != NULL)
		rpc_cancel(coord->maps);
	if (coord->resume != NULL)
		rpc_cancel(coord->resume);
	free(coord);
}
