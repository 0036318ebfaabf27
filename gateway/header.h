/*
 * header.h -- values of headers in parts.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GW_HEADER_H
#define GW_HEADER_H

#include <h2o.h>
#include <stdbool.h>

/* A cookie's value, a part of cookies; base NULL if absent. */
h2o_iovec_t gw_cookie(h2o_iovec_t cookies, const char *name);

/* Is token one of a comma-separated list? */
bool gw_list_has(h2o_iovec_t list, const char *token);

#endif
