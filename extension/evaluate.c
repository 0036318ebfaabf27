/*
 * evaluate.c -- the provisioner's evaluator of templates inside the server.
 *
 * It is pure (gateway/provisioner/template.h), and limited in memory, depth and
 * steps.  It uses malloc and its own jumps: nothing of the server's is called
 * here, nor are its headers included, whose json_object() is not jansson's.
 * For the same reason jansson is linked statically: the server's symbols come
 * before those of a library.
 *
 * SPDX-License-Identifier: MIT
 */
#include "evaluate.h"

#include <stdio.h>
#include <stdlib.h>

#include "provisioner/template.h"

/* In place of stdin, which json_loadfd() looks at: the Makefile says why. */
__attribute__((visibility("hidden"))) FILE *evaluate_no_stdin;

/* {"tags", "problems"}, {"error"}: the tags cannot be evaluated, or {"broken"}: nor anything else. */
static json_t *
eval_tags(const Archive *archive, const json_t *given, time_t now)
{
	TplInput input = {.metadata = json_object_get(given, "metadata"),
					  .parameters = json_object_get(given, "parameters"),
					  .variables = json_object_get(given, "variables"),
					  .dynamic = true,
					  .now = {.tv_sec = now}};
	char *error = NULL;
	Tpl *tpl = tpl_open(archive, &input, &error);
	json_t *problems = json_object();
	json_t *tags = tpl != NULL ? tpl_eval_tags(tpl, problems, &error) : NULL;
	json_t *answer = tags != NULL ? json_pack("{s:o, s:O}", "tags", tags, "problems", problems)
								  : json_pack("{s:s}", tpl != NULL ? "error" : "broken", error != NULL ? error : "");

	json_decref(problems);
	tpl_close(tpl);
	free(error);
	return answer;
}

char *
evaluate_tags(const void *data, size_t len, const char *input, time_t now)
{
	json_t *given = json_loads(input, 0, NULL);
	Archive archive = {0};
	char *error = NULL;
	json_t *answer;
	char *text;

	if (arc_read(&archive, data, len, &error))
		answer = eval_tags(&archive, given, now);
	else
		answer = json_pack("{s:s}", "broken", error != NULL ? error : "");
	text = json_dumps(answer, JSON_COMPACT);
	json_decref(answer);
	json_decref(given);
	arc_free(&archive);
	free(error);
	return text;
}
