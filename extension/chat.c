/*
 * chat.c -- chats: how one looks to clients, and POST /chats without a detour.
 *
 * Many chats may be begun at once, so what nearly all requests ask for is done
 * here: text, in an organization, by a model, without a workspace and without
 * what a client adds rarely.  One statement writes the chat, its first message
 * and the events.  Whatever is not so, or would be refused, is left to
 * coder.chat_create (sql/api/chat.sql) before anything is written: there alone
 * are the answers to what is wrong.
 *
 * What a chat is told first is the same text for all that began under the same
 * settings; it is kept once, in coder.chat_prompts, whose rows never change.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "coder.h"
#include "compat.h"
#include "json.h"
#include "jsonbvalue.h"

#define TITLE_WORDS 6
#define TITLE_LEN 80 /* characters */
#define BLANKS " \t\r\n"

/* The columns of coder.chats that clients see. */
typedef enum ChatColumn
{
	CHAT_ID,
	CHAT_ORGANIZATION,
	CHAT_OWNER,
	CHAT_WORKSPACE,
	CHAT_BUILD,
	CHAT_AGENT,
	CHAT_PARENT,
	CHAT_ROOT,
	CHAT_MODEL,
	CHAT_CREATED,
	CHAT_UPDATED,
	CHAT_TITLE,
	CHAT_STATUS,
	CHAT_ERROR,
	CHAT_ARCHIVED,
	CHAT_PIN,
	CHAT_SERVERS,
	CHAT_LABELS,
	CHAT_CONTEXT,
	CHAT_COLUMNS
} ChatColumn;

static const char *const chat_columns[CHAT_COLUMNS] = {"id",
													   "organization_id",
													   "owner_id",
													   "workspace_id",
													   "build_id",
													   "agent_id",
													   "parent_chat_id",
													   "root_chat_id",
													   "last_model_config_id",
													   "created_at",
													   "updated_at",
													   "title",
													   "status",
													   "last_error",
													   "archived",
													   "pin_order",
													   "mcp_server_ids",
													   "labels",
													   "last_injected_context"};

/* A chat as it is shown. */
typedef struct ChatRow
{
	Datum values[CHAT_COLUMNS];
	bool nulls[CHAT_COLUMNS];
} ChatRow;

/* POST /chats, read. */
typedef struct NewChat
{
	pg_uuid_t id;
	pg_uuid_t org;
	pg_uuid_t model;
	bool has_model; /* the request names it */
	Jsonb *labels;	/* NULL: none */
	Jsonb *content;
	char *title;
	int32 prompt;
} NewChat;

PG_FUNCTION_INFO_V1(coder_chat_json);
PG_FUNCTION_INFO_V1(coder_chat_title_of);
PG_FUNCTION_INFO_V1(coder_chat_prompt_known);

/* How a chat looks --------------------------------------------------------------- */

static void
put_uuid(StringInfo buf, const ChatRow *row, ChatColumn column)
{
	if (!row->nulls[column])
		json_uuid(buf, chat_columns[column], DatumGetUUIDP(row->values[column]));
}

/* The chat that all of it came of: the row's own word, its parent, or itself. */
static void
put_root(StringInfo buf, const ChatRow *row)
{
	ChatColumn column = !row->nulls[CHAT_ROOT]	   ? CHAT_ROOT
						: !row->nulls[CHAT_PARENT] ? CHAT_PARENT
												   : CHAT_ID;

	json_uuid(buf, chat_columns[CHAT_ROOT], DatumGetUUIDP(row->values[column]));
}

static void
put_servers(StringInfo buf, Datum servers)
{
	Datum *ids;
	int n;

	deconstruct_array(
		DatumGetArrayTypeP(servers), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, NULL, &n);
	json_open_at(buf, chat_columns[CHAT_SERVERS], '[');
	for (int i = 0; i < n; i++)
		json_uuid(buf, NULL, DatumGetUUIDP(ids[i]));
	json_close(buf, ']');
}

