/*
 * template.c -- a template as a whole: blocks, references between them, values
 *
 * Blocks are evaluated when something refers to them, so their order does not
 * matter, and a circle of references is found.  What the coder provider would
 * compute is in provider.c.
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/template_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static HclPos
no_pos(void)
{
	return (HclPos){0};
}

/* -- opening ------------------------------------------------------------- */

static bool
has_suffix(const char *s, const char *suffix)
{
	const size_t n = strlen(s);
	const size_t m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

static bool
is_config(const char *path)
{
	return strchr(path, '/') == NULL && path[0] != '.' &&
		   (has_suffix(path, ".tf") || has_suffix(path, ".tf.json"));
}

/* Override files come last: they replace what was said before. */
static bool
is_override(const char *path)
{
	return strncmp(path, "override.", 9) == 0 || has_suffix(path, "_override.tf") ||
		   has_suffix(path, "_override.tf.json");
}

static Item *
add_item(Tpl *tpl, ItemKind kind, const char *type, const char *name, const HclBlock *block,
		 HclPos pos)
{
	Item *item = NULL;
	size_t i;

	for (i = 0; i < tpl->items.n; i++)
	{
		item = tpl->items.items[i];
		if (item->kind == kind && strcmp(item->type, type) == 0 && strcmp(item->name, name) == 0)
			break;
	}
	if (i < tpl->items.n && !tpl->override)
		hcl_raise(tpl->ctx,
				  pos,
				  "%s%s\"%s\" is defined twice; first in %s:%d",
				  type,
				  type[0] != '\0' ? " " : "",
				  name,
				  item->pos.file,
				  item->pos.line);
	if (i == tpl->items.n)
	{
		item = hcl_alloc(tpl->ctx, sizeof(*item));
		hcl_push(tpl->ctx, &tpl->items, item);
	}
	*item = (Item){.kind = kind, .type = type, .name = name, .block = block, .pos = pos};
	return item;
}

static void
need_labels(Tpl *tpl, const HclBlock *block, size_t n)
{
	if (block->nlabels != n)
		hcl_raise(tpl->ctx, block->pos, "%s needs %zu label%s", block->type, n, n == 1 ? "" : "s");
}

static void
add_block(Tpl *tpl, const HclBlock *block)
{
	size_t i;

	if (strcmp(block->type, "variable") == 0)
	{
		need_labels(tpl, block, 1);
		add_item(tpl, ITEM_VAR, "", block->labels[0], block, block->pos);
	}
	else if (strcmp(block->type, "locals") == 0)
		for (i = 0; i < block->body.nattrs; i++)
			add_item(
				tpl, ITEM_LOCAL, "", block->body.attrs[i].name, block, block->body.attrs[i].pos)
				->expr = block->body.attrs[i].expr;
	else if (strcmp(block->type, "resource") == 0 || strcmp(block->type, "data") == 0)
	{
		need_labels(tpl, block, 2);
		add_item(tpl,
				 block->type[0] == 'd' ? ITEM_DATA : ITEM_RESOURCE,
				 block->labels[0],
				 block->labels[1],
				 block,
				 block->pos);
	}
	else if (strcmp(block->type, "module") == 0)
	{
		need_labels(tpl, block, 1);
		add_item(tpl, ITEM_MODULE, "", block->labels[0], block, block->pos);
	}
	else if (strcmp(block->type, "output") == 0)
	{
		need_labels(tpl, block, 1);
		add_item(tpl, ITEM_OUTPUT, "", block->labels[0], block, block->pos);
	}
	else if (strcmp(block->type, "terraform") != 0 && strcmp(block->type, "provider") != 0 &&
			 strcmp(block->type, "moved") != 0 && strcmp(block->type, "removed") != 0 &&
			 strcmp(block->type, "import") != 0 && strcmp(block->type, "check") != 0 &&
			 strcmp(block->type, "ephemeral") != 0 && strcmp(block->type, "action") != 0)
		hcl_raise(tpl->ctx, block->pos, "there is no block type \"%s\"", block->type);
}

static int
by_path(const void *a, const void *b)
{
	return strcmp((*(const ArchiveFile *const *) a)->path, (*(const ArchiveFile *const *) b)->path);
}

static void
parse_file(Tpl *tpl, const ArchiveFile *file)
{
	HclBody *body = has_suffix(file->path, ".json")
						? hcl_parse_json(tpl->ctx, file->path, file->data, file->len)
						: hcl_parse(tpl->ctx, file->path, file->data, file->len);
	size_t i;

	for (i = 0; i < body->nattrs; i++)
		hcl_raise(tpl->ctx,
				  body->attrs[i].pos,
				  "there is no attribute \"%s\" outside of blocks",
				  body->attrs[i].name);
	for (i = 0; i < body->nblocks; i++)
		add_block(tpl, body->blocks[i]);
}

typedef struct FileParse
{
	Tpl *tpl;
	const ArchiveFile *file;
} FileParse;

static void
parse_one(void *arg)
{
	FileParse *fp = arg;

	parse_file(fp->tpl, fp->file);
}

static void
parse_files(void *arg)
{
	Tpl *tpl = arg;
	HclVec files = {0};
	size_t i;
	int pass;

	for (i = 0; i < tpl->archive->n; i++)
		if (tpl->archive->files[i].data != NULL && is_config(tpl->archive->files[i].path) &&
			arc_find(tpl->archive, tpl->archive->files[i].path) == &tpl->archive->files[i])
			hcl_push(tpl->ctx, &files, &tpl->archive->files[i]);
	if (files.n == 0)
		hcl_raise(tpl->ctx, no_pos(), "the archive has no .tf file in its top directory");
	qsort(files.items, files.n, sizeof(void *), by_path);
	for (pass = 0; pass < 2; pass++)
		for (i = 0; i < files.n; i++)
		{
			FileParse fp = {tpl, files.items[i]};

			tpl->override = is_override(fp.file->path);
			if (tpl->override != (pass == 1))
				continue;
			if (!tpl->input.dynamic)
				parse_file(tpl, fp.file);
			else if (!hcl_guard(
						 tpl->ctx, parse_one, &fp)) /* a form shows what the other files say */
				tpl_diagnostic(tpl,
							   tpl->diagnostics,
							   "error",
							   "A file of the template does not parse",
							   hcl_error_text(tpl->ctx),
							   "");
		}
}

static bool
file_of_archive(void *arg, const char *path, const char **data, size_t *len)
{
	const Tpl *tpl = arg;
	const ArchiveFile *file = arc_find(tpl->archive, path);

	if (file == NULL)
		return false;
	*data = file->data;
	*len = file->len;
	return true;
}

Tpl *
tpl_open(const Archive *archive, const TplInput *input, char **error)
{
	Tpl *tpl = calloc(1, sizeof(*tpl));

	*error = NULL;
	if (tpl == NULL || (tpl->ctx = hcl_create()) == NULL)
		abort();
	tpl->archive = archive;
	tpl->input = *input;
	tpl->ctx->now = input->now;
	tpl->ctx->file = file_of_archive;
	tpl->ctx->file_arg = tpl;
	tpl->diagnostics = json_array();
	tpl->scope = (HclScope){.resolve = tpl_resolve, .arg = tpl};
	if (!hcl_guard(tpl->ctx, parse_files, tpl))
	{
		*error = hcl_error_text(tpl->ctx);
		tpl_close(tpl);
		return NULL;
	}
	return tpl;
}

void
tpl_close(Tpl *tpl)
{
	size_t i;

	if (tpl == NULL)
		return;
	for (i = 0; i < tpl->items.n; i++)
		json_decref(((Item *) tpl->items.items[i])->diagnostics);
	json_decref(tpl->diagnostics);
	hcl_destroy(tpl->ctx);
	free(tpl);
}

/* Takes detail, which may be NULL. */
void
tpl_diagnostic(Tpl *tpl, json_t *list, const char *severity, const char *summary, char *detail,
			   const char *code)
{
	(void) tpl;
	json_array_append_new(list,
						  json_pack("{s:s, s:s, s:s, s:{s:s}}",
									"severity",
									severity,
									"summary",
									summary,
									"detail",
									detail != NULL ? detail : "",
									"extra",
									"code",
									code));
	free(detail);
}

/* -- engine choice ------------------------------------------------------- */

static bool
is_coder_type(const char *type)
{
	return strncmp(type, "coder_", 6) == 0;
}

const char *
tpl_needs_terraform(Tpl *tpl)
{
	size_t i;
	size_t j;

	for (i = 0; i < tpl->items.n; i++)
	{
		const Item *item = tpl->items.items[i];

		if (item->kind == ITEM_MODULE)
			return hcl_printf(tpl->ctx, "module \"%.100s\"", item->name);
		if (item->kind == ITEM_DATA && !is_coder_type(item->type))
			return hcl_printf(tpl->ctx, "data source \"%.100s\"", item->type);
		if (item->kind != ITEM_RESOURCE)
			continue;
		if (!is_coder_type(item->type) && strcmp(item->type, "sandbox_process") != 0)
			return hcl_printf(tpl->ctx, "resource type \"%.100s\"", item->type);
		for (j = 0; j < item->block->body.nblocks; j++)
			if (strcmp(item->block->body.blocks[j]->type, "provisioner") == 0)
				return "a provisioner block";
	}
	return NULL;
}

/* -- references ---------------------------------------------------------- */

Item *
tpl_find(Tpl *tpl, ItemKind kind, const char *type, const char *name)
{
	size_t i;

	for (i = 0; i < tpl->items.n; i++)
	{
		Item *item = tpl->items.items[i];

		if (item->kind == kind && strcmp(item->type, type) == 0 && strcmp(item->name, name) == 0)
			return item;
	}
	return NULL;
}

static HclValue *
path_value(Tpl *tpl, const char *name)
{
	if (strcmp(name, "module") == 0 || strcmp(name, "root") == 0)
		return hcl_string(tpl->ctx, ".");
	return strcmp(name, "cwd") == 0 ? hcl_string(tpl->ctx, "/") : NULL;
}

HclValue *
tpl_resolve(void *arg, const HclExpr *at, const char *const *names, size_t n, size_t *taken)
{
	Tpl *tpl = arg;
	Item *item = NULL;

	(void) at;
	if (n < 2 || strcmp(names[0], "each") == 0 || strcmp(names[0], "count") == 0)
		return NULL;
	*taken = 2;
	if (strcmp(names[0], "path") == 0)
		return path_value(tpl, names[1]);
	if (strcmp(names[0], "terraform") == 0)
		return strcmp(names[1], "workspace") == 0 ? hcl_string(tpl->ctx, "default") : NULL;
	if (strcmp(names[0], "module") == 0)
		return tpl_find(tpl, ITEM_MODULE, "", names[1]) != NULL ? hcl_unknown(tpl->ctx) : NULL;
	if (strcmp(names[0], "var") == 0)
		item = tpl_find(tpl, ITEM_VAR, "", names[1]);
	else if (strcmp(names[0], "local") == 0)
		item = tpl_find(tpl, ITEM_LOCAL, "", names[1]);
	else if (strcmp(names[0], "data") == 0 && n > 2)
	{
		*taken = 3;
		item = tpl_find(tpl, ITEM_DATA, names[1], names[2]);
	}
	else
		item = tpl_find(tpl, ITEM_RESOURCE, names[0], names[1]);
	return item != NULL ? tpl_value(tpl, item) : NULL;
}

/* -- values -------------------------------------------------------------- */

static HclValue *
variable_value(Tpl *tpl, Item *item)
{
	const HclBody *body = &item->block->body;
	const HclAttr *type = hcl_attr(body, "type");
	const HclAttr *def = hcl_attr(body, "default");
	const HclAttr *sensitive = hcl_attr(body, "sensitive");
	const char *given = json_string_value(json_object_get(tpl->input.variables, item->name));
	HclValue *v;

	if (given != NULL && given[0] == '\0' && def != NULL)
		given = NULL;
	if (given != NULL)
	{
		const char *name = type != NULL ? type->expr->name : NULL;

		v = hcl_string(tpl->ctx, given);
		if (name != NULL && strcmp(name, "string") != 0 && strcmp(name, "bool") != 0 &&
			strcmp(name, "number") != 0 && strcmp(name, "any") != 0)
			v = hcl_eval(
				tpl->ctx, hcl_parse_expr(tpl->ctx, "variable", given, strlen(given)), NULL);
	}
	else if (def != NULL)
		v = hcl_eval(tpl->ctx, def->expr, NULL);
	else if (tpl->input.dynamic)
		return hcl_unknown(tpl->ctx);
	else
		hcl_raise(tpl->ctx, item->pos, "required template variables need values: %s", item->name);
	if (type != NULL)
		v = hcl_convert(tpl->ctx, v, type->expr, item->pos);
	if (sensitive != NULL && hcl_get_bool(hcl_eval_body(tpl->ctx, body, NULL), "sensitive", false))
		v->sensitive = true;
	return v;
}

static void
add_instance(Tpl *tpl, Item *item, HclValue *key, const HclScope *scope)
{
	Instance *inst = hcl_alloc(tpl->ctx, sizeof(*inst));
	HclValue *config = hcl_eval_body(tpl->ctx, &item->block->body, scope);

	inst->key = key;
	inst->value = provider_compute(tpl, item, inst, config);
	hcl_push(tpl->ctx, &item->instances, inst);
}

static void
count_instances(Tpl *tpl, Item *item, const HclAttr *attr)
{
	HclValue *n = hcl_to_number(tpl->ctx, hcl_eval(tpl->ctx, attr->expr, &tpl->scope));
	long double i;

	if (n == NULL || n->kind == HCL_NULL ||
		(n->kind == HCL_NUMBER && (n->u.number < 0 || n->u.number > 1000)))
		hcl_raise(tpl->ctx, attr->pos, "count must be a number from 0 to 1000");
	if (n->kind == HCL_UNKNOWN)
		n = hcl_number(tpl->ctx, 1); /* kept once */
	for (i = 0; i < n->u.number; i++)
	{
		HclMember member = {"index", hcl_number(tpl->ctx, i)};
		HclScope scope = {
			.parent = &tpl->scope, .name = "count", .value = hcl_object(tpl->ctx, &member, 1)};

		add_instance(tpl, item, member.value, &scope);
	}
}

static void
each_instances(Tpl *tpl, Item *item, const HclAttr *attr)
{
	HclValue *coll = hcl_eval(tpl->ctx, attr->expr, &tpl->scope);
	size_t n;
	size_t i;

	if (coll->kind == HCL_UNKNOWN)
		return;
	if (coll->kind != HCL_OBJECT && coll->kind != HCL_SET && coll->kind != HCL_LIST)
		hcl_raise(tpl->ctx, attr->pos, "for_each needs a map or a set of strings");
	n = coll->kind == HCL_OBJECT ? coll->u.map.n : coll->u.list.n;
	if (n > 1000)
		hcl_raise(tpl->ctx, attr->pos, "for_each has more than 1000 elements");
	for (i = 0; i < n; i++)
	{
		HclMember members[2] = {{"key", NULL}, {"value", NULL}};
		HclScope scope = {.parent = &tpl->scope, .name = "each"};

		members[1].value =
			coll->kind == HCL_OBJECT ? coll->u.map.items[i].value : coll->u.list.items[i];
		members[0].value = coll->kind == HCL_OBJECT ? hcl_string(tpl->ctx, coll->u.map.items[i].key)
													: hcl_to_string(tpl->ctx, members[1].value);
		if (members[0].value == NULL || members[0].value->kind != HCL_STRING)
			hcl_raise(tpl->ctx, attr->pos, "for_each needs keys that are text");
		scope.value = hcl_object(tpl->ctx, members, 2);
		add_instance(tpl, item, members[0].value, &scope);
	}
}

/* All instances of a block, and what a reference to it sees. */
static HclValue *
block_value(Tpl *tpl, Item *item)
{
	const HclAttr *count = hcl_attr(&item->block->body, "count");
	const HclAttr *each = hcl_attr(&item->block->body, "for_each");
	HclMember *members;
	HclValue **items;
	size_t i;

	item->instances.n = 0;
	if (count != NULL)
		count_instances(tpl, item, count);
	else if (each != NULL)
		each_instances(tpl, item, each);
	else
	{
		add_instance(tpl, item, NULL, &tpl->scope);
		return ((Instance *) item->instances.items[0])->value;
	}
	items = hcl_alloc(tpl->ctx, (item->instances.n + 1) * sizeof(*items));
	members = hcl_alloc(tpl->ctx, (item->instances.n + 1) * sizeof(*members));
	for (i = 0; i < item->instances.n; i++)
	{
		const Instance *inst = item->instances.items[i];

		items[i] = inst->value;
		members[i] = (HclMember){each != NULL ? inst->key->u.str.data : "", inst->value};
	}
	return each != NULL ? hcl_object(tpl->ctx, members, item->instances.n)
						: hcl_list(tpl->ctx, items, item->instances.n);
}

typedef struct ItemEval
{
	Tpl *tpl;
	Item *item;
} ItemEval;

static void
eval_item(void *arg)
{
	ItemEval *ie = arg;
	Tpl *tpl = ie->tpl;
	Item *item = ie->item;

	switch (item->kind)
	{
		case ITEM_VAR:
			item->value = variable_value(tpl, item);
			break;
		case ITEM_LOCAL:
			item->value = hcl_eval(tpl->ctx, item->expr, &tpl->scope);
			break;
		case ITEM_DATA:
		case ITEM_RESOURCE:
			item->value = block_value(tpl, item);
			break;
		case ITEM_OUTPUT:
		case ITEM_MODULE:
			item->value = hcl_unknown(tpl->ctx);
			break;
	}
}

HclValue *
tpl_value(Tpl *tpl, Item *item)
{
	ItemEval ie = {tpl, item};
	int depth;

	if (item->state == ITEM_BUSY)
		hcl_raise(tpl->ctx, item->pos, "\"%s\" refers to itself", item->name);
	if (item->state == ITEM_FAILED)
	{
		tpl->ctx->error = item->error;
		hcl_rethrow(tpl->ctx);
	}
	if (item->state == ITEM_DONE)
		return item->value;
	item->state = ITEM_BUSY;
	depth = tpl->ctx->depth;
	hcl_enter(tpl->ctx, item->pos);
	if (!hcl_guard(tpl->ctx, eval_item, &ie))
	{
		item->state = ITEM_FAILED;
		item->error = tpl->ctx->error;
		hcl_rethrow(tpl->ctx);
	}
	tpl->ctx->depth = depth;
	item->state = ITEM_DONE;
	return item->value;
}

/* -- variables and tags -------------------------------------------------- */

static char *
source_text(const HclExpr *e)
{
	return strndup(e->text != NULL ? e->text : "", e->text_len);
}

typedef struct Gathered
{
	Tpl *tpl;
	json_t *out;
	json_t *edges;
} Gathered;

static json_t *
variable_json(Tpl *tpl, const Item *item)
{
	const HclAttr *type = hcl_attr(&item->block->body, "type");
	const HclAttr *def = hcl_attr(&item->block->body, "default");
	HclValue *meta = hcl_object(tpl->ctx, NULL, 0);
	HclValue *value = def != NULL ? hcl_eval(tpl->ctx, def->expr, NULL) : NULL;
	const HclAttr *attr;
	char *type_text = NULL;
	char *def_text = NULL;
	json_t *out;

	if ((attr = hcl_attr(&item->block->body, "description")) != NULL)
		meta = hcl_with(tpl->ctx, meta, "description", hcl_eval(tpl->ctx, attr->expr, NULL));
	if ((attr = hcl_attr(&item->block->body, "sensitive")) != NULL)
		meta = hcl_with(tpl->ctx, meta, "sensitive", hcl_eval(tpl->ctx, attr->expr, NULL));
	if (type != NULL)
		type_text = type->expr->kind == HX_LITERAL && type->expr->value->kind == HCL_STRING
						? strdup(type->expr->value->u.str.data)
						: source_text(type->expr);
	if (value != NULL && value->kind == HCL_STRING)
		def_text = strdup(value->u.str.data);
	else if (value != NULL && value->kind != HCL_NULL)
	{
		json_t *j = hcl_to_json(value);

		def_text = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);
		json_decref(j);
	}
	out = json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}",
					"name",
					item->name,
					"description",
					hcl_get_string(tpl->ctx, meta, "description") != NULL
						? hcl_get_string(tpl->ctx, meta, "description")
						: "",
					"type",
					type_text != NULL ? type_text : "",
					"default_value",
					def_text != NULL ? def_text : "",
					"required",
					value == NULL || value->kind == HCL_NULL,
					"sensitive",
					hcl_get_bool(meta, "sensitive", false));
	free(type_text);
	free(def_text);
	return out;
}

