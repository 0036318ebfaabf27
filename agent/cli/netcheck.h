/*
 * netcheck.h -- reports of the network from where the command runs.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_CLI_NETCHECK_H
#define CODER_CLI_NETCHECK_H

#include "cli/cli.h"

/* {"derp": …, "interfaces": …} of a relay map as the API gives it; takes some seconds. */
json_t *cli_netcheck(const json_t *derp_map);

/* The interfaces of this machine that are up. */
json_t *cli_interfaces(void);

#endif
