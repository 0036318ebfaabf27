/*
 * level.c -- rows of tables by their parents, read without the executor: see level.h.
 *
 * Like every function of the extension this reads as the schema's owner does:
 * there is no check of privileges on the tables, and no row security.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "coder.h"
#include "compat.h"
#include "json.h"
#include "level.h"

#define MAX_TABLES 32

/* ---- what is kept of the catalogs ---- */

typedef struct Label
{
	Oid id;
	text *label;
} Label;

static LevelTable *tables[MAX_TABLES]; /* those looked up, to be told of changes */
static int ntables;
static HTAB *labels;
static bool labels_stale;
static text *empty_text;
static uint64 catalogs = 1; /* counts changes of what is kept here */

static void
on_relcache_invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < ntables; i++)
		if (relid == InvalidOid || relid == tables[i]->relid || relid == tables[i]->indexid)
		{
			tables[i]->known = false;
			catalogs++;
		}
}

static void
on_enum_invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	labels_stale = true;
	catalogs++;
}

void
level_begin(void)
{
	static bool registered = false;
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Label)};

	if (!registered)
	{
		CacheRegisterRelcacheCallback(on_relcache_invalidate, (Datum) 0);
		CacheRegisterSyscacheCallback(ENUMOID, on_enum_invalidate, (Datum) 0);
		empty_text = MemoryContextAllocZero(TopMemoryContext, VARHDRSZ);
		SET_VARSIZE(empty_text, VARHDRSZ);
		registered = true;
	}
	/* Texts of old labels may still be in use further up: they are not freed. */
	if (labels_stale && labels != NULL)
	{
		hash_destroy(labels);
		labels = NULL;
	}
	if (labels == NULL)
		labels = hash_create("coder labels", 128, &ctl, HASH_ELEM | HASH_BLOBS);
	labels_stale = false;
}

static text *
label_of(Oid id)
{
	Label *entry = hash_search(labels, &id, HASH_FIND, NULL);
	HeapTuple tuple;
	text *label;

	if (entry != NULL)
		return entry->label;
	tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(id));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "invalid internal value for enum: %u", id);
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		label = cstring_to_text(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));
		MemoryContextSwitchTo(old);
	}
	ReleaseSysCache(tuple);
	entry = hash_search(labels, &id, HASH_ENTER, NULL);
	entry->label = label;
	return label;
}

static void
look_up(LevelTable *table)
{
	Oid schema = coder_namespace();
	int i = 0;

	Assert(table->ncolumns <= LEVEL_MAX_COLUMNS);
	table->relid = get_relname_relid(table->table, schema);
	table->indexid = get_relname_relid(table->index, schema);
	if (!OidIsValid(table->relid) || !OidIsValid(table->indexid))
		elog(ERROR, "coder.%s or its index %s does not exist", table->table, table->index);
	while (i < ntables && tables[i] != table)
		i++;
	if (i == ntables)
	{
		if (ntables == MAX_TABLES)
			elog(ERROR, "too many tables");
		tables[ntables++] = table;
	}
	/* From here on a change is told; what it finds is looked up again. */
	table->known = true;
	for (int c = 0; c < table->ncolumns; c++)
	{
		table->attnums[c] = get_attnum(table->relid, table->columns[c].name);
		if (table->attnums[c] == InvalidAttrNumber)
			elog(ERROR, "column coder.%s.%s does not exist", table->table, table->columns[c].name);
	}
}

uint64
level_catalogs(void)
{
	return catalogs;
}

/* Does coder.row_changed see every change of the relation, whoever makes it? */
static bool
is_watched(Relation rel, Oid function)
{
	TriggerDesc *triggers = rel->trigdesc;
	int16 seen = 0;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgfoid == function && trigger->tgenabled == TRIGGER_FIRES_ALWAYS &&
			(trigger->tgnargs > 0 || TRIGGER_FOR_TRUNCATE(trigger->tgtype)))
			seen |= trigger->tgtype;
	}
	return TRIGGER_FOR_INSERT(seen) && TRIGGER_FOR_UPDATE(seen) && TRIGGER_FOR_DELETE(seen) &&
		   TRIGGER_FOR_TRUNCATE(seen);
}

bool
level_watched(LevelTable *list, int n)
{
	Oid function = GetSysCacheOid3(PROCNAMEARGSNSP,
								   Anum_pg_proc_oid,
								   CStringGetDatum("row_changed"),
								   PointerGetDatum(buildoidvector(NULL, 0)),
								   ObjectIdGetDatum(coder_namespace()));
	bool watched = OidIsValid(function);

	for (int i = 0; i < n && watched; i++)
	{
		Relation rel;

		if (!list[i].known)
			look_up(&list[i]);
		rel = table_open(list[i].relid, AccessShareLock);
		watched = is_watched(rel, function);
		table_close(rel, NoLock);
	}
	return watched;
}

