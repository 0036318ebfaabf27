/*
 * fuzz_wg.c -- messages; the size written back is the size read.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/wg.c"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	static uint8_t out[65536];
	WireWgMessage message;

	if (n <= sizeof(out) && wire_wg_get(&message, in, n) == WIRE_OK &&
		wire_wg_put(out, sizeof(out), &message) != n)
		__builtin_trap();
	return 0;
}
