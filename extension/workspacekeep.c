/*
 * workspacekeep.c -- the JSON of workspaces that a backend keeps (keep.c), and
 * arrays of what is kept and what is made anew.
 *
 * docs/ARCHITECTURE.md, section 2.3, says when what is kept may be used.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "change.h"
#include "coder.h"
#include "compat.h"
#include "json.h"
#include "keep.h"
#include "workspace.h"
#include "workspaceagent.h"

static uint64 kept_catalogs; /* level_catalogs() of what is kept */

/* Before the JSON of a workspace that is kept, or about to be. */
typedef struct WorkspaceHead
{
	pg_uuid_t owner;
	int favorite; /* where "false" stands in the JSON that is "true" for the owner; 0 if it is for nobody */
} WorkspaceHead;

/* What a workspace's JSON was made of. */
typedef struct Sources
{
	uint32 *slots;
	int n;
	int room;
	TimestampTz until; /* the clock changes nothing before */
} Sources;

static void
add_slot(Sources *sources, uint32 slot)
{
	if (sources->n == sources->room)
	{
		sources->room = Max(32, sources->room * 2);
		sources->slots = sources->slots == NULL
							 ? palloc(sizeof(uint32) * sources->room)
							 : repalloc(sources->slots, sizeof(uint32) * sources->room);
	}
	sources->slots[sources->n++] = slot;
}

static void
add_source(Sources *sources, const pg_uuid_t *id)
{
	add_slot(sources, change_slot(id));
}

static void
add_column(Sources *sources, Row row, int column)
{
	if (!row.null[column])
		add_source(sources, DatumGetUUIDP(row.v[column]));
}

/* The users or groups that an access list names. */
static void
add_acl(Sources *sources, Datum acl)
{
	JsonbIterator *it = JsonbIteratorInit(&DatumGetJsonbP(acl)->root);
	JsonbIteratorToken token;
	JsonbValue value;

	/* Values are skipped, so every key is one of the list's own. */
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
		if (token == WJB_KEY)
		{
			char *key = pnstrdup(value.val.string.val, value.val.string.len);

			add_source(sources, DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(key))));
		}
}

static void
add_agents(Sources *sources, const Tree *tree, Datum resource)
{
	int nagents;
	int agent = level_find(&tree->level[L_AGENT], DatumGetUUIDP(resource), &nagents);

	for (int i = 0; i < nagents; i++)
	{
		Row row = level_row(&tree->level[L_AGENT], agent + i);
		CoderAgentTimes times = tree_agent_times(row);
		TimestampTz until = coder_agent_connection_until(&times, tree->now, CODER_AGENT_INACTIVE_SECONDS);
		int napps;
		int app = level_find(&tree->level[L_APP], DatumGetUUIDP(row.v[A_ID]), &napps);

		add_column(sources, row, A_ID);
		sources->until = Min(sources->until, until);
		for (int k = 0; k < napps; k++)
			add_column(sources, level_row(&tree->level[L_APP], app + k), P_ID);
	}
}

static void
add_build(Sources *sources, const Tree *tree, Row build)
{
	int nresources;
	int resource = level_find(&tree->level[L_RESOURCE], DatumGetUUIDP(build.v[J_ID]), &nresources);

	add_column(sources, build, B_VERSION);
	add_column(sources, build, B_INITIATOR);
	add_column(sources, build, J_ID);
	for (int i = 0; i < nresources; i++)
	{
		Row row = level_row(&tree->level[L_RESOURCE], resource + i);

		add_column(sources, row, R_ID);
		add_agents(sources, tree, row.v[R_ID]);
	}
}

/*
 * The ids by which rows were read for a workspace: every level_read of
 * read_workspaces, and the statement of shared_plan.  False if it is made of more
 * than that, as the place in the queue is.
 */
static bool
find_sources(Sources *sources, const Tree *tree, Row row)
{
	Row build = tree_latest_build(tree, row);

	memset(sources, 0, sizeof(*sources));
	sources->until = DT_NOEND;
	if (build.v != NULL && tree_build_pending(build))
		return false;
	add_slot(sources, CHANGE_ALL);
	add_column(sources, row, W_ID);
	add_column(sources, row, W_OWNER);
	add_column(sources, row, W_ORG);
	add_column(sources, row, W_TEMPLATE);
	add_column(sources, row, W_BUILD);
	add_acl(sources, row.v[W_USER_ACL]);
	add_acl(sources, row.v[W_GROUP_ACL]);
	if (build.v != NULL)
		add_build(sources, tree, build);
	return true;
}

/*
 * May answers be kept and found now?  What was kept under other catalogs is
 * forgotten here.
 */
bool
workspace_keep_usable(void)
{
	static bool watched = false;
	uint64 catalogs;

	level_begin();
	if (!change_usable())
		return false;
	catalogs = level_catalogs();
	if (kept_catalogs != catalogs)
	{
		keep_forget_all();
		watched = tree_watched();
		kept_catalogs = catalogs;
	}
	return watched;
}

/* Have the catalogs been the same since then? */
bool
workspace_keep_still(void)
{
	return kept_catalogs == level_catalogs();
}

