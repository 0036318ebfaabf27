/*
 * push.c -- the requests to push services, and what they say of browsers that are gone.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>

#include <jansson.h>

#include "db.h"
#include "errand.h"
#include "push.h"

static void
on_pushed(void *arg, json_t *results)
{
	json_t *ids = arg;
	char *ids_text = json_dumps(ids, JSON_COMPACT);
	char *text = json_dumps(results, JSON_COMPACT);
	const char *const params[] = {ids_text, text};

	if (ids_text != NULL && text != NULL)
		db_call("SELECT coder.chat_pushed($1::jsonb, $2::jsonb)", 2, params, NULL, NULL);
	free(ids_text);
	free(text);
	json_decref(ids);
	json_decref(results);
}

void
push_send(const char *plan)
{
	json_t *all = json_loads(plan, 0, NULL);
	json_t *ids = json_incref(json_object_get(all, "ids"));

	if (errand_begin(json_object_get(all, "requests"), on_pushed, ids) == NULL)
		json_decref(ids);
	json_decref(all);
}
