/*
 * version.h -- the version that agent and client report.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_VERSION_H
#define AGENT_VERSION_H

#define CODER_VERSION "v2.32.0"

#endif
