/*
 * fuzz_derp.c -- frames of a DERP connection, and their payloads.
 *
 * SPDX-License-Identifier: MIT
 */
#include "wire/derp.c"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	WireDerpFrame frame;
	const uint8_t *a, *b, *c;
	uint8_t reason;
	size_t need, size;

	while (wire_derp_get(&frame, &need, in, n) == WIRE_OK)
	{
		(void) wire_derp_get_server_key(&a, &frame);
		if (wire_derp_get_client_info(&a, &b, &c, &size, &frame) == WIRE_OK && c + size > in + n)
			__builtin_trap();
		if (wire_derp_get_server_info(&b, &c, &size, &frame) == WIRE_OK && c + size > in + n)
			__builtin_trap();
		if (wire_derp_get_packet(&a, &b, &size, &frame) == WIRE_OK && b + size > in + n)
			__builtin_trap();
		(void) wire_derp_get_peer_gone(&a, &reason, &frame);
		in += wire_derp_size(&frame);
		n -= wire_derp_size(&frame);
	}
	return 0;
}
