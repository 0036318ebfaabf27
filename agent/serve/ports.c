/*
 * ports.c -- listening TCP ports, from the text of /proc/net/tcp:
 *
 *	  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
 *	   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   114        0 21034 ...
 *
 * SPDX-License-Identifier: MIT
 */
#include "serve/ports.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STATE_LISTEN 0x0a

bool
ports_parse_line(const char *line, ListeningPort *port)
{
	unsigned int number;
	unsigned int state;
	uint64_t inode;

	if (sscanf(line,
			   " %*u: %*32[0-9A-Fa-f]:%4x %*32[0-9A-Fa-f]:%*4x %2x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64,
			   &number,
			   &state,
			   &inode) != 3)
		return false;
	if (state != STATE_LISTEN || number < PORTS_LOWEST)
		return false;
	port->port = (uint16_t) number;
	port->inode = inode;
	return true;
}

/* Keeps ports in order and each once. */
static size_t
insert(ListeningPort *ports, size_t n, size_t cap, const ListeningPort *port)
{
	size_t at = 0;

	while (at < n && ports[at].port < port->port)
		at++;
	if ((at < n && ports[at].port == port->port) || n == cap)
		return n;
	memmove(ports + at + 1, ports + at, (n - at) * sizeof(*ports));
	ports[at] = *port;
	return n + 1;
}

size_t
ports_parse(const char *text, ListeningPort *ports, size_t cap)
{
	size_t n = 0;

	while (text != NULL && *text != '\0')
	{
		const char *end = strchr(text, '\n');
		char line[256];
		ListeningPort port;

		snprintf(line, sizeof(line), "%.*s", (int) (end != NULL ? (size_t) (end - text) : strnlen(text, sizeof(line) - 1)), text);
		if (ports_parse_line(line, &port))
			n = insert(ports, n, cap, &port);
		text = end != NULL ? end + 1 : NULL;
	}
	return n;
}
