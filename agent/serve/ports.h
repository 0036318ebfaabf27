/*
 * ports.h -- listening TCP ports, from the text of /proc/net/tcp.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_SERVE_PORTS_H
#define AGENT_SERVE_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORTS_MAX 512
#define PORTS_LOWEST 9 /* lower ones are services of agents, or reserved */

typedef struct ListeningPort
{
	uint16_t port;
	uint64_t inode; /* of the socket: finds its process */
} ListeningPort;

/* One line; false where it is no listening socket (or the heading, or damaged). */
bool ports_parse_line(const char *line, ListeningPort *port);

/* Lines of text, each port once, in order; at most cap. */
size_t ports_parse(const char *text, ListeningPort *ports, size_t cap);

#endif
