/*
 * audit.h -- what a boundary decided, told: to its log, and to the workspace's agent.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_AUDIT_H
#define AGENT_BOUNDARY_AUDIT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum AuditLevel
{
	AUDIT_ERROR,
	AUDIT_WARN,
	AUDIT_INFO,
	AUDIT_DEBUG
} AuditLevel;

/* False where text names no level. */
bool audit_level(AuditLevel *level, const char *text);

/* log_dir: NULL for standard error; socket_path: of the agent, NULL for none.  False with errno where the log cannot be opened. */
bool audit_start(AuditLevel level, const char *log_dir, const char *socket_path);

/* From any thread.  rule: what allowed it, NULL: it was denied; why: more for the log, or NULL. */
void audit_request(const char *method, const char *url, const char *rule, const char *why);
void audit_log(AuditLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends the rest to the agent, for two seconds at most. */
void audit_stop(void);

#endif
