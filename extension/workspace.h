/*
 * workspace.h -- what the files of workspaces share: rows, their JSON, what is kept of it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_WORKSPACE_H
#define CODER_WORKSPACE_H

#include "lib/stringinfo.h"
#include "utils/array.h"

#include "level.h"
#include "workspaceagent.h"

typedef enum LevelId
{
	L_WORKSPACE,
	L_PARENT, /* workspaces of builds, where L_WORKSPACE is not read */
	L_BUILD,
	L_JOB,
	L_VERSION,
	L_TEMPLATE,
	L_USER,
	L_ORG,
	L_RESOURCE,
	L_METADATA,
	L_AGENT,
	L_NODE,
	L_APP,
	L_SCRIPT,
	L_SOURCE,
	L_STATUS,
	L_LATEST_STATUS,
	L_COUNT
} LevelId;

/*
 * Columns of the levels' rows.  Column 0 is what a level is searched by.  What
 * stands in no list of columns below is taken from another level (join_…).
 */
enum
{
	W_ID, W_CREATED, W_UPDATED, W_OWNER, W_OWNER_NAME, W_OWNER_AVATAR, W_ORG, W_ORG_NAME,
	W_TEMPLATE, W_TEMPLATE_NAME, W_TEMPLATE_DISPLAY, W_TEMPLATE_ICON, W_CANCEL, W_ACTIVE_VERSION,
	W_REQUIRE_ACTIVE, W_CLASSIC, W_BUILD, W_NAME, W_SCHEDULE, W_TTL, W_DEFAULT_TTL, W_USER_AUTOSTOP,
	W_LAST_USED, W_DELETING, W_DORMANT, W_UPDATES, W_FAVORITE, W_NEXT_START, W_USER_ACL, W_GROUP_ACL,
	W_SHARED, W_COUNT
};
enum
{
	B_ID, B_CREATED, B_UPDATED, B_WORKSPACE, B_WORKSPACE_NAME, B_OWNER, B_OWNER_NAME, B_OWNER_AVATAR,
	B_VERSION, B_VERSION_NAME, B_NUMBER, B_TRANSITION, B_INITIATOR, B_INITIATOR_NAME, B_REASON,
	B_DEADLINE, B_MAX_DEADLINE, B_COST, B_PRESET, B_AI_TASK, B_EXTERNAL_AGENT,
	J_ID, J_CREATED, J_STARTED, J_COMPLETED, J_CANCELED, J_ERROR, J_ERROR_CODE, J_STATUS, J_WORKER,
	J_FILE, J_TAGS, J_ORG, J_INITIATOR, J_OVERFLOWED, J_QUEUE, B_COUNT
};
#define JOB(column) ((column) - J_ID) /* of a build's row in the job's */
enum
{
	V_ID, V_NAME, V_COUNT
};
enum
{
	TP_ID, TP_NAME, TP_DISPLAY, TP_ICON, TP_CANCEL, TP_ACTIVE_VERSION, TP_REQUIRE_ACTIVE, TP_CLASSIC,
	TP_DEFAULT_TTL, TP_USER_AUTOSTOP, TP_COUNT
};
enum
{
	U_ID, U_NAME, U_AVATAR, U_COUNT
};
enum
{
	G_ID, G_NAME, G_COUNT
};
enum
{
	R_JOB, R_ID, R_CREATED, R_TRANSITION, R_TYPE, R_NAME, R_HIDE, R_ICON, R_COST, R_COUNT
};
enum
{
	M_RESOURCE, M_KEY, M_VALUE, M_SENSITIVE, M_ID, M_COUNT
};
enum
{
	A_RESOURCE, A_ID, A_PARENT, A_CREATED, A_UPDATED, A_FIRST, A_LAST, A_DISCONNECTED, A_STARTED,
	A_READY, A_TIMEOUT, A_LIFECYCLE, A_NAME, A_INSTANCE, A_ARCH, A_ENV, A_OS, A_LOGS, A_OVERFLOWED,
	A_DIRECTORY, A_EXPANDED, A_VERSION, A_API_VERSION, A_TROUBLE, A_SUBSYSTEMS, A_DISPLAY_APPS,
	A_LATENCY, A_ORDER, A_COUNT
};
enum
{
	N_AGENT, N_LATENCY, N_COUNT
};
enum
{
	P_AGENT, P_ID, P_URL, P_EXTERNAL, P_SLUG, P_DISPLAY, P_COMMAND, P_ICON, P_SUBDOMAIN, P_SHARING,
	P_HEALTH_URL, P_HEALTH_INTERVAL, P_HEALTH_THRESHOLD, P_HEALTH, P_GROUP, P_HIDDEN, P_OPEN_IN,
	P_TOOLTIP, P_ORDER, P_COUNT
};
enum
{
	S_AGENT, S_ID, S_SOURCE, S_PATH, S_SCRIPT, S_CRON, S_ON_START, S_ON_STOP, S_BLOCKS, S_TIMEOUT,
	S_DISPLAY, S_ORDINAL, S_COUNT
};
enum
{
	O_AGENT, O_ID, O_CREATED, O_DISPLAY, O_ICON, O_COUNT
};
enum
{
	T_KEY, T_ID, T_CREATED, T_WORKSPACE, T_AGENT, T_APP, T_STATE, T_MESSAGE, T_URI, T_COUNT
};

/* Everything below a set of jobs. */
typedef struct Tree
{
	Level level[L_COUNT];
	TimestampTz now;
	bool fresh; /* the answer to the request that made the build */
} Tree;

/* ---- workspacetree.c ---- */

/* Empties the tree and connects to SPI; fresh: for the request that made the build. */
extern void tree_begin(Tree *tree, bool fresh);
extern const pg_uuid_t **tree_array_ids(ArrayType *array, int *count);
extern LevelKeys tree_keys(const pg_uuid_t **ids, int n);
/* Read rows and what they name, down to the agents' parts; workspaces says in which level builds have theirs. */
extern void tree_read_workspaces(Tree *tree, const pg_uuid_t **ids, int n);
extern void tree_read_builds(Tree *tree, LevelKeys *ids, LevelId workspaces);
extern void tree_read_jobs(Tree *tree, LevelKeys *jobs);
/* The row of an id that is its level's key; v is NULL if there is none. */
extern Row tree_row(const Tree *tree, LevelId id, Datum key);
/* The same where a foreign key says that there is one. */
extern Row tree_need_row(const Tree *tree, LevelId id, Datum key);
extern Row tree_latest_build(const Tree *tree, Row workspace);
/* Is the job of a build waiting for a provisioner? */
extern bool tree_build_pending(Row build);
extern CoderAgentTimes tree_agent_times(Row agent);
/* Are all changes of the tables that are read told to change.c? */
extern bool tree_watched(void);

/* ---- workspace.c ---- */

/* A workspace as everyone but its owner sees it.  Returns where the value of "favorite" begins. */
extern int workspace_write(StringInfo buf, const Tree *tree, Row row);
extern void workspace_keep_memory(void);

/* ---- workspacekeep.c ---- */

/* May answers be kept and found now?  What was kept under other catalogs is forgotten. */
extern bool workspace_keep_usable(void);
/* Are the catalogs still those of that time? */
extern bool workspace_keep_still(void);
/* An array of Workspace in the order of the ids, as viewer sees them. */
extern void workspaces_write(StringInfo buf, const char *key, ArrayType *array, const pg_uuid_t *viewer, bool fresh);

#endif