static void
gather_variables(void *arg)
{
	Gathered *g = arg;
	size_t i;

	for (i = 0; i < g->tpl->items.n; i++)
		if (((Item *) g->tpl->items.items[i])->kind == ITEM_VAR)
			json_array_append_new(g->out, variable_json(g->tpl, g->tpl->items.items[i]));
}

/* Runs fn over an empty result; NULL and *error if it raises. */
static json_t *
gather(Tpl *tpl, void (*fn)(void *), json_t *out, json_t *edges, char **error)
{
	Gathered g = {tpl, out, edges};

	if (hcl_guard(tpl->ctx, fn, &g))
		return out;
	json_decref(out);
	if (error != NULL)
		*error = hcl_error_text(tpl->ctx);
	return NULL;
}

json_t *
tpl_variables(Tpl *tpl)
{
	json_t *out = gather(tpl, gather_variables, json_array(), NULL, NULL);

	return out != NULL ? out : json_array();
}

static void
gather_tag_sources(void *arg)
{
	Gathered *g = arg;
	size_t i;
	size_t j;

	for (i = 0; i < g->tpl->items.n; i++)
	{
		const Item *item = g->tpl->items.items[i];
		const HclAttr *tags;

		if (item->kind != ITEM_DATA || strcmp(item->type, "coder_workspace_tags") != 0)
			continue;
		tags = hcl_attr(&item->block->body, "tags");
		if (tags == NULL || tags->expr->kind != HX_OBJECT)
			hcl_raise(g->tpl->ctx,
					  item->pos,
					  "coder_workspace_tags needs \"tags\", an object written out");
		for (j = 0; j + 1 < tags->expr->n; j += 2)
		{
			HclValue *key = hcl_to_string(
				g->tpl->ctx, hcl_eval(g->tpl->ctx, tags->expr->kids[j], &g->tpl->scope));
			char *text = source_text(tags->expr->kids[j + 1]);

			if (key != NULL && key->kind == HCL_STRING)
				json_object_set_new(g->out, key->u.str.data, json_string(text));
			free(text);
		}
	}
}

