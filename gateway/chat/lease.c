/*
 * lease.c -- what was told lately of chats that were taken.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <string.h>

#include "lease.h"

#define KEPT 256

static Lease leases[KEPT];
static unsigned n_leases; /* ever; the slot is its remainder */

static Lease *
find(const char *chat, const char *began)
{
	unsigned have = n_leases < KEPT ? n_leases : KEPT;

	for (unsigned i = 1; i <= have; i++)
	{
		Lease *lease = &leases[(n_leases - i) % KEPT];

		if (strcmp(lease->chat, chat) == 0)
			return began == NULL || strcmp(lease->began, began) == 0 ? lease : NULL;
	}
	return NULL;
}

const Lease *
lease_find(const char *chat, const char *began)
{
	return find(chat, began);
}

void
lease_told(const char *chat, const char *status)
{
	Lease *lease;

	if (strncmp(status, "running ", 8) != 0)
	{
		lease = find(chat, NULL);
		if (lease != NULL)
			snprintf(lease->since, sizeof(lease->since), "%s", status);
		return;
	}
	lease = &leases[n_leases++ % KEPT];
	snprintf(lease->chat, sizeof(lease->chat), "%s", chat);
	snprintf(lease->began, sizeof(lease->began), "%s", status + 8);
	lease->since[0] = '\0';
}