static void
put_jsonb(StringInfo buf, const char *key, Datum value)
{
	Jsonb *json = DatumGetJsonbP(value);
	char *text_json = JsonbToCString(NULL, &json->root, VARSIZE(json));

	json_key(buf, key);
	json_append_compact(buf, text_json, (int) strlen(text_json));
}

static const Oid parts_args[] = {JSONBOID};

static CoderPlan parts_plan = {"SELECT coder.chat_parts_json($1)", 1, parts_args, NULL};

/* What was injected, without what only a model is to see. */
static void
put_context(StringInfo buf, Datum context)
{
	bool isnull;
	Datum parts;

	SPI_connect();
	coder_execute(&parts_plan, &context, NULL, true, 1);
	parts = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		json_null(buf, chat_columns[CHAT_CONTEXT]);
	else
		put_jsonb(buf, chat_columns[CHAT_CONTEXT], parts);
	SPI_finish();
}

/* Chat, without files and diff status. */
static void
put_chat(StringInfo buf, const ChatRow *row, bool unread)
{
	appendStringInfoChar(buf, '{');
	for (ChatColumn column = CHAT_ID; column <= CHAT_PARENT; column++)
		put_uuid(buf, row, column);
	put_root(buf, row);
	put_uuid(buf, row, CHAT_MODEL);
	json_time(buf, "created_at", DatumGetTimestampTz(row->values[CHAT_CREATED]));
	json_time(buf, "updated_at", DatumGetTimestampTz(row->values[CHAT_UPDATED]));
	json_text(buf, "title", row->values[CHAT_TITLE]);
	json_str(
		buf, "status", DatumGetCString(DirectFunctionCall1(enum_out, row->values[CHAT_STATUS])));
	if (row->nulls[CHAT_ERROR])
		json_null(buf, "last_error");
	else
		json_text(buf, "last_error", row->values[CHAT_ERROR]);
	json_bool(buf, "archived", DatumGetBool(row->values[CHAT_ARCHIVED]));
	json_int(buf, "pin_order", DatumGetInt32(row->values[CHAT_PIN]));
	put_servers(buf, row->values[CHAT_SERVERS]);
	put_jsonb(buf, "labels", row->values[CHAT_LABELS]);
	json_bool(buf, "has_unread", unread);
	if (!row->nulls[CHAT_CONTEXT])
		put_context(buf, row->values[CHAT_CONTEXT]);
	json_close(buf, '}');
}

/* Where the columns are in a row type; looked up again where another stands in its place. */
static AttrNumber
column_number(TupleDesc desc, ChatColumn column)
{
	static AttrNumber numbers[CHAT_COLUMNS];
	AttrNumber n = numbers[column];

	if (n > 0 && n <= desc->natts &&
		namestrcmp(&TupleDescAttr(desc, n - 1)->attname, chat_columns[column]) == 0)
		return n;
	for (n = 1; n <= desc->natts; n++)
		if (!TupleDescAttr(desc, n - 1)->attisdropped &&
			namestrcmp(&TupleDescAttr(desc, n - 1)->attname, chat_columns[column]) == 0)
			return numbers[column] = n;
	elog(ERROR, "coder.chats has no column \"%s\"", chat_columns[column]);
}

/*
 * coder.chat_json(c coder.chats, unread bool) RETURNS jsonb
 *
 * Chat, without files and diff status.  NULL for no row.
 */
Datum
coder_chat_json(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header;
	HeapTupleData tuple = {0};
	TupleDesc desc;
	ChatRow row;
	StringInfoData buf;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	header = PG_GETARG_HEAPTUPLEHEADER(0);
	desc =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_data = header;
	for (ChatColumn column = CHAT_ID; column < CHAT_COLUMNS; column++)
		row.values[column] =
			heap_getattr(&tuple, column_number(desc, column), desc, &row.nulls[column]);
	ReleaseTupleDesc(desc);
	if (row.nulls[CHAT_ID])
		PG_RETURN_NULL();
	initStringInfo(&buf);
	put_chat(&buf, &row, !PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data)));
}

/* The first title ---------------------------------------------------------------- */

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * The title of a chat until a model has given it a better one: the first words
 * of what was said, cut to a length, with an ellipsis where more follow.
 */
