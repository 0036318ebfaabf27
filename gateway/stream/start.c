/*
 * start.c -- what the streams need before the loops run.
 *
 * SPDX-License-Identifier: MIT
 */
#include "derp.h"
#include "stream.h"

void
gw_stream_start(void)
{
	gw_derp_start();
}
