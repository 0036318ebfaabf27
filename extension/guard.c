/*
 * guard.c -- what a person at an SQL prompt must not do to rows behind row security, where
 * PostgreSQL has no rule of its own.
 *
 * Where nobody is signed in there are no rows; a statement that is parsed then fails and says
 * so, since silence would be taken for an empty deployment.
 *
 * EXPLAIN tells of rows that were left out ("Rows Removed by Filter") and of values in the
 * statistics: over tables whose rows are filtered it is for coder_admin only.  Nobody leaves a
 * prepared transaction behind.  DISCARD ALL ends the login, as poolers expect.  A statement that lacks a privilege fails as it would
 * anyway, with a hint about what to do instead.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_class.h"
#include "commands/prepare.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "coder.h"
#include "compat.h"

static ProcessUtility_hook_type prev_process_utility;
static post_parse_analyze_hook_type prev_post_parse_analyze;

/* ---- EXPLAIN ---- */

/* Is a table of ours filtered for the user somewhere in a rewritten query? */
static bool
filtered_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->securityQuals != NIL &&
			   get_rel_namespace(rte->relid) == coder_namespace();
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, filtered_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, filtered_walker, context);
}

static bool
any_filtered(List *queries)
{
	ListCell *cell;

	foreach (cell, queries)
		if (filtered_walker((Node *) lfirst(cell), NULL))
			return true;
	return false;
}

/* The query that an EXPLAIN would show, as analyzed; NULL where it is a prepared one. */
static Query *
explained_query(Query *query, const char **prepared)
{
	Node *utility = query->utilityStmt;

	*prepared = NULL;
	if (query->commandType != CMD_UTILITY)
		return query;
	if (IsA(utility, DeclareCursorStmt))
		return castNode(Query, ((DeclareCursorStmt *) utility)->query);
	if (IsA(utility, CreateTableAsStmt))
		return explained_query(castNode(Query, ((CreateTableAsStmt *) utility)->query), prepared);
	if (IsA(utility, ExecuteStmt))
		*prepared = ((ExecuteStmt *) utility)->name;
	return NULL;
}

static void
check_explain(ExplainStmt *stmt)
{
	const char *prepared;
	Query *query;
	bool filtered = false;

	if (superuser() || coder_role_has("coder_admin", GetOuterUserId()))
		return;
	query = explained_query(castNode(Query, stmt->query), &prepared);
	if (query != NULL)
		filtered = any_filtered(QueryRewrite(copyObject(query)));
	else if (prepared != NULL)
	{
		PreparedStatement *entry = FetchPreparedStatement(prepared, false);

		filtered = entry != NULL && entry->plansource->dependsOnRLS;
	}
	if (filtered)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for EXPLAIN"),
				 errdetail("It would tell of rows that you may not read."),
				 errhint("Members of coder_admin may.")));
}

/* A prepared transaction would keep its locks, and events from being told, with nobody to end it. */
static void
check_prepare(TransactionStmt *stmt)
{
	if (stmt->kind == TRANS_STMT_PREPARE && coder_role_has("coder_user", GetSessionUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for PREPARE TRANSACTION"),
				 errdetail("What it locks would stay locked when the session has ended.")));
}

static void
guard_process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
					  ProcessUtilityContext context, ParamListInfo params,
					  QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node *stmt = pstmt->utilityStmt;
	bool discard = IsA(stmt, DiscardStmt) && ((DiscardStmt *) stmt)->target == DISCARD_ALL;

	if (IsA(stmt, ExplainStmt))
		check_explain((ExplainStmt *) stmt);
	else if (IsA(stmt, TransactionStmt))
		check_prepare((TransactionStmt *) stmt);
	(prev_process_utility != NULL ? prev_process_utility : standard_ProcessUtility)(
		pstmt, query_string, read_only_tree, context, params, environment, dest, completion);
	if (discard)
		coder_session_discard();
}

/* ---- hints ---- */

static const char *
verb_of(CmdType command)
{
	return command == CMD_INSERT ? "INSERT" : command == CMD_DELETE ? "DELETE" : "UPDATE";
}