/* ---- values ---- */

static text *
labels_json(Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	StringInfoData buf;
	Datum *ids;
	bool *nulls;
	int n;

	deconstruct_array(array, ARR_ELEMTYPE(array), sizeof(Oid), true, TYPALIGN_INT, &ids, &nulls, &n);
	initStringInfo(&buf);
	json_open(&buf, '[');
	for (int i = 0; i < n; i++)
		if (nulls[i])
			json_null(&buf, NULL);
		else
			json_text(&buf, NULL, PointerGetDatum(label_of(DatumGetObjectId(ids[i]))));
	json_close(&buf, ']');
	return cstring_to_text_with_len(buf.data, buf.len);
}

static text *
jsonb_text(Datum value)
{
	Jsonb *json = DatumGetJsonbP(value);
	StringInfoData buf;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, "\0\0\0", VARHDRSZ);
	JsonbToCString(&buf, &json->root, VARSIZE(json));
	SET_VARSIZE(buf.data, buf.len);
	return (text *) buf.data;
}

/* Puts a column where it belongs; false: the row is left out. */
static bool
put_value(Row row, const LevelColumn *column, Datum value, bool isnull)
{
	if (column->kind == LEVEL_SKIP)
		return isnull || !DatumGetBool(value);
	if (isnull && column->kind == LEVEL_TEXT)
	{
		value = PointerGetDatum(empty_text);
		isnull = false;
	}
	row.null[column->at] = isnull;
	if (isnull)
		value = (Datum) 0;
	else if (column->kind == LEVEL_ENUM)
		value = PointerGetDatum(label_of(DatumGetObjectId(value)));
	else if (column->kind == LEVEL_JSON)
		value = PointerGetDatum(jsonb_text(value));
	else if (column->kind == LEVEL_LABELS)
		value = PointerGetDatum(labels_json(value));
	row.v[column->at] = value;
	return true;
}

/* ---- order ---- */

static int
compare_values(Oid type, Datum a, Datum b)
{
	switch (type)
	{
		case INT4OID:
			return (DatumGetInt32(a) > DatumGetInt32(b)) - (DatumGetInt32(a) < DatumGetInt32(b));
		case INT8OID:
			return (DatumGetInt64(a) > DatumGetInt64(b)) - (DatumGetInt64(a) < DatumGetInt64(b));
		case UUIDOID:
			return memcmp(DatumGetUUIDP(a)->data, DatumGetUUIDP(b)->data, UUID_LEN);
		default:
			{
				struct varlena *x = PG_DETOAST_DATUM_PACKED(a);
				struct varlena *y = PG_DETOAST_DATUM_PACKED(b);

				return varstr_cmp(VARDATA_ANY(x), (int) VARSIZE_ANY_EXHDR(x), VARDATA_ANY(y),
								  (int) VARSIZE_ANY_EXHDR(y), DEFAULT_COLLATION_OID);
			}
	}
}

static int
compare_rows(const LevelTable *table, Row a, Row b)
{
	int result = 0;

	for (int i = 0; i < table->norder && result == 0; i++)
		result = compare_values(table->order[i].type, a.v[table->order[i].at], b.v[table->order[i].at]);
	return result;
}

/* Moves the last row to its place among the rows from first on, which are ordered. */
static void
insert_row(const LevelTable *table, Level *level, int first)
{
	Datum values[LEVEL_MAX_COLUMNS];
	bool nulls[LEVEL_MAX_COLUMNS];
	Row last = level_row(level, level->n - 1);
	Row moved = {values, nulls};
	int at = level->n - 1;

	while (at > first && compare_rows(table, level_row(level, at - 1), last) > 0)
		at--;
	if (at == level->n - 1)
		return;
	memcpy(values, last.v, sizeof(Datum) * level->natts);
	memcpy(nulls, last.null, sizeof(bool) * level->natts);
	for (int i = level->n - 1; i > at; i--)
	{
		memcpy(level_row(level, i).v, level_row(level, i - 1).v, sizeof(Datum) * level->natts);
		memcpy(level_row(level, i).null, level_row(level, i - 1).null, sizeof(bool) * level->natts);
	}
	memcpy(level_row(level, at).v, moved.v, sizeof(Datum) * level->natts);
	memcpy(level_row(level, at).null, moved.null, sizeof(bool) * level->natts);
}

