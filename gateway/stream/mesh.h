/*
 * mesh.h -- the gateways of one database as one tailnet.
 *
 * Each gateway with a relay URL dials every other and tells it of its own peers
 * (coordinator.h) and of the keys that its relay reaches (derp.h); packets for
 * such a key go the other way's link.  A link that breaks takes with it all that
 * it told, and tells all again when it is back.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_MESH_H
#define STREAM_MESH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "meshframe.h"

/* Begins to tell the database of this gateway, and to look for others.  Before the loops run. */
void gw_replica_start(void);

/* This gateway's id in coder.replicas, as text. */
const char *gw_replica_id(void);

/* The others: [{"id", "hostname", "url", "token"}].  Takes the reference; any thread. */
void gw_mesh_neighbours(json_t *list);

/* Ends all links.  After the loops. */
void gw_mesh_stop(void);

/* A packet for a key that is not here; false: it is nowhere else, or the way there is not open.  Any thread. */
bool gw_mesh_forward(const uint8_t source[static MESH_KEY_SIZE], const uint8_t key[static MESH_KEY_SIZE],
					 const uint8_t *data, size_t size);

/* Keys that other relays have told of, and how many relays tell. */
void gw_mesh_stats(int *keys, int *relays);

#endif