json_t *
tpl_workspace_tags(Tpl *tpl, char **error)
{
	return gather(tpl, gather_tag_sources, json_object(), NULL, error);
}

static void
gather_tag(Gathered *g, const char *key, HclValue *value)
{
	HclValue *v = hcl_to_string(g->tpl->ctx, value);

	if (v == NULL)
		json_object_set_new(g->edges, key, json_string("A tag's value must be a string, a number or a bool."));
	else if (v->kind == HCL_UNKNOWN)
		json_object_set_new(g->edges, key, json_string("The tag's value is not known before the build."));
	else if (v->kind == HCL_STRING)
		json_object_set_new(g->out, key, json_string(v->u.str.data));
}

static void
gather_tags(void *arg)
{
	Gathered *g = arg;
	size_t i;
	size_t j;

	for (i = 0; i < g->tpl->items.n; i++)
	{
		Item *item = g->tpl->items.items[i];
		const HclValue *tags;

		if (item->kind != ITEM_DATA || strcmp(item->type, "coder_workspace_tags") != 0)
			continue;
		tags = hcl_get(tpl_value(g->tpl, item), "tags");
		if (tags == NULL || (tags->kind != HCL_OBJECT && tags->kind != HCL_NULL))
			hcl_raise(g->tpl->ctx, item->pos, "\"tags\" of coder_workspace_tags must be an object whose keys are known");
		for (j = 0; tags->kind == HCL_OBJECT && j < tags->u.map.n; j++)
			gather_tag(g, tags->u.map.items[j].key, tags->u.map.items[j].value);
	}
}

