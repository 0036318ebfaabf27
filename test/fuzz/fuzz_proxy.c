/*
 * fuzz_proxy.c -- an app's answer in chunks (the first byte says how large, and whether to a HEAD),
 * and the same bytes as cookies, query and path.
 *
 * SPDX-License-Identifier: MIT
 */
#include "../../gateway/stream/proxy.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
on_fuzz_body(void *arg, const char *data, size_t len)
{
	size_t *sum = arg;

	for (size_t i = 0; i < len; i++)
		*sum += (unsigned char) data[i];
}

static void
check_fields(const ProxyResponse *response)
{
	for (size_t i = 0; i < response->nfields; i++)
	{
		const ProxyField *field = &response->fields[i];

		if (field->name + field->name_len > response->text_len || field->value + field->value_len > response->text_len)
			abort();
		proxy_is_hop(proxy_name(response, i), proxy_find(response, "connection"));
		proxy_is_own_cookie(proxy_value(response, i));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProxyResponse response;
	ProxyText rest;
	const char *text = (const char *) data + 1;
	size_t sum = 0;
	size_t at = 0;
	size_t chunk;
	char *out;

	if (size < 1)
		return 0;
	chunk = data[0] / 2 + 1u;
	size--;
	proxy_response_init(&response, data[0] & 1, on_fuzz_body, &sum);
	while (at < size && response.state == PROXY_MORE)
	{
		size_t n = chunk < size - at ? chunk : size - at;
		size_t used = proxy_response_feed(&response, text + at, n);

		if (used > n || (used < n && response.state == PROXY_MORE))
			abort();
		at += n;
	}
	proxy_response_end(&response);
	if (response.state == PROXY_MORE || (response.state == PROXY_DONE && !response.head_done))
		abort();
	if (response.head_done)
		check_fields(&response);
	proxy_response_free(&response);

	out = malloc(2 * size + 1);
	if (proxy_strip_cookies(out, text, size) > 2 * size || proxy_strip_query(out, text, size) > size)
		abort();
	rest = proxy_behind(text, size, 4);
	if (rest.len > 1 && (rest.base < text || rest.base + rest.len != text + size))
		abort();
	free(out);
	return 0;
}