static char *
first_title(const char *said, int len)
{
	StringInfoData title;
	int words = 0;
	int at = 0;
	int cut;

	initStringInfo(&title);
	while (words <= TITLE_WORDS)
	{
		int begin;

		while (at < len && is_space(said[at]))
			at++;
		begin = at;
		while (at < len && !is_space(said[at]))
			at++;
		if (at == begin || ++words > TITLE_WORDS)
			break;
		if (words > 1)
			appendStringInfoChar(&title, ' ');
		appendBinaryStringInfo(&title, said + begin, at - begin);
	}
	if (words == 0)
		return pstrdup("New Chat");
	cut = pg_mbcharcliplen(title.data, title.len, words > TITLE_WORDS ? TITLE_LEN - 1 : TITLE_LEN);
	title.data[title.len = cut] = '\0';
	if (words > TITLE_WORDS)
		appendStringInfoString(&title, "\xe2\x80\xa6");
	return title.data;
}

/* coder.chat_title_of(said text) RETURNS text: a chat's title by what was said first. */
Datum
coder_chat_title_of(PG_FUNCTION_ARGS)
{
	text *said = PG_GETARG_TEXT_PP(0);

	PG_RETURN_TEXT_P(
		cstring_to_text(first_title(VARDATA_ANY(said), (int) VARSIZE_ANY_EXHDR(said))));
}

/* What chats are told first ------------------------------------------------------- */

/*
 * The row of coder.chat_prompts for a new chat without a workspace, with the
 * settings that it was made of.  Forgotten where a function changes (the default
 * text is one) and where the transaction that read it may have made the row.
 */
static struct
{
	int32 id; /* 0: not known */
	char *settings;
} prompt;

static void
forget_prompt(void)
{
	if (prompt.settings != NULL)
		pfree(prompt.settings);
	prompt.settings = NULL;
	prompt.id = 0;
}

static void
on_proc_invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	forget_prompt();
}

static void
on_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_prompt();
}

static void
on_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_prompt();
}

void
coder_chat_init(void)
{
	CacheRegisterSyscacheCallback(PROCOID, on_proc_invalidate, (Datum) 0);
	RegisterXactCallback(on_xact_end, NULL);
	RegisterSubXactCallback(on_subxact_end, NULL);
}

static CoderPlan prompt_plan = {"SELECT coder.chat_prompt_id(false)", 0, NULL, NULL};

static int32
prompt_of(const char *settings)
{
	bool isnull;
	int32 id;

	if (prompt.id != 0 && strcmp(prompt.settings, settings) == 0)
		return prompt.id;
	coder_execute(&prompt_plan, NULL, NULL, false, 1);
	id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	if (isnull)
		elog(ERROR, "new chats have no prompt");
	forget_prompt();
	prompt.settings = MemoryContextStrdup(TopMemoryContext, settings);
	prompt.id = id;
	return id;
}

static const Oid known_args[] = {INT4OID};

static CoderPlan known_plan = {
	"SELECT FROM coder.chat_prompts p WHERE p.id OPERATOR(pg_catalog.=) $1", 1, known_args, NULL};

/*
 * coder.chat_prompt_known() RETURNS trigger
 *
 * Before a row of coder.chats: what it was told is there (23503).  Rows of
 * coder.chat_prompts stay for ever, so that nothing has to be locked.
 */
Datum
coder_chat_prompt_known(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple tuple =
		TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple;
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	bool isnull;
	Datum id = heap_getattr(tuple, SPI_fnumber(desc, "prompt_id"), desc, &isnull);

	if (isnull || (prompt.id != 0 && DatumGetInt32(id) == prompt.id))
		return PointerGetDatum(tuple);
	SPI_connect();
	coder_execute(&known_plan, &id, NULL, false, 1);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("chat prompt %d does not exist", DatumGetInt32(id)),
				 errtable(trigger->tg_relation)));
	SPI_finish();
	return PointerGetDatum(tuple);
}

/* A request, read ------------------------------------------------------------------ */

