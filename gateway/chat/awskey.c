/*
 * awskey.c -- environment -> web identity -> shared files -> service of the container -> service of the instance.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <jansson.h>
#include <sodium.h>

#include "awskey.h"
#include "awsprofile.h"
#include "errand.h"
#include "gateway.h"
#include "turn.h"

#define MAX_FILE 262144
#define MAX_URL 2048
#define FILES_MS 60000		/* for so long what files say is believed */
#define RENEW_S 300			/* before they end */
#define LAST_S 10			/* keys that end so soon are not used */
#define RETRY_MS 30000		/* sooner where they end sooner */
#define SHORTEST_RETRY_MS 1000
#define USED_MS 3600000		/* after so long without use nothing is renewed */
#define SERVICE_MS 1000
#define ROLE_MS 5000
#define CONTAINER_HOST "http://169.254.170.2"
#define INSTANCE_HOST "http://169.254.169.254"
#define INSTANCE_ROLES "/latest/meta-data/iam/security-credentials/"

struct AwsWait
{
	AwsWait *next;
	AwsWait **link;
	AwsKeyDone done;
	void *arg;
};

static struct
{
	char *key;
	time_t expires;	   /* 0: never */
	int64_t fresh_until; /* to be read again after; 0: never */
	int64_t used_at;
	int64_t try_at; /* not sooner */
	char region[AWS_REGION_MAX];
	bool files_read; /* so far as the region goes */
	char *token; /* of the service of the instance */
	Errand *errand;
	AwsWait *waits;
} aws;

static bool
is_set(const char *value)
{
	return value != NULL && *value != '\0';
}

/* Those that end while a request is under way are none. */
static bool
is_good(void)
{
	return aws.key != NULL && (aws.expires == 0 || time(NULL) + LAST_S < aws.expires);
}

static void
forget(char **secret)
{
	if (*secret != NULL)
		sodium_memzero(*secret, strlen(*secret));
	free(*secret);
	*secret = NULL;
}

/* The next search is not sooner than this: a tenth of what is left. */
static int64_t
pause_ms(void)
{
	int64_t left = aws.key != NULL && aws.expires != 0 ? (int64_t) (aws.expires - time(NULL)) * 100 : RETRY_MS;

	return left > RETRY_MS ? RETRY_MS : left < SHORTEST_RETRY_MS ? SHORTEST_RETRY_MS : left;
}

/* A search is over: key (taken over) is what it found, NULL nothing. */
static void
found(char *key, time_t expires, int64_t fresh_ms)
{
	int64_t now = turn_env.now_ms();

	forget(&aws.token);
	if (key != NULL)
	{
		forget(&aws.key);
		aws.key = key;
		aws.expires = expires;
		aws.fresh_until = fresh_ms > 0 ? now + fresh_ms : 0;
	}
	else
		gw_log(GW_INFO, "this machine has no keys of AWS");
	aws.try_at = now + pause_ms();
	while (aws.waits != NULL)
	{
		AwsWait *wait = aws.waits;
		AwsKeyDone done = wait->done;
		void *arg = wait->arg;

		awskey_cancel(wait);
		done(arg, is_good() ? aws.key : NULL);
	}
}

/* Shared files ----------------------------------------------------------------- */

/* The file that a variable names, else name below ~/.aws; malloc'ed, NULL where it cannot be read. */
static char *
read_file(const char *variable, const char *name)
{
	char path[MAX_URL];
	char *text = NULL;
	FILE *file;
	size_t n;

	if (is_set(variable))
		snprintf(path, sizeof(path), "%s", variable);
	else if (is_set(name) && is_set(getenv("HOME")))
		snprintf(path, sizeof(path), "%s/.aws/%s", getenv("HOME"), name);
	else
		return NULL;
	file = fopen(path, "re");
	if (file == NULL)
		return NULL;
	text = malloc(MAX_FILE + 1);
	n = text != NULL ? fread(text, 1, MAX_FILE, file) : 0;
	fclose(file);
	if (text != NULL)
		text[n] = '\0';
	return text;
}

/* What both files say of the profile; the one for keys goes first. */
static char *
key_of_files(void)
{
	const char *profile = is_set(getenv("AWS_PROFILE")) ? getenv("AWS_PROFILE") : "default";
	char *config = read_file(getenv("AWS_CONFIG_FILE"), "config");
	char *keys = read_file(getenv("AWS_SHARED_CREDENTIALS_FILE"), "credentials");
	char *key = NULL;

	aws.files_read = true;
	if (config != NULL)
		aws_profile_read(config, profile, &key, aws.region);
	if (keys != NULL)
		aws_profile_read(keys, profile, &key, aws.region);
	forget(&config);
	forget(&keys);
	return key;
}

