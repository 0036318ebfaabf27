/*
 * compat.h -- every difference between server versions.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_COMPAT_H
#define CODER_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "PostgreSQL 15 to 18 is needed"
#endif

#include "nodes/parsenodes.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#include "utils/acl.h"
#include "varatt.h"
#endif

/* The number of this transaction in this backend; "storage/proc.h" must come before. */
#if PG_VERSION_NUM >= 170000
#define CODER_LOCAL_TRANSACTION (MyProc->vxid.lxid)
#else
#define CODER_LOCAL_TRANSACTION (MyProc->lxid)
#endif

/* What is shared about transaction ids; "access/transam.h" must come before. */
#if PG_VERSION_NUM >= 170000
#define CODER_TRANSAM TransamVariables
#else
#define CODER_TRANSAM ShmemVariableCache
#endif

/* The columns that a query reads of a table. */
static inline Bitmapset *
coder_selected_columns(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex == 0)
		return NULL;
	return getRTEPermissionInfo(query->rteperminfos, rte)->selectedCols;
#else
	return rte->selectedCols;
#endif
}

#endif
