/*
 * fuzz_meshframe.c -- a message between gateways.
 *
 * SPDX-License-Identifier: MIT
 */
#include "stream/meshframe.c"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
	MeshFrame frame;
	size_t used;

	while ((used = mesh_get(&frame, in, n)) > 0)
	{
		if (used > n)
			__builtin_trap();
		if (frame.type != 0 && frame.data + frame.size != in + used)
			__builtin_trap();
		in += used;
		n -= used;
	}
	return 0;
}
