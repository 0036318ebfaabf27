/*
 * audit.h -- who changed what: rows of coder.audit_logs from changed rows.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_AUDIT_H
#define CODER_AUDIT_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#define AUDIT_MAX_PARENTS 4

typedef struct AuditColumn
{
	char *name;
	int attno;
	bool secret;
} AuditColumn;

/* A tracked table, as coder.audit_tables and coder.audit_columns describe it. */
typedef struct AuditTable
{
	Oid relid; /* hash key */
	bool loaded;
	char *type;
	char *field;	/* not NULL: its rows are elements of this field of the resource */
	char *describe; /* and this query finds the resource's target, organization and icon */
	TupleDesc desc;
	int id_att;
	int key_att; /* these are 0 where there is none */
	int target_att;
	bool target_user; /* the target is the name of the user of that id */
	int org_att;
	int icon_att;
	int deleted_att;
	int nparents;
	char *parent_types[AUDIT_MAX_PARENTS];
	int parent_atts[AUDIT_MAX_PARENTS];
	int ncolumns;
	AuditColumn *columns;
} AuditTable;

typedef enum AuditOp
{
	OP_CREATE,
	OP_WRITE,
	OP_DELETE
} AuditOp;

/* What coder.audit() says. */
typedef struct AuditNote
{
	char *action;
	char *target;
	char *diff;
	char *additional;
	char *icon;
	pg_uuid_t *org;
	pg_uuid_t *actor;
	int status; /* 0: the answer's */
} AuditNote;

/* A changed row, or a note. */
typedef struct AuditChange
{
	struct AuditChange *next;
	SubTransactionId subid;
	const char *type;
	pg_uuid_t id;
	AuditTable *table; /* NULL: a note */
	AuditOp op;
	HeapTuple old;
	HeapTuple new;
	AuditNote *note;
	const char *subsystem; /* whose work it is, "" for somebody's */
} AuditChange;

/* What audit_end_owner() needs. */
typedef struct AuditOwner
{
	Oid user;
	int context;
} AuditOwner;

/* audittable.c */
extern void audit_table_init(void);
extern AuditTable *audit_table(Relation rel);
/* The values of a row; false, or NULL, where the column is not configured, or NULL. */
extern bool audit_row_uuid(const AuditTable *table, HeapTuple row, int attno, pg_uuid_t *out);
extern char *audit_row_text(const AuditTable *table, HeapTuple row, int attno);
extern bool audit_row_deleted(const AuditTable *table, HeapTuple row);
/* The first column of a query by id, and organization and icon unless they are NULL; NULL: no row.
 */
extern char *audit_look_up(const char *sql, const pg_uuid_t *id, pg_uuid_t *org, char **icon);
/* Becomes the owner of the schema for a while. */
extern AuditOwner audit_begin_owner(void);
extern void audit_end_owner(AuditOwner owner);

/* auditdiff.c */
/* Does a tracked column differ? */
extern bool audit_differs(const AuditTable *table, HeapTuple old, HeapTuple new);
/* Members of the diff of a row; NULL stands for no row. */
extern void audit_append_diff(StringInfo buf, const AuditTable *table, HeapTuple old,
							  HeapTuple new);
/* A row as an element of a field: its only tracked column, or an object of them. */
extern void audit_append_element(StringInfo buf, const AuditTable *table, HeapTuple row);

/* auditrow.c */
/* Rows of the log for changes. */
extern void audit_write(const AuditChange *changes, int status);
/* The transaction has ended. */
extern void audit_forget_request(void);

/* audit.c */
extern bool audit_has_changes(void);
extern void coder_audit_init(void);
/* Changes are held back between the two, and written with the status of the answer. */
extern void coder_audit_begin(void);
extern void coder_audit_end(int status);
extern void coder_audit_cancel(void);

#endif
