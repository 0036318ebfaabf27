/*
 * wire.h -- integers and bytes on the wire, and what a decoder answers.
 *
 * Writers return the place behind what they wrote; the caller has checked the
 * room.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_KEY_LEN 32

typedef enum WireResult
{
	WIRE_OK,
	WIRE_SHORT, /* feed more */
	WIRE_BAD	/* drop the peer */
} WireResult;

static inline uint8_t *
wire_put8(uint8_t *p, uint8_t v)
{
	*p = v;
	return p + 1;
}

static inline uint8_t *
wire_put16be(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t) (v >> 8);
	p[1] = (uint8_t) v;
	return p + 2;
}

static inline uint8_t *
wire_put32be(uint8_t *p, uint32_t v)
{
	p = wire_put16be(p, (uint16_t) (v >> 16));
	return wire_put16be(p, (uint16_t) v);
}

static inline uint8_t *
wire_put64be(uint8_t *p, uint64_t v)
{
	p = wire_put32be(p, (uint32_t) (v >> 32));
	return wire_put32be(p, (uint32_t) v);
}

static inline uint8_t *
wire_put32le(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t) (v >> (8 * i));
	return p + 4;
}

static inline uint8_t *
wire_put64le(uint8_t *p, uint64_t v)
{
	p = wire_put32le(p, (uint32_t) v);
	return wire_put32le(p, (uint32_t) (v >> 32));
}

static inline uint8_t *
wire_put_bytes(uint8_t *p, const void *bytes, size_t n)
{
	if (n > 0)
		memcpy(p, bytes, n);
	return p + n;
}

static inline uint16_t
wire_get16be(const uint8_t *p)
{
	return (uint16_t) (p[0] << 8 | p[1]);
}

static inline uint32_t
wire_get32be(const uint8_t *p)
{
	return (uint32_t) wire_get16be(p) << 16 | wire_get16be(p + 2);
}

static inline uint64_t
wire_get64be(const uint8_t *p)
{
	return (uint64_t) wire_get32be(p) << 32 | wire_get32be(p + 4);
}

static inline uint32_t
wire_get32le(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static inline uint64_t
wire_get64le(const uint8_t *p)
{
	return (uint64_t) wire_get32le(p) | (uint64_t) wire_get32le(p + 4) << 32;
}

#endif
