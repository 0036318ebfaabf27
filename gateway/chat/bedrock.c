/*
 * bedrock.c -- models at AWS Bedrock.
 *
 *   POST <base>/model/<model>/invoke-with-response-stream		Anthropic's models
 *   a body as Anthropic's own, without model and stream, with "anthropic_version"
 *   an event stream (eventstream.h) of "chunk" events: {"bytes": base64 of an event of Anthropic's}
 *
 *   POST <base>/model/<model>/converse-stream					all others (converse.c)
 *
 * Exceptions end both.
 *
 * The key is a Bedrock API key, which is sent as it is, or one of AWS (awsprofile.h), with which the request is signed.
 *
 * SPDX-License-Identifier: MIT
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "awsprofile.h"
#include "converse.h"
#include "provider.h"
#include "sigv4.h"

#define DEFAULT_REGION "us-east-1"
#define HOST_PREFIX "bedrock-runtime."
#define MAX_NAME 256

/* Requests ------------------------------------------------------------------- */

static bool
is_region(const char *region, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!islower((unsigned char) region[i]) && !isdigit((unsigned char) region[i]) && region[i] != '-')
			return false;
	return len > 0 && len < 32;
}

/* The region that the host of the base URL names, else the one that is asked for. */
static void
region_of(const ProviderAsk *ask, char region[32])
{
	const char *host = strstr(ask->base_url, "://" HOST_PREFIX);
	const char *named = host != NULL ? host + strlen("://" HOST_PREFIX) : "";
	size_t len = strcspn(named, "./:?#");

	if (!is_region(named, len))
	{
		named = ask->region != NULL ? ask->region : "";
		len = strlen(named);
	}
	if (!is_region(named, len))
	{
		named = DEFAULT_REGION;
		len = strlen(named);
	}
	snprintf(region, 32, "%.*s", (int) len, named);
}

/* Models of Anthropic's are called through the profile of the part of the world that the region is in. */
static const char *
profile_of(const char *region)
{
	static const char *const profiles[][2] = {{"us-gov-", "us-gov."}, {"eu-", "eu."}, {"ap-", "apac."}};

	for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++)
		if (strncmp(region, profiles[i][0], strlen(profiles[i][0])) == 0)
			return profiles[i][1];
	return "us.";
}

/* A name or ARN that says so; what another one is of, only AWS knows. */
static bool
is_anthropic(const char *model)
{
	const char *at = strstr(model, "anthropic.");

	return at != NULL && (at == model || at[-1] == '.' || at[-1] == '/');
}

/* The path; a name or ARN of a model may hold ':' and '/'. */
static char *
path_of(const char *model, const char *region)
{
	bool plain = strncmp(model, "anthropic.", 10) == 0;
	const char *call = is_anthropic(model) ? "invoke-with-response-stream" : "converse-stream";
	char name[3 * MAX_NAME + 1];
	size_t n = 0;
	char *path = NULL;

	if (*model == '\0' || strlen(model) > MAX_NAME)
		return NULL;
	for (const char *p = model; *p != '\0'; p++)
		if (isalnum((unsigned char) *p) || strchr("-._~", *p) != NULL)
			name[n++] = *p;
		else
			n += (size_t) sprintf(name + n, "%%%02X", (unsigned char) *p);
	name[n] = '\0';
	return asprintf(&path, "/model/%s%s/%s", plain ? profile_of(region) : "", name, call) < 0 ? NULL : path;
}

/* Adds the headers that sign the request to this host and path. */
static bool
sign(const ProviderAsk *ask, ProviderRequest *request, const char *region, const char *host, const char *path)
{
	char *key = strdup(ask->api_key);
	char *secret = key != NULL ? strchr(key, ':') : NULL;
	char *token = secret != NULL ? strchr(secret + 1, ':') : NULL;
	Sigv4 wanted = {.key_id = key, .secret = secret + 1, .region = region, .service = "bedrock", .host = host, .path = path,
					.body = request->body, .body_len = strlen(request->body), .now = ask->now};
	char *authorization = NULL;
	char date[17];
	bool ok = false;

	if (secret != NULL)
	{
		*secret = '\0';
		if (token != NULL)
		{
			*token = '\0';
			wanted.token = token + 1;
		}
		sigv4_date(&wanted, date);
		authorization = sigv4_authorization(&wanted);
		ok = authorization != NULL && provider_add_header(request, "Authorization", authorization) &&
			 provider_add_header(request, "X-Amz-Date", date) &&
			 (wanted.token == NULL || provider_add_header(request, "X-Amz-Security-Token", wanted.token));
	}
	if (key != NULL)
		sodium_memzero(key, strlen(ask->api_key));
	free(key);
	free(authorization);
	return ok;
}

