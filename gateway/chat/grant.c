/*
 * grant.c -- model -> provider -> key.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "awskey.h"
#include "db.h"
#include "grant.h"
#include "provider.h"

struct GrantWait
{
	GrantWait **slot;
	ConfigCache *config;
	int64_t now_ms;
	ConfigWait *wait;
	DbCall *call;
	AwsWait *aws;
	char owner[40];
	Grant grant;
	GrantDone done;
	void *arg;
};

void
grant_free(Grant *grant)
{
	json_decref(grant->model);
	json_decref(grant->provider);
	free(grant->api_key);
	memset(grant, 0, sizeof(*grant));
}

void
grant_cancel(GrantWait *wait)
{
	if (wait == NULL)
		return;
	*wait->slot = NULL;
	config_cancel(wait->wait);
	db_forget(wait->call);
	awskey_cancel(wait->aws);
	grant_free(&wait->grant);
	free(wait);
}

static void
end(GrantWait *wait, const char *error)
{
	GrantDone done = wait->done;
	Grant grant = wait->grant;
	void *arg = wait->arg;

	*wait->slot = NULL;
	free(wait);
	done(arg, grant, error);
}

static void
end_without_key(GrantWait *wait)
{
	char message[256];
	const char *name = provider_display_name(json_string_value(json_object_get(wait->grant.provider, "provider")));

	snprintf(message, sizeof(message), "There is no API key for %s.", name != NULL ? name : "the provider");
	end(wait, message);
}

static void
end_with_key(GrantWait *wait, const char *key)
{
	wait->grant.api_key = key != NULL ? strdup(key) : NULL;
	if (wait->grant.api_key != NULL)
		end(wait, NULL);
	else
		end_without_key(wait);
}

static void
on_aws_key(void *arg, const char *key)
{
	GrantWait *wait = arg;

	wait->aws = NULL;
	end_with_key(wait, key);
}

/* Bedrock without a central key: the machine's own.  A token that is sent as it is goes to AWS only. */
static void
use_ambient_key(GrantWait *wait)
{
	const char *base_url = json_string_value(json_object_get(wait->grant.provider, "base_url"));
	const char *bearer = base_url == NULL || *base_url == '\0' ? getenv("AWS_BEARER_TOKEN_BEDROCK") : NULL;
	const char *known;

	if (bearer != NULL && *bearer != '\0')
	{
		end_with_key(wait, bearer);
		return;
	}
	wait->grant.ambient = true;
	wait->aws = awskey_find(&known, on_aws_key, wait);
	if (wait->aws == NULL)
		end_with_key(wait, known);
}

/* Which key: the owner's where one is allowed and stored, the central one where it may be used. */
static void
choose_key(GrantWait *wait, const char *own)
{
	const json_t *provider = wait->grant.provider;
	const char *central = json_string_value(json_object_get(provider, "api_key"));
	bool user_keys = json_is_true(json_object_get(provider, "allow_user_api_key"));
	bool may = !user_keys || json_is_true(json_object_get(provider, "allow_central_api_key_fallback"));

	if (own == NULL && may && central != NULL && *central != '\0')
		own = central;
	if (own == NULL && may && json_is_true(json_object_get(provider, "ambient")))
		use_ambient_key(wait);
	else
		end_with_key(wait, own);
}

static void
on_user_key(void *arg, PGresult *result)
{
	GrantWait *wait = arg;

	wait->call = NULL;
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		choose_key(wait, PQgetisnull(result, 0, 0) ? NULL : PQgetvalue(result, 0, 0));
	else
		end(wait, result != NULL ? "The server could not read the configuration of chats." : NULL);
}

static void
got_providers(void *arg, const json_t *value, const char *error)
{
	GrantWait *wait = arg;
	const char *wanted = json_string_value(json_object_get(wait->grant.model, "provider"));
	const char *params[2] = {wait->owner, NULL};
	size_t i;
	json_t *p;

	wait->wait = NULL;
	if (error != NULL)
	{
		end(wait, "The server could not read the configuration of chats.");
		return;
	}
	json_array_foreach(value, i, p)
	{
		const char *name = json_string_value(json_object_get(p, "provider"));

		if (wait->grant.provider == NULL && name != NULL && wanted != NULL && strcmp(name, wanted) == 0)
			wait->grant.provider = json_incref(p);
	}
	if (wait->grant.provider == NULL)
	{
		end(wait, "The model's provider is turned off.");
		return;
	}
	if (!json_is_true(json_object_get(wait->grant.provider, "allow_user_api_key")))
	{
		choose_key(wait, NULL);
		return;
	}
	params[1] = json_string_value(json_object_get(wait->grant.provider, "id"));
	wait->call = db_call("SELECT coder.chat_run_user_key($1, $2)", 2, params, on_user_key, wait);
	if (wait->call == NULL)
		end(wait, NULL);
}

/* What is asked may be answered at once: then the wait is gone when the call returns. */
static void
ask_config(GrantWait *wait, ConfigKind kind, const char *key, ConfigDone done)
{
	GrantWait **slot = wait->slot;
	ConfigWait *pending = config_get(wait->config, kind, key, wait->now_ms, done, wait);

	if (pending != NULL)
		(*slot)->wait = pending;
}

static void
got_model(void *arg, const json_t *value, const char *error)
{
	GrantWait *wait = arg;
	bool was_default = wait->grant.model != NULL; /* JSON null: its own is gone */

	wait->wait = NULL;
	if (error != NULL)
	{
		end(wait, "The server could not read the configuration of chats.");
		return;
	}
	json_decref(wait->grant.model);
	wait->grant.model = json_incref((json_t *) value);
	if (!json_is_null(value))
		ask_config(wait, CONFIG_PROVIDERS, "", got_providers);
	else if (!was_default)
		ask_config(wait, CONFIG_DEFAULT_MODEL, "", got_model);
	else
		end(wait, "The chat's model was deleted, and there is no default.");
}

static GrantWait *
new_wait(GrantWait **slot, ConfigCache *config, int64_t now_ms, const char *owner, GrantDone done, void *arg)
{
	GrantWait *wait = calloc(1, sizeof(*wait));

	*slot = wait;
	if (wait == NULL)
	{
		done(arg, (Grant){0}, "The server is out of memory.");
		return NULL;
	}
	wait->slot = slot;
	wait->config = config;
	wait->now_ms = now_ms;
	wait->done = done;
	wait->arg = arg;
	snprintf(wait->owner, sizeof(wait->owner), "%s", owner);
	return wait;
}

void
grant_find(GrantWait **slot, ConfigCache *config, int64_t now_ms, const char *model_id, const char *owner, GrantDone done, void *arg)
{
	GrantWait *wait = new_wait(slot, config, now_ms, owner, done, arg);

	if (wait != NULL)
		ask_config(wait, CONFIG_MODEL, model_id, got_model);
}

void
grant_for(GrantWait **slot, ConfigCache *config, int64_t now_ms, json_t *model, const char *owner, GrantDone done, void *arg)
{
	GrantWait *wait = new_wait(slot, config, now_ms, owner, done, arg);

	if (wait == NULL)
		return;
	wait->grant.model = json_incref(model);
	ask_config(wait, CONFIG_PROVIDERS, "", got_providers);
}

const char *
grant_model_name(const Grant *grant)
{
	const char *model = json_string_value(json_object_get(grant->model, "model"));
	const char *provider = json_string_value(json_object_get(grant->model, "provider"));
	size_t len = strlen(provider);

	if (strncmp(model, provider, len) == 0 && (model[len] == ':' || model[len] == '/'))
		return model + len + 1;
	return model;
}
