/*
 * audit.c -- the audit log: who changed what, by the API or by SQL.
 *
 * coder.audit_row() is the trigger of every tracked table; which columns count
 * is in coder.audit_columns.  What an API request changes is held back until
 * its function has answered, so that a resource has one row a request, with the
 * status; outside of a request a row is written at once.  coder.audit() adds
 * what a changed row does not tell (a login, who did it) and joins the change
 * of the same resource.
 *
 * Rows are written as the schema's owner, since who changes a table need not
 * have rights on the log; and nobody changes one: coder.audit_guard().
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "audit.h"
#include "coder.h"
#include "compat.h"
#include "error.h"
#include "json.h"
#include "request.h"

#define SUBSYSTEM_LEN 32
#define KEY_LEN 160
#define LABELS_MAX 8

typedef enum AuditOp
{
	OP_CREATE,
	OP_WRITE,
	OP_DELETE
} AuditOp;

static const char *const op_names[] = {"create", "write", "delete"};

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
} AuditChange;

/* All changes of one resource in a request. */
typedef struct AuditEntry
{
	char key[KEY_LEN]; /* of the hash: type, id, and what tells rows of one id apart */
	struct AuditEntry *next;
	const char *type;
	pg_uuid_t id;
	AuditTable *table; /* NULL: only notes and elements */
	AuditOp op;
	HeapTuple old;
	HeapTuple new;
	AuditTable *elements;
	StringInfo removed;
	StringInfo added;
	AuditNote *note;
	bool gone; /* told by another entry */
} AuditEntry;

/* A row of the log. */
typedef struct AuditRow
{
	const char *action;
	const char *type;
	const pg_uuid_t *id;
	const char *target;
	const char *icon;
	const char *diff;
	const char *additional;
	const pg_uuid_t *org;
	const pg_uuid_t *actor;
	const pg_uuid_t *request_id;
	int status;
} AuditRow;

/* Whose work the next changes are, when it is the server's own. */
typedef struct AuditLabel
{
	char subsystem[SUBSYSTEM_LEN]; /* "" : nobody's */
	bool told;
	SubTransactionId subid;
} AuditLabel;

static HTAB *tables;
static MemoryContext tables_context;
static Oid config_relid;
static bool tables_stale = true;

static int serving; /* depth of requests */
static MemoryContext changes_context;
static AuditChange *changes;
static AuditChange *last_change;
static AuditLabel labels[LABELS_MAX] = {{"", true, InvalidSubTransactionId}}; /* the first is nobody's */
static int nlabels = 1;
static pg_uuid_t transaction_id; /* request_id of what has no request */
static bool has_transaction_id;
static bool purging;

static const pg_uuid_t nil_uuid;

PG_FUNCTION_INFO_V1(coder_audit_row);
PG_FUNCTION_INFO_V1(coder_audit_build);
PG_FUNCTION_INFO_V1(coder_audit_guard);
PG_FUNCTION_INFO_V1(coder_audit_config_changed);
PG_FUNCTION_INFO_V1(coder_audit);
PG_FUNCTION_INFO_V1(coder_audit_as);
PG_FUNCTION_INFO_V1(coder_audit_subsystem);
PG_FUNCTION_INFO_V1(coder_audit_purge);

static const AuditLabel *
current_label(void)
{
	return &labels[nlabels - 1];
}

/* State ---------------------------------------------------------------------- */

static void
forget_changes(void)
{
	changes = NULL;
	last_change = NULL;
	changes_context = NULL;
}

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	forget_changes();
	nlabels = 1;
	has_transaction_id = false;
	purging = false;
	serving = 0;
}

/* Ids of subtransactions grow: what is left of an aborted one has its id or a later one. */
static void
on_subxact_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	AuditChange **link = &changes;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	last_change = NULL;
	while (*link != NULL)
	{
		if ((*link)->subid >= subid)
		{
			*link = (*link)->next;
			continue;
		}
		last_change = *link;
		link = &(*link)->next;
	}
	while (nlabels > 1 && labels[nlabels - 1].subid >= subid)
		nlabels--;
	purging = false;
}

static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == config_relid ||
		(tables != NULL && hash_search(tables, &relid, HASH_FIND, NULL) != NULL))
		tables_stale = true;
}

