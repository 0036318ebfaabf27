/*
 * plan.c -- plans of outbound requests from JSON, their results to JSON.
 *
 * SPDX-License-Identifier: MIT
 */
#include <netinet/in.h>
#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define MAX_ANSWER_HEADERS 100

/* Letters, digits and some marks: a method, a header's name, a function's name. */
static bool
is_token(const char *s, size_t max)
{
	size_t len = strlen(s);

	return len > 0 && len <= max &&
		   strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == len;
}

/* Printable, so that it cannot end its line. */
static bool
is_line(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char) *s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static const char *
parse_headers(OutboundRequest *request, json_t *headers)
{
	const char *name;
	json_t *value;

	if (headers != NULL && !json_is_object(headers))
		return "headers are not an object";
	json_object_foreach(headers, name, value)
	{
		const char *text = json_string_value(value);
		size_t len = strlen(name) + (text != NULL ? strlen(text) : 0) + 4;
		char *line;

		if (text == NULL || !is_token(name, 100) || !is_line(text))
			return "a header is malformed";
		if (request->n_headers == OUTBOUND_MAX_HEADERS)
			return "there are too many headers";
		line = malloc(len);
		if (line == NULL)
			return "out of memory";
		/* To libcurl "Name:" removes a header and "Name;" sends an empty one. */
		if (*text == '\0')
			snprintf(line, len, "%s;", name);
		else
			snprintf(line, len, "%s: %s", name, text);
		request->headers[request->n_headers++] = line;
	}
	return NULL;
}