/* ---- reading ---- */

/* Room for one row more; its columns are NULL. */
static Row
add_row(Level *level)
{
	Row row;

	if (level->n == level->room)
	{
		level->room *= 2;
		level->values = repalloc(level->values, sizeof(Datum) * level->room * level->natts);
		level->nulls = repalloc(level->nulls, sizeof(bool) * level->room * level->natts);
	}
	row = level_row(level, level->n++);
	memset(row.v, 0, sizeof(Datum) * level->natts);
	memset(row.null, true, sizeof(bool) * level->natts);
	return row;
}

/* The row of the slot, which does not outlive the next one. */
static bool
read_row(const LevelTable *table, Level *level, TupleTableSlot *slot)
{
	HeapTuple tuple = ExecCopySlotHeapTuple(slot);
	TupleDesc desc = slot->tts_tupleDescriptor;
	Row row = add_row(level);
	Datum values[MaxHeapAttributeNumber];
	bool nulls[MaxHeapAttributeNumber];

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int c = 0; c < table->ncolumns; c++)
	{
		int from = table->attnums[c] - 1;

		if (put_value(row, &table->columns[c], values[from], nulls[from]))
			continue;
		level->n--;
		return false;
	}
	return true;
}

static void
read_keys(const LevelTable *table, const LevelKeys *keys, Level *level, IndexScanDesc scan,
		  TupleTableSlot *slot)
{
	for (int k = 0; k < keys->n; k++)
	{
		ScanKeyData key;
		int first = level->n;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(keys->ids[k]));
		index_rescan(scan, &key, 1, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
		{
			if (!read_row(table, level, slot))
				continue;
			if (table->first_only)
				break;
			insert_row(table, level, first);
		}
	}
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(const pg_uuid_t *const *) a)->data, (*(const pg_uuid_t *const *) b)->data, UUID_LEN);
}

static void
order_keys(LevelKeys *keys)
{
	int n = 0;

	qsort(keys->ids, keys->n, sizeof(*keys->ids), compare_ids);
	for (int i = 0; i < keys->n; i++)
		if (n == 0 || memcmp(keys->ids[n - 1]->data, keys->ids[i]->data, UUID_LEN) != 0)
			keys->ids[n++] = keys->ids[i];
	keys->n = n;
}

void
level_read(LevelTable *table, LevelKeys *keys, Level *level)
{
	Relation rel;
	Relation index;
	IndexScanDesc scan;
	TupleTableSlot *slot;

	level->n = 0;
	level->natts = table->natts;
	level->room = Max(8, keys->n);
	level->values = palloc(sizeof(Datum) * level->room * level->natts);
	level->nulls = palloc(sizeof(bool) * level->room * level->natts);
	if (keys->n == 0)
		return;
	order_keys(keys);
	if (!table->known)
		look_up(table);
	rel = table_open(table->relid, AccessShareLock);
	index = index_open(table->indexid, AccessShareLock);
	/* Taking the locks may have told of a change. */
	if (!table->known)
		look_up(table);
	slot = table_slot_create(rel, NULL);
	scan = index_beginscan(rel, index, GetActiveSnapshot(), 1, 0);
	read_keys(table, keys, level, scan, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

int
level_find(const Level *level, const pg_uuid_t *key, int *count)
{
	int low = 0;
	int high = level->n;

	while (low < high)
	{
		int mid = low + (high - low) / 2;

		if (memcmp(DatumGetUUIDP(level_row(level, mid).v[0])->data, key->data, UUID_LEN) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (high = low; high < level->n; high++)
		if (memcmp(DatumGetUUIDP(level_row(level, high).v[0])->data, key->data, UUID_LEN) != 0)
			break;
	*count = high - low;
	return low;
}

void
level_keys_add(LevelKeys *keys, const pg_uuid_t *id)
{
	if (keys->n == keys->room)
	{
		keys->room = keys->room == 0 ? 32 : keys->room * 2;
		keys->ids = keys->ids == NULL ? palloc(sizeof(*keys->ids) * keys->room)
									  : repalloc(keys->ids, sizeof(*keys->ids) * keys->room);
	}
	keys->ids[keys->n++] = id;
}

void
level_keys_add_column(LevelKeys *keys, const Level *level, int column)
{
	for (int i = 0; i < level->n; i++)
		if (!level_row(level, i).null[column])
			level_keys_add(keys, DatumGetUUIDP(level_row(level, i).v[column]));
}
