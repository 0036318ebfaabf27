/*
 * start.c -- what the streams need before the loops run.
 *
 * SPDX-License-Identifier: MIT
 */
#include "derp.h"
#include "mesh.h"
#include "stream.h"
#include "tunnel.h"

void
gw_stream_start(void)
{
	gw_derp_start();
	gw_replica_start();
}

void
gw_stream_stop(void)
{
	gw_tunnel_stop();
	gw_mesh_stop();
}
