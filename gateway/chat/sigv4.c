/*
 * sigv4.c -- AWS Signature Version 4.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "sigv4.h"

#define HASH crypto_hash_sha256_BYTES
#define HEX (2 * HASH + 1)

static void
hash(const char *bytes, size_t len, char hex[HEX])
{
	unsigned char raw[HASH];

	crypto_hash_sha256(raw, (const unsigned char *) bytes, len);
	sodium_bin2hex(hex, HEX, raw, sizeof(raw));
}

static void
hmac(const unsigned char *key, size_t key_len, const char *text, unsigned char out[HASH])
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, key_len);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *) text, strlen(text));
	crypto_auth_hmacsha256_final(&state, out);
}

void
sigv4_date(const Sigv4 *ask, char date[17])
{
	struct tm tm;

	gmtime_r(&ask->now, &tm);
	strftime(date, 17, "%Y%m%dT%H%M%SZ", &tm);
}

/* The path once more encoded: what the request has as %3A is signed as %253A. */
static char *
canonical_path(const char *path)
{
	char *made = malloc(3 * strlen(path) + 1);
	size_t n = 0;

	for (const char *p = path; made != NULL && *p != '\0'; p++)
		if (isalnum((unsigned char) *p) || strchr("-._~/", *p) != NULL)
			made[n++] = *p;
		else
			n += (size_t) sprintf(made + n, "%%%02X", (unsigned char) *p);
	if (made != NULL)
		made[n] = '\0';
	return made;
}

static char *
canonical_request(const Sigv4 *ask, const char *date)
{
	char body[HEX];
	char *path = canonical_path(ask->path);
	char *made = NULL;

	hash(ask->body, ask->body_len, body);
	if (path == NULL ||
		asprintf(&made, "POST\n%s\n\nhost:%s\nx-amz-date:%s\n%s%s%s\nhost;x-amz-date%s\n%s", path, ask->host, date,
				 ask->token != NULL ? "x-amz-security-token:" : "", ask->token != NULL ? ask->token : "", ask->token != NULL ? "\n" : "",
				 ask->token != NULL ? ";x-amz-security-token" : "", body) < 0)
		made = NULL;
	free(path);
	return made;
}

/* The key of a day, a region and a service. */
static bool
signing_key(const Sigv4 *ask, const char *day, unsigned char key[HASH])
{
	char *first = NULL;

	if (asprintf(&first, "AWS4%s", ask->secret) < 0)
		return false;
	hmac((const unsigned char *) first, strlen(first), day, key);
	sodium_memzero(first, strlen(first));
	free(first);
	hmac(key, HASH, ask->region, key);
	hmac(key, HASH, ask->service, key);
	hmac(key, HASH, "aws4_request", key);
	return true;
}

char *
sigv4_authorization(const Sigv4 *ask)
{
	char date[17];
	char day[9];
	char *request;
	char *text = NULL;
	char *made = NULL;
	char hex[HEX];
	unsigned char key[HASH];

	sigv4_date(ask, date);
	snprintf(day, sizeof(day), "%.8s", date);
	request = canonical_request(ask, date);
	if (request == NULL)
		return NULL;
	hash(request, strlen(request), hex);
	free(request);
	if (asprintf(&text, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s", date, day, ask->region, ask->service, hex) < 0)
		return NULL;
	if (signing_key(ask, day, key))
	{
		hmac(key, sizeof(key), text, key);
		sodium_bin2hex(hex, sizeof(hex), key, sizeof(key));
		if (asprintf(&made, "AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=host;x-amz-date%s, Signature=%s", ask->key_id,
					 day, ask->region, ask->service, ask->token != NULL ? ";x-amz-security-token" : "", hex) < 0)
			made = NULL;
	}
	free(text);
	return made;
}
