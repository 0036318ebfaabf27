/*
 * audittable.c -- the tracked tables, as coder.audit_tables and coder.audit_columns say, and
 * values of their rows.
 *
 * Kept per backend by table, and read anew when one of them or the two tables change.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "audit.h"
#include "coder.h"
#include "compat.h"

static HTAB *tables;
static MemoryContext tables_context;
static Oid config_relid;
static bool tables_stale = true;

PG_FUNCTION_INFO_V1(coder_audit_config_changed);

static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == config_relid ||
		(tables != NULL && hash_search(tables, &relid, HASH_FIND, NULL) != NULL))
		tables_stale = true;
}

void
audit_table_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
}

/* coder.audit_config_changed() RETURNS trigger: all backends read the tracked tables anew. */
Datum
coder_audit_config_changed(PG_FUNCTION_ARGS)
{
	Oid relid = get_relname_relid("audit_columns", coder_namespace());

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
	PG_RETURN_POINTER(NULL);
}

AuditOwner
audit_begin_owner(void)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(coder_namespace()));
	AuditOwner state;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema coder does not exist");
	GetUserIdAndSecContext(&state.user, &state.context);
	SetUserIdAndSecContext(((Form_pg_namespace) GETSTRUCT(tuple))->nspowner,
						   state.context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	return state;
}

/* An error on the way resets both at the transaction's or subtransaction's end. */
void
audit_end_owner(AuditOwner state)
{
	SetUserIdAndSecContext(state.user, state.context);
}

static void
reset_tables(void)
{
	HASHCTL ctl = {0};

	if (tables_context != NULL && !audit_has_changes())
		MemoryContextDelete(tables_context); /* else changes still refer to it: it stays */
	tables_context =
		AllocSetContextCreate(TopMemoryContext, "coder audit tables", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(AuditTable);
	ctl.hcxt = tables_context;
	tables = hash_create("coder audit tables", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	config_relid = get_relname_relid("audit_columns", coder_namespace());
	tables_stale = false;
}

static const Oid name_args[] = {TEXTOID};

static CoderPlan table_plan = {
	"SELECT t.resource_type::pg_catalog.text, t.field, t.id_column, t.key_column, t.target_column,"
	"       t.target_user, t.organization_column, t.icon_column, t.parent_types, t.parent_columns"
	"  FROM coder.audit_tables t WHERE t.table_name OPERATOR(pg_catalog.=) $1",
	1,
	name_args,
	NULL};

static CoderPlan columns_plan = {
	"SELECT c.column_name, c.action OPERATOR(pg_catalog.=) 'secret' FROM coder.audit_columns c"
	" WHERE c.table_name OPERATOR(pg_catalog.=) $1 AND c.action OPERATOR(pg_catalog.<>) 'ignore'"
	" ORDER BY c.column_name",
	1,
	name_args,
	NULL};

/* The query of target, organization and icon of a resource by its id. */
static CoderPlan describe_plan = {
	"SELECT pg_catalog.format('SELECT %s, %s, %s FROM coder.%I t WHERE t.%I OPERATOR(pg_catalog.=) $1',"
	"  coalesce('t.' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(t.target_column) OPERATOR(pg_catalog.||) '::pg_catalog.text', pg_catalog.quote_literal('')),"
	"  coalesce('t.' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(t.organization_column), 'NULL::pg_catalog.uuid'),"
	"  coalesce('t.' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(t.icon_column), pg_catalog.quote_literal('')), t.table_name, t.id_column)"
	"  FROM coder.audit_tables t"
	" WHERE t.resource_type::pg_catalog.text OPERATOR(pg_catalog.=) $1 AND t.field IS NULL",
	1,
	name_args,
	NULL};

static char *
spi_text(int row, int col)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col);
}

/* The number of the column that a configured name means; 0 for none. */
static int
column_number(AuditTable *table, const char *name)
{
	int attno = name != NULL ? SPI_fnumber(table->desc, name) : 0;

	if (name != NULL && attno <= 0)
		elog(
			ERROR, "coder.audit_tables: there is no column \"%s\" of table %u", name, table->relid);
	return attno;
}

static int
spi_array(int col, char **out)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, col, &isnull);
	Datum *elems;
	int n;

	deconstruct_array(
		DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elems, NULL, &n);
	for (int i = 0; i < n && i < AUDIT_MAX_PARENTS; i++)
		out[i] = MemoryContextStrdup(tables_context, TextDatumGetCString(elems[i]));
	return Min(n, AUDIT_MAX_PARENTS);
}

static char *
keep(const char *text)
{
	return text != NULL ? MemoryContextStrdup(tables_context, text) : NULL;
}

