/*
 * fuzz_apphost.c -- Host headers: what counts as the host of an app.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>

#include "../../gateway/apphost.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char label[GW_APPHOST_LABEL_MAX + 1];
	size_t n;

	if (gw_apphost_cookie()[0] == '\0')
		gw_apphost_init("*.apps.example.com", "https://coder.apps.example.com");
	n = gw_apphost_label(label, (const char *) data, size);
	if (n == 0)
		return 0;
	/* A label of one part, the suffix behind it, and never the server's own host. */
	if (n > GW_APPHOST_LABEL_MAX || strlen(label) != n || strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != n ||
		n + strlen(".apps.example.com") > size || strcmp(label, "coder") == 0)
		abort();
	return 0;
}