static AclMode
mode_of(CmdType command)
{
	return command == CMD_INSERT ? ACL_INSERT : command == CMD_DELETE ? ACL_DELETE : ACL_UPDATE;
}

static bool
may_column(Oid relid, AttrNumber column, AclMode mode)
{
	return pg_attribute_aclcheck(relid, column, GetUserId(), mode) == ACLCHECK_OK;
}

/* A write that PostgreSQL would refuse. */
static void
check_write(Query *query)
{
	RangeTblEntry *rte = rt_fetch(query->resultRelation, query->rtable);
	AclMode mode = mode_of(query->commandType);
	ListCell *cell;

	if (rte->rtekind != RTE_RELATION || get_rel_namespace(rte->relid) != coder_namespace() ||
		pg_class_aclcheck(rte->relid, GetUserId(), mode) == ACLCHECK_OK)
		return;
	if (query->commandType == CMD_UPDATE &&
		pg_attribute_aclcheck_all(rte->relid, GetUserId(), ACL_UPDATE, ACLMASK_ANY) == ACLCHECK_OK)
	{
		foreach (cell, query->targetList)
		{
			TargetEntry *entry = lfirst(cell);

			if (!entry->resjunk && !may_column(rte->relid, entry->resno, ACL_UPDATE))
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied for column %s of table %s",
								get_attname(rte->relid, entry->resno, false),
								get_rel_name(rte->relid)),
						 errhint("It changes with other rows, or by a function: see the comment of the table.")));
		}
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for table %s", get_rel_name(rte->relid)),
			 errdetail("There is no %s of its rows by hand.", verb_of(query->commandType)),
			 errhint("coder.api(), and functions such as coder.stop_workspace(), do what the API does: see docs/SQL.md.")));
}

static void
check_signed_in(void)
{
	if (coder_subject() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("nobody is signed in to Coder in this session"),
				 errhint("Sign in: SELECT coder.login('<token>').")));
}

/* Names the secret columns of a table that a query reads. */
static void
check_columns(RangeTblEntry *rte, Bitmapset *columns)
{
	int i = -1;

	if (rte->rtekind != RTE_RELATION || get_rel_namespace(rte->relid) != coder_namespace())
		return;
	if (coder_role_has("coder_user", GetUserId()))
		check_signed_in();
	if (pg_class_aclcheck(rte->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		pg_attribute_aclcheck_all(rte->relid, GetUserId(), ACL_SELECT, ACLMASK_ANY) != ACLCHECK_OK)
		return;
	while ((i = bms_next_member(columns, i)) >= 0)
	{
		AttrNumber column = (AttrNumber) (i + FirstLowInvalidHeapAttributeNumber);

		if (column > 0 && !may_column(rte->relid, column, ACL_SELECT))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied for column %s of table %s",
							get_attname(rte->relid, column, false),
							get_rel_name(rte->relid)),
					 errdetail("It holds secrets, or what nobody reads by hand."),
					 errhint("Name the columns you want instead of *, or read one of the views.")));
	}
}

static bool
columns_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query *query = (Query *) node;
		ListCell *cell;

		foreach (cell, query->rtable)
		{
			RangeTblEntry *rte = lfirst(cell);

			check_columns(rte, coder_selected_columns(query, rte));
		}
		return query_tree_walker(query, columns_walker, context, 0);
	}
	return expression_tree_walker(node, columns_walker, context);
}

static void
guard_post_parse_analyze(ParseState *pstate, Query *query, JumbleState *jumble)
{
	if (prev_post_parse_analyze != NULL)
		prev_post_parse_analyze(pstate, query, jumble);
	if (query->commandType == CMD_UTILITY || superuser())
		return;
	if (query->resultRelation > 0 &&
		(query->commandType == CMD_INSERT || query->commandType == CMD_UPDATE ||
		 query->commandType == CMD_DELETE))
		check_write(query);
	columns_walker((Node *) query, NULL);
}

void
coder_guard_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = guard_process_utility;
	prev_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = guard_post_parse_analyze;
}