void
coder_audit_init(void)
{
	CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
	RegisterXactCallback(on_xact_end, NULL);
	RegisterSubXactCallback(on_subxact_end, NULL);
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

/* Becomes the owner of the schema; what end_owner() needs. */
typedef struct OwnerState
{
	Oid user;
	int context;
} OwnerState;

static OwnerState
begin_owner(void)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(coder_namespace()));
	OwnerState state;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema coder does not exist");
	GetUserIdAndSecContext(&state.user, &state.context);
	SetUserIdAndSecContext(((Form_pg_namespace) GETSTRUCT(tuple))->nspowner,
						   state.context | SECURITY_LOCAL_USERID_CHANGE);
	ReleaseSysCache(tuple);
	return state;
}

/* An error on the way resets both at the transaction's or subtransaction's end. */
static void
end_owner(OwnerState state)
{
	SetUserIdAndSecContext(state.user, state.context);
}

/* Tracked tables --------------------------------------------------------------- */

static void
reset_tables(void)
{
	HASHCTL ctl = {0};

	if (tables_context != NULL && changes == NULL)
		MemoryContextDelete(tables_context); /* else changes still refer to it: it stays */
	tables_context =
		AllocSetContextCreate(TopMemoryContext, "coder audit tables", ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(AuditTable);
	ctl.hcxt = tables_context;
	tables =
		hash_create("coder audit tables", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
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
		elog(ERROR, "coder.audit_tables: there is no column \"%s\" of table %u", name, table->relid);
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

static AuditTable *
find_table(Relation rel)
{
	Oid relid = RelationGetRelid(rel);
	AuditTable *table;
	OwnerState owner;

	if (tables_stale)
		reset_tables();
	table = hash_search(tables, &relid, HASH_FIND, NULL);
	if (table != NULL && table->loaded)
		return table;
	table = hash_search(tables, &relid, HASH_ENTER, NULL);
	memset((char *) table + sizeof(Oid), 0, sizeof(*table) - sizeof(Oid));
	owner = begin_owner();
	SPI_connect();
	load_table(table, rel);
	SPI_finish();
	end_owner(owner);
	return table;
}

/* Values of a row -------------------------------------------------------------- */

static bool
row_uuid(const AuditTable *table, HeapTuple row, int attno, pg_uuid_t *out)
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

static char *
row_text(const AuditTable *table, HeapTuple row, int attno)
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

static bool
row_deleted(const AuditTable *table, HeapTuple row)
{
	bool isnull;
	Datum value;

	if (table->deleted_att == 0 || row == NULL)
		return false;
	value = heap_getattr(row, table->deleted_att, table->desc, &isnull);
	return !isnull && DatumGetBool(value);
}

/* The one value of a query by id as the schema's owner; NULL where there is no row. */
static char *
look_up(const char *sql, const pg_uuid_t *id, pg_uuid_t *org, char **icon)
{
	Oid types[1] = {UUIDOID};
	Datum value = UUIDPGetDatum(unconstify(pg_uuid_t *, id));
	MemoryContext caller = CurrentMemoryContext;
	OwnerState owner = begin_owner();
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
	end_owner(owner);
	return answer;
}

/* Writing ---------------------------------------------------------------------- */

static const Oid insert_args[] = {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID,
								  JSONBOID, INT4OID, JSONBOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID};

static CoderPlan insert_plan = {
	"INSERT INTO coder.audit_logs (user_id, organization_id, ip, user_agent, resource_type, resource_id,"
	" resource_target, action, diff, status_code, additional_fields, request_id, resource_icon, token_id,"
	" database_role) VALUES ($1, $2,"
	" CASE WHEN $15 IS NULL THEN $3::pg_catalog.inet ELSE pg_catalog.inet_client_addr() END, $4, $5::coder.resource_type, $6, $7,"
	" $8::coder.audit_action, $9, $10, $11, $12, $13, $14, $15)",
	15,
	insert_args,
	NULL};

static Datum
json_datum(const char *text)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text != NULL ? text : "{}"));
}

static void
set_value(Datum *values, char *nulls, int i, const char *text)
{
	nulls[i] = text == NULL ? 'n' : ' ';
	values[i] = text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
}

