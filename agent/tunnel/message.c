/*
 * message.c -- nodes as the coordinator's messages have them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "tunnel/message.h"

static size_t
take_addresses(uint8_t (*out)[TUNNEL_ADDR_LEN], char *const *texts, size_t n)
{
	size_t taken = 0;

	for (size_t i = 0; i < n && taken < TUNNEL_ADDRESSES; i++)
		taken += tunnel_cidr_parse(out[taken], texts[i]);
	return taken;
}

bool
tunnel_node_of_message(TunnelNode *out, const Coder__Tailnet__V2__Node *node)
{
	memset(out, 0, sizeof(*out));
	if (!tunnel_node_key_parse(out->key, node->key.data, node->key.len) || !tunnel_disco_parse(out->disco, node->disco))
		return false;
	out->id = node->id;
	out->preferred_derp = node->preferred_derp;
	out->naddresses = take_addresses(out->addresses, node->addresses, node->n_addresses);
	out->nallowed = take_addresses(out->allowed_ips, node->allowed_ips, node->n_allowed_ips);
	out->endpoints = (const char *const *) node->endpoints;
	out->nendpoints = node->n_endpoints;
	return true;
}