json_t *
tpl_eval_tags(Tpl *tpl, json_t *problems, char **error)
{
	return gather(tpl, gather_tags, json_object(), problems, error);
}

/* -- state --------------------------------------------------------------- */

static void add_references(Tpl *tpl, json_t *edges, const char *from, const HclExpr *e, int depth);

/* The block behind a chain of names; through locals to what they refer to. */
static void
add_reference(Tpl *tpl, json_t *edges, const char *from, const char *const *names, size_t n,
			  int depth)
{
	Item *item = NULL;
	const char *label = NULL;

	if (n >= 3 && strcmp(names[0], "data") == 0)
	{
		if ((item = tpl_find(tpl, ITEM_DATA, names[1], names[2])) != NULL)
			label = hcl_printf(tpl->ctx, "data.%s.%s", names[1], names[2]);
	}
	else if (n >= 2 && strcmp(names[0], "local") == 0)
	{
		if ((item = tpl_find(tpl, ITEM_LOCAL, "", names[1])) != NULL && depth < 32)
			add_references(tpl, edges, from, item->expr, depth + 1);
		return;
	}
	else if (n >= 2 && (item = tpl_find(tpl, ITEM_RESOURCE, names[0], names[1])) != NULL)
		label = hcl_printf(tpl->ctx, "%s.%s", names[0], names[1]);
	if (label != NULL)
		json_array_append_new(edges, json_pack("[s, s]", from, label));
}

