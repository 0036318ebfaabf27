/*
 * config.h -- a boundary's configuration file, in YAML.
 *
 *	allowlist:
 *	  - domain=github.com
 *	  - method=GET domain=*.example.com
 *	log_level: info
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_CONFIG_H
#define AGENT_BOUNDARY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "boundary/rules.h"

#define BOUNDARY_CONFIG_MAX ((size_t) 1 << 20)

/* What the file says; NULL: nothing about it. */
typedef struct BoundaryConfig
{
	char *log_level;
	char *log_dir;
	char *proxy_port;
	char *jail_type;
	char *use_real_dns;
	char *no_user_namespace;
	char *disable_audit_logs;
	char *log_proxy_socket_path;
} BoundaryConfig;

/* Adds the file's rules; false with the reason (and the line) in error. */
bool boundary_config_read(BoundaryConfig *config, BoundaryRules *rules, const char *text, size_t size, char *error, size_t error_size);
void boundary_config_free(BoundaryConfig *config);

#endif