/* A member of an object that is not null. */
static bool
member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return jsonb_member(object, name, value) != NULL && value->type != jbvNull;
}

/* 8-4-4-4-12 hexadecimal digits; other ways to write one are left to the server's own parser. */
static bool
read_uuid(const JsonbValue *value, pg_uuid_t *id)
{
	static const pg_uuid_t none;
	const char *s = value->val.string.val;
	int n = 0;

	if (value->type != jbvString || value->val.string.len != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		int digit = s[i] >= '0' && s[i] <= '9'	 ? s[i] - '0'
					: s[i] >= 'a' && s[i] <= 'f' ? s[i] - 'a' + 10
												 : -1;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (s[i] != '-')
				return false;
			continue;
		}
		if (digit < 0)
			return false;
		id->data[n / 2] = (unsigned char) (n % 2 == 0 ? digit << 4 : id->data[n / 2] | digit);
		n++;
	}
	return memcmp(id, &none, UUID_LEN) != 0;
}

/* One part: text that is not blank, trimmed as it is stored; false: something else. */
static bool
read_part(JsonbValue *part, JsonbParseState **state, StringInfo said)
{
	JsonbValue type;
	JsonbValue words;
	const char *s;
	int len;

	if (part->type != jbvBinary || !JsonContainerIsObject(part->val.binary.data) ||
		!member(part->val.binary.data, "type", &type) || !jsonb_is_text(&type, "text") ||
		!member(part->val.binary.data, "text", &words) || words.type != jbvString)
		return false;
	s = words.val.string.val;
	len = words.val.string.len;
	for (; len > 0 && strchr(BLANKS, s[len - 1]) != NULL; len--)
		;
	for (; len > 0 && strchr(BLANKS, *s) != NULL; len--)
		s++;
	if (len == 0)
		return false;
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	jsonb_push_text(state, WJB_KEY, "type", 4);
	jsonb_push_text(state, WJB_VALUE, "text", 4);
	jsonb_push_text(state, WJB_KEY, "text", 4);
	jsonb_push_text(state, WJB_VALUE, s, len);
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
	if (said->len > 0)
		appendStringInfoChar(said, ' ');
	appendBinaryStringInfo(said, s, len);
	return true;
}

/* The content as it is stored, and the title. */
static bool
read_content(JsonbContainer *body, NewChat *chat)
{
	JsonbValue content;
	JsonbValue part;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbParseState *state = NULL;
	StringInfoData said;
	int n = 0;

	if (!member(body, "content", &content) || content.type != jbvBinary ||
		!JsonContainerIsArray(content.val.binary.data))
		return false;
	initStringInfo(&said);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	it = JsonbIteratorInit(content.val.binary.data);
	while ((token = JsonbIteratorNext(&it, &part, true)) != WJB_DONE)
		if (token == WJB_ELEM)
		{
			if (!read_part(&part, &state, &said))
				return false;
			n++;
		}
	chat->content = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
	chat->title = first_title(said.data, said.len);
	return n > 0;
}

/* Members that make a request one of the rare ones. */
static bool
has_rare_member(JsonbContainer *body)
{
	static const char *const rare[] = {
		"system_prompt", "workspace_id", "mcp_server_ids", "unsafe_dynamic_tools"};
	JsonbValue value;

	for (int i = 0; i < (int) lengthof(rare); i++)
		if (member(body, rare[i], &value) && !jsonb_is_text(&value, "") &&
			!(value.type == jbvBinary && i == 2 && JsonContainerIsArray(value.val.binary.data) &&
			  JsonContainerSize(value.val.binary.data) == 0))
			return true;
	return false;
}