static void
add_references(Tpl *tpl, json_t *edges, const char *from, const HclExpr *e, int depth)
{
	const char *names[8];
	const HclExpr *at = e;
	size_t n = 0;
	size_t i;

	if (e == NULL)
		return;
	hcl_step(tpl->ctx, e->pos);
	while (at->kind == HX_ATTR)
	{
		at = at->kids[0];
		n++;
	}
	if (at->kind == HX_VAR && n < 8)
	{
		const HclExpr *link = e;

		for (i = n + 1; i-- > 0; link = link->kind == HX_ATTR ? link->kids[0] : link)
			names[i] = link->name;
		add_reference(tpl, edges, from, names, n + 1, depth);
		return;
	}
	for (i = 0; i < e->n; i++)
		add_references(tpl, edges, from, e->kids[i], depth);
}

static void
body_references(Tpl *tpl, json_t *edges, const char *from, const HclBody *body)
{
	size_t i;

	for (i = 0; i < body->nattrs; i++)
		add_references(tpl, edges, from, body->attrs[i].expr, 0);
	for (i = 0; i < body->nblocks; i++)
		body_references(tpl, edges, from, &body->blocks[i]->body);
}

static void
add_state(Gathered *g, Item *item)
{
	Tpl *tpl = g->tpl;
	const char *label = hcl_printf(
		tpl->ctx, "%s%s.%s", item->kind == ITEM_DATA ? "data." : "", item->type, item->name);
	size_t i;

	tpl_value(tpl, item);
	json_array_append_new(g->edges, json_pack("[s, n]", label));
	body_references(tpl, g->edges, label, &item->block->body);
	for (i = 0; i < item->instances.n; i++)
	{
		const Instance *inst = item->instances.items[i];
		json_t *index = inst->key != NULL ? hcl_to_json(inst->key) : NULL;
		const char *address = label;
		json_t *entry;

		if (index != NULL)
		{
			char *key = json_dumps(index, JSON_ENCODE_ANY);

			address = hcl_printf(tpl->ctx, "%s[%s]", label, key);
			free(key);
		}
		entry = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o*}",
						  "address",
						  address,
						  "mode",
						  item->kind == ITEM_DATA ? "data" : "managed",
						  "type",
						  item->type,
						  "name",
						  item->name,
						  "values",
						  hcl_to_json(inst->value),
						  "index",
						  index);
		json_array_append_new(g->out, entry);
	}
}

