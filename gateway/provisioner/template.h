/*
 * template.h -- a template as a whole: what its files say, evaluated
 *
 * Pure: the files come from an archive in memory, everything else is in
 * TplInput.  Every function answers NULL or false with an error text (to be
 * freed) where the template is at fault.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_TEMPLATE_H
#define CODER_TEMPLATE_H

#include "provisioner/archive.h"

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

typedef struct TplInput
{
	const json_t *metadata;		 /* provisioner.Metadata, or NULL */
	const json_t *parameters;	 /* name -> text */
	const json_t *previous;		 /* name -> text: values of the build before */
	const json_t *variables;	 /* name -> text */
	const json_t *external_auth; /* id -> token */
	bool dynamic; /* for a form: the workspace is not known yet, errors are gathered */
	struct timespec now;
} TplInput;

typedef struct Tpl Tpl;

extern Tpl *tpl_open(const Archive *archive, const TplInput *input, char **error);
extern void tpl_close(Tpl *tpl);

/* Why the native engine cannot run this template, or NULL if it can. */
extern const char *tpl_needs_terraform(Tpl *tpl);

extern json_t *tpl_variables(Tpl *tpl);							  /* [TemplateVariable] */
extern json_t *tpl_workspace_tags(Tpl *tpl, char **error);		  /* {key: source text} */

/* {key: value}; a tag whose value is not a text, number or bool, or not known, is in problems (an object) instead. */
extern json_t *tpl_eval_tags(Tpl *tpl, json_t *problems, char **error);
extern json_t *tpl_state(Tpl *tpl, json_t **edges, char **error); /* as terraform show -json */
extern json_t *tpl_parameters(Tpl *tpl, char **error);			  /* {diagnostics, parameters} */

#endif /* CODER_TEMPLATE_H */