/* False: not a request of the usual kind. */
static bool
read_new_chat(const CoderRequest *request, NewChat *chat)
{
	int len = request->body != NULL ? (int) VARSIZE_ANY_EXHDR(request->body) : 0;
	Jsonb *body = len > 0 ? coder_json_parse(pnstrdup(VARDATA_ANY(request->body), len), len) : NULL;
	JsonbValue value;

	memset(chat, 0, sizeof(*chat));
	if (body == NULL || !JB_ROOT_IS_OBJECT(body) || has_rare_member(&body->root) ||
		!member(&body->root, "organization_id", &value) || !read_uuid(&value, &chat->org))
		return false;
	if (member(&body->root, "model_config_id", &value))
	{
		chat->has_model = true;
		if (!read_uuid(&value, &chat->model))
			return false;
	}
	if (member(&body->root, "labels", &value))
	{
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			return false;
		chat->labels = JsonbValueToJsonb(&value);
	}
	return read_content(&body->root, chat);
}

/* The way in ----------------------------------------------------------------------- */

static bool
may_create(const pg_uuid_t *org)
{
	const RbacSubject *subject = &coder_current_subject->rbac;
	RbacObject object = {0};
	const char *why;

	object.type = rbac_type("chat", 4);
	object.org = org;
	object.owner = &subject->id;
	return rbac_decide(subject, rbac_action("create", 6), &object, &why);
}

static const Oid ready_args[] = {UUIDOID, UUIDOID, UUIDOID};

/*
 * The model; NULL where there is none, the experiment is off, or the user has
 * spent its limit.  And the settings that chats' prompts are made of.
 */
static CoderPlan ready_plan = {
	"SELECT CASE WHEN 'agents' OPERATOR(pg_catalog.=) ANY (pg_catalog.regexp_split_to_array(pg_catalog.btrim("
	"   (SELECT s.value FROM coder.settings s WHERE s.name OPERATOR(pg_catalog.=) 'experiments')), '\\s*,\\s*'))"
	"  AND CASE WHEN (SELECT c.enabled FROM coder.chat_usage_limit_config c)"
	"      THEN (coder.chat_over_limit($2, $3)).status IS NULL ELSE true END"
	"  THEN (SELECT m.id FROM coder.chat_model_configs m"
	"         WHERE CASE WHEN $1 IS NULL THEN m.is_default AND NOT m.deleted ELSE m.id OPERATOR(pg_catalog.=) $1 END) END,"
	" pg_catalog.concat_ws(E'\n', (SELECT s.value FROM coder.site_configs s WHERE s.key OPERATOR(pg_catalog.=) 'agents_chat_include_default_system_prompt'),"
	"  '', (SELECT s.value FROM coder.site_configs s WHERE s.key OPERATOR(pg_catalog.=) 'agents_chat_system_prompt'))",
	3,
	ready_args,
	NULL};

static const Oid labels_args[] = {JSONBOID};

static CoderPlan labels_plan = {"SELECT coder.chat_check_labels($1)", 1, labels_args, NULL};

/* Looks up what the chat needs; false where the way is not clear. */
static bool
make_ready(NewChat *chat)
{
	Datum args[3] = {UUIDPGetDatum(&chat->model),
					 UUIDPGetDatum(&coder_current_subject->rbac.id),
					 UUIDPGetDatum(&chat->org)};
	Datum labels = PointerGetDatum(chat->labels);
	bool isnull;
	Datum model;

	coder_execute(&ready_plan, args, chat->has_model ? NULL : "n  ", true, 1);
	model = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		return false;
	chat->model = *DatumGetUUIDP(model);
	chat->prompt = prompt_of(TextDatumGetCString(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull)));
	if (chat->labels != NULL)
		coder_execute(&labels_plan, &labels, NULL, true, 1);
	return true;
}

static const Oid insert_args[] = {
	UUIDOID, UUIDOID, UUIDOID, TEXTOID, UUIDOID, JSONBOID, INT4OID, JSONBOID, TEXTOID, TEXTOID};

static CoderPlan insert_plan = {
	"WITH c AS (INSERT INTO coder.chats (id, owner_id, organization_id, title, status, last_model_config_id, labels, prompt_id)"
	"  VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7)),"
	" m AS (INSERT INTO coder.chat_messages (chat_id, role, content, model_config_id, created_by) VALUES ($1, 'user', $8, $5, $2))"
	" INSERT INTO coder.events (channel, payload) VALUES ($9, $10), ('chat:pending', '')",
	10,
	insert_args,
	NULL};

