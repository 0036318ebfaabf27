/*
 * dns.c -- questions for names, and answers.  No I/O.
 *
 *	 0    2       4         6         8         10        12
 *	+----+-------+---------+---------+---------+---------+------------------------------+------+-------+
 *	| id | flags | 1       | answers | 0       | records | name: n, n bytes, ... 0      | type | class |
 *	+----+-------+---------+---------+---------+---------+------------------------------+------+-------+
 *
 * SPDX-License-Identifier: MIT
 */
#include "boundary/dns.h"

#include <ctype.h>
#include <string.h>

#define HEADER 12
#define TTL 60

static uint16_t
u16(const uint8_t *p)
{
	return (uint16_t) (p[0] << 8 | p[1]);
}

bool
dns_question(DnsQuestion *question, const uint8_t *data, size_t size)
{
	size_t at = HEADER, n = 0;

	/* A standard query with one question. */
	if (size < HEADER || size > DNS_MAX || (data[2] & 0xf8) != 0 || u16(data + 4) != 1 || u16(data + 6) != 0)
		return false;
	for (;;)
	{
		size_t len = at < size ? data[at] : 64;

		if (len > 63 || at + 1 + len >= size || n + len + 1 >= DNS_NAME_MAX)
			return false;
		at++;
		if (len == 0)
			break;
		for (size_t i = 0; i < len; i++)
		{
			uint8_t c = data[at + i];

			question->name[n++] = c > 0x20 && c < 0x7f && c != '.' ? (char) tolower(c) : '?';
		}
		question->name[n++] = '.';
		at += len;
	}
	question->name[n > 0 ? n - 1 : 0] = '\0';
	if (size - at < 4)
		return false;
	question->type = u16(data + at);
	question->size = at + 4;
	return u16(data + at + 2) == 1;
}

size_t
dns_answer(uint8_t out[static DNS_MAX], const uint8_t *data, const DnsQuestion *question, const uint8_t *address)
{
	static const uint8_t record[] = {0xc0, HEADER, 0, DNS_TYPE_A, 0, 1, 0, 0, 0, TTL, 0, 4};
	size_t size = question->size;
	bool fits = address != NULL && size + sizeof(record) + 4 <= DNS_MAX;

	memcpy(out, data, size);
	out[2] = (uint8_t) (0x80 | (data[2] & 1)); /* an answer */
	out[3] = 0x80; /* recursion is available, no error */
	memset(out + 6, 0, 6);
	if (!fits)
		return size;
	out[7] = 1;
	memcpy(out + size, record, sizeof(record));
	memcpy(out + size + sizeof(record), address, 4);
	return size + sizeof(record) + 4;
}
