/*
 * load.h -- a user's roles, organizations and groups from the tables into a subject.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_LOAD_H
#define CODER_LOAD_H

#include "coder.h"

/* A column of a row of the last statement. */
extern Datum coder_column(int row, int col, bool *isnull);
/* The strings of a text[]; n is 0 for NULL. */
extern char **coder_text_array(Datum value, bool isnull, int *n);
extern char *coder_load_user(CoderSubject *subject, const pg_uuid_t *user_id);
extern bool coder_load_roles(CoderSubject *subject, char **names, int n);
extern void coder_role_sets(const CoderRole *role, RbacRoleSets *sets);
/* Replaces scope and allow list; the strings must live as long as the subject.  The answer is the
 * first scope that does not exist, or NULL. */
extern const char *coder_set_scope(CoderSubject *subject, char **scopes, int nscopes, char **allow,
								   int nallow);

#endif
