/*
 * compat.h -- every difference between server versions.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef CODER_COMPAT_H
#define CODER_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "PostgreSQL 15 to 18 is needed"
#endif

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#endif
