/*
 * apphost.h -- hosts of workspace apps, each a name below the wildcard host.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef GATEWAY_APPHOST_H
#define GATEWAY_APPHOST_H

#include <stdbool.h>
#include <stddef.h>

#define GW_APPHOST_LABEL_MAX 255

/*
 * The pattern of the route that serves these hosts.  No request's own path
 * finds it: on the other hosts an app would act for whoever opens it.
 */
#define GW_APPHOST_PREFIX "/.app-host/"

/* Once, at start.  wildcard: "*.apps.example.com", with or without scheme and port, or NULL for none. */
void gw_apphost_init(const char *wildcard, const char *access_url);

/* What stands for the asterisk in a Host header, lower case; its length, 0 where the host is not of apps. */
size_t gw_apphost_label(char label[static GW_APPHOST_LABEL_MAX + 1], const char *host, size_t len);

/* The cookie with the session of these hosts. */
const char *gw_apphost_cookie(void);

#endif
