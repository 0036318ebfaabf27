/*
 * origin.c -- whose word counts about where a client is: the proxies in front of this server.
 *
 * SPDX-License-Identifier: MIT
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "origin.h"

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool
is_v4(const uint8_t address[16])
{
	return memcmp(address, v4_prefix, sizeof(v4_prefix)) == 0;
}

/* An address in any of its forms, to 16 bytes. */
static bool
parse_address(const char *text, uint8_t address[16])
{
	memcpy(address, v4_prefix, sizeof(v4_prefix));
	return inet_pton(AF_INET, text, address + sizeof(v4_prefix)) == 1 ||
		   inet_pton(AF_INET6, text, address) == 1;
}

static bool
parse_net(const char *text, GwNet *net)
{
	char copy[64];
	char *slash;
	char *end = NULL;
	long bits;
	bool v4;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	slash = strchr(copy, '/');
	if (slash != NULL)
		*slash = '\0';
	if (!parse_address(copy, net->address))
		return false;
	v4 = strchr(copy, ':') == NULL;
	bits = slash != NULL ? strtol(slash + 1, &end, 10) : v4 ? 32 : 128;
	if (slash != NULL && (slash[1] < '0' || slash[1] > '9' || *end != '\0'))
		return false;
	if (bits < 0 || bits > (v4 ? 32 : 128))
		return false;
	net->bits = (int) bits + (v4 ? 96 : 0);
	return true;
}

bool
gw_origins_parse(GwOrigins *origins, const char *text)
{
	char word[64];

	origins->n = 0;
	for (const char *p = text != NULL ? text : ""; *(p += strspn(p, ", ")) != '\0';)
	{
		size_t len = strcspn(p, ", ");

		if (len >= sizeof(word) || origins->n == GW_ORIGINS_MAX)
			return false;
		memcpy(word, p, len);
		word[len] = '\0';
		if (!parse_net(word, &origins->nets[origins->n]))
			return false;
		origins->n++;
		p += len;
	}
	return true;
}

static bool
is_inside(const GwNet *net, const uint8_t address[16])
{
	int bytes = net->bits / 8;
	int rest = net->bits % 8;

	return memcmp(net->address, address, (size_t) bytes) == 0 &&
		   (rest == 0 || (net->address[bytes] ^ address[bytes]) >> (8 - rest) == 0);
}

static bool
is_trusted(const GwOrigins *origins, const uint8_t address[16])
{
	for (int i = 0; i < origins->n; i++)
		if (is_inside(&origins->nets[i], address))
			return true;
	return false;
}

bool
gw_origins_contain(const GwOrigins *origins, const char *address)
{
	uint8_t bytes[16];

	return origins->n > 0 && parse_address(address, bytes) && is_trusted(origins, bytes);
}

/* "1.2.3.4", "1.2.3.4:5", "::1", "[::1]:5", with blanks around, to 16 bytes. */
static bool
parse_hop(const char *p, size_t len, uint8_t address[16])
{
	char text[64];
	char *colon;

	while (len > 0 && (*p == ' ' || *p == '\t'))
		p++, len--;
	while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	if (len == 0 || len >= sizeof(text) || memchr(p, '\0', len) != NULL)
		return false;
	memcpy(text, p, len);
	text[len] = '\0';
	if (text[0] == '[')
	{
		char *close = strchr(text, ']');

		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
			return false;
		*close = '\0';
		return parse_address(text + 1, address);
	}
	colon = strchr(text, ':');
	if (colon != NULL && strchr(colon + 1, ':') == NULL)
		*colon = '\0';
	return parse_address(text, address);
}

bool
gw_origins_client(const GwOrigins *origins, const char *value, size_t len,
				  char client[GW_ADDRESS_MAX])
{
	uint8_t address[16];

	for (size_t end = len;;)
	{
		size_t begin = end;

		while (begin > 0 && value[begin - 1] != ',')
			begin--;
		if (!parse_hop(value + begin, end - begin, address))
			return false;
		/* The first one stands where all are proxies. */
		if (begin == 0 || !is_trusted(origins, address))
			break;
		end = begin - 1;
	}
	return inet_ntop(is_v4(address) ? AF_INET : AF_INET6,
					 is_v4(address) ? address + sizeof(v4_prefix) : address,
					 client,
					 GW_ADDRESS_MAX) != NULL;
}