static const pg_uuid_t *
request_id(void)
{
	const CoderRequest *request = coder_current_request;

	if (request != NULL && request->request_id != NULL)
		return request->request_id;
	if (!has_transaction_id)
	{
		if (!pg_strong_random(&transaction_id, UUID_LEN))
			elog(ERROR, "no random bytes");
		transaction_id.data[6] = (transaction_id.data[6] & 0x0f) | 0x40; /* version 4 */
		transaction_id.data[8] = (transaction_id.data[8] & 0x3f) | 0x80;
		has_transaction_id = true;
	}
	return &transaction_id;
}

/* The address a request came from, NULL where it is none. */
static char *
client_address(void)
{
	const CoderRequest *request = coder_current_request;
	unsigned char bytes[16];
	char *text = NULL;

	if (request != NULL && request->remote != NULL)
		text = text_to_cstring(request->remote);
	if (text == NULL || (inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1))
		return NULL;
	return text;
}

static char *
user_agent(void)
{
	text *agent = coder_request_header(coder_current_request, "user-agent");
	int len;

	if (agent == NULL)
		return NULL;
	len = pg_mbcharcliplen(VARDATA_ANY(agent), (int) VARSIZE_ANY_EXHDR(agent), 256);
	return pnstrdup(VARDATA_ANY(agent), len);
}

/* Who: the values of a row that do not depend on what was changed. */
static void
set_actor(Datum *values, char *nulls, const AuditRow *row)
{
	const CoderSubject *subject = coder_subject();
	const pg_uuid_t *user = row->actor;

	if (subject == NULL) /* perhaps one whose rights have just gone */
		subject = coder_current_subject;

	if (user == NULL)
		user = subject != NULL ? &subject->rbac.id : &nil_uuid;
	values[0] = UUIDPGetDatum(unconstify(pg_uuid_t *, user));
	set_value(values, nulls, 2, client_address());
	set_value(values, nulls, 3, user_agent());
	values[11] = UUIDPGetDatum(
		unconstify(pg_uuid_t *, row->request_id != NULL ? row->request_id : request_id()));
	set_value(
		values, nulls, 13, subject != NULL && subject->token_id[0] != '\0' ? subject->token_id : NULL);
	set_value(values,
			  nulls,
			  14,
			  coder_current_request == NULL && current_label()->subsystem[0] == '\0'
				  ? GetUserNameFromId(GetSessionUserId(), true)
				  : NULL);
}

static void
write_row(const AuditRow *row)
{
	Datum values[15] = {0};
	char nulls[16];
	OwnerState owner;

	memset(nulls, ' ', sizeof(nulls));
	set_actor(values, nulls, row); /* before, as a session's subject may be its role's */
	owner = begin_owner();
	values[1] = UUIDPGetDatum(unconstify(pg_uuid_t *, row->org != NULL ? row->org : &nil_uuid));
	set_value(values, nulls, 4, row->type);
	values[5] = UUIDPGetDatum(unconstify(pg_uuid_t *, row->id));
	set_value(values, nulls, 6, row->target != NULL ? row->target : "");
	set_value(values, nulls, 7, row->action);
	values[8] = json_datum(row->diff);
	values[9] = Int32GetDatum(row->status);
	values[10] = json_datum(row->additional);
	set_value(values, nulls, 12, row->icon != NULL ? row->icon : "");
	SPI_connect();
	coder_execute(&insert_plan, values, nulls, false, 0);
	SPI_finish();
	end_owner(owner);
}

/* Entries ---------------------------------------------------------------------- */

static void
add_element(StringInfo *list, const AuditTable *table, HeapTuple row)
{
	if (row == NULL)
		return;
	if (*list == NULL)
	{
		*list = makeStringInfo();
		json_open(*list, '[');
	}
	audit_append_element(*list, table, row);
}

/* What a later note says replaces what an earlier one said. */
static void
join_note(AuditEntry *entry, AuditNote *note)
{
	AuditNote *joined = entry->note;

	if (joined == NULL)
	{
		entry->note = note;
		return;
	}
	joined->action = note->action;
	joined->target = note->target[0] != '\0' ? note->target : joined->target;
	joined->diff = note->diff != NULL ? note->diff : joined->diff;
	joined->additional = note->additional != NULL ? note->additional : joined->additional;
	joined->icon = note->icon != NULL ? note->icon : joined->icon;
	joined->org = note->org != NULL ? note->org : joined->org;
	joined->actor = note->actor != NULL ? note->actor : joined->actor;
	joined->status = note->status != 0 ? note->status : joined->status;
}

