/*
 * mcplist.h -- the tools of MCP servers of workspaces, as their agents told of them last.
 *
 * A list is used for a quarter of a minute, as long as its agent is the same start of it; a tool that may have changed
 * something in the workspace ends that at once, for all chats of this runner.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_CHAT_MCPLIST_H
#define GATEWAY_CHAT_MCPLIST_H

#include <stdint.h>

#include <jansson.h>

#define MCPLIST_MS 15000
#define MCPLIST_MAX 1000 /* agents */

/* agent: who it is and since when.  A reference, or NULL: it is to be asked. */
json_t *mcplist_get(const char *agent, int64_t now);

/* Before an agent is asked: what mcplist_put needs to know that nothing has changed meanwhile. */
uint64_t mcplist_mark(void);

/* What it answered. */
void mcplist_put(const char *agent, json_t *tools, uint64_t mark, int64_t now);

/* Something may have changed there. */
void mcplist_drop(const char *agent);

void mcplist_free(void);

#endif
