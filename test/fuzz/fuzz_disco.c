/*
 * fuzz_disco.c -- envelope and opened messages; what was read writes back.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/disco.c"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	static WireDiscoMessage message;
	static uint8_t out[4096];
	const uint8_t *sender, *nonce, *box;
	size_t nbox;

	(void) wire_disco_get_envelope(&sender, &nonce, &box, &nbox, in, n);
	if (wire_disco_get(&message, in, n) == WIRE_OK &&
		wire_disco_put(out, sizeof(out), &message) == 0)
		__builtin_trap();
	return 0;
}
