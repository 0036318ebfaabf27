/*
 * cc.h -- what lwIP asks of compiler and platform.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef TUNNEL_LWIP_CC_H
#define TUNNEL_LWIP_CC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

uint32_t netstack_random(void);

#define LWIP_RAND() netstack_random()
#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_PLATFORM_DIAG(x) ((void) 0)
#define LWIP_PLATFORM_ASSERT(x) abort()

#endif
