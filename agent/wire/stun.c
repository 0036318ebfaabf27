/*
 * stun.c -- STUN binding requests and responses.
 *
 *	0           2          4                8            20
 *	+-----------+----------+----------------+------------+------------------ - -
 *	| type      | n        | 21 12 a4 42    | txid [12]  | attributes, n bytes
 *	+-----------+----------+----------------+------------+------------------ - -
 *	attribute: type u16 BE, length u16 BE, value, padding to 4
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/stun.h"

#define COOKIE 0x2112a442u
#define TYPE_REQUEST 0x0001
#define TYPE_RESPONSE 0x0101
#define ATTR_MAPPED 0x0001
#define ATTR_XOR_MAPPED 0x0020
#define ATTR_XOR_MAPPED_OLD 0x8020
#define ATTR_SOFTWARE 0x8022
#define ATTR_FINGERPRINT 0x8028

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

/* CRC-32 as in Ethernet; 32 bytes a request, so no table. */
static uint32_t
crc32(const uint8_t *in, size_t n)
{
	uint32_t crc = 0xffffffffu;

	for (size_t i = 0; i < n; i++)
	{
		crc ^= in[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
	}
	return ~crc;
}

bool
wire_stun_looks_like(const uint8_t *in, size_t n)
{
	return n >= WIRE_STUN_HEADER_LEN && (in[0] & 0xc0) == 0 && wire_get32be(in + 4) == COOKIE;
}

static uint8_t *
put_header(uint8_t *p, uint16_t type, uint16_t n, const uint8_t *txid)
{
	p = wire_put16be(p, type);
	p = wire_put16be(p, n);
	p = wire_put32be(p, COOKIE);
	return wire_put_bytes(p, txid, WIRE_STUN_TXID_LEN);
}

size_t
wire_stun_put_request(uint8_t *dst, size_t cap, const uint8_t txid[static WIRE_STUN_TXID_LEN])
{
	uint8_t *p;

	if (cap < WIRE_STUN_REQUEST_LEN)
		return 0;
	p = put_header(dst, TYPE_REQUEST, WIRE_STUN_REQUEST_LEN - WIRE_STUN_HEADER_LEN, txid);
	p = wire_put16be(p, ATTR_SOFTWARE);
	p = wire_put16be(p, 8);
	p = wire_put_bytes(p, "tailnode", 8);
	p = wire_put16be(p, ATTR_FINGERPRINT);
	p = wire_put16be(p, 4);
	wire_put32be(p, crc32(dst, WIRE_STUN_REQUEST_LEN - 8) ^ 0x5354554eu);
	return WIRE_STUN_REQUEST_LEN;
}

/* A whole message of this type: its attributes. */
static WireResult
get_message(uint16_t type, const uint8_t *in, size_t n, size_t *length)
{
	if (!wire_stun_looks_like(in, n) || wire_get16be(in) != type)
		return WIRE_BAD;
	*length = wire_get16be(in + 2);
	return *length > n - WIRE_STUN_HEADER_LEN ? WIRE_BAD : WIRE_OK;
}

WireResult
wire_stun_get_request(const uint8_t **txid, const uint8_t *in, size_t n)
{
	size_t length;

	if (get_message(TYPE_REQUEST, in, n, &length) != WIRE_OK)
		return WIRE_BAD;
	*txid = in + 8;
	return WIRE_OK;
}

size_t
wire_stun_put_response(uint8_t *dst, size_t cap, const uint8_t txid[static WIRE_STUN_TXID_LEN],
					   const uint8_t ip[static 16], uint16_t port)
{
	bool v4 = memcmp(ip, v4_mapped, sizeof(v4_mapped)) == 0;
	size_t nip = v4 ? 4 : 16;
	size_t total = WIRE_STUN_HEADER_LEN + 8 + nip;
	uint8_t *p;

	if (cap < total)
		return 0;
	p = put_header(dst, TYPE_RESPONSE, (uint16_t) (8 + nip), txid);
	p = wire_put16be(p, ATTR_XOR_MAPPED);
	p = wire_put16be(p, (uint16_t) (4 + nip));
	p = wire_put8(p, 0);
	p = wire_put8(p, v4 ? 1 : 2);
	p = wire_put16be(p, (uint16_t) (port ^ (COOKIE >> 16)));
	/* The address is masked with cookie and txid, which stand in a row in the header. */
	for (size_t i = 0; i < nip; i++)
		p = wire_put8(p, ip[16 - nip + i] ^ dst[4 + i]);
	return total;
}

/* Value of an address attribute; mask is NULL, or cookie and txid. */
static bool
get_address(uint8_t ip[static 16], uint16_t *port, const uint8_t *value, size_t n,
			const uint8_t *mask)
{
	size_t nip;

	if (n < 4 || (value[1] != 1 && value[1] != 2))
		return false;
	nip = value[1] == 1 ? 4 : 16;
	if (n < 4 + nip)
		return false;
	memcpy(ip, v4_mapped, sizeof(v4_mapped));
	for (size_t i = 0; i < nip; i++)
		ip[16 - nip + i] = (uint8_t) (value[4 + i] ^ (mask != NULL ? mask[i] : 0));
	*port = wire_get16be(value + 2);
	if (mask != NULL)
		*port ^= wire_get16be(mask);
	return true;
}

WireResult
wire_stun_get_response(const uint8_t **txid, uint8_t ip[static 16], uint16_t *port,
					   const uint8_t *in, size_t n)
{
	uint8_t found[16];
	uint16_t found_port = 0;
	bool have = false;
	size_t length;
	const uint8_t *p = in + WIRE_STUN_HEADER_LEN;

	if (get_message(TYPE_RESPONSE, in, n, &length) != WIRE_OK)
		return WIRE_BAD;
	while (length >= 4)
	{
		uint16_t type = wire_get16be(p);
		size_t nvalue = wire_get16be(p + 2);
		size_t step = 4 + ((nvalue + 3) & ~(size_t) 3);

		if (nvalue > length - 4)
			return WIRE_BAD;
		if (type == ATTR_XOR_MAPPED || type == ATTR_XOR_MAPPED_OLD)
		{
			if (!get_address(found, &found_port, p + 4, nvalue, in + 4))
				return WIRE_BAD;
			have = true;
			break;
		}
		if (type == ATTR_MAPPED && get_address(found, &found_port, p + 4, nvalue, NULL))
			have = true;
		if (step > length)
			break;
		p += step;
		length -= step;
	}
	if (!have)
		return WIRE_BAD;
	*txid = in + 8;
	memcpy(ip, found, 16);
	*port = found_port;
	return WIRE_OK;
}