static void
load_columns(AuditTable *table, Datum *name)
{
	coder_execute(&columns_plan, name, NULL, true, 0);
	table->ncolumns = (int) SPI_processed;
	table->columns =
		MemoryContextAllocZero(tables_context, sizeof(AuditColumn) * (SPI_processed + 1));
	for (int i = 0; i < table->ncolumns; i++)
	{
		AuditColumn *column = &table->columns[i];

		column->name = keep(spi_text(i, 1));
		column->secret = spi_text(i, 2)[0] == 't';
		column->attno = column_number(table, column->name);
	}
}

static void
load_description(AuditTable *table)
{
	Datum type = CStringGetTextDatum(table->type);

	coder_execute(&describe_plan, &type, NULL, true, 1);
	if (SPI_processed == 0)
		elog(ERROR, "coder.audit_tables has no table of %s", table->type);
	table->describe = keep(spi_text(0, 1));
}

static void
load_table(AuditTable *table, Relation rel)
{
	Datum name = CStringGetTextDatum(RelationGetRelationName(rel));
	char *parents[AUDIT_MAX_PARENTS];
	MemoryContext old = MemoryContextSwitchTo(tables_context);

	table->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	MemoryContextSwitchTo(old);
	coder_execute(&table_plan, &name, NULL, true, 1);
	if (SPI_processed == 0)
		elog(ERROR, "table %s is not in coder.audit_tables", RelationGetRelationName(rel));
	table->type = keep(spi_text(0, 1));
	table->field = keep(spi_text(0, 2));
	table->id_att = column_number(table, spi_text(0, 3));
	table->key_att = column_number(table, spi_text(0, 4));
	table->target_att = column_number(table, spi_text(0, 5));
	table->target_user = spi_text(0, 6)[0] == 't';
	table->org_att = column_number(table, spi_text(0, 7));
	table->icon_att = column_number(table, spi_text(0, 8));
	table->deleted_att = Max(SPI_fnumber(table->desc, "deleted"), 0);
	table->nparents = spi_array(9, table->parent_types);
	spi_array(10, parents);
	for (int i = 0; i < table->nparents; i++)
		table->parent_atts[i] = column_number(table, parents[i]);
	load_columns(table, &name);
	if (table->field != NULL)
		load_description(table);
	table->loaded = true;
}

AuditTable *
audit_table(Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	AuditTable *table;
	AuditOwner owner;

	if (tables_stale)
		reset_tables();
	table = hash_search(tables, &relid, HASH_FIND, NULL);
	if (table != NULL && table->loaded)
		return table;
	table = hash_search(tables, &relid, HASH_ENTER, NULL);
	memset((char *) table + sizeof(Oid), 0, sizeof(*table) - sizeof(Oid));
	owner = audit_begin_owner();
	SPI_connect();
	load_table(table, rel);
	SPI_finish();
	audit_end_owner(owner);
	return table;
}

bool
audit_row_uuid(const AuditTable *table, HeapTuple row, int attno, pg_uuid_t *out)
{
	bool isnull;
	Datum value;

	if (attno == 0 || row == NULL)
		return false;
	value = heap_getattr(row, attno, table->desc, &isnull);
	if (!isnull)
		*out = *DatumGetUUIDP(value);
	return !isnull;
}

char *
audit_row_text(const AuditTable *table, HeapTuple row, int attno)
{
	Oid output;
	bool varlena;
	bool isnull;
	Datum value;

	if (attno == 0 || row == NULL)
		return NULL;
	value = heap_getattr(row, attno, table->desc, &isnull);
	if (isnull)
		return NULL;
	getTypeOutputInfo(TupleDescAttr(table->desc, attno - 1)->atttypid, &output, &varlena);
	return OidOutputFunctionCall(output, value);
}

bool
audit_row_deleted(const AuditTable *table, HeapTuple row)
{
	bool isnull;
	Datum value;

	if (table->deleted_att == 0 || row == NULL)
		return false;
	value = heap_getattr(row, table->deleted_att, table->desc, &isnull);
	return !isnull && DatumGetBool(value);
}

/* The one value of a query by id as the schema's owner; NULL where there is no row. */
char *
audit_look_up(const char *sql, const pg_uuid_t *id, pg_uuid_t *org, char **icon)
{
	Oid types[1] = {UUIDOID};
	Datum value = UUIDPGetDatum(unconstify(pg_uuid_t *, id));
	MemoryContext caller = CurrentMemoryContext;
	AuditOwner owner = audit_begin_owner();
	char *answer = NULL;

	SPI_connect();
	SPI_execute_with_args(sql, 1, types, &value, NULL, false, 1);
	if (SPI_processed == 1)
	{
		char *text = spi_text(0, 1);
		bool isnull = true;
		Datum found = (Datum) 0;

		answer = MemoryContextStrdup(caller, text != NULL ? text : "");
		if (org != NULL)
			found = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		if (!isnull)
			*org = *DatumGetUUIDP(found);
		if (icon != NULL && spi_text(0, 3) != NULL)
			*icon = MemoryContextStrdup(caller, spi_text(0, 3));
	}
	SPI_finish();
	audit_end_owner(owner);
	return answer;
}
