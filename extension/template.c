/*
 * template.c -- what the server itself must know of a template: the tags that
 * choose a daemon, and the script that starts an agent.
 *
 * What the evaluator gives is malloc'ed: it is copied at once.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "provisioner/initscript.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "coder.h"
#include "evaluate.h"

PG_FUNCTION_INFO_V1(coder_template_tags);
PG_FUNCTION_INFO_V1(coder_init_script);

/*
 * coder.template_tags(archive bytea, input jsonb, at timestamptz) RETURNS jsonb
 *
 * The coder_workspace_tags of a template: {"tags": {…}, "problems": {…}}, a tag
 * being in one or the other; {"error": text} where they cannot be evaluated;
 * {"broken": text} where the archive or its files cannot be read.  input has
 * "metadata" (provisioner.Metadata), "parameters" and "variables" (name -> text).
 */
Datum
coder_template_tags(PG_FUNCTION_ARGS)
{
	bytea *archive = PG_GETARG_BYTEA_PP(0);
	Jsonb *input = PG_GETARG_JSONB_P(1);
	time_t now = timestamptz_to_time_t(PG_GETARG_TIMESTAMPTZ(2));
	char *given = JsonbToCString(NULL, &input->root, VARSIZE(input));
	char *text = evaluate_tags(VARDATA_ANY(archive), VARSIZE_ANY_EXHDR(archive), given, now);
	char *copy;
	Jsonb *answer;

	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	copy = pstrdup(text);
	free(text);
	answer = coder_json_parse(copy, (int) strlen(copy));
	if (answer == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNTRANSLATABLE_CHARACTER), errmsg("the template's tags are no text")));
	PG_RETURN_JSONB_P(answer);
}

/*
 * coder.init_script(os text, arch text, url text, auth text) RETURNS text
 *
 * The script that downloads and starts an agent; NULL for an unknown target.
 */
Datum
coder_init_script(PG_FUNCTION_ARGS)
{
	char *script = initscript_render(text_to_cstring(PG_GETARG_TEXT_PP(0)),
									 text_to_cstring(PG_GETARG_TEXT_PP(1)),
									 text_to_cstring(PG_GETARG_TEXT_PP(2)),
									 text_to_cstring(PG_GETARG_TEXT_PP(3)));
	text *answer;

	if (script == NULL)
		PG_RETURN_NULL();
	answer = cstring_to_text(script);
	free(script);
	PG_RETURN_TEXT_P(answer);
}
