/*
 * template_int.h -- what template.c and provider.c share
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_TEMPLATE_INT_H
#define CODER_TEMPLATE_INT_H

#include "provisioner/hcl.h"
#include "provisioner/template.h"

typedef enum ItemKind
{
	ITEM_VAR,
	ITEM_LOCAL,
	ITEM_DATA,
	ITEM_RESOURCE,
	ITEM_MODULE,
	ITEM_OUTPUT
} ItemKind;

typedef enum ItemState
{
	ITEM_NEW,
	ITEM_BUSY,
	ITEM_DONE,
	ITEM_FAILED
} ItemState;

/* One of a block's instances: more than one with count or for_each. */
typedef struct Instance
{
	HclValue *key;
	HclValue *value;	 /* what references see */
	json_t *diagnostics; /* of a parameter; owned by the item */
	bool bad;			 /* a parameter whose value is not valid */
} Instance;

typedef struct Item
{
	ItemKind kind;
	ItemState state;
	const char *type;
	const char *name;
	const HclBlock *block;
	const HclExpr *expr; /* a local's */
	HclPos pos;
	HclValue *value;
	HclVec instances;
	json_t *diagnostics; /* [[diagnostic of instance 0, …], …] */
	HclError error;
} Item;

struct Tpl
{
	HclCtx *ctx;
	const Archive *archive;
	TplInput input;
	HclScope scope;
	HclVec items;
	bool override;
	json_t *diagnostics;
};

extern HclValue *tpl_resolve(void *arg, const HclExpr *at, const char *const *names, size_t n,
							 size_t *taken);
extern Item *tpl_find(Tpl *tpl, ItemKind kind, const char *type, const char *name);
extern HclValue *tpl_value(Tpl *tpl, Item *item);
extern void tpl_diagnostic(Tpl *tpl, json_t *list, const char *severity, const char *summary,
						   char *detail, const char *code);

/* provider.c: the attributes that the coder provider and our own would compute */
extern HclValue *provider_compute(Tpl *tpl, Item *item, Instance *inst, HclValue *config);
extern const char *provider_arch(void);
extern json_t *provider_parameter_form(Tpl *tpl, const Instance *inst);

#endif /* CODER_TEMPLATE_INT_H */