static const char *
parse_body(OutboundRequest *request, json_t *json)
{
	json_t *text = json_object_get(json, "body");
	json_t *base64 = json_object_get(json, "body_base64");
	size_t len = json_string_length(base64 != NULL ? base64 : text);

	if (text == NULL && base64 == NULL)
		return NULL;
	if (!json_is_string(base64 != NULL ? base64 : text))
		return "the body is no text";
	if (len > OUTBOUND_MAX_BODY)
		return "the body is too long";
	request->body = malloc(len + 1);
	if (request->body == NULL)
		return "out of memory";
	if (base64 == NULL)
	{
		memcpy(request->body, json_string_value(text), len);
		request->body_len = len;
	}
	else if (sodium_base642bin((unsigned char *) request->body, len + 1, json_string_value(base64), len, "\n",
							   &request->body_len, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
		return "body_base64 is malformed";
	return NULL;
}

/* A whole number of a range; def where it is absent. */
static bool
parse_number(json_t *json, const char *name, json_int_t def, json_int_t max, json_int_t *out)
{
	json_t *value = json_object_get(json, name);

	*out = value != NULL ? json_integer_value(value) : def;
	return (value == NULL || json_is_integer(value)) && *out > 0 && *out <= max;
}

/* A relay, or a STUN server; only who says so may try one, as URLs may come from users. */
static bool
is_probe(const char *url)
{
	return strncmp(url, "derp://", 7) == 0 || strncmp(url, "derps://", 8) == 0 || strncmp(url, "stun://", 7) == 0;
}

/* {"name", "source"}: as whose request it is counted; longer ones are cut off. */
static const char *
parse_counted(OutboundRequest *request, json_t *json)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	const char *source = json_string_value(json_object_get(json, "source"));

	if (json == NULL)
		return NULL;
	if (name == NULL || source == NULL)
		return "counted is malformed";
	snprintf(request->name, sizeof(request->name), "%s", name);
	snprintf(request->source, sizeof(request->source), "%s", source);
	return NULL;
}

static const char *
parse_request(OutboundRequest *request, json_t *json)
{
	const char *method = json_string_value(json_object_get(json, "method"));
	const char *url = json_string_value(json_object_get(json, "url"));
	const char *wrong;
	json_int_t timeout;
	json_int_t size;

	if (method == NULL)
		method = "GET";
	if (!is_token(method, 16))
		return "the method is malformed";
	if (url == NULL || strlen(url) > OUTBOUND_MAX_URL || !is_line(url) || strchr(url, ' ') != NULL)
		return "the URL is malformed";
	request->probe = json_is_true(json_object_get(json, "probe"));
	if (request->probe ? !is_probe(url) : strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		return request->probe ? "the URL is none of a relay or a STUN server" : "the URL is neither http nor https";
	if (!parse_number(json, "timeout_ms", OUTBOUND_TIMEOUT_MS, OUTBOUND_MAX_TIMEOUT_MS, &timeout))
		return "timeout_ms is out of range";
	if (!parse_number(json, "max_size", (json_int_t) OUTBOUND_SIZE, (json_int_t) OUTBOUND_MAX_SIZE, &size))
		return "max_size is out of range";
	request->timeout_ms = (long) timeout;
	request->max_size = (size_t) size;
	request->public_only = json_is_true(json_object_get(json, "public"));
	request->method = strdup(method);
	request->url = strdup(url);
	wrong = parse_counted(request, json_object_get(json, "counted"));
	if (wrong == NULL)
		wrong = parse_headers(request, json_object_get(json, "headers"));
	return wrong != NULL ? wrong : parse_body(request, json);
}

static const char *
parse_plan(OutboundPlan *plan, json_t *json)
{
	const char *function = json_string_value(json_object_get(json, "continue"));
	json_t *requests = json_object_get(json, "requests");
	size_t n = json_array_size(requests);
	json_int_t wait = 0;

	if (function == NULL || !is_token(function, 63))
		return "\"continue\" is no name of a function";
	if (json_object_get(json, "wait_ms") != NULL && (!parse_number(json, "wait_ms", 0, OUTBOUND_MAX_WAIT_MS, &wait) || n > 0))
		return "wait_ms is out of range, or beside requests";
	if ((n == 0 && wait == 0) || n > OUTBOUND_MAX_REQUESTS)
		return "there are no requests, or too many";
	plan->wait_ms = (long) wait;
	plan->function = strdup(function);
	plan->state = json_incref(json_object_get(json, "state"));
	plan->requests = calloc(n + 1, sizeof(*plan->requests));
	if (plan->function == NULL || plan->requests == NULL)
		return "out of memory";
	for (; plan->n < (int) n; plan->n++)
	{
		const char *wrong =
			parse_request(&plan->requests[plan->n], json_array_get(requests, (size_t) plan->n));

		if (wrong != NULL)
		{
			plan->n++; /* what it has so far is freed too */
			return wrong;
		}
	}
	return NULL;
}

const char *
outbound_plan_parse(OutboundPlan *plan, const char *json, size_t len)
{
	json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
	const char *wrong;

	memset(plan, 0, sizeof(*plan));
	wrong = json_is_object(root) ? parse_plan(plan, root) : "it is no JSON object";
	json_decref(root);
	if (wrong != NULL)
		outbound_plan_free(plan);
	return wrong;
}

void
outbound_plan_free(OutboundPlan *plan)
{
	for (int i = 0; i < plan->n; i++)
	{
		OutboundRequest *request = &plan->requests[i];

		free(request->method);
		free(request->url);
		for (int k = 0; k < request->n_headers; k++)
			free(request->headers[k]);
		free(request->body);
		json_decref(request->answer_headers);
		free(request->content);
	}
	free(plan->requests);
	free(plan->function);
	json_decref(plan->state);
	memset(plan, 0, sizeof(*plan));
}

/* Answers -------------------------------------------------------------------- */

bool
outbound_take(OutboundRequest *request, const char *data, size_t len)
{
	if (len > request->max_size - request->len)
		return false;
	if (request->len + len > request->room)
	{
		size_t room = 2 * (request->len + len) + 1024;
		char *content = realloc(request->content, room);

		if (content == NULL)
			return false;
		request->content = content;
		request->room = room;
	}
	memcpy(request->content + request->len, data, len);
	request->len += len;
	return true;
}

/* Adds a header; the values of a repeated one are joined by commas. */
static void
add_header(json_t *headers, const char *name, const char *value, size_t len)
{
	const char *before = json_string_value(json_object_get(headers, name));
	json_t *joined = before != NULL ? json_sprintf("%s, %.*s", before, (int) len, value)
									: json_stringn(value, len);

	/* A value that is no UTF-8 is dropped. */
	if (joined != NULL)
		json_object_set_new(headers, name, joined);
}

void
outbound_take_header(OutboundRequest *request, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	char name[100];
	size_t n;

	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		/* The head of a real answer behind that of an interim one. */
		json_decref(request->answer_headers);
		request->answer_headers = NULL;
		return;
	}
	n = colon != NULL ? (size_t) (colon - line) : 0;
	if (n == 0 || n >= sizeof(name) || json_object_size(request->answer_headers) >= MAX_ANSWER_HEADERS)
		return;
	for (size_t i = 0; i < n; i++)
		name[i] = (char) (line[i] >= 'A' && line[i] <= 'Z' ? line[i] + 32 : line[i]);
	name[n] = '\0';
	for (n++; n < len && line[n] == ' '; n++)
		;
	if (n > len || !is_token(name, sizeof(name)) || memchr(line + n, '\0', len - n) != NULL)
		return;
	if (request->answer_headers == NULL)
		request->answer_headers = json_object();
	add_header(request->answer_headers, name, line + n, len - n);
}

/* Sets the body: as text, or in base64 where it is none that the database can hold. */
static void
set_content(json_t *result, const OutboundRequest *request)
{
	const char *content = request->content != NULL ? request->content : "";
	json_t *text = memchr(content, '\0', request->len) == NULL ? json_stringn(content, request->len) : NULL;
	size_t cap;
	char *encoded;

	if (text != NULL)
	{
		json_object_set_new(result, "body", text);
		return;
	}
	cap = sodium_base64_encoded_len(request->len, sodium_base64_VARIANT_ORIGINAL);
	encoded = malloc(cap);
	if (encoded != NULL)
		json_object_set_new(result, "body_base64",
							json_string(sodium_bin2base64(encoded, cap, (const unsigned char *) content, request->len,
														  sodium_base64_VARIANT_ORIGINAL)));
	free(encoded);
}

static json_t *
result_of(const OutboundRequest *request)
{
	json_t *result = json_pack("{s:i}", "status", request->error != NULL ? 0 : (int) request->status);

	if (request->error != NULL)
	{
		json_object_set_new(result, "error", json_string(request->error));
		json_object_set_new(result, "error_text", json_string(request->error_text));
		return result;
	}
	if (request->answer_headers != NULL)
		json_object_set(result, "headers", request->answer_headers);
	else
		json_object_set_new(result, "headers", json_object());
	set_content(result, request);
	return result;
}

char *
outbound_cursor(const OutboundPlan *plan)
{
	json_t *results = json_array();
	json_t *all = json_object();
	char *json;
	char *cursor = NULL;
	size_t len;

	for (int i = 0; i < plan->n; i++)
		json_array_append_new(results, result_of(&plan->requests[i]));
	if (plan->state != NULL)
		json_object_set(all, "state", plan->state);
	json_object_set_new(all, "results", results);
	json = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	if (json != NULL)
	{
		len = strlen(plan->function) + strlen(json) + 10;
		cursor = malloc(len);
		if (cursor != NULL)
			snprintf(cursor, len, "fetched:%s\n%s", plan->function, json);
		free(json);
	}
	return cursor;
}

/* Addresses ------------------------------------------------------------------- */

static bool
is_public_v4(uint32_t a)
{
	static const struct
	{
		uint32_t net;
		int bits;
	} closed[] = {{0x00000000, 8}, {0x0a000000, 8}, {0x64400000, 10}, {0x7f000000, 8}, {0xa9fe0000, 16}, {0xac100000, 12},
				  {0xc0000000, 24}, {0xc0000200, 24}, {0xc0a80000, 16}, {0xc6120000, 15}, {0xc6336400, 24},
				  {0xcb007100, 24}, {0xe0000000, 3}};

	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		if ((a ^ closed[i].net) >> (32 - closed[i].bits) == 0)
			return false;
	return true;
}

bool
outbound_is_public(const struct sockaddr *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) (const void *) address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) (const void *) address;
	const uint8_t *b = v6->sin6_addr.s6_addr;
	uint32_t inner;

	if (address->sa_family == AF_INET)
		return is_public_v4(ntohl(v4->sin_addr.s_addr));
	if (address->sa_family != AF_INET6)
		return false;
	memcpy(&inner, b + 12, sizeof(inner));
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		return is_public_v4(ntohl(inner));
	/* 2000::/3 is what is given out; of it, neither documentation nor tunnels to other addresses. */
	return b[0] >> 5 == 1 && !(b[0] == 0x20 && b[1] == 0x02) && !(b[0] == 0x20 && b[1] == 0x01 && (b[2] & 0xfe) == 0 && b[3] == 0) &&
		   !(b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0d && b[3] == 0xb8);
}
