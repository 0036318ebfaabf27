/*
 * mcplist.c -- {agent: {"tools", "until"}}.
 *
 * SPDX-License-Identifier: MIT
 */
#include "mcplist.h"

static json_t *lists;
static uint64_t changes;

json_t *
mcplist_get(const char *agent, int64_t now)
{
	const json_t *list = json_object_get(lists, agent);

	return list != NULL && json_integer_value(json_object_get(list, "until")) > now ? json_incref(json_object_get(list, "tools")) : NULL;
}

uint64_t
mcplist_mark(void)
{
	return changes;
}

/* Those whose time is over; all, where that is not enough. */
static void
make_room(int64_t now)
{
	void *next;
	const char *agent;
	json_t *list;

	json_object_foreach_safe(lists, next, agent, list)
	{
		if (json_integer_value(json_object_get(list, "until")) <= now)
			json_object_del(lists, agent);
	}
	if (json_object_size(lists) >= MCPLIST_MAX)
		json_object_clear(lists);
}

void
mcplist_put(const char *agent, json_t *tools, uint64_t mark, int64_t now)
{
	if (lists == NULL)
		lists = json_object();
	if (mark != changes)
		return;
	if (json_object_size(lists) >= MCPLIST_MAX)
		make_room(now);
	json_object_set_new(lists, agent, json_pack("{s:O, s:I}", "tools", tools, "until", (json_int_t) now + MCPLIST_MS));
}

void
mcplist_drop(const char *agent)
{
	changes++;
	json_object_del(lists, agent);
}

void
mcplist_free(void)
{
	json_decref(lists);
	lists = NULL;
}
