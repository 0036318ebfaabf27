/*
 * workspacelist.c -- GET /api/v2/workspaces, the hot path of it: which ids, how
 * many, and their JSON in one answer.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "change.h"
#include "coder.h"
#include "compat.h"
#include "json.h"
#include "keep.h"
#include "rbac.h"
#include "request.h"
#include "workspace.h"

static const Oid page_args[] = {UUIDOID, INT4OID, INT4OID, TEXTOID};

static CoderPlan page_all_plan = {
	"SELECT coder.workspace_page_all($1, $2, $3),"
	"       (SELECT coalesce(pg_catalog.sum(t.live), 0) FROM coder.workspace_totals t)",
	3,
	page_args,
	NULL};

static CoderPlan page_where_plan = {
	"SELECT p.ids, p.total FROM coder.workspace_page_where($1, $2, $3, coder.workspace_search($4)) p",
	4,
	page_args,
	NULL};

/* A number of a query: digits only, small enough; false for what the SQL function is to judge. */
static bool
parse_small(const char *value, int *number)
{
	size_t len = value == NULL ? 0 : strlen(value);

	*number = value == NULL ? 0 : atoi(value);
	return value == NULL || (len > 0 && len < 10 && strspn(value, "0123456789") == len);
}

/* Without the blanks around it. */
static char *
trim_blanks(char *value)
{
	char *end = value + strlen(value);

	while (*value == ' ')
		value++;
	while (end > value && end[-1] == ' ')
		end--;
	*end = '\0';
	return value;
}

/*
 * The current subject may read every workspace?  An id that no workspace has: a
 * token's allow list must let pass any id, not only objects without one.
 */
static bool
reads_all(void)
{
	static const pg_uuid_t nil = {{0}};
	RbacObject all = {.type = rbac_type("workspace", 9), .id = &nil};
	RbacObject dormant = {.type = rbac_type("workspace_dormant", 17), .id = &nil};
	const RbacSubject *subject = &coder_current_subject->rbac;
	int action = rbac_action("read", 4);
	const char *why;

	return rbac_decide(subject, action, &all, &why) && rbac_decide(subject, action, &dormant, &why);
}

/* A page: the ids as an array, NULL for none, and how many workspaces there are. */
typedef struct ListPage
{
	ArrayType *ids;
	int64 total;
} ListPage;

static ListPage
read_page(CoderPlan *plan, const char *search, int limit, int offset)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum args[4] = {UUIDPGetDatum(&coder_current_subject->rbac.id), Int32GetDatum(limit),
					 Int32GetDatum(offset), CStringGetTextDatum(search)};
	ListPage page = {0};
	bool isnull;
	Datum ids;

	SPI_connect();
	coder_execute(plan, args, limit == 0 ? " n  " : NULL, true, 1);
	page.total = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		MemoryContextSwitchTo(caller);
		page.ids = DatumGetArrayTypePCopy(ids);
	}
	SPI_finish();
	return page;
}

/* What a kept page consists of: the count, and then the array, if there is one. */
static ListPage
page_of_bytes(const char *bytes, int len)
{
	ListPage page = {0};
	int size = len - (int) sizeof(page.total);

	memcpy(&page.total, bytes, sizeof(page.total));
	if (size > 0)
	{
		page.ids = palloc(size);
		memcpy(page.ids, bytes + sizeof(page.total), size);
	}
	return page;
}

static void
keep_page(const KeepKey *key, const ListPage *page)
{
	uint32 slots[] = {change_list_slot(), CHANGE_ALL};
	StringInfoData bytes;
	Kept kept = {.key = *key, .horizon = change_horizon(), .from = DT_NOBEGIN, .until = DT_NOEND,
				 .slots = slots, .nslots = lengthof(slots)};

	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, (char *) &page->total, sizeof(page->total));
	if (page->ids != NULL)
		appendBinaryStringInfo(&bytes, (char *) page->ids, VARSIZE(page->ids));
	kept.bytes = bytes.data;
	kept.len = bytes.len;
	keep_store(&kept);
}

/* Under what a page is kept; false where it depends on more than the list's slot and the subject. */
static bool
page_key(const char *search, int limit, int offset, bool all, KeepKey *key)
{
	const CoderSubject *subject = coder_current_subject;

	memset(key, 0, sizeof(*key));
	key->id = subject->rbac.id;
	key->limit = limit;
	key->offset = offset;
	key->subject = all ? 0 : subject->serial;
	if (search[0] == '\0')
		key->kind = all ? KEEP_PAGE_ALL : KEEP_PAGE_READ;
	else
		key->kind = KEEP_PAGE_OWN;
	return (search[0] == '\0' || strcmp(search, "owner:me") == 0) && (all || key->subject != 0);
}

/* A page, kept for as long as nothing changes its order, the count or the subject's rights. */
static ListPage
find_page(const char *search, int limit, int offset)
{
	bool all = search[0] == '\0' && reads_all();
	KeepKey key;
	bool keep = page_key(search, limit, offset, all, &key) && workspace_keep_usable();
	const Kept *found = keep ? keep_find(&key, 0) : NULL;
	ListPage page;

	if (found != NULL)
		return page_of_bytes(found->bytes, found->len);
	page = read_page(all ? &page_all_plan : &page_where_plan, search, limit, offset);
	if (keep && workspace_keep_still())
		keep_page(&key, &page);
	return page;
}

/* coder.workspace_list in C; requests with unusual parameters are left to it. */
int
coder_workspace_list_fast(const CoderRequest *request, StringInfo body)
{
	static const char *const names[] = {"limit", "offset", "q"};
	static int usual = 64 * 1024; /* size of the last answers */
	char *values[lengthof(names)];
	ListPage page;
	int limit;
	int offset;

	if (coder_current_subject == NULL ||
		coder_request_query(request, names, values, lengthof(names)) > 0 ||
		!parse_small(values[0], &limit) || !parse_small(values[1], &offset))
		return 0;
	workspace_keep_memory();
	enlargeStringInfo(body, usual);
	page = find_page(values[2] == NULL ? "" : trim_blanks(values[2]), limit, offset);
	json_open(body, '{');
	if (page.ids == NULL)
		json_raw(body, "workspaces", "[]", 2);
	else
		workspaces_write(body, "workspaces", page.ids, &coder_current_subject->rbac.id, false);
	json_int(body, "count", page.total);
	json_close(body, '}');
	usual = Min(Max(body->len + 1024, usual - usual / 16), 4 * 1024 * 1024);
	return 200;
}
