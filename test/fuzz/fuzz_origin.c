/*
 * fuzz_origin.c -- any text as networks of proxies, and as the header by which one names a client.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>

#include "../../gateway/origin.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static GwOrigins proxies;
	GwOrigins origins;
	char client[GW_ADDRESS_MAX];
	char *text = malloc(size + 1);
	uint8_t address[16];

	if (proxies.n == 0 && !gw_origins_parse(&proxies, "10.0.0.0/8,fd00::/8"))
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	if (gw_origins_parse(&origins, text))
		for (int i = 0; i < origins.n; i++)
			if (origins.nets[i].bits < 0 || origins.nets[i].bits > 128 ||
				!is_trusted(&origins, origins.nets[i].address))
				abort();
	/* Who is named has an address, and is a proxy only where nobody stands before it. */
	if (gw_origins_client(&proxies, (const char *) data, size, client) &&
		(!parse_address(client, address) || (is_trusted(&proxies, address) && size == 0)))
		abort();
	free(text);
	return 0;
}
