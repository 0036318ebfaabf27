/*
 * hex.h -- hexadecimal digits.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef WIRE_HEX_H
#define WIRE_HEX_H

/* The value of a digit, in capitals or not; -1 where it is none. */
static inline int
wire_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

#endif
