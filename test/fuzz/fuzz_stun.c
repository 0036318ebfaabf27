/*
 * fuzz_stun.c -- requests and responses.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/stun.c"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	const uint8_t *txid;
	uint8_t ip[16];
	uint16_t port;

	(void) wire_stun_get_request(&txid, in, n);
	(void) wire_stun_get_response(&txid, ip, &port, in, n);
	return 0;
}
