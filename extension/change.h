/*
 * change.h -- which rows have changed since when, so that answers can be kept.
 *
 * Rows are known by slots: a slot stands for all rows of all watched tables whose
 * key (sql/schema/change.sql) is one id, and for those of other ids that hash to
 * the same number.  A kept answer names the slots that it was made of.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CHANGE_H
#define CODER_CHANGE_H

#include "utils/uuid.h"

#define CHANGE_SLOTS 32768
#define CHANGE_ALL CHANGE_SLOTS /* the slot of everything at once (TRUNCATE) */

extern void coder_change_init(void);
extern void coder_change_shmem_request(void);
extern void coder_change_shmem_startup(void);

/* May an answer under the active snapshot be taken from what is kept, or kept itself? */
extern bool change_usable(void);
extern uint32 change_slot(const pg_uuid_t *id);
/* The slot of the list's order and count. */
extern uint32 change_list_slot(void);
/* What an answer is kept with that is made under a snapshot of this transaction. */
extern uint64 change_horizon(void);
/* Do all snapshots of this transaction show in these slots what those of the other's did? */
extern bool change_none(const uint32 *slots, int n, uint64 horizon);

#endif
