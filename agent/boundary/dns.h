/*
 * dns.h -- what a boundary answers to questions for names.
 *
 * No question leaves the boundary.  Every name has an address of 198.18.0.0/15
 * (for tests of networks, routed nowhere), which leads to the proxy and tells it
 * the name again; other types have no records.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_DNS_H
#define AGENT_BOUNDARY_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_MAX 512
#define DNS_NAME_MAX 254

typedef struct DnsQuestion
{
	char name[DNS_NAME_MAX]; /* in lower case, without the last dot */
	uint16_t type;
	size_t size; /* of header and question */
} DnsQuestion;

enum
{
	DNS_TYPE_A = 1,
	DNS_TYPE_AAAA = 28
};

/* False where nothing can be answered. */
bool dns_question(DnsQuestion *question, const uint8_t *data, size_t size);

/* An answer with an address (4 bytes, network order) or, where that is NULL, with none; its size. */
size_t dns_answer(uint8_t out[static DNS_MAX], const uint8_t *data, const DnsQuestion *question, const uint8_t *address);

#endif
