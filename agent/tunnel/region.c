/*
 * region.c -- the regions of the DERP map: their relays, and which is home.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_RELAY (60 * WG_SECOND)
#define IDLE_CHECK_MS 15000
#define CHOOSE_MS 1000 /* after the first relay is up, others may still prove nearer */

static void on_relay_up(void *arg, Relay *relay, int64_t latency_ns);
static void on_relay_down(void *arg, Relay *relay, const char *reason);

Region *
tunnel_region(Tunnel *t, int id)
{
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].id == id)
			return &t->regions[i];
	return NULL;
}

/* The relay of a region, connected to if it is not yet.  NULL: no such region. */
Relay *
tunnel_region_relay(Tunnel *t, Region *region)
{
	const NoiseIdentity *self = wg_device_identity(t->wg);
	RelayConfig config = {.up = on_relay_up, .down = on_relay_down, .packet = tunnel_on_relay_packet};

	if (region == NULL || region->relay != NULL)
		return region == NULL ? NULL : region->relay;
	config.region = region->id;
	config.host = region->host;
	config.ip = region->ip;
	config.cert_name = region->cert_name;
	config.ca_file = t->config.tls_ca_file;
	config.headers = t->config.derp_headers;
	config.port = (uint16_t) region->port;
	config.tls = !region->force_http;
	config.insecure = region->insecure;
	config.websocket = t->config.force_websockets || region->websocket_reason[0] != '\0';
	config.arg = t;
	memcpy(config.private_key, self->private_key, WIRE_KEY_LEN);
	memcpy(config.public_key, self->public_key, WIRE_KEY_LEN);
	region->relay = relay_create(t->loop, &config);
	sodium_memzero(config.private_key, sizeof(config.private_key));
	return region->relay;
}

void
tunnel_send_to_peer(Tunnel *t, const Peer *peer, const uint8_t *datagram, size_t n)
{
	Relay *relay = tunnel_region_relay(t, tunnel_region(t, peer->region));

	if (relay != NULL)
		relay_send(relay, peer->key, datagram, n);
}

static void
log_line(const Tunnel *t, const char *what, int region, const char *detail)
{
	char line[256];

	if (t->config.log == NULL)
		return;
	snprintf(line, sizeof(line), "DERP region %d: %s%s", region, what, detail);
	t->config.log(t->config.arg, line);
}

/* The nearest region that is up becomes the home, unless the old one is nearly as near. */
static void
choose_home(Tunnel *t)
{
	Region *best = NULL;
	const Region *old = tunnel_region(t, t->home);

	for (size_t i = 0; i < t->nregions; i++)
	{
		Region *r = &t->regions[i];

		if (r->relay != NULL && relay_is_up(r->relay) &&
			(best == NULL || r->latency < best->latency))
			best = r;
	}
	if (best == NULL ||
		(old != NULL && old->relay != NULL && relay_is_up(old->relay) &&
		 (old->latency - best->latency < 10000000 || best->latency > old->latency / 3 * 2)))
		return;
	t->home = best->id;
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].relay != NULL)
			relay_set_home(t->regions[i].relay, &t->regions[i] == best);
	loop_timer_start(&t->node_timer, 0);
}

static void
on_choose_timer(void *arg)
{
	choose_home(arg);
}

static bool
all_answered(const Tunnel *t)
{
	for (size_t i = 0; i < t->nregions; i++)
		if (t->regions[i].latency < 0 && !t->regions[i].failed)
			return false;
	return true;
}

static void
on_relay_up(void *arg, Relay *relay, int64_t latency_ns)
{
	Tunnel *t = arg;
	Region *region = tunnel_region(t, relay_region(relay));

	if (region == NULL)
		return;
	region->latency = latency_ns;
	region->failed = false;
	log_line(t, "connected", region->id, "");
	if (t->home == 0 && all_answered(t))
		choose_home(t);
	else if (t->home == 0 && !loop_timer_running(&t->choose_timer))
		loop_timer_start(&t->choose_timer, CHOOSE_MS);
}