static KeepKey
workspace_key(const pg_uuid_t *id)
{
	KeepKey key = {.id = *id, .kind = KEEP_WORKSPACE};

	StaticAssertStmt(sizeof(key) == UUID_LEN + sizeof(uint64) + 4 * sizeof(int32), "a key has no gaps");
	return key;
}

/* An element of the array: a head and its JSON, as viewer sees it. */
static void
put_workspace(StringInfo buf, const char *bytes, int len, const pg_uuid_t *viewer)
{
	WorkspaceHead head;
	const char *json = bytes + sizeof(head);

	memcpy(&head, bytes, sizeof(head));
	len -= sizeof(head);
	if (head.favorite == 0 || viewer == NULL || memcmp(viewer, &head.owner, UUID_LEN) != 0)
	{
		json_raw(buf, NULL, json, len);
		return;
	}
	json_raw(buf, NULL, json, head.favorite);
	appendBinaryStringInfo(buf, "true", 4);
	appendBinaryStringInfo(buf, json + head.favorite + 5, len - head.favorite - 5);
}

/* A workspace's head and JSON. */
static StringInfoData
render_workspace(const Tree *tree, Row row)
{
	WorkspaceHead head = {.owner = *DatumGetUUIDP(row.v[W_OWNER])};
	StringInfoData buf;
	int favorite;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, 8 * 1024);
	appendBinaryStringInfo(&buf, (char *) &head, sizeof(head));
	/* The writer looks at the byte before for whether a comma is due. */
	buf.data[buf.len - 1] = '\0';
	favorite = workspace_write(&buf, tree, row);
	if (DatumGetBool(row.v[W_FAVORITE]))
		head.favorite = favorite - (int) sizeof(head);
	memcpy(buf.data, &head, sizeof(head));
	return buf;
}

static void
keep_workspace(const Tree *tree, Row row, const StringInfoData *rendered)
{
	Sources sources;
	Kept kept = {.key = workspace_key(DatumGetUUIDP(row.v[W_ID])), .horizon = change_horizon(), .from = tree->now};

	if (!workspace_keep_still() || !find_sources(&sources, tree, row))
		return;
	kept.until = sources.until;
	kept.slots = sources.slots;
	kept.nslots = sources.n;
	kept.bytes = rendered->data;
	kept.len = rendered->len;
	keep_store(&kept);
}

/* Workspaces of one answer: what is kept of them, and the others made anew. */
typedef struct Listed
{
	int n;
	const pg_uuid_t **ids;
	const Kept **kept; /* NULL: missing */
	int nmissing;
	const pg_uuid_t **missing;
	StringInfoData *rendered; /* of the missing ones; no data: there is no such workspace */
} Listed;

static void
find_kept(Listed *list, bool keep)
{
	TimestampTz now = GetCurrentTimestamp();

	list->kept = palloc0(sizeof(*list->kept) * Max(1, list->n));
	list->missing = palloc(sizeof(*list->missing) * Max(1, list->n));
	for (int i = 0; i < list->n; i++)
	{
		KeepKey key = workspace_key(list->ids[i]);

		if (keep)
			list->kept[i] = keep_find(&key, now);
		if (list->kept[i] == NULL)
			list->missing[list->nmissing++] = list->ids[i];
	}
}

/* Writes the array; rendered texts are used up in the order of the missing ids. */
static void
put_workspaces(StringInfo buf, const char *key, const Listed *list, const pg_uuid_t *viewer)
{
	int next = 0;

	json_open_at(buf, key, '[');
	for (int i = 0; i < list->n; i++)
		if (list->kept[i] != NULL)
			put_workspace(buf, list->kept[i]->bytes, list->kept[i]->len, viewer);
		else
		{
			const StringInfoData *rendered = &list->rendered[next++];

			if (rendered->data != NULL)
				put_workspace(buf, rendered->data, rendered->len, viewer);
		}
	json_close(buf, ']');
}

static void
render_missing(Listed *list, Tree *tree)
{
	tree_read_workspaces(tree, list->missing, list->nmissing);
	list->rendered = palloc0(sizeof(*list->rendered) * list->nmissing);
	for (int i = 0; i < list->nmissing; i++)
	{
		Row row = tree_row(tree, L_WORKSPACE, UUIDPGetDatum(list->missing[i]));

		if (row.v != NULL)
			list->rendered[i] = render_workspace(tree, row);
	}
}

static void
keep_missing(const Listed *list, const Tree *tree)
{
	for (int i = 0; i < list->nmissing; i++)
		if (list->rendered[i].data != NULL)
			keep_workspace(tree, tree_row(tree, L_WORKSPACE, UUIDPGetDatum(list->missing[i])), &list->rendered[i]);
}

/* An array of Workspace in the order of the ids. */
void
workspaces_write(StringInfo buf, const char *key, ArrayType *array, const pg_uuid_t *viewer, bool fresh)
{
	bool keep = !fresh && workspace_keep_usable();
	Listed list = {0};
	Tree tree;

	list.ids = tree_array_ids(array, &list.n);
	find_kept(&list, keep);
	if (list.nmissing == 0)
	{
		put_workspaces(buf, key, &list, viewer);
		return;
	}
	tree_begin(&tree, fresh);
	render_missing(&list, &tree);
	put_workspaces(buf, key, &list, viewer);
	if (keep)
		keep_missing(&list, &tree); /* only now, as what was found may go */
	SPI_finish();
}