static void
insert_chat(const NewChat *chat, const ChatRow *row, const char *event)
{
	char channel[sizeof("chat:owner:") + 36];
	Datum args[10] = {row->values[CHAT_ID],
					  row->values[CHAT_OWNER],
					  row->values[CHAT_ORGANIZATION],
					  row->values[CHAT_TITLE],
					  row->values[CHAT_MODEL],
					  row->values[CHAT_LABELS],
					  Int32GetDatum(chat->prompt),
					  JsonbPGetDatum(chat->content)};

	snprintf(channel,
			 sizeof(channel),
			 "chat:owner:%s",
			 DatumGetCString(DirectFunctionCall1(uuid_out, row->values[CHAT_OWNER])));
	args[8] = CStringGetTextDatum(channel);
	args[9] = CStringGetTextDatum(event);
	coder_execute(&insert_plan, args, NULL, false, 0);
	coder_event_note();
}

static Datum
status_pending(void)
{
	Oid type = GetSysCacheOid2(TYPENAMENSP,
							   Anum_pg_type_oid,
							   CStringGetDatum("chat_status"),
							   ObjectIdGetDatum(coder_namespace()));

	return DirectFunctionCall2(enum_in, CStringGetDatum("pending"), ObjectIdGetDatum(type));
}

static void
new_id(pg_uuid_t *id)
{
	if (!pg_strong_random(id->data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	id->data[6] = (id->data[6] & 0x0f) | 0x40; /* version 4, variant 1 */
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

/* The row as it will be: the table's defaults are among it. */
static void
new_row(NewChat *chat, ChatRow *row)
{
	memset(row->nulls, true, sizeof(row->nulls));
	new_id(&chat->id);
	if (chat->labels == NULL)
		chat->labels = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	row->values[CHAT_ID] = UUIDPGetDatum(&chat->id);
	row->values[CHAT_ORGANIZATION] = UUIDPGetDatum(&chat->org);
	row->values[CHAT_OWNER] = UUIDPGetDatum(&coder_current_subject->rbac.id);
	row->values[CHAT_MODEL] = UUIDPGetDatum(&chat->model);
	row->nulls[CHAT_ID] = row->nulls[CHAT_ORGANIZATION] = row->nulls[CHAT_OWNER] =
		row->nulls[CHAT_MODEL] = false;
	row->values[CHAT_CREATED] = row->values[CHAT_UPDATED] =
		TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	row->values[CHAT_TITLE] = CStringGetTextDatum(chat->title);
	row->values[CHAT_STATUS] = status_pending();
	row->values[CHAT_ARCHIVED] = BoolGetDatum(false);
	row->values[CHAT_PIN] = Int32GetDatum(0);
	row->values[CHAT_SERVERS] = PointerGetDatum(construct_empty_array(UUIDOID));
	row->values[CHAT_LABELS] = JsonbPGetDatum(chat->labels);
}

/* POST /chats of the usual kind. */
int
coder_chat_create_fast(const CoderRequest *request, StringInfo body)
{
	int begin = body->len;
	MemoryContext context = CurrentMemoryContext;
	NewChat chat;
	ChatRow row;
	StringInfoData event;
	bool ready;

	if (coder_current_subject == NULL || !read_new_chat(request, &chat) ||
		!rbac_is_member(&coder_current_subject->rbac, &chat.org) || !may_create(NULL) ||
		!may_create(&chat.org))
		return 0;
	SPI_connect();
	ready = make_ready(&chat);
	if (ready)
	{
		MemoryContext spi = MemoryContextSwitchTo(context);

		new_row(&chat, &row);
		put_chat(body, &row, false);
		initStringInfo(&event);
		appendStringInfoString(&event, "{\"kind\":\"created\",\"chat\":");
		appendBinaryStringInfo(&event, body->data + begin, body->len - begin);
		appendStringInfoChar(&event, '}');
		MemoryContextSwitchTo(spi);
		insert_chat(&chat, &row, event.data);
	}
	SPI_finish();
	return ready ? 201 : 0;
}