static void
join_row(AuditEntry *entry, const AuditChange *change)
{
	if (change->table->field != NULL)
	{
		entry->elements = change->table;
		add_element(&entry->removed, change->table, change->old);
		add_element(&entry->added, change->table, change->new);
		return;
	}
	if (entry->table == NULL)
	{
		entry->table = change->table;
		entry->op = change->op;
		entry->old = change->old;
		entry->new = change->new;
		return;
	}
	/* Made and taken away again is nothing; taken away and made again is a change. */
	entry->gone = entry->op == OP_CREATE && change->op == OP_DELETE;
	if (change->op == OP_DELETE)
		entry->op = OP_DELETE;
	else if (entry->op == OP_DELETE)
		entry->op = OP_WRITE;
	entry->new = change->new;
}

static void
join(AuditEntry *entry, const AuditChange *change)
{
	if (change->note != NULL)
		join_note(entry, change->note);
	else
		join_row(entry, change);
}

static void
make_key(char *key, const AuditChange *change)
{
	char *row_key = NULL;

	if (change->table != NULL)
		row_key = row_text(change->table, change->new != NULL ? change->new : change->old, change->table->key_att);
	memset(key, 0, KEY_LEN);
	snprintf(key,
			 KEY_LEN,
			 "%s/%s/%s",
			 change->type,
			 DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&change->id))),
			 row_key != NULL ? row_key : "");
}

static bool
same_resource(const AuditEntry *entry, const char *type, const pg_uuid_t *id)
{
	return strcmp(entry->type, type) == 0 && memcmp(&entry->id, id, sizeof(*id)) == 0;
}

/*
 * A note belongs to the first entry of its resource; a login or logout stands
 * for all of them.  NULL: it is the first.
 */
static AuditEntry *
entry_of_note(AuditEntry *entries, const AuditChange *change)
{
	bool all = strcmp(change->note->action, "logout") == 0 || strcmp(change->note->action, "login") == 0;
	AuditEntry *found = NULL;

	for (AuditEntry *e = entries; e != NULL; e = e->next)
	{
		if (e->gone || !same_resource(e, change->type, &change->id))
			continue;
		if (found == NULL)
			found = e;
		else if (all)
			e->gone = true;
	}
	return found;
}

static void
init_entry(AuditEntry *entry, const AuditChange *change)
{
	memset((char *) entry + KEY_LEN, 0, sizeof(*entry) - KEY_LEN);
	entry->type = change->type;
	entry->id = change->id;
	entry->op = OP_WRITE;
}

