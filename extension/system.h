/*
 * system.h -- the server's own subjects.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_SYSTEM_H
#define CODER_SYSTEM_H

#include "coder.h"

/* NULL: no such subject.  Lives in parent. */
extern CoderSubject *coder_system_subject(const char *name, const pg_uuid_t *owner,
										  const pg_uuid_t *org, MemoryContext parent);
/* The lists of a system subject's role; false where it is none's. */
extern bool coder_system_role_sets(const char *role, RbacRoleSets *sets);

#endif
