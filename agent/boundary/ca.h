/*
 * ca.h -- the certificates of a boundary: an authority for one run, and a certificate for each host that is asked for.
 *
 * The authority's key is in memory only.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef AGENT_BOUNDARY_CA_H
#define AGENT_BOUNDARY_CA_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Ca Ca;

/* Writes its certificate to a file.  NULL with the reason in error. */
Ca *ca_create(const char *path, char *error, size_t error_size);

/*
 * A server's side of TLS for a client that asks for some host; fallback: the
 * host where the client names none.  Whom it named: SSL_get_servername.
 */
SSL *ca_server(Ca *ca, const char *fallback);

#endif