static void
gather_state(void *arg)
{
	Gathered *g = arg;
	size_t i;

	for (i = 0; i < g->tpl->items.n; i++)
	{
		Item *item = g->tpl->items.items[i];

		if (item->kind == ITEM_DATA || item->kind == ITEM_RESOURCE)
			add_state(g, item);
		else if (item->kind == ITEM_VAR)
			tpl_value(g->tpl, item);
	}
}

/* Evaluates everything.  edges: ["from", "to"] of labels, and ["label", null] for each node. */
json_t *
tpl_state(Tpl *tpl, json_t **edges, char **error)
{
	json_t *resources;

	*edges = json_array();
	resources = gather(tpl, gather_state, json_array(), *edges, error);
	if (resources == NULL)
	{
		json_decref(*edges);
		*edges = NULL;
		return NULL;
	}
	return json_pack("{s:{s:{s:o}}}", "values", "root_module", "resources", resources);
}

/* -- forms --------------------------------------------------------------- */

static void
eval_one(void *arg)
{
	ItemEval *ie = arg;

	tpl_value(ie->tpl, ie->item);
}

static int
by_order(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *) a;
	const json_t *y = *(json_t *const *) b;
	const json_int_t dx = json_integer_value(json_object_get(x, "order"));
	const json_int_t dy = json_integer_value(json_object_get(y, "order"));

	if (dx != dy)
		return dx < dy ? -1 : 1;
	return strcmp(json_string_value(json_object_get(x, "name")),
				  json_string_value(json_object_get(y, "name")));
}