/* Services ----------------------------------------------------------------------- */

/* One request; header may be NULL.  False: it cannot be sent. */
static bool
ask_service(const char *method, const char *url, const char *header, const char *value, ErrandDone done)
{
	json_t *headers = header != NULL ? json_pack("{s:s}", header, value) : json_object();
	json_t *requests = json_pack("[{s:s, s:s, s:o, s:i, s:i}]", "method", method, "url", url, "headers", headers, "timeout_ms", SERVICE_MS,
								 "max_size", 65536);

	aws.errand = requests != NULL ? errand_begin(requests, done, NULL) : NULL;
	json_decref(requests);
	return aws.errand != NULL;
}

/* The body of the only answer where it is 200; malloc'ed, NULL otherwise.  results: taken over. */
static char *
body_of(json_t *results)
{
	const json_t *result = json_array_get(results, 0);
	const char *body = json_string_value(json_object_get(result, "body"));
	char *text = NULL;

	aws.errand = NULL;
	if (json_integer_value(json_object_get(result, "status")) == 200 && body != NULL)
		text = strdup(body);
	json_decref(results);
	return text;
}

static void
on_keys(void *arg, json_t *results)
{
	char *body = body_of(results);
	time_t expires = 0;
	char *key = body != NULL ? aws_answer_read(body, strlen(body), &expires) : NULL;

	(void) arg;
	forget(&body);
	found(key, expires, 0);
}

static bool
ask_instance(const char *method, const char *path, const char *header, const char *value, ErrandDone done)
{
	const char *host = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	char url[MAX_URL];
	size_t len;

	host = is_set(host) ? host : INSTANCE_HOST;
	len = strlen(host);
	while (len > 0 && host[len - 1] == '/')
		len--;
	snprintf(url, sizeof(url), "%.*s%s", (int) len, host, path);
	return ask_service(method, url, header, value, done);
}

