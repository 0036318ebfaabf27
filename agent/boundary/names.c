/*
 * names.c -- which name an address of a boundary's stands for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "boundary/dns.h"
#include "boundary/proxy.h"

#define NAMES 1024
#define NET_A 198
#define NET_B 18

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char names[NAMES][DNS_NAME_MAX];
static unsigned int next;

void
names_address(const char *name, uint8_t address[static 4])
{
	unsigned int at = 0;

	pthread_mutex_lock(&lock);
	while (at < NAMES && strcmp(names[at], name) != 0)
		at++;
	if (at == NAMES)
	{
		at = next++ % NAMES;
		snprintf(names[at], sizeof(names[at]), "%s", name);
	}
	pthread_mutex_unlock(&lock);
	/* .0.1 to .4.0: no address of a whole network. */
	address[0] = NET_A;
	address[1] = NET_B;
	address[2] = (uint8_t) ((at + 1) >> 8);
	address[3] = (uint8_t) (at + 1);
}

void
names_of(const struct sockaddr_storage *address, char *text, size_t size)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *) address;
	uint32_t ip = address->ss_family == AF_INET ? ntohl(a4->sin_addr.s_addr) : 0;
	unsigned int at = (ip & 0xffff) - 1;

	*text = '\0';
	if (ip >> 16 == (NET_A << 8 | NET_B) && at < NAMES)
	{
		pthread_mutex_lock(&lock);
		snprintf(text, size, "%s", names[at]);
		pthread_mutex_unlock(&lock);
	}
	if (*text == '\0')
		inet_ntop(address->ss_family,
				  address->ss_family == AF_INET ? (const void *) &a4->sin_addr : (const void *) &((const struct sockaddr_in6 *) address)->sin6_addr,
				  text,
				  (socklen_t) size);
}