/* The changes of the request, one entry a resource, in the order they began. */
static AuditEntry *
collect_entries(void)
{
	HASHCTL ctl = {0};
	HTAB *hash;
	AuditEntry *first = NULL;
	AuditEntry **link = &first;

	ctl.keysize = KEY_LEN;
	ctl.entrysize = sizeof(AuditEntry);
	ctl.hcxt = CurrentMemoryContext;
	hash = hash_create("coder audit entries", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (AuditChange *change = changes; change != NULL; change = change->next)
	{
		AuditEntry *entry = change->note != NULL ? entry_of_note(first, change) : NULL;
		char key[KEY_LEN];
		bool found = true;

		if (entry == NULL)
		{
			make_key(key, change);
			entry = hash_search(hash, key, HASH_ENTER, &found);
		}
		if (!found)
		{
			init_entry(entry, change);
			*link = entry;
			link = &entry->next;
		}
		join(entry, change);
	}
	return first;
}

/* A made or deleted user's membership and keys are part of the user. */
static bool
is_part(const AuditEntry *entry, const AuditEntry *entries)
{
	const AuditTable *table = entry->table;

	if (table == NULL || entry->note != NULL)
		return false;
	for (int i = 0; i < table->nparents; i++)
	{
		pg_uuid_t id;

		if (!row_uuid(table, entry->new != NULL ? entry->new : entry->old, table->parent_atts[i], &id))
			continue;
		for (const AuditEntry *e = entries; e != NULL; e = e->next)
			if (e->table != NULL && e->op != OP_WRITE && same_resource(e, table->parent_types[i], &id))
				return true;
	}
	return false;
}

static void
append_elements(StringInfo diff, AuditEntry *entry)
{
	json_open_at(diff, entry->elements->field, '{');
	json_raw(diff, "old", entry->removed != NULL ? entry->removed->data : "[", entry->removed != NULL ? entry->removed->len : 1);
	json_close(diff, ']');
	json_raw(diff, "new", entry->added != NULL ? entry->added->data : "[", entry->added != NULL ? entry->added->len : 1);
	json_close(diff, ']');
	json_bool(diff, "secret", false);
	json_close(diff, '}');
}

static char *
entry_diff(AuditEntry *entry)
{
	StringInfoData diff;

	if (entry->note != NULL && entry->note->diff != NULL)
		return entry->note->diff;
	if (entry->note != NULL &&
		(strcmp(entry->note->action, "login") == 0 || strcmp(entry->note->action, "logout") == 0))
		return NULL;
	initStringInfo(&diff);
	json_open(&diff, '{');
	if (entry->table != NULL)
		audit_append_diff(&diff,
						  entry->table,
						  entry->op == OP_CREATE ? NULL : entry->old,
						  entry->op == OP_DELETE ? NULL : entry->new);
	if (entry->elements != NULL)
		append_elements(&diff, entry);
	json_close(&diff, '}');
	return diff.data;
}

/* Additional fields: of the note, the row's key, and whose work it is. */
static char *
entry_additional(const AuditEntry *entry, HeapTuple row)
{
	char *key = entry->table != NULL ? row_text(entry->table, row, entry->table->key_att) : NULL;
	StringInfoData buf;

	if (entry->note != NULL && entry->note->additional != NULL)
		return entry->note->additional;
	if (key == NULL && current_label()->subsystem[0] == '\0')
		return NULL;
	initStringInfo(&buf);
	json_open(&buf, '{');
	if (key != NULL)
		json_str(&buf, "key_id", key);
	if (current_label()->subsystem[0] != '\0')
	{
		json_str(&buf, "automatic_actor", "coder");
		json_str(&buf, "automatic_subsystem", current_label()->subsystem);
	}
	json_close(&buf, '}');
	return buf.data;
}

/* Target, organization and icon from the resource's own row. */
static void
describe_by_row(const AuditTable *table, HeapTuple tuple, AuditRow *row, pg_uuid_t *org)
{
	pg_uuid_t user;

	row_uuid(table, tuple, table->org_att, org);
	row->icon = row_text(table, tuple, table->icon_att);
	if (!table->target_user)
		row->target = row_text(table, tuple, table->target_att);
	else if (row_uuid(table, tuple, table->target_att, &user))
		row->target = look_up(
			"SELECT u.username FROM coder.users u WHERE u.id OPERATOR(pg_catalog.=) $1", &user, NULL, NULL);
}

static void
apply_note(AuditRow *row, const AuditNote *note)
{
	row->action = note->action;
	if (note->target[0] != '\0')
		row->target = note->target;
	if (note->icon != NULL)
		row->icon = note->icon;
	if (note->org != NULL)
		row->org = note->org;
	row->actor = note->actor;
	if (note->status != 0)
		row->status = note->status;
}

static void
write_entry(AuditEntry *entry, int status)
{
	HeapTuple tuple = entry->new != NULL ? entry->new : entry->old;
	pg_uuid_t org = nil_uuid;
	AuditRow row = {0};

	row.action = op_names[entry->op];
	row.type = entry->type;
	row.id = &entry->id;
	row.status = status;
	if (entry->table != NULL)
		describe_by_row(entry->table, tuple, &row, &org);
	else if (entry->elements != NULL)
	{
		char *icon = NULL;

		row.target = look_up(entry->elements->describe, &entry->id, &org, &icon);
		row.icon = icon;
		if (row.target == NULL) /* its end has a row of its own */
			return;
	}
	row.org = &org;
	if (entry->note != NULL)
		apply_note(&row, entry->note);
	row.diff = entry_diff(entry);
	row.additional = entry_additional(entry, tuple);
	write_row(&row);
}

/* Changes ---------------------------------------------------------------------- */

/* Writes what was held back, in memory that goes with it. */
static void
write_changes(int status)
{
	MemoryContext old = MemoryContextSwitchTo(changes_context);
	AuditEntry *entries = collect_entries();

	for (AuditEntry *e = entries; e != NULL; e = e->next)
		if (!e->gone && !is_part(e, entries))
			write_entry(e, status);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(changes_context);
	forget_changes();
}

/* Where a change is kept until it is written. */
static MemoryContext
changes_memory(void)
{
	if (changes_context == NULL)
		changes_context =
			AllocSetContextCreate(TopTransactionContext, "coder audit", ALLOCSET_DEFAULT_SIZES);
	return changes_context;
}

static void
add_change(AuditChange *change)
{
	change->subid = GetCurrentSubTransactionId();
	if (last_change != NULL)
		last_change->next = change;
	else
		changes = change;
	last_change = change;
	if (serving == 0)
		write_changes(200);
}

void
coder_audit_begin(void)
{
	serving++;
}

void
coder_audit_end(int status)
{
	serving--;
	if (changes != NULL)
		write_changes(status);
}

/* The request failed: what it changed is undone, and told by coder.audit_refused(). */
void
coder_audit_cancel(void)
{
	if (serving > 0)
		serving--;
}

/* Triggers --------------------------------------------------------------------- */

/* A dump is restored with both off (coder.restoring()): it has the log too. */
static bool
is_silent(void)
{
	return creating_extension || !current_label()->told || (!row_security && !check_function_bodies);
}

static AuditOp
trigger_op(const AuditTable *table, const TriggerData *trigger)
{
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		return OP_CREATE;
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return OP_DELETE;
	if (!row_deleted(table, trigger->tg_trigtuple) && row_deleted(table, trigger->tg_newtuple))
		return OP_DELETE;
	return OP_WRITE;
}

static void
note_row(AuditTable *table, const TriggerData *trigger)
{
	AuditOp op = trigger_op(table, trigger);
	MemoryContext old = MemoryContextSwitchTo(changes_memory());
	AuditChange *change = palloc0(sizeof(*change));

	change->type = table->type;
	change->table = table;
	change->op = op;
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		change->new = heap_copytuple(trigger->tg_trigtuple);
	else
		change->old = heap_copytuple(trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		change->new = heap_copytuple(trigger->tg_newtuple);
	if (!row_uuid(table, change->new != NULL ? change->new : change->old, table->id_att, &change->id))
		change->id = nil_uuid;
	MemoryContextSwitchTo(old);
	add_change(change);
}

/* coder.audit_row() RETURNS trigger: AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW of a tracked table. */
Datum
coder_audit_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	AuditTable *table;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_row is an AFTER trigger for each row")));
	if (is_silent())
		return PointerGetDatum(NULL);
	table = find_table(trigger->tg_relation);
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		row_deleted(table, trigger->tg_trigtuple) != row_deleted(table, trigger->tg_newtuple) ||
		audit_differs(table, trigger->tg_trigtuple, trigger->tg_newtuple))
		note_row(table, trigger);
	return PointerGetDatum(NULL);
}

