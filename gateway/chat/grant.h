/*
 * grant.h -- which model a chat uses, at which provider, with whose key.
 *
 * From the cache of configuration; only a user's own key is read each time.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_GRANT_H
#define GATEWAY_CHAT_GRANT_H

#include <stdbool.h>

#include <jansson.h>

#include "config.h"

typedef struct Grant
{
	json_t *model;	  /* a row of coder.chat_model_configs, or as much of one as a request needs */
	json_t *provider; /* of the list of providers */
	char *api_key;
	bool ambient; /* the key is the machine's own (awskey.h), which may have changed since */
} Grant;

typedef struct GrantWait GrantWait;

/*
 * grant: taken over, empty where there is an error; what was found before the error may be in it.  Neither a grant that is
 * whole nor an error: the connection to the database was lost.
 */
typedef void (*GrantDone)(void *arg, Grant grant, const char *error);

/*
 * For a model by its id, or the default where that is gone.  *slot is the wait until done is called, which may be before
 * this returns.
 */
void grant_find(GrantWait **slot, ConfigCache *config, int64_t now_ms, const char *model_id, const char *owner, GrantDone done, void *arg);

/* For a model that is not of the configuration: {"provider", "model", "options"}. */
void grant_for(GrantWait **slot, ConfigCache *config, int64_t now_ms, json_t *model, const char *owner, GrantDone done, void *arg);

/* NULL is no error. */
void grant_cancel(GrantWait *wait);

void grant_free(Grant *grant);

/* The model's name without its provider's: "provider:model" and "provider/model" are the same as "model". */
const char *grant_model_name(const Grant *grant);

#endif
