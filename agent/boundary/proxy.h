/*
 * proxy.h -- a boundary's proxy: every connection of the command ends here, and what is allowed goes on.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_PROXY_H
#define AGENT_BOUNDARY_PROXY_H

#include "boundary/ca.h"
#include "boundary/jail.h"
#include "boundary/rules.h"

typedef struct ProxyConfig
{
	const BoundaryRules *rules;
	Ca *ca;
	Jail *jail;
	bool real_dns; /* names are resolved outside */
	int signals; /* a signalfd */
} ProxyConfig;

/* Serves until the command has ended; its wait status. */
int proxy_run(const ProxyConfig *config);

/* names.c: addresses of 198.18.0.0/15 for names that were asked for; the last thousand are known. */
void names_address(const char *name, uint8_t address[static 4]);
/* The name behind an address, or the address as text. */
void names_of(const struct sockaddr_storage *address, char *text, size_t size);


#endif