static const Oid build_args[] = {UUIDOID, UUIDOID, JSONBOID, INT4OID};

/* Who began the build, from where, is with its job (coder.audit_origin). */
static CoderPlan build_plan = {
	"INSERT INTO coder.audit_logs (user_id, organization_id, ip, user_agent, token_id, resource_type,"
	" resource_id, resource_target, action, diff, status_code, additional_fields, request_id, database_role)"
	" SELECT $2, w.organization_id, ($3 OPERATOR(pg_catalog.->>) 'audit_ip')::pg_catalog.inet,"
	"  $3 OPERATOR(pg_catalog.->>) 'audit_user_agent', $3 OPERATOR(pg_catalog.->>) 'audit_token_id',"
	"  'workspace_build', b.id, '',"
	"  CASE b.transition WHEN 'start' THEN 'start'::coder.audit_action WHEN 'stop' THEN 'stop' ELSE 'delete' END,"
	"  CASE WHEN p.template_version_id OPERATOR(pg_catalog.=) b.template_version_id THEN '{}'::pg_catalog.jsonb"
	"   ELSE pg_catalog.jsonb_build_object('template_version_id', pg_catalog.jsonb_build_object("
	"    'old', coalesce(p.template_version_id::pg_catalog.text, ''), 'new', b.template_version_id, 'secret', false)) END,"
	"  $4, pg_catalog.jsonb_build_object('workspace_name', w.name, 'workspace_owner', u.username, 'workspace_id', w.id,"
	"   'build_number', b.build_number::pg_catalog.text, 'build_reason', b.reason), $1,"
	"  $3 OPERATOR(pg_catalog.->>) 'audit_database_role'"
	" FROM coder.workspace_builds b"
	" JOIN coder.workspaces w ON w.id OPERATOR(pg_catalog.=) b.workspace_id"
	" LEFT JOIN coder.users u ON u.id OPERATOR(pg_catalog.=) w.owner_id"
	" LEFT JOIN coder.workspace_builds p ON p.workspace_id OPERATOR(pg_catalog.=) b.workspace_id"
	"  AND p.build_number OPERATOR(pg_catalog.=) (b.build_number OPERATOR(pg_catalog.-) 1)"
	" WHERE b.job_id OPERATOR(pg_catalog.=) $1",
	4,
	build_args,
	NULL};