/* The name of the role of the instance. */
static void
on_role(void *arg, json_t *results)
{
	char *role = body_of(results);
	char path[MAX_URL];

	(void) arg;
	if (role != NULL)
		role[strcspn(role, "\r\n")] = '\0';
	if (role == NULL || *role == '\0' || role[strspn(role, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-")] != '\0')
	{
		free(role);
		found(NULL, 0, 0);
		return;
	}
	snprintf(path, sizeof(path), INSTANCE_ROLES "%s", role);
	free(role);
	if (!ask_instance("GET", path, "X-aws-ec2-metadata-token", aws.token, on_keys))
		found(NULL, 0, 0);
}

static void
on_token(void *arg, json_t *results)
{
	(void) arg;
	forget(&aws.token);
	aws.token = body_of(results);
	if (aws.token == NULL || !ask_instance("GET", INSTANCE_ROLES, "X-aws-ec2-metadata-token", aws.token, on_role))
		found(NULL, 0, 0);
}

/* What AWS's service for this container is asked with: a file's text goes first, as it changes.  malloc'ed, NULL: nothing. */
static char *
container_token(void)
{
	const char *plain = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	char *text = is_set(getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")) ? read_file(getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), NULL) : NULL;

	if (text == NULL && is_set(plain))
		text = strdup(plain);
	if (text != NULL)
		text[strcspn(text, "\r\n")] = '\0';
	return text;
}

static bool
ask_container(void)
{
	const char *relative = getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
	const char *full = getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	char url[MAX_URL];
	char *token;
	bool ok;

	if (is_set(relative))
		snprintf(url, sizeof(url), "%s%s%s", CONTAINER_HOST, *relative == '/' ? "" : "/", relative);
	else if (is_set(full) && aws_container_url(full))
		snprintf(url, sizeof(url), "%s", full);
	else
		return false;
	token = container_token();
	ok = ask_service("GET", url, token != NULL ? "Authorization" : NULL, token, on_keys);
	forget(&token);
	return ok;
}

/* The service that gives roles to whom another service knows; the token is one of Kubernetes, say. */
static bool
ask_web_identity(void)
{
	const char *host = getenv("AWS_ENDPOINT_URL_STS");
	const char *session = getenv("AWS_ROLE_SESSION_NAME");
	const char *region = awskey_region();
	char *token = read_file(getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), NULL);
	char *role_part = curl_easy_escape(NULL, getenv("AWS_ROLE_ARN"), 0);
	char *session_part = curl_easy_escape(NULL, is_set(session) ? session : "coder-chat-runner", 0);
	char *token_part;
	char url[MAX_URL];
	char *body = NULL;
	json_t *requests = NULL;

	if (token != NULL)
		token[strcspn(token, "\r\n")] = '\0';
	token_part = token != NULL ? curl_easy_escape(NULL, token, 0) : NULL;
	if (is_set(host))
		snprintf(url, sizeof(url), "%s", host);
	else
		snprintf(url, sizeof(url), "https://sts.%s.amazonaws.com/", region != NULL ? region : "us-east-1");
	if (token_part != NULL && role_part != NULL && session_part != NULL &&
		asprintf(&body, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=%s&RoleSessionName=%s&WebIdentityToken=%s", role_part,
				 session_part, token_part) >= 0)
		requests = json_pack("[{s:s, s:s, s:{s:s, s:s}, s:s, s:i, s:i}]", "method", "POST", "url", url, "headers", "Accept", "application/json",
							 "Content-Type", "application/x-www-form-urlencoded", "body", body, "timeout_ms", ROLE_MS, "max_size", 65536);
	aws.errand = requests != NULL ? errand_begin(requests, on_keys, NULL) : NULL;
	json_decref(requests);
	forget(&body);
	forget(&token);
	curl_free(role_part);
	curl_free(session_part);
	curl_free(token_part);
	return aws.errand != NULL;
}

static void
ask_services(void)
{
	const char *disabled = getenv("AWS_EC2_METADATA_DISABLED");
	bool named = is_set(getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) || is_set(getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"));

	if (named ? !ask_container()
			  : (disabled != NULL && strcasecmp(disabled, "true") == 0) ||
					!ask_instance("PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "21600", on_token))
		found(NULL, 0, 0);
}

/* Where none is known or what is known ends. */
static void
search(void)
{
	char *key = aws_key(getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN"));

	if (key != NULL)
	{
		found(key, 0, 0);
		return;
	}
	if (is_set(getenv("AWS_WEB_IDENTITY_TOKEN_FILE")) && is_set(getenv("AWS_ROLE_ARN")))
	{
		if (!ask_web_identity())
			found(NULL, 0, 0);
		return;
	}
	key = key_of_files();
	if (key != NULL)
		found(key, 0, FILES_MS);
	else if (is_set(getenv("AWS_PROFILE")))
		found(NULL, 0, 0); /* one that is named is meant */
	else
		ask_services();
}

/* Who asks ------------------------------------------------------------------------- */

AwsWait *
awskey_find(const char **known, AwsKeyDone done, void *arg)
{
	int64_t now = turn_env.now_ms();
	AwsWait *wait;

	aws.used_at = now;
	*known = is_good() && (aws.fresh_until == 0 || now < aws.fresh_until) ? aws.key : NULL;
	wait = *known == NULL ? calloc(1, sizeof(*wait)) : NULL;
	if (wait == NULL)
		return NULL;
	wait->done = done;
	wait->arg = arg;
	wait->next = aws.waits;
	wait->link = &aws.waits;
	if (aws.waits != NULL)
		aws.waits->link = &wait->next;
	aws.waits = wait;
	aws.try_at = 0; /* the next tick searches */
	return wait;
}

void
awskey_cancel(AwsWait *wait)
{
	if (wait == NULL)
		return;
	*wait->link = wait->next;
	if (wait->next != NULL)
		wait->next->link = wait->link;
	free(wait);
}

const char *
awskey_now(void)
{
	aws.used_at = turn_env.now_ms();
	return is_good() ? aws.key : NULL;
}

const char *
awskey_region(void)
{
	char *key;

	if (is_set(getenv("AWS_REGION")))
		return getenv("AWS_REGION");
	if (is_set(getenv("AWS_DEFAULT_REGION")))
		return getenv("AWS_DEFAULT_REGION");
	if (!aws.files_read)
	{
		key = key_of_files();
		forget(&key);
	}
	return aws.region[0] != '\0' ? aws.region : NULL;
}

/* Are there keys in use that end, or may have changed? */
static bool
is_due(int64_t now)
{
	if (aws.waits != NULL)
		return true;
	if (aws.key == NULL || now - aws.used_at > USED_MS)
		return false;
	return (aws.expires != 0 && time(NULL) + RENEW_S >= aws.expires) || (aws.fresh_until != 0 && now >= aws.fresh_until);
}

int64_t
awskey_tick(int64_t most)
{
	int64_t now = turn_env.now_ms();

	if (aws.errand != NULL || !is_due(now))
		return most;
	if (now >= aws.try_at)
		search();
	else if (aws.try_at - now < most)
		most = aws.try_at - now;
	return most;
}

void
awskey_drop_all(void)
{
	while (aws.waits != NULL)
		awskey_cancel(aws.waits);
	errand_cancel(aws.errand);
	aws.errand = NULL;
	forget(&aws.key);
	forget(&aws.token);
}