/* Adds what says who asks.  The URL is whole by now. */
static bool
add_key(const ProviderAsk *ask, ProviderRequest *request, const char *region)
{
	char *bearer = NULL;
	const char *start = strstr(request->url, "://");
	const char *path;
	char host[MAX_NAME];
	bool ok;

	if (!aws_is_key(ask->api_key))
	{
		ok = asprintf(&bearer, "Bearer %s", ask->api_key) > 0 && provider_add_header(request, "Authorization", bearer);
		free(bearer);
		return ok;
	}
	start = start != NULL ? start + 3 : request->url;
	path = strchr(start, '/');
	if (path == NULL || path - start >= (ptrdiff_t) sizeof(host))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int) (path - start), start);
	return sign(ask, request, region, host, path);
}

static bool
make_request(const ProviderAsk *ask, ProviderRequest *request, const char **error)
{
	char region[32];
	char def[96];
	char *path;
	json_t *body;

	region_of(ask, region);
	snprintf(def, sizeof(def), "https://" HOST_PREFIX "%s.amazonaws.com", region);
	*error = "The model's name cannot be used.";
	path = path_of(ask->model, region);
	if (path == NULL)
		return false;
	*error = "The request cannot be made.";
	body = is_anthropic(ask->model) ? provider_anthropic_body(ask) : converse_body(ask);
	if (is_anthropic(ask->model))
		json_object_set_new(body, "anthropic_version", json_string("bedrock-2023-05-31"));
	request->url = provider_url(ask->base_url, def, path);
	request->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	free(path);
	return request->url != NULL && request->body != NULL && add_key(ask, request, region);
}

/* Answers -------------------------------------------------------------------- */

/* The HTTP status that an exception in the middle of a stream stands for; 0: none that is known. */
static int
status_of(const char *exception)
{
	static const struct
	{
		const char *exception;
		int status;
	} statuses[] = {{"throttlingException", 429}, {"serviceQuotaExceededException", 400}, {"validationException", 400},
					{"accessDeniedException", 403}, {"resourceNotFoundException", 404}, {"modelTimeoutException", 408},
					{"modelNotReadyException", 429}, {"modelErrorException", 500}, {"modelStreamErrorException", 500},
					{"internalServerException", 500}, {"serviceUnavailableException", 503}};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (strcasecmp(exception, statuses[i].exception) == 0)
			return statuses[i].status;
	return 0;
}

static void
take_exception(Stream *stream, const char *exception, const char *data, size_t len)
{
	char *text = provider_error_text(data, len);
	json_t *both = json_sprintf("%s (%s)", text != NULL ? text : "", exception);

	stream_fail(stream, status_of(exception), json_string_value(both));
	json_decref(both);
	free(text);
}

static void
take_chunk(Stream *stream, const char *data, size_t len)
{
	json_t *root = json_loadb(data, len, 0, NULL);
	const json_t *bytes = json_object_get(root, "bytes");
	size_t most = json_string_length(bytes) / 4 * 3 + 3;
	char *event = malloc(most + 1);
	size_t n = 0;

	if (event == NULL || !json_is_string(bytes) ||
		sodium_base642bin((unsigned char *) event, most, json_string_value(bytes), json_string_length(bytes), NULL, &n, NULL,
						  sodium_base64_VARIANT_ORIGINAL) != 0)
		stream_fail(stream, 0, "the answer holds what is no event");
	else
	{
		event[n] = '\0';
		provider_anthropic.event(stream, "", event, n);
	}
	free(event);
	json_decref(root);
}

static void
take_event(Stream *stream, const char *name, const char *data, size_t len)
{
	if (name[0] == '!')
		take_exception(stream, name + 1, data, len);
	else if (strcmp(name, "chunk") == 0)
		take_chunk(stream, data, len);
	else
		converse_event(stream, name, data, len);
}

const ProviderFormat provider_bedrock = {make_request, take_event, true};