/* A column of a row of the job; a NULL is noted in its place of nulls. */
static Datum
job_column(const TriggerData *trigger, HeapTuple row, const char *name, char *null)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	bool isnull;
	Datum value = heap_getattr(row, SPI_fnumber(desc, name), desc, &isnull);

	*null = isnull ? 'n' : ' ';
	return value;
}

/* Has the job just ended? */
static bool
job_has_ended(const TriggerData *trigger)
{
	char was_running;
	char is_running;

	(void) job_column(trigger, trigger->tg_trigtuple, "completed_at", &was_running);
	(void) job_column(trigger, trigger->tg_newtuple, "completed_at", &is_running);
	return was_running == 'n' && is_running == ' ';
}

/* 200, or 500 for a job that failed or was cancelled. */
static int
job_outcome(const TriggerData *trigger)
{
	char no_error;
	char not_canceled;
	Datum error = job_column(trigger, trigger->tg_newtuple, "error", &no_error);

	(void) job_column(trigger, trigger->tg_newtuple, "canceled_at", &not_canceled);
	if (no_error == ' ' && VARSIZE_ANY_EXHDR(PG_DETOAST_DATUM_PACKED(error)) == 0)
		no_error = 'n';
	return no_error == 'n' && not_canceled == 'n' ? 200 : 500;
}

/*
 * coder.audit_build() RETURNS trigger: AFTER UPDATE of a build's job that has ended.
 *
 * A build's row is written when its outcome is known.
 */
Datum
coder_audit_build(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	OwnerState owner;
	Datum values[4];
	char nulls[5] = "    ";

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_build is an AFTER UPDATE trigger")));
	if (!job_has_ended(trigger))
		return PointerGetDatum(NULL);
	values[0] = job_column(trigger, trigger->tg_newtuple, "id", &nulls[0]);
	values[1] = job_column(trigger, trigger->tg_newtuple, "initiator_id", &nulls[1]);
	values[2] = job_column(trigger, trigger->tg_newtuple, "trace_metadata", &nulls[2]);
	values[3] = Int32GetDatum(job_outcome(trigger));
	owner = begin_owner();
	SPI_connect();
	coder_execute(&build_plan, values, nulls, false, 0);
	SPI_finish();
	end_owner(owner);
	return PointerGetDatum(NULL);
}

/*
 * coder.audit_guard() RETURNS trigger
 *
 * BEFORE UPDATE OR DELETE OR TRUNCATE of the log: ZC403 unless coder.audit_purge() deletes.
 */
Datum
coder_audit_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("coder.audit_guard is a trigger")));
	if (!purging || !TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_CODER_FORBIDDEN),
				 errmsg("Rows of the audit log are neither changed nor deleted."),
				 errhint("Old rows go by the setting audit_logs_retention (coder.audit_purge).")));
	return PointerGetDatum(trigger->tg_trigtuple);
}

/* Functions -------------------------------------------------------------------- */

