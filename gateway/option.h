/*
 * option.h -- settings from the environment and the command line.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_OPTION_H
#define GATEWAY_OPTION_H

#include "gateway.h"

/*
 * Fills options from defaults, environ and argv, the later ones winning.
 * Returns -1 to go on, or the exit status: 0 after --help and --version,
 * 2 after a message about what is wrong.
 */
int gw_options_parse(GwOptions *options, int argc, char **argv);

#endif
