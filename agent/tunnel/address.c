/*
 * address.c -- ids, keys and addresses of the tailnet, and their text.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tunnel/tunnel.h"

#include "wire/wire.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

void
tunnel_address(uint8_t address[TUNNEL_ADDR_LEN], const uint8_t id[TUNNEL_ID_LEN], bool coder)
{
	static const uint8_t prefixes[2][6] = {{0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0},
										   {0xfd, 0x60, 0x62, 0x7a, 0xa4, 0x2b}};

	memcpy(address, id, TUNNEL_ADDR_LEN);
	memcpy(address, prefixes[coder ? 1 : 0], 6);
}

int64_t
tunnel_node_id(const uint8_t agent[TUNNEL_ID_LEN])
{
	uint64_t id = wire_get64be(agent + 8);

	/* The absolute value of it as a signed number; the smallest stays as it is. */
	return (int64_t) (id >> 63 != 0 ? 0 - id : id);
}

void
tunnel_random_id(uint8_t id[TUNNEL_ID_LEN])
{
	randombytes_buf(id, TUNNEL_ID_LEN);
	id[6] = (uint8_t) ((id[6] & 0x0f) | 0x40);
	id[8] = (uint8_t) ((id[8] & 0x3f) | 0x80);
}

#define DISCO_PREFIX "discokey:"

void
tunnel_disco_text(char text[TUNNEL_DISCO_TEXT], const uint8_t disco[TUNNEL_KEY_LEN])
{
	memcpy(text, DISCO_PREFIX, sizeof(DISCO_PREFIX) - 1);
	sodium_bin2hex(text + sizeof(DISCO_PREFIX) - 1, 65, disco, TUNNEL_KEY_LEN);
}

bool
tunnel_disco_parse(uint8_t disco[TUNNEL_KEY_LEN], const char *text)
{
	uint8_t key[TUNNEL_KEY_LEN];
	size_t n;
	const char *hex = text + sizeof(DISCO_PREFIX) - 1;

	if (strncmp(text, DISCO_PREFIX, sizeof(DISCO_PREFIX) - 1) != 0 || strlen(hex) != 64 ||
		sodium_hex2bin(key, sizeof(key), hex, 64, NULL, &n, NULL) != 0 || n != sizeof(key))
		return false;
	memcpy(disco, key, sizeof(key));
	return true;
}

void
tunnel_node_key_put(uint8_t wire[TUNNEL_NODE_KEY_LEN], const uint8_t key[TUNNEL_KEY_LEN])
{
	wire_put_bytes(wire_put_bytes(wire, "np", 2), key, TUNNEL_KEY_LEN);
}

bool
tunnel_node_key_parse(uint8_t key[TUNNEL_KEY_LEN], const uint8_t *wire, size_t n)
{
	if (n != TUNNEL_NODE_KEY_LEN || memcmp(wire, "np", 2) != 0)
		return false;
	memcpy(key, wire + 2, TUNNEL_KEY_LEN);
	return true;
}

bool
tunnel_cidr_parse(uint8_t address[TUNNEL_ADDR_LEN], const char *text)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t n = slash == NULL ? 0 : (size_t) (slash - text);

	if (n == 0 || n >= sizeof(host) || strcmp(slash, "/128") != 0)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	return inet_pton(AF_INET6, host, address) == 1;
}

void
tunnel_cidr_text(char text[64], const uint8_t address[TUNNEL_ADDR_LEN])
{
	char host[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, address, host, sizeof(host));
	snprintf(text, 64, "%s/128", host);
}
