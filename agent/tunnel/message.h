/*
 * message.h -- nodes as the coordinator's messages have them.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_MESSAGE_H
#define TUNNEL_MESSAGE_H

#include "tailnet.pb-c.h"
#include "tunnel/tunnel.h"

/* A peer's node as the tunnel takes it; false where it is not usable.  Its endpoints are the message's. */
bool tunnel_node_of_message(TunnelNode *out, const Coder__Tailnet__V2__Node *node);

#endif
