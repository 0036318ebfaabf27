/*
 * auditrow.c -- from changes of rows to rows of the audit log: one for a resource, with who it
 * was.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

#include "audit.h"
#include "coder.h"
#include "compat.h"
#include "json.h"
#include "request.h"

#define KEY_LEN 160

static const char *const op_names[] = {"create", "write", "delete"};

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
	const char *subsystem;
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
	const char *subsystem;
	int status;
} AuditRow;

static pg_uuid_t transaction_id; /* request_id of what has no request */
static bool has_transaction_id;

static const pg_uuid_t nil_uuid;

void
audit_forget_request(void)
{
	has_transaction_id = false;
}

static const Oid insert_args[] = {UUIDOID,
								  UUIDOID,
								  TEXTOID,
								  TEXTOID,
								  TEXTOID,
								  UUIDOID,
								  TEXTOID,
								  TEXTOID,
								  JSONBOID,
								  INT4OID,
								  JSONBOID,
								  UUIDOID,
								  TEXTOID,
								  TEXTOID,
								  TEXTOID};

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
	if (text == NULL ||
		(inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1))
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
	set_value(values,
			  nulls,
			  13,
			  subject != NULL && subject->token_id[0] != '\0' ? subject->token_id : NULL);
	set_value(values,
			  nulls,
			  14,
			  coder_current_request == NULL && row->subsystem[0] == '\0'
				  ? GetUserNameFromId(GetSessionUserId(), true)
				  : NULL);
}

static void
write_row(const AuditRow *row)
{
	Datum values[15] = {0};
	char nulls[16];
	AuditOwner owner;

	memset(nulls, ' ', sizeof(nulls));
	set_actor(values, nulls, row); /* before, as a session's subject may be its role's */
	owner = audit_begin_owner();
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
	audit_end_owner(owner);
}

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
		row_key = audit_row_text(
			change->table, change->new != NULL ? change->new : change->old, change->table->key_att);
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
	bool all =
		strcmp(change->note->action, "logout") == 0 || strcmp(change->note->action, "login") == 0;
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
	entry->subsystem = change->subsystem;
}

/* The changes of the request, one entry a resource, in the order they began. */
static AuditEntry *
collect_entries(const AuditChange *changes)
{
	HASHCTL ctl = {0};
	HTAB *hash;
	AuditEntry *first = NULL;
	AuditEntry **link = &first;

	ctl.keysize = KEY_LEN;
	ctl.entrysize = sizeof(AuditEntry);
	ctl.hcxt = CurrentMemoryContext;
	hash = hash_create("coder audit entries", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (const AuditChange *change = changes; change != NULL; change = change->next)
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

		if (!audit_row_uuid(
				table, entry->new != NULL ? entry->new : entry->old, table->parent_atts[i], &id))
			continue;
		for (const AuditEntry *e = entries; e != NULL; e = e->next)
			if (e->table != NULL && e->op != OP_WRITE &&
				same_resource(e, table->parent_types[i], &id))
				return true;
	}
	return false;
}

static void
append_elements(StringInfo diff, AuditEntry *entry)
{
	json_open_at(diff, entry->elements->field, '{');
	json_raw(diff,
			 "old",
			 entry->removed != NULL ? entry->removed->data : "[",
			 entry->removed != NULL ? entry->removed->len : 1);
	json_close(diff, ']');
	json_raw(diff,
			 "new",
			 entry->added != NULL ? entry->added->data : "[",
			 entry->added != NULL ? entry->added->len : 1);
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
	char *key =
		entry->table != NULL ? audit_row_text(entry->table, row, entry->table->key_att) : NULL;
	StringInfoData buf;

	if (entry->note != NULL && entry->note->additional != NULL)
		return entry->note->additional;
	if (key == NULL && entry->subsystem[0] == '\0')
		return NULL;
	initStringInfo(&buf);
	json_open(&buf, '{');
	if (key != NULL)
		json_str(&buf, "key_id", key);
	if (entry->subsystem[0] != '\0')
	{
		json_str(&buf, "automatic_actor", "coder");
		json_str(&buf, "automatic_subsystem", entry->subsystem);
	}
	json_close(&buf, '}');
	return buf.data;
}

/* Target, organization and icon from the resource's own row. */
static void
describe_by_row(const AuditTable *table, HeapTuple tuple, AuditRow *row, pg_uuid_t *org)
{
	pg_uuid_t user;

	audit_row_uuid(table, tuple, table->org_att, org);
	row->icon = audit_row_text(table, tuple, table->icon_att);
	if (!table->target_user)
		row->target = audit_row_text(table, tuple, table->target_att);
	else if (audit_row_uuid(table, tuple, table->target_att, &user))
		row->target = audit_look_up(
			"SELECT u.username FROM coder.users u WHERE u.id OPERATOR(pg_catalog.=) $1",
			&user,
			NULL,
			NULL);
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
	row.subsystem = entry->subsystem;
	row.status = status;
	if (entry->table != NULL)
		describe_by_row(entry->table, tuple, &row, &org);
	else if (entry->elements != NULL)
	{
		char *icon = NULL;

		row.target = audit_look_up(entry->elements->describe, &entry->id, &org, &icon);
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

void
audit_write(const AuditChange *changes, int status)
{
	AuditEntry *entries = collect_entries(changes);

	for (AuditEntry *e = entries; e != NULL; e = e->next)
		if (!e->gone && !is_part(e, entries))
			write_entry(e, status);
}
