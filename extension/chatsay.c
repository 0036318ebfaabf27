/*
 * chatsay.c -- coder.chat_say(): the words of turns in progress, stored and told.
 *
 * One call has the words of many chats.  Each chat's are rows of
 * coder.chat_stream_events, for those who come later, and one event with the
 * words themselves, so that a gateway whose streams have had all before them
 * passes them on without asking (docs/ARCHITECTURE.md section 3):
 *
 *	tail BEFORE LAST FRAME
 *
 * BEFORE is the chat's last row before these, 0 where there is none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "coder.h"
#include "json.h"
#include "jsonbvalue.h"

#define MAX_FRAME 6000 /* bytes; who watches reads longer ones from the table */
#define MAX_EVENTS 256 /* of a frame */

/* What one chat says. */
typedef struct Said
{
	Datum chat;
	const char *chat_text;
	int n;			   /* events */
	StringInfoData frame; /* of all of them */
	int64 before;
	int64 last;
	bool retries;
} Said;

PG_FUNCTION_INFO_V1(coder_chat_say);

static const Oid store_args[] = {UUIDARRAYOID, JSONBARRAYOID};

static CoderPlan store_plan = {
	"INSERT INTO coder.chat_stream_events AS e (chat_id, event) SELECT u.chat, u.event FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) u (chat, event)"
	" RETURNING e.seq",
	2,
	store_args,
	NULL};

static const Oid retry_args[] = {UUIDOID, INT8OID};

/* Who comes after a retry does not see what it began anew. */
static CoderPlan retry_plan = {
	"DELETE FROM coder.chat_stream_events e WHERE e.chat_id = $1 AND e.event->>'type' = 'message_part'"
	" AND e.seq < (SELECT max(x.seq) FROM coder.chat_stream_events x WHERE x.chat_id = $1 AND x.seq <= $2 AND x.event->>'type' = 'retry')"
	" AND e.seq > coalesce((SELECT max(y.seq) FROM coder.chat_stream_events y WHERE y.chat_id = $1 AND y.event->>'type' = 'message'), 0)",
	2,
	retry_args,
	NULL};

static bool
is_container(const JsonbValue *value)
{
	return value != NULL && value->type == jbvBinary;
}

/* The event as clients see it: with its chat's id. */
static void
add_to_frame(Said *said, Jsonb *event)
{
	char *text_json = JsonbToCString(NULL, &event->root, VARSIZE(event));

	appendStringInfo(&said->frame, "%s{\"chat_id\":\"%s\",", said->n == 0 ? "[" : ",", said->chat_text);
	json_append_compact(&said->frame, text_json + 1, (int) strlen(text_json) - 1);
	pfree(text_json);
}

/* Takes one chat's; events: where they are gathered. */
static void
read_said(JsonbContainer *object, Said *said, ArrayBuildState **chats, ArrayBuildState **events)
{
	JsonbValue value;
	JsonbValue *chat = jsonb_member(object, "chat", &value);
	JsonbValue list;
	uint32 n;

	if (chat == NULL || chat->type != jbvString || !is_container(jsonb_member(object, "events", &list)))
		elog(ERROR, "what is said has a chat and events");
	said->chat = DirectFunctionCall1(uuid_in, CStringGetDatum(pnstrdup(chat->val.string.val, chat->val.string.len)));
	said->chat_text = DatumGetCString(DirectFunctionCall1(uuid_out, said->chat));
	initStringInfo(&said->frame);
	n = JsonContainerIsArray(list.val.binary.data) ? JsonContainerSize(list.val.binary.data) : 0;
	for (uint32 i = 0; i < n; i++)
	{
		JsonbValue *event = getIthJsonbValueFromContainer(list.val.binary.data, i);
		JsonbValue type;
		Jsonb *row;

		if (!is_container(event) || !JsonContainerIsObject(event->val.binary.data) ||
			jsonb_member(event->val.binary.data, "type", &type) == NULL)
			elog(ERROR, "an event has a type");
		said->retries |= jsonb_is_text(&type, "retry");
		row = JsonbValueToJsonb(event);
		add_to_frame(said, row);
		said->n++;
		*chats = accumArrayResult(*chats, said->chat, false, UUIDOID, CurrentMemoryContext);
		*events = accumArrayResult(*events, JsonbPGetDatum(row), false, JSONBOID, CurrentMemoryContext);
	}
}

