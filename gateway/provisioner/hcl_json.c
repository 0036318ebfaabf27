/*
 * hcl_json.c -- the JSON syntax of the configuration language to the same trees
 *
 * SPDX-License-Identifier: MIT
 */
#include "provisioner/hcl_parse.h"

#include <string.h>

/* Nested blocks are told from attributes by name: JSON has one form for both. */
static bool
json_is_block(const char *name)
{
	static const char *const names[] = {"option",
										"validation",
										"metadata",
										"display_apps",
										"healthcheck",
										"item",
										"prebuilds",
										"expiration_policy",
										"scheduling",
										"schedule",
										"lifecycle",
										"provisioner",
										"resources_monitoring",
										"memory",
										"volume",
										"dynamic",
										"content",
										"required_providers",
										"backend",
										"connection",
										"sidebar_app"};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static HclExpr *
json_expr(HclParser *p, const json_t *j)
{
	HclExpr *e;
	HclVec kids = {0};
	const char *key;
	json_t *item;
	size_t i;

	hcl_enter(p->ctx, hcl_here(p));
	if (json_is_string(j))
		e = hcl_parse_template(p->ctx,
							   p->file,
							   p->line,
							   hcl_strndup(p->ctx, json_string_value(j), json_string_length(j)),
							   json_string_length(j));
	else if (json_is_array(j))
	{
		e = hcl_node(p, HX_TUPLE);
		json_array_foreach(j, i, item) hcl_push(p->ctx, &kids, json_expr(p, item));
		hcl_set_kids(e, &kids);
	}
	else if (json_is_object(j))
	{
		e = hcl_node(p, HX_OBJECT);
		json_object_foreach((json_t *) (uintptr_t) j, key, item)
		{
			hcl_push(
				p->ctx,
				&kids,
				hcl_parse_template(
					p->ctx, p->file, p->line, hcl_strndup(p->ctx, key, strlen(key)), strlen(key)));
			hcl_push(p->ctx, &kids, json_expr(p, item));
		}
		hcl_set_kids(e, &kids);
	}
	else
		e = hcl_literal(p, hcl_from_json(p->ctx, j));
	p->ctx->depth--;
	return e;
}

static void json_body(HclParser *p, HclBody *body, const json_t *j);

/* Blocks of one type below their labels: {"type": {"name": {…}}}, bodies may be arrays. */
static void
json_blocks(HclParser *p, HclVec *blocks, const char *type, const char **labels, size_t n,
			size_t want, const json_t *j)
{
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_array(j))
	{
		json_array_foreach(j, i, item) json_blocks(p, blocks, type, labels, n, want, item);
		return;
	}
	if (!json_is_object(j))
		hcl_raise(p->ctx, hcl_here(p), "\"%s\" must be an object or an array of objects", type);
	if (n < want)
	{
		json_object_foreach((json_t *) (uintptr_t) j, key, item)
		{
			labels[n] = hcl_strndup(p->ctx, key, strlen(key));
			json_blocks(p, blocks, type, labels, n + 1, want, item);
		}
		return;
	}
	{
		HclBlock *block = hcl_alloc(p->ctx, sizeof(*block));

		block->type = type;
		block->pos = hcl_here(p);
		block->nlabels = n;
		block->labels = hcl_alloc(p->ctx, (n + 1) * sizeof(*labels));
		memcpy(block->labels, labels, n * sizeof(*labels));
		json_body(p, &block->body, j);
		hcl_push(p->ctx, blocks, block);
	}
}

static void
hcl_finish_body(HclParser *p, HclBody *body, const HclVec *attrs, const HclVec *blocks)
{
	size_t i;

	body->attrs = hcl_alloc(p->ctx, (attrs->n + 1) * sizeof(HclAttr));
	for (i = 0; i < attrs->n; i++)
		body->attrs[i] = *(HclAttr *) attrs->items[i];
	body->nattrs = attrs->n;
	body->blocks = (HclBlock **) blocks->items;
	body->nblocks = blocks->n;
}

static void
json_body(HclParser *p, HclBody *body, const json_t *j)
{
	const char *labels[3];
	HclVec attrs = {0};
	HclVec blocks = {0};
	const char *key;
	json_t *item;

	hcl_enter(p->ctx, hcl_here(p));
	json_object_foreach((json_t *) (uintptr_t) j, key, item)
	{
		const char *name = hcl_strndup(p->ctx, key, strlen(key));

		if (strcmp(key, "//") == 0)
			continue;
		if (json_is_block(key) && !json_is_string(item))
			json_blocks(p,
						&blocks,
						name,
						labels,
						0,
						strcmp(key, "dynamic") == 0 || strcmp(key, "provisioner") == 0,
						item);
		else
		{
			HclAttr *attr = hcl_alloc(p->ctx, sizeof(*attr));

			*attr = (HclAttr){name, json_expr(p, item), hcl_here(p)};
			hcl_push(p->ctx, &attrs, attr);
		}
	}
	hcl_finish_body(p, body, &attrs, &blocks);
	p->ctx->depth--;
}

static size_t
json_label_count(const char *type)
{
	if (strcmp(type, "resource") == 0 || strcmp(type, "data") == 0 ||
		strcmp(type, "ephemeral") == 0)
		return 2;
	if (strcmp(type, "variable") == 0 || strcmp(type, "output") == 0 ||
		strcmp(type, "module") == 0 || strcmp(type, "provider") == 0 || strcmp(type, "check") == 0)
		return 1;
	return 0;
}

typedef struct JsonParse
{
	HclParser parser;
	const json_t *root;
	HclBody *body;
} JsonParse;

static void
json_top(void *arg)
{
	JsonParse *jp = arg;
	HclParser *p = &jp->parser;
	const char *labels[3];
	HclVec attrs = {0};
	HclVec blocks = {0};
	const char *key;
	json_t *item;

	json_object_foreach((json_t *) (uintptr_t) jp->root, key, item) if (strcmp(key, "//") != 0)
		json_blocks(p,
					&blocks,
					hcl_strndup(p->ctx, key, strlen(key)),
					labels,
					0,
					json_label_count(key),
					item);
	jp->body = hcl_alloc(p->ctx, sizeof(*jp->body));
	hcl_finish_body(p, jp->body, &attrs, &blocks);
}

HclBody *
hcl_parse_json(HclCtx *ctx, const char *file, const char *src, size_t len)
{
	JsonParse jp = {.parser = {ctx, file, src, len, 0, 1, 0}};
	json_error_t error;
	json_t *root;
	bool ok;

	if (len > HCL_MAX_SOURCE)
		hcl_raise(ctx, hcl_here(&jp.parser), "file is larger than %zu MiB", HCL_MAX_SOURCE >> 20);
	root = json_loadb(src, len, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL)
		hcl_raise(ctx, (HclPos){file, error.line}, "not valid JSON: %s", error.text);
	if (!json_is_object(root))
	{
		json_decref(root);
		hcl_raise(ctx, hcl_here(&jp.parser), "must be a JSON object");
	}
	jp.root = root;
	ok = hcl_guard(ctx, json_top, &jp);
	json_decref(root);
	if (!ok)
		hcl_rethrow(ctx);
	return jp.body;
}
