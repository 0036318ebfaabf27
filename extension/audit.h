/*
 * audit.h -- who changed what: rows of coder.audit_logs from changed rows.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_AUDIT_H
#define CODER_AUDIT_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "lib/stringinfo.h"
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

/* auditdiff.c */
/* Does a tracked column differ? */
extern bool audit_differs(const AuditTable *table, HeapTuple old, HeapTuple new);
/* Members of the diff of a row; NULL stands for no row. */
extern void audit_append_diff(StringInfo buf, const AuditTable *table, HeapTuple old, HeapTuple new);
/* A row as an element of a field: its only tracked column, or an object of them. */
extern void audit_append_element(StringInfo buf, const AuditTable *table, HeapTuple row);

/* audit.c */
extern void coder_audit_init(void);
/* Changes are held back between the two, and written with the status of the answer. */
extern void coder_audit_begin(void);
extern void coder_audit_end(int status);
extern void coder_audit_cancel(void);

#endif