static void
on_relay_down(void *arg, Relay *relay, const char *reason)
{
	Tunnel *t = arg;
	Region *region = tunnel_region(t, relay_region(relay));

	if (region == NULL)
		return;
	region->failed = true;
	log_line(t, "", region->id, reason);
	if (relay_websocket_reason(relay) != NULL && region->websocket_reason[0] == '\0')
	{
		snprintf(region->websocket_reason, sizeof(region->websocket_reason), "%s", relay_websocket_reason(relay));
		loop_timer_start(&t->node_timer, 0);
	}
	if (t->home == 0 && all_answered(t))
		choose_home(t);
}

/* Connections to regions where only peers live end when unused. */
static void
on_idle_timer(void *arg)
{
	Tunnel *t = arg;

	for (size_t i = 0; i < t->nregions; i++)
	{
		Region *r = &t->regions[i];

		if (r->relay != NULL && t->home != 0 && r->id != t->home &&
			loop_now(t->loop) - relay_last_used(r->relay) > IDLE_RELAY)
		{
			relay_destroy(r->relay);
			r->relay = NULL;
		}
	}
	if (t->home == 0)
		choose_home(t);
	if (t->nregions > 1 || t->home == 0)
		loop_timer_start(&t->idle_timer, IDLE_CHECK_MS);
}

static void
region_free(Region *region)
{
	relay_destroy(region->relay);
	free(region->host);
	free(region->ip);
	free(region->cert_name);
	*region = (Region){0};
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

/* Fills region from the first node of a region that relays; false if there is none. */
static bool
region_init(Region *region, const TunnelDerpRegion *from)
{
	for (size_t i = 0; i < from->nnodes; i++)
	{
		const TunnelDerpNode *node = &from->nodes[i];

		if (node->stun_only || node->host == NULL)
			continue;
		*region = (Region){.id = from->id,
						   .port = node->port == 0 ? 443 : node->port,
						   .force_http = node->force_http,
						   .insecure = node->insecure,
						   .latency = -1};
		region->host = strdup(node->host);
		region->ip = node->ip == NULL ? NULL : strdup(node->ip);
		region->cert_name = node->cert_name == NULL ? NULL : strdup(node->cert_name);
		return region->host != NULL;
	}
	return false;
}

static bool
region_same(const Region *a, const Region *b)
{
	return a->port == b->port && a->force_http == b->force_http && a->insecure == b->insecure &&
		   same_text(a->host, b->host) && same_text(a->ip, b->ip) &&
		   same_text(a->cert_name, b->cert_name);
}

void
tunnel_set_derp_map(Tunnel *t, const TunnelDerpMap *map)
{
	Region old[MAX_REGIONS];
	size_t nold = t->nregions;

	memcpy(old, t->regions, sizeof(old));
	memset(t->regions, 0, sizeof(t->regions));
	t->nregions = 0;
	for (size_t i = 0; i < map->nregions && t->nregions < MAX_REGIONS; i++)
	{
		Region *region = &t->regions[t->nregions];

		if (!region_init(region, &map->regions[i]))
			continue;
		t->nregions++;
		for (size_t j = 0; j < nold; j++)
			if (old[j].id == region->id && region_same(&old[j], region))
			{
				region->relay = old[j].relay;
				region->latency = old[j].latency;
				memcpy(region->websocket_reason, old[j].websocket_reason, sizeof(region->websocket_reason));
				old[j].relay = NULL;
			}
	}
	for (size_t j = 0; j < nold; j++)
		region_free(&old[j]);
	if (tunnel_region(t, t->home) == NULL)
		t->home = 0;
	for (size_t i = 0; i < t->nregions; i++)
		if (t->home == 0 || t->regions[i].id == t->home)
			tunnel_region_relay(t, &t->regions[i]);
	loop_timer_start(&t->idle_timer, IDLE_CHECK_MS);
}

void
tunnel_regions_init(Tunnel *t)
{
	loop_timer_init(&t->choose_timer, t->loop, on_choose_timer, t);
	loop_timer_init(&t->idle_timer, t->loop, on_idle_timer, t);
}

void
tunnel_regions_free(Tunnel *t)
{
	for (size_t i = 0; i < t->nregions; i++)
		region_free(&t->regions[i]);
	loop_timer_stop(&t->choose_timer);
	loop_timer_stop(&t->idle_timer);
}