/*
 * The last row of each chat, by the primary key and without a plan: one that was made while the table was small would read all
 * of it.
 */
static void
find_last(Said *all, int n)
{
	Relation table = table_open(get_relname_relid("chat_stream_events", coder_namespace()), AccessShareLock);
	Relation index = index_open(RelationGetPrimaryKeyIndex(table), AccessShareLock);
	TupleDesc desc = RelationGetDescr(table);
	AttrNumber chat = SPI_fnumber(desc, "chat_id");
	AttrNumber seq = SPI_fnumber(desc, "seq");

	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < n; i++)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple tuple;
		bool isnull;

		ScanKeyInit(&key, chat, BTEqualStrategyNumber, F_UUID_EQ, all[i].chat);
		scan = systable_beginscan_ordered(table, index, GetActiveSnapshot(), 1, &key);
		tuple = systable_getnext_ordered(scan, BackwardScanDirection);
		all[i].before = tuple != NULL ? DatumGetInt64(heap_getattr(tuple, seq, desc, &isnull)) : 0;
		systable_endscan_ordered(scan);
	}
	PopActiveSnapshot();
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
}

/* Writes the rows; they come back in their order. */
static void
store(Said *all, int n, ArrayBuildState *chats, ArrayBuildState *events)
{
	Datum args[2] = {makeArrayResult(chats, CurrentMemoryContext), makeArrayResult(events, CurrentMemoryContext)};
	uint64 row = 0;
	bool isnull;

	coder_execute(&store_plan, args, NULL, false, 0);
	for (int i = 0; i < n; i++)
	{
		row += (uint64) all[i].n;
		all[i].last = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row - 1], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
tell(const Said *all, int n)
{
	Datum *channels = palloc(sizeof(Datum) * n);
	Datum *payloads = palloc(sizeof(Datum) * n);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		resetStringInfo(&buf);
		appendStringInfo(&buf, "chat:stream:%s", all[i].chat_text);
		channels[i] = PointerGetDatum(cstring_to_text_with_len(buf.data, buf.len));
		resetStringInfo(&buf);
		if (all[i].frame.len <= MAX_FRAME && all[i].n <= MAX_EVENTS)
			appendStringInfo(&buf, "tail " INT64_FORMAT " " INT64_FORMAT " %s]", all[i].before, all[i].last, all[i].frame.data);
		payloads[i] = PointerGetDatum(cstring_to_text_with_len(buf.data, buf.len));
	}
	coder_event_emit(n, channels, payloads);
}

/*
 * coder.chat_say(said jsonb) RETURNS void
 *
 * [{"chat": uuid, "events": [...]}, ...]; a chat comes once.
 */
Datum
coder_chat_say(PG_FUNCTION_ARGS)
{
	Jsonb *list = PG_GETARG_JSONB_P(0);
	int n = JB_ROOT_IS_ARRAY(list) ? (int) JB_ROOT_COUNT(list) : 0;
	Said *all = palloc0(sizeof(Said) * (n + 1));
	ArrayBuildState *chats = NULL;
	ArrayBuildState *events = NULL;
	int used = 0;

	SPI_connect();
	for (int i = 0; i < n; i++)
	{
		JsonbValue *one = getIthJsonbValueFromContainer(&list->root, (uint32) i);

		if (!is_container(one) || !JsonContainerIsObject(one->val.binary.data))
			elog(ERROR, "what is said has a chat and events");
		read_said(one->val.binary.data, &all[used], &chats, &events);
		used += all[used].n > 0;
	}
	if (used > 0)
	{
		/* Nothing of it outlives a crash, so it waits for no disk. */
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		find_last(all, used);
		store(all, used, chats, events);
		for (int i = 0; i < used; i++)
		{
			Datum args[2] = {all[i].chat, Int64GetDatum(all[i].last)};

			if (all[i].retries)
				coder_execute(&retry_plan, args, NULL, false, 0);
		}
		tell(all, used);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
