/*
 * level.h -- rows of tables by their parents, read without the executor.
 *
 * A list of workspaces is read a level at a time: all rows of one table whose
 * key is one of a set of ids.  A statement with "= any($1)" does it, but starting
 * an executor, its sort and its joins cost more than the rows themselves; here
 * the index is scanned once for each id, in the order of ids, under the caller's
 * snapshot.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_LEVEL_H
#define CODER_LEVEL_H

#include "utils/uuid.h"

#define LEVEL_MAX_COLUMNS 40
#define LEVEL_MAX_ORDER 3

/* What a column becomes in a row of the level. */
typedef enum LevelKind
{
	LEVEL_ANY,		/* as it is */
	LEVEL_TEXT,		/* text; NULL is '' */
	LEVEL_ENUM,		/* the label as text */
	LEVEL_JSON,		/* jsonb as text */
	LEVEL_LABELS,	/* an array of an enum as the text of a JSON array */
	LEVEL_SKIP		/* a boolean: rows where it is true are left out */
} LevelKind;

typedef struct LevelColumn
{
	int at; /* place in the row; any for LEVEL_SKIP */
	const char *name;
	LevelKind kind;
} LevelColumn;

/* Orders rows of one parent; a row has the columns of the level. */
typedef struct LevelOrder
{
	int at;
	Oid type; /* INT4OID, INT8OID (timestamps too), TEXTOID or UUIDOID */
} LevelOrder;

typedef struct LevelTable
{
	const char *table;
	const char *index; /* whose first column is the key, a uuid */
	int natts;		   /* of a row; the key is row[0] */
	bool first_only;   /* of each key's rows, in the index's order */
	int norder;
	LevelOrder order[LEVEL_MAX_ORDER];
	int ncolumns;
	const LevelColumn *columns;
	/* looked up */
	bool known;
	Oid relid;
	Oid indexid;
	AttrNumber attnums[LEVEL_MAX_COLUMNS];
} LevelTable;

typedef struct Row
{
	Datum *v;
	bool *null;
} Row;

/* Rows ordered by key; all that they point to lives in the context of the call. */
typedef struct Level
{
	int n;
	int natts;
	int room;
	Datum *values;
	bool *nulls;
} Level;

/* A set of ids, ordered, each once. */
typedef struct LevelKeys
{
	int n;
	int room;
	const pg_uuid_t **ids;
} LevelKeys;

static inline Row
level_row(const Level *level, int i)
{
	Row row = {level->values + (size_t) i * level->natts, level->nulls + (size_t) i * level->natts};

	return row;
}

/* Before the first read of a call: forgets what a change of the catalogs made untrue. */
extern void level_begin(void);
/* Counts the changes of the catalogs that level_read depends on. */
extern uint64 level_catalogs(void);
/* Are all changes of these tables told to change.c?  Not where someone has disabled a trigger. */
extern bool level_watched(LevelTable *list, int n);
extern void level_read(LevelTable *table, LevelKeys *keys, Level *level);
/* The rows of one key: the first and how many. */
extern int level_find(const Level *level, const pg_uuid_t *key, int *count);
extern void level_keys_add(LevelKeys *keys, const pg_uuid_t *id);
/* Adds a column of a level; NULLs are no ids. */
extern void level_keys_add_column(LevelKeys *keys, const Level *level, int column);

#endif