static json_t *
sorted_parameters(json_t *list)
{
	const size_t n = json_array_size(list);
	json_t **items = calloc(n + 1, sizeof(*items));
	json_t *out = json_array();
	size_t i;

	for (i = 0; items != NULL && i < n; i++)
		items[i] = json_array_get(list, i);
	if (items != NULL)
		qsort(items, n, sizeof(*items), by_order);
	for (i = 0; items != NULL && i < n; i++)
		json_array_append(out, items[i]);
	free(items);
	json_decref(list);
	return out;
}

static void
check_duplicates(Tpl *tpl, const json_t *list)
{
	size_t i;
	size_t j;

	for (i = 0; i < json_array_size(list); i++)
		for (j = 0; j < i; j++)
		{
			const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
			char *detail = NULL;

			if (strcmp(name, json_string_value(json_object_get(json_array_get(list, j), "name"))) !=
				0)
				continue;
			if (asprintf(&detail, "Two parameters have the name \"%s\".", name) < 0)
				detail = NULL;
			tpl_diagnostic(
				tpl, tpl->diagnostics, "error", "Parameter names must be unique", detail, "");
		}
}

static void
gather_parameters(void *arg)
{
	Gathered *g = arg;
	Tpl *tpl = g->tpl;
	size_t i;
	size_t j;

	for (i = 0; i < tpl->items.n; i++)
	{
		Item *item = tpl->items.items[i];
		ItemEval ie = {tpl, item};

		if (item->kind == ITEM_MODULE)
		{
			char *detail = NULL;

			if (asprintf(&detail,
						 "Module \"%s\" is not evaluated here, so its parameters are missing.",
						 item->name) < 0)
				detail = NULL;
			tpl_diagnostic(tpl,
						   tpl->diagnostics,
						   "warning",
						   "Module is not loaded",
						   detail,
						   "module_not_loaded");
		}
		if (item->kind != ITEM_DATA || strcmp(item->type, "coder_parameter") != 0)
			continue;
		if (!hcl_guard(tpl->ctx, eval_one, &ie))
		{
			tpl_diagnostic(tpl,
						   tpl->diagnostics,
						   "error",
						   "A parameter cannot be evaluated",
						   hcl_error_text(tpl->ctx),
						   "");
			continue;
		}
		for (j = 0; j < item->instances.n; j++)
			json_array_append_new(g->out, provider_parameter_form(tpl, item->instances.items[j]));
	}
	check_duplicates(tpl, g->out);
}

json_t *
tpl_parameters(Tpl *tpl, char **error)
{
	json_t *list = gather(tpl, gather_parameters, json_array(), NULL, error);

	if (list == NULL)
		return NULL;
	return json_pack(
		"{s:O, s:o}", "diagnostics", tpl->diagnostics, "parameters", sorted_parameters(list));
}