static char *
arg_text(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static pg_uuid_t *
arg_uuid(FunctionCallInfo fcinfo, int i)
{
	pg_uuid_t *copy;

	if (PG_ARGISNULL(i))
		return NULL;
	copy = palloc(sizeof(*copy));
	*copy = *PG_GETARG_UUID_P(i);
	return copy;
}

static char *
arg_json(FunctionCallInfo fcinfo, int i)
{
	Jsonb *json;

	if (PG_ARGISNULL(i))
		return NULL;
	json = PG_GETARG_JSONB_P(i);
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/*
 * coder.audit(action text, type text, id uuid, target text, org uuid, diff jsonb,
 *             status int4, actor uuid, additional jsonb, icon text) RETURNS void
 */
Datum
coder_audit(PG_FUNCTION_ARGS)
{
	MemoryContext old;
	AuditChange *change;
	AuditNote *note;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("action and type of an audit row must not be null")));
	old = MemoryContextSwitchTo(changes_memory());
	change = palloc0(sizeof(*change));
	note = palloc0(sizeof(*note));
	note->action = arg_text(fcinfo, 0);
	change->type = arg_text(fcinfo, 1);
	if (!PG_ARGISNULL(2))
		change->id = *PG_GETARG_UUID_P(2);
	note->target = PG_ARGISNULL(3) ? pstrdup("") : arg_text(fcinfo, 3);
	note->org = arg_uuid(fcinfo, 4);
	note->diff = arg_json(fcinfo, 5);
	note->status = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT32(6);
	note->actor = arg_uuid(fcinfo, 7);
	note->additional = arg_json(fcinfo, 8);
	note->icon = arg_text(fcinfo, 9);
	change->note = note;
	MemoryContextSwitchTo(old);
	add_change(change);
	PG_RETURN_VOID();
}

/*
 * coder.audit_as(subsystem text, told bool) RETURNS void
 *
 * What follows in this transaction is the server's own work, until the call
 * with NULL that belongs to it.  Not told: another row tells it.
 */
Datum
coder_audit_as(PG_FUNCTION_ARGS)
{
	AuditLabel *label = &labels[nlabels];

	if (PG_ARGISNULL(0))
	{
		nlabels = Max(nlabels - 1, 1);
		PG_RETURN_VOID();
	}
	if (nlabels == LABELS_MAX)
		elog(ERROR, "too many calls of coder.audit_as within one another");
	strlcpy(label->subsystem, text_to_cstring(PG_GETARG_TEXT_PP(0)), SUBSYSTEM_LEN);
	label->told = labels[nlabels - 1].told && (PG_ARGISNULL(1) || PG_GETARG_BOOL(1));
	label->subid = GetCurrentSubTransactionId();
	nlabels++;
	PG_RETURN_VOID();
}

/* coder.audit_subsystem() RETURNS text: what coder.audit_as() said; NULL where nothing holds. */
Datum
coder_audit_subsystem(PG_FUNCTION_ARGS)
{
	if (current_label()->subsystem[0] == '\0')
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(current_label()->subsystem));
}

static const Oid purge_args[] = {INT8OID};

/* Connections were audited by older servers; no setting keeps them. */
static CoderPlan purge_plans[] = {
	{"DELETE FROM coder.audit_logs l WHERE l.id OPERATOR(pg_catalog.=) ANY (ARRAY("
	 "SELECT x.id FROM coder.audit_logs x"
	 " WHERE x.\"time\" OPERATOR(pg_catalog.<) (SELECT coder.audit_kept_from())"
	 " ORDER BY x.\"time\" LIMIT $1))",
	 1,
	 purge_args,
	 NULL},
	{"DELETE FROM coder.audit_logs l WHERE l.id OPERATOR(pg_catalog.=) ANY (ARRAY("
	 "SELECT x.id FROM coder.audit_logs x WHERE x.\"time\" OPERATOR(pg_catalog.<)"
	 " (pg_catalog.now() OPERATOR(pg_catalog.-) '90 days'::pg_catalog.interval)"
	 " AND x.action OPERATOR(pg_catalog.=) ANY ('{connect,disconnect,open,close}'::coder.audit_action[])"
	 " ORDER BY x.\"time\" LIMIT $1))",
	 1,
	 purge_args,
	 NULL}};

/*
 * coder.audit_purge(most int8) RETURNS int8
 *
 * Deletes rows that are older than they are kept, the oldest first, most of
 * each kind; how many.
 */
Datum
coder_audit_purge(PG_FUNCTION_ARGS)
{
	Datum most = PG_GETARG_DATUM(0);
	volatile int64 done = 0;

	SPI_connect();
	purging = true;
	PG_TRY();
	{
		for (int i = 0; i < (int) lengthof(purge_plans); i++)
		{
			coder_execute(&purge_plans[i], &most, NULL, false, 0);
			done += (int64) SPI_processed;
		}
	}
	PG_FINALLY();
	{
		purging = false;
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_INT64(done);
}
