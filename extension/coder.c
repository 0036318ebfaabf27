/*
 * coder.c -- registration: settings, hooks, shared memory, workers.  No logic.
 *
 * SPDX-License-Identifier: MIT
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/elog.h"
#include "utils/guc.h"

#include "audit.h"
#include "change.h"
#include "coder.h"
#include "compat.h"
#include "stat.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);

static emit_log_hook_type prev_emit_log_hook;
static shmem_request_hook_type prev_shmem_request_hook;
static shmem_startup_hook_type prev_shmem_startup_hook;

/* Class ZC is an answer to a client, not an event of the server. */
static void
on_emit_log(ErrorData *edata)
{
	if (edata->elevel == ERROR &&
		ERRCODE_TO_CATEGORY(edata->sqlerrcode) == MAKE_SQLSTATE('Z', 'C', '0', '0', '0'))
		edata->output_to_server = false;
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
on_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	coder_event_shmem_request();
	coder_change_shmem_request();
	coder_stat_shmem_request();
}

static void
on_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	coder_event_shmem_startup();
	coder_change_shmem_startup();
	coder_stat_shmem_startup();
}

void
_PG_init(void)
{
	coder_crypto_init();
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = on_emit_log;
	coder_seal_init();
	coder_handle_init();
	coder_subject_init();
	coder_session_init();
	coder_guard_init();
	coder_event_init();
	coder_chat_init();
	coder_audit_init();
	coder_change_init();
	coder_worker_init();
	if (process_shared_preload_libraries_in_progress)
	{
		prev_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = on_shmem_request;
		prev_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = on_shmem_startup;
	}
}
